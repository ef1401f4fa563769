"""Gradients are those of the forward that was seen."""

import pytest
import torch
from torch import nn

from milib import Defense, MixupInference, UserError, adaptive_pgd, inference, pgd
from milib.defenses import GaussianNoise
from milib.rng import Draws


class Noisy(nn.Module):
    """A net with randomness of its own in eval mode, from torch's global generator."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(192, 10)

    def forward(self, x):
        return self.head(x.flatten(1) * torch.randint(0, 3, (len(x), 192)))


@pytest.fixture
def x():
    return torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def net() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 10))


@pytest.mark.parametrize("chunk", [12, 6, 5, 4])
def test_what_is_recomputed_has_the_random_state_of_the_forward(x, chunk):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        classifier = Noisy().eval()
        defense = GaussianNoise(classifier, 0.0, draws=4, chunk=chunk)
        torch.manual_seed(5)
        leaf = x.clone().requires_grad_()
        output = defense(leaf)
        after = torch.get_rng_state()
        found = torch.autograd.grad(output[:, 0].sum(), leaf)[0]
        assert torch.equal(torch.get_rng_state(), after)
        torch.manual_seed(5)
        plain, rows, parts = x.clone().requires_grad_(), torch.arange(3).repeat_interleave(4), []
        for part in rows.split(chunk):
            padded = torch.cat([part, part[:1].expand(chunk - len(part))])
            parts.append(classifier(plain[padded]).log_softmax(1)[: len(part)])
        expected = torch.cat(parts).view(3, 4, 10).logsumexp(1)[:, 0].sum()
        wanted = torch.autograd.grad(expected, plain)[0]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


LAYERS = [nn.Dropout(0.5), nn.Dropout2d(0.5), nn.AlphaDropout(0.5), nn.BatchNorm2d(3)]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_a_net_in_training_mode_is_refused_and_its_statistics_stay(x, layer):
    classifier = nn.Sequential(layer, *net()).train()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    defense, labels = GaussianNoise(classifier, 0.1), torch.zeros(3, dtype=torch.int64)
    calls = [
        lambda: defense(x),
        lambda: defense.probabilities(x, Draws(0)),
        lambda: pgd(classifier, x, labels, epsilon=0.1, step_size=0.1, steps=1),
    ]
    for call in calls:
        with pytest.raises(UserError, match=f"{type(layer).__name__} is in training mode"):
            call()
    for name, value in classifier.state_dict().items():
        assert torch.equal(value, before[name])
    classifier.eval()
    for call in calls:
        call()


def test_a_mode_that_changes_between_forward_and_backward_is_seen(x):
    classifier = nn.Sequential(nn.Dropout(0.5), *net()).eval()
    output = GaussianNoise(classifier, 0.1, draws=4, chunk=4)(x.clone().requires_grad_())
    classifier.train()
    with pytest.raises(UserError, match="training mode"):
        output.sum().backward()


def test_an_attacked_image_carries_no_graph(x):
    classifier, options = net().eval(), {"epsilon": 0.1, "step_size": 0.02, "steps": [5]}
    labels, start = torch.zeros(3, dtype=torch.int64), torch.zeros_like(x)
    leaf, begin = x.clone().requires_grad_(), start.requires_grad_()
    found = pgd(classifier, leaf, labels, start=begin, **options)
    assert not found.requires_grad
    found.numpy()
    assert leaf.grad is None
    assert all(weight.grad is None for weight in classifier.parameters())


@pytest.mark.parametrize("with_input", [False, True])
@pytest.mark.parametrize("chunk", [4, 100])
def test_training_through_a_defense_moves_the_weights(x, with_input, chunk):
    classifier = net()
    defense = GaussianNoise(classifier, 0.0, draws=4, chunk=chunk)
    labels = torch.zeros(3, dtype=torch.int64)
    leaf = x.clone().requires_grad_(with_input)
    nn.functional.nll_loss(defense(leaf), labels).backward()
    expected = torch.autograd.grad(
        nn.functional.cross_entropy(classifier(x), labels), list(classifier.parameters())
    )
    for weight, gradient in zip(classifier.parameters(), expected, strict=True):
        torch.testing.assert_close(weight.grad, gradient, atol=1e-6, rtol=1e-4)
    assert (leaf.grad is not None) == with_input


def test_no_gradient_is_recorded_where_none_is_wanted(x):
    classifier = net()
    with torch.no_grad():
        assert not GaussianNoise(classifier, 0.1)(x).requires_grad
    assert not GaussianNoise(classifier, 0.1).probabilities(x, Draws(0)).requires_grad
    classifier.requires_grad_(False)
    assert not GaussianNoise(classifier, 0.1)(x).requires_grad


# What must not change in between


def test_settings_that_change_between_forward_and_backward_change_no_gradient(x):
    classifier = net().requires_grad_(False)
    defense, total = GaussianNoise(classifier, 0.1, draws=4, chunk=3).frozen(Draws(0)), 0
    leaf, expected = x.clone().requires_grad_(), torch.zeros_like(x)
    for sigma in (0.1, 0.5, 0.9):
        defense.sigma = sigma
        total = total + defense(leaf)[:, 0].sum()
        alone = x.clone().requires_grad_()
        fixed = GaussianNoise(classifier, sigma, draws=4, chunk=100).frozen(Draws(0))
        expected += torch.autograd.grad(fixed(alone)[:, 0].sum(), alone)[0]
    found = torch.autograd.grad(total, leaf)[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_weights_that_are_replaced_between_forward_and_backward_are_named(x):
    defense = GaussianNoise(net(), 0.1, draws=4, chunk=3)
    weights = {name: value.clone() for name, value in defense.named_parameters()}
    output = torch.func.functional_call(defense, weights, (x,))
    with pytest.raises(UserError, match="replaced"):
        output.sum().backward()


def test_a_defense_with_weights_of_its_own_learns(x):
    class Learned(Defense):
        def __init__(self, classifier, **options):
            super().__init__(classifier, **options)
            self.filter = nn.Conv2d(3, 3, 1)

        def transform(self, x, predicted, index, draw, draws):
            return self.filter(x)

    found = {}
    for chunk in (2, 100):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            defense = Learned(net(), draws=2, chunk=chunk)
        defense(x).square().sum().backward()
        found[chunk] = defense.filter.weight.grad
    assert found[2].abs().max() > 0
    torch.testing.assert_close(found[2], found[100], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("chunk", [3, 100])
def test_a_backward_outside_of_autocast_is_that_of_the_forward_in_it(x, chunk):
    classifier = net().requires_grad_(False)
    defense = GaussianNoise(classifier, 0.1, draws=4, chunk=chunk).frozen(Draws(0))
    found = []
    for each in (defense, classifier):
        leaf = x.clone().requires_grad_()
        seen: list[torch.dtype] = []

        def note(_module, _inputs, output, seen=seen):
            seen.append(output.dtype)

        handle = classifier[1].register_forward_hook(note)
        with torch.autocast("cpu", torch.bfloat16):
            output = each(leaf)
        output.float()[:, 0].sum().backward()
        handle.remove()
        found.append(set(seen))
    assert found[0] == found[1] == {torch.bfloat16}


def test_attacks_and_training_work_inside_inference_mode(x):
    classifier, labels = net().eval(), torch.zeros(3, dtype=torch.int64)
    options = {"epsilon": 0.1, "step_size": 0.02, "steps": 3}
    expected = pgd(classifier, x, labels, **options)
    with torch.inference_mode():
        assert torch.equal(pgd(classifier, x.clone(), labels, **options), expected)


def test_a_wrapper_in_training_mode_around_an_eval_net_stays_as_it_is(x):
    inner = nn.Sequential(nn.Dropout(0.5), *net()).eval()
    wrapper = nn.Sequential(inner)
    modes = [module.training for module in wrapper.modules()]
    GaussianNoise(wrapper, 0.1)(x)
    assert [module.training for module in wrapper.modules()] == modes


def test_dropout_by_a_function_is_seen_too(x):
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(192, 10)

        def forward(self, x):
            return self.head(nn.functional.dropout(x.flatten(1), 0.5, self.training))

    with pytest.raises(UserError, match="Functional is in training mode"):
        GaussianNoise(Functional(), 0.1)(x)
    GaussianNoise(Functional().eval(), 0.1)(x)


def test_a_net_that_normalises_in_place_leaves_the_images_alone(x, pool):
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(64, 10)

        def forward(self, x):
            return self.head((x + 0.0).sub_(0.5).flatten(1)) if x.requires_grad else self.eager(x)

        def eager(self, x):
            return self.head(x.sub_(0.5).flatten(1))

    classifier, images = InPlace().eval(), x[:, :1].contiguous()
    before, labels = images.clone(), torch.zeros(3, dtype=torch.int64)
    inference.probabilities(classifier, images, 3)
    mi = MixupInference(classifier, pool, "ol", 0.5, draws=2, chunk=3)
    options = {"variant": "eq24", "samples": 2, "epsilon": 0.1, "step_size": 0.1, "steps": 1}
    adaptive_pgd(mi, images, labels, torch.arange(3), Draws("in place"), **options)
    assert torch.equal(images, before)
