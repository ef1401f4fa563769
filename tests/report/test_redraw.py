"""Figures of a curated run, drawn anew from its records."""

from functools import partial
from pathlib import Path

import pytest

from milib.errors import UserError
from milib.report import redraw
from milib.report.pictures import small
from milib.report.run_folder import RunFolder, pack
from milib.study import params, paths
from milib.study import store as stores
from milib.study.store import Store

ROOT = paths.project_root() / "params"


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
def curated(tmp_path, monkeypatch, picture) -> Path:
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
    monkeypatch.setattr(redraw, "parameters", lambda *_: {"n_test": 3})
    monkeypatch.setattr(redraw, "_execute", partial(leave_figures, picture))
    return folder


def leave_figures(picture: bytes, notebook: str, path: Path) -> None:
    assert notebook == "05_detection" and path.read_text() == "n_test: 3\n"
    made = path.parent / "mine" / "figures"
    made.mkdir(parents=True, exist_ok=True)
    for name in ("roc.png", "roc.svg", "curve.png", "curve.svg", "another.png"):
        (made / name).write_bytes(picture)


def test_the_figures_that_the_run_shows_are_replaced_and_no_others(curated, picture):
    assert redraw.redraw(RunFolder(curated)) == ["curve", "roc"]
    found = {path.name: path.read_bytes() for path in (curated / "figures").iterdir()}
    assert found == {"roc.png": small(picture), "roc.svg": picture, "curve.png": small(picture)}


def test_a_run_that_is_not_curated_is_refused(tmp_path):
    with pytest.raises(UserError, match="no curated run"):
        redraw.redraw(RunFolder(tmp_path))


def test_a_run_is_drawn_with_its_own_parameters():
    """c10 was curated with fewer draws than c10.yaml asks for, before there was a battery."""
    run = RunFolder(paths.reference_root() / "c10")
    found, today = redraw.parameters(run, "04_oblivious"), params.load(ROOT / "c10.yaml")
    own = run.parameters("04_oblivious")
    assert found["draw_sets"] == own["draw_sets"] != today.draw_sets
    assert "battery" not in own and found["battery"] == today.battery
    assert found["precision"] == "bf16" and own["precision"] == "auto"
    params.build(found)


def test_a_notebook_is_run_up_to_its_last_figure():
    cells = redraw.up_to_its_last_figure("04_oblivious")["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    assert 'figures.show(study, drawn, "oblivious", caption)' in sources[-1]
    assert not any("alternatives.choices" in source for source in sources)
    assert redraw.up_to_its_last_figure("04_oblivious")["metadata"]
