"""Tables from synthetic records: what a cell, a comparison and a repeated row say."""

from types import SimpleNamespace

import numpy as np
import pytest

from milib.study import params, paths
from milib.study import rows as rows_module
from milib.study.rows import PRIMARY, columns
from milib.views import tables

N = 100
STUDY = SimpleNamespace(params=params.load(paths.project_root() / "params" / "c10.yaml"))


def record(right: int, sets: int = 1) -> dict:
    predictions = [[0] * (right - k) + [1] * (N - right + k) for k in range(sets)]
    return {
        "labels": [0] * N,
        "cells": {column: {"predictions": predictions} for column in columns(STUDY)},
    }


@pytest.fixture
def table() -> list[rows_module.TableRow]:
    """The rows of c10.yaml; row k is right on 40 + k images, MI-OL with two draw sets that differ in one image."""
    entries = [{"row": row, "target": None, "heldout": None} for row in STUDY.params.rows]
    return rows_module.rows(
        STUDY,
        entries,
        [record(40 + k, 2 if e["row"]["defense"] == "mi_ol" else 1) for k, e in enumerate(entries)],
    )


def test_rows_carry_the_papers_names_once_and_its_values_at_every_reading(table):
    names = [row.name for row in table]
    assert len(set(names)) == len(names)
    assert set(rows_module.paper_table(STUDY.params)) <= set(names)
    halved, literal = (
        next(row for row in table if row.name == f"Mixup + Gaussian noise{end}")
        for end in ("", " (sigma 0.04)")
    )
    assert (halved.settings["sigma"], literal.settings["sigma"]) == (0.02, 0.04)
    assert halved.paper == literal.paper and literal.paper["clean"] == "84.4"


def test_a_cell_is_the_mean_over_images_of_the_mean_over_draw_sets(table):
    row = next(row for row in table if row.name == "Mixup + MI-OL")
    sets = len(row.record["cells"]["clean"]["predictions"])
    assert sets == 2 and set(row.accuracy("clean")) == {0.0, 0.5, 1.0}
    shown = tables.oblivious(STUDY, table).loc["Mixup + MI-OL", PRIMARY]
    assert shown.startswith(f"{100 * row.accuracy(PRIMARY).mean():.1f} [") and shown.endswith(
        "| 26.1"
    )


def test_paired_differences_are_on_the_same_images(table):
    frame = tables.paired(table)
    accuracy = {row.name: row.accuracy(PRIMARY) for row in table}
    for name, entry in frame.iterrows():
        expected = 100 * (accuracy[name] - accuracy[entry["minus"]]).mean()
        assert float(entry[f"{PRIMARY}, points"].split()[0]) == pytest.approx(expected, abs=0.051)
    assert set(frame["minus"]) == {
        "ERM + MI-OL (ablation study)",
        "Mixup + MI-OL",
        "AT + MI-OL (ablation study)",
        "Interpolated AT + MI-OL",
    }


def test_against_paper_compares_every_printed_cell(table):
    frame = tables.against_paper(STUDY, table)
    printed = {
        (name, column)
        for name, cells in rows_module.paper_table(STUDY.params).items()
        for column in cells
    }
    again = {
        index for index in frame.index if "(sigma" in index[0]
    }  # the literal reading of two rows of seven columns
    assert (
        set(frame.index) - again == printed and len(frame) == len(printed) + len(again) == 105 + 14
    )
    assert tuple(frame.loc[("Mixup", "targeted_pgd10"), ["paper", "difference"]]) == ("<=1", "-")
    cell = frame.loc[("Mixup + MI-OL", PRIMARY)]
    here = next(row for row in table if row.name == "Mixup + MI-OL").accuracy(PRIMARY).mean()
    assert (cell["paper"], cell["here"]) == ("26.1", f"{100 * here:.1f}")
    assert float(cell["difference"]) == pytest.approx(100 * here - 26.1, abs=0.051)
    low, high = map(float, cell["95 % interval"].strip("[]").split(", "))
    assert low < float(cell["difference"]) < high


def test_detectors_select_by_eq_2_and_as_published():
    scores = {"clean": {"predictions": [0, 0, 1, 0]}, PRIMARY: {"predictions": [1, 0, 1, 1]}}
    for column, values in (("clean", [0.0, 0.0, 0.0, 0.0]), (PRIMARY, [1.0, -1.0, -1.0, 1.0])):
        scores[column] |= dict.fromkeys(("mi_pl", "mi_ol", "confidence"), values)
    frame = tables.detectors({"mixup": {"labels": [0, 0, 0, 0], "scores": scores}})
    first = frame.iloc[0]
    assert (first["AUC, all"], first["AUC, Eq. 2"], first["share of Eq. 2"]) == (
        "0.500",
        "1.000",
        "50.0",
    )
    assert float(first["AUC, as published"]) == pytest.approx(2 / 3, abs=1e-3)


def test_overfitting_is_best_minus_last():
    log = [{"epoch": k + 1, "heldout_pgd10": value} for k, value in enumerate((0.2, 0.5, 0.4))]
    assert list(tables.overfitting({"at": log}).iloc[0]) == [2, "50.0", "40.0", "10.0"]


def test_tradeoff_marks_the_front():
    cell = [
        {
            "clean": {"predictions": [[0] * a + [1] * (N - a)]},
            PRIMARY: {"predictions": [[0] * b + [1] * (N - b)]},
        }
        for a, b in ((90, 10), (80, 30), (70, 20))
    ]
    frame = tables.tradeoff(
        {("mixup", "guo"): {"labels": [0] * N, "settings": [{}, {}, {}], "cells": cell}}
    )
    assert np.array_equal(frame["front"], ["yes", "yes", ""])
