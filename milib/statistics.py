"""Statistics of per-example records. The image is the unit: draw sets are averaged per image first."""

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
    """Bootstrap weights [RESAMPLES, size], each row summing to 1; the same for every statistic on `size` images."""
    return (
        rng.generator("bootstrap", size).multinomial(size, np.full(size, 1 / size), RESAMPLES)
        / size
    )


def wilson(successes: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval for a proportion."""
    found = binomtest(successes, total).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def interval(values: Values) -> tuple[float, float, float]:
    """Mean and 95 % interval of per-image values [n]: Wilson's where all are 0 or 1, else a bootstrap over images."""
    values = np.asarray(values, float)
    if np.isin(values, (0, 1)).all():
        return float(values.mean()), *wilson(int(values.sum()), len(values))
    return mean_interval(values)


def mean_interval(values: Values) -> tuple[float, float, float]:
    """Mean and bootstrap 95 % interval over images of per-image values [n] (for paired comparisons: of their differences)."""
    values = np.asarray(values, float)
    low, high = np.quantile(_weights(len(values)) @ values, (0.025, 0.975))
    return float(values.mean()), float(low), float(high)


def two_proportions(
    first: float, first_total: int, second: float, second_total: int
) -> tuple[float, float, float]:
    """The difference first - second of two independent proportions with Newcombe's 95 % interval (1998, method 10)."""
    (low1, high1), (low2, high2) = (
        wilson(round(p * n), n) for p, n in ((first, first_total), (second, second_total))
    )
    difference = first - second
    low = difference - ((first - low1) ** 2 + (high2 - second) ** 2) ** 0.5
    high = difference + ((high1 - first) ** 2 + (second - low2) ** 2) ** 0.5
    return difference, low, high


def _wins(clean: Values, adversarial: OtherValues) -> np.ndarray:
    """[n, m]: 1 where the adversarial score is the higher one, 1/2 at a tie."""
    difference = np.asarray(adversarial)[:, None] - np.asarray(clean)[None, :]
    return (np.sign(difference) + 1) / 2


def auc(clean: Values, adversarial: OtherValues) -> float:
    """Area under the ROC curve for scores that are higher on adversarial inputs; never flipped to exceed one half."""
    return float(_wins(clean, adversarial).mean())


def auc_samples(clean: Values, adversarial: Values) -> np.ndarray:
    """The AUC in every bootstrap resample [RESAMPLES]; clean and adversarial scores of the same images [n] move together."""
    weights = _weights(len(clean))
    return ((weights @ _wins(clean, adversarial)) * weights).sum(1)


def roc(clean: Values, adversarial: OtherValues) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates of the detection `score > threshold`."""
    truth = np.repeat([0, 1], [len(clean), len(adversarial)])
    false, true, _ = roc_curve(truth, np.concatenate([clean, adversarial]), drop_intermediate=False)
    return false, true


def detected_at(clean: Values, adversarial: OtherValues, false_positives: float = 0.05) -> float:
    """The true positive rate at the largest threshold-reachable false positive rate that does not exceed `false_positives`."""
    false, true = roc(clean, adversarial)
    return float(true[false <= false_positives].max())


def pareto(points: Points) -> Values:
    """Which of the points [n, 2] (clean, robust accuracy) no other point beats in one coordinate without losing in the other."""
    better = (points[:, None] >= points[None]).all(2) & (points[:, None] > points[None]).any(2)
    return ~better.any(0)


def percent(values: tuple[float, float, float]) -> str:
    """'83.9 [81.5, 86.0]' from a mean and its interval."""
    return "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * value for value in values))
