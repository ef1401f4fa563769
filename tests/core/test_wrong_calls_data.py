"""Calls of data, models, training, statistics and theory that are wrong: each ends in one line.

The line is a UserError that names the argument. Calls at the edge of what is allowed work.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from milib import data, models, recipes, statistics, theory, training
from milib.constructed import ConstructedClassifier
from milib.data import Dataset, SamplePool, Splits
from milib.defenses import MixupInference
from milib.errors import UserError
from milib.rng import Draws

pytestmark = pytest.mark.usefixtures("as_a_user")
NAN, INF = float("nan"), float("inf")
CPU = torch.device("cpu")


def dataset(**changes) -> Dataset:
    """Twenty black images of 8x8 in four classes, with what is changed."""
    given = {"images": torch.zeros(20, 1, 8, 8, dtype=torch.uint8), "labels": torch.arange(20) % 4}
    given |= {"index": torch.arange(20), "classes": 4, "peak": 16}
    return Dataset(**given | changes)


def splits(**changes) -> Splits:
    """The same data set three times, with what is changed."""
    return Splits(**{"train": dataset(), "heldout": dataset(), "test": dataset()} | changes)


def load(name="digits", **changes) -> Splits:
    """The digits, with what is changed."""
    sizes = {"classes": 10, "n_train": 0, "n_heldout": 200, "root": Path(), "device": CPU}
    return data.load(name, **sizes | changes)


def recipe(name="erm", **changes) -> dict:
    """A training of one epoch, with what is changed; None takes a key away."""
    found = {"name": name, "seed": 0, "lr": 0.1, "model": "small", "batch_size": 8, "epochs": 1}
    found |= {"schedule": "onecycle", "momentum": 0.9, "nesterov": True, "weight_decay": 0.0}
    found |= {"augment": "none"}
    if name == "at":
        found |= {"epsilon": 0.1, "train_steps": 1, "train_step_size": 0.1}
    if name == "mixup":
        found["alpha"] = 1.0
    if name == "matched_mixup":
        found["ratio"] = 0.5
    return {key: value for key, value in (found | changes).items() if value is not None}


def train(name="erm", made=None, **changes):
    """A training with its arguments, or with keys of the recipe, changed."""
    arguments = ("state", "epsilon", "precision", "chunk")
    options = {"epsilon": 0.1} | {key: changes.pop(key) for key in arguments if key in changes}
    return training.train(recipe(name, **changes), made or splits(), **options)


def pictures(size: int, count: int = 20, channels: int = 1) -> Splits:
    """Black images of a size."""
    images = torch.zeros(count, channels, size, size, dtype=torch.uint8)
    labels = torch.arange(count) % 4
    one = Dataset(images, labels, torch.arange(count), 4, 255)
    return Splits(one, one, one)


def labels(values) -> Dataset:
    """A data set with these labels of 0..3."""
    values = torch.as_tensor(values)
    return dataset(images=dataset().images[: len(values)], labels=values, index=values)


def elsewhere() -> Dataset:
    """The data set on another device than the CPU."""
    columns = {name: getattr(dataset(), name).to("meta") for name in ("images", "labels", "index")}
    return dataset(**columns)


def world(**changes) -> ConstructedClassifier:
    """A constructed classifier, with what is changed."""
    given = {"classes": 5, "y": 0, "attacked": 1, "strength": 0.9, "power": 2.0, "transfer": 0.5}
    return ConstructedClassifier(**given | changes)


def mixing(ratio=0.5) -> MixupInference:
    """Mixup Inference on the constructed classifier."""
    return MixupInference(world(), world().pool(2), "ol", ratio, draws=2)


def components(**changes):
    """`theory.components` on one image, with what is changed."""
    given = {"mi": mixing(), "clean": world().clean(), "adversarial": world().adversarial()}
    given |= {"index": torch.zeros(1, dtype=torch.int64), "draws": Draws(0)}
    return theory.components(**given | changes)


def measured(mode="ol", ratio=0.5, **changes):
    """`theory.measured` on a record of two images, with what is changed."""
    record: dict = {name: [[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]] for name in theory.PARTS}
    return theory.measured(record | {"labels": [0, 2]} | changes, mode, ratio)


FLOATS, ROWS = torch.rand(20, 1, 8, 8), torch.eye(4)[torch.arange(20) % 4]
GREY = torch.zeros(20, 8, 8, dtype=torch.uint8)
LAST = torch.zeros(20, 8, 8, 3, dtype=torch.uint8)
WHITE = torch.full((20, 1, 8, 8), 255, dtype=torch.uint8)

WRONG = {
    # data sets: what is wrong, the call, the words that its line must hold
    "float images": (
        lambda: dataset(images=FLOATS),
        ["images", "float32", "255 * images", "uint8"],
    ),
    "numpy images": (lambda: dataset(images=FLOATS.numpy()), ["images", "ndarray", "from_numpy"]),
    "int64 images": (lambda: dataset(images=FLOATS.long()), ["images", "int64", "uint8"]),
    "grey images": (lambda: dataset(images=GREY), ["images", "[20, 8, 8]", "images[:, None]"]),
    "channels last": (lambda: dataset(images=LAST), ["images", "permute(0, 3, 1, 2)"]),
    "no pixels": (lambda: dataset(images=WHITE[:, :, :0]), ["images", "[20, 1, 0, 8]"]),
    "list of labels": (lambda: dataset(labels=[0] * 20), ["labels", "list"]),
    "one-hot labels": (lambda: dataset(labels=ROWS), ["labels", "argmax(1)"]),
    "float labels": (lambda: dataset(labels=torch.zeros(20)), ["labels", "float32"]),
    "bool labels": (lambda: dataset(labels=torch.zeros(20).bool()), ["labels", "bool"]),
    "few labels": (lambda: dataset(labels=torch.arange(3)), ["labels", "3", "20"]),
    "few indices": (lambda: dataset(index=torch.arange(3)), ["index", "3", "20"]),
    "labels elsewhere": (lambda: dataset(labels=dataset().labels.to("meta")), ["labels", "meta"]),
    "float index": (lambda: dataset(index=torch.zeros(20)), ["index", "float32"]),
    "one class": (lambda: dataset(classes=1), ["classes", "1", "2"]),
    "float classes": (lambda: dataset(classes=4.0), ["classes", "4.0"]),
    "peak 0": (lambda: dataset(peak=0), ["peak", "0", "255"]),
    "peak 256": (lambda: dataset(peak=256), ["peak", "256", "255"]),
    "peak 1.0": (lambda: dataset(peak=1.0), ["peak", "1.0"]),
    "rows out of range": (lambda: dataset().take(torch.tensor([20])), ["where", "20 images"]),
    "rows by a word": (lambda: dataset().pixels("all"), ["where", "'all'"]),
    "one row": (lambda: dataset().take(3), ["images", "[1, 8, 8]"]),
    # splits
    "no Dataset": (lambda: splits(heldout=FLOATS), ["heldout", "Tensor", "Dataset"]),
    "other classes": (lambda: splits(heldout=dataset(classes=5)), ["heldout", "classes", "5", "4"]),
    "other peak": (lambda: splits(test=dataset(peak=17)), ["test", "peak", "17", "16"]),
    "other shape": (lambda: splits(test=pictures(9).test), ["test", "shape", "[1, 9, 9]"]),
    "other device": (lambda: splits(test=elsewhere()), ["test", "device", "meta", "cpu"]),
    # pools
    "pool of a tensor": (lambda: SamplePool(FLOATS), ["data", "Tensor", "Dataset"]),
    "pool of nothing": (lambda: SamplePool(dataset().take(slice(0))), ["data", "no images"]),
    "pool without a class": (lambda: SamplePool(labels([0, 1, 3])), ["class 2", "0..3", "n_train"]),
    "pool from 1": (lambda: SamplePool(labels([1, 2, 3])), ["labels", "0..3", "labels - 1"]),
    "label 4 of 4": (lambda: SamplePool(labels([1, 2, 3, 4])), ["labels 1 to 4", "0..3"]),
    "label -1": (lambda: SamplePool(labels([0, 1, 2, -1])), ["labels -1 to 2", "0..3"]),
    "pixels above peak": (lambda: SamplePool(dataset(images=WHITE)), ["255", "0..16", "peak"]),
    "augmented 1": (lambda: SamplePool(dataset(), 1), ["augmented", "1", "bool"]),
    "crops of 7x7": (lambda: SamplePool(pictures(7).train, True), ["augmented", "7x7", "8x8"]),
    # loading
    "misspelt data": (lambda: load("cifar-10"), ["name", "'cifar-10'", "nearest: 'cifar10'"]),
    "n_train -1": (lambda: load(n_train=-1), ["n_train", "-1"]),
    "n_train True": (lambda: load(n_train=True), ["n_train", "True"]),
    "n_heldout 0.1": (lambda: load(n_heldout=0.1), ["n_heldout", "0.1"]),
    "n_heldout of 5000": (lambda: load(n_heldout=5000), ["n_heldout", "5000", "1390"]),
    "7 classes": (lambda: load(classes=7), ["classes", "7", "10"]),
    "classes None": (lambda: load(classes=None), ["classes", "None"]),
    "root None": (lambda: load("cifar10", root=None), ["root", "None"]),
    "device gpu": (lambda: load(device="gpu"), ["device", "'gpu'"]),
    "device cpu:-1": (lambda: load(device="cpu:-7"), ["device", "'cpu:-7'"]),
    # nets
    "misspelt net": (lambda: models.build("resnet", 10, 3), ["name", "nearest: 'resnet50'"]),
    "net of None": (lambda: models.build(None, 10, 3), ["name", "None"]),
    "1 class": (lambda: models.build("small", 1, 3), ["classes", "1"]),
    "0 channels": (lambda: models.build("small", 10, 0), ["channels", "0"]),
    "3.0 channels": (lambda: models.build("small", 10, 3.0), ["channels", "3.0"]),
    "key by a word": (lambda: models.build("small", 10, 3, "0"), ["key", "'0'"]),
    # recipes
    "no recipe": (lambda: training.train(None, splits(), epsilon=0.1), ["recipe", "None"]),
    "unhashable name": (lambda: train(name=["erm"]), ["name", "['erm']"]),
    "seed 0.5": (lambda: train(seed=0.5), ["seed", "0.5"]),
    "seed True": (lambda: train(seed=True), ["seed", "True"]),
    "epochs 0": (lambda: train(epochs=0), ["epochs", "0"]),
    "epochs 2.5": (lambda: train(epochs=2.5), ["epochs", "2.5"]),
    "batch_size 1": (lambda: train(batch_size=1), ["batch_size", "1", "2"]),
    "lr 0": (lambda: train(lr=0), ["lr", "0", "above"]),
    "lr -1": (lambda: train(lr=-1), ["lr", "-1"]),
    "lr nan": (lambda: train(lr=NAN), ["lr", "nan"]),
    "lr inf": (lambda: train(lr=INF), ["lr", "inf"]),
    "lr 1e6": (lambda: train(lr=1e6), ["lr", "1000000", "100"]),
    "lr by a word": (lambda: train(lr="0.1"), ["lr", "'0.1'"]),
    "momentum 1": (lambda: train(momentum=1), ["momentum", "1"]),
    "nesterov 1": (lambda: train(nesterov=1), ["nesterov", "1", "True or False"]),
    "nesterov alone": (lambda: train(momentum=0), ["nesterov", "momentum"]),
    "weight_decay -1": (lambda: train(weight_decay=-1), ["weight_decay", "-1"]),
    "alpha 0": (lambda: train("mixup", alpha=0), ["alpha", "0"]),
    "alpha nan": (lambda: train("mixup", alpha=NAN), ["alpha", "nan"]),
    "ratio 1.5": (lambda: train("matched_mixup", ratio=1.5), ["ratio", "1.5"]),
    "no steps": (lambda: train("at", train_steps=0), ["train_steps", "0"]),
    "no step": (lambda: train("at", train_step_size=0.0), ["train_step_size", "0.0"]),
    "bytes as steps": (lambda: train("at", train_step_size=2), ["train_step_size", "2 / 255"]),
    "augment None": (lambda: train(augment=False), ["augment", "False", "none, crop_flip"]),
    # trainings
    "splits of one": (lambda: train(made=dataset()), ["splits", "Splits"]),
    "epsilon of 8": (lambda: train(epsilon=8), ["epsilon", "8", "8 / 255"]),
    "epsilon nan": (lambda: train(epsilon=NAN), ["epsilon", "nan"]),
    "fp16": (lambda: train(precision="fp16"), ["precision", "'fp16'", "fp32, bf16"]),
    "chunk 0": (lambda: train(chunk=0), ["chunk", "0"]),
    "chunk 2.5": (lambda: train(chunk=2.5), ["chunk", "2.5"]),
    "state 5": (lambda: train(state=5), ["state", "5"]),
    "state a folder": (lambda: train(state="."), ["state is .,", "a folder"]),
    "report 5": (lambda: training.train(recipe(), splits(), epsilon=0, report=5), ["report", "5"]),
    "tick None": (lambda: training.train(recipe(), splits(), epsilon=0, tick=None), ["tick"]),
    "nothing to train on": (
        lambda: train(made=splits(train=dataset().take(slice(0)))),
        ["splits.train", "no images"],
    ),
    "nothing held out": (
        lambda: train(made=splits(heldout=dataset().take(slice(0)))),
        ["splits.heldout", "no images"],
    ),
    "trained above peak": (
        lambda: train(made=splits(train=dataset(images=WHITE))),
        ["splits.train", "255", "16"],
    ),
    "trained on label 4": (
        lambda: train(made=splits(train=labels([0, 4]))),
        ["splits.train", "labels 0 to 4", "0..3"],
    ),
    "images of one pixel": (lambda: train(made=pictures(1)), ["model small", "1x1"]),
    "compact on 7x7": (lambda: train(model="compact", made=pictures(7)), ["model compact", "7x7"]),
    "a last batch of one": (
        lambda: train(model="compact", made=pictures(8, 17)),
        ["model compact", "batch_size", "one image"],
    ),
    "crops of 4x4": (
        lambda: train(augment="crop_flip", made=pictures(4)),
        ["augment", "crop_flip", "4x4"],
    ),
    # statistics
    "3 of 2": (lambda: statistics.wilson(3, 2), ["successes", "3", "2"]),
    "-1 of 2": (lambda: statistics.wilson(-1, 2), ["successes", "-1"]),
    "0 of 0": (lambda: statistics.wilson(0, 0), ["total", "0"]),
    "1.5 of 2": (lambda: statistics.wilson(1.5, 2), ["successes", "1.5"]),
    "mean of nothing": (lambda: statistics.mean_interval([]), ["values", "[0]"]),
    "interval of nothing": (lambda: statistics.interval(np.zeros(0)), ["values", "[0]"]),
    "interval of NaN": (lambda: statistics.interval([1.0, NAN]), ["values[1]", "nan"]),
    "interval of words": (lambda: statistics.interval(["a"]), ["values", "['a']"]),
    "interval of a table": (lambda: statistics.interval(np.ones((2, 2))), ["values", "[2, 2]"]),
    "mean of inf": (lambda: statistics.mean_interval([INF, 0]), ["values[0]", "inf"]),
    "proportion 50": (lambda: statistics.two_proportions(50, 9, 0.5, 9), ["first", "50"]),
    "proportion nan": (lambda: statistics.two_proportions(0.5, 9, NAN, 9), ["second", "nan"]),
    "of 0": (lambda: statistics.two_proportions(0.5, 0, 0.5, 9), ["first_total", "0"]),
    "auc of NaN": (lambda: statistics.auc([0, 1], [1, NAN]), ["adversarial[1]", "nan"]),
    "auc of nothing": (lambda: statistics.auc([], [1]), ["clean", "[0]"]),
    "auc of a number": (lambda: statistics.auc(0.5, [1]), ["clean", "[]"]),
    "unpaired": (lambda: statistics.auc_samples([0, 1], [1]), ["adversarial", "1", "2"]),
    "roc of inf": (lambda: statistics.roc([INF], [1]), ["clean[0]", "inf"]),
    "rate 5": (lambda: statistics.detected_at([0], [1], 5), ["false_positives", "5"]),
    "rate nan": (lambda: statistics.detected_at([0], [1], NAN), ["false_positives", "nan"]),
    "points [n]": (lambda: statistics.pareto(np.zeros(4)), ["points", "[4]", "[n, 2]"]),
    "points of three": (lambda: statistics.pareto(np.zeros((4, 3))), ["points", "[4, 3]"]),
    "points of NaN": (lambda: statistics.pareto([[0.5, NAN]]), ["points", "NaN"]),
    "no points": (lambda: statistics.pareto(np.zeros((0, 2))), ["points", "[0, 2]"]),
    "percent of NaN": (lambda: statistics.percent((0.5, NAN, 1)), ["values[1]", "nan"]),
    "percent of two": (lambda: statistics.percent((0.5, 1)), ["values", "(0.5, 1)"]),
    "percent of one": (lambda: statistics.percent(0.5), ["values", "0.5"]),
    # the theory
    "mode mixup": (lambda: theory.table1("mixup", True, 0.5, 10), ["mode", "'mixup'", "pl, ol"]),
    "lambda 1.5": (lambda: theory.table1("ol", True, 1.5, 10), ["ratio", "1.5"]),
    "L 1": (lambda: theory.table1("ol", True, 0.5, 1), ["classes", "1"]),
    "z by a word": (lambda: theory.table1("ol", "no", 0.5, 10), ["adversarial", "'no'"]),
    "g one number": (lambda: theory.table1("ol", True, 0.5, 10, 0.5), ["g", "0.5"]),
    "g of NaN": (lambda: theory.table1("ol", True, 0.5, 10, (NAN, 0)), ["g_y", "NaN"]),
    "thresholds": (lambda: theory.ric_thresholds("PL", 0.5, 10), ["mode", "'PL'"]),
    "threshold -1": (lambda: theory.ric_thresholds("pl", -1, 10), ["ratio", "-1"]),
    "delta of NaN": (lambda: theory.delta_F(np.array([0, NAN]), 1.0), ["before", "NaN"]),
    "delta of words": (lambda: theory.delta_F("0.5", 1.0), ["before", "'0.5'"]),
    "delta of lists": (lambda: theory.delta_F([0.5], 1.0), ["before", "[0.5]"]),
    "delta of two": (
        lambda: theory.delta_F(np.zeros(2), np.zeros(3)),
        ["before [2]", "after [3]"],
    ),
    "ric of inf": (lambda: theory.ric(0.5, INF), ["delta_yhat", "inf"]),
    "mechanisms of NaN": (lambda: theory.mechanisms(0.5, NAN, 0.5), ["transferred", "NaN"]),
    "gap at 2": (lambda: theory.detection_gap(2, 0.5, 0.5), ["ratio", "2"]),
    "gap of NaN": (lambda: theory.detection_gap(0.5, torch.tensor([NAN]), 0), ["g_yhat", "NaN"]),
    "no draws": (lambda: theory.ideal_clean_accuracy(0.5, 10, 0), ["draws", "0"]),
    "half draws": (lambda: theory.ideal_clean_accuracy(0.5, 10, 1.5), ["draws", "1.5"]),
    "ideal of 1": (lambda: theory.ideal_clean_accuracy(0.5, 1, 9), ["classes", "1"]),
    "enumerated bytes": (
        lambda: theory.enumerated(mixing(), 255 * world().clean()),
        ["x", "255", "[0, 1]"],
    ),
    "enumerated a range": (
        lambda: theory.enumerated(mixing([0.4, 0.6]), world().clean()),
        ["ratio", "0.4"],
    ),
    "enumerated a net": (lambda: theory.enumerated(world(), world().clean()), ["mi", "Mixup"]),
    "components of NaN": (lambda: components(clean=world().clean() * NAN), ["clean", "nan"]),
    "components of two": (
        lambda: components(adversarial=torch.zeros(2, 1, 1, 7)),
        ["adversarial", "[2, 1, 1, 7]", "[1, 1, 1, 7]"],
    ),
    "components without index": (lambda: components(index=None), ["index", "NoneType"]),
    "components of a seed": (lambda: components(draws=0), ["draws", "0", "Draws"]),
    "record of nothing": (lambda: theory.measured({}, "ol", 0.5), ["record", "F(x0)", "labels"]),
    "record None": (lambda: theory.measured(None, "ol", 0.5), ["record"]),
    "record of NaN": (lambda: measured(**{"F(x)": [[NAN, 0, 1]] * 2}), ["F(x)", "NaN"]),
    "record cut short": (lambda: measured(**{"F(x~)": [[0, 0, 1]]}), ["F(x~) [1, 3]"]),
    "ragged record": (lambda: measured(**{"F(x)": [[0, 1], [0]]}), ["record"]),
    "record's labels": (lambda: measured(labels=[0, 3]), ["record", "labels", "0..L-1"]),
    "record's mode": (lambda: measured(mode="base"), ["mode", "'base'"]),
    "record's ratio": (lambda: measured(ratio=[0.4, 0.6]), ["ratio", "[0.4, 0.6]"]),
    "exact on a net": (lambda: theory.exact(mixing(), "ol", 0.5), ["world", "Constructed"]),
    "exact, mode": (lambda: theory.exact(world(), "both", 0.5), ["mode", "'both'"]),
    "exact, none": (lambda: theory.exact(world(), "ol", 0.5, 0), ["per_class", "0"]),
    # the constructed classifier
    "world of 1": (lambda: world(classes=1), ["classes", "1"]),
    "y 5 of 5": (lambda: world(y=5), ["y", "5", "4"]),
    "attacked -1": (lambda: world(attacked=-1), ["attacked", "-1"]),
    "attacked y": (lambda: world(attacked=0), ["attacked", "0", "another class"]),
    "strength 0.5": (lambda: world(strength=0.5), ["strength", "0.5", "above"]),
    "strength 1.1": (lambda: world(strength=1.1), ["strength", "1.1"]),
    "power 0.5": (lambda: world(power=0.5), ["power", "0.5"]),
    "transfer 2": (lambda: world(transfer=2), ["transfer", "2"]),
    "world of digits": (lambda: world()(torch.zeros(1, 1, 8, 8)), ["x", "[1, 1, 8, 8]", "7"]),
    "pool of 0": (lambda: world().pool(0), ["per_class", "0"]),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_call_ends_in_one_line_that_says_what(what):
    call, words = WRONG[what]
    with pytest.raises(UserError) as error:
        call()
    line = str(error.value)
    assert "\n" not in line
    assert len(line) < 400
    assert [word for word in words if word not in line] == [], line


def test_the_table_is_long():
    assert len(WRONG) >= 50


RIGHT = {
    "int32 labels": lambda: dataset(labels=torch.arange(20).int() % 4),
    "uint8 labels": lambda: SamplePool(dataset(labels=(torch.arange(20) % 4).byte())),
    "int16 index": lambda: dataset(index=torch.arange(20).short()),
    "no images": lambda: dataset().take(slice(0)).pixels(),
    "peak 1": lambda: SamplePool(dataset(peak=1)),
    "peak 255": lambda: SamplePool(dataset(peak=255, images=WHITE)),
    "peak reached": lambda: SamplePool(dataset(images=WHITE // 16 + 1)),
    "rows by a mask": lambda: dataset().take(torch.arange(20) < 7),
    "numpy's classes": lambda: dataset(classes=np.int64(4)),
    "images of 8x8x8": lambda: dataset(images=torch.zeros(20, 8, 8, 8, dtype=torch.uint8)),
    "images of 1x3": lambda: dataset(images=torch.zeros(20, 64, 1, 3, dtype=torch.uint8)),
    "crops of 8x8": lambda: SamplePool(pictures(8).train, True),
    "every held out": lambda: load(n_heldout=1390),
    "one to train on": lambda: load(n_train=1),
    "root as text": lambda: load(root="anywhere", device="cpu"),
    "numpy's sizes": lambda: load(n_train=np.int32(5), classes=np.int64(10)),
    "2 classes": lambda: models.build("small", 2, 1, -(2**63))(torch.rand(1, 1, 8, 8)),
    "a torch size": lambda: models.build("small", torch.tensor(3), 1),
    "whole lr": lambda: train(lr=1),
    "numpy's lr": lambda: train(lr=np.float32(0.5), seed=np.int64(3)),
    "negative seed": lambda: train(seed=-1),
    "no momentum": lambda: train(momentum=0, nesterov=False),
    "no radius": lambda: train("at", epsilon=0.0),
    "ratio 1": lambda: train("matched_mixup", ratio=1),
    "alpha 0.001": lambda: train("mixup", alpha=0.001),
    "one image": lambda: train(made=splits(train=labels([0]), heldout=labels([1]))),
    "a batch for all": lambda: train(batch_size=10**5),
    "a chunk for all": lambda: train(chunk=1000),
    "smallest images": lambda: train(made=pictures(2)),
    "deep and small": lambda: train(model="compact", made=pictures(8, 18)),
    "oblong": lambda: train(made=splits(**dict.fromkeys(("train", "heldout", "test"), OBLONG))),
    "bf16": lambda: train(precision="bf16"),
    "wilson's ends": lambda: (statistics.wilson(0, 1), statistics.wilson(1, 1)),
    "one value": lambda: statistics.mean_interval([0.3]),
    "lists": lambda: statistics.auc([0, 1], [1]),
    "bools": lambda: statistics.interval(np.array([True, False])),
    "tensors": lambda: statistics.interval(torch.rand(5)),
    "rates 0 and 1": lambda: [statistics.detected_at([0], [1], rate) for rate in (0, 1)],
    "one point": lambda: statistics.pareto([[0.5, 0.5]]),
    "lambda's ends": lambda: [theory.table1("ol", True, ratio, 2) for ratio in (0, 1)],
    "numpy's lambda": lambda: theory.table1("pl", np.bool_(True), np.float64(0.5), np.int64(9)),
    "arrays in g": lambda: theory.table1("ol", True, 0.5, 9, (np.zeros(3), np.zeros(3))),
    "half tensors": lambda: theory.delta_F(torch.rand(3).bfloat16(), torch.rand(3).half()),
    "number and array": lambda: theory.delta_F(0.5, np.zeros(3)),
    "strength 1": lambda: world(strength=1, power=1, transfer=0),
    "no image": lambda: theory.enumerated(mixing(), torch.zeros(0, 1, 1, 7)),
    "one in a class": lambda: theory.exact(world(), "ol", 0.5, 1),
}
OBLONG = dataset(images=torch.zeros(20, 1, 8, 12, dtype=torch.uint8))


@pytest.mark.parametrize("what", RIGHT)
def test_a_call_at_the_edge_of_what_is_allowed_works(what):
    assert RIGHT[what]() is not None


def test_integers_of_any_type_become_int64():
    made = dataset(labels=(torch.arange(20) % 4).byte(), index=torch.arange(20).int())
    assert made.labels.dtype == made.index.dtype == torch.int64
    assert torch.equal(made.labels, torch.arange(20) % 4)


def test_numpys_numbers_train_the_same_net_as_pythons():
    plain, _ = train("mixup", seed=3, alpha=0.5)
    other, _ = train("mixup", seed=np.int64(3), alpha=np.float64(0.5), batch_size=np.int32(8))
    assert all(torch.equal(plain[name], other[name]) for name in plain)


def test_float_images_told_how_to_convert_them_are_the_same_pixels():
    """What a user gets who follows the line."""
    converted = dataset(images=(255 * FLOATS).round().to(torch.uint8), peak=255)
    torch.testing.assert_close(converted.pixels(), FLOATS, atol=0.5 / 255 + 1e-6, rtol=0)


# Over the ranges


WORDS = ("", "0", "0.1", "nan", "cpu", "cpu:99", "cuda:-1", "erm", "step", "a\nline")
ODD = st.one_of(
    st.none(), st.booleans(), st.sampled_from(WORDS), st.floats(), st.integers(), st.just(1j),
    st.lists(st.integers(), max_size=2), st.just(b"8"), st.just(torch.zeros(2)),
)  # fmt: skip
KEYS = {**recipes.WHOLE, **recipes.REAL, "epsilon": (0, 1), "train_step_size": (0, 1)}
anything = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def outcome(call) -> str | None:
    """None where a call works, else its one line."""
    try:
        call()
    except UserError as error:
        assert "\n" not in str(error)
        return str(error)
    return None


@anything
@given(key=st.sampled_from(sorted({*KEYS, "nesterov", *recipes.CHOICES})), value=ODD)
def test_any_value_of_a_recipe_is_followed_or_refused_by_name(key, value):
    names = {"alpha": "mixup", "ratio": "matched_mixup"}
    adversarial = ("epsilon", "train_steps", "train_step_size")
    name = "at" if key in adversarial else names.get(key, "erm")
    line = outcome(lambda: recipes.checked(recipe(name) | {key: value}))
    if key in KEYS and type(value) in (int, float):
        low, high = KEYS[key]
        whole = key not in recipes.WHOLE or isinstance(value, int)
        above = value > 0 or key not in ("lr", "train_step_size")
        fits = whole and above and low <= value <= high
        if key != "momentum":
            assert (line is None) == fits
    assert line is None or key in line


@anything
@given(st.sampled_from(("images", "labels", "index", "classes", "peak")), ODD)
def test_any_column_of_a_data_set_is_taken_or_refused_by_name(column, value):
    line = outcome(lambda: dataset(**{column: value}))
    assert line is None or line.startswith(column)


@anything
@given(st.sampled_from(("classes", "n_train", "n_heldout", "root", "device")), ODD)
def test_any_argument_of_load_is_taken_or_refused_by_name(argument, value):
    line = outcome(lambda: load("digits", **{argument: value}))
    assert line is None or argument in line


@anything
@given(st.integers(-2, 12), st.integers(-2, 12))
def test_wilson_is_of_counts_that_fit_or_refused(successes, total):
    line = outcome(lambda: statistics.wilson(successes, total))
    assert (line is None) == (total >= 1 and 0 <= successes <= total)


@anything
@given(st.lists(st.floats(width=32), max_size=4), st.lists(st.floats(width=32), max_size=4))
def test_scores_are_finite_or_refused(clean, adversarial):
    fits = all(len(scores) and np.isfinite(scores).all() for scores in (clean, adversarial))
    for statistic in (statistics.auc, statistics.roc, statistics.detected_at):
        line = outcome(lambda statistic=statistic: statistic(clean, adversarial))
        assert (line is None) == fits
    line = outcome(lambda: statistics.auc_samples(clean, adversarial))
    assert (line is None) == (fits and len(clean) == len(adversarial))


@anything
@given(st.floats(), st.floats(), st.floats())
def test_a_constructed_classifier_keeps_to_its_bounds(strength, power, transfer):
    fits = 0.5 < strength <= 1 and 1 <= power <= 1000 and 0 <= transfer <= 1
    changes = {"strength": strength, "power": power, "transfer": transfer}
    assert (outcome(lambda: world(**changes)) is None) == fits


@anything
@given(ODD, ODD)
def test_any_ratio_and_number_of_classes_of_the_theory(ratio, classes):
    for call in (theory.ric_thresholds, lambda *given: theory.table1(given[0], True, *given[1:])):
        line = outcome(lambda call=call: call("ol", ratio, classes))
        assert line is None or line.startswith(("ratio", "classes"))


def test_splits_stay_whole_where_one_is_replaced():
    with pytest.raises(UserError, match="test has classes 5, train 4"):
        dataclasses.replace(splits(), test=dataset(classes=5))
