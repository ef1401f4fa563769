"""Train models of a run without a notebook, and ship them: `python -m milib.prepare RUN MODEL... [-p KEY VALUE]... [--ship]`.

With --ship the weights go to outputs/reference/RUN in half precision, and what a stopped training left goes there too, so that it
resumes from a clone.
"""

import argparse
import json
import shutil
import signal
import sys
from pathlib import Path

import yaml

from milib import artifacts, params, training
from milib.errors import StudyError
from milib.study import Study


def halved(weights: dict) -> dict:
    """Weights as they are shipped: matrices and kernels in half precision, biases and batch-norm statistics as they are."""
    return {name: value.half() if value.dim() > 1 else value for name, value in weights.items()}


def ship(study: Study, name: str) -> Path:
    """Copy a finished model and its log to the run's reference folder. Raises StudyError where the file is damaged."""
    recipe = training.recipe(study.params, name)
    source = study.store.find_checkpoint(name, recipe)
    target = study.store.reference / "checkpoints" / source.name
    if source != target:
        weights, about = artifacts.read_tensors(source)
        artifacts.write_atomic(target.with_suffix(".jsonl"), source.with_suffix(".jsonl").read_bytes())
        artifacts.write_tensors(target, halved(weights), about)
        source.unlink()  # what is computed from now on is computed from the shipped weights
    return target


def ship_state(study: Study, name: str) -> None:
    """Keep what an unfinished training left beside the shipped weights: one generation, removed when the model is done."""
    state = study.state_path(name)
    target = study.store.reference / "state" / state.name
    if state.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(state, target.with_suffix(".tmp"))
        target.with_suffix(".tmp").replace(target)
    elif study.store.find_checkpoint(name, training.recipe(study.params, name)):
        target.unlink(missing_ok=True)


def main(arguments: list[str]) -> None:
    """The command line. Raises StudyError."""
    parser = argparse.ArgumentParser(prog="python -m milib.prepare", description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("models", nargs="+", choices=params.MODELS)
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"), help="a parameter, as papermill reads it")
    parser.add_argument("--ship", action="store_true", help="half-precision weights (or the unfinished state) to outputs/reference")
    given = parser.parse_args(arguments)
    overrides = {"max_hours": 1e4} | {key: yaml.safe_load(value) for key, value in given.p}
    study = Study(params.load(params.project_root() / "params" / f"{given.run}.yaml", overrides), "prepare")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped: the same command goes on from the last minute"))
    for name in given.models:
        try:
            study.require(name)
            if given.ship:
                print(json.dumps({"model": name, "shipped": ship(study, name).name}), flush=True)
        finally:
            if given.ship:
                ship_state(study, name)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except StudyError as error:
        sys.exit(str(error))
