"""A classifier built by hand, for which the paper's theory is exact."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from milib import checks
from milib.data import Dataset, SamplePool
from milib.errors import UserError

PEAK = 240
"""The value of a white pixel: it divides by many numbers of images per class."""


class ConstructedClassifier(nn.Module):
    """F = H + G by hand (Eq. 4): H is exactly linear, G has a chosen shrinkage and transfer.

    - classes: L, at least 2.
    - y: the label of the clean input.
    - attacked: the class that the perturbation leads to, another one.
    - strength: of G, in (1/2, 1], so that Eq. 2 holds and F is a distribution.
    - power: how fast G shrinks with the perturbation; at least 1, so that F stays in the simplex.
    - transfer: in [0, 1], how much of G the partner can take away.

    Raises UserError outside these bounds. For the attacked class a,

        G(t delta; x) = strength * t**power * (1 - transfer * w(x)) * (e_a - e_y)

    An "image" [B, 1, 1, L + 2] in [0, 1] holds the class masses, the size t of the perturbation,
    and w, a property of clean images that H ignores and G may feel. Called with images, it returns
    the logits log F [B, L].
    """

    def __init__(
        self, classes: int, y: int, attacked: int, strength: float, power: float, transfer: float
    ):
        super().__init__()
        self.classes = checks.count("classes", classes, 2, 10**5)
        self.y = checks.count("y", y, 0, self.classes - 1)
        self.attacked = checks.count("attacked", attacked, 0, self.classes - 1)
        if self.attacked == self.y:
            raise UserError(f"attacked is {attacked}, as is y: another class")
        self.strength = checks.number("strength", strength, 0.5, 1)
        if self.strength == 0.5:
            raise UserError("strength is 0.5: above it, so that the perturbation changes the class")
        self.power = checks.number("power", power, 1, 1000)
        self.transfer = checks.number("transfer", transfer, 0, 1)

    def nonlinear(self, size: Tensor, w: Tensor) -> Tensor:
        """G [B, L].

        - size: sizes t of the perturbation [B].
        - w: properties of the images [B].
        """
        moved = self.strength * size**self.power * (1 - self.transfer * w)
        direction = F.one_hot(torch.tensor([self.attacked, self.y]), self.classes).to(moved)
        return moved[:, None] * (direction[0] - direction[1])

    def forward(self, x: Tensor) -> Tensor:
        size = self.classes + 2
        if x.shape[1:].numel() != size:
            raise UserError(f"x has shape {list(x.shape)}: [B, 1, 1, {size}], an image of L + 2")
        flat = x.flatten(1)
        mass, size, w = flat[:, : self.classes], flat[:, self.classes], flat[:, self.classes + 1]
        return (mass + self.nonlinear(size, w)).clamp(min=1e-30).log()

    def clean(self) -> Tensor:
        """x0 [1, 1, 1, L + 2]: class y, no perturbation, w = 0."""
        return F.one_hot(torch.tensor([self.y]), self.classes + 2).float().view(1, 1, 1, -1)

    def adversarial(self) -> Tensor:
        """x0 + delta [1, 1, 1, L + 2]: the perturbation at full size, t = 1."""
        x = self.clean()
        x[..., self.classes] = 1
        return x

    def pool(self, per_class: int) -> SamplePool:
        """A sample pool of clean one-hot images, w spread evenly over [0, 1] within each class.

        - per_class: images of a class.

        Raises UserError for a number below 1.
        """
        per_class = checks.count("per_class", per_class, 1, 10**5)
        labels = torch.arange(self.classes).repeat_interleave(per_class)
        images = F.one_hot(labels, self.classes + 2) * PEAK
        spread = torch.arange(per_class) * PEAK // max(1, per_class - 1)
        images[:, self.classes + 1] = spread.repeat(self.classes)
        pixels = images.to(torch.uint8).view(-1, 1, 1, self.classes + 2)
        index = torch.arange(len(labels))
        return SamplePool(Dataset(pixels, labels, index, self.classes, PEAK))
