"""Bars, estimates and live lines: what counts, and that a stored notebook knows nothing of them."""

import shutil
import subprocess
import sys

import nbformat
import pytest

from milib import inference
from milib.study import progress


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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (3.2, "about 4 s"),
        (89, "about 89 s"),
        (91, "about 2 min"),
        (5399, "about 90 min"),
        (19_800, "about 5.5 h"),
        (172_799, "about 48.0 h"),
        (172_800, "about 2 days"),
        (8_640_000, "about 100 days"),
        (38_130.4 * 3600, "about 4.4 years"),
    ],
)
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
    assert capsys.readouterr().out.splitlines() == [
        f"{progress.LIVE} scoring: about 2 min",
        f"{progress.LIVE} training: about 61 s",
    ]


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
        inference.probabilities(net, splits.test.pixels(slice(25)), 10)
    assert shown[0].n == 25


def test_inference_is_watched_while_a_stage_runs_and_at_no_other_time():
    """Once, however many stages are inside each other."""
    assert inference.observers == []
    with progress.stage("scoring", 30, 100), progress.stage("an attack for it", 5, 1):
        assert inference.observers == [progress.tick]
    assert inference.observers == []
    with pytest.raises(ZeroDivisionError), progress.stage("scoring", 30, 100):
        raise ZeroDivisionError
    assert inference.observers == []


@pytest.fixture
def clock(monkeypatch):
    """A clock of seconds that stands still until a test moves it."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def told(taken: list[float], clock, capsys) -> list[str]:
    """The lines of a sweep whose items take so many seconds."""
    for seconds in progress.sweep("rows", taken):
        clock[0] += seconds
    lines = capsys.readouterr().out.splitlines()
    return [line.removeprefix(f"{progress.LIVE} rows: ") for line in lines]


def test_a_sweep_tells_what_is_left_by_the_mean_of_what_was_computed(clock, capsys, monkeypatch):
    monkeypatch.setattr(progress, "watched", lambda: False)
    assert told([0.01, 0.01, 30, 40, 20], clock, capsys) == [
        "3 of 5, about 60 s left",
        "4 of 5, about 35 s left",
    ]
    assert told([0.01] * 100, clock, capsys) == []  # all from the cache
    assert told([20, 20, 20], clock, capsys) == []  # a minute in all
    every_other = [(done, progress.about(3 * (40 - done))) for done in range(1, 40, 2)]
    expected = [f"{done} of 40, {left} left" for done, left in every_other]
    assert told([3] * 40, clock, capsys) == expected  # none sooner than SHORT


def test_a_sweeps_bar_counts_its_items_around_the_bars_of_its_stages(shown, capsys, monkeypatch):
    cleared = []
    monkeypatch.setattr(progress, "clear_live", lambda: cleared.append(len(progress._bars)))
    for _ in progress.sweep("rows", "abc"):
        progress.tick(7)  # images: not the sweep's unit
        with progress.stage("an attack", 5, 10):
            progress.tick(5)
    assert [(bar.total, bar.n) for bar in shown] == [(3, 3), (5, 5), (5, 5), (5, 5)]
    assert cleared == [0]  # once, at its end


@pytest.mark.parametrize(
    ("prints", "passes"),
    [("print('\u00bb rows: 3 of 5')", True), ("print('\u00bb rows: 3 of 5'); print('one')", False)],
)
def test_nbval_compares_no_live_line(root, tmp_path, prints, passes):
    shutil.copy(root / "notebooks" / "conftest.py", tmp_path)
    cell = nbformat.v4.new_code_cell(prints, execution_count=1)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "shown.ipynb")
    options = "--nbval --nbval-current-env -q -p no:cacheprovider --rootdir".split()
    command = [sys.executable, "-m", "pytest", *options, tmp_path, tmp_path]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ("1 passed" if passes else "1 failed") in done.stdout, done.stdout
