"""What an attack on an average over draws ascends: each loss is a line of LOSSES."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from milib import checks
from milib.shapes import EachDraw, Numbers, Predictions, Scores


def mean(each: EachDraw) -> Predictions:
    """log of the mean prediction over the draws (Eq. 6), [B, L].

    - each: log F of every draw [B, K, L].
    """
    return each.logsumexp(1) - math.log(each.shape[1])


def at(values: Predictions, label: Numbers) -> Scores:
    """The value at each image's label [B].

    - values: [B, L].
    - label: [B].
    """
    return values.gather(1, label[:, None])[:, 0]


def margin(values: Predictions, label: Numbers) -> Scores:
    """The greatest value at another class minus that at the label [B]: positive where it is wrong.

    - values: log F [B, L].
    - label: [B].
    """
    others = values.scatter(1, label[:, None], -torch.inf)
    return others.amax(1) - at(values, label)


def _dlr(values: Tensor, label: Tensor) -> Tensor:
    """The margin over the distance from the first to the third class (Croce and Hein, 2020)."""
    best = values.topk(min(3, values.shape[1]), 1).values
    return margin(values, label) / (best[:, 0] - best[:, -1]).clamp(min=1e-12)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "eq24": lambda each, label: -at(each.exp().mean(1), label),
    "mean_ce": lambda each, label: -at(each.mean(1), label),
    "ce": lambda each, label: -at(mean(each), label),
    "margin": lambda each, label: margin(mean(each), label),
    "dlr": lambda each, label: _dlr(mean(each), label),
}
"""What an attack ascends, of log F of every draw [B, K, L] and labels [B]: a value per image [B].

eq24: Eq. 24 for the scalar -F_y. mean_ce: the mean of the draws' cross-entropies on y. ce: the
cross-entropy of the mean prediction. margin: of the log mean prediction (Carlini and Wagner, 2017).
dlr: the margin, rescaled.
"""
SUMS = ("eq24", "mean_ce")
"""Those that are a mean over draws, so that draws can be taken one chunk after the other."""


def value(name: str, each: EachDraw, label: Numbers, targeted: bool = False) -> Scores:
    """What an attack ascends, for each image [B].

    - name: of LOSSES.
    - each: log F of every draw [B, K, L].
    - label: true labels [B]; the targets where `targeted`.
    - targeted: turns the sign; by default not.

    Raises UserError for another name.
    """
    found = LOSSES[checks.choice("loss", name, LOSSES)](each, label)
    return -found if targeted else found
