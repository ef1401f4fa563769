"""The files of a run: records, tensors and checkpoints, each made once under a lock."""

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeGuard

import torch

from milib.errors import UserError
from milib.files import (
    AGAIN,
    digest,
    read_tensors,
    remove_leftovers,
    write_atomic,
    write_tensors,
)
from milib.study import extension
from milib.study.identity import code_digest
from milib.study.locks import lock
from milib.study.made import commit, provenance

NOT_FINITE = "the result holds NaN or inf: so do the weights or the data behind it"
KEYS = frozenset("name notebook fingerprint checksum seconds identity made result".split())
"""Of a record."""


class Store:
    """The files of one run.

    - folder: where the run writes.
    - reference: the curated run of the same name. Checkpoints are read from it and records never,
      so no number is taken from what was committed.
    - notebook: whose profile is written.
    - device: what is computed on; it stands in the records. Default: the CPU.

    Raises UserError as `commit` does.
    """

    def __init__(
        self, folder: Path, reference: Path, notebook: str, device: torch.device | None = None
    ):
        self.folder, self.reference, self.notebook = Path(folder), Path(reference), notebook
        self.device = device or torch.device("cpu")
        self.events: list[dict] = []
        commit()  # what runs is named, or refused, before the tree can change
        remove_leftovers(self.folder)

    def note(self, kind: str, name: str, seconds: float, cached: bool) -> None:
        """One line of the profile: what took how long, what came from the cache.

        - kind: "record", "tensors" or "checkpoint".
        - name: of the file.
        - seconds: spent on it.
        - cached: whether it was there already.
        """
        event = {"kind": kind, "name": name, "seconds": round(seconds, 2), "cached": cached}
        self.events.append(event)
        path = self.folder / "profile" / f"{self.notebook}.json"
        # what was there already can be read where nothing can be written
        with contextlib.suppress(UserError) if cached else contextlib.nullcontext():
            write_atomic(path, json.dumps(self.events, indent=1).encode())

    def _found(self, path: Path, make: Callable[[], None]) -> bool:
        """Whether a file was there; else one process makes it, and others wait for it."""
        if path.exists():
            return True
        with lock(self.folder / "locks" / path.name):
            if path.exists():
                return True
            make()
        return False

    def record(self, name: str, identity: dict, compute: Callable[[], dict]) -> dict:
        """The result of a computation, from records/<name>-<fingerprint>.json where that exists.

        - name: begins the file's name.
        - identity: what the result depends on besides the code. The fingerprint covers it and the
          meaning of the modules in `identity.COMPUTE`.
        - compute: makes the result, which JSON can write.

        Raises UserError where the file is damaged or holds another record, and where the result
        holds NaN or inf.
        """
        known, fingerprint = _identified(identity)
        path = self.folder / "records" / f"{name}-{fingerprint}.json"
        started = time.perf_counter()

        def make() -> None:
            result = _finite_json(f"record {name}", compute())
            seconds = time.perf_counter() - started
            content = {"name": name, "notebook": self.notebook, "fingerprint": fingerprint}
            content |= {"checksum": digest(result), "seconds": round(seconds, 3)}
            content |= {"identity": known, "made": provenance(self.device)}
            write_atomic(path, json.dumps(content | {"result": result}).encode())

        cached = self._found(path, make)
        content = read_record(path)
        self.note("record", path.name, time.perf_counter() - started, cached)
        return content["result"]

    def tensors(
        self, name: str, identity: dict, compute: Callable[[], dict[str, torch.Tensor]]
    ) -> dict[str, torch.Tensor]:
        """Like `record`, for tensors on the way to a record, such as adversarial examples.

        - name, identity, compute: as in `record`; `compute` gives tensors by name.

        They lie in cache/<name>-<fingerprint>.safetensors. Raises UserError as `record` does.
        """
        known, fingerprint = _identified(identity)
        path = self.folder / "cache" / f"{name}-{fingerprint}.safetensors"
        about, started = {"name": name, "identity": known}, time.perf_counter()

        def make() -> None:
            made = compute()
            if not finite(made):
                raise UserError(f"tensors {name}: {NOT_FINITE}")
            write_tensors(path, made, about)

        cached = self._found(path, make)
        tensors, found = read_tensors(path)
        if found != about:
            raise UserError(f"{path} holds other tensors ({found.get('name')}): {AGAIN}")
        if not finite(tensors):
            raise UserError(f"{path} holds NaN or inf: {AGAIN}")
        self.note("tensors", path.name, time.perf_counter() - started, cached)
        return tensors

    def find_checkpoint(self, name: str, recipe: dict) -> Path | None:
        """Where the weights of a recipe lie: in this run's folder, else in the curated one.

        - name: the model.
        - recipe: see `weights.recipe`.

        None where they do not exist.
        """
        own = self.checkpoint_path(name, recipe)
        for path in (own, self.reference / "checkpoints" / own.name):
            if path.exists():
                return path
        return None

    def checkpoint_path(self, name: str, recipe: dict) -> Path:
        """Where this run writes the weights of a recipe.

        - name: the model.
        - recipe: see `weights.recipe`.
        """
        return self.folder / "checkpoints" / f"{name}-{digest(recipe)}.safetensors"


def finite(tensors: dict[str, torch.Tensor]) -> bool:
    """Whether no tensor holds NaN or inf.

    - tensors: by name.
    """
    return all(bool(value.isfinite().all()) for value in tensors.values())


def _identified(identity: dict) -> tuple[dict, str]:
    """An identity with the code's meaning, as JSON keeps it, and its fingerprint."""
    known = json.loads(json.dumps(identity | {"source": code_digest()}))
    known |= extension.used(known)
    return known, digest(known)


def _finite_json(what: str, value: dict) -> dict:
    """A value as JSON keeps it. Raises UserError where it holds NaN or inf."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except ValueError:
        raise UserError(f"{what}: {NOT_FINITE}") from None


def read_record(path: Path) -> dict:
    """A record's whole content. Raises UserError where the file is damaged or another record.

    - path: the file.
    """
    content = read_json(path)
    if why := fault(path.name, content):
        raise UserError(f"{path} {why}: {AGAIN}")
    return content


def fault(file: str, content: object) -> str:
    """What is wrong with a record, "is damaged" or "holds NaN or inf"; empty where nothing is.

    - file: its file's name, which its content must lead to.
    - content: of the file.
    """
    if not _is_record(content):
        return "is damaged"
    try:
        json.dumps(content, allow_nan=False)
    except ValueError:
        return "holds NaN or inf"
    own = f"{content['name']}-{content['fingerprint']}.json"
    if own != file:
        return f"holds another record, {own}"
    sums = content["checksum"], content["fingerprint"]
    intact = sums == (digest(content["result"]), digest(content["identity"]))
    return "" if intact else "is damaged"


def _is_record(content: object) -> TypeGuard[dict]:
    """Whether content has the form of a record."""
    if not isinstance(content, dict) or not KEYS.issubset(content):
        return False
    words = [content[key] for key in ("name", "notebook", "fingerprint", "checksum")]
    tables = [content[key] for key in ("identity", "made", "result")]
    tabular = all(isinstance(table, dict) for table in tables)
    return tabular and all(isinstance(word, str) for word in words)


def read_json(path: Path, default: dict | list | None = None) -> Any:
    """A JSON file; `default` where there is none.

    - path: the file. It holds an object, or a list where the default is one.
    - default: by default None.

    Raises UserError where it is damaged or no file.
    """
    if not os.path.lexists(path):
        return default
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, list if isinstance(default, list) else dict):
        raise UserError(f"{path} is damaged: {AGAIN}")
    return content


def read_profile(path: Path) -> list[dict]:
    """What `Store.note` wrote; empty where there is no such file.

    - path: the file.

    Raises UserError where it is damaged.
    """
    entries = read_json(path, [])
    if not profiled(entries):
        raise UserError(f"{path} is damaged: {AGAIN}")
    return entries


def profiled(entries: object) -> bool:
    """Whether these are a profile's entries.

    - entries: what a file gave.
    """
    if not isinstance(entries, list):
        return False
    for entry in entries:
        if not isinstance(entry, dict) or entry.keys() != {"kind", "name", "seconds", "cached"}:
            return False
        if not isinstance(entry["name"], str) or not isinstance(entry["seconds"], int | float):
            return False
    return True


def lost_records(folder: Path) -> dict[str, list[str]]:
    """The records that are gone though a notebook read them when it last ran, by notebook.

    - folder: of a run. A notebook without a loss is left out, and what is no notebook (`make app`).

    Raises UserError where a profile is damaged.
    """
    found = {}
    for path in sorted(folder.glob("profile/[!.]*.json")):
        if not (folder / "notebooks" / f"{path.stem}.ipynb").exists():
            continue
        names = {entry["name"] for entry in read_profile(path) if entry["kind"] == "record"}
        gone = [name for name in sorted(names) if not (folder / "records" / name).exists()]
        if gone:
            found[path.stem] = gone
    return found
