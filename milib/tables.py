"""The study's tables as data frames, with the paper's values beside."""

import csv
from dataclasses import dataclass

import numpy as np
import pandas as pd

from milib import artifacts, captions, evaluation
from milib.defenses import DEFENCES
from milib.experiments import PRIMARY, columns
from milib.params import Params, project_root
from milib.study import Study, settings_of

NAMES = {name: kind.title for name, kind in DEFENCES.items()} | {
    "confidence": "plain confidence",
    "erm": "ERM",
    "mixup": "Mixup",
    "at": "AT",
    "interpolated_at": "Interpolated AT",
    "manifold_mixup": "Manifold mixup",
    "matched_mixup": "Mixup, matched ratio",
    "long_mixup": "Mixup, twice the epochs",
}


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
    def defence(self) -> str:
        """The row's defence, a name of milib.defenses.DEFENCES."""
        return self.settings["defence"]

    def accuracy(self, column: str) -> np.ndarray:
        """Per-image accuracy [n], the mean over draw sets."""
        return evaluation.correct(self.record["cells"][column], self.record["labels"])

    def interval(self, column: str) -> tuple[float, float, float]:
        """Mean accuracy and its 95 % interval over images, in [0, 1]."""
        return evaluation.interval(self.accuracy(column))


def row_name(row: dict) -> str:
    """The paper's name of a row: "Mixup + Gaussian noise"; what it does not have is named alike."""
    if row["defence"] == "none":
        return NAMES[row["model"]]
    name = f"{NAMES[row['model']]} + {NAMES[row['defence']]}"
    if row["defence"] == "mi_ol" and row["model"] in ("erm", "at"):
        name += " (ablation study)"
    return name + (", ratio drawn" if isinstance(row.get("ratio"), list) else "")


def paper_table(run: Params) -> dict[str, dict[str, str]]:
    """The paper's table that the run is shown beside: row name -> column -> printed value."""
    with open(project_root() / "params" / "paper" / f"{run.paper_table}.csv", newline="") as file:
        return {row.pop("method"): row for row in csv.DictReader(file)}


def parameters(row: dict) -> str:
    """A row's parameters as text: "sigma 0.2"."""
    return ", ".join(f"{key} {value}" for key, value in settings_of(row).items()) or "-"


def settings(run: Params) -> pd.DataFrame:
    """Table 4 or 5: the rows' parameters as the parameter file gives them, before any matching."""
    return pd.DataFrame({"row": [row_name(row) for row in run.rows], "parameters": [parameters(row) for row in run.rows]}).set_index("row")


def grids(run: Params) -> pd.DataFrame:
    """The values that 04 chooses from and 06 sweeps, per defence."""
    found = [(NAMES[name], list(DEFENCES[name].settings)[-1], str(values)) for name, values in run.grids.items()]
    return pd.DataFrame(found, columns=["defence", "parameter", "values"]).set_index("defence")


def rows(study: Study, entries: list[dict], records: list[dict]) -> list[TableRow]:
    """Table rows from experiments.matched_row and the record of each; the paper's values stand beside every reading of its row."""
    paper, found = paper_table(study.params), {}
    for entry, record in zip(entries, records, strict=True):
        name = row_name(entry["row"])
        printed = paper.get(name, {})
        if name in found:  # another setting of the same defence, such as the literal reading of sigma
            name += f" ({parameters(entry['row'])})"
        found[name] = TableRow(name, entry["row"], entry["target"], entry["heldout"], record, printed)
    return list(found.values())


def chosen(table: list[TableRow]) -> pd.DataFrame:
    """How the parameters came about: the held-out clean accuracy of the reference MI-OL row, of this row, and the residual, in percent."""
    frame = pd.DataFrame(
        {
            "row": [row.name for row in table],
            "parameters": [parameters(row.settings) for row in table],
            "MI-OL, held-out": [100 * row.target if row.target is not None else None for row in table],
            "held-out": [100 * row.heldout if row.target is not None else None for row in table],
        }
    ).set_index("row")
    frame["residual"] = frame["held-out"] - frame["MI-OL, held-out"]
    return frame.astype(object).where(frame.notna(), "given").map(lambda value: f"{value:.1f}" if isinstance(value, float) else value)


def oblivious(study: Study, table: list[TableRow]) -> pd.DataFrame:
    """Table 2 or 3: every cell "here [interval] | paper", accuracy in percent."""
    which = columns(study)
    cells = [[f"{evaluation.percent(row.interval(c))} | {row.paper.get(c, '-')}" for c in which] for row in table]
    return pd.DataFrame(cells, index=pd.Index([row.name for row in table], name="row"), columns=which)


def one_draw_set(table: list[TableRow]) -> pd.DataFrame:
    """The paper's protocol, one draw set, beside the mean over the draw sets: clean and untargeted PGD-10, percent."""
    found = {}
    for column in ("clean", PRIMARY):
        first = [np.array(row.record["cells"][column]["predictions"][0]) == row.record["labels"] for row in table]
        found[f"{column}, one set"] = [evaluation.percent(evaluation.interval(values)) for values in first]
        found[f"{column}, all sets"] = [evaluation.percent(row.interval(column)) for row in table]
    return pd.DataFrame(found, index=pd.Index([row.name for row in table], name="row"))


def bare(records: dict[str, dict]) -> pd.DataFrame:
    """Models by themselves, from experiments.bare: test images, clean and untargeted PGD-10 accuracy in percent."""
    cells = [
        [str(len(r["labels"])), *(evaluation.percent(evaluation.interval(evaluation.correct(cell, r["labels"]))) for cell in r["cells"].values())]
        for r in records.values()
    ]
    return pd.DataFrame(cells, index=pd.Index([NAMES[name] for name in records], name="model"), columns=["test images", "clean", PRIMARY])


def paired(table: list[TableRow], column: str = PRIMARY) -> pd.DataFrame:
    """Each row minus the MI-OL row of its model, where it has one, paired by image: difference in points with a 95 % interval."""
    reference = {row.settings["model"]: row for row in reversed(table) if row.name.endswith(("MI-OL", "MI-OL (ablation study)"))}
    found = []
    for row in table:
        base = reference.get(row.settings["model"])
        if base and row is not base:
            found.append((row.name, base.name, evaluation.percent(evaluation.mean_interval(row.accuracy(column) - base.accuracy(column)))))
    return pd.DataFrame(found, columns=["row", "minus", f"{column}, points"]).set_index("row")


def against_paper(study: Study, table: list[TableRow]) -> pd.DataFrame:
    """Every cell that the paper prints: paper and here in percent, here minus paper in points, Newcombe's interval for two proportions.

    The paper's n is 1,000. Its "<=1" is a bound: no difference is given.
    """
    found = []
    for row in table:
        for column in (name for name in columns(study) if name in row.paper):
            printed, values, cells = row.paper[column], row.accuracy(column), ["-", "-"]
            if not printed.startswith("<"):
                difference, *ends = evaluation.two_proportions(values.mean(), len(values), float(printed) / 100, 1000)
                cells = [f"{100 * difference:+.1f}", "[{:+.1f}, {:+.1f}]".format(*(100 * end for end in ends))]
            found.append((row.name, column, printed, f"{100 * values.mean():.1f}", *cells))
    return pd.DataFrame(found, columns=["row", "column", "paper", "here", "difference", "95 % interval"]).set_index(["row", "column"])


def models(records: dict[str, dict[str, dict]], linearity: dict[str, dict]) -> pd.DataFrame:
    """One row per model: accuracy bare and under MI-OL, clean and PGD-10 (percent), and total variation from linearity."""
    found = []
    for name, both in records.items():
        cells = [evaluation.percent(evaluation.interval(evaluation.correct(r["cells"][c], r["labels"]))) for r in both.values() for c in ("clean", PRIMARY)]
        variation = [f"{np.mean(linearity[name][kind]):.3f}" for kind in ("prediction", "label")]
        found.append([NAMES[name], *cells, *variation])
    heads = ["model", "clean", "PGD-10", "MI-OL, clean", "MI-OL, PGD-10", "TV, predictions", "TV, labels"]
    return pd.DataFrame(found, columns=heads).set_index("model")


def accuracies(record: dict) -> dict[str, float]:
    """The accuracy of every cell of a score record, in [0, 1]."""
    return {column: float(evaluation.correct(cell, record["labels"]).mean()) for column, cell in record["cells"].items()}


def paper_row(run: Params, name: str) -> pd.DataFrame:
    """One row of the paper's table, as printed."""
    return pd.DataFrame([paper_table(run)[name]], index=pd.Index([f"{name} (paper, {run.paper_table})"]))


def overfitting(logs: dict[str, list[dict]]) -> pd.DataFrame:
    """Held-out PGD-10 accuracy in percent: the best epoch's, the last one's, and what was lost between."""
    found = []
    for name, log in logs.items():
        best = max(log, key=lambda entry: entry["heldout_pgd10"])
        values = [100 * best["heldout_pgd10"], 100 * log[-1]["heldout_pgd10"]]
        found.append([NAMES[name], best["epoch"], *(f"{value:.1f}" for value in (*values, values[0] - values[1]))])
    return pd.DataFrame(found, columns=["model", "best epoch", "best", "last", "lost"]).set_index("model")


def detectors(records: dict[str, dict]) -> pd.DataFrame:
    """AUC and the rate at 5 % false positives: over all adversarial inputs; over those of Eq. 2 (with their clean inputs); and with
    the published code's selection (every image whose clean prediction is right)."""
    found = []
    for name, record in records.items():
        clean, adversarial, labels = record["scores"]["clean"], record["scores"][PRIMARY], np.array(record["labels"])
        right = np.array(clean["predictions"]) == labels
        masks = {"all": np.ones_like(right), "Eq. 2": right & (np.array(adversarial["predictions"]) != labels), "as published": right}
        for detector in ("mi_pl", "mi_ol", "confidence"):
            scores = [np.array(part[detector]) for part in (clean, adversarial)]
            row = [NAMES[name], NAMES[detector]]
            for mask in masks.values():
                some = [values[mask] for values in scores]
                row += [f"{evaluation.auc(*some):.3f}", f"{100 * evaluation.detected_at(*some):.1f}"] if mask.any() else ["-", "-"]
            found.append([*row, f"{100 * masks['Eq. 2'].mean():.1f}"])
    heads = [f"{what}, {which}" for which in ("all", "Eq. 2", "as published") for what in ("AUC", "at 5 % FPR")]
    return pd.DataFrame(found, columns=["model", "detector", *heads, "share of Eq. 2"]).set_index(["model", "detector"])


def auc_of(record: dict, detector: str) -> float:
    """The AUC of a detector over all images of a detection record."""
    clean, adversarial = (np.array(record["scores"][column][detector]) for column in ("clean", PRIMARY))
    return evaluation.auc(clean, adversarial)


def tradeoff(records: dict[tuple[str, str], dict]) -> pd.DataFrame:
    """Fig. 3(b) as numbers: clean and PGD-10 accuracy in percent per setting, and whether it is on its model's Pareto front."""
    found = []
    for (name, defence), record in records.items():
        for setting, point in zip(record["settings"], tradeoff_points(record), strict=True):
            found.append([name, NAMES[name], NAMES[defence], parameters(setting), *point])
    frame = pd.DataFrame(found, columns=["key", "model", "defence", "parameters", "clean", "PGD-10"])
    front = {name: evaluation.pareto(group[["clean", "PGD-10"]].to_numpy()) for name, group in frame.groupby("key", sort=False)}
    frame["front"] = np.where(np.concatenate(list(front.values())), "yes", "")
    frame[["clean", "PGD-10"]] = frame[["clean", "PGD-10"]].map("{:.1f}".format)
    return frame.drop(columns="key").set_index(["model", "defence"])


def tradeoff_points(record: dict) -> np.ndarray:
    """(clean, robust) accuracy in percent of every setting of a family, [k, 2]."""
    return np.array([[100 * evaluation.correct(cell[column], record["labels"]).mean() for column in ("clean", PRIMARY)] for cell in record["cells"]])


def tradeoff_ends(record: dict) -> np.ndarray:
    """How far the 95 % intervals of `tradeoff_points` reach below and above, [k, clean and robust, below and above]."""
    cells = [[evaluation.interval(evaluation.correct(cell[column], record["labels"])) for column in ("clean", PRIMARY)] for cell in record["cells"]]
    mean, low, high = np.moveaxis(100 * np.array(cells), 2, 0)
    return np.stack([mean - low, high - mean], 2)


def paper_points(run: Params) -> pd.DataFrame:
    """Clean and untargeted PGD-10 accuracy of the paper's rows, as printed."""
    return pd.DataFrame(paper_table(run)).T[["clean", PRIMARY]]


def mean_accuracy(record: dict) -> float:
    """The accuracy of a record with one cell, in [0, 1]."""
    return float(evaluation.correct(record["cell"], record["labels"]).mean())


def adaptive(records: dict[tuple[str, str, int], dict]) -> pd.DataFrame:
    """Fig. 4 as numbers: accuracy in percent with 95 % interval, a column per model and variant, a row per number of samples."""
    found: dict = {}
    for (name, variant, samples), record in records.items():
        values = evaluation.correct(record["cell"], record["labels"])
        found.setdefault(f"{NAMES[name]}, {variant}", {})[samples] = evaluation.percent(evaluation.interval(values))
    frame = pd.DataFrame(found).sort_index()
    frame.index.name = "adaptive samples"
    return frame.fillna("")


def stronger(records: dict[str, dict[str, dict]]) -> pd.DataFrame:
    """Models bare and with MI-OL under the attack of experiments.stronger: accuracy in percent, and what MI-OL adds in points, paired, with intervals."""
    found = []
    for both in records.values():
        bare, defended = (evaluation.correct(both[variant]["cell"], both[variant]["labels"]) for variant in ("none", "eq24"))
        cells = [evaluation.interval(bare), evaluation.interval(defended), evaluation.mean_interval(defended - bare)]
        found.append([str(len(bare)), *map(evaluation.percent, cells)])
    columns = ["test images", "bare", "MI-OL", "MI-OL minus bare, points"]
    return pd.DataFrame(found, index=pd.Index([NAMES[name] for name in records], name="model"), columns=columns)


def save(study: Study, frame: pd.DataFrame, name: str, caption: str, measured: bool = True) -> pd.DataFrame:
    """Keep a table under tables/ of the run (CSV, HTML, and what made it), and return it to be shown.

    measured: whether its numbers are of the notebook's test images, epsilon and draws; else the caption says of what.
    """
    folder = study.store.folder / "tables"
    artifacts.write_atomic(folder / f"{name}.csv", frame.to_csv().encode())
    artifacts.write_atomic(folder / f"{name}.html", frame.to_html(border=0).encode())
    artifacts.write_atomic(folder / f"{name}.json", captions.about(study, caption, measured))
    return frame
