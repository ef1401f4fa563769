"""Records of an audit in a folder, so that an interrupted one goes on, and its progress."""

import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from milib import files
from milib.audit.measure import CHECKS, SETS, Target, accuracy, wrong
from milib.audit.running import Entry
from milib.averaging import Defense
from milib.data import SamplePool
from milib.errors import UserError

VERSION = 2
"""Raised by hand where the same settings would give other records."""
WHAT = "a record of milib.audit"


def fingerprint(target: Target) -> str:
    """16 digits that stand for a defense with its weights and settings, and for the images.

    - target: both.

    Code is not looked into: a defense whose `forward` has changed asks for another folder.
    """
    modules = {"": target.classifier}
    if target.base is not None:
        modules["base"] = target.base
    tensors, settings = {"x": target.x, "label": target.label, "index": target.index}, {}
    for name, module in modules.items():
        tensors |= {f"{name} {key}": value for key, value in module.named_parameters()}
        tensors |= {f"{name} {key}": value for key, value in module.named_buffers()}
        for place, part in module.named_modules():
            where = f"{name} {place}"
            settings[where] = [type(part).__qualname__, _plain(part)]
            for key, value in vars(part).items():
                if isinstance(value, SamplePool):
                    tensors[f"{where} {key}"] = value.data.images
                    tensors[f"{where} {key} labels"] = value.data.labels
                elif isinstance(value, Tensor):
                    tensors[f"{where} {key}"] = value
    about = [VERSION, target.epsilon, settings, files.tensors_digest(tensors)]
    return files.digest(about)


OF_MODULE = frozenset(vars(nn.Module()))
"""What torch itself keeps in every module."""
PASSING = frozenset(("known", "round", "chunk"))
"""What a call changes in a Defense, and what decides no number."""


def _plain(module: nn.Module) -> dict[str, Any]:
    """A module's settings: numbers, words, arrays and collections of them."""
    left_out = OF_MODULE | (PASSING if isinstance(module, Defense) else set())
    found = {}
    for key, value in vars(module).items():
        if key in left_out:
            continue
        if isinstance(value, np.ndarray):
            found[key] = value.tolist()
        elif isinstance(value, bool | int | float | str | tuple | list | dict):
            found[key] = re.sub(r" at 0x[0-9a-f]+", "", repr(value))  # no process's addresses
    fixed = module.fixed if isinstance(module, Defense) else None
    return found | ({} if fixed is None else {"fixed": fixed.key})


class Kept:
    """Keeps each record in a file of its own, and says on stderr how far an audit is.

    - target: the defense and its images.
    - entries: of the battery.
    - folder: of the files; None: records are kept nowhere.

    Raises UserError where the folder has records of another defense, or a damaged one.
    """

    def __init__(self, target: Target, entries: Sequence[Entry], folder: Path | None):
        self.of, self.folder = fingerprint(target), folder
        self.target, self.entries = target, {entry.name: entry for entry in entries}
        self.ahead, self.left = dict(self.entries), {"all": len(target.x), "left": len(target.x)}
        self.begun, self.spent, self.seconds = time.monotonic(), 0.0, 0.0
        self.number = 0
        if folder is not None:
            for path in sorted(folder.glob("*.json")):
                self._read(path)

    def _read(self, path: Path) -> dict:
        """A record's file. Raises UserError."""
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError):
            raise UserError(f"{path} is damaged: {files.AGAIN}") from None
        if not isinstance(found, dict) or found.get("what") != WHAT:
            raise UserError(f"{path} is no record of an audit: give a folder of its own")
        if not {"defense", "identity", "record"} <= set(found):
            raise UserError(f"{path} is damaged: {files.AGAIN}")
        if found["defense"] != self.of:
            raise UserError(
                f"{self.folder} has records of another defense, other images or another epsilon: "
                "give another folder"
            )
        return found

    def __call__(self, name: str, identity: dict, compute: Callable[[], dict]) -> dict:
        self.number += 1
        path = None
        if self.folder is not None:
            slug = "".join(letter if letter.isalnum() else "_" for letter in name)
            path = self.folder / f"{slug}.{files.digest(identity)}.json"
        if path is not None and path.is_file():
            record, seconds = self._read(path)["record"], None
        else:
            start = time.monotonic()
            record = compute()
            seconds = time.monotonic() - start
            if path is not None:
                about = {"what": WHAT, "defense": self.of, "name": name}
                content = about | {"identity": identity, "record": record}
                files.write_atomic(path, json.dumps(content, allow_nan=False).encode())
        self._tell(name, len(identity["rows"]), record, seconds)
        return record

    def _tell(self, name: str, images: int, record: dict, seconds: float | None) -> None:
        """One line on stderr: what an attack left, and about how long the rest takes."""
        entry = self.ahead.pop(name)
        if seconds is not None:
            self.spent += _cost(entry, images, self.target)
            self.seconds += seconds
        standing = len(record["index"]) - len(wrong(record))
        if name == "clean":
            self.left["all"] = standing
        if entry.on == "all" and entry.most is None and entry.epsilon is None:
            self.left["left"] = min(standing, self.left["left"])
        left = f"{100 * accuracy(record).mean():.1f} % right" if images else "no image was left"
        rest = "done"
        if self.ahead and self.spent:
            costs = (_cost(each, self.left[each.on], self.target) for each in self.ahead.values())
            rest = f"about {_time(sum(costs) * self.seconds / self.spent)} left"
        took = "kept" if seconds is None else f"{seconds:.1f} s"
        text = f"{self.number}/{len(self.entries)} {name}: {left} of {images} images, {took}"
        print(f"{text}; {_time(time.monotonic() - self.begun)} so far, {rest}", file=sys.stderr)
        sys.stderr.flush()


def _cost(entry: Entry, images: int, target: Target) -> float:
    """Passes of an attack on some images and of their scores; a forward pass is a third."""
    defense = target.base if entry.of_base else target.classifier
    draws = defense.draws if isinstance(defense, Defense) else 1
    met = min(images, entry.most or images)
    return met * (entry.passes + (SETS + CHECKS) * draws / 3)


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
