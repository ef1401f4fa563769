"""The files of a run: records, tensors and checkpoints, each made once under a lock."""

import contextlib
import fcntl
import functools
import json
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from milib.errors import UserError
from milib.files import digest, read_tensors, write_atomic, write_tensors
from milib.study.identity import code_digest
from milib.study.paths import project_root
from milib.study.rules import rules_digest


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """One process at a time: who needs the same file waits until it is there.

    - path: the file; the lock lies beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@functools.cache
def commit() -> str | None:
    """The short commit of the source; None where there is no git."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    found = ""
    with contextlib.suppress(OSError):  # no git here
        done = subprocess.run(
            command, cwd=project_root(), capture_output=True, text=True, check=False
        )
        found = done.stdout
    return found.strip() or None


def provenance(device: torch.device) -> dict:
    """What a record notes beside its identity: commit, versions, machine, threads, time, rules.

    - device: what it is computed on.
    """
    machine = torch.backends.cpu.get_cpu_capability()
    if device.type == "cuda":
        machine = torch.cuda.get_device_name(device)
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return {
        "commit": commit(),
        "versions": versions | {"numpy": np.__version__},
        "machine": machine,
        "threads": torch.get_num_threads(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "claims": rules_digest(),
    }


class Store:
    """The files of one run.

    - folder: where the run writes.
    - reference: the curated run of the same name. Checkpoints are read from it and records never,
      so no number is taken from what was committed.
    - notebook: whose profile is written.
    - device: what is computed on; it stands in the records. Default: the CPU.
    """

    def __init__(
        self, folder: Path, reference: Path, notebook: str, device: torch.device | None = None
    ):
        self.folder, self.reference, self.notebook = Path(folder), Path(reference), notebook
        self.device = device or torch.device("cpu")
        self.events: list[dict] = []

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
        write_atomic(path, json.dumps(self.events, indent=1).encode())

    def record(self, name: str, identity: dict, compute: Callable[[], dict]) -> dict:
        """The result of a computation, from records/<name>-<fingerprint>.json where that exists.

        - name: begins the file's name.
        - identity: what the result depends on besides the code. The fingerprint covers it and the
          meaning of the modules in `identity.COMPUTE`.
        - compute: makes the result, which JSON can write.

        Raises UserError where the file is damaged.
        """
        known = json.loads(json.dumps(identity | {"source": code_digest()}))
        fingerprint = digest(known)
        path = self.folder / "records" / f"{name}-{fingerprint}.json"
        started = time.perf_counter()
        with lock(self.folder / "locks" / path.name):
            cached = path.exists()
            if not cached:
                result = json.loads(json.dumps(compute()))
                seconds = time.perf_counter() - started
                content = {"name": name, "notebook": self.notebook, "fingerprint": fingerprint}
                content |= {"checksum": digest(result), "seconds": round(seconds, 3)}
                content |= {"identity": known, "made": provenance(self.device)}
                write_atomic(path, json.dumps(content | {"result": result}).encode())
        content = read_record(path)
        self.note("record", path.name, time.perf_counter() - started, cached)
        return content["result"]

    def tensors(
        self, name: str, identity: dict, compute: Callable[[], dict[str, torch.Tensor]]
    ) -> dict[str, torch.Tensor]:
        """Like `record`, for tensors on the way to a record, such as adversarial examples.

        - name, identity, compute: as in `record`; `compute` gives tensors by name.

        They lie in cache/<name>-<fingerprint>.safetensors.
        """
        fingerprint = digest(identity | {"source": code_digest()})
        path = self.folder / "cache" / f"{name}-{fingerprint}.safetensors"
        started = time.perf_counter()
        with lock(self.folder / "locks" / path.name):
            cached = path.exists()
            if not cached:
                write_tensors(path, compute(), {})
        tensors, _ = read_tensors(path)
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


def read_record(path: Path) -> dict:
    """A record's whole content. Raises UserError where the file is damaged.

    - path: the file.
    """
    with contextlib.suppress(ValueError):
        content = json.loads(path.read_bytes())
        if intact(content):
            return content
    raise UserError(f"{path} is damaged: delete it and run again")


def intact(content: object) -> bool:
    """Whether a record's result is the one that was written.

    - content: of a record's file.
    """
    if not isinstance(content, dict) or not {"result", "checksum"} <= content.keys():
        return False
    return content["checksum"] == digest(content["result"])


def read_json(path: Path, default=None):
    """A JSON file; `default` where there is none. Raises UserError where it is damaged.

    - path: the file.
    - default: by default None.
    """
    try:
        return json.loads(path.read_bytes()) if path.exists() else default
    except ValueError:
        message = f"{path} is damaged: delete it and run its notebook again"
        raise UserError(message) from None
