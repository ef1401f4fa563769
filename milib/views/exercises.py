"""The exercises at the end of each notebook: hints, and how a right answer is known.

A solution is computed from what the notebook has, so it is right for every run.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from milib import statistics
from milib.audit import measure
from milib.defenses import DEFENSES
from milib.shapes import Values
from milib.study.rows import NAMES, PRIMARY, TableRow, accuracies, auc_of, mean_accuracy
from milib.training import MODELS


@dataclass(frozen=True)
class Exercise:
    """A question whose answer `course.check` checks.

    - hint: what is shown with no answer, and with a wrong one.
    - why: what is shown with the right one.
    - solution: the answer, from what the notebook's cell gives.
    - within: how far a number may be from it.
    - choices: the answers there are, where it is no number.
    """

    hint: str
    why: str
    solution: Callable[..., float | str]
    within: float = 1e-6
    choices: tuple[str, ...] = ()


def _less_linear(linearity: dict[str, dict]) -> float:
    erm, mixup = (np.mean(linearity[name]["prediction"]) for name in ("erm", "mixup"))
    return 100 * (1 - float(mixup / erm))


def _gains_most(scores: dict[str, dict[str, dict]]) -> str:
    gains = {}
    for name, both in scores.items():
        gains[name] = accuracies(both["mi_ol"])[PRIMARY] - accuracies(both["none"])[PRIMARY]
    return NAMES[max(gains, key=lambda name: gains[name])]


def _highest_end(images: int) -> float:
    return 100 * statistics.wilson(0, images)[1]


def _above_guo(table: Iterable[TableRow]) -> float:
    found = {row.name: 100 * float(row.accuracy(PRIMARY).mean()) for row in table}
    return found["Mixup + MI-OL"] - found["Mixup + Guo et al. (2018)"]


def _best_at(points: dict[tuple[str, str], Values], clean: float) -> str:
    """The defense on mixup with the highest robust accuracy among settings so clean at least."""
    best, highest = "", -1.0
    for (model, defense), found in points.items():
        kept = found[found[:, 0] >= clean, 1]
        if model == "mixup" and kept.size and kept.max() > highest:
            best, highest = NAMES[defense], kept.max()
    return best


def _published_leaves(records: dict[tuple[str, str, int], dict], samples: int) -> float:
    left = {
        name: mean_accuracy(records["mixup", name, samples]) for name in ("as_published", "eq24")
    }
    return 100 * (left["as_published"] - left["eq24"])


def _taken(records: dict[str, dict]) -> float:
    oblivious = measure.worst([records["clean"], records["oblivious"]]).mean()
    return 100 * float(oblivious - measure.worst(measure.within(records)).mean())


EXERCISES = {
    "1a": Exercise(
        "no prediction has a lower cross-entropy than the mixed label itself: its entropy",
        "0.7 and 0.3 have the entropy 0.611, so mixup's loss cannot come near 0",
        lambda: -(0.7 * math.log(0.7) + 0.3 * math.log(0.3)),
        0.006,
    ),
    "1b": Exercise(
        "both stand in the table, as total variation of the predictions; relative to ERM's",
        "so much nearer to Eq. 3 is the mixup model in this run",
        _less_linear,
        1,
    ),
    "1c": Exercise(
        "both sides of Eq. 3 are the same prediction",
        "a constant is linear: Eq. 3 alone makes no good classifier",
        lambda: 0.0,
    ),
    "2a": Exercise(
        "the attack takes `train_steps` passes; then each half of the batch is trained on",
        "AT costs that many times as much as ERM for each epoch",
        lambda run: run.train_steps + 2,
    ),
    "2b": Exercise(
        "compare the columns PGD-10 and MI-OL PGD-10 of the table, row by row",
        "MI-OL adds most to this model",
        _gains_most,
        choices=tuple(NAMES[name] for name in MODELS),
    ),
    "3a": Exercise(
        "Eq. 17, with the number of classes of CIFAR-100",
        "lambda must lie above 1/L = 0.01; with few draws well above it",
        lambda: 0.01,
    ),
    "3b": Exercise(
        "Table 1 at z = 0, or Eq. 7 without G: F_y is 1 before mixing",
        "MI-OL's partners never have the label y, and take 1 - lambda",
        lambda: 0.4,
    ),
    "3c": Exercise(
        "the error falls as one over the root of N",
        "four times as many draws halve the error",
        lambda run: 4 * run.draws,
    ),
    "4a": Exercise(
        "0 of n: Wilson's upper end is z^2 / (n + z^2), with z = 1.96",
        "even where every image is broken, so much may be left on new images",
        lambda run: _highest_end(run.n_test),
        0.05,
    ),
    "4b": Exercise(
        "two rows of the table under untargeted PGD-10; negative where Guo et al. keep more",
        "on the same images, at similar clean accuracy",
        _above_guo,
        0.5,
    ),
    "4c": Exercise(
        "mixing multiplies the whole input by lambda, the perturbation with it",
        "mixing alone shrinks the radius to this",
        lambda run: run.epsilon * run.row("mixup", "mi_ol")["ratio"],
        0.0005,
    ),
    "5a": Exercise(
        "the flipped detector ranks every pair the other way round",
        "one minus the AUC: a detector far below one half knows much",
        lambda records: 1 - auc_of(records["mixup"], "mi_pl"),
        0.006,
    ),
    "5b": Exercise(
        "of 10,000 inputs 100 are adversarial; count the flagged ones of both kinds",
        "80 of 575: most alarms are false where attacks are rare",
        lambda: 100 * 80 / (80 + 495),
        0.5,
    ),
    "6a": Exercise(
        "drop the settings below 90 % clean accuracy; the highest of the rest",
        "the answer depends on the price: ask again at 80 %",
        lambda points: _best_at(points, 90),
        choices=tuple(kind.title for kind in DEFENSES.values()),
    ),
    "6b": Exercise(
        "a point leaves the front where another is as good in both and better in one",
        "(79, 30) is beaten by both others; they beat each other in one accuracy each",
        lambda: 2.0,
    ),
    "7a": Exercise(
        "each step differentiates the net at every adaptive sample",
        "ten steps of that many samples",
        lambda run: 10 * max(run.adaptive_samples),
    ),
    "7b": Exercise(
        "the last row of the table; points, not percent",
        "what looks robust can be a weak attack",
        _published_leaves,
        0.5,
    ),
    "8a": Exercise(
        "a pass for each draw of each step",
        "the battery comes near: four times K costs 2,000, more targets up to 4,500",
        lambda standard: replace(standard, samples=20, steps=200).passes,
    ),
    "8b": Exercise(
        "the row Mixup + MI-OL of the first table: oblivious PGD-10 minus worst case",
        "that part of the oblivious accuracy was no robustness",
        _taken,
        0.5,
    ),
    "8c": Exercise(
        "an attack with less knowledge should not do better",
        "the gradients mislead the attack: find out why before any robustness is claimed",
        lambda: "gradients are masked",
        choices=("gradients are masked", "the defense is robust", "both attacks are strong"),
    ),
}
"""The exercises by their names: the notebook's number and a letter."""
