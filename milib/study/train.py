"""Train models of a run without a notebook, and ship them: `python -m milib.study.train RUN MODEL... [-p KEY VALUE]... [--ship [FOLDER]]`.

With --ship the weights go to outputs/reference/RUN (or FOLDER) in half precision, and what a stopped training left goes there too, so
that it resumes from a clone.
"""

import argparse
import json
import signal
import sys
from pathlib import Path

from milib import files, training
from milib.errors import UserError
from milib.study import params, paths
from milib.study.study import Study


def halved(weights: dict) -> dict:
    """Weights as they are shipped: matrices and kernels in half precision, biases and batch-norm statistics as they are."""
    return {name: value.half() if value.dim() > 1 else value for name, value in weights.items()}


def ship(study: Study, name: str, folder: Path) -> Path:
    """A finished model and its log in `folder`/checkpoints. Raises UserError where the file is damaged.

    The run's own copy becomes the same half-precision weights, so that what is computed from now on is computed from what was shipped.
    """
    source = study.models.find(name)
    target = folder / "checkpoints" / source.name
    weights, about = files.read_tensors(source)
    for path in {source, target}:
        files.write_tensors(path, halved(weights), about)
    if source != target:
        files.write_atomic(target.with_suffix(".jsonl"), source.with_suffix(".jsonl").read_bytes())
    return target


def ship_state(study: Study, name: str, folder: Path) -> None:
    """What an unfinished training left, in `folder`/state: one generation, in parts that fit one file, removed when the model is done."""
    state = study.models.state_path(name)
    if state.exists():
        files.write_parts(folder / "state" / state.name, state.read_bytes())
    elif study.models.find(name):
        files.write_parts(folder / "state" / state.name, b"")


def main(arguments: list[str]) -> None:
    """The command line. Raises UserError."""
    parser = argparse.ArgumentParser(
        prog="python -m milib.study.train", description=__doc__.splitlines()[0]
    )
    parser.add_argument("run")
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
        type=Path,
        const=Path(),
        metavar="FOLDER",
        help="ship weights, or the unfinished state",
    )
    given = parser.parse_args(arguments)
    overrides = {"max_hours": 1e4} | dict(given.p)
    study = Study(
        params.load(paths.project_root() / "params" / f"{given.run}.yaml", overrides), "train"
    )
    signal.signal(
        signal.SIGTERM,
        lambda *_: sys.exit("stopped: the same command goes on from the last minute"),
    )
    folder = study.store.reference if given.ship == Path() else given.ship
    for name in given.models:
        try:
            study.require(name)
            if folder:
                print(
                    json.dumps({"model": name, "shipped": ship(study, name, folder).name}),
                    flush=True,
                )
        finally:
            if folder:
                ship_state(study, name, folder)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(str(error))
