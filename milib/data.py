"""Data sets as integer tensors on the device, augmentation there, and the sample pool p_s."""

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torchvision
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

DIGITS_TEST = 397
"""Digits set aside for testing; the other 1,400 are for training and selection."""


@dataclass(frozen=True)
class Dataset:
    """Images uint8 [n, C, H, W] with values 0..peak, labels int64 [n], and each image's index in its source."""

    images: Bytes
    labels: Whole
    index: Whole
    classes: int
    peak: int

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, where: Tensor | slice = slice(None)) -> Tensor:
        """float32 [k, C, H, W] in [0, 1]."""
        return self.images[where].float() / self.peak

    def take(self, where: Tensor | slice) -> "Dataset":
        """The images that an index tensor [k], a mask [n] or a slice chooses."""
        return Dataset(
            self.images[where], self.labels[where], self.index[where], self.classes, self.peak
        )


@dataclass(frozen=True)
class Splits:
    """Training images, images held out of them for every selection, and test images (for final numbers only)."""

    train: Dataset
    heldout: Dataset
    test: Dataset


def _digits(_root: Path, _classes: int) -> tuple[tuple, tuple, int]:
    from sklearn.datasets import load_digits  # here: scikit-learn imports pandas where there is one

    source = load_digits()
    images = source.images.astype(np.uint8)[:, None]
    order = rng.generator("digits", "split").permutation(len(images))
    test, train = order[:DIGITS_TEST], order[DIGITS_TEST:]
    return (images[train], source.target[train]), (images[test], source.target[test]), 16


def _generated(_root: Path, classes: int) -> tuple[tuple, tuple, int]:
    """Images of CIFAR's shape: a smooth pattern per class, shifted and covered with noise."""
    draw = rng.generator("generated", classes)
    patterns = torch.nn.functional.interpolate(
        torch.from_numpy(draw.random((classes, 3, 4, 4))), size=32, mode="bilinear"
    )
    both = []
    for count in (2000, 1000):
        labels = np.arange(count) % classes
        noise = draw.normal(0, 0.15, (count, 3, 32, 32))
        images = np.clip(patterns[labels].numpy() + noise, 0, 1) * 255
        both.append((images.astype(np.uint8), labels))
    return both[0], both[1], 255


def _cifar(
    kind: type[torchvision.datasets.CIFAR10], root: Path, _classes: int
) -> tuple[tuple, tuple, int]:
    both = []
    for train in (True, False):
        try:
            source = kind(root, train=train)
        except RuntimeError:
            try:
                with contextlib.redirect_stderr(io.StringIO()):
                    source = kind(root, train=train, download=True)
            except Exception as error:
                raise UserError(
                    f"{kind.url.rsplit('/', 1)[1]} is not in {root} and could not be downloaded ({type(error).__name__}): "
                    f"put the folder {kind.base_folder}/ of the official python version there, or set data_root or $MILIB_DATA to where it lies"
                ) from None
        both.append((source.data.transpose(0, 3, 1, 2), np.array(source.targets)))
    return both[0], both[1], 255


SOURCES: dict[str, Callable[[Path, int], tuple[tuple, tuple, int]]] = {
    "digits": _digits,
    "cifar10": partial(_cifar, torchvision.datasets.CIFAR10),
    "cifar100": partial(_cifar, torchvision.datasets.CIFAR100),
    "generated": _generated,
}
"""Every data set a run can name. A new one is a reader and a line here.

A reader takes (root, classes) and gives training part, test part and the pixel value that is white;
a part is images uint8 [n, C, H, W] and labels [n].
"""


def load(
    name: str, *, classes: int, n_train: int, n_heldout: int, root: Path, device: torch.device
) -> Splits:
    """A data set of SOURCES on `device`: `n_heldout` images held out, `n_train` of the others (0: all) for training.

    root: where files lie. The split depends on the data set alone, not on a seed. Raises UserError.
    """
    train, test, peak = SOURCES[name](root, classes)
    found = int(train[1].max()) + 1
    if found != classes:
        raise UserError(f"classes is {classes}, but {name} has {found}: set classes to {found}")
    train, test = (
        Dataset(
            torch.from_numpy(np.ascontiguousarray(images)).to(device),
            torch.from_numpy(labels).long().to(device),
            torch.arange(len(labels), device=device),
            classes,
            peak,
        )
        for images, labels in (train, test)
    )
    for key, size, limit in (
        ("n_heldout", n_heldout, len(train) - classes),
        ("n_train", n_train, len(train) - n_heldout),
    ):
        if size > limit:
            raise UserError(f"{key} is {size}: it must lie between 0 and {limit} on {name}")
    order = torch.from_numpy(rng.generator(name, "held out").permutation(len(train))).to(device)
    return Splits(
        train.take(order[n_heldout:][: n_train or None]), train.take(order[:n_heldout]), test
    )


def augment(images: AnyImages, uniform: Crops) -> AnyImages:
    """Random crop after zero padding by 4, and horizontal flip: images [B, C, H, W] as `uniform` [B, 3] in [0, 1) says."""
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
    """The paper's p_s: clean images x_s grouped by label y_s, on the data's device; augmented: cropped and flipped as in training.

    Raises UserError where a class has no image.
    """

    def __init__(self, data: Dataset, augmented: bool = False):
        self.augmented = augmented
        order = torch.argsort(data.labels, stable=True)
        self.data, self.classes = data.take(order), data.classes
        self.sizes = torch.bincount(data.labels, minlength=data.classes)
        if (self.sizes == 0).any():
            raise UserError(
                f"the sample pool lacks images of class {int((self.sizes == 0).nonzero()[0])}: take a larger n_train"
            )
        self.starts = self.sizes.cumsum(0) - self.sizes

    def position(self, label: PairNumbers, v: PairUniform) -> PairNumbers:
        """Positions [P] in `self.data` for labels [P] and v [P] in [0, 1): floor(v * class size) within the class."""
        size = self.sizes[label]
        return self.starts[label] + torch.minimum((v * size).long(), size - 1)

    def draw(self, label: PairNumbers, v: PairUniform, crop: PairCrop) -> PairImages:
        """x_s [P, C, H, W] for labels y_s [P] and v [P] in [0, 1); crop [P, 3] decides the augmentation where there is one."""
        found = self.data.pixels(self.position(label, v))
        return augment(found, crop) if self.augmented else found
