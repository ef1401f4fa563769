"""The paper's baselines (Tables 2 to 5): noise, rotation, and two kinds of random crops."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from milib import checks
from milib.averaging import Defense
from milib.errors import UserError
from milib.rng import Draws
from milib.shapes import PairImages, PairNumbers, PairUniform


class GaussianNoise(Defense):
    """Additive noise (Tabacof & Valle, 2016); not clipped.

    - classifier, options: as in `Defense`.
    - sigma: standard deviation of the noise, on pixels in [0, 1].
    """

    def __init__(self, classifier: nn.Module, sigma: float, **options):
        super().__init__(classifier, **options)
        self.sigma = checks.number("sigma", sigma, 0, 1, "on pixels in [0, 1], as in 16 / 255")

    def transform(
        self,
        x: PairImages,
        predicted: PairNumbers | None,
        index: PairNumbers,
        draw: PairNumbers,
        draws: Draws,
    ) -> PairImages:
        return x + self.sigma * draws.normal(index, draw, x.shape[1:].numel()).view_as(x)


class RandomRotation(Defense):
    """Rotation about the centre; nearest neighbour, filled with zeros.

    - classifier, options: as in `Defense`.
    - degrees: the angle is uniform in [-degrees, degrees].
    """

    def __init__(self, classifier: nn.Module, degrees: float, **options):
        super().__init__(classifier, **options)
        self.degrees = checks.number("degrees", degrees, 0, 180)

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
    last = [max(1, side - 1) for side in (x.shape[3], x.shape[2])]
    scale = torch.tensor([2 / last[0], 2 / last[1]], device=x.device)
    columns, rows = torch.broadcast_tensors(columns, rows)
    grid = torch.stack([columns, rows], 3) * scale - 1
    return F.grid_sample(x, grid.to(x.dtype), mode, "zeros", align_corners=True)


def _eight_bit(x: Tensor) -> Tensor:
    """x rounded to 8-bit pixels; the backward pass skips the rounding and so has a gradient."""
    return x + ((x * 255).round() / 255 - x).detach()


class Crop(NamedTuple):
    """A square crop of each image, in pixels: its size and the place of its corner, each [P, 1]."""

    size: Tensor
    top: Tensor
    left: Tensor


def _places(size: Tensor, side: int, uniform: Tensor) -> Tensor:
    """First positions [P, 1] of `size` pixels [P, 1] on a side of the image, for numbers [P, 1]."""
    return (uniform * (side - size + 1)).long()


class _RandomCrop(Defense):
    """A square crop of random size at a random place.

    - classifier, options: as in `Defense`.
    - sizes: [least, most] pixels, cut to the image's shorter side; the size is uniform between
      them.
    - eight_bit: whether images are rounded to 8 bits, as in the authors' code; by default yes.

    Raises UserError for other values.
    """

    def __init__(self, classifier: nn.Module, sizes: list, eight_bit: bool = True, **options):
        super().__init__(classifier, **options)
        self.sizes = checks.counts("sizes", sizes)
        if len(self.sizes) != 2 or self.sizes[0] > self.sizes[1]:
            raise UserError(f"sizes is {checks.shown(sizes)}: [least, most] pixels")
        checks.instance("eight_bit", eight_bit, bool)
        self.rounded = _eight_bit if eight_bit else nn.Identity()

    def crop(self, shape: torch.Size, uniform: Tensor) -> Crop:
        """The crop of each image.

        - shape: of the images, (..., H, W) in pixels.
        - uniform: [P, 3] in [0, 1): they decide size, top and left.
        """
        height, width = shape[-2:]
        low, high = (min(size, height, width) for size in self.sizes)
        size = low + (uniform[:, :1] * (high - low + 1)).long()
        top = _places(size, height, uniform[:, 1:2])
        return Crop(size, top, _places(size, width, uniform[:, 2:]))


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
        uniform = draws.uniform(index, draw, 5)
        crop = self.crop(x.shape, uniform[:, :3])

        def source(corner: Tensor, side: int, uniform: Tensor) -> Tensor:
            """Where the pixels of a row or column come from; outside the image for the padding."""
            place, target = torch.arange(side, device=x.device), _places(crop.size, side, uniform)
            inside = (place >= target) & (place < target + crop.size)
            return torch.where(inside, place - target + corner, -2.0 * side)

        rows = source(crop.top, x.shape[2], uniform[:, 3:4])
        columns = source(crop.left, x.shape[3], uniform[:, 4:])
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
        crop = self.crop(x.shape, draws.uniform(index, draw, 3))

        def source(corner: Tensor, side: int) -> Tensor:
            """The places [P, side] that a row or column of the result is interpolated at."""
            centres = (torch.arange(side, device=x.device) + 0.5) * crop.size / side - 0.5
            return centres.clamp(min=0).minimum(crop.size - 1.0) + corner

        rows, columns = source(crop.top, x.shape[2]), source(crop.left, x.shape[3])
        resized = _sample(self.rounded(x), rows[:, :, None], columns[:, None, :], "bilinear")
        return self.rounded(resized)
