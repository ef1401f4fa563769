"""Figures of a curated run, drawn anew from its records."""

from pathlib import Path

import pytest

from milib.errors import UserError
from milib.report import redraw
from milib.report.run_folder import RunFolder, pack
from milib.study import store as stores
from milib.study.store import Store


def test_todays_code_finds_what_older_code_made_elsewhere(tmp_path, monkeypatch):
    made = Store(tmp_path / "made", tmp_path / "none", "05_detection")
    identity = {"n": 1, "device": "cuda", "scored": "TF32"}
    with monkeypatch.context() as older:
        older.setattr(stores, "code_digest", lambda: "older")
        made.record("part", identity, lambda: {"found": 1})
        made.record("words", {"n": 2}, lambda: {"found": 2})
    redraw.lend(RunFolder(made.folder), tmp_path / "lent")
    lent = Store(tmp_path / "lent", tmp_path / "none", "05_detection")
    here = {"n": 1, "device": "cpu", "scored": "fp32"}
    for name, wanted, number in (("part", here, 1), ("words", {"n": 2}, 2)):
        found = lent.record(name, wanted, lambda: pytest.fail("made again"))
        assert found == {"found": number}
    assert lent.record("part", here | {"n": 3}, lambda: {"found": 3}) == {"found": 3}


@pytest.fixture
def curated(tmp_path, monkeypatch) -> Path:
    """A curated run of one notebook, whose execution leaves two new figures."""
    folder = tmp_path / "mine"
    for name in ("roc.png", "roc.svg", "curve.png"):
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        (folder / "figures" / name).write_text("old")
    (folder / "run.json").write_text(
        '{"parameters": {"05_detection": {}}, "profile": {}, "tables": {}, "figures": {}}'
    )
    (folder / "records.jsonl.xz").write_bytes(pack({}))
    monkeypatch.setattr(redraw, "shown_as_svg", lambda _: {"roc"})
    monkeypatch.setattr(redraw, "_execute", leave_figures)
    return folder


def leave_figures(notebook: str, run: str, outputs: str) -> None:
    assert notebook == "05_detection"
    made = Path(outputs) / run / "figures"
    made.mkdir(parents=True, exist_ok=True)
    for name in ("roc.png", "roc.svg", "curve.png", "curve.svg", "another.png"):
        (made / name).write_text("new")


def test_the_figures_that_the_run_shows_are_replaced_and_no_others(curated):
    assert redraw.redraw(RunFolder(curated)) == ["curve", "roc"]
    found = {path.name: path.read_text() for path in (curated / "figures").iterdir()}
    assert found == {"roc.png": "new", "roc.svg": "new", "curve.png": "new"}


def test_a_run_that_is_not_curated_is_refused(tmp_path):
    with pytest.raises(UserError, match="no curated run"):
        redraw.redraw(RunFolder(tmp_path))
