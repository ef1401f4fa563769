"""Tables from synthetic records: what a cell, a comparison and a repeated row say."""

import numpy as np
import pandas as pd
import pytest

from milib import theory
from milib.study import params, paths
from milib.study.rows import PRIMARY, TableRow, columns, paper_table, table_rows
from milib.views import frames, tables, theory_tables

N = 100
RUN = params.load(paths.project_root() / "params" / "c10.yaml")


def record(right: int, sets: int = 1) -> dict:
    predictions = [[0] * (right - k) + [1] * (N - right + k) for k in range(sets)]
    cells = {column: {"predictions": predictions} for column in columns(RUN)}
    return {"labels": [0] * N, "cells": cells}


@pytest.fixture
def table() -> list[TableRow]:
    """The rows of c10.yaml; row k is right on 40 + k images.

    MI-OL has two draw sets that differ in one image.
    """
    entries = [{"row": row, "target": None, "heldout": None} for row in RUN.rows]
    records = []
    for k, entry in enumerate(entries):
        sets = 2 if entry["row"]["defense"] == "mi_ol" else 1
        records.append(record(40 + k, sets))
    return table_rows(RUN, entries, records)


def named(table: list[TableRow], name: str) -> TableRow:
    return next(row for row in table if row.name == name)


def test_rows_carry_the_papers_names_once_and_its_values_at_every_reading(table):
    names = [row.name for row in table]
    assert len(set(names)) == len(names)
    assert set(paper_table(RUN)) <= set(names)
    halved = named(table, "Mixup + Gaussian noise")
    literal = named(table, "Mixup + Gaussian noise (sigma 0.04)")
    assert (halved.settings["sigma"], literal.settings["sigma"]) == (0.02, 0.04)
    assert halved.paper == literal.paper and literal.paper["clean"] == "84.4"


def test_a_cell_is_the_mean_over_images_of_the_mean_over_draw_sets(table):
    row = named(table, "Mixup + MI-OL")
    sets = len(row.record["cells"]["clean"]["predictions"])
    assert sets == 2 and set(row.accuracy("clean")) == {0.0, 0.5, 1.0}
    shown = tables.oblivious(RUN, table).loc["Mixup + MI-OL"]
    assert shown[PRIMARY] == round(100 * row.accuracy(PRIMARY).mean(), 1)
    ends = [round(100 * end, 1) for end in row.interval(PRIMARY)[1:]]
    assert [shown[f"{PRIMARY} low"], shown[f"{PRIMARY} high"]] == ends
    assert shown[f"{PRIMARY} paper"] == "26.1"


def test_every_cell_of_table_2_is_one_number_or_what_the_paper_prints(table):
    frame = tables.oblivious(RUN, table)
    assert len(frame.columns) == 4 * len(columns(RUN))
    for name in frame:
        if name.endswith(" paper"):
            printed = {"", "<=1"} | {row.paper.get(name.split()[0], "") for row in table}
            assert set(frame[name]) <= printed
        else:
            assert frame[name].dtype == float and not frame[name].isna().any()
            assert (frame[name] == frame[name].round(1)).all()


def test_a_row_that_was_not_matched_has_no_residual(table):
    assert tables.chosen(table)["residual"].isna().all()
    row = named(table, "Mixup + MI-PL")
    matched = TableRow(row.name, row.settings, 0.8, 0.775, row.record, row.paper)
    line = tables.chosen([matched]).iloc[0]
    assert list(line[["MI-OL, held-out", "held-out", "residual"]]) == [80.0, 77.5, -2.5]


def test_one_draw_set_is_the_first(table):
    frame = tables.one_draw_set(table).loc["Mixup + MI-OL"]
    right = sum(
        guess == 0
        for guess in named(table, "Mixup + MI-OL").record["cells"]["clean"]["predictions"][0]
    )
    assert frame["clean, one set"] == right and frame["clean, all sets"] == right - 0.5


def test_paired_differences_are_on_the_same_images(table):
    frame = tables.paired(table)
    accuracy = {row.name: row.accuracy(PRIMARY) for row in table}
    for name, entry in frame.iterrows():
        expected = 100 * (accuracy[name] - accuracy[entry["minus"]]).mean()
        assert entry[f"{PRIMARY}, points"] == pytest.approx(expected, abs=0.051)
        low, high = entry[f"{PRIMARY}, points low"], entry[f"{PRIMARY}, points high"]
        assert low <= entry[f"{PRIMARY}, points"] <= high
    assert set(frame["minus"]) == {
        "ERM + MI-OL (ablation study)",
        "Mixup + MI-OL",
        "AT + MI-OL (ablation study)",
        "Interpolated AT + MI-OL",
    }


def test_against_paper_compares_every_printed_cell(table):
    frame = tables.against_paper(RUN, table)
    printed = set()
    for name, cells in paper_table(RUN).items():
        printed |= {(name, column) for column in cells}
    # The literal reading of two rows of seven columns.
    again = {index for index in frame.index if "(sigma" in index[0]}
    assert set(frame.index) - again == printed
    assert len(frame) == len(printed) + len(again) == 105 + 14
    bound = frame.loc[("Mixup", "targeted_pgd10")]
    assert bound["paper"] == "<=1" and np.isnan(bound["difference"])
    cell = frame.loc[("Mixup + MI-OL", PRIMARY)]
    here = named(table, "Mixup + MI-OL").accuracy(PRIMARY).mean()
    assert (cell["paper"], cell["here"]) == ("26.1", round(100 * here, 1))
    assert cell["difference"] == pytest.approx(100 * here - 26.1, abs=0.051)
    assert cell["difference low"] < cell["difference"] < cell["difference high"]


def test_the_papers_rows_are_as_printed():
    row = tables.paper_row(RUN, "Mixup").iloc[0]
    assert (row["clean paper"], row["targeted_pgd10 paper"]) == ("93.8", "<=1")
    points = tables.paper_points(RUN)
    assert points.loc["Mixup + MI-OL", f"{PRIMARY} paper"] == "26.1"
    assert len(points) == len(paper_table(RUN))


def test_detectors_select_by_eq_2_and_as_published():
    scores = {"clean": {"predictions": [0, 0, 1, 0]}, PRIMARY: {"predictions": [1, 0, 1, 1]}}
    for column, values in (("clean", [0.0, 0.0, 0.0, 0.0]), (PRIMARY, [1.0, -1.0, -1.0, 1.0])):
        scores[column] |= dict.fromkeys(("mi_pl", "mi_ol", "confidence"), values)
    frame = tables.detectors({"mixup": {"labels": [0, 0, 0, 0], "scores": scores}})
    first = frame.iloc[0]
    assert list(first[["AUC, all", "AUC, Eq. 2", "share of Eq. 2"]]) == [0.5, 1.0, 50.0]
    assert first["AUC, as published"] == pytest.approx(2 / 3, abs=1e-3)


def test_overfitting_is_best_minus_last():
    log = [{"epoch": k + 1, "heldout_pgd10": value} for k, value in enumerate((0.2, 0.5, 0.4))]
    assert list(tables.overfitting({"at": log}).iloc[0]) == [2, 50.0, 40.0, 10.0]


def cell(clean: int, robust: int) -> dict:
    return {
        "clean": {"predictions": [[0] * clean + [1] * (N - clean)]},
        PRIMARY: {"predictions": [[0] * robust + [1] * (N - robust)]},
    }


def test_tradeoff_marks_the_front_of_each_model():
    settings = [{"ratio": 0.2}, {"ratio": 0.4}, {"ratio": 0.6}]

    def family(*points: tuple[int, int]) -> dict:
        cells = [cell(*point) for point in points]
        return {"labels": [0] * N, "settings": settings, "cells": cells}

    found = {
        ("mixup", "mi_pl"): family((90, 10), (80, 30), (70, 20)),
        ("at", "mi_pl"): family((60, 60), (59, 59), (58, 58)),
        ("mixup", "mi_ol"): family((89, 9), (88, 29), (70, 40)),
    }
    frame = tables.tradeoff(found)
    assert list(frame.xs("Mixup", level="model")["front"]) == ["yes", "yes", "", "", "yes", "yes"]
    assert list(frame.xs("AT", level="model")["front"]) == ["yes", "", ""]
    first = frame.iloc[0]
    assert list(first[["clean", "PGD-10"]]) == [90.0, 10.0]


def test_adaptive_has_a_row_per_number_of_samples_and_a_group_per_model():
    def attacked(right: int) -> dict:
        return {"labels": [0] * N, "cell": {"predictions": [[0] * right + [1] * (N - right)]}}

    found = {("mixup", "none", 0): attacked(5), ("at", "none", 0): attacked(40)}
    found |= {("mixup", "eq24", k): attacked(30 - k) for k in (10, 2)}
    frame = tables.adaptive(found)
    assert list(frame.index) == [0, 2, 10] and frame.index.name == "adaptive samples"
    assert list(frame["Mixup, eq24"].iloc[1:]) == [28.0, 20.0]
    assert frame["Mixup, none"].isna().tolist() == [False, True, True]
    assert frame.loc[0, "AT, none"] == 40.0


def test_comparisons_are_of_their_claims_and_none_is_an_empty_table():
    judged = {"id": "a", "verdict": "holds", "statement": "MI helps", "source": "Sec. 1"}
    judged["comparisons"] = [{"label": "x - y", "mean": 0.12345, "low": -0.2, "high": 0.3}]
    line = tables.comparisons([judged]).loc[("a", "x - y")]
    assert list(line) == [0.123, -0.2, 0.3]
    assert tables.comparisons([judged | {"comparisons": []}]).empty
    assert tables.verdicts([judged]).iloc[0].tolist() == ["holds", "MI helps", "Sec. 1"]


@pytest.fixture
def world() -> theory.ConstructedClassifier:
    return theory.ConstructedClassifier(10, 2, 7, 0.9, 2.0, 0.5)


def test_formulas_and_enumerations_of_table_1_are_equal(world):
    frame = theory_tables.table1(world, 0.6)
    for group in ("MI-PL, z = 0", "MI-PL, z = 1", "MI-OL, z = 0", "MI-OL, z = 1"):
        formula, enumeration = frame[f"{group}, formula"], frame[f"{group}, enumeration"]
        assert np.allclose(formula, enumeration, atol=2e-4)
    assert frame.loc[("y", "E F(x~)"), "MI-OL, z = 0, formula"] == 0.6
    assert len(frame) == 4


def test_the_terms_of_eq_13_add_up_and_both_readings_of_ric_agree(world):
    frame = theory_tables.mechanisms_exact({"both": world}, 0.6)
    total = frame["input transfer"] + frame["perturbation shrinkage"]
    assert np.allclose(total, frame["D"], atol=2e-4)
    ric = theory_tables.ric_exact(world, [0.2, 0.8])
    assert list(ric["RIC (Eq. 10)"]) == list(ric["RIC (Eq. 12/15)"])
    assert set(ric["RIC (Eq. 10)"]) <= {"yes", "no"}
    gap = theory_tables.gap_exact(world, [0.2, 0.8])
    assert np.allclose(gap["DG enumerated"], gap["Eq. 14/16"], atol=2e-4)
    assert np.allclose(gap["DG enumerated"], -gap["Eq. 11 as printed"])


def test_no_table_shows_minus_zero():
    frame = pd.DataFrame([frames.with_interval("c", (-1e-6, -2e-6, 1e-6))])
    assert "-0.0" not in frame.to_csv()
