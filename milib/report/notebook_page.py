"""Executed notebooks as HTML, offline and without scripts."""

import functools
import re
import warnings
from pathlib import Path
from urllib.parse import unquote, urlsplit

from milib import files
from milib.errors import UserError
from milib.files import digest
from milib.report.html import mathml, whole_page
from milib.study.store import read_json


def notebook_title(path: Path) -> tuple[str, bool]:
    """The title of a notebook and whether papermill saw it fail. Raises UserError."""
    content = read_json(path, {})
    if not isinstance(content, dict) or not isinstance(content.get("cells"), list):
        raise UserError(f"{path} is not a notebook: delete it and run it again")
    first = re.search(
        r"^# +(.+)$",
        "\n".join("".join(c["source"]) for c in content["cells"] if c["cell_type"] == "markdown"),
        re.M,
    )
    return first[1].strip() if first else path.stem, bool(
        content.get("metadata", {}).get("papermill", {}).get("exception")
    )


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
            in_cells = functools.partial(
                re.sub,
                r"\$[^$]+\$",
                lambda found: found[0].replace(r"\|", r"\Vert ").replace("|", r"\vert "),
            )
            source = re.sub(
                r"^ *\|.*\| *$", lambda row: in_cells(row[0]), source, flags=re.M
            )  # as in Jupyter, | in an equation parts no cells
            options = {
                "attachments": context.get("cell", {}).get("attachments", {}),
                "path": context["resources"]["metadata"]["path"],
            }
            return MarkdownWithMath(Renderer(escape=False, embed_images=True, **options)).render(
                source
            )

    log = logging.getLogger(__name__)
    log.addHandler(logging.NullHandler())  # nbconvert warns of images without a description
    return Exporter(
        template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True, log=log
    )


def notebook_html(notebook: Path, page: Path, home: str = "") -> bool:
    """An executed notebook as one offline page, made again only if the notebook (or this module) changed: then True.

    home: a link back, written at the top. Widgets are shown by their picture or text. Raises UserError for what is not a notebook.
    """
    title, _ = notebook_title(notebook)
    source = digest(
        [
            notebook.read_text(),
            Path(__file__).read_text(),
            home,
            sorted(p.name for p in notebook.parent.glob("*.ipynb")),
        ]
    )
    if page.exists() and f'name="source" content="{source}"' in page.read_text()[:400]:
        return False
    with warnings.catch_warnings():  # theirs, about old notebook formats and their own dependencies
        warnings.simplefilter("ignore")
        import nbformat
        from pygments.formatters import HtmlFormatter

        content = nbformat.reads(notebook.read_text(), as_version=4)
        content.metadata.pop(
            "widgets", None
        )  # without their state nbconvert falls back to their text
        for cell in content.cells:
            for data in (output["data"] for output in cell.get("outputs", []) if "data" in output):
                data.pop("application/javascript", None)
                if "image/png" in data:
                    data.pop(
                        "application/vnd.jupyter.widget-view+json", None
                    )  # an explorer leaves its picture
                if "text/latex" in data:
                    data.setdefault("text/markdown", data.pop("text/latex"))
        body, _ = _exporter().from_notebook_node(
            content, {"metadata": {"path": str(notebook.parent)}}
        )
        light, dark = (
            HtmlFormatter(style=style).get_style_defs(".highlight")
            for style in ("default", "github-dark")
        )
    body = body.replace("No description has been provided for this image", "figure")
    if home:
        body = f'<nav><a href="{home}">← all results of this run</a></nav>{body}'
    css = f"{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n.highlight {{ background: none !important }}"
    files.write_atomic(page, whole_page(title, body, source, css))
    return True
