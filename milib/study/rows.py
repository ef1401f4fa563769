"""The rows and columns of the study's tables: names, settings, records and the paper's values."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from milib import statistics
from milib.defenses import DEFENSES
from milib.errors import UserError
from milib.shapes import Values
from milib.study.params import Params
from milib.study.paths import project_root
from milib.training import MODELS

MI = ("mi_pl", "mi_ol", "mi_combined")
BASELINES = ("gaussian_noise", "rotation", "xie", "guo")
PRIMARY = "untargeted_pgd10"
"""The attack of 03, 05, 06 and 07: untargeted PGD-10."""


class _Names(dict):
    """Names of models and detectors; of a defense, also a registered one, its title."""

    def __missing__(self, name: str) -> str:
        return DEFENSES[name].title


NAMES = _Names(
    {
        "confidence": "plain confidence",
        "erm": "ERM",
        "mixup": "Mixup",
        "at": "AT",
        "interpolated_at": "Interpolated AT",
        "manifold_mixup": "Manifold mixup",
        "matched_mixup": "Mixup, matched ratio",
        "long_mixup": "Mixup, twice the epochs",
    }
)
"""What defenses, detectors and models are called in tables and figures."""
PRINTED = {"table2_cifar10": 15, "table3_cifar100": 13}
"""The paper's tables and how many rows they have."""
PRINTED_COLUMNS = ("method", "clean", "untargeted_pgd10", "untargeted_pgd50", "untargeted_pgd200")
PRINTED_COLUMNS += ("targeted_pgd10", "targeted_pgd50", "targeted_pgd200")


def columns(run: Params) -> list[str]:
    """The columns of Tables 2 and 3: "clean", then "untargeted_pgd10" and the like.

    - run: its `steps`.
    """
    found = ["clean"]
    for mode in ("untargeted", "targeted"):
        found += [f"{mode}_pgd{step}" for step in run.steps]
    return found


# Rows


def settings_of(row: dict) -> dict:
    """A row's parameters: what it holds besides model and defense.

    - row: as parameter files give it.
    """
    return {key: value for key, value in row.items() if key not in ("model", "defense")}


def parameters(row: dict) -> str:
    """A row's parameters as text: "sigma 0.2"; "-" where it has none.

    - row: as parameter files give it, or its settings alone.
    """
    return ", ".join(f"{key} {value}" for key, value in settings_of(row).items()) or "-"


def row_name(row: dict) -> str:
    """The paper's name of a row: "Mixup + Gaussian noise". Rows that it lacks are named alike.

    - row: as parameter files give it.
    """
    if row["defense"] == "none":
        return NAMES[row["model"]]
    name = f"{NAMES[row['model']]} + {NAMES[row['defense']]}"
    if row["defense"] == "mi_ol" and row["model"] in ("erm", "at"):
        name += " (ablation study)"
    if isinstance(row.get("ratio"), list):
        name += ", ratio drawn"
    return name


def paper_table(run: Params) -> dict[str, dict[str, str]]:
    """The paper's table that the run is shown beside: row name -> column -> printed value.

    - run: its `paper_table`; of none it is empty.

    Raises UserError where the file is not as the paper has the table.
    """
    if run.paper_table == "none":
        return {}
    path = project_root() / "params" / "paper" / f"{run.paper_table}.csv"
    try:
        columns, *lines = csv.reader(path.read_text(encoding="utf-8").splitlines(), strict=True)
    except (OSError, ValueError, csv.Error):
        raise UserError(f"{path} cannot be read as CSV: take it from git") from None
    if tuple(columns) != PRINTED_COLUMNS:
        raise UserError(f"{path}: its columns are {columns}: {', '.join(PRINTED_COLUMNS)}")
    if len(lines) != PRINTED[run.paper_table]:
        raise UserError(f"{path} has {len(lines)} rows: the paper has {PRINTED[run.paper_table]}")
    known = {row_name({"model": model, "defense": kind}) for model in MODELS for kind in DEFENSES}
    found: dict[str, dict[str, str]] = {}
    for number, cells in enumerate(lines, 2):
        where = f"{path}, line {number}"
        if len(cells) != len(columns):
            raise UserError(f"{where} has {len(cells)} cells: {len(columns)}, one for each column")
        name, *values = cells
        if name not in known or name in found:
            raise UserError(f"{where}: method is {name!r}: a row of the paper's table, once")
        found[name] = dict(zip(columns[1:], values, strict=True))
        for column, value in found[name].items():
            if not re.fullmatch(r"(<=)?(100|\d{1,2})(\.\d)?", value):
                raise UserError(f"{where}: {column} is {value!r}: a percentage, as 93.8 or <=1")
    return found


@dataclass(frozen=True)
class TableRow:
    """A row of Table 2 or 3.

    - name: see `row_name`; with its parameters where an earlier row has the same name.
    - settings: model, defense and its parameters.
    - target, heldout: clean accuracies on held-out images in [0, 1] by which they were chosen,
      MI-OL's and the row's own; None where they are as given.
    - record: of `experiments.score`.
    - paper: column -> printed value; empty where the paper lacks the row.
    """

    name: str
    settings: dict
    target: float | None
    heldout: float | None
    record: dict
    paper: dict[str, str]

    @property
    def defense(self) -> str:
        """The row's defense, a name of `defenses.DEFENSES`."""
        return self.settings["defense"]

    def accuracy(self, column: str) -> Values:
        """Per-image accuracy [n] in a column, the mean over draw sets."""
        return accuracy(self.record, column)

    def interval(self, column: str) -> tuple[float, float, float]:
        """Mean accuracy in a column and its 95 % interval over images, in [0, 1]."""
        return statistics.interval(self.accuracy(column))


def table_rows(run: Params, entries: Sequence[dict], records: Sequence[dict]) -> list[TableRow]:
    """The table's rows, the paper's values beside each.

    - run: it names the paper's table.
    - entries: of `experiments.matched_row`.
    - records: of `experiments.score`, one for each entry.
    """
    paper, found = paper_table(run), {}
    for entry, record in zip(entries, records, strict=True):
        name = row_name(entry["row"])
        printed = paper.get(name, {})
        if name in found:  # other settings of the same defense, such as another reading of sigma
            name += f" ({parameters(entry['row'])})"
        chosen = (entry["row"], entry["target"], entry["heldout"])
        found[name] = TableRow(name, *chosen, record, printed)
    return list(found.values())


# Records


def correct(cell: dict, labels: list[int]) -> Values:
    """Per-image accuracy [n] in a record's cell: the mean of (prediction == label) over draw sets.

    - cell: its "predictions" are one list of n labels a draw set.
    - labels: the true ones, n.
    """
    return (np.array(cell["predictions"]) == np.array(labels)).mean(0)


def accuracy(record: dict, column: str) -> Values:
    """Per-image accuracy [n] in a column of a score record, the mean over draw sets."""
    return correct(record["cells"][column], record["labels"])


def accuracies(record: dict) -> dict[str, float]:
    """The accuracy in every column of a score record, in [0, 1].

    - record: of `experiments.score`.
    """
    return {column: float(accuracy(record, column).mean()) for column in record["cells"]}


def mean_accuracy(record: dict) -> float:
    """The accuracy of a record with one cell, in [0, 1].

    - record: of `experiments.adaptive`.
    """
    return float(correct(record["cell"], record["labels"]).mean())


def detector_scores(record: dict, detector: str) -> tuple[Values, Values]:
    """A detector's scores on all images of a detection record: clean [n], under PGD-10 [n].

    - record: of `experiments.detection`.
    - detector: "mi_pl", "mi_ol" or "confidence". A higher score means adversarial.
    """
    scores = record["scores"]
    return np.array(scores["clean"][detector]), np.array(scores[PRIMARY][detector])


def auc_of(record: dict, detector: str) -> float:
    """The AUC of a detector over all images of a detection record: see `detector_scores`.

    - record, detector: as in `detector_scores`.
    """
    return statistics.auc(*detector_scores(record, detector))


def by_setting(record: dict) -> list[tuple[Values, Values]]:
    """Per-image accuracies of each setting of a tradeoff record: clean [n], under PGD-10 [n].

    - record: of `experiments.tradeoff`.
    """
    labels = record["labels"]
    return [
        (correct(cell["clean"], labels), correct(cell[PRIMARY], labels)) for cell in record["cells"]
    ]


def tradeoff_points(record: dict) -> np.ndarray:
    """(clean, robust) accuracy in percent of each setting of a tradeoff record, [k, 2].

    - record: of `experiments.tradeoff`.
    """
    return np.array([[100 * values.mean() for values in both] for both in by_setting(record)])


def tradeoff_ends(record: dict) -> np.ndarray:
    """How far the 95 % intervals of `tradeoff_points` reach, [k, clean and robust, down and up].

    - record: of `experiments.tradeoff`.
    """
    found = []
    for both in by_setting(record):
        intervals = [100 * np.array(statistics.interval(values)) for values in both]
        found.append([(mean - low, high - mean) for mean, low, high in intervals])
    return np.array(found)
