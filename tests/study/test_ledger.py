"""The GPU ledger: no GPU minute goes to a typing error.

Every step runs on a CPU with settings of seconds.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import test_runs

from milib import files, models, recipes, training, training_state
from milib.files import digest
from milib.study import ledger, params, paths, weights

ROOT = paths.project_root()
FOLDER = Path("outputs/reference/c10")
LEDGER = (ROOT / FOLDER / "LEDGER.md").read_text()
RUNS = ("c10", "c100", "c10_compact", "c10_compact_seed1", "c100_compact")
RECIPE = {
    "classes": 10, "seed": 0, "batch_size": 64, "schedule": "step", "lr": 0.01, "nesterov": "false",
    "lr_interpolated": 0.1, "weight_decay": 0.0, "train_step_size": "2/255",
}  # fmt: skip
"""With these every run has the recipes of c10, so that each model is trained once."""
TINY = test_runs.TINY | RECIPE | {"model": "small", "pool": "test"}
SIZES = {
    "net": "compact", "points": 8, "steps": 2, "rounds": 1, "few": 8, "draws": 6, "batch": 16,
    "small_batch": 4, "training_steps": 2, "threads": 1,
}  # fmt: skip
CIFAR10 = "d34c4052972c08eb"
"""The fingerprint of c10's images."""
TRAINED = {"mixup", "interpolated_at", "erm", "at"}


def rows() -> list[list[str]]:
    """The table of LEDGER.md: step, state, seconds, result."""
    lines = LEDGER.split("\n\n## ")[0].splitlines()
    cells = [line.strip("| ").split(" |") for line in lines if line.startswith("| ")]
    return cells[1:]


def test_every_step_has_a_command_and_every_command_a_step():
    named = [f"{step['id']}. {step['title']}" for step in ledger.steps()]
    assert [row[0] for row in rows()] == named
    assert [step["id"] for step in ledger.steps()] == list(range(1, len(named) + 1))
    assert all(step["command"].strip() for step in ledger.steps())
    assert {row[1].strip() for row in rows()} == {"done", "open"}


def test_the_ledger_names_every_step():
    text = " ".join(step["command"] for step in ledger.steps())
    for step in ("milib.bench", *(f"c10 {name}" for name in TRAINED)):
        assert step in text
    assert "c100 mixup" in text and "c100 interpolated_at" in text
    numbered = ("03_theory", "04_oblivious", "05_detection", "06_tradeoff", "07_adaptive_attacks")
    numbered += ("08_beyond_the_paper",)
    for notebook in numbered:
        assert f"notebooks/{notebook}.ipynb $OUT/{notebook}.ipynb -f params/c10.yaml" in text
    assert "notebooks/04_oblivious.ipynb $OUT/04_oblivious.ipynb -f params/c100.yaml" in text
    assert "for run in c10_compact c10_compact_seed1 c100_compact" in text


@pytest.fixture
def epoch46(tmp_path, monkeypatch):
    """outputs/reference/c10/epoch46.py as a module that writes into `tmp_path`."""
    found = subprocess.run(["git", "cat-file", "-e", "ddc2502^{commit}"], cwd=ROOT, check=False)
    if found.returncode:
        pytest.skip("this clone lacks commit ddc2502, which has the state of interpolated AT")
    spec = importlib.util.spec_from_file_location("epoch46", ROOT / FOLDER / "epoch46.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    [mixup] = (ROOT / FOLDER / "checkpoints").glob("mixup-*.safetensors")
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(mixup, tmp_path / "checkpoints")
    monkeypatch.setattr(module, "HERE", tmp_path)
    return module


def test_the_unfinished_state_is_what_step_5_looks_for_and_its_weights_are_shipped(
    epoch46, tmp_path
):
    epoch46.main()
    [log] = (tmp_path / "checkpoints").glob("*.jsonl")
    committed = ROOT / FOLDER / "checkpoints" / log.name
    assert log.read_text() == committed.read_text()
    found, about = files.read_tensors(log.with_suffix(".safetensors"))
    expected, header = files.read_tensors(committed.with_suffix(".safetensors"))
    assert files.tensors_digest(found) == files.tensors_digest(expected) and about == header
    assert "-p adversarial_share 0.3" in ledger.command("5")
    run = params.load(ROOT / "params" / "c10.yaml", {"adversarial_share": 0.3})
    recipe = weights.recipe(run, "interpolated_at")
    state = tmp_path / f"interpolated_at-{digest(recipe)}.safetensors"
    state.write_bytes(files.read_parts(tmp_path / "state" / state.name))
    wanted = {"recipe": recipes.followed(recipe), "version": training.VERSION}
    wanted |= {"data": CIFAR10, "precision": "bf16", "device": "cuda"}
    net = models.build(run.model, run.classes, 3, 0)
    tensors = {f"model.{name}": value for name, value in net.state_dict().items()}
    tensors |= {f"momentum.{name}": value for name, value in net.named_parameters()}
    _, position = training_state.read(state, wanted, 766, tensors)
    assert (position["epoch"], position["step"]) == (46, 616)


def test_make_gpu_prints_and_runs_a_step(monkeypatch, tmp_path, capfd):
    step = {"id": 1, "title": "a", "command": 'echo "$OUT" $TINY > "$OUT/said"; exit 3'}
    monkeypatch.setattr(ledger, "steps", lambda: [step])
    monkeypatch.setenv("OUT", str(tmp_path / "new"))
    monkeypatch.setenv("TINY", "-p steps '[10, 50]'")
    assert ledger.main(["1"]) == 3
    assert (tmp_path / "new" / "said").read_text() == f"{tmp_path}/new -p steps [10, 50]\n"
    assert "echo" in capfd.readouterr().out
    assert ledger.main([]) == 0 and "1  a" in capfd.readouterr().out
    with pytest.raises(SystemExit, match="no step '2': its steps are 1"):
        ledger.main(["2"])
    target = re.search(r"^gpu:.*\n\t@(.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert target and target[1] == "python milib/study/ledger.py $(STEP)"


def clone(copy: Path) -> None:
    """What a clone holds, without the curated runs; the weights of all runs lie in one folder."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        curated = name.startswith("outputs/reference") and Path(name).parent != FOLDER
        if (ROOT / name).is_file() and not curated:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    shared = copy / "outputs" / "checkpoints"
    shared.mkdir(parents=True)
    for run in RUNS:
        (copy / "outputs" / run).mkdir()
        (copy / "outputs" / run / "checkpoints").symlink_to(shared)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("timeout"), reason="needs the command timeout")
def test_every_command_of_the_ledger_runs(tmp_path):
    copy, out = tmp_path / "a clone", tmp_path / "out"
    clone(copy)
    environment = {key: value for key, value in os.environ.items() if key != "MILIB_OUTPUTS"}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OUT": str(out),
        "PYTHONPATH": str(copy),
        "TINY": " ".join(f"-p {key} '{value}'" for key, value in TINY.items()),
        "SIZES": " ".join(f"-p {key} {value}" for key, value in SIZES.items()),
    }
    for step in ledger.steps():
        command = ["make", "gpu", f"STEP={step['id']}"]
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{step['command']}\n{done.stderr[-2000:]}"
        assert "Passed unknown parameter" not in done.stderr
    shipped = [path.name.split("-")[0] for path in (out / "checkpoints").glob("*.safetensors")]
    assert sorted(shipped) == sorted(TRAINED)
    assert len(list(out.glob("*.tgz"))) == 7  # Table 3 replaces Table 2
    assert len(list(out.glob("*.json"))) == 1  # the benchmark
