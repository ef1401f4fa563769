"""PGD (Eq. 18) on one template, and the random numbers of an attack."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from milib import checks
from milib.errors import UserError
from milib.inference import logits, working
from milib.rng import Draws
from milib.shapes import Images, Numbers, PairNumbers, Snapshots, Starts


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
    - classes: L, at least 2.
    """
    checks.count("classes", classes, 2)
    u = draws.uniform(index, torch.zeros_like(index), 1)[:, 0]
    return (label + 1 + (u * (classes - 1)).long()) % classes


def trajectory(
    direction: Callable[[Tensor, int], Tensor],
    x: Tensor,
    start: Tensor | None,
    epsilon: float,
    step_size: float,
    steps: Sequence[int],
) -> Tensor:
    """Sign steps in the eps-ball around the clean x, within [0, 1]: [B, len(steps), ...].

    - direction: of a step, from the current images and the step's number, from 1.
    - x: clean images [B, C, H, W] in [0, 1].
    - start: a perturbation [B, C, H, W], or None.
    - epsilon, step_size: on pixels in [0, 1].
    - steps: numbers of steps after which the images are kept.
    """
    low, high = (x - epsilon).clamp(min=0), (x + epsilon).clamp(max=1)
    current = x if start is None else (x + start).clamp(low, high)
    snapshots = {}
    for step in range(1, max(steps) + 1):
        current = (current + step_size * direction(current, step).sign()).clamp(low, high)
        if step in steps:
            snapshots[step] = current
    return torch.stack([snapshots[step] for step in steps], 1)


def gradient(loss: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The gradient of a scalar loss at x, shaped as x.

    - loss: of images.
    - x: where.
    """
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(loss(leaf), leaf)[0]


def clean(classifier: object, x: Tensor) -> Tensor:
    """The images of an attack: checked, without a graph, in the type that is computed in.

    - classifier: that is attacked.
    - x: [B, C, H, W].

    Raises UserError where x does not lie in [0, 1], or the classifier is in training mode.
    """
    checks.deterministic(classifier)
    images = working(checks.images("x", x).detach())
    return images.clone() if images.is_inference() else images


def options(epsilon: float, step_size: float, steps: int | Sequence[int]) -> dict[str, Any]:
    """The settings of an attack, checked, as `trajectory` takes them.

    - epsilon, step_size: on pixels in [0, 1].
    - steps: numbers of steps.

    Raises UserError for others.
    """
    return {
        "epsilon": checks.radius("epsilon", epsilon),
        "step_size": checks.step("step_size", step_size),
        "steps": checks.counts("steps", steps),
    }


def _perturbation(start: Tensor | None, x: Tensor) -> Tensor | None:
    if start is None:
        return None
    if not isinstance(start, Tensor) or start.shape != x.shape or not start.isfinite().all():
        raise UserError(f"start is {checks.shown(start)}: finite, shaped as x, {list(x.shape)}")
    return start.detach().to(x)


def followed(
    direction: Callable[[Tensor, int], Tensor], x: Tensor, start: Tensor | None, **options: Any
) -> Tensor:
    """`trajectory` where no direction was NaN: its sign would move no pixel.

    - direction, x, start: as there.
    - options: epsilon, step_size and steps, as `options` gives them.

    Raises UserError where one was.
    """
    broken = torch.zeros((), dtype=torch.bool, device=x.device)

    def noted(current: Tensor, step: int) -> Tensor:
        found = direction(current, step)
        broken.logical_or_(found.isnan().any())
        return found

    examples = trajectory(noted, x, start, **options)
    if broken:
        raise UserError("the gradient of the classifier is NaN: no step can follow it")
    return examples


@torch.inference_mode(False)
def pgd(
    classifier: Callable[[Tensor], Tensor],
    x: Images,
    label: Numbers,
    *,
    epsilon: float,
    step_size: float,
    steps: int | Sequence[int],
    start: Images | None = None,
    targeted: bool = False,
) -> Snapshots:
    """Projected gradient descent on the cross-entropy, l_inf: [B, len(steps), C, H, W].

    - classifier: images [B, C, H, W] in [0, 1] to logits [B, L], in eval mode.
    - x: clean images [B, C, H, W] in [0, 1].
    - label: true labels [B], integers in 0..L-1; the targets where `targeted`.
    - epsilon: radius of the ball around x, on pixels in [0, 1], as in 8 / 255.
    - step_size: of a sign step, on the same scale.
    - steps: numbers of steps after which the example is kept, as in [10, 50]; 10 is [10].
    - start: a perturbation [B, C, H, W] to begin from, clipped to the ball and to [0, 1]; by
      default none.
    - targeted: whether the loss on `label` is lowered; by default it is raised.

    Eq. 18; Madry et al., ICLR 2018. There is one trajectory: a snapshot equals a separate run of
    that many steps. Each step is clipped around the clean x. The result carries no graph; that of
    half-precision images is in float32, as rounding would leave the ball. Raises UserError for
    other input, and where logits or gradients are NaN.
    """
    x = clean(classifier, x)
    label = checks.labels("label", label, len(x), x.device)
    checks.instance("targeted", targeted, bool)
    wanted, start = options(epsilon, step_size, steps), _perturbation(start, x)
    seen = False

    def watched(u: Tensor) -> Tensor:
        nonlocal seen
        found = logits(classifier, u)
        if not seen:
            checks.logits(found, len(u), label=label)
            if not found.requires_grad:
                raise UserError("the classifier's logits have no gradient in x: is it detached?")
            seen = True
        return found

    return followed(_loss_direction(watched, label, targeted), x, start, **wanted)


def _loss_direction(
    classifier: Callable[[Tensor], Tensor], label: Tensor, targeted: bool
) -> Callable[[Tensor, int], Tensor]:
    """The gradient of the cross-entropy, turned towards the label where that is the target."""
    sign = -1 if targeted else 1

    def loss(u: Tensor) -> Tensor:
        return F.cross_entropy(classifier(u), label, reduction="sum")

    def direction(current: Tensor, _step: int) -> Tensor:
        return sign * gradient(loss, current)

    return direction


def unchecked_pgd(
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
    """`pgd` without its checks, which read values: for a training step, inside a CUDA graph.

    - classifier, x, label, epsilon, step_size, steps, start, targeted: as in `pgd`.
    """
    direction = _loss_direction(classifier, label, targeted)
    return trajectory(direction, x, start, epsilon, step_size, steps)
