"""The Snakefile: a job for each model, notebooks that find them, and nothing done twice."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import test_runs

from milib import files
from milib.study import jobs, params

TINY = test_runs.TINY | {"model": "small", "pool": "test"}
MODELS = {"mixup", "interpolated_at", "erm", "at"}


def make_study(outputs: Path) -> subprocess.CompletedProcess:
    """The paper's scale on CIFAR-100 with settings of seconds, as `make study` makes it."""
    pairs = " ".join(f"-p {key} {shlex.quote(str(value))}" for key, value in TINY.items())
    places = {"MILIB_OUTPUTS": str(outputs), "MILIB_RUN": "c100", "MILIB_ARGS": pairs}
    command = [sys.executable, "-m", "milib.study.launch"]
    return subprocess.run(
        command, env=os.environ | places, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_every_model_has_a_job_and_every_notebook_finds_its_models(root, tmp_path):
    """All notebooks at the paper's scale, whose table on CIFAR-100 lacks most rows.

    CIFAR-10's notebooks are among the ledger's commands, which test_ledger runs.
    """
    done = make_study(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "c100"
    for log in folder.glob("logs/*.log"):
        assert "Passed unknown parameter" not in log.read_text(), log
    made = {path.name.split("-")[0] for path in folder.glob("checkpoints/*.safetensors")}
    run = params.load(root / "params" / "c100.yaml", TINY)
    assert made == {name for book in jobs.notebooks() for name in jobs.models_of(book, run)}
    for notebook in jobs.notebooks():
        assert (folder / "notebooks" / f"{notebook}.ipynb").exists()
        events = json.loads((folder / "profile" / f"{notebook}.json").read_text())
        read = [event for event in events if event["kind"] == "checkpoint"]
        assert read and all(event["cached"] for event in read), f"{notebook} trained a model"
        asked = {event["name"].split("-")[0] for event in read}
        assert asked == set(jobs.models_of(notebook, run)), notebook
    before = {path: path.stat().st_mtime_ns for path in folder.glob("notebooks/*.ipynb")}
    again = make_study(tmp_path)
    assert again.returncode == 0 and "done in" not in again.stdout
    assert "Nothing to be done" in (folder / "logs" / "snakemake.txt").read_text()
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_the_models_of_a_run_are_those_that_its_notebooks_ask_for(run):
    assert {name for book in jobs.notebooks() for name in jobs.models_of(book, run)} == MODELS | {
        "manifold_mixup",
        "matched_mixup",
        "long_mixup",
    }


def test_a_readers_copy_of_a_notebook_is_no_job(root, tmp_path, monkeypatch):
    for name in ("04_oblivious", "04_oblivious-Copy1", "09_mine"):
        files.write_atomic(tmp_path / "notebooks" / f"{name}.ipynb", b"{}")
    monkeypatch.setattr(jobs, "project_root", lambda: tmp_path)
    assert jobs.notebooks() == ["04_oblivious"]
    there = {path.stem for path in (root / "notebooks").glob("*.ipynb")}
    assert there >= set(jobs.NOTEBOOKS)


def test_shipped_weights_need_no_job(root):
    run = params.load(root / "params" / "c10_compact.yaml")
    assert [jobs.checkpoints(book, run) for book in jobs.notebooks()] == [[]] * 8
    other = params.load(root / "params" / "c10_compact.yaml", {"seed": 5})
    assert len(jobs.checkpoints("04_oblivious", other)) == 4
