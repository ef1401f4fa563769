"""Figures of notebook 08: accuracy against what an attack is given."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from milib import statistics
from milib.audit import measure
from milib.shapes import Values
from milib.study.experiments import beyond
from milib.views.looks import COLOURS, GREY, OUTSIDE, curve, panels
from milib.views.written import of_pixels

GIVEN = {"steps": "steps", "samples": "draws K in each step", "restarts": "restarts"}
"""What an attack is given more of, and the label of its axis."""


def convergence(
    tuned: dict[str, dict], curves: dict[str, dict[float, Values]], epsilon: float
) -> Figure:
    """Accuracy against steps, draws in each step, restarts, and epsilon; bands: 95 % intervals.

    - tuned: of `experiments.beyond.tuned`.
    - curves: the bare model's and MI-OL's, by name: radius on pixels in [0, 1] -> per-image
      accuracy [n].
    - epsilon: the run's, on pixels in [0, 1]: a line.
    """
    widths = {"width_ratios": (3, 3, 2, 4)}
    figure, axes = panels(1, len(GIVEN) + 1, 2.6, 2.6, gridspec_kw=widths)
    first, last = axes[0][0], axes[0][-1]
    for axis, (what, label) in zip(axes[0], GIVEN.items(), strict=False):
        axis.sharey(first)
        values = {}
        for name in beyond.sweep()[what]:
            record = tuned[beyond.entry_name(what, name)]
            values[float(name)] = measure.worst([tuned["clean"], record])
        axis.set(title=f"more {label.split()[0]}", xlabel=label, xscale="log")
        _curve(axis, values, "mi_ol", "MI-OL")
    last.set_xscale("symlog", linthresh=0.25, base=2)
    for defense, (label, values) in zip(("none", "mi_ol"), curves.items(), strict=True):
        _curve(last, {radius / epsilon: each for radius, each in values.items()}, defense, label)
    last.axvline(1, color=GREY, lw=0.6)
    unit = of_pixels(epsilon)
    last.set(title="larger epsilon", xlabel=f"epsilon, in units of {unit}", xlim=(0, None))
    last.legend(**OUTSIDE)
    first.set_ylabel("accuracy, %")
    for axis in (first, last):
        axis.set_ylim(0, None)
    return figure


def _curve(axis: Axes, values: dict[float, Values], defense: str, label: str) -> None:
    """Means with their intervals; a tick at each value."""
    intervals = [statistics.interval(each) for each in values.values()]
    mean, low, high = ([100 * each[part] for each in intervals] for part in range(3))
    axis.plot(list(values), mean, label=label, clip_on=False, **curve(defense))
    axis.fill_between(list(values), low, high, color=COLOURS[defense], alpha=0.12, lw=0)
    axis.set_xticks(list(values), [f"{each:.3g}" for each in values])
    axis.minorticks_off()
