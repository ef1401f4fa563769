"""A figure or table as the index shows it: what is seen, its caption, its files, what made it."""

import base64
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pandas as pd
from markupsafe import Markup

from milib.report import copies
from milib.report.alt_texts import alt_text
from milib.report.html import page_width
from milib.report.run_folder import RunFolder
from milib.views import styling


@dataclass(frozen=True)
class Origin:
    """What made a figure, a table or a verdict.

    - notebook: its name; empty where nothing is known.
    - commits: at which its records were made, and it itself.
    - records, checkpoints: the files that the notebook had read up to there.
    """

    notebook: str
    commits: list[str]
    records: list[str]
    checkpoints: list[str]


def origin(run: RunFolder, about: dict) -> Origin:
    """What made something, from the note that was left beside it.

    - run: the run's folder.
    - about: as `RunFolder.about` returns it.
    """
    names, records = about.get("records", []), run.records()
    commits = {str(records[name]["made"]["commit"]) for name in names if name in records}
    if about.get("commit"):
        commits.add(str(about["commit"]))
    notebook = str(about.get("notebook", ""))
    return Origin(notebook, sorted(commits), names, about.get("checkpoints", []))


def link(folder: Path, path: str, text: str = "") -> Markup:
    """A link to a file of the run; the text alone where there is no such file.

    - folder: the run's folder.
    - path: relative to the run's folder.
    - text: by default the file's name.
    """
    shown = text or Path(path).name
    if not (folder / path).is_file():
        return Markup.escape(shown)
    return Markup('<a href="{}">{}</a>').format(quote(path), shown)


def exhibit(run: RunFolder, kind: str, name: str) -> dict:
    """A figure or table: what is shown, its caption, its files, and the note beside it.

    - run: the run's folder.
    - kind: "figures" or "tables".
    - name: of its files.
    """
    about = run.about(kind, name)
    endings = ("png", "svg", "csv")
    paths = {ending: run.path / kind / f"{name}.{ending}" for ending in endings}
    there = {ending: path for ending, path in paths.items() if path.exists()}
    notes = [about[key] for key in ("settings", "models") if about.get(key)]
    caption = about.get("caption", name)
    if kind == "figures":
        shown = _image(run, there) | {"id": name, "alt": alt_text(name, caption)}
    else:
        shown = table(styling.read(there["csv"]), name)
    return shown | {
        "caption": caption,
        "paper": paper_number(run, about, name) if kind == "tables" else "",
        "settings": "; ".join(notes),
        "files": {ending: f"{kind}/{path.name}" for ending, path in there.items()},
        "about": about,
    }


def table(frame: pd.DataFrame, name: str) -> dict:
    """A table as the page shows it, and as LaTeX and Markdown to be copied.

    - frame: as milib/views/styling.py describes it.
    - name: of the table; unique on a page.
    """
    shown = {"id": f"table_{name}", "table": Markup(styling.styled(frame, name).to_html())}
    return shown | {"latex": copies.latex(frame), "markdown": copies.markdown(frame)}


def paper_number(run: RunFolder, about: dict, name: str) -> str:
    """The paper's number of the table that a table repeats: "2"; empty where it repeats none.

    - run: the run's folder.
    - about: as `RunFolder.about` returns it.
    - name: of the table.
    """
    parameters = run.parameters(about.get("notebook", "")) or {}
    found = re.match(r"table(\d)", str(parameters.get("paper_table", "")))
    return found[1] if found and name == "oblivious" else ""


def _image(run: RunFolder, paths: dict[str, Path]) -> dict:
    """A picture as the page shows it; the width gives all PNG figures letters of one size.

    A live run's page holds its pictures. A curated run's stands beside them in git, and links them.
    """
    ending = "png" if "png" in paths else "svg"
    path, width = paths[ending], None
    if ending == "png":
        width = page_width(path)
    if run.curated:
        return {"source": f"figures/{quote(path.name)}", "width": width}
    media = {"png": "image/png", "svg": "image/svg+xml"}[ending]
    content = base64.b64encode(path.read_bytes()).decode()
    return {"source": f"data:{media};base64,{content}", "width": width}
