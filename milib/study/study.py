"""A run in a notebook: its data, models, attacks and defenses, each made once and kept."""

import dataclasses
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from milib import attacks, data, defenses, inference, models, rng
from milib.errors import UserError
from milib.study import device, progress
from milib.study.params import Params, build, load
from milib.study.paths import data_root, outputs_root, parameter_file, reference_root
from milib.study.rows import settings_of
from milib.study.store import Store
from milib.study.weights import Model, TrainedModels, recipe
from milib.training import MODELS

USES = {
    "attack": ("epsilon", "step_size", "attack_label"),
    "draws": ("draws", "pool", "augment", "n_train", "n_heldout"),
}
"""The parameters behind an attack's examples, and behind a defense's draws and their pool."""


@dataclasses.dataclass(frozen=True)
class Points:
    """Test points: pixels x [n, C, H, W] in [0, 1], labels y [n], indices in the data set [n]."""

    x: Tensor
    y: Tensor
    index: Tensor


class Study:
    """What a notebook works with. Everything slow goes through `store`, and so is computed once.

    - params: the run.
    - notebook: the file name of the notebook without its ending; records and profile carry it.
    """

    def __init__(self, params: Params, notebook: str):
        self.params, self.notebook = params, notebook
        self.device = device.resolve_device(params)
        self.precision = device.resolve_precision(params, self.device)
        device.prepare(params, self.device)
        folder, reference = outputs_root() / params.run, reference_root() / params.run
        self.store = Store(folder, reference, notebook, self.device)
        self._batches: dict[tuple, dict[int, Tensor]] = {}
        self._bases: dict[tuple, Tensor] = {}

    def __str__(self) -> str:
        run, test = self.params, self.splits.test.images
        shape = "x".join(map(str, test.shape[1:]))
        net = models.build(run.model, run.classes, test.shape[1], 0)
        cost = inference.flops(net, tuple(test.shape[1:]))
        count = sum(parameter.numel() for parameter in net.parameters())
        sizes = [f"{len(self.splits.train)} training", f"{len(self.splits.heldout)} held-out"]
        return (
            f"run '{run.run}': {run.data} ({shape}, {run.classes} classes), "
            f"{', '.join(sizes)} and {len(self.splits.test)} test images\n"
            f"net '{run.model}': {count:,} parameters, {cost / 1e6:.2f} MFLOP a forward; "
            f"records scored in {device.scoring(run, self.device)}"
        )

    def varied(self, **changes) -> "Study":
        """The study with other parameters; its records lie beside this one's.

        - changes: parameters that decide neither data nor models, which both studies share.

        Raises UserError for others, and for a value that a parameter file may not hold either.
        """
        changed = build(dataclasses.asdict(self.params) | changes)
        for name in MODELS:
            if recipe(changed, name) != recipe(self.params, name):
                keys = ", ".join(changes)
                raise UserError(f"{keys}: this would be another {name}: open a study of its own")
        other = Study(changed, self.notebook)
        other.store, other.splits, other.models = self.store, self.splits, self.models
        return other

    @cached_property
    def splits(self) -> data.Splits:
        """The run's data on its device. Raises UserError where files or sizes do not fit."""
        run = self.params
        sizes = {key: getattr(run, key) for key in ("classes", "n_train", "n_heldout")}
        try:
            found = data.load(run.data, **sizes, root=data_root(run.data_root), device=self.device)
        except UserError as error:
            raise UserError(f"run '{run.run}': {error}") from None
        if run.n_test > len(found.test):
            limits = f"it must lie between 2 and {len(found.test)} on {run.data}"
            raise UserError(f"run '{run.run}': n_test is {run.n_test}: {limits}")
        return found

    @cached_property
    def models(self) -> TrainedModels:
        """The run's models."""
        return TrainedModels(self.params, self.splits, self.store)

    @cached_property
    def pool(self) -> data.SamplePool:
        """p_s: training images; "as published" test images, cropped and flipped as in training."""
        published = self.params.pool == "test"
        images = self.splits.test if published else self.splits.train
        return data.SamplePool(images, published and self.params.augment == "crop_flip")

    def points(self, count: int, split: str = "test") -> Points:
        """The first images of a split (the data set's order; a fixed permutation on digits).

        - count: how many.
        - split: "test" (default), "heldout" or "train".
        """
        chosen = getattr(self.splits, split).take(slice(count))
        return Points(chosen.pixels(), chosen.labels, chosen.index)

    @property
    def table_models(self) -> list[str]:
        """The models of the run's table, in its order."""
        return list(dict.fromkeys(row["model"] for row in self.params.rows))

    def require(self, *names: str) -> None:
        """Load or train models: see `TrainedModels.require`."""
        self.models.require(*names)

    def model(self, name: str) -> Model:
        """A model of the run, loaded or trained: see `TrainedModels.get`.

        - name: of `training.MODELS`.
        """
        return self.models.get(name)

    def twin_model(self, name: str) -> torch.nn.Module | None:
        """The same model from the run with another training seed; None where there is none.

        - name: of `training.MODELS`.
        """
        run = self.params
        if not run.twin:
            return None
        other = load(parameter_file(run.twin), {"data_root": run.data_root, "device": run.device})
        store = Store(self.store.folder, reference_root() / run.twin, self.notebook, self.device)
        trained = TrainedModels(other, self.splits, store)
        return None if trained.find(name) is None else trained.get(name).scorer

    # Attacks

    def examples(
        self,
        name: str,
        mode: str,
        count: int,
        steps: tuple[int, ...],
        epsilon: float | None = None,
        step_size: float | None = None,
    ) -> dict[int, Tensor]:
        """Oblivious PGD examples [count, C, H, W] of a model, after each number of steps.

        - name: the model.
        - mode: "untargeted" or "targeted".
        - count: test images.
        - steps: numbers of steps, snapshots of one trajectory.
        - epsilon, step_size: on pixels in [0, 1]; by default the run's.
        """
        model, run = self.model(name), self.params
        epsilon = run.epsilon if epsilon is None else epsilon
        step_size = run.step_size if step_size is None else step_size
        identity = {"weights": model.weights, "mode": mode, "count": count, "steps": steps}
        identity |= {"epsilon": epsilon, "step_size": step_size, "label": run.attack_label}
        identity |= {"seed": run.seed, "data": run.data}
        identity |= {"precision": self.precision, "device": self.device.type}

        def craft() -> dict[str, Tensor]:
            points = self.points(count)
            draws = rng.Draws(run.seed, "attack", mode)
            first_draw = torch.ones_like(points.index)
            shape = points.x.shape[1:]
            start = attacks.random_start(draws, points.index, first_draw, shape, epsilon)
            label = points.y
            if mode == "targeted":
                label = attacks.wrong_class(label, draws, points.index, run.classes)
            elif run.attack_label == "prediction":
                label = inference.probabilities(model.scorer, points.x, run.chunk).argmax(1)
            options = {"epsilon": epsilon, "step_size": step_size, "steps": steps}
            options["targeted"] = mode == "targeted"

            def attack(x: Tensor, y: Tensor, begin: Tensor) -> Tensor:
                return attacks.pgd(model.attacker, x, y, start=begin, **options)

            seconds = 2 * max(steps) * count * self.models.pass_seconds(name)  # there and back
            with progress.stage(f"PGD-{max(steps)}, {mode}, on {name}", count, seconds):
                found = inference.chunked(attack, run.chunk, points.x, label, start)
            return {str(step): found[:, i] for i, step in enumerate(steps)}

        found = self.store.tensors(f"pgd-{name}-{mode}", identity, craft)
        return {step: found[str(step)].to(self.device) for step in steps}

    def batch(self, name: str, column: str, count: int) -> Tensor:
        """The inputs of a table's column [count, C, H, W], attacked on a model.

        - name: the model that is attacked.
        - column: "clean", or "untargeted_pgd10" and the like.
        - count: test images.

        PGD-10 alone is its own short run (a snapshot equals a separate run); longer ones share one
        trajectory.
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

    def base(self, name: str, column: str, count: int) -> Tensor:
        """log F(x) [count, L] of the bare model on a column: one for all defenses. See `batch`.

        - name, column, count: as in `batch`.
        """
        known = (name, column, count)
        if known not in self._bases:
            x, seconds = self.batch(*known), count * self.models.pass_seconds(name)
            bare = defenses.Undefended(self.model(name).scorer, chunk=self.params.chunk)
            with torch.no_grad(), progress.stage(f"predictions of {name}", count, seconds):
                self._bases[known] = bare.base(x)
        return self._bases[known]

    # Defenses

    def defense(
        self,
        row: dict,
        draws: int | None = None,
        pool: data.SamplePool | None = None,
        *,
        attacked: bool = False,
    ) -> defenses.Defense:
        """The defense of a table row around its model.

        - row: model, defense and its parameters.
        - draws: N; by default the run's.
        - pool: p_s; by default the run's.
        - attacked: as an adaptive attack sees it, in the run's precision; else as it is scored.
        """
        run, model = self.params, self.model(row["model"])
        net = model.attacker if attacked else model.scorer
        options = {"draws": draws or run.draws, "chunk": run.chunk, "seed": run.seed}
        settings, pool = settings_of(row), pool or self.pool
        return defenses.build(row["defense"], net, pool, settings, **options)

    # Records

    def record(
        self,
        what: str,
        name: str,
        identity: dict,
        compute: Callable[[], dict],
        images: int,
        cost: float = 1,
    ) -> dict:
        """`store.record` with a bar, for something that takes long on a model.

        - what: the record's name.
        - name: the model.
        - identity: see `identity`.
        - compute: makes the result.
        - images: that go through the net, each at the `cost` of so many forward passes.
        """

        def shown() -> dict:
            seconds = images * cost * self.models.pass_seconds(name)
            with progress.stage(what, images, seconds):
                return compute()

        return self.store.record(what, identity, shown)

    def identity(self, name: str, *uses: str, **more) -> dict:
        """What a record depends on besides the code: weights, data, seed, precision, device type.

        - name: the model.
        - uses: "attack", "draws": adds the parameters of USES, so that a change elsewhere leaves
          the record alone.
        - more: further parts of the identity.
        """
        keep = ["seed", "data"]
        for use in uses:
            keep += USES[use]
        shared = {key: getattr(self.params, key) for key in keep}
        shared |= {"precision": self.precision, "device": self.device.type}
        shared |= {"scored": device.scoring(self.params, self.device)}
        return shared | {"weights": self.model(name).weights} | more
