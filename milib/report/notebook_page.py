"""Executed notebooks as HTML, offline and without scripts."""

import re
import warnings
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from milib import files
from milib.errors import UserError
from milib.files import digest
from milib.report.alt_texts import alt_text
from milib.report.html import HERE, Around, Entry, Turn, page_width, whole_page
from milib.study.store import read_json

WIDGET = "application/vnd.jupyter.widget-view+json"
SHAPES = ("notebook_page.py", "exporter.py", "html.py", "alt_texts.py", "style.css")
SHAPES += ("page.html.j2", "notebook.html.j2")
"""What besides the notebook decides how its page looks."""
HEADING = re.compile(r'<h2 id="([^"]*)">(.*?)<a class="anchor-link".*?</h2>', re.S)
SHOWN = re.compile(r"""\b(figures\.show|tables\.save)\(.*?\s"(\w+)",""", re.S)
"""A figure or table that a cell shows, with its name."""
CAPTION = re.compile(r'caption = "([^"]*)"')
TABLE = re.compile(r'<div class="([^"]*\boutput_html\b[^"]*)"')


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


def notebook_html(notebook: Path, page: Path, home: str = "", linked: bool = False) -> bool:
    """An executed notebook as one offline page.

    - notebook: its path. Widgets are shown by their picture or their text.
    - page: the file to write, only if the notebook or what shapes its page has changed.
    - home: where a link at the top leads; by default there is none.
    - linked: whether the page shows the figures in ../figures, as that of a curated run does,
      instead of holding them (default).

    Returns whether the page was written. Raises UserError for what is not a notebook.
    """
    title, _ = notebook_title(notebook)
    source = _fingerprint(notebook, home, linked)
    if page.exists() and f'name="source" content="{source}"' in page.read_text("utf-8")[:400]:
        return False
    with warnings.catch_warnings():  # theirs, about old notebook formats and their own dependencies
        warnings.simplefilter("ignore")
        body, css = _rendered(notebook, home, linked)
    # A wide table scrolls in its own box, which a keyboard must reach.
    body = TABLE.sub(r'<div class="\1" tabindex="0" role="group" aria-label="table"', body)
    found = [Entry(name, Markup(text)) for name, text in HEADING.findall(body)]
    around = Around(found, turns(notebook, home) if home else [])
    files.write_atomic(page, whole_page(title, body, around, source, css))
    return True


def turns(notebook: Path, home: str) -> list[Turn]:
    """The links to the pages before, above and after a notebook's.

    - notebook: its path; the other notebooks lie beside it.
    - home: where the page above lies.
    """
    names = [path.name for path in _neighbours(notebook)]
    place = names.index(notebook.name)
    found = [Turn(home, "all results of this run", "↑")]
    for sign, other in (("←", place - 1), ("→", place + 1)):
        if 0 <= other < len(names):
            path = notebook.parent / names[other]
            found.append(Turn(quote(f"{path.stem}.html"), notebook_title(path)[0], sign))
    return found


def _neighbours(notebook: Path) -> list[Path]:
    return sorted(notebook.parent.glob("[!.]*.ipynb"))


def _fingerprint(notebook: Path, home: str, linked: bool) -> str:
    """Of all that decides what the page shows: a link to a notebook needs that notebook."""
    texts = [notebook.read_text("utf-8"), *((HERE / name).read_text("utf-8") for name in SHAPES)]
    titles = [(path.name, notebook_title(path)[0]) for path in _neighbours(notebook)]
    return digest([*texts, home, linked, titles])


def _rendered(notebook: Path, home: str, linked: bool) -> tuple[str, str]:
    """The cells as HTML, and the colours of their code, in light and dark."""
    import nbformat
    from pygments.formatters import HtmlFormatter

    from milib.report.exporter import exporter

    content = nbformat.reads(notebook.read_text("utf-8"), as_version=4)
    content.metadata.pop("widgets", None)  # without their state nbconvert shows widgets' text
    for cell in content.cells:
        _named(cell, home)
        if linked:
            _link_figure(cell, notebook.parent.parent / "figures")
        for output in cell.get("outputs", []):
            if "data" in output:
                _without_scripts(output["data"])
    body, _ = exporter().from_notebook_node(content, {"metadata": {"path": str(notebook.parent)}})
    light = HtmlFormatter(style="xcode").get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    css = f"{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}"
    return body, f"{css}\n.highlight {{ background: none !important }}"


def _named(cell, home: str) -> None:
    """Notes at a cell which figure or table it shows, and where a table's LaTeX lies.

    At a figure it notes what is seen in it.
    """
    if cell.cell_type != "code":
        return
    cell.metadata["alt"] = "picture that the code above it draws"
    if found := SHOWN.search(cell.source):
        what, name = found.groups()
        cell.metadata["exhibit"] = name if what == "figures.show" else f"table_{name}"
        shown = "".join(output.get("data", {}).get("text/html", "") for output in cell.outputs)
        if home and what == "tables.save" and "<table" in shown:  # one without rows has none
            cell.metadata["copies"] = f"{home}#table_{name}"
        caption = CAPTION.search(cell.source)
        cell.metadata["alt"] = alt_text(name, caption[1] if caption else name)


def _link_figure(cell, figures: Path) -> None:
    """Puts the file of a cell's figure in place of the picture that its output holds."""
    path = figures / f"{cell.metadata.get('exhibit')}.png"
    if not path.is_file():
        return
    for output in cell.outputs:
        if "image/png" in output.get("data", {}):
            output.data["image/png"] = ""
            output.metadata["filenames"] = {"image/png": f"../figures/{path.name}"}
            output.metadata["image/png"] = {"width": page_width(path)}


def _without_scripts(data: dict) -> None:
    """Of an output's forms only those that a page without scripts shows."""
    data.pop("application/javascript", None)
    if "image/png" in data:
        data.pop(WIDGET, None)  # it needs scripts
    if "text/latex" in data:
        data.setdefault("text/markdown", data.pop("text/latex"))
