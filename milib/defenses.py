"""Mixup Inference (Algorithm 1), MI-Combined, and the table of every defense a run can name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from milib.averaging import Defense, Undefended
from milib.baselines import GaussianNoise, RandomCropResize, RandomPadding, RandomRotation
from milib.data import SamplePool
from milib.rng import Draws
from milib.shapes import Images, Numbers, PairImages, PairNumbers, PairRatio, Predictions, Scores


class MixupInference(Defense):
    """Algorithm 1: x~ = lambda x + (1 - lambda) x_s, with the label y_s chosen by the prediction.

    - classifier, options: as in `Defense`.
    - pool: p_s, the clean images to mix with.
    - mode: "pl": y_s is the bare classifier's prediction at the current x; "ol": any other label.
    - ratio: lambda in [0, 1], or [least, most] to draw it uniformly from for each draw (B.1).

    Raises ValueError for another mode.
    """

    needs_prediction = True

    def __init__(
        self, classifier: nn.Module, pool: SamplePool, mode: str, ratio: float | list, **options
    ):
        super().__init__(classifier, **options)
        if mode not in ("pl", "ol"):
            raise ValueError(f'mode is {mode!r}: "pl" or "ol"')
        self.pool, self.mode, self.ratio = pool, mode, ratio

    def partners(
        self, predicted: PairNumbers, index: PairNumbers, draw: PairNumbers, draws: Draws
    ) -> tuple[PairImages, PairNumbers, PairRatio]:
        """What each pair is mixed with: x_s [P, C, H, W], y_s [P] and lambda [P, 1, 1, 1].

        - predicted: the bare classifier's prediction [P].
        - index, draw: the address of the pair's random numbers [P].
        - draws: the random numbers.

        For MI-OL, y_s = (prediction + 1 + u) mod L with u uniform in 0..L-2.
        """
        uniform = draws.uniform(index, draw, 6)
        u, v, w = uniform[:, :3].unbind(1)
        label = predicted
        if self.mode == "ol":
            label = (predicted + 1 + (u * (self.pool.classes - 1)).long()) % self.pool.classes
        partner = self.pool.draw(label, v, uniform[:, 3:])
        low, high = self.ratio if isinstance(self.ratio, list | tuple) else (self.ratio, self.ratio)
        return partner, label, (low + (high - low) * w)[:, None, None, None]

    def transform(
        self,
        x: PairImages,
        predicted: PairNumbers,
        index: PairNumbers,
        draw: PairNumbers,
        draws: Draws,
    ) -> PairImages:
        partner, _, ratio = self.partners(predicted, index, draw, draws)
        return ratio * x + (1 - ratio) * partner


class MICombined(Defense):
    """MI-OL where MI-PL detects x as adversarial, else the bare prediction (Sec. 4.3, Table 4).

    - pl: MI-PL, which detects: F_yhat(x) - F_PL,yhat(x) > threshold.
    - ol: MI-OL, evaluated for the detected inputs alone, with N draws of its own.
    - threshold: a difference of probabilities.
    """

    def __init__(self, pl: MixupInference, ol: MixupInference, threshold: float):
        super().__init__(pl.classifier, draws=pl.draws, chunk=pl.chunk, seed=pl.seed)
        self.pl: MixupInference = pl
        self.ol: MixupInference = ol
        self.threshold = threshold

    def transform(
        self,
        x: PairImages,
        predicted: PairNumbers | None,
        index: PairNumbers,
        draw: PairNumbers,
        draws: Draws,
    ) -> PairImages:
        raise TypeError(
            "MI-Combined is no one transformation: attack `forward`, or its parts `pl` and `ol`"
        )

    def log_mean(
        self, x: Images, draws: Draws, index: Numbers | None = None, base: Predictions | None = None
    ) -> Predictions:
        index = torch.arange(len(x), device=x.device) if index is None else index
        base = self.base(x) if base is None else base
        with torch.no_grad():
            score = detection_score(base, self.pl.log_mean(x, draws, index, base))
            flagged = (score > self.threshold).nonzero()[:, 0]
        if len(flagged) == 0:
            return base
        other = self.ol.log_mean(x[flagged], draws, index[flagged], base[flagged])
        return base.index_copy(0, flagged, other)


def detection_score(base: Predictions, defended: Predictions) -> Scores:
    """s = F_yhat(x) - F_MI,yhat(x) [B]: higher means adversarial (minus Delta F_yhat of Eq. 9).

    - base: log F(x) [B, L].
    - defended: log F_MI(x) [B, L].
    """
    predicted = base.argmax(1, keepdim=True)
    return (base.gather(1, predicted).exp() - defended.gather(1, predicted).exp())[:, 0]


class Limits(NamedTuple):
    """Where a defense's parameter may lie.

    - low, high: both allowed.
    - form: "number" (default), "number or range" (or [least, most] to draw it from), or
      "whole range" ([least, most] pixels).
    """

    low: float
    high: float
    form: str = "number"


@dataclass(frozen=True)
class Kind:
    """A defense as parameter files, tables and figures know it.

    - title: its name in tables.
    - settings: its parameters; the last one is what a study tunes.
    - make: `make(classifier, pool, **settings, **options)` gives the module.
    """

    title: str
    settings: dict[str, Limits]
    make: Callable[..., Defense]


def _poolless(kind: type[Defense]) -> Callable[..., Defense]:
    def make(classifier: nn.Module, _pool: SamplePool | None, **options) -> Defense:
        return kind(classifier, **options)

    return make


def _mixing(mode: str) -> Callable[..., Defense]:
    def make(classifier: nn.Module, pool: SamplePool, **options) -> Defense:
        return MixupInference(classifier, pool, mode, **options)

    return make


def _combined(
    classifier: nn.Module,
    pool: SamplePool,
    ratio_pl: float,
    ratio_ol: float,
    threshold: float,
    **options,
) -> Defense:
    pl = MixupInference(classifier, pool, "pl", ratio_pl, **options)
    ol = MixupInference(classifier, pool, "ol", ratio_ol, **options)
    return MICombined(pl, ol, threshold)


SIGMA, DEGREES = Limits(0, 1), Limits(0, 180)
RATIO, SIZES = Limits(0, 1, "number or range"), Limits(1, 32, "whole range")
COMBINED = {"ratio_pl": RATIO, "ratio_ol": RATIO, "threshold": Limits(-1, 1)}
DEFENSES = {
    "none": Kind("no defense", {}, _poolless(Undefended)),
    "gaussian_noise": Kind("Gaussian noise", {"sigma": SIGMA}, _poolless(GaussianNoise)),
    "rotation": Kind("Random rotation", {"degrees": DEGREES}, _poolless(RandomRotation)),
    "xie": Kind("Xie et al. (2018)", {"sizes": SIZES}, _poolless(RandomPadding)),
    "guo": Kind("Guo et al. (2018)", {"sizes": SIZES}, _poolless(RandomCropResize)),
    "mi_pl": Kind("MI-PL", {"ratio": RATIO}, _mixing("pl")),
    "mi_ol": Kind("MI-OL", {"ratio": RATIO}, _mixing("ol")),
    "mi_combined": Kind("MI-Combined", COMBINED, _combined),
}
"""Every defense that a run's rows can name. A new one is a class above and a line here."""


def build(
    name: str, classifier: nn.Module, pool: SamplePool | None, settings: dict, **options
) -> Defense:
    """The defense of a table row.

    - name: of DEFENSES, else KeyError.
    - classifier: images [B, C, H, W] in [0, 1] to logits [B, L].
    - pool: p_s, which MI alone needs.
    - settings: the defense's parameters, by name.
    - options: draws, chunk and seed, as in `Defense`.
    """
    return DEFENSES[name].make(classifier, pool, **settings, **options)
