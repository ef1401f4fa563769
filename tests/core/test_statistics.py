"""Statistics of records against closed forms, scikit-learn, brute force and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score

from milib import statistics
from milib.errors import UserError

Z = 1.959963984540054
WITH_TIES = st.integers(-4, 4).map(lambda k: k / 4)
SCORES = arrays(float, st.integers(1, 25), elements=WITH_TIES)


def wilson(successes: float, total: int) -> tuple[float, float]:
    """Wilson (1927): the roots of (p - k/n)^2 = z^2 p (1 - p) / n."""
    share = successes / total
    middle = (share + Z**2 / (2 * total)) / (1 + Z**2 / total)
    half = Z / (1 + Z**2 / total) * (share * (1 - share) / total + Z**2 / (4 * total**2)) ** 0.5
    return middle - half, middle + half


@given(st.integers(1, 3000), st.floats(0, 1))
def test_wilson_is_its_closed_form(total, share):
    successes = round(share * total)
    low, high = statistics.wilson(successes, total)
    assert (low, high) == pytest.approx(wilson(successes, total), abs=1e-9)
    assert -1e-9 <= low <= successes / total <= high <= 1 + 1e-9


def test_interval_is_wilsons_for_zeros_and_ones_and_a_bootstrap_else():
    binary = np.repeat([1, 0], [30, 70])
    assert statistics.interval(binary) == pytest.approx((0.3, *wilson(30, 100)))
    assert statistics.interval(np.ones(50)) == pytest.approx((1, *wilson(50, 50)))
    thirds = np.tile([0, 1 / 3, 1], 40)
    assert statistics.interval(thirds) == statistics.mean_interval(thirds)


@pytest.mark.parametrize("size", [100, 300])
def test_the_bootstrap_interval_of_a_mean_is_that_of_the_central_limit(size):
    values = np.random.default_rng(size).normal(0.4, 0.3, size)
    mean, low, high = statistics.mean_interval(values)
    error = values.std() / size**0.5
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((mean - Z * error, mean + Z * error), abs=0.2 * error)
    assert statistics.mean_interval(values) == (mean, low, high)  # no chance in it
    assert statistics.mean_interval(values - 1)[1] == pytest.approx(low - 1)
    assert statistics.mean_interval(np.full(size, 0.7)) == pytest.approx((0.7, 0.7, 0.7))


@pytest.mark.parametrize(
    ("values", "shares"), [([0, 0.1, 1], [0.95, 0.045, 0.005]), ([0, 0.1, 0.5], [0.94, 0.05, 0.01])]
)
@pytest.mark.parametrize("turned", [False, True])
def test_the_interval_covers_where_next_to_no_image_is_right_or_wrong(values, shares, turned):
    """A bootstrap alone covers 69 and 86 % here."""
    draw, covered = np.random.default_rng(0), 0
    values = 1 - np.array(values) if turned else np.array(values)
    for _ in range(200):
        _, low, high = statistics.interval(draw.choice(values, 200, p=shares))
        covered += low <= values @ shares <= high
    assert covered >= 190


@given(st.floats(0, 200))
def test_an_interval_holds_its_mean_however_few_are_right(right):
    values = np.full(200, right / 200)
    mean, low, high = statistics.interval(values)
    assert low - 1e-12 <= mean <= high + 1e-12


def test_an_image_that_is_seldom_right_is_no_evidence_of_a_narrower_interval():
    none, one = np.zeros(200), np.zeros(200)
    one[0] = 0.1
    assert statistics.interval(one)[2] >= statistics.interval(none)[2] > 0.018


@pytest.mark.parametrize("value", [-0.01, 1.5])
def test_an_accuracy_outside_0_and_1_is_refused(value):
    with pytest.raises(UserError, match=r"within \[0, 1\]"):
        statistics.interval(np.array([0.5, value]))


def test_the_bootstrap_interval_covers():
    draw = np.random.default_rng(0)
    found = [
        statistics.mean_interval(draw.choice([0, 0.5, 1], 200, p=[0.2, 0.3, 0.5]))[1:]
        for _ in range(300)
    ]
    assert np.mean([low <= 0.65 <= high for low, high in found]) == pytest.approx(0.95, abs=0.035)


@given(st.integers(1, 1000), st.integers(1, 1000), st.floats(0, 1), st.floats(0, 1))
def test_two_proportions_is_newcombes_method_10_and_antisymmetric(n1, n2, share1, share2):
    k1, k2 = round(share1 * n1), round(share2 * n2)
    p1, p2 = k1 / n1, k2 / n2
    (l1, u1), (l2, u2) = wilson(k1, n1), wilson(k2, n2)
    difference, low, high = statistics.two_proportions(p1, n1, p2, n2)
    assert difference == pytest.approx(p1 - p2)
    assert low == pytest.approx(p1 - p2 - np.hypot(p1 - l1, u2 - p2), abs=1e-9)
    assert high == pytest.approx(p1 - p2 + np.hypot(u1 - p1, p2 - l2), abs=1e-9)
    assert statistics.two_proportions(p2, n2, p1, n1) == pytest.approx((-difference, -high, -low))


@pytest.mark.parametrize(("p1", "p2"), [(0.3, 0.3), (0.9, 0.8), (0.02, 0.05)])
def test_two_proportions_covers(p1, p2):
    draw = np.random.default_rng(1)
    found = [
        statistics.two_proportions(
            draw.binomial(300, p1) / 300, 300, draw.binomial(1000, p2) / 1000, 1000
        )
        for _ in range(400)
    ]
    covered = np.mean([low <= p1 - p2 <= high for _, low, high in found])
    assert covered == pytest.approx(0.95, abs=0.03)


# Detection


@given(SCORES, SCORES)
def test_auc_is_scikit_learns_with_ties_and_never_flipped(clean, adversarial):
    expected = roc_auc_score(
        np.repeat([0, 1], [len(clean), len(adversarial)]), np.concatenate([clean, adversarial])
    )
    assert statistics.auc(clean, adversarial) == pytest.approx(expected)
    assert statistics.auc(adversarial, clean) == pytest.approx(1 - expected)


def test_a_positive_gap_with_an_auc_below_one_half():
    adversarial = np.repeat([0.5, -0.1], [40, 60])
    assert adversarial.mean() == pytest.approx(0.14)
    assert statistics.auc(np.zeros(100), adversarial) == pytest.approx(0.4)


@given(SCORES, SCORES, st.sampled_from([0, 0.05, 0.3, 1]))
def test_detected_at_is_the_best_rate_any_threshold_allows(clean, adversarial, limit):
    thresholds = np.concatenate([clean, adversarial, [-np.inf]])
    allowed = [(adversarial > t).mean() for t in thresholds if (clean > t).mean() <= limit]
    allowed += [(adversarial >= t).mean() for t in thresholds if (clean >= t).mean() <= limit]
    assert statistics.detected_at(clean, adversarial, limit) == pytest.approx(max(allowed))
    false, true = statistics.roc(clean, adversarial)
    assert ((false[0], true[0]), (false[-1], true[-1])) == ((0, 0), (1, 1))
    assert (np.diff(false) >= 0).all()
    assert (np.diff(true) >= 0).all()
    assert np.trapezoid(true, false) == pytest.approx(statistics.auc(clean, adversarial))


def test_aucs_are_those_of_all_pairs_with_ties():
    draw = np.random.default_rng(3)
    clean, adversarial = draw.integers(0, 9, 40), draw.integers(2, 11, 40)
    wins = (np.sign(adversarial[:, None] - clean[None, :]) + 1) / 2
    assert statistics.auc(clean, adversarial) == wins.mean()
    weights = statistics._weights(40)
    expected = ((weights @ wins) * weights).sum(1)
    np.testing.assert_allclose(statistics.auc_samples(clean, adversarial), expected, rtol=1e-12)


def test_auc_of_many_scores_fits_into_memory():
    """All pairs would be ten thousand million."""
    many = np.arange(100_000.0)
    assert statistics.auc(many, many) == 0.5


def test_auc_samples_resample_images_with_both_their_scores():
    draw = np.random.default_rng(2)
    clean = draw.normal(0, 1, 150)
    adversarial = clean + draw.normal(0.5, 0.1, 150)
    found = statistics.auc_samples(clean, adversarial)
    assert found.shape == (statistics.RESAMPLES,)
    assert found.mean() == pytest.approx(statistics.auc(clean, adversarial), abs=0.005)
    chosen = [draw.integers(0, 150, 150) for _ in range(2000)]
    direct = np.array([statistics.auc(clean[rows], adversarial[rows]) for rows in chosen])
    assert found.std() == pytest.approx(direct.std(), rel=0.15)
    unpaired = np.array(
        [statistics.auc(clean[rows], adversarial[draw.integers(0, 150, 150)]) for rows in chosen]
    )
    assert unpaired.std() > 1.5 * found.std()


# Trade-off


@given(
    arrays(float, st.tuples(st.integers(1, 12), st.just(2)), elements=st.integers(0, 5).map(float))
)
def test_pareto_keeps_what_nothing_dominates(points):
    kept = [
        not any((other >= point).all() and (other > point).any() for other in points)
        for point in points
    ]
    assert statistics.pareto(points).tolist() == kept
    assert any(kept)


def test_percent_prints_a_mean_and_its_interval():
    assert statistics.percent((0.839, 0.8149, 0.8604)) == "83.9 [81.5, 86.0]"
