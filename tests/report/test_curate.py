"""Curated runs: what is kept, and what is refused."""

import json

import nbformat
import pytest

from milib import files
from milib.errors import UserError
from milib.report import curate, index
from milib.study import paths
from milib.study import store as store_module

REFERENCE = paths.project_root() / "outputs" / "reference"


@pytest.fixture
def run(tmp_path):
    """A finished run with one notebook, two records it used, one it did not, a table and a profile."""
    store = store_module.Store(tmp_path / "mine", tmp_path / "none", "04_oblivious")
    store.record("score-old", {"n": 1}, lambda: {"old": True})
    store.events.clear()
    store.record("score-mixup", {"n": 2}, lambda: {"new": True})
    compared = {"label": "MI-OL - mixup", "mean": 0.1, "low": 0.05, "high": 0.2}
    judged = {
        "id": "a",
        "statement": "s",
        "source": "Table 2",
        "statistic": "none",
        "margin": 0,
        "verdict": "holds",
        "comparisons": [compared],
    }
    store.record("claims-04_oblivious", {"n": 3}, lambda: {"claims": [judged]})
    cell = nbformat.v4.new_code_cell(
        "1 + 1",
        outputs=[nbformat.v4.new_output("stream", text="2")],
        metadata={"papermill": {"duration": 1}, "tags": ["t"]},
    )
    notebook = nbformat.v4.new_notebook(
        cells=[cell], metadata={"papermill": {"input_path": str(tmp_path), "duration": 12.34}}
    )
    files.write_atomic(
        store.folder / "notebooks" / "04_oblivious.ipynb", nbformat.writes(notebook).encode()
    )
    files.write_atomic(store.folder / "tables" / "oblivious.csv", b"row,clean\n")
    return store.folder


def test_what_was_used_is_kept_and_replaces_what_lay_there(run, tmp_path):
    target = tmp_path / "reference" / "c10_compact"
    files.write_atomic(target / "records" / "stale.json.gz", b"{}")
    files.write_atomic(target / "checkpoints" / "mixup.safetensors", b"weights")
    curate.curate(run, target)
    kept = {
        str(path.relative_to(target)).split("-")[0] for path in target.rglob("*") if path.is_file()
    }
    assert kept == {
        "notebooks/04_oblivious.ipynb",
        "records/score",
        "records/claims",
        "tables/oblivious.csv",
        "profile/04_oblivious.json",
    } | {
        "checkpoints/mixup.safetensors",
        "profile/04_oblivious.seconds",
    }
    assert (target / "profile" / "04_oblivious.seconds").read_text() == "12.3\n"
    assert [path.name.split("-")[1] for path in sorted(target.glob("records/score-*"))] == ["mixup"]
    notebook = nbformat.read(target / "notebooks" / "04_oblivious.ipynb", 4)
    assert "papermill" not in notebook.metadata and notebook.cells[0].metadata == {"tags": ["t"]}
    assert notebook.cells[0].outputs[0].text == "2"


def test_a_curated_run_has_a_report_whose_links_lead_to_the_compressed_records(run, tmp_path):
    target = tmp_path / "reference" / "c10_compact"
    curate.curate(run, target)
    text = index.build(target).read_text()
    assert "1 hold, 0 fail" in text and "(older)" not in text
    names = sorted(path.name for path in target.glob("records/*"))
    assert [name.endswith(".json.gz") and f'href="records/{name}"' in text for name in names] == [
        True,
        True,
    ]


def test_what_other_notebooks_left_stays_and_what_this_one_left_goes(run, tmp_path):
    target = tmp_path / "reference" / "c10_compact"
    for notebook, name in (("04_oblivious", "gone"), ("06_tradeoff", "kept")):
        files.write_atomic(
            target / "figures" / f"{name}.json", json.dumps({"notebook": notebook}).encode()
        )
        files.write_atomic(target / "figures" / f"{name}.png", b"png")
    files.write_atomic(
        target / "profile" / "06_tradeoff.json",
        json.dumps([{"kind": "record", "name": "tradeoff-1.json"}]).encode(),
    )
    files.write_atomic(target / "records" / "tradeoff-1.json.gz", b"{}")
    curate.curate(run, target)
    assert {path.stem for path in target.glob("figures/*")} == {"kept"}
    assert {path.name.split("-")[0] for path in target.glob("records/*")} == {
        "claims",
        "score",
        "tradeoff",
    }


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


def test_committed_records_are_whole_and_were_made_under_the_claims_as_they_stand():
    now = files.digest((paths.project_root() / "params" / "claims.yaml").read_text())
    for path in REFERENCE.glob("*/records/*"):
        assert store_module.read_record(path)["made"]["claims"] == now, (
            f"{path} was made under other claims: run {path.parts[-3]} again"
        )
