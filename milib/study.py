"""A run in a notebook: its data, models, attacks and defences, each made once and kept by the store."""

import dataclasses
import json
import math
import time
from collections.abc import Callable
from functools import cached_property, lru_cache
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from milib import artifacts, attacks, data, defenses, machine, models, params, progress, rng, training
from milib.errors import StudyError
from milib.progress import about

USES = {
    "attack": ("epsilon", "step_size", "attack_label"),
    "draws": ("draws", "pool", "augment", "n_train", "n_heldout"),
}
"""The parameters behind an attack's examples, and behind a defence's draws (with what decides the sample pool)."""


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained model: the net; frozen, `scorer` in that of machine.scoring, `attacker` in the run's precision; weights' fingerprint, training log."""

    name: str
    net: nn.Module
    scorer: nn.Module
    attacker: nn.Module
    weights: str
    log: list[dict]
    settings: dict


@dataclasses.dataclass(frozen=True)
class Points:
    """Test points: pixels x [n, C, H, W], labels y [n], their indices in the data set [n]."""

    x: Tensor
    y: Tensor
    index: Tensor


def open_study(notebook: str) -> "Study":
    """The study as the calling notebook's parameters describe it. notebook: its file name without the ending."""
    pd.set_option("display.max_colwidth", None, "display.max_rows", 200, "display.width", 200, "display.max_columns", 30)
    return Study(params.from_notebook(), notebook)


class Study:
    """What a notebook works with. Everything slow goes through `store`, and so is computed once."""

    def __init__(self, run: params.Params, notebook: str):
        self.params, self.notebook = run, notebook
        self.device = machine.resolve_device(run)
        self.precision = machine.resolve_precision(run, self.device)
        machine.prepare(run, self.device)
        reference = params.project_root() / "outputs" / "reference" / run.run
        self.store = artifacts.Store(params.outputs_root() / run.run, reference, notebook, self.device)
        self.model = lru_cache(maxsize=None)(self._model)
        self.base = lru_cache(maxsize=None)(self._base)
        self.estimate = lru_cache(maxsize=None)(self._estimate)
        self.pass_seconds = lru_cache(maxsize=None)(self._pass_seconds)
        self._batches: dict[tuple, Tensor] = {}
        self.trained: dict[str, dict] = {}

    def __str__(self) -> str:
        shape = "x".join(map(str, self.splits.test.images.shape[1:]))
        sizes = f"{len(self.splits.train)} training, {len(self.splits.heldout)} held-out and {len(self.splits.test)} test images"
        net = models.build(self.params.model, self.params.classes, self.splits.test.images.shape[1], 0)
        cost = models.flops(net, tuple(self.splits.test.images.shape[1:]))
        count = sum(parameter.numel() for parameter in net.parameters())
        return (
            f"run '{self.params.run}': {self.params.data} ({shape}, {self.params.classes} classes), {sizes}\n"
            f"net '{self.params.model}': {count:,} parameters, {cost / 1e6:.2f} MFLOP a forward; records scored in {machine.scoring(self.params, self.device)}"
        )

    def varied(self, **changes) -> "Study":
        """The study with parameters changed that decide neither data nor models: it shares both, and its records lie beside this one's."""
        other = Study(dataclasses.replace(self.params, **changes), self.notebook)
        for shared in ("store", "splits", "model", "trained", "pass_seconds"):
            setattr(other, shared, getattr(self, shared))
        return other

    @cached_property
    def splits(self) -> data.Splits:
        """The run's data on its device. Raises StudyError where files, classes or sizes do not fit."""
        run = self.params
        keys = ("classes", "n_train", "n_heldout")
        try:
            found = data.load(run.data, **{key: getattr(run, key) for key in keys}, root=params.data_root(run), device=self.device)
        except StudyError as error:
            raise StudyError(f"run '{run.run}': {error}") from None
        if run.n_test > len(found.test):
            raise StudyError(f"run '{run.run}': n_test is {run.n_test}: it must lie between 2 and {len(found.test)} on {run.data}")
        return found

    @cached_property
    def pool(self) -> data.SamplePool:
        """p_s: the training images, or "as published" the test images, cropped and flipped where training does so."""
        published = self.params.pool == "test"
        return data.SamplePool(self.splits.test if published else self.splits.train, published and self.params.augment == "crop_flip")

    def points(self, count: int, split: str = "test") -> Points:
        """The first `count` images of a split (the data set's own order; a fixed permutation on digits)."""
        chosen = getattr(self.splits, split).take(slice(count))
        return Points(chosen.pixels(), chosen.labels, chosen.index)

    # Models

    @property
    def table_models(self) -> list[str]:
        """The models of the run's table, in its order."""
        return list(dict.fromkeys(row["model"] for row in self.params.rows))

    def require(self, *names: str) -> None:
        """Load or train the models, saying first what is missing and how long it takes.

        Raises StudyError where a CPU would train for more than `max_hours` and `epochs` is above 1.
        """
        recipes = {name: training.recipe(self.params, name) for name in names}
        missing = [name for name, recipe in recipes.items() if self.store.find_checkpoint(name, recipe) is None]
        if missing:
            seconds = sum(self.estimate(name) for name in missing)
            if self.device.type == "cpu" and self.params.epochs > 1 and seconds > 3600 * self.params.max_hours:
                raise StudyError(self._too_long(missing, seconds))
            with progress.stage(f"training {', '.join(missing)}", len(missing), seconds if len(missing) > 1 else 0, "models"):
                for name in missing:
                    self.model(name)
                    progress.tick(1, "models")
        for name in names:
            self.model(name)

    def _estimate(self, name: str) -> float:
        """Seconds that training `name` takes here, less what was done already."""
        whole = training.estimate_seconds(training.recipe(self.params, name), self.splits, self.precision)
        done, steps = self._steps(name)
        return whole * (1 - done / steps)

    def _steps(self, name: str) -> tuple[int, int]:
        """The training steps of `name` that were taken already, and all of them."""
        recipe, state = training.recipe(self.params, name), self.state_path(name)
        shipped = artifacts.read_parts(self.store.reference / "state" / state.name)
        if shipped and not state.exists():  # go on where another machine stopped
            artifacts.write_atomic(state, shipped)
        each = math.ceil(len(self.splits.train) / recipe["batch_size"])
        position = artifacts.read_tensors(state)[1] if state.exists() else {"epoch": 0, "step": 0}
        return position["epoch"] * each + position["step"], recipe["epochs"] * each

    def _too_long(self, missing: list[str], seconds: float) -> str:
        run = self.params.run
        one = sum(self.estimate(name) / training.recipe(self.params, name)["epochs"] for name in missing)
        line = f"papermill notebooks/{self.notebook}.ipynb out.ipynb -f params/{run}.yaml"
        return (
            f"run '{run}': no weights of {', '.join(missing)} in outputs/{run} or outputs/reference/{run}; training on this CPU takes {about(seconds)}: "
            f"run it on a machine with CUDA, or here with `{line} -p max_hours {math.ceil(seconds / 3600) + 1}` (or `-p epochs 1` to try: {about(one)})"
        )

    def _model(self, name: str) -> Model:
        recipe = training.recipe(self.params, name)
        with artifacts.lock(self.store.folder / "locks" / name):
            path = self.store.find_checkpoint(name, recipe)
            if path is None:
                path = self._train(name, recipe)
            else:
                self.store.note("checkpoint", path.name, 0.0, True)
        weights, about_them = artifacts.read_tensors(path)
        net = models.build(recipe["model"], recipe["classes"], self.splits.train.images.shape[1], 0)
        net.load_state_dict({key: value.to(net.state_dict()[key].dtype) for key, value in weights.items()})
        net = net.to(self.device).eval()
        scorer = models.frozen(net)
        attacker = models.frozen(net, self.precision)
        self.trained[name] = recipe
        return Model(name, net, scorer, attacker, artifacts.tensors_digest(weights), about_them["log"], recipe)

    def state_path(self, name: str) -> Path:
        """Where an unfinished training of `name` lies."""
        path = self.store.checkpoint_path(name, training.recipe(self.params, name))
        return self.store.folder / "state" / path.name

    def _train(self, name: str, recipe: dict) -> Path:
        path = self.store.checkpoint_path(name, recipe)
        state = self.state_path(name)
        seconds, (done, steps) = self.estimate(name), self._steps(name)

        def report(entry: dict) -> None:
            if seconds > progress.LONG:
                progress.live(f"{name}: {training.line(entry, recipe['epochs'])}")

        with torch.random.fork_rng(devices=[]), progress.stage(f"training {name}", steps, seconds, "steps", done):
            options = {"epsilon": self.params.epsilon, "precision": self.precision, "chunk": self.params.chunk, "report": report}
            weights, log = training.train(recipe, self.splits, state, **options)
        attack = {"heldout_epsilon": self.params.epsilon}
        lines = [recipe | attack | {"precision": self.precision, "made": artifacts.provenance(self.device)}, *log]
        artifacts.write_atomic(path.with_suffix(".jsonl"), "".join(json.dumps(entry) + "\n" for entry in lines).encode())
        artifacts.write_tensors(path, weights, {"recipe": recipe, "log": [{k: v for k, v in entry.items() if k != "seconds"} for entry in log]})
        state.unlink(missing_ok=True)
        self.store.note("checkpoint", path.name, sum(entry["seconds"] for entry in log), False)
        return path

    def training_log(self, name: str) -> str:
        """The stored log of a model, at most about ten lines of it."""
        model, epochs = self.model(name), self.model(name).settings["epochs"]
        every = max(1, epochs // 10)
        return "\n".join(training.line(entry, epochs) for entry in model.log if entry["epoch"] % every == 0 or entry["epoch"] == epochs)

    # Attacks

    def examples(self, name: str, mode: str, count: int, steps: tuple[int, ...], epsilon: float | None = None) -> dict[int, Tensor]:
        """Oblivious PGD examples [count, C, H, W] of model `name` after each number of steps. mode: untargeted or targeted."""
        model, run = self.model(name), self.params
        epsilon = run.epsilon if epsilon is None else epsilon
        identity = {"weights": model.weights, "mode": mode, "count": count, "steps": steps, "epsilon": epsilon, "step_size": run.step_size}
        identity |= {"seed": run.seed, "label": run.attack_label, "data": run.data, "precision": self.precision, "device": self.device.type}

        def craft() -> dict[str, Tensor]:
            points = self.points(count)
            draws = rng.Draws(run.seed, "attack", mode)
            start = attacks.random_start(draws, points.index, torch.ones_like(points.index), points.x.shape[1:], epsilon)
            label = points.y
            if mode == "targeted":
                label = attacks.wrong_class(label, draws, points.index, run.classes)
            elif run.attack_label == "prediction":
                label = models.probabilities(model.scorer, points.x, run.chunk).argmax(1)
            options = {"epsilon": epsilon, "step_size": run.step_size, "steps": steps, "targeted": mode == "targeted"}
            seconds = 2 * max(steps) * count * self.pass_seconds(name)  # forward and backward
            with progress.stage(f"PGD-{max(steps)}, {mode}, on {name}", count, seconds):
                found = models.chunked(lambda x, y, s: attacks.pgd(model.attacker, x, y, start=s, **options), run.chunk, points.x, label, start)
            return {str(step): found[:, i] for i, step in enumerate(steps)}

        found = self.store.tensors(f"pgd-{name}-{mode}", identity, craft)
        return {step: found[str(step)].to(self.device) for step in steps}

    def batch(self, name: str, column: str, count: int) -> Tensor:
        """The inputs of a table's column: "clean", or "untargeted_pgd10" and the like, against model `name`.

        PGD-10 alone is its own short run (a snapshot equals a separate run); longer ones share one trajectory.
        """
        if column == "clean":
            return self.points(count).x
        mode, step = column.split("_pgd")
        steps = tuple(self.params.steps)
        wanted = steps[:1] if int(step) == steps[0] else steps
        known = (name, mode, count, wanted)
        if known not in self._batches:
            self._batches[known] = self.examples(name, mode, count, wanted)
        return self._batches[known][int(step)]

    def _base(self, name: str, column: str, count: int) -> Tensor:
        """log F(x) of the bare model on a column: one for all defences."""
        x, seconds = self.batch(name, column, count), count * self.pass_seconds(name)
        with torch.no_grad(), progress.stage(f"predictions of {name}", count, seconds):
            return defenses.Undefended(self.model(name).scorer, chunk=self.params.chunk).base(x)

    # Defences

    def defence(self, row: dict, draws: int | None = None, attacked: bool = False) -> defenses.Defense:
        """The defence of a table row around its model: as it is scored, or (`attacked`) as an adaptive attack sees it, in the run's precision."""
        model = self.model(row["model"])
        options = {"draws": draws or self.params.draws, "chunk": self.params.chunk, "seed": self.params.seed}
        return defenses.build(row["defence"], model.attacker if attacked else model.scorer, self.pool, settings_of(row), **options)

    def record(self, what: str, name: str, identity: dict, compute: Callable[[], dict], images: int, cost: float = 1) -> dict:
        """store.record for model `name`; computing it sends `images` through the net, each at the cost of so many forward passes."""

        def shown() -> dict:
            seconds = images * cost * self.pass_seconds(name)
            with progress.stage(what, images, seconds):
                return compute()

        return self.store.record(what, identity, shown)

    def _pass_seconds(self, name: str) -> float:
        """Seconds of one image's forward pass through a model here: the best of three chunks."""
        x, taken = self.points(1).x.expand(self.params.chunk, -1, -1, -1), []
        with progress.stage("timing", 0, 0, "chunks"):
            for _ in range(3):
                started = time.perf_counter()
                models.probabilities(self.model(name).scorer, x, self.params.chunk).cpu()
                taken.append(time.perf_counter() - started)
        return min(taken) / self.params.chunk

    def identity(self, name: str, *uses: str, **more) -> dict:
        """What a record of model `name` depends on besides the code: weights, data, seed, precision, device type, and the
        parameters of what it `uses` ("attack", "draws"), so that a change elsewhere leaves it alone."""
        keep = ["seed", "data", *(key for use in uses for key in USES[use])]
        shared = {key: getattr(self.params, key) for key in keep} | {"precision": self.precision, "device": self.device.type}
        shared |= {"scored": machine.scoring(self.params, self.device)}
        return shared | {"weights": self.model(name).weights} | more


def settings_of(row: dict) -> dict:
    """A row's parameters: what it holds besides model and defence."""
    return {key: value for key, value in row.items() if key not in ("model", "defence")}
