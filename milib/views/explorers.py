"""Explorers for JupyterLab: controls, a picture and its numbers.

Both are made anew when a control is released. Where no frontend is (papermill, nbval, HTML), the
picture and its numbers stand alone; `progress.frontend` says which it is.
"""

import base64
from collections.abc import Callable
from functools import cache
from typing import Any

import ipywidgets as widgets
import numpy as np
from IPython.display import Image, display
from matplotlib.lines import Line2D

from milib import statistics, theory
from milib.study.experiments import reference_row
from milib.study.progress import frontend
from milib.study.rows import NAMES, PRIMARY, correct, parameters, tradeoff_points
from milib.study.study import Study
from milib.views.blitting import Canvas
from milib.views.input_explorer import MOST_STEPS, UNTARGETED, Inputs
from milib.views.looks import COLOURS, OUTSIDE


class Explorer:
    """Controls, and the picture that follows them.

    - controls: name -> widget.
    - draw: gives a canvas and a text of numbers for the controls' values by name.
    """

    def __init__(self, controls: dict[str, Any], draw: Callable[..., tuple[Canvas, str]]):
        self.controls, self.draw = controls, draw
        self.picture, self.numbers = widgets.Image(format="png"), widgets.HTML()
        self.redraw()
        for control in controls.values():
            control.observe(self.redraw, "value")

    def redraw(self, _change: dict | None = None) -> None:
        """Draw for the values as they are; the picture before stays until then."""
        values = {name: control.value for name, control in self.controls.items()}
        canvas, self.text = self.draw(**values)
        self.picture.value, self.numbers.value = canvas.png(), f"<pre>{self.text}</pre>"

    def show(self) -> None:
        """In JupyterLab the controls with the picture; elsewhere the picture and its numbers."""
        if not frontend():
            display(Image(self.picture.value))
            print(self.text)
            return
        controls = widgets.HBox(list(self.controls.values()), layout={"flex_flow": "row wrap"})
        parts = [controls, self.picture, self.numbers]
        box = widgets.VBox(parts, layout={"align_items": "flex-start"})
        # For a page made of the saved notebook.
        still = {"image/png": base64.b64encode(self.picture.value).decode()}
        still["text/plain"] = self.text
        display((box._repr_mimebundle_() or {}) | still, raw=True)


def _steps(name: str, values: list, value) -> widgets.SelectionSlider:
    return widgets.SelectionSlider(
        options=values, value=value, description=name, continuous_update=False
    )


def _slider(name: str, value, low, high, step) -> widgets.Widget:
    kind = widgets.IntSlider if isinstance(step, int) else widgets.FloatSlider
    return kind(value, min=low, max=high, step=step, description=name, continuous_update=False)


def inputs(study: Study, detection: dict[str, dict]) -> Explorer:
    """A test image under attack, its mixed inputs with their partners, and the predictions.

    - study: the notebook's study.
    - detection: model -> a record of experiments.detection, for the ROC on which the threshold has
      its place.

    Predictions are those of the bare model, MI-PL and MI-OL. The step size of PGD is in the
    run's proportion to epsilon. Table 1's values are those with no G left after mixing.
    """
    run, step = study.params, 0.05
    model = "mixup" if "mixup" in detection else next(iter(detection))
    names = [(NAMES[name], name) for name in detection]
    # There about 5 % of clean images are flagged.
    quantile = np.quantile(detection[model]["scores"]["clean"]["mi_pl"], 0.95)
    threshold = round(float(np.clip(quantile, -0.5, 1)) / step) * step
    targets = [(UNTARGETED, UNTARGETED)]
    targets += [(f"towards {k}", str(k)) for k in range(run.classes)]
    sizes = []
    for share in (0.25, 0.5, 1, 1.5, 2):
        sizes.append((f"{share:g} of {run.epsilon:.3g}", share * run.epsilon))
    controls = {
        "image": _slider("test image", 0, 0, run.n_test - 1, 1),
        "model": widgets.Dropdown(options=names, value=model, description="model"),
        "ratio": _slider("lambda", reference_row(study, model)["ratio"], 0.05, 1, 0.05),
        "draws": _steps("draws N", [1, 3, 10, 30, 100], 30),
        "epsilon": _steps("epsilon", sizes, run.epsilon),
        "steps": _slider("PGD steps", run.steps[0], 0, MOST_STEPS, 1),
        "target": widgets.Dropdown(options=targets, value=UNTARGETED, description="target"),
        "threshold": _slider("threshold", threshold, -0.5, 1, step),
    }
    return Explorer(controls, Inputs(study, detection).draw)


SHOWN = ("F_y", "FMI_y", "F_yhat", "FMI_yhat", "clean", "clean_MI")
"""The bars of Fig. 2 at one lambda, keys of theory.measured."""
BAR_NAMES = ("$F_y$", "with MI", r"$F_{\hat{y}}$", "with MI", "clean $F_y$", "with MI")


def fig2(records: dict[tuple[str, float], dict], classes: int) -> Explorer:
    """Fig. 2 at one lambda, live: mean predictions before and after MI beside Table 1, and RIC.

    - records: (mode, ratio) -> a record of experiments.mixed_predictions.
    - classes: L.

    Means are over the images of Eq. 2, or over all where none satisfies it.
    """
    canvas, parts = Canvas(9, 3.2, "AB", (0.07, 0.16, 0.99, 0.88, 0.08), sharey=True), {}
    canvas.axes["A"].set_ylabel("mean probability")
    places, none = range(len(SHOWN)), np.zeros(len(SHOWN))
    for axis, mode in zip(canvas.axes.values(), ("pl", "ol"), strict=True):
        colours = [COLOURS["none"], COLOURS[f"mi_{mode}"]] * 3
        bars = axis.bar(places, none, color=colours, alpha=0.6)
        intervals = axis.vlines(places, none, none, color="#000000", lw=1)
        ideal = axis.plot([], [], "_", color="#000000", ms=22, mew=2)[0]
        axis.set(ylim=(0, 1.05))
        axis.set_xticks(places, BAR_NAMES)
        parts[mode] = bars, intervals, ideal, axis.set_title(" ")
        canvas.moves(*bars, *parts[mode][1:])

    @cache
    def numbers(mode: str, ratio: float) -> tuple[list[tuple[float, float, float]], str]:
        """Means with their intervals, and a line on RIC."""
        values = theory.measured(records[mode, ratio], mode, ratio)
        chosen = values["eq2"] if values["eq2"].any() else ~values["eq2"]
        means = [statistics.mean_interval(values[key][chosen]) for key in SHOWN]
        delta_y, delta_yhat = values["delta_y"][chosen], values["delta_yhat"][chosen]
        holds = 100 * np.mean(np.asarray(theory.ric(delta_y, delta_yhat)))
        text = f"Delta F_y {delta_y.mean():+.3f}, Delta F_yhat {delta_yhat.mean():+.3f}"
        share = f"RIC holds on {holds:.1f} % of {chosen.sum()} images"
        return means, f"MI-{mode.upper()}: {text}; {share}"

    def draw(ratio: float) -> tuple[Canvas, str]:
        lines = []
        for mode, (bars, intervals, ideal, title) in parts.items():
            means, line = numbers(mode, ratio)
            clean, attacked = (theory.table1(mode, z, ratio, classes) for z in (False, True))
            segments = []
            for place, (bar, (mean, low, high)) in enumerate(zip(bars, means, strict=True)):
                bar.set_height(mean)
                segments.append([(place, low), (place, high)])
            intervals.set_segments(segments)
            ideal.set_data([1, 3, 5], [attacked["y"][1], attacked["yhat"][1], clean["y"][1]])
            title.set_text(f"MI-{mode.upper()}, \u03bb = {ratio:g} (black: Table 1, no G left)")
            lines.append(line)
        return canvas, "\n".join(lines)

    ratios = sorted({ratio for _, ratio in records})
    return Explorer({"ratio": _steps("lambda", ratios, ratios[len(ratios) // 2])}, draw)


def tradeoff(records: dict[tuple[str, str], dict]) -> Explorer:
    """Fig. 3(b) with points to pick.

    - records: (model, defense) -> a record of experiments.tradeoff.
    """
    options = []
    for (model, defense), record in records.items():
        for number, setting in enumerate(record["settings"]):
            name = f"{NAMES[model]} + {NAMES[defense]}, {parameters(setting)}"
            options.append((name, (model, defense, number)))
    names = {point: name for name, point in options}

    @cache
    def drawn(model: str) -> tuple[Canvas, list[Line2D]]:
        """The model's curves, and on them the mark of a point: its two intervals and a ring."""
        canvas = Canvas(7, 4, "A", (0.09, 0.13, 0.72, 0.92))
        axis = canvas.axes["A"]
        for (name, kind), record in records.items():
            if name == model:
                found = tradeoff_points(record)
                by_clean = found[np.argsort(found[:, 0])]
                look = {"ms": 4, "lw": 0.8, "color": COLOURS[kind]}
                axis.plot(*by_clean.T, "o-", label=NAMES[kind], **look)
        axis.set(title=NAMES[model], xlabel="clean accuracy, %", ylabel="accuracy under PGD-10, %")
        axis.legend(**OUTSIDE)
        mark = [axis.plot([], [], color="#000000", lw=1)[0] for _ in range(2)]
        mark += axis.plot([], [], "o", ms=11, mfc="none", mec="#000000", mew=2)
        canvas.moves(*mark)
        return canvas, mark

    def draw(point: tuple[str, str, int]) -> tuple[Canvas, str]:
        model, defense, number = point
        canvas, (across, upright, ring) = drawn(model)
        record = records[model, defense]
        cells = record["cells"][number]
        clean, robust = (
            statistics.interval(correct(cells[column], record["labels"]))
            for column in ("clean", PRIMARY)
        )
        x, y = 100 * np.array(clean), 100 * np.array(robust)
        across.set_data(x[1:], [y[0], y[0]])
        upright.set_data([x[0], x[0]], y[1:])
        ring.set_data([x[0]], [y[0]])
        text = f"clean {statistics.percent(clean)} %, PGD-10 {statistics.percent(robust)} %"
        return canvas, f"{names[point]}: {text}"

    look = {"description": "point", "layout": {"width": "30em"}}
    return Explorer({"point": widgets.Select(options=options, value=options[0][1], **look)}, draw)
