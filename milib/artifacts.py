"""Atomic, checksummed, content-addressed files: records, tensors and checkpoints, with locks and a profile."""

import contextlib
import fcntl
import functools
import gzip
import hashlib
import json
import os
import platform
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from milib.errors import StudyError
from milib.params import digest, project_root

COMPUTE = ("rng", "data", "models", "attacks", "defenses", "machine", "theory", "study", "experiments")
"""Modules whose source is part of a record's identity: what they say decides its numbers."""


SOURCES = {path.stem: path.read_text() for path in Path(__file__).parent.glob("*.py")}
"""The modules as this process has them, whatever is edited while it lives."""


def tensors_digest(tensors: dict[str, torch.Tensor]) -> str:
    """A fingerprint of named tensors: names, shapes and bytes."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        total.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:16]


def source_digest(modules: tuple[str, ...] | None = None) -> str:
    """A fingerprint of the source of modules of milib, by default those in COMPUTE."""
    return digest([SOURCES[name] for name in modules or COMPUTE])


def write_atomic(path: Path, content: bytes) -> None:
    """`path` with `content`, complete or not at all: temporary name, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


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
        found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=project_root(), capture_output=True, text=True, check=False).stdout
    return found.strip() or None


def provenance(device: torch.device) -> dict:
    """What a record notes beside its identity: commit, versions, machine, threads, time, and the claims as they stood then."""
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    return {
        "commit": commit(),
        "versions": versions,
        "machine": machine,
        "threads": torch.get_num_threads(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "claims": digest((project_root() / "params" / "claims.yaml").read_text()),
    }


class Store:
    """The files of one run. `reference` is read for checkpoints only, so no number is taken from what was committed."""

    def __init__(self, folder: Path, reference: Path, notebook: str, device: torch.device = torch.device("cpu")):  # noqa: B008
        self.folder, self.reference, self.notebook, self.device = Path(folder), Path(reference), notebook, device
        self.events: list[dict] = []

    def note(self, kind: str, name: str, seconds: float, cached: bool) -> None:
        """One line of the profile: what took how long, what came from the cache."""
        self.events.append({"kind": kind, "name": name, "seconds": round(seconds, 2), "cached": cached})
        write_atomic(self.folder / "profile" / f"{self.notebook}.json", json.dumps(self.events, indent=1).encode())

    def record(self, name: str, identity: dict, compute: Callable[[], dict]) -> dict:
        """The result of `compute`, from records/<name>-<fingerprint>.json where that exists.

        The fingerprint covers `identity` and the source of the modules in COMPUTE. Raises StudyError on a damaged file.
        """
        identity = json.loads(json.dumps(identity | {"source": source_digest()}))
        fingerprint = digest(identity)
        path = self.folder / "records" / f"{name}-{fingerprint}.json"
        started = time.perf_counter()
        with lock(self.folder / "locks" / path.name):
            cached = path.exists()
            if not cached:
                result = json.loads(json.dumps(compute()))
                seconds = time.perf_counter() - started
                content = {"name": name, "notebook": self.notebook, "fingerprint": fingerprint, "checksum": digest(result)}
                content |= {"seconds": round(seconds, 3), "identity": identity, "made": provenance(self.device), "result": result}
                write_atomic(path, json.dumps(content).encode())
        content = read_record(path)
        self.note("record", path.name, time.perf_counter() - started, cached)
        return content["result"]

    def tensors(self, name: str, identity: dict, compute: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Like `record`, for tensors that are an intermediate step (adversarial examples): cache/<name>-<fingerprint>.safetensors."""
        path = self.folder / "cache" / f"{name}-{digest(identity | {'source': source_digest()})}.safetensors"
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


PART = 15 * 2**20
"""Bytes of a part of a large file, for places that take no larger ones."""


def write_parts(path: Path, content: bytes) -> None:
    """`content` as path.0, path.1, ... of at most PART bytes each; empty content leaves none."""
    before = set(path.parent.glob(f"{path.name}.*"))
    written = {path.with_name(f"{path.name}.{number}"): start for number, start in enumerate(range(0, len(content), PART))}
    for part, start in written.items():
        write_atomic(part, content[start : start + PART])
    for old in before - set(written):
        old.unlink()


def read_parts(path: Path) -> bytes:
    """What `write_parts` wrote; empty where there is nothing."""
    parts = sorted(path.parent.glob(f"{path.name}.*"), key=lambda part: int(part.suffix[1:]))
    return b"".join(part.read_bytes() for part in parts)


def read_record(path: Path) -> dict:
    """A record's whole content, of a curated one (.json.gz) too. Raises StudyError where the file is damaged."""
    try:
        content = json.loads(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
        intact = content["checksum"] == digest(content["result"])
    except (ValueError, KeyError, TypeError, EOFError, zlib.error, gzip.BadGzipFile):
        intact = False
    if not intact:
        raise StudyError(f"{path} is damaged: delete it and run again")
    return content


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict) -> None:
    """A safetensors file, complete or absent, with JSON metadata and a checksum over both."""
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    text = json.dumps(metadata)
    header = {"checksum": digest([tensors_digest(plain), text]), "metadata": text}
    write_atomic(path, safetensors.torch.save(plain, header))


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """Tensors and metadata of `write_tensors`. Raises StudyError where the file is damaged."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            header = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = json.loads(header["metadata"])
        intact = header["checksum"] == digest([tensors_digest(tensors), header["metadata"]])
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError):
        intact = False
    if not intact:
        raise StudyError(f"{path} is damaged: delete it and run again")
    return tensors, metadata
