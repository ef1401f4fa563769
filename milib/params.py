"""One flat, validated, frozen description of a run, from YAML plus overrides."""

import ast
import contextlib
import dataclasses
import difflib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import yaml

from milib.data import SOURCES
from milib.defenses import DEFENCES, Limits
from milib.errors import StudyError

MODELS = ("erm", "mixup", "at", "interpolated_at", "manifold_mixup", "matched_mixup", "long_mixup")
MARK = "# The run's parameters"
"""First words of the notebooks' parameters cell; papermill's own cell begins with INJECTED."""
INJECTED = "# Parameters"


def _key(doc: str, low=None, high=None, choices=None):
    return field(metadata={"doc": doc, "low": low, "high": high, "choices": choices})


@dataclass(frozen=True)
class Params:
    """A run. Every field is a key of params/*.yaml; numbers may be written as fractions ("8/255")."""

    run: str = _key("name of the run: outputs/<run>")
    paper_table: str = _key("table of the paper to show beside", choices=("table2_cifar10", "table3_cifar100"))
    seed: int = _key("seed of training, attacks and draws", 0, 2**31)
    data: str = _key("data set", choices=tuple(SOURCES))
    data_root: str = _key("folder of the CIFAR files; empty: $MILIB_DATA, else ./data at the project root")
    classes: int = _key("number of classes L", 3, 1000)
    n_train: int = _key("training images; 0: all that are not held out", 0, 10**7)
    n_heldout: int = _key("training images held out for every selection", 10, 10**5)
    n_test: int = _key("test points of 01, 02 and 04-06", 2, 10**5)
    n_theory: int = _key("test points of 03, at most n_test", 2, 10**5)
    n_adaptive: int = _key("test points of 07, at most n_test", 2, 10**5)
    model: str = _key("architecture", choices=("small", "compact", "resnet50"))
    device: str = _key("auto, cpu, cuda or cuda:<n>")
    precision: str = _key("training and attacks; records are scored in fp32, beside bf16 on CUDA in TF32", choices=("auto", "fp32", "bf16"))
    threads: int = _key("CPU threads; 0: all", 0, 1024)
    chunk: int = _key("images per forward pass at inference", 1, 10**6)
    max_hours: float = _key("longest training a CPU starts unasked", 0, 10**5)
    epochs: int = _key("training epochs", 1, 10**5)
    adversarial_share: float = _key("share of `epochs` that AT gets", 0.001, 10)
    interpolated_share: float = _key("epochs of interpolated AT to one of AT", 0.001, 10)
    batch_size: int = _key("clean images per training step", 2, 10**5)
    lr: float = _key("peak learning rate of ERM, mixup and AT", 0, 100)
    lr_interpolated: float = _key("peak learning rate of interpolated AT", 0, 100)
    schedule: str = _key("step: x0.1 at 1/2 and 3/4 of training; onecycle", choices=("step", "onecycle"))
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
    attack_label: str = _key("label of untargeted PGD: the paper's y, or as published", choices=("label", "prediction"))
    draws: int = _key("draws N of every randomised defence", 1, 10**5)
    draw_sets: int = _key("sets of draws for clean and the first PGD column of each mode", 1, 1000)
    pool: str = _key("sample pool p_s: training images, or test images as published", choices=("train", "test"))
    rows: list[dict] = _key("Table 2 or 3: model, defence and its parameters")
    match_clean: bool = _key("choose the rows' parameters on held-out images, at MI-OL's clean accuracy")
    grids: dict = _key("defence -> values of its last parameter: what 04 chooses from and 06 sweeps; an override replaces all")
    fig2_ratios: list[float] = _key("mixup ratios of Fig. 2", 0, 1)
    adaptive_samples: list[int] = _key("adaptive samples of Fig. 4", 1, 10**4)
    fig5_epsilon: float = _key("radius of Fig. 5, on pixels in [0, 1]", 0, 1)

    def epochs_of(self, name: str) -> int:
        """Training epochs of a model of MODELS, at least one."""
        shares = {"at": self.adversarial_share, "interpolated_at": self.adversarial_share * self.interpolated_share, "long_mixup": 2}
        return max(1, round(self.epochs * shares.get(name, 1)))

    def row(self, model: str, defence: str) -> dict:
        """The first row of the table for a model and a defence with a fixed ratio. Raises StudyError."""
        for row in self.rows:
            if (row["model"], row["defence"]) == (model, defence) and not isinstance(row.get("ratio"), list):
                return row
        raise StudyError(f"run '{self.run}': rows has no {model} + {defence}: add one to the table `rows`")


def _number(where: str, value, kind: type):
    try:
        exact = Fraction(value if isinstance(value, str | int) else str(value))
    except (ValueError, TypeError, ZeroDivisionError):
        raise StudyError(f"{where} is {value!r}: write a number such as 0.5 or 8/255") from None
    if kind is int and exact.denominator != 1:
        raise StudyError(f"{where} is {value!r}: write a whole number")
    return kind(exact)


def _value(where: str, value, kind, meta: dict):
    """`value` as `kind`, inside the range of `meta`. Raises StudyError naming key, value and range."""
    origin = getattr(kind, "__origin__", None)
    if isinstance(value, str) and value and (origin is list or kind in (dict, bool)):
        with contextlib.suppress(yaml.YAMLError):
            value = yaml.safe_load(value)  # `-p steps "[10, 50]"`, `-p match_clean true`
    if origin is list:
        if not isinstance(value, list | tuple) or not value:
            raise StudyError(f"{where} is {value!r}: write a list such as [1, 2, 3]")
        return tuple(_value(where, item, kind.__args__[0], meta) for item in value)
    if kind is dict or kind is bool or kind is str:
        if not isinstance(value, kind):
            wanted = {dict: "a table", bool: "true or false", str: "a word"}[kind]
            raise StudyError(f"{where} is {value!r}: write {wanted}")
    else:
        if isinstance(value, bool):
            raise StudyError(f"{where} is {value!r}: write a number")
        value = _number(where, value, kind)
        low, high = meta["low"], meta["high"]
        if (low is not None and value < low) or (high is not None and value > high):
            raise StudyError(f"{where} is {value}: it must lie between {low} and {high}")
    if meta["choices"] and value not in meta["choices"]:
        near = difflib.get_close_matches(str(value), meta["choices"], 1, 0)
        raise StudyError(f"{where} is {value!r}: one of {', '.join(meta['choices'])}; nearest: '{near[0] if near else meta['choices'][0]}'")
    return value


def _unknown(run: str, what: str, name: str, valid) -> StudyError:
    near = difflib.get_close_matches(name, list(valid), 1, 0)
    return StudyError(f"run '{run}': unknown {what} '{name}'; nearest valid {what}: '{near[0]}'")


def _setting(where: str, value, limits: Limits):
    """A parameter of a defence, of its form and inside its limits. Raises StudyError."""
    drawn = limits.form == "number or range" and isinstance(value, list | tuple)
    kind = list[int] if limits.form == "whole range" else list[float] if drawn else float
    checked = _value(where, value, kind, {"low": limits.low, "high": limits.high, "choices": None})
    if not isinstance(checked, tuple):
        return checked
    if len(checked) != 2 or checked[0] > checked[1]:
        raise StudyError(f"{where} is {list(checked)}: write [least, most]")
    return list(checked)


def _check_row(run: str, position: int, row: Mapping) -> dict:
    where = f"run '{run}': rows[{position}]"
    for name in ("model", "defence"):
        if name not in row:
            raise StudyError(f"{where} lacks '{name}'")
    if row["model"] not in MODELS:
        raise _unknown(run, "model", str(row["model"]), MODELS)
    if row["defence"] not in DEFENCES:
        raise _unknown(run, "defence", str(row["defence"]), DEFENCES)
    wanted = DEFENCES[row["defence"]].settings
    for name in set(row) - {"model", "defence", *wanted}:
        raise _unknown(run, f"key in rows[{position}]", name, ("model", "defence", *wanted))
    for name in wanted:
        if name not in row:
            raise StudyError(f"{where} ({row['model']} + {row['defence']}) lacks '{name}'")
    return dict(row) | {name: _setting(f"{where}: {name}", row[name], limits) for name, limits in wanted.items()}


def _check_grid(run: str, defence: str, values) -> list:
    where = f"run '{run}': grids: {defence}"
    if not getattr(DEFENCES.get(defence), "settings", None):
        raise _unknown(run, "defence in grids", str(defence), [name for name, kind in DEFENCES.items() if kind.settings])
    if not isinstance(values, list | tuple) or not values:
        raise StudyError(f"{where} is {values!r}: write a list such as [1, 2, 3]")
    limits = list(DEFENCES[defence].settings.values())[-1]
    return [_setting(where, value, limits) for value in values]


def project_root() -> Path:
    """The folder that holds params/digits.yaml, upwards from the caller's folder, else from this file. Raises StudyError."""
    here = Path.cwd().resolve()
    for folder in (here, *here.parents, *Path(__file__).resolve().parents):
        if (folder / "params" / "digits.yaml").is_file() and (folder / "notebooks").is_dir():
            return folder
    raise StudyError(f"no project above {here}: run this inside a clone of the study (a folder with params/ and notebooks/)")


def outputs_root() -> Path:
    """Where runs write: $MILIB_OUTPUTS, else outputs/ at the project root."""
    return Path(os.environ.get("MILIB_OUTPUTS") or project_root() / "outputs")


def data_root(run: Params) -> Path:
    """Where the CIFAR files lie: the parameter, else $MILIB_DATA, else ./data at the project root."""
    return Path(run.data_root or os.environ.get("MILIB_DATA") or project_root() / "data")


def digest(value) -> str:
    """A 16-digit fingerprint of anything JSON can write."""
    text = json.dumps(value, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def runs() -> list[str]:
    """The names of the parameter files; claims.yaml lies beside them."""
    return sorted(path.stem for path in (project_root() / "params").glob("*.yaml") if path.stem != "claims")


def read_table(path: Path):
    """The content of a YAML file. Raises StudyError."""
    try:
        return yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise StudyError(f"{path} does not exist: the runs are {', '.join(runs())}") from None
    except yaml.YAMLError as error:
        raise StudyError(f"{path} is not YAML: {' '.join(str(error).split())}") from None


def read_yaml(path: Path) -> dict:
    """A parameter file as a dict. Raises StudyError."""
    content = read_table(path)
    if not isinstance(content, dict):
        raise StudyError(f"{path} must hold `key: value` lines")
    return content


def build(values: Mapping) -> Params:
    """Params from a mapping; keys that are absent come from params/digits.yaml. Raises StudyError."""
    run = str(values.get("run", "?"))
    fields = {f.name: f for f in dataclasses.fields(Params)}
    for name in values:
        if name not in fields:
            raise _unknown(run, "key", str(name), fields)
    merged = read_yaml(project_root() / "params" / "digits.yaml") | dict(values)
    checked = {}
    for name, spec in fields.items():
        value = merged[name]
        if name == "data_root":
            value = str(value or "")
        checked[name] = _value(f"run '{run}': {name}", value, spec.type, spec.metadata)
    for name in ("n_theory", "n_adaptive"):
        checked[name] = min(checked[name], checked["n_test"])
    checked["rows"] = tuple(_check_row(run, i, row) for i, row in enumerate(checked["rows"]))
    checked["grids"] = {defence: _check_grid(run, defence, grid) for defence, grid in checked["grids"].items()}
    for defence in ("mi_pl", "mi_ol"):
        if defence not in checked["grids"]:
            raise StudyError(f"run '{run}': grids lacks {defence}: write the whole table")
    if checked["steps"][0] != 10 or list(checked["steps"]) != sorted(set(checked["steps"])):
        raise StudyError(f"run '{run}': steps is {list(checked['steps'])}: it must rise from 10, the paper's first column (PGD-10)")
    return Params(**checked)


def load(path: Path, overrides: Mapping | None = None) -> Params:
    """The run that a parameter file describes, with overrides on top. Raises StudyError."""
    return build(read_yaml(path) | dict(overrides or {}))


def parameters_cell() -> str:
    """The source of every notebook's parameters cell: the keys of digits.yaml, so that papermill knows each of them."""
    values = read_yaml(project_root() / "params" / "digits.yaml")
    lines = [f"{MARK}, those of params/digits.yaml unless papermill injects others; milib/params.py explains each."]
    for name, value in values.items():
        if name == "rows":
            lines += ["rows = [", *(f"    {row!r}," for row in value), "]"]
        elif name == "grids":
            lines += ["grids = {", *(f"    {defence!r}: {grid!r}," for defence, grid in value.items()), "}"]
        else:
            lines.append(f"{name} = {value!r}")
    return "\n".join(lines)


def assignments(source: str) -> dict:
    """The `name = literal` lines of a parameters cell."""
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = ast.literal_eval(node.value)
    return found


def from_sources(sources: Iterable[str]) -> Params:
    """The run that a notebook's code cells describe: the parameters cell, then what papermill injected. Raises StudyError."""
    values: dict = {}
    for source in sources:
        if source.startswith((MARK, INJECTED)):
            values |= assignments(source)
    return build(values)


def from_notebook() -> Params:
    """The run of the calling notebook: its parameters cell, then what papermill injected.

    Both are read from the kernel's input history, not from its globals, which later cells may have changed.
    Raises StudyError, also for a key that only papermill knows.
    """
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None:
        raise StudyError("no notebook here: use milib.params.load(path) outside Jupyter")
    return from_sources(shell.user_ns["In"])
