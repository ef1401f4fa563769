"""The defenses of notebook 08: rows of the table, and controls, each a simpler form of MI-OL."""

from typing import NamedTuple

import torch

from milib import data
from milib.averaging import Defense
from milib.sampling import log_mean
from milib.study.experiments.common import draws_of
from milib.study.experiments.matching import MATCHING_IMAGES, matched_row, reference_row
from milib.study.study import Study

FIXED = 10
"""Partners of the control with one fixed set."""
FEW = 10
"""Images of each class in a small sample pool."""


class Variant(NamedTuple):
    """A defense under attack: a row of the table, or a control, a simpler form of MI-OL.

    - name: "row" of a row as the table has it; else what is changed.
    - row: model, defense and its parameters.
    - pool: what is mixed with: "train", the run's sample pool; "mean" or "black", one image for
      all; "few", FEW images of each class of that pool.
    - draws: N; None: the run's.
    - frozen: whether the draws are fixed, and the same for every image.
    """

    name: str
    row: dict
    pool: str = "train"
    draws: int | None = None
    frozen: bool = False


def of_row(study: Study, row: dict) -> Variant:
    """A row of the table with the parameters that 04 chose on held-out images.

    - study: the run.
    - row: as parameter files give it.
    """
    return Variant("row", matched_row(study, row)["row"])


def bare(model: str) -> Variant:
    """A model without a defense.

    - model: its name.
    """
    return Variant("row", {"model": model, "defense": "none"})


def _pool(study: Study, kind: str) -> data.SamplePool:
    train = study.splits.train
    if kind == "train":
        return study.pool
    if kind == "few":
        pool, of_classes = study.pool.data, []
        for label in range(pool.classes):
            of_classes.append((pool.labels == label).nonzero()[:FEW, 0])
        return data.SamplePool(pool.take(torch.cat(of_classes)))
    image = train.images.float().mean(0).round()
    image = image if kind == "mean" else torch.zeros_like(image)
    images = image.to(train.images.dtype).repeat(train.classes, 1, 1, 1)
    number = torch.arange(train.classes, device=images.device)
    return data.SamplePool(data.Dataset(images, number, number, train.classes, train.peak))


def defense_of(study: Study, variant: Variant) -> Defense:
    """The defense of a variant, in the precision in which it is scored.

    - study: the run.
    - variant: which.
    """
    made = study.defense(variant.row, variant.draws, _pool(study, variant.pool))
    return made.frozen(draws_of(study, "fixed")) if variant.frozen else made


def rows(study: Study) -> list[Variant]:
    """The rows of the table, each with the parameters that 04 has; of equal ones the first.

    - study: the run.
    """
    found = (of_row(study, row) for row in study.params.rows)
    return list({str(variant): variant for variant in found}.values())


def mi_ol(study: Study, model: str) -> Variant:
    """A model's MI-OL row, whose ratio is fixed.

    - study: the run.
    - model: its name. The net that was trained with MI's own ratio has the mixup net's.
    """
    if model == "matched_mixup":
        return Variant("row", reference_row(study, "mixup") | {"model": model})
    return of_row(study, reference_row(study, model) | {"model": model})


def controls(study: Study, model: str) -> list[Variant]:
    """What separates the paper's two mechanisms, at MI-OL's ratio and at its clean accuracy.

    - study: the run.
    - model: its name.

    Shrinkage alone: one image for all inputs. The transfer to another input, without chance: one
    fixed set of partners. MI without the prediction: partners of any label. Then MI-OL with a small
    pool.
    """
    ratio = mi_ol(study, model).row["ratio"]
    any_label = {"model": model, "defense": "mi_any", "ratio": ratio}
    found = [
        Variant("mean image", any_label, "mean", 1),
        Variant("black image", any_label, "black", 1),
        Variant("fixed partners", any_label, "train", FIXED, True),
        Variant("any label", any_label),
    ]
    equal = [at_equal_accuracy(study, variant) for variant in found]
    return [*found, *equal, Variant("small pool", any_label | {"defense": "mi_ol"}, "few")]


def matched(study: Study) -> list[Variant]:
    """MI-OL on the net that was trained with MI's own ratio; none where the run has no such net.

    - study: the run.
    """
    return [mi_ol(study, "matched_mixup")] if study.params.extra_models else []


def at_equal_accuracy(study: Study, variant: Variant) -> Variant:
    """A control with the ratio at which its clean accuracy on held-out images is nearest MI-OL's.

    - study: the run; the ratios are those of its grid for MI-OL.
    - variant: the control.
    """
    goal = _heldout(study, mi_ol(study, variant.row["model"]))
    nearest, least = variant, float("inf")
    for ratio in study.params.grids["mi_ol"]:
        candidate = variant._replace(row=variant.row | {"ratio": ratio})
        distance = round(abs(_heldout(study, candidate) - goal), 9)
        if distance <= least:
            nearest, least = candidate, distance
    return nearest._replace(name=f"{variant.name}, equal accuracy")


def _heldout(study: Study, variant: Variant) -> float:
    """Clean accuracy on held-out images, by which a ratio is chosen."""
    run, model = study.params, variant.row["model"]
    count = min(MATCHING_IMAGES, run.n_test, run.n_heldout)

    def compute() -> dict:
        points, draws = study.points(count, "heldout"), draws_of(study, "held out")
        predicted = log_mean(defense_of(study, variant), points.x, points.index, draws)
        return {"accuracy": (predicted.argmax(1) == points.y).double().mean().item()}

    identity = study.identity(model, "draws", variant=variant._asdict(), count=count)
    images = count * (variant.draws or run.draws)
    what = f"heldout-{model}-{variant.name}".replace(" ", "_")
    return study.record(what, model, identity, compute, images)["accuracy"]
