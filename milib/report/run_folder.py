"""What a run's folder holds, read in one way whether the run is live or curated.

A live run, outputs/<run>, keeps every file as its notebooks wrote it. A curated run keeps its
records in one packed file, and in run.json its parameters, its profile, and the notes on its tables
and figures.
"""

import contextlib
import csv
import dataclasses
import json
import lzma
import math
from pathlib import Path
from typing import NamedTuple

from milib.errors import UserError
from milib.study import jobs, params
from milib.study.store import fault, lost_records, profiled, read_json, read_profile, read_record

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


def _are_seconds(seconds: object) -> bool:
    number = isinstance(seconds, int | float) and math.isfinite(seconds)
    return seconds is None or number


def _is_about(about: object) -> bool:
    """Whether this is what `views.provenance.about` says of a table or figure."""
    if not isinstance(about, dict):
        return False
    words = [about.get(key, "") for key in ("notebook", "caption", "settings", "models")]
    lists = [about.get(key, []) for key in ("records", "checkpoints")]
    listing = all(isinstance(each, list) for each in lists)
    return listing and all(isinstance(word, str) for word in words)


def _are_notes(notes: object) -> bool:
    """Whether this is what run.json holds."""
    if not isinstance(notes, dict) or not set(NOTED) <= set(notes):
        return False
    if not all(isinstance(notes[part], dict) for part in NOTED):
        return False
    for timing in notes["profile"].values():
        if not isinstance(timing, dict) or timing.keys() != {"seconds", "entries"}:
            return False
        if not _are_seconds(timing["seconds"]) or not profiled(timing["entries"]):
            return False
    abouts = [*notes["tables"].values(), *notes["figures"].values()]
    tabular = all(isinstance(each, dict) for each in notes["parameters"].values())
    return tabular and all(map(_is_about, abouts))


class Log(NamedTuple):
    """A training log: the recipe in its first line, then an entry an epoch."""

    file: str
    recipe: dict
    epochs: list[dict]


def listed(folder: Path, pattern: str) -> list[Path]:
    """The files of a folder by name, without hidden ones: those are an unfinished write's.

    - folder: a run's folder.
    - pattern: as in `Path.glob`.
    """
    return sorted(
        path for path in folder.glob(pattern) if path.is_file() and not path.name.startswith(".")
    )


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
        if not _are_notes(notes):
            raise UserError(f"{self.path / NOTES} is damaged: take it from git")
        for parameters in notes["parameters"].values():
            if parameters.get("run", self.name) != self.name:
                raise UserError(f"{self.path} holds run '{parameters['run']}': take it from git")
        return notes

    def _gathered(self) -> dict[str, dict]:
        executed = [path.stem for path in listed(self.path, "notebooks/*.ipynb")]
        names = {name for name in executed if not name.endswith(".failed")}
        for path in listed(self.path, "profile/*.json"):
            if path.stem in jobs.NOTEBOOKS or path.stem.startswith("train_"):  # not `make app`
                names.add(path.stem)
        names = sorted(names)
        parameters = {name: parameters_of(self.path, name) for name in names}
        return {
            "parameters": {name: found for name, found in parameters.items() if found},
            "profile": {name: self._profiled(name) for name in names},
            "tables": self._abouts("tables"),
            "figures": self._abouts("figures"),
        }

    def _profiled(self, notebook: str) -> dict:
        path = self.path / "profile" / f"{notebook}.seconds"
        try:
            seconds = float(path.read_text(encoding="utf-8")) if path.exists() else None
        except (OSError, ValueError):
            seconds = math.nan
        if not _are_seconds(seconds):
            raise UserError(f"{path} holds no number: delete it")
        entries = read_profile(self.path / "profile" / f"{notebook}.json")
        return {"seconds": seconds, "entries": entries}

    def _abouts(self, kind: str) -> dict[str, dict]:
        found = {}
        for path in listed(self.path, f"{kind}/*.json"):
            found[path.stem] = read_json(path)
            if not _is_about(found[path.stem]):
                raise UserError(f"{path} is damaged: delete it and run its notebook again")
        return found

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

    def lost(self) -> list[str]:
        """The records that notebooks read when they last ran and that are gone, one line each.

        Raises UserError where a profile is damaged.
        """
        if self.curated:
            return []  # complete, or refused when it was curated
        told = []
        for notebook, names in lost_records(self.path).items():
            for name in names:
                again = f"`make study RUN={self.name}` makes it again"
                told.append(f"{self.path / 'records' / name}, of {notebook}, is gone: {again}")
        return told

    def table(self, name: str) -> list[dict[str, str]]:
        """The rows of a table, column -> cell as text; none where there is no such table.

        - name: as in tables/<name>.csv.

        Raises UserError where the file is damaged.
        """
        path = self.path / "tables" / f"{name}.csv"
        if not path.exists():
            return []
        try:
            text = path.read_text(encoding="utf-8")
            columns, *lines = csv.reader(text.splitlines(), strict=True)
            return [dict(zip(columns, cells, strict=True)) for cells in lines]
        except (OSError, ValueError, csv.Error):
            raise UserError(f"{path} is damaged: delete it and run its notebook again") from None

    def tables(self) -> list[str]:
        """The names of the tables, in the order in which the notebooks made them."""
        return self._in_order("tables", ("csv",))

    def figures(self) -> list[str]:
        """The names of the figures, in the order in which the notebooks made them."""
        return self._in_order("figures", ("png", "svg"))

    def _in_order(self, kind: str, endings: tuple[str, ...]) -> list[str]:
        names: set[str] = set()
        for ending in endings:
            names |= {path.stem for path in listed(self.path, f"{kind}/*.{ending}")}

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
        for path in listed(self.path, "checkpoints/*.jsonl"):
            try:
                text = path.read_text(encoding="utf-8")
                recipe, *epochs = map(json.loads, text.splitlines())
                whole = all(isinstance(each, dict) for each in (recipe, *epochs))
                if not whole or not isinstance(recipe.get("name"), str):
                    raise ValueError("no recipe, or no epoch")
            except (OSError, ValueError, RecursionError):
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
            if name in found or fault(name, content):
                raise ValueError(name)
            found[name] = content
    except (
        OSError,
        lzma.LZMAError,
        EOFError,
        RecursionError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
    ):
        where = f" at or after record {name}" if name else ""
        raise UserError(
            f"{path} is damaged{where}: curate the run again, or take it from git"
        ) from None
    return found


def parameters_of(folder: Path, notebook: str) -> dict | None:
    """The parameters that a notebook ran with, every key; None where nothing tells.

    - folder: of a live run.
    - notebook: its name.

    papermill noted what it injected into the executed notebook. Where it injected nothing, or what
    this version does not know, those of the last opening count. Raises UserError where a file is
    damaged.
    """
    content = read_json(folder / "notebooks" / f"{notebook}.ipynb", {})
    metadata = content.get("metadata", {}) if isinstance(content, dict) else {}
    injected = metadata.get("papermill", {}).get("parameters")
    return (injected and completed(injected)) or opened_with(folder, notebook)


def completed(given: dict) -> dict | None:
    """Parameters as JSON has them, every key of this version; None where it does not know one.

    - given: the parameters; keys that are missing have their defaults.
    """
    with contextlib.suppress(UserError):
        return json.loads(json.dumps(dataclasses.asdict(params.build(given))))
    return None


def opened_with(folder: Path, notebook: str) -> dict | None:
    """The parameters of a notebook's last opening, every key; None where there was none.

    - folder: of a live run.
    - notebook: its name.

    Raises UserError where the file is damaged.
    """
    return read_json(folder / "profile" / f"{notebook}.parameters")
