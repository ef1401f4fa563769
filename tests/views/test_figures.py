"""Figures from synthetic records: what is drawn are the values and intervals that the statistics give."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from milib import defenses, statistics
from milib.study.rows import PRIMARY
from milib.views import figures

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
    record = {
        "labels": LABELS,
        "settings": [{"ratio": 0.4}, {"ratio": 0.6}],
        "cells": [cell(198, 2), cell(150, 60)],
    }
    axis = figures.tradeoff({("mixup", "mi_ol"): record}).axes[0]
    drawn = [
        np.array(segment)
        for collection in axis.collections
        for segment in collection.get_segments()
    ]
    horizontal, vertical = ([s for s in drawn if s[0, k] == s[1, k]] for k in (1, 0))
    for (clean, robust), across, upright in zip(
        [(198, 2), (150, 60)], horizontal, vertical, strict=True
    ):
        assert across[:, 0] == pytest.approx(100 * np.array(statistics.wilson(clean, 200)))
        assert upright[:, 1] == pytest.approx(100 * np.array(statistics.wilson(robust, 200)))
        assert across[0, 1] == pytest.approx(robust / 2) and upright[0, 0] == pytest.approx(
            clean / 2
        )


def test_roc_bands_hold_the_curve_also_at_ties():
    """Half of all scores are equal: the curve has a long diagonal there."""
    grid = np.linspace(0.05, 0.95, 19)
    scores = np.concatenate([np.zeros(100), np.linspace(0.01, 1, 100)])
    part = {
        "predictions": LABELS,
        "mi_pl": scores.tolist(),
        "mi_ol": (scores / 2).tolist(),
        "confidence": (-scores).tolist(),
    }
    axis = figures.roc(
        {
            "mixup": {
                "labels": LABELS,
                "scores": {"clean": part, PRIMARY: part | {"mi_pl": np.sqrt(scores).tolist()}},
            }
        }
    ).axes[0]
    for line, band in zip(axis.lines[:3], axis.collections, strict=True):
        corners = band.get_paths()[0].vertices
        low, high = (np.interp(grid, *side) for side in (lower_side(corners), upper_side(corners)))
        middle = np.interp(grid, *line.get_data())
        assert (
            (low <= middle + 1e-6).all()
            and (middle <= high + 1e-6).all()
            and (high - low > 0.02).all()
        )


def lower_side(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    places = np.unique(corners[:, 0])
    return places, np.array([corners[corners[:, 0] == place, 1].min() for place in places])


def upper_side(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    places = np.unique(corners[:, 0])
    return places, np.array([corners[corners[:, 0] == place, 1].max() for place in places])


def test_training_curves_have_wilsons_band():
    """Over all held-out images for clean accuracy, over those attacked for PGD-10."""
    log = [
        {"epoch": k, "heldout_clean": 0.5 + 0.1 * k, "heldout_pgd10": 0.1 * k, "attacked": 20}
        for k in (1, 2, 3)
    ]
    for axis, least, count in zip(
        figures.training_curves({"erm": log}, 50).axes, (0.5, 0), (50, 20), strict=True
    ):
        corners = axis.collections[0].get_paths()[0].vertices
        for k, low, high in zip(
            (1, 2, 3), lower_side(corners)[1], upper_side(corners)[1], strict=True
        ):
            assert (low, high) == pytest.approx(
                tuple(
                    100 * end for end in statistics.wilson(round(count * (least + 0.1 * k)), count)
                )
            )


def test_defenses_have_colours_and_titles_of_their_own():
    kinds = defenses.DEFENSES.values()
    assert len({kind.colour for kind in kinds}) == len({kind.title for kind in kinds}) == len(kinds)


def test_a_figure_is_kept_as_pixels_and_as_vectors(tmp_path):
    figure, _ = figures.panels(1, 1)
    figures.save(figure, tmp_path / "one")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG") and b"<svg" in (
        tmp_path / "one.svg"
    ).read_bytes()
    again = (tmp_path / "one.svg").read_bytes()
    figures.save(figure, tmp_path / "one")
    assert (tmp_path / "one.svg").read_bytes() == again
