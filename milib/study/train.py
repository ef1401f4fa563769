"""Train models of a run without a notebook, and ship them.

python -m milib.study.train RUN MODEL... [-p KEY VALUE]... [--ship [FOLDER]]

With --ship the weights go to outputs/reference/RUN (or FOLDER) in half precision. What a stopped
training left goes there too, so that it is resumed from a clone.
"""

import argparse
import json
import signal
import sys
import time
from pathlib import Path

from milib import files, training
from milib.errors import UserError
from milib.study import params, paths
from milib.study.study import Study


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
    no weights yet or their file is damaged.
    """
    source = study.models.find(name)
    if source is None:
        raise UserError(f"run '{study.params.run}': {name} has no weights: train it first")
    target = folder / "checkpoints" / source.name
    weights, about = files.read_tensors(source)
    for path in {source, target}:
        files.write_tensors(path, halved(weights), about)
    if source != target:
        files.write_atomic(target.with_suffix(".jsonl"), source.with_suffix(".jsonl").read_bytes())
    return target


def ship_state(study: Study, name: str, folder: Path) -> None:
    """Put what an unfinished training left into `folder`/state, in parts that fit one file.

    - study: the run.
    - name: the model. Once it is trained, its state is removed there.
    - folder: a curated run.
    """
    state = study.models.state_path(name)
    if state.exists():
        files.write_parts(folder / "state" / state.name, state.read_bytes())
    elif study.models.find(name):
        files.write_parts(folder / "state" / state.name, b"")


def _arguments(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m milib.study.train",
        description="Train models of a run without a notebook, and ship them.",
    )
    parser.add_argument("run", help="name of a run: a file in params/")
    parser.add_argument("models", nargs="+", choices=training.MODELS)
    parser.add_argument(
        "-p",
        nargs=2,
        action="append",
        default=[],
        metavar=("KEY", "VALUE"),
        help="a parameter, as papermill reads it",
    )
    parser.add_argument(
        "--ship",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="ship weights, or the unfinished state",
    )
    return parser.parse_args(given)


def _stopped(*_) -> None:
    sys.exit("stopped: the same command goes on from the last minute")


def main(arguments: list[str]) -> None:
    """The command line: see this module's head.

    - arguments: its words.

    The profile calls it by the names of its models. Raises UserError.
    """
    given, started = _arguments(arguments), time.perf_counter()
    overrides = {"max_hours": 1e4} | dict(given.p)
    run = params.load(paths.project_root() / "params" / f"{given.run}.yaml", overrides)
    study = Study(run, f"train_{'_'.join(given.models)}")
    folder = None
    if given.ship is not None:
        folder = Path(given.ship) if given.ship else study.store.reference
    signal.signal(signal.SIGTERM, _stopped)
    for name in given.models:
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
