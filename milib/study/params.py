"""One flat, validated, frozen description of a run, from YAML plus overrides."""

import contextlib
import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml

from milib.data import SOURCES
from milib.defenses import DEFENSES, Limits
from milib.errors import UserError
from milib.study.paths import project_root, runs
from milib.training import MODELS

WORDS = {dict: "a table", bool: "true or false", str: "a word"}
"""What a value of a type is called where another one was given."""


def _key(doc: str, low: float | None = None, high: float | None = None, choices=None) -> Any:
    return field(metadata={"doc": doc, "low": low, "high": high, "choices": choices})


@dataclass(frozen=True)
class Params:
    """A run: every field is a key of params/*.yaml. Numbers may be fractions such as "8/255"."""

    run: str = _key("name of the run: outputs/<run>")
    paper_table: str = _key(
        "table of the paper to show beside", choices=("table2_cifar10", "table3_cifar100")
    )
    seed: int = _key("seed of training, attacks and draws", 0, 2**31)
    data: str = _key("data set", choices=tuple(SOURCES))
    data_root: str = _key(
        "folder of the CIFAR files; empty: $MILIB_DATA, else ./data at the project root"
    )
    classes: int = _key("number of classes L", 3, 1000)
    n_train: int = _key("training images; 0: all that are not held out", 0, 10**7)
    n_heldout: int = _key("training images held out for every selection", 10, 10**5)
    n_test: int = _key("test points of 01, 02 and 04-06", 2, 10**5)
    n_theory: int = _key("test points of 03, at most n_test", 2, 10**5)
    n_adaptive: int = _key("test points of 07, at most n_test", 2, 10**5)
    model: str = _key("architecture", choices=("small", "compact", "resnet50"))
    device: str = _key("auto, cpu, cuda or cuda:<n>")
    precision: str = _key(
        "training and attacks; records are scored in fp32, beside bf16 on CUDA in TF32",
        choices=("auto", "fp32", "bf16"),
    )
    threads: int = _key("CPU threads; 0: all", 0, 1024)
    chunk: int = _key("images per forward pass at inference", 1, 10**6)
    max_hours: float = _key("longest training a CPU starts unasked", 0, 10**5)
    epochs: int = _key("training epochs", 1, 10**5)
    adversarial_share: float = _key("share of `epochs` that AT gets", 0.001, 10)
    interpolated_share: float = _key("epochs of interpolated AT to one of AT", 0.001, 10)
    batch_size: int = _key("clean images per training step", 2, 10**5)
    lr: float = _key("peak learning rate of ERM, mixup and AT", 0, 100)
    lr_interpolated: float = _key("peak learning rate of interpolated AT", 0, 100)
    schedule: str = _key(
        "step: x0.1 at 1/2 and 3/4 of training; onecycle", choices=("step", "onecycle")
    )
    momentum: float = _key("SGD momentum", 0, 0.9999)
    nesterov: bool = _key("Nesterov's form of it")
    weight_decay: float = _key("L2 penalty", 0, 1)
    augment: str = _key("training augmentation", choices=("none", "crop_flip"))
    alpha: float = _key("mixup ratio in training: Beta(alpha, alpha)", 1e-3, 100)
    train_steps: int = _key("PGD steps inside AT", 1, 1000)
    train_step_size: float = _key("their size, on pixels in [0, 1]", 0, 1)
    extra_models: bool = _key("train the models B.1 names too")
    epsilon: float = _key("radius of the attacks, on pixels in [0, 1]", 0, 1)
    step_size: float = _key("size of a PGD step, on pixels in [0, 1]", 0, 1)
    steps: list[int] = _key("PGD steps, one trajectory with snapshots", 1, 10**5)
    attack_label: str = _key(
        "label of untargeted PGD: the paper's y, or as published", choices=("label", "prediction")
    )
    draws: int = _key("draws N of every randomised defense", 1, 10**5)
    draw_sets: int = _key("sets of draws for clean and the first PGD column of each mode", 1, 1000)
    pool: str = _key(
        "sample pool p_s: training images, or test images as published", choices=("train", "test")
    )
    rows: list[dict] = _key("Table 2 or 3: model, defense and its parameters")
    match_clean: bool = _key(
        "choose the rows' parameters on held-out images, at MI-OL's clean accuracy"
    )
    grids: dict = _key(
        "defense -> values of its last parameter, from which 04 chooses and which 06 sweeps; "
        "an override replaces the whole table"
    )
    fig2_ratios: list[float] = _key("mixup ratios of Fig. 2", 0, 1)
    adaptive_samples: list[int] = _key("adaptive samples of Fig. 4", 1, 10**4)
    fig5_epsilon: float = _key("radius of Fig. 5, on pixels in [0, 1]", 0, 1)

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


def _nearest(word: str, valid: Iterable[str]) -> str:
    return difflib.get_close_matches(word, list(valid), 1, 0)[0]


def _unknown(run: str, what: str, name: str, valid: Iterable[str]) -> UserError:
    near = _nearest(name, valid)
    return UserError(f"run '{run}': unknown {what} '{name}'; nearest valid {what}: '{near}'")


def _number(where: str, value: Any, kind: type) -> float:
    if isinstance(value, bool):
        raise UserError(f"{where} is {value!r}: write a number")
    try:
        exact = Fraction(value if isinstance(value, str | int) else str(value))
    except (ValueError, TypeError, ZeroDivisionError):
        raise UserError(f"{where} is {value!r}: write a number such as 0.5 or 8/255") from None
    if kind is int and exact.denominator != 1:
        raise UserError(f"{where} is {value!r}: write a whole number")
    return kind(exact)


def _in_range(where: str, value: float, low: float | None, high: float | None) -> float:
    if (low is not None and value < low) or (high is not None and value > high):
        raise UserError(f"{where} is {value}: it must lie between {low} and {high}")
    return value


def _items(where: str, value: Any) -> list | tuple:
    if not isinstance(value, list | tuple) or not value:
        raise UserError(f"{where} is {value!r}: write a list such as [1, 2, 3]")
    return value


def _value(where: str, value: Any, kind: Any, allowed: Mapping) -> Any:
    """`value` as `kind`, inside the range and choices that are allowed. Raises UserError."""
    is_list = get_origin(kind) is list
    if isinstance(value, str) and value and (is_list or kind in (dict, bool)):
        with contextlib.suppress(yaml.YAMLError):
            value = yaml.safe_load(value)  # `-p steps "[10, 50]"`, `-p match_clean true`
    if is_list:
        (of,) = get_args(kind)
        return tuple(_value(where, item, of, allowed) for item in _items(where, value))
    if kind not in WORDS:
        return _in_range(where, _number(where, value, kind), allowed["low"], allowed["high"])
    if not isinstance(value, kind):
        raise UserError(f"{where} is {value!r}: write {WORDS[kind]}")
    choices = allowed["choices"]
    if choices and value not in choices:
        near = _nearest(value, choices)
        raise UserError(f"{where} is {value!r}: one of {', '.join(choices)}; nearest: '{near}'")
    return value


def _setting(where: str, value: Any, limits: Limits) -> Any:
    """A parameter of a defense, of its form and inside its limits. Raises UserError."""
    kind: Any = float
    if limits.form == "whole range":
        kind = list[int]
    elif limits.form == "number or range" and isinstance(value, list | tuple):
        kind = list[float]
    checked = _value(where, value, kind, {"low": limits.low, "high": limits.high})
    if not isinstance(checked, tuple):
        return checked
    if len(checked) != 2 or checked[0] > checked[1]:
        raise UserError(f"{where} is {list(checked)}: write [least, most]")
    return list(checked)


def _check_row(run: str, position: int, row: Mapping) -> dict:
    where = f"run '{run}': rows[{position}]"
    for name in ("model", "defense"):
        if name not in row:
            raise UserError(f"{where} lacks '{name}'")
    if row["model"] not in MODELS:
        raise _unknown(run, "model", str(row["model"]), MODELS)
    if row["defense"] not in DEFENSES:
        raise _unknown(run, "defense", str(row["defense"]), DEFENSES)
    wanted = DEFENSES[row["defense"]].settings
    for name in set(row) - {"model", "defense", *wanted}:
        raise _unknown(run, f"key in rows[{position}]", name, ("model", "defense", *wanted))
    checked = dict(row)
    for name, limits in wanted.items():
        if name not in row:
            raise UserError(f"{where} ({row['model']} + {row['defense']}) lacks '{name}'")
        checked[name] = _setting(f"{where}: {name}", row[name], limits)
    return checked


def _check_grid(run: str, defense: str, values: Any) -> list:
    where = f"run '{run}': grids: {defense}"
    variable = [name for name, kind in DEFENSES.items() if kind.settings]
    if defense not in variable:
        raise _unknown(run, "defense in grids", str(defense), variable)
    limits = list(DEFENSES[defense].settings.values())[-1]
    return [_setting(where, value, limits) for value in _items(where, values)]


def read_table(path: Path) -> Any:
    """The content of a YAML file.

    - path: the file.

    Raises UserError where it does not exist or is not YAML.
    """
    try:
        return yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: the runs are {', '.join(runs())}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None


def read_yaml(path: Path) -> dict:
    """A parameter file as a dict, its values unchecked.

    - path: a file of params/.

    Raises UserError where it does not exist or does not hold `key: value` lines.
    """
    content = read_table(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold `key: value` lines")
    return content


def build(values: Mapping) -> Params:
    """The run that a mapping describes.

    - values: keys of Params; those that are absent come from params/digits.yaml.

    Raises UserError for an unknown key and for a value of the wrong form or out of range.
    """
    run = str(values.get("run", "?"))
    fields = {spec.name: spec for spec in dataclasses.fields(Params)}
    for name in values:
        if name not in fields:
            raise _unknown(run, "key", str(name), fields)
    merged = read_yaml(project_root() / "params" / "digits.yaml") | dict(values)
    merged["data_root"] = str(merged["data_root"] or "")
    checked = {
        name: _value(f"run '{run}': {name}", merged[name], spec.type, spec.metadata)
        for name, spec in fields.items()
    }
    for name in ("n_theory", "n_adaptive"):
        checked[name] = min(checked[name], checked["n_test"])
    checked["rows"] = tuple(_check_row(run, i, row) for i, row in enumerate(checked["rows"]))
    checked["grids"] = {
        defense: _check_grid(run, defense, grid) for defense, grid in checked["grids"].items()
    }
    for defense in ("mi_pl", "mi_ol"):
        if defense not in checked["grids"]:
            raise UserError(f"run '{run}': grids lacks {defense}: write the whole table")
    steps = list(checked["steps"])
    if steps[0] != 10 or steps != sorted(set(steps)):
        raise UserError(
            f"run '{run}': steps is {steps}: "
            "it must rise from 10, the paper's first column (PGD-10)"
        )
    return Params(**checked)


def paper_run(paper_table: str) -> Params:
    """The run that has the paper's own settings.

    - paper_table: the table of the paper that it makes.
    """
    name = {"table2_cifar10": "c10", "table3_cifar100": "c100"}[paper_table]
    return load(project_root() / "params" / f"{name}.yaml")


def load(path: Path, overrides: Mapping | None = None) -> Params:
    """The run that a parameter file describes.

    - path: a file of params/.
    - overrides: keys that replace the file's; default none.

    Raises UserError as `read_yaml` and `build` do.
    """
    return build(read_yaml(path) | dict(overrides or {}))
