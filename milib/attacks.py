"""PGD (Eq. 18) and the adaptive attacks on Mixup Inference (Appendix B.2), on one template."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from milib.inference import chunked
from milib.rng import Draws
from milib.shapes import Images, Numbers, PairNumbers, PairPredictions, Scalar, Snapshots, Starts

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "eq24": lambda logits, label: -logits.softmax(1).gather(1, label[:, None]).sum(),
    "mean_ce": lambda logits, label: F.cross_entropy(logits, label, reduction="sum"),
}
"""What an adaptive attack ascends at every step with fresh draws: a sum over draws of logits [P, L] and labels [P]. eq24: Eq. 24 for
the scalar -F_y. mean_ce: the cross-entropy on y. A new adaptive attack is a line here."""
ADAPTIVE = (*LOSSES, "as_published")
"""as_published: the authors' code, which attacks the mixed images themselves and adds the mean perturbation to x."""


def random_start(
    draws: Draws, index: PairNumbers, draw: PairNumbers, shape: torch.Size, epsilon: float
) -> Starts:
    """Uniform in the eps-ball (epsilon on the [0, 1] scale), [P, *shape], one start per (index, draw)."""
    return (2 * draws.uniform(index, draw, shape.numel()).view(-1, *shape) - 1) * epsilon


def wrong_class(label: Numbers, draws: Draws, index: Numbers, classes: int) -> Numbers:
    """A target [B], uniform over the classes other than `label`."""
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
    """Sign steps along `direction`, clipped to the eps-ball around the clean x and to [0, 1]; snapshots [B, len(steps), ...]."""
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
    """Projected gradient descent on the cross-entropy (Eq. 18; Madry et al., ICLR 2018), l_inf.

    x: [B, C, H, W] in [0, 1]; label: [B], the true label, or the target when `targeted`; start: [B, C, H, W] perturbation
    to begin from, clipped to the ball and to [0, 1]; epsilon, step_size: on the pixels' scale (8/255). Returns the examples
    after each number of `steps`, [B, len(steps), C, H, W]: one trajectory, so each snapshot equals a separate run of that
    length. Eq. 18 clips around the clean x, not the previous iterate.
    """
    sign = -1 if targeted else 1

    def direction(current: Tensor, _step: int) -> Tensor:
        return sign * _gradient(
            lambda u: F.cross_entropy(classifier(u), label, reduction="sum"), current
        )

    return _trajectory(direction, x, start, epsilon, step_size, steps)


def draw_loss(variant: str, logits: PairPredictions, label: PairNumbers, targeted: bool) -> Scalar:
    """A loss of LOSSES, its sign turned for a target.

    Eq. 24 names no scalar. The sign of the gradient of -F_MI,y is that of -log F_MI,y end to end (Eq. 20-23): the factor
    1 / F_MI,y is positive.
    """
    loss = LOSSES[variant](logits, label)
    return -loss if targeted else loss


def adaptive_gradient(
    mi: nn.Module,
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
    """The gradient in x, through the mixing, of a loss of LOSSES, summed over draws first..first+samples-1, [B, C, H, W]: Eq. 24 up to
    the positive factor lambda.

    The labels p_s allows are taken from the prediction at the current x. Memory is set by the chunk, not by `samples`.
    """
    with torch.no_grad():
        predicted = chunked(mi.classifier, mi.chunk, x).argmax(1)

    def gradient(row: Tensor, draw: Tensor) -> Tensor:
        def loss(u: Tensor) -> Tensor:
            return draw_loss(
                variant,
                mi.classifier(mi.transform(u, predicted[row], index[row], draw, draws)),
                label[row],
                targeted,
            )

        return _gradient(loss, x[row])

    count, total = len(x), torch.zeros_like(x)
    for pairs in torch.arange(count * samples, device=x.device).split(mi.chunk):
        each = chunked(gradient, mi.chunk, pairs % count, first + pairs // count)
        start, stop = int(pairs[0]), int(pairs[-1]) + 1
        while start < stop:  # draw by draw, in order: the sum does not depend on the chunk
            end = min(stop, (start // count + 1) * count)
            total[start % count : start % count + end - start] += each[
                len(each) - (stop - start) : len(each) - (stop - end)
            ]
            start = end
    return total


def adaptive_pgd(
    mi: nn.Module,
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
    """PGD against a MixupInference `mi` with `samples` adaptive samples a step (Fig. 4); variants in ADAPTIVE.

    x: [B, C, H, W] in [0, 1]; label: [B]; index: [B], each image's number for its draws; draws: the attacker's own; epsilon, step_size:
    on the pixels' scale. Returns [B, C, H, W]: in the eps-ball and [0, 1], but for `as_published`, which does not clip its result and
    raises ValueError for a target. MICombined, which has no one `transform`, raises TypeError.
    """
    options = {"epsilon": epsilon, "step_size": step_size, "steps": [steps]}
    if variant == "as_published":
        if targeted:
            raise ValueError("the published attack is untargeted: use eq24 or mean_ce for a target")
        return _as_published(mi, x, index, draws, samples, options)

    def direction(current: Tensor, step: int) -> Tensor:
        return adaptive_gradient(
            mi,
            current,
            label,
            index,
            draws,
            variant=variant,
            first=step * samples,
            samples=samples,
            targeted=targeted,
        )

    start = random_start(draws, index, torch.zeros_like(index), x.shape[1:], epsilon)
    return _trajectory(direction, x, start, **options)[:, 0]


def _as_published(
    mi, x: Tensor, index: Tensor, draws: Draws, samples: int, options: dict
) -> Tensor:
    """Mix first with one set of x_s around the clean prediction; attack every mixed image with the full eps along the mean
    gradient of the cross-entropy on its own prediction; add the mean perturbation to x, unclipped."""
    count, rows = len(x), torch.arange(len(x), device=x.device).repeat_interleave(samples)
    number = torch.arange(samples, device=x.device).repeat(count)
    with torch.no_grad():
        predicted = chunked(mi.classifier, mi.chunk, x).argmax(1)
        mixed = mi.transform(x[rows], predicted[rows], index[rows], number, draws)
        own = chunked(mi.classifier, mi.chunk, mixed).argmax(1)

    def gradient(image: Tensor, target: Tensor) -> Tensor:
        return _gradient(
            lambda u: F.cross_entropy(mi.classifier(u), target, reduction="sum"), image
        )

    def direction(current: Tensor, _step: int) -> Tensor:
        each = chunked(gradient, mi.chunk, current, own)
        return each.view(count, samples, *x.shape[1:]).sum(1).repeat_interleave(samples, 0)

    start = random_start(draws, index[rows], number + samples, x.shape[1:], options["epsilon"])
    final = _trajectory(direction, mixed, start, **options)[:, 0]
    return x + (final - mixed).view(count, samples, *x.shape[1:]).mean(1)
