"""Keep a finished run as evidence: `python -m milib.report.curate RUN`.

What the run's notebooks last used is copied to outputs/reference/RUN, in few files: see
`run_folder`. Then outputs/reference/FINDINGS.md and the README's tables are written anew, from all
runs that lie there.
"""

import argparse
import glob
import json
import os
import re
import sys
from pathlib import Path

import nbformat

from milib import files
from milib.errors import UserError
from milib.report import findings
from milib.report.pictures import small, small_text
from milib.report.run_folder import (
    NOTED,
    NOTES,
    PACKED,
    RunFolder,
    completed,
    listed,
    opened_with,
    pack,
)
from milib.study import paths
from milib.study.store import read_json

PNG = "image/png"
"""The kind of a notebook's output that is a picture."""
PAGES = ("README.md", "outputs/reference/FINDINGS.md")
"""The pages whose SVG figures are kept; of every other figure the PNG is enough."""


def named_records(profile: dict[str, dict]) -> set[str]:
    """The records that notebooks read when they last ran.

    - profile: notebook -> its "entries", as in run.json.
    """
    found: set[str] = set()
    for timing in profile.values():
        found |= {entry["name"] for entry in timing["entries"] if entry["kind"] == "record"}
    return found


def kept_records(run: RunFolder) -> dict[str, dict]:
    """The records that the notebooks' last runs read, by file name.

    - run: the live run.

    Raises UserError where one is missing or damaged.
    """
    names, records = sorted(named_records(run.notes()["profile"])), run.records()
    for name in names:
        if name not in records:
            path = run.path / "records" / name
            raise UserError(f"{path} is missing: run the notebooks of '{run.name}' again")
    return {name: records[name] for name in names}


def tidy(path: Path) -> bytes:
    """An executed notebook with small pictures, without what papermill notes about the machine.

    - path: the notebook.

    Raises UserError where it is damaged or not executed to its end, where a cell failed or a path
    of this machine is shown.
    """
    read_json(path)
    try:
        notebook = nbformat.read(path, 4)
    except (nbformat.ValidationError, KeyError, TypeError, AttributeError, ValueError):
        raise UserError(f"{path} is not a notebook: delete it and run it again") from None
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        if not executed(cell):
            raise UserError(f"{path} is not executed to its end: run it again")
        kept = {"tags": cell.metadata.get("tags", [])}
        if cell.metadata.get("jupyter", {}).get("source_hidden"):
            kept["jupyter"] = {"source_hidden": True}
        cell.metadata = kept
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                raise UserError(f"{path} stopped with an error: run it again")
            if PNG in output.get("data", {}):
                output.data[PNG] = small_text(output.data[PNG])
    text = nbformat.writes(notebook)
    for place in (str(paths.project_root()), os.path.expanduser("~/")):
        if len(place) > 3 and place in text:
            what = "a path of this machine does not belong into a curated run"
            raise UserError(f"{path} shows {place}: {what}")
    return (text + "\n").encode()


def executed(cell: nbformat.NotebookNode) -> bool:
    """Whether a cell was run to its end; one without code always was.

    - cell: of an executed notebook.
    """
    if cell.cell_type != "code" or not cell.source.strip():
        return True
    status = cell.metadata.get("papermill", {}).get("status", "completed")
    return cell.get("execution_count") is not None and status in ("completed", "failed")


def timed(run: RunFolder) -> dict[str, dict]:
    """A live run's profile; where papermill ran without make, with the seconds that it noted.

    - run: the live run.
    """
    profile = {}
    for name, found in run.notes()["profile"].items():
        notebook = read_json(run.path / "notebooks" / f"{name}.ipynb", {})
        taken = notebook.get("metadata", {}).get("papermill", {}).get("duration")
        profile[name] = found | {"seconds": round(taken, 1)} if taken else found
    return profile


def merged(old: dict[str, dict], new: dict[str, dict], notebooks: set[str]) -> dict[str, dict]:
    """The notes of a curated run, where some of its notebooks were run again.

    - old: its notes as they are.
    - new: the notes of the run that is curated.
    - notebooks: the names of those that were run; what they left goes, what others left stays.
    """
    notes = {}
    for part in NOTED:
        kept = {}
        for name, found in old[part].items():
            notebook = name if part in ("parameters", "profile") else found.get("notebook")
            if notebook not in notebooks:
                kept[name] = found
        notes[part] = kept | new[part]
    return notes


def curate(folder: Path, target: Path) -> None:
    """Copies a run's notebooks with what they used, in place of what these notebooks left before.

    - folder: the live run.
    - target: the curated run. What its other notebooks left, and its checkpoints, stay.

    Raises UserError, before anything is written, where the run is not whole.
    """
    run, before = RunFolder(folder), RunFolder(target)
    files.remove_leftovers(target)
    left = listed(run.path, "notebooks/*.ipynb")
    for path in left:
        if path.stem.endswith(".failed"):
            raise UserError(
                f"{path} is of a run that did not end: `make study RUN={run.name}` runs it again"
            )
    notebooks = {path.stem: tidy(path) for path in left}
    if not notebooks:
        raise UserError(
            f"{folder} has no executed notebook: `make study RUN={run.name}` makes them"
        )
    for name in notebooks:
        _check_as_it_ran(run, name)
    records = before.records() | kept_records(run)
    notes = merged(before.notes(), run.notes() | {"profile": timed(run)}, set(notebooks))
    used, as_svg = named_records(notes["profile"]), shown_as_svg(target.name)
    exhibits = _exhibits(run.path, as_svg)
    # before the notes are written: what is killed in between finds in them what is still to go
    _remove(target, before.notes(), notes, as_svg)
    files.write_atomic(target / PACKED, pack({n: records[n] for n in records if n in used}))
    text = json.dumps(notes, indent=1, ensure_ascii=False) + "\n"
    files.write_atomic(target / NOTES, text.encode())
    for name, content in notebooks.items():
        files.write_atomic(target / "notebooks" / f"{name}.ipynb", content)
    for path, content in exhibits.items():
        files.write_atomic(target / path, content)


def _check_as_it_ran(run: RunFolder, notebook: str) -> None:
    """Refuse a notebook whose profile is gone, or that was opened otherwise since it ran."""
    notes, path = run.notes(), run.path / "notebooks" / f"{notebook}.ipynb"
    again = f"delete it, and `make study RUN={run.name}` runs it again"
    if not notes["profile"][notebook]["entries"]:
        raise UserError(f"{path} has no profile, which names its records: {again}")
    ran, opened = notes["parameters"].get(notebook), opened_with(run.path, notebook)
    if opened and ran != opened:  # an earlier version opened it without the keys that came later
        opened = completed(opened)
    if ran != opened:
        raise UserError(f"{path} was opened with other parameters since it ran: {again}")
    if ran and ran.get("run", run.name) != run.name:
        raise UserError(f"{path} is of run '{ran['run']}', not '{run.name}': take its own folder")


def _exhibits(folder: Path, as_svg: set[str]) -> dict[Path, bytes]:
    """The files of a live run's tables and figures that are kept, with small pictures."""
    found = listed(folder, "tables/*.csv") + listed(folder, "figures/*.png")
    found += [path for path in listed(folder, "figures/*.svg") if path.stem in as_svg]
    contents = {}
    for path in found:
        content = path.read_bytes()
        contents[path.relative_to(folder)] = small(content) if path.suffix == ".png" else content
    return contents


def _remove(target: Path, before: dict, notes: dict, as_svg: set[str]) -> None:
    """Takes away the tables and figures that no notebook makes now, and SVGs that no page shows."""
    for kind in ("tables", "figures"):
        for name in set(before[kind]) - set(notes[kind]):
            for path in target.glob(f"{kind}/{glob.escape(name)}.*"):
                path.unlink()
    for path in target.glob("figures/*.svg"):
        if path.stem not in as_svg:
            path.unlink()


def shown_as_svg(run: str) -> set[str]:
    """The figures of a curated run that one of PAGES shows as SVG.

    - run: its name.
    """
    pages = [paths.project_root() / page for page in PAGES]
    text = "".join(page.read_text(encoding="utf-8") for page in pages if page.exists())
    return set(re.findall(rf"\b{re.escape(run)}/figures/(\w+)\.svg", text))


def main(arguments: list[str]) -> None:
    """The command line. Without a run it writes FINDINGS.md and the README's tables alone.

    - arguments: names of runs.

    Raises UserError.
    """
    root = paths.project_root()
    reference = root / "outputs" / "reference"
    for run in arguments:
        curate(paths.outputs_root() / run, reference / run)
    files.write_atomic(reference / "FINDINGS.md", findings.text(reference).encode())
    page = findings.readme((root / "README.md").read_text(encoding="utf-8"), reference)
    files.write_atomic(root / "README.md", page.encode())
    print(json.dumps({"curated": arguments, "findings": "outputs/reference/FINDINGS.md"}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m milib.report.curate", description=__doc__)
    parser.add_argument("run", nargs="*", help="a finished run in outputs/")
    try:
        main(parser.parse_args().run)
    except UserError as error:
        sys.exit(f"UserError: {error}")
