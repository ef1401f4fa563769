"""The file of a training's weights: it says inside what they are, and is read only as that.

Its header holds the recipe, `trained` (the data's fingerprint, the precision and the type of device
of the training) and the log. Beside it lies the log as text, <name>.jsonl, which no code needs.
"""

import json
import math
from pathlib import Path

import torch

from milib import models, recipes
from milib.errors import UserError
from milib.files import AGAIN, read_tensors, write_atomic, write_tensors
from milib.study.store import finite


def write(
    path: Path,
    weights: dict[str, torch.Tensor],
    settings: dict,
    trained: dict[str, str],
    log: list[dict],
    **more,
) -> None:
    """Write weights and, beside them, the log of their training.

    - path: where the weights go.
    - weights: by name.
    - settings: the recipe.
    - trained: "data", "precision" and "device".
    - log: an entry an epoch.
    - more: what the log's first line tells besides the recipe and `trained`.
    """
    lines = [settings | {"trained": trained} | more, *log]
    text = "".join(json.dumps(entry) + "\n" for entry in lines)
    write_atomic(path.with_suffix(".jsonl"), text.encode())
    untimed = [{key: value for key, value in entry.items() if key != "seconds"} for entry in log]
    write_tensors(path, weights, {"recipe": settings, "trained": trained, "log": untimed})


def read(
    path: Path, settings: dict, trained: dict[str, str], channels: int
) -> tuple[dict[str, torch.Tensor], dict]:
    """Weights by name and the header of their file, if they are those asked for.

    - path: the file.
    - settings: the recipe.
    - trained: what of the header's `trained` must be so.
    - channels: of the images.

    Raises UserError where the file is damaged or holds something else.
    """
    weights, header = read_tensors(path)
    why = _other_training(header, settings, trained) or _other_tensors(weights, settings, channels)
    if why:
        raise UserError(f"{path} {why}: {AGAIN}")
    return weights, header


def _other_training(header: dict, settings: dict, trained: dict[str, str]) -> str:
    """How the weights' training differs from the one asked for; empty where it does not."""
    recipe, found = header.get("recipe"), header.get("trained")
    if not isinstance(recipe, dict) or not isinstance(found, dict):
        return "does not say how its weights were trained"
    if recipe.get("name") != settings["name"]:
        return f"holds {recipe.get('name')}'s weights, not {settings['name']}'s"
    wanted = json.loads(json.dumps(settings))
    for key in sorted(wanted | recipe):
        if recipe.get(key) != wanted.get(key):
            return f"was trained with {key} {recipe.get(key)}, not {wanted.get(key)}"
    if found.get("data") != trained["data"]:
        return f"was trained on other images than {settings['data']} has here"
    for key, value in trained.items():
        if found.get(key) != value:
            return f"was trained with {key} {found.get(key)}, not {value} (or name another run)"
    return _unfinished(header.get("log"), math.floor(recipes.length(settings)))


def _unfinished(log: object, epochs: int) -> str:
    """What a training's log lacks; empty where it is whole."""
    if not isinstance(log, list) or not all(isinstance(entry, dict) for entry in log):
        return "has no log of its training"
    numbers = [entry.get("epoch") for entry in log]
    return "" if numbers == list(range(1, epochs + 1)) else "was not trained to its end"


def _other_tensors(weights: dict[str, torch.Tensor], settings: dict, channels: int) -> str:
    """What is wrong with the tensors themselves; empty where nothing is."""
    net = models.build(settings["model"], settings["classes"], channels, 0)
    if _forms(weights) != _forms(net.state_dict()):
        return f"holds the tensors of another net than {settings['model']}"
    return "" if finite(weights) else "holds NaN or inf"


def _forms(tensors: dict[str, torch.Tensor]) -> dict[str, tuple]:
    """The shape of each tensor and whether it has fractions; shipped weights have fewer bits."""
    return {key: (each.shape, each.is_floating_point()) for key, each in tensors.items()}
