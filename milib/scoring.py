"""Scoring by batches: each image is numbered once, so its draws are its own in any batch."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, SequentialSampler

from milib import checks
from milib.averaging import Defense
from milib.errors import UserError
from milib.rng import Draws


class Scored(NamedTuple):
    """What a defense predicted.

    - probabilities: F_MI(x) [n, L].
    - labels: of the images [n], int64.
    """

    probabilities: Tensor
    labels: Tensor

    @property
    def accuracy(self) -> float:
        """The share of images whose most probable class is the label."""
        return (self.probabilities.argmax(1) == self.labels).double().mean().item()


def score(defense: Defense, loader: Iterable[tuple[Tensor, Tensor]], draws: Draws) -> Scored:
    """A defense's predictions for a loader's images, the same for every batch size.

    - defense: the defense.
    - loader: of (x [B, C, H, W] in [0, 1], labels [B]); its images are numbered in their order.
    - draws: the random numbers, others than an attack took.

    Raises UserError for a loader that shuffles, as its images would change their numbers, for an
    empty one, and as `Defense.probabilities` does.
    """
    checks.instance("defense", defense, Defense)
    if isinstance(loader, DataLoader) and not isinstance(loader.sampler, SequentialSampler):
        kind = type(loader.sampler).__name__
        raise UserError(f"loader takes its images by a {kind}: shuffle=False, so that they keep it")
    device = next((weight.device for weight in defense.parameters()), None)
    found, labels, first = [], [], 0
    for batch in loader:
        if not isinstance(batch, list | tuple) or len(batch) != 2:
            raise UserError(f"loader gives {checks.shown(batch)}: pairs of images and labels")
        x = checks.images("loader's images", batch[0]).to(device)
        index = torch.arange(first, first + len(x), device=x.device)
        found.append(defense.probabilities(x, draws, index))
        labels.append(checks.labels("loader's labels", batch[1], len(x), x.device))
        first += len(x)
    if not found:
        raise UserError("loader is empty: it gives no batch")
    return Scored(torch.cat(found), torch.cat(labels))
