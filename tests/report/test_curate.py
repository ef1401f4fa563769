"""Curated runs: what is kept, and what is refused."""

import dataclasses
import json
from base64 import b64decode, b64encode
from pathlib import Path

import nbformat
import pytest

from milib import files
from milib.errors import UserError
from milib.report import curate, index
from milib.report.pictures import small
from milib.report.results import settings_of
from milib.report.run_folder import PACKED, RunFolder, pack
from milib.study import params, paths
from milib.study.rules import claims_table, rule, rules_digest
from milib.study.store import Store

REFERENCE = paths.project_root() / "outputs" / "reference"
COMMITTED = sorted(path.parent for path in REFERENCE.glob(f"*/{PACKED}"))


@pytest.fixture
def run(tmp_path, picture) -> Path:
    """A finished run with one notebook, two records it used, one it did not, table and figure."""
    store = Store(tmp_path / "mine", tmp_path / "none", "04_oblivious")
    store.record("score-old", {"n": 1}, lambda: {"old": True})
    store.events.clear()
    store.record("score-mixup", {"n": 2}, lambda: {"new": True})
    compared = {"label": "MI-OL - mixup", "mean": 0.1, "low": 0.05, "high": 0.2}
    judged = {"id": "mi_ol_beats_mixup", "verdict": "holds", "comparisons": [compared]}
    store.record("claims-04_oblivious", {"n": 3}, lambda: {"claims": [judged]})
    given = nbformat.v4.new_code_cell(
        "# The run's parameters\nseed = 1",
        execution_count=1,
        metadata={"tags": ["parameters"], "jupyter": {"source_hidden": True}},
    )
    cell = nbformat.v4.new_code_cell(
        "1 + 1",
        execution_count=2,
        outputs=[
            nbformat.v4.new_output("stream", text="2"),
            nbformat.v4.new_output("display_data", {"image/png": b64encode(picture).decode()}),
        ],
        metadata={"papermill": {"duration": 1}, "tags": ["t"]},
    )
    noted = {"papermill": {"input_path": str(tmp_path), "duration": 12.34}}
    notebook = nbformat.v4.new_notebook(cells=[cell, given], metadata=noted)
    made = json.dumps({"notebook": "04_oblivious", "caption": "Rows"}).encode()
    for name, content in {
        "notebooks/04_oblivious.ipynb": nbformat.writes(notebook).encode(),
        "profile/04_oblivious.parameters": b'{"seed": 1}',
        "tables/oblivious.csv": b"row,clean\nMixup,1.0\n",
        "tables/oblivious.json": made,
        "figures/oblivious.png": picture,
        "figures/oblivious.svg": b"<svg/>",
        "figures/oblivious.json": made,
    }.items():
        files.write_atomic(store.folder / name, content)
    return store.folder


def kept(target: Path) -> set[str]:
    return {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}


def named(target: Path) -> list[str]:
    """The records of a curated run without their fingerprints."""
    return [name.rpartition("-")[0] for name in RunFolder(target).records()]


def curated_before(target: Path, **figures: str) -> None:
    """A curated run whose notebook 06 read a record; figures: name -> the notebook that made it."""
    old, stale = (Store(target.parent / "old", target, "06_tradeoff") for _ in range(2))
    old.record("tradeoff", {}, lambda: {})
    stale.record("stale", {}, lambda: {})
    packed = pack(RunFolder(old.folder).records())
    entry = old.events[0] | {"cached": False}
    notes = {
        "parameters": {"04_oblivious": {"seed": 0}, "06_tradeoff": {"seed": 6}},
        "profile": {"06_tradeoff": {"seconds": 2.0, "entries": [entry]}},
        "tables": {},
        "figures": {name: {"notebook": notebook} for name, notebook in figures.items()},
    }
    files.write_atomic(target / PACKED, packed)
    files.write_atomic(target / "run.json", json.dumps(notes).encode())
    for name in figures:
        files.write_atomic(target / "figures" / f"{name}.png", b"png")


def test_what_was_used_is_kept_and_replaces_what_lay_there(run, tmp_path, picture):
    target = tmp_path / "reference" / "c10_compact"
    curated_before(target)
    files.write_atomic(target / "checkpoints" / "mixup.safetensors", b"weights")
    curate.curate(run, target)
    assert kept(target) == {
        "notebooks/04_oblivious.ipynb",
        "records.jsonl.xz",
        "run.json",
        "tables/oblivious.csv",
        "figures/oblivious.png",
        "checkpoints/mixup.safetensors",
    }
    assert named(target) == ["claims-04_oblivious", "score-mixup", "tradeoff"]
    found = RunFolder(target)
    assert found.profile()["04_oblivious"].seconds == 12.3
    assert found.parameters("04_oblivious") == {"seed": 1}
    assert found.about("tables", "oblivious")["caption"] == "Rows"
    notebook = nbformat.read(target / "notebooks" / "04_oblivious.ipynb", 4)
    assert "papermill" not in notebook.metadata and notebook.cells[0].metadata == {"tags": ["t"]}
    assert notebook.cells[0].outputs[0].text == "2"
    shown = b64decode(notebook.cells[0].outputs[1].data["image/png"])
    assert shown == (target / "figures" / "oblivious.png").read_bytes() == small(picture)
    assert len(shown) < len(picture)
    assert notebook.cells[1].metadata.jupyter == {"source_hidden": True}


def test_a_curated_run_reads_like_the_run_it_was_made_of(run, tmp_path):
    target = tmp_path / "reference" / "mine"
    curate.curate(run, target)
    live, curated = RunFolder(run), RunFolder(target)
    assert not live.curated and curated.curated
    used = {name: live.records()[name] for name in curated.records()}
    assert curated.records() == used and len(used) == 2
    assert curated.tables() == live.tables() == ["oblivious"]
    assert curated.figures() == live.figures() == ["oblivious"]
    assert (
        curated.table("oblivious") == live.table("oblivious") == [{"row": "Mixup", "clean": "1.0"}]
    )
    assert curated.about("figures", "oblivious") == live.about("figures", "oblivious")
    assert curated.parameters("04_oblivious") == live.parameters("04_oblivious") == {"seed": 1}
    assert curated.profile()["04_oblivious"].entries == live.profile()["04_oblivious"].entries


def test_curating_again_gives_the_same_bytes(run, tmp_path):
    target = tmp_path / "reference" / "mine"
    curate.curate(run, target)
    first = {name: (target / name).read_bytes() for name in kept(target)}
    curate.curate(run, target)
    assert {name: (target / name).read_bytes() for name in kept(target)} == first


def test_a_curated_run_has_a_report_that_names_its_records_and_links_the_packed_file(run, tmp_path):
    target = tmp_path / "reference" / "c10_compact"
    curate.curate(run, target)
    text = index.build(target).read_text()
    assert "1 hold, 0 fail" in text and "(older)" not in text
    names = list(RunFolder(target).records())
    assert len(names) == 2 and all(name in text for name in names)
    assert f'href="{PACKED}"' in text and 'href="records/' not in text


def test_what_other_notebooks_left_stays_and_what_this_one_left_goes(run, tmp_path):
    target = tmp_path / "reference" / "c10_compact"
    curated_before(target, gone="04_oblivious", kept="06_tradeoff")
    curate.curate(run, target)
    assert {path.stem for path in target.glob("figures/*")} == {"kept", "oblivious"}
    assert named(target) == ["claims-04_oblivious", "score-mixup", "tradeoff"]
    notes = RunFolder(target).notes()
    assert set(notes["figures"]) == {"kept", "oblivious"}
    assert notes["parameters"] == {"04_oblivious": {"seed": 1}, "06_tradeoff": {"seed": 6}}
    assert notes["profile"]["06_tradeoff"]["seconds"] == 2.0


def test_an_svg_is_kept_where_a_page_shows_it(run, tmp_path, monkeypatch):
    target, page = tmp_path / "reference" / "c10_compact", tmp_path / "README.md"
    monkeypatch.setattr(curate, "PAGES", (str(page),))
    for shown, wanted in (("oblivious.svg", {"png", "svg"}), ("oblivious.png", {"png"})):
        page.write_text(f"![](outputs/reference/c10_compact/figures/{shown})")
        curate.curate(run, target)
        assert {path.suffix[1:] for path in target.glob("figures/oblivious.*")} == wanted


def test_failed_notebooks_paths_and_lost_records_are_refused(run, tmp_path):
    path = run / "notebooks" / "04_oblivious.ipynb"
    good = nbformat.read(path, 4)
    for output, words in (
        (
            nbformat.v4.new_output("stream", text=f"loaded {paths.project_root()}/x"),
            "a path of this machine",
        ),
        (
            nbformat.v4.new_output("error", ename="E", evalue="e", traceback=[]),
            "stopped with an error",
        ),
    ):
        bad = nbformat.from_dict(json.loads(json.dumps(good)))
        bad.cells[0].outputs = [output]
        nbformat.write(bad, path)
        with pytest.raises(UserError, match=words):
            curate.curate(run, tmp_path / "target")
    nbformat.write(good, path)
    next(run.glob("records/score-mixup-*")).unlink()
    with pytest.raises(UserError, match="is missing: run the notebooks of 'mine' again"):
        curate.curate(run, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_what_is_not_complete_is_refused_by_name(run, tmp_path):
    """A cell without a number, or one that papermill was at when it was killed; a failed run."""
    path, target = run / "notebooks" / "04_oblivious.ipynb", tmp_path / "target"
    good = path.read_bytes()
    for change in (
        lambda cell: cell.update(execution_count=None),
        lambda cell: cell.metadata.update(papermill={"status": "running"}),
        lambda cell: cell.metadata.update(papermill={"status": "pending"}),
    ):
        notebook = nbformat.reads(good.decode(), 4)
        change(notebook.cells[-1])
        nbformat.write(notebook, path)
        with pytest.raises(UserError, match=r"04_oblivious\.ipynb is not executed to its end"):
            curate.curate(run, target)
    for content in (good[: len(good) // 2], b"", b"null", b"{}", b'{"cells": 1, "nbformat": 4}'):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"04_oblivious\.ipynb is (damaged|not a notebook)"):
            curate.curate(run, target)
    path.write_bytes(good)
    failed = path.with_suffix(".failed.ipynb")
    failed.write_bytes(good)
    with pytest.raises(
        UserError, match=r"04_oblivious\.failed\.ipynb is of a run that did not end"
    ):
        curate.curate(run, target)
    failed.unlink()
    record = next(run.glob("records/score-mixup-*"))
    record.write_bytes(record.read_bytes()[:-5])
    with pytest.raises(UserError, match=f"{record.name} is damaged"):
        curate.curate(run, target)
    assert not target.exists()


def test_a_cell_without_code_needs_no_number(run, tmp_path):
    path = run / "notebooks" / "04_oblivious.ipynb"
    notebook = nbformat.read(path, 4)
    notebook.cells += [nbformat.v4.new_code_cell(" \n"), nbformat.v4.new_markdown_cell("words")]
    nbformat.write(notebook, path)
    curate.curate(run, tmp_path / "target")


def test_what_an_unfinished_write_left_is_not_kept(run, tmp_path):
    left = (".04_oblivious.ipynb.1.tmp", ".04_oblivious.ipynb", ".04_oblivious.png", ".a.csv")
    for name in left:
        for kind in ("notebooks", "tables", "figures", "records"):
            files.write_atomic(run / kind / name, b"half")
    target = tmp_path / "target"
    curate.curate(run, target)
    assert not any(Path(name).name.startswith(".") for name in kept(target))
    assert len(kept(target)) == 5


def test_there_are_committed_runs():
    assert {path.name for path in COMMITTED} >= {"c10", "c10_compact", "c100_compact"}


BEFORE_08 = [
    {"id": f"adaptive_leaves_a_gain_on_{model}", "notebook": "07_adaptive_attacks"}
    | {"statistic": "leaves_a_gain", "of": {"model": model}, "margin": 0, "room": room}
    for model, room in (("mixup", 0.05), ("interpolated_at", 0.15))
]
"""Rules that stood in the place of those of 08 before there was such a notebook."""


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda path: path.name)
def test_committed_records_are_whole_and_were_made_under_the_claims_as_they_stand(folder):
    """Of other notebooks than 08, which came later, the rules of all that there were count."""
    others = [claim for claim in claims_table() if claim["notebook"][:2] != "08"]
    before = files.digest([rule(claim) for claim in others] + BEFORE_08)
    for name, record in RunFolder(folder).records().items():
        allowed = {rules_digest()} if record["notebook"][:2] == "08" else {rules_digest(), before}
        assert record["made"]["claims"] in allowed, (
            f"{name} was made under other claims: run {folder.name} again"
        )
        assert record["fingerprint"] == files.digest(record["identity"]), name
        assert name == f"{record['name']}-{record['fingerprint']}.json"


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda path: path.name)
def test_committed_runs_hold_what_they_name_and_nothing_else(folder):
    run = RunFolder(folder)
    assert set(run.records()) == curate.named_records(run.notes()["profile"])
    assert set(run.tables()) == set(run.notes()["tables"])
    assert set(run.figures()) == set(run.notes()["figures"])
    notebooks = {path.stem for path in folder.glob("notebooks/*.ipynb")}
    assert notebooks == set(run.profile()) == set(run.notes()["parameters"])
    shipping = settings_of(run).weights_of or run.name
    shipped = paths.reference_root().glob(f"{shipping}/checkpoints/*.safetensors")
    weights = {path.name for path in shipped}
    for kind in ("tables", "figures"):
        for name, about in run.notes()[kind].items():
            assert set(about["records"]) <= set(run.records()), (kind, name)
            assert set(about["checkpoints"]) <= weights, (kind, name)
            assert about["notebook"] in notebooks, (kind, name)
    shown = curate.shown_as_svg(folder.name)
    assert {path.stem for path in folder.glob("figures/*.svg")} == shown


def test_a_notebook_without_a_profile_or_opened_otherwise_is_refused(run, tmp_path):
    path, profile = run / "notebooks" / "04_oblivious.ipynb", run / "profile"
    kept = (profile / "04_oblivious.json").read_bytes()
    (profile / "04_oblivious.json").unlink()
    with pytest.raises(UserError, match="has no profile"):
        curate.curate(run, tmp_path / "mine of" / run.name)
    (profile / "04_oblivious.json").write_bytes(kept)
    content = json.loads(path.read_text("utf-8"))
    content["metadata"]["papermill"] = {"parameters": {"run": run.name, "seed": 0}}
    path.write_text(json.dumps(content), "utf-8")
    ran = dataclasses.asdict(params.build({"run": run.name, "seed": 0}))
    opened = profile / "04_oblivious.parameters"
    opened.write_text(json.dumps(ran | {"seed": 5}))
    with pytest.raises(UserError, match="opened with other parameters"):
        curate.curate(run, tmp_path / "mine of" / run.name)
    content["metadata"]["papermill"]["parameters"] |= {"n_beyond": 7}
    path.write_text(json.dumps(content), "utf-8")
    ran["n_beyond"] = 7
    opened.write_text(json.dumps({key: ran[key] for key in ran if key != "n_beyond"}))
    with pytest.raises(UserError, match="opened with other parameters"):
        curate.curate(run, tmp_path / "mine of" / run.name)
    opened.write_text(json.dumps({key: ran[key] for key in ran if key != "extension"}))
    curate.curate(run, tmp_path / "of an earlier version" / run.name)
    opened.write_text(json.dumps(ran))
    curate.curate(run, tmp_path / "mine of" / run.name)
    assert RunFolder(tmp_path / "mine of" / run.name).parameters("04_oblivious")["seed"] == 0
