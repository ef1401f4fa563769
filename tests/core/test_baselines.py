"""The baselines' transformations: noise, rotation, padded crops (Xie), resized crops (Guo)."""

import pytest
import torch
import torchvision.transforms.functional as TF
from scipy.stats import chisquare, kstest
from torch import nn

from milib import baselines, defenses
from milib.rng import Draws

NUMBER = 400


def transformed(name: str, settings: dict, x: torch.Tensor, draws: Draws) -> torch.Tensor:
    """`NUMBER` transforms of one image x [C, H, W]."""
    defense = defenses.build(name, nn.Identity(), None, settings)
    index = torch.arange(NUMBER)
    return defense.transform(x.expand(NUMBER, *x.shape), None, index, index % 3, draws)


def numbered(side: int, channels: int = 1) -> torch.Tensor:
    """An image whose pixels are all different and positive, [C, side, side]."""
    count = channels * side * side
    return torch.arange(1, count + 1).view(channels, side, side) / count


def span(occupied: torch.Tensor) -> tuple[int, int]:
    """First position and length of the one run of true values."""
    where = occupied.nonzero()[:, 0]
    assert (where.diff() == 1).all()
    return where[0].item(), len(where)


@pytest.mark.parametrize("sigma", [0.02, 0.3])
def test_gaussian_noise_has_the_stated_deviation_on_the_unit_scale(sigma):
    x = numbered(16, 3)
    noise = transformed("gaussian_noise", {"sigma": sigma}, x, Draws("noise")) - x
    assert noise.std().item() == pytest.approx(sigma, rel=0.01)
    assert kstest(noise.flatten()[::50].numpy() / sigma, "norm").pvalue > 1e-3
    assert len(noise.flatten(1).unique(dim=0)) == NUMBER


@pytest.mark.parametrize("side", [8, 32])
def test_rotation_is_torchvisions(side):
    x = torch.rand(200, 3, side, side, generator=torch.Generator().manual_seed(0))
    angles = 80 * torch.rand(200, generator=torch.Generator().manual_seed(1)) - 40
    ours = baselines.rotate(x, angles)
    theirs = torch.stack(
        [TF.rotate(image, angle.item()) for image, angle in zip(x, angles, strict=True)]
    )
    assert (ours != theirs).float().mean() < 1e-3  # nearest neighbours at a tie
    assert torch.equal(baselines.rotate(x, torch.zeros(200)), x)


def test_rotation_angles_are_uniform_in_the_range():
    seen = []

    class Draw(Draws):
        def uniform(self, *request):
            seen.append(super().uniform(*request))
            return seen[-1]

    x, draws = numbered(8), Draw("angles")
    found = transformed("rotation", {"degrees": 30}, x, draws)
    angles = (2 * seen[0][:, 0] - 1) * 30
    assert kstest(angles.numpy(), "uniform", (-30, 60)).pvalue > 1e-3
    assert torch.equal(found, baselines.rotate(x.expand(NUMBER, 1, 8, 8), angles))


@pytest.mark.parametrize(
    ("side", "least", "most"), [(8, 5, 7), (32, 16, 24), (8, 8, 8), (8, 6, 40)]
)
def test_xie_pads_a_crop_of_the_image_with_zeros(side, least, most):
    row, column = torch.meshgrid(
        torch.arange(1, side + 1), torch.arange(1, side + 1), indexing="ij"
    )
    x = torch.stack([row, column]) / 255  # 8-bit values that name their place
    sizes, places = [], []
    for image in transformed("xie", {"sizes": [least, most]}, x, Draws("xie")):
        top, height = span((image[0] > 0).any(1))
        left, width = span((image[0] > 0).any(0))
        assert height == width
        block = image[:, top : top + height, left : left + width]
        row, column = (round(block[channel, 0, 0].item() * 255) - 1 for channel in (0, 1))
        assert torch.equal(block, x[:, row : row + height, column : column + width])
        assert image.count_nonzero() == 2 * height * width
        sizes.append(height - least)
        free = [place / (side - height) for place in (top, left, row, column) if height < side]
        places.append(free)
    most = min(most, side)
    assert {size + least for size in sizes} == set(range(least, most + 1))
    assert least == most or chisquare(torch.bincount(torch.tensor(sizes))).pvalue > 1e-3
    # every place is reached, on average the middle
    for coordinate in zip(*filter(None, places), strict=True):
        assert (min(coordinate), max(coordinate)) == (0, 1)
        assert sum(coordinate) / len(coordinate) == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize(("side", "least", "most"), [(8, 5, 7), (32, 22, 30)])
def test_guo_is_torchvisions_crop_and_resize(side, least, most):
    x = torch.rand(3, side, side, generator=torch.Generator().manual_seed(0))
    draws, index = Draws("guo"), torch.arange(NUMBER)
    found = transformed("guo", {"sizes": [least, most]}, x, draws)
    exact = transformed("guo", {"sizes": [least, most], "eight_bit": False}, x, draws)
    where = baselines.RandomCropResize(nn.Identity(), [least, most]).crop(
        x.shape, draws.uniform(index, index % 3, 3)
    )
    size, top, left = (value[:, 0].tolist() for value in where)
    assert set(size) == set(range(least, most + 1))
    for image, unrounded, s, t, n in zip(found, exact, size, top, left, strict=True):
        assert 0 <= min(t, n) <= max(t, n) <= side - s
        eight_bit, window = (x * 255).round() / 255, (t, n, s, s, [side, side])
        resized = TF.resized_crop(eight_bit, *window, antialias=False)
        assert (image - resized).abs().max() <= 0.5 / 255 + 1e-5  # 8-bit again after resizing
        assert torch.equal(image, (image * 255).round() / 255)
        exactly = TF.resized_crop(x, *window, antialias=False)
        assert (unrounded - exactly).abs().max() <= 1e-5
