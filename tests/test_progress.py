"""Bars, estimates and live lines: what counts, and that a stored notebook knows nothing of them."""

import pytest

from milib import models, progress


@pytest.fixture
def shown(monkeypatch):
    """The bars that a test opens, with somebody watching."""
    bars = []

    class Bar(progress.tqdm):
        def __init__(self, **options):
            super().__init__(**options)
            bars.append(self)

    monkeypatch.setattr(progress, "tqdm", Bar)
    monkeypatch.setattr(progress, "watched", lambda: True)
    return bars


@pytest.mark.parametrize(("seconds", "text"), [(3.2, "about 4 s"), (89, "about 89 s"), (91, "about 2 min"), (5399, "about 90 min"), (19_800, "about 5.5 h")])
def test_durations_are_told_in_words(seconds, text):
    assert progress.about(seconds) == text


def test_a_long_stage_says_how_long_and_counts_its_own_unit(shown, capsys):
    with progress.stage("scoring", 30, 100):
        progress.tick(10)
        progress.tick(7, "steps")
        with progress.stage("training", 5, 61, "steps"):
            progress.tick(9)
            progress.tick(2, "steps")
        progress.tick(20)
    assert [(bar.total, bar.n) for bar in shown] == [(30, 30), (5, 2)]
    assert capsys.readouterr().out.splitlines() == [f"{progress.LIVE} scoring: about 2 min", f"{progress.LIVE} training: about 61 s"]


def test_a_short_stage_shows_nothing_and_a_failed_one_leaves_no_bar(shown, capsys):
    with progress.stage("scoring", 30, progress.SHORT):
        progress.tick(10)
    assert not shown and not capsys.readouterr().out
    with progress.stage("scoring", 30, 100, done=4), progress.stage("an attack for it", 5, 1):
        progress.tick(5)  # the attack's
    assert [bar.n for bar in shown] == [4]
    shown.clear()
    capsys.readouterr()
    with pytest.raises(ZeroDivisionError), progress.stage("scoring", 30, 100):
        raise ZeroDivisionError
    progress.tick(5)
    assert [bar.n for bar in shown] == [0]


def test_nobody_watching_sees_lines_alone(monkeypatch, capsys):
    monkeypatch.setattr(progress, "watched", lambda: False)
    with progress.stage("scoring", 30, 100):
        progress.tick(10)
    found = capsys.readouterr()
    assert found.out == f"{progress.LIVE} scoring: about 2 min\n" and not found.err
    with progress.stage("scoring", 30, progress.LONG):
        progress.tick(10)
    assert not capsys.readouterr().out


def test_inference_counts_images_without_the_padding(net, splits, shown):
    with progress.stage("scoring", 25, 100):
        models.probabilities(net, splits.test.pixels(slice(25)), 10)
    assert shown[0].n == 25
