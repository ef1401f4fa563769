"""Choices in which the paper, its authors' code and this study differ, one at a time: what each is worth."""

from dataclasses import dataclass

import pandas as pd

from milib import evaluation, experiments
from milib.experiments import PRIMARY
from milib.study import Study
from milib.tables import TableRow


@dataclass(frozen=True)
class Choice:
    """A row of the table as this study measures it, and its record with one choice made otherwise."""

    what: str
    row: TableRow
    other: dict


def choices(study: Study, table: list[TableRow]) -> list[Choice]:
    """Each choice on the mixup and interpolated-AT rows that it touches (the first row of a model and a defence).

    Sample pool: test images, cropped and flipped, as the authors' code. Label under attack: the model's prediction, as their code.
    Sigma: twice the row's, the paper's number read on [0, 1] where no row was matched. Xie, Guo: not through the code's 8-bit images.
    """
    pool, label, both = study.varied(pool="test"), study.varied(attack_label="prediction"), ["clean", PRIMARY]
    wanted = [
        ("test images as sample pool", pool, "mi_ol", both, {}),
        ("test images as sample pool", pool, "mi_pl", both, {}),
        ("the prediction is attacked", label, "none", [PRIMARY], {}),
        ("the prediction is attacked", label, "mi_ol", [PRIMARY], {}),
        ("sigma twice as large", study, "gaussian_noise", both, {"sigma": lambda sigma: min(1.0, 2 * sigma)}),
        ("without 8-bit images", study, "xie", both, {"eight_bit": lambda _: False}),
        ("without 8-bit images", study, "guo", both, {"eight_bit": lambda _: False}),
    ]
    rows = {(row.settings["model"], row.defence): row for row in reversed(table)}
    found = []
    for what, where, defence, columns, changes in wanted:
        for row in (rows[model, defence] for model in ("mixup", "interpolated_at") if (model, defence) in rows):
            changed = {key: change(row.settings.get(key)) for key, change in changes.items()}
            found.append(Choice(what, row, experiments.score(where, row.settings | changed, columns)))
    return found


def frame(found: list[Choice]) -> pd.DataFrame:
    """Clean and PGD-10 accuracy in percent, here and with the other choice; other minus here in points, paired by image, with 95 % interval."""
    lines = []
    for choice in found:
        for column, cell in choice.other["cells"].items():
            here, other = choice.row.accuracy(column), evaluation.correct(cell, choice.other["labels"])
            difference = evaluation.percent(evaluation.mean_interval(other - here))
            lines.append((choice.what, choice.row.name, column, f"{100 * here.mean():.1f}", f"{100 * other.mean():.1f}", difference))
    return pd.DataFrame(lines, columns=["choice", "row", "column", "here", "otherwise", "difference, points"]).set_index(["choice", "row", "column"])
