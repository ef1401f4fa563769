"""Explorers for JupyterLab: controls, a picture and its numbers, made anew when a control is released.

Where no frontend is (papermill, nbval, HTML) the picture and its numbers stand alone, and nothing is broken. `progress.frontend` says which.
"""

import base64
from collections.abc import Callable
from functools import cache, lru_cache

import ipywidgets as widgets
import numpy as np
import torch
from IPython.display import Image, display
from matplotlib.artist import Artist
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from milib import attacks, defenses, rng, statistics, theory
from milib.study.experiments import reference_row
from milib.study.progress import frontend
from milib.study.rows import NAMES, PRIMARY, correct, parameters, tradeoff_points
from milib.study.study import Study
from milib.views.blitting import Canvas
from milib.views.figures import COLOURS

MOST_STEPS = 50
"""PGD steps that the explorer of inputs keeps, all from one trajectory."""
TILES, GAP = 8, 2
"""Mixed inputs that are shown, and the pixels between them."""
UNTARGETED = "untargeted"


class Explorer:
    """Controls by name, and `draw(**values)`, which gives a canvas and a text of numbers for their values."""

    def __init__(
        self, controls: dict[str, widgets.Widget], draw: Callable[..., tuple[Canvas, str]]
    ):
        self.controls, self.draw = controls, draw
        self.picture, self.numbers = widgets.Image(format="png"), widgets.HTML()
        self.redraw()
        for control in controls.values():
            control.observe(self.redraw, "value")

    def redraw(self, _change: dict | None = None) -> None:
        """Draw for the values as they are; the picture before stays until then."""
        canvas, self.text = self.draw(
            **{name: control.value for name, control in self.controls.items()}
        )
        self.picture.value, self.numbers.value = canvas.png(), f"<pre>{self.text}</pre>"

    def show(self) -> None:
        """In JupyterLab the controls with the picture; elsewhere the picture and its numbers."""
        if frontend():
            controls = widgets.HBox(list(self.controls.values()), layout={"flex_flow": "row wrap"})
            box = widgets.VBox(
                [controls, self.picture, self.numbers], layout={"align_items": "flex-start"}
            )
            still = {
                "image/png": base64.b64encode(self.picture.value).decode(),
                "text/plain": self.text,
            }  # for a page made of the saved notebook
            display(box._repr_mimebundle_() | still, raw=True)
        else:
            display(Image(self.picture.value))
            print(self.text)


def _steps(name: str, values: list, value) -> widgets.SelectionSlider:
    return widgets.SelectionSlider(
        options=values, value=value, description=name, continuous_update=False
    )


def _slider(name: str, value, low, high, step) -> widgets.Widget:
    kind = widgets.IntSlider if isinstance(step, int) else widgets.FloatSlider
    return kind(value, min=low, max=high, step=step, description=name, continuous_update=False)


# One input


def _montage(rows: list[Tensor]) -> np.ndarray:
    """Rows of at most TILES images [k, C, H, W] in [0, 1] as one picture [*, *, 3], with white gaps."""
    height, width = (side + GAP for side in rows[0].shape[2:])
    sheet = torch.ones(3, len(rows) * height, TILES * width)
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            sheet[:, r * height : (r + 1) * height - GAP, c * width : (c + 1) * width - GAP] = (
                image.expand(3, -1, -1)
            )
    return sheet.clamp(0, 1).permute(1, 2, 0).numpy()


class _Inputs:
    """What the explorer of inputs computes and draws: attacks are kept."""

    def __init__(self, study: Study, detection: dict[str, dict]):
        self.study, self.detection = study, detection
        self.classes = study.params.classes
        self.trajectory = lru_cache(maxsize=64)(self._trajectory)
        self.canvas = Canvas(
            10, 6, "AAAAAAAAAEEE;AAAAAAAAAEEE;BBBBCCCCDDDD", (0.09, 0.08, 0.99, 0.95, 1.2, 0.3)
        )
        axes, height = self.canvas.axes, study.splits.test.images.shape[2] + GAP
        sheet, roc = axes["A"], axes["E"]
        self.sheet = sheet.imshow(
            np.ones((5 * height, TILES * height, 3)), interpolation="nearest", aspect="equal"
        )
        sheet.set_anchor("W")
        sheet.spines[:].set_visible(False)
        sheet.set_xticks([])
        labels = [
            r"$x_0$, $x$, $\delta$ scaled",
            "MI-PL: $x_s$",
            r"MI-PL: $\tilde{x}$",
            "MI-OL: $x_s$",
            r"MI-OL: $\tilde{x}$",
        ]
        sheet.set_yticks([height * (row + 0.5) for row in range(5)], labels, fontsize=8)
        sheet.tick_params(length=0)
        self.bars, self.ideal = {}, {}
        for key, name in (("B", "none"), ("C", "mi_pl"), ("D", "mi_ol")):
            axis = axes[key]
            self.bars[name] = axis.bar(
                range(self.classes), np.zeros(self.classes), color=COLOURS[name], alpha=0.8
            )
            self.ideal[name] = axis.plot([], [], "_", color="#000000", ms=14, mew=2)[0]
            axis.set(ylim=(0, 1.05), xlabel="class", ylabel="probability" if key == "B" else None)
            axis.xaxis.set_major_locator(MaxNLocator(10, integer=True))
            if name != "none":
                axis.set_title(f"{NAMES[name]} (black: Table 1)", fontsize=9)
        roc.plot([0, 1], [0, 1], ":", color="#666666", lw=1)
        self.curve = roc.plot([], [], color=COLOURS["mi_pl"])[0]
        self.place = roc.plot([], [], "o", color=COLOURS["mi_ol"], ms=8)[0]
        roc.set(
            xlim=(-0.02, 1.02),
            ylim=(-0.02, 1.02),
            xlabel="false positive rate",
            ylabel="true positive rate",
            aspect="equal",
        )
        roc.set_anchor("NE")
        self.titles = {
            key: axes[key].set_title(" ", fontsize=9, loc="left" if key == "A" else "center")
            for key in "ABE"
        }
        self.canvas.moves(
            self.sheet, *(bar for bars in self.bars.values() for bar in bars), *self.ideal.values()
        )
        self.canvas.moves(self.curve, self.place, *self.titles.values())

    def _trajectory(self, image: int, model: str, epsilon: float, target: str) -> Tensor:
        """x after 0 ... MOST_STEPS steps, [MOST_STEPS + 1, C, H, W]."""
        run, points = self.study.params, self.study.points(image + 1)
        x, index, label = points.x[image:], points.index[image:], points.y[image:]
        draws = rng.Draws(run.seed, "attack", UNTARGETED)
        start = attacks.random_start(draws, index, torch.ones_like(index), x.shape[1:], epsilon)
        targeted = target != UNTARGETED
        aim = torch.full_like(label, int(target)) if targeted else label
        options = {
            "epsilon": epsilon,
            "step_size": run.step_size * epsilon / run.epsilon,
            "steps": list(range(1, MOST_STEPS + 1)),
            "targeted": targeted,
        }
        return torch.cat(
            [x, attacks.pgd(self.study.model(model).attacker, x, aim, start=start, **options)[0]]
        )

    def draw(
        self,
        image: int,
        model: str,
        ratio: float,
        draws: int,
        epsilon: float,
        steps: int,
        target: str,
        threshold: float,
    ) -> tuple[Canvas, str]:
        study, random = self.study, rng.Draws(self.study.params.seed, "explore")
        y = int(study.points(image + 1).y[image])
        path = self.trajectory(image, model, epsilon, target)
        clean, x = path[:1], path[steps : steps + 1]
        index, number = (
            torch.full((draws,), image, device=x.device),
            torch.arange(draws, device=x.device),
        )
        mi = {
            name: defenses.build(
                name,
                study.model(model).scorer,
                study.pool,
                {"ratio": ratio},
                draws=draws,
                chunk=draws,
            )
            for name in ("mi_pl", "mi_ol")
        }
        with torch.no_grad():
            base = mi["mi_pl"].base(x)
            guess = base.argmax(1)
            partner = {
                name: d.partners(guess.expand(draws), index, number, random)[0]
                for name, d in mi.items()
            }
            found = {"none": base.exp()} | {
                name: d.probabilities(x, random, index[:1], base) for name, d in mi.items()
            }
            score = float(defenses.detection_score(base, found["mi_pl"].log()))
        yhat = int(guess)
        rows = [torch.cat([clean, x, 0.5 + (x - clean) / (2 * epsilon or 1)])]
        for others in partner.values():
            rows += [others[:TILES], ratio * x + (1 - ratio) * others[:TILES]]
        attack = f"PGD-{steps}, epsilon {epsilon:.3g}, {target}"
        self.titles["A"].set_text(
            f"{attack}; \u03bb {ratio:.2g}, N {draws}"
        )  # Greek letters as they are: setting TeX takes longer than the rest
        self.titles["B"].set_text(f"{NAMES[model]}, bare: y {y}, \u0177 {yhat}")
        self.sheet.set_data(_montage(rows))
        ideal = self._ideal(ratio, y, yhat)
        for name, bars in self.bars.items():
            for bar, value in zip(bars, found[name][0].tolist(), strict=True):
                bar.set_height(value)
            self.ideal[name].set_data(list(ideal[name]), list(ideal[name].values()))
        place = self._roc(model, score, threshold)
        names = {"none": "bare", "mi_pl": "MI-PL", "mi_ol": "MI-OL"}
        lines = [
            f"x: test image {image} under {attack}; label {y}, prediction on x {yhat}; lambda {ratio:.2g}, N {draws}"
        ]
        lines += [
            f"{names[k]:>6}: predicts {int(p.argmax())}; F_y {float(p[0, y]):.3f}, F_yhat {float(p[0, yhat]):.3f}"
            for k, p in found.items()
        ]
        return self.canvas, "\n".join([*lines, place])

    def _ideal(self, ratio: float, y: int, yhat: int) -> dict[str, dict[int, float]]:
        """Table 1 with no G left after mixing: what the linear H gives at y and at the prediction."""
        found = {}
        for name in ("mi_pl", "mi_ol"):
            table = theory.table1(name[3:], yhat != y, ratio, self.classes)
            found[name] = {yhat: table["yhat"][1]} | {y: table["y"][1]}
        return found | {"none": {}}

    def _roc(self, model: str, score: float, threshold: float) -> str:
        """Draw the model's ROC of MI-PL and the threshold's place on it; the numbers as text."""
        clean, adversarial = (
            np.array(self.detection[model]["scores"][column]["mi_pl"])
            for column in ("clean", PRIMARY)
        )
        self.curve.set_data(*statistics.roc(clean, adversarial))
        false, true = (clean > threshold).mean(), (adversarial > threshold).mean()
        self.place.set_data([false], [true])
        self.titles["E"].set_text(
            f"score {score:+.2f}, at {threshold:+.2f} {'flagged' if score > threshold else 'passed'}"
        )
        kind = "above" if score > threshold else "not above"
        ratio = self.detection[model]["ratio"]["mi_pl"]
        flags = f"which flags {100 * true:.1f} % of attacked and {100 * false:.1f} % of clean images on the ROC (Fig. 3(a): MI-PL at lambda {ratio:.2g}, PGD-10)"
        return f"detection score {score:+.3f}, {kind} the threshold {threshold:+.2f},\n{flags}"


def inputs(study: Study, detection: dict[str, dict]) -> Explorer:
    """A test image under attack, its mixed inputs with their partners, and the predictions of the bare model, MI-PL and MI-OL.

    The attack is PGD with its step size in the run's proportion to epsilon; Table 1's values are those with no G left after mixing.
    detection: model -> a record of experiments.detection, for the ROC on which the threshold has its place.
    """
    run = study.params
    model = "mixup" if "mixup" in detection else next(iter(detection))
    names = [(NAMES[name], name) for name in detection]
    step = 0.05
    quantile = np.quantile(
        detection[model]["scores"]["clean"]["mi_pl"], 0.95
    )  # there about 5 % of clean images are flagged
    targets = [(UNTARGETED, UNTARGETED), *((f"towards {k}", str(k)) for k in range(run.classes))]
    controls = {
        "image": _slider("test image", 0, 0, run.n_test - 1, 1),
        "model": widgets.Dropdown(options=names, value=model, description="model"),
        "ratio": _slider("lambda", reference_row(study, model)["ratio"], 0.05, 1, 0.05),
        "draws": _steps("draws N", [1, 3, 10, 30, 100], 30),
        "epsilon": _steps(
            "epsilon",
            [
                (f"{share:g} of {run.epsilon:.3g}", share * run.epsilon)
                for share in (0.25, 0.5, 1, 1.5, 2)
            ],
            run.epsilon,
        ),
        "steps": _slider("PGD steps", run.steps[0], 0, MOST_STEPS, 1),
        "target": widgets.Dropdown(options=targets, value=UNTARGETED, description="target"),
        "threshold": _slider(
            "threshold", round(float(np.clip(quantile, -0.5, 1)) / step) * step, -0.5, 1, step
        ),
    }
    return Explorer(controls, _Inputs(study, detection).draw)


# Records


def fig2(records: dict[tuple[str, float], dict], classes: int) -> Explorer:
    """Fig. 2 at one lambda, live: mean predictions at y and yhat before and after MI beside Table 1, and RIC's two conditions.

    records: (mode, ratio) -> a record of experiments.mixed_predictions; images of Eq. 2 where there are any, else all.
    """
    canvas, parts = Canvas(9, 3.2, "AB", (0.07, 0.16, 0.99, 0.88, 0.08), sharey=True), {}
    canvas.axes["A"].set_ylabel("mean probability")
    for axis, mode in zip(canvas.axes.values(), ("pl", "ol"), strict=True):
        bars = axis.bar(
            range(6), np.zeros(6), color=[COLOURS["none"], COLOURS[f"mi_{mode}"]] * 3, alpha=0.6
        )
        intervals = axis.vlines(range(6), np.zeros(6), np.zeros(6), color="#000000", lw=1)
        ideal = axis.plot([], [], "_", color="#000000", ms=22, mew=2)[0]
        axis.set(ylim=(0, 1.05))
        axis.set_xticks(
            range(6), ["$F_y$", "with MI", r"$F_{\hat{y}}$", "with MI", "clean $F_y$", "with MI"]
        )
        parts[mode] = bars, intervals, ideal, axis.set_title(" ")
        canvas.moves(*bars, *parts[mode][1:])

    @cache
    def numbers(mode: str, ratio: float) -> tuple[dict[str, tuple[float, ...]], str]:
        """Means with their intervals, and a line on RIC."""
        values = theory.measured(records[mode, ratio], mode, ratio)
        chosen = values["eq2"] if values["eq2"].any() else ~values["eq2"]
        means = {
            key: statistics.mean_interval(values[key][chosen])
            for key in ("F_y", "FMI_y", "F_yhat", "FMI_yhat", "clean", "clean_MI")
        }
        holds = theory.ric(values["delta_y"][chosen], values["delta_yhat"][chosen]).mean()
        differences = ", ".join(
            f"{name} {values[key][chosen].mean():+.3f}"
            for name, key in (("Delta F_y", "delta_y"), ("Delta F_yhat", "delta_yhat"))
        )
        return (
            means,
            f"MI-{mode.upper()}: {differences}; RIC holds on {100 * holds:.1f} % of {chosen.sum()} images",
        )

    def draw(ratio: float) -> tuple[Canvas, str]:
        lines = []
        for mode, (bars, intervals, ideal, title) in parts.items():
            means, line = numbers(mode, ratio)
            clean, attacked = (theory.table1(mode, z, ratio, classes) for z in (False, True))
            for bar, (mean, *_) in zip(bars, means.values(), strict=True):
                bar.set_height(mean)
            intervals.set_segments(
                [[(k, low), (k, high)] for k, (_, low, high) in enumerate(means.values())]
            )
            ideal.set_data([1, 3, 5], [attacked["y"][1], attacked["yhat"][1], clean["y"][1]])
            title.set_text(f"MI-{mode.upper()}, \u03bb = {ratio:g} (black: Table 1, no G left)")
            lines.append(line)
        return canvas, "\n".join(lines)

    ratios = sorted({ratio for _, ratio in records})
    return Explorer({"ratio": _steps("lambda", ratios, ratios[len(ratios) // 2])}, draw)


def tradeoff(records: dict[tuple[str, str], dict]) -> Explorer:
    """Fig. 3(b) with points to pick. records: (model, defense) -> a record of experiments.tradeoff."""
    options = [
        (f"{NAMES[m]} + {NAMES[d]}, {parameters(s)}", (m, d, k))
        for (m, d), r in records.items()
        for k, s in enumerate(r["settings"])
    ]

    @cache
    def drawn(model: str) -> tuple[Canvas, list[Artist]]:
        """The model's curves, and on them the mark of a point: its two intervals and a ring."""
        canvas = Canvas(7, 4, "A", (0.09, 0.13, 0.72, 0.92))
        axis = canvas.axes["A"]
        for (name, kind), record in records.items():
            if name == model:
                found = tradeoff_points(record)
                axis.plot(
                    *found[np.argsort(found[:, 0])].T,
                    "o-",
                    ms=4,
                    lw=0.8,
                    color=COLOURS[kind],
                    label=NAMES[kind],
                )
        axis.set(title=NAMES[model], xlabel="clean accuracy, %", ylabel="accuracy under PGD-10, %")
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
        mark = [axis.plot([], [], color="#000000", lw=1)[0] for _ in range(2)] + axis.plot(
            [], [], "o", ms=11, mfc="none", mec="#000000", mew=2
        )
        canvas.moves(*mark)
        return canvas, mark

    def draw(point: tuple[str, str, int]) -> tuple[Canvas, str]:
        model, defense, number = point
        canvas, mark = drawn(model)
        record = records[model, defense]
        cells = [
            statistics.interval(correct(record["cells"][number][column], record["labels"]))
            for column in ("clean", PRIMARY)
        ]
        (x, *ends_x), (y, *ends_y) = (100 * np.array(cell) for cell in cells)
        for artist, where in zip(
            mark, ((ends_x, [y, y]), ([x, x], ends_y), ([x], [y])), strict=True
        ):
            artist.set_data(*where)
        name = f"{NAMES[model]} + {NAMES[defense]}, {parameters(record['settings'][number])}"
        return (
            canvas,
            f"{name}: clean {statistics.percent(cells[0])} %, PGD-10 {statistics.percent(cells[1])} %",
        )

    return Explorer(
        {
            "point": widgets.Select(
                options=options, value=options[0][1], description="point", layout={"width": "30em"}
            )
        },
        draw,
    )
