"""PGD (Eq. 18) and the adaptive attacks (Eq. 20-24): where they stay, what they ascend and draw."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from milib import adaptive, attacks, inference
from milib.defenses import MixupInference
from milib.rng import Draws

COUNT = 40
ROUNDING = 1e-6


@pytest.fixture(scope="module")
def points(splits):
    """Test images x, labels and indices."""
    chosen = splits.test.take(slice(COUNT))
    return chosen.pixels(), chosen.labels, chosen.index


@pytest.fixture
def mi(robust, pool):
    return MixupInference(robust, pool, "ol", 0.6, draws=5, chunk=32)


@pytest.fixture
def soft(trained, pool):
    """MI-OL around an unfolded float64 model, for signs of gradients."""
    double = trained("interpolated_at")
    return MixupInference(inference.frozen(double).double(), pool, "ol", 0.6, draws=5, chunk=32)


def losses(model, x, y):
    return F.cross_entropy(model(x), y, reduction="none")


# Oblivious PGD


@given(
    epsilon=st.floats(0, 1),
    step_size=st.floats(1e-3, 1),
    targeted=st.booleans(),
    begin=st.booleans(),
)
def test_pgd_stays_in_the_ball_and_in_the_pixel_range(
    robust, points, epsilon, step_size, targeted, begin
):
    x, y, index = (value[:6] for value in points)
    start = (
        attacks.random_start(Draws("ball"), index, 0 * index, x.shape[1:], epsilon)
        if begin
        else None
    )
    found = attacks.pgd(
        robust,
        x,
        y,
        epsilon=epsilon,
        step_size=step_size,
        steps=[1, 3],
        start=start,
        targeted=targeted,
    )
    assert found.shape == (6, 2, *x.shape[1:])
    assert (found - x[:, None]).abs().max() <= epsilon + ROUNDING
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.parametrize("targeted", [False, True])
def test_epsilon_zero_changes_nothing(robust, points, targeted):
    x, y, _ = points
    assert torch.equal(
        attacks.pgd(robust, x, y, epsilon=0.0, step_size=0.1, steps=[5], targeted=targeted)[:, 0], x
    )


def test_one_step_is_the_sign_of_the_gradient(robust, points):
    x, y, _ = points
    leaf = x.clone().requires_grad_()
    gradient = torch.autograd.grad(losses(robust, leaf, y).sum(), leaf)[0]
    expected = (x + 0.02 * gradient.sign()).clamp(0, 1)
    found = attacks.pgd(robust, x, y, epsilon=0.1, step_size=0.02, steps=[1])[:, 0]
    torch.testing.assert_close(found, expected)
    assert not torch.equal(
        found,
        attacks.pgd(robust, x, y, epsilon=0.1, step_size=0.02, steps=[1], targeted=True)[:, 0],
    )


def test_untargeted_raises_the_loss_and_targeted_lowers_it(robust, points):
    x, y, index = points
    target = attacks.wrong_class(y, Draws("target"), index, 10)
    for label, targeted, sign in ((y, False, 1), (target, True, -1)):
        found = attacks.pgd(
            robust, x, label, epsilon=0.1, step_size=0.025, steps=[10], targeted=targeted
        )[:, 0]
        change = sign * (losses(robust, found, label) - losses(robust, x, label))
        assert (change > 0).float().mean() > 0.95


def test_targets_are_uniform_wrong_classes():
    label, index = torch.arange(9000) % 10, torch.arange(9000)
    offset = (attacks.wrong_class(label, Draws("target"), index, 10) - label) % 10
    assert offset.min() == 1
    off = torch.bincount(offset, minlength=10)[1:].float().sub(1000).abs()
    assert off.max() < 130  # over four standard deviations


def test_random_start_fills_the_ball_and_is_where_pgd_begins(robust, points):
    x, y, index = points
    start = attacks.random_start(Draws("start"), index, 0 * index, x.shape[1:], 0.1)
    assert start.abs().max() <= 0.1
    assert start.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.05)
    found = attacks.pgd(robust, x, y, epsilon=0.1, step_size=1e-30, steps=[1], start=start)[:, 0]
    torch.testing.assert_close(found, (x + start).clamp(0, 1))


def test_snapshots_equal_separate_runs_and_chunks_do_not_matter(robust, points):
    x, y, index = points
    start = attacks.random_start(Draws("start"), index, 0 * index, x.shape[1:], 0.1)

    def craft(steps, where=slice(None)):
        options = {"epsilon": 0.1, "step_size": 0.025, "steps": steps}
        return inference.chunked(
            lambda a, b, c: attacks.pgd(robust, a, b, start=c, **options),
            16,
            x[where],
            y[where],
            start[where],
        )

    together = craft([10, 2, 5])
    for position, steps in enumerate((10, 2, 5)):
        assert torch.equal(together[:, position], craft([steps])[:, 0])
    order = torch.arange(COUNT - 1, -1, -1)
    assert torch.equal(craft([10, 2, 5], order), together[order])
    assert torch.equal(craft([5], slice(7, 8))[:, 0], together[7:8, 2])


# foolbox imports a name that scipy is about to drop
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_foolbox_gives_the_same_predictions(robust, splits):
    import foolbox

    data = splits.test.take(slice(200))
    x, y = data.pixels(), data.labels
    attack = foolbox.attacks.LinfPGD(abs_stepsize=0.025, steps=10, random_start=False)
    theirs = attack.run(
        foolbox.PyTorchModel(robust, bounds=(0, 1), device="cpu"),
        x,
        foolbox.criteria.Misclassification(y),
        epsilon=0.1,
    )
    ours = attacks.pgd(robust, x, y, epsilon=0.1, step_size=0.025, steps=[10])[:, 0]
    predictions = [robust(images).argmax(1) for images in (theirs, ours)]
    assert (predictions[0] == predictions[1]).float().mean() >= 0.99
    assert (predictions[1] != robust(x).argmax(1)).any()


# Adaptive PGD


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("samples", [1, 5])
def test_eq24_ascends_minus_the_log_of_the_mean_probability(soft, points, samples, targeted):
    """Eq. 20-24, same draws: the gradient of the sum of -F_y is N F_MI,y that of -log F_MI,y."""
    (x, y, index), draws = points, Draws("eq24")
    soft.draws = samples
    options = {"variant": "eq24", "first": 0, "samples": samples, "targeted": targeted}
    leaf = x.double().requires_grad_()
    found = adaptive.adaptive_gradient(soft, leaf.detach(), y, index, draws, **options)
    log = soft.log_mean(leaf, draws, index).gather(1, y[:, None])
    end_to_end = torch.autograd.grad((log if targeted else -log).sum(), leaf)[0]
    clear = end_to_end.abs() > 1e-9
    assert clear.double().mean() > 0.9
    assert torch.equal(found.sign()[clear], end_to_end.sign()[clear])
    torch.testing.assert_close(
        found, samples * log.exp().detach().view(-1, 1, 1, 1) * end_to_end, rtol=1e-5, atol=1e-9
    )


def test_mean_ce_ascends_the_mean_of_the_draws_losses(soft, points):
    (x, y, index), draws = points, Draws("mean_ce")
    leaf = x.double().requires_grad_()
    found = adaptive.adaptive_gradient(
        soft, leaf.detach(), y, index, draws, variant="mean_ce", first=0, samples=5
    )
    loss = -soft.each(leaf, draws, index).gather(2, y.view(-1, 1, 1).expand(-1, 5, 1)).mean(1).sum()
    torch.testing.assert_close(found, 5 * torch.autograd.grad(loss, leaf)[0], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("targeted", [False, True])
def test_one_small_eq24_step_moves_the_mean_probability(soft, points, targeted):
    (x, y, index), draws = points, Draws("step")
    x = x.double()
    gradient = adaptive.adaptive_gradient(
        soft, x, y, index, draws, variant="eq24", first=0, samples=5, targeted=targeted
    )
    before, after = (
        soft.probabilities(u, draws, index).gather(1, y[:, None])
        for u in (x, x + 1e-5 * gradient.sign())
    )
    assert ((after > before) == targeted).all()


@pytest.mark.parametrize("variant", adaptive.ADAPTIVE)
@pytest.mark.parametrize("epsilon", [0.0, 0.1])
def test_adaptive_attacks_stay_in_the_ball(mi, points, variant, epsilon):
    x, y, index = points
    found = adaptive.adaptive_pgd(
        mi,
        x,
        y,
        index,
        Draws("ball"),
        variant=variant,
        samples=3,
        epsilon=epsilon,
        step_size=0.025,
        steps=3,
    )
    assert (found - x).abs().max() <= epsilon + ROUNDING
    inside = found.min() >= 0 and found.max() <= 1
    assert inside == (variant != "as_published" or epsilon == 0)


@pytest.mark.parametrize("variant", ["eq24", "mean_ce"])
def test_adaptive_attacks_weaken_the_defense_on_draws_they_never_saw(mi, points, variant):
    (x, y, index), fresh = points, Draws("never seen")
    mi.draws = 30
    found = adaptive.adaptive_pgd(
        mi,
        x,
        y,
        index,
        Draws("attack"),
        variant=variant,
        samples=10,
        epsilon=0.1,
        step_size=0.025,
        steps=5,
    )
    before, after = (mi.probabilities(u, fresh, index).gather(1, y[:, None]) for u in (x, found))
    assert (after < before).float().mean() > 0.95
    assert after.mean() < before.mean() - 0.05


@pytest.mark.parametrize("variant", ["eq24", "mean_ce"])
def test_every_step_takes_fresh_draws_around_the_current_prediction(robust, pool, points, variant):
    steps, x, y, index = [], *points

    class Spy(MixupInference):
        def transform(self, u, predicted, index, draw, draws):
            assert torch.equal(predicted, self.classifier(u).argmax(1))
            steps.append(set(draw.tolist()))
            return super().transform(u, predicted, index, draw, draws)

    spy = Spy(robust, pool, "ol", 0.6, chunk=4 * COUNT)
    adaptive.adaptive_pgd(
        spy,
        x,
        y,
        index,
        Draws("fresh"),
        variant=variant,
        samples=4,
        epsilon=0.1,
        step_size=0.025,
        steps=3,
    )
    assert [len(draws) for draws in steps] == [4, 4, 4]
    assert len(set.union(*steps)) == 12


def test_as_published_adds_the_mean_perturbation_of_the_attacked_mixtures(mi, points):
    x, _, index = (value[:3] for value in points)
    draws, samples, epsilon, step = Draws("published"), 4, 0.1, 0.03
    found = adaptive.adaptive_pgd(
        mi,
        x,
        points[1][:3],
        index,
        draws,
        variant="as_published",
        samples=samples,
        epsilon=epsilon,
        step_size=step,
        steps=3,
    )
    for position, image in enumerate(x):
        here, number = index[position].expand(samples), torch.arange(samples)
        guess = mi.classifier(image[None]).argmax(1).expand(samples)
        mixed = mi.transform(image.expand(samples, -1, -1, -1), guess, here, number, draws)
        own = mi.classifier(mixed).argmax(1)
        current = mixed + attacks.random_start(draws, here, number + samples, image.shape, epsilon)
        current = current.clamp(mixed - epsilon, mixed + epsilon).clamp(0, 1)
        for _ in range(3):
            leaf = current.detach().requires_grad_()
            mean = torch.autograd.grad(losses(mi.classifier, leaf, own).mean(), leaf)[0].sum(0)
            current = (
                (current + step * mean.sign()).clamp(mixed - epsilon, mixed + epsilon).clamp(0, 1)
            )
        torch.testing.assert_close(
            found[position], image + (current - mixed).mean(0), atol=1e-5, rtol=0
        )
