"""What an attack leaves of a classifier: its examples are scored with draws that no attack saw."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from milib import losses
from milib.rng import Draws
from milib.sampling import log_mean
from milib.shapes import Values

SETS = 10
"""Sets of draws that score. Carlini et al. ask that no attack has seen them."""
CHECKS = 3
"""Further sets, by which the worst example of an image is chosen."""
MOST = 1e6
"""A margin at most: JSON has no infinity."""
Make = Callable[["Target", Draws], Tensor]
"""Examples [B, C, H, W] of a target's images, made with given draws."""


@dataclass(frozen=True)
class Target:
    """A classifier under attack, and the images on which it is.

    - classifier: any module from images to logits, randomized or not, in eval mode.
    - x: clean images [B, C, H, W] in [0, 1].
    - label: true labels [B].
    - index: each image's number for its draws [B].
    - epsilon: radius of the ball (l_inf), on pixels in [0, 1].
    - base: the undefended model, where there is one.
    - seed: of every draw.
    """

    classifier: nn.Module
    x: Tensor
    label: Tensor
    index: Tensor
    epsilon: float
    base: nn.Module | None = None
    seed: int = 0

    def only(self, rows: Tensor) -> "Target":
        """The target on some of its images.

        - rows: their places [k].
        """
        chosen = (self.x[rows], self.label[rows], self.index[rows])
        return Target(self.classifier, *chosen, self.epsilon, self.base, self.seed)


def scored(target: Target, examples: Tensor) -> dict:
    """What a classifier makes of examples.

    - target: the classifier, labels and indices.
    - examples: [B, C, H, W].

    Returns "predictions", a list [B] for each of SETS; "missed" [B], in how many of CHECKS an image
    is wrong; "margin" [B], the mean over CHECKS of log F at the best other class minus that at the
    label; and "distance", the largest one in a pixel.
    """
    predictions, margins, missed = [], [], torch.zeros_like(target.label)
    for number in range(SETS):
        draws = Draws(target.seed, "audit", "score", number)
        found = log_mean(target.classifier, examples, target.index, draws)
        predictions.append(found.argmax(1).tolist())
    for number in range(CHECKS):
        draws = Draws(target.seed, "audit", "choose", number)
        found = log_mean(target.classifier, examples, target.index, draws)
        margins.append(losses.margin(found, target.label).double().clamp(-MOST, MOST))
        missed += found.argmax(1) != target.label
    moved = (examples - target.x).abs().amax().item() if len(examples) else 0.0
    inside = bool((examples >= 0).all() and (examples <= 1).all())
    labels = {"index": target.index.tolist(), "labels": target.label.tolist()}
    return labels | {
        "predictions": predictions,
        "missed": missed.tolist(),
        "margin": torch.stack(margins).mean(0).tolist(),
        "distance": moved,
        "inside": inside,
    }


def accuracy(record: dict) -> Values:
    """Per-image accuracy [n] of a record of `scored`: the share of draw sets that are right."""
    return (np.array(record["predictions"]) == np.array(record["labels"])).mean(0)


def worst(records: list[dict]) -> Values:
    """Per-image accuracy [n] under the worst of several attacks.

    - records: of `scored`; the first one has every image, others may have fewer.

    Of each image the example counts that is "missed" most often, and among those the one of the
    greatest "margin": it is chosen by other draws than those that score it.
    """
    found: dict[int, tuple[int, float, float]] = {}
    for record in records:
        each = (record["missed"], record["margin"], accuracy(record).tolist())
        for index, missed, margin, right in zip(record["index"], *each, strict=True):
            if index not in found or (missed, margin) > found[index][:2]:
                found[index] = (missed, margin, right)
    return np.array([found[index][2] for index in records[0]["index"]])


def within(records: dict[str, dict]) -> list[dict]:
    """The records that have a part in the worst case: clean images first, then attacks in epsilon.

    - records: of `running.run`, by attack.
    """
    return [records[name] for name in named_within(records)]


def named_within(records: dict[str, dict]) -> list[str]:
    """The names of `within`.

    - records: of `running.run`, by attack.
    """
    return [n for n, each in records.items() if each["counts"] and not n.startswith("base: ")]


def broken(records: dict[str, dict], attack: str) -> int:
    """How many images an attack broke that no attack before it did.

    - records: of `running.run`, by attack.
    - attack: its name.
    """
    names = named_within(records)
    before: set[int] = set()
    for name in names[: names.index(attack)]:
        before |= wrong(records[name])
    return len(wrong(records[attack]) - before)


def wrong(record: dict) -> set[int]:
    """The index of each image that an attack broke: it is wrong for most of the sets that choose.

    - record: of `scored`.
    """
    each = zip(record["index"], record["missed"], strict=True)
    return {index for index, missed in each if 2 * missed > CHECKS}
