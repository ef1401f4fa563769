"""The study's tables as data frames, with the paper's values beside."""

import numpy as np
import pandas as pd

from milib import files, statistics
from milib.defenses import DEFENSES
from milib.study.alternatives import Choice
from milib.study.params import Params
from milib.study.rows import (
    NAMES,
    PRIMARY,
    TableRow,
    columns,
    correct,
    paper_table,
    parameters,
    row_name,
    tradeoff_points,
)
from milib.study.study import Study
from milib.views import provenance


def settings(run: Params) -> pd.DataFrame:
    """Table 4 or 5: the rows' parameters as the parameter file gives them, before any matching."""
    return pd.DataFrame(
        {
            "row": [row_name(row) for row in run.rows],
            "parameters": [parameters(row) for row in run.rows],
        }
    ).set_index("row")


def grids(run: Params) -> pd.DataFrame:
    """The values that 04 chooses from and 06 sweeps, per defense."""
    found = [
        (NAMES[name], list(DEFENSES[name].settings)[-1], str(values))
        for name, values in run.grids.items()
    ]
    return pd.DataFrame(found, columns=["defense", "parameter", "values"]).set_index("defense")


def chosen(table: list[TableRow]) -> pd.DataFrame:
    """How the parameters came about: the held-out clean accuracy of the reference MI-OL row, of this row, and the residual, in percent."""
    frame = pd.DataFrame(
        {
            "row": [row.name for row in table],
            "parameters": [parameters(row.settings) for row in table],
            "MI-OL, held-out": [
                100 * row.target if row.target is not None else None for row in table
            ],
            "held-out": [100 * row.heldout if row.target is not None else None for row in table],
        }
    ).set_index("row")
    frame["residual"] = frame["held-out"] - frame["MI-OL, held-out"]
    return (
        frame.astype(object)
        .where(frame.notna(), "given")
        .map(lambda value: f"{value:.1f}" if isinstance(value, float) else value)
    )


def oblivious(run: Params, table: list[TableRow]) -> pd.DataFrame:
    """Table 2 or 3: every cell "here [interval] | paper", accuracy in percent."""
    which = columns(run)
    cells = [
        [f"{statistics.percent(row.interval(c))} | {row.paper.get(c, '-')}" for c in which]
        for row in table
    ]
    return pd.DataFrame(
        cells, index=pd.Index([row.name for row in table], name="row"), columns=which
    )


def one_draw_set(table: list[TableRow]) -> pd.DataFrame:
    """The paper's protocol, one draw set, beside the mean over the draw sets: clean and untargeted PGD-10, percent."""
    found = {}
    for column in ("clean", PRIMARY):
        first = [
            np.array(row.record["cells"][column]["predictions"][0]) == row.record["labels"]
            for row in table
        ]
        found[f"{column}, one set"] = [
            statistics.percent(statistics.interval(values)) for values in first
        ]
        found[f"{column}, all sets"] = [statistics.percent(row.interval(column)) for row in table]
    return pd.DataFrame(found, index=pd.Index([row.name for row in table], name="row"))


def bare(records: dict[str, dict]) -> pd.DataFrame:
    """Models by themselves, from experiments.bare: test images, clean and untargeted PGD-10 accuracy in percent."""
    cells = [
        [
            str(len(r["labels"])),
            *(
                statistics.percent(statistics.interval(correct(cell, r["labels"])))
                for cell in r["cells"].values()
            ),
        ]
        for r in records.values()
    ]
    return pd.DataFrame(
        cells,
        index=pd.Index([NAMES[name] for name in records], name="model"),
        columns=["test images", "clean", PRIMARY],
    )


def paired(table: list[TableRow], column: str = PRIMARY) -> pd.DataFrame:
    """Each row minus the MI-OL row of its model, where it has one, paired by image: difference in points with a 95 % interval."""
    reference = {
        row.settings["model"]: row
        for row in reversed(table)
        if row.name.endswith(("MI-OL", "MI-OL (ablation study)"))
    }
    found = []
    for row in table:
        base = reference.get(row.settings["model"])
        if base and row is not base:
            found.append(
                (
                    row.name,
                    base.name,
                    statistics.percent(
                        statistics.mean_interval(row.accuracy(column) - base.accuracy(column))
                    ),
                )
            )
    return pd.DataFrame(found, columns=["row", "minus", f"{column}, points"]).set_index("row")


def against_paper(run: Params, table: list[TableRow]) -> pd.DataFrame:
    """Every cell that the paper prints: paper and here in percent, here minus paper in points, Newcombe's interval for two proportions.

    The paper's n is 1,000. Its "<=1" is a bound: no difference is given.
    """
    found = []
    for row in table:
        for column in (name for name in columns(run) if name in row.paper):
            printed, values, cells = row.paper[column], row.accuracy(column), ["-", "-"]
            if not printed.startswith("<"):
                difference, *ends = statistics.two_proportions(
                    values.mean(), len(values), float(printed) / 100, 1000
                )
                cells = [
                    f"{100 * difference:+.1f}",
                    "[{:+.1f}, {:+.1f}]".format(*(100 * end for end in ends)),
                ]
            found.append((row.name, column, printed, f"{100 * values.mean():.1f}", *cells))
    return pd.DataFrame(
        found, columns=["row", "column", "paper", "here", "difference", "95 % interval"]
    ).set_index(["row", "column"])


def models(records: dict[str, dict[str, dict]], linearity: dict[str, dict]) -> pd.DataFrame:
    """One row per model: accuracy bare and under MI-OL, clean and PGD-10 (percent), and total variation from linearity."""
    found = []
    for name, both in records.items():
        cells = [
            statistics.percent(statistics.interval(correct(r["cells"][c], r["labels"])))
            for r in both.values()
            for c in ("clean", PRIMARY)
        ]
        variation = [f"{np.mean(linearity[name][kind]):.3f}" for kind in ("prediction", "label")]
        found.append([NAMES[name], *cells, *variation])
    heads = [
        "model",
        "clean",
        "PGD-10",
        "MI-OL, clean",
        "MI-OL, PGD-10",
        "TV, predictions",
        "TV, labels",
    ]
    return pd.DataFrame(found, columns=heads).set_index("model")


def paper_row(run: Params, name: str) -> pd.DataFrame:
    """One row of the paper's table, as printed."""
    return pd.DataFrame(
        [paper_table(run)[name]], index=pd.Index([f"{name} (paper, {run.paper_table})"])
    )


def overfitting(logs: dict[str, list[dict]]) -> pd.DataFrame:
    """Held-out PGD-10 accuracy in percent: the best epoch's, the last one's, and what was lost between."""
    found = []
    for name, log in logs.items():
        best = max(log, key=lambda entry: entry["heldout_pgd10"])
        values = [100 * best["heldout_pgd10"], 100 * log[-1]["heldout_pgd10"]]
        found.append(
            [
                NAMES[name],
                best["epoch"],
                *(f"{value:.1f}" for value in (*values, values[0] - values[1])),
            ]
        )
    return pd.DataFrame(found, columns=["model", "best epoch", "best", "last", "lost"]).set_index(
        "model"
    )


def detectors(records: dict[str, dict]) -> pd.DataFrame:
    """AUC and the rate at 5 % false positives: over all adversarial inputs; over those of Eq. 2 (with their clean inputs); and with
    the published code's selection (every image whose clean prediction is right)."""
    found = []
    for name, record in records.items():
        clean, adversarial, labels = (
            record["scores"]["clean"],
            record["scores"][PRIMARY],
            np.array(record["labels"]),
        )
        right = np.array(clean["predictions"]) == labels
        masks = {
            "all": np.ones_like(right),
            "Eq. 2": right & (np.array(adversarial["predictions"]) != labels),
            "as published": right,
        }
        for detector in ("mi_pl", "mi_ol", "confidence"):
            scores = [np.array(part[detector]) for part in (clean, adversarial)]
            row = [NAMES[name], NAMES[detector]]
            for mask in masks.values():
                some = [values[mask] for values in scores]
                row += (
                    [f"{statistics.auc(*some):.3f}", f"{100 * statistics.detected_at(*some):.1f}"]
                    if mask.any()
                    else ["-", "-"]
                )
            found.append([*row, f"{100 * masks['Eq. 2'].mean():.1f}"])
    heads = [
        f"{what}, {which}"
        for which in ("all", "Eq. 2", "as published")
        for what in ("AUC", "at 5 % FPR")
    ]
    return pd.DataFrame(found, columns=["model", "detector", *heads, "share of Eq. 2"]).set_index(
        ["model", "detector"]
    )


def tradeoff(records: dict[tuple[str, str], dict]) -> pd.DataFrame:
    """Fig. 3(b) as numbers: clean and PGD-10 accuracy in percent per setting, and whether it is on its model's Pareto front."""
    found = []
    for (name, defense), record in records.items():
        for setting, point in zip(record["settings"], tradeoff_points(record), strict=True):
            found.append([name, NAMES[name], NAMES[defense], parameters(setting), *point])
    frame = pd.DataFrame(
        found, columns=["key", "model", "defense", "parameters", "clean", "PGD-10"]
    )
    front = {
        name: statistics.pareto(group[["clean", "PGD-10"]].to_numpy())
        for name, group in frame.groupby("key", sort=False)
    }
    frame["front"] = np.where(np.concatenate(list(front.values())), "yes", "")
    frame[["clean", "PGD-10"]] = frame[["clean", "PGD-10"]].map("{:.1f}".format)
    return frame.drop(columns="key").set_index(["model", "defense"])


def paper_points(run: Params) -> pd.DataFrame:
    """Clean and untargeted PGD-10 accuracy of the paper's rows, as printed."""
    return pd.DataFrame(paper_table(run)).T[["clean", PRIMARY]]


def adaptive(records: dict[tuple[str, str, int], dict]) -> pd.DataFrame:
    """Fig. 4 as numbers: accuracy in percent with 95 % interval, a column per model and variant, a row per number of samples."""
    found: dict = {}
    for (name, variant, samples), record in records.items():
        values = correct(record["cell"], record["labels"])
        found.setdefault(f"{NAMES[name]}, {variant}", {})[samples] = statistics.percent(
            statistics.interval(values)
        )
    frame = pd.DataFrame(found).sort_index()
    frame.index.name = "adaptive samples"
    return frame.fillna("")


def stronger(records: dict[str, dict[str, dict]]) -> pd.DataFrame:
    """Models bare and with MI-OL under the attack of experiments.stronger: accuracy in percent, and what MI-OL adds in points, paired, with intervals."""
    found = []
    for both in records.values():
        bare, defended = (
            correct(both[variant]["cell"], both[variant]["labels"]) for variant in ("none", "eq24")
        )
        cells = [
            statistics.interval(bare),
            statistics.interval(defended),
            statistics.mean_interval(defended - bare),
        ]
        found.append([str(len(bare)), *map(statistics.percent, cells)])
    columns = ["test images", "bare", "MI-OL", "MI-OL minus bare, points"]
    return pd.DataFrame(
        found, index=pd.Index([NAMES[name] for name in records], name="model"), columns=columns
    )


def save(
    study: Study, frame: pd.DataFrame, name: str, caption: str, measured: bool = True
) -> pd.DataFrame:
    """Keep a table under tables/ of the run (CSV, HTML, and what made it), and return it to be shown.

    measured: whether its numbers are of the notebook's test images, epsilon and draws; else the caption says of what.
    """
    folder = study.store.folder / "tables"
    files.write_atomic(folder / f"{name}.csv", frame.to_csv().encode())
    files.write_atomic(folder / f"{name}.html", frame.to_html(border=0).encode())
    files.write_atomic(folder / f"{name}.json", provenance.about(study, caption, measured))
    return frame


def alternatives(run: Params, found: list[Choice]) -> pd.DataFrame:
    """Clean and PGD-10 accuracy in percent, here, with the other choice, and in the paper; other minus here in points, paired by image, with 95 % interval."""
    paper, lines = paper_table(run), []
    for choice in found:
        for column in choice.other["cells"]:
            here, other = (
                correct(record["cells"][column], record["labels"])
                for record in (choice.here, choice.other)
            )
            difference = statistics.percent(statistics.mean_interval(other - here))
            values = (f"{100 * value.mean():.1f}" for value in (here, other))
            lines.append(
                (
                    choice.what,
                    choice.row,
                    column,
                    *values,
                    difference,
                    paper.get(choice.row, {}).get(column, "-"),
                )
            )
    return pd.DataFrame(
        lines,
        columns=["choice", "row", "column", "here", "otherwise", "difference, points", "paper"],
    ).set_index(["choice", "row", "column"])


def verdicts(judged: list[dict]) -> pd.DataFrame:
    """The verdicts alone."""
    return pd.DataFrame(
        {
            "verdict": [c["verdict"] for c in judged],
            "claim": [c["statement"] for c in judged],
            "source": [c["source"] for c in judged],
        }
    )


def comparisons(judged: list[dict]) -> pd.DataFrame:
    """Every comparison behind the verdicts, with its interval (accuracy, AUC or probability, not percent)."""
    rows = [
        {"claim": claim["id"], **comparison}
        for claim in judged
        for comparison in claim["comparisons"]
    ]
    return (
        pd.DataFrame(rows, columns=["claim", "label", "mean", "low", "high"])
        .set_index("claim")
        .round(3)
    )
