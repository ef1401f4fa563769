"""Keep a finished run as evidence: `python -m milib.report.curate RUN` copies what its notebooks last used to outputs/reference/RUN.

It then writes outputs/reference/FINDINGS.md and the README's overview anew, from the records of all runs that lie there.
"""

import gzip
import json
import sys
from pathlib import Path

import nbformat

from milib import files
from milib.errors import UserError
from milib.report import findings
from milib.study import paths
from milib.study.store import read_json, read_record

PARTS = {"tables": "*", "figures": "*", "profile": "*"}
"""What is kept besides notebooks and records. Checkpoints are shipped by milib.study.train."""


def used_records(folder: Path) -> list[Path]:
    """The records that the notebooks' last runs read. Raises UserError where one is missing or damaged."""
    found = [folder / "records" / name for name in sorted(_named(folder))]
    for path in found:
        if not path.exists():
            raise UserError(f"{path} is missing: run the notebooks of '{folder.name}' again")
        read_record(path)
    return found


def _named(folder: Path) -> set[str]:
    """The records that the profiles of a folder's notebooks name."""
    return {
        entry["name"]
        for path in folder.glob("profile/*.json")
        for entry in read_json(path, [])
        if entry["kind"] == "record"
    }


def tidy(path: Path) -> bytes:
    """An executed notebook without what papermill notes about the machine. Raises UserError where a cell failed or a path stands in it."""
    notebook = nbformat.read(path, 4)
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata = {"tags": cell.metadata.get("tags", [])}
        if any(output.output_type == "error" for output in cell.get("outputs", [])):
            raise UserError(f"{path} stopped with an error: run it again")
    text = nbformat.writes(notebook)
    for place in (str(paths.project_root()), str(Path.home()) + "/"):
        if len(place) > 3 and place in text:
            raise UserError(
                f"{path} shows {place}: a path of this machine does not belong into a curated run"
            )
    return (text + "\n").encode()


def curate(folder: Path, target: Path) -> None:
    """Copy a run's notebooks with their records, tables, figures and profiles to `target`, in place of what these notebooks left there.

    What other notebooks left stays. Records are compressed, to a quarter of their size: `zcat` shows one. Raises UserError.
    """
    notebooks = {path.name: tidy(path) for path in sorted(folder.glob("notebooks/*.ipynb"))}
    if not notebooks:
        raise UserError(
            f"{folder} has no executed notebook: `make study RUN={folder.name}` makes them"
        )
    records = used_records(folder)
    for about in (*target.glob("tables/*.json"), *target.glob("figures/*.json")):
        if f"{read_json(about)['notebook']}.ipynb" in notebooks:
            for path in about.parent.glob(f"{about.stem}.*"):
                path.unlink()
    for name, content in notebooks.items():
        files.write_atomic(target / "notebooks" / name, content)
    for path in (
        path for part, pattern in PARTS.items() for path in sorted(folder.glob(f"{part}/{pattern}"))
    ):
        files.write_atomic(target / path.relative_to(folder), path.read_bytes())
    for path in (folder / "notebooks" / name for name in notebooks):
        if (
            taken := read_json(path)["metadata"].get("papermill", {}).get("duration")
        ):  # started without make: no profile/*.seconds
            files.write_atomic(
                target / "profile" / f"{path.stem}.seconds", f"{taken:.1f}\n".encode()
            )
    for path in records:
        files.write_atomic(
            target / "records" / f"{path.name}.gz", gzip.compress(path.read_bytes(), mtime=0)
        )
    used = _named(target)
    for path in target.glob("records/*"):
        if path.name.removesuffix(".gz") not in used:
            path.unlink()


def main(arguments: list[str]) -> None:
    """The command line. Without a run it writes FINDINGS.md and the README's overview alone. Raises UserError."""
    root = paths.project_root()
    reference = root / "outputs" / "reference"
    for run in arguments:
        curate(paths.outputs_root() / run, reference / run)
    files.write_atomic(reference / "FINDINGS.md", findings.text(reference).encode())
    files.write_atomic(
        root / "README.md", findings.readme((root / "README.md").read_text(), reference).encode()
    )
    print(json.dumps({"curated": arguments, "findings": "outputs/reference/FINDINGS.md"}))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"UserError: {error}")
