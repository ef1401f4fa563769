"""The attack that knows the defense: where it stays, what it ascends, what it draws and keeps."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import milib
from milib import attacks, eot, losses, rng
from milib.averaging import Defense
from milib.baselines import GaussianNoise
from milib.defenses import MixupInference
from milib.eot import Setting
from milib.errors import UserError
from milib.rng import Draws
from milib.sampling import Sampler, log_mean

COUNT, CLASSES, EPSILON, ROUNDING = 6, 5, 0.1, 1e-6
ENDS = (22, 41, 57, 70, 80, 87, 93, 99)
"""Of 100 steps: where APGD looks whether the size is halved (Croce and Hein, 2020)."""


def toy(classes: int = CLASSES, kind: torch.dtype = torch.float32) -> nn.Module:
    """A smooth net on 4x4 images with weights of its own generator."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, classes))
    numbers = rng.generator("toy", classes)
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(torch.from_numpy(numbers.normal(0, 0.7, tuple(weight.shape))))
    return net.to(kind).eval().requires_grad_(False)


NET = toy()
X = torch.from_numpy(rng.generator("images").uniform(0, 1, (COUNT, 1, 4, 4))).float()
with torch.no_grad():
    Y = NET(X).argmax(1)
INDEX = torch.arange(100, 100 + COUNT)


def attack(classifier=NET, x=X, y=Y, **changes) -> torch.Tensor:
    """Two steps of two draws."""
    options = {"epsilon": EPSILON, "draws": Draws("attack"), "index": INDEX[: len(x)]}
    options |= {"setting": Setting(steps=2, samples=2)}
    return eot.attack(classifier, x, y, **options | changes)


def margins(x: torch.Tensor, y: torch.Tensor = Y) -> torch.Tensor:
    with torch.no_grad():
        return losses.margin(NET(x).log_softmax(1), y)


class Spy(GaussianNoise):
    """Gaussian noise that writes down the draws it is asked for: (key, index, draw) of a pair."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.seen = []

    def transform(self, x, predicted, index, draw, draws):
        if x.requires_grad:
            pairs = zip(index.tolist(), draw.tolist(), strict=True)
            self.seen += [(draws.key, *pair) for pair in pairs]
        return super().transform(x, predicted, index, draw, draws)


class Noisy(nn.Module):
    """A module that draws from torch's global generator, and writes down what it drew."""

    def __init__(self):
        super().__init__()
        self.net, self.seen = NET, []

    def forward(self, x):
        noise = torch.randn(x.shape)
        if x.requires_grad:
            self.seen.append(float(noise.sum()))
        return self.net(x + 0.1 * noise)


# Where it goes


@given(
    epsilon=st.floats(0, 1),
    size=st.floats(0.01, 2),
    momentum=st.sampled_from((0.0, 0.25, 0.9)),
    schedule=st.sampled_from(eot.SCHEDULES),
    loss=st.sampled_from(list(losses.LOSSES)),
    targets=st.sampled_from((0, 2)),
)
def test_it_stays_in_the_ball_and_in_the_pixel_range(
    epsilon, size, momentum, schedule, loss, targets
):
    setting = Setting(loss, 2, 5, schedule, size, momentum, targets=targets)
    found = attack(GaussianNoise(NET, 0.1), epsilon=epsilon, setting=setting)
    assert found.shape == X.shape and not found.requires_grad
    assert (found - X).abs().max() <= epsilon + ROUNDING
    assert found.min() >= 0 and found.max() <= 1


def test_it_raises_the_loss_more_than_chance_does():
    found = attack(setting=Setting(samples=1, steps=10, schedule="decaying"))
    start = attacks.random_start(Draws("x"), INDEX, 0 * INDEX, X.shape[1:], EPSILON)
    assert (margins(found) > margins((X + start).clamp(0, 1))).all()


def test_sizes_of_the_schedules():
    """A loss without end is followed by the steps that the schedule says."""
    x, steps = torch.zeros(1, 1, 2, 2), 4
    visited = {}
    for schedule in ("constant", "decaying"):
        path = []

        def evaluate(current, step, path=path):
            path.append(float(current[0, 0, 0, 0]))
            return torch.full((1,), float(step)), torch.ones_like(current)

        setting = Setting(steps=steps, schedule=schedule, size=0.1)
        end = eot.climb(evaluate, x, x, 1.0, setting)
        visited[schedule] = [*path, float(end[0, 0, 0, 0])]
    assert visited["constant"] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert visited["decaying"] == pytest.approx([0, 0.1, 0.175, 0.225, 0.25])


def test_momentum_keeps_a_share_of_the_last_move():
    """x_3 = z + m ((x_2 - z) + (x_2 - x_1)) for a step to z: APGD's form, by hand."""
    x, path = torch.zeros(1, 1, 1, 1), []

    def evaluate(current, step):
        path.append(float(current))
        return torch.full((1,), float(step)), torch.ones_like(current)

    end = eot.climb(evaluate, x, x, 1.0, Setting(steps=3, schedule="constant", momentum=0.25))
    first = 0.25 * 0.75
    second = first + 0.75 * 0.25 + 0.25 * first
    third = second + 0.75 * 0.25 + 0.25 * (second - first)
    assert [*path, float(end)] == pytest.approx([0, first, second, third])


def test_halving_returns_the_best_point_and_the_others_the_last():
    heights = torch.tensor([3.0, 1.0, 7.0, 2.0, 5.0, 4.0])
    for schedule, place in (("halving", 2), ("constant", 5), ("decaying", 5)):
        path = []

        def evaluate(current, step, path=path):
            path.append(current.clone())
            return heights[step].expand(len(current)), torch.ones_like(current)

        setting = Setting(steps=5, schedule=schedule, size=0.01)
        found = eot.climb(evaluate, 0 * X, 0 * X, 1.0, setting)
        if schedule != "halving":
            path.append(found)
        assert torch.equal(found, path[place]), schedule
        assert len(path) == 6


@pytest.mark.parametrize("rises", [False, True])
def test_halving_halves_at_the_ends_of_windows_where_the_loss_does_not_rise(rises):
    """Each image for itself: one whose loss rises goes on as before, beside one whose does not."""
    x, size, path = torch.zeros(2, 1, 1, 1), 0.002, []

    def evaluate(current, step):
        path.append(current[:, 0, 0, 0].clone())
        own = step if rises else 0
        return torch.tensor([float(own), float(step)]), torch.ones_like(current)

    eot.climb(evaluate, x, x, 1.0, Setting(steps=100, schedule="halving", size=size))
    moves = torch.stack(path).diff(dim=0).double()
    torch.testing.assert_close(moves[:, 1], torch.full((100,), size).double(), atol=1e-6, rtol=0)
    if rises:
        torch.testing.assert_close(moves[:, 0], moves[:, 1])
        return
    halved = size
    for begin, end in zip((0, *ENDS), (*ENDS, 100), strict=True):
        steady = torch.full((end - begin - 1,), halved).double()
        own = moves[begin + 1 : end, 0]
        torch.testing.assert_close(own, steady, atol=1e-6, rtol=0)
        halved /= 2
    for end in ENDS:  # back to the best point, which was the first, and a step from there
        halved = size / 2 ** (ENDS.index(end) + 1)
        assert float(path[end + 1][0]) == pytest.approx(halved, abs=1e-6)


def test_a_step_from_the_best_point_goes_along_the_gradient_there():
    """The first point is the best; its gradient points up, those of all others down."""
    x, path = torch.full((1, 1, 1, 1), 0.5), []

    def evaluate(current, step):
        path.append(float(current))
        direction = torch.ones_like(current) if step == 0 else -torch.ones_like(current)
        return torch.tensor([-float(step)]), direction

    setting = Setting(steps=30, schedule="halving", size=0.01)
    found = eot.climb(evaluate, x, 0 * x, 1.0, setting)
    end = round(0.22 * 30)
    assert path[: end + 2] == pytest.approx([0.5, *(0.51 - 0.01 * k for k in range(end)), 0.505])
    assert torch.equal(found, x)


# What it ascends


def plain(loss: str, log: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """A loss of log F of every draw [B, K, L], written out: a value for each image."""
    values, mean = [], log.exp().mean(1)
    for row, own in enumerate(label.tolist()):
        at_mean = mean[row].log()
        others = torch.cat([at_mean[:own], at_mean[own + 1 :]])
        ranked = at_mean.sort(descending=True).values
        values.append(
            {
                "eq24": -mean[row, own],
                "mean_ce": -log[row, :, own].mean(),
                "ce": -at_mean[own],
                "margin": others.max() - at_mean[own],
                "dlr": (others.max() - at_mean[own]) / (ranked[0] - ranked[2]),
            }[loss]
        )
    return torch.stack(values)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("loss", losses.LOSSES)
def test_the_gradient_is_that_of_the_loss_written_out(monkeypatch, loss, targeted):
    net, x, draws, found = toy(kind=torch.float64), X.double(), Draws("attack"), {}
    noise, samples = GaussianNoise(net, 0.2), 4

    def seen(evaluate, x, start, epsilon, setting):
        found["value"], found["gradient"] = (part[:COUNT] for part in evaluate(x, 3))
        return x

    monkeypatch.setattr(eot, "climb", seen)
    setting = Setting(loss, samples, 1, targets=int(targeted))
    attack(noise, x, setting=setting, draws=draws)
    of_try = Draws("try", draws.key, 0, 0 if targeted else -1)
    of_step, goal, sign = Draws("step", of_try.key, 3), Y, 1
    if targeted:
        checking = Draws("check", draws.key)
        predicted = log_mean(noise, x, INDEX, checking)
        goal, sign = predicted.scatter(1, Y[:, None], -math.inf).argmax(1), -1
    leaf = x.clone().requires_grad_()
    draw = torch.arange(samples)
    each = []
    for row in range(COUNT):
        repeated = leaf[row].expand(samples, 1, 4, 4)
        index = INDEX[row].repeat(samples)
        mixed = noise.transform(repeated, None, index, draw, of_step)
        each.append(net(mixed).log_softmax(1))
    value = sign * plain(loss, torch.stack(each), goal)
    gradient = torch.autograd.grad(value.sum(), leaf)[0]
    torch.testing.assert_close(found["value"], value.detach(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found["gradient"], gradient, rtol=1e-9, atol=1e-12)
    some = gradient.abs().amax((1, 2, 3)) > 0  # dlr is constant where the label is third
    assert some.all() or (loss == "dlr" and some.any())


def test_mixup_inference_follows_the_prediction_at_each_step(pool, net, splits):
    """The partners' labels are those around the current image, not the clean one."""
    asked = []

    class Asked(MixupInference):
        def transform(self, x, predicted, index, draw, draws):
            if x.requires_grad:
                asked.append((x.detach().clone(), predicted.clone()))
            return super().transform(x, predicted, index, draw, draws)

    test = splits.test.take(slice(4))
    mi = Asked(net, pool, "ol", 0.6, chunk=8)
    setting = Setting(samples=2, steps=6, schedule="constant")
    attack(mi, test.pixels(), test.labels, epsilon=0.3, setting=setting)
    for x, predicted in asked:
        with torch.no_grad():
            assert torch.equal(net(x).argmax(1), predicted)
    first, last = asked[0][1], asked[-1][1]
    assert not torch.equal(first, last)


def test_a_target_is_gone_to_and_the_likeliest_comes_first():
    with torch.no_grad():
        log = NET(X).log_softmax(1)
    ranked = eot.wrong_classes(log, Y)
    assert ranked.shape == (COUNT, CLASSES - 1)
    for row, own in enumerate(Y.tolist()):
        by_hand = sorted(set(range(CLASSES)) - {own}, key=lambda other: -float(log[row, other]))
        assert ranked[row].tolist() == by_hand
    setting = Setting("ce", 1, 20, targets=1)
    found = attack(setting=setting)
    with torch.no_grad():
        moved = NET(found).log_softmax(1)
    goal = ranked[:, 0]
    assert (losses.at(moved, goal) > losses.at(log, goal)).all()


# Restarts and targets


def tried(monkeypatch, answers: list[torch.Tensor]) -> list[tuple[list[int], list[int]]]:
    """Put answers in the place of the climbs; returns what each try was given: index and goal."""
    given_to, left = [], list(answers)

    def follow(sampler, x, goal, index, draws, epsilon, setting, targeted):
        given_to.append((index.tolist(), goal.tolist()))
        return left.pop(0)[index - INDEX[0]]

    monkeypatch.setattr(eot, "_follow", follow)
    return given_to


@pytest.fixture
def ladder():
    """Images by how wrong the net finds them: strong[row] is wrong, weak[row] right."""
    strong = attack(epsilon=1.0, setting=Setting(samples=1, steps=100))
    assert (margins(strong) > 0).all()
    weak = X.clone()
    towards = attack(epsilon=1e-4, setting=Setting(samples=1, steps=20))
    assert (margins(towards) > margins(weak)).all() and (margins(towards) < 0).all()
    return weak, towards, strong


def test_of_several_tries_each_image_keeps_the_worst(monkeypatch, ladder):
    weak, towards, _ = ladder
    even = (torch.arange(COUNT) % 2 == 0)[:, None, None, None]
    answers = [torch.where(even, towards, weak), torch.where(even, weak, towards)]
    given_to = tried(monkeypatch, answers)
    found = attack(setting=Setting(steps=1, samples=1, restarts=2))
    assert torch.equal(found, towards)
    assert [index for index, _ in given_to] == [INDEX.tolist()] * 2


def test_an_image_that_is_wrong_leaves(monkeypatch, ladder):
    weak, towards, strong = ladder
    broken = torch.tensor([True, False, False, True, False, False])[:, None, None, None]
    answers = [torch.where(broken, strong, weak), towards, strong]
    given_to = tried(monkeypatch, answers)
    found = attack(setting=Setting(steps=1, samples=1, restarts=5))
    left = INDEX[~broken.flatten()].tolist()
    assert [index for index, _ in given_to] == [INDEX.tolist(), left, left]
    assert torch.equal(found, strong)


def test_targets_are_tried_one_after_the_other_in_every_restart(monkeypatch, ladder):
    weak = ladder[0]
    given_to = tried(monkeypatch, [weak] * 6)
    attack(setting=Setting(steps=1, samples=1, restarts=2, targets=3))
    with torch.no_grad():
        ranked = eot.wrong_classes(NET(X).log_softmax(1), Y)
    goals = [goal for _, goal in given_to]
    assert goals == [ranked[:, rank].tolist() for rank in (0, 1, 2, 0, 1, 2)]


def test_a_restart_begins_elsewhere():
    draws, starts = Draws("attack"), []
    for restart in range(2):
        of_try = Draws("try", draws.key, restart, -1)
        starts.append(attacks.random_start(of_try, INDEX, 0 * INDEX, X.shape[1:], EPSILON))
    assert not torch.equal(*starts)
    first = attack(setting=Setting(samples=1, steps=1, size=1e-6))
    torch.testing.assert_close(first, (X + starts[0]).clamp(0, 1), atol=1e-5, rtol=0)
    more = attack(setting=Setting(samples=1, steps=1, size=1e-6, restarts=2))
    both = torch.stack([margins((X + start).clamp(0, 1)) for start in starts])
    torch.testing.assert_close(margins(more), both.amax(0), atol=1e-4, rtol=0)
    assert (both[1] > both[0]).any()


def test_passes_are_counted():
    setting = Setting(samples=3, steps=7, restarts=2, targets=4)
    assert setting.passes == 3 * 7 * 2 * 4
    assert Setting(samples=3, steps=7).passes == 21
    spy = Spy(NET, 0.1)
    attack(spy, setting=Setting(samples=3, steps=7))
    assert len(set(spy.seen)) == 21 * COUNT


# What it draws


def test_every_step_takes_k_draws_afresh():
    spy, samples, steps = Spy(NET, 0.1, draws=30), 3, 4
    attack(spy, setting=Setting(samples=samples, steps=steps))
    keys = {key for key, _, _ in spy.seen}
    assert len(keys) == steps
    for key in keys:
        asked = {pair[1:] for pair in spy.seen if pair[0] == key}
        assert asked == {(index, draw) for index in INDEX.tolist() for draw in range(samples)}


def test_of_a_frozen_defense_every_step_takes_all_draws():
    spy, fixed = Spy(NET, 0.1, draws=3), Draws("fixed")
    frozen = spy.frozen(fixed)
    attack(frozen, setting=Setting(samples=2, steps=4))
    assert set(spy.seen) == {(fixed.key, 0, draw) for draw in range(3)}


def test_what_an_image_becomes_does_not_depend_on_its_batch(net, pool, splits):
    test = splits.test.take(slice(7))
    x, y, index = test.pixels(), test.labels, test.index
    setting = Setting(samples=2, steps=3, restarts=2)
    for defense in (
        GaussianNoise(net, 0.2, chunk=8),
        MixupInference(net, pool, "ol", 0.6, chunk=8),
    ):
        whole = attack(defense, x, y, index=index, setting=setting)
        places = torch.tensor([5, 0, 3])
        part = attack(defense, x[places], y[places], index=index[places], setting=setting)
        assert torch.equal(part, whole[places])
        other = attack(defense, x[places], y[places], index=index[places] + 1, setting=setting)
        assert not torch.equal(other, part)


@pytest.mark.parametrize("state", [0, 1])
def test_a_module_that_draws_by_itself_draws_as_it_is_told_and_leaves_the_generator(state):
    expected, noisy = attack(Noisy(), setting=Setting(samples=2, steps=3)), Noisy()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        found = attack(noisy, setting=Setting(samples=2, steps=3))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(found, expected)
    assert len(set(noisy.seen)) == 2 * 3  # each draw of each step is another one
    assert not torch.equal(attack(Noisy(), draws=Draws("other")), attack(Noisy()))


def test_draws_that_attacked_are_not_for_scoring():
    defense, draws = GaussianNoise(toy(), 0.1), Draws("attacked")
    attack(defense, draws=draws)
    with pytest.warns(UserWarning, match="score with others"):
        defense.probabilities(X, draws)


# Forms of input


@pytest.mark.parametrize("name", ["classifier", "chunk", "classes", "fixed"])
def test_what_a_module_calls_its_own_is_left_to_it(name):
    """A torchvision net has a head `classifier`; others have the names of the classes."""
    module = Gives(NET.forward)
    setattr(module, name, ["cat", "dog"])
    assert torch.equal(attack(module), attack())


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_a_class_that_is_ruled_out_changes_nothing(loss):
    """Its logit is -inf: the other classes are attacked as if it were not there."""
    ruled_out = torch.full((1,), -math.inf)
    masked = Gives(lambda x: torch.cat([NET(x), ruled_out.expand(len(x), 1)], 1))
    setting = Setting(loss, 2, 3)
    assert torch.equal(attack(masked, setting=setting), attack(setting=setting))


def test_float64_stays_float64():
    noise = GaussianNoise(toy(kind=torch.float64), 0.1)
    found = attack(noise, X.double(), setting=Setting(samples=2, steps=3, restarts=2))
    assert found.dtype == torch.float64
    assert (found - X.double()).abs().max() <= EPSILON + 1e-12
    single = attack(GaussianNoise(NET, 0.1), setting=Setting(samples=2, steps=3, restarts=2))
    torch.testing.assert_close(found.float(), single, atol=1e-4, rtol=0)


@pytest.mark.parametrize("defense", [NET, GaussianNoise(NET, 0.1), Noisy()])
def test_no_image_gives_none(defense):
    assert attack(defense, X[:0], Y[:0]).shape == (0, 1, 4, 4)


def test_inference_mode_and_no_grad_make_no_difference():
    expected = attack(GaussianNoise(NET, 0.1))
    with torch.inference_mode():
        assert torch.equal(attack(GaussianNoise(NET, 0.1), X + 0, Y + 0), expected)
    with torch.no_grad():
        assert torch.equal(attack(GaussianNoise(NET, 0.1)), expected)


def test_it_is_on_the_public_face():
    assert milib.attack is eot.attack
    assert Setting("margin", 5, 100, "decaying", 0.25, 0.0, 1, 0) == eot.STANDARD


WRONG = {
    "no net": (lambda: attack(lambda x: x), "classifier is <function"),
    "no setting": (lambda: attack(setting="standard"), "setting is 'standard': a Setting"),
    "no draws": (lambda: attack(draws=0), "draws is 0: a Draws"),
    "epsilon 8": (lambda: attack(epsilon=8), "8 / 255 was probably meant"),
    "0..255": (lambda: attack(x=255 * X), "divide by 255"),
    "labels above L": (lambda: attack(y=Y + CLASSES), "the classes are 0..4"),
    "labels one-hot": (lambda: attack(y=torch.eye(COUNT)), "argmax(1)"),
    "index too short": (lambda: attack(index=INDEX[:2]), "index is a tensor [2]"),
    "training mode": (
        lambda: attack(nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 5))),
        "call .eval() first",
    ),
    "one logit": (lambda: attack(toy(1), y=0 * Y), "1 logit"),
    "detached": (lambda: attack(Gives(lambda x: NET(x).detach())), "no gradient in x"),
    "NaN": (lambda: attack(Gives(lambda x: NET(x) * math.nan)), "returns NaN"),
    "NaN in the gradient": (
        lambda: attack(Gives(lambda x: NET(x) + (x * 0).sqrt().sum())),
        "gradient of the classifier is NaN",
    ),
    "probabilities": (lambda: attack(Gives(lambda x: NET(x).softmax(1))), "probabilities"),
    "a tuple": (lambda: attack(Gives(lambda x: (NET(x), x))), "returns tuple"),
    "[B]": (lambda: attack(Gives(lambda x: x.sum((1, 2, 3)))), "logits [1, L]"),
    "integers": (lambda: attack(Gives(lambda x: NET(x).long())), "in floating point"),
    "dlr of two classes": (
        lambda: attack(toy(2), y=Y % 2, setting=Setting("dlr", 1, 1)),
        "three classes",
    ),
    "size 0": (lambda: Setting(size=0), "a share of epsilon"),
    "loss": (lambda: Setting("dlx"), "nearest: 'dlr'"),
    "schedule": (lambda: Setting(schedule="cosine"), "schedule is 'cosine'"),
    "samples 0": (lambda: Setting(samples=0), "samples is 0"),
    "steps 1.5": (lambda: Setting(steps=1.5), "steps is 1.5"),
    "restarts 0": (lambda: Setting(restarts=0), "restarts is 0"),
    "targets -1": (lambda: Setting(targets=-1), "targets is -1"),
    "size 3": (lambda: Setting(size=3), "a share of epsilon"),
    "momentum 1": (lambda: Setting(momentum=1), "momentum is 1"),
}


class Gives(nn.Module):
    """A module that answers with a function of the images."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x):
        return self.answer(x)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_call_ends_in_one_line(as_a_user, name):
    call, words = WRONG[name]
    with pytest.raises(UserError) as caught:
        call()
    assert words in str(caught.value) and "\n" not in str(caught.value)


# Losses and samples


def test_losses_by_hand():
    log = torch.tensor([[0.5, 0.3, 0.15, 0.05], [0.1, 0.6, 0.1, 0.2]]).log()
    label = torch.tensor([0, 3])
    torch.testing.assert_close(losses.at(log, label).exp(), torch.tensor([0.5, 0.2]))
    expected = torch.tensor([math.log(0.3 / 0.5), math.log(0.6 / 0.2)])
    torch.testing.assert_close(losses.margin(log, label), expected)
    spread = torch.tensor([math.log(0.5 / 0.15), math.log(0.6 / 0.1)])
    each = log[:, None]
    torch.testing.assert_close(losses.value("dlr", each, label), expected / spread)
    torch.testing.assert_close(losses.value("margin", each, label), expected)
    torch.testing.assert_close(losses.value("eq24", each, label), torch.tensor([-0.5, -0.2]))
    for name in ("ce", "mean_ce"):  # of one draw the two are one
        torch.testing.assert_close(losses.value(name, each, label), -losses.at(log, label))


def test_the_mean_of_losses_is_not_the_loss_of_the_mean():
    each = torch.tensor([[[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]]]).log()
    label = torch.tensor([0])
    torch.testing.assert_close(losses.mean(each).exp(), torch.tensor([[0.45, 0.45, 0.1]]))
    assert losses.value("ce", each, label).item() == pytest.approx(-math.log(0.45))
    mean = -(math.log(0.8) + math.log(0.1)) / 2
    assert losses.value("mean_ce", each, label).item() == pytest.approx(mean)
    for name in losses.LOSSES:
        value = losses.value(name, each, label)
        assert torch.equal(losses.value(name, each, label, True), -value)


def test_the_samples_of_a_step_average_to_the_prediction():
    noise, draws = GaussianNoise(NET, 0.2, draws=4), Draws("some")
    each = Sampler(noise, 4).each(X, INDEX, draws)
    assert each.shape == (COUNT, 4, CLASSES)
    torch.testing.assert_close(losses.mean(each), log_mean(noise, X, INDEX, draws))
    fixed = Draws("fixed")
    held = noise.frozen(fixed)
    found = Sampler(held, 2).each(X, INDEX, draws)
    assert found.shape == (COUNT, 4, CLASSES)
    torch.testing.assert_close(losses.mean(found), log_mean(held, X, INDEX, Draws("other")))
    with torch.no_grad():
        torch.testing.assert_close(losses.mean(found), held(X))


def test_blocks_fit_the_chunk_and_no_more_than_a_hundred():
    for chunk, samples, images in ((256, 5, 20), (40, 5, 8), (4, 5, 1), (1000, 100, 1)):
        sampler = Sampler(GaussianNoise(NET, 0.1, chunk=chunk), samples)
        assert sampler.block == images, (chunk, samples)
        assert isinstance(sampler.classifier, Defense)
        assert sampler.classifier.draws == samples
        assert sampler.classifier.chunk == min(chunk, images * samples)


def test_a_module_predicts_once_in_use_and_k_times_in_a_step():
    noisy, draws = Noisy(), Draws("some")
    with torch.no_grad():
        each = Sampler(noisy, 3).each(X, INDEX, draws)
        assert each.shape == (COUNT, 3, CLASSES)
        assert not torch.equal(each[:, 0], each[:, 1])
    once = log_mean(noisy, X, INDEX, draws)
    assert torch.equal(once, log_mean(noisy, X, INDEX, draws))
    assert not torch.equal(once, log_mean(noisy, X, INDEX, Draws("other")))
    torch.testing.assert_close(once.exp().sum(1), torch.ones(COUNT))
