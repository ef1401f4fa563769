"""`make study PROFILE=slurm` on a real scheduler of one node, from a folder with a space."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import project_copy
import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT.parent / "shared" / "tools" / "slurm_local.sh"
SMALL = {"threads": 1, "n_test": 6, "n_theory": 4, "n_adaptive": 3, "n_beyond": 3, "n_tuned": 2}
SMALL |= {"chunk": 20, "epochs": 1, "adversarial_share": 1, "train_steps": 1, "draws": 3}
SMALL |= {"draw_sets": 1, "extra_models": "false", "match_clean": "false", "steps": "[10]"}
ROWS = """rows: [{model: mixup, defense: none}, {model: mixup, defense: mi_pl, ratio: 0.5},
    {model: mixup, defense: mi_ol, ratio: 0.5}]"""
NOTEBOOKS = ("01_train_mixup", "04_oblivious")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A scheduler for the tests of this module."""
    if not TOOL.is_file():
        pytest.skip("needs Slurm: ../shared/tools/slurm_local.sh is not beside this project")
    if not shutil.which("slurmctld") or not shutil.which("munged"):
        pytest.skip("needs Slurm: slurmctld and munge are not installed")
    if os.geteuid() != 0:
        pytest.skip("needs Slurm: only root can start it")
    folder = tmp_path_factory.mktemp("slurm")
    began = subprocess.run(
        ["bash", TOOL, "start", folder], capture_output=True, text=True, check=False
    )
    if began.returncode:
        said = (began.stderr or began.stdout).strip().splitlines()
        pytest.skip(f"needs Slurm: {TOOL.name}: {said[-1] if said else 'did not start'}")
    yield
    subprocess.run(["bash", TOOL, "stop", folder], capture_output=True, check=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy with two notebooks and two small runs, in a folder whose name has a space."""
    copy = tmp_path_factory.mktemp("a folder") / "my clone"
    project_copy.make(copy, NOTEBOOKS)
    text = (copy / "params" / "digits.yaml").read_text()
    for number in (1, 2):
        own = text.replace("run: digits", f"run: seed{number}").replace(
            "seed: 0", f"seed: {number}"
        )
        (copy / "params" / f"seed{number}.yaml").write_text(own)
    return copy


def make_study(project: Path, runs: str, **changed) -> subprocess.CompletedProcess[str]:
    """`make study RUN=... PROFILE=slurm` of the copy."""
    pairs = " ".join(f"-p {key} {value}" for key, value in (SMALL | changed).items())
    pairs += f" -y '{ROWS}'"
    places = {"MILIB_RUN": runs, "MILIB_ARGS": pairs, "MILIB_PROFILE": "slurm"}
    places |= {"MILIB_OUTPUTS": str(project / "my outputs"), "PYTHONPATH": str(project)}
    command = [sys.executable, "-m", "milib.study.launch"]
    return subprocess.run(
        command,
        cwd=project,
        env=os.environ | places,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


def job_list() -> list[str]:
    """State and name of every job that the scheduler knows."""
    command = ["squeue", "--noheader", "--states=all", "--format=%T %k"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.slurm
@pytest.mark.usefixtures("slurm")
def test_two_runs_of_one_call(project):
    """Every model and every notebook has one job, and a notebook trains nothing."""
    done = make_study(project, "seed1 seed2")
    assert done.returncode == 0, done.stdout + done.stderr
    names = ("train_erm", "train_mixup", *NOTEBOOKS)
    said = {line.split(":")[0] for line in done.stdout.splitlines() if ": done in" in line}
    assert said == {f"{run} {name}" for run in ("seed1", "seed2") for name in names}
    listed = job_list()
    assert len(listed) == 8 and all(line.startswith("COMPLETED ") for line in listed), listed
    for run in ("seed1", "seed2"):
        folder = project / "my outputs" / run
        assert (folder / "index.html").is_file()
        assert len(list(folder.glob("checkpoints/*.safetensors"))) == 2
        assert '"cached": false' not in "".join(
            line
            for line in (folder / "profile" / "01_train_mixup.json").read_text().split("}")
            if '"checkpoint"' in line
        )
    again = make_study(project, "seed1 seed2")
    assert again.returncode == 0 and ": done in" not in again.stdout
    assert job_list() == listed


@pytest.mark.slurm
@pytest.mark.usefixtures("slurm")
def test_a_failed_job_is_named_with_its_log(project):
    done = make_study(project, "seed1", run="other", data="cifar10", data_root="nowhere")
    assert done.returncode == 1
    [line] = [line for line in done.stdout.splitlines() if line.startswith("other train_erm: ")]
    assert "failed: UserError: " in line and line.endswith(
        "(log: my outputs/other/logs/train_erm.log)"
    )
