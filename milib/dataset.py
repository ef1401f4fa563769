"""Labelled images as integer tensors on one device, and a data set in three parts."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

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

    @classmethod
    def of(cls, source: TorchDataset | Iterable, device: str | torch.device = "cpu") -> "Dataset":
        """The images of a data set or loader of torch, in its order.

        - source: gives pairs of an image [C, H, W] and its label, or batches of both. Images are
          uint8, or floats in [0, 1], which are rounded to 8 bits.
        - device: where they go, by default the CPU.

        There are as many classes as the largest label says. Raises UserError for anything else,
        and for a loader that shuffles: an image would change its number.
        """
        device = checks.device("device", device)
        images: list[Tensor] = []
        labels: list[Tensor] = []
        for position, (x, y) in enumerate(_pairs(source)):
            images.append(_bytes(f"image {position} of the source", x))
            labels.append(y)
            if images[-1].shape[1:] != images[0].shape[1:]:
                shapes = f"{list(images[-1].shape[1:])}, image 0 {list(images[0].shape[1:])}"
                raise UserError(f"image {position} of the source is {shapes}: one shape for all")
        if not images:
            raise UserError("the source is empty: it gives no image")
        of_all = torch.cat(labels)
        if int(of_all.min()) < 0:
            raise UserError(f"the source has label {int(of_all.min())}: whole numbers from 0")
        classes, index = max(2, int(of_all.max()) + 1), torch.arange(len(of_all))
        parts = (part.to(device) for part in (torch.cat(images), of_all, index))
        return cls(*parts, classes=classes, peak=255)

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


def in_order(name: str, loader: object) -> None:
    """Refuse a loader of torch that shuffles.

    - name: of the argument.
    - loader: anything.
    """
    if not isinstance(loader, DataLoader):
        return
    for sampler in (loader.sampler, getattr(loader.batch_sampler, "sampler", None)):
        if "Random" in type(sampler).__name__ or getattr(sampler, "shuffle", False):
            kind = type(sampler).__name__
            raise UserError(f"{name} shuffles by its {kind}: an image would change its number")


def _pairs(source: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches [B, C, H, W] and labels [B] of a data set, of a loader or of an iterable."""
    in_order("source", source)
    pairs = source
    if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        # by number: a data set need not raise IndexError behind its end
        pairs = (source[number] for number in range(len(source)))
    elif not isinstance(source, Iterable):
        raise UserError(f"source is {checks.shown(source)}: a data set or a loader of torch")
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise UserError(f"source gives {checks.shown(pair)}: pairs of an image and its label")
        x, y = pair
        if isinstance(x, Tensor) and x.dim() == 3:  # one image and its label
            number = checks.count("the source's label", y, 0)
            x, y = x[None], torch.tensor([number])
        if not isinstance(x, Tensor) or x.dim() != 4:
            hint = "; of PIL images: transform=torchvision.transforms.ToTensor()"
            raise UserError(f"source gives an image {checks.shown(x)}: a tensor [C, H, W]{hint}")
        yield x.detach(), checks.labels("the source's label", y, len(x), x.device)


def _bytes(name: str, x: Tensor) -> Tensor:
    """Images as uint8."""
    if x.dtype == torch.uint8:
        return x
    return (checks.images(name, x).float() * 255).round().clamp(0, 255).to(torch.uint8)


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
