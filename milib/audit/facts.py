"""What is known of a defense beside what attacks leave of it: does its randomness keep its word?"""

import dataclasses
from dataclasses import dataclass
from unittest import mock

import torch
from torch import Tensor, nn

from milib.audit.libraries import generator_state, queried, takes_numbers
from milib.audit.measure import Target
from milib.audit.running import randomized, repeats
from milib.averaging import Defense, Undefended
from milib.defenses import MICombined, MixupInference
from milib.rng import Draws
from milib.sampling import module_logits

SAME = 1e-3
"""How far rounding may take the logits of one query from those of another, relatively."""


@dataclass(frozen=True)
class Facts:
    """What the checklist asks that no record holds.

    - epsilon: radius of the ball (l_inf), on pixels in [0, 1].
    - classes: L.
    - reads: what the attacks know, in words.
    - ratio: lambda, in words; "" where there is none.
    - claims: whether the defense is said to be random, or draws.
    - random: whether its predictions differ from draw to draw.
    - repeats: whether the same draws give the same prediction again.
    - seeds_itself: whether a query sets a global generator, of torch, numpy or Python.
    - sees_gradients: whether it predicts otherwise where a gradient is asked, or stops to draw.
    - passes: forward passes of a prediction, at most.
    - seeds: nets trained from different seeds that were evaluated.
    """

    epsilon: float
    classes: int
    reads: str
    ratio: str
    claims: bool
    random: bool
    repeats: bool
    seeds_itself: bool
    sees_gradients: bool
    passes: int
    seeds: int


def observed(target: Target, seeds: int) -> Facts:
    """The facts of a defense, as it behaves on its images.

    - target: the defense and its images.
    - seeds: as the caller says it.
    """
    defense = target.classifier
    again = repeats(target)
    few = target.only(torch.arange(min(len(target.x), 8)))
    claims = takes_numbers(defense, few.x)
    if isinstance(defense, Defense) and not isinstance(defense, Undefended):
        claims = defense.draws > 1  # a mean over one draw promises no chance
    with torch.no_grad():
        classes = _logits(few, defense, 0).shape[1]
    ratio = f"{defense.ratio}" if isinstance(defense, MixupInference) else ""
    return Facts(
        epsilon=target.epsilon,
        classes=classes,
        reads=_read(defense, ratio),
        ratio=ratio,
        claims=claims,
        random=randomized(target),
        repeats=again,
        seeds_itself=_seeds_itself(defense, few.x),
        sees_gradients=again and _sees_gradients(few),
        passes=_passes(defense),
        seeds=seeds,
    )


def _read(defense: nn.Module, ratio: str) -> str:
    """What the attacks know."""
    known = ["the true labels", "gradients through the defense, with draws of their own"]
    if isinstance(defense, MixupInference):
        known += [f"the sample pool of {len(defense.pool.data):,} images", f"lambda {ratio}"]
    return ", ".join(known)


def _passes(defense: nn.Module) -> int:
    """Forward passes of one prediction at most: draws, and the bare one where it is asked."""
    if not isinstance(defense, Defense) or isinstance(defense, Undefended):
        return 1
    if isinstance(defense, MICombined):  # where the detector asks for MI-OL
        return _passes(defense.pl) + _passes(defense.ol) - 1
    draws = defense.draws + defense.needs_prediction
    return draws * _passes(defense.classifier)


def _logits(target: Target, defense: nn.Module, number: int) -> Tensor:
    """A query with given draws, in whatever gradient mode it is asked."""
    draws = Draws(target.seed, "facts", number)
    if isinstance(defense, Defense):
        return defense.log_mean(target.x, defense.fixed or draws, target.index)
    return module_logits(defense, target.x, draws).log_softmax(1)


def _seeds_itself(defense: nn.Module, x: Tensor) -> bool:
    """Whether queries that began in two states leave one, or seed numpy or Python: they set it."""
    devices = [x.device] if x.device.type == "cuda" else []
    after = []
    with mock.patch("numpy.random.seed") as of_numpy, mock.patch("random.seed") as of_python:
        for asked in (False, True):
            for state in (1, 2):
                with torch.random.fork_rng(devices=devices), torch.set_grad_enabled(asked):
                    torch.manual_seed(state)
                    queried(defense, x.clone().requires_grad_(asked))
                    after.append(generator_state(x.device))
    same = torch.equal(after[0], after[1]) or torch.equal(after[2], after[3])
    return same or of_numpy.called or of_python.called


def _sees_gradients(target: Target) -> bool:
    """Whether a query with gradient differs from one without, with the same draws."""
    asked = dataclasses.replace(target, x=target.x.clone().requires_grad_())
    with torch.no_grad():
        without = [_logits(target, target.classifier, number) for number in (0, 1)]
    with torch.enable_grad():
        given = [_logits(asked, target.classifier, number).detach() for number in (0, 1)]
    stopped = torch.equal(*given) and not torch.equal(*without)
    size = without[0].abs().amax().clamp(min=1)
    return stopped or bool((given[0] - without[0]).abs().amax() > SAME * size)
