"""The file of an unfinished training, which says inside what it is."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from milib import checks, files
from milib.errors import UserError
from milib.files import AGAIN

ENTRY = ("loss", "heldout_clean", "seconds")
"""What every entry of a log holds beside its epoch."""


def location(state: object) -> Path | None:
    """Where an unfinished training is to lie; None where it is not to be kept.

    - state: what was given: the path of a file, as a str or a Path, or None.

    Raises UserError for anything else, and for a folder.
    """
    if state is not None and not isinstance(state, str | Path):
        raise UserError(f"state is {checks.shown(state)}: the path of a file, or None")
    found = None if state is None else Path(state)
    if found is not None and found.is_dir():
        raise UserError(f"state is {found}, a folder: the path of a file in it")
    return found


def write(path: Path, identity: dict, tensors: dict[str, Tensor], position: dict) -> None:
    """Write an unfinished training as one complete file.

    - path: where.
    - identity: what it is a training of, which JSON can write.
    - tensors: its weights and momentum, by name.
    - position: where it stands: epoch, step, seconds, log, total.

    Raises UserError where the file cannot be written.
    """
    files.write_tensors(path, tensors, {"training": identity} | position)


def read(
    path: Path, identity: dict, steps: int, wanted: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict]:
    """What `write` wrote: tensors and position.

    - path: the file.
    - identity: of the training that is to go on. Its recipe has the key `epochs`.
    - steps: of an epoch.
    - wanted: a tensor like each that the file must hold once steps were taken. Before the first
      step there is no momentum.

    Raises UserError where the file is damaged, holds another training, or does not hold together.
    """
    tensors, about = files.read_tensors(path)
    found = about.get("training")
    if not isinstance(found, dict):
        raise UserError(f"{path} does not say which training it is of (an older file): {AGAIN}")
    differing = _differences(found, identity)
    if differing:
        raise UserError(f"{path} is of another training: {'; '.join(differing)}; {AGAIN}")
    fault = _position_fault(about, identity["recipe"]["epochs"], steps)
    if fault is None:
        fresh = about["epoch"] == about["step"] == 0
        fault = _tensor_fault(tensors, wanted, fresh)
    if fault is not None:
        raise UserError(f"{path} holds no state of this training: {fault}; {AGAIN}")
    return tensors, about


def _differences(found: dict, wanted: dict) -> list[str]:
    """What two identities differ in, each as "lr 0.1 there, 0.2 here"."""
    lines = []
    for key in sorted(found.keys() | wanted.keys()):
        there, here = found.get(key), wanted.get(key)
        if isinstance(there, dict) and isinstance(here, dict):
            lines += _differences(there, here)
        elif there != here:
            lines.append(f"{key} {checks.shown(there)} there, {checks.shown(here)} here")
    return lines


def _position_fault(about: dict, epochs: int, steps: int) -> str | None:
    """What is wrong with where a training stands; None where nothing is."""
    bounds = {"epoch": (0, epochs - 1), "step": (0, steps)}
    try:
        for key, (low, high) in bounds.items():
            checks.count(key, about.get(key), low, high)
        for key in ("seconds", "total"):
            checks.number(key, about.get(key), 0, 1e300)
        _check_log(about.get("log"), about["epoch"])
    except UserError as error:
        return str(error)
    return None


def _check_log(log: object, epochs: int) -> None:
    """Raise UserError where a log is not that of so many epochs."""
    entries = [entry for entry in log if isinstance(entry, dict)] if isinstance(log, list) else []
    if log != entries or [entry.get("epoch") for entry in entries] != list(range(1, epochs + 1)):
        raise UserError(f"its log is not that of {epochs} epochs")
    for entry in entries:
        for key in ENTRY:
            checks.number(f"{key} of epoch {entry['epoch']}", entry.get(key), 0, 1e300)


def _tensor_fault(
    tensors: dict[str, Tensor], wanted: Mapping[str, Tensor], fresh: bool
) -> str | None:
    """What is wrong with weights and momentum; None where nothing is."""
    names = [name for name in wanted if not (fresh and name.startswith("momentum."))]
    for name in names:
        if name not in tensors:
            return f"{name} is missing"
        there, here = tensors[name], wanted[name]
        if there.shape != here.shape or there.dtype != here.dtype:
            return f"{name} is {checks.shown(there)}, not {checks.shown(here)}"
        if not bool(torch.isfinite(there).all()):
            return f"{name} is not finite"
    extra = sorted(set(tensors) - set(names))
    return f"{extra[0]} does not belong to it" if extra else None
