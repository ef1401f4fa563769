"""Mixup Inference (Algorithm 1), MI-Combined, and the table of every defense a run can name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from milib import checks
from milib.averaging import Defense, Undefended
from milib.baselines import GaussianNoise, RandomCropResize, RandomPadding, RandomRotation
from milib.data import SamplePool
from milib.errors import UserError
from milib.rng import Draws
from milib.shapes import Images, PairImages, PairNumbers, PairRatio, Predictions, Scores

MODES = ("pl", "ol", "any")


class MixupInference(Defense):
    """Algorithm 1: x~ = lambda x + (1 - lambda) x_s, with the label y_s chosen by the prediction.

    - classifier, options: as in `Defense`.
    - pool: p_s, the clean images to mix with.
    - mode: "pl": y_s is the bare classifier's prediction at the current x; "ol": any other label;
      "any": any label, so that nothing depends on the prediction (not in the paper).
    - ratio: lambda in [0, 1], or [least, most] to draw it uniformly from for each draw (B.1).

    Raises UserError for other values, and for images that the pool's do not fit.
    """

    def __init__(
        self, classifier: nn.Module, pool: SamplePool, mode: str, ratio: float | list, **options
    ):
        super().__init__(classifier, **options)
        checks.instance("pool", pool, SamplePool)
        self.mode, self.ratio = checks.choice("mode", mode, MODES), _ratio(ratio)
        self.needs_prediction = mode != "any"
        self.pool, self.classes = pool, pool.classes

    def partners(
        self, predicted: PairNumbers | None, index: PairNumbers, draw: PairNumbers, draws: Draws
    ) -> tuple[PairImages, PairNumbers, PairRatio]:
        """What each pair is mixed with: x_s [P, C, H, W], y_s [P] and lambda [P, 1, 1, 1].

        - predicted: the bare classifier's prediction [P]; None in mode "any".
        - index, draw: the address of the pair's random numbers [P].
        - draws: the random numbers.

        For MI-OL, y_s = (prediction + 1 + u) mod L with u uniform in 0..L-2.
        """
        uniform, classes = draws.uniform(index, draw, 6), self.pool.classes
        u, v, w = uniform[:, :3].unbind(1)
        if predicted is None or self.mode == "any":
            label = (u * classes).long()
        elif self.mode == "ol":
            label = (predicted + 1 + (u * (classes - 1)).long()) % classes
        else:
            label = predicted
        partner = self.pool.draw(label, v, uniform[:, 3:])
        low, high = self.ratio if isinstance(self.ratio, tuple) else (self.ratio, self.ratio)
        return partner, label, (low + (high - low) * w)[:, None, None, None]

    def transform(
        self,
        x: PairImages,
        predicted: PairNumbers | None,
        index: PairNumbers,
        draw: PairNumbers,
        draws: Draws,
    ) -> PairImages:
        partner, _, ratio = self.partners(predicted, index, draw, draws)
        return ratio * x + (1 - ratio) * partner

    def check(self, x: Images, name: str = "x") -> Tensor:
        """As in `Defense`; the sample pool's images have the same shape and device."""
        images, mixed = super().check(x, name), self.pool.data.images
        if images.shape[1:] != mixed.shape[1:]:
            shapes = f"{list(images.shape[1:])}, those of the sample pool {list(mixed.shape[1:])}"
            raise UserError(f"the images are {shapes}: both the same")
        if images.device != mixed.device:
            raise UserError(f"{name} is on {images.device}, the pool on {mixed.device}: move one")
        return images


def _ratio(value: float | list | tuple) -> float | tuple[float, float]:
    """lambda as a number, or (least, most)."""
    plain = checks.plain(value)
    if not isinstance(plain, list | tuple):
        return checks.number("ratio", value, 0, 1, "the share of x, or [least, most]")
    ends = [checks.number(f"ratio[{place}]", end, 0, 1) for place, end in enumerate(plain)]
    if len(ends) != 2 or ends[0] > ends[1]:
        raise UserError(f"ratio is {checks.shown(value)}: [least, most]")
    return ends[0], ends[1]


class Agreeing(MixupInference):
    """What an attack on MI-PL as a detector goes through: its draws, and as many bare predictions.

    - classifier, pool, mode, ratio, options: as in `MixupInference`, in mode "pl".

    The detection score is low where both agree. An attack on their mean makes both wrong at once.
    """

    def _each(self, x: Tensor, draws: Draws, index: Tensor, base: Tensor | None) -> Tensor:
        base = self._base(x, draws, index) if base is None else base
        each = super()._each(x, draws, index, base)
        return torch.cat([each, base[:, None].expand_as(each)], 1)


class MICombined(Defense):
    """MI-OL where MI-PL detects x as adversarial, else the bare prediction (Sec. 4.3, Table 4).

    - pl: MI-PL, which detects: F_yhat(x) - F_PL,yhat(x) > threshold.
    - ol: MI-OL, evaluated for the detected inputs alone, with N draws of its own.
    - threshold: a difference of probabilities.

    Raises UserError for parts of the other mode or of two classifiers.
    """

    def __init__(self, pl: MixupInference, ol: MixupInference, threshold: float):
        for mode, part in (("pl", pl), ("ol", ol)):
            checks.instance(mode, part, MixupInference)
            if part.mode != mode:
                raise UserError(f"{mode} is an MI-{part.mode.upper()}: an MI-{mode.upper()}")
        if pl.classifier is not ol.classifier:
            raise UserError("pl and ol defend two classifiers: both the same")
        super().__init__(pl.classifier, draws=pl.draws, chunk=pl.chunk, seed=pl.seed)
        self.pl: MixupInference = pl
        self.ol: MixupInference = ol
        self.threshold = checks.number("threshold", threshold, -1, 1)
        self.classes = pl.classes

    def transform(
        self,
        x: PairImages,
        predicted: PairNumbers | None,
        index: PairNumbers,
        draw: PairNumbers,
        draws: Draws,
    ) -> PairImages:
        raise UserError(
            "MI-Combined is no one transformation: attack `forward`, or its parts `pl` and `ol`"
        )

    def resized(self, draws: int, chunk: int) -> "MICombined":
        """As in `Defense`, for both parts.

        - draws: N of each.
        - chunk: images of a forward pass.
        """
        copied = super().resized(draws, chunk)
        copied.pl, copied.ol = self.pl.resized(draws, chunk), self.ol.resized(draws, chunk)
        return copied

    def _each(self, x: Tensor, draws: Draws, index: Tensor, base: Tensor | None) -> Tensor:
        """The decision over all N draws, as if it were one draw: [B, 1, L]."""
        base = self._base(x, draws, index) if base is None else base
        with torch.no_grad():
            score = detection_score(base, self.pl.log_mean(x, draws, index, base))
            flagged = (score > self.threshold).nonzero()[:, 0]
        if len(flagged) == 0:
            return base[:, None]
        other = self.ol.log_mean(x[flagged], draws, index[flagged], base[flagged])
        return base.index_copy(0, flagged, other)[:, None]

    def check(self, x: Images, name: str = "x") -> Tensor:
        """As in `MixupInference`, for both sample pools."""
        return self.ol.check(self.pl.check(x, name), name)


def detection_score(base: Predictions, defended: Predictions) -> Scores:
    """s = F_yhat(x) - F_MI,yhat(x) [B]: higher means adversarial (minus Delta F_yhat of Eq. 9).

    - base: log F(x) [B, L].
    - defended: log F_MI(x) [B, L].

    Raises UserError where they are not of one shape.
    """
    tensors = isinstance(base, Tensor) and isinstance(defended, Tensor)
    if not tensors or base.dim() != 2 or base.shape != defended.shape:
        shapes = f"{checks.shown(base)} and {checks.shown(defended)}"
        raise UserError(f"base and defended are {shapes}: log predictions [B, L], both the same")
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
    - optional: settings that rows do not name, and `build` takes.
    """

    title: str
    settings: dict[str, Limits]
    make: Callable[..., Defense]
    optional: tuple[str, ...] = ()


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
RATIO, SIZES = Limits(0, 1, "number or range"), Limits(1, 2**12, "whole range")
CROP = ("eight_bit",)
COMBINED = {"ratio_pl": RATIO, "ratio_ol": RATIO, "threshold": Limits(-1, 1)}
DEFENSES = {
    "none": Kind("no defense", {}, _poolless(Undefended)),
    "gaussian_noise": Kind("Gaussian noise", {"sigma": SIGMA}, _poolless(GaussianNoise)),
    "rotation": Kind("Random rotation", {"degrees": DEGREES}, _poolless(RandomRotation)),
    "xie": Kind("Xie et al. (2018)", {"sizes": SIZES}, _poolless(RandomPadding), CROP),
    "guo": Kind("Guo et al. (2018)", {"sizes": SIZES}, _poolless(RandomCropResize), CROP),
    "mi_pl": Kind("MI-PL", {"ratio": RATIO}, _mixing("pl")),
    "mi_ol": Kind("MI-OL", {"ratio": RATIO}, _mixing("ol")),
    "mi_any": Kind("MI, any label", {"ratio": RATIO}, _mixing("any")),
    "mi_combined": Kind("MI-Combined", COMBINED, _combined),
}
"""Every defense that a run's rows can name; `register.defense` adds others."""


def build(
    name: str, classifier: nn.Module, pool: SamplePool | None, settings: dict, **options
) -> Defense:
    """The defense of a table row.

    - name: of DEFENSES.
    - classifier: images [B, C, H, W] in [0, 1] to logits [B, L].
    - pool: p_s, which MI alone needs.
    - settings: the defense's parameters, by name.
    - options: draws, chunk and seed, as in `Defense`.

    Raises UserError for another name, and for settings that are missing or unknown.
    """
    kind = DEFENSES[checks.choice("name", name, DEFENSES)]
    checks.instance("settings", settings, dict)
    for key in settings:
        checks.choice(f"a setting of {name}", key, (*kind.settings, *kind.optional))
    missing = [key for key in kind.settings if key not in settings]
    if missing:
        raise UserError(f"settings of {name}: {', '.join(missing)} is missing")
    return kind.make(classifier, pool, **settings, **options)
