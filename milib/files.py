"""Files that are complete or absent, checked when read: bytes, tensors, large files in parts."""

import contextlib
import functools
import glob
import hashlib
import json
import os
import platform
import re
import secrets
import time
from pathlib import Path

import safetensors.torch
import torch

from milib.errors import UserError

AGAIN = "delete it and run again"
"""What to do about a file of ours that cannot be used."""


def digest(value) -> str:
    """A 16-digit fingerprint of a value.

    - value: anything that JSON can write; what it cannot is written by `str`. The text is ASCII,
      so no locale has a say in it.
    """
    text = json.dumps(value, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def tensors_digest(tensors: dict[str, torch.Tensor]) -> str:
    """A 16-digit fingerprint of named tensors: names, shapes, types and bytes.

    - tensors: by name, on any device.
    """
    total = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        total.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:16]


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file complete or not at all: temporary name, fsync, rename.

    - path: where; its folder is made where it is missing.
    - content: the bytes.

    The temporary name is .NAME.PLACE.PROCESS.UNIQUE.tmp: two writers, on whatever host, never share
    one. Raises UserError where the file cannot be written: no room, a read-only folder, a folder of
    that name.
    """
    owner = f"{_place()}.{os.getpid()}.{secrets.token_hex(8)}"
    temporary = path.with_name(f".{path.name}.{owner}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)  # it is there only where something failed
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({len(content)} bytes): {_why(error)}; "
            "make room there, or choose a folder that can be written"
        ) from None


@functools.cache
def _place() -> str:
    """Where this process's number means something: this boot of this host, and this container."""
    about = [platform.node()]
    for source in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        with contextlib.suppress(OSError):
            link = os.path.islink(source)
            about.append(os.readlink(source) if link else Path(source).read_text())
    return digest(about)


DAY = 86400
"""Seconds after which a temporary file of another host is left over: no write takes so long."""
TEMPORARY = re.compile(r"\..+\.([0-9a-f]{16})\.(\d+)\.[0-9a-f]{16}\.tmp")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of `write_atomic` whose process was killed, in all its folders.

    - folder: there or not.

    A process of another host cannot be asked: its files go once they are a day old.
    """
    for path in folder.rglob(".*.tmp"):
        found = TEMPORARY.fullmatch(path.name)
        with contextlib.suppress(OSError):  # it is gone, or it cannot be removed
            if found and (_is_dead(*found.groups()) or time.time() - path.stat().st_mtime > DAY):
                path.unlink()


def _is_dead(place: str, process: str) -> bool:
    """Whether a process of this host is known to have ended."""
    if place != _place():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # another user's: it lives; no process has such a number
        pass
    return False


def _why(error: OSError) -> str:
    """The system's own words, without the path."""
    return error.strerror or " ".join(str(error).split())


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict) -> None:
    """Write a safetensors file, complete or absent, with a checksum over its content.

    - path: where.
    - tensors: by name, on any device.
    - metadata: anything that JSON can write, without NaN and inf.

    Raises UserError where the metadata are none of these, and as `write_atomic` does.
    """
    plain: dict[str, torch.Tensor] = {}
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise UserError(f"{path}: tensors hold {name!r}: {type(value).__name__}: tensors alone")
        # a copy: the format refuses two tensors that share memory
        plain[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    try:
        text = json.dumps(metadata, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{path}: metadata cannot be written as JSON: {why}") from None
    header = {"checksum": digest([tensors_digest(plain), text]), "metadata": text}
    write_atomic(path, safetensors.torch.save(plain, header))


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """Tensors, on the CPU, and metadata that `write_tensors` wrote.

    - path: the file.

    Raises UserError where there is no such file, or it is damaged.
    """
    tensors, metadata = {}, None
    try:
        _refuse_no_file(path)
        with safetensors.safe_open(path, "pt") as file:
            header = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header["checksum"] == digest([tensors_digest(tensors), header["metadata"]]):
            metadata = json.loads(header["metadata"])
    except OSError as error:
        raise UserError(f"{path} cannot be read: {_why(error)}") from None
    except UserError:
        raise
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise UserError(f"{path} is damaged: {AGAIN}")
    return tensors, metadata


def _refuse_no_file(path: Path) -> None:
    """Before it is opened: what is no file may block for ever, or end in another error."""
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise UserError(f"{path} {what}: give the path of a file")


PART = 15 * 2**20
"""Bytes of a part of a large file, for places that take no larger ones."""


def _parts(path: Path) -> dict[int, Path]:
    """The parts that are there, by their number, in its order."""
    found = {}
    for part in path.parent.glob(f"{glob.escape(path.name)}.*"):
        number = part.suffix[1:]
        if number.isdecimal() and part.name == f"{path.name}.{int(number)}":
            found[int(number)] = part
    return dict(sorted(found.items()))


def write_parts(path: Path, content: bytes) -> None:
    """Write path.0, path.1, ... of at most PART bytes each; older parts are removed.

    - path: their common name.
    - content: the bytes; empty content leaves no part.

    All are written before the first takes an older one's place. Raises UserError as `write_atomic`
    does.
    """
    before, written = _parts(path), []
    for start in range(0, len(content), PART):
        part = path.with_name(f"{path.name}.{len(written)}")
        written.append((part.with_name(f"{part.name}.new"), part))
        write_atomic(written[-1][0], content[start : start + PART])
    for new, part in written:
        os.replace(new, part)
    for number, old in before.items():
        if number >= len(written):
            old.unlink()


def read_parts(path: Path) -> bytes:
    """What `write_parts` wrote; empty where there is nothing.

    - path: the parts' common name.

    Raises UserError where a part before another one is missing or cannot be read.
    """
    parts = _parts(path)
    for number in range(len(parts)):
        if number not in parts:
            last = parts[max(parts)].name
            raise UserError(
                f"{path}.{number} is missing, though {last} is there: "
                f"copy all parts again, or delete {path.name}.*"
            )
    try:
        return b"".join(part.read_bytes() for part in parts.values())
    except OSError as error:
        raise UserError(f"{path}.* cannot be read: {_why(error)}") from None
