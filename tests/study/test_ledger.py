"""Every command of the GPU ledger, run on a CPU with settings of seconds: no GPU minute goes to a typing error."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import test_runs

from milib.study import paths

LEDGER = Path("outputs/reference/c10/LEDGER.md")
TINY = test_runs.TINY | {"model": "small", "pool": "test"}
SIZES = {
    "net": "compact",
    "points": 4,
    "steps": 2,
    "rounds": 1,
    "few": 8,
    "draws": 6,
    "batch": 16,
    "small_batch": 4,
    "training_steps": 2,
    "threads": 1,
}


def commands() -> list[str]:
    """The ledger's commands, in its order."""
    return re.findall(
        r"^\| \d+\. .*?\| `(.+?)` \|", (paths.project_root() / LEDGER).read_text(), re.MULTILINE
    )


def test_the_ledger_names_every_step():
    found = commands()
    assert len(found) == (paths.project_root() / LEDGER).read_text().count("\n| ") - 1
    text = " ".join(found)
    for step in (
        "milib.bench",
        *(f"c10 {name}" for name in ("mixup", "interpolated_at", "erm", "at")),
        "c100 mixup",
        "c100 interpolated_at",
    ):
        assert step in text
    for notebook in (
        "03_theory",
        "04_oblivious",
        "05_detection",
        "06_tradeoff",
        "07_adaptive_attacks",
    ):
        assert f"notebooks/{notebook}.ipynb $OUT/{notebook}.ipynb -f params/c10.yaml" in text
    assert "notebooks/04_oblivious.ipynb $OUT/04_oblivious.ipynb -f params/c100.yaml" in text
    assert "for run in c10_compact c10_compact_seed1 c100_compact" in text


@pytest.mark.slow
def test_every_command_of_the_ledger_runs(tmp_path):
    copy, out = tmp_path / "a clone", tmp_path / "out"
    listed = subprocess.run(
        ["git", "ls-files"], cwd=paths.project_root(), capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in listed:
        if not name.startswith("outputs/reference") or Path(name).parent == LEDGER.parent:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(paths.project_root() / name, copy / name)
    out.mkdir()
    binaries = Path(sys.executable).parent
    environment = {key: value for key, value in os.environ.items() if key != "MILIB_OUTPUTS"}
    environment |= {
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "OUT": str(out),
        "PYTHONPATH": str(copy),
    }
    environment["TINY"] = " ".join(f"-p {key} '{value}'" for key, value in TINY.items())
    environment["SIZES"] = " ".join(f"-p {key} {value}" for key, value in SIZES.items())
    for command in commands():
        line = command.replace("$TINY", environment["TINY"])
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr[-2000:]}"
        assert "Passed unknown parameter" not in done.stderr
    made = {path.name.split("-")[0] for path in (out / "checkpoints").glob("*.safetensors")}
    assert made == {"mixup", "interpolated_at", "erm", "at"}
    assert len(list(out.glob("*.tgz"))) == 6  # Table 3 replaces Table 2
    assert len(list(out.glob("*.json"))) == 1  # the benchmark
