"""One flat, validated, frozen description of a run, from YAML plus overrides."""

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from milib.checks import shown
from milib.data import SOURCES
from milib.defenses import DEFENSES
from milib.errors import UserError
from milib.models import ARCHITECTURES
from milib.study import extension
from milib.study.paths import parameter_file, project_root, run_name, runs
from milib.study.strict_yaml import parse
from milib.study.values import checked, items, nearest, number, setting
from milib.training import MODELS

PAPER = {"table2_cifar10": "cifar10", "table3_cifar100": "cifar100"}
"""The paper's tables, and the data of each."""
REHEARSALS = ("digits", "generated")
"""Data that stand in for the paper's, beside either table; never evidence about the paper."""
LEAST = 1e-6
"""In place of 0: some figures show shares of a radius, and a step of 0 moves nothing."""


def _key(doc: str, low: float | None = None, high: float | None = None, choices=None) -> Any:
    """A field. A notebook's parameters cell shows `doc`, so does `papermill --help-notebook`."""
    return field(metadata={"doc": doc, "low": low, "high": high, "choices": choices})


@dataclass(frozen=True)
class Params:
    """A run: every field is a key of params/*.yaml. Numbers may be fractions such as "8/255"."""

    run: str = _key("name of the run: outputs/<run>")
    extension: str = _key("Python file, from the project's folder, that calls milib.register")
    paper_table: str = _key("the paper's table", choices=("none", *PAPER))
    seed: int = _key("seed of training, attacks and draws", 0, 2**31)
    data: str = _key("data set", choices=SOURCES)
    data_root: str = _key("folder of the CIFAR files; empty: $MILIB_DATA, else ./data")
    classes: int = _key("number of classes L", 3, 1000)
    n_train: int = _key("training images; 0: all that are not held out", 0, 10**7)
    n_heldout: int = _key("training images held out for every selection", 10, 10**5)
    n_test: int = _key("test points of 01, 02 and 04-06", 2, 10**5)
    n_theory: int = _key("test points of 03, at most n_test", 2, 10**5)
    n_adaptive: int = _key("test points of 07, at most n_test", 2, 10**5)
    n_beyond: int = _key("test points of 08, at most n_test", 2, 10**5)
    n_tuned: int = _key("held-out points of 08's sweep, at most n_heldout", 2, 10**5)
    model: str = _key("architecture", choices=ARCHITECTURES)
    device: str = _key("auto, cpu, cuda or cuda:<n>")
    precision: str = _key(
        "of training and attacks; scores are fp32, on CUDA TF32",
        choices=("auto", "fp32", "bf16"),
    )
    threads: int = _key("CPU threads; 0: all", 0, 1024)
    chunk: int = _key("images per forward pass at inference", 1, 10**6)
    max_hours: float = _key("longest training a CPU starts unasked", 0, 10**5)
    epochs: int = _key("training epochs", 1, 10**5)
    adversarial_share: float = _key("share of `epochs` that AT gets", 0.001, 10)
    interpolated_share: float = _key("epochs of interpolated AT to one of AT", 0.001, 10)
    stop_epochs: dict = _key("model -> epochs after which training stops; 46.8: in the 47th")
    batch_size: int = _key("clean images per training step", 2, 10**5)
    lr: float = _key("peak learning rate of ERM, mixup and AT", LEAST, 100)
    lr_interpolated: float = _key("peak learning rate of interpolated AT", LEAST, 100)
    schedule: str = _key("of the rate; step: x0.1 at 1/2 and 3/4", choices=("step", "onecycle"))
    momentum: float = _key("SGD momentum", 0, 0.9999)
    nesterov: bool = _key("Nesterov's form of it; false where momentum is 0")
    weight_decay: float = _key("L2 penalty", 0, 1)
    augment: str = _key("training augmentation", choices=("none", "crop_flip"))
    alpha: float = _key("mixup ratio in training: Beta(alpha, alpha)", 1e-3, 100)
    train_steps: int = _key("PGD steps inside AT", 1, 1000)
    train_step_size: float = _key("their size, on pixels in [0, 1]", LEAST, 1)
    extra_models: bool = _key("train the models B.1 names too")
    epsilon: float = _key("radius of the attacks, on pixels in [0, 1]", LEAST, 1)
    step_size: float = _key("size of a PGD step, on pixels in [0, 1]", LEAST, 1)
    steps: list[int] = _key("PGD steps, one trajectory with snapshots", 1, 10**5)
    attack_label: str = _key("label that untargeted PGD leaves", choices=("label", "prediction"))
    draws: int = _key("draws N of every randomised defense", 1, 10**5)
    draw_sets: int = _key("sets of draws for clean and the first PGD column of each mode", 1, 1000)
    pool: str = _key("images of the sample pool p_s", choices=("train", "test"))
    rows: list[dict] = _key("Table 2 or 3: model, defense and its parameters")
    match_clean: bool = _key("choose rows' parameters on held-out images, at MI-OL's accuracy")
    grids: dict = _key("defense -> values of its last parameter: 04 chooses, 06 sweeps")
    fig2_ratios: list[float] = _key("mixup ratios of Fig. 2", 0, 1)
    adaptive_samples: list[int] = _key("adaptive samples of Fig. 4", 1, 10**4)
    fig5_epsilon: float = _key("radius of Fig. 5, on pixels in [0, 1]", LEAST, 1)
    battery: str = _key("the audit's attacks in 08", choices=("quick", "full"))
    twin: str = _key("a run with another training seed, whose nets 08 transfers from; empty: none")
    weights_of: str = _key("a run whose shipped weights are read where a recipe is the same")

    @property
    def evidence(self) -> bool:
        """Whether the run says something about the paper: it has the data of one of its tables."""
        return self.paper_table in PAPER and self.data not in REHEARSALS

    def epochs_of(self, name: str) -> int:
        """Training epochs of a model, at least one.

        - name: a name of `training.MODELS`.
        """
        shares = {
            "at": self.adversarial_share,
            "interpolated_at": self.adversarial_share * self.interpolated_share,
            "long_mixup": 2,
        }
        return max(1, round(self.epochs * shares.get(name, 1)))

    def row(self, model: str, defense: str) -> dict:
        """The first row of the table for a model and a defense whose ratio is fixed, not drawn.

        - model: a name of `training.MODELS`.
        - defense: a name of `defenses.DEFENSES`.

        Raises UserError where the table has none.
        """
        for row in self.rows:
            drawn = isinstance(row.get("ratio"), list)
            if (row["model"], row["defense"]) == (model, defense) and not drawn:
                return row
        raise UserError(
            f"run '{self.run}': rows has no {model} + {defense}: add one to the table `rows`"
        )


KEYS = tuple(spec.name for spec in dataclasses.fields(Params))
"""The keys of a parameter file, in its order."""


def unknown(run: object, what: str, name: object, valid: Iterable[str]) -> UserError:
    """The error for a name that is none of those that are valid.

    - run: the run's name.
    - what: is named, such as "key".
    - name: what was written.
    - valid: the names; the nearest stands in the error.
    """
    near = nearest(name, valid)
    return UserError(
        f"run {shown(run)}: unknown {what} {shown(name)}; nearest valid {what}: '{near}'"
    )


def _check_row(run: str, position: int, row: Mapping) -> dict:
    where = f"run '{run}': rows[{position}]"
    for name, valid in (("model", MODELS), ("defense", DEFENSES)):
        if name not in row:
            raise UserError(f"{where} lacks '{name}'")
        if not isinstance(row[name], str) or row[name] not in valid:
            raise unknown(run, f"{name} in rows[{position}]", row[name], valid)
    wanted = DEFENSES[row["defense"]].settings
    found = {"model": row["model"], "defense": row["defense"]}
    for name in row:
        if name not in (*found, *wanted):
            raise unknown(run, f"key in rows[{position}]", name, (*found, *wanted))
    for name, limits in wanted.items():
        if name not in row:
            raise UserError(f"{where} ({row['model']} + {row['defense']}) lacks '{name}'")
        found[name] = setting(f"{where}: {name}", row[name], limits)
    return found


def _check_grids(run: str, grids: Mapping) -> dict[str, list]:
    variable = [name for name, kind in DEFENSES.items() if kind.settings]
    found = {}
    for defense, values in grids.items():
        if defense not in variable:
            raise unknown(run, "defense in grids", defense, variable)
        where, limits = f"run '{run}': grids: {defense}", DEFENSES[defense].settings
        last = limits[list(limits)[-1]]
        found[defense] = [setting(where, value, last) for value in items(where, values)]
    for defense in ("mi_pl", "mi_ol"):
        if defense not in found:
            raise UserError(f"run '{run}': grids lacks {defense}: write the whole table")
    return found


def _check_stops(run: str, stops: Mapping) -> dict[str, float]:
    found = {}
    for name, value in stops.items():
        if name not in MODELS:
            raise unknown(run, "model in stop_epochs", name, MODELS)
        found[name] = number(f"run '{run}': stop_epochs: {name}", value, float, 1, 10**5)
    return found


def _check_together(run: Params) -> None:
    """What no key alone shows."""
    where, steps = f"run '{run.run}':", list(run.steps)
    if steps[0] != 10 or steps != sorted(set(steps)):
        raise UserError(
            f"{where} steps is {shown(steps)}: "
            "it must rise from 10, the paper's first column (PGD-10)"
        )
    wanted = PAPER.get(run.paper_table, run.data)
    if run.data not in (*REHEARSALS, wanted):
        raise UserError(
            f"{where} paper_table is {run.paper_table}, of {wanted}, and data is {run.data}: "
            "write paper_table none"
        )
    if run.nesterov and run.momentum == 0:
        raise UserError(f"{where} momentum is 0 with nesterov: write nesterov false beside it")
    for key in ("weights_of", "twin"):
        if (other := getattr(run, key)) and other not in runs():
            raise unknown(run.run, f"run in {key}", other, runs())
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", run.device, re.ASCII):
        raise UserError(f"{where} device is {shown(run.device)}: one of auto, cpu, cuda, cuda:<n>")


def read_table(path: Path) -> Any:
    """The content of a YAML file.

    - path: the file, in UTF-8.

    Raises UserError where it cannot be read, and as `strict_yaml.parse` does.
    """
    where = str(path) if str(path).isprintable() else repr(str(path))
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{where} does not exist: the runs are {', '.join(runs())}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{where} cannot be read: {why}") from None
    return parse(where, text)


def read_yaml(path: Path) -> dict:
    """A parameter file as a dict, its values unchecked.

    - path: a file of params/, or one like it.

    Raises UserError as `read_table` does, and where it does not hold `key: value` lines.
    """
    content = read_table(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold `key: value` lines")
    return content


def _extension(values: Mapping) -> str:
    """The file that must run before the other values can be looked at."""
    given = values.get("extension", "")
    if not isinstance(given, str | os.PathLike) or not os.fspath(given).isprintable():
        raise UserError(
            f"run {shown(values.get('run', '?'))}: extension is {shown(given)}: "
            "the path of a Python file, or empty"
        )
    return os.fspath(given)


def build(values: Mapping) -> Params:
    """The run that a mapping describes.

    - values: keys of Params; those that are absent come from params/digits.yaml.

    Raises UserError for an unknown key and for a value of the wrong form or out of range.
    """
    for name in values:
        if name not in KEYS:
            raise unknown(values.get("run", "?"), "key", name, KEYS)
    extension.load(_extension(values))
    merged = read_yaml(project_root() / "params" / "digits.yaml") | dict(values)
    run = merged["run"] = run_name(merged["run"])
    if merged["data_root"] is None or isinstance(merged["data_root"], os.PathLike):
        merged["data_root"] = os.fspath(merged["data_root"] or "")
    found: dict[str, Any] = {}
    for spec in dataclasses.fields(Params):
        where = f"run '{run}': {spec.name}"
        found[spec.name] = checked(where, merged[spec.name], spec.type, spec.metadata)
    for name in ("n_theory", "n_adaptive", "n_beyond"):
        found[name] = min(found[name], found["n_test"])
    found["n_tuned"] = min(found["n_tuned"], found["n_heldout"])
    found["rows"] = tuple(_check_row(run, i, row) for i, row in enumerate(found["rows"]))
    found["grids"] = _check_grids(run, found["grids"])
    found["stop_epochs"] = _check_stops(run, found["stop_epochs"])
    made = Params(**found)
    _check_together(made)
    return made


def paper_run(paper_table: str) -> Params:
    """The run that has the paper's own settings.

    - paper_table: the table of the paper that it makes.
    """
    return load(parameter_file({"table2_cifar10": "c10", "table3_cifar100": "c100"}[paper_table]))


def load(path: Path, overrides: Mapping | None = None) -> Params:
    """The run that a parameter file describes.

    - path: a file of params/, named after its run; elsewhere its `run` alone decides.
    - overrides: keys that replace the file's; default none.

    Raises UserError where the file has another name, and as `read_yaml` and `build` do.
    """
    values, path = read_yaml(path), Path(path)
    in_params = path.resolve().parent == (project_root() / "params").resolve()
    if in_params and ("run" not in values or run_name(values["run"]) != path.stem):
        named = shown(values.get("run"))
        wanted = f'a file in params/ is named after its run: write run: "{path.stem}"'
        raise UserError(f"{path}: run is {named}: {wanted}")
    return build(values | dict(overrides or {}))
