"""PGD (Eq. 18) and the adaptive attacks on Mixup Inference (Appendix B.2), on one template."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from milib.inference import chunked
from milib.rng import Draws
from milib.shapes import (
    Images,
    Numbers,
    PairImages,
    PairNumbers,
    PairPredictions,
    Scalar,
    Snapshots,
    Starts,
)

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "eq24": lambda logits, label: -logits.softmax(1).gather(1, label[:, None]).sum(),
    "mean_ce": lambda logits, label: F.cross_entropy(logits, label, reduction="sum"),
}
"""What an adaptive attack ascends at every step with fresh draws: a new attack is a line here.

Each is a sum over draws of logits [P, L] and labels [P]. eq24: Eq. 24 for the scalar -F_y. mean_ce:
the cross-entropy on y.
"""
ADAPTIVE = (*LOSSES, "as_published")
"""as_published: the authors' code. It attacks the mixed images themselves and adds the mean
perturbation to x."""


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


def random_start(
    draws: Draws, index: PairNumbers, draw: PairNumbers, shape: torch.Size, epsilon: float
) -> Starts:
    """Perturbations uniform in the eps-ball, [P, *shape], one for each (index, draw).

    - draws: the attacker's random numbers.
    - index, draw: their addresses [P].
    - shape: (C, H, W) of an image.
    - epsilon: radius of the ball (l_inf), on pixels in [0, 1].
    """
    uniform = draws.uniform(index, draw, shape.numel()).view(-1, *shape)
    return (2 * uniform - 1) * epsilon


def wrong_class(label: Numbers, draws: Draws, index: Numbers, classes: int) -> Numbers:
    """Targets [B], each uniform over the classes other than the label.

    - label: true labels [B].
    - draws: the attacker's random numbers.
    - index: each image's number [B].
    - classes: L.
    """
    u = draws.uniform(index, torch.zeros_like(index), 1)[:, 0]
    return (label + 1 + (u * (classes - 1)).long()) % classes


def _trajectory(
    direction: Callable[[Tensor, int], Tensor],
    x: Tensor,
    start: Tensor | None,
    epsilon: float,
    step_size: float,
    steps: Sequence[int],
) -> Tensor:
    """Sign steps in the eps-ball around the clean x, within [0, 1]: [B, len(steps), ...]."""
    low, high = (x - epsilon).clamp(min=0), (x + epsilon).clamp(max=1)
    current = x if start is None else (x + start).clamp(low, high)
    snapshots = {}
    for step in range(1, max(steps) + 1):
        current = (current + step_size * direction(current, step).sign()).clamp(low, high)
        if step in steps:
            snapshots[step] = current
    return torch.stack([snapshots[step] for step in steps], 1)


def _gradient(loss: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(loss(leaf), leaf)[0]


def pgd(
    classifier: Callable[[Tensor], Tensor],
    x: Images,
    label: Numbers,
    *,
    epsilon: float,
    step_size: float,
    steps: Sequence[int],
    start: Images | None = None,
    targeted: bool = False,
) -> Snapshots:
    """Projected gradient descent on the cross-entropy, l_inf: [B, len(steps), C, H, W].

    - classifier: images [B, C, H, W] in [0, 1] to logits [B, L].
    - x: clean images [B, C, H, W] in [0, 1].
    - label: true labels [B]; the targets where `targeted`.
    - epsilon: radius of the ball around x, on pixels in [0, 1], as in 8 / 255.
    - step_size: of a sign step, on the same scale.
    - steps: numbers of steps after which the example is kept, as in [10, 50].
    - start: a perturbation [B, C, H, W] to begin from, clipped to the ball and to [0, 1]; by
      default none.
    - targeted: whether the loss on `label` is lowered; by default it is raised.

    Eq. 18; Madry et al., ICLR 2018. There is one trajectory: a snapshot equals a separate run of
    that many steps. Each step is clipped around the clean x.
    """
    sign = -1 if targeted else 1

    def loss(u: Tensor) -> Tensor:
        return F.cross_entropy(classifier(u), label, reduction="sum")

    def direction(current: Tensor, _step: int) -> Tensor:
        return sign * _gradient(loss, current)

    return _trajectory(direction, x, start, epsilon, step_size, steps)


def draw_loss(variant: str, logits: PairPredictions, label: PairNumbers, targeted: bool) -> Scalar:
    """What an adaptive attack ascends, a sum over draws.

    - variant: a name of LOSSES.
    - logits: [P, L] of the mixed images.
    - label: true labels [P]; the targets where `targeted`.
    - targeted: turns the sign.

    Eq. 24 names no scalar. The sign of the gradient of -F_MI,y is that of -log F_MI,y end to end
    (Eq. 20-23), as the factor 1 / F_MI,y is positive.
    """
    loss = LOSSES[variant](logits, label)
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
    - variant: a name of LOSSES.
    - first: the first draw.
    - samples: how many draws; memory is set by `mi.chunk`, not by them.
    - targeted: whether `label` is a target; by default not.

    Eq. 24, up to the positive factor lambda.
    """
    with torch.no_grad():
        predicted = chunked(mi.classifier, mi.chunk, x).argmax(1)

    def gradient(row: Tensor, draw: Tensor) -> Tensor:
        def loss(u: Tensor) -> Tensor:
            mixed = mi.transform(u, predicted[row], index[row], draw, draws)
            return draw_loss(variant, mi.classifier(mixed), label[row], targeted)

        return _gradient(loss, x[row])

    total = torch.zeros_like(x)
    for pairs in torch.arange(len(x) * samples, device=x.device).split(mi.chunk):
        each = chunked(gradient, mi.chunk, pairs % len(x), first + pairs // len(x))
        for rows, part in _by_draw(int(pairs[0]), each, len(x)):
            total[rows] += part
    return total


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

    - mi: a MixupInference; MICombined, which has no one `transform`, raises TypeError.
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
    code does not clip it. Raises ValueError where `as_published` is given a target.
    """
    options: dict[str, Any] = {"epsilon": epsilon, "step_size": step_size, "steps": [steps]}
    if variant == "as_published":
        if targeted:
            raise ValueError("the published attack is untargeted: use eq24 or mean_ce for a target")
        return _as_published(mi, x, index, draws, samples, options)
    ascended: dict[str, Any] = {"variant": variant, "samples": samples, "targeted": targeted}

    def direction(current: Tensor, step: int) -> Tensor:
        first = step * samples
        return adaptive_gradient(mi, current, label, index, draws, first=first, **ascended)

    start = random_start(draws, index, torch.zeros_like(index), x.shape[1:], epsilon)
    return _trajectory(direction, x, start, **options)[:, 0]


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
    with torch.no_grad():
        predicted = chunked(mi.classifier, mi.chunk, x).argmax(1)
        mixed = mi.transform(x[rows], predicted[rows], index[rows], number, draws)
        own = chunked(mi.classifier, mi.chunk, mixed).argmax(1)

    def gradient(image: Tensor, target: Tensor) -> Tensor:
        def loss(u: Tensor) -> Tensor:
            return F.cross_entropy(mi.classifier(u), target, reduction="sum")

        return _gradient(loss, image)

    def direction(current: Tensor, _step: int) -> Tensor:
        each = chunked(gradient, mi.chunk, current, own)
        return each.view(by_image).sum(1).repeat_interleave(samples, 0)

    start = random_start(draws, index[rows], number + samples, x.shape[1:], options["epsilon"])
    final = _trajectory(direction, mixed, start, **options)[:, 0]
    return x + (final - mixed).view(by_image).mean(1)
