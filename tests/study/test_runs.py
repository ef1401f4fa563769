"""Whole runs through papermill, as a user starts them, and how they end when something is wrong."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from milib.study import paths

ROOT = paths.project_root()
GRIDS = """{
    mi_ol: [0.4, 0.6], mi_pl: [0.4, 0.6], mi_combined: [0.0, 0.2], gaussian_noise: [0.01, 0.02],
    rotation: [10, 20], xie: [[28, 32], [24, 30]], guo: [[28, 32], [24, 30]]}"""
TINY = {
    "data": "generated",
    "threads": 1,
    "n_train": 200,
    "n_heldout": 20,
    "n_test": 6,
    "n_theory": 4,
    "n_adaptive": 3,
    "n_beyond": 3,
    "n_tuned": 2,
    "battery": "quick",
    "chunk": 20,
    "epochs": 1,
    "train_steps": 1,
    "steps": "[10]",
    "draws": 3,
    "draw_sets": 2,
    "adaptive_samples": "[1, 2]",
    "fig2_ratios": "[0.3, 0.6]",
    "grids": " ".join(GRIDS.split()),
}
"""A run of seconds, as papermill takes it: at the paper's scale in all but its sizes."""


def papermill(
    notebook: str, run: str, folder: Path, **overrides
) -> subprocess.CompletedProcess[str]:
    """A notebook under a run's parameters and others on top, in a folder of its own."""
    command = [sys.executable, "-m", "papermill", f"{ROOT}/notebooks/{notebook}.ipynb", "out.ipynb"]
    command += ["-f", f"{ROOT}/params/{run}.yaml", "--log-output", "--no-progress-bar"]
    for key, value in overrides.items():
        command += ["-p", key, str(value)]
    environment = os.environ | {"MILIB_OUTPUTS": str(folder / "outputs")}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("run", ["c10_compact_seed1", "c100_compact"])
def test_a_table_without_erm_and_at_asks_for_no_such_model(run, tmp_path):
    done = papermill("04_oblivious", run, tmp_path, **TINY, model="small", pool="test")
    assert done.returncode == 0, last_line(done)
    weights = tmp_path.glob(f"outputs/{run}/checkpoints/*.safetensors")
    assert {path.name.split("-")[0] for path in weights} == {"mixup", "interpolated_at"}


@pytest.mark.slow
def test_the_papers_net(tmp_path):
    """Two of its models, bare and defended: what differs from the tiny runs is the net."""
    rows = [{"model": name, "defense": "none"} for name in ("mixup", "interpolated_at")]
    rows += [row | {"defense": kind, "ratio": 0.5} for kind in ("mi_pl", "mi_ol") for row in rows]
    tiny = TINY | {"chunk": TINY["n_test"], "rows": json.dumps(rows), "pool": "test"}
    done = papermill("04_oblivious", "c100", tmp_path, **tiny)
    assert done.returncode == 0, last_line(done)
    assert "4,775," in done.stderr  # the parameters of the ResNet-50 with 100 classes
    weights = tmp_path.glob("outputs/c100/checkpoints/*.safetensors")
    assert {path.name.split("-")[0] for path in weights} == {"mixup", "interpolated_at"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        ({"epoch": 3}, ["'c100'", "'epoch'", "'epochs'"]),
        ({"epsilon": 3}, ["'c100'", "epsilon", "3", "between 1e-06 and 1"]),
        ({"model": "resnet"}, ["model", "resnet50"]),
        ({"data_root": "nowhere"}, ["cifar-100-python", "nowhere"]),
        ({"device": "cuda"}, ["device", "-p device cpu"]),
    ],
    ids=lambda value: next(iter(value)),
)
def test_a_mistake_ends_in_one_line(overrides, wanted, tmp_path):
    if overrides == {"device": "cuda"} and torch.cuda.is_available():
        pytest.skip("CUDA is here: asking for it is no mistake")
    done = papermill("04_oblivious", "c100", tmp_path, **overrides)
    assert done.returncode != 0
    assert last_line(done).startswith("UserError: "), last_line(done)
    for word in wanted:
        assert word in last_line(done), last_line(done)


@pytest.mark.slow
def test_missing_weights_on_a_cpu(tmp_path):
    long = {"model": "compact", "epochs": 200, "max_hours": 0.01}  # minutes to days, by the CPU
    done = papermill("04_oblivious", "c100", tmp_path, data="generated", device="cpu", **long)
    assert done.returncode != 0
    models = "erm, mixup, at, interpolated_at"
    for word in ("'c100'", models, "machine with CUDA", "-p max_hours", "-p epochs 1"):
        assert word in last_line(done), last_line(done)
    told = re.search(r"this CPU takes about ([\d.]+) (s|min|h|days): ", last_line(done))
    assert told, last_line(done)
    unit = {"s": 1, "min": 60, "h": 3600, "days": 86400}[told[2]]
    assert float(told[1]) * unit > 3600 * long["max_hours"], "what is refused takes longer"


@pytest.mark.slow
def test_stored_outputs_hold_on_another_processor(tmp_path):
    """Three notebooks once more under nbval, with the next smaller instruction set.

    They need mixup, interpolated AT and ERM. Last bits and weights are others, the strict cells
    the same. Below AVX2 only PyTorch's own
    kernels change: oneDNN's without AVX2 take three to four times as long.
    """
    smaller = {"ATEN_CPU_CAPABILITY": "default"}
    if torch.backends.cpu.get_cpu_capability() == "AVX512":
        smaller = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    environment = os.environ | smaller | {"MILIB_OUTPUTS": str(tmp_path)}
    names = ("01_train_mixup", "03_theory", "06_tradeoff")
    chosen = [f"notebooks/{name}.ipynb" for name in names]
    options = ["--nbval", *chosen, "-q", "-n", "2", "--dist", "loadfile"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
