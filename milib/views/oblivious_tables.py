"""The tables of notebook 04: parameters, Tables 2 and 3, and what they are compared with.

Columns are named as `styling` says; accuracies are in percent, differences in points, intervals are
95 % over images.
"""

import numpy as np
import pandas as pd

from milib import statistics
from milib.defenses import DEFENSES
from milib.study.alternatives import Choice
from milib.study.params import Params
from milib.study.rows import (
    NAMES,
    PRIMARY,
    TableRow,
    accuracy,
    columns,
    correct,
    paper_table,
    parameters,
    row_name,
)
from milib.views.frames import measured, rounded, table_of, with_interval

PAPER_IMAGES = 1000
"""Test images behind each of the paper's values."""


def settings(run: Params) -> pd.DataFrame:
    """Table 4 or 5: the rows' parameters as the parameter file gives them, before any matching.

    - run: its `rows`.
    """
    lines = [{"row": row_name(row), "parameters": parameters(row)} for row in run.rows]
    return table_of(lines, "row")


def grids(run: Params) -> pd.DataFrame:
    """The values that 04 chooses from and 06 sweeps, per defense.

    - run: its `grids`.
    """
    lines = []
    for name, values in run.grids.items():
        parameter = list(DEFENSES[name].settings)[-1]
        lines.append({"defense": NAMES[name], "parameter": parameter, "values": str(values)})
    return table_of(lines, "defense")


def chosen(table: list[TableRow]) -> pd.DataFrame:
    """How the parameters came about, in clean accuracy on held-out images.

    - table: its rows.

    Beside each row the MI-OL row that it was matched to, and the residual. The cells of a row whose
    parameters are given are empty.
    """
    lines = []
    for row in table:
        line: dict = {"row": row.name, "parameters": parameters(row.settings)}
        theirs = ours = np.nan
        if row.target is not None and row.heldout is not None:
            theirs, ours = 100 * row.target, 100 * row.heldout
        line["MI-OL, held-out"] = rounded(theirs)
        line["held-out"] = rounded(ours)
        line["residual"] = rounded(ours - theirs)
        lines.append(line)
    return table_of(lines, "row", "parameters")


def oblivious(run: Params, table: list[TableRow]) -> pd.DataFrame:
    """Table 2 or 3: accuracy with its interval, and the paper's value on its own data.

    - run: its `steps` decide the columns, its `paper_table` whether the paper's stand beside.
    - table: its rows.
    """
    lines = []
    for row in table:
        line: dict = {"row": row.name}
        for column in columns(run):
            line |= with_interval(column, row.interval(column))
            if run.paper_table != "none":
                line[f"{column} paper"] = row.paper.get(column, "")
        lines.append(line)
    return table_of(lines, "row")


def one_draw_set(table: list[TableRow]) -> pd.DataFrame:
    """The paper's protocol, one draw set, beside the mean over the draw sets.

    - table: its rows.
    """
    lines = []
    for row in table:
        line: dict = {"row": row.name}
        for column in ("clean", PRIMARY):
            predictions = row.record["cells"][column]["predictions"]
            first = correct({"predictions": predictions[:1]}, row.record["labels"])
            line |= with_interval(f"{column}, one set", statistics.interval(first))
            line |= with_interval(f"{column}, all sets", row.interval(column))
        lines.append(line)
    return table_of(lines, "row")


def bare(records: dict[str, dict]) -> pd.DataFrame:
    """Models by themselves: accuracy on clean images and under untargeted PGD-10.

    - records: model -> a record of experiments.bare.
    """
    lines = []
    for name, record in records.items():
        line = {"model": NAMES[name], "test images": len(record["labels"])}
        for column in record["cells"]:
            line |= measured(record, column)
        lines.append(line)
    return table_of(lines, "model")


def paired(table: list[TableRow]) -> pd.DataFrame:
    """Under untargeted PGD-10 each row minus its model's MI-OL row, paired by image.

    - table: its rows; models without an MI-OL row are left out.
    """
    ends = ("MI-OL", "MI-OL (ablation study)")
    reference = {row.settings["model"]: row for row in reversed(table) if row.name.endswith(ends)}
    lines = []
    for row in table:
        base = reference.get(row.settings["model"])
        if base and row is not base:
            line: dict = {"row": row.name, "minus": base.name}
            difference = row.accuracy(PRIMARY) - base.accuracy(PRIMARY)
            line |= with_interval(f"{PRIMARY}, points", statistics.mean_interval(difference))
            lines.append(line)
    return table_of(lines, "row")


def against_paper(run: Params, table: list[TableRow]) -> pd.DataFrame:
    """Every cell that the paper prints, and here minus paper in points.

    - run: its `steps` decide the columns.
    - table: its rows.

    The interval is Newcombe's for two proportions. The paper's "<=1" is a bound: no difference.
    """
    lines = []
    for row in table:
        for column in columns(run):
            if column not in row.paper:
                continue
            printed, values = row.paper[column], row.accuracy(column)
            line: dict = {"row": row.name, "column": column}
            line |= {"paper": printed, "here": rounded(100 * values.mean())}
            difference = (np.nan, np.nan, np.nan)
            if not printed.startswith("<"):
                theirs = (float(printed) / 100, PAPER_IMAGES)
                difference = statistics.two_proportions(values.mean(), len(values), *theirs)
            lines.append(line | with_interval("difference", difference))
    return table_of(lines, "row", "column")


def alternatives(run: Params, found: list[Choice]) -> pd.DataFrame:
    """Protocol choices made otherwise: accuracy here and otherwise, and the paper's value.

    - run: its `paper_table`.
    - found: of `alternatives.choices`.

    The difference is otherwise minus here, paired by image.
    """
    paper, lines = paper_table(run), []
    for choice in found:
        for column in choice.other["cells"]:
            here, other = accuracy(choice.here, column), accuracy(choice.other, column)
            line: dict = {"choice": choice.what, "row": choice.row, "column": column}
            line["here"] = rounded(100 * here.mean())
            line["otherwise"] = rounded(100 * other.mean())
            line |= with_interval("difference, points", statistics.mean_interval(other - here))
            if run.paper_table != "none":
                line["paper"] = paper.get(choice.row, {}).get(column, "")
            lines.append(line)
    return table_of(lines, "choice", "row", "column")


def paper_row(run: Params, name: str) -> pd.DataFrame:
    """One row of the paper's table, as printed; no row beside data that are not the paper's.

    - run: its `paper_table`.
    - name: the row.
    """
    lines = []
    if run.paper_table != "none":
        cells = paper_table(run)[name]
        printed = {f"{column} paper": value for column, value in cells.items()}
        lines.append({"row": f"{name} (paper, {run.paper_table})"} | printed)
    return table_of(lines, "row")


def paper_points(run: Params) -> pd.DataFrame:
    """Clean and untargeted PGD-10 accuracy of the paper's rows, as printed.

    - run: its `paper_table`.
    """
    lines = []
    for name, cells in paper_table(run).items():
        printed = {f"{column} paper": cells[column] for column in ("clean", PRIMARY)}
        lines.append({"row": name} | printed)
    return table_of(lines, "row")
