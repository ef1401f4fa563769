"""Files that are complete or absent, checked when read: bytes, tensors, large files in parts."""

import hashlib
import json
import os
from pathlib import Path

import safetensors.torch
import torch

from milib.errors import UserError


def digest(value) -> str:
    """A 16-digit fingerprint of a value.

    - value: anything that JSON can write; what it cannot is written by `str`.
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
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict) -> None:
    """Write a safetensors file, complete or absent, with a checksum over its content.

    - path: where.
    - tensors: by name, on any device.
    - metadata: anything that JSON can write.
    """
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    text = json.dumps(metadata)
    header = {"checksum": digest([tensors_digest(plain), text]), "metadata": text}
    write_atomic(path, safetensors.torch.save(plain, header))


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """Tensors, on the CPU, and metadata that `write_tensors` wrote.

    - path: the file.

    Raises UserError where the file is damaged.
    """
    tensors, metadata = {}, {}
    try:
        with safetensors.safe_open(path, "pt") as file:
            header = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = json.loads(header["metadata"])
        intact = header["checksum"] == digest([tensors_digest(tensors), header["metadata"]])
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError):
        intact = False
    if not intact:
        raise UserError(f"{path} is damaged: delete it and run again")
    return tensors, metadata


PART = 15 * 2**20
"""Bytes of a part of a large file, for places that take no larger ones."""


def write_parts(path: Path, content: bytes) -> None:
    """Write path.0, path.1, ... of at most PART bytes each; older parts are removed.

    - path: their common name.
    - content: the bytes; empty content leaves no part.
    """
    before = set(path.parent.glob(f"{path.name}.*"))
    written = {
        path.with_name(f"{path.name}.{number}"): start
        for number, start in enumerate(range(0, len(content), PART))
    }
    for part, start in written.items():
        write_atomic(part, content[start : start + PART])
    for old in before - set(written):
        old.unlink()


def read_parts(path: Path) -> bytes:
    """What `write_parts` wrote; empty where there is nothing.

    - path: the parts' common name.
    """
    parts = sorted(path.parent.glob(f"{path.name}.*"), key=lambda part: int(part.suffix[1:]))
    return b"".join(part.read_bytes() for part in parts)
