"""What is shown while something long runs, and never stored: estimates, one line per stage or epoch, a bar where somebody watches."""

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
"""Seconds from which a stage has a bar where somebody watches, and from which it is announced in a line."""
CACHED = 0.1
"""Seconds up to which a record came from the cache: it says nothing about those that are not there yet."""
_bars: list[tuple[str, tqdm | None]] = []
"""The stages that run, each inside the one before: its unit, and its bar where it is long."""
Item = TypeVar("Item")


def about(seconds: float) -> str:
    """'about 40 s', 'about 12 min', 'about 5.5 h'."""
    if seconds < 90:
        return f"about {math.ceil(seconds)} s"
    return (
        f"about {math.ceil(seconds / 60)} min"
        if seconds < 5400
        else f"about {seconds / 3600:.1f} h"
    )


def frontend() -> bool:
    """Whether a frontend that can show controls runs this kernel: Jupyter's server names the notebook to it."""
    return "JPY_SESSION_NAME" in os.environ


def watched() -> bool:
    """Whether somebody looks on: a frontend, or a terminal."""
    return frontend() or sys.stderr.isatty()


def live(text: str) -> None:
    """A line that is shown while something long runs and is not stored: the cell's output is cleared when it is done."""
    print(f"{LIVE} {text}", flush=True)


def clear_live() -> None:
    """Forget the live lines of the current cell; outside a notebook they stay."""
    with contextlib.suppress(ImportError):
        from IPython import display, get_ipython

        if get_ipython() is not None:
            display.clear_output()


@contextlib.contextmanager
def stage(
    what: str, total: float, seconds: float, unit: str = "images", done: float = 0
) -> Iterator[None]:
    """Announce something that takes about `seconds` more, in `total` units of which some are `done`; `tick` moves its bar.

    Nothing stays of it: the cell's output is cleared at its end, so a cell computes before it shows.
    """
    bar = None
    if seconds > LONG:
        live(f"{what}: {about(seconds)}")
    if seconds > LONG or (seconds > SHORT and watched()):
        bar = _bar(what, total, unit, initial=done, unit_scale=True)
    with _running(unit, bar):
        yield


def sweep(what: str, items: Sequence[Item]) -> Iterator[Item]:
    """The items, each to be followed by its record; a bar from SHORT seconds on, and where all take over a minute lines with the time that is left.

    That is the mean of the records that were computed for each that is not there yet. Nothing stays of it, as with `stage`.
    """
    bar, computed, told = _bar(what, len(items), "records", delay=SHORT), [], -math.inf
    with _running("records", bar):
        for done, item in enumerate(items, 1):
            started = time.perf_counter()
            yield item
            now = time.perf_counter()
            bar.update(1)
            if now - started > CACHED:
                computed.append(now - started)
                left = (len(items) - done) * sum(computed) / len(computed)
                if sum(computed) + left > LONG and left and now - told > SHORT:
                    live(f"{what}: {done} of {len(items)}, {about(left)} left")
                    told = now


def _bar(what: str, total: float, unit: str, **more) -> tqdm:
    return tqdm(
        total=total,
        desc=what,
        unit=f" {unit}",
        leave=False,
        mininterval=0.5,
        disable=not watched(),
        **more,
    )


@contextlib.contextmanager
def _running(unit: str, bar: tqdm | None) -> Iterator[None]:
    """`bar` is the innermost until the end of the block; then the cell's output is cleared, unless an outer one is still shown."""
    _bars.append((unit, bar))
    try:
        yield
    finally:
        _bars.pop()
        if bar is not None:
            bar.close()
            if all(outer is None for _, outer in _bars):
                clear_live()


def tick(count: int, unit: str = "images") -> None:
    """So many images more went through a net, or steps were taken: the innermost bar moves, if it counts them."""
    if _bars and _bars[-1][0] == unit and _bars[-1][1] is not None:
        _bars[-1][1].update(count)


inference.observers.append(tick)
