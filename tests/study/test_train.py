"""Training without a notebook: weights and unfinished states are shipped, and go on elsewhere."""

import re

import pytest
import torch

from milib import files, training
from milib.errors import UserError
from milib.study import params, train, weights
from milib.study.study import Study


def test_every_model_of_a_run_can_be_prepared_and_resumed(root, monkeypatch, tmp_path):
    """`python -m milib.study.train`: weights shipped in half precision, an unfinished state beside them, and no second training."""
    monkeypatch.setenv("MILIB_OUTPUTS", str(tmp_path / "run"))
    run = params.load(
        root / "params" / "digits.yaml", {"epochs": 1, "adversarial_share": 1.0, "n_train": 200}
    )
    study = Study(run, "train")
    study.store.reference = tmp_path / "reference"
    study.require("mixup")
    full, about = files.read_tensors(
        study.store.find_checkpoint("mixup", study.model("mixup").settings)
    )
    path = train.ship(study, "mixup", study.store.reference)
    assert path.parent == tmp_path / "reference" / "checkpoints"
    shipped, same = files.read_tensors(path)
    assert same == about
    assert {value.dtype for key, value in shipped.items() if full[key].dim() > 1} == {torch.float16}
    assert all(
        torch.equal(value, full[key]) for key, value in shipped.items() if full[key].dim() < 2
    )
    assert all(
        (value.float() - full[key]).abs().max() < 1e-3
        for key, value in shipped.items()
        if full[key].dim() > 1
    )
    monkeypatch.setenv("MILIB_OUTPUTS", str(tmp_path / "another"))
    again = Study(run, "train")
    again.store.reference = tmp_path / "reference"
    monkeypatch.setattr(training, "train", None)  # would fail
    assert again.model("mixup").weights == files.tensors_digest(shipped)
    assert path.with_suffix(".jsonl").read_text().count("\n") == 2


def test_a_stopped_training_goes_on_from_what_was_shipped(monkeypatch, tmp_path, root):
    """State beyond one file's limit is shipped in parts, resumed from them, and removed when the model is done."""
    run = params.load(root / "params" / "digits.yaml", {"epochs": 2, "n_train": 200})
    monkeypatch.setenv("MILIB_OUTPUTS", str(tmp_path / "first"))
    first = Study(run, "train")
    first.store.reference = tmp_path / "reference"
    expected = training.train(
        weights.recipe(run, "erm"),
        first.splits,
        tmp_path / "none",
        epsilon=run.epsilon,
        precision="fp32",
        chunk=50,
        report=lambda entry: None,
    )[0]
    trainer = training.Trainer(weights.recipe(run, "erm"), first.splits, "fp32")
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
    monkeypatch.setattr(
        training.Trainer,
        "one_step",
        lambda trainer, order: (steps.append(trainer.step), one_step(trainer, order)),
    )
    second.models.estimate = lambda name: 0
    second.require("erm")
    assert steps[0] == 1 and len(steps) == 2 * trainer.steps_per_epoch - 1
    weights, _ = files.read_tensors(second.store.find_checkpoint("erm", weights.recipe(run, "erm")))
    assert all(torch.equal(weights[key].float(), expected[key].float()) for key in expected)
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
