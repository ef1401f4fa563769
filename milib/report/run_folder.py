"""What a run's folder holds, read in one way whether the run is live or curated.

A live run, outputs/<run>, keeps every file as its notebooks wrote it. A curated run keeps its
records in one packed file, and in run.json its parameters, its profile, and the notes on its tables
and figures.
"""

import csv
import json
import lzma
from pathlib import Path
from typing import NamedTuple

from milib.errors import UserError
from milib.study.notebook import INJECTED, MARK, assignments
from milib.study.store import intact, read_json, read_record

PACKED = "records.jsonl.xz"
"""The records of a curated run: one line of JSON each, by file name. `xzcat` shows them."""
NOTES = "run.json"
"""The parameters and the profile of a curated run, and the notes on each table and figure."""
NOTED = ("parameters", "profile", "tables", "figures")
"""The parts of run.json."""


class Timing(NamedTuple):
    """What running a notebook took: its wall seconds (None: not run this time) and its entries."""

    seconds: float | None
    entries: list[dict]


class Log(NamedTuple):
    """A training log: the recipe in its first line, then an entry an epoch."""

    file: str
    recipe: dict
    epochs: list[dict]


class RunFolder:
    """A run that is read, live or curated, and never written.

    - path: the run's folder; what it lacks counts as empty.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self.name = self.path.name
        self.curated = (self.path / NOTES).exists()
        self._notes: dict[str, dict] | None = None
        self._records: dict[str, dict] | None = None

    def notes(self) -> dict[str, dict]:
        """What run.json of a curated run holds; of a live run the same, gathered from its files.

        - `parameters`: notebook -> its parameters.
        - `profile`: notebook -> {"seconds", "entries"}.
        - `tables`, `figures`: name -> what made it (views.provenance.about).

        Raises UserError where a file is damaged.
        """
        if self._notes is None:
            self._notes = self._curated_notes() if self.curated else self._gathered()
        return self._notes

    def _curated_notes(self) -> dict[str, dict]:
        notes = read_json(self.path / NOTES)
        if not isinstance(notes, dict) or not set(NOTED) <= set(notes):
            raise UserError(f"{self.path / NOTES} is damaged: take it from git")
        return notes

    def _gathered(self) -> dict[str, dict]:
        notebooks = {path.stem for path in self.path.glob("notebooks/*.ipynb")}
        profiled = {path.stem for path in self.path.glob("profile/*.json")}
        names = sorted(name for name in notebooks | profiled if not name.endswith(".failed"))
        parameters = {
            name: parameters_of(self.path / "notebooks" / f"{name}.ipynb") for name in names
        }
        return {
            "parameters": {name: found for name, found in parameters.items() if found},
            "profile": {name: self._profiled(name) for name in names},
            "tables": self._abouts("tables"),
            "figures": self._abouts("figures"),
        }

    def _profiled(self, notebook: str) -> dict:
        path = self.path / "profile" / f"{notebook}.seconds"
        try:
            seconds = float(path.read_text()) if path.exists() else None
        except ValueError:
            raise UserError(f"{path} holds no number: delete it") from None
        entries = read_json(self.path / "profile" / f"{notebook}.json", [])
        return {"seconds": seconds, "entries": entries}

    def _abouts(self, kind: str) -> dict[str, dict]:
        paths = sorted(self.path.glob(f"{kind}/[!.]*.json"))
        return {path.stem: read_json(path) or {} for path in paths}

    def records(self) -> dict[str, dict]:
        """Every record by its file name (`score-<fingerprint>.json`), each checked.

        Raises UserError where one is damaged.
        """
        if self._records is None:
            if self.curated:
                self._records = unpack(self.path / PACKED)
            else:
                paths = sorted(self.path.glob("records/[!.]*.json"))
                self._records = {path.name: read_record(path) for path in paths}
        return self._records

    def table(self, name: str) -> list[dict[str, str]]:
        """The rows of a table, column -> cell as text; none where there is no such table.

        - name: as in tables/<name>.csv.
        """
        path = self.path / "tables" / f"{name}.csv"
        return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []

    def tables(self) -> list[str]:
        """The names of the tables, in the order in which the notebooks made them."""
        return self._in_order("tables", ("csv",))

    def figures(self) -> list[str]:
        """The names of the figures, in the order in which the notebooks made them."""
        return self._in_order("figures", ("png", "svg"))

    def _in_order(self, kind: str, endings: tuple[str, ...]) -> list[str]:
        names: set[str] = set()
        for ending in endings:
            names |= {path.stem for path in self.path.glob(f"{kind}/[!.]*.{ending}")}

        def place(name: str) -> tuple[str, int, str]:
            """A notebook reads more and more records, so their number tells what came first."""
            about = self.about(kind, name)
            return about.get("notebook", ""), len(about.get("records", [])), name

        return sorted(names, key=place)

    def about(self, kind: str, name: str) -> dict:
        """What made a table or figure: notebook, caption, settings, models, commit, files read.

        - kind: "tables" or "figures".
        - name: of the table or figure. One that nothing is known of gives an empty dict.
        """
        return self.notes()[kind].get(name, {})

    def profile(self) -> dict[str, Timing]:
        """What each notebook took when it last ran, by the notebook's name."""
        return {name: Timing(**found) for name, found in self.notes()["profile"].items()}

    def parameters(self, notebook: str) -> dict | None:
        """The parameters that a notebook ran with, injected ones included; None where none tells.

        - notebook: its name.
        """
        return self.notes()["parameters"].get(notebook)

    def logs(self) -> list[Log]:
        """The training logs, by file name. Raises UserError where one is damaged."""
        found = []
        for path in sorted(self.path.glob("checkpoints/*.jsonl")):
            try:
                recipe, *epochs = map(json.loads, path.read_text().splitlines())
                if not isinstance(recipe, dict):
                    raise ValueError("no recipe")
            except ValueError:
                raise UserError(f"{path} is damaged: delete it") from None
            found.append(Log(path.name, recipe, epochs))
        return found


def pack(records: dict[str, dict]) -> bytes:
    """Records as one compressed file; the same records give the same bytes.

    - records: file name -> content, as `RunFolder.records` returns them.
    """
    lines = [json.dumps({"file": name} | records[name]) + "\n" for name in sorted(records)]
    return lzma.compress("".join(lines).encode(), preset=9)


def unpack(path: Path) -> dict[str, dict]:
    """What `pack` wrote, each record checked; empty where there is no such file.

    - path: the packed file.

    Raises UserError where it, or a record in it, is damaged.
    """
    found, name = {}, ""
    try:
        lines = lzma.decompress(path.read_bytes()).splitlines() if path.exists() else []
        for line in lines:
            content = json.loads(line)
            name = content.pop("file")
            if not intact(content):
                raise ValueError(name)
            found[name] = content
    except (lzma.LZMAError, ValueError, KeyError, TypeError, AttributeError):
        where = f" at or after record {name}" if name else ""
        raise UserError(
            f"{path} is damaged{where}: curate the run again, or take it from git"
        ) from None
    return found


def parameters_of(notebook: Path) -> dict | None:
    """The parameters of an executed notebook: its parameters cell, then what papermill injected.

    - notebook: its path; None is returned where it does not exist or has no parameters cell.

    Raises UserError where the file is damaged.
    """
    found: dict = {}
    for cell in (read_json(notebook) or {}).get("cells", []):
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and source.startswith((MARK, INJECTED)):
            found |= assignments(source)
    return found or None
