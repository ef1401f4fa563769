"""The figures of notebook 03."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from milib import statistics, theory
from milib.study.rows import NAMES
from milib.views.looks import COLOURS, panels

BLACK = "#000000"


def mechanisms_sketch() -> Figure:
    """The idea of Fig. 1, redrawn in the input space: what processing does to a perturbation."""
    figure, axes = panels(1, 3, 3.2, 2.6)
    x0, delta = np.array([0.2, 0.25]), np.array([0.18, 0.42])
    partner, ratio = np.array([1.7, 0.55]), 0.5
    turned = delta @ np.array([[0.9, -0.6], [0.5, 0.45]])
    moved = {
        "(a) local: x + noise": (x0 + np.array([0.12, -0.05]), delta),
        "(b) image processing": (x0 + np.array([0.75, 0.1]), turned),
        "(c) mixup inference": (ratio * x0 + (1 - ratio) * partner, ratio * delta),
    }
    for axis, (title, (start, change)) in zip(axes[0], moved.items(), strict=True):
        _arrow(axis, x0, delta, BLACK, "$x_0$", "$x$")
        _arrow(axis, start, change, COLOURS["mi_ol"], r"$\tilde{x}_0$", r"$\tilde{x}$")
        if title.startswith("(c)"):
            for end in (x0, x0 + delta):
                axis.plot(*np.stack([end, partner]).T, ":", color="#666666", lw=1)
            axis.plot(*partner, "s", color=COLOURS["mi_pl"], ms=6)
            axis.annotate("$x_s$", partner, (4, -11), textcoords="offset points")
        axis.set(title=title, xlim=(-0.05, 1.9), ylim=(0, 0.85), xticks=[], yticks=[])
    return figure


def _arrow(
    axis: Axes, start: np.ndarray, change: np.ndarray, colour: str, first: str, last: str
) -> None:
    """An arrow with a name at either end."""
    head = {"arrowstyle": "-|>", "color": colour, "lw": 1.6}
    begin, end = tuple(start), tuple(start + change)
    axis.annotate("", end, begin, arrowprops=head)
    axis.plot(*start, "o", color=colour, ms=4)
    axis.annotate(first, begin, (3, -11), textcoords="offset points", color=colour)
    axis.annotate(last, end, (3, 3), textcoords="offset points", color=colour)


def monte_carlo(records: dict[str, dict]) -> Figure:
    """Eq. 6: the distance of F_MI,N from the enumerated expectation against N, and slope -1/2.

    - records: mode -> a record of experiments.monte_carlo.
    """
    figure, axes = panels(1, 1)
    axis = axes[0][0]
    for mode, record in records.items():
        name = f"mi_{mode}"
        counts, errors = np.array(record["counts"]), record["errors"]
        axis.loglog(counts, errors, "o-", ms=3, color=COLOURS[name], label=NAMES[name])
        axis.loglog(counts, errors[0] / np.sqrt(counts / counts[0]), "--", color=BLACK, lw=1)
    axis.set(xlabel="draws N", ylabel="root mean square error of $F_{MI}$")
    axis.set(title="Monte Carlo error and $1/\\sqrt{N}$")
    axis.legend()
    return figure


def fig2(records: dict[tuple[str, float], dict], classes: int) -> Figure:
    """Fig. 2, reconstructed: predictions against lambda, and both D_k with their thresholds.

    - records: (mode, ratio) -> a record of experiments.mixed_predictions.
    - classes: L.

    Beside the predictions stand the ideal lines of Table 1. D_y has the sign of the paper's note.
    """
    figure, axes = panels(4, 2, 3.3, 2.8)
    if not all(any(theory.measured(record, *key)["eq2"]) for key, record in records.items()):
        figure.suptitle("where no image satisfies Eq. 2: all images")
    ratios = sorted({ratio for _, ratio in records})
    for line, mode in zip(axes.T, ("pl", "ol"), strict=True):
        values = [theory.measured(records[mode, ratio], mode, ratio) for ratio in ratios]
        _fig2_clean(line[0], mode, ratios, values, classes)
        _fig2_attacked(line[1], mode, ratios, values, classes)
        _fig2_distances(line[2], line[3], mode, ratios, values, classes)
        for place, axis in enumerate(line):
            below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2)}
            axis.legend(fontsize=7, frameon=False, ncols=2, **below)
            shown = "probability" if place < 2 else "difference of probabilities"
            axis.set(xlabel=r"mixup ratio $\lambda$", ylabel=shown)
    return figure


GRID = np.linspace(0, 1, 51)
"""The ratios at which lines from formulas are drawn."""


def _curve(
    axis: Axes, ratios: list[float], values: list[dict], key: str, style: dict, sign: int = 1
) -> None:
    """Means of a quantity against lambda with their intervals; style: marks, colour, label.

    They are over the images of Eq. 2, or over all where none satisfies it.
    """
    means = []
    for v in values:
        chosen = v[key][v["eq2"]] if v["eq2"].any() else v[key]
        means.append(statistics.mean_interval(chosen))
    found = sign * np.array(means)
    marks, colour = style["marks"], style["colour"]
    axis.plot(ratios, found[:, 0], marks, ms=3, color=colour, label=style["label"])
    axis.fill_between(ratios, *np.sort(found[:, 1:], 1).T, color=colour, alpha=0.2, lw=0)


def _style(marks: str, colour: str, label: str) -> dict:
    return {"marks": marks, "colour": colour, "label": label}


def _fig2_clean(axis: Axes, mode: str, ratios: list[float], values: list, classes: int) -> None:
    colour = COLOURS[f"mi_{mode}"]
    ideal = [float(theory.table1(mode, False, ratio, classes)["y"][1]) for ratio in GRID]
    _curve(axis, ratios, values, "clean_MI", _style("o-", colour, "with MI"))
    _curve(axis, ratios, values, "clean", _style("-", BLACK, "without"))
    axis.plot(GRID, ideal, "--", color=colour, lw=1, label="ideal (Table 1)")
    axis.set(title=f"MI-{mode.upper()}, clean: $F_y$", ylim=(-0.03, 1.03))


def _fig2_attacked(axis: Axes, mode: str, ratios: list[float], values: list, classes: int) -> None:
    colour = COLOURS[f"mi_{mode}"]
    for key, label, mark, bare, ideal in (
        ("yhat", r"\hat{y}", "s-", "-", "--"),
        ("y", "y", "o-", ":", ":"),
    ):
        name = f"$F_{{{label}}}$"
        _curve(axis, ratios, values, f"FMI_{key}", _style(mark, colour, f"{name} with MI"))
        _curve(axis, ratios, values, f"F_{key}", _style(bare, BLACK, f"{name} without"))
        vanished = [float(theory.table1(mode, True, ratio, classes)[key][1]) for ratio in GRID]
        label = f"{name}, Table 1, no G left"
        axis.plot(GRID, vanished, ideal, color=colour, lw=1, label=label)
    axis.set(title=f"MI-{mode.upper()}, adversarial", ylim=(-0.03, 1.03))


def _fig2_distances(
    first: Axes, second: Axes, mode: str, ratios: list[float], values: list, classes: int
) -> None:
    limits = np.array([theory.ric_thresholds(mode, ratio, classes) for ratio in GRID])
    colour = COLOURS[f"mi_{mode}"]
    for axis, key, label, sign, limit in (
        (first, "D_y", "$-D_y$", -1, -limits[:, 0]),
        (second, "D_yhat", r"$D_{\hat{y}}$", 1, limits[:, 1]),
    ):
        _curve(axis, ratios, values, key, _style("o-", colour, label), sign)
        axis.plot(GRID, limit, "--", color=BLACK, lw=1, label="threshold (RIC: above)")
        axis.set(title=f"MI-{mode.upper()}: {label}")
