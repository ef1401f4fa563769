"""Attacks compared image by image."""

import numpy as np

from milib.audit.measure import accuracy, named_within, worst
from milib.statistics import mean_interval, percent

POINT = 0.01
"""A difference from which on an attack counts as stronger."""
Difference = tuple[float, float, float]
"""A mean over images, and the ends of its 95 % interval."""


def by_index(record: dict) -> dict[int, float]:
    """What an attack leaves of each image, by the image's index.

    - record: of `measure.scored`.
    """
    return dict(zip(record["index"], accuracy(record).tolist(), strict=True))


def less(more: dict[int, float], fewer: dict[int, float]) -> Difference:
    """How much less the second leaves than the first, of the images that both met.

    - more, fewer: of `by_index`.
    """
    both = [index for index in fewer if index in more]
    if not both:
        return 0.0, 0.0, 0.0
    return mean_interval(np.array([more[index] - fewer[index] for index in both]))


def taken(records: dict[str, dict], name: str) -> Difference:
    """How much of all images an attack takes that met what those before it left.

    - records: of `running.run`, by attack.
    - name: of the attack.
    """
    names = named_within(records)
    before = [records[each] for each in names[: names.index(name)]]
    return mean_interval(worst(before) - worst([*before, records[name]]))


def stronger(difference: Difference) -> bool:
    """Whether it is a point at least, and its interval excludes 0.

    - difference: of `less` or `taken`.
    """
    return difference[0] >= POINT and difference[1] > 0


def points(difference: Difference) -> str:
    """The difference in words.

    - difference: of `less` or `taken`.
    """
    return f"{percent(difference)} points"
