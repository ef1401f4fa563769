"""What is shown while something long runs, and never stored: estimates, one line per stage or epoch, a bar where somebody watches."""

import contextlib
import math
import os
import sys
from collections.abc import Iterator

from tqdm.auto import tqdm

LIVE = "»"
"""Begins every line that is never stored; tests/nbval_sanitize.cfg knows it."""
SHORT = 5
"""A stage of at most so many seconds shows nothing."""
_bars: list[tuple[str, tqdm]] = []


def about(seconds: float) -> str:
    """'about 40 s', 'about 12 min', 'about 5.5 h'."""
    if seconds < 90:
        return f"about {math.ceil(seconds)} s"
    return f"about {math.ceil(seconds / 60)} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def watched() -> bool:
    """Whether somebody looks on: a frontend, to which Jupyter's server names the notebook, or a terminal."""
    return "JPY_SESSION_NAME" in os.environ or sys.stderr.isatty()


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
def stage(what: str, total: float, seconds: float, unit: str = "images") -> Iterator[None]:
    """Announce something that takes about `seconds`, in `total` units; `tick` moves its bar. Nothing stays of it."""
    if seconds <= SHORT:
        yield
        return
    live(f"{what}: {about(seconds)}")
    bar = tqdm(total=total, desc=what, unit=f" {unit}", unit_scale=True, disable=not watched(), leave=False, mininterval=0.5)
    _bars.append((unit, bar))
    try:
        yield
    finally:
        _bars.pop()
        bar.close()
        if not _bars:  # an outer stage is still shown
            clear_live()


def tick(count: int, unit: str = "images") -> None:
    """So many images more went through a net, or steps were taken: the innermost bar moves, if it counts them."""
    if _bars and _bars[-1][0] == unit:
        _bars[-1][1].update(count)
