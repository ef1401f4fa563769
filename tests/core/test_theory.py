"""Table 1 and Eq. 7-17 against Algorithm 1, enumerated here by loops over a hand-built world."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from milib import theory
from milib.defenses import MixupInference
from milib.rng import Draws

MODES = ("pl", "ol")
ROUNDING = 1e-5
CASES = st.fixed_dictionaries(
    {
        "classes": st.integers(3, 12),
        "y": st.integers(0, 2),
        "shift": st.integers(1, 2),
        "strength": st.floats(0.55, 1),
        "power": st.floats(1, 4),
        "transfer": st.floats(0, 1),
        "ratio": st.floats(0.05, 0.95),
        "per_class": st.integers(1, 4),
    }
)


class Enumeration:
    """Algorithm 1 at one ratio on the constructed F, a black box here: exact expectations."""

    def __init__(self, classes, y, shift, strength, power, transfer, ratio, per_class):
        attacked = (y + shift) % 3
        self.F = theory.ConstructedClassifier(classes, y, attacked, strength, power, transfer)
        self.y, self.yhat, self.classes, self.ratio = y, attacked, classes, ratio
        self.pool = self.F.pool(per_class)
        self.images = self.pool.data.pixels()
        self.x0, self.x = self.F.clean(), self.F.adversarial()
        self.spread = {
            "strength": strength,
            "power": power,
            "transfer": transfer,
            "w": np.mean([image[0, 0, -1].item() for image in self.images]),
        }

    def predict(self, x) -> np.ndarray:
        return self.F(x.double()).softmax(1)[0].numpy()

    def partners(self, mode: str, predicted: int):
        """(probability, x_s): y_s by the mode's p_s(y), then x_s uniform; pixels show the label."""
        shown = [int(image[0, 0, : self.classes].argmax()) for image in self.images]
        allowed = [k for k in range(self.classes) if (k == predicted) == (mode == "pl")]
        for image, label in zip(self.images, shown, strict=True):
            if label in allowed:
                yield 1 / len(allowed) / shown.count(label), image[None]

    def mean(self, mode: str, x) -> np.ndarray:
        """E F(x~), Eq. 20: the partners depend on the prediction at x."""
        total = np.zeros(self.classes)
        for weight, partner in self.partners(mode, int(self.predict(x).argmax())):
            total += weight * self.predict(self.ratio * x + (1 - self.ratio) * partner)
        return total

    def nonlinear(self, mode: str) -> dict[str, np.ndarray]:
        """G(delta; x0) and E G(lambda delta; x~0) as differences of F (Eq. 4 and 5).

        E G(delta; x~0), which MI never meets and which may leave the simplex, comes from the
        construction.
        """
        delta = self.x - self.x0
        found = {
            "g": self.predict(self.x) - self.predict(self.x0),
            "transferred": np.zeros(self.classes),
            "mixed": np.zeros(self.classes),
        }
        for weight, partner in self.partners(mode, self.yhat):
            virtual = self.ratio * self.x0 + (1 - self.ratio) * partner
            _, size, w = (virtual + delta).flatten().tensor_split((self.classes, self.classes + 1))
            found["transferred"] += weight * self.F.nonlinear(size.double(), w.double())[0].numpy()
            found["mixed"] += weight * (
                self.predict(virtual + self.ratio * delta) - self.predict(virtual)
            )
        return found

    def both(self, values: np.ndarray) -> tuple[float, float]:
        return values[self.y], values[self.yhat]


def linear(**changes) -> Enumeration:
    """G that shrinks at rate lambda and ignores the partner, unless changed."""
    case = {
        "classes": 10,
        "y": 0,
        "shift": 1,
        "strength": 0.9,
        "power": 1.0,
        "transfer": 0.0,
        "ratio": 0.5,
        "per_class": 2,
    }
    return Enumeration(**case | changes)


@given(CASES)
def test_constructed_f_is_what_the_theory_assumes(case):
    e = Enumeration(**case)
    g = e.nonlinear("pl")["g"]
    assert e.predict(e.x0).argmax() == e.y
    assert e.predict(e.x).argmax() == e.yhat  # Eq. 2
    assert g.sum() == pytest.approx(0, abs=ROUNDING)
    for _, partner in e.partners("ol", e.y):  # Eq. 3
        expected = e.ratio * e.predict(e.x0) + (1 - e.ratio) * e.predict(partner)
        np.testing.assert_allclose(
            e.predict(e.ratio * e.x0 + (1 - e.ratio) * partner), expected, atol=ROUNDING
        )
    for mode in MODES:
        for _, partner in e.partners(mode, e.yhat):
            raw = e.F((e.ratio * e.x + (1 - e.ratio) * partner).double()).exp().sum()
            # F lies in the simplex before any softmax
            assert raw.item() == pytest.approx(1, abs=ROUNDING)


@pytest.mark.parametrize("mode", MODES)
@given(CASES)
def test_table1_and_eq_7_to_9(mode, case):
    e = Enumeration(**case)
    parts = e.nonlinear(mode)
    pairs = {"g": e.both(parts["g"]), "mixed": e.both(parts["mixed"])}
    for adversarial, x, predicted in ((False, e.x0, e.y), (True, e.x, e.yhat)):
        table = theory.table1(
            mode, adversarial, e.ratio, e.classes, **(pairs if adversarial else {})
        )
        before, after = e.predict(x), e.mean(mode, x)
        for name, k in (("y", e.y), ("yhat", predicted)):
            assert table[name] == pytest.approx((before[k], after[k]), abs=ROUNDING)
            assert theory.delta_F(*table[name]) == pytest.approx(after[k] - before[k], abs=ROUNDING)


@pytest.mark.parametrize("mode", MODES)
@given(CASES)
def test_ric_by_eq_10_and_by_the_thresholds_of_eq_12_and_15(mode, case):
    e = Enumeration(**case)
    parts, change = e.nonlinear(mode), e.mean(mode, e.x) - e.predict(e.x)
    d_y, d_yhat = e.both(parts["g"] - parts["mixed"])
    below, above = theory.ric_thresholds(mode, e.ratio, e.classes)
    # Delta F_k = threshold - D_k: the inequalities are the same, not only alike
    assert e.both(change) == pytest.approx((below - d_y, above - d_yhat), abs=ROUNDING)
    if min(abs(change[e.y]), abs(change[e.yhat])) > ROUNDING:
        assert (
            theory.ric(*e.both(change))
            == (d_y < below and d_yhat > above)
            == (change[e.y] > 0 and change[e.yhat] < 0)
        )


@pytest.mark.parametrize("mode", MODES)
@given(CASES)
def test_the_two_mechanisms_of_eq_13(mode, case):
    e = Enumeration(**case)
    parts, s = e.nonlinear(mode), e.spread
    transfer, shrinkage = theory.mechanisms(
        *(parts[name][e.yhat] for name in ("g", "transferred", "mixed"))
    )
    felt = s["transfer"] * (1 - e.ratio) * s["w"]  # how much of G the mean partner takes away
    assert transfer == pytest.approx(s["strength"] * felt, abs=ROUNDING)
    assert shrinkage == pytest.approx(
        s["strength"] * (1 - felt) * (1 - e.ratio ** s["power"]), abs=ROUNDING
    )


@pytest.mark.parametrize("mode", MODES)
@given(CASES)
def test_detection_gap_and_its_sign(mode, case):
    e = Enumeration(**case)
    parts = e.nonlinear(mode)
    adversarial = e.predict(e.x)[e.yhat] - e.mean(mode, e.x)[e.yhat]
    clean = e.predict(e.x0)[e.y] - e.mean(mode, e.x0)[e.y]
    assert theory.detection_gap(
        e.ratio, parts["g"][e.yhat], parts["mixed"][e.yhat]
    ) == pytest.approx(adversarial - clean, abs=ROUNDING)


@given(CASES)
def test_pl_never_wins_where_g_shrinks_linearly(case):
    e = Enumeration(**case | {"power": 1.0, "transfer": 0.0})
    for mode in MODES:
        parts = e.nonlinear(mode)
        assert theory.detection_gap(e.ratio, parts["g"][e.yhat], parts["mixed"][e.yhat]) <= ROUNDING
    change, g = e.mean("pl", e.x) - e.predict(e.x), e.nonlinear("pl")["g"]
    assert not theory.ric(*e.both(change))
    assert e.both(change) == pytest.approx(
        (-(1 - e.ratio) * (1 + g[e.y]), (1 - e.ratio) * (1 - g[e.yhat])), abs=ROUNDING
    )


def test_ric_and_decisions_are_different_things():
    fast = linear(power=30.0, ratio=0.4)  # G(lambda delta) = 0
    for mode, recovered in (("pl", False), ("ol", True)):
        assert (fast.mean(mode, fast.x).argmax() == fast.y) == recovered
    slow = linear()
    change = slow.mean("ol", slow.x) - slow.predict(slow.x)
    assert theory.ric(*slow.both(change))  # MI-OL's RIC can hold in the linear case,
    assert slow.mean("ol", slow.x).argmax() != slow.y  # and the decision be wrong


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.85])
def test_the_librarys_enumeration_equals_the_tests(mode, ratio):
    e = linear(power=2.0, transfer=0.7, ratio=ratio, per_class=3)
    # classes of different sizes
    keep = torch.tensor([i for i in range(len(e.pool.data)) if i not in (0, 1, 5)])
    uneven = type(e.pool)(e.pool.data.take(keep))
    e.images = uneven.data.pixels()
    mi = MixupInference(e.F, uneven, mode, ratio, chunk=7)
    expected = np.stack([e.mean(mode, e.x0), e.mean(mode, e.x)])
    np.testing.assert_allclose(
        theory.enumerated(mi, torch.cat([e.x0, e.x])).numpy(), expected, atol=ROUNDING
    )


@pytest.mark.parametrize("mode", MODES)
def test_components_measure_the_parts_of_eq_4_to_17(mode):
    e, count = linear(power=2.0, transfer=0.9, ratio=0.6, per_class=3), 40
    mi = MixupInference(e.F, e.pool, mode, e.ratio, draws=200)
    clean, x = (image.expand(count, -1, -1, -1) for image in (e.x0, e.x))
    found = {
        k: v.double().mean(0).numpy()
        for k, v in theory.components(
            mi, clean, x, torch.arange(count), Draws("components")
        ).items()
    }
    labels = (
        np.eye(e.classes)[e.yhat]
        if mode == "pl"
        else (1 - np.eye(e.classes)[e.yhat]) / (e.classes - 1)
    )
    virtual = e.ratio * np.eye(e.classes)[e.y] + (1 - e.ratio) * labels
    expected = {
        "F(x0)": e.predict(e.x0),
        "F(x)": e.predict(e.x),
        "F(x~)": e.mean(mode, e.x),
        "F_MI(x0)": e.mean(mode, e.x0),
    }
    expected |= {"F(x~0)": virtual, "F(x~0 + delta)": np.zeros(e.classes)}
    for weight, partner in e.partners(mode, e.yhat):
        expected["F(x~0 + delta)"] += weight * e.predict(
            e.ratio * e.x0 + (1 - e.ratio) * partner + e.x - e.x0
        )
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        # 8,000 draws: five standard errors
        np.testing.assert_allclose(found[name], value, atol=0.02, err_msg=name)


@pytest.mark.parametrize("mode", MODES)
@given(CASES)
def test_measured_quantities_from_a_record_of_the_enumeration(mode, case):
    e = Enumeration(**case)
    parts, labels = (
        e.nonlinear(mode),
        [int(partner.flatten()[: e.classes].argmax()) for _, partner in e.partners(mode, e.yhat)],
    )
    virtual = e.ratio * np.eye(e.classes)[e.y] + (1 - e.ratio) * np.eye(e.classes)[labels].mean(0)
    record = {
        "F(x0)": e.predict(e.x0),
        "F(x)": e.predict(e.x),
        "F(x~)": e.mean(mode, e.x),
        "F_MI(x0)": e.mean(mode, e.x0),
    }
    record |= {"F(x~0)": virtual, "F(x~0 + delta)": virtual + parts["transferred"]}
    found = theory.measured(
        {name: [value.tolist()] for name, value in record.items()} | {"labels": [e.y]},
        mode,
        e.ratio,
    )
    assert found["eq2"][0]
    assert found["right"][0] == (record["F(x~)"].argmax() == e.y)
    for name, k in (("y", e.y), ("yhat", e.yhat)):
        change = record["F(x~)"][k] - record["F(x)"][k]
        expected = {
            "g": parts["g"][k],
            "mixed": parts["mixed"][k],
            "D": parts["g"][k] - parts["mixed"][k],
            "delta": change,
        }
        expected |= {"F": record["F(x)"][k], "FMI": record["F(x~)"][k]}
        expected |= {
            "transfer": (parts["g"] - parts["transferred"])[k],
            "shrinkage": (parts["transferred"] - parts["mixed"])[k],
        }
        for quantity, value in expected.items():
            assert found[f"{quantity}_{name}"][0] == pytest.approx(value, abs=ROUNDING), (
                quantity,
                name,
            )
        reading_b = found[f"limit_B_{name}"] - found[f"D_B_{name}"]
        assert reading_b[0] == pytest.approx(change, abs=ROUNDING)  # exact too
    gap = theory.detection_gap(e.ratio, parts["g"][e.yhat], parts["mixed"][e.yhat])
    assert (found["score_1"] - found["score_0"])[0] == pytest.approx(gap, abs=ROUNDING)


@pytest.mark.parametrize(
    ("classes", "ratio", "draws"),
    [(10, 0.15, 30), (10, 0.2, 30), (100, 0.05, 30), (3, 0.4, 7), (5, 0.5, 1), (4, 0.3, 12)],
)
def test_ideal_clean_accuracy_by_simulation(classes, ratio, draws):
    others = np.random.default_rng(classes).multinomial(
        draws, np.full(classes - 1, 1 / (classes - 1)), 40_000
    )
    wins = (ratio - (1 - ratio) * others.max(1) / draws > 1e-9).mean()
    assert theory.ideal_clean_accuracy(ratio, classes, draws) == pytest.approx(wins, abs=0.012)


@pytest.mark.parametrize(
    ("classes", "ratio", "about", "within"),
    [(10, 0.15, 0.25, 0.01), (10, 0.2, 0.87, 0.005), (100, 0.05, 0.007, 0.0005)],
)
def test_what_is_left_of_eq_17_at_30_draws(classes, ratio, about, within):
    assert theory.ideal_clean_accuracy(ratio, classes, 30) == pytest.approx(about, abs=within)


def test_eq_17_as_the_draws_grow():
    for classes in (3, 10, 50):
        above = [theory.ideal_clean_accuracy(1.5 / classes, classes, n) for n in (50, 400, 2500)]
        below = [theory.ideal_clean_accuracy(0.8 / classes, classes, n) for n in (50, 400, 2500)]
        assert np.diff(above).min() > -1e-9
        assert np.diff(below).max() < 1e-9
        assert above[-1] > 0.98
        assert below[-1] < 0.01
    for ratio in (0.5 + 1e-6, 0.9, 1.0):  # every single draw is safe only for lambda > 1/2
        assert theory.ideal_clean_accuracy(ratio, 10, 1) == pytest.approx(1)
    assert theory.ideal_clean_accuracy(0.5, 10, 1) == 0
