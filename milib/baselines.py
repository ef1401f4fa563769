"""The paper's baselines (Tables 2 to 5): noise, rotation, and two kinds of random crops."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from milib.averaging import Defense
from milib.rng import Draws
from milib.shapes import PairImages, PairNumbers, PairUniform


class GaussianNoise(Defense):
    """Additive noise (Tabacof & Valle, 2016); not clipped.

    - classifier, options: as in `Defense`.
    - sigma: standard deviation of the noise, on pixels in [0, 1].
    """

    def __init__(self, classifier: nn.Module, sigma: float, **options):
        super().__init__(classifier, **options)
        self.sigma = sigma

    def transform(
        self,
        x: PairImages,
        predicted: PairNumbers | None,
        index: PairNumbers,
        draw: PairNumbers,
        draws: Draws,
    ) -> PairImages:
        return x + self.sigma * draws.normal(index, draw, x[0].numel()).view_as(x)


class RandomRotation(Defense):
    """Rotation about the centre; nearest neighbour, filled with zeros.

    - classifier, options: as in `Defense`.
    - degrees: the angle is uniform in [-degrees, degrees].
    """

    def __init__(self, classifier: nn.Module, degrees: float, **options):
        super().__init__(classifier, **options)
        self.degrees = degrees

    def transform(
        self,
        x: PairImages,
        predicted: PairNumbers | None,
        index: PairNumbers,
        draw: PairNumbers,
        draws: Draws,
    ) -> PairImages:
        return rotate(x, (2 * draws.uniform(index, draw, 1)[:, 0] - 1) * self.degrees)


def rotate(x: PairImages, degrees: PairUniform) -> PairImages:
    """Images turned counter-clockwise, as torchvision's `rotate` does one at a time.

    - x: [P, C, H, W].
    - degrees: the angle of each [P].
    """
    angle = torch.deg2rad(degrees)[:, None, None]
    middle = (torch.tensor(x.shape[2:], device=x.device) - 1) / 2
    row = torch.arange(x.shape[2], device=x.device)[:, None] - middle[0]
    column = torch.arange(x.shape[3], device=x.device)[None, :] - middle[1]
    rows = angle.cos() * row + angle.sin() * column + middle[0]
    columns = angle.cos() * column - angle.sin() * row + middle[1]
    return _sample(x, rows, columns, "nearest")


def _sample(x: Tensor, rows: Tensor, columns: Tensor, mode: str) -> Tensor:
    """x at fractional pixel positions, broadcast to [P, H, W]; zero outside the image."""
    scale = torch.tensor([2 / (x.shape[3] - 1), 2 / (x.shape[2] - 1)], device=x.device)
    columns, rows = torch.broadcast_tensors(columns, rows)
    grid = torch.stack([columns, rows], 3) * scale - 1
    return F.grid_sample(x, grid, mode, "zeros", align_corners=True)


def _eight_bit(x: Tensor) -> Tensor:
    """x rounded to 8-bit pixels; the backward pass skips the rounding and so has a gradient."""
    return x + ((x * 255).round() / 255 - x).detach()


class Crop(NamedTuple):
    """A square crop of each image, in pixels: its size and the place of its corner, each [P, 1]."""

    size: Tensor
    top: Tensor
    left: Tensor


def _places(size: Tensor, side: int, uniform: Tensor) -> Tensor:
    """First positions of a square of `size` [P, 1] in one of `side`, for numbers [P, k]."""
    return (uniform * (side - size + 1)).long()


class _RandomCrop(Defense):
    """A square crop of random size at a random place.

    - classifier, options: as in `Defense`.
    - sizes: [least, most] pixels, cut to the image's side; the size is uniform between them.
    - eight_bit: whether images are rounded to 8 bits, as in the authors' code; by default yes.
    """

    def __init__(self, classifier: nn.Module, sizes: list, eight_bit: bool = True, **options):
        super().__init__(classifier, **options)
        self.sizes, self.rounded = sizes, _eight_bit if eight_bit else nn.Identity()

    def crop(self, side: int, uniform: Tensor) -> Crop:
        """The crop of each image.

        - side: of the image, in pixels.
        - uniform: [P, 3] in [0, 1): they decide size, top and left.
        """
        low, high = (min(size, side) for size in self.sizes)
        size = low + (uniform[:, :1] * (high - low + 1)).long()
        corner = _places(size, side, uniform[:, 1:])
        return Crop(size, corner[:, :1], corner[:, 1:])


class RandomPadding(_RandomCrop):
    """Xie et al. (ICLR 2018) as adapted to 32x32: a crop, padded with zeros at a random place.

    - classifier, sizes, eight_bit, options: as in `_RandomCrop`.
    """

    def transform(
        self,
        x: PairImages,
        predicted: PairNumbers | None,
        index: PairNumbers,
        draw: PairNumbers,
        draws: Draws,
    ) -> PairImages:
        side, uniform = x.shape[2], draws.uniform(index, draw, 5)
        crop = self.crop(side, uniform[:, :3])
        target = _places(crop.size, side, uniform[:, 3:])
        place = torch.arange(side, device=x.device)

        def source(corner: Tensor, target: Tensor) -> Tensor:
            """Where the pixels of a row or column come from; outside the image for the padding."""
            inside = (place >= target) & (place < target + crop.size)
            return torch.where(inside, place - target + corner, -2.0 * side)

        rows, columns = source(crop.top, target[:, :1]), source(crop.left, target[:, 1:])
        return _sample(self.rounded(x), rows[:, :, None], columns[:, None, :], "nearest")


class RandomCropResize(_RandomCrop):
    """Guo et al. (ICLR 2018) as adapted to 32x32: a crop, resized bilinearly to full size.

    - classifier, sizes, eight_bit, options: as in `_RandomCrop`.
    """

    def transform(
        self,
        x: PairImages,
        predicted: PairNumbers | None,
        index: PairNumbers,
        draw: PairNumbers,
        draws: Draws,
    ) -> PairImages:
        side = x.shape[2]
        crop = self.crop(side, draws.uniform(index, draw, 3))
        centres = (torch.arange(side, device=x.device) + 0.5) * crop.size / side - 0.5
        place = centres.clamp(min=0).minimum(crop.size - 1.0)
        rows, columns = place + crop.top, place + crop.left
        resized = _sample(self.rounded(x), rows[:, :, None], columns[:, None, :], "bilinear")
        return self.rounded(resized)
