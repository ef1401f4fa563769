"""Draws belong to an image, and an attacker's are never the scorer's."""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from milib import UserError, adaptive_pgd, defenses, rng, score
from milib.defenses import GaussianNoise, MICombined, MixupInference
from milib.rng import Draws

SIZES = (20, 10, 7, 1)


def linear() -> nn.Module:
    """A net of 8x8 images in colour that is random, and the same in every test."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 10)).eval()


@pytest.fixture
def x():
    return torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def noise():
    return GaussianNoise(linear(), 0.3, draws=5)


def by_batches(defense, x, draws, size):
    return torch.cat([defense.probabilities(part, draws) for part in x.split(size)])


# By batches


@pytest.mark.parametrize("size", SIZES)
def test_unnamed_images_have_their_own_draws_in_any_batch(noise, x, size):
    whole = noise.probabilities(x, Draws(0, "mine"))
    torch.testing.assert_close(by_batches(noise, x, Draws(0, "mine"), size), whole)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(noise.probabilities(x[order], Draws(0, "mine")), whole[order])


def test_unnamed_images_have_independent_draws(noise):
    x = torch.full((500, 3, 8, 8), 0.5) + torch.arange(500)[:, None, None, None] * 1e-4
    one = GaussianNoise(noise.classifier, 0.3, draws=1)
    found = one.probabilities(x, Draws(0, "mine"))
    assert np.corrcoef(found[:-1, 0], found[1:, 0])[0, 1] == pytest.approx(0, abs=0.15)


def test_the_number_of_an_image_is_made_of_its_pixels(x):
    number = rng.content(x)
    assert len(set(number.tolist())) == len(x)
    assert number.min() >= 0
    assert torch.equal(rng.content(x.double()), number)
    assert torch.equal(rng.content(x.contiguous(memory_format=torch.channels_last)), number)
    assert torch.equal(rng.content(-torch.zeros(1, 3, 8, 8)), rng.content(torch.zeros(1, 3, 8, 8)))
    swapped = x[:1].clone()
    swapped[0, 0, 0, 0], swapped[0, 0, 0, 1] = x[0, 0, 0, 1], x[0, 0, 0, 0]
    assert rng.content(swapped) != number[0]


@pytest.mark.parametrize("size", SIZES)
def test_score_numbers_the_images_of_a_loader(noise, x, size):
    y = torch.arange(20) % 10
    scored = score(noise, DataLoader(TensorDataset(x, y), size), Draws(0, "score"))
    expected = noise.probabilities(x, Draws(0, "score"), torch.arange(20))
    torch.testing.assert_close(scored.probabilities, expected)
    assert torch.equal(scored.labels, y)
    assert scored.accuracy == (expected.argmax(1) == y).double().mean().item()


def test_score_refuses_a_loader_that_shuffles_or_gives_something_else(noise, x):
    data = TensorDataset(x, torch.zeros(20, dtype=torch.int64))
    for loader, words in (
        (DataLoader(data, 5, shuffle=True), "RandomSampler"),
        (DataLoader(TensorDataset(x), 5), "pairs"),
        ([], "empty"),
        ([(x, torch.zeros(3, dtype=torch.int64))], "loader's labels"),
    ):
        with pytest.raises(UserError, match=words):
            score(noise, loader, Draws(0))


# Frozen


@pytest.mark.parametrize("name", list(defenses.DEFENSES))
def test_frozen_is_a_function_of_the_image_alone(net, pool, splits, name):
    settings = {
        "gaussian_noise": {"sigma": 0.3},
        "rotation": {"degrees": 30},
        "mi_combined": {"ratio_pl": 0.5, "ratio_ol": 0.5, "threshold": 0.0},
    }
    settings |= {crop: {"sizes": [5, 7]} for crop in ("xie", "guo")}
    settings |= {mi: {"ratio": 0.5} for mi in ("mi_pl", "mi_ol", "mi_any")}
    defense = defenses.build(name, net, pool, settings.get(name, {}), draws=4, chunk=16)
    fixed, x = defense.frozen(Draws(0, "fixed")), splits.test.pixels(slice(30))
    whole = fixed(x)
    assert torch.equal(fixed(x), whole)
    for place in (0, 7, 29):
        assert torch.equal(fixed(x[place : place + 1])[0], whole[place])


def test_a_frozen_mi_mixes_all_images_of_a_label_with_the_same_partners(net, pool, splits):
    seen = []

    class Spy(MixupInference):
        def partners(self, predicted, index, draw, draws):
            found = super().partners(predicted, index, draw, draws)
            seen.append((predicted, draw, found[0]))
            return found

    spy = Spy(net, pool, "ol", 0.5, draws=3, chunk=600)
    spy.frozen(Draws(0))(splits.test.pixels(slice(100)))
    predicted, draw, partner = seen[0]
    for label in range(10):
        for number in range(3):
            same = partner[(predicted == label) & (draw == number)]
            assert len(same) > 3
            assert (same == same[:1]).all()


# Fresh draws


def test_forward_draws_from_entropy_and_from_a_seed_where_there_is_one(noise, x):
    assert not torch.equal(noise(x), noise(x))
    assert not torch.equal(GaussianNoise(noise.classifier, 0.3)(x), noise(x))
    first, second = (GaussianNoise(noise.classifier, 0.3, seed=3) for _ in range(2))
    assert torch.equal(first(x), second(x))
    before = first(x)
    assert not torch.equal(first(x), before)
    first.reset()
    first(x)
    assert torch.equal(first(x), before)
    assert torch.equal(copy.deepcopy(first)(x), first(x))


def replicated(defense, x):
    """A call through a replica, as nn.DataParallel makes them anew for every call."""
    replica = defense._replicate_for_data_parallel()
    for name, child in defense._modules.items():
        replica._modules[name] = child
    return replica(x)


def test_replicas_draw_afresh_and_a_seed_refuses_them(noise, x):
    assert not torch.equal(replicated(noise, x), replicated(noise, x))
    fixed = noise.frozen(Draws(0))
    assert torch.equal(replicated(fixed, x), fixed(x))
    with pytest.raises(UserError, match="seed is 0: replicas"):
        replicated(GaussianNoise(noise.classifier, 0.3, seed=0), x)


def test_copies_of_an_unseeded_defense_draw_apart(noise, x):
    assert not torch.equal(copy.deepcopy(noise)(x), noise(x))


# A defense around a defense


def test_a_defense_around_a_defense_is_reproducible_and_leaves_the_chunk_alone(noise, x):
    outer = [GaussianNoise(noise, 0.2, draws=4, chunk=chunk) for chunk in (8, 20)]
    small, large = (each.probabilities(x, Draws(0, "mine")) for each in outer)
    torch.testing.assert_close(small, large)
    torch.testing.assert_close(by_batches(outer[0], x, Draws(0, "mine"), 7), small)
    fixed = [each.frozen(Draws(1)) for each in outer]
    torch.testing.assert_close(fixed[0](x), fixed[1](x))
    assert torch.equal(fixed[0](x), fixed[0](x))
    inside = [GaussianNoise(noise.frozen(Draws(1)), 0.2, draws=4, chunk=c) for c in (8, 20)]
    torch.testing.assert_close(*(each.probabilities(x, Draws(0)) for each in inside))


def test_the_inner_draws_differ_from_draw_to_draw(noise, x):
    """With no outer noise, the mean over 200 outer draws is that over 1,000 inner ones."""
    outer = GaussianNoise(noise, 0.0, draws=200, chunk=1000)
    many = GaussianNoise(noise.classifier, 0.3, draws=1000, chunk=1000)
    found, expected = (each.probabilities(x, Draws(0)) for each in (outer, many))
    few = noise.probabilities(x, Draws(0))
    assert (found - expected).square().mean() < (few - expected).square().mean() / 20


def test_gradients_go_through_a_defense_in_a_defense(noise, x):
    chunks = []
    for chunk in (6, 80):
        outer = GaussianNoise(noise, 0.2, draws=4, chunk=chunk).frozen(Draws(0))
        leaf = x.clone().requires_grad_()
        chunks.append(torch.autograd.grad(outer(leaf)[:, 0].sum(), leaf)[0])
    torch.testing.assert_close(*chunks, atol=1e-5, rtol=1e-4)


def test_a_defense_deeper_inside_is_refused(noise):
    for inner in (noise, noise.frozen(Draws(0))):
        with pytest.raises(UserError, match="a Sequential that holds a GaussianNoise"):
            GaussianNoise(nn.Sequential(inner), 0.1)


# An attacker's draws


def test_whoever_attacks_and_scores_with_the_same_draws_is_told(net, pool, splits):
    mi = MixupInference(net, pool, "ol", 0.5, draws=4)
    points = splits.test.take(slice(10))
    images = points.pixels(), points.labels, points.index
    options = {"variant": "eq24", "samples": 2, "epsilon": 0.1, "step_size": 0.1, "steps": 1}
    found = adaptive_pgd(mi, *images, Draws("told"), **options)
    with pytest.warns(UserWarning, match="attacked the classifier before"):
        MixupInference(net, pool, "pl", 0.5).probabilities(found, Draws("told"), points.index)
    mi.probabilities(found, Draws("told", "score"), points.index)
    first, second = (MixupInference(net, pool, "ol", 0.5, draws=4, seed=77) for _ in range(2))
    first(found.clone().requires_grad_())
    with pytest.warns(UserWarning, match="attacked the classifier before"):
        second(found)
    second(found)  # its next draws attacked nothing
    mi.frozen(Draws("told", "fixed"))(found.clone().requires_grad_())
    with pytest.warns(UserWarning, match="attacked the classifier before"):
        mi.probabilities(found, Draws("told", "fixed"), points.index)


def test_two_defenses_without_a_seed_share_nothing(noise, x):
    attacker, scorer = (GaussianNoise(noise.classifier, 0.3, draws=1) for _ in range(2))
    attacker(x.clone().requires_grad_())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scorer(x)


# Purposes


def test_a_purpose_is_words_and_numbers():
    assert Draws(np.int64(3), np.float64(0.5)).key == Draws(3, 0.5).key
    assert Draws((1, "a")).key == Draws((np.int32(1), "a")).key
    for part in (object(), [1], torch.zeros(1), {"a": 1}, lambda: 0):
        with pytest.raises(UserError, match="words and numbers"):
            Draws(part)


def test_combined_needs_parts_of_one_classifier_and_the_right_modes(net, pool):
    pl, ol = (MixupInference(net, pool, mode, 0.5) for mode in ("pl", "ol"))
    with pytest.raises(UserError, match="pl is an MI-OL"):
        MICombined(ol, pl, 0.1)
    with pytest.raises(UserError, match="two classifiers"):
        MICombined(pl, MixupInference(copy.deepcopy(net), pool, "ol", 0.5), 0.1)
