"""One training loop and its objectives: ERM, mixup, adversarial and interpolated adversarial training, and mixup's variants.

All randomness is addressed by (seed, model, epoch, step or image), so a run resumes exactly wherever it was stopped.
"""

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from milib import attacks, files, inference, models, rng
from milib.cuda_graph import CudaGraph
from milib.data import Dataset, Splits, augment

MODELS = ("erm", "mixup", "at", "interpolated_at", "manifold_mixup", "matched_mixup", "long_mixup")
VERSION = 1
"""Part of every recipe: raised by hand when the same recipe would give other weights."""
STATE_SECONDS = 60
"""Seconds between two savings of an unfinished training."""
ATTACKED = 200
"""Held-out images that are attacked after an epoch of a training without attacks, which PGD-10 on all of them would make a tenth longer."""
ADVERSARIAL = ("at", "interpolated_at")
MIXED = dict.fromkeys(MODELS, ("mix",)) | {
    "erm": (),
    "at": (),
    "interpolated_at": ("clean", "adversarial"),
}
"""The parts of a step that mixup mixes, each with random numbers of its own."""


def numbers(settings: dict, index: Tensor, epoch: int, step: int) -> dict[str, Tensor]:
    """The random numbers of a step for images `index` [B], on their device.

    crop [B, 3]; per part of MIXED: first, second [B], two permutations of the batch, and ratio [B], one lambda per example.
    """
    name, seed, size = settings["name"], settings["seed"], len(index)
    found = {
        "crop": rng.Draws(seed, name, "augment").uniform(index, torch.full_like(index, epoch), 3)
    }
    for part in MIXED[name]:
        draw = rng.generator(seed, name, part, epoch, step)
        ratio = (
            np.full(size, settings["ratio"])
            if "ratio" in settings
            else draw.beta(settings["alpha"], settings["alpha"], size)
        )
        drawn = {
            "first": draw.permutation(size),
            "second": draw.permutation(size),
            "ratio": ratio.astype(np.float32),
        }
        for key, value in drawn.items():
            value = torch.from_numpy(
                value
            )  # pinned: from pageable memory the copy, and so the CPU, waits for the step before
            found[f"{part}_{key}"] = (
                value.pin_memory().to(index.device, non_blocking=True) if index.is_cuda else value
            )
    return found


@dataclasses.dataclass
class Batch:
    """A step's clean images x [B, C, H, W] and labels y [B], with the step's random numbers.

    start: the inner attack's [B, C, H, W]; attacker: the frozen copy it runs on; stage: where manifold mixup mixes.
    """

    x: Tensor
    y: Tensor
    classes: int
    settings: dict
    numbers: dict[str, Tensor]
    start: Tensor | None = None
    attacker: nn.Module | None = None
    stage: int | None = None

    def mixed(self, part: str, values: Tensor) -> Tensor:
        """lambda values_j0 + (1-lambda) values_j1, as the numbers of `part` say."""
        first, second, ratio = (
            self.numbers[f"{part}_{key}"] for key in ("first", "second", "ratio")
        )
        ratio = ratio.view(-1, *[1] * (values.dim() - 1))
        return ratio * values[first] + (1 - ratio) * values[second]


def _targets(batch: Batch) -> Tensor:
    return F.one_hot(batch.y, batch.classes).float()


def erm(model: nn.Module, batch: Batch) -> Tensor:
    """Empirical risk minimisation: the cross-entropy on (x, y)."""
    return F.cross_entropy(model(batch.x), batch.y)


def mixup(model: nn.Module, batch: Batch) -> Tensor:
    """Mixup (Zhang et al., ICLR 2018): the cross-entropy on (lambda x_j0 + (1-lambda) x_j1, lambda y_j0 + (1-lambda) y_j1)."""
    return F.cross_entropy(model(batch.mixed("mix", batch.x)), batch.mixed("mix", _targets(batch)))


def manifold_mixup(model: nn.Module, batch: Batch) -> Tensor:
    """Manifold mixup (Verma et al., ICML 2019): mixup of the input of a stage drawn for each step."""
    logits = model(batch.x, mix=(batch.stage, lambda hidden: batch.mixed("mix", hidden)))
    return F.cross_entropy(logits, batch.mixed("mix", _targets(batch)))


def craft(model: nn.Module, batch: Batch) -> Tensor:
    """The adversarial half: untargeted PGD on the un-mixed batch with the net in eval mode, from a random start."""
    settings = batch.settings
    options = {
        "epsilon": settings["epsilon"],
        "step_size": settings["train_step_size"],
        "steps": [settings["train_steps"]],
    }
    return attacks.pgd(
        inference.refold(batch.attacker, model), batch.x, batch.y, start=batch.start, **options
    )[:, 0]


def adversarial(model: nn.Module, batch: Batch) -> Tensor:
    """Adversarial training (Eq. 19; Madry et al., ICLR 2018), clean to adversarial 1:1: two forwards, the adversarial first."""
    return (
        F.cross_entropy(model(craft(model, batch)), batch.y)
        + F.cross_entropy(model(batch.x), batch.y)
    ) / 2


def interpolated_adversarial(model: nn.Module, batch: Batch) -> Tensor:
    """Interpolated AT (Lamb et al., 2019): each half mixed by itself, both in one forward, the two losses averaged."""
    halves = {"clean": batch.x, "adversarial": craft(model, batch)}
    images = torch.cat([batch.mixed(part, x) for part, x in halves.items()])
    return F.cross_entropy(
        model(images), torch.cat([batch.mixed(part, _targets(batch)) for part in halves])
    )


OBJECTIVES: dict[str, Callable[[nn.Module, Batch], Tensor]] = {
    "erm": erm,
    "mixup": mixup,
    "long_mixup": mixup,
    "matched_mixup": mixup,
    "manifold_mixup": manifold_mixup,
    "at": adversarial,
    "interpolated_at": interpolated_adversarial,
}


def rate(settings: dict, progress: float) -> float:
    """The learning rate at `progress` in [0, 1) of training. step: x0.1 at 1/2 and at 3/4 (100 and 150 of 200 epochs).
    onecycle: linear up during the first fifth, then a cosine to zero."""
    if settings["schedule"] == "step":
        return settings["lr"] * 0.1 ** ((progress >= 0.5) + (progress >= 0.75))
    warm = 0.2
    if progress < warm:
        return settings["lr"] * (0.05 + 0.95 * progress / warm)
    return settings["lr"] * 0.5 * (1 + math.cos(math.pi * (progress - warm) / (1 - warm)))


class Trainer:
    """A model in training: weights, momentum, and where it stands."""

    def __init__(self, settings: dict, splits: Splits, precision: str):
        self.settings, self.splits, self.precision = settings, splits, precision
        self.data: Dataset = splits.train
        channels = self.data.images.shape[1]
        self.device = self.data.images.device
        self.model = models.build(
            settings["model"],
            settings["classes"],
            channels,
            rng.key(settings["seed"], "init", settings["name"]),
        )
        self.model = self.model.to(self.device, memory_format=torch.channels_last)
        options = {key: settings[key] for key in ("momentum", "nesterov", "weight_decay")}
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=settings["lr"], **options)
        self.attacker = (
            inference.frozen(self.model, precision) if settings["name"] in ADVERSARIAL else None
        )
        self.graph = CudaGraph(self.loss_and_gradients, list(self.model.buffers()))
        self.epoch, self.step, self.seconds, self.log = 0, 0, 0.0, []
        self.total = torch.zeros((), dtype=torch.float64, device=self.device)

    @property
    def steps_per_epoch(self) -> int:
        """Batches that cover the training images once; the last may be smaller."""
        return math.ceil(len(self.data) / self.settings["batch_size"])

    def order(self) -> Tensor:
        """The epoch's permutation of the training images."""
        draw = rng.generator(self.settings["seed"], self.settings["name"], "order", self.epoch)
        return torch.from_numpy(draw.permutation(len(self.data))).to(self.device)

    def loss_and_gradients(
        self, stage: int | None, images: Tensor, labels: Tensor, index: Tensor, **numbers: Tensor
    ) -> tuple[Tensor, ...]:
        """The objective on a batch of uint8 images and its gradient for each parameter: what is one CUDA graph on a GPU."""
        settings = self.settings
        crop, epoch = numbers.pop("crop"), numbers.pop("epoch")
        images = augment(images, crop) if settings["augment"] == "crop_flip" else images
        x = (images.float() / self.data.peak).contiguous(memory_format=torch.channels_last)
        start = None
        if self.attacker is not None:
            start = attacks.random_start(
                rng.Draws(settings["seed"], settings["name"], "start"),
                index,
                epoch,
                x.shape[1:],
                settings["epsilon"],
            )
        batch = Batch(x, labels, self.data.classes, settings, numbers, start, self.attacker, stage)
        self.model.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            loss = OBJECTIVES[settings["name"]](self.model, batch)
        return loss.detach(), *torch.autograd.grad(loss, list(self.model.parameters()))

    def one_step(self, order: Tensor) -> None:
        """Step `self.step` of epoch `self.epoch`."""
        settings, size = self.settings, self.settings["batch_size"]
        data = self.data.take(order[self.step * size : (self.step + 1) * size])
        inputs = numbers(settings, data.index, self.epoch, self.step) | {
            "epoch": torch.full_like(data.index, self.epoch)
        }
        stage = None
        if settings["name"] == "manifold_mixup":
            stage = int(
                rng.generator(settings["seed"], "stage", self.epoch, self.step).integers(
                    len(self.model.stages)
                )
            )
        loss, *gradients = self.graph(
            stage, images=data.images, labels=data.labels, index=data.index, **inputs
        )
        for parameter, gradient in zip(self.model.parameters(), gradients, strict=True):
            parameter.grad = gradient
        progress = (self.epoch + self.step / self.steps_per_epoch) / settings["epochs"]
        for group in self.optimizer.param_groups:
            group["lr"] = rate(settings, progress)
        self.optimizer.step()
        self.total += loss.double() * len(
            data
        )  # stays on the device: a step does not wait for the one before
        self.step += 1

    def heldout(self, chunk: int, epsilon: float) -> dict:
        """Accuracy on the held-out images, clean and under PGD-10 (epsilon / 4 a step); on ATTACKED of them where training has no attack."""
        data, frozen = self.splits.heldout, inference.frozen(self.model)
        clean = _accuracy(frozen, data.pixels(), data.labels, chunk)
        data = data if self.settings["name"] in ADVERSARIAL else data.take(slice(ATTACKED))
        x = data.pixels()
        start = attacks.random_start(
            rng.Draws(self.settings["seed"], "held out"),
            data.index,
            0 * data.index,
            x.shape[1:],
            epsilon,
        )
        options = {"epsilon": epsilon, "step_size": epsilon / 4, "steps": [10]}
        attacker = inference.frozen(self.model, self.precision)
        examples = inference.chunked(
            lambda x, y, s: attacks.pgd(attacker, x, y, start=s, **options)[:, 0],
            chunk,
            x,
            data.labels,
            start,
        )
        return {
            "heldout_clean": clean,
            "heldout_pgd10": _accuracy(frozen, examples, data.labels, chunk),
            "attacked": len(data),
        }

    def save(self, path: Path) -> None:
        """Weights, momentum and position as one complete file: what `restore` goes on from."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        names = dict(self.model.named_parameters())
        for name, parameter in names.items():
            state = self.optimizer.state.get(parameter, {})
            if state.get("momentum_buffer") is not None:
                tensors[f"momentum.{name}"] = state["momentum_buffer"]
        position = {key: getattr(self, key) for key in ("epoch", "step", "seconds", "log")} | {
            "total": self.total.item()
        }
        files.write_tensors(path, tensors, position)

    def restore(self, path: Path) -> None:
        """Go on from what `save` wrote. Raises UserError where the file is damaged."""
        tensors, position = files.read_tensors(path)
        self.model.load_state_dict(
            {name[6:]: value for name, value in tensors.items() if name.startswith("model.")}
        )
        for name, parameter in self.model.named_parameters():
            if f"momentum.{name}" in tensors:
                buffer = tensors[f"momentum.{name}"].to(self.device)
                self.optimizer.state[parameter]["momentum_buffer"] = buffer.to(
                    memory_format=torch.preserve_format
                )
        self.total.fill_(position.pop("total"))
        for key, value in position.items():
            setattr(self, key, value)


def _accuracy(model: nn.Module, x: Tensor, y: Tensor, chunk: int) -> float:
    return (inference.probabilities(model, x, chunk).argmax(1) == y).float().mean().item()


def train(
    settings: dict,
    splits: Splits,
    state: Path,
    *,
    epsilon: float,
    precision: str,
    chunk: int,
    report: Callable[[dict], None] = lambda entry: None,
    tick: Callable[[int], None] = lambda count: None,
) -> tuple[dict[str, Tensor], list[dict]]:
    """Weights (the last epoch's, as the paper) and the log, one entry per epoch, of a recipe.

    `state`: where an unfinished training lies, saved every minute and removed by the caller when done; `epsilon`: of the attack on held-out
    images; `report` is called with each new entry.
    """
    trainer = Trainer(settings, splits, precision)
    if state.exists():
        trainer.restore(state)
        for entry in trainer.log:
            report(entry)
    saved = time.perf_counter()
    while trainer.epoch < settings["epochs"]:
        order, started = trainer.order(), time.perf_counter()
        while trainer.step < trainer.steps_per_epoch:
            trainer.one_step(order)
            tick(1)
            if time.perf_counter() - saved > STATE_SECONDS:
                trainer.seconds += time.perf_counter() - started
                started = saved = time.perf_counter()
                trainer.save(state)
        entry = {
            "epoch": trainer.epoch + 1,
            "loss": trainer.total.item() / len(trainer.data),
        } | trainer.heldout(chunk, epsilon)
        entry["seconds"] = round(trainer.seconds + time.perf_counter() - started, 2)
        trainer.log.append(entry)
        trainer.epoch, trainer.step, trainer.seconds = trainer.epoch + 1, 0, 0.0
        trainer.total.zero_()
        report(entry)
    return {name: value.detach() for name, value in trainer.model.state_dict().items()}, trainer.log
