"""What a training minimises: ERM, mixup, adversarial and interpolated AT, and mixup's variants."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from milib import attacks, inference, rng


@dataclasses.dataclass
class Batch:
    """What a training step works on.

    - x: clean images [B, C, H, W], in [0, 1].
    - y: labels [B].
    - classes: L.
    - settings: the recipe, as in `training.train`.
    - numbers: the step's random numbers, see `numbers`.
    - start: where the inner attack begins, a perturbation [B, C, H, W]; None without an attack.
    - attacker: the frozen copy that the inner attack runs on; None without an attack.
    - stage: the stage whose input manifold mixup mixes; None elsewhere.
    """

    x: Tensor
    y: Tensor
    classes: int
    settings: dict
    numbers: dict[str, Tensor]
    start: Tensor | None = None
    attacker: nn.Module | None = None
    stage: int | None = None

    def targets(self) -> Tensor:
        """One-hot labels [B, L]."""
        return F.one_hot(self.y, self.classes).float()

    def mixed(self, part: str, values: Tensor) -> Tensor:
        """lambda values_j0 + (1 - lambda) values_j1.

        - part: the part of the step whose numbers are used.
        - values: what is mixed [B, ...].
        """
        first, second = self.numbers[f"{part}_first"], self.numbers[f"{part}_second"]
        ratio = self.numbers[f"{part}_ratio"].view(-1, *[1] * (values.dim() - 1))
        return ratio * values[first] + (1 - ratio) * values[second]


def erm(model: nn.Module, batch: Batch) -> Tensor:
    """Empirical risk minimisation: the cross-entropy on (x, y)."""
    return F.cross_entropy(model(batch.x), batch.y)


def mixup(model: nn.Module, batch: Batch) -> Tensor:
    """Mixup (Zhang et al., ICLR 2018): the cross-entropy on mixed images and mixed labels."""
    logits = model(batch.mixed("mix", batch.x))
    return F.cross_entropy(logits, batch.mixed("mix", batch.targets()))


def manifold_mixup(model: nn.Module, batch: Batch) -> Tensor:
    """Manifold mixup (Verma et al., ICML 2019): mixup of the input of a stage drawn each step."""
    logits = model(batch.x, mix=(batch.stage, lambda hidden: batch.mixed("mix", hidden)))
    return F.cross_entropy(logits, batch.mixed("mix", batch.targets()))


def craft(model: nn.Module, batch: Batch) -> Tensor:
    """Adversarial images [B, C, H, W]: untargeted PGD on the un-mixed batch, the net in eval mode.

    - model: the net in training.
    - batch: the step's, with `start` and `attacker`.
    """
    settings = batch.settings
    assert batch.attacker is not None
    examples = attacks.unchecked_pgd(
        inference.refold(batch.attacker, model),
        batch.x,
        batch.y,
        epsilon=settings["epsilon"],
        step_size=settings["train_step_size"],
        steps=[settings["train_steps"]],
        start=batch.start,
    )
    return examples[:, 0]


def adversarial(model: nn.Module, batch: Batch) -> Tensor:
    """Adversarial training (Eq. 19; Madry et al., ICLR 2018), clean to adversarial 1:1.

    There are two forward passes, the adversarial one first.
    """
    attacked = F.cross_entropy(model(craft(model, batch)), batch.y)
    clean = F.cross_entropy(model(batch.x), batch.y)
    return (attacked + clean) / 2


def interpolated_adversarial(model: nn.Module, batch: Batch) -> Tensor:
    """Interpolated AT (Lamb et al., 2019): both halves, each mixed by itself, in one forward."""
    crafted, targets = craft(model, batch), batch.targets()
    images = [batch.mixed("clean", batch.x), batch.mixed("adversarial", crafted)]
    labels = [batch.mixed("clean", targets), batch.mixed("adversarial", targets)]
    return F.cross_entropy(model(torch.cat(images)), torch.cat(labels))


class Objective(NamedTuple):
    """An objective and what it needs.

    - loss: `loss(model, batch)` gives a scalar.
    - mixed: the parts of a step that mixup mixes, each with random numbers of its own.
    - keys: the recipe's keys that it reads.
    """

    loss: Callable[[nn.Module, Batch], Tensor]
    mixed: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()


ATTACK = ("epsilon", "train_steps", "train_step_size")
"""The recipe's keys for PGD inside a training."""
OBJECTIVES = {
    "erm": Objective(erm),
    "mixup": Objective(mixup, ("mix",), ("alpha",)),
    "at": Objective(adversarial, (), ATTACK),
    "interpolated_at": Objective(
        interpolated_adversarial, ("clean", "adversarial"), (*ATTACK, "alpha")
    ),
    "manifold_mixup": Objective(manifold_mixup, ("mix",), ("alpha",)),
    "matched_mixup": Objective(mixup, ("mix",), ("ratio",)),
    "long_mixup": Objective(mixup, ("mix",), ("alpha",)),
}
"""Every model that a run can train, by its name."""


def numbers(settings: dict, index: Tensor, epoch: int, step: int) -> dict[str, Tensor]:
    """The random numbers of a training step, on the images' device.

    - settings: the recipe.
    - index: the images' numbers [B].
    - epoch, step: where the training stands, both from 0.

    `crop` [B, 3]; for each part that is mixed, `PART_first` and `PART_second`, two permutations of
    the batch, and `PART_ratio` [B], one lambda for each example.
    """
    name, seed, size = settings["name"], settings["seed"], len(index)
    crop = rng.Draws(seed, name, "augment").uniform(index, torch.full_like(index, epoch), 3)
    found = {"crop": crop}
    for part in OBJECTIVES[name].mixed:
        draw = rng.generator(seed, name, part, epoch, step)
        if "ratio" in settings:
            ratio = np.full(size, settings["ratio"])
        else:
            ratio = draw.beta(settings["alpha"], settings["alpha"], size)
        found[f"{part}_first"] = _moved(draw.permutation(size), index.device)
        found[f"{part}_second"] = _moved(draw.permutation(size), index.device)
        found[f"{part}_ratio"] = _moved(ratio.astype(np.float32), index.device)
    return found


def _moved(value: np.ndarray, device: torch.device) -> Tensor:
    """On a GPU by pinned memory: from pageable memory the copy would wait for the step before."""
    tensor = torch.from_numpy(value)
    if device.type != "cuda":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
