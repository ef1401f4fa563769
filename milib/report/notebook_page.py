"""Executed notebooks as HTML, offline and without scripts."""

import re
import warnings
from pathlib import Path

from milib import files
from milib.errors import UserError
from milib.files import digest
from milib.report.html import HERE, whole_page
from milib.study.store import read_json

WIDGET = "application/vnd.jupyter.widget-view+json"
SHAPES = ("notebook_page.py", "exporter.py", "html.py", "style.css")
SHAPES += ("page.html.j2", "notebook.html.j2")
"""What besides the notebook decides how its page looks."""


def notebook_title(path: Path) -> tuple[str, bool]:
    """The title of a notebook, and whether papermill saw it fail.

    - path: a notebook. Its title is its first heading, else its file's name.

    Raises UserError for what is not a notebook.
    """
    content = read_json(path, {})
    if not isinstance(content, dict) or not isinstance(content.get("cells"), list):
        raise UserError(f"{path} is not a notebook: delete it and run it again")
    text = "\n".join(
        "".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "markdown"
    )
    heading = re.search(r"^# +(.+)$", text, re.M)
    failed = bool(content.get("metadata", {}).get("papermill", {}).get("exception"))
    return heading[1].strip() if heading else path.stem, failed


def notebook_html(notebook: Path, page: Path, home: str = "") -> bool:
    """An executed notebook as one offline page.

    - notebook: its path. Widgets are shown by their picture or their text.
    - page: the file to write, only if the notebook or what shapes its page has changed.
    - home: where a link at the top leads; by default there is none.

    Returns whether the page was written. Raises UserError for what is not a notebook.
    """
    title, _ = notebook_title(notebook)
    source = _fingerprint(notebook, home)
    if page.exists() and f'name="source" content="{source}"' in page.read_text("utf-8")[:400]:
        return False
    with warnings.catch_warnings():  # theirs, about old notebook formats and their own dependencies
        warnings.simplefilter("ignore")
        body, css = _rendered(notebook)
    body = body.replace("No description has been provided for this image", "figure")
    if home:
        body = f'<nav><a href="{home}">← all results of this run</a></nav>{body}'
    files.write_atomic(page, whole_page(title, body, source, css))
    return True


def _fingerprint(notebook: Path, home: str) -> str:
    """Of all that decides what the page shows: a link to a notebook needs that notebook."""
    texts = [notebook.read_text("utf-8"), *((HERE / name).read_text("utf-8") for name in SHAPES)]
    neighbours = sorted(path.name for path in notebook.parent.glob("*.ipynb"))
    return digest([*texts, home, neighbours])


def _rendered(notebook: Path) -> tuple[str, str]:
    """The cells as HTML, and the colours of their code, in light and dark."""
    import nbformat
    from pygments.formatters import HtmlFormatter

    from milib.report.exporter import exporter

    content = nbformat.reads(notebook.read_text("utf-8"), as_version=4)
    content.metadata.pop("widgets", None)  # without their state nbconvert shows widgets' text
    for cell in content.cells:
        for output in cell.get("outputs", []):
            if "data" in output:
                _without_scripts(output["data"])
    body, _ = exporter().from_notebook_node(content, {"metadata": {"path": str(notebook.parent)}})
    light = HtmlFormatter(style="default").get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    css = f"{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}"
    return body, f"{css}\n.highlight {{ background: none !important }}"


def _without_scripts(data: dict) -> None:
    """Of an output's forms only those that a page without scripts shows."""
    data.pop("application/javascript", None)
    if "image/png" in data:
        data.pop(WIDGET, None)  # an explorer leaves its picture
    if "text/latex" in data:
        data.setdefault("text/markdown", data.pop("text/latex"))
