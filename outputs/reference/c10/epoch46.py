"""Interpolated AT of c10 as far as it was trained: weights, and the state to go on from.

    python outputs/reference/c10/epoch46.py

The state after 46.8043 of 60 epochs lies in the history, in an old format without metadata. This
writes it to state/ in today's format, which git ignores (a GPU goes on from there), and its weights
to checkpoints/ as those of a training that stopped there. A clone needs its whole history.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from milib import files, recipes, training, training_state
from milib.study import checkpoints, params, paths, weights
from milib.study.train import halved

HERE = Path(__file__).resolve().parent
NAME = "interpolated_at"
STATE = "ddc2502:outputs/reference/c10/state/interpolated_at-1b0d4f90cf1c2c05.safetensors"


def shown(part: int) -> bytes:
    """A part of the state in the history."""
    command = ["git", "show", f"{STATE}.{part}"]
    return subprocess.run(command, cwd=paths.project_root(), check=True, capture_output=True).stdout


def main() -> None:
    """Writes both."""
    run = params.load(paths.parameter_file("c10_500"))
    stopped = weights.recipe(run, NAME)
    whole = {key: value for key, value in stopped.items() if key != recipes.STOP}
    [mixup] = (HERE / "checkpoints").glob("mixup-*.safetensors")
    trained = files.read_tensors(mixup)[1]["trained"]  # of the same images, on the same card
    identity = trained | {"recipe": recipes.followed(whole), "version": training.VERSION}
    state = HERE / "state" / f"{NAME}-{files.digest(whole)}.safetensors"
    if files.read_parts(state):
        sys.exit(f"{state}.* exists: delete it first, unless a GPU has gone on from there")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        path.write_bytes(b"".join(map(shown, range(3))))
        tensors, position = files.read_tensors(path)
        training_state.write(path, identity, tensors, position)
        files.write_parts(state, path.read_bytes())
    found = {key[6:]: value for key, value in tensors.items() if key.startswith("model.")}
    target = HERE / "checkpoints" / f"{NAME}-{files.digest(stopped)}.safetensors"
    made = {"machine": "NVIDIA H200", "state": "commit ddc2502"}
    checkpoints.write(target, halved(found), stopped, trained, position["log"], made=made)
    print(f"{target.name}: weights at epoch {recipes.length(stopped)}\n{state.name}: to go on from")


if __name__ == "__main__":
    main()
