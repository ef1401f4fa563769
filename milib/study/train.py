"""Train models of a run without a notebook, and ship them.

python -m milib.study.train RUN MODEL... [-p KEY VALUE]... [--limited] [--ship [FOLDER]]

Parameters are given as papermill takes them: -p, -r, -y, -f, -b and their long names. With --ship
the weights go to outputs/reference/RUN (or FOLDER) in half precision. What a stopped training left
goes there too, so that it is resumed from a clone.
"""

import json
import signal
import sys
import time
from pathlib import Path

import click

from milib import checks, files, training
from milib.errors import UserError
from milib.recipes import STOP
from milib.study import arguments, params, paths
from milib.study.study import Study
from milib.study.weights import recipe


def halved(weights: dict) -> dict:
    """Weights as they are shipped: matrices and kernels in half precision, all else as it is.

    - weights: tensors by name.
    """
    return {name: value.half() if value.dim() > 1 else value for name, value in weights.items()}


def ship(study: Study, name: str, folder: Path) -> Path:
    """Put a trained model and its log into `folder`/checkpoints.

    - study: the run.
    - name: the model.
    - folder: a curated run.

    Returns where the weights lie. The run's own copy becomes the same half-precision weights: what
    is computed from now on is computed from what was shipped. Raises UserError where the model has
    no weights yet, or their file is damaged or holds something else.
    """
    source = study.models.find(name)
    if source is None:
        raise UserError(f"run '{study.params.run}': {name} has no weights: train it first")
    target, log = folder / "checkpoints" / source.name, source.with_suffix(".jsonl")
    weights, about = study.models.read(name, source)
    if not log.is_file():
        raise UserError(f"{log} is missing: a training's log is shipped with its weights")
    own = study.store.checkpoint_path(name, recipe(study.params, name))
    for path in {source, target} & {own, target}:  # not what another run ships
        files.write_tensors(path, halved(weights), about)
    if source != target:
        files.write_atomic(target.with_suffix(".jsonl"), log.read_bytes())
    return target


def ship_state(study: Study, name: str, folder: Path) -> None:
    """Put what an unfinished training left into `folder`/state, in parts that fit one file.

    - study: the run.
    - name: the model. Once it is trained to its end, its state is removed there; once it is
      stopped, a state that is there stays.
    - folder: a curated run.
    """
    state = study.models.state_path(name)
    parts, done = folder / "state" / state.name, study.models.find(name) is not None
    if done and STOP in recipe(study.params, name) and files.read_parts(parts):
        return  # what is there may be further than where this training stopped
    if state.exists():
        files.write_parts(parts, state.read_bytes())
    elif done and STOP not in recipe(study.params, name):
        files.write_parts(parts, b"")


COMMAND = "python -m milib.study.train"
ARGUMENTS = (
    click.Argument(["run"]),
    click.Argument(["models"], nargs=-1, required=True),
    click.Option(
        ["--limited"],
        is_flag=True,
        help="On a CPU, refuse what takes more than the run's max_hours, as a notebook does.",
    ),
    click.Option(
        ["--ship"],
        is_flag=False,
        flag_value="",
        metavar="[FOLDER]",
        help="Ship weights, or the unfinished state.",
    ),
)
"""Of the command, beside papermill's options."""


def _stopped(*_) -> None:
    sys.exit("stopped: the same command goes on from the last minute")


def main(words: list[str]) -> None:
    """The command line: see this module's head.

    - words: its words.

    The profile calls it by the names of its models. Raises UserError.
    """
    started, about = time.perf_counter(), "Train models of a run without a notebook, and ship them."
    given, overrides = arguments.read(words, COMMAND, ARGUMENTS, about)
    models = [checks.choice("MODEL", name, training.MODELS) for name in given["models"]]
    unlimited = {} if given["limited"] else {"max_hours": 1e4}
    run = params.load(paths.parameter_file(given["run"]), unlimited | overrides)
    study = Study(run, f"train_{'_'.join(models)}")
    folder = None
    if given["ship"] is not None:
        folder = Path(given["ship"]) if given["ship"] else study.store.reference
        files.remove_leftovers(folder)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stopped)
    for name in models:
        try:
            study.require(name)
            if folder:
                shipped = {"model": name, "shipped": ship(study, name, folder).name}
                print(json.dumps(shipped), flush=True)
        finally:
            if folder:
                ship_state(study, name, folder)
    seconds = study.store.folder / "profile" / f"{study.notebook}.seconds"
    files.write_atomic(seconds, f"{time.perf_counter() - started:.2f}\n".encode())


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"{type(error).__name__}: {error}")
