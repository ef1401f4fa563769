"""Figures from synthetic records: drawn are the values and intervals that statistics give."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from milib import defenses, statistics
from milib.study.experiments import beyond
from milib.study.rows import PRIMARY, TableRow
from milib.views import beyond_figures, figures, looks

LABELS = [0] * 200


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def cell(clean: int, robust: int) -> dict:
    return {
        "clean": {"predictions": [[0] * clean + [1] * (200 - clean)]},
        PRIMARY: {"predictions": [[0] * robust + [1] * (200 - robust)]},
    }


def test_tradeoff_draws_each_settings_intervals():
    """Clean accuracy near 100 % and robust near 0 %: their intervals lean to different sides."""
    points = [(198, 2), (150, 60)]
    record = {"labels": LABELS, "settings": [{"ratio": 0.4}, {"ratio": 0.6}]}
    record["cells"] = [cell(*point) for point in points]
    axis = figures.tradeoff({("mixup", "mi_ol"): record}).axes[0]
    drawn = []
    for collection in axis.collections:
        drawn += [np.array(segment) for segment in collection.get_segments()]
    horizontal, vertical = ([s for s in drawn if s[0, k] == s[1, k]] for k in (1, 0))
    for (clean, robust), across, upright in zip(points, horizontal, vertical, strict=True):
        assert across[:, 0] == pytest.approx(100 * np.array(statistics.wilson(clean, 200)))
        assert upright[:, 1] == pytest.approx(100 * np.array(statistics.wilson(robust, 200)))
        assert across[0, 1] == pytest.approx(robust / 2)
        assert upright[0, 0] == pytest.approx(clean / 2)


def test_roc_bands_hold_the_curve_also_at_ties():
    """Half of all scores are equal: the curve has a long diagonal there."""
    grid = np.linspace(0.05, 0.95, 19)
    scores = np.concatenate([np.zeros(100), np.linspace(0.01, 1, 100)])
    clean = {"predictions": LABELS, "mi_pl": scores.tolist()}
    clean |= {"mi_ol": (scores / 2).tolist(), "confidence": (-scores).tolist()}
    attacked = clean | {"mi_pl": np.sqrt(scores).tolist()}
    record = {"labels": LABELS, "scores": {"clean": clean, PRIMARY: attacked}}
    axis = figures.roc({"mixup": record}).axes[0]
    for line, band in zip(axis.lines[:3], axis.collections, strict=True):
        corners = band.get_paths()[0].vertices
        low, high = (np.interp(grid, *side) for side in (lower_side(corners), upper_side(corners)))
        middle = np.interp(grid, *line.get_data())
        assert (low <= middle + 1e-6).all() and (middle <= high + 1e-6).all()
        assert (high - low > 0.02).all()


def lower_side(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    places = np.unique(corners[:, 0])
    return places, np.array([corners[corners[:, 0] == place, 1].min() for place in places])


def upper_side(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    places = np.unique(corners[:, 0])
    return places, np.array([corners[corners[:, 0] == place, 1].max() for place in places])


def test_training_curves_have_wilsons_band():
    """Over all held-out images for clean accuracy, over those attacked for PGD-10."""
    log = []
    for k in (1, 2, 3):
        entry = {"epoch": k, "heldout_clean": 0.5 + 0.1 * k, "heldout_pgd10": 0.1 * k}
        log.append(entry | {"attacked": 20})
    axes = figures.training_curves({"erm": log}, 50).axes
    for axis, least, count in zip(axes, (0.5, 0), (50, 20), strict=True):
        corners = axis.collections[0].get_paths()[0].vertices
        lows, highs = lower_side(corners)[1], upper_side(corners)[1]
        for k, low, high in zip((1, 2, 3), lows, highs, strict=True):
            ends = statistics.wilson(round(count * (least + 0.1 * k)), count)
            assert (low, high) == pytest.approx(tuple(100 * end for end in ends))


def test_a_model_whose_robustness_was_not_measured_has_no_curve_of_it():
    plain = [{"epoch": k, "heldout_clean": 0.5} for k in (1, 2)]
    attacked = [entry | {"heldout_pgd10": 0.25} for entry in plain]
    clean, robust = figures.training_curves({"erm": plain, "at": attacked}, 50).axes
    assert (len(clean.lines), len(robust.lines)) == (2, 1)


def test_defenses_have_titles_of_their_own():
    assert len({kind.title for kind in defenses.DEFENSES.values()}) == len(defenses.DEFENSES)


def tradeoff_record(*points: tuple[int, int]) -> dict:
    return {"labels": LABELS, "settings": [{}] * len(points), "cells": [cell(*p) for p in points]}


def test_each_defense_has_its_own_mark_in_the_plot_and_in_its_legend():
    kinds = [name for name in defenses.DEFENSES if name != "none"]
    records = {("mixup", name): tradeoff_record((180, 40), (160, 60)) for name in kinds}
    axis = figures.tradeoff(records).axes[0]
    curves = axis.lines[: len(kinds)]
    assert len({line.get_marker() for line in curves}) == len(kinds)
    drawn = [line.get_marker() for line in curves]
    assert [line.get_marker() for line in axis.get_legend().get_lines()] == [*drawn, "o"]


@pytest.mark.parametrize(
    ("points", "left", "beyond"),
    [
        (((196, 20), (150, 60), (100, 40)), 72, 1),  # 75 % begins the front, 50 % lies left of it
        (((196, 60), (190, 50), (150, 40)), 85, 1),  # the front is one point: 10 points are shown
        (((196, 20), (100, 60), (20, 80)), 55, 2),  # no more than 40 points are shown
        (((196, 20), (150, 60)), 72, 0),
    ],
)
def test_the_tradeoff_begins_at_the_front_and_says_what_it_leaves_out(points, left, beyond):
    axis = figures.tradeoff({("mixup", "mi_ol"): tradeoff_record(*points)}).axes[0]
    assert axis.get_xlim() == pytest.approx((left, 101))
    assert axis.get_ylim()[0] >= -1
    said = axis.get_xlabel().partition("(settings further left: ")[2]
    assert said == (f"{beyond})" if beyond else "")


def row(name: str, defense: str, right: int, paper: dict) -> TableRow:
    record = {"labels": LABELS, "cells": {PRIMARY: cell(0, right)[PRIMARY]}}
    return TableRow(name, {"model": "mixup", "defense": defense}, None, None, record, paper)


def test_the_table_begins_at_zero_and_ends_behind_its_last_mark():
    rows = [row("a", "none", 0, {}), row("b", "mi_ol", 100, {PRIMARY: "64.5"})]
    [axis] = figures.table([*rows, row("c", "guo", 20, {PRIMARY: "<=1"})], PRIMARY).axes
    low, high = axis.get_xlim()
    assert low == 0 and 64.5 < high < 80
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels == ["here, with its 95 % interval", "the paper, where it prints a number"]
    [crosses] = [line for line in axis.lines if line.get_marker() == "x"]
    assert [list(part) for part in crosses.get_data()] == [[64.5], [1]]  # rows: from below


def test_a_table_that_the_paper_lacks_has_no_crosses():
    [axis] = figures.table([row("a", "none", 20, {})], PRIMARY).axes
    assert "x" not in [line.get_marker() for line in axis.lines]
    assert len(axis.get_legend().get_texts()) == 1


def test_fig4_begins_at_zero_and_ends_at_its_highest_band():
    cells = {"labels": LABELS, "cell": cell(60, 0)["clean"]}
    records = {("mixup", "none", 0): cells}
    for variant in figures.ADAPTIVE:
        records |= {("mixup", variant, count): cells for count in (1, 10)}
    axis = figures.fig4(records).axes[0]
    low, high = axis.get_ylim()
    assert low == 0 and 100 * statistics.wilson(60, 200)[1] < high < 50


def scored(right: int) -> dict:
    wrong = [int(number >= right) for number in range(200)]
    found = {"index": list(range(200)), "labels": LABELS, "predictions": [wrong]}
    return found | {"missed": wrong, "margin": wrong}


def test_convergence_has_a_tick_at_each_value_and_axes_from_zero():
    tuned = {"clean": scored(180)}
    for what, settings in beyond.sweep().items():
        tuned |= {beyond.entry_name(what, name): scored(60) for name in settings}
    values = {radius: np.arange(200) < 100 for radius in (0.0, 2 / 255, 8 / 255, 64 / 255)}
    figure = beyond_figures.convergence(tuned, {"bare": values, "MI-OL": values}, 8 / 255)
    *varied, last = figure.axes
    for axis in varied:
        low, high = axis.get_ylim()
        assert low == 0 and 100 * statistics.wilson(60, 200)[1] < high < 50
    assert (last.get_ylim()[0], last.get_xscale()) == (0, "symlog")  # each value as far as another
    assert [text.get_text() for text in last.get_xticklabels()] == ["0", "0.25", "1", "8"]
    assert last.get_xlabel() == "epsilon, in units of 8/255"
    assert len({axis.get_title() for axis in figure.axes}) == len(figure.axes)


def test_images_have_no_frame_and_a_title_for_each_row():
    figure = figures.images([torch.rand(2, 3, 8, 8)] * 2, ["one", "two"], [["a", "b"]] * 2)
    assert [axis.get_ylabel() for axis in figure.axes] == ["one", "", "two", ""]
    assert [axis.get_title() for axis in figure.axes] == ["a", "b"] * 2
    for axis in figure.axes:
        assert not (axis.axison and any(spine.get_visible() for spine in axis.spines.values()))


def test_a_figure_is_kept_as_pixels_and_as_vectors(tmp_path):
    figure, _ = looks.panels(1, 1)
    looks.save(figure, tmp_path / "one")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    again = (tmp_path / "one.svg").read_bytes()
    assert b"<svg" in again
    looks.save(figure, tmp_path / "one")
    assert (tmp_path / "one.svg").read_bytes() == again
