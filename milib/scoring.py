"""Scoring by batches: each image is numbered once, so its draws are its own in any batch."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from milib import checks
from milib.averaging import Defense
from milib.dataset import in_order
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
    if not isinstance(loader, Iterable):
        raise UserError(f"loader is {checks.shown(loader)}: it gives batches of images and labels")
    if getattr(loader, "drop_last", False):
        raise UserError("loader leaves out its last images: drop_last=False")
    in_order("loader", loader)
    device = next((weight.device for weight in defense.parameters()), None)
    found, labels, first = [], [], 0
    for batch in loader:
        if not isinstance(batch, list | tuple) or len(batch) != 2:
            raise UserError(f"loader gives {checks.shown(batch)}: pairs of images and labels")
        x = checks.images("loader's images", batch[0]).to(device)
        index = torch.arange(first, first + len(x), device=x.device)
        found.append(defense.probabilities(x, draws, index))
        classes = found[-1].shape[1]
        labels.append(checks.labels("loader's labels", batch[1], len(x), x.device, classes))
        first += len(x)
    if first == 0:
        raise UserError("loader is empty: it gives no image")
    return Scored(torch.cat(found), torch.cat(labels))
