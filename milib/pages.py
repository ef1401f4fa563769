"""Web pages that load nothing: equations as MathML, executed notebooks as HTML, offline and without scripts."""

import functools
import html
import json
import re
import unicodedata
import warnings
from pathlib import Path
from urllib.parse import unquote, urlsplit

from milib import artifacts
from milib.errors import StudyError
from milib.params import digest

CSS = """
:root { color-scheme: light dark; --ink: #1c2127; --soft: #5b6570; --paper: #fff; --panel: #f4f6f8; --line: #d5dbe1; --link: #0b5cad;
  --holds: #0a6b4f; --fails: #b3261e; --undecided: #8a5a00 }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --soft: #9aa5b1; --paper: #14181c; --panel: #1e2429; --line: #39424b; --link: #7cb8f5;
  --holds: #53c9a2; --fails: #ff8a80; --undecided: #e5b04d } }
* { box-sizing: border-box } html { -webkit-text-size-adjust: 100% } a { color: var(--link) } summary { cursor: pointer }
body { max-width: 56rem; margin: 0 auto; padding: 1rem; color: var(--ink); background: var(--paper); font: 1rem/1.55 system-ui, sans-serif }
body, .made { overflow-wrap: anywhere } h1, h2, h3 { line-height: 1.25 } h2 { margin-top: 2.2em; border-bottom: 1px solid var(--line) }
small, .made, dt { color: var(--soft); font-size: .85rem } .made, .claim p { margin: .2rem 0 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; align-items: baseline } dd { margin: 0 }
figure { margin: 2rem 0 } img { max-width: 100%; height: auto } figure img, .output_png img, .output_svg img { background: #fff; border-radius: 4px }
.wide, .output_html { overflow-x: auto } table { border-collapse: collapse; font-size: .9rem; border: 0; margin: .5rem 0; overflow-wrap: normal }
th, td { padding: .25rem .6rem; text-align: left; border: 0; border-bottom: 1px solid var(--line); vertical-align: top }
th.number, td.number, .dataframe td, .dataframe th { text-align: right }
.dataframe td { min-width: 7rem } tbody th { min-width: 9rem } thead th { overflow-wrap: anywhere }
figure .wide { width: max-content; min-width: 100%; max-width: min(50vw + 27rem, 100vw - 2rem) }
pre, code { font: .85rem/1.4 ui-monospace, monospace } pre { overflow-x: auto; margin: .3rem 0 } .anchor-link { display: none }
.input_area, .rendered_html pre { background: var(--panel); border-radius: 4px; padding: .3rem .7rem }
.cell { margin: .9rem 0 } .output_subarea { margin: .4rem .7rem }
.celltag_parameters .input_area, .celltag_injected-parameters .input_area { max-height: 12rem; overflow-y: auto }
.output_stderr, .ansi-red-fg, .ansi-red-intense-fg { color: var(--fails) } .ansi-bold { font-weight: bold }
.holds { --tone: var(--holds) } .fails { --tone: var(--fails) } .undecided { --tone: var(--undecided) }
.not-measured { --tone: var(--soft) } .verdict { color: var(--tone); font-weight: bold }
.claim { border-left: 4px solid var(--tone); background: var(--panel); border-radius: 4px; padding: .5rem .9rem; margin: .8rem 0 }
.comparison { display: grid; grid-template-columns: minmax(0, 1fr) 14rem; gap: 0 1rem; align-items: center; font-size: .9rem }
.strip { position: relative; height: 1rem } .strip * { position: absolute; top: 0; height: 100% } .strip .zero { border-left: 1px solid var(--soft) }
.strip .margin { border-left: 1px dashed var(--soft) } .strip .range { top: 40%; height: 20%; background: var(--tone); min-width: 2px }
.strip .mean { top: 20%; height: 60%; width: 3px; margin-left: -1px; background: var(--tone) }
.equation { display: flex; align-items: center; gap: 1rem; padding: .4rem 0; white-space: nowrap }
.equation > :first-child { flex: 1; min-width: 0; overflow-x: auto; overflow-y: hidden }
math { font-family: "Latin Modern Math", "STIX Two Math", "Cambria Math", "Noto Sans Math", "DejaVu Math TeX Gyre", math }
mtd[columnalign] { padding-left: 0; padding-right: 0 } mtd[columnalign=left] { text-align: left } mtd[columnalign=right] { text-align: right }
mtd[columnalign=left] + mtd[columnalign=left], mtd[columnalign=left] + mtd[columnalign=right] { padding-left: 1em }
@media (max-width: 40rem) { .comparison { grid-template-columns: 1fr } }
"""
LOADS = re.compile(
    r"<script\b.*?</script\s*>|<style\b.*?</style\s*>|<(?:img|iframe|link|source|video|audio|embed|object|image|use|base|meta)\b[^>]*>", re.S | re.I
)
REMOTE = re.compile(r"""[="'(\s](?:https?:)?//|^<script""", re.I)

REWRITE = {  # TeX that latex2mathml misses, in words that it knows
    r"\\(begin|end)\{(?:aligned|align\*?|eqnarray\*?)\}": r"\\\1{split}",
    r"\\(begin|end)\{gather(?:ed|\*)?\}": r"\\\1{matrix}",
    r"\\operatorname\*": r"\\operatorname",
    r"\\arg\s*\\(max|min)(?![a-zA-Z])": r"\\arg\1",
    r"\\arg(?![a-zA-Z])": r"\\operatorname{arg}",
}


# Equations and pages


def mathml(tex: str, block: bool = False) -> str:
    r"""An equation as MathML, its \tag at the right; the TeX itself in <code class="tex"> where latex2mathml does not know it."""
    from latex2mathml.converter import convert

    tags = re.findall(r"\\tag\*?\s*\{([^}]*)\}", tex)
    plain = re.sub(r"\\tag\*?\s*\{[^}]*\}|\\(?:notag|nonumber)(?![a-zA-Z])|\\(?:begin|end)\{equation\*?\}", "", tex).strip()
    for theirs, known in REWRITE.items():
        plain = re.sub(theirs, known, plain)
    try:
        math = convert(plain, display="block" if block else "inline")
    except Exception:  # its parser also lets IndexError and the like escape
        math = ">\\"
    if ">\\" in math:
        return f'<code class="tex">{html.escape(tex.strip())}</code>'
    math = math.replace("negativethinmathspace", "-0.167em").replace("<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>")
    math = re.sub("<mi>(&#x003(?:9[1-9A-F]|A[0-9]);)</mi>", r'<mi mathvariant="normal">\1</mi>', math)  # upright capital Greek, as in TeX
    math = re.sub(r'<(m[ino]) mathvariant="([a-z-]+)">([^<]+)</\1>', _styled, math)
    number = "".join(f"<span>({html.escape(tag)})</span>" for tag in tags)
    return f'<span class="equation"><span>{math}</span>{number}</span>' if block else math


def _styled(found: re.Match) -> str:
    """A letter of a mathvariant that browsers no longer draw, as its own Unicode character."""
    element, style, text = found.groups()
    letter = html.unescape(text)
    if style == "normal" or len(letter) != 1:
        return found[0]
    name = re.sub(r"^(LATIN|GREEK) | LETTER", "", unicodedata.name(letter, ""))
    try:
        letter = unicodedata.lookup(f"MATHEMATICAL {style.upper().replace('BOLD-ITALIC', 'BOLD ITALIC')} {name}")
    except KeyError:
        return found[0]
    return f"<{element}>{letter}</{element}>"


def prose(text: str) -> str:
    """A caption: escaped, with $equations$ and `code`."""
    parts = re.split(r"(\$[^$]+\$|`[^`]+`)", str(text))
    kinds = {"$": lambda part: mathml(part[1:-1]), "`": lambda part: f"<code>{html.escape(part[1:-1])}</code>"}
    return "".join(kinds.get(part[:1] if len(part) > 2 else "", html.escape)(part) for part in parts)


def whole_page(title: str, body: str, source: str, css: str = "") -> bytes:
    """A whole page that loads nothing: what would is taken out, and the browser is told to refuse it as well."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    body = LOADS.sub(lambda found: "" if REMOTE.search(found[0]) else found[0], body)
    head = f'<meta charset="utf-8"><meta name="source" content="{source}"><meta http-equiv="Content-Security-Policy" content="{policy}">'
    head += f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{html.escape(title)}</title><style>{CSS}{css}</style>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'.encode()


# Notebooks


def read_json(path: Path, default=None):
    """A JSON file; `default` where there is none. Raises StudyError where it is damaged."""
    try:
        return json.loads(path.read_bytes()) if path.exists() else default
    except ValueError:
        raise StudyError(f"{path} is damaged: delete it and run its notebook again") from None


def notebook_title(path: Path) -> tuple[str, bool]:
    """The title of a notebook and whether papermill saw it fail. Raises StudyError."""
    content = read_json(path, {})
    if not isinstance(content, dict) or not isinstance(content.get("cells"), list):
        raise StudyError(f"{path} is not a notebook: delete it and run it again")
    first = re.search(r"^# +(.+)$", "\n".join("".join(c["source"]) for c in content["cells"] if c["cell_type"] == "markdown"), re.M)
    return first[1].strip() if first else path.stem, bool(content.get("metadata", {}).get("papermill", {}).get("exception"))


@functools.cache
def _exporter():
    """nbconvert's exporter, slow to import and so made once, with equations as MathML and only links that lead somewhere."""
    import logging

    from jinja2 import pass_context
    from nbconvert.exporters.html import HTMLExporter
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):
        def block_math(self, body: str) -> str:
            return mathml(body, block=True)

        def inline_math(self, body: str) -> str:
            return mathml(body)

        def latex_environment(self, name: str, body: str) -> str:
            return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", block=True)

        def image(self, text: str, url: str, title: str | None = None) -> str:
            drawn = super().image(text, url, title)
            return drawn if 'src="data:' in drawn else f"<em>{text}</em>"

        def link(self, text: str, url: str, title: str | None = None) -> str:
            parts = urlsplit(url)
            if not parts.scheme and not parts.netloc and parts.path:
                if not (Path(self.path) / unquote(parts.path)).exists():
                    return text
                url = re.sub(r"\.ipynb(?=#|$)", ".html", url)
            return super().link(text, url, title)

    class Exporter(HTMLExporter):
        @pass_context
        def markdown2html(self, context, source: str) -> str:
            in_cells = functools.partial(re.sub, r"\$[^$]+\$", lambda found: found[0].replace(r"\|", r"\Vert ").replace("|", r"\vert "))
            source = re.sub(r"^ *\|.*\| *$", lambda row: in_cells(row[0]), source, flags=re.M)  # as in Jupyter, | in an equation parts no cells
            options = {"attachments": context.get("cell", {}).get("attachments", {}), "path": context["resources"]["metadata"]["path"]}
            return MarkdownWithMath(Renderer(escape=False, embed_images=True, **options)).render(source)

    log = logging.getLogger(__name__)
    log.addHandler(logging.NullHandler())  # nbconvert warns of images without a description
    return Exporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True, log=log)


def notebook_html(notebook: Path, page: Path, home: str = "") -> bool:
    """An executed notebook as one offline page, made again only if the notebook (or this module) changed: then True.

    home: a link back, written at the top. Widgets are shown by their picture or text. Raises StudyError for what is not a notebook.
    """
    title, _ = notebook_title(notebook)
    source = digest([notebook.read_text(), Path(__file__).read_text(), home, sorted(p.name for p in notebook.parent.glob("*.ipynb"))])
    if page.exists() and f'name="source" content="{source}"' in page.read_text()[:400]:
        return False
    with warnings.catch_warnings():  # theirs, about old notebook formats and their own dependencies
        warnings.simplefilter("ignore")
        import nbformat
        from pygments.formatters import HtmlFormatter

        content = nbformat.reads(notebook.read_text(), as_version=4)
        content.metadata.pop("widgets", None)  # without their state nbconvert falls back to their text
        for cell in content.cells:
            for data in (output["data"] for output in cell.get("outputs", []) if "data" in output):
                data.pop("application/javascript", None)
                if "image/png" in data:
                    data.pop("application/vnd.jupyter.widget-view+json", None)  # an explorer leaves its picture
                if "text/latex" in data:
                    data.setdefault("text/markdown", data.pop("text/latex"))
        body, _ = _exporter().from_notebook_node(content, {"metadata": {"path": str(notebook.parent)}})
        light, dark = (HtmlFormatter(style=style).get_style_defs(".highlight") for style in ("default", "github-dark"))
    body = body.replace("No description has been provided for this image", "figure")
    if home:
        body = f'<nav><a href="{home}">← all results of this run</a></nav>{body}'
    css = f"{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n.highlight {{ background: none !important }}"
    artifacts.write_atomic(page, whole_page(title, body, source, css))
    return True
