"""What the explorer of inputs computes and draws; `explorers.inputs` gives it its controls."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from milib import attacks, defenses, rng, statistics, theory
from milib.class_names import class_names
from milib.study.rows import NAMES, PRIMARY
from milib.study.study import Study
from milib.views.blitting import Canvas
from milib.views.looks import BLACK, COLOURS, GREY
from milib.views.written import of_pixels, written

MOST_STEPS = 50
"""PGD steps that are kept, all from one trajectory."""
TILES, GAP = 8, 2
"""Mixed inputs that are shown, and the pixels between them."""
FEW = 8
"""Test images among which the first one is chosen."""
NAMED = 20
"""Classes up to which each has its name in the picture."""
UNTARGETED = "untargeted"
SHORT = {"none": "bare", "mi_pl": "MI-PL", "mi_ol": "MI-OL"}
MODES = ("mi_pl", "mi_ol")
ROWS = (r"$x_0$, $x$, $\delta$", "MI-PL: $x_s$", r"MI-PL: $\tilde{x}$")
ROWS += ("MI-OL: $x_s$", r"MI-OL: $\tilde{x}$")
"""What the rows of the sheet of images show."""
ALTS = [
    "Images: the clean input, the attacked one and the perturbation, scaled; below, partners and "
    "mixed inputs of MI-PL and MI-OL",
    "Bars: the probability of each class for the bare model, MI-PL and MI-OL, beside Table 1",
    "The ROC curve of MI-PL as a detector, and the threshold's place on it",
]


def _montage(rows: list[Tensor]) -> np.ndarray:
    """Rows of at most TILES images [k, C, H, W] in [0, 1] as one picture [*, *, 3]."""
    height, width = (side + GAP for side in rows[0].shape[2:])
    sheet = torch.ones(3, len(rows) * height, TILES * width)
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            top, left = r * height, c * width
            place = sheet[:, top : top + height - GAP, left : left + width - GAP]
            place[:] = image.expand(3, -1, -1)
    return sheet.clamp(0, 1).permute(1, 2, 0).numpy()


def succeeded(record: dict) -> list[int]:
    """Images that are right when clean and wrong under PGD-10: first what MI-OL takes most from.

    - record: of experiments.detection.
    """
    labels, scores = np.array(record["labels"]), record["scores"]
    wrong = np.array(scores[PRIMARY]["predictions"]) != labels
    chosen = (np.array(scores["clean"]["predictions"]) == labels) & wrong
    taken = np.where(chosen, scores[PRIMARY]["mi_ol"], -np.inf)
    return np.argsort(-taken, kind="stable")[: chosen.sum()].tolist()


class Mixed(NamedTuple):
    """What a model makes of an attacked image.

    - clean, x: the image before and after the attack [1, C, H, W].
    - partners: of each mode, the first TILES [k, C, H, W].
    - predictions: the bare model's and each mode's probabilities [1, L].
    - score: the detection score of MI-PL.
    """

    clean: Tensor
    x: Tensor
    partners: dict[str, Tensor]
    predictions: dict[str, Tensor]
    score: float


class Inputs:
    """A test image under attack, its mixed inputs, and what models make of them.

    - study: the notebook's study.
    - detection: model -> a record of experiments.detection.

    Attacks and predictions are kept.
    """

    def __init__(self, study: Study, detection: dict[str, dict]):
        self.study, self.detection = study, detection
        self.classes = study.params.classes
        self.names = class_names(study.params.data, self.classes)
        self.trajectory = lru_cache(maxsize=64)(self._trajectory)
        self.mixed = lru_cache(maxsize=256)(self._mixed)
        self._make_sheet()
        self._make_bars()
        self._make_roc()

    def _make_sheet(self) -> None:
        self.sheet = Canvas(4.3, 2.55, "A", (0.19, 0.01, 0.995, 0.91))
        axis, height = self.sheet.axes["A"], self.study.splits.test.images.shape[2] + GAP
        empty = np.ones((len(ROWS) * height, TILES * height, 3))
        self.images = axis.imshow(empty, interpolation="nearest", aspect="equal")
        axis.set_anchor("W")
        axis.spines[:].set_visible(False)
        axis.set_xticks([])
        places = [height * (row + 0.5) for row in range(len(ROWS))]
        axis.set_yticks(places, list(ROWS))
        axis.tick_params(length=0)
        self.attack = axis.set_title(" ", fontsize=9, loc="left")
        self.sheet.moves(self.images, self.attack)

    def _make_bars(self) -> None:
        margins = (0.205 if self.names[0].isalpha() else 0.07, 0.15, 0.95, 0.84, 0.12)
        self.predictions = Canvas(4.3, 2.9, "BCD", margins, sharey=True)
        self.bars, self.ideal, self.marks = {}, {}, []
        none = np.zeros(self.classes)
        for key, (name, title) in zip("BCD", SHORT.items(), strict=True):
            axis = self.predictions.axes[key]
            self.bars[name] = axis.barh(range(self.classes), none, color=COLOURS[name], alpha=0.8)
            self.ideal[name] = axis.plot([], [], "|", color=BLACK, ms=13, mew=2)[0]
            axis.set(xlim=(0, 1.05), xlabel="probability")
            axis.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
            axis.set_title(title, fontsize=9)
        first, last = (self.predictions.axes[key] for key in "BD")
        first.set_ylim(self.classes - 0.5, -0.5)
        if self.classes <= NAMED:
            first.set_yticks(range(self.classes), self.names)
        else:
            first.yaxis.set_major_locator(MaxNLocator(10, integer=True))
        for _ in range(2):
            self.marks.append(last.text(1.09, 0, "", va="center", clip_on=False))
        self.predicted = self.predictions.agg.figure.text(0.01, 0.95, "")
        for bars in self.bars.values():
            self.predictions.moves(*bars)
        self.predictions.moves(*self.ideal.values(), *self.marks, self.predicted)

    def _make_roc(self) -> None:
        self.roc = Canvas(2.9, 2.9, "E", (0.18, 0.16, 0.97, 0.9))
        axis = self.roc.axes["E"]
        axis.plot([0, 1], [0, 1], ":", color=GREY, lw=1)
        self.curve = axis.plot([], [], color=COLOURS["mi_pl"])[0]
        self.place = axis.plot([], [], "o", color=COLOURS["mi_ol"], ms=8)[0]
        axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axis.set(xlabel="false positive rate", ylabel="true positive rate")
        self.of = axis.set_title(" ", fontsize=9, loc="right")
        self.roc.moves(self.curve, self.place, self.of)

    def _trajectory(self, image: int, model: str, epsilon: float, target: str) -> Tensor:
        """x after 0 ... MOST_STEPS steps, [MOST_STEPS + 1, C, H, W]."""
        run, points = self.study.params, self.study.points(image + 1)
        x, index, label = points.x[image:], points.index[image:], points.y[image:]
        draws = rng.Draws(run.seed, "attack", UNTARGETED)
        start = attacks.random_start(draws, index, torch.ones_like(index), x.shape[1:], epsilon)
        targeted = target != UNTARGETED
        aim = torch.full_like(label, int(target)) if targeted else label
        options: dict = {"epsilon": epsilon, "step_size": run.step_size * epsilon / run.epsilon}
        options |= {"steps": list(range(1, MOST_STEPS + 1)), "targeted": targeted}
        found = attacks.pgd(self.study.model(model).attacker, x, aim, start=start, **options)
        return torch.cat([x, found[0]])

    def _mixed(
        self,
        image: int,
        model: str,
        ratio: float,
        draws: int,
        epsilon: float,
        steps: int,
        target: str,
    ) -> Mixed:
        """The arguments are those of `draw`."""
        study, random = self.study, rng.Draws(self.study.params.seed, "explore")
        path = self.trajectory(image, model, epsilon, target)
        clean, x = path[:1], path[steps : steps + 1]
        number = torch.arange(draws, device=x.device)
        index = torch.full_like(number, image)
        net, options = study.model(model).scorer, {"draws": draws, "chunk": draws}
        mi = {}
        for name in MODES:
            mi[name] = defenses.build(name, net, study.pool, {"ratio": ratio}, **options)
        with torch.no_grad():
            base = mi["mi_pl"].base(x)
            guess, partners, found = base.argmax(1), {}, {"none": base.exp()}
            for name, defense in mi.items():
                drawn = defense.partners(guess.expand(draws), index, number, random)
                partners[name] = drawn[0][:TILES]
                found[name] = defense.probabilities(x, random, index[:1], base)
            score = float(defenses.detection_score(base, found["mi_pl"].log()))
        return Mixed(clean, x, partners, found, score)

    def telling(self, model: str, ratio: float) -> int:
        """The test image that shows the point: its attack succeeds, and MI-OL finds its label.

        - model: that is attacked.
        - ratio: lambda.

        Of the FEW whose wrong prediction loses most under MI-OL the one whose label gains most.
        """
        study, beliefs = self.study, {}
        mi = study.defense({"model": model, "defense": "mi_ol", "ratio": ratio})
        for image in succeeded(self.detection[model])[:FEW]:
            x = self.trajectory(image, model, study.params.epsilon, UNTARGETED)[10:11]
            points = study.points(image + 1)
            draws = rng.Draws(study.params.seed, "explore")
            found = mi.probabilities(x, draws, points.index[image:])
            beliefs[image] = float(found[0, points.y[image]])
        return max(beliefs, key=beliefs.__getitem__, default=0)

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
    ) -> tuple[list[Canvas], str]:
        """The pictures and their numbers for values of the controls.

        - image: number of the test image.
        - model: its name.
        - ratio: lambda.
        - draws: N.
        - epsilon: on pixels in [0, 1].
        - steps: of PGD.
        - target: a class, or "untargeted".
        - threshold: of the detection score.
        """
        study, y = self.study, int(self.study.points(image + 1).y[image])
        clean, x, partners, found, score = self.mixed(
            image, model, ratio, draws, epsilon, steps, target
        )
        yhat = int(found["none"].argmax())
        rows = [torch.cat([clean, x, 0.5 + (x - clean) / (2 * epsilon or 1)])]
        for others in partners.values():
            rows += [others, ratio * x + (1 - ratio) * others]
        self.images.set_data(_montage(rows))
        aim = target if target == UNTARGETED else f"towards {self.names[int(target)]}"
        attack = f"PGD-{steps}, epsilon {of_pixels(epsilon)}, {aim}"
        # Greek letters as they are: setting TeX takes longer than the rest.
        self.attack.set_text(
            f"PGD-{steps}, \u03b5 {of_pixels(epsilon)}, {aim}; \u03bb {written(ratio)}, N {draws}"
        )
        self._name_labels(y, yhat)
        ideal = self._ideal(ratio, y, yhat)
        lines = [
            f"Test image {image} ({self.names[y]}), {NAMES[model]}: {attack}.",
            f"lambda {written(ratio)}, N {draws}. y = {self.names[y]}, yhat = {self.names[yhat]}.",
            "",
        ]
        width = max(len(name) for name in self.names)
        lines.append(f"        {'predicts':<{max(8, width)}}  F_y    F_yhat")
        for name, probabilities in found.items():
            values = probabilities[0].tolist()
            self._set_bars(name, values, ideal[name])
            told = self.names[int(probabilities.argmax())]
            line = f"{SHORT[name]:<8}{told:<{max(8, width)}}  {values[y]:.3f}  {values[yhat]:.3f}"
            lines.append(line)
        lines += ["", *self._set_roc(model, score, threshold)]
        record = self.detection[model]["ratio"]["mi_pl"], study.params.draws
        if (ratio, draws) != record:
            lines.append(
                f"This score is at lambda {written(ratio)}, N {draws}: "
                "the curve and its rates do not hold there."
            )
        return [self.sheet, self.predictions, self.roc], "\n".join(lines)

    def _name_labels(self, y: int, yhat: int) -> None:
        """Say which classes are y and the prediction on x, in words and beside the bars."""
        text = f"y: {self.names[y]}; prediction on x, \u0177: {self.names[yhat]}"
        self.predicted.set_text(f"{text} (|: Table 1)")
        at = {y: "y", yhat: "\u0177"} if y != yhat else {y: "y, \u0177"}
        for mark, place in zip(self.marks, (y, yhat), strict=True):
            mark.set_position((1.09, place))
            mark.set_text(at.pop(place, ""))

    def _ideal(self, ratio: float, y: int, yhat: int) -> dict[str, dict[int, float]]:
        """Table 1 with no G left after mixing: what the linear H gives at y and at yhat."""
        found = {"none": {}}
        for name in MODES:
            table = theory.table1(name[3:], yhat != y, ratio, self.classes)
            found[name] = {yhat: table["yhat"][1]} | {y: table["y"][1]}
        return found

    def _set_bars(self, name: str, values: list[float], ideal: dict[int, float]) -> None:
        for bar, value in zip(self.bars[name], values, strict=True):
            bar.set_width(value)
        self.ideal[name].set_data(list(ideal.values()), list(ideal))

    def _set_roc(self, model: str, score: float, threshold: float) -> list[str]:
        """Draw the model's ROC of MI-PL and the threshold's place on it; the numbers as text."""
        record, run = self.detection[model], self.study.params
        clean, adversarial = (
            np.array(record["scores"][column]["mi_pl"]) for column in ("clean", PRIMARY)
        )
        self.curve.set_data(*statistics.roc(clean, adversarial))
        false, true = (clean > threshold).mean(), (adversarial > threshold).mean()
        self.place.set_data([false], [true])
        ratio = f"{written(record['ratio']['mi_pl'])}, N {run.draws}"
        self.of.set_text(f"ROC of MI-PL at \u03bb {ratio}")
        said = "flagged as adversarial" if score > threshold else "passed as clean"
        return [
            f"Detection score {score:+.3f}, threshold {threshold:+.2f}: {said}.",
            f"ROC (Fig. 3(a)): {run.n_test} test images, untargeted PGD-10, "
            f"epsilon {of_pixels(run.epsilon)}, lambda {ratio}. At this threshold "
            f"{100 * true:.1f} % of attacked and {100 * false:.1f} % of clean images are flagged.",
        ]
