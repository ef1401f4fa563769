"""The notebooks' explorers: of Fig. 2 (03), of inputs (05) and of Fig. 3(b) (06)."""

from functools import cache

import numpy as np
from matplotlib.lines import Line2D

from milib import statistics, theory
from milib.class_names import class_names
from milib.study.experiments import reference_row
from milib.study.rows import NAMES, PRIMARY, correct, parameters, tradeoff_points
from milib.study.study import Study
from milib.views.blitting import Canvas
from milib.views.explorer import Control, Explorer
from milib.views.input_explorer import ALTS, MOST_STEPS, UNTARGETED, Inputs
from milib.views.looks import BLACK, COLOURS, curve
from milib.views.written import of_pixels, ratios, written


def inputs(study: Study, detection: dict[str, dict]) -> Explorer:
    """A test image under attack, its mixed inputs with their partners, and the predictions.

    - study: the notebook's study.
    - detection: model -> a record of experiments.detection, for the ROC on which the threshold has
      its place.

    Predictions are those of the bare model, MI-PL and MI-OL. The step size of PGD is in the
    run's proportion to epsilon. Table 1's values are those with no G left after mixing.
    """
    run, step, made = study.params, 0.05, Inputs(study, detection)
    model = "mixup" if "mixup" in detection else next(iter(detection))
    start = reference_row(study, model)["ratio"]
    # There about 5 % of clean images are flagged.
    quantile = np.quantile(detection[model]["scores"]["clean"]["mi_pl"], 0.95)
    threshold = round(round(float(np.clip(quantile, -0.5, 1)) / step) * step, 2)
    names = class_names(run.data, run.classes)
    targets = {UNTARGETED: UNTARGETED} | {f"towards {n}": str(k) for k, n in enumerate(names)}
    shares = [share * run.epsilon for share in (0.25, 0.5, 1, 1.5, 2)]
    thresholds = [round(step * place, 2) for place in range(-10, 21)]
    controls = {
        "image": Control(
            "test image",
            f"Number of the test image, 0 to {run.n_test - 1}",
            {str(number): number for number in range(run.n_test)},
            made.telling(model, start),
            "number",
        ),
        "model": Control(
            "model",
            "The net that is attacked and that predicts",
            {NAMES[name]: name for name in detection},
            model,
            "menu",
        ),
        "epsilon": Control(
            "epsilon",
            "By how much the attack may change a pixel of 0 to 1",
            {of_pixels(value): value for value in shares},
            run.epsilon,
        ),
        "ratio": Control(
            "lambda",
            "The share of the input in a mixed input; the rest is its partner",
            {written(value): value for value in ratios(start)},
            start,
        ),
        "steps": Control(
            "PGD steps",
            "Steps of the attack; 0 leaves the image clean",
            {str(number): number for number in range(MOST_STEPS + 1)},
            min(run.steps[0], MOST_STEPS),
        ),
        "draws": Control(
            "draws N",
            "Mixed inputs whose predictions are averaged",
            {str(number): number for number in (1, 3, 10, 30, 100)},
            30,
        ),
        "target": Control(
            "target",
            "The class that the attack aims at, or away from the label",
            targets,
            UNTARGETED,
            "menu",
        ),
        "threshold": Control(
            "threshold",
            "Images whose detection score lies above it are flagged as adversarial",
            {f"{value:+.2f}": value for value in thresholds},
            threshold,
        ),
    }
    return Explorer(controls, made.draw, ALTS)


Point = tuple[str, str, int]
"""A setting of Fig. 3(b): model, defense, and its number among the defense's settings."""
SHOWN = ("F_y", "FMI_y", "F_yhat", "FMI_yhat", "clean", "clean_MI")
"""The bars of Fig. 2 at one lambda, keys of theory.measured."""
BAR_NAMES = ("$F_y$", "with MI", r"$F_{\hat{y}}$", "with MI", "clean $F_y$", "with MI")


def fig2(records: dict[tuple[str, float], dict], classes: int) -> Explorer:
    """Fig. 2 at one lambda, live: mean predictions before and after MI beside Table 1, and RIC.

    - records: (mode, ratio) -> a record of experiments.mixed_predictions.
    - classes: L.

    Means are over the images of Eq. 2, or over all where none satisfies it.
    """
    canvases, parts = {}, {}
    places, none = range(len(SHOWN)), np.zeros(len(SHOWN))
    for mode in ("pl", "ol"):
        canvas = canvases[mode] = Canvas(4.3, 3, "A", (0.13, 0.12, 0.99, 0.9))
        axis, colours = canvas.axes["A"], [COLOURS["none"], COLOURS[f"mi_{mode}"]] * 3
        bars = axis.bar(places, none, color=colours, alpha=0.6)
        intervals = axis.vlines(places, none, none, color=BLACK, lw=1)
        ideal = axis.plot([], [], "_", color=BLACK, ms=22, mew=2)[0]
        axis.set(ylim=(0, 1.05), ylabel="mean probability")
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

    def draw(ratio: float) -> tuple[list[Canvas], str]:
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
        return list(canvases.values()), "\n".join(lines)

    values = sorted({ratio for _, ratio in records})
    hint = "The share of the input in a mixed input; the rest is its partner"
    labels = {written(value): value for value in values}
    control = Control("lambda", hint, labels, values[len(values) // 2])
    alts = [
        f"Bars: mean predictions of the label and the predicted class, without and with MI-{mode}"
        for mode in ("PL", "OL")
    ]
    return Explorer({"ratio": control}, draw, alts)


def tradeoff(records: dict[tuple[str, str], dict]) -> Explorer:
    """Fig. 3(b) with points to pick, from a list or by a click.

    - records: (model, defense) -> a record of experiments.tradeoff.
    """
    names: dict[Point, str] = {}
    for (model, defense), record in records.items():
        for number, setting in enumerate(record["settings"]):
            name = f"{NAMES[model]} + {NAMES[defense]}, {parameters(setting)}"
            names[model, defense, number] = name
    found = {key: tradeoff_points(record) for key, record in records.items()}

    @cache
    def drawn(model: str) -> tuple[Canvas, list[Line2D]]:
        """The model's curves, and on them the mark of a point: its two intervals and a ring."""
        canvas = Canvas(5, 4.2, "A", (0.12, 0.25, 0.98, 0.92))
        axis = canvas.axes["A"]
        for (name, kind), points in found.items():
            if name == model:
                by_clean = points[np.argsort(points[:, 0])]
                axis.plot(*by_clean.T, label=NAMES[kind], **curve(kind))
        axis.set(title=NAMES[model], xlabel="clean accuracy, %", ylabel="accuracy under PGD-10, %")
        below = {"loc": "upper center", "bbox_to_anchor": (0.45, -0.14), "ncols": 3}
        axis.legend(frameon=False, fontsize=8, columnspacing=1.2, **below)
        mark = [axis.plot([], [], color=BLACK, lw=1)[0] for _ in range(2)]
        mark += axis.plot([], [], "o", ms=11, mfc="none", mec=BLACK, mew=2, clip_on=False)
        canvas.moves(*mark)
        return canvas, mark

    def draw(point: Point) -> tuple[list[Canvas], str]:
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
        lines = [f"{names[point]}:", f"clean {statistics.percent(clean)} %"]
        return [canvas], "\n".join([*lines, f"PGD-10 {statistics.percent(robust)} %"])

    def pick(_picture: int, across: float, down: float) -> dict[str, Point]:
        model = explorer.values["point"][0]
        shown = [point for point in names if point[0] == model]
        places = np.array([found[point[:2]][point[2]] for point in shown])
        nearest = drawn(model)[0].nearest("A", places, across, down)
        return {} if nearest is None else {"point": shown[nearest]}

    # The most robust setting of MI-OL where there is one.
    told = next((key for key in records if key[1] == "mi_ol"), next(iter(records)))
    start = (*told, int(found[told][:, 1].argmax()))
    hint = "A setting of a defense; a click on its point in the plot picks it too"
    control = Control("point", hint, {name: point for point, name in names.items()}, start, "list")
    alt = "Accuracy under PGD-10 against clean accuracy, a point per setting; the picked one ringed"
    explorer = Explorer({"point": control}, draw, [alt], pick)
    return explorer
