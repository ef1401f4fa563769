"""What is shown while something long runs, and never stored: estimates, lines, bars.

A line tells of each stage or epoch; a bar moves where somebody watches.
"""

import contextlib
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from tqdm.auto import tqdm

from milib import inference

LIVE = "»"
"""Begins every line that is never stored; tests/nbval_sanitize.cfg knows it."""
SHORT, LONG = 5, 60
"""Seconds from which a stage has a bar where somebody watches, and is announced in a line."""
DAY, YEAR = 86400, 365 * 86400
"""Seconds; durations are told in them from two of each on."""
CACHED = 0.1
"""Seconds up to which a record came from the cache: it tells nothing of those still to come."""
_bars: list[tuple[str, tqdm | None]] = []
"""The stages that run, each inside the one before: its unit, and its bar where it is long."""
Item = TypeVar("Item")


def told(seconds: float) -> str:
    """A duration in words: '40 s', '12 min', '5.5 h', '12 days', '4.4 years'.

    - seconds: the duration.
    """
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    if seconds < 5400:
        return f"{math.ceil(seconds / 60)} min"
    if seconds < 2 * DAY:
        return f"{seconds / 3600:.1f} h"
    if seconds < 2 * YEAR:
        return f"{seconds / DAY:.0f} days"
    return f"{seconds / YEAR:.1f} years"


def about(seconds: float) -> str:
    """A duration that is not known exactly: 'about 40 s'. See `told`.

    - seconds: the duration.
    """
    return f"about {told(seconds)}"


def frontend() -> bool:
    """Whether a frontend that shows controls runs this kernel: Jupyter names the notebook to it."""
    return "JPY_SESSION_NAME" in os.environ


def watched() -> bool:
    """Whether somebody looks on: a frontend, or a terminal."""
    return frontend() or sys.stderr.isatty()


def live(text: str) -> None:
    """Print a line that is not stored: the cell's output is cleared when its work is done.

    - text: one line.
    """
    print(f"{LIVE} {text}", flush=True)


def clear_live() -> None:
    """Clear the live lines of the current cell; outside a notebook they stay."""
    with contextlib.suppress(ImportError):
        from IPython import display, get_ipython

        if get_ipython() is not None:
            display.clear_output()


@contextlib.contextmanager
def stage(
    what: str, total: float, seconds: float, unit: str = "images", done: float = 0
) -> Iterator[None]:
    """Announce something long; `tick` moves its bar.

    - what: its name.
    - total: how many units it has.
    - seconds: how long it takes from here on.
    - unit: what is counted, default "images".
    - done: units that were done before, default 0.

    The cell's output is cleared at its end, so a cell computes before it shows.
    """
    bar = None
    if seconds > LONG:
        live(f"{what}: {about(seconds)}")
    if seconds > LONG or (seconds > SHORT and watched()):
        bar = _bar(what, total, unit, initial=done, unit_scale=True)
    with _running(unit, bar):
        yield


def sweep(what: str, items: Sequence[Item]) -> Iterator[Item]:
    """The items, one after the other, with a bar from SHORT seconds on.

    - what: the name of the whole.
    - items: the caller computes a record for each.

    Where all take over a minute, lines tell the time that is left: the mean of the records that
    were computed, for each item to come. The cell's output is cleared at its end, as by `stage`.
    """
    bar, computed, last = _bar(what, len(items), "records", delay=SHORT), [], -math.inf
    with _running("records", bar):
        for done, item in enumerate(items, 1):
            started = time.perf_counter()
            yield item
            now = time.perf_counter()
            bar.update(1)
            if now - started > CACHED:
                computed.append(now - started)
                left = (len(items) - done) * sum(computed) / len(computed)
                if sum(computed) + left > LONG and left and now - last > SHORT:
                    live(f"{what}: {done} of {len(items)}, {about(left)} left")
                    last = now


def tick(count: int, unit: str = "images") -> None:
    """Move the innermost bar, if it counts this unit.

    - count: how many images went through a net, or how many steps were taken.
    - unit: default "images".
    """
    if _bars:
        counted, bar = _bars[-1]
        if bar is not None and counted == unit:
            bar.update(count)


def _bar(what: str, total: float, unit: str, **more) -> tqdm:
    look = {"desc": what, "unit": f" {unit}", "leave": False, "mininterval": 0.5}
    return tqdm(total=total, disable=not watched(), **look, **more)


@contextlib.contextmanager
def _running(unit: str, bar: tqdm | None) -> Iterator[None]:
    """`bar` is the innermost until the end of the block. The outermost bar clears the output."""
    if not _bars:
        inference.observers.append(tick)
    _bars.append((unit, bar))
    try:
        yield
    finally:
        _bars.pop()
        if not _bars:
            inference.observers.remove(tick)
        if bar is not None:
            bar.close()
            if all(outer is None for _, outer in _bars):
                clear_live()
