"""The files of a run: records, tensors and checkpoints, each made once under a lock, with a profile."""

import contextlib
import fcntl
import functools
import gzip
import json
import platform
import subprocess
import time
import zlib
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
    """One process at a time: who needs the same file waits until it is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@functools.cache
def commit() -> str | None:
    """The commit of the source, short; None where there is no git. Asked once: what is imported does not change."""
    found = ""
    with contextlib.suppress(OSError):  # no git here
        found = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=project_root(),
            capture_output=True,
            text=True,
            check=False,
        ).stdout
    return found.strip() or None


def provenance(device: torch.device) -> dict:
    """What a record notes beside its identity: commit, versions, machine, threads, time, and the claims as they stood then."""
    machine = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else torch.backends.cpu.get_cpu_capability()
    )
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    return {
        "commit": commit(),
        "versions": versions,
        "machine": machine,
        "threads": torch.get_num_threads(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "claims": rules_digest(),
    }


class Store:
    """The files of one run. `reference` is read for checkpoints only, so no number is taken from what was committed."""

    def __init__(
        self,
        folder: Path,
        reference: Path,
        notebook: str,
        device: torch.device = torch.device("cpu"),
    ):
        self.folder, self.reference, self.notebook, self.device = (
            Path(folder),
            Path(reference),
            notebook,
            device,
        )
        self.events: list[dict] = []

    def note(self, kind: str, name: str, seconds: float, cached: bool) -> None:
        """One line of the profile: what took how long, what came from the cache."""
        self.events.append(
            {"kind": kind, "name": name, "seconds": round(seconds, 2), "cached": cached}
        )
        write_atomic(
            self.folder / "profile" / f"{self.notebook}.json",
            json.dumps(self.events, indent=1).encode(),
        )

    def record(self, name: str, identity: dict, compute: Callable[[], dict]) -> dict:
        """The result of `compute`, from records/<name>-<fingerprint>.json where that exists.

        The fingerprint covers `identity` and the meaning of the modules in identity.COMPUTE. Raises UserError on a damaged file.
        """
        identity = json.loads(json.dumps(identity | {"source": code_digest()}))
        fingerprint = digest(identity)
        path = self.folder / "records" / f"{name}-{fingerprint}.json"
        started = time.perf_counter()
        with lock(self.folder / "locks" / path.name):
            cached = path.exists()
            if not cached:
                result = json.loads(json.dumps(compute()))
                seconds = time.perf_counter() - started
                content = {
                    "name": name,
                    "notebook": self.notebook,
                    "fingerprint": fingerprint,
                    "checksum": digest(result),
                }
                content |= {
                    "seconds": round(seconds, 3),
                    "identity": identity,
                    "made": provenance(self.device),
                    "result": result,
                }
                write_atomic(path, json.dumps(content).encode())
        content = read_record(path)
        self.note("record", path.name, time.perf_counter() - started, cached)
        return content["result"]

    def tensors(
        self, name: str, identity: dict, compute: Callable[[], dict[str, torch.Tensor]]
    ) -> dict[str, torch.Tensor]:
        """Like `record`, for tensors that are an intermediate step (adversarial examples): cache/<name>-<fingerprint>.safetensors."""
        path = (
            self.folder
            / "cache"
            / f"{name}-{digest(identity | {'source': code_digest()})}.safetensors"
        )
        started = time.perf_counter()
        with lock(self.folder / "locks" / path.name):
            cached = path.exists()
            if not cached:
                write_tensors(path, compute(), {})
        tensors, _ = read_tensors(path)
        self.note("tensors", path.name, time.perf_counter() - started, cached)
        return tensors

    def find_checkpoint(self, name: str, recipe: dict) -> Path | None:
        """Where the weights of a recipe lie: this run's folder, then the committed reference; None if nowhere."""
        for folder in (self.folder, self.reference):
            path = folder / "checkpoints" / f"{name}-{digest(recipe)}.safetensors"
            if path.exists():
                return path
        return None

    def checkpoint_path(self, name: str, recipe: dict) -> Path:
        """Where this run writes the weights of a recipe."""
        return self.folder / "checkpoints" / f"{name}-{digest(recipe)}.safetensors"


def read_record(path: Path) -> dict:
    """A record's whole content, of a curated one (.json.gz) too. Raises UserError where the file is damaged."""
    try:
        content = json.loads(
            gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        )
        intact = content["checksum"] == digest(content["result"])
    except (ValueError, KeyError, TypeError, EOFError, zlib.error, gzip.BadGzipFile):
        intact = False
    if not intact:
        raise UserError(f"{path} is damaged: delete it and run again")
    return content


def read_json(path: Path, default=None):
    """A JSON file; `default` where there is none. Raises UserError where it is damaged."""
    try:
        return json.loads(path.read_bytes()) if path.exists() else default
    except ValueError:
        raise UserError(f"{path} is damaged: delete it and run its notebook again") from None
