"""A training's recipe: its keys, the values that they may have, and how both are checked."""

import copy
import math
from collections.abc import Collection, Mapping

import torch
from torch import nn

from milib import checks, models
from milib.data import Dataset
from milib.errors import UserError
from milib.objectives import ATTACK, OBJECTIVES

MODELS = tuple(OBJECTIVES)
"""Every model that can be trained, by its name."""
ADVERSARIAL = tuple(name for name in MODELS if set(ATTACK) <= set(OBJECTIVES[name].keys))
"""Those whose training attacks the net."""
CHOICES: dict[str, Collection[str]] = {
    "name": MODELS,
    "model": models.ARCHITECTURES,
    "schedule": ("step", "onecycle"),
    "augment": ("none", "crop_flip"),
}
"""A recipe's keys that name something, with the names."""
NUMBERS = ("seed", "epochs", "batch_size", "lr", "momentum", "nesterov", "weight_decay")
"""The other keys of every recipe; OBJECTIVES has those of one objective."""
STOP = "stop_epoch"
"""The key of early stopping, which a recipe need not have."""
NOTES = ("version", "data", "classes", "n_train", "n_heldout", "extension")
"""Keys that a recipe may carry to say what it was for; training does not read them."""
WHOLE = {
    "seed": (-(2**63), 2**63),
    "epochs": (1, 10**5),
    "batch_size": (2, 10**5),
    "train_steps": (1, 1000),
}
"""Whole numbers, from the least to the most."""
REAL = {
    "lr": (0, 100),
    "momentum": (0, 0.9999),
    "weight_decay": (0, 1),
    "alpha": (1e-3, 100),
    "ratio": (0, 1),
}
"""Numbers, from the least to the most; an lr of 0 would train nothing."""


def checked(recipe: Mapping) -> dict:
    """A recipe that `training.train` can follow, its numbers as Python's own.

    - recipe: as in `training.train`.

    Raises UserError for a key that is missing or unknown, an unknown name, and a value of another
    type or out of range.
    """
    if not isinstance(recipe, Mapping):
        raise UserError(f"recipe is {checks.shown(recipe)}: a dict of {', '.join(CHOICES)}, ...")
    needed = (*CHOICES, *NUMBERS)
    if recipe.get("name") in MODELS:  # of another name, only what all have can be asked for
        needed += OBJECTIVES[recipe["name"]].keys
    missing = [key for key in needed if key not in recipe]
    if missing:
        raise UserError(f"recipe: no {', '.join(missing)}; its keys are {', '.join(needed)}")
    for key, names in CHOICES.items():
        checks.choice(f"recipe: {key}", recipe[key], names)
    unknown = [str(key) for key in recipe if key not in (*needed, STOP, *NOTES)]
    if unknown:
        raise UserError(f"recipe: unknown {', '.join(unknown)}; its keys are {', '.join(needed)}")
    found = dict(recipe)
    found |= {key: _value(key, recipe[key]) for key in needed if key not in CHOICES}
    if found["lr"] == 0:
        raise UserError(f"recipe: lr is {recipe['lr']!r}: above 0; nothing would be learnt")
    if found["nesterov"] and found["momentum"] == 0:
        raise UserError("recipe: nesterov is True with momentum 0: a momentum above 0, or False")
    if STOP in recipe:
        found[STOP] = checks.number(f"recipe: {STOP}", recipe[STOP], 1, found["epochs"])
    return found


def _value(key: str, value: object) -> float | bool:
    """The value of a key that is no name, as Python's own number."""
    name = f"recipe: {key}"
    if key in WHOLE:
        return checks.count(name, value, *WHOLE[key])
    if key in REAL:
        return checks.number(name, value, *REAL[key])
    if key == "epsilon":
        return checks.radius(name, value)
    if key == "train_step_size":
        return checks.step(name, value)
    if not isinstance(value, bool):
        raise UserError(f"{name} is {checks.shown(value)}: True or False")
    return value


def followed(recipe: dict) -> dict:
    """What of a recipe decides the weights after each step: all but NOTES and where it stops.

    - recipe: as `checked` gives it.
    """
    return {key: value for key, value in recipe.items() if key not in (STOP, *NOTES)}


def length(recipe: dict) -> float:
    """Epochs after which a training ends, of which the last may be a part.

    - recipe: its `epochs`, unless `stop_epoch` ends it earlier.
    """
    return recipe.get(STOP, recipe["epochs"])


def steps(recipe: dict, per_epoch: int) -> int:
    """Steps after which a training ends.

    - recipe: see `length`. Of an epoch's part the whole steps count, so that it is never all of it.
    - per_epoch: steps of an epoch.
    """
    whole, part = divmod(length(recipe), 1)
    of_part = math.floor(round(part * per_epoch, 6))  # 0.15 * 100 may be 14.99 as a float
    return int(whole) * per_epoch + min(of_part, per_epoch - 1)


def rate(settings: dict, progress: float) -> float:
    """The learning rate.

    - settings: the recipe, of which `schedule` and `lr` are read.
    - progress: the share of the training that is done, in [0, 1).

    step: x0.1 at 1/2 and at 3/4 (100 and 150 of 200 epochs). onecycle: linear up during the first
    fifth, then a cosine to zero.
    """
    if settings["schedule"] == "step":
        return settings["lr"] * 0.1 ** ((progress >= 0.5) + (progress >= 0.75))
    warm = 0.2
    if progress < warm:
        return settings["lr"] * (0.05 + 0.95 * progress / warm)
    return settings["lr"] * 0.5 * (1 + math.cos(math.pi * (progress - warm) / (1 - warm)))


def check_net(settings: dict, model: nn.Module, data: Dataset) -> None:
    """Refuse a net that cannot be trained on these images: a copy tries it on one or two.

    - settings: the recipe.
    - model: the net.
    - data: the training images.

    Raises UserError where they are too small, or a batch of one leaves batch norm no spread.
    """
    least = len(data) % settings["batch_size"] or settings["batch_size"]
    at_once = max(1, len(OBJECTIVES[settings["name"]].mixed))  # interpolated AT joins two halves
    height, width = data.images.shape[2:]
    for size in sorted({2, min(2, least * at_once)}, reverse=True):
        x = data.pixels(slice(1)).expand(size, -1, -1, -1)
        try:
            with torch.no_grad():
                copy.deepcopy(model).train()(x)
        except (RuntimeError, ValueError):
            few = "larger images, or another model"
            if size == 1:
                few = "another batch_size, as an epoch's last batch has one image"
            raise UserError(
                f"recipe: model {settings['model']} cannot train on a batch of {size} of "
                f"{height}x{width} pixels: {few}"
            ) from None
