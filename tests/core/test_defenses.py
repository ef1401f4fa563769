"""Mixup Inference and the baselines: what is drawn, what is averaged; nothing else matters."""

import random

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import nn

from milib import attacks, defenses, theory
from milib.rng import Draws


def middle(limits: defenses.Limits) -> float | list[int]:
    """The middle of a parameter's range, for defenses that the table below does not name."""
    return (
        [(limits.low + limits.high) // 2] * 2
        if limits.form == "whole range"
        else (limits.low + limits.high) / 2
    )


SETTINGS = {
    name: {key: middle(limits) for key, limits in kind.settings.items()}
    for name, kind in defenses.DEFENSES.items()
} | {
    "none": {},
    "gaussian_noise": {"sigma": 0.1},
    "rotation": {"degrees": 30},
    "xie": {"sizes": [5, 7]},
    "guo": {"sizes": [5, 7]},
    "mi_pl": {"ratio": 0.5},
    "mi_ol": {"ratio": [0.4, 0.6]},
    "mi_combined": {"ratio_pl": 0.5, "ratio_ol": 0.4, "threshold": 0.0},
}
every_defense = pytest.mark.parametrize("name", defenses.DEFENSES)


@pytest.fixture
def make(net, pool):
    """make(name): that defense around the session's mixup model."""
    return lambda name, **options: defenses.build(
        name, net, pool, SETTINGS[name], **{"draws": 6, "chunk": 50} | options
    )


@pytest.fixture(scope="module")
def points(splits):
    """100 test images x, labels and source indices."""
    chosen = splits.test.take(slice(100))
    return chosen.pixels(), chosen.labels, chosen.index


@pytest.fixture(scope="module")
def attacked(net, points):
    return attacks.pgd(net, points[0], points[1], epsilon=0.1, step_size=0.025, steps=[5])[:, 0]


def pairs(count: int, predicted: int):
    """Prediction, image index and draw number of `count` partners for one predicted label."""
    return torch.full((count,), predicted), torch.arange(count) // 7, torch.arange(count) % 7


# What Mixup Inference draws


@pytest.mark.parametrize("predicted", range(10))
def test_ol_is_uniform_over_the_other_labels_and_within_them(make, pool, predicted):
    image, label, _ = make("mi_ol").partners(*pairs(20_000, predicted), Draws("chi-square"))
    counts = torch.bincount(label, minlength=10)
    assert counts[predicted] == 0
    assert chisquare(np.delete(counts.numpy(), predicted)).pvalue > 1e-3
    one = (predicted + 1) % 10
    known = {
        tuple(x.flatten().tolist()): i
        for i, x in enumerate(pool.data.pixels(pool.data.labels == one))
    }
    seen = np.bincount(
        [known[tuple(x.flatten().tolist())] for x in image[label == one]], minlength=len(known)
    )
    assert chisquare(seen).pvalue > 1e-3


@pytest.mark.parametrize("name", ["mi_pl", "mi_ol"])
def test_partners_are_training_images_of_their_label(make, splits, name):
    truth: dict[bytes, set] = {}
    for x, y in zip(splits.train.images, splits.train.labels.tolist(), strict=True):
        truth.setdefault(x.numpy().tobytes(), set()).add(y)
    mi = make(name)
    for predicted in range(10):
        image, label, _ = mi.partners(*pairs(100, predicted), Draws("partners"))
        for x, y in zip(image, label.tolist(), strict=True):
            assert truth[(x * 16).round().to(torch.uint8).numpy().tobytes()] == {y}
            assert (y == predicted) == (name == "mi_pl")


def test_partners_follow_the_prediction_at_the_current_input(make, attacked, net, points):
    seen = []

    class Spy(defenses.MixupInference):
        def partners(self, predicted, *rest):
            seen.append(predicted[0].item())
            return super().partners(predicted, *rest)

    mi = Spy(net, make("mi_pl").pool, "pl", 0.5, draws=1, chunk=1)
    for x in (points[0], attacked):
        seen.clear()
        mi.probabilities(x[:30], Draws(0))
        assert seen == net(x[:30]).argmax(1).tolist()
    assert not torch.equal(net(points[0][:30]).argmax(1), net(attacked[:30]).argmax(1))


def test_mixture_and_its_ratio(make, points):
    x, mi = points[0][:1].expand(3000, -1, -1, -1), make("mi_ol")
    request = pairs(3000, 4)
    partner, _, ratio = mi.partners(*request, Draws("ratio"))
    assert ratio.min() >= 0.4
    assert ratio.max() <= 0.6
    assert chisquare(np.histogram(ratio.flatten(), 10, (0.4, 0.6))[0]).pvalue > 1e-3
    torch.testing.assert_close(
        mi.transform(x, *request, Draws("ratio")), ratio * x + (1 - ratio) * partner
    )
    mi.ratio = 0.3
    torch.testing.assert_close(
        mi.partners(*request, Draws("ratio"))[2], torch.full((3000, 1, 1, 1), 0.3)
    )


@pytest.mark.parametrize("mode", ["pl", "ol"])
def test_average_converges_as_one_over_root_n(mode):
    f = theory.ConstructedClassifier(6, 0, 1, 0.9, 2.0, 0.8)
    counts, errors = [4, 16, 64, 256, 1024], []
    for count in counts:
        mi = defenses.MixupInference(f, f.pool(5), mode, 0.5, draws=count, chunk=4096)
        exact = theory.enumerated(mi, f.adversarial())
        copies, index = f.adversarial().expand(100, -1, -1, -1), torch.arange(100)
        found = mi.probabilities(copies, Draws("convergence", count), index)
        errors.append((found - exact).square().sum(1).mean().sqrt().item())
    slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.05)


@pytest.mark.parametrize("mode", ["pl", "ol"])
def test_ratio_one_is_the_bare_model(net, pool, points, mode):
    mi = defenses.MixupInference(net, pool, mode, 1.0, draws=5)
    torch.testing.assert_close(
        mi.probabilities(points[0], Draws(0)),
        net(points[0]).softmax(1).detach(),
        atol=1e-5,
        rtol=1e-4,
    )


# What every defense guarantees


@every_defense
def test_bit_equal_for_any_batch_and_order(make, points, name):
    (x, _, index), draws, defense = points, Draws("batch"), make(name)
    whole = defense.probabilities(x, draws, index)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(x)))
    assert torch.equal(defense.probabilities(x[order], draws, index[order]), whole[order])
    for size in (1, 7, 33):
        parts = [
            defense.probabilities(a, draws, b)
            for a, b in zip(x[:40].split(size), index[:40].split(size), strict=True)
        ]
        assert torch.equal(torch.cat(parts), whole[:40])


@every_defense
def test_another_chunk_shape_changes_few_predictions(make, points, attacked, name):
    for x, allowed in ((points[0], 0.005), (attacked, 0.02)):
        first, second = (
            make(name, chunk=chunk).probabilities(x, Draws("chunk"), points[2])
            for chunk in (50, 128)
        )
        assert (first.argmax(1) != second.argmax(1)).float().mean() <= allowed
        assert (first - second).abs().median() < 1e-5


@every_defense
def test_forward_is_the_log_of_the_mean_prediction(make, points, name):
    x, defense = points[0][:20], make(name, seed=0)
    draws, same = Draws("frozen"), torch.zeros(20, dtype=torch.int64)
    log = defense.frozen(draws)(x)
    torch.testing.assert_close(
        log.exp().detach(), defense.probabilities(x, draws, same), atol=1e-6, rtol=1e-5
    )
    torch.testing.assert_close(log.logsumexp(1), torch.zeros(20), atol=1e-5, rtol=0)
    assert torch.equal(log, defense.frozen(draws)(x))
    first, second = defense(x), defense(x)
    assert torch.equal(first, second) == (name == "none")
    defense.reset()
    assert torch.equal(defense(x), first)


def plain(defense, x, draws):
    """The mean prediction without chunks, checkpoints or folding of draws into the batch."""
    if isinstance(defense, defenses.MICombined):
        base, pl, ol = (
            defense.classifier(x).softmax(1),
            *(plain(part, x, draws) for part in (defense.pl, defense.ol)),
        )
        top = base.argmax(1, keepdim=True)
        return torch.where(base.gather(1, top) - pl.gather(1, top) > defense.threshold, ol, base)
    predicted, total = defense.classifier(x).argmax(1), 0
    index = torch.zeros(len(x), dtype=torch.int64)
    for draw in range(defense.draws):
        total = total + defense.classifier(
            defense.transform(x, predicted, index, torch.full_like(index, draw), draws)
        ).softmax(1)
    return total / defense.draws


@every_defense
def test_values_and_gradients_equal_a_plain_implementation(make, attacked, points, name):
    defense, draws, x, y = (
        make(name, chunk=17),
        Draws("gradient"),
        attacked[:20].clone().requires_grad_(),
        points[1][:20],
    )
    found, expected = defense.frozen(draws)(x), plain(defense, x, draws).log()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    ours, theirs = (
        torch.autograd.grad(nn.functional.nll_loss(value, y), x)[0] for value in (found, expected)
    )
    assert theirs.abs().amax((1, 2, 3)).min() > 0
    torch.testing.assert_close(ours, theirs, atol=1e-3 * theirs.abs().max().item(), rtol=1e-2)


@every_defense
def test_global_generators_are_neither_read_nor_moved(make, points, name):
    x, results = points[0][:10], []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        before = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].tolist()
        defense = make(name, seed=4)
        results.append(torch.cat([defense(x).detach(), defense.probabilities(x, Draws(3))]))
        after = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].tolist()
        assert (before[0], before[2]) == (after[0], after[2])
        assert torch.equal(before[1], after[1])
    assert torch.equal(*results)


def test_combined_is_its_parts_and_asks_ol_for_flagged_inputs_only(make, points, attacked, net):
    x, draws, calls = torch.cat([points[0], attacked]), Draws("combined"), []
    index = torch.arange(len(x))

    class Counting(nn.Module):
        def forward(self, images):
            calls.append(len(images))
            return net(images)

    mi = defenses.build(
        "mi_combined", Counting(), make("mi_pl").pool, SETTINGS["mi_combined"], draws=6, chunk=1
    )
    base, pl, ol = (
        net(x).softmax(1).detach(),
        mi.pl.probabilities(x, draws, index),
        mi.ol.probabilities(x, draws, index),
    )
    top = base.argmax(1)
    gap = base[range(200), top] - pl[range(200), top]
    mi.threshold = gap.sort().values[119:121].mean().item()
    flagged = gap > mi.threshold
    calls.clear()
    torch.testing.assert_close(
        mi.probabilities(x, draws, index),
        torch.where(flagged[:, None], ol, base),
        atol=1e-5,
        rtol=1e-4,
    )
    assert sum(calls) == 200 + 6 * 200 + 6 * 80
    torch.testing.assert_close(defenses.detection_score(base.log(), pl.log()), gap)


def graph_size(output) -> int:
    """Nodes of the graph behind a tensor."""
    seen, waiting = set(), [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [following for following, _ in node.next_functions]
    return len(seen)


@pytest.mark.parametrize("name", ["mi_ol", "rotation", "none"])
def test_the_graph_does_not_grow_with_the_draws_or_images(make, attacked, name):
    """What is kept for the backward pass is one node and one chunk, so memory is flat."""
    sizes = [
        graph_size(make(name, draws=draws, chunk=5)(attacked[:count].clone().requires_grad_()))
        for draws, count in ((2, 5), (40, 20))
    ]
    assert sizes[0] == sizes[1] < 10


def test_weights_get_the_gradient_of_the_forward_and_a_second_derivative_raises(make, attacked):
    defense, x = make("mi_ol", chunk=5), attacked[:5].clone().requires_grad_()
    weights = list(defense.classifier.requires_grad_(True).parameters())
    try:
        draws = Draws("weights")
        found = torch.autograd.grad(defense.frozen(draws)(x)[:, 0].sum(), (x, *weights))
        expected = torch.autograd.grad(plain(defense, x, draws).log()[:, 0].sum(), (x, *weights))
        for ours, theirs in zip(found, expected, strict=True):
            scale = theirs.abs().max().item()
            assert scale > 0
            torch.testing.assert_close(ours, theirs, atol=1e-3 * scale, rtol=1e-2)
        once = torch.autograd.grad(defense(x)[:, 0].sum(), x, create_graph=True)[0]
        with pytest.raises(RuntimeError):
            torch.autograd.grad(once.sum(), x)
        output = defense(x)
        with torch.no_grad():
            weights[0].mul_(1.0)
        with pytest.raises(RuntimeError, match="modified"):
            output.sum().backward()
    finally:
        defense.classifier.requires_grad_(False)
