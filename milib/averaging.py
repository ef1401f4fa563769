"""What every defense is: the mean prediction over random transformations of the input."""

import copy
import math
import secrets
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from milib import checks, inference, rng
from milib.errors import UserError
from milib.rng import Draws
from milib.shapes import EachDraw, Images, Numbers, PairImages, PairNumbers, Predictions

BASE = 8
"""The bare prediction runs in chunks of a BASEth. Calls are padded to a whole chunk, which for one
image would cost more than its draws do."""
Own = TypeVar("Own", bound="Defense")


class Defense(nn.Module):
    """The mean prediction over N random transformations; a subclass overrides `transform`.

    - classifier: any module from images [B, C, H, W] in [0, 1] to logits [B, L], its dropout and
      batch norm in eval mode; another defense draws afresh for each draw of this one.
    - draws: N, by default 30.
    - chunk: images of a forward pass, by default 256; it bounds the memory.
    - seed: of the sequence of draws that `forward` takes; by default each call draws from the
      system's entropy.

    Called as a module, it is a classifier like any other: see `forward`. Gradients reach the input,
    and the classifier's weights where they ask for them.

    Raises UserError for other values, and for a classifier with a defense inside another module.
    """

    needs_prediction = False
    """Whether `transform` asks for the bare model's prediction."""
    classes: int | None = None
    """L where a sample pool decides it."""

    def __init__(
        self, classifier: nn.Module, *, draws: int = 30, chunk: int = 256, seed: int | None = None
    ):
        super().__init__()
        checks.instance("classifier", classifier, nn.Module)
        if not isinstance(classifier, Defense):
            for inner in classifier.modules():
                if isinstance(inner, Defense):
                    raise UserError(
                        f"the classifier is a {type(classifier).__name__} that holds a "
                        f"{type(inner).__name__}, to which no draws can be given: "
                        "defend the net, or the defense itself"
                    )
        self.classifier: nn.Module = classifier
        self.draws, self.chunk = checks.count("draws", draws), checks.count("chunk", chunk)
        self.seed = seed if seed is None else checks.count("seed", seed, -(2**63), 2**63)
        self.fixed: Draws | None = None
        self.known = False
        """Whether the classifier was seen to give logits of the right number of classes."""
        self.training = classifier.training  # attack libraries ask
        self.reset()

    def reset(self) -> None:
        """Let a `forward` with a seed begin its sequence of draws again."""
        self.round = 0

    def frozen(self: Own, draws: Draws) -> Own:
        """A copy whose `forward` is one function of the image: the same draws for every image.

        - draws: the random numbers. MI then mixes all images of one predicted label with the same
          partners.
        """
        checks.instance("draws", draws, Draws)
        copied = self._as_it_is()
        copied.fixed = draws
        return copied

    def resized(self: Own, draws: int, chunk: int) -> Own:
        """A copy around the same classifier, as an attack needs it: with few draws in each step.

        - draws: N.
        - chunk: images of a forward pass.
        """
        copied = self._as_it_is()
        copied.draws, copied.chunk = checks.count("draws", draws), checks.count("chunk", chunk)
        return copied

    def _as_it_is(self: Own) -> Own:
        """A copy around the same classifier: what is set on one of the two leaves the other."""
        copied = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, dict):  # modules, hooks
                setattr(copied, name, copy.copy(value))
        return copied

    def _replicate_for_data_parallel(self):
        if self.seed is not None and self.fixed is None:
            raise UserError(
                f"seed is {self.seed}: replicas would share its draws; leave the seed out"
            )
        return super()._replicate_for_data_parallel()

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

    def _classify(self, x: Tensor, index: Tensor, draws: Draws) -> Tensor:
        """log F [P, L] of the classifier; a defense there takes draws of its own for each row."""
        if not isinstance(self.classifier, Defense):
            found = inference.logits(self.classifier, x)
        elif self.classifier.fixed is None:
            found = self.classifier.log_mean(x, Draws("inside", draws.key), index)
        else:
            found = self.classifier.log_mean(x, self.classifier.fixed, _same(x))
        if not self.known:
            checks.logits(found, len(x), self.classes)
            self.known = True
        return found.log_softmax(1)

    def _folded(self, evaluate: Callable[..., Tensor], chunk: int, *inputs: Tensor) -> Tensor:
        """`inference.folded`, whose backward pass finds modes and weights of the forward pass."""
        checks.deterministic(self.classifier)
        weights = tuple(self.parameters())

        def as_before(*inputs: Tensor) -> Tensor:
            if torch.is_grad_enabled():  # as it is where a chunk is recomputed
                checks.deterministic(self.classifier)
                for before, now in zip(weights, self.parameters(), strict=True):
                    if before is not now:
                        raise UserError("weights were replaced between forward and backward pass")
            return evaluate(*inputs)

        return inference.folded(as_before, chunk, iter(weights), *inputs)

    def _base(self, x: Tensor, draws: Draws, index: Tensor, chunk: int | None = None) -> Tensor:
        """log F(x) [B, L] of the bare classifier, by default in chunks of a BASEth."""

        def evaluate(images: Tensor, index: Tensor) -> Tensor:
            return self._classify(images, index, draws)

        rows = torch.arange(len(x), device=x.device)
        return self._folded(evaluate, chunk or max(1, self.chunk // BASE), x, rows, index)

    def _each(self, x: Tensor, draws: Draws, index: Tensor, base: Tensor | None) -> Tensor:
        """log F of every draw, [B, N, L]."""
        rows = torch.arange(len(x), device=x.device).repeat_interleave(self.draws)
        number = torch.arange(self.draws, device=x.device).repeat(len(x))
        addresses = [index[rows], number]
        if self.needs_prediction:
            with torch.no_grad():
                base = self._base(x, draws, index) if base is None else base
                addresses.append(base.argmax(1)[rows])

        transform = self._as_it_is().transform  # with the settings of now in the backward pass too

        def evaluate(images: Tensor, index: Tensor, draw: Tensor, *labels: Tensor) -> Tensor:
            predicted = labels[0] if labels else None
            transformed = transform(images, predicted, index, draw, draws)
            if not isinstance(transformed, Tensor) or len(transformed) != len(images):
                given = f"{len(images)} images {checks.shown(transformed)}"
                raise UserError(f"transform makes of {given}: one image of each")
            inside = isinstance(self.classifier, Defense)
            address = rng.joined(index, draw) if inside else index
            return self._classify(transformed, address, draws)

        found = self._folded(evaluate, self.chunk, x, rows, *addresses)
        return found.reshape(len(x), self.draws, found.shape[1])

    def base(self, x: Images) -> Predictions:
        """log F(x) [B, L] of the bare classifier.

        - x: [B, C, H, W] in [0, 1].

        Raises UserError for other images.
        """
        images = self.check(x)
        return _not_nan(self._base(images, Draws("bare"), rng.content(images)))

    def each(
        self, x: Images, draws: Draws, index: Numbers | None = None, base: Predictions | None = None
    ) -> EachDraw:
        """log F of every draw, [B, N, L].

        - x: [B, C, H, W] in [0, 1].
        - draws: the random numbers.
        - index: each image's number for its draws [B], shared by a clean image and what an attack
          made of it; by default made of the image's pixels (`rng.content`).
        - base: log F(x) [B, L] where it is known already.

        Raises UserError for input that is none of these.
        """
        images, index = self.check(x), self._index(index, x)
        checks.instance("draws", draws, Draws)
        return _not_nan(self._each(images, draws, index, self._predictions(base, x)))

    def log_mean(
        self, x: Images, draws: Draws, index: Numbers | None = None, base: Predictions | None = None
    ) -> Predictions:
        """log of the mean prediction over the draws (Eq. 6), [B, L], differentiable in x.

        - x, draws, index, base: as in `each`. Nothing is checked here: pixels may lie anywhere.
        """
        index = self._index(index, x)
        each = self._each(inference.working(x), draws, index, base)
        return each.logsumexp(1) - math.log(each.shape[1])

    def probabilities(
        self, x: Images, draws: Draws, index: Numbers | None = None, base: Predictions | None = None
    ) -> Predictions:
        """The mean prediction F_MI(x) [B, L] for given draws, without gradient: for records.

        - x, draws, index, base: as in `each`; all defenses of a table share one base. `score` names
          the images of a loader.

        Raises UserError for input that is none of these, and where the classifier gives NaN. Warns
        where the draws have attacked this classifier.
        """
        images, index = self.check(x), self._index(index, x)
        checks.instance("draws", draws, Draws)
        draws.scored(self.classifier)
        with torch.no_grad():
            found = self.log_mean(images, draws, index, self._predictions(base, x))
        return _not_nan(found).exp()

    def forward(self, x: Images) -> Predictions:
        """log F_MI(x) [B, L], differentiable end to end, with fresh draws at every call.

        - x: [B, C, H, W] in [0, 1].

        Attack libraries may take it as logits: its softmax is F_MI(x). A `frozen` defense takes its
        own draws. Raises UserError for other images, and where the classifier gives NaN. Warns
        where a seed gives the draws of an attack again.
        """
        images = self.check(x)
        attack = torch.is_grad_enabled() and images.requires_grad
        if self.fixed is not None:
            if attack:
                self.fixed.attacked(self.classifier)
            return _not_nan(self.log_mean(images, self.fixed, _same(images)))
        draws = Draws("entropy", secrets.randbits(64))
        if self.seed is not None:
            draws = Draws(self.seed, "forward", self.round)
            self.round += 1
            (draws.attacked if attack else draws.scored)(self.classifier)
        return _not_nan(self.log_mean(images, draws, torch.arange(len(x), device=x.device)))

    # What may be wrong with the input

    def check(self, x: Images, name: str = "x") -> Tensor:
        """The images as they are computed with.

        - x: [B, C, H, W] in [0, 1].
        - name: what an error calls them.

        Raises UserError for others, and where they lie on another device than the classifier.
        """
        images = inference.working(checks.images(name, x))
        weight = next(self.classifier.parameters(), images)
        if weight.device != images.device:
            raise UserError(
                f"{name} is on {images.device}, the classifier on {weight.device}: move one"
            )
        return (
            self.classifier.check(images, name) if isinstance(self.classifier, Defense) else images
        )

    def _index(self, index: Tensor | None, x: Tensor) -> Tensor:
        if index is None:
            return rng.content(x)
        return checks.labels("index", index, len(x), x.device)

    def _predictions(self, base: Tensor | None, x: Tensor) -> Tensor | None:
        if base is None:
            return None
        width = "L" if self.classes is None else self.classes
        known = isinstance(base, Tensor) and base.is_floating_point() and base.dim() == 2
        if not known or len(base) != len(x) or self.classes not in (None, base.shape[1]):
            raise UserError(f"base is {checks.shown(base)}: log F(x) [{len(x)}, {width}]")
        return _not_nan(base)


def _same(x: Tensor) -> Tensor:
    """One number for all images [B]: they share their draws."""
    return torch.zeros(len(x), dtype=torch.int64, device=x.device)


def _not_nan(found: Tensor) -> Tensor:
    if found.isnan().any():
        raise UserError("the classifier returns NaN: its weights or activations are not finite")
    return found


class Undefended(Defense):
    """The bare classifier, in the form of a defense: its draws are one."""

    def _each(self, x: Tensor, draws: Draws, index: Tensor, base: Tensor | None) -> Tensor:
        return (self._base(x, draws, index, self.chunk) if base is None else base)[:, None]
