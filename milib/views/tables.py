"""The study's tables as data frames: one number a cell, columns named as `styling` says.

Accuracies are in percent, differences of accuracies in points; intervals are 95 % over images.
Those of notebook 04 are made in `oblivious_tables` and found here as well.
"""

import numpy as np
import pandas as pd

from milib import files, statistics
from milib.study.rows import (
    NAMES,
    PRIMARY,
    accuracy,
    correct,
    parameters,
    tradeoff_points,
)
from milib.study.study import Study
from milib.views import provenance, styling
from milib.views.frames import DETECTORS, rounded, table_of, with_interval
from milib.views.oblivious_tables import (
    against_paper,
    alternatives,
    bare,
    chosen,
    grids,
    oblivious,
    one_draw_set,
    paired,
    paper_points,
    paper_row,
    settings,
)
from milib.views.styling import Shown, show

__all__ = [
    "Shown",
    "adaptive",
    "against_paper",
    "alternatives",
    "bare",
    "chosen",
    "comparisons",
    "detectors",
    "grids",
    "models",
    "oblivious",
    "one_draw_set",
    "overfitting",
    "paired",
    "paper_points",
    "paper_row",
    "save",
    "settings",
    "show",
    "tradeoff",
    "verdicts",
]


def save(
    study: Study, frame: pd.DataFrame, name: str, caption: str, measured: bool = True
) -> Shown:
    """Keep a table under tables/ of the run, and return it to be shown.

    - study: the notebook's study.
    - frame: the table.
    - name: of its files: <name>.csv, and <name>.json, which says what made it.
    - caption: two lines at most.
    - measured: whether its numbers are of the notebook's test images, epsilon and draws (default);
      otherwise the caption says of what.
    """
    folder = study.store.folder / "tables"
    files.write_atomic(folder / f"{name}.csv", styling.write(frame))
    files.write_atomic(folder / f"{name}.json", provenance.about(study, caption, measured))
    return Shown(frame, name, caption)


# 01 and 02


def models(records: dict[str, dict[str, dict]], linearity: dict[str, dict]) -> pd.DataFrame:
    """Models bare and under MI-OL, and their total variation from linearity (Eq. 3).

    - records: model -> experiments.summary_rows.
    - linearity: model -> a record of experiments.linearity.
    """
    lines = []
    for name, both in records.items():
        line: dict = {"model": NAMES[name]}
        for defense, record in both.items():
            group = "" if defense == "none" else f"{NAMES[defense]}, "
            for column, head in (("clean", "clean"), (PRIMARY, "PGD-10")):
                interval = statistics.interval(accuracy(record, column))
                line |= with_interval(group + head, interval)
        for kind in ("prediction", "label"):
            line[f"TV, {kind}s"] = rounded(np.mean(linearity[name][kind]), 3)
        lines.append(line)
    return table_of(lines, "model")


def overfitting(logs: dict[str, list[dict]]) -> pd.DataFrame:
    """Held-out PGD-10 accuracy of the best epoch and of the last one, and what was lost between.

    - logs: model -> an entry per epoch.
    """
    lines = []
    for name, log in logs.items():
        top = max(log, key=lambda entry: entry["heldout_pgd10"])
        best, last = 100 * top["heldout_pgd10"], 100 * log[-1]["heldout_pgd10"]
        line = {"model": NAMES[name], "best epoch": top["epoch"]}
        line |= {"best": rounded(best), "last": rounded(last), "lost": rounded(best - last)}
        lines.append(line)
    return table_of(lines, "model")


# 05 to 07


def detectors(records: dict[str, dict]) -> pd.DataFrame:
    """AUC, and percent found at 5 % false positives, over three sets of images.

    - records: model -> a record of experiments.detection.

    "all"; "Eq. 2": those whose clean prediction is right and whose attacked one is wrong; "as
    published": those whose clean prediction is right, as the published code selects.
    """
    lines = []
    for name, record in records.items():
        clean, attacked = record["scores"]["clean"], record["scores"][PRIMARY]
        right = np.array(clean["predictions"]) == record["labels"]
        fooled = right & (np.array(attacked["predictions"]) != record["labels"])
        sets = {"all": np.ones_like(right), "Eq. 2": fooled, "as published": right}
        for detector in DETECTORS:
            line: dict = {"model": NAMES[name], "detector": NAMES[detector]}
            for which, mask in sets.items():
                auc = found = np.nan
                if mask.any():
                    negative = np.array(clean[detector])[mask]
                    positive = np.array(attacked[detector])[mask]
                    auc = statistics.auc(negative, positive)
                    found = statistics.detected_at(negative, positive)
                line[f"AUC, {which}"] = rounded(auc, 3)
                line[f"at 5 % FPR, {which}"] = rounded(100 * found)
            lines.append(line | {"share of Eq. 2": rounded(100 * fooled.mean())})
    return table_of(lines, "model", "detector")


def tradeoff(records: dict[tuple[str, str], dict]) -> pd.DataFrame:
    """Fig. 3(b) as numbers: accuracy per setting, and which lie on their model's Pareto front.

    - records: (model, defense) -> a record of experiments.tradeoff.
    """
    lines, points = [], {}
    for (name, defense), record in records.items():
        points.setdefault(NAMES[name], []).extend(tradeoff_points(record))
        for setting, cells in zip(record["settings"], record["cells"], strict=True):
            line: dict = {"model": NAMES[name], "defense": NAMES[defense]}
            line["parameters"] = parameters(setting)
            for column, head in (("clean", "clean"), (PRIMARY, "PGD-10")):
                values = correct(cells[column], record["labels"])
                line |= with_interval(head, statistics.interval(values))
            lines.append(line)
    frame = table_of(lines, "model", "defense", "parameters")
    frame["front"] = ""
    for name, its_points in points.items():
        best = statistics.pareto(np.array(its_points))
        rows = frame.index.get_level_values("model") == name
        frame.loc[rows, "front"] = np.where(best, "yes", "")
    return frame


def adaptive(records: dict[tuple[str, str, int], dict]) -> pd.DataFrame:
    """Fig. 4 as numbers: a row per number of adaptive samples, a group of columns per model.

    - records: (model, variant, samples) -> a record of experiments.adaptive.
    """
    lines: dict[int, dict] = {}
    names = dict.fromkeys(name for name, _, _ in records)
    for name in names:
        for (model, variant, samples), record in records.items():
            if model == name:
                interval = statistics.interval(correct(record["cell"], record["labels"]))
                line = lines.setdefault(samples, {"adaptive samples": samples})
                line |= with_interval(f"{NAMES[name]}, {variant}", interval)
    return table_of(list(lines.values()), "adaptive samples").sort_index()


# Claims


def verdicts(judged: list[dict]) -> pd.DataFrame:
    """The verdicts alone.

    - judged: from claims.judge.
    """
    keys = {"verdict": "verdict", "claim": "statement", "source": "source"}
    return pd.DataFrame(
        [{head: claim[key] for head, key in keys.items()} for claim in judged],
        columns=list(keys),
    )


def comparisons(judged: list[dict]) -> pd.DataFrame:
    """Every comparison behind the verdicts: a difference of accuracy, AUC or probability in [0, 1].

    - judged: from claims.judge.
    """
    lines = []
    for claim in judged:
        for entry in claim["comparisons"]:
            interval = (entry["mean"], entry["low"], entry["high"])
            line: dict = {"claim": claim["id"], "comparison": entry["label"]}
            lines.append(line | with_interval("difference", interval, 1, 3))
    return table_of(lines, "claim", "comparison")
