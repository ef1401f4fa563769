"""Data sets as integer tensors on the device, augmentation there, and the sample pool p_s."""

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from milib import rng
from milib.errors import UserError
from milib.shapes import (
    AnyImages,
    Bytes,
    Crops,
    PairCrop,
    PairImages,
    PairNumbers,
    PairUniform,
    Whole,
)

Part = tuple[np.ndarray, np.ndarray]
"""Images uint8 [n, C, H, W] and labels [n], as a reader of SOURCES gives them."""
DIGITS_TEST = 397
"""Digits set aside for testing; the other 1,400 are for training and selection."""


@dataclass(frozen=True)
class Dataset:
    """Labelled images as integers, on one device.

    - images: uint8 [n, C, H, W], with values 0..peak.
    - labels: int64 [n], in 0..classes-1.
    - index: int64 [n], each image's number in its source; it addresses the image's random numbers.
    - classes: how many there are.
    - peak: the value of a white pixel (255 in 8-bit images).
    """

    images: Bytes
    labels: Whole
    index: Whole
    classes: int
    peak: int

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, where: Tensor | slice = slice(None)) -> Tensor:
        """Pixels in [0, 1], float32 [k, C, H, W].

        - where: which images: an index tensor [k], a mask [n] or a slice; by default all.
        """
        return self.images[where].float() / self.peak

    def take(self, where: Tensor | slice) -> "Dataset":
        """The data set of some of the images.

        - where: an index tensor [k], a mask [n] or a slice.
        """
        images, labels, index = self.images[where], self.labels[where], self.index[where]
        return Dataset(images, labels, index, self.classes, self.peak)


@dataclass(frozen=True)
class Splits:
    """A data set in three parts.

    - train: the training images.
    - heldout: images kept out of training; every choice is made on them.
    - test: for final numbers only.
    """

    train: Dataset
    heldout: Dataset
    test: Dataset


def _digits(_root: Path, _classes: int) -> tuple[Part, Part, int]:
    from sklearn.datasets import load_digits  # here: scikit-learn imports pandas where there is one

    source: Any = load_digits()
    images = source.images.astype(np.uint8)[:, None]
    order = rng.generator("digits", "split").permutation(len(images))
    test, train = order[:DIGITS_TEST], order[DIGITS_TEST:]
    return (images[train], source.target[train]), (images[test], source.target[test]), 16


def _generated(_root: Path, classes: int) -> tuple[Part, Part, int]:
    """Images of CIFAR's shape: a smooth pattern per class, shifted and covered with noise."""
    draw = rng.generator("generated", classes)
    coarse = torch.from_numpy(draw.random((classes, 3, 4, 4)))
    patterns = torch.nn.functional.interpolate(coarse, size=32, mode="bilinear")
    both = []
    for count in (2000, 1000):
        labels = np.arange(count) % classes
        noise = draw.normal(0, 0.15, (count, 3, 32, 32))
        images = np.clip(patterns[labels].numpy() + noise, 0, 1) * 255
        both.append((images.astype(np.uint8), labels))
    return both[0], both[1], 255


def _cifar_part(name: str, root: Path, train: bool) -> Part:
    """A part of CIFAR from `root`, downloaded there where it is missing."""
    from torchvision import datasets  # here: torchvision takes as long to import as torch

    kind = getattr(datasets, name)
    try:
        source = kind(root, train=train)
    except RuntimeError:
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                source = kind(root, train=train, download=True)
        except Exception as error:
            archive, why = kind.url.rsplit("/", 1)[1], type(error).__name__
            raise UserError(
                f"{archive} is not in {root} and could not be downloaded ({why}): put the folder "
                f"{kind.base_folder}/ of the official python version there, or set data_root or "
                f"$MILIB_DATA to where it lies"
            ) from None
    return source.data.transpose(0, 3, 1, 2), np.array(source.targets)


def _cifar(name: str, root: Path, _classes: int) -> tuple[Part, Part, int]:
    return _cifar_part(name, root, True), _cifar_part(name, root, False), 255


SOURCES: dict[str, Callable[[Path, int], tuple[Part, Part, int]]] = {
    "digits": _digits,
    "cifar10": partial(_cifar, "CIFAR10"),
    "cifar100": partial(_cifar, "CIFAR100"),
    "generated": _generated,
}
"""Every data set a run can name. A new one is a reader and a line here.

A reader takes (root, classes) and gives training part, test part and the value of a white pixel.
"""


def _dataset(part: Part, classes: int, peak: int, device: torch.device) -> Dataset:
    images, labels = part
    index = torch.arange(len(labels), device=device)
    pixels = torch.from_numpy(np.ascontiguousarray(images)).to(device)
    return Dataset(pixels, torch.from_numpy(labels).long().to(device), index, classes, peak)


def load(
    name: str, *, classes: int, n_train: int, n_heldout: int, root: Path, device: torch.device
) -> Splits:
    """A data set of SOURCES, split the same way for every seed.

    - name: a name of SOURCES, else KeyError.
    - classes: how many the data set has.
    - n_train: training images; 0 takes all that are not held out.
    - n_heldout: images held out of the training part.
    - root: the folder of CIFAR's files.
    - device: where the tensors go.

    Raises UserError where files are missing, or classes or sizes do not fit.
    """
    train_part, test_part, peak = SOURCES[name](root, classes)
    found = int(train_part[1].max()) + 1
    if found != classes:
        raise UserError(f"classes is {classes}, but {name} has {found}: set classes to {found}")
    train = _dataset(train_part, classes, peak, device)
    test = _dataset(test_part, classes, peak, device)
    limits = {
        "n_heldout": (n_heldout, len(train) - classes),
        "n_train": (n_train, len(train) - n_heldout),
    }
    for key, (size, limit) in limits.items():
        if size > limit:
            raise UserError(f"{key} is {size}: it must lie between 0 and {limit} on {name}")
    order = torch.from_numpy(rng.generator(name, "held out").permutation(len(train))).to(device)
    chosen = order[n_heldout:][: n_train or None]
    return Splits(train.take(chosen), train.take(order[:n_heldout]), test)


def augment(images: AnyImages, uniform: Crops) -> AnyImages:
    """A random crop after zero padding by 4, and a horizontal flip, of each image [B, C, H, W].

    - images: of any type.
    - uniform: [B, 3] in [0, 1): they decide the crop's top, its left, and the flip.
    """
    count, channels, height, width = images.shape
    top, left = (uniform[:, :2] * 9).long().unbind(1)
    columns = torch.arange(width, device=images.device).expand(count, -1)
    columns = torch.where(uniform[:, 2:] < 0.5, columns, width - 1 - columns) + left[:, None]
    rows = torch.arange(height, device=images.device) + top[:, None]
    padded = torch.nn.functional.pad(images, (4, 4, 4, 4))
    number = torch.arange(count, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[None, :, None, None]
    return padded[number, channel, rows[:, None, :, None], columns[:, None, None, :]]


class SamplePool:
    """The paper's p_s: clean images x_s grouped by their label y_s, on the data's device.

    - data: the images to mix with.
    - augmented: whether they are cropped and flipped as in training; by default not.

    Raises UserError where a class has no image.
    """

    def __init__(self, data: Dataset, augmented: bool = False):
        self.augmented = augmented
        order = torch.argsort(data.labels, stable=True)
        self.data, self.classes = data.take(order), data.classes
        self.sizes = torch.bincount(data.labels, minlength=data.classes)
        if (self.sizes == 0).any():
            lacking = int((self.sizes == 0).nonzero()[0])
            raise UserError(f"the sample pool has no image of class {lacking}: raise n_train")
        self.starts = self.sizes.cumsum(0) - self.sizes

    def position(self, label: PairNumbers, v: PairUniform) -> PairNumbers:
        """Positions [P] in `self.data`: floor(v * class size) within the class.

        - label: y_s [P].
        - v: [P] in [0, 1).
        """
        size = self.sizes[label]
        return self.starts[label] + torch.minimum((v * size).long(), size - 1)

    def draw(self, label: PairNumbers, v: PairUniform, crop: PairCrop) -> PairImages:
        """x_s [P, C, H, W], in [0, 1].

        - label: y_s [P].
        - v: [P] in [0, 1), chooses the image within the class.
        - crop: [P, 3] in [0, 1), decides the augmentation where there is one.
        """
        found = self.data.pixels(self.position(label, v))
        return augment(found, crop) if self.augmented else found
