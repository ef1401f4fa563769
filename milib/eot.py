"""The attack that knows the defense: one template, end to end through any randomized classifier."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from milib import attacks, checks, inference, losses
from milib.averaging import Defense
from milib.errors import UserError
from milib.rng import Draws
from milib.sampling import Sampler, log_mean, module_logits
from milib.shapes import Images, Numbers, Predictions, Ranks

SCHEDULES = ("constant", "decaying", "halving")
LEAST_GAIN, FIRST_WINDOW, SHORTER, LEAST_WINDOW = 0.75, 0.22, 0.03, 0.06
"""Of APGD (Croce and Hein, 2020): the share of a window's steps that must gain, or the step halves;
the windows as shares of all steps: the first one, by how much each is shorter, and the shortest."""


@dataclass(frozen=True)
class Setting:
    """How an attack goes about it: the gradient is of a loss over K draws (EOT, Athalye, 2018).

    - loss: a name of `losses.LOSSES`, by default the margin of the log mean prediction.
    - samples: K, draws in each step, afresh.
    - steps: how many.
    - schedule: of their size. "constant"; "decaying" to 0 in a line (default); "halving", where the
      loss no longer rises, as APGD does.
    - size: of the first step, as a share of epsilon.
    - momentum: the share of the last move in the next one; by default 0, in APGD 0.25.
    - restarts: random starts.
    - targets: towards so many highest-ranked wrong classes, one after the other; by default 0:
      away from the label.

    Raises UserError for other values.
    """

    loss: str = "margin"
    samples: int = 5
    steps: int = 100
    schedule: str = "decaying"
    size: float = 0.25
    momentum: float = 0.0
    restarts: int = 1
    targets: int = 0

    def __post_init__(self) -> None:
        checks.choice("loss", self.loss, losses.LOSSES)
        checks.choice("schedule", self.schedule, SCHEDULES)
        for name in ("samples", "steps", "restarts"):
            checks.count(name, getattr(self, name))
        checks.count("targets", self.targets, 0)
        checks.number("size", self.size, 1e-6, 2, "a share of epsilon")
        checks.number("momentum", self.momentum, 0, 0.99)

    @property
    def passes(self) -> int:
        """Forward and backward passes of one image."""
        return self.samples * self.steps * self.restarts * max(1, self.targets)


STANDARD = Setting()
"""The study's standard. On held-out images no costlier setting beats it measurably by a point, and
some cheaper ones do as well (notebook 8)."""


class _Halving:
    """APGD's sizes of steps: halved, from the best point, where too few steps of a window gain."""

    def __init__(self, start: Tensor, size: float, steps: int):
        self.size = torch.full((len(start), 1, 1, 1), size, device=start.device, dtype=start.dtype)
        self.best, self.upward = start, torch.zeros_like(start)
        self.top = torch.full_like(self.size[:, 0, 0, 0], -torch.inf)
        self.last, self.gains = self.top.clone(), torch.zeros_like(self.top)
        self.top_before, self.halved = self.top.clone(), torch.ones_like(self.top).bool()
        self.ends, window, end = [], FIRST_WINDOW, FIRST_WINDOW
        while end < 1:
            self.ends.append(round(end * steps))
            window = max(window - SHORTER, LEAST_WINDOW)
            end += window
        self.begun = 0

    def seen(
        self, current: Tensor, values: Tensor, direction: Tensor, step: int
    ) -> tuple[Tensor, Tensor]:
        """The images to go on from and their directions, once the values at `current` are known."""
        better = (values > self.top)[:, None, None, None]
        self.best = torch.where(better, current, self.best)
        self.upward = torch.where(better, direction, self.upward)
        self.top = torch.maximum(values, self.top)
        self.gains += (values > self.last) & self.last.isfinite()
        self.last = values
        if step not in self.ends or step == self.begun:
            return current, direction
        few = self.gains <= LEAST_GAIN * (step - self.begun)
        stuck = ~self.halved & (self.top <= self.top_before)
        self.halved, self.top_before = few | stuck, self.top
        self.gains, self.begun = torch.zeros_like(self.gains), step
        halved = self.halved[:, None, None, None]
        self.size = torch.where(halved, self.size / 2, self.size)
        back = torch.where(halved, self.best, current)
        return back, torch.where(halved, self.upward, direction)


def climb(
    evaluate: Callable[[Tensor, int], tuple[Tensor, Tensor]],
    x: Images,
    start: Images,
    epsilon: float,
    setting: Setting,
) -> Images:
    """Sign steps up a loss, in the eps-ball around x and in [0, 1]: [B, C, H, W].

    - evaluate: of the current images and the step's number, the loss of each [B] and its gradient.
    - x: clean images [B, C, H, W] in [0, 1].
    - start: perturbations [B, C, H, W].
    - epsilon: radius of the ball (l_inf), on pixels in [0, 1].
    - setting: steps, their sizes and momentum.

    Returns where the last step ended; with "halving" the images of the greatest loss on the way.
    """
    low, high = (x - epsilon).clamp(min=0), (x + epsilon).clamp(max=1)
    current = before = (x + start).clamp(low, high)
    first = setting.size * epsilon
    halving = _Halving(current, first, setting.steps) if setting.schedule == "halving" else None
    for step in range(setting.steps):
        values, direction = evaluate(current, step)
        size: float | Tensor = first
        if setting.schedule == "decaying":
            size = first * (1 - step / setting.steps)
        elif halving is not None:
            current, direction = halving.seen(current, values, direction, step)
            size = halving.size
        moved = (current + size * direction.sign()).clamp(low, high)
        after = moved + setting.momentum * (current - before - moved + current)
        before, current = current, after.clamp(low, high)
    if halving is None:
        return current
    halving.seen(current, *evaluate(current, setting.steps), -1)
    return halving.best


class Tried(NamedTuple):
    """What a restart or a target does to the images.

    - restart: its number.
    - rank: of the target among the wrong classes, from 0; -1: away from the label.
    """

    restart: int
    rank: int


@torch.inference_mode(False)
def attack(
    classifier: nn.Module,
    x: Images,
    label: Numbers,
    *,
    epsilon: float,
    draws: Draws,
    index: Numbers | None = None,
    setting: Setting = STANDARD,
) -> Images:
    """Adversarial examples [B, C, H, W] against an average over draws, end to end.

    - classifier: any module from images [B, C, H, W] in [0, 1] to logits [B, L], in eval mode,
      randomized or not; a Defense is attacked through its own draws.
    - x: clean images [B, C, H, W] in [0, 1].
    - label: true labels [B].
    - epsilon: radius of the ball (l_inf), on pixels in [0, 1], as in 8 / 255.
    - draws: the attacker's random numbers, other than those that score.
    - index: each image's number for its draws [B]; by default its place in the batch.
    - setting: by default the study's standard.

    Every step draws afresh. Of several restarts and targets an image keeps the example with the
    largest margin under separate draws; one that is wrong already is not tried again. Where a
    defense rounds pixels to 8 bits, the gradient goes through as if it did not (BPDA, Athalye et
    al., 2018); nearest-neighbour sampling has an exact one. Raises UserError for other input, and
    where the classifier or its gradient is NaN.
    """
    checks.instance("setting", setting, Setting)
    x, label, index = checked(classifier, x, label, index, draws)
    epsilon = checks.radius("epsilon", epsilon)
    if len(x) == 0:
        return x
    draws.attacked(classifier.classifier if isinstance(classifier, Defense) else classifier)
    sampler = Sampler(classifier, setting.samples)
    tries = [
        Tried(restart, rank)
        for restart in range(setting.restarts)
        for rank in (range(setting.targets) if setting.targets else (-1,))
    ]
    checking = Draws("check", draws.key)
    ranked = None
    if setting.targets:
        ranked = wrong_classes(log_mean(classifier, x, index, checking), label)
    found, wrong = x.clone(), torch.full((len(x),), -torch.inf, device=x.device, dtype=x.dtype)
    for tried in tries:
        left = (wrong <= 0).nonzero()[:, 0]
        if len(left) == 0:
            break
        goal = label if ranked is None else ranked[:, min(tried.rank, ranked.shape[1] - 1)]
        of_try = Draws("try", draws.key, *tried)
        examples = _follow(
            sampler, x[left], goal[left], index[left], of_try, epsilon, setting, ranked is not None
        )
        if len(tries) == 1:
            return examples
        predicted = log_mean(classifier, examples, index[left], checking)
        now = losses.margin(predicted, label[left]).to(wrong)
        better = now > wrong[left]
        found[left[better]], wrong[left[better]] = examples[better], now[better]
    return found


def _follow(
    sampler: Sampler,
    x: Tensor,
    goal: Tensor,
    index: Tensor,
    draws: Draws,
    epsilon: float,
    setting: Setting,
    targeted: bool,
) -> Tensor:
    """One climb from a random start, block by block."""
    start = attacks.random_start(draws, index, torch.zeros_like(index), x.shape[1:], epsilon)

    def of_block(x: Tensor, goal: Tensor, index: Tensor, start: Tensor) -> Tensor:
        def evaluate(current: Tensor, step: int) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                leaf = current.detach().requires_grad_()
                each = sampler.each(leaf, index, Draws("step", draws.key, step))
                values = losses.value(setting.loss, each, goal, targeted)
                gradient = None
                if values.requires_grad:
                    [gradient] = torch.autograd.grad(values.sum(), leaf, allow_unused=True)
            if gradient is None:
                raise UserError("the classifier's logits have no gradient in x: is it detached?")
            if gradient.isnan().any():
                raise UserError("the gradient of the classifier is NaN: no step can follow it")
            return values.detach(), gradient

        return climb(evaluate, x, start, epsilon, setting)

    return inference.chunked(of_block, sampler.block, x, goal, index, start.to(x))


def wrong_classes(predicted: Predictions, label: Numbers) -> Ranks:
    """The classes other than the label, the likeliest first, [B, L - 1].

    - predicted: log F [B, L].
    - label: [B].
    """
    others = predicted.scatter(1, label[:, None], -torch.inf)
    return others.argsort(1, descending=True)[:, :-1]


def checked(
    classifier: nn.Module, x: Tensor, label: Tensor, index: Tensor | None, draws: Draws
) -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels and indices in the form that is computed with.

    - classifier, x, label, index, draws: as in `attack`.

    Raises UserError for others, and where the classifier gives no logits for them.
    """
    checks.instance("classifier", classifier, nn.Module)
    checks.instance("draws", draws, Draws)
    x = attacks.clean(classifier, x)
    if isinstance(classifier, Defense):
        x = classifier.check(x)
    label = checks.labels("label", label, len(x), x.device)
    if index is None:
        index = torch.arange(len(x), device=x.device)
    index = checks.labels("index", index, len(x), x.device)
    with torch.no_grad():
        if isinstance(classifier, Defense):
            found, classes = log_mean(classifier, x[:1], index[:1], draws), classifier.classes
        else:
            found, classes = module_logits(classifier, x[:1].clone(), draws), None
    checks.logits(found, len(x[:1]), classes, label)
    return x, label, index
