"""Rows and measured values of the study's tables, as `styling` names their columns."""

from typing import SupportsFloat

import pandas as pd

from milib import statistics
from milib.study.rows import accuracy

DETECTORS = ("mi_pl", "mi_ol", "confidence")
"""The detectors of 05, in the order in which they are shown."""


def rounded(value: SupportsFloat, digits: int = 1) -> float:
    """A number as a table holds it: never minus zero.

    - value: the number.
    - digits: behind the point, by default 1.
    """
    return round(float(value), digits) + 0.0


def with_interval(
    name: str, interval: tuple[float, float, float], scale: float = 100, digits: int = 1
) -> dict[str, float]:
    """The three cells of a measured value: `name`, `name low`, `name high`.

    - name: the column.
    - interval: the value, and its lower and upper end.
    - scale: their factor, by default 100 (percent).
    - digits: behind the point, by default 1.
    """
    names = (name, f"{name} low", f"{name} high")
    values = [rounded(scale * value, digits) for value in interval]
    return dict(zip(names, values, strict=True))


def table_of(lines: list[dict], *keys: str) -> pd.DataFrame:
    """A frame of rows given as dictionaries.

    - keys: the columns that say what a row is of.
    - lines: a row each, column -> cell.
    """
    frame = pd.DataFrame(lines) if lines else pd.DataFrame(columns=list(keys))
    return frame.set_index(list(keys))


def measured(record: dict, column: str) -> dict[str, float]:
    """The accuracy of a cell of a score record, in percent: see `accuracy`, `with_interval`.

    - record: of `experiments.score` or `experiments.bare`.
    - column: "clean", or "untargeted_pgd10" and the like.
    """
    return with_interval(column, statistics.interval(accuracy(record, column)))
