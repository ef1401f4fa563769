"""Every figure of the study, from records: matplotlib only, one look, the same colour for the same thing everywhere."""

import itertools
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from milib import files, statistics, theory
from milib.attacks import ADAPTIVE
from milib.study.rows import NAMES, PRIMARY, TableRow, correct, tradeoff_ends, tradeoff_points
from milib.study.study import Study
from milib.views import provenance

COLOURS = {  # Okabe and Ito's colours, told apart by every kind of colour vision
    "none": "#000000",
    "gaussian_noise": "#009E73",
    "rotation": "#E69F00",
    "xie": "#56B4E9",
    "guo": "#999933",
    "mi_pl": "#0072B2",
    "mi_ol": "#D55E00",
    "mi_combined": "#CC79A7",
    "confidence": "#000000",
    "erm": "#999999",
    "mixup": "#0072B2",
    "at": "#E69F00",
    "interpolated_at": "#D55E00",
    "manifold_mixup": "#009E73",
    "matched_mixup": "#56B4E9",
    "long_mixup": "#CC79A7",
}
LOOK = {
    "figure.dpi": 100,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "svg.hashsalt": "milib",
    "figure.constrained_layout.use": True,
}
OUTSIDE = {"loc": "center left", "bbox_to_anchor": (1, 0.5), "frameon": False, "fontsize": 8}
"""Where a legend covers no curve."""


def panels(
    rows: int, columns: int, width: float = 3.2, height: float = 2.7, **options
) -> tuple[Figure, np.ndarray]:
    """A figure of rows x columns axes (a 2-d array), sized per panel in inches."""
    with plt.rc_context(LOOK):
        return plt.subplots(
            rows, columns, figsize=(width * columns, height * rows), squeeze=False, **options
        )


def save(figure: Figure, path: Path) -> None:
    """Write path.png and path.svg, each complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(LOOK):
        for ending in ("png", "svg"):
            temporary = path.with_name(f".{path.name}.{ending}")
            figure.savefig(
                temporary,
                format=ending,
                dpi=200,
                metadata={"Date": None} if ending == "svg" else None,
            )
            temporary.replace(path.with_name(f"{path.name}.{ending}"))


def show(study: Study, figure: Figure, name: str, caption: str, measured: bool = True) -> None:
    """Save the figure (PNG and SVG, with its caption) under figures/ of the run, and show it.

    measured: whether it shows what the notebook's test images, epsilon and draws gave; else the caption says what it shows.
    """
    folder = study.store.folder / "figures"
    save(figure, folder / name)
    files.write_atomic(folder / f"{name}.json", provenance.about(study, caption, measured))
    plt.show()


def images(
    tensors: list[Tensor], titles: list[str], labels: list[list[str]] | None = None
) -> Figure:
    """Rows of images [k, C, H, W] in [0, 1], a title per row; `labels`: a text above each image."""
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
        axes[r][0].set(xticks=[], yticks=[])
        axes[r][0].set_ylabel(title, fontsize=8)
    return figure


def mechanisms_sketch() -> Figure:
    """The idea of Fig. 1, redrawn: what three kinds of processing do to a perturbation, in the input space."""
    figure, axes = panels(1, 3, 3.2, 2.6)
    x0, delta, partner, ratio = (
        np.array([0.2, 0.25]),
        np.array([0.18, 0.42]),
        np.array([1.7, 0.55]),
        0.5,
    )
    moved = {
        "(a) local: x + noise": (x0 + np.array([0.12, -0.05]), delta),
        "(b) image processing": (
            x0 + np.array([0.75, 0.1]),
            delta @ np.array([[0.9, -0.6], [0.5, 0.45]]),
        ),
        "(c) mixup inference": (ratio * x0 + (1 - ratio) * partner, ratio * delta),
    }
    for axis, (title, (start, change)) in zip(axes[0], moved.items(), strict=True):
        _arrow(axis, x0, delta, "#000000", "$x_0$", "$x$")
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
    axis.annotate(
        "", start + change, start, arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.6}
    )
    axis.plot(*start, "o", color=colour, ms=4)
    axis.annotate(first, start, (3, -11), textcoords="offset points", color=colour)
    axis.annotate(last, start + change, (3, 3), textcoords="offset points", color=colour)


def linearity(records: dict[str, dict]) -> Figure:
    """Total variation from Eq. 3 against lambda, with 95 % intervals over pairs: against the models' own ends, and the labels."""
    figure, axes = panels(1, 2, sharey=True)
    for axis, kind, title in zip(
        axes[0],
        ("prediction", "label"),
        ("against mixed predictions", "against mixed labels"),
        strict=True,
    ):
        for name, record in records.items():
            found = np.array(
                [statistics.mean_interval(column) for column in np.array(record[kind]).T]
            )
            axis.plot(
                record["ratios"], found[:, 0], "o-", ms=3, color=COLOURS[name], label=NAMES[name]
            )
            axis.fill_between(
                record["ratios"], found[:, 1], found[:, 2], color=COLOURS[name], alpha=0.2, lw=0
            )
        axis.set(title=title, xlabel=r"mixup ratio $\lambda$")
    axes[0][0].set(ylabel="total variation", ylim=(0, None))
    axes[0][1].legend(**OUTSIDE)
    return figure


def training_curves(logs: dict[str, list[dict]], images: int) -> Figure:
    """Held-out clean accuracy, and PGD-10 accuracy where it was measured, per epoch, with 95 % intervals over the held-out `images`, or those attacked."""
    measured = {
        key: title
        for key, title in (("heldout_clean", "clean"), ("heldout_pgd10", "PGD-10"))
        if any(key in log[0] for log in logs.values())
    }
    figure, axes = panels(1, len(measured))
    for axis, (key, title) in zip(axes[0], measured.items(), strict=True):
        for name, log in logs.items():
            epochs, seen = (
                np.array([entry[k] for entry in log if key in entry]) for k in ("epoch", key)
            )
            axis.plot(epochs, 100 * seen, color=COLOURS[name], label=NAMES[name])
            count = log[0].get("attacked", images) if key == "heldout_pgd10" else images
            ends = 100 * np.array(
                [statistics.wilson(round(value * count), count) for value in seen]
            )
            axis.fill_between(epochs, *ends.T, color=COLOURS[name], alpha=0.2, lw=0)
        axis.set(title=f"held-out accuracy, {title}", xlabel="epoch", ylabel="%")
    axes[0][0].legend()
    return figure


def fig2(records: dict[tuple[str, float], dict], classes: int) -> Figure:
    """Fig. 2, reconstructed: predictions against lambda with the ideal lines of Table 1, and both D_k with their thresholds.

    records: (mode, ratio) -> a record of experiments.mixed_predictions. D_y is drawn with the sign of the paper's note.
    """
    figure, axes = panels(4, 2, 3.3, 2.8)
    if not all(any(theory.measured(record, *key)["eq2"]) for key, record in records.items()):
        figure.suptitle("where no image satisfies Eq. 2: all images")
    ratios = sorted({ratio for _, ratio in records})
    grid = np.linspace(0, 1, 51)
    for line, mode in zip(axes.T, ("pl", "ol"), strict=True):
        values = [theory.measured(records[mode, ratio], mode, ratio) for ratio in ratios]
        name, colour = f"MI-{mode.upper()}", COLOURS[f"mi_{mode}"]

        def curve(
            axis: Axes,
            key: str,
            label: str,
            style: str,
            colour: str = colour,
            sign: int = 1,
            values: list = values,
        ) -> None:
            found = sign * np.array(
                [
                    statistics.mean_interval(v[key][v["eq2"]] if v["eq2"].any() else v[key])
                    for v in values
                ]
            )
            axis.plot(ratios, found[:, 0], style, ms=3, color=colour, label=label)
            axis.fill_between(ratios, *np.sort(found[:, 1:], 1).T, color=colour, alpha=0.2, lw=0)

        ideal = [theory.table1(mode, False, ratio, classes)["y"][1] for ratio in grid]
        curve(line[0], "clean_MI", "with MI", "o-")
        curve(line[0], "clean", "without", "-", "#000000")
        line[0].plot(grid, ideal, "--", color=colour, lw=1, label="ideal (Table 1)")
        line[0].set(title=f"{name}, clean: $F_y$", ylim=(-0.03, 1.03))
        for key, label, style in (("yhat", r"\hat{y}", "s-"), ("y", "y", "o-")):
            curve(line[1], f"FMI_{key}", f"$F_{{{label}}}$ with MI", style)
            curve(
                line[1],
                f"F_{key}",
                f"$F_{{{label}}}$ without",
                "-" if key == "yhat" else ":",
                "#000000",
            )
            vanished = [theory.table1(mode, True, ratio, classes)[key][1] for ratio in grid]
            line[1].plot(
                grid,
                vanished,
                "--" if key == "yhat" else ":",
                color=colour,
                lw=1,
                label=f"$F_{{{label}}}$, Table 1, no G left",
            )
        line[1].set(title=f"{name}, adversarial", ylim=(-0.03, 1.03))
        limits = np.array([theory.ric_thresholds(mode, ratio, classes) for ratio in grid])
        for axis, key, label, sign, limit in (
            (line[2], "D_y", "$-D_y$", -1, -limits[:, 0]),
            (line[3], "D_yhat", r"$D_{\hat{y}}$", 1, limits[:, 1]),
        ):
            curve(axis, key, label, "o-", sign=sign)
            axis.plot(grid, limit, "--", color="#000000", lw=1, label="threshold (RIC: above)")
            axis.set(title=f"{name}: {label}")
        for axis in line:
            axis.legend(
                fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2
            )
            axis.set(
                xlabel=r"mixup ratio $\lambda$",
                ylabel="probability" if axis in line[:2] else "difference of probabilities",
            )
    return figure


def monte_carlo(records: dict[str, dict]) -> Figure:
    """Eq. 6: the distance of F_MI,N from the enumerated expectation against N, with the slope -1/2."""
    figure, axes = panels(1, 1)
    for mode, record in records.items():
        axes[0][0].loglog(
            record["counts"],
            record["errors"],
            "o-",
            ms=3,
            color=COLOURS[f"mi_{mode}"],
            label=NAMES[f"mi_{mode}"],
        )
        line = record["errors"][0] / np.sqrt(np.array(record["counts"]) / record["counts"][0])
        axes[0][0].loglog(record["counts"], line, "--", color="#000000", lw=1)
    axes[0][0].set(
        xlabel="draws N",
        ylabel="root mean square error of $F_{MI}$",
        title="Monte Carlo error and $1/\\sqrt{N}$",
    )
    axes[0][0].legend()
    return figure


def table(rows: list[TableRow], column: str) -> Figure:
    """One column of Table 2 or 3: accuracy with 95 % interval, and the paper's value as a cross where it prints one."""
    figure, axes = panels(1, 1, 6.5, 0.26 * len(rows) + 0.8)
    axis = axes[0][0]
    for place, row in enumerate(reversed(rows)):
        mean, low, high = (100 * value for value in row.interval(column))
        axis.plot([low, high], [place, place], color=COLOURS[row.defense], lw=2)
        axis.plot(mean, place, "o", color=COLOURS[row.defense])
        if row.paper.get(column, "<").replace(".", "").isdigit():
            axis.plot(float(row.paper[column]), place, "x", color="#000000")
    attack = column.replace("_pgd", " PGD-")
    axis.set(
        yticks=range(len(rows)),
        yticklabels=[row.name for row in reversed(rows)],
        xlabel=f"accuracy under {attack}, %",
        xlim=(-2, 102),
    )
    axis.plot([], [], "x", color="#000000", label="paper, where it prints a number")
    axis.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def roc(records: dict[str, dict]) -> Figure:
    """Fig. 3(a): ROC curves of MI-PL, MI-OL and plain confidence, a panel per model; bands: 95 % intervals of the true positive rate."""
    columns = min(2, len(records))
    figure, axes = panels(math.ceil(len(records) / columns), columns, 2.7, 3.0, sharey=True)
    grid = np.linspace(0, 1, 41)
    for axis in axes.flat[len(records) :]:
        axis.set_axis_off()
    for axis, (name, record) in zip(axes.flat, records.items(), strict=False):
        for detector in ("mi_pl", "mi_ol", "confidence"):
            scores = [np.array(record["scores"][column][detector]) for column in ("clean", PRIMARY)]
            false, true = statistics.roc(*scores)
            axis.plot(
                false,
                true,
                color=COLOURS[detector],
                label=f"{NAMES[detector]}, AUC {statistics.auc(*scores):.2f}",
            )
            count = len(scores[1])
            ends = [
                statistics.wilson(round(rate * count), count)
                for rate in np.interp(grid, false, true)
            ]
            axis.fill_between(grid, *np.transpose(ends), color=COLOURS[detector], alpha=0.2, lw=0)
        axis.plot([0, 1], [0, 1], ":", color="#666666", lw=1)
        axis.set(title=NAMES[name], xlabel="false positive rate")
        axis.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.25))
    for axis in axes[:, 0]:
        axis.set_ylabel("true positive rate")
    return figure


USEFUL = 40
"""How many points of clean accuracy below the best Fig. 3(b) reaches: settings beyond press together those between which one would choose."""


def tradeoff(records: dict[tuple[str, str], dict]) -> Figure:
    """Fig. 3(b): robust against clean accuracy, a point per setting with its 95 % intervals; the Pareto front of each model is circled."""
    names = list(dict.fromkeys(name for name, _ in records))
    figure, axes = panels(1, len(names), 4.2, 3.6)
    for axis, name in zip(axes[0], names, strict=True):
        everything = []
        for (model, defense), record in records.items():
            if model == name:
                points, ends = tradeoff_points(record), tradeoff_ends(record)
                everything.append(points)
                axis.errorbar(
                    *points.T,
                    xerr=ends[:, 0].T,
                    yerr=ends[:, 1].T,
                    fmt="none",
                    ecolor=COLOURS[defense],
                    elinewidth=0.5,
                    alpha=0.5,
                )
                axis.plot(
                    *points[np.argsort(points[:, 0])].T,
                    "o-",
                    ms=4,
                    lw=0.8,
                    color=COLOURS[defense],
                    label=NAMES[defense],
                )
        everything = np.concatenate(everything)
        axis.plot(
            *everything[statistics.pareto(everything)].T,
            "o",
            ms=9,
            mfc="none",
            mec="#000000",
            lw=0,
            label="Pareto front",
        )
        left = everything[:, 0].max() - USEFUL
        shown = everything[everything[:, 0] >= left]
        beyond = (
            f"clean accuracy, % ({len(everything) - len(shown)} settings lie left)"
            if len(shown) < len(everything)
            else "clean accuracy, %"
        )
        axis.set(title=NAMES[name], xlabel=beyond, ylabel="accuracy under PGD-10, %")
        if len(shown) < len(everything):
            axis.set(
                xlim=(left, shown[:, 0].max() + 4),
                ylim=(shown[:, 1].min() - 4, shown[:, 1].max() + 4),
            )
    axes[0][-1].legend(**OUTSIDE)
    return figure


VARIANTS = {"eq24": "Eq. 24", "mean_ce": "mean cross-entropy", "as_published": "as published"}
"""How Fig. 4 names the adaptive attacks."""


def fig4(records: dict[tuple[str, str, int], dict]) -> Figure:
    """Fig. 4: accuracy under adaptive PGD against the adaptive samples, a panel per model; dashed: the model without MI-OL; bands: 95 % intervals."""
    names = list(dict.fromkeys(name for name, _, _ in records))
    figure, axes = panels(1, len(names), 4.0, 3.0, sharey=True)
    styles = dict(zip(ADAPTIVE, itertools.cycle(("o-", "s--", "^:", "D-.")), strict=False))
    for axis, name in zip(axes[0], names, strict=True):
        for variant, style in styles.items():
            chosen = {
                samples: record
                for (model, kind, samples), record in records.items()
                if (model, kind) == (name, variant)
            }
            found = 100 * np.array(
                [
                    statistics.interval(correct(record["cell"], record["labels"]))
                    for record in chosen.values()
                ]
            )
            axis.plot(
                list(chosen),
                found[:, 0],
                style,
                ms=4,
                lw=1,
                color=COLOURS["mi_ol"],
                label=VARIANTS.get(variant, variant),
            )
            axis.fill_between(
                list(chosen), found[:, 1], found[:, 2], color=COLOURS["mi_ol"], alpha=0.12, lw=0
            )
        bare = records[name, "none", 0]
        mean, low, high = (
            100 * value for value in statistics.interval(correct(bare["cell"], bare["labels"]))
        )
        axis.axhline(mean, ls="--", color=COLOURS["none"], lw=1, label="without MI-OL, PGD-10")
        axis.axhspan(low, high, color=COLOURS["none"], alpha=0.12, lw=0)
        axis.set(
            title=f"{NAMES[name]}, {len(bare['labels'])} images",
            xlabel="adaptive samples",
            ylim=(0, 100),
        )
    axes[0][0].set_ylabel("accuracy, %")
    axes[0][-1].legend(**OUTSIDE)
    return figure
