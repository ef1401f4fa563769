"""Defenses at inference: Mixup Inference and the paper's baselines, each an nn.Module around any classifier."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from milib.data import SamplePool
from milib.inference import Folded
from milib.rng import Draws
from milib.shapes import (
    EachDraw,
    Images,
    Numbers,
    PairImages,
    PairNumbers,
    PairRatio,
    PairUniform,
    Predictions,
    Scores,
)

BASE = 8
"""The bare prediction runs in chunks of a BASEth: a single input is one forward pass of little weight beside its draws'."""


class Defense(nn.Module):
    """The mean prediction over N random transformations of the input; without `transform` overridden, the bare model.

    classifier: images [B, C, H, W] in [0, 1] to logits [B, L]. draws: N. chunk: images per forward pass, which bounds the
    memory. seed: of the draws that `forward` takes.
    """

    needs_prediction = False

    def __init__(self, classifier: nn.Module, *, draws: int = 30, chunk: int = 256, seed: int = 0):
        super().__init__()
        self.classifier, self.draws, self.chunk, self.seed = classifier, draws, chunk, seed
        self.fixed: Draws | None = None
        self.train(classifier.training)  # libraries ask
        self.reset()

    def reset(self) -> None:
        """Let `forward` begin its sequence of draws again."""
        self.round = 0

    def frozen(self, draws: Draws) -> "Defense":
        """A copy whose `forward` uses the same draws at every call: the deterministic defense."""
        copied = copy.copy(self)
        copied.fixed = draws
        return copied

    def transform(
        self,
        x: PairImages,
        predicted: PairNumbers | None,
        index: PairNumbers,
        draw: PairNumbers,
        draws: Draws,
    ) -> PairImages:
        """One transformed input [P, C, H, W] for each (image, draw) pair; `index` and `draw` [P] address the random numbers."""
        return x

    def base(self, x: Images) -> Predictions:
        """log F(x) [B, L] of the bare classifier."""
        rows = torch.arange(len(x), device=x.device)
        return Folded.apply(
            lambda images: self.classifier(images).log_softmax(1),
            max(1, self.chunk // BASE),
            x,
            rows,
        )

    def each(
        self, x: Images, draws: Draws, index: Numbers | None = None, base: Predictions | None = None
    ) -> EachDraw:
        """log F of every draw, [B, N, L]. index: [B] numbers of the images for their draws (default 0..B-1); base: log F(x)."""
        count = len(x)
        index = torch.arange(count, device=x.device) if index is None else index
        predicted = None
        if self.needs_prediction:
            with torch.no_grad():
                predicted = (self.base(x) if base is None else base).argmax(1)

        def evaluate(images: Tensor, row: Tensor, draw: Tensor) -> Tensor:
            labels = None if predicted is None else predicted[row]
            return self.classifier(
                self.transform(images, labels, index[row], draw, draws)
            ).log_softmax(1)

        rows = torch.arange(count, device=x.device).repeat_interleave(self.draws)
        number = torch.arange(self.draws, device=x.device).repeat(count)
        return Folded.apply(evaluate, self.chunk, x, rows, rows, number).view(count, self.draws, -1)

    def log_mean(
        self, x: Images, draws: Draws, index: Numbers | None = None, base: Predictions | None = None
    ) -> Predictions:
        """log of the mean prediction over the draws (Eq. 6), [B, L]."""
        each = self.each(x, draws, index, base)
        return each.logsumexp(1) - math.log(each.shape[1])

    def probabilities(
        self, x: Images, draws: Draws, index: Numbers | None = None, base: Predictions | None = None
    ) -> Predictions:
        """The mean prediction F_MI(x) [B, L] for given draws, without gradient: what records hold.

        base: log F(x) where it is known already; all defenses of a table share one.
        """
        with torch.no_grad():
            return self.log_mean(x, draws, index, base).exp()

    def forward(self, x: Images) -> Predictions:
        """log F_MI(x) [B, L] with fresh draws at every call: safe as logits for any attack library, differentiable end to end."""
        draws = self.fixed
        if draws is None:
            draws = Draws(self.seed, "forward", self.round)
            self.round += 1
        return self.log_mean(x, draws)


class Undefended(Defense):
    """The bare classifier, in the form of a defense."""

    def log_mean(
        self, x: Images, draws: Draws, index: Numbers | None = None, base: Predictions | None = None
    ) -> Predictions:
        return self.base(x) if base is None else base


class MixupInference(Defense):
    """Algorithm 1: x~ = lambda x + (1 - lambda) x_s with y_s = the predicted label (mode "pl") or any other (mode "ol").

    ratio: lambda, or [least, most] to draw it uniformly from for each execution (B.1). The prediction is that of the bare
    classifier at the current x. Raises ValueError for another mode.
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
        """x_s [P, C, H, W], y_s [P] and lambda [P, 1, 1, 1]. MI-OL: y_s = (prediction + 1 + u) mod L, u uniform in 0..L-2."""
        uniform = draws.uniform(index, draw, 6)
        u, v, w = uniform[:, :3].unbind(1)
        label = predicted
        if self.mode == "ol":
            label = (predicted + 1 + (u * (self.pool.classes - 1)).long()) % self.pool.classes
        low, high = self.ratio if isinstance(self.ratio, list | tuple) else (self.ratio, self.ratio)
        return (
            self.pool.draw(label, v, uniform[:, 3:]),
            label,
            (low + (high - low) * w)[:, None, None, None],
        )

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
    """MI-OL where MI-PL detects x as adversarial, F_yhat(x) - F_PL,yhat(x) > threshold; else the prediction on x itself.

    Sec. 4.3 and Table 4. threshold: a difference of probabilities. MI-OL is evaluated for the flagged inputs alone; both modes have
    N draws of their own.
    """

    def __init__(self, pl: MixupInference, ol: MixupInference, threshold: float):
        super().__init__(pl.classifier, draws=pl.draws, chunk=pl.chunk, seed=pl.seed)
        self.pl, self.ol, self.threshold = pl, ol, threshold

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
            flagged = (
                detection_score(base, self.pl.log_mean(x, draws, index, base)) > self.threshold
            ).nonzero()[:, 0]
        if len(flagged) == 0:
            return base
        return base.index_copy(
            0, flagged, self.ol.log_mean(x[flagged], draws, index[flagged], base[flagged])
        )


def detection_score(base: Predictions, defended: Predictions) -> Scores:
    """s = F_yhat(x) - F_MI,yhat(x) [B] from log-predictions [B, L]; higher means adversarial (minus Delta F_yhat of Eq. 9)."""
    predicted = base.argmax(1, keepdim=True)
    return (base.gather(1, predicted).exp() - defended.gather(1, predicted).exp())[:, 0]


class GaussianNoise(Defense):
    """Additive noise of standard deviation sigma on the [0, 1] scale (Tabacof & Valle, 2016); not clipped."""

    def __init__(self, classifier: nn.Module, sigma: float, **options):
        super().__init__(classifier, **options)
        self.sigma = sigma

    def transform(
        self,
        x: PairImages,
        predicted: PairNumbers | None,
        index: PairNumbers,
        draw: PairNumbers,
        draws: Draws,
    ) -> PairImages:
        return x + self.sigma * draws.normal(index, draw, x[0].numel()).view_as(x)


def _sample(x: Tensor, rows: Tensor, columns: Tensor, mode: str) -> Tensor:
    """x at fractional pixel positions rows, columns [P, H, W]; zero outside the image."""
    scale = torch.tensor([2 / (x.shape[3] - 1), 2 / (x.shape[2] - 1)], device=x.device)
    grid = torch.stack([columns, rows], 3) * scale - 1
    return F.grid_sample(x, grid, mode, "zeros", align_corners=True)


class RandomRotation(Defense):
    """Rotation about the centre by an angle uniform in [-degrees, degrees]; nearest neighbour, zero fill (the baseline of Tables 2 to 5)."""

    def __init__(self, classifier: nn.Module, degrees: float, **options):
        super().__init__(classifier, **options)
        self.degrees = degrees

    def transform(
        self,
        x: PairImages,
        predicted: PairNumbers | None,
        index: PairNumbers,
        draw: PairNumbers,
        draws: Draws,
    ) -> PairImages:
        return rotate(x, (2 * draws.uniform(index, draw, 1)[:, 0] - 1) * self.degrees)


def rotate(x: PairImages, degrees: PairUniform) -> PairImages:
    """x [P, C, H, W] turned counter-clockwise by degrees [P], as torchvision's `rotate` does one image at a time."""
    angle = torch.deg2rad(degrees)[:, None, None]
    middle = (torch.tensor(x.shape[2:], device=x.device) - 1) / 2
    row = torch.arange(x.shape[2], device=x.device)[:, None] - middle[0]
    column = torch.arange(x.shape[3], device=x.device)[None, :] - middle[1]
    rows = angle.cos() * row + angle.sin() * column + middle[0]
    columns = angle.cos() * column - angle.sin() * row + middle[1]
    return _sample(x, rows, columns, "nearest")


def _eight_bit(x: Tensor) -> Tensor:
    """x rounded to 8-bit pixels; in the backward pass the rounding is not there, so that an attack sees a gradient."""
    return x + ((x * 255).round() / 255 - x).detach()


class _Crop(Defense):
    """A square crop of a size uniform in `sizes` = [least, most] pixels (cut to the image's side), at a uniform place; images are 8-bit, as in
    the authors' code, unless told."""

    def __init__(self, classifier: nn.Module, sizes: list, eight_bit: bool = True, **options):
        super().__init__(classifier, **options)
        self.sizes, self.rounded = sizes, _eight_bit if eight_bit else nn.Identity()

    def _crop(
        self, side: int, index: Tensor, draw: Tensor, draws: Draws
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Size, the crop's top and left, and a second uniform place: each [P, 1]."""
        uniform = draws.uniform(index, draw, 5)
        low, high = (min(size, side) for size in self.sizes)
        size = low + (uniform[:, :1] * (high - low + 1)).long()
        return size, *(uniform[:, 1:] * (side - size + 1)).long().split(1, 1)


class RandomPadding(_Crop):
    """Xie et al. (ICLR 2018) as adapted to 32x32: a crop of `sizes` = [least, most] pixels, padded with zeros back to full size at a random place."""

    def transform(
        self,
        x: PairImages,
        predicted: PairNumbers | None,
        index: PairNumbers,
        draw: PairNumbers,
        draws: Draws,
    ) -> PairImages:
        side = x.shape[2]
        size, top, left, down, right = self._crop(side, index, draw, draws)
        place = torch.arange(side, device=x.device)
        outside = -2.0 * side
        rows = torch.where((place >= down) & (place < down + size), place - down + top, outside)
        columns = torch.where(
            (place >= right) & (place < right + size), place - right + left, outside
        )
        return _sample(
            self.rounded(x),
            rows[:, :, None].expand(-1, -1, side),
            columns[:, None, :].expand(-1, side, -1),
            "nearest",
        )


class RandomCropResize(_Crop):
    """Guo et al. (ICLR 2018) as adapted to 32x32: a crop of `sizes` = [least, most] pixels, resized bilinearly back to full size."""

    def transform(
        self,
        x: PairImages,
        predicted: PairNumbers | None,
        index: PairNumbers,
        draw: PairNumbers,
        draws: Draws,
    ) -> PairImages:
        side = x.shape[2]
        size, top, left, _, _ = self._crop(side, index, draw, draws)
        place = (
            ((torch.arange(side, device=x.device) + 0.5) * size / side - 0.5)
            .clamp(min=0)
            .minimum(size - 1.0)
        )
        rows, columns = place + top, place + left
        return self.rounded(
            _sample(
                self.rounded(x),
                rows[:, :, None].expand(-1, -1, side),
                columns[:, None, :].expand(-1, side, -1),
                "bilinear",
            )
        )


class Limits(NamedTuple):
    """Where a defense's parameter may lie. form: a "number"; a "number or range" [least, most] to draw it from; a "whole range" of pixels."""

    low: float
    high: float
    form: str = "number"


@dataclass(frozen=True)
class Kind:
    """A defense as parameter files, tables and figures know it.

    settings: its parameters; the last one is what 04 matches and 06 sweeps. make(classifier, pool, **settings, **options): the module.
    """

    title: str
    settings: dict[str, Limits]
    make: Callable[..., Defense]


def _poolless(kind: type[Defense]) -> Callable[..., Defense]:
    return lambda classifier, _pool, **options: kind(classifier, **options)


def _mixing(mode: str) -> Callable[..., Defense]:
    return lambda classifier, pool, **options: MixupInference(classifier, pool, mode, **options)


def _combined(
    classifier: nn.Module,
    pool: SamplePool,
    ratio_pl: float,
    ratio_ol: float,
    threshold: float,
    **options,
) -> MICombined:
    ratios = {"pl": ratio_pl, "ol": ratio_ol}
    return MICombined(
        *(
            MixupInference(classifier, pool, mode, ratio, **options)
            for mode, ratio in ratios.items()
        ),
        threshold,
    )


RATIO, SIZES = Limits(0, 1, "number or range"), Limits(1, 32, "whole range")
DEFENSES = {
    "none": Kind("no defense", {}, _poolless(Undefended)),
    "gaussian_noise": Kind("Gaussian noise", {"sigma": Limits(0, 1)}, _poolless(GaussianNoise)),
    "rotation": Kind("Random rotation", {"degrees": Limits(0, 180)}, _poolless(RandomRotation)),
    "xie": Kind("Xie et al. (2018)", {"sizes": SIZES}, _poolless(RandomPadding)),
    "guo": Kind("Guo et al. (2018)", {"sizes": SIZES}, _poolless(RandomCropResize)),
    "mi_pl": Kind("MI-PL", {"ratio": RATIO}, _mixing("pl")),
    "mi_ol": Kind("MI-OL", {"ratio": RATIO}, _mixing("ol")),
    "mi_combined": Kind(
        "MI-Combined", {"ratio_pl": RATIO, "ratio_ol": RATIO, "threshold": Limits(-1, 1)}, _combined
    ),
}
"""Every defense a run's rows can name. A new one is a class above and a line here."""


def build(
    name: str, classifier: nn.Module, pool: SamplePool | None, settings: dict, **options
) -> Defense:
    """The defense of a table row: a name of DEFENSES (else KeyError) and its parameters. pool: p_s, which MI alone needs."""
    return DEFENSES[name].make(classifier, pool, **settings, **options)
