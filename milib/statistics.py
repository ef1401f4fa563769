"""Statistics of per-example records. The image is the unit: draws are averaged per image first.

Intervals are three numbers: the value, then the ends of its 95 % interval.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import roc_curve

from milib import checks, rng
from milib.errors import UserError
from milib.shapes import OtherValues, Points, Values

RESAMPLES = 2000
"""Bootstrap resamples behind every interval that is not Wilson's."""
RARE = 5
"""Fewer right images than these, or wrong ones, are too few for a bootstrap."""


@lru_cache(maxsize=8)
def _weights(size: int) -> np.ndarray:
    """Bootstrap weights [RESAMPLES, size] with rows of sum 1: one set for all statistics."""
    draw = rng.generator("bootstrap", size)
    return draw.multinomial(size, np.full(size, 1 / size), RESAMPLES) / size


def _values(name: str, given: object, size: int | None = None) -> np.ndarray:
    """Numbers [n] as float64: finite, at least one, and `size` of them where that is given."""
    try:
        values = np.asarray(given, float)
    except (ValueError, TypeError, RuntimeError):  # the last: a tensor in a graph
        raise UserError(f"{name} is {checks.shown(given)}: numbers [n], one an image") from None
    if values.ndim != 1 or not values.size:
        raise UserError(f"{name} has shape {list(values.shape)}: [n] with n at least 1")
    if not np.isfinite(values).all():
        found = int(np.isfinite(values).argmin())
        raise UserError(f"{name}[{found}] is {values[found]}: finite numbers")
    if size is not None and len(values) != size:
        raise UserError(f"{name} has {len(values)} numbers, the other scores {size}: one an image")
    return values


def wilson(successes: int, total: int) -> tuple[float, float]:
    """The ends of Wilson's 95 % interval for a proportion (1927).

    - successes: how many of `total`.
    - total: how many in all, at least 1.

    Raises UserError for successes below 0 or above the total, and numbers that are not whole.
    """
    total = checks.count("total", total)
    successes = checks.count("successes", successes, 0, total)
    found = binomtest(successes, total).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def interval(values: Values) -> tuple[float, float, float]:
    """Mean and 95 % interval of an accuracy: Wilson's, or a bootstrap over images.

    - values: one per image [n], in [0, 1]: right or wrong, or a mean over draws.

    Wilson's is for values of 0 and 1. It is wider than means over draws need, and stands for them,
    rounded to whole images, where fewer than RARE are right, or wrong: a bootstrap is too narrow.
    Raises UserError where there is none, or one is not finite or outside [0, 1].
    """
    values = _values("values", values)
    if values.min() < 0 or values.max() > 1:
        raise UserError(f"values lie between {values.min():g} and {values.max():g}: within [0, 1]")
    right, total = values.sum(), len(values)
    if np.isin(values, (0, 1)).all() or min(right, total - right) < RARE:
        return float(values.mean()), *wilson(round(right), total)
    return mean_interval(values)


def mean_interval(values: Values) -> tuple[float, float, float]:
    """Mean and its 95 % interval from a bootstrap over images.

    - values: one per image [n]; for a paired comparison, the differences.

    Raises UserError where there is none, or one is not finite.
    """
    values = _values("values", values)
    low, high = np.quantile(_weights(len(values)) @ values, (0.025, 0.975))
    return float(values.mean()), float(low), float(high)


def two_proportions(
    first: float, first_total: int, second: float, second_total: int
) -> tuple[float, float, float]:
    """The difference first - second of independent proportions, and its 95 % interval.

    - first, second: the proportions.
    - first_total, second_total: how many each is taken of.

    The interval is Newcombe's (1998, method 10). Raises UserError for proportions outside [0, 1]
    and totals below 1.
    """
    first, second = checks.number("first", first, 0, 1), checks.number("second", second, 0, 1)
    first_total = checks.count("first_total", first_total)
    second_total = checks.count("second_total", second_total)
    first_low, first_high = wilson(round(first * first_total), first_total)
    second_low, second_high = wilson(round(second * second_total), second_total)
    difference = first - second
    low = difference - ((first - first_low) ** 2 + (second_high - second) ** 2) ** 0.5
    high = difference + ((first_high - first) ** 2 + (second - second_low) ** 2) ** 0.5
    return difference, low, high


def _ranked(clean: np.ndarray, adversarial: np.ndarray) -> tuple[np.ndarray, ...]:
    """The order of the clean scores; how many are below each adversarial one, and not above."""
    order = np.argsort(clean, kind="stable")
    below = np.searchsorted(clean[order], adversarial, "left")
    return order, below, np.searchsorted(clean[order], adversarial, "right")


def auc(clean: Values, adversarial: OtherValues) -> float:
    """Area under the ROC curve; never flipped to exceed one half.

    - clean: scores of clean inputs [n].
    - adversarial: scores of adversarial inputs [m], expected to be higher.

    Raises UserError where there is none, or one is not finite.
    """
    clean, adversarial = _values("clean", clean), _values("adversarial", adversarial)
    _, below, not_above = _ranked(clean, adversarial)
    return float((below.sum() + not_above.sum()) / 2 / (len(clean) * len(adversarial)))


def auc_samples(clean: Values, adversarial: Values) -> np.ndarray:
    """The AUC in every bootstrap resample [RESAMPLES]; the two scores of an image move together.

    - clean, adversarial: scores of the same images [n].

    Raises UserError where there is none, one is not finite, or their numbers differ.
    """
    clean = _values("clean", clean)
    adversarial = _values("adversarial", adversarial, len(clean))
    weights = _weights(len(clean))
    order, below, not_above = _ranked(clean, adversarial)
    # the weight of the clean scores below the first, the second, ... in their order
    summed = np.pad(weights[:, order].cumsum(1), ((0, 0), (1, 0)))
    return ((summed[:, below] + summed[:, not_above]) / 2 * weights).sum(1)


def roc(clean: Values, adversarial: OtherValues) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates of the detection `score > threshold`, by rising rates.

    - clean, adversarial: scores [n] and [m].

    Raises UserError where there is none, or one is not finite.
    """
    clean, adversarial = _values("clean", clean), _values("adversarial", adversarial)
    truth = np.repeat([0, 1], [len(clean), len(adversarial)])
    scores = np.concatenate([clean, adversarial])
    false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
    return false, true


def detected_at(clean: Values, adversarial: OtherValues, false_positives: float = 0.05) -> float:
    """The highest true positive rate that a threshold reaches within a false positive rate.

    - clean, adversarial: scores [n] and [m].
    - false_positives: the largest rate allowed, in [0, 1].

    Raises UserError for another rate, and as `roc` does.
    """
    false_positives = checks.number("false_positives", false_positives, 0, 1)
    false, true = roc(clean, adversarial)
    return float(true[false <= false_positives].max())


def pareto(points: Points) -> Values:
    """Which points no other point beats in one coordinate without losing in the other: bool [n].

    - points: (clean, robust accuracy) [n, 2].

    Raises UserError for another shape and where a number is not finite.
    """
    try:
        points = np.asarray(points, float)
    except (ValueError, TypeError):
        raise UserError(f"points is {checks.shown(points)}: numbers [n, 2]") from None
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise UserError(f"points has shape {list(points.shape)}: [n, 2] with n at least 1")
    if not np.isfinite(points).all():
        raise UserError("points holds NaN or inf: finite numbers [n, 2]")
    better = (points[:, None] >= points[None]).all(2) & (points[:, None] > points[None]).any(2)
    return np.logical_not(better.any(0))


def percent(values: tuple[float, float, float]) -> str:
    """A mean and its interval in percent: "83.9 [81.5, 86.0]".

    - values: mean, low and high end, as fractions.

    Raises UserError where they are not three finite numbers.
    """
    if not isinstance(values, Sequence | np.ndarray) or len(values) != 3:
        raise UserError(f"values is {checks.shown(values)}: (mean, low end, high end)")
    shares = _values("values", values).tolist()
    mean, low, high = (round(100 * share, 1) + 0.0 for share in shares)  # never minus zero
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"
