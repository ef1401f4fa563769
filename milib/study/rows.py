"""The rows and columns of the study's tables: their names, settings, records and the paper's values."""

import csv
from dataclasses import dataclass

import numpy as np

from milib import statistics
from milib.defenses import DEFENSES
from milib.shapes import Values
from milib.study.params import Params
from milib.study.paths import project_root

MI = ("mi_pl", "mi_ol", "mi_combined")
BASELINES = ("gaussian_noise", "rotation", "xie", "guo")
PRIMARY = "untargeted_pgd10"
"""The attack of 03, 05, 06 and 07: untargeted PGD-10."""
NAMES = {name: kind.title for name, kind in DEFENSES.items()} | {
    "confidence": "plain confidence",
    "erm": "ERM",
    "mixup": "Mixup",
    "at": "AT",
    "interpolated_at": "Interpolated AT",
    "manifold_mixup": "Manifold mixup",
    "matched_mixup": "Mixup, matched ratio",
    "long_mixup": "Mixup, twice the epochs",
}


def columns(run: Params) -> list[str]:
    """The columns of Tables 2 and 3."""
    return ["clean"] + [
        f"{mode}_pgd{step}" for mode in ("untargeted", "targeted") for step in run.steps
    ]


def correct(cell: dict, labels: list[int]) -> Values:
    """The per-image accuracy [n] of a record's cell: the mean over its draw sets of (prediction == label)."""
    return (np.array(cell["predictions"]) == np.array(labels)).mean(0)


def settings_of(row: dict) -> dict:
    """A row's parameters: what it holds besides model and defense."""
    return {key: value for key, value in row.items() if key not in ("model", "defense")}


@dataclass(frozen=True)
class TableRow:
    """A row of Table 2 or 3: its settings (and how they were chosen), its record, and the paper's printed values."""

    name: str
    settings: dict
    target: float | None
    heldout: float | None
    record: dict
    paper: dict[str, str]

    @property
    def defense(self) -> str:
        """The row's defense, a name of milib.defenses.DEFENSES."""
        return self.settings["defense"]

    def accuracy(self, column: str) -> np.ndarray:
        """Per-image accuracy [n], the mean over draw sets."""
        return correct(self.record["cells"][column], self.record["labels"])

    def interval(self, column: str) -> tuple[float, float, float]:
        """Mean accuracy and its 95 % interval over images, in [0, 1]."""
        return statistics.interval(self.accuracy(column))


def row_name(row: dict) -> str:
    """The paper's name of a row: "Mixup + Gaussian noise"; what it does not have is named alike."""
    if row["defense"] == "none":
        return NAMES[row["model"]]
    name = f"{NAMES[row['model']]} + {NAMES[row['defense']]}"
    if row["defense"] == "mi_ol" and row["model"] in ("erm", "at"):
        name += " (ablation study)"
    return name + (", ratio drawn" if isinstance(row.get("ratio"), list) else "")


def paper_table(run: Params) -> dict[str, dict[str, str]]:
    """The paper's table that the run is shown beside: row name -> column -> printed value."""
    with open(project_root() / "params" / "paper" / f"{run.paper_table}.csv", newline="") as file:
        return {row.pop("method"): row for row in csv.DictReader(file)}


def parameters(row: dict) -> str:
    """A row's parameters as text: "sigma 0.2"."""
    return ", ".join(f"{key} {value}" for key, value in settings_of(row).items()) or "-"


def rows(run: Params, entries: list[dict], records: list[dict]) -> list[TableRow]:
    """Table rows from experiments.matched_row and the record of each; the paper's values stand beside every reading of its row."""
    paper, found = paper_table(run), {}
    for entry, record in zip(entries, records, strict=True):
        name = row_name(entry["row"])
        printed = paper.get(name, {})
        if (
            name in found
        ):  # another setting of the same defense, such as the literal reading of sigma
            name += f" ({parameters(entry['row'])})"
        found[name] = TableRow(
            name, entry["row"], entry["target"], entry["heldout"], record, printed
        )
    return list(found.values())


def accuracies(record: dict) -> dict[str, float]:
    """The accuracy of every cell of a score record, in [0, 1]."""
    return {
        column: float(correct(cell, record["labels"]).mean())
        for column, cell in record["cells"].items()
    }


def mean_accuracy(record: dict) -> float:
    """The accuracy of a record with one cell, in [0, 1]."""
    return float(correct(record["cell"], record["labels"]).mean())


def auc_of(record: dict, detector: str) -> float:
    """The AUC of a detector over all images of a detection record."""
    clean, adversarial = (
        np.array(record["scores"][column][detector]) for column in ("clean", PRIMARY)
    )
    return statistics.auc(clean, adversarial)


def tradeoff_points(record: dict) -> np.ndarray:
    """(clean, robust) accuracy in percent of every setting of a family, [k, 2]."""
    return np.array(
        [
            [100 * correct(cell[column], record["labels"]).mean() for column in ("clean", PRIMARY)]
            for cell in record["cells"]
        ]
    )


def tradeoff_ends(record: dict) -> np.ndarray:
    """How far the 95 % intervals of `tradeoff_points` reach below and above, [k, clean and robust, below and above]."""
    cells = [
        [
            statistics.interval(correct(cell[column], record["labels"]))
            for column in ("clean", PRIMARY)
        ]
        for cell in record["cells"]
    ]
    mean, low, high = np.moveaxis(100 * np.array(cells), 2, 0)
    return np.stack([mean - low, high - mean], 2)
