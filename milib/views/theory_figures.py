"""The figures of notebook 03."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from milib import statistics, theory
from milib.study.rows import NAMES
from milib.views.looks import BLACK, COLOURS, GREY, OUTSIDE, curve, panels


def mechanisms_sketch() -> Figure:
    """The idea of Fig. 1, redrawn in the input space: what processing does to a perturbation."""
    extents = {"width_ratios": (0.75, 1.4, 1.8)}  # of the panels' x-axes: one scale for all
    figure, axes = panels(1, 3, 3.0, 2.6, sharey=True, gridspec_kw=extents)
    x0, delta = np.array([0.2, 0.25]), np.array([0.18, 0.42])
    partner, ratio = np.array([1.7, 0.55]), 0.5
    turned = delta @ np.array([[0.9, -0.6], [0.5, 0.45]])
    moved = {
        "(a) local: x + noise": (x0 + np.array([0.12, -0.05]), delta),
        "(b) image processing": (x0 + np.array([0.75, 0.1]), turned),
        "(c) mixup inference": (ratio * x0 + (1 - ratio) * partner, ratio * delta),
    }
    for axis, extent, title in zip(axes[0], extents["width_ratios"], moved, strict=True):
        start, change = moved[title]
        _arrow(axis, x0, delta, BLACK, "$x_0$", "$x$")
        _arrow(axis, start, change, COLOURS["mi_ol"], r"$\tilde{x}_0$", r"$\tilde{x}$")
        if title.startswith("(c)"):
            for end in (x0, x0 + delta):
                axis.plot(*np.stack([end, partner]).T, ":", color=GREY, lw=1)
            axis.plot(*partner, "s", color=COLOURS["mi_pl"], ms=6)
            axis.annotate("$x_s$", partner, (4, -11), textcoords="offset points")
        axis.set(title=title, xlim=(0.1, 0.1 + extent), ylim=(0.1, 0.8), xticks=[], yticks=[])
    for colour, mark, label in (
        (BLACK, "o-", "perturbation before"),
        (COLOURS["mi_ol"], "o-", "perturbation after"),
        (COLOURS["mi_pl"], "s", "partner $x_s$"),
    ):
        axes[0][0].plot([], [], mark, color=colour, ms=4, label=label)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
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
    axis.set(xlabel="draws N", ylabel="root mean square error of $F_{MI}$")
    axis.set(xscale="log", yscale="log")
    for mode, record in records.items():
        name = f"mi_{mode}"
        counts, errors = np.array(record["counts"]), record["errors"]
        axis.plot(counts, errors[0] / np.sqrt(counts / counts[0]), color=GREY, lw=0.6)
        axis.plot(counts, errors, label=NAMES[name], **curve(name))
        axis.set_xticks(counts, counts)
    axis.plot([], [], color=GREY, lw=0.6, label=r"$\propto 1/\sqrt{N}$")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    axis.legend(**OUTSIDE)
    return figure


def fig2(records: dict[tuple[str, float], dict], classes: int) -> Figure:
    """Fig. 2, reconstructed: predictions against lambda, and both D_k with their thresholds.

    - records: (mode, ratio) -> a record of experiments.mixed_predictions.
    - classes: L.

    Beside the predictions stand the ideal lines of Table 1. D_y has the sign of the paper's note.
    """
    figure, axes = panels(4, 2, 3.3, 2.8, sharey="row")
    if not all(any(theory.measured(record, *key)["eq2"]) for key, record in records.items()):
        figure.suptitle("where no image satisfies Eq. 2: all images")
    ratios = sorted({ratio for _, ratio in records})
    for line, mode in zip(axes.T, ("pl", "ol"), strict=True):
        values = [theory.measured(records[mode, ratio], mode, ratio) for ratio in ratios]
        _fig2_clean(line[0], mode, ratios, values, classes)
        _fig2_attacked(line[1], mode, ratios, values, classes)
        _fig2_distances(line[2], line[3], mode, ratios, values, classes)
        for axis in line:
            below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2)}
            axis.legend(fontsize=7, frameon=False, ncols=2, **below)
            axis.set(xlabel=r"mixup ratio $\lambda$")
    for place, axis in enumerate(axes[:, 0]):
        axis.set_ylabel("probability" if place < 2 else "difference of probabilities")
    return figure


GRID = np.linspace(0, 1, 51)
"""The ratios at which lines from formulas are drawn."""
WITHOUT = {"color": BLACK, "lw": 1}
"""Options of `plot` for what is measured of the bare model."""


def _measured(mode: str) -> dict:
    """Options of `plot` for what is measured of a mode: broken lines are from formulas."""
    return curve(f"mi_{mode}") | {"ls": "-"}


def _curve(
    axis: Axes, ratios: list[float], values: list[dict], key: str, look: dict, sign: int = 1
) -> None:
    """Means of a quantity against lambda with their intervals; look: options of `plot`.

    They are over the images of Eq. 2, or over all where none satisfies it.
    """
    means = []
    for v in values:
        chosen = v[key][v["eq2"]] if v["eq2"].any() else v[key]
        means.append(statistics.mean_interval(chosen))
    found = sign * np.array(means)
    axis.plot(ratios, found[:, 0], **look)
    axis.fill_between(ratios, *np.sort(found[:, 1:], 1).T, color=look["color"], alpha=0.2, lw=0)


def _fig2_clean(axis: Axes, mode: str, ratios: list[float], values: list, classes: int) -> None:
    ideal = [float(theory.table1(mode, False, ratio, classes)["y"][1]) for ratio in GRID]
    look = _measured(mode)
    _curve(axis, ratios, values, "clean_MI", look | {"label": "with MI"})
    _curve(axis, ratios, values, "clean", WITHOUT | {"label": "without"})
    axis.plot(GRID, ideal, "--", color=look["color"], lw=1, label="ideal (Table 1)")
    axis.set(title=f"MI-{mode.upper()}, clean: $F_y$", ylim=(-0.03, 1.03))


def _fig2_attacked(axis: Axes, mode: str, ratios: list[float], values: list, classes: int) -> None:
    """Of the predicted class (full marks) and of the label (empty marks)."""
    look = _measured(mode)
    for key, label, mark, bare, ideal in (
        ("yhat", r"\hat{y}", {}, "-", "--"),
        ("y", "y", {"mfc": "white"}, ":", ":"),
    ):
        name = f"$F_{{{label}}}$"
        _curve(axis, ratios, values, f"FMI_{key}", look | mark | {"label": f"{name} with MI"})
        _curve(axis, ratios, values, f"F_{key}", WITHOUT | {"ls": bare, "label": f"{name} without"})
        vanished = [float(theory.table1(mode, True, ratio, classes)[key][1]) for ratio in GRID]
        label = f"{name}, Table 1, no G left"
        axis.plot(GRID, vanished, ideal, color=look["color"], lw=1, label=label)
    axis.set(title=f"MI-{mode.upper()}, adversarial: $F_y$, $F_{{\\hat{{y}}}}$", ylim=(-0.03, 1.03))


def _fig2_distances(
    first: Axes, second: Axes, mode: str, ratios: list[float], values: list, classes: int
) -> None:
    limits = np.array([theory.ric_thresholds(mode, ratio, classes) for ratio in GRID])
    for axis, key, label, sign, limit in (
        (first, "D_y", "$-D_y$", -1, -limits[:, 0]),
        (second, "D_yhat", r"$D_{\hat{y}}$", 1, limits[:, 1]),
    ):
        _curve(axis, ratios, values, key, _measured(mode) | {"label": label}, sign)
        axis.plot(GRID, limit, "--", color=BLACK, lw=1, label="threshold (RIC: above)")
        axis.set(title=f"MI-{mode.upper()}: {label}")
