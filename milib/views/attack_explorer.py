"""The explorer of attacks (08): what is left of the label under MI-OL, for which attacker."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from milib import adaptive, attacks, rng
from milib.class_names import class_names
from milib.study.experiments import reference_row
from milib.study.rows import NAMES
from milib.study.study import Study
from milib.views.blitting import Canvas
from milib.views.explorer import Control, Explorer
from milib.views.looks import COLOURS, GREY
from milib.views.written import of_pixels, ratios, written

STEPS = (0, 1, 2, 3, 5, 7, 10, 15, 20)
"""Steps after which an example is kept, all of one trajectory."""
SAMPLES, NUMBERS = (1, 3, 10, 30), (1, 3, 10, 30)
"""K, draws in each step of the adaptive attack, and N, draws that are averaged."""
FEW = 8
"""Test images among which the first one is chosen."""
LINES = {
    "oblivious": ("o-", COLOURS["none"]),
    "transferred": ("s--", COLOURS["mi_pl"]),
    "adaptive": ("^-", COLOURS["mi_ol"]),
}
"""The attacks, and how their lines look."""


class Attacks:
    """MI-OL on a test image under three attacks, all of them PGD with the run's steps.

    - study: the run.
    - models: that MI-OL defends.

    The oblivious attack is made on the bare model, the transferred one on another model of the
    table. The adaptive one goes through the mixing with K draws in each step (Eq. 24). Examples and
    predictions are kept.
    """

    def __init__(self, study: Study, models: tuple[str, ...]):
        self.study, self.models = study, models
        self.names = class_names(study.params.data, study.params.classes)
        self.examples = lru_cache(maxsize=256)(self._examples)
        self.predictions = lru_cache(maxsize=256)(self._predictions)
        self.canvas = Canvas(5, 3.3, "A", (0.11, 0.14, 0.98, 0.87))
        axis = self.canvas.axes["A"]
        self.lines = {}
        for name, (look, colour) in LINES.items():
            [self.lines[name]] = axis.plot([], [], look, color=colour, label=name, ms=5, lw=1.2)
        axis.set(xlim=(-0.5, max(STEPS) + 0.5), ylim=(0, 1.02))
        axis.set(xlabel="steps of the attack", ylabel="MI-OL's probability of the label")
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False)
        axis.set_xticks(STEPS)
        self.at = axis.axvline(0, color=GREY, lw=1, ls=":")
        self.canvas.moves(*self.lines.values(), self.at)

    def source(self, model: str) -> str:
        """The model on which transferred examples are made: the table's first other one.

        - model: that is defended.
        """
        others = [name for name in (*self.study.table_models, *self.models) if name != model]
        return others[0] if others else model

    def _examples(
        self, images: range, model: str, attack: str, ratio: float, samples: int
    ) -> Tensor:
        """Examples [images, STEPS, C, H, W]; ratio and K count for the adaptive attack alone."""
        run, points = self.study.params, self.study.points(images.stop)
        x, y, index = (each[images.start :] for each in (points.x, points.y, points.index))
        draws = rng.Draws(run.seed, "explore", attack)
        start = attacks.random_start(
            draws, index, torch.zeros_like(index), x.shape[1:], run.epsilon
        )
        options = {"epsilon": run.epsilon, "step_size": run.step_size, "steps": list(STEPS[1:])}
        if attack == "adaptive":
            row = {"model": model, "defense": "mi_ol", "ratio": ratio}
            mi = self.study.defense(row, samples, attacked=True)
            mi = mi.resized(samples, len(images) * samples)  # a whole chunk would be padding

            def direction(current: Tensor, step: int) -> Tensor:
                first, variant = step * samples, "eq24"
                return adaptive.adaptive_gradient(
                    mi, current, y, index, draws, variant=variant, first=first, samples=samples
                )

            found = attacks.followed(direction, x, start, **options)
        else:
            attacked = model if attack == "oblivious" else self.source(model)
            net = self.study.model(attacked).attacker
            found = attacks.pgd(net, x, y, start=start, **options)
        return torch.cat([x[:, None], found], 1)

    def _predictions(
        self, images: range, model: str, attack: str, ratio: float, samples: int
    ) -> np.ndarray:
        """F of the most draws on the examples [images, STEPS, N, L]."""
        known = (ratio, samples) if attack == "adaptive" else (0, 0)
        examples = self.examples(images, model, attack, *known)
        row = {"model": model, "defense": "mi_ol", "ratio": ratio}
        mi = self.study.defense(row, max(NUMBERS))
        index = self.study.points(images.stop).index[images.start :]
        with torch.no_grad():
            found = mi.each(
                examples.flatten(0, 1),
                rng.Draws(self.study.params.seed, "explore", "score"),
                index.repeat_interleave(len(STEPS)),
            )
        return found.exp().view(len(images), len(STEPS), *found.shape[1:]).cpu().numpy()

    def telling(self, model: str, ratio: float, samples: int) -> int:
        """Of the first FEW test images the one where the attacker's knowledge matters most.

        - model: that is defended.
        - ratio: lambda.
        - samples: K.
        """
        images = range(min(FEW, self.study.params.n_test))
        labels = self.study.points(len(images)).y.cpu().numpy()
        last = {}
        for attack in ("oblivious", "adaptive"):
            found = self.predictions(images, model, attack, ratio, samples)[:, -1].mean(1)
            last[attack] = found[np.arange(len(labels)), labels]
        return int((last["oblivious"] - last["adaptive"]).argmax())

    def draw(
        self, image: int, model: str, steps: int, samples: int, ratio: float, draws: int
    ) -> tuple[list[Canvas], str]:
        """The picture and its numbers for values of the controls.

        - image: number of the test image.
        - model: that MI-OL defends.
        - steps: after which numbers are told, of STEPS.
        - samples: K.
        - ratio: lambda.
        - draws: N.
        """
        y = int(self.study.points(image + 1).y[image])
        lines = [
            f"Test image {image} ({self.names[y]}), {NAMES[model]} + MI-OL, "
            f"lambda {written(ratio)}, N {draws}; epsilon {of_pixels(self.study.params.epsilon)}.",
            "",
            f"After {steps} steps  F_MI,y  predicts",
        ]
        for attack, line in self.lines.items():
            each = self.predictions(range(image, image + 1), model, attack, ratio, samples)[0]
            mean = each[:, :draws].mean(1)
            line.set_data(STEPS, mean[:, y])
            there = mean[STEPS.index(steps)]
            told = self.names[int(there.argmax())]
            lines.append(f"{attack:<14}  {there[y]:.3f}   {told}")
        self.at.set_xdata([steps, steps])
        lines += [
            "",
            "oblivious: made on the bare model",
            f"transferred: made on {NAMES[self.source(model)]}",
            f"adaptive: made through MI-OL, {samples} draws in each step (Eq. 24)",
        ]
        return [self.canvas], "\n".join(lines)


def attacked(study: Study, models: tuple[str, ...] = ("mixup", "interpolated_at")) -> Explorer:
    """Attack steps, K, lambda and N against MI-OL's probability of the label, for three attackers.

    - study: the notebook's study.
    - models: that MI-OL defends, by default the two that are trained with mixup.
    """
    made, model, samples = Attacks(study, models), models[0], 10
    ratio = reference_row(study, model)["ratio"]
    controls = {
        "image": Control(
            "test image",
            f"Number of the test image, 0 to {study.params.n_test - 1}",
            {str(number): number for number in range(study.params.n_test)},
            made.telling(model, ratio, samples),
            "number",
        ),
        "model": Control(
            "model",
            "The net that MI-OL defends",
            {NAMES[name]: name for name in models},
            model,
            "menu",
        ),
        "steps": Control(
            "attack steps",
            "Steps of the attack after which the numbers are told: the dotted line",
            {str(number): number for number in STEPS},
            10,
        ),
        "samples": Control(
            "draws K",
            "Draws in each step of the adaptive attack",
            {str(number): number for number in SAMPLES},
            samples,
        ),
        "ratio": Control(
            "lambda",
            "The share of the input in a mixed input; the rest is its partner",
            {written(value): value for value in ratios(ratio)},
            ratio,
        ),
        "draws": Control(
            "draws N",
            "Mixed inputs whose predictions are averaged",
            {str(number): number for number in NUMBERS},
            max(NUMBERS),
        ),
    }
    alt = "Lines: MI-OL's probability of the label against attack steps, for three attackers"
    return Explorer(controls, made.draw, [alt])
