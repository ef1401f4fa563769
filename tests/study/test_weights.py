"""What identifies a training, how long it takes, and that two processes make the same records."""

import dataclasses
import json
import subprocess
import sys

import pytest
import torch

from milib import files, training
from milib.errors import UserError
from milib.study import estimate, experiments, params, train, weights
from milib.study.study import Study
from milib.study.weights import recipe
from milib.views import provenance


@pytest.fixture(scope="module")
def recipe_of(run):
    """recipe_of(name): a training of three epochs."""
    short = dataclasses.replace(run, epochs=3, adversarial_share=1.0, train_steps=3)
    return lambda name, **changes: weights.recipe(dataclasses.replace(short, **changes), name)


# What identifies a checkpoint

IRRELEVANT = {
    "run": "other",
    "draws": 7,
    "chunk": 5,
    "n_test": 9,
    "steps": (3,),
    "threads": 1,
    "device": "cpu",
    "data_root": "x",
    "step_size": 0.01,
}


@pytest.mark.parametrize("name", training.MODELS)
def test_recipe_changes_with_what_decides_the_weights_and_with_nothing_else(run, recipe_of, name):
    base = recipe_of(name)
    assert recipe_of(name, **IRRELEVANT) == base
    adversarial, mixes = name in training.ADVERSARIAL, name not in ("erm", "at")
    changes = {
        "seed": 1,
        "epochs": 5,
        "n_train": 9,
        "batch_size": 32,
        "lr": 0.01,
        "lr_interpolated": 0.01,
        "alpha": 0.5,
        "epsilon": 0.05,
        "train_steps": 4,
    }
    interpolated = name == "interpolated_at"
    expected = dict.fromkeys(("seed", "epochs", "n_train", "batch_size"), True)
    expected |= {"lr": not interpolated, "lr_interpolated": interpolated}
    expected |= {"alpha": mixes and name != "matched_mixup"}
    expected |= {"epsilon": adversarial, "train_steps": adversarial}
    found = {key: recipe_of(name, **{key: value}) != base for key, value in changes.items()}
    assert found == expected
    fingerprints = {files.digest(recipe_of(other)) for other in training.MODELS}
    assert len(fingerprints) == len(training.MODELS)


def test_epochs_of_adversarial_and_long_trainings(recipe_of):
    changes = {"epochs": 20, "adversarial_share": 0.25, "interpolated_share": 1.6}
    epochs = {name: recipe_of(name, **changes)["epochs"] for name in training.MODELS}
    others = {"at": 5, "interpolated_at": 8, "long_mixup": 40}
    assert epochs == dict.fromkeys(training.MODELS, 20) | others


def test_a_stop_is_part_of_the_recipe_where_it_cuts_the_training(recipe_of):
    base, stops = recipe_of("at"), {"at": 2.5, "erm": 3}
    assert recipe_of("at", stop_epochs=stops) == base | {"stop_epoch": 2.5}
    assert recipe_of("erm", stop_epochs=stops) == recipe_of("erm")  # it has three epochs
    assert recipe_of("mixup", stop_epochs=stops) == recipe_of("mixup")


@pytest.fixture
def stopped(root, tmp_path, monkeypatch):
    """stopped(name, **changes): a study of its own folder, whose ERM stops in its third epoch."""

    def make(name: str, **changes) -> Study:
        monkeypatch.setenv("MILIB_OUTPUTS", str(tmp_path / name))
        given = {"run": name, "n_train": 200, "epochs": 4, "stop_epochs": {"erm": 2.5}}
        study = Study(params.load(root / "params" / "digits.yaml", given | changes), "test")
        study.models.estimate = lambda name: 0
        return study

    return make


def test_a_stopped_model_says_so_and_is_read_as_that_alone(stopped):
    study = stopped("early")
    model = study.model("erm")
    assert [entry["epoch"] for entry in model.log] == [1, 2]
    assert "erm: small net, 2.5 of 4 epochs" in provenance.training_note(study)
    assert stopped("early").model("erm").weights == model.weights
    whole = stopped("early", stop_epochs={})
    assert whole.models.find("erm") is None


def test_a_stop_may_be_set_while_a_training_is_under_way(stopped, tmp_path):
    study = stopped("early", stop_epochs={})
    trainer = training.Trainer(recipe(study.params, "erm"), study.splits, "fp32")
    trainer.one_step(trainer.order())
    trainer.save(study.models.state_path("erm"))
    study = stopped("early")
    assert study.models._steps("erm") == (1, 10)  # four steps an epoch
    assert study.model("erm").weights == stopped("anew").model("erm").weights
    assert study.models.state_path("erm").exists()  # a later stop goes on from there
    earlier = stopped("early", stop_epochs={"erm": 2})
    with pytest.raises(UserError, match=r"is at epoch 2\.5, past where training stops"):
        earlier.models._steps("erm")
    train.ship_state(study, "erm", tmp_path / "shipped")
    [part] = (tmp_path / "shipped" / "state").iterdir()
    part.write_bytes(further := b"of another machine")
    train.ship_state(study, "erm", tmp_path / "shipped")
    assert part.read_bytes() == further
    whole = stopped("early", stop_epochs={})
    assert whole.model("erm").weights == stopped("another", stop_epochs={}).model("erm").weights
    assert not whole.models.state_path("erm").exists()


def test_weights_may_be_those_that_another_run_ships(stopped, tmp_path, monkeypatch):
    lender = stopped("c10")
    lender.store.reference = tmp_path / "reference" / "c10"
    lender.require("erm")
    train.ship(lender, "erm", lender.store.reference)
    monkeypatch.setattr(weights, "reference_root", lambda: tmp_path / "reference")
    monkeypatch.setattr(training, "train", None)  # would fail
    borrower = stopped("borrower", weights_of="c10")
    assert borrower.model("erm").weights == stopped("c10").model("erm").weights
    [lent] = (tmp_path / "reference" / "c10" / "checkpoints").glob("*.safetensors")
    before = lent.read_bytes()
    shipped = files.read_tensors(train.ship(borrower, "erm", tmp_path / "shipped"))[0]
    assert files.tensors_digest(shipped) == borrower.model("erm").weights
    assert lent.read_bytes() == before
    assert stopped("borrower", weights_of="c10", seed=1).models.find("erm") is None
    for name in ("../c10", "c11"):
        for key in ("weights_of", "twin"):
            with pytest.raises(UserError, match=f"unknown run in {key}"):
                stopped("borrower", **{key: name})


OVERRIDES = {
    "run": "repeat",
    "epochs": 2,
    "n_train": 200,
    "n_test": 20,
    "draws": 4,
    "draw_sets": 2,
    "steps": [10, 12],
    "chunk": 50,
    "train_steps": 2,
}
SCRIPT = """
import json, sys
from milib.study import experiments, params
from milib.study.study import Study
root, overrides = sys.argv[1], json.loads(sys.argv[2])
study = Study(params.load(f"{root}/params/digits.yaml", overrides), "test")
row = study.params.row("interpolated_at", "mi_ol")
experiments.score(study, row, ["clean", "untargeted_pgd10", "targeted_pgd12"])
"""


def test_the_same_seed_gives_the_same_records_in_two_processes(root, tmp_path, monkeypatch):
    """Both train from nothing; this process has trained, attacked and drawn before."""
    with monkeypatch.context() as patch:
        patch.setenv("MILIB_OUTPUTS", str(tmp_path / "other"))
        subprocess.run([sys.executable, "-c", SCRIPT, str(root), json.dumps(OVERRIDES)], check=True)
    monkeypatch.setenv("MILIB_OUTPUTS", str(tmp_path / "here"))
    study = Study(params.load(root / "params" / "digits.yaml", OVERRIDES), "test")
    row = study.params.row("interpolated_at", "mi_ol")
    experiments.score(study, row, ["clean", "untargeted_pgd10", "targeted_pgd12"])

    def records(side: str) -> dict[str, dict]:
        paths = (tmp_path / side / "repeat" / "records").glob("*.json")
        return {path.name: json.loads(path.read_text()) for path in paths}

    here, other = records("here"), records("other")
    assert len(here) == 1
    assert here.keys() == other.keys()
    for name, record in here.items():
        assert record["result"] == other[name]["result"]
        assert record["identity"]["weights"] == other[name]["identity"]["weights"]


@pytest.mark.parametrize(
    ("fixed", "expected"), [(0.04, 2 * 8 * (0.04 + 0.128)), (1.0, 2 * 64 * (1.0 + 0.016))]
)
def test_the_estimate_is_of_whole_batches_where_they_are_quick(
    monkeypatch, splits, fixed, expected
):
    """A step costs `fixed` seconds and a millisecond an image.

    There are 1,024 training images, batches of 128 and two epochs.
    """
    now = [0.0]

    class Timed:
        def __init__(self, settings, *_):
            self.size, self.step, self.total = settings["batch_size"], 0, torch.zeros(())
            self.steps_per_epoch = 1024 // self.size

        def order(self):
            return None

        def one_step(self, _order):
            now[0] += fixed + self.size / 1000

    monkeypatch.setattr(training, "Trainer", Timed)
    monkeypatch.setattr(training.time, "perf_counter", lambda: now[0])
    found = estimate.timed_seconds({"batch_size": 128, "epochs": 2}, splits, "fp32")
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("name", training.MODELS)
def test_a_plain_recipe_has_the_keys_of_a_runs(run, recipe, name):
    """The library's tests train from plain recipes: they must stay what the study passes."""
    assert recipe(name).keys() == weights.recipe(run, name).keys()
