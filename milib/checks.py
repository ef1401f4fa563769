"""Input is checked once, at the edge: each check returns the value in its one form, or raises.

A `UserError`, which is a ValueError, names the argument, its value, what is allowed and what was
probably meant. Inner loops call what lies behind the edge.
"""

import contextlib
import difflib
import math
import numbers
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm

from milib.errors import UserError

SLACK = 1e-5
"""How far rounding may take a pixel out of [0, 1]."""


def shown(value: object) -> str:
    """A value as an error line shows it: at most 60 characters of its repr; a tensor by its shape.

    - value: anything.
    """
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    try:
        text = " ".join(repr(value).split())
    except (ValueError, RecursionError):  # a whole number of thousands of digits, endless nesting
        text = f"a {type(value).__name__} too long to show"
    return text if len(text) <= 60 else f"{text[:57]}..."


def plain(value: object) -> object:
    """Numbers and lists of numpy or torch as Python's own; anything else as it is.

    - value: anything.
    """
    if isinstance(value, np.generic | np.ndarray | Tensor) and value.ndim < 2:
        return value.tolist()
    return value


def _real(value: object) -> float:
    """A number as a float; NaN, which lies within no bounds, for anything else."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return math.inf


def number(name: str, value: object, low: float, high: float, hint: str = "") -> float:
    """A finite number within bounds, as a float.

    - name: of the argument.
    - value: what was given; a bool or a text is no number.
    - low, high: both allowed.
    - hint: what was probably meant, where it is refused; by default nothing.
    """
    found = _real(value)
    if low <= found <= high:
        return found
    more = f"; {hint}" if hint else ""
    raise UserError(f"{name} is {shown(value)}: a number from {low} to {high}{more}")


def radius(name: str, value: object) -> float:
    """A distance on pixels in [0, 1], such as eps: from 0 to 1.

    - name: of the argument.
    - value: what was given.
    """
    hint = "on pixels in [0, 1], as in 8 / 255"
    if 1 < _real(value) <= 255:
        hint = f"{_real(value):g} / 255 was probably meant"
    return number(name, value, 0, 1, hint)


def step(name: str, value: object) -> float:
    """The size of an attack's step: as `radius`, above 0.

    - name: of the argument.
    - value: what was given.
    """
    found = radius(name, value)
    if found == 0:
        raise UserError(f"{name} is {shown(value)}: above 0; no step would move a pixel")
    return found


def count(name: str, value: object, low: int = 1, high: int = 2**31) -> int:
    """A whole number within bounds, as an int.

    - name: of the argument.
    - value: what was given; a bool or a float is none.
    - low, high: both allowed.
    """
    found = plain(value)
    if isinstance(found, int) and not isinstance(found, bool) and low <= found <= high:
        return found
    bounds = f"from {low}" if high == 2**31 else f"from {low} to {high}"
    raise UserError(f"{name} is {shown(value)}: a whole number {bounds}")


def counts(name: str, value: object) -> list[int]:
    """Whole numbers from 1: a sequence that is not empty, or one number alone.

    - name: of the argument.
    - value: what was given.
    """
    found = plain(value)
    if isinstance(found, list | tuple | range) and len(found):
        return [count(f"{name}[{place}]", each) for place, each in enumerate(found)]
    if isinstance(found, int) and not isinstance(found, bool):
        return [count(name, found)]
    raise UserError(f"{name} is {shown(value)}: a whole number, or several such as [10, 50]")


def choice(name: str, value: object, names: Iterable[str]) -> str:
    """One of several names.

    - name: of the argument.
    - value: what was given.
    - names: those allowed; the nearest stands in the error.
    """
    allowed = list(names)
    if isinstance(value, str) and value in allowed:
        return value
    near = difflib.get_close_matches(str(value), allowed, 1, 0)
    hint = f"; nearest: {near[0]!r}" if near else ""
    raise UserError(f"{name} is {shown(value)}: one of {', '.join(allowed)}{hint}")


def images(name: str, x: object, slack: float = SLACK) -> Tensor:
    """Images [B, C, H, W] in floating point, finite and in [0, 1], detached from any graph or not.

    - name: of the argument.
    - x: what was given.
    - slack: how far outside [0, 1] a pixel may lie.
    """
    if not isinstance(x, Tensor):
        raise UserError(f"{name} is {type(x).__name__}: a torch tensor [B, C, H, W] in [0, 1]")
    if x.dim() != 4:
        raise UserError(f"{name} has shape {list(x.shape)}: [B, C, H, W]; one image is x[None]")
    if not x.is_floating_point():
        kind = str(x.dtype).removeprefix("torch.")
        raise UserError(f"{name} is {kind}: floating point in [0, 1]; x.float() / 255 of bytes")
    if 0 in x.shape[1:]:
        raise UserError(f"{name} has shape {list(x.shape)}: images without pixels")
    if x.numel():
        low, high = (float(end) for end in x.detach().aminmax())
        if not (-slack <= low and high <= 1 + slack):  # NaN compares as False
            raise UserError(
                f"{name} must be finite and lie in [0, 1] (found {low:.4g} to {high:.4g}; "
                "divide by 255, or (x + 1) / 2)"
            )
    return x


def labels(
    name: str, label: object, size: int, device: torch.device, classes: int | None = None
) -> Tensor:
    """Labels or indices [B], whole numbers from 0, as int64 on the images' device.

    - name: of the argument.
    - label: what was given, of any integer type.
    - size: B.
    - device: where they go.
    - classes: L, where it is known: labels lie below it.
    """
    if not isinstance(label, Tensor):
        raise UserError(f"{name} is {type(label).__name__}: a torch tensor [{size}] of integers")
    whole = not (label.is_floating_point() or label.is_complex() or label.dtype == torch.bool)
    if not whole or label.shape != (size,):
        hint = "; one-hot rows: .argmax(1)" if label.dim() == 2 else ""
        raise UserError(f"{name} is {shown(label)}: integers [{size}], one an image{hint}")
    found = label.to(device, torch.int64)
    if size and int(found.min()) < 0:
        raise UserError(f"{name} holds {int(found.min())}: whole numbers from 0")
    if size and classes is not None and int(found.max()) >= classes:
        raise UserError(f"{name} holds {int(found.max())}: the classes are 0..{classes - 1}")
    return found


def logits(found: object, size: int, classes: int | None = None, label: Tensor | None = None):
    """What a classifier returned for `size` images: logits [B, L], not NaN, L at least 2.

    - found: what it returned.
    - size: B.
    - classes: L, where it must be that of a sample pool.
    - label: labels [B], which must be below L.
    """
    if not isinstance(found, Tensor):
        raise UserError(f"the classifier returns {type(found).__name__}: logits [B, L], a tensor")
    if found.dim() != 2 or len(found) != size:
        shape = list(found.shape)
        raise UserError(f"the classifier returns {shape} for {size} images: logits [{size}, L]")
    if not found.is_floating_point():
        raise UserError(f"the classifier returns {shown(found)}: logits in floating point")
    width = found.shape[1]
    if width < 2:
        raise UserError("the classifier has 1 logit: 2 at least; of a sigmoid z: cat([-z, z], 1)")
    if classes is not None and width != classes:
        raise UserError(
            f"the classifier has {width} classes, the sample pool {classes}: both the same"
        )
    values = found.detach()
    if values.isnan().any():
        raise UserError("the classifier returns NaN: its weights or activations are not finite")
    near_one = (values.double().sum(1) - 1).abs() < 1e-2  # as half precision rounds them
    if size and values.min() >= 0 and near_one.all():
        raise UserError("the classifier returns probabilities: logits, or the log of those")
    if label is not None:
        labels("label", label, len(label), label.device, width)


def instance(name: str, value: object, kind: type) -> None:
    """Refuse what is not of a type.

    - name: of the argument.
    - value: what was given.
    - kind: the type.
    """
    if not isinstance(value, kind):
        wanted = kind.__name__ if kind is not nn.Module else "torch.nn.Module"
        raise UserError(f"{name} is {shown(value)}: a {wanted}")


def device(name: str, value: object) -> torch.device:
    """A device that torch has here.

    - name: of the argument.
    - value: what was given.
    """
    if isinstance(value, str | torch.device):
        with contextlib.suppress(RuntimeError, AssertionError):  # a torch without CUDA: the last
            torch.empty(0, device=value)
            return torch.device(value)
    raise UserError(f"{name} is {shown(value)}: one that torch has here, as cpu or cuda")


def deterministic(classifier: object) -> None:
    """Refuse a net that is random or looks at its batch: dropout or batch norm in training mode.

    - classifier: a module; of other callables nothing is known.
    """
    if not callable(classifier):
        raise UserError(f"the classifier is {shown(classifier)}: a module from images to logits")
    if not isinstance(classifier, nn.Module):
        return
    for module in classifier.modules():
        kind = type(module).__name__
        if module.training and _reads_its_mode(module):
            raise UserError(f"the classifier's {kind} is in training mode: call .eval() first")
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise UserError(f"the classifier's {kind} has no running statistics: its batch decides")


def _reads_its_mode(module: nn.Module) -> bool:
    """Whether a module does something else in training mode."""
    if isinstance(module, _DropoutNd):
        return module.p > 0
    if isinstance(module, _InstanceNorm):
        return module.track_running_stats
    code = getattr(type(module).forward, "__code__", None)
    return code is not None and "training" in code.co_names


def quantities(**given: object) -> None:
    """Refuse what is no finite number, array or tensor, and arrays of different shapes.

    - given: by the names of the arguments; a number goes with every shape.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for name, value in given.items():
        kind = "b"
        if isinstance(value, numbers.Real | np.ndarray | Tensor):
            if isinstance(value, Tensor) and value.is_floating_point():
                value = value.detach().double().cpu()  # numpy has no bfloat16
            array = np.asarray(value)
            kind = array.dtype.kind
        if kind not in "fiu":
            raise UserError(f"{name} is {shown(value)}: a number, or an array or tensor of them")
        if not np.isfinite(array).all():
            raise UserError(f"{name} holds NaN or inf: finite numbers")
        if array.ndim:
            shapes[name] = array.shape
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise UserError(f"arrays of different shapes: {told}: one number an image in each")
