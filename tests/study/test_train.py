"""Training without a notebook: weights and unfinished states are shipped, and go on elsewhere."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from milib import files, training
from milib.errors import UserError
from milib.study import params, train
from milib.study.study import Study
from milib.study.weights import recipe


def test_every_model_of_a_run_can_be_prepared_and_resumed(root, monkeypatch, tmp_path):
    """Weights are shipped in half precision, and another machine trains no second time."""
    monkeypatch.setenv("MILIB_OUTPUTS", str(tmp_path / "run"))
    overrides = {"epochs": 1, "adversarial_share": 1.0, "n_train": 200}
    run = params.load(root / "params" / "digits.yaml", overrides)
    study = Study(run, "train")
    study.store.reference = tmp_path / "reference"
    study.require("mixup")
    full, about = files.read_tensors(study.models.find("mixup"))
    path = train.ship(study, "mixup", study.store.reference)
    assert path.parent == tmp_path / "reference" / "checkpoints"
    shipped, same = files.read_tensors(path)
    assert same == about
    assert shipped.keys() == full.keys() and max(value.dim() for value in full.values()) > 1
    for key, value in shipped.items():
        if full[key].dim() > 1:
            assert value.dtype == torch.float16
            assert (value.float() - full[key]).abs().max() < 1e-3
        else:
            assert torch.equal(value, full[key])
    monkeypatch.setenv("MILIB_OUTPUTS", str(tmp_path / "another"))
    again = Study(run, "train")
    again.store.reference = tmp_path / "reference"
    monkeypatch.setattr(training, "train", None)  # would fail
    assert again.model("mixup").weights == files.tensors_digest(shipped)
    assert path.with_suffix(".jsonl").read_text().count("\n") == 2


def test_a_stopped_training_goes_on_from_what_was_shipped(monkeypatch, tmp_path, root):
    """A state beyond one file's limit is shipped in parts, resumed, and removed when it is done."""
    run = params.load(root / "params" / "digits.yaml", {"epochs": 2, "n_train": 200})
    monkeypatch.setenv("MILIB_OUTPUTS", str(tmp_path / "first"))
    first = Study(run, "train")
    first.store.reference = tmp_path / "reference"
    settings, options = recipe(run, "erm"), {"epsilon": run.epsilon, "precision": "fp32"}
    options |= {"chunk": 50, "report": lambda entry: None}
    expected = training.train(settings, first.splits, tmp_path / "none", **options)[0]
    trainer = training.Trainer(settings, first.splits, "fp32")
    order = trainer.order()
    trainer.one_step(order)
    trainer.save(first.models.state_path("erm"))
    monkeypatch.setattr(files, "PART", 50_000)
    train.ship_state(first, "erm", first.store.reference)
    parts = list((tmp_path / "reference" / "state").iterdir())
    assert len(parts) > 2 and max(part.stat().st_size for part in parts) <= 50_000

    monkeypatch.setenv("MILIB_OUTPUTS", str(tmp_path / "second"))
    second, steps, one_step = Study(run, "train"), [], training.Trainer.one_step
    second.store.reference = tmp_path / "reference"

    def counted(trainer: training.Trainer, order) -> None:
        steps.append(trainer.step)
        one_step(trainer, order)

    monkeypatch.setattr(training.Trainer, "one_step", counted)
    second.models.estimate = lambda name: 0
    second.require("erm")
    assert steps[0] == 1 and len(steps) == 2 * trainer.steps_per_epoch - 1
    found, _ = files.read_tensors(second.models.find("erm"))
    assert all(torch.equal(found[key].float(), expected[key].float()) for key in expected)
    train.ship(second, "erm", second.store.reference)
    train.ship_state(second, "erm", second.store.reference)
    assert list((tmp_path / "reference" / "state").iterdir()) == []


def test_a_mistaken_parameter_is_named():
    for value, words in (
        ("[1", "epochs is '[1': write a number"),
        ("0", "epochs is 0: it must lie between"),
    ):
        with pytest.raises(UserError, match=re.escape(words)):
            train.main(["digits", "erm", "-p", "epochs", value])


def test_what_has_no_weights_is_not_shipped(root, monkeypatch, tmp_path):
    monkeypatch.setenv("MILIB_OUTPUTS", str(tmp_path / "run"))
    study = Study(params.load(root / "params" / "digits.yaml", {"n_train": 200}), "train")
    with pytest.raises(UserError, match="'digits': erm has no weights: train it first"):
        train.ship(study, "erm", tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_says_that_it_goes_on(root, tmp_path, number):
    command = [sys.executable, "-m", "milib.study.train", "digits", "erm"]
    environment = os.environ | {"MILIB_OUTPUTS": str(tmp_path)}
    with subprocess.Popen(
        command,
        cwd=root,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as process:
        assert process.stderr is not None
        until = time.monotonic() + 120
        while not (tmp_path / "digits" / "locks" / ".erm.lock").exists():
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.1)
        process.send_signal(number)
        last = process.stderr.read().splitlines()[-1]
    assert process.returncode == 1
    assert last == "stopped: the same command goes on from the last minute"


def test_the_command_notes_its_time_and_ends_in_one_line(root, monkeypatch, tmp_path):
    """Models that are trained at the same time have profiles of their own."""
    monkeypatch.setenv("MILIB_OUTPUTS", str(tmp_path))
    words = ["digits", "erm", "-p", "epochs", "1", "-p", "n_train", "200"]
    train.main([*words, "-p", "max_hours", "1"])
    profile = tmp_path / "digits" / "profile"
    assert '"cached": false' in (profile / "train_erm.json").read_text()
    assert float((profile / "train_erm.seconds").read_text()) > 0
    command = [sys.executable, "-m", "milib.study.train", "digits", "erm", "-p", "epohcs", "1"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and not done.stdout
    line = "UserError: run 'digits': unknown key 'epohcs'; nearest valid key: 'epochs'\n"
    assert done.stderr == line
