"""Figures of notebook 08: accuracy against what an attack is given."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from milib import statistics
from milib.audit import measure
from milib.shapes import Values
from milib.study.experiments import beyond
from milib.views.looks import COLOURS, OUTSIDE, panels

GIVEN = {"steps": "steps", "samples": "K, draws in each step", "restarts": "restarts"}
"""What is varied, and the label of its axis."""


def convergence(
    tuned: dict[str, dict], curves: dict[str, dict[float, Values]], epsilon: float
) -> Figure:
    """Accuracy against steps, draws in each step, restarts, and epsilon; bands: 95 % intervals.

    - tuned: of `experiments.beyond.tuned`.
    - curves: name of a variant -> radius on pixels in [0, 1] -> per-image accuracy [n].
    - epsilon: the run's, on pixels in [0, 1]: a line.
    """
    figure, axes = panels(1, len(GIVEN) + 1, 2.6, 2.6)
    for axis, (what, label) in zip(axes[0], GIVEN.items(), strict=False):
        values = {}
        for name in beyond.sweep()[what]:
            record = tuned[beyond.entry_name(what, name)]
            values[float(name)] = measure.worst([tuned["clean"], record])
        _curve(axis, values, COLOURS["mi_ol"], "MI-OL")
        axis.set(xlabel=label, xscale="log", ylim=(0, 100))
        axis.set_xticks(list(values), [f"{each:g}" for each in values])
        axis.minorticks_off()
    last = axes[0][-1]
    for number, (name, values) in enumerate(curves.items()):
        colour = COLOURS["none"] if number == 0 else COLOURS["mi_ol"]
        _curve(last, {255 * radius: each for radius, each in values.items()}, colour, name)
    last.axvline(255 * epsilon, color="gray", lw=0.8, ls=":")
    last.set(xlabel="epsilon, in 255ths", ylim=(0, 100))
    last.legend(**OUTSIDE)
    axes[0][0].set_ylabel("accuracy, %")
    return figure


def _curve(axis: Axes, values: dict[float, Values], colour: str, label: str) -> None:
    intervals = [statistics.interval(each) for each in values.values()]
    mean, low, high = ([100 * each[part] for each in intervals] for part in range(3))
    axis.plot(list(values), mean, "o-", ms=4, lw=1, color=colour, label=label)
    axis.fill_between(list(values), low, high, color=colour, alpha=0.12, lw=0)
