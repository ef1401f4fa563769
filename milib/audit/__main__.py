"""`python -m milib.audit module:factory --data PATH`: what is left of a defense, from the shell.

The factory is imported from the folder where the command runs, and called without arguments. It
gives the defense, or (defense, undefended model). Data are a .safetensors or .npz file with images
"x" (uint8, or floats in [0, 1]; N, C, H, W) and labels "y", or "digits", or "cifar10:FOLDER".
"""

import argparse
import importlib
import sys
from pathlib import Path
from typing import NoReturn

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from milib import checks, data, files
from milib.audit import audit
from milib.errors import UserError

COMMAND = "python -m milib.audit"
NAMED = {"digits": 10, "cifar10": 10, "cifar100": 100}
"""Data sets that are known by a name, and their classes."""


class _Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes end in one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = _Parser(COMMAND, description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("factory", metavar="module:factory", help="what makes the defense")
    parser.add_argument("--data", required=True, help="a file, or digits, cifar10[:FOLDER]")
    parser.add_argument("--epsilon", default="8/255", help="on pixels in [0, 1]; by default 8/255")
    parser.add_argument("--count", type=int, default=50, help="images from the first; default 50")
    parser.add_argument("--seeds", type=int, default=1, help="training seeds evaluated; default 1")
    parser.add_argument("--full", action="store_true", help="more steps and images")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where all numbers are written")
    parser.add_argument("--html", type=Path, metavar="FILE", help="where the tables are written")
    parser.add_argument("--folder", type=Path, help="keeps records: an interrupted audit goes on")
    return parser.parse_args(words)


def _number(text: str) -> float:
    """ "8/255" as a number."""
    above, _, below = text.partition("/")
    try:
        return float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        raise UserError(f"--epsilon is {text!r}: a number, as in 8/255") from None


def _made(name: str) -> tuple[nn.Module, nn.Module | None]:
    """The defense and its base, as the factory gives them."""
    module, _, factory = name.partition(":")
    if not module or not factory:
        raise UserError(f"{name!r}: module:factory, as in my_defense:build")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), factory)()
    except UserError:
        raise
    except Exception as error:  # whatever the user's code raises, it ends in one line
        why = " ".join(str(error).split())
        raise UserError(f"{name}: {type(error).__name__}: {why}") from None
    pair = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    defense, base = pair
    if not isinstance(defense, nn.Module) or not isinstance(base, nn.Module | None):
        raise UserError(f"{name} gives {checks.shown(found)}: a torch.nn.Module, or two of them")
    return defense, base


def _read(given: str) -> tuple[Tensor, Tensor]:
    """Images in [0, 1] and labels."""
    name, _, root = given.partition(":")
    if name in NAMED:
        options = {"n_train": 0, "n_heldout": 0, "device": "cpu"}
        test = data.load(name, classes=NAMED[name], root=root, **options).test
        return test.pixels(), test.labels
    path, found = Path(given), {}
    if not path.is_file():
        names = ", ".join(NAMED)
        raise UserError(f"--data is {given}: no such file; .safetensors or .npz, or {names}")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                found = {key: torch.from_numpy(arrays[key]) for key in arrays.files}
        else:
            found = safetensors.torch.load_file(path)
    except Exception as error:  # numpy and safetensors raise errors of many kinds
        why = " ".join(str(error).split())
        raise UserError(f"--data is {given}: it cannot be read: {why}") from None
    for key in ("x", "y"):
        if key not in found:
            raise UserError(
                f'{given} holds {", ".join(found) or "nothing"}: images "x", labels "y"'
            )
    x = found["x"]
    return (x.float() / 255 if x.dtype == torch.uint8 else x), found["y"]


def main(words: list[str]) -> None:
    given = _arguments(words)
    epsilon, count = _number(given.epsilon), checks.count("--count", given.count)
    defense, base = _made(given.factory)
    x, y = _read(given.data)
    device = next(defense.parameters(), torch.empty(0)).device
    found = audit(
        defense,
        x[:count].to(device),
        y[:count].to(device),
        epsilon=epsilon,
        base=base,
        full=given.full,
        seeds=given.seeds,
        folder=given.folder,
    )
    print(found)
    if given.json is not None:
        files.write_atomic(given.json, found.json().encode())
    if given.html is not None:
        page = f"<!doctype html><meta charset='utf-8'><title>Audit</title>{found._repr_html_()}"
        files.write_atomic(given.html, page.encode())


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(f"{COMMAND}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit("stopped: with --folder the same command goes on from here")
