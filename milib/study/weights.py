"""A run's models: the recipe of each, found where its weights lie, or trained, or resumed."""

import contextlib
import dataclasses
import math
import time
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from milib import files, inference, models, recipes, training
from milib.data import Splits
from milib.errors import UserError
from milib.objectives import ATTACK, OBJECTIVES
from milib.study import checkpoints, estimate, extension, locks, progress
from milib.study.device import check_precision, resolve_device, resolve_precision
from milib.study.identity import check_training
from milib.study.made import provenance
from milib.study.params import Params
from milib.study.paths import reference_root
from milib.study.store import Store

MONTH = 30 * progress.DAY
"""Seconds from which a training on a CPU is not proposed."""


def recipe(params: Params, name: str) -> dict:
    """What decides the weights of a model, and so identifies its checkpoint.

    - params: the run.
    - name: a name of `training.MODELS`.

    `version` is that of the training code, see `identity.check_training`. `extension` is there for
    a data set or a net of the run's own: what it means.
    """
    keep = (
        "data", "classes", "n_train", "n_heldout", "model", "seed", "batch_size",
        "schedule", "momentum", "nesterov", "weight_decay", "augment",
    )  # fmt: skip
    settings = {key: getattr(params, key) for key in keep}
    settings |= {"version": training.VERSION, "name": name}
    settings |= {"epochs": params.epochs_of(name), "lr": params.lr}
    if name in training.ADVERSARIAL:
        settings |= {key: getattr(params, key) for key in ATTACK}
    if name == "interpolated_at":
        settings["lr"] = params.lr_interpolated
    if name == "matched_mixup":
        settings["ratio"] = params.row("mixup", "mi_ol")["ratio"]
    elif "alpha" in OBJECTIVES[name].keys:
        settings["alpha"] = params.alpha
    if params.stop_epochs.get(name, settings["epochs"]) < settings["epochs"]:
        settings[recipes.STOP] = params.stop_epochs[name]
    return settings | extension.used(settings)


def line(entry: dict, epochs: int) -> str:
    """One epoch of a training log, as notebooks print it.

    - entry: of the log.
    - epochs: of the whole training.
    """
    clean = f"held-out clean {100 * entry['heldout_clean']:.1f} %"
    text = f"epoch {entry['epoch']:>3}/{epochs}  loss {entry['loss']:.4f}  {clean}"
    if "heldout_pgd10" in entry:
        text += f"  PGD-10 {100 * entry['heldout_pgd10']:.1f} %"
    return text


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained model.

    - name: a name of `training.MODELS`.
    - net: the net itself, in eval mode.
    - scorer: its frozen copy, in the precision of `device.scoring`: what records are scored with.
    - precision: of attacks.
    - weights: the fingerprint of its weights.
    - log: one entry per epoch.
    - settings: its recipe.
    """

    name: str
    net: nn.Module
    scorer: nn.Module
    precision: str
    weights: str
    log: list[dict]
    settings: dict

    @cached_property
    def attacker(self) -> nn.Module:
        """The net's frozen copy in `precision`: what attacks go through.

        Raises UserError where the machine has no bf16 instructions for it.
        """
        check_precision(self.precision, next(self.net.parameters()).device)
        return inference.frozen(self.net, self.precision)

    def log_lines(self) -> str:
        """The training log, at most about ten lines of it."""
        epochs = self.settings["epochs"]
        every = max(1, epochs // 10)
        shown = [entry for entry in self.log if entry["epoch"] % every == 0]
        if self.log[-1]["epoch"] % every:
            shown.append(self.log[-1])
        return "\n".join(line(entry, epochs) for entry in shown)


class TrainedModels:
    """The models of a run, each found, trained or resumed once.

    - params: the run.
    - splits: its data.
    - store: its files.

    Raises UserError where the training code was changed: no weights are used then.
    """

    def __init__(self, params: Params, splits: Splits, store: Store):
        check_training()
        self.params, self.splits, self.store = params, splits, store
        self.device = resolve_device(params)
        self.precision = resolve_precision(params, self.device)
        self.loaded: dict[str, Model] = {}
        self._estimates: dict[str, float] = {}
        self._pass_seconds: dict[str, float] = {}

    def require(self, *names: str) -> None:
        """Load or train models, saying first what is missing and how long it takes.

        - names: of `training.MODELS`.

        Raises UserError where a CPU would train for more than `max_hours` and `epochs` is above 1.
        """
        missing = [name for name in names if self.find(name) is None]
        if missing:
            if self.device.type == "cpu" and self.params.epochs > 1:
                self._check_time(missing)
            told = sum(map(self.estimate, missing)) if len(missing) > 1 else 0  # one tells itself
            what = f"training {', '.join(missing)}"
            with progress.stage(what, len(missing), told, "models"):
                for name in missing:
                    self.get(name)
                    progress.tick(1, "models")
        for name in names:
            self.get(name)

    def get(self, name: str) -> Model:
        """A model, loaded from its checkpoint, or trained where there is none.

        - name: of `training.MODELS`.
        """
        if name not in self.loaded:
            self.loaded[name] = self._load(name)
        return self.loaded[name]

    def find(self, name: str) -> Path | None:
        """Where a model's weights lie; None where they do not exist yet.

        - name: of `training.MODELS`.
        """
        settings = recipe(self.params, name)
        found = self.store.find_checkpoint(name, settings)
        lent = self._lent / self.store.checkpoint_path(name, settings).name
        return lent if found is None and lent.exists() else found

    @property
    def _lent(self) -> Path:
        """The shipped weights of `weights_of`; without it those of the run itself."""
        lender = self.params.weights_of
        folder = reference_root() / lender if lender else self.store.reference
        return folder / "checkpoints"

    def trained_with(self) -> dict[str, str]:
        """What a training here depends on besides its recipe: data, precision, device type."""
        trained = {"data": self.splits.fingerprint, "precision": self.precision}
        return trained | {"device": self.device.type}

    def read(self, name: str, path: Path) -> tuple[dict[str, torch.Tensor], dict]:
        """The weights of a model and the header of their file.

        - name: the model.
        - path: its checkpoint. Only one of a curated run may have been trained in another
          precision or on another type of device.

        Raises UserError where the file is damaged, or holds something else than was asked for.
        """
        trained = self.trained_with()
        if path.parent in (self.store.reference / "checkpoints", self._lent):
            trained = {"data": trained["data"]}
        return checkpoints.read(path, recipe(self.params, name), trained, self._channels)

    @property
    def _channels(self) -> int:
        return self.splits.train.images.shape[1]

    def state_path(self, name: str) -> Path:
        """Where an unfinished training lies.

        - name: of `training.MODELS`.
        """
        whole = recipe(self.params, name)
        whole.pop(recipes.STOP, None)  # a stop may be set, or moved, while training is under way
        return self.store.folder / "state" / self.store.checkpoint_path(name, whole).name

    def estimate(self, name: str) -> float:
        """Seconds that training a model takes here, less what was done already.

        - name: of `training.MODELS`.

        Raises UserError where the machine has no bf16 instructions for it.
        """
        check_precision(self.precision, self.device)
        if name not in self._estimates:
            settings = recipe(self.params, name)
            whole = estimate.timed_seconds(settings, self.splits, self.precision)
            self._estimates[name] = whole * self._left(name)
        return self._estimates[name]

    def pass_seconds(self, name: str) -> float:
        """Seconds of one image's forward pass here: the best of three chunks of 1,024 at most.

        - name: of `training.MODELS`.
        """
        if name not in self._pass_seconds:
            chunk, model, taken = min(self.params.chunk, 1024), self.get(name).scorer, []
            x = self.splits.test.pixels(slice(1)).expand(chunk, -1, -1, -1)
            with progress.stage("timing", 0, 0, "chunks"):
                for _ in range(3):
                    started = time.perf_counter()
                    inference.probabilities(model, x, chunk).cpu()
                    taken.append(time.perf_counter() - started)
            self._pass_seconds[name] = min(taken) / chunk
        return self._pass_seconds[name]

    def _steps(self, name: str) -> tuple[int, int]:
        """The training steps of a model that were taken already, and all of them.

        Raises UserError where what was left is damaged or of another training.
        """
        settings, state = recipe(self.params, name), self.state_path(name)
        parts = self.store.reference / "state" / state.name
        shipped = b"" if state.exists() else files.read_parts(parts)
        if shipped:  # go on where another machine stopped
            files.write_atomic(state, shipped)
        if not state.exists():
            per_epoch = math.ceil(len(self.splits.train) / settings["batch_size"])
            return 0, recipes.steps(settings, per_epoch)
        trainer = training.Trainer(settings, self.splits, self.precision)
        try:
            trainer.restore(state)
        except UserError as error:
            if not shipped:
                raise
            state.unlink()
            raise UserError(f"delete {parts}.*, or copy all again: {error}") from None
        if why := trainer.beyond():
            if shipped:
                state.unlink()
            raise UserError(f"{f'{parts}.*' if shipped else state} {why}")
        return trainer.taken, trainer.last

    def _left(self, name: str) -> float:
        """The share of a training that is still to be done."""
        done, steps = self._steps(name)
        return 1 - done / steps

    def _check_time(self, missing: list[str]) -> None:
        """Refuse what takes longer than `max_hours`; steps are timed where that is not clear."""
        limit, settings = 3600 * self.params.max_hours, recipe(self.params, missing[0])
        image = estimate.image_seconds(settings["model"], self.splits)
        times = {}
        for name in missing:
            whole = estimate.rough_seconds(recipe(self.params, name), self.splits, image)
            times[name] = whole * self._left(name)
        if sum(times.values()) <= estimate.CLEARLY * limit:
            times = {name: self.estimate(name) for name in missing}
        if sum(times.values()) > limit:
            raise UserError(self._too_long(times))

    def _too_long(self, times: dict[str, float]) -> str:
        run, seconds = self.params.run, sum(times.values())
        text = (
            f"run '{run}': no weights of {', '.join(times)} in outputs/{run} or "
            f"outputs/reference/{run}; training on this CPU takes {progress.about(seconds)}: "
            "run it on a machine with CUDA"
        )
        if seconds > MONTH:
            return text
        lengths = {name: recipes.length(recipe(self.params, name)) for name in times}
        one_epoch = sum(times[name] / lengths[name] for name in times)
        return (
            f"{text}, or here with `-p max_hours {math.ceil(seconds / 3600) + 1}` "
            f"(or `-p epochs 1` to try: {progress.about(one_epoch)})"
        )

    def _load(self, name: str) -> Model:
        settings = recipe(self.params, name)
        path, trained = self.find(name), False
        if path is None:
            with locks.lock(self.store.folder / "locks" / name):
                path = self.find(name)  # who held the lock may have trained it
                trained = path is None
                path = path or self._train(name)
        if not trained:
            self.store.note("checkpoint", path.name, 0.0, True)
        if recipes.STOP not in settings:  # a killed process may have left it
            with contextlib.suppress(OSError):
                self.state_path(name).unlink(missing_ok=True)
        weights, header = self.read(name, path)
        net = models.build(settings["model"], settings["classes"], self._channels, 0)
        wanted = net.state_dict()
        net.load_state_dict({key: value.to(wanted[key].dtype) for key, value in weights.items()})
        net = net.to(self.device).eval()
        return Model(
            name=name,
            net=net,
            scorer=inference.frozen(net),
            precision=self.precision,
            weights=files.tensors_digest(weights),
            log=header["log"],
            settings=settings,
        )

    def _train(self, name: str) -> Path:
        settings = recipe(self.params, name)
        path, state = self.store.checkpoint_path(name, settings), self.state_path(name)
        seconds, (done, steps) = self.estimate(name), self._steps(name)

        def report(entry: dict) -> None:
            if seconds > progress.LONG:
                progress.live(f"{name}: {line(entry, settings['epochs'])}")

        options = {"epsilon": self.params.epsilon, "precision": self.precision}
        options |= {"chunk": self.params.chunk, "report": report}
        options |= {"tick": lambda count: progress.tick(count, "steps")}
        stage = progress.stage(f"training {name}", steps, seconds, "steps", done)
        with torch.random.fork_rng(devices=[]), stage:
            weights, log = training.train(settings, self.splits, state, **options)
        more = {"heldout_epsilon": self.params.epsilon, "made": provenance(self.device)}
        checkpoints.write(path, weights, settings, self.trained_with(), log, **more)
        self.store.note("checkpoint", path.name, sum(e["seconds"] for e in log), False)
        return path
