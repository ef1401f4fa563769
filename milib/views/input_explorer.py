"""What the explorer of inputs computes and draws; `explorers.inputs` gives it its controls."""

from functools import lru_cache

import numpy as np
import torch
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from milib import attacks, defenses, rng, statistics, theory
from milib.study.rows import NAMES, PRIMARY
from milib.study.study import Study
from milib.views.blitting import Canvas
from milib.views.looks import COLOURS

MOST_STEPS = 50
"""PGD steps that are kept, all from one trajectory."""
TILES, GAP = 8, 2
"""Mixed inputs that are shown, and the pixels between them."""
UNTARGETED = "untargeted"
SHORT = {"none": "bare", "mi_pl": "MI-PL", "mi_ol": "MI-OL"}
MODES = ("mi_pl", "mi_ol")
ROWS = (r"$x_0$, $x$, $\delta$ scaled", "MI-PL: $x_s$", r"MI-PL: $\tilde{x}$")
ROWS += ("MI-OL: $x_s$", r"MI-OL: $\tilde{x}$")
"""What the rows of the sheet of images show."""


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


class Inputs:
    """A test image under attack, its mixed inputs, and what models make of them.

    - study: the notebook's study.
    - detection: model -> a record of experiments.detection.

    Attacks are kept.
    """

    def __init__(self, study: Study, detection: dict[str, dict]):
        self.study, self.detection = study, detection
        self.classes = study.params.classes
        self.trajectory = lru_cache(maxsize=64)(self._trajectory)
        layout, margins = (
            "AAAAAAAAAEEE;AAAAAAAAAEEE;BBBBCCCCDDDD",
            (0.09, 0.08, 0.99, 0.95, 1.2, 0.3),
        )
        self.canvas = Canvas(10, 6, layout, margins)
        self._make_sheet()
        self._make_bars()
        self._make_roc()
        axes = self.canvas.axes
        self.titles = {"A": axes["A"].set_title(" ", fontsize=9, loc="left")}
        self.titles |= {key: axes[key].set_title(" ", fontsize=9) for key in "BE"}
        self.canvas.moves(self.sheet)
        for bars in self.bars.values():
            self.canvas.moves(*bars)
        self.canvas.moves(*self.ideal.values())
        self.canvas.moves(self.curve, self.place, *self.titles.values())

    def _make_sheet(self) -> None:
        axis, height = self.canvas.axes["A"], self.study.splits.test.images.shape[2] + GAP
        empty = np.ones((len(ROWS) * height, TILES * height, 3))
        self.sheet = axis.imshow(empty, interpolation="nearest", aspect="equal")
        axis.set_anchor("W")
        axis.spines[:].set_visible(False)
        axis.set_xticks([])
        places = [height * (row + 0.5) for row in range(len(ROWS))]
        axis.set_yticks(places, list(ROWS), fontsize=8)
        axis.tick_params(length=0)

    def _make_bars(self) -> None:
        self.bars, self.ideal = {}, {}
        none = np.zeros(self.classes)
        for key, name in (("B", "none"), ("C", "mi_pl"), ("D", "mi_ol")):
            axis = self.canvas.axes[key]
            self.bars[name] = axis.bar(range(self.classes), none, color=COLOURS[name], alpha=0.8)
            self.ideal[name] = axis.plot([], [], "_", color="#000000", ms=14, mew=2)[0]
            axis.set(ylim=(0, 1.05), xlabel="class", ylabel="probability" if key == "B" else None)
            axis.xaxis.set_major_locator(MaxNLocator(10, integer=True))
            if name != "none":
                axis.set_title(f"{NAMES[name]} (black: Table 1)", fontsize=9)

    def _make_roc(self) -> None:
        axis = self.canvas.axes["E"]
        axis.plot([0, 1], [0, 1], ":", color="#666666", lw=1)
        self.curve = axis.plot([], [], color=COLOURS["mi_pl"])[0]
        self.place = axis.plot([], [], "o", color=COLOURS["mi_ol"], ms=8)[0]
        axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axis.set(xlabel="false positive rate", ylabel="true positive rate")
        axis.set_anchor("NE")

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
        """The picture and its numbers for values of the controls.

        - image: number of the test image.
        - model: its name.
        - ratio: lambda.
        - draws: N.
        - epsilon: on pixels in [0, 1].
        - steps: of PGD.
        - target: a class, or "untargeted".
        - threshold: of the detection score.
        """
        study, random = self.study, rng.Draws(self.study.params.seed, "explore")
        y = int(study.points(image + 1).y[image])
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
            guess, partner, found = base.argmax(1), {}, {"none": base.exp()}
            for name, defense in mi.items():
                drawn = defense.partners(guess.expand(draws), index, number, random)
                partner[name] = drawn[0]
                found[name] = defense.probabilities(x, random, index[:1], base)
            score = float(defenses.detection_score(base, found["mi_pl"].log()))
        yhat = int(guess)
        rows = [torch.cat([clean, x, 0.5 + (x - clean) / (2 * epsilon or 1)])]
        for others in partner.values():
            rows += [others[:TILES], ratio * x + (1 - ratio) * others[:TILES]]
        self.sheet.set_data(_montage(rows))
        attack = f"PGD-{steps}, epsilon {epsilon:.3g}, {target}"
        # Greek letters as they are: setting TeX takes longer than the rest.
        self.titles["A"].set_text(f"{attack}; \u03bb {ratio:.2g}, N {draws}")
        self.titles["B"].set_text(f"{NAMES[model]}, bare: y {y}, \u0177 {yhat}")
        ideal = self._ideal(ratio, y, yhat)
        lines = [f"x: test image {image} under {attack}; label {y}, prediction on x {yhat}; "]
        lines[0] += f"lambda {ratio:.2g}, N {draws}"
        for name, probabilities in found.items():
            values = probabilities[0].tolist()
            self._set_bars(name, values, ideal[name])
            text = f"{SHORT[name]:>6}: predicts {int(probabilities.argmax())}; "
            lines.append(f"{text}F_y {values[y]:.3f}, F_yhat {values[yhat]:.3f}")
        lines.append(self._set_roc(model, score, threshold))
        return self.canvas, "\n".join(lines)

    def _ideal(self, ratio: float, y: int, yhat: int) -> dict[str, dict[int, float]]:
        """Table 1 with no G left after mixing: what the linear H gives at y and at yhat."""
        found = {"none": {}}
        for name in MODES:
            table = theory.table1(name[3:], yhat != y, ratio, self.classes)
            found[name] = {yhat: table["yhat"][1]} | {y: table["y"][1]}
        return found

    def _set_bars(self, name: str, values: list[float], ideal: dict[int, float]) -> None:
        for bar, value in zip(self.bars[name], values, strict=True):
            bar.set_height(value)
        self.ideal[name].set_data(list(ideal), list(ideal.values()))

    def _set_roc(self, model: str, score: float, threshold: float) -> str:
        """Draw the model's ROC of MI-PL and the threshold's place on it; the numbers as text."""
        record = self.detection[model]
        clean, adversarial = (
            np.array(record["scores"][column]["mi_pl"]) for column in ("clean", PRIMARY)
        )
        self.curve.set_data(*statistics.roc(clean, adversarial))
        false, true = (clean > threshold).mean(), (adversarial > threshold).mean()
        self.place.set_data([false], [true])
        said, kind = "passed", "not above"
        if score > threshold:
            said, kind = "flagged", "above"
        self.titles["E"].set_text(f"score {score:+.2f}, at {threshold:+.2f} {said}")
        flagged = f"{100 * true:.1f} % of attacked and {100 * false:.1f} % of clean images"
        ratio = record["ratio"]["mi_pl"]
        curve = f"on the ROC (Fig. 3(a): MI-PL at lambda {ratio:.2g}, PGD-10)"
        place = f"detection score {score:+.3f}, {kind} the threshold {threshold:+.2f}"
        return f"{place},\nwhich flags {flagged} {curve}"
