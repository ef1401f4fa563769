"""Labelled images as integer tensors on one device, and a data set in three parts."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from milib import checks
from milib.errors import UserError
from milib.shapes import Bytes, Whole


@dataclass(frozen=True, eq=False)  # two are equal where they are the same
class Dataset:
    """Labelled images as integers, on one device.

    - images: uint8 [n, C, H, W], with values 0..peak.
    - labels: [n], in 0..classes-1, of any integer type; kept as int64.
    - index: [n], each image's number in its source; it addresses the image's random numbers. Of
      any integer type; kept as int64.
    - classes: how many there are, at least 2.
    - peak: the value of a white pixel, 1..255 (255 in 8-bit images).

    Raises UserError for other types and shapes. Values are looked at where a data set is used:
    see `values_checked`.
    """

    images: Bytes
    labels: Whole
    index: Whole
    classes: int
    peak: int

    def __post_init__(self):
        # no value of a tensor is read: a data set is made at every step of a training
        _check_images(self.images)
        for name in ("labels", "index"):
            numbers = _integers(name, getattr(self, name), self.images)
            object.__setattr__(self, name, numbers)
        checks.count("classes", self.classes, 2, 10**5)
        checks.count("peak", self.peak, 1, 255)

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, where: Tensor | slice = slice(None)) -> Tensor:
        """Pixels in [0, 1], float32 [k, C, H, W].

        - where: which images: an index tensor [k], a mask [n] or a slice; by default all.
        """
        return self._rows(self.images, where).float() / self.peak

    def take(self, where: Tensor | slice) -> "Dataset":
        """The data set of some of the images.

        - where: an index tensor [k], a mask [n] or a slice.
        """
        columns = (self.images, self.labels, self.index)
        images, labels, index = (self._rows(column, where) for column in columns)
        return Dataset(images, labels, index, self.classes, self.peak)

    def _rows(self, column: Tensor, where: Tensor | slice) -> Tensor:
        try:
            return column[where]
        except (IndexError, TypeError, RuntimeError):
            raise UserError(
                f"where is {checks.shown(where)}: an index tensor, a mask or a slice of "
                f"{len(self)} images"
            ) from None


def _check_images(images: object) -> None:
    if not isinstance(images, Tensor):
        hint = "; torch.from_numpy(images)" if isinstance(images, np.ndarray) else ""
        raise UserError(f"images is {type(images).__name__}: a torch tensor [n, C, H, W]{hint}")
    if images.dtype != torch.uint8:
        hint = "of floats in [0, 1]: (255 * images).round().to(torch.uint8) with peak 255"
        raise UserError(f"images is {checks.shown(images)}: uint8 with values 0..peak; {hint}")
    shape = list(images.shape)
    if images.dim() != 4 or 0 in shape[1:]:
        hint = "; of grey images: images[:, None]" if images.dim() == 3 else ""
        raise UserError(f"images has shape {shape}: [n, C, H, W]{hint}")
    if shape[1] == shape[2] > 4 and shape[3] in (1, 3):
        raise UserError(f"images has shape {shape}: [n, C, H, W]; images.permute(0, 3, 1, 2)")


def _integers(name: str, numbers: object, images: Tensor) -> Tensor:
    """Labels or index as int64 [n], beside the images."""
    if not isinstance(numbers, Tensor):
        raise UserError(f"{name} is {type(numbers).__name__}: a torch tensor [n] of integers")
    other = numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool
    if other or numbers.dim() != 1:
        hint = "; of one-hot rows: .argmax(1)" if numbers.dim() == 2 else ""
        raise UserError(f"{name} is {checks.shown(numbers)}: integers [n]{hint}")
    if len(numbers) != len(images):
        raise UserError(f"{name} has {len(numbers)} numbers for {len(images)} images: one each")
    if numbers.device != images.device:
        raise UserError(f"{name} is on {numbers.device}, images on {images.device}: on one device")
    return numbers.long()


def values_checked(name: str, data: object) -> Dataset:
    """A data set with at least one image, pixels in 0..peak and labels in 0..classes-1.

    - name: of the argument.
    - data: what was given.

    Raises UserError for anything else.
    """
    if not isinstance(data, Dataset):
        raise UserError(f"{name} is {type(data).__name__}: a milib.Dataset")
    if not len(data):
        raise UserError(f"{name} has no images: at least one")
    if data.peak < 255 and int(data.images.max()) > data.peak:
        found = int(data.images.max())
        raise UserError(f"{name} has pixels up to {found}: 0..{data.peak}, its peak; or peak 255")
    low, high = (int(end) for end in data.labels.aminmax())
    if low < 0 or high >= data.classes:
        hint = f"; labels that begin at 1: labels - 1, classes {high}" if low > 0 else ""
        raise UserError(f"{name} has labels {low} to {high}: 0..{data.classes - 1}{hint}")
    return data


@dataclass(frozen=True, eq=False)  # two are equal where they are the same
class Splits:
    """A data set in three parts.

    - train: the training images.
    - heldout: images kept out of training; every choice is made on them.
    - test: for final numbers only.

    Raises UserError where a part is no Dataset, or shape, classes, peak or device differ.
    """

    train: Dataset
    heldout: Dataset
    test: Dataset

    def __post_init__(self):
        first = None
        for name in ("train", "heldout", "test"):
            part = getattr(self, name)
            if not isinstance(part, Dataset):
                raise UserError(f"{name} is {type(part).__name__}: a milib.Dataset")
            about = {"shape": list(part.images.shape[1:]), "classes": part.classes}
            about |= {"peak": part.peak, "device": str(part.images.device)}
            first = first or about
            for key, value in about.items():
                if value != first[key]:
                    raise UserError(f"{name} has {key} {value}, train {first[key]}: one for all")

    @cached_property
    def fingerprint(self) -> str:
        """16 digits of what a training reads: images, labels, index, classes, peak, not `test`."""
        total = hashlib.sha256()
        for part in (self.train, self.heldout):
            shape = list(part.images.shape)
            total.update(f"{shape} {part.classes} {part.peak}".encode())
            for tensor in (part.images, part.labels, part.index):
                total.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return total.hexdigest()[:16]
