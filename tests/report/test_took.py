"""What `milib.report.took` keeps for the plan of `make study`."""

import json

import pytest

from milib.errors import UserError
from milib.report import took
from milib.study import jobs, paths, times
from milib.study.store import Store


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run all of whose notebooks have a time, and one record."""
    monkeypatch.setenv("MILIB_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setattr(paths, "reference_root", lambda: tmp_path / "reference")
    store = Store(tmp_path / "outputs" / "mine", tmp_path / "none", "04_oblivious")
    store.record("part", {"n": 1}, lambda: {"found": 1})
    (store.folder / "profile").mkdir(exist_ok=True)
    for number, name in enumerate(jobs.notebooks()):
        (store.folder / "profile" / f"{name}.seconds").write_text(f"{number + 0.7}\n")
    return store.folder


def test_the_next_plan_reads_what_was_kept(run, tmp_path, monkeypatch):
    took.main(["mine"])
    monkeypatch.setenv("MILIB_OUTPUTS", str(tmp_path / "elsewhere"))
    found = times.expected(paths.outputs_root() / "mine", changed=False)
    assert found == {name: number + 1 for number, name in enumerate(jobs.notebooks())}
    assert times.expected(paths.outputs_root() / "mine", changed=True) == {}
    entry = json.loads((tmp_path / "reference" / times.KEPT).read_text())["mine"]
    assert entry["machine"][0].endswith("threads") and entry["commit"] and entry["dates"]


def test_what_took_how_long_here_comes_before_what_was_kept(run):
    took.main(["mine"])
    (run / "profile" / "03_theory.seconds").write_text("70\n")
    assert times.expected(run, changed=False)["03_theory"] == 70
    assert times.expected(run, changed=True)["03_theory"] == 70


def test_other_runs_stay_and_a_run_without_times_is_refused(run, tmp_path):
    took.main(["mine"])
    with pytest.raises(UserError, match="run the whole study there first"):
        took.main(["another"])
    assert set(times.kept()) == {"mine"}
    (run / "profile" / "03_theory.seconds").unlink()
    with pytest.raises(UserError, match="has no time of 03_theory"):
        took.main(["mine"])
