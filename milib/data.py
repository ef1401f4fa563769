"""Data sets as integer tensors on the device, augmentation there, and the sample pool p_s."""

import contextlib
import io
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset

from milib import checks, rng
from milib.dataset import Dataset, Splits, values_checked
from milib.errors import UserError
from milib.shapes import AnyImages, Crops, PairCrop, PairImages, PairNumbers, PairUniform

Part = tuple[np.ndarray, np.ndarray]
"""Images uint8 [n, C, H, W] and labels [n], as a reader of SOURCES gives them."""
DIGITS_TEST = 397
"""Digits set aside for testing; the other 1,400 are for training and selection."""


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
        _refuse_damaged(kind, root)
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
    except OSError as error:
        raise UserError(f"{root}: CIFAR's files cannot be read: {error.strerror}") from None
    return source.data.transpose(0, 3, 1, 2), np.array(source.targets)


def _refuse_damaged(kind: Any, root: Path) -> None:
    """Name what lies there and is not what its checksum says, rather than call it absent."""
    from torchvision.datasets.utils import check_integrity

    folder = root / kind.base_folder
    for path in (root, folder):
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file where a folder should be: delete it, or move it")
    checksums = {folder / file: checksum for file, checksum in kind.train_list + kind.test_list}
    checksums[folder / kind.meta["filename"]] = kind.meta["md5"]
    checksums[root / kind.filename] = kind.tgz_md5
    for path, checksum in checksums.items():
        if path.exists() and not check_integrity(path, checksum):
            raise UserError(f"{path} is damaged: delete it and run again")


def _cifar(name: str, root: Path, _classes: int) -> tuple[Part, Part, int]:
    return _cifar_part(name, root, True), _cifar_part(name, root, False), 255


SOURCES: dict[str, Callable[[Path, int], tuple[Part, Part, int]]] = {
    "digits": _digits,
    "cifar10": partial(_cifar, "CIFAR10"),
    "cifar100": partial(_cifar, "CIFAR100"),
    "generated": _generated,
}
"""Every data set a run can name; `register.dataset` adds others.

A reader takes (root, classes) and gives training part, test part and the value of a white pixel.
"""


def _dataset(part: Part, classes: int, peak: int, device: torch.device) -> Dataset:
    images, labels = part
    index = torch.arange(len(labels), device=device)
    pixels = torch.from_numpy(np.ascontiguousarray(images)).to(device)
    return Dataset(pixels, torch.as_tensor(labels).long().to(device), index, classes, peak)


def _folder(root: str | Path) -> Path:
    if not isinstance(root, str | Path):
        raise UserError(f"root is {checks.shown(root)}: the folder of the data's files")
    return Path(root)


def load(
    name: str,
    *,
    classes: int,
    n_train: int,
    n_heldout: int,
    root: str | Path,
    device: str | torch.device,
) -> Splits:
    """A data set of SOURCES, split the same way for every seed.

    - name: a name of SOURCES.
    - classes: how many the data set has.
    - n_train: training images; 0 takes all that are not held out.
    - n_heldout: images held out of the training part.
    - root: the folder of CIFAR's files.
    - device: where the tensors go.

    Raises UserError for an unknown name, for files that are missing or damaged, and where classes
    or sizes do not fit.
    """
    checks.choice("name", name, SOURCES)
    classes = checks.count("classes", classes, 2, 10**5)
    n_train = checks.count("n_train", n_train, 0)
    n_heldout = checks.count("n_heldout", n_heldout, 0)
    root, device = _folder(root), checks.device("device", device)
    train_part, test_part, peak = SOURCES[name](root, classes)
    found = int(np.max(train_part[1])) + 1
    if found != classes:
        raise UserError(f"classes is {classes}, but {name} has {found}: set classes to {found}")
    train = values_checked(f"{name}'s training part", _dataset(train_part, classes, peak, device))
    test = values_checked(f"{name}'s test part", _dataset(test_part, classes, peak, device))
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


def check_crops(what: str, data: Dataset) -> None:
    """Refuse images that a crop, which shifts them by up to 4 pixels, would leave little of.

    - what: the setting that asks for crops, as the error names it.
    - data: the images.

    Raises UserError below 8 pixels on a side.
    """
    height, width = data.images.shape[2:]
    if min(height, width) < 8:
        raise UserError(f"{what}, but the images are {height}x{width}: crops need 8x8 at least")


def _lacking(lacking: list[int], classes: int) -> str:
    """What to do about classes without an image."""
    if lacking == [0] and classes > 2:
        return (
            f"the sample pool has images of all classes 0..{classes - 1} but 0: labels that begin "
            f"at 1 become labels - 1 with classes {classes - 1}; else give it images of class 0"
        )
    return (
        f"the sample pool has no image of class {lacking[0]}: give it images of every class "
        f"0..{classes - 1} (a run: raise n_train)"
    )


class SamplePool:
    """The paper's p_s: clean images x_s grouped by their label y_s, on the data's device.

    - data: the images to mix with.
    - augmented: whether they are cropped and flipped as in training; by default not. Crops shift
      an image by up to 4 pixels, so it must have 8 on a side at least.

    Raises UserError where a class has no image, and for pixels above the peak or labels that are
    not 0..classes-1.
    """

    def __init__(self, data: Dataset, augmented: bool = False):
        data = values_checked("data", data)
        checks.instance("augmented", augmented, bool)
        if augmented:
            check_crops("augmented is True", data)
        self.augmented = augmented
        order = torch.argsort(data.labels, stable=True)
        self.data, self.classes = data.take(order), data.classes
        self.sizes = torch.bincount(data.labels, minlength=data.classes)
        if (self.sizes == 0).any():
            raise UserError(_lacking((self.sizes == 0).nonzero()[:, 0].tolist(), data.classes))
        self.starts = self.sizes.cumsum(0) - self.sizes

    @classmethod
    def of(
        cls, source: TorchDataset | Iterable, device: str | torch.device = "cpu"
    ) -> "SamplePool":
        """The sample pool of a data set or loader of torch.

        - source, device: as in `Dataset.of`. The device is that of the images that are defended.

        Raises UserError as `Dataset.of` and the pool itself do.
        """
        return cls(Dataset.of(source, device))

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
