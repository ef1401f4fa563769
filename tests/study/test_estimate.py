"""How long a training takes: the rough estimate refuses what is clear, timed steps the rest."""

import pytest
import torch

from milib import training
from milib.errors import UserError
from milib.study import estimate, params
from milib.study.study import Study
from milib.study.weights import recipe


@pytest.fixture
def study_of(root, tmp_path, monkeypatch):
    """study_of(**changes): the digits on a CPU, without weights."""
    monkeypatch.setenv("MILIB_OUTPUTS", str(tmp_path))

    def make(**changes) -> Study:
        given = {"run": "tests", "device": "cpu", "n_train": 200}
        return Study(params.load(root / "params" / "digits.yaml", given | changes), "test")

    return make


def image_takes(seconds: float, monkeypatch) -> None:
    monkeypatch.setattr(estimate, "image_seconds", lambda *_: seconds)


def test_a_pass_of_an_image_is_timed_on_the_net(monkeypatch, splits):
    """A forward takes four seconds of the CPU for FEW images, on two threads."""
    now, shapes = [0.0], []

    def build(*_) -> torch.nn.Module:
        class Net(torch.nn.Module):
            def forward(self, x):
                now[0] += 4
                shapes.append(tuple(x.shape))

        return Net()

    monkeypatch.setattr(estimate.models, "build", build)
    monkeypatch.setattr(estimate.time, "process_time", lambda: now[0])
    monkeypatch.setattr(estimate.torch, "get_num_threads", lambda: 2)
    assert estimate.image_seconds("small", splits) == 4 / estimate.FEW / 2
    assert set(shapes) == {(estimate.FEW, 1, 8, 8)}


def test_an_attack_in_training_counts_its_steps(study_of):
    study = study_of(epochs=2, train_steps=10, adversarial_share=1.0)
    times = {}
    for name in ("mixup", "at"):
        times[name] = estimate.rough_seconds(recipe(study.params, name), study.splits, 0.5)
    assert times == {"mixup": 3 * 0.5 * 2 * 200, "at": 26 * 0.5 * 2 * 200}


def test_years_are_refused_before_a_step_is_timed(study_of, monkeypatch):
    monkeypatch.setattr(training, "Trainer", None)  # would fail
    image_takes(20.0, monkeypatch)
    with pytest.raises(UserError) as error:
        study_of(epochs=100_000).require("erm", "mixup")
    found = str(error.value)
    assert "no weights of erm, mixup in outputs/tests" in found and "\n" not in found
    assert found.endswith("takes about 76.1 years: run it on a machine with CUDA")


def test_what_is_not_clear_is_timed_and_days_can_be_asked_for(study_of, monkeypatch):
    """A rough hour and a half lies below CLEARLY hours: timed steps say it is three."""
    image_takes(5400 / (3 * 20 * 200), monkeypatch)
    monkeypatch.setattr(estimate, "timed_seconds", lambda *_: 3 * 3600)
    study = study_of(epochs=20)
    with pytest.raises(UserError) as error:
        study.require("erm")
    for words in ("takes about 3.0 h", "`-p max_hours 4`", "`-p epochs 1` to try: about 9 min"):
        assert words in str(error.value), str(error.value)


def test_what_the_limit_allows_is_trained(study_of, monkeypatch):
    image_takes(1e9, monkeypatch)
    study_of(epochs=1).require("erm")  # one epoch is never refused
    image_takes(1e-9, monkeypatch)
    monkeypatch.setattr(estimate, "timed_seconds", lambda *_: 1)
    study = study_of(epochs=2)
    study.require("erm")
    assert study.models.find("erm")
