"""Choices in which the paper, its authors' code and this study differ: what each is worth, and what the code's two are together."""

from dataclasses import dataclass

import pandas as pd

from milib import evaluation, experiments, progress
from milib.experiments import PRIMARY
from milib.params import Params
from milib.study import Study
from milib.tables import TableRow, paper_table, parameters, row_name

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
    """Each choice on the mixup and interpolated-AT rows that it touches (the first row of a model and a defence).

    Sample pool: test images, cropped and flipped, as the authors' code. Label under attack: the model's prediction, as their code. Then both.
    Xie, Guo: not through the code's 8-bit images. Sigma: the paper's number read on [0, 1], twice that of the run's file, with neither matched.
    """
    pool, label, code = (study.varied(**change) for change in (POOL, LABEL, POOL | LABEL))
    both = ["clean", PRIMARY]
    wanted = [
        *(("test images as sample pool", pool, defence, both, {}) for defence in ("mi_ol", "mi_pl", "mi_combined")),
        *(("the prediction is attacked", label, defence, [PRIMARY], {}) for defence in ("none", "guo", "mi_ol", "mi_combined")),
        *(("pool and label as the authors' code", code, defence, both, {}) for defence in ("mi_ol", "mi_combined")),
        ("without 8-bit images", study, "xie", both, {"eight_bit": False}),
        ("without 8-bit images", study, "guo", both, {"eight_bit": False}),
    ]
    rows = {(row.settings["model"], row.defence): row for row in reversed(table)}
    touched = [(rows[model, choice[2]], *choice) for choice in wanted for model in ("mixup", "interpolated_at") if (model, choice[2]) in rows]
    found = []
    for row, what, where, _, columns, changes in progress.sweep("choices made otherwise", touched):
        found.append(Choice(what, row.name, row.record, experiments.score(where, row.settings | changes, columns)))
    given = {row["model"]: row for row in reversed(study.params.rows) if row["defence"] == "gaussian_noise"}
    for row in (given[model] for model in ("mixup", "interpolated_at") if (model, "gaussian_noise") in rows):
        here, other = (experiments.score(study, row | {"sigma": min(1.0, factor * row["sigma"])}, both) for factor in (1, 2))
        found.append(Choice("sigma read on [0, 1]", f"{row_name(row)} ({parameters(row)})", here, other))
    return found


def frame(run: Params, found: list[Choice]) -> pd.DataFrame:
    """Clean and PGD-10 accuracy in percent, here, with the other choice, and in the paper; other minus here in points, paired by image, with 95 % interval."""
    paper, lines = paper_table(run), []
    for choice in found:
        for column in choice.other["cells"]:
            here, other = (evaluation.correct(record["cells"][column], record["labels"]) for record in (choice.here, choice.other))
            difference = evaluation.percent(evaluation.mean_interval(other - here))
            values = (f"{100 * value.mean():.1f}" for value in (here, other))
            lines.append((choice.what, choice.row, column, *values, difference, paper.get(choice.row, {}).get(column, "-")))
    return pd.DataFrame(lines, columns=["choice", "row", "column", "here", "otherwise", "difference, points", "paper"]).set_index(["choice", "row", "column"])
