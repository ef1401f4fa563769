"""What every defense is: the mean prediction over random transformations of the input."""

import copy
import math
from typing import TypeVar

import torch
from torch import Tensor, nn

from milib.inference import Folded
from milib.rng import Draws
from milib.shapes import EachDraw, Images, Numbers, PairImages, PairNumbers, Predictions

BASE = 8
"""The bare prediction runs in chunks of a BASEth: for one input, a whole chunk would outweigh the
passes of its draws."""
Own = TypeVar("Own", bound="Defense")


class Defense(nn.Module):
    """The mean prediction over N random transformations; a subclass overrides `transform`.

    - classifier: any module from images [B, C, H, W] in [0, 1] to logits [B, L].
    - draws: N, by default 30.
    - chunk: images of a forward pass, by default 256; it bounds the memory.
    - seed: of the draws that `forward` takes, by default 0.

    Called as a module, it is a classifier like any other: see `forward`.
    """

    needs_prediction = False
    """Whether `transform` asks for the bare model's prediction."""

    def __init__(self, classifier: nn.Module, *, draws: int = 30, chunk: int = 256, seed: int = 0):
        super().__init__()
        self.classifier: nn.Module = classifier
        self.draws, self.chunk, self.seed = draws, chunk, seed
        self.fixed: Draws | None = None
        self.train(classifier.training)  # attack libraries ask
        self.reset()

    def reset(self) -> None:
        """Let `forward` begin its sequence of draws again."""
        self.round = 0

    def frozen(self: Own, draws: Draws) -> Own:
        """A copy that is deterministic: its `forward` uses the same draws at every call.

        - draws: the random numbers.
        """
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
        """One transformed input for each (image, draw) pair, [P, C, H, W]; here the input itself.

        - x: the image of each pair [P, C, H, W], in [0, 1].
        - predicted: the bare model's prediction [P]; None unless `needs_prediction`.
        - index, draw: the address of the pair's random numbers [P].
        - draws: the random numbers.
        """
        return x

    def base(self, x: Images) -> Predictions:
        """log F(x) [B, L] of the bare classifier.

        - x: [B, C, H, W] in [0, 1].
        """

        def evaluate(images: Tensor) -> Tensor:
            return self.classifier(images).log_softmax(1)

        rows = torch.arange(len(x), device=x.device)
        return Folded.apply(evaluate, max(1, self.chunk // BASE), x, rows)

    def each(
        self, x: Images, draws: Draws, index: Numbers | None = None, base: Predictions | None = None
    ) -> EachDraw:
        """log F of every draw, [B, N, L].

        - x: [B, C, H, W] in [0, 1].
        - draws: the random numbers.
        - index: each image's number for its draws [B]; by default 0..B-1.
        - base: log F(x) [B, L] where it is known already.
        """
        count = len(x)
        addresses = torch.arange(count, device=x.device) if index is None else index
        predicted = None
        if self.needs_prediction:
            with torch.no_grad():
                predicted = (self.base(x) if base is None else base).argmax(1)

        def evaluate(images: Tensor, row: Tensor, draw: Tensor) -> Tensor:
            labels = None if predicted is None else predicted[row]
            transformed = self.transform(images, labels, addresses[row], draw, draws)
            return self.classifier(transformed).log_softmax(1)

        rows = torch.arange(count, device=x.device).repeat_interleave(self.draws)
        number = torch.arange(self.draws, device=x.device).repeat(count)
        return Folded.apply(evaluate, self.chunk, x, rows, rows, number).view(count, self.draws, -1)

    def log_mean(
        self, x: Images, draws: Draws, index: Numbers | None = None, base: Predictions | None = None
    ) -> Predictions:
        """log of the mean prediction over the draws (Eq. 6), [B, L], differentiable in x.

        - x, draws, index, base: as in `each`.
        """
        each = self.each(x, draws, index, base)
        return each.logsumexp(1) - math.log(each.shape[1])

    def probabilities(
        self, x: Images, draws: Draws, index: Numbers | None = None, base: Predictions | None = None
    ) -> Predictions:
        """The mean prediction F_MI(x) [B, L] for given draws, without gradient: for records.

        - x, draws, index, base: as in `each`; all defenses of a table share one base.
        """
        with torch.no_grad():
            return self.log_mean(x, draws, index, base).exp()

    def forward(self, x: Images) -> Predictions:
        """log F_MI(x) [B, L], differentiable end to end, with fresh draws at every call.

        - x: [B, C, H, W] in [0, 1].

        Attack libraries may take it as logits: its softmax is F_MI(x).
        """
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
