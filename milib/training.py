"""One training loop for every objective, which resumes exactly wherever it was stopped.

All randomness is addressed by (seed, model, epoch, step or image).
"""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from milib import attacks, checks, inference, models, recipes, rng, training_state
from milib.cuda_graph import CudaGraph
from milib.data import Dataset, Splits, augment, check_crops, values_checked
from milib.divergence import Watch
from milib.errors import UserError
from milib.objectives import OBJECTIVES, Batch, numbers

VERSION = 1
"""Part of every recipe: raised by hand when the same recipe would give other weights."""
STATE_SECONDS = 60
"""Seconds between two savings of an unfinished training."""
ATTACKED = 200
"""Held-out images attacked after an epoch of a training without attacks. PGD-10 on all of them
would make such a training a tenth longer."""
MODELS, ADVERSARIAL = recipes.MODELS, recipes.ADVERSARIAL
"""Every model that can be trained, by its name; those whose training attacks the net."""


class Trainer:
    """A model in training: weights, momentum, and where it stands.

    - settings: the recipe: see `train`.
    - splits: the data; the net is made on their device.
    - precision: "fp32" or "bf16" (autocast; weights stay fp32).
    """

    def __init__(self, settings: dict, splits: Splits, precision: str):
        self.settings, self.splits, self.precision = settings, splits, precision
        self.data: Dataset = splits.train
        self.device = self.data.images.device
        key = rng.key(settings["seed"], "init", settings["name"])
        channels = self.data.images.shape[1]
        net = models.build(settings["model"], self.data.classes, channels, key)
        self.model = models.channels_last(net.to(self.device))
        options = {key: settings[key] for key in ("momentum", "nesterov", "weight_decay")}
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=settings["lr"], **options)
        self.attacker: nn.Module | None = None
        if settings["name"] in ADVERSARIAL:
            self.attacker = inference.frozen(self.model, precision)
        self.graph = CudaGraph(self.loss_and_gradients, list(self.model.buffers()))
        self.epoch, self.step, self.seconds = 0, 0, 0.0
        self.log: list[dict] = []
        self.total = torch.zeros((), dtype=torch.float64, device=self.device)
        self.watch = Watch(self.model, settings["name"], settings["lr"])

    @property
    def steps_per_epoch(self) -> int:
        """Batches that cover the training images once; the last may be smaller."""
        return math.ceil(len(self.data) / self.settings["batch_size"])

    @property
    def taken(self) -> int:
        """Steps taken so far."""
        return self.epoch * self.steps_per_epoch + self.step

    @property
    def last(self) -> int:
        """Steps after which training ends."""
        return recipes.steps(self.settings, self.steps_per_epoch)

    def order(self) -> Tensor:
        """The epoch's permutation of the training images."""
        draw = rng.generator(self.settings["seed"], self.settings["name"], "order", self.epoch)
        return torch.from_numpy(draw.permutation(len(self.data))).to(self.device)

    def loss_and_gradients(
        self, stage: int | None, images: Tensor, labels: Tensor, index: Tensor, **drawn: Tensor
    ) -> tuple[Tensor, ...]:
        """The objective on a batch and its gradient for each parameter: one CUDA graph on a GPU.

        - stage: where manifold mixup mixes; None elsewhere.
        - images: uint8 [B, C, H, W].
        - labels, index: of the images [B].
        - drawn: the step's random numbers, and `epoch` [B].
        """
        settings = self.settings
        crop, epoch = drawn.pop("crop"), drawn.pop("epoch")
        if settings["augment"] == "crop_flip":
            images = augment(images, crop)
        x = (images.float() / self.data.peak).contiguous(memory_format=torch.channels_last)
        start = None
        if self.attacker is not None:
            draws = rng.Draws(settings["seed"], settings["name"], "start")
            start = attacks.random_start(draws, index, epoch, x.shape[1:], settings["epsilon"])
        batch = Batch(x, labels, self.data.classes, settings, drawn, start, self.attacker, stage)
        self.model.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            loss = OBJECTIVES[settings["name"]].loss(self.model, batch)
        return loss.detach(), *torch.autograd.grad(loss, list(self.model.parameters()))

    def one_step(self, order: Tensor) -> None:
        """Take step `self.step` of epoch `self.epoch`.

        - order: the epoch's permutation, as `order` gives it.

        Raises UserError where loss or weights are not finite: on a CPU at once, on a GPU, which a
        look would stop, when `watch.stop` is called next.
        """
        settings, size = self.settings, self.settings["batch_size"]
        data = self.data.take(order[self.step * size : (self.step + 1) * size])
        inputs = {"images": data.images, "labels": data.labels, "index": data.index}
        inputs |= numbers(settings, data.index, self.epoch, self.step)
        inputs |= {"epoch": torch.full_like(data.index, self.epoch)}
        loss, *gradients = self.graph(self._stage(), **inputs)
        for parameter, gradient in zip(self.model.parameters(), gradients, strict=True):
            parameter.grad = gradient
        progress = (self.epoch + self.step / self.steps_per_epoch) / settings["epochs"]
        for group in self.optimizer.param_groups:
            group["lr"] = recipes.rate(settings, progress)
        self.optimizer.step()
        # the sum stays on the device: a step does not wait for the one before
        self.total += loss.double() * len(data)
        self.step += 1
        self.watch.note(loss, self.step)
        if self.device.type == "cpu":
            self.watch.stop(self.epoch + 1)

    def _stage(self) -> int | None:
        """The stage that manifold mixup mixes at this step."""
        if self.settings["name"] != "manifold_mixup":
            return None
        draw = rng.generator(self.settings["seed"], "stage", self.epoch, self.step)
        return int(draw.integers(len(self.model.stages)))

    def heldout(self, chunk: int, epsilon: float) -> dict:
        """Accuracy on the held-out images, clean and under PGD-10, and how many were attacked.

        - chunk: images of a forward pass.
        - epsilon: radius of the ball, on pixels in [0, 1]; a step is a quarter of it.

        Where training has no attack, the first ATTACKED images are attacked, else all. Raises
        UserError where a logit is not finite.
        """
        data, scorer = self.splits.heldout, inference.frozen(self.model)
        clean = self._accuracy(scorer, data.pixels(), data.labels, chunk)
        if self.settings["name"] not in ADVERSARIAL:
            data = data.take(slice(ATTACKED))
        chunk = min(chunk, len(data))  # no padding: of a small training it would take a quarter
        x, attacker = data.pixels(), inference.frozen(self.model, self.precision)
        draws, first = rng.Draws(self.settings["seed"], "held out"), torch.zeros_like(data.index)
        start = attacks.random_start(draws, data.index, first, x.shape[1:], epsilon)

        def craft(x: Tensor, y: Tensor, begin: Tensor) -> Tensor:
            step_size, steps = epsilon / 4, [10]
            return attacks.unchecked_pgd(
                attacker, x, y, epsilon=epsilon, step_size=step_size, steps=steps, start=begin
            )[:, 0]

        examples = inference.chunked(craft, chunk, x, data.labels, start)
        robust = self._accuracy(scorer, examples, data.labels, chunk)
        return {"heldout_clean": clean, "heldout_pgd10": robust, "attacked": len(data)}

    def _accuracy(self, scorer: nn.Module, x: Tensor, y: Tensor, chunk: int) -> float:
        with torch.no_grad():
            logits = inference.chunked(scorer, chunk, x)
        self.watch.check(logits, self.epoch + 1)
        return (logits.softmax(1).argmax(1) == y).float().mean().item()

    def _identity(self) -> dict:
        """What the file of this training, unfinished, is the state of."""
        return {
            "recipe": recipes.followed(self.settings),
            "data": self.splits.fingerprint,
            "precision": self.precision,
            "device": self.device.type,
            "version": VERSION,
        }

    def save(self, path: Path) -> None:
        """Write weights, momentum, position and what this training is as one complete file.

        - path: where; `restore` goes on from it.

        Raises UserError where the training has diverged, or the file cannot be written.
        """
        self.watch.stop(self.epoch + 1)
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            momentum = self.optimizer.state.get(parameter, {}).get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum.{name}"] = momentum
        position = {"epoch": self.epoch, "step": self.step, "seconds": self.seconds}
        position |= {"log": self.log, "total": self.total.item()}
        training_state.write(path, self._identity(), tensors, position)

    def restore(self, path: Path) -> None:
        """Go on from what `save` wrote.

        - path: the file.

        Raises UserError where the file is damaged, holds a training of another recipe, other data,
        precision, device type or VERSION, or does not hold together.
        """
        wanted = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        if self.settings["momentum"]:
            for name, parameter in self.model.named_parameters():
                wanted[f"momentum.{name}"] = parameter
        steps = self.steps_per_epoch
        tensors, position = training_state.read(path, self._identity(), steps, wanted)
        weights = {name: tensors[f"model.{name}"] for name in self.model.state_dict()}
        self.model.load_state_dict(weights)
        for name, parameter in self.model.named_parameters():
            if f"momentum.{name}" in tensors:
                momentum = tensors[f"momentum.{name}"].to(self.device)
                momentum = momentum.to(memory_format=torch.preserve_format)
                self.optimizer.state[parameter]["momentum_buffer"] = momentum
        self.epoch, self.step = position["epoch"], position["step"]
        self.seconds, self.log = position["seconds"], position["log"]
        self.total.fill_(position["total"])

    def beyond(self) -> str:
        """How far past its stop this training stands, and what to do; empty where it does not."""
        if self.taken <= self.last:
            return ""
        at = math.ceil(1e4 * self.taken / self.steps_per_epoch) / 1e4
        return f"is at epoch {at}, past where training stops: stop it later, or delete this"

    def end_epoch(self, entry: dict) -> None:
        """Keep the epoch's entry in the log and stand at the next epoch's first step.

        - entry: what `train` reports of the epoch.
        """
        self.log.append(entry)
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0
        self.total.zero_()


def _nothing(_news: dict | int) -> None:
    """What is called where nobody wants to be told."""


def _go_on(trainer: Trainer, state: Path, epsilon: float, report: Callable) -> None:
    """Go on from a state, and report its log anew. UserError where it is not of this training."""
    trainer.restore(state)
    for entry in trainer.log:
        if entry.get("heldout_epsilon", epsilon) != epsilon:
            found = entry["heldout_epsilon"]
            raise UserError(f"{state} measured with epsilon {found}, not {epsilon}: delete it")
        report(entry)
    if why := trainer.beyond():
        raise UserError(f"{state} {why}")


@torch.inference_mode(False)  # whatever the caller is in: gradients are recorded,
@torch.autocast("cpu", enabled=False)  # and types are those of `precision`
@torch.autocast("cuda", enabled=False)
def train(
    recipe: Mapping,
    splits: Splits,
    state: str | Path | None = None,
    *,
    epsilon: float,
    precision: str = "fp32",
    chunk: int = 256,
    report: Callable[[dict], None] = _nothing,
    tick: Callable[[int], None] = _nothing,
) -> tuple[dict[str, Tensor], list[dict]]:
    """Train a net: weights after the last step, by name, and the log, one entry per whole epoch.

    - recipe: what decides the weights, a plain dict; see below.
    - splits: the data, on the device to train on. Every epoch is scored on `heldout`; `test` is
      not read.
    - state: the file of the unfinished training, saved every minute and where it is stopped. Gone
      on from where it exists and is of this recipe (but for stop_epoch), data, precision, device
      type and VERSION. The caller removes it. By default nothing is saved.
    - epsilon: radius of PGD-10 on held-out images, on pixels in [0, 1].
    - precision: "fp32" (default) or "bf16" (autocast).
    - chunk: held-out images of a forward pass, by default 256.
    - report: called with each new entry of the log: epoch, loss, heldout_clean, heldout_pgd10
      (accuracies in [0, 1]), attacked (how many images), heldout_epsilon, seconds.
    - tick: called with the number of steps just taken.

    The recipe's keys:

    - name: the objective, one of MODELS; it also addresses the random numbers.
    - model: the net, one of `models.ARCHITECTURES`: small (8x8 images), compact, resnet50 (32x32).
    - seed: any integer of 64 bits.
    - epochs: passes over the training images.
    - stop_epoch: may be absent. Training ends early, after so many epochs (46.8: after four fifths
      of the steps of the 47th); learning rates stay those of all `epochs`. Early stopping: Rice et
      al., ICML 2020.
    - batch_size: images of a step, at least 2.
    - lr: the highest learning rate, above 0 and at most 100.
    - schedule: of the learning rate, "step" or "onecycle"; see `recipes.rate`.
    - momentum, nesterov, weight_decay: of SGD; a number below 1, a bool (True needs momentum), a
      number in [0, 1].
    - augment: "none" or "crop_flip" (for 32x32 images; they need 8x8 at least).
    - alpha: of mixup's Beta(alpha, alpha), for mixup, interpolated_at, manifold_mixup, long_mixup.
    - ratio: mixup's fixed lambda in [0, 1], for matched_mixup.
    - epsilon, train_step_size, train_steps: of PGD inside training, for at and interpolated_at; the
      radius and the step on pixels in [0, 1], and how many steps.
    - `recipes.NOTES`: keys that training does not read, allowed so that a recipe can say what it
      was for.

    Raises UserError for a recipe that cannot be followed, other arguments that are none of these,
    a state that is damaged, of another training or beyond stop_epoch, and as soon as loss, weights
    or held-out logits are not finite. Nothing of a diverged training is saved.
    """
    recipe = recipes.checked(recipe)
    checks.instance("splits", splits, Splits)
    epsilon, chunk = checks.radius("epsilon", epsilon), checks.count("chunk", chunk)
    checks.choice("precision", precision, inference.PRECISIONS)
    for name, told in (("report", report), ("tick", tick)):
        if not callable(told):
            raise UserError(f"{name} is {checks.shown(told)}: a function of one argument")
    state = training_state.location(state)
    for name in ("train", "heldout"):
        values_checked(f"splits.{name}", getattr(splits, name))
    if recipe["augment"] == "crop_flip":
        check_crops("recipe: augment is crop_flip", splits.train)
    trainer = Trainer(recipe, splits, precision)
    recipes.check_net(recipe, trainer.model, splits.train)
    if state is not None and state.exists():
        _go_on(trainer, state, epsilon, report)
    saved = time.perf_counter()
    while trainer.epoch * trainer.steps_per_epoch < trainer.last:
        order, started = trainer.order(), time.perf_counter()
        while trainer.step < trainer.steps_per_epoch and trainer.taken < trainer.last:
            trainer.one_step(order)
            tick(1)
            if state is not None and time.perf_counter() - saved > STATE_SECONDS:
                trainer.seconds += time.perf_counter() - started
                started = saved = time.perf_counter()
                trainer.save(state)
        trainer.watch.stop(trainer.epoch + 1)
        if trainer.step < trainer.steps_per_epoch:  # this epoch has no entry in the log
            trainer.seconds += time.perf_counter() - started
            break
        entry = {"epoch": trainer.epoch + 1, "loss": trainer.total.item() / len(trainer.data)}
        entry |= trainer.heldout(chunk, epsilon) | {"heldout_epsilon": epsilon}
        entry["seconds"] = round(trainer.seconds + time.perf_counter() - started, 2)
        trainer.end_epoch(entry)
        report(entry)
    if state is not None and trainer.epoch < recipe["epochs"]:
        trainer.save(state)  # a later stop goes on from here
    return {name: value.detach() for name, value in trainer.model.state_dict().items()}, trainer.log
