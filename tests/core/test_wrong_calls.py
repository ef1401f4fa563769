"""Wrong calls of attacks and defenses end in one line; legitimate ones near them work."""

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from milib import (
    Dataset,
    Defense,
    Draws,
    MICombined,
    MixupInference,
    SamplePool,
    UserError,
    adaptive_pgd,
    attacks,
    build_model,
    checks,
    defenses,
    frozen,
    inference,
    pgd,
    score,
)
from milib.adaptive import adaptive_gradient
from milib.averaging import Undefended
from milib.baselines import GaussianNoise, RandomCropResize, RandomPadding, RandomRotation

pytestmark = pytest.mark.usefixtures("as_a_user")
NAN, INF = float("nan"), float("inf")


def linear(inputs: int = 192, classes: int = 10) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, classes)).eval()


def pool_of(classes: int = 10, shape: tuple[int, ...] = (3, 8, 8)) -> SamplePool:
    labels = torch.arange(20) % classes
    images = torch.zeros(20, *shape, dtype=torch.uint8)
    return SamplePool(Dataset(images, labels, torch.arange(20), classes, 255))


class Gives(nn.Module):
    """A net that returns what a function makes of its images."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


X = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(4)
NET, POOL = linear(), pool_of()
PL, OL = (MixupInference(NET, POOL, mode, 0.5, draws=2) for mode in ("pl", "ol"))
NOISE = GaussianNoise(NET, 0.1, draws=2)


def attack(net=NET, x=X, y=Y, **changes):
    return pgd(net, x, y, **({"epsilon": 0.1, "step_size": 0.02, "steps": [2]} | changes))


def adaptively(mi=OL, x=X, y=Y, index=Y, draws=None, **changes):
    options = {"variant": "eq24", "samples": 2, "epsilon": 0.1, "step_size": 0.02, "steps": 2}
    return adaptive_pgd(mi, x, y, index, draws or Draws("attack"), **(options | changes))


def mixed(**changes):
    given = {"classifier": NET, "pool": POOL, "mode": "ol", "ratio": 0.5} | changes
    return MixupInference(**given)


def noisy(**changes):
    return GaussianNoise(**({"classifier": NET, "sigma": 0.1} | changes))


def by_batch():
    """A net that looks at its batch in eval mode too."""
    return nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), NET).eval()


def shuffled():
    data = TensorDataset(X, Y)
    return DataLoader(data, batch_sampler=BatchSampler(RandomSampler(data), 2, False))


class Halved(Defense):
    """A transformation that loses images."""

    def transform(self, x, predicted, index, draw, draws):
        return x[: len(x) // 2]


def of_pixel(value: float):
    changed = X.clone()
    changed[0, 0, 0, 0] = value
    return changed


def broken_gradient(x):
    """Finite logits whose gradient is NaN."""
    return NET((x * 0).sqrt() + x)


WRONG = {
    # images
    "pgd: 0..255": (lambda: attack(x=255 * X), "x must be finite and lie in"),
    "pgd: [-1, 1]": (lambda: attack(x=2 * X - 1), "x + 1"),
    "pgd: a NaN": (lambda: attack(x=of_pixel(NAN)), "x must be finite"),
    "pgd: an inf": (lambda: attack(x=of_pixel(INF)), "x must be finite"),
    "pgd: bytes": (lambda: attack(x=(255 * X).byte()), "x is uint8"),
    "pgd: numpy": (lambda: attack(x=X.numpy()), "x is ndarray"),
    "pgd: one image": (lambda: attack(x=X[0]), "x[None]"),
    "pgd: flat": (lambda: attack(x=X.flatten(1)), "x has shape [4, 192]"),
    "pgd: no pixels": (lambda: attack(x=X[:, :, :0]), "images without pixels"),
    "pgd: None": (lambda: attack(x=None), "x is NoneType"),
    "forward: 0..255": (lambda: NOISE(255 * X), "x must be finite and lie in"),
    "forward: normalised": (lambda: OL(2 * X - 1), "x must be finite and lie in"),
    "forward: a NaN": (lambda: NOISE(of_pixel(NAN)), "x must be finite"),
    "forward: bytes": (lambda: NOISE((255 * X).byte()), "x is uint8"),
    "forward: one image": (lambda: NOISE(X[0]), "x[None]"),
    "forward: other shape": (lambda: OL(X[:, :, :6]), "sample pool [3, 8, 8]"),
    "combined: other shape": (lambda: MICombined(PL, OL, 0)(X[:, :, :6]), "sample pool [3, 8, 8]"),
    "probabilities: a NaN": (lambda: OL.probabilities(of_pixel(NAN), Draws(0)), "finite"),
    "each: 0..255": (lambda: OL.each(255 * X, Draws(0)), "x must be finite"),
    "base: 0..255": (lambda: OL.base(255 * X), "x must be finite"),
    "inference: 0..255": (lambda: inference.probabilities(NET, 255 * X, 4), "x must be finite"),
    # labels and indices
    "labels -100": (lambda: attack(y=Y * 0 - 100), "label holds -100"),
    "labels one-hot": (lambda: attack(y=torch.eye(4, 10)), "argmax(1)"),
    "labels floats": (lambda: attack(y=Y.float()), "label is a tensor [4] of float32"),
    "labels bools": (lambda: attack(y=Y > 1), "label is a tensor [4] of bool"),
    "labels too few": (lambda: attack(y=Y[:3]), "integers [4]"),
    "labels a list": (lambda: attack(y=[0, 1, 2, 3]), "label is list"),
    "labels above L": (lambda: attack(y=Y + 7), "label holds 10"),
    "adaptive: labels above L": (lambda: adaptively(y=Y + 7), "label holds 10"),
    "adaptive: index too short": (lambda: adaptively(index=Y[:2]), "index is a tensor [2]"),
    "index too short": (lambda: NOISE.probabilities(X, Draws(0), Y[:2]), "index is a tensor [2]"),
    "index floats": (lambda: NOISE.probabilities(X, Draws(0), Y.float()), "index is a tensor"),
    "index negative": (lambda: NOISE.probabilities(X, Draws(0), -Y), "index holds -3"),
    # eps, steps
    "epsilon 8": (lambda: attack(epsilon=8), "8 / 255 was probably meant"),
    "epsilon -0.1": (lambda: attack(epsilon=-0.1), "epsilon is -0.1"),
    "epsilon NaN": (lambda: attack(epsilon=NAN), "epsilon is nan"),
    "epsilon a text": (lambda: attack(epsilon="8/255"), "epsilon is '8/255'"),
    "epsilon a tensor": (lambda: attack(epsilon=torch.tensor([0.1])), "epsilon is a tensor"),
    "epsilon True": (lambda: attack(epsilon=True), "epsilon is True"),
    "step_size 0": (lambda: attack(step_size=0), "step_size is 0"),
    "step_size -1": (lambda: attack(step_size=-0.01), "step_size is -0.01"),
    "step_size 2": (lambda: attack(step_size=2), "2 / 255"),
    "steps []": (lambda: attack(steps=[]), "steps is []"),
    "steps 0": (lambda: attack(steps=0), "steps is 0"),
    "steps [0, 10]": (lambda: attack(steps=[0, 10]), "steps[0] is 0"),
    "steps [10.0]": (lambda: attack(steps=[10.0]), "steps[0] is 10.0"),
    "steps True": (lambda: attack(steps=True), "steps is True"),
    "steps a text": (lambda: attack(steps="10"), "steps is '10'"),
    "start of other shape": (lambda: attack(start=X[:1]), "start is a tensor"),
    "start NaN": (lambda: attack(start=X * NAN), "start is a tensor"),
    "adaptive: epsilon 8": (lambda: adaptively(epsilon=8), "8 / 255"),
    "adaptive: steps 2.0": (lambda: adaptively(steps=2.0), "steps is 2.0"),
    "adaptive: samples 0": (lambda: adaptively(samples=0), "samples is 0"),
    "adaptive: eq25": (lambda: adaptively(variant="eq25"), "nearest: 'eq24'"),
    "adaptive: a target as published": (
        lambda: adaptively(variant="as_published", targeted=True),
        "no target",
    ),
    "adaptive: a bare net": (lambda: adaptively(mi=NET), "mi is Sequential"),
    "adaptive: combined": (lambda: adaptively(mi=MICombined(PL, OL, 0)), "MI-Combined is no one"),
    "adaptive: a seed": (lambda: adaptively(draws=7), "draws is 7"),
    "gradient: eq25": (
        lambda: adaptive_gradient(OL, X, Y, Y, Draws(0), variant="eq25", first=0, samples=2),
        "nearest: 'eq24'",
    ),
    "targets of one class": (
        lambda: attacks.wrong_class(Y * 0, Draws(0), Y, 1),
        "classes is 1",
    ),
    # nets
    "one logit": (lambda: attack(net=linear(192, 1), y=Y * 0), "1 logit"),
    "one logit, defended": (lambda: noisy(classifier=linear(192, 1))(X), "1 logit"),
    "probabilities": (lambda: attack(net=Gives(lambda x: NET(x).softmax(1))), "probabilities"),
    "probabilities, defended": (
        lambda: noisy(classifier=Gives(lambda x: NET(x).softmax(1)))(X),
        "probabilities",
    ),
    "[B]": (lambda: attack(net=Gives(lambda x: x.sum((1, 2, 3)))), "returns [4] for 4 images"),
    "a tuple": (lambda: attack(net=Gives(lambda x: (NET(x), x))), "returns tuple"),
    "a tuple, defended": (lambda: noisy(classifier=Gives(lambda x: (x, x)))(X), "returns tuple"),
    "one row": (lambda: attack(net=Gives(lambda x: NET(x)[:1])), "returns [1, 10] for 4 images"),
    "NaN": (lambda: attack(net=Gives(lambda x: NET(x) * NAN)), "NaN"),
    "NaN, defended": (lambda: noisy(classifier=Gives(lambda x: NET(x) * NAN))(X), "NaN"),
    "NaN, bare": (lambda: inference.probabilities(Gives(lambda x: NET(x) * NAN), X, 4), "NaN"),
    "NaN in the gradient": (lambda: attack(net=Gives(broken_gradient)), "gradient of the"),
    "NaN in the adaptive gradient": (
        lambda: adaptively(mi=mixed(classifier=Gives(broken_gradient))),
        "gradient of the",
    ),
    "integers": (lambda: attack(net=Gives(lambda x: NET(x).long())), "in floating point"),
    "probabilities in bf16": (
        lambda: attack(net=nn.Sequential(*linear(), nn.Softmax(1)).eval().bfloat16()),
        "probabilities",
    ),
    "detached logits": (lambda: attack(net=Gives(lambda x: NET(x).detach())), "no gradient in x"),
    "batch statistics in eval mode": (
        lambda: noisy(classifier=by_batch())(X),
        "no running statistics",
    ),
    "no net": (lambda: attack(net=None), "the classifier is None"),
    "targeted no": (lambda: attack(targeted="no"), "targeted is 'no'"),
    "adaptive: targeted 1": (lambda: adaptively(targeted=1), "targeted is 1"),
    "adaptive: around noise": (lambda: adaptively(mi=mixed(classifier=NOISE)), "another defense"),
    "adaptive: NaN as published": (
        lambda: adaptively(mi=mixed(classifier=Gives(broken_gradient)), variant="as_published"),
        "gradient of the",
    ),
    "score: labels above L": (lambda: score(NOISE, [(X, Y + 7)], Draws(3)), "labels holds 10"),
    "score: a number": (lambda: score(NOISE, 5, Draws(3)), "loader is 5"),
    "score: a batch sampler that shuffles": (
        lambda: score(NOISE, shuffled(), Draws(3)),
        "loader shuffles by its RandomSampler",
    ),
    "base of NaN": (lambda: OL.probabilities(X, Draws(3), Y, OL.base(X) * NAN), "NaN"),
    "base as a list": (lambda: OL.probabilities(X, Draws(3), Y, [1.0]), "base is [1.0]"),
    "scores as arrays": (
        lambda: defenses.detection_score(OL.base(X).detach().numpy(), OL.base(X)),
        "both the same",
    ),
    "a pool of one channel inside": (
        lambda: noisy(classifier=mixed(pool=pool_of(shape=(1, 8, 8))))(X),
        "sample pool [1, 8, 8]",
    ),
    "transform to fewer": (lambda: Halved(NET, draws=2)(X), "one image of each"),
    "settings None": (lambda: defenses.build("mi_ol", NET, POOL, None), "settings is None"),
    "bytes to a net of milib": (
        lambda: build_model("small", 4, 1)((255 * X[:, :1]).byte()),
        "x is uint8",
    ),
    "no module": (lambda: noisy(classifier=lambda x: x), "classifier is <function"),
    "more classes than the pool": (
        lambda: mixed(classifier=linear(192, 20))(X),
        "20 classes, the sample pool 10",
    ),
    "fewer classes than the pool": (
        lambda: mixed(classifier=linear(192, 4), mode="pl").probabilities(X, Draws(0)),
        "4 classes, the sample pool 10",
    ),
    "adaptive: more classes": (
        lambda: adaptively(mi=mixed(classifier=linear(192, 20))),
        "20 classes, the sample pool 10",
    ),
    "frozen in fp16": (lambda: frozen(NET, "fp16"), "precision is 'fp16'"),
    "frozen a function": (lambda: frozen(len), "model is <built-in"),
    "flops of another net": (lambda: inference.flops(NET, (3, 8, 8)), "a Classifier"),
    # defenses
    "draws 2.5": (lambda: noisy(draws=2.5), "draws is 2.5"),
    "draws 0": (lambda: noisy(draws=0), "draws is 0"),
    "draws True": (lambda: noisy(draws=True), "draws is True"),
    "chunk 0": (lambda: noisy(chunk=0), "chunk is 0"),
    "chunk -5": (lambda: noisy(chunk=-5), "chunk is -5"),
    "seed a text": (lambda: noisy(seed="a"), "seed is 'a'"),
    "inference: chunk 0": (lambda: inference.probabilities(NET, X, 0), "chunk is 0"),
    "sigma -1": (lambda: noisy(sigma=-1), "sigma is -1"),
    "sigma 16": (lambda: noisy(sigma=16), "16 / 255"),
    "sigma NaN": (lambda: noisy(sigma=NAN), "sigma is nan"),
    "degrees -1": (lambda: RandomRotation(NET, -1), "degrees is -1"),
    "degrees 200": (lambda: RandomRotation(NET, 200), "degrees is 200"),
    "ratio -1": (lambda: mixed(ratio=-1), "ratio is -1"),
    "ratio 1.5": (lambda: mixed(ratio=1.5), "ratio is 1.5"),
    "ratio NaN": (lambda: mixed(ratio=NAN), "ratio is nan"),
    "ratio [0.6, 0.4]": (lambda: mixed(ratio=[0.6, 0.4]), "[least, most]"),
    "ratio of three": (lambda: mixed(ratio=[0.1, 0.2, 0.3]), "[least, most]"),
    "ratio a text": (lambda: mixed(ratio="half"), "ratio is 'half'"),
    "mode rl": (lambda: mixed(mode="rl"), "mode is 'rl'"),
    "no pool": (lambda: mixed(pool=None), "pool is None"),
    "images as pool": (lambda: mixed(pool=X), "pool is a tensor"),
    "sizes [8, 6]": (lambda: RandomPadding(NET, [8, 6]), "[least, most]"),
    "sizes [0, 0]": (lambda: RandomCropResize(NET, [0, 0]), "sizes[0] is 0"),
    "sizes 6.5": (lambda: RandomPadding(NET, 6.5), "sizes is 6.5"),
    "sizes 6": (lambda: RandomPadding(NET, 6), "[least, most]"),
    "eight_bit 1": (lambda: RandomPadding(NET, [5, 6], eight_bit=1), "eight_bit is 1"),
    "combined the wrong way": (lambda: MICombined(OL, PL, 0), "pl is an MI-OL"),
    "combined of noise": (lambda: MICombined(NOISE, OL, 0), "pl is GaussianNoise"),
    "threshold 2": (lambda: MICombined(PL, OL, 2), "threshold is 2"),
    "build mi_old": (lambda: defenses.build("mi_old", NET, POOL, {}), "nearest: 'mi_ol'"),
    "build: a setting missing": (
        lambda: defenses.build("mi_ol", NET, POOL, {}),
        "ratio is missing",
    ),
    "build: a setting unknown": (
        lambda: defenses.build("mi_ol", NET, POOL, {"ratios": 0.5}),
        "nearest: 'ratio'",
    ),
    "probabilities of a seed": (lambda: NOISE.probabilities(X, 0), "draws is 0"),
    "frozen with a seed": (lambda: NOISE.frozen(0), "draws is 0"),
    "each of a seed": (lambda: NOISE.each(X, 0), "draws is 0"),
    "base of other images": (
        lambda: OL.probabilities(X, Draws(0), Y, OL.base(X)[:2]),
        "base is a tensor",
    ),
    "scores of two shapes": (
        lambda: defenses.detection_score(OL.base(X), OL.base(X[:2])),
        "both the same",
    ),
    "draws of a tensor": (lambda: Draws(torch.tensor(1)), "words and numbers"),
}


def test_there_are_enough_of_them():
    assert len(WRONG) >= 80


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_call_ends_in_one_line(what):
    call, words = WRONG[what]
    with pytest.raises(UserError) as found:
        call()
    text = str(found.value)
    assert "\n" not in text
    assert words in text
    assert len(text) < 220


# What is legitimate works

KINDS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
MADE = {
    "none": {},
    "gaussian_noise": {"sigma": 0.1},
    "rotation": {"degrees": 20},
    "xie": {"sizes": [6, 8]},
    "guo": {"sizes": [6, 8]},
    "mi_pl": {"ratio": 0.5},
    "mi_ol": {"ratio": [0.4, 0.6]},
    "mi_any": {"ratio": 0.5},
    "mi_combined": {"ratio_pl": 0.5, "ratio_ol": 0.5, "threshold": 0.0},
}


def test_every_defense_of_the_table_is_made_here():
    assert set(MADE) == set(defenses.DEFENSES)


def build(name, net, pool=POOL, **settings):
    return defenses.build(name, net, pool, MADE[name] | settings, draws=2, chunk=3)


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("of_net", KINDS, ids=str)
@pytest.mark.parametrize("of_images", KINDS, ids=str)
def test_every_type_of_net_and_images_works(name, of_net, of_images):
    net = linear().to(of_net)
    leaf = X.to(of_images).requires_grad_()
    found = build(name, net)(leaf)
    assert found.shape == (4, 10)
    assert found.dtype in (torch.float32, torch.float64)
    assert torch.autograd.grad(found[:, 0].sum(), leaf)[0].dtype == of_images
    full = build(name, linear_like(net)).frozen(Draws(0))(X)
    near = build(name, net).frozen(Draws(0))(X.to(of_images))
    if name not in ("xie", "guo"):  # a pixel that rounds otherwise is another 8-bit pixel
        torch.testing.assert_close(near.float(), full, atol=0.1, rtol=0.05)


def linear_like(net):
    copied = linear()
    copied.load_state_dict(net.float().state_dict())
    return copied


@pytest.mark.parametrize("of_net", KINDS, ids=str)
@pytest.mark.parametrize("of_images", KINDS, ids=str)
def test_pgd_attacks_every_type_and_stays_in_the_ball(of_net, of_images):
    x = X.to(of_images)
    found = attack(net=linear().to(of_net), x=x)[:, 0]
    assert found.dtype == (torch.float64 if of_images == torch.float64 else torch.float32)
    assert (found - x).abs().max() <= 0.1 + 1e-6
    assert (found - x).abs().max() > 0.03


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.int32, torch.uint16, torch.int64])
def test_labels_and_indices_of_any_integer_type_work(kind):
    assert torch.equal(attack(y=Y.to(kind)), attack())
    found = NOISE.probabilities(X, Draws(0), Y.to(kind))
    assert torch.equal(found, NOISE.probabilities(X, Draws(0), Y))
    assert torch.equal(adaptively(y=Y.to(kind), index=Y.to(kind)), adaptively())


def test_steps_may_be_one_number_a_range_or_a_tuple():
    assert torch.equal(attack(steps=2), attack(steps=[2]))
    assert torch.equal(attack(steps=range(1, 3)), attack(steps=(1, 2)))
    assert attack(steps=[3, 1]).shape[1] == 2
    for steps in (np.array([1, 2]), torch.tensor([1, 2])):
        assert torch.equal(attack(steps=steps), attack(steps=[1, 2]))


def test_settings_of_numpy_and_torch_work():
    given = {"epsilon": torch.tensor(0.1), "step_size": np.float32(0.02), "steps": np.int64(2)}
    assert torch.equal(attack(**given), attack(step_size=float(np.float32(0.02))))
    assert mixed(ratio=np.array([0.25, 0.5])).ratio == (0.25, 0.5)
    assert RandomPadding(NET, torch.tensor([5, 7])).sizes == [5, 7]


def test_a_net_may_be_frozen_twice_and_have_no_bias():
    net = build_model("small", 4, 1).eval()
    x = X[:, :1]
    assert torch.equal(frozen(frozen(net))(x), frozen(net)(x))
    other = nn.Sequential(nn.Flatten(), nn.Linear(192, 4, bias=False)).eval()
    assert torch.equal(frozen(other)(X), other(X))


@pytest.mark.parametrize("name", MADE)
def test_an_empty_batch_gives_an_empty_result(name):
    defense, none, empty = build(name, NET), X[:0], Y[:0]
    assert defense(none).shape == (0, 10)
    assert defense.frozen(Draws(0))(none.clone().requires_grad_()).shape == (0, 10)
    assert defense.probabilities(none, Draws(1), empty).shape == (0, 10)
    assert attack(net=defense, x=none, y=empty).shape == (0, 1, 3, 8, 8)
    assert attack(x=none, y=empty).shape == (0, 1, 3, 8, 8)
    assert inference.probabilities(NET, none, 4).shape == (0, 10)
    if name.startswith("mi_") and name != "mi_combined":
        assert adaptively(mi=defense, x=none, y=empty, index=empty).shape == none.shape


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("side", [(8, 10), (12, 5), (1, 9)])
def test_images_need_not_be_square(name, side):
    net, pool = linear(3 * side[0] * side[1]), pool_of(shape=(3, *side))
    x = torch.rand(4, 3, *side, generator=torch.Generator().manual_seed(0))
    found = build(name, net, pool)(x)
    assert found.shape == (4, 10)
    assert found.isfinite().all()


@pytest.mark.parametrize("name", ["xie", "guo"])
def test_crops_of_larger_images(name):
    net, x = linear(3 * 40 * 64), torch.rand(2, 3, 40, 64)
    assert build(name, net, None, sizes=[33, 39])(x).isfinite().all()


@pytest.mark.parametrize("name", ["xie", "guo"])
def test_a_whole_crop_of_an_image_is_the_image(name):
    """A square of the shorter side, where it is the longer side too, moves nothing."""
    x = (X * 255).round() / 255
    rows, draws = torch.arange(4), Draws(0)
    found = build(name, NET, sizes=[8, 8]).transform(x, None, rows, rows, draws)
    torch.testing.assert_close(found, x)


def test_rounding_may_take_a_pixel_a_little_out_of_its_range():
    assert NOISE(X.clamp(0, 1) + 1e-6).isfinite().all()


def test_a_net_without_weights_works():
    assert noisy(classifier=Gives(lambda x: x.flatten(1)[:, :5] * 3))(X).shape == (4, 5)


def test_a_subclass_of_a_few_lines_is_checked_too():
    class Mirrored(Defense):
        def transform(self, x, predicted, index, draw, draws):
            return x.flip(3)

    assert torch.equal(Mirrored(NET, draws=1)(X), Undefended(NET)(X.flip(3)))
    with pytest.raises(UserError, match="divide by 255"):
        Mirrored(NET)(255 * X)


# The checks themselves

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.floats())
)


@given(value=VALUES)
def test_a_number_is_within_its_bounds_or_refused(value):
    for check, low, high in (
        (lambda given: checks.number("n", given, 0, 1), 0, 1),
        (lambda given: checks.radius("n", given), 0, 1),
        (lambda given: checks.step("n", given), 0, 1),
        (lambda given: checks.count("n", given, 1, 30), 1, 30),
    ):
        try:
            found = check(value)
        except UserError as error:
            assert str(error).startswith("n is ")
            assert "\n" not in str(error)
        else:
            assert low <= found <= high
            assert found == value
            assert not isinstance(value, bool)


@given(epsilon=VALUES, step_size=VALUES, steps=VALUES)
def test_any_settings_of_pgd_are_followed_or_refused(epsilon, step_size, steps):
    if isinstance(steps, int) and steps > 20:
        steps %= 20
    try:
        found = attack(epsilon=epsilon, step_size=step_size, steps=steps)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert (found[:, 0] - X).abs().max() <= epsilon + 1e-6


@given(ratio=VALUES, draws=VALUES, chunk=VALUES, seed=VALUES)
def test_any_settings_of_mi_are_followed_or_refused(ratio, draws, chunk, seed):
    draws = draws % 5 if isinstance(draws, int) and draws > 4 else draws
    chunk = chunk % 50 if isinstance(chunk, int) and chunk > 50 else chunk
    try:
        found = mixed(ratio=ratio, draws=draws, chunk=chunk, seed=seed)(X)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert found.exp().sum(1).sub(1).abs().max() < 1e-4


def test_public_names_say_what_they_raise():
    for call in (pgd, adaptive_pgd, MixupInference, MICombined, Defense, build_model):
        assert "UserError" in inspect.getdoc(call)
