"""Attacks of two libraries on any classifier: pyautoattack (AutoAttack, Square) and foolbox."""

import importlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

import torch
from torch import Tensor, nn

from milib import inference
from milib.audit.measure import Target
from milib.averaging import Defense
from milib.eot import FIRST_WINDOW, LEAST_WINDOW, SHORTER
from milib.errors import UserError
from milib.rng import Draws
from milib.sampling import TOGETHER, module_logits
from milib.shapes import Images, Predictions

DRAWS = 5
"""Draws of a defense in one query of a library."""


def library(name: str) -> ModuleType:
    """A library that the core does not need.

    - name: of the module.

    Raises UserError where it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own imports
            return importlib.import_module(name)
    except ImportError:
        raise UserError(f"{name} is not installed: pip install 'milib[audit]'") from None


class Drawn(nn.Module):
    """A classifier as a library queries it: its draws come from a key, and so repeat.

    - classifier: a Defense, of which a query takes DRAWS draws at most, or any other module.
    - draws: the random numbers.
    - held: whether all queries and images share their draws, so that the prediction is a function
      of the image; by default each query has its own.
    """

    def __init__(self, classifier: nn.Module, draws: Draws, held: bool = False):
        super().__init__()
        if isinstance(classifier, Defense) and classifier.fixed is None:
            chunk = min(TOGETHER, classifier.chunk)  # queries are of few images
            classifier = classifier.resized(min(DRAWS, classifier.draws), chunk)
        self.classifier, self.key, self.held, self.queries = classifier, draws.key, held, 0
        self.training = False  # attack libraries ask
        self.one_by_one: bool | None = None
        """Whether a module draws: a batch of another size would get other numbers."""

    def forward(self, x: Images) -> Predictions:
        draws = Draws("library", self.key, 0 if self.held else self.queries)
        self.queries += 1
        if not isinstance(self.classifier, Defense):
            if self.one_by_one is None:
                self.one_by_one = self.held and takes_numbers(self.classifier, x[:1])
            parts = x.split(1) if self.one_by_one else [x]
            return torch.cat([module_logits(self.classifier, part, draws) for part in parts])
        index = torch.arange(len(x), device=x.device)
        if self.held or self.classifier.fixed is not None:
            index = torch.zeros_like(index)  # libraries move images between places of a batch
        return self.classifier.log_mean(x, self.classifier.fixed or draws, index)


def takes_numbers(classifier: nn.Module, x: Images) -> bool:
    """Whether a module draws from torch's global generator, or sets it.

    - classifier: any module.
    - x: images [B, C, H, W] in [0, 1].
    """
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)
        before = generator_state(x.device)
        queried(classifier, x)
        return not torch.equal(before, generator_state(x.device))


def queried(classifier: nn.Module, x: Images) -> Tensor:
    """The logits [B, L] of one query; a Defense takes draws that are the same every time.

    - classifier: any module.
    - x: images [B, C, H, W] in [0, 1].
    """
    if isinstance(classifier, Defense):
        index = torch.arange(len(x), device=x.device)
        return classifier.log_mean(x, classifier.fixed or Draws("query"), index)
    return inference.logits(classifier, x.clone())


def generator_state(device: torch.device) -> Tensor:
    """The state of torch's global generators, as bytes.

    - device: whose, besides the CPU's.
    """
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return torch.cat(states)


@contextmanager
def _alone(target: Target, draws: Draws) -> Iterator[None]:
    """The global generator, which libraries draw from, seeded and put back; no warnings."""
    devices = [target.x.device] if target.x.device.type == "cuda" else []
    logger = logging.getLogger("auto-attack")  # what it finds, the checklist says
    before, logger.disabled = logger.disabled, True
    try:
        with torch.random.fork_rng(devices=devices), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(draws.key)
            yield
    finally:
        logger.disabled = before


def _inside(target: Target, examples: Tensor) -> Tensor:
    """Examples in the eps-ball and in [0, 1], in spite of a library's rounding."""
    low, high = (target.x - target.epsilon).clamp(min=0), (target.x + target.epsilon).clamp(max=1)
    return torch.maximum(torch.minimum(examples.detach().to(target.x), high), low)


def auto_attack(
    random: bool, steps: int, repeats: int, whole: bool
) -> Callable[[Target, Draws], Tensor]:
    """AutoAttack (Croce and Hein, 2020): "rand" or "standard".

    - random: "rand", which is APGD on two losses; else "standard".
    - whole: whether "standard" has its last two attacks, FAB and Square, which are slow.
    - steps: of APGD and FAB, 100 in the paper; 50 times as many queries of Square.
    - repeats: evaluations whose gradients are averaged in a step of "rand", 20 in the paper.

    With fewer classes than a loss needs, it is left out.
    """

    def make(target: Target, draws: Draws) -> Tensor:
        query = Drawn(target.classifier, draws)
        with _alone(target, draws):
            with torch.no_grad():
                classes = query(target.x[:1]).shape[1]
            attacks = ["apgd-ce"] + ["apgd-dlr"] * (classes > 2)
            if not random:
                attacks = ["apgd-ce"] + ["apgd-t"] * (classes > 3)
                attacks += ["fab-t", "square"] * whole
            attack = library("pyautoattack.autoattack").AutoAttack(
                query,
                device=target.x.device,
                eps=target.epsilon,
                seed=draws.key % 2**31,
                version="rand" if random else "standard",
            )
            attack.attacks_to_run = attacks
            attack.apgd.n_restarts = attack.fab.n_restarts = 1
            for apgd in (attack.apgd, attack.apgd_targeted):
                apgd.n_iter = apgd.n_iter_orig = steps
                apgd.n_iter_2 = max(1, round(FIRST_WINDOW * steps))
                apgd.size_decr = max(1, round(SHORTER * steps))
                apgd.n_iter_min = max(1, round(LEAST_WINDOW * steps))
            attack.fab.n_iter, attack.square.n_queries = steps, 50 * steps
            attack.apgd.eot_iter = repeats if random else 1
            attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = min(
                9, classes - 1
            )
            found, _ = attack.run_standard_evaluation(target.x.clone(), target.label)
        return _inside(target, found)

    return make


def square(queries: int) -> Callable[[Target, Draws], Tensor]:
    """Square (Andriushchenko et al., 2020): random search by the scores, without a gradient.

    - queries: at most, for an image.
    """

    def make(target: Target, draws: Draws) -> Tensor:
        with _alone(target, draws):
            attack = library("pyautoattack.square").SquareAttack(
                Drawn(target.classifier, draws),
                eps=target.epsilon,
                n_queries=queries,
                seed=draws.key % 2**31,
                device=target.x.device,
            )
            found = attack.perturb(target.x.clone(), target.label)
        return _inside(target, found)

    return make


def hop_skip_jump(steps: int, evaluations: int) -> Callable[[Target, Draws], Tensor]:
    """HopSkipJump (Chen et al., 2020): by the decision alone, from an image of another class.

    - steps: along the boundary.
    - evaluations: for the gradient of the first step.

    The draws are held: a decision that changes between queries ends the library's search. An image
    stays as it is where nothing that is tried as a start gets another class.
    """

    def make(target: Target, draws: Draws) -> Tensor:
        foolbox = library("foolbox")
        query = Drawn(target.classifier, draws, held=True)
        attack = foolbox.attacks.HopSkipJumpAttack(
            steps=steps, initial_gradient_eval_steps=evaluations, constraint="linf"
        )
        with _alone(target, draws):
            with torch.no_grad():
                starts = _starts(query, target)
                rows = (query(starts).argmax(1) != target.label).nonzero()[:, 0]
            return _followed(foolbox, attack, query, target, rows, starts[rows])

    return make


def _starts(query: Drawn, target: Target) -> Tensor:
    """Of other images, negatives and noise, the nearest one with another class than the label."""
    tried = torch.cat([target.x, 1 - target.x, torch.rand_like(target.x)])
    predicted, starts = query(tried).argmax(1), target.x.clone()
    for row, label in enumerate(target.label):
        others = tried[predicted != label]
        if len(others):
            far = (others - target.x[row]).abs().flatten(1).mean(1)
            starts[row] = others[far.argmin()]
    return starts


def deep_fool(steps: int, candidates: int) -> Callable[[Target, Draws], Tensor]:
    """DeepFool (Moosavi-Dezfooli et al., 2016), l_inf: to the nearest boundary. Draws are held.

    - steps: at most.
    - candidates: likeliest classes whose boundaries are compared.
    """

    def make(target: Target, draws: Draws) -> Tensor:
        foolbox = library("foolbox")
        query = Drawn(target.classifier, draws, held=True)
        with _alone(target, draws):
            with torch.no_grad():
                classes = query(target.x[:1]).shape[1]
            attack = foolbox.attacks.LinfDeepFoolAttack(
                steps=steps, candidates=min(candidates, classes)
            )
            rows = torch.arange(len(target.x), device=target.x.device)
            return _followed(foolbox, attack, query, target, rows)

    return make


def _followed(
    foolbox: ModuleType,
    attack,
    query: Drawn,
    target: Target,
    rows: Tensor,
    starts: Tensor | None = None,
) -> Tensor:
    """What an attack of foolbox makes of some rows, within eps; others stay as they are."""
    examples = target.x.clone()
    if len(rows) == 0:
        return examples
    model = foolbox.PyTorchModel(query, bounds=(0, 1), device=target.x.device)
    options = {} if starts is None else {"starting_points": starts}
    criterion = foolbox.criteria.Misclassification(target.label[rows])
    _, found, _ = attack(model, target.x[rows], criterion, epsilons=target.epsilon, **options)
    examples[rows] = found
    return _inside(target, examples)
