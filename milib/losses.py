"""What an attack on an average over draws ascends: each loss is a line of a table."""

import math
from collections import ChainMap
from collections.abc import Callable

import torch
from torch import Tensor

from milib.errors import UserError
from milib.shapes import EachDraw, Numbers, Predictions, Scores

FLOOR = -1e4
"""log F of a class that a classifier rules out: at -inf its gradient would be NaN."""


def mean(each: EachDraw) -> Predictions:
    """log of the mean prediction over the draws (Eq. 6), [B, L].

    - each: log F of every draw [B, K, L].
    """
    finite = each.masked_fill(each == -torch.inf, FLOOR)
    return finite.logsumexp(1) - math.log(each.shape[1])


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
    if values.shape[1] < 3:
        raise UserError("loss is 'dlr': it needs three classes, take 'margin'")
    best = values.topk(min(3, values.shape[1]), 1).values
    return margin(values, label) / (best[:, 0] - best[:, -1]).clamp(min=1e-12)


OF_DRAWS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "eq24": lambda log, label: -at(log, label).exp(),
    "mean_ce": lambda log, label: -at(log, label),
}
"""Losses whose mean over draws is ascended, of log F [P, L] and labels [P]: a value for each [P].

`register.loss` adds others. eq24: Eq. 24 for the scalar -F_y. mean_ce: the
cross-entropy on y.
"""
OF_MEAN: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ce": lambda log, label: -at(log, label),
    "margin": margin,
    "dlr": _dlr,
}
"""Losses of the log mean prediction [B, L] and labels [B]: a value for each image [B].

ce: its cross-entropy. margin: of the likeliest other class over y (Carlini and Wagner, 2017). dlr:
the margin, rescaled.
"""
LOSSES = ChainMap(OF_MEAN, OF_DRAWS)
"""Both, those of draws first."""


def value(name: str, each: EachDraw, label: Numbers, targeted: bool = False) -> Scores:
    """What an attack ascends, for each image [B].

    - name: of LOSSES.
    - each: log F of every draw [B, K, L].
    - label: true labels [B]; the targets where `targeted`.
    - targeted: turns the sign; by default not.
    """
    if name in OF_MEAN:
        found = OF_MEAN[name](mean(each), label)
    else:
        count, draws = each.shape[:2]
        of_draws = OF_DRAWS[name](each.flatten(0, 1), label.repeat_interleave(draws))
        found = of_draws.view(count, draws).mean(1)
    return -found if targeted else found
