"""Data sets, their splits, augmentation, and the sample pool p_s."""

import dataclasses
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from sklearn.datasets import load_digits

from milib import data, dataset
from milib.errors import UserError


def load(name="digits", root=Path(), **changes):
    sizes = {"classes": 10, "n_train": 0, "n_heldout": 200} | changes
    return data.load(name, **sizes, root=root, device=torch.device("cpu"))


def test_digits_are_split_into_disjoint_parts_of_the_real_images(splits):
    parts = (splits.train, splits.heldout, splits.test)
    assert [len(part) for part in parts] == [1797 - 397 - 200, 200, 397]
    source = load_digits()
    expected = sorted(
        (image.astype(np.uint8).tobytes(), label)
        for image, label in zip(source.images, source.target, strict=True)
    )
    assert (
        sorted(
            (image.numpy().tobytes(), label)
            for part in parts
            for image, label in zip(part.images, part.labels.tolist(), strict=True)
        )
        == expected
    )
    for part in parts:
        assert part.peak == 16
        assert torch.bincount(part.labels, minlength=10).min() > 0.05 * len(
            part
        )  # no part lacks a class
        assert (part.pixels().min(), part.pixels().max()) == (0, 1)
    assert not set(splits.train.index.tolist()) & set(splits.heldout.index.tolist())


def test_the_split_is_always_the_same(splits):
    other = load()
    for name in ("train", "heldout", "test"):
        assert torch.equal(getattr(other, name).images, getattr(splits, name).images)
    fewer = load(n_train=100, n_heldout=50)
    assert (len(fewer.train), len(fewer.heldout)) == (100, 50)
    assert set(fewer.heldout.index.tolist()) <= set(
        splits.heldout.index.tolist()
    )  # never moves to training as it shrinks
    assert not set(fewer.train.index.tolist()) & set(fewer.heldout.index.tolist())


@pytest.mark.parametrize("classes", [10, 100])
def test_generated_data_have_cifars_shape_and_can_be_learnt(classes):
    made, again = (load("generated", classes=classes, n_heldout=100) for _ in range(2))
    assert made.train.images.shape == (1900, 3, 32, 32)
    assert made.train.images.dtype == torch.uint8
    assert (len(made.heldout), len(made.test), made.train.peak) == (100, 1000, 255)
    assert torch.equal(made.train.images, again.train.images)
    means = torch.stack(
        [made.train.pixels(made.train.labels == k).mean(0) for k in range(classes)]
    ).flatten(1)
    nearest = torch.cdist(made.test.pixels().flatten(1), means).argmin(1)
    assert (nearest == made.test.labels).float().mean() > 0.9


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": 7}, ["classes", "7", "10"]),
        ({"n_heldout": 1395}, ["n_heldout", "1395", "1390"]),
        ({"n_train": 1201}, ["n_train", "1201", "1200"]),
    ],
)
def test_sizes_that_the_data_cannot_give_are_refused_in_one_line(changes, words):
    with pytest.raises(UserError) as error:
        load(**changes)
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words)


# CIFAR


@pytest.mark.parametrize(
    ("name", "folder"), [("cifar10", "cifar-10-batches-py"), ("cifar100", "cifar-100-python")]
)
def test_absent_cifar_says_in_one_line_what_to_put_where(tmp_path, monkeypatch, name, folder):
    def offline(self):
        raise URLError("no network")

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", offline)
    with pytest.raises(UserError) as error:
        load(name, tmp_path)
    assert "\n" not in str(error.value)
    assert all(
        word in str(error.value) for word in [folder, str(tmp_path), "MILIB_DATA", "data_root"]
    )


def lies_there(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@pytest.mark.parametrize(
    ("name", "files", "named"),
    [
        ("cifar10", {"cifar-10-batches-py/data_batch_1": b"x"}, "data_batch_1"),
        ("cifar10", {"cifar-10-batches-py/batches.meta": b""}, "batches.meta"),
        ("cifar10", {"cifar-10-python.tar.gz": b"half a download"}, "cifar-10-python.tar.gz"),
        ("cifar100", {"cifar-100-python/test": b"x"}, "test"),
        ("cifar100", {"cifar-100-python.tar.gz": b""}, "cifar-100-python.tar.gz"),
    ],
)
def test_damaged_cifar_is_called_damaged_and_not_absent(tmp_path, monkeypatch, name, files, named):
    def unexpected(self):
        raise AssertionError("what lies there would be replaced")

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", unexpected)
    with pytest.raises(UserError) as error:
        load(name, lies_there(tmp_path, files))
    line = str(error.value)
    assert line.endswith(f"{named} is damaged: delete it and run again")
    assert "\n" not in line
    assert "is not in" not in line


@pytest.mark.parametrize("where", ["", "cifar-10-batches-py"])
def test_a_file_where_cifars_folder_should_be(tmp_path, where):
    lies_there(tmp_path, {f"root/{where}" if where else "root": b"x"})
    with pytest.raises(UserError, match=r"^[^\n]* is a file where a folder should be[^\n]*$"):
        load("cifar10", tmp_path / "root")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar_through_torchvision(cifar_root, name, classes):
    splits = load(name, cifar_root, classes=classes, n_heldout=1000)
    source = getattr(torchvision.datasets, name.upper())(cifar_root, train=False)
    assert (len(splits.train), len(splits.heldout), len(splits.test)) == (49_000, 1000, 10_000)
    assert not set(splits.train.index.tolist()) & set(splits.heldout.index.tolist())
    assert splits.test.labels.tolist() == source.targets
    assert torch.equal(splits.test.images, torch.from_numpy(source.data).permute(0, 3, 1, 2))
    assert data.SamplePool(splits.train).sizes.min() > 0.9 * 49_000 / classes


# Augmentation


def test_augment_is_a_padded_crop_and_a_flip_as_the_uniform_numbers_say():
    image = torch.arange(1, 2 * 32 * 32 + 1).remainder(251).add(1).view(2, 32, 32).to(torch.uint8)
    count = 1200
    uniform = torch.rand(count, 3, generator=torch.Generator().manual_seed(0))
    images = image.expand(count, -1, -1, -1)
    found = data.augment(images, uniform)
    candidates = {}
    for flip in (False, True):
        padded = np.pad(image.numpy(), ((0, 0), (4, 4), (4, 4)))
        for top in range(9):
            for left in range(9):
                crop = padded[:, top : top + 32, left : left + 32]
                candidates[crop[:, :, ::-1].tobytes() if flip else crop.tobytes()] = (
                    top,
                    left,
                    flip,
                )
    assert len(candidates) == 162
    seen = np.array([candidates[crop.numpy().tobytes()] for crop in found])
    for choices, column in zip((9, 9, 2), seen.T, strict=True):
        assert chisquare(np.bincount(column, minlength=choices)).pvalue > 1e-3
    assert torch.equal(
        data.augment(images[:5], uniform[100:105]), found[100:105]
    )  # not of the batch


# The sample pool


def test_pool_positions_are_of_the_class_and_uniform_within_it(pool, splits):
    assert pool.sizes.sum() == len(splits.train)
    for label in range(10):
        size = int((splits.train.labels == label).sum())
        v = (torch.arange(20 * size) + 0.5) / (20 * size)
        position = pool.position(torch.full((20 * size,), label), v)
        assert (pool.data.labels[position] == label).all()
        counts = torch.bincount(position)
        assert counts[counts > 0].tolist() == [20] * size


@given(label=st.integers(0, 9), v=st.floats(0, 1, width=32, exclude_max=True))
def test_pool_draws_are_clean_pixels_of_the_class(pool, splits, label, v):
    image = pool.draw(torch.tensor([label]), torch.tensor([v]), torch.zeros(1, 3))[0]
    assert (splits.train.pixels(splits.train.labels == label) == image).flatten(1).all(1).any()


def test_a_pool_without_a_class_is_refused(splits):
    with pytest.raises(UserError, match=r"class 4.*n_train"):
        data.SamplePool(splits.train.take(splits.train.labels != 4))


@pytest.mark.parametrize("present", [range(1, 11), range(2, 5)])
def test_labels_that_begin_at_1_end_in_a_line_on_labels(present):
    labels = torch.tensor(list(present)).repeat(5)
    images, classes = torch.zeros(len(labels), 3, 8, 8, dtype=torch.uint8), int(labels.max()) + 1
    made = data.Dataset(images, labels, torch.arange(len(labels)), classes, 255)
    with pytest.raises(UserError) as error:
        data.SamplePool(made)
    if present[0] == 1:
        assert "labels - 1" in str(error.value)
        assert "n_train" not in str(error.value)
    else:
        assert "no image of class 0" in str(error.value)


# Fingerprints


def test_a_fingerprint_sees_all_that_training_reads_and_nothing_else(splits):
    base = splits.fingerprint
    assert len(base) == 16
    assert int(base, 16) >= 0
    again = dataclasses.replace(splits)
    assert again.fingerprint == base
    assert dataclasses.replace(splits, test=splits.heldout).fingerprint == base
    seen = {base}
    for part in ("train", "heldout"):
        kept = getattr(splits, part)
        for column in ("images", "labels", "index"):
            values = getattr(kept, column).clone()
            values.view(-1)[7] += 1
            changed = dataclasses.replace(kept, **{column: values})
            seen.add(dataclasses.replace(splits, **{part: changed}).fingerprint)
        fewer = kept.take(slice(len(kept) - 1))
        seen.add(dataclasses.replace(splits, **{part: fewer}).fingerprint)
    for key, value in (("classes", 11), ("peak", 17)):
        parts = {name: getattr(splits, name) for name in ("train", "heldout", "test")}
        parts = {name: dataclasses.replace(one, **{key: value}) for name, one in parts.items()}
        seen.add(data.Splits(**parts).fingerprint)
    swapped = data.Splits(splits.heldout, splits.train, splits.test)
    seen.add(swapped.fingerprint)
    assert len(seen) == 12  # every change is another fingerprint


def test_a_fingerprint_is_read_from_the_bytes_once(splits, monkeypatch):
    made, calls = dataclasses.replace(splits), []
    sha256 = dataset.hashlib.sha256
    monkeypatch.setattr(dataset.hashlib, "sha256", lambda: calls.append(1) or sha256())
    assert made.fingerprint == made.fingerprint
    assert len(calls) == 1
