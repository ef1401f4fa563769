"""Figures from synthetic records: drawn are the values and intervals that statistics give."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from milib import defenses, statistics
from milib.study.rows import PRIMARY
from milib.views import figures, looks

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


def test_defenses_have_colours_and_titles_of_their_own():
    kinds = defenses.DEFENSES
    assert set(kinds) <= set(looks.COLOURS)
    assert len({looks.COLOURS[name] for name in kinds}) == len(kinds)
    assert len({kind.title for kind in kinds.values()}) == len(kinds)


def test_a_figure_is_kept_as_pixels_and_as_vectors(tmp_path):
    figure, _ = looks.panels(1, 1)
    looks.save(figure, tmp_path / "one")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    again = (tmp_path / "one.svg").read_bytes()
    assert b"<svg" in again
    looks.save(figure, tmp_path / "one")
    assert (tmp_path / "one.svg").read_bytes() == again
