"""How tables are kept and shown: CSV and back, groups of columns, marks, text and HTML."""

import csv
import json
import re

import numpy as np
import pandas as pd
import pytest

from milib.study import params, paths
from milib.study.rows import PRIMARY, columns, table_rows
from milib.study.study import Study
from milib.views import styling, tables, wording

N = 50
RUN = params.load(paths.project_root() / "params" / "digits.yaml")


def record(right: int) -> dict:
    cells = {}
    for k, column in enumerate(columns(RUN)):
        count = max(0, right - k)
        cells[column] = {"predictions": [[0] * count + [1] * (N - count)]}
    return {"labels": [0] * N, "cells": cells}


@pytest.fixture
def table():
    """The rows of digits.yaml, better from row to row; the first is matched."""
    entries = [{"row": row, "target": None, "heldout": None} for row in RUN.rows]
    entries[0] |= {"target": 0.8, "heldout": 0.7}
    return table_rows(RUN, entries, [record(5 + k) for k in range(len(entries))])


@pytest.fixture
def found(table) -> dict[str, pd.DataFrame]:
    """A table of every kind that is kept."""
    settings = [{"ratio": 0.2}, {"ratio": 0.4}]
    cells = [record(9)["cells"], record(7)["cells"]]
    family = {"labels": [0] * N, "settings": settings, "cells": cells}
    attacked = {"labels": [0] * N, "cell": record(9)["cells"]["clean"]}
    both = {"none": record(3), "mi_ol": record(8)}
    log = [{"epoch": 1, "heldout_pgd10": 0.25}, {"epoch": 2, "heldout_pgd10": 0.125}]
    samples = {("mixup", "none", 0): attacked, ("mixup", "eq24", 3): attacked}
    return {
        "oblivious": tables.oblivious(RUN, table),
        "parameters": tables.chosen(table),
        "draw_sets": tables.one_draw_set(table),
        "paired": tables.paired(table),
        "against_paper": tables.against_paper(RUN, table),
        "bare": tables.bare({"erm": record(9)}),
        "models": tables.models({"at": both}, {"at": {"prediction": [0.1, 0.3], "label": [0.5]}}),
        "overfitting": tables.overfitting({"at": log}),
        "tradeoff": tables.tradeoff({("mixup", "mi_ol"): family}),
        "adaptive": tables.adaptive(samples),
    }


def as_number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def test_a_csv_has_one_header_row_and_one_number_a_cell(found):
    texts = {"minus", "front", *styling.KEYS}
    for frame in found.values():
        head, *lines = csv.reader(styling.write(frame).decode().splitlines())
        assert len(set(head)) == len(head) and all(head)
        for line in lines:
            for name, cell in zip(head, line, strict=True):
                bound = name.split(" ")[-1] == "paper" and cell == "<=1"
                assert name in texts or cell == "" or bound or as_number(cell) is not None, line


def test_a_table_is_the_same_when_read_back(found, tmp_path):
    for name, frame in found.items():
        path = tmp_path / f"{name}.csv"
        path.write_bytes(styling.write(frame))
        again = styling.read(path)
        pd.testing.assert_frame_equal(again, frame)
        assert styling.styled(again, name).to_html() == styling.styled(frame, name).to_html()


def test_read_takes_columns_without_keys_and_empty_text_as_they_are(tmp_path):
    frame = pd.DataFrame({"verdict": ["holds", ""], "share": [1, 2], "c paper": ["", "<=1"]})
    path = tmp_path / "a.csv"
    path.write_bytes(styling.write(frame))
    pd.testing.assert_frame_equal(styling.read(path), frame)


def classes_of(html: str, row: str) -> list[list[str]]:
    """The classes of the cells of a row."""
    line = re.search(rf"<th[^>]*>{re.escape(row)}</th>(.*?)</tr>", html, re.S)
    assert line, row
    return [cell.split() for cell in re.findall(r'<td class="([^"]*)"', line[1])]


def test_the_best_of_a_model_is_marked_among_accuracies_alone(table):
    html = styling.styled(tables.oblivious(RUN, table), "t").to_html()
    best = {}
    for row in table:
        best[row.name] = ["best" in classes for classes in classes_of(html, row.name)]
    here = [True, False] * len(columns(RUN))
    # Rows are better from row to row: the last row of each model is its best.
    last = {row.settings["model"]: row.name for row in table}
    for row in table:
        assert best[row.name] == (here if last[row.settings["model"]] == row.name else [False] * 14)
    difference = styling.styled(tables.paired(table), "t").to_html()
    assert 'best"' not in difference and not re.search(r"<td[^>]*shade", difference)


def test_one_row_of_a_model_has_no_best_and_shades_follow_the_value():
    frame = pd.DataFrame({"model": ["a", "b"], "c": [0.0, 96.0], "c low": 0.0, "c high": 97.0})
    html = styling.styled(frame.set_index("model"), "t").to_html()
    assert classes_of(html, "a")[0][-1] == "shade0" and classes_of(html, "b")[0][-1] == "shade10"
    assert 'best"' not in html


def test_rows_that_differ_by_their_attack_do_not_compete():
    frame = pd.DataFrame({"model": "a", "c": [40.0, 96.0], "c low": 0.0, "c high": 97.0})
    several = frame.assign(attack=["weak", "strong"]).set_index(["model", "attack"])
    assert 'best"' not in styling.styled(several, "t").to_html()
    several = frame.assign(defense=["none", "MI-OL"]).set_index(["model", "defense"])
    assert styling.styled(several, "t").to_html().count('best"') == 1


def test_the_papers_value_has_a_column_of_its_own_beside_here(table):
    parts = styling.columns(tables.oblivious(RUN, table))
    assert [part.head for part in parts[1::2]] == ["paper"] * 7
    heads = [(part.group, part.head) for part in parts[::2]]
    assert heads[:3] == [("", "clean"), ("untargeted", "PGD-10"), ("untargeted", "PGD-50")]
    names = [row.name for row in table]
    here, paper = parts[2], parts[3]
    place = names.index("Mixup + MI-OL")
    values = 100 * np.array(table[place].interval(PRIMARY))
    assert here.values[place] == f"{values[0]:.1f}" and paper.values[place] == "26.1"
    assert here.intervals[place] == f"{values[1]:.1f}–{values[2]:.1f}"


def test_what_rounds_to_zero_has_no_minus():
    frame = pd.DataFrame({"difference": [-0.0], "difference low": [-5.0], "difference high": [0.0]})
    [part] = styling.columns(frame)
    assert (part.values, part.intervals) == (["+0.0"], ["-5.0 to +0.0"])


def test_groups_stand_side_by_side_and_differences_have_signs():
    cells = {"model": ["m"], "AUC, all": [0.5], "at 5 % FPR, all": [6.0], "AUC, Eq. 2": [0.556]}
    cells |= {"difference": [0.5], "difference low": [-0.5], "difference high": [1.0]}
    parts = styling.columns(pd.DataFrame(cells).set_index("model"))
    assert [part.group for part in parts] == ["AUC", "AUC", "found at 5 % false positives", ""]
    assert (parts[-1].values, parts[-1].intervals) == (["+0.5"], ["-0.5 to +1.0"])


def test_rows_of_several_quantities_have_digits_of_their_own():
    cells = {"quantity": ["images", "D"], "a": [83.0, 0.12], "a low": [np.nan, -0.125]}
    frame = pd.DataFrame(cells | {"a high": [np.nan, 0.5]}).set_index("quantity")
    part = styling.columns(frame)[0]
    assert part.values == ["83", "0.120"] and part.intervals == ["", "-0.125 to 0.500"]


def test_a_reader_sees_words_and_symbols_and_files_keep_the_short_names(found):
    frame = found["paired"]
    assert "minus" in styling.write(frame).decode() and styling.columns(frame)[0].head == (
        "compared with"
    )
    cells = {"component": ["yhat"], "prediction": ["E F(x~)"], "Delta F_yhat": [0.5], "lambda": [1]}
    shown = styling.show(pd.DataFrame(cells).set_index(["component", "prediction"]))
    for text in (repr(shown), shown._repr_html_()):
        for seen in ("ŷ", "E F(x̃)", "ΔF_ŷ", "λ"):
            assert seen in text
        assert "yhat" not in text and "Delta" not in text and "lambda" not in text
    acting = pd.DataFrame({"G with": ["x"], "D": [0.5]}).set_index("G with")
    assert "G acts by" in repr(styling.show(acting))


def test_no_column_of_a_table_is_named_by_a_word_of_the_code(found):
    """Neither an underscore nor a name that `wording` has a word for."""
    for name, frame in found.items():
        for part in styling.columns(frame):
            for text in (part.group, part.head):
                assert not re.search(r"[a-z]_[a-z]", text), (name, text)
                assert text not in (wording.WORDS.keys() | wording.HEADS.keys()), (name, text)


def test_html_is_the_same_twice_and_holds_no_script_and_no_markup_of_a_cell(found):
    for name, frame in found.items():
        first = styling.Shown(frame, name, "a < b")._repr_html_()
        assert first == styling.Shown(frame.copy(), name, "a < b")._repr_html_()
        assert "<script" not in first and f'id="T_{name}"' in first and "a &lt; b" in first
        assert "url(" not in first and "@import" not in first
    hostile = pd.DataFrame({"row": ["<script>x"], "verdict": ["<b>"]}).set_index("row")
    html = styling.show(hostile)._repr_html_()
    assert "<script" not in html and "<b>" not in html


def test_an_empty_table_says_so(table):
    empty = tables.paired([row for row in table if row.defense == "none"])
    assert empty.empty
    assert styling.show(empty, "a < b")._repr_html_() == "<p>a &lt; b: no rows</p>"
    assert repr(styling.show(empty)) == "no rows"


def test_as_text_a_table_is_its_cells_and_no_address(table):
    shown = styling.show(tables.oblivious(RUN, table))
    lines = repr(shown).splitlines()
    assert " at 0x" not in repr(shown) and len({len(line) for line in lines}) == 1
    line = next(line for line in lines if line.startswith("Mixup + MI-OL "))
    mean, low, high = (100 * value for value in table[8].interval("clean"))
    assert f"{mean:.1f} ({low:.1f}–{high:.1f})" in line and " 83.9 " in line
    assert "untargeted PGD-10" in lines[0]


def contrast(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """WCAG's contrast ratio of two colours in [0, 255]."""
    light = []
    for colour in (first, second):
        linear = [
            value / 255 / 12.92 if value <= 10 else ((value / 255 + 0.055) / 1.055) ** 2.4
            for value in colour
        ]
        light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)
    return max(light) / min(light)


@pytest.mark.parametrize(("ink", "page"), [((28, 33, 39), (255,) * 3), ((228,) * 3, (17,) * 3)])
def test_numbers_are_legible_on_every_shade(ink, page):
    ramp = [float(value) for value in styling.RAMP.split(",")]
    for step in range(styling.SHADES + 1):
        rule = styling.RULES[f"td.shade{step}"]
        share = float(re.search(r"([\d.]+)\)", rule)[1])
        shade = tuple(share * a + (1 - share) * b for a, b in zip(ramp, page, strict=True))
        assert contrast(ink, shade) > 4.5 and "color: inherit" in rule


def test_save_keeps_the_numbers_and_what_made_them(table, tmp_path, monkeypatch):
    monkeypatch.setenv("MILIB_OUTPUTS", str(tmp_path))
    study = Study(RUN, "04_oblivious")
    frame = tables.oblivious(RUN, table)
    shown = tables.save(study, frame, "oblivious", "Accuracy (%)")
    folder = tmp_path / "digits" / "tables"
    assert {path.name for path in folder.iterdir()} == {"oblivious.csv", "oblivious.json"}
    pd.testing.assert_frame_equal(styling.read(folder / "oblivious.csv"), frame)
    about = json.loads((folder / "oblivious.json").read_text())
    assert about["caption"] == "Accuracy (%)" and about["notebook"] == "04_oblivious"
    assert "Accuracy (%)</caption>" in shown._repr_html_()
