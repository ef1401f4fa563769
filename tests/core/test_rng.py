"""Random numbers addressed by (purpose, example, draw): uniform, independent, always the same."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from milib import rng

KEY = -194670751384131431
UNIFORM = [[11037110, 7796387], [13880816, 14497955], [6267628, 3356130], [3123686, 16696468]]
NORMAL = [
    [-0.69868, -0.945061, -0.591069],
    [-0.036344, 0.256198, -0.614579],
    [-0.909327, -1.600586, 1.068818],
    [0.077681, 0.09146, -1.831934],
]
GENERATOR = [198, 114, 569, 439]
INT64 = st.integers(-(2**63), 2**63 - 1)


def grid(images: int, draws: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Every (image, draw) pair."""
    return torch.arange(images).repeat_interleave(draws), torch.arange(draws).repeat(images)


def test_reference_values():
    """Stored records and shipped weights rest on these: a change is a new study."""
    index, draw = torch.tensor([0, 1, 5, 2**40]), torch.tensor([0, 3, 29, 0])
    draws = rng.Draws(0, "score", 0)
    assert rng.key(0, "score", 0) == KEY
    assert (draws.uniform(index, draw, 2) * 2**24).long().tolist() == UNIFORM
    torch.testing.assert_close(
        draws.normal(index, draw, 3), torch.tensor(NORMAL), atol=1e-6, rtol=1e-5
    )
    assert rng.generator(0, "mix").integers(0, 1000, 4).tolist() == GENERATOR


@given(index=INT64, draw=INT64, size=st.integers(1, 5))
def test_bits_are_splitmix64_in_unsigned_arithmetic(index, draw, size):
    modulus, golden = 2**64, 0x9E3779B97F4A7C15

    def mix(z: int) -> int:
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % modulus
        z = (z ^ z >> 27) * 0x94D049BB133111EB % modulus
        return z ^ z >> 31

    state = mix((mix((index * golden + rng.key("bits")) % modulus) + draw * golden) % modulus)
    expected = [mix((state + i * golden) % modulus) >> 40 for i in range(1, size + 1)]
    found = rng.Draws("bits").uniform(torch.tensor([index]), torch.tensor([draw]), size)
    assert (found[0] * 2**24).long().tolist() == expected


@pytest.mark.parametrize("purpose", [(0,), (1, "attack"), ("score", 2**70)])
def test_uniform_is_uniform_over_examples_draws_and_coordinates(purpose):
    found = rng.Draws(*purpose).uniform(*grid(200, 50), 6)
    assert found.dtype == torch.float32
    assert found.min() >= 0
    assert found.max() < 1
    assert kstest(found.flatten()[::3].numpy(), "uniform").pvalue > 1e-3
    cells = (found * 8).long()
    for one in range(6):
        other = (one + 1) % 6
        coordinates = torch.bincount(cells[:, one] * 8 + cells[:, other], minlength=64)
        assert chisquare(coordinates).pvalue > 1e-3
    by_image = (found[:, 0].view(200, 50) * 8).long()
    images, draws = (by_image[:-1], by_image[1:]), (by_image[:, :-1], by_image[:, 1:])
    for one, neighbour in (images, draws):
        together = torch.bincount((one * 8 + neighbour).flatten(), minlength=64)
        assert chisquare(together).pvalue > 1e-3


@pytest.mark.parametrize("size", [1, 2, 5])
def test_normal_has_the_moments_of_a_standard_normal(size):
    found = rng.Draws("normal").normal(*grid(400, 100), size).double()
    assert found.shape == (40_000, size)
    assert found.mean(0).abs().max() < 0.02
    assert (found.std(0) - 1).abs().max() < 0.02
    assert found.pow(3).mean(0).abs().max() < 0.06
    assert (found.pow(4).mean(0) - 3).abs().max() < 0.15
    assert kstest(found[:, -1].numpy(), "norm").pvalue > 1e-3
    if size > 1:
        assert (torch.corrcoef(found.T) - torch.eye(size)).abs().max() < 0.02


@given(
    index=st.lists(INT64, min_size=1, max_size=20),
    draw=INT64,
    size=st.integers(1, 9),
    kind=st.sampled_from(["uniform", "normal"]),
)
def test_a_number_depends_on_its_address_alone(index, draw, size, kind):
    draws, where = rng.Draws("address"), torch.tensor(index)
    whole = getattr(draws, kind)(where, torch.full_like(where, draw), size)
    assert torch.isfinite(whole).all()
    for position in range(len(index)):
        one = getattr(rng.Draws("address"), kind)(
            where[position : position + 1], torch.tensor([draw]), size
        )
        torch.testing.assert_close(
            one[0], whole[position], atol=1e-6 if kind == "normal" else 0, rtol=0
        )
    assert torch.equal(
        draws.uniform(where, torch.full_like(where, draw), size + 3)[:, :size],
        draws.uniform(where, torch.full_like(where, draw), size),
    )


def test_purposes_examples_and_draws_give_different_numbers():
    index, draw = grid(100, 100)
    first = rng.Draws(0, "score").uniform(index, draw, 1)[:, 0]
    assert len(first.unique()) > 9_900  # of 10,000 on 2**24 values
    for other in ((1, "score"), (0, "attack"), ("score", 0), (0, "score", 0), ("0", "score")):
        second = rng.Draws(*other).uniform(index, draw, 1)[:, 0]
        assert (first == second).float().mean() < 0.01
        assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 0.04
    swapped = rng.Draws(0, "score").uniform(draw, index, 1)[:, 0]
    assert (swapped == first).float().mean() < 0.02  # (i, j) is not (j, i)


def test_generators_are_private_and_repeat():
    first, again, other = (
        rng.generator(*parts).random(5).tolist() for parts in ((3, "mix"), (3, "mix"), (4, "mix"))
    )
    assert first == again != other
