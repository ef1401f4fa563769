"""Defenses, losses, data sets and architectures of one's own, by a name that a run can give.

A run names the file that calls these functions as its `extension`. A name of the library is not
taken; a name of one's own may be registered again, and the later one counts.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from milib import adaptive, checks, data, defenses, losses, models
from milib.averaging import Defense
from milib.defenses import Limits
from milib.errors import UserError

own: dict[tuple[str, str], object] = {}
"""What was registered: ("defense", its name) and the like -> what was given."""


def _check(kind: str, name: object, given: object, known: Iterable[str]) -> None:
    """Refuse a name that may not be registered, and what is not called."""
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
        raise UserError(f"{kind} {checks.shown(name)}: a name of a-z, 0-9 and _, from a letter")
    if name in known and (kind, name) not in own:
        raise UserError(f"{kind} {name!r} is the library's own: register it under another name")
    if not callable(given):
        raise UserError(f"{kind} {name!r} is {checks.shown(given)}: a function or a class")


def defense(
    name: str,
    make: Callable[..., Defense],
    settings: Mapping[str, Limits] | None = None,
    *,
    title: str,
) -> None:
    """A defense that rows and grids can name, and `defenses.build`.

    - name: as in `rows: - {model: mixup, defense: NAME}`.
    - make: a subclass of Defense, or a function. Called as `make(classifier, **settings,
      **options)`, where options are draws, chunk and seed; with `pool` too where it has a parameter
      of that name.
    - settings: its parameters and where they may lie; the last one is what a study tunes. By
      default none.
    - title: its name in tables.

    Raises UserError for another form.
    """
    checks.instance("settings", settings or {}, Mapping)
    limits = dict(settings or {})
    for key, limit in limits.items():
        if not isinstance(limit, Limits):
            raise UserError(
                f"defense {name!r}: {key} is {checks.shown(limit)}: a Limits(low, high)"
            )
    checks.instance("title", title, str)
    _check("defense", name, make, defenses.DEFENSES)
    taken = inspect.signature(make)
    more = {"pool": None} if "pool" in taken.parameters else {}
    try:
        taken.bind(None, **more, **dict.fromkeys(limits), draws=1, chunk=1, seed=None)
    except TypeError as error:
        wanted = ", ".join(("classifier", *more, *limits, "draws, chunk, seed"))
        raise UserError(f"defense {name!r}: it is called with {wanted}: {error}") from None

    def build(classifier: nn.Module, pool: data.SamplePool | None, **given) -> Defense:
        found = make(classifier, **({"pool": pool} if more else {}), **given)
        checks.instance(f"defense {name!r}", found, Defense)
        return found

    own["defense", name] = make
    defenses.DEFENSES[name] = defenses.Kind(title, limits, build)


def loss(name: str, function: Callable[[Tensor, Tensor], Tensor], *, of: str) -> None:
    """A loss that attacks ascend: `Setting(loss=NAME)` takes it, and 08's sweep.

    - name: of the loss.
    - function: of log F [B, L] and labels [B]: a value for each [B].
    - of: "draws": the mean over draws of its values; 07 runs it as an adaptive attack beside the
      others. "mean": its value for the log mean prediction.

    Raises UserError for another form.
    """
    tables = {"draws": losses.OF_DRAWS, "mean": losses.OF_MEAN}
    table = tables[checks.choice("of", of, tables)]
    _check("loss", name, function, {*losses.LOSSES, *adaptive.ADAPTIVE})
    log = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]]).log()
    found = function(log, torch.tensor([0, 1]))
    if not isinstance(found, Tensor) or found.shape != (2,) or not found.is_floating_point():
        raise UserError(f"loss {name!r} makes {checks.shown(found)} of 2 images: a tensor [2]")
    for other in tables.values():
        other.pop(name, None)
    own["loss", name] = table[name] = function


def dataset(name: str, reader: Callable[[Path, int], tuple]) -> None:
    """A data set that a run can name as `data`, and `data.load`.

    - name: of the data set.
    - reader: `reader(root, classes)` gives ((images, labels), (images, labels), peak): the training
      part, the test part and the value of a white pixel. Images are a numpy array uint8
      [n, C, H, W], labels integers [n] from 0. root is the run's `data_root`.

    Raises UserError for another form; what the reader gives is looked at where it is read.
    """
    _check("dataset", name, reader, data.SOURCES)

    def read(root: Path, classes: int) -> tuple:
        found = reader(root, classes)
        if not isinstance(found, tuple) or len(found) != 3:
            raise UserError(
                f"dataset {name!r} gives {checks.shown(found)}: training part, test part and peak"
            )
        for part in found[:2]:
            if not _is_part(part):
                raise UserError(
                    f"dataset {name!r}: a part is (images, labels): numpy arrays, uint8 "
                    "[n, C, H, W] and integers [n]"
                )
        return found

    own["dataset", name] = reader
    data.SOURCES[name] = read


def _is_part(part: object) -> bool:
    """Whether a reader's part has its form."""
    if not isinstance(part, tuple) or len(part) != 2:
        return False
    images, labels = part
    if not isinstance(images, np.ndarray) or not isinstance(labels, np.ndarray):
        return False
    shaped = images.ndim == 4 and images.dtype == np.uint8 and labels.shape == images.shape[:1]
    return shaped and labels.dtype.kind in "iu" and len(labels) > 0


def architecture(name: str, build: Callable[[int, int], models.Classifier]) -> None:
    """A net that a run can name as `model`, and `build_model`.

    - name: of the net.
    - build: `build(classes, channels)` gives a `models.Classifier`: stages of any modules, then the
      global average and a linear layer. Without dropout: a training's random numbers are its own.

    Raises UserError for another form; what it gives is looked at where it is built.
    """
    _check("architecture", name, build, models.ARCHITECTURES)

    def built(classes: int, channels: int) -> models.Classifier:
        found = build(classes, channels)
        checks.instance(f"architecture {name!r}", found, models.Classifier)
        for module in found.modules():
            if isinstance(module, _DropoutNd) and module.p > 0:
                kind = type(module).__name__
                raise UserError(f"architecture {name!r} has a {kind}: nets without dropout")
        return found

    own["architecture", name] = build
    models.ARCHITECTURES[name] = built
