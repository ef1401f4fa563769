"""Choices in which the paper, its authors' code and this study differ: what each is worth, and what the code's two are together."""

from dataclasses import dataclass

from milib.study import experiments, progress
from milib.study.rows import PRIMARY, TableRow, parameters, row_name
from milib.study.study import Study

POOL, LABEL = {"pool": "test"}, {"attack_label": "prediction"}
"""What the authors' code does: it mixes with test images, and attacks the model's prediction."""


@dataclass(frozen=True)
class Choice:
    """A row's name, and its records as this study measures it and with one choice made otherwise."""

    what: str
    row: str
    here: dict
    other: dict


def choices(study: Study, table: list[TableRow]) -> list[Choice]:
    """Each choice on the mixup and interpolated-AT rows that it touches (the first row of a model and a defense).

    Sample pool: test images, cropped and flipped, as the authors' code. Label under attack: the model's prediction, as their code. Then both.
    Xie, Guo: not through the code's 8-bit images. Sigma: the paper's number read on [0, 1], twice that of the run's file, with neither matched.
    """
    pool, label, code = (study.varied(**change) for change in (POOL, LABEL, POOL | LABEL))
    both = ["clean", PRIMARY]
    wanted = [
        *(
            ("test images as sample pool", pool, defense, both, {})
            for defense in ("mi_ol", "mi_pl", "mi_combined")
        ),
        *(
            ("the prediction is attacked", label, defense, [PRIMARY], {})
            for defense in ("none", "guo", "mi_ol", "mi_combined")
        ),
        *(
            ("pool and label as the authors' code", code, defense, both, {})
            for defense in ("mi_ol", "mi_combined")
        ),
        ("without 8-bit images", study, "xie", both, {"eight_bit": False}),
        ("without 8-bit images", study, "guo", both, {"eight_bit": False}),
    ]
    rows = {(row.settings["model"], row.defense): row for row in reversed(table)}
    touched = [
        (rows[model, choice[2]], *choice)
        for choice in wanted
        for model in ("mixup", "interpolated_at")
        if (model, choice[2]) in rows
    ]
    found = []
    for row, what, where, _, columns, changes in progress.sweep("choices made otherwise", touched):
        found.append(
            Choice(
                what,
                row.name,
                row.record,
                experiments.score(where, row.settings | changes, columns),
            )
        )
    given = {
        row["model"]: row
        for row in reversed(study.params.rows)
        if row["defense"] == "gaussian_noise"
    }
    for row in (
        given[model] for model in ("mixup", "interpolated_at") if (model, "gaussian_noise") in rows
    ):
        here, other = (
            experiments.score(study, row | {"sigma": min(1.0, factor * row["sigma"])}, both)
            for factor in (1, 2)
        )
        found.append(
            Choice("sigma read on [0, 1]", f"{row_name(row)} ({parameters(row)})", here, other)
        )
    return found
