"""Attacks compared image by image."""

import numpy as np

from milib.audit.measure import accuracy, named_within, worst
from milib.shapes import Values
from milib.statistics import mean_interval, percent

POINT = 0.01
"""A difference from which on an attack counts as stronger."""
ERRORS = 1.28
"""Standard errors that it has to exceed besides: the end of a one-sided 90 % interval."""


def by_index(record: dict) -> dict[int, float]:
    """What an attack leaves of each image, by the image's index.

    - record: of `measure.scored`.
    """
    return dict(zip(record["index"], accuracy(record).tolist(), strict=True))


def less(more: dict[int, float], fewer: dict[int, float]) -> Values:
    """How much less the second leaves than the first, of each image that both met.

    - more, fewer: of `by_index`.
    """
    return np.array([more[index] - fewer[index] for index in fewer if index in more])


def taken(records: dict[str, dict], name: str) -> Values:
    """How much of each image an attack takes that met what those before it left.

    - records: of `running.run`, by attack.
    - name: of the attack.
    """
    names = named_within(records)
    before = [records[each] for each in names[: names.index(name)]]
    return worst(before) - worst([*before, records[name]])


def stronger(difference: Values) -> bool:
    """Whether an attack takes a point at least, and more than ERRORS standard errors.

    - difference: of `less` or `taken`.
    """
    if len(difference) == 0:
        return False
    error = float(difference.std()) / len(difference) ** 0.5
    return difference.mean() >= POINT and difference.mean() > ERRORS * error


def points(difference: Values) -> str:
    """The mean difference in words, with its 95 % interval.

    - difference: of `less` or `taken`.
    """
    if len(difference) == 0:
        return "no image"
    return f"{percent(mean_interval(difference))} points"
