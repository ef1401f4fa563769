"""How long a training takes here: roughly from forward passes, or from timed training steps."""

import time

import torch

from milib import models, recipes, training
from milib.data import Splits

FEW, TIMED = 4, 16
"""Images of a timed forward pass, and of a first timed step on a CPU."""
CLEARLY = 4
"""A rough estimate may be off by such a factor: beyond it, no step has to be timed."""


def passes(settings: dict) -> int:
    """Forward passes that cost as much as an image in a training step.

    - settings: a recipe.

    A backward pass counts as two, and one to the input alone, as in an attack's step, as one.
    """
    if settings["name"] not in training.ADVERSARIAL:
        return 3
    return 2 * 3 + 2 * settings["train_steps"]


def image_seconds(model: str, splits: Splits) -> float:
    """Seconds of one image's forward pass on the CPU: the best of three passes of FEW images.

    - model: the architecture.
    - splits: the run's data.

    They are CPU seconds by thread: what else runs here does not count.
    """
    images = splits.train.images
    net = models.build(model, splits.train.classes, images.shape[1], 0).eval()
    net, taken = models.channels_last(net), []
    x = splits.train.pixels(slice(1)).expand(FEW, -1, -1, -1)
    with torch.inference_mode():
        for _ in range(3):
            started = time.process_time()
            net(x)
            taken.append(time.process_time() - started)
    return min(taken) / FEW / torch.get_num_threads()


def rough_seconds(settings: dict, splits: Splits, image: float) -> float:
    """How long `training.train` would take on this CPU, within a factor of CLEARLY.

    - settings: a recipe.
    - splits: the run's data.
    - image: what `image_seconds` gave.
    """
    return image * passes(settings) * recipes.length(settings) * len(splits.train)


def timed_seconds(settings: dict, splits: Splits, precision: str) -> float:
    """How long `training.train` would take here, from a few timed steps on a throw-away model.

    - settings: a recipe.
    - splits: the run's data.
    - precision: "fp32" or "bf16".

    On a CPU the steps are of TIMED images, and of whole batches only where that is quick.
    """
    batch, on_cpu = settings["batch_size"], splits.train.images.device.type == "cpu"
    seconds, steps = 0.0, 0
    for size in (min(TIMED, batch), batch) if on_cpu else (batch,):
        trainer = training.Trainer(settings | {"batch_size": size}, splits, precision)
        steps = recipes.steps(settings, trainer.steps_per_epoch)
        order = trainer.order()
        trainer.one_step(order)
        trainer.total.item()  # a GPU has done what it was given
        started, count = time.perf_counter(), 0
        while count < min(5, trainer.steps_per_epoch) and (
            count == 0 or time.perf_counter() - started < 2
        ):
            trainer.step = count % trainer.steps_per_epoch
            trainer.one_step(order)
            count += 1
        trainer.total.item()
        seconds = (time.perf_counter() - started) / count
        if seconds > 0.3:
            break
    return seconds * steps
