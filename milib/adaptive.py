"""The adaptive attacks on Mixup Inference (Appendix B.2): PGD that goes through the mixing."""

from collections import ChainMap
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from milib import attacks, checks, inference, losses
from milib.averaging import Defense
from milib.errors import UserError
from milib.rng import Draws
from milib.shapes import Images, Numbers, PairImages, PairNumbers, PairPredictions, Scalar

ADAPTIVE: ChainMap[str, Any] = ChainMap({"as_published": None}, losses.OF_DRAWS)
"""Losses, with fresh draws at every step, and as_published: the authors' code, which attacks the
mixed images themselves and adds the mean perturbation to x."""


@runtime_checkable
class Mixing(Protocol):
    """What an adaptive attack goes through: a MixupInference, or a defense of that form."""

    classifier: nn.Module
    chunk: int

    def transform(
        self,
        x: PairImages,
        predicted: PairNumbers,
        index: PairNumbers,
        draw: PairNumbers,
        draws: Draws,
    ) -> PairImages:
        """One mixed image for each (image, draw) pair: see `Defense.transform`."""
        ...


def draw_loss(variant: str, logits: PairPredictions, label: PairNumbers, targeted: bool) -> Scalar:
    """What an adaptive attack ascends, a sum over draws.

    - variant: a name of `losses.OF_DRAWS`.
    - logits: [P, L] of the mixed images.
    - label: true labels [P]; the targets where `targeted`.
    - targeted: turns the sign.

    Eq. 24 names no scalar. The sign of the gradient of -F_MI,y is that of -log F_MI,y end to end
    (Eq. 20-23), as the factor 1 / F_MI,y is positive.
    """
    loss = losses.OF_DRAWS[variant](logits.log_softmax(1), label).sum()
    return -loss if targeted else loss


def adaptive_gradient(
    mi: Mixing,
    x: Images,
    label: Numbers,
    index: Numbers,
    draws: Draws,
    *,
    variant: str,
    first: int,
    samples: int,
    targeted: bool = False,
) -> Images:
    """The gradient in x, through the mixing, of a sum over draws, [B, C, H, W].

    - mi: a MixupInference.
    - x: current images [B, C, H, W] in [0, 1]; the partners' labels follow the prediction there.
    - label: true labels [B]; the targets where `targeted`.
    - index: each image's number for its draws [B].
    - draws: the attacker's random numbers.
    - variant: a name of `losses.OF_DRAWS`.
    - first: the first draw.
    - samples: how many draws; memory is set by `mi.chunk`, not by them.
    - targeted: whether `label` is a target; by default not.

    Eq. 24, up to the positive factor lambda.
    """
    checks.choice("variant", variant, losses.OF_DRAWS)
    predicted = _predicted(mi, x)

    def of_pairs(row: Tensor, draw: Tensor) -> Tensor:
        def loss(u: Tensor) -> Tensor:
            mixed = mi.transform(u, predicted[row], index[row], draw, draws)
            return draw_loss(variant, _logits(mi, mixed), label[row], targeted)

        return attacks.gradient(loss, x[row])

    total = torch.zeros_like(x)
    for pairs in torch.arange(len(x) * samples, device=x.device).split(mi.chunk):
        each = inference.chunked(of_pairs, mi.chunk, pairs % len(x), first + pairs // len(x))
        for rows, part in _by_draw(int(pairs[0]), each, len(x)):
            total[rows] += part
    return total


def _logits(mi: Mixing, x: Tensor) -> Tensor:
    return inference.logits(mi.classifier, x)


def _predicted(mi: Mixing, x: Tensor) -> Tensor:
    with torch.no_grad():
        # copies, as a net may normalise in place
        return inference.chunked(lambda piece: _logits(mi, piece.clone()), mi.chunk, x).argmax(1)


def _by_draw(first: int, each: Tensor, count: int) -> Iterator[tuple[slice, Tensor]]:
    """Cut the values of pairs first, first + 1, ... where a draw ends: (image rows, their values).

    Pair p belongs to image p % count of draw p // count. Added up in this order, draw by draw, the
    sum of an image does not depend on how pairs were grouped.
    """
    row = first % count
    draw_ends = tuple(range(count - row, len(each), count))
    for part in each.tensor_split(draw_ends):
        yield slice(row, row + len(part)), part
        row = 0


@torch.inference_mode(False)
def adaptive_pgd(
    mi: Mixing,
    x: Images,
    label: Numbers,
    index: Numbers,
    draws: Draws,
    *,
    variant: str,
    samples: int,
    epsilon: float,
    step_size: float,
    steps: int,
    targeted: bool = False,
) -> Images:
    """PGD that knows the defense and draws afresh at every step (Fig. 4): [B, C, H, W].

    - mi: a MixupInference around a net; MICombined has no one `transform`.
    - x: clean images [B, C, H, W] in [0, 1].
    - label: true labels [B]; the targets where `targeted`.
    - index: each image's number for its draws [B].
    - draws: the attacker's random numbers, other than the defense's.
    - variant: a name of ADAPTIVE.
    - samples: draws a step.
    - epsilon: radius of the ball (l_inf), on pixels in [0, 1].
    - step_size: of a sign step, on the same scale.
    - steps: how many.
    - targeted: whether `label` is a target; by default not.

    The result lies in the eps-ball and in [0, 1]. That of `as_published` does not, as the authors'
    code does not clip it. Raises UserError for other input, where `as_published` is given a target,
    and where a gradient is NaN.
    """
    x, label, index = _checked(mi, x, label, index, draws)
    checks.choice("variant", variant, ADAPTIVE)
    samples = checks.count("samples", samples)
    checks.instance("targeted", targeted, bool)
    options = attacks.options(epsilon, step_size, checks.count("steps", steps))
    if len(x) == 0:
        return x
    draws.attacked(mi.classifier)
    if variant == "as_published":
        if targeted:
            raise UserError("targeted: the published attack has no target; use eq24 or mean_ce")
        return _as_published(mi, x, index, draws, samples, options)
    ascended: dict[str, Any] = {"variant": variant, "samples": samples, "targeted": targeted}

    def direction(current: Tensor, step: int) -> Tensor:
        first = step * samples
        return adaptive_gradient(mi, current, label, index, draws, first=first, **ascended)

    start = attacks.random_start(draws, index, torch.zeros_like(index), x.shape[1:], epsilon)
    return attacks.followed(direction, x, start, **options)[:, 0]


def _checked(
    mi: Mixing, x: Tensor, label: Tensor, index: Tensor, draws: Draws
) -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels and indices in the form that is computed with. Raises UserError."""
    if not isinstance(mi, Mixing):
        raise UserError(f"mi is {checks.shown(mi)}: a MixupInference, or another Defense")
    if isinstance(mi.classifier, Defense):
        raise UserError("mi defends another defense: attack it as a net, by pgd on it")
    checks.instance("draws", draws, Draws)
    x, pool = attacks.clean(mi.classifier, x), None
    if isinstance(mi, Defense):
        x, pool = mi.check(x), mi.classes
    label = checks.labels("label", label, len(x), x.device)
    index = checks.labels("index", index, len(x), x.device)
    with torch.no_grad():
        checks.logits(_logits(mi, x[:1].clone()), len(x[:1]), pool, label)
    return x, label, index


def _as_published(
    mi: Mixing, x: Tensor, index: Tensor, draws: Draws, samples: int, options: dict
) -> Tensor:
    """Mix once around the clean prediction; attack every mixed image; add the mean to x, unclipped.

    The mixed images go along the mean gradient of the cross-entropy on their own predictions, each
    with the full eps.
    """
    rows = torch.arange(len(x), device=x.device).repeat_interleave(samples)
    number = torch.arange(samples, device=x.device).repeat(len(x))
    by_image = (len(x), samples, *x.shape[1:])
    predicted = _predicted(mi, x)
    with torch.no_grad():
        mixed = mi.transform(x[rows], predicted[rows], index[rows], number, draws)
    own = _predicted(mi, mixed)

    def of_images(image: Tensor, target: Tensor) -> Tensor:
        def loss(u: Tensor) -> Tensor:
            return F.cross_entropy(_logits(mi, u), target, reduction="sum")

        return attacks.gradient(loss, image)

    def direction(current: Tensor, _step: int) -> Tensor:
        each = inference.chunked(of_images, mi.chunk, current, own)
        return each.view(by_image).sum(1).repeat_interleave(samples, 0)

    epsilon = options["epsilon"]
    start = attacks.random_start(draws, index[rows], number + samples, x.shape[1:], epsilon)
    final = attacks.followed(direction, mixed, start, **options)[:, 0]
    return x + (final - mixed).view(by_image).mean(1)
