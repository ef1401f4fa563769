"""Every figure of the study, from records.

Those of notebook 03 are drawn in `theory_figures` and found here as well.
"""

import itertools
import math

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from milib import files, statistics
from milib.adaptive import ADAPTIVE
from milib.study.rows import NAMES, PRIMARY, TableRow, correct, tradeoff_ends, tradeoff_points
from milib.study.study import Study
from milib.views import provenance
from milib.views.frames import DETECTORS
from milib.views.looks import BLACK, COLOURS, GREY, OUTSIDE, curve, panels, save
from milib.views.theory_figures import fig2, mechanisms_sketch, monte_carlo
from milib.views.wording import WORDS

__all__ = [
    "fig2",
    "fig4",
    "images",
    "linearity",
    "mechanisms_sketch",
    "monte_carlo",
    "roc",
    "show",
    "table",
    "tradeoff",
    "training_curves",
]
MARKS = 8
"""How many marks tell a curve of many points from the others."""
REACH, MARGIN = (10, 40), 3
"""How many points of clean accuracy below the best Fig. 3(b) reaches, and its margin.

Settings beyond press together those between which one would choose."""


def show(study: Study, figure: Figure, name: str, caption: str, measured: bool = True) -> None:
    """Save a figure under figures/ of the run, and show it.

    - study: the notebook's study.
    - figure: the figure.
    - name: of its files: <name>.png, <name>.svg, and <name>.json, which says what made it.
    - caption: two lines at most.
    - measured: whether it shows what the notebook's test images, epsilon and draws gave (default);
      otherwise the caption says what it shows.
    """
    folder = study.store.folder / "figures"
    save(figure, folder / name)
    files.write_atomic(folder / f"{name}.json", provenance.about(study, caption, measured))
    plt.show()
    display({"text/plain": caption, "text/markdown": f"*{caption}*"}, raw=True)


def images(
    tensors: list[Tensor], titles: list[str], labels: list[list[str]] | None = None
) -> Figure:
    """Rows of images.

    - tensors: a row each, [k, C, H, W] in [0, 1].
    - titles: a title for each row.
    - labels: a text above each image; by default none.
    """
    columns = max(len(tensor) for tensor in tensors)
    figure, axes = panels(len(tensors), columns, 1.05, 1.2)
    for r, (tensor, title) in enumerate(zip(tensors, titles, strict=True)):
        for c, axis in enumerate(axes[r]):
            axis.set_axis_off()
            if c < len(tensor):
                pixels = tensor[c].detach().cpu().clamp(0, 1).permute(1, 2, 0).numpy()
                axis.imshow(pixels.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                if labels:
                    axis.set_title(labels[r][c], fontsize=8)
        axes[r][0].set_axis_on()
        axes[r][0].spines[:].set_visible(False)
        axes[r][0].set(xticks=[], yticks=[])
        axes[r][0].set_ylabel(title, fontsize=8)
    return figure


def linearity(records: dict[str, dict]) -> Figure:
    """Total variation from Eq. 3 against lambda, with 95 % intervals over pairs.

    - records: model -> a record of experiments.linearity.

    On the left against the models' own predictions at both ends, on the right against the labels.
    """
    figure, axes = panels(1, 2, 3.5, sharey=True)
    titles = {"prediction": "against mixed predictions", "label": "against mixed labels"}
    for axis, (kind, title) in zip(axes[0], titles.items(), strict=True):
        for name, record in records.items():
            ratios = record["ratios"]
            per_ratio = np.array(record[kind]).T
            mean, low, high = np.transpose([statistics.mean_interval(v) for v in per_ratio])
            axis.plot(ratios, mean, label=NAMES[name], **curve(name))
            axis.fill_between(ratios, low, high, color=COLOURS[name], alpha=0.2, lw=0)
        axis.set(title=title, xlabel=r"mixup ratio $\lambda$")
    axes[0][0].set(ylabel="total variation", ylim=(0, None))
    axes[0][1].legend(**OUTSIDE)
    return figure


def training_curves(logs: dict[str, list[dict]], images: int) -> Figure:
    """Held-out accuracy per epoch, clean and, where it was measured, under PGD-10.

    - logs: model -> an entry per epoch.
    - images: the number of held-out images behind clean accuracy, for the 95 % intervals.
    """
    titles = {"heldout_clean": "clean images", "heldout_pgd10": "under PGD-10"}
    measured = [key for key in titles if any(key in log[0] for log in logs.values())]
    figure, axes = panels(1, len(measured))
    for axis, key in zip(axes[0], measured, strict=True):
        for name, log in logs.items():
            entries = [entry for entry in log if key in entry]
            if not entries:
                continue
            epochs = np.array([entry["epoch"] for entry in entries])
            seen = np.array([entry[key] for entry in entries])
            sparse = {"markevery": math.ceil(len(epochs) / MARKS)}
            axis.plot(epochs, 100 * seen, label=NAMES[name], **curve(name), **sparse)
            count = log[0].get("attacked", images) if key == "heldout_pgd10" else images
            ends = [statistics.wilson(round(value * count), count) for value in seen]
            low, high = 100 * np.transpose(ends)
            axis.fill_between(epochs, low, high, color=COLOURS[name], alpha=0.2, lw=0)
        axis.set(title=titles[key], xlabel="epoch")
    axes[0][0].set_ylabel("held-out accuracy, %")
    axes[0][-1].legend(**OUTSIDE)
    return figure


def table(rows: list[TableRow], column: str) -> Figure:
    """One column of Table 2 or 3 with 95 % intervals.

    - rows: of the table.
    - column: such as "untargeted_pgd10".

    A cross is the paper's value, where it prints a number.
    """
    figure, axes = panels(1, 1, 6.5, 0.26 * len(rows) + 0.8)
    axis, printed = axes[0][0], {}
    for place, row in enumerate(reversed(rows)):
        mean, low, high = (100 * value for value in row.interval(column))
        axis.plot([low, high], [place, place], color=COLOURS[row.defense], lw=2)
        axis.plot(mean, place, clip_on=False, **curve(row.defense) | {"ms": 6})
        if row.paper.get(column, "<").replace(".", "").isdigit():
            printed[place] = float(row.paper[column])
    attack = column.replace("_pgd", " PGD-")
    axis.set(yticks=range(len(rows)), yticklabels=[row.name for row in reversed(rows)])
    axis.plot([], [], "o-", color=BLACK, lw=2, label="here, with its 95 % interval")
    if printed:
        label = "the paper, where it prints a number"
        axis.plot(printed.values(), printed.keys(), "x", color=BLACK, label=label, clip_on=False)
    above = {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncols": 2}
    axis.legend(frameon=False, fontsize=8, **above)
    axis.set(xlabel=f"accuracy under {attack}, %", xlim=(0, None))
    return figure


def roc(records: dict[str, dict]) -> Figure:
    """Fig. 3(a): ROC curves of MI-PL, MI-OL and plain confidence, a panel per model.

    - records: model -> a record of experiments.detection.

    Bands are 95 % intervals of the true positive rate.
    """
    columns = min(2, len(records))
    figure, axes = panels(math.ceil(len(records) / columns), columns, 2.7, 3.0, sharey=True)
    for axis in axes.flat[len(records) :]:
        axis.set_axis_off()
    for axis, (name, record) in zip(axes.flat, records.items(), strict=False):
        for detector in DETECTORS:
            clean, attacked = (
                np.array(record["scores"][column][detector]) for column in ("clean", PRIMARY)
            )
            _roc_curve(axis, clean, attacked, detector)
        axis.plot([0, 1], [0, 1], color=GREY, lw=0.6)
        axis.set(title=NAMES[name], xlabel="false positive rate")
        axis.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.25))
    for axis in axes[:, 0]:
        axis.set_ylabel("true positive rate")
    return figure


def _roc_curve(axis: Axes, clean: np.ndarray, attacked: np.ndarray, detector: str) -> None:
    """A detector's ROC curve with its band."""
    grid, count = np.linspace(0, 1, 41), len(attacked)
    false, true = statistics.roc(clean, attacked)
    label = f"{NAMES[detector]}, AUC {statistics.auc(clean, attacked):.2f}"
    axis.plot(false, true, label=label, markevery=1 / MARKS, **curve(detector))
    rates = np.interp(grid, false, true)
    ends = [statistics.wilson(round(rate * count), count) for rate in rates]
    axis.fill_between(grid, *np.transpose(ends), color=COLOURS[detector], alpha=0.2, lw=0)


def tradeoff(records: dict[tuple[str, str], dict]) -> Figure:
    """Fig. 3(b): robust against clean accuracy, a point per setting with its 95 % intervals.

    - records: (model, defense) -> a record of experiments.tradeoff.

    The Pareto front of each model is circled.
    """
    names = list(dict.fromkeys(name for name, _ in records))
    figure, axes = panels(1, len(names), 4.2, 3.6)
    for axis, name in zip(axes[0], names, strict=True):
        families = {kind: record for (model, kind), record in records.items() if model == name}
        for defense, record in families.items():
            _family(axis, defense, record)
        points = np.concatenate([tradeoff_points(record) for record in families.values()])
        front = points[statistics.pareto(points)]
        ring = {"ms": 9, "mfc": "none", "mec": BLACK, "lw": 0}
        axis.plot(*front.T, "o", label="Pareto front", **ring)
        axis.set(title=NAMES[name], xlabel="clean accuracy, %", ylabel="accuracy under PGD-10, %")
        _leave_out(axis, points, front)
    axes[0][-1].legend(**OUTSIDE)
    return figure


def _family(axis: Axes, defense: str, record: dict) -> None:
    """The settings of a defense as a curve, each with its two intervals."""
    points, ends = tradeoff_points(record), tradeoff_ends(record)
    bars = {"fmt": "none", "ecolor": COLOURS[defense], "elinewidth": 0.5, "alpha": 0.5}
    axis.errorbar(*points.T, xerr=ends[:, 0].T, yerr=ends[:, 1].T, **bars)
    by_clean = points[np.argsort(points[:, 0])]
    axis.plot(*by_clean.T, label=NAMES[defense], **curve(defense))


def _leave_out(axis: Axes, points: np.ndarray, front: np.ndarray) -> None:
    """Leave out what lies left of the Pareto front, within REACH, and say so."""
    best = points[:, 0].max()
    left = best - np.clip(best - front[:, 0].min(), *REACH) - MARGIN
    shown = points[points[:, 0] >= left]
    beyond = len(points) - len(shown)
    if beyond:
        axis.set(xlabel=f"clean accuracy, % (settings further left: {beyond})")
    low, high = shown[:, 1].min(), shown[:, 1].max()
    axis.set(xlim=(left, min(best + MARGIN, 101)))
    axis.set(ylim=(max(low - MARGIN, -1), min(high + MARGIN, 101)))


def fig4(records: dict[tuple[str, str, int], dict]) -> Figure:
    """Fig. 4: accuracy under adaptive PGD against the number of adaptive samples.

    - records: (model, variant, samples) -> a record of experiments.adaptive.

    A panel per model. Dashed is the model without MI-OL; bands are 95 % intervals.
    """
    names = list(dict.fromkeys(name for name, _, _ in records))
    figure, axes = panels(1, len(names), 4.0, 3.0, sharey=True)
    styles = dict(zip(ADAPTIVE, itertools.cycle(("o-", "s--", "^:", "D-.")), strict=False))
    colour = COLOURS["mi_ol"]
    for axis, name in zip(axes[0], names, strict=True):
        for variant, style in styles.items():
            samples, intervals = [], []
            for (model, kind, count), record in records.items():
                if (model, kind) == (name, variant):
                    samples.append(count)
                    intervals.append(_accuracy(record))
            mean, low, high = np.transpose(intervals)
            label = WORDS.get(variant, variant)
            look = {"ms": 4, "lw": 1, "color": colour, "clip_on": False}
            axis.plot(samples, mean, style, label=label, **look)
            axis.fill_between(samples, low, high, color=colour, alpha=0.12, lw=0)
        mean, low, high = _accuracy(records[name, "none", 0])
        axis.axhline(mean, ls="--", color=BLACK, lw=1, label="without MI-OL, PGD-10")
        axis.axhspan(low, high, color=BLACK, alpha=0.12, lw=0)
        axis.set(title=NAMES[name], xlabel="adaptive samples")
    axes[0][0].set(ylabel="accuracy, %", ylim=(0, None))
    axes[0][-1].legend(**OUTSIDE)
    return figure


def _accuracy(record: dict) -> list[float]:
    """The accuracy of a record with one cell and its 95 % interval, in percent."""
    found = statistics.interval(correct(record["cell"], record["labels"]))
    return [100 * value for value in found]
