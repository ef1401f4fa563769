"""Explorers without a browser.

What a control changes, that the numbers are the library's, and what stands where no frontend is.
"""

import base64
import re

import numpy as np
import pytest
import torch

from milib import inference, theory
from milib.study import experiments, params, paths
from milib.study.rows import correct
from milib.study.study import Study
from milib.views import explorers

TINY = {
    "n_test": 12,
    "n_theory": 8,
    "epochs": 2,
    "adversarial_share": 1,
    "train_steps": 1,
    "draws": 3,
    "draw_sets": 1,
    "steps": [10],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A study with small models, whose files stay for the module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MILIB_OUTPUTS", str(tmp_path_factory.mktemp("explore")))
        yield Study(params.load(paths.project_root() / "params" / "digits.yaml", TINY), "test")


@pytest.fixture(scope="module")
def detection(run):
    return {name: experiments.detection(run, name) for name in ("mixup", "interpolated_at")}


@pytest.fixture
def inputs(run, detection):
    return explorers.inputs(run, detection)


def number(text: str, pattern: str) -> float:
    return float(re.search(pattern, text)[1])


CHANGES = {
    "image": 3,
    "model": "interpolated_at",
    "ratio": 0.25,
    "draws": 10,
    "epsilon": 0.05,
    "steps": 50,
    "target": "2",
    "threshold": -0.5,
}


@pytest.mark.parametrize("control", CHANGES)
def test_every_control_changes_picture_and_numbers_and_back(inputs, control):
    before = inputs.picture.value, inputs.text
    kept = inputs.controls[control].value
    inputs.controls[control].value = CHANGES[control]
    assert inputs.picture.value != before[0] and inputs.text != before[1]
    assert inputs.text in inputs.numbers.value
    inputs.controls[control].value = kept
    assert (inputs.picture.value, inputs.text) == before


def test_numbers_are_those_of_the_model_and_the_record(run, inputs, detection):
    inputs.controls["steps"].value = 0
    points, shown = run.points(1), r"bare: .* F_y ([\d.]+)"
    bare = inference.probabilities(run.model("mixup").scorer, points.x, 1)[0]
    there = float(bare[points.y[0]])
    assert number(inputs.text, shown) == pytest.approx(there, abs=6e-4)
    inputs.controls["steps"].value = 10
    attacked = run.examples("mixup", "untargeted", 1, (10,))[10]
    bare = inference.probabilities(run.model("mixup").scorer, attacked, 1)[0]
    there = float(bare[points.y[0]])
    assert number(inputs.text, shown) == pytest.approx(there, abs=6e-4)
    clean = np.array(detection["mixup"]["scores"]["clean"]["mi_pl"])
    flagged = 100 * (clean > inputs.controls["threshold"].value).mean()
    assert number(inputs.text, r"and ([\d.]+) % of clean") == pytest.approx(flagged, abs=0.06)


def test_a_target_is_approached_and_a_wider_ball_is_stronger(inputs):
    inputs.controls["target"].value = "2"
    path = inputs.draw.__self__.trajectory(0, "mixup", 0.1, "2")
    guess = inference.probabilities(inputs.draw.__self__.study.model("mixup").scorer, path, 1)[:, 2]
    assert len(path) == explorers.MOST_STEPS + 1 and guess[-1] > guess[0]
    assert (path - path[:1]).abs().max() <= 0.1 + 1e-6


def test_fig2_shows_the_records_at_one_ratio(run):
    records = {}
    for mode in ("pl", "ol"):
        for ratio in (0.3, 0.6):
            records[mode, ratio] = experiments.mixed_predictions(run, "mixup", mode, ratio)
    explorer = explorers.fig2(records, run.params.classes)
    first = explorer.picture.value
    explorer.controls["ratio"].value = 0.3
    assert explorer.picture.value != first
    values = theory.measured(records["ol", 0.3], "ol", 0.3)
    chosen = values["eq2"] if values["eq2"].any() else np.ones(len(values["eq2"]), bool)
    holds = 100 * theory.ric(values["delta_y"], values["delta_yhat"])[chosen].mean()
    shown = number(explorer.text, r"MI-OL: .* RIC holds on ([\d.]+) %")
    assert shown == pytest.approx(holds, abs=0.06)


def test_a_picked_point_of_the_tradeoff_is_the_records(run):
    row = run.params.row("mixup", "mi_ol")
    record = experiments.tradeoff(run, row)
    explorer = explorers.tradeoff({("mixup", "mi_ol"): record})
    explorer.controls["point"].value = ("mixup", "mi_ol", 2)
    clean = 100 * correct(record["cells"][2]["clean"], record["labels"]).mean()
    ratio = record["settings"][2]["ratio"]
    assert explorer.text.startswith(f"Mixup + MI-OL, ratio {ratio}: clean {clean:.1f} [")


def test_without_a_frontend_a_picture_stands_alone(inputs, monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(explorers, "display", lambda item, **_: shown.append(item))
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    inputs.show()
    assert [type(item).__name__ for item in shown] == ["Image"]
    assert shown[0].data == inputs.picture.value
    assert capsys.readouterr().out == inputs.text + "\n"
    monkeypatch.setenv("JPY_SESSION_NAME", "notebooks/05_detection.ipynb")
    inputs.show()
    assert "application/vnd.jupyter.widget-view+json" in shown[1]
    assert shown[1]["text/plain"] == inputs.text
    kept = base64.b64decode(shown[1]["image/png"])
    assert kept == inputs.picture.value, "a page made of the saved notebook has the picture"


def test_global_generators_are_left_alone(inputs):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    inputs.controls["image"].value = 5
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()
