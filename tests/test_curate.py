"""Curated runs: what is kept, what is refused, and what FINDINGS.md says about it."""

import gzip
import json

import nbformat
import pytest

from milib import artifacts, curate, params, report
from milib.errors import StudyError

REFERENCE = params.project_root() / "outputs" / "reference"


def claim(identifier: str, verdict: str, *lows: float) -> dict:
    comparisons = [{"label": f"{identifier} {i}", "mean": low + 0.1, "low": low, "high": low + 0.2} for i, low in enumerate(lows)]
    return {
        "id": identifier,
        "statement": f"statement of {identifier}",
        "source": "Table 2",
        "margin": 0,
        "verdict": verdict,
        "statistic": "none",
        "comparisons": comparisons,
    }


@pytest.fixture
def run(tmp_path):
    """A finished run with one notebook, two records it used, one it did not, a table and a profile."""
    store = artifacts.Store(tmp_path / "mine", tmp_path / "none", "04_oblivious")
    store.record("score-old", {"n": 1}, lambda: {"old": True})
    store.events.clear()
    store.record("score-mixup", {"n": 2}, lambda: {"new": True})
    judged = [claim("mi_ol_beats_mixup", "holds", 0.05, 0.2), claim("gain_needs_mixup", "not measured")]
    store.record("claims-04_oblivious", {"n": 3}, lambda: {"claims": judged})
    cell = nbformat.v4.new_code_cell("1 + 1", outputs=[nbformat.v4.new_output("stream", text="2")], metadata={"papermill": {"duration": 1}, "tags": ["t"]})
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"papermill": {"input_path": str(tmp_path), "duration": 12.34}})
    artifacts.write_atomic(store.folder / "notebooks" / "04_oblivious.ipynb", nbformat.writes(notebook).encode())
    artifacts.write_atomic(store.folder / "tables" / "oblivious.csv", b"row,clean\n")
    return store.folder


def test_what_was_used_is_kept_and_replaces_what_lay_there(run, tmp_path):
    target = tmp_path / "reference" / "c10_compact"
    artifacts.write_atomic(target / "records" / "stale.json.gz", b"{}")
    artifacts.write_atomic(target / "checkpoints" / "mixup.safetensors", b"weights")
    curate.curate(run, target)
    kept = {str(path.relative_to(target)).split("-")[0] for path in target.rglob("*") if path.is_file()}
    assert kept == {"notebooks/04_oblivious.ipynb", "records/score", "records/claims", "tables/oblivious.csv", "profile/04_oblivious.json"} | {
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
    text = report.build(target).read_text()
    assert "1 hold, 0 fail" in text and "(older)" not in text
    names = sorted(path.name for path in target.glob("records/*"))
    assert [name.endswith(".json.gz") and f'href="records/{name}"' in text for name in names] == [True, True]


def test_what_other_notebooks_left_stays_and_what_this_one_left_goes(run, tmp_path):
    target = tmp_path / "reference" / "c10_compact"
    for notebook, name in (("04_oblivious", "gone"), ("06_tradeoff", "kept")):
        artifacts.write_atomic(target / "figures" / f"{name}.json", json.dumps({"notebook": notebook}).encode())
        artifacts.write_atomic(target / "figures" / f"{name}.png", b"png")
    artifacts.write_atomic(target / "profile" / "06_tradeoff.json", json.dumps([{"kind": "record", "name": "tradeoff-1.json"}]).encode())
    artifacts.write_atomic(target / "records" / "tradeoff-1.json.gz", b"{}")
    curate.curate(run, target)
    assert {path.stem for path in target.glob("figures/*")} == {"kept"}
    assert {path.name.split("-")[0] for path in target.glob("records/*")} == {"claims", "score", "tradeoff"}


def test_failed_notebooks_paths_and_lost_records_are_refused(run, tmp_path):
    path = run / "notebooks" / "04_oblivious.ipynb"
    good = nbformat.read(path, 4)
    for output, words in (
        (nbformat.v4.new_output("stream", text=f"loaded {params.project_root()}/x"), "a path of this machine"),
        (nbformat.v4.new_output("error", ename="E", evalue="e", traceback=[]), "stopped with an error"),
    ):
        bad = nbformat.from_dict(json.loads(json.dumps(good)))
        bad.cells[0].outputs = [output]
        nbformat.write(bad, path)
        with pytest.raises(StudyError, match=words):
            curate.curate(run, tmp_path / "target")
    nbformat.write(good, path)
    next(run.glob("records/score-mixup-*")).unlink()
    with pytest.raises(StudyError, match="is missing: run the notebooks of 'mine' again"):
        curate.curate(run, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_findings_show_each_verdict_and_the_comparison_that_decides_it(run, tmp_path):
    models = b'model,test images,clean,untargeted_pgd10\nERM,5000,"91.0 [90.0, 92.0]",0.0\nAT,5000,80.0,35.0\n'
    artifacts.write_atomic(run / "tables" / "bare.csv", models)
    tables = {
        "oblivious": "row,clean,untargeted_pgd10\nMixup,90.0 | 93.8,1.0 | 3.6\nMixup + Guo,80.0,19.0 | 31.2\nMixup + MI-PL,90,0.5\nMixup + MI-OL,78.0,9.0\n",
        "adaptive": 'adaptive samples,"Mixup, none","Mixup, eq24"\n0,0.6,\n1,,8.0\n30,,2.0\n',
        "stronger": "model,test images,bare,MI-OL\nMixup,200,0.4,0.1\n",
        "paired": 'row,minus,"untargeted_pgd10, points"\nMixup + A (2018),Mixup + MI-OL,1.0\nMixup + A (sigma 0.4),Mixup + MI-OL,"-8.3 [-9, -8]"\n',
    }
    for name, content in tables.items():
        artifacts.write_atomic(run / "tables" / f"{name}.csv", content.encode())
    curate.curate(run, tmp_path / "reference" / "c10_compact")
    text = curate.findings(tmp_path / "reference")
    assert "on 5,000 test images, clean / untargeted PGD-10 in %: ERM 91.0 [90.0, 92.0] / 0.0; AT 80.0 / 35.0.\n" in text
    row = next(line for line in text.splitlines() if line.startswith("| mixup + MI-OL is more robust than mixup "))
    assert row.endswith("| Table 2 | holds |")
    assert "2 claims: holds 1, fails 0, undecided 0, not measured 1." in text
    assert "(Table 2)\n  - mi_ol_beats_mixup 0: +0.150 [+0.050, +0.250]\n  - mi_ol_beats_mixup 1: +0.300" in text
    assert "c100" not in text
    told = "Mixup: clean 90.0, under untargeted PGD-10 1.0; with MI-OL 78.0 and 9.0; more than that under PGD-10 with Guo 19.0. Attacked adaptively "
    told += "(Eq. 24, 30 samples) 2.0 is left, of the bare model under PGD-10 0.6; end to end in 50 small steps (after Tramèr et al., 2020) 0.1, "
    told += "of the bare model 0.4"
    printed = "- Mixup + A (sigma 0.4), sigma as printed, minus Mixup + MI-OL: -8.3 [-9, -8] points under untargeted PGD-10."
    assert f"\n- {told}.\n{printed}\n\n" in text and text.count("as printed") == 1
    marks = "<!-- findings -->\n{}<!-- end of findings -->\n"
    assert f"\n- `c10_compact`, {told}.\n" in curate.readme(marks.format("old\n"), tmp_path / "reference")


def test_a_verdict_says_how_many_comparisons_hold_and_many_are_told_by_the_weakest():
    assert curate.cell(claim("a", "fails", 0.1, -0.3)) == "fails (1 of 2 hold)"
    assert curate.cell(claim("a", "holds", 0.1, 0.2)) == "holds" and curate.cell(claim("a", "fails", -0.3)) == "fails"
    assert curate.cell(None) == curate.cell(claim("a", "not measured")) == "not measured"
    mark = {"label": "no MI setting is as clean as b", "mean": -1.0, "low": -1.0, "high": -1.0}
    told = curate.weakest([*claim("c", "fails", 0.3, -0.2, 0.1)["comparisons"], mark])
    assert told == "c 1: -0.100 [-0.200, +0.000] (the weakest of 3 comparisons); in 1 more no MI setting is as clean"


def test_rows_are_told_with_their_clean_accuracy_and_bare_models_on_more_images(tmp_path):
    entry = {"label": "Mixup + MI-OL - Mixup", "mean": 0.1, "low": 0.05, "high": 0.15}
    assert curate.line(entry, {"Mixup + MI-OL": 80.0, "Mixup": 91.5}) == "Mixup + MI-OL - Mixup: +0.100 [+0.050, +0.150] at -11.5 points of clean accuracy"
    assert curate.line(entry, {"Mixup": 91.5}).endswith("+0.150]")
    for model, right in (("mixup", 300), ("erm", 100)):
        store = artifacts.Store(tmp_path, tmp_path / "none", "04_oblivious")
        guesses = [0] * right + [1] * (1000 - right)
        store.record(f"bare-{model}", {}, lambda g=guesses: {"labels": [0] * 1000, "cells": {"untargeted_pgd10": {"predictions": [g]}}})
    for path in tmp_path.glob("records/*.json"):
        artifacts.write_atomic(path.with_suffix(".json.gz"), gzip.compress(path.read_bytes()))
    judged = claim("a", "undecided", 0.1) | {"statistic": "beats", "of": {"row": ["mixup", "none"], "others": [["erm", "none"]]}}
    assert curate.more_images(tmp_path, judged) == ["on 1,000 images, under untargeted PGD-10: Mixup - ERM +20.0 points [+17.5, +22.5]"]
    assert curate.more_images(tmp_path, judged | {"of": {"row": ["mixup", "mi_ol"], "others": [["erm", "none"]]}}) == []
    table = b'choice,row,column,here,otherwise,"difference, points"\npool,A,clean,1,2,"1.0 [0.5, 1.5]"\npool,B,clean,1,1,"-0.1 [-0.5, 0.3]"\n'
    artifacts.write_atomic(tmp_path / "tables" / "otherwise.csv", table)
    assert "- pool: A, clean: 1.0 [0.5, 1.5]" in list(curate.otherwise(tmp_path))


def test_findings_say_on_how_many_draw_sets_and_in_which_precision(tmp_path):
    store = artifacts.Store(tmp_path, tmp_path / "none", "04_oblivious")
    assert curate.computed(tmp_path) == ""
    for row, precision in (("a", "bf16"), ("b", "fp32")):
        store.record(f"score-{row}", {"sets": 3, "precision": precision}, dict)
        for path in tmp_path.glob("records/*.json"):
            artifacts.write_atomic(path.with_suffix(".json.gz"), gzip.compress(path.read_bytes()))
        assert curate.computed(tmp_path).startswith(" Rows with draws are means over 3 sets of them.")
        assert ("Attacks in bf16, predictions in TF32." in curate.computed(tmp_path)) == (precision == "bf16")


def test_the_committed_findings_are_those_of_the_committed_records():
    assert (REFERENCE / "FINDINGS.md").read_text() == curate.findings(REFERENCE)
    text = (params.project_root() / "README.md").read_text()
    assert text == curate.readme(text, REFERENCE) and curate.overview(REFERENCE) in text


def test_committed_records_are_whole_and_were_made_under_the_claims_as_they_stand():
    now = params.digest((params.project_root() / "params" / "claims.yaml").read_text())
    for path in REFERENCE.glob("*/records/*"):
        assert artifacts.read_record(path)["made"]["claims"] == now, f"{path} was made under other claims: run {path.parts[-3]} again"
