"""A battery is run: each attack meets its images, and what it leaves is a record."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from milib import attacks, files
from milib.audit import libraries
from milib.audit.measure import SETS, Make, Target, accuracy, scored, wrong
from milib.averaging import Defense
from milib.rng import Draws
from milib.sampling import log_mean

Keep = Callable[[str, dict, Callable[[], dict]], dict]
"""Of a record's name, identity and how it is made: the record, made now or kept from before."""
HELD = 10
"""Draws of a frozen Defense at most: every step of an attack on it takes all of them."""
FROZEN = "frozen, on fresh draws"
"""The record of the frozen defense's examples on the defense itself."""


@dataclass(frozen=True)
class Entry:
    """An attack of the battery.

    - name: of its record; "base: ..." where it attacks the undefended model.
    - make: examples of a target's images.
    - passes: of an image, forward and backward of one draw; a forward pass counts a third.
    - epsilon: radius as a share of the target's; by default that radius. With another one it has
      no part in the worst case.
    - on: "all" images that some set of draws finds right without an attack, or those "left" by all
      entries before: what they broke is not tried again.
    - most: images at most; by default all of `on`.
    - settings: what the examples depend on besides.
    - note: what was cut, or what is special; by default nothing.
    - lines: of the checklist that it serves.
    """

    name: str
    make: Make
    passes: int
    epsilon: float | None = None
    on: str = "all"
    most: int | None = None
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    note: str = ""
    lines: tuple[int, ...] = ()

    @property
    def of_base(self) -> bool:
        """Whether the undefended model is attacked."""
        return self.name.startswith("base: ")


def randomized(target: Target) -> bool:
    """Whether two sets of draws give another prediction, in any bit.

    - target: the classifier and its images.

    Asked of the clean images and of corners of their eps-balls: MI-Combined draws for some alone.
    """
    start = attacks.random_start(
        Draws(target.seed, "seen"), target.index, target.index * 0, target.x.shape[1:], 1.0
    )
    moved = (target.x + target.epsilon * start.sign().to(target.x)).clamp(0, 1)
    for images in (target.x, moved):
        found = dataclasses.replace(target, x=images)
        if not torch.equal(seen(found, 0), seen(found, 1)):
            return True
    return False


def repeats(target: Target) -> bool:
    """Whether the same draws give clean images the same prediction again.

    - target: the classifier and its images.

    It does not where a module has a generator of its own.
    """
    return torch.equal(seen(target, 0), seen(target, 0))


def seen(target: Target, number: int) -> Tensor:
    """log F of the clean images [B, L], by draws that neither attack nor score.

    - target: the classifier and its images.
    - number: of the set of draws.
    """
    return log_mean(target.classifier, target.x, target.index, Draws(target.seed, "seen", number))


def weights(module: nn.Module) -> str:
    """A fingerprint of a module's weights and buffers.

    - module: any.
    """
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    return files.tensors_digest(tensors)


def frozen(target: Target) -> Target:
    """The target with one set of draws, for every image and every query.

    - target: a randomized classifier.
    """
    draws = Draws(target.seed, "audit", "frozen")
    held = libraries.Drawn(target.classifier, draws, held=True)
    if isinstance(target.classifier, Defense):
        few = target.classifier.resized(min(HELD, target.classifier.draws), target.classifier.chunk)
        held = few.frozen(draws)
    return dataclasses.replace(target, classifier=held)


def counts(entry: Entry) -> bool:
    """Whether what an entry leaves has a part in the worst case.

    - entry: of the battery.
    """
    return entry.epsilon is None and entry.name != "frozen"


def run(target: Target, entries: list[Entry], keep: Keep) -> dict[str, dict]:
    """What each attack leaves, by its name: records of `measure.scored`.

    - target: the classifier and its images.
    - entries: of `battery`, "clean" first.
    - keep: stores a record.

    A record has "passes" of an image, "counts" (in the classifier's worst case or not), "on" and
    "note", its radius "epsilon" and, where an attack saw a part of the images, their places "rows".
    Images that are wrong without an attack, for every set of draws that scores, are not attacked:
    they stay clean. "frozen" gives a second record, FROZEN.
    """
    records: dict[str, dict] = {}
    base = target.base
    bare = target if base is None else dataclasses.replace(target, classifier=base, base=None)
    for entry in entries:
        of, mark = (bare, "base: ") if entry.of_base else (target, "")
        clean = records.get(f"{mark}clean")
        rows = _rows(entry, clean, [records[name] for name in _before(entry, entries, records)])
        radius = target.epsilon * (entry.epsilon or 1)
        identity = {
            "settings": entry.settings,
            "epsilon": radius,
            "rows": list(range(len(target.x))) if rows is None else rows,
            "seed": target.seed,
            "sets": SETS,
            "passes": entry.passes,
        }
        kept = keep(entry.name, identity, _computing(of, entry, identity["rows"], radius))
        fresh = kept.get("fresh")
        found = {key: value for key, value in kept.items() if key != "fresh"}
        counted = counts(entry) and not entry.of_base
        about = {"passes": entry.passes, "counts": counted, "on": entry.on, "note": entry.note}
        about["epsilon"] = radius
        records[entry.name] = _completed(found, rows, clean, entry) | about
        if fresh is not None:
            about |= {"passes": 0, "counts": True, "note": "the examples of the line before"}
            records[FROZEN] = _completed(fresh, rows, clean, entry) | about
    return records


def _before(entry: Entry, entries: list[Entry], records: dict[str, dict]) -> list[str]:
    """Records of the same classifier that have a part in its worst case."""
    names = [each.name for each in entries if counts(each) and each.of_base == entry.of_base]
    if not entry.of_base:
        names.append(FROZEN)
    return [name for name in names if name in records]


def _rows(entry: Entry, clean: dict | None, before: list[dict]) -> list[int] | None:
    """Places of the images that an entry attacks; None: of all."""
    if clean is None:
        return None
    place = {index: row for row, index in enumerate(clean["index"])}
    if entry.on == "left":
        lost = set().union(*(wrong(record) for record in before))
    else:  # what most draws miss and one saves is attacked too
        right = zip(clean["index"], accuracy(clean), strict=True)
        lost = {index for index, share in right if share == 0}
    found = {row for index, row in place.items() if index not in lost}
    if entry.most is not None and entry.on == "all":
        found &= set(range(entry.most))
    return sorted(found)[: entry.most]


def _computing(target: Target, entry: Entry, rows: list[int], radius: float) -> Callable[[], dict]:
    """What makes an entry's record of some rows; of "frozen" that of the defense too, "fresh"."""

    def compute() -> dict:
        places = torch.tensor(rows, dtype=torch.int64, device=target.x.device)
        part = dataclasses.replace(target.only(places), epsilon=radius)
        if not rows:
            return _empty() | ({"fresh": _empty()} if entry.name == "frozen" else {})
        examples = entry.make(part, Draws(target.seed, "audit", "attack", entry.name)).detach()
        if entry.name == "frozen":
            return scored(frozen(part), examples) | {"fresh": scored(part, examples)}
        return scored(part, examples)

    return compute


def _empty() -> dict:
    """The record of no image."""
    none: list = [[] for _ in range(SETS)]
    return {
        "index": [],
        "labels": [],
        "predictions": none,
        "missed": [],
        "margin": [],
        "distance": 0.0,
        "inside": True,
    }


def _completed(part: dict, rows: list[int] | None, clean: dict | None, entry: Entry) -> dict:
    """A record of all images, or of the first `most`: those that were not attacked are clean."""
    if clean is None or rows is None:
        return part
    total = len(clean["index"])
    if entry.on == "left":
        return part | {"rows": rows}
    wanted = total if entry.most is None else min(entry.most, total)
    merged = {key: list(clean[key][:wanted]) for key in ("index", "labels", "missed", "margin")}
    merged["predictions"] = [list(each[:wanted]) for each in clean["predictions"]]
    for place, row in enumerate(rows):
        for key in ("missed", "margin"):
            merged[key][row] = part[key][place]
        for number in range(SETS):
            merged["predictions"][number][row] = part["predictions"][number][place]
    whole = part | merged
    return whole if wanted == total else whole | {"rows": list(range(wanted))}
