"""The report of a run, `python -m milib.report <run>`: notebooks as HTML, index.html and the profile; offline, without scripts."""

import argparse
import base64
import functools
import html
import json
import os
import re
import sys
import unicodedata
import warnings
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from milib import artifacts, params
from milib.errors import StudyError

ABOUT = (
    "Mixup Inference (Pang, Xu and Zhu, ICLR 2020) averages a mixup-trained classifier's predictions over mixtures of the input with other images, "
    "to blunt adversarial perturbations. This page gathers what seven notebooks measured when they ran that paper again: "
    "claims with their verdicts, figures, tables, and what made each of them. "
)
DATA = {
    "digits": "The data are scikit-learn's digits (8x8 pixels): <strong>a rehearsal, never evidence about the paper</strong>.",
    "generated": "The data are images made from random numbers: <strong>a test of the code, evidence of nothing</strong>.",
    "cifar10": "The data are CIFAR-10.",
    "cifar100": "The data are CIFAR-100.",
}
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
pre, code { font: .85rem/1.4 ui-monospace, monospace } pre { overflow-x: auto; margin: .3rem 0 } .anchor-link { display: none }
.input_area, .rendered_html pre { background: var(--panel); border-radius: 4px; padding: .3rem .7rem }
.cell { margin: .9rem 0 } .output_subarea { margin: .4rem .7rem }
.celltag_parameters .input_area, .celltag_injected-parameters .input_area { max-height: 12rem; overflow-y: auto }
.output_stderr, .ansi-red-fg, .ansi-red-intense-fg { color: var(--fails) } .ansi-bold { font-weight: bold }
.holds { --tone: var(--holds) } .fails { --tone: var(--fails) } .undecided { --tone: var(--undecided) } .verdict { color: var(--tone); font-weight: bold }
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


def _prose(text: str) -> str:
    """A caption: escaped, with $equations$ and `code`."""
    parts = re.split(r"(\$[^$]+\$|`[^`]+`)", str(text))
    kinds = {"$": lambda part: mathml(part[1:-1]), "`": lambda part: f"<code>{html.escape(part[1:-1])}</code>"}
    return "".join(kinds.get(part[:1] if len(part) > 2 else "", html.escape)(part) for part in parts)


def _page(title: str, body: str, source: str, css: str = "") -> bytes:
    """A whole page that loads nothing: what would is taken out, and the browser is told to refuse it as well."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    body = LOADS.sub(lambda found: "" if REMOTE.search(found[0]) else found[0], body)
    head = f'<meta charset="utf-8"><meta name="source" content="{source}"><meta http-equiv="Content-Security-Policy" content="{policy}">'
    head += f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{html.escape(title)}</title><style>{CSS}{css}</style>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'.encode()


# Notebooks


def _json(path: Path, default=None):
    """A JSON file; `default` where there is none. Raises StudyError where it is damaged."""
    try:
        return json.loads(path.read_bytes()) if path.exists() else default
    except ValueError:
        raise StudyError(f"{path} is damaged: delete it and run its notebook again") from None


def _notebook(path: Path) -> tuple[str, bool]:
    """The title of a notebook and whether papermill saw it fail. Raises StudyError."""
    content = _json(path, {})
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

    home: a link back, written at the top. Widgets are shown by their text. Raises StudyError for what is not a notebook.
    """
    title, _ = _notebook(notebook)
    source = artifacts.digest([notebook.read_text(), Path(__file__).read_text(), home, sorted(p.name for p in notebook.parent.glob("*.ipynb"))])
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
                if "text/latex" in data:
                    data.setdefault("text/markdown", data.pop("text/latex"))
        body, _ = _exporter().from_notebook_node(content, {"metadata": {"path": str(notebook.parent)}})
        light, dark = (HtmlFormatter(style=style).get_style_defs(".highlight") for style in ("default", "github-dark"))
    body = body.replace("No description has been provided for this image", "figure")
    if home:
        body = f'<nav><a href="{home}">← all results of this run</a></nav>{body}'
    css = f"{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n.highlight {{ background: none !important }}"
    artifacts.write_atomic(page, _page(title, body, source, css))
    return True


# Profile


def _timing(folder: Path) -> dict[str, tuple[float | None, dict[str, dict]]]:
    """Per notebook: its wall seconds (None: not run this time) and its entries by name, computed ones before cached ones."""
    found = {}
    names = {path.stem for part in ("notebooks/*.ipynb", "profile/*.json") for path in folder.glob(part)}
    for name in sorted(name for name in names if not name.endswith(".failed")):
        path = folder / "profile" / f"{name}.seconds"
        try:
            wall = float(path.read_text()) if path.exists() else None
        except ValueError:
            raise StudyError(f"{path} holds no number: delete it") from None
        entries = _json(folder / "profile" / f"{name}.json", [])
        found[name] = wall, {entry["name"]: entry for entry in sorted(entries, key=lambda entry: (not entry["cached"], entry["seconds"]))}
    return found


def _summary(entries: Collection[dict]) -> tuple[str, int]:
    """What was computed, by kind ('checkpoint 2 (30.1 s), record 5 (8.2 s)'), and how many things came from the cache."""
    made = [entry for entry in entries if not entry["cached"]]
    kinds = {entry["kind"]: [other["seconds"] for other in made if other["kind"] == entry["kind"]] for entry in made}
    text = ", ".join(f"{kind} {len(seconds)} ({sum(seconds):.1f} s)" for kind, seconds in sorted(kinds.items()))
    return text or "nothing", len(entries) - len(made)


def profile(folder: Path) -> str:
    """What `make study` prints at its end: per notebook the wall seconds, what was computed and what came from the cache."""
    timing = _timing(folder)
    lines, slowest = [f"run '{folder.name}': what took how long (a record's time includes the tensors made for it)"], []
    for name, (wall, entries) in timing.items():
        if wall is None:
            lines.append(f"  {name:<26} not re-run: nothing changed")
            continue
        computed, cached = _summary(entries.values())
        lines.append(f"  {name:<26} {wall:7.1f} s  computed: {computed}; from the cache: {cached}")
        slowest += [(entry["seconds"], entry["kind"], entry["name"], name) for entry in entries.values() if not entry["cached"]]
    lines.append(f"  {'all':<26} {sum(wall or 0 for wall, _ in timing.values()):7.1f} s")
    lines += ["the slowest things computed:"] if slowest else []
    lines += [f"  {seconds:7.1f} s  {kind:<10}  {what}  ({name})" for seconds, kind, what, name in sorted(slowest, reverse=True)[:10]]
    return "\n".join(lines)


# The index


def _link(folder: Path, path: str, text: str = "") -> str:
    """A relative link, or the text alone where there is no such file."""
    text = html.escape(text or Path(path).name)
    return f'<a href="{quote(path)}">{text}</a>' if (folder / path).is_file() else text


def _table(header: list[str], rows: Iterable[list[str]]) -> str:
    """A table of ready HTML cells; headings that begin with # stand over numbers."""
    right = [' class="number"' if cell.startswith("#") else "" for cell in header]
    lines = [[f"<td{side}>{cell}</td>" for cell, side in zip(row, right, strict=True)] for row in rows]
    top = [f"<th{side}>{cell.lstrip('#')}</th>" for cell, side in zip(header, right, strict=True)]
    return '<div class="wide"><table>' + "".join(f"<tr>{''.join(cells)}</tr>" for cells in [top, *lines]) + "</table></div>"


def _records(folder: Path, used: set[str]) -> dict[str, dict]:
    """Records by file name, without their results (claims apart), each with `used`: whether the notebooks' last runs read it.

    Where no profile says, all count as used. Raises StudyError for a damaged one.
    """
    found = {}
    for path in sorted(folder.glob("records/*.json")):
        content = artifacts.read_record(path)
        found[path.name] = content if path.name.startswith("claims-") else content | {"result": None, "identity": {"data": content["identity"].get("data")}}
    for name, record in found.items():
        record["used"] = name in used or not used & set(found)
    return found


def _made_by(folder: Path, about: dict, records: dict[str, dict]) -> str:
    """Under a figure or table: the notebook, the record files (their names hold the fingerprints) and the commits."""
    notebook, names = str(about.get("notebook", "")), about.get("records", [])
    links = ", ".join(_link(folder, f"records/{name}") + ("" if name in records else " (no longer there)") for name in names)
    commits = sorted({str(records[name]["made"]["commit"]) for name in names if name in records})
    text = f"made by notebook {_link(folder, f'notebooks/{notebook}.html', notebook)}" if notebook else "nothing says what made it"
    text += f" at commit {', '.join(commits)}" if commits else ""
    if len(names) > 3:
        return f'<details class="made"><summary>{text} from {len(names)} records</summary>{links}</details>'
    return f'<p class="made">{text}{f" from records {links}" if names else ""}</p>'


def _comparison(entry: dict, margin: object) -> str:
    """A measured difference: its interval in numbers, and drawn with zero (line) and the margin (dashed)."""
    mean, ends = entry["mean"], [entry[end] for end in ("low", "high") if entry.get(end) is not None]
    text = f"{_prose(entry['label'])}: <strong>{mean:.3g}</strong>" + (f" [{ends[0]:.3g}, {ends[1]:.3g}]" if len(ends) == 2 else "")
    marks = {"zero": 0.0} | ({"margin": margin} if isinstance(margin, int | float) and margin else {})
    least, most = min(mean, *ends, *marks.values()), max(mean, *ends, *marks.values())
    place = {value: f"{100 * (value - least) / ((most - least) or 1):.1f}" for value in (mean, *ends, *marks.values())}
    drawn = "".join(f'<i class="{kind}" style="left:{place[value]}%"></i>' for kind, value in marks.items())
    if len(ends) == 2:
        drawn += f'<i class="range" style="left:{place[ends[0]]}%;right:{100 - float(place[ends[1]]):.1f}%"></i>'
    drawn += f'<i class="mean" style="left:{place[mean]}%"></i>'
    return f'<div class="comparison"><span>{text}</span><span class="strip" aria-hidden="true">{drawn}</span></div>'


def _claims(folder: Path, records: dict[str, dict]) -> str:
    """Every claim with its verdict, from the newest claims record of each notebook (one its last run read comes first)."""
    newest: dict[str, str] = {}
    for name, record in records.items():
        rank = [(records[n]["used"], records[n]["made"]["when"]) for n in (name, newest.get(record["name"])) if n]
        if name.startswith("claims-") and rank[0] == max(rank):
            newest[record["name"]] = name
    tally, parts = Counter(), []
    for title, name in sorted(newest.items()):
        parts.append(f"<h3>{html.escape(title.removeprefix('claims-'))}{'' if records[name]['used'] else ' (of an earlier run)'}</h3>")
        for claim in records[name]["result"]["claims"]:
            tally[claim["verdict"]] += 1
            head = f'<span class="verdict">{claim["verdict"]}</span> {_prose(claim["statement"])}'
            room = f" ± {claim['room']}" if claim.get("room") and records[name]["identity"].get("rehearsal") else ""
            made = f"{html.escape(claim['id'])}; {_prose(claim['source'])}; margin {_prose(claim['margin'])}{room}"
            drawn = "".join(_comparison(entry, claim["margin"]) for entry in claim["comparisons"])
            parts.append(f'<article class="claim {claim["verdict"]}"><p>{head}</p>{drawn}<p class="made">{made}</p></article>')
        parts.append(_made_by(folder, {"notebook": records[name]["notebook"], "records": [name]}, records))
    count = ", ".join(f"{tally[verdict]} {word}" for verdict, word in (("holds", "hold"), ("fails", "fail"), ("undecided", "undecided")))
    note = "Each interval is drawn with zero (solid) and the margin (dashed)."
    return f"<p>{count}. {note}</p>" + "".join(parts) if tally else "<p>No claims were judged yet.</p>"


def _exhibits(folder: Path, kind: str, records: dict[str, dict]) -> str:
    """All figures or all tables, embedded, each with its caption and what made it."""
    parts = []
    for name in sorted({path.stem for ending in ("png", "svg", "html") for path in folder.glob(f"{kind}/[!.]*.{ending}")}):
        about, files = _json(folder / kind / f"{name}.json", {}), {e: folder / kind / f"{name}.{e}" for e in ("png", "svg", "html", "csv")}
        caption = _prose(about.get("caption", name))
        if files["html"].exists():
            shown = f'<div class="wide">{files["html"].read_text()}</div>'
        else:
            file, media = (files["png"], "image/png") if files["png"].exists() else (files["svg"], "image/svg+xml")
            shown = f'<img alt="{html.escape(name)}" src="data:{media};base64,{base64.b64encode(file.read_bytes()).decode()}">'
        same = ", ".join(_link(folder, f"{kind}/{file.name}", ending) for ending, file in files.items() if file.exists())
        made = _made_by(folder, about, records)
        parts.append(f'<figure id="{html.escape(name)}">{shown}<figcaption>{caption} <small>({same})</small></figcaption>{made}</figure>')
    return "".join(parts) or "<p>None yet.</p>"


def _origin(folder: Path, records: dict[str, dict]) -> str:
    """What the run is: its data, machine, versions, commits and dates, as its records tell."""
    made = [record["made"] for record in records.values() if record["used"]]
    data = sorted({record["identity"]["data"] for record in records.values() if record["identity"].get("data") in DATA}) or [folder.name]
    whens = sorted({entry["when"] for entry in made})
    facts = {
        "Machine": sorted({f"{entry['machine']}, {entry['threads']} threads" for entry in made}),
        "Versions": sorted({f"{name} {version}" for entry in made for name, version in entry["versions"].items()}),
        "Commit": sorted({str(entry["commit"]) for entry in made}),
        "Computed": [" to ".join(dict.fromkeys((whens[0], whens[-1])))] if whens else ["nothing yet"],
    }
    lines = "".join(f"<dt>{name}</dt><dd>{html.escape('; '.join(values))}</dd>" for name, values in facts.items())
    return f"<p>{ABOUT}{' '.join(DATA.get(name, '') for name in data)}</p><dl>{lines}</dl>"


def _logs(folder: Path) -> list[dict]:
    """The training logs: file, model, epochs, seconds. Raises StudyError for a damaged one."""
    found = []
    for path in sorted(folder.glob("checkpoints/*.jsonl")):
        try:
            recipe, *entries = map(json.loads, path.read_text().splitlines())
            seconds = sum(entry.get("seconds", 0.0) for entry in entries)
            found.append({"file": path.name, "name": recipe.get("name", path.stem), "epochs": len(entries), "seconds": seconds})
        except (ValueError, AttributeError):
            raise StudyError(f"{path} is damaged: delete it") from None
    return found


def build(folder: Path) -> Path:
    """The report of a run's folder: each notebook as HTML, then index.html, whose path is returned. Raises StudyError."""
    folder = Path(folder)
    if not folder.is_dir():
        raise StudyError(f"{folder} does not exist: `make study RUN={folder.name}` makes it")
    notebooks, shown = sorted(folder.glob("notebooks/*.ipynb")), []
    for path in notebooks:
        notebook_html(path, path.with_suffix(".html"), home="../index.html")
        title, failed = _notebook(path)
        links = f"{_link(folder, f'notebooks/{path.stem}.html', title)} <small>({_link(folder, f'notebooks/{path.name}', 'ipynb')})</small>"
        shown.append(f"<li>{links}{' <strong class=verdict>stopped with an error</strong>' if failed else ''}</li>")
    timing, logs = _timing(folder), _logs(folder)
    records = _records(folder, {name for _, entries in timing.values() for name in entries})
    cost = [(r["seconds"], _link(folder, f"records/{name}"), r["notebook"]) for name, r in records.items() if r["used"]]
    cost += [(log["seconds"], _link(folder, f"checkpoints/{log['file']}"), "training") for log in logs]
    listed = _table(
        ["record", "notebook", "#seconds", "made", "commit"],
        (
            [
                _link(folder, f"records/{name}") + ("" if r["used"] else " <small>(older)</small>"),
                *(html.escape(str(cell)) for cell in (r["notebook"], f"{r['seconds']:.1f}", r["made"]["when"], r["made"]["commit"])),
            ]
            for name, r in records.items()
        ),
    )
    walls = [
        [html.escape(name), "not re-run" if wall is None else f"{wall:.1f}", *map(str, _summary(entries.values()))] for name, (wall, entries) in timing.items()
    ]
    trained = ([_link(folder, f"checkpoints/{g['file']}"), html.escape(g["name"]), str(g["epochs"]), f"{g['seconds']:.1f}"] for g in logs)
    slowest = ([f"{seconds:.1f}", what, html.escape(where)] for seconds, what, where in sorted(cost, reverse=True)[:10])
    sections = {
        "Claims": _claims(folder, records),
        "Figures": _exhibits(folder, "figures", records),
        "Tables": _exhibits(folder, "tables", records),
        "Notebooks": f"<ul>{''.join(shown)}</ul>" if shown else "<p>None was run yet.</p>",
        "Training logs": _table(["log", "model", "#epochs", "#seconds"], trained),
        "What took how long": _table(["notebook", "#wall seconds", "computed when it last ran", "#from the cache"], walls)
        + "<p>The slowest records and trainings, whenever they were computed:</p>"
        + _table(["#seconds", "what", "where"], slowest),
        "Records": f"<details><summary>all {len(records)} records, one JSON file each</summary>{listed}</details>",
    }
    body = f"<h1>Mixup Inference, run again: {html.escape(folder.name)}</h1>" + _origin(folder, records)
    body += "".join(f"<section><h2>{title}</h2>{content}</section>" for title, content in sections.items())
    index = folder / "index.html"
    artifacts.write_atomic(index, _page(f"Mixup Inference: {folder.name}", body, ""))
    return index


def main(arguments: list[str] | None = None) -> None:
    """The command line: builds everything, prints the profile and where index.html lies; a StudyError becomes one line and exit 1."""
    parser = argparse.ArgumentParser(prog="python -m milib.report", description=__doc__)
    parser.add_argument("run", help="name of a run: a folder in outputs/")
    run = parser.parse_args(arguments).run
    try:
        folder = params.outputs_root() / run
        index = build(folder)
        print(f"{profile(folder)}\nreport: {os.path.relpath(index)}")
    except StudyError as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
