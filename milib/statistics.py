"""Statistics of per-example records. The image is the unit: draws are averaged per image first.

Intervals are three numbers: the value, then the ends of its 95 % interval.
"""

from functools import lru_cache

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import roc_curve

from milib import rng
from milib.shapes import OtherValues, Points, Values

RESAMPLES = 2000
"""Bootstrap resamples behind every interval that is not Wilson's."""


@lru_cache(maxsize=8)
def _weights(size: int) -> np.ndarray:
    """Bootstrap weights [RESAMPLES, size] with rows of sum 1: one set for all statistics."""
    draw = rng.generator("bootstrap", size)
    return draw.multinomial(size, np.full(size, 1 / size), RESAMPLES) / size


def wilson(successes: int, total: int) -> tuple[float, float]:
    """The ends of Wilson's 95 % interval for a proportion (1927).

    - successes: how many of `total`.
    - total: how many in all.
    """
    found = binomtest(successes, total).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def interval(values: Values) -> tuple[float, float, float]:
    """Mean and 95 % interval: Wilson's where all values are 0 or 1, else a bootstrap over images.

    - values: one per image [n].
    """
    values = np.asarray(values, float)
    if np.isin(values, (0, 1)).all():
        return float(values.mean()), *wilson(int(values.sum()), len(values))
    return mean_interval(values)


def mean_interval(values: Values) -> tuple[float, float, float]:
    """Mean and its 95 % interval from a bootstrap over images.

    - values: one per image [n]; for a paired comparison, the differences.
    """
    values = np.asarray(values, float)
    low, high = np.quantile(_weights(len(values)) @ values, (0.025, 0.975))
    return float(values.mean()), float(low), float(high)


def two_proportions(
    first: float, first_total: int, second: float, second_total: int
) -> tuple[float, float, float]:
    """The difference first - second of independent proportions, and its 95 % interval.

    - first, second: the proportions.
    - first_total, second_total: how many each is taken of.

    The interval is Newcombe's (1998, method 10).
    """
    first_low, first_high = wilson(round(first * first_total), first_total)
    second_low, second_high = wilson(round(second * second_total), second_total)
    difference = first - second
    low = difference - ((first - first_low) ** 2 + (second_high - second) ** 2) ** 0.5
    high = difference + ((first_high - first) ** 2 + (second - second_low) ** 2) ** 0.5
    return difference, low, high


def _wins(clean: Values, adversarial: OtherValues) -> np.ndarray:
    """[n, m]: 1 where the adversarial score is the higher one, 1/2 at a tie."""
    difference = np.asarray(adversarial)[:, None] - np.asarray(clean)[None, :]
    return (np.sign(difference) + 1) / 2


def auc(clean: Values, adversarial: OtherValues) -> float:
    """Area under the ROC curve; never flipped to exceed one half.

    - clean: scores of clean inputs [n].
    - adversarial: scores of adversarial inputs [m], expected to be higher.
    """
    return float(_wins(clean, adversarial).mean())


def auc_samples(clean: Values, adversarial: Values) -> np.ndarray:
    """The AUC in every bootstrap resample [RESAMPLES]; the two scores of an image move together.

    - clean, adversarial: scores of the same images [n].
    """
    weights = _weights(len(clean))
    return ((weights @ _wins(clean, adversarial)) * weights).sum(1)


def roc(clean: Values, adversarial: OtherValues) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates of the detection `score > threshold`, by rising rates.

    - clean, adversarial: scores [n] and [m].
    """
    truth = np.repeat([0, 1], [len(clean), len(adversarial)])
    scores = np.concatenate([clean, adversarial])
    false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
    return false, true


def detected_at(clean: Values, adversarial: OtherValues, false_positives: float = 0.05) -> float:
    """The highest true positive rate that a threshold reaches within a false positive rate.

    - clean, adversarial: scores [n] and [m].
    - false_positives: the largest rate allowed.
    """
    false, true = roc(clean, adversarial)
    return float(true[false <= false_positives].max())


def pareto(points: Points) -> Values:
    """Which points no other point beats in one coordinate without losing in the other: bool [n].

    - points: (clean, robust accuracy) [n, 2].
    """
    better = (points[:, None] >= points[None]).all(2) & (points[:, None] > points[None]).any(2)
    return np.logical_not(better.any(0))


def percent(values: tuple[float, float, float]) -> str:
    """A mean and its interval in percent: "83.9 [81.5, 86.0]".

    - values: mean, low and high end, as fractions.
    """
    mean, low, high = (100 * value for value in values)
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"
