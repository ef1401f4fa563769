"""Choices in which the paper, its authors' code and this study differ: what each is worth."""

from dataclasses import dataclass, field

from milib.study import experiments, progress
from milib.study.rows import PRIMARY, TableRow, parameters, row_name
from milib.study.study import Study

POOL, LABEL = {"pool": "test"}, {"attack_label": "prediction"}
"""What the authors' code does: it mixes with test images, and attacks the model's prediction."""
MODELS = ("mixup", "interpolated_at")
BOTH = ("clean", PRIMARY)


@dataclass(frozen=True)
class Choice:
    """A row as this study measures it and with one choice made otherwise.

    - what: the other choice.
    - row: the row's name.
    - here, other: its records.
    """

    what: str
    row: str
    here: dict
    other: dict


@dataclass(frozen=True)
class Wanted:
    """A choice to be made otherwise on the rows of a defense.

    - what: the other choice.
    - study: with its parameters.
    - defense: a name of `defenses.DEFENSES`.
    - columns: of the table that it touches.
    - changes: to the row's parameters.
    """

    what: str
    study: Study
    defense: str
    columns: tuple[str, ...] = BOTH
    changes: dict = field(default_factory=dict)


def _wanted(study: Study) -> list[Wanted]:
    """The choices but that of sigma, one at a time; then pool and label together."""
    pool, label, code = (study.varied(**change) for change in (POOL, LABEL, POOL | LABEL))
    found = []
    for defense in ("mi_ol", "mi_pl", "mi_combined"):
        found.append(Wanted("test images as sample pool", pool, defense))
    for defense in ("none", "guo", "mi_ol", "mi_combined"):
        found.append(Wanted("the prediction is attacked", label, defense, (PRIMARY,)))
    for defense in ("mi_ol", "mi_combined"):
        found.append(Wanted("pool and label as the authors' code", code, defense))
    for defense in ("xie", "guo"):
        smooth = {"eight_bit": False}
        found.append(Wanted("without 8-bit images", study, defense, changes=smooth))
    return found


def _sigma_otherwise(study: Study, model: str) -> Choice:
    """The paper's sigma as the run's file has it, against the same number read on [0, 1]."""
    row = study.params.row(model, "gaussian_noise")
    doubled = row | {"sigma": min(1.0, 2 * row["sigma"])}
    here, other = (experiments.score(study, each, list(BOTH)) for each in (row, doubled))
    return Choice("sigma read on [0, 1]", f"{row_name(row)} ({parameters(row)})", here, other)


def choices(study: Study, table: list[TableRow]) -> list[Choice]:
    """Each choice made otherwise on the mixup and interpolated-AT rows that it touches.

    - study: as the table was measured.
    - table: of several rows with one model and defense the first is taken.

    Sample pool: test images, cropped and flipped, as in the authors' code. Label under attack: the
    model's prediction, as in their code. Both of these together. Xie and Guo: without the code's
    8-bit images. Sigma: the paper's number on [0, 1], which is twice that of the run's file;
    neither is matched.
    """
    rows: dict[tuple[str, str], TableRow] = {}
    for row in table:
        rows.setdefault((row.settings["model"], row.defense), row)
    touched = []
    for wanted in _wanted(study):
        for model in MODELS:
            if (model, wanted.defense) in rows:
                touched.append((wanted, rows[model, wanted.defense]))
    found = []
    for wanted, row in progress.sweep("choices made otherwise", touched):
        settings, columns = row.settings | wanted.changes, list(wanted.columns)
        other = experiments.score(wanted.study, settings, columns)
        found.append(Choice(wanted.what, row.name, row.record, other))
    for model in MODELS:
        if (model, "gaussian_noise") in rows:
            found.append(_sigma_otherwise(study, model))
    return found
