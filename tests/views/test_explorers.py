"""Explorers without a browser.

What a control changes, that the numbers are the library's, and what stands where no frontend is.
"""

import base64
import copy
import html
import io
import re

import numpy as np
import PIL.Image
import pytest
import torch

from milib import inference, rng, theory
from milib.class_names import class_names
from milib.study import experiments, params, paths
from milib.study.rows import PRIMARY, correct, tradeoff_points
from milib.study.study import Study
from milib.views import attack_explorer, explorer, explorers
from milib.views.input_explorer import succeeded
from milib.views.written import of_pixels

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
def test_every_control_changes_pictures_and_numbers_and_back(inputs, control):
    inputs.set(image=0)
    before = inputs.pngs, inputs.text
    kept = inputs.values[control]
    inputs.set(**{control: CHANGES[control]})
    assert inputs.pngs != before[0] and inputs.text != before[1]
    inputs.set(**{control: kept})
    assert (inputs.pngs, inputs.text) == before


def test_numbers_are_those_of_the_model_and_the_record(run, inputs, detection):
    inputs.set(steps=0, image=0)
    points, shown = run.points(1), r"bare +\d +([\d.]+)"
    bare = inference.probabilities(run.model("mixup").scorer, points.x, 1)[0]
    there = float(bare[points.y[0]])
    assert number(inputs.text, shown) == pytest.approx(there, abs=6e-4)
    inputs.set(steps=10)
    attacked = run.examples("mixup", "untargeted", 1, (10,))[10]
    bare = inference.probabilities(run.model("mixup").scorer, attacked, 1)[0]
    there = float(bare[points.y[0]])
    assert number(inputs.text, shown) == pytest.approx(there, abs=6e-4)
    clean = np.array(detection["mixup"]["scores"]["clean"]["mi_pl"])
    flagged = 100 * (clean > inputs.values["threshold"]).mean()
    assert number(inputs.text, r"and ([\d.]+) % of clean") == pytest.approx(flagged, abs=0.06)


def test_the_text_says_where_the_roc_does_not_hold(run, inputs):
    inputs.set(draws=run.params.draws)
    assert f"lambda 0.5, N {run.params.draws}. At this threshold" in inputs.text
    assert "do not hold there" not in inputs.text
    for moved in ({"ratio": 0.25}, {"draws": 10}):
        kept = {name: inputs.values[name] for name in moved}
        inputs.set(**moved)
        assert "lambda 0.5, N 3. At this" in inputs.text and "do not hold there" in inputs.text
        inputs.set(**kept)


def test_the_first_image_is_one_whose_attack_succeeds(run, detection):
    record = copy.deepcopy(detection["mixup"])
    labels, scores = record["labels"], record["scores"]
    scores["clean"]["predictions"] = list(labels)
    scores[PRIMARY]["predictions"] = list(labels)
    scores[PRIMARY]["mi_ol"] = list(range(len(labels)))
    for image in (2, 5):
        scores[PRIMARY]["predictions"][image] = (labels[image] + 1) % 10
    assert succeeded(record) == [5, 2], "MI-OL takes most from 5"
    scores["clean"]["predictions"][5] = (labels[5] + 1) % 10
    assert succeeded(record) == [2], "5 was wrong without the attack"
    assert explorers.inputs(run, {"mixup": record}).values["image"] == 2
    scores["clean"]["predictions"][2] = (labels[2] + 1) % 10
    assert explorers.inputs(run, {"mixup": record}).values["image"] == 0, "none does"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (8 / 255, "8/255"),
        (1.5 * 8 / 255, "12/255"),
        (0.1, "0.1"),
        (2 * 0.1, "0.2"),
        (0.25 * 0.1, "0.025"),
        (0.05 * 3, "0.15"),
        (1, "1"),
        (0.0123456, "0.0123"),
        (1e-9, "1e-09"),
    ],
)
def test_sizes_read_as_a_person_writes_them(value, text):
    assert of_pixels(value) == text


def test_labels_of_controls_read_as_a_person_writes_them(inputs):
    labels = {name: list(control.values) for name, control in inputs.controls.items()}
    assert labels["epsilon"] == ["0.025", "0.05", "0.1", "0.15", "0.2"]
    assert labels["ratio"][:3] == ["0.05", "0.1", "0.15"] and labels["ratio"][-1] == "1"
    assert labels["threshold"][0] == "-0.50" and labels["threshold"][-1] == "+1.00"
    for control in inputs.controls.values():
        assert control.hint and control.told()["labels"]


def test_classes_have_names_where_the_data_set_names_them():
    names = class_names("cifar100", 100)
    assert names == sorted(names) and len(set(names)) == 100
    assert class_names("cifar10", 10)[3] == "cat" and class_names("digits", 3) == ["0", "1", "2"]


def test_a_target_is_approached_and_a_wider_ball_is_stronger(inputs):
    inputs.set(target="2")
    path = inputs.draw.__self__.trajectory(0, "mixup", 0.1, "2")
    guess = inference.probabilities(inputs.draw.__self__.study.model("mixup").scorer, path, 1)[:, 2]
    assert len(path) == explorers.MOST_STEPS + 1 and guess[-1] > guess[0]
    assert (path - path[:1]).abs().max() <= 0.1 + 1e-6


def test_fig2_shows_the_records_at_one_ratio(run):
    records = {}
    for mode in ("pl", "ol"):
        for ratio in (0.3, 0.6):
            records[mode, ratio] = experiments.mixed_predictions(run, "mixup", mode, ratio)
    fig2 = explorers.fig2(records, run.params.classes)
    first = fig2.pngs
    fig2.set(ratio=0.3)
    assert all(png != before for png, before in zip(fig2.pngs, first, strict=True))
    values = theory.measured(records["ol", 0.3], "ol", 0.3)
    chosen = values["eq2"] if values["eq2"].any() else np.ones(len(values["eq2"]), bool)
    holds = 100 * theory.ric(values["delta_y"], values["delta_yhat"])[chosen].mean()
    shown = number(fig2.text, r"MI-OL: .* RIC holds on ([\d.]+) %")
    assert shown == pytest.approx(holds, abs=0.06)


@pytest.fixture(scope="module")
def tradeoff(run):
    return experiments.tradeoff(run, run.params.row("mixup", "mi_ol"))


def test_a_picked_point_of_the_tradeoff_is_the_records(tradeoff):
    explorer = explorers.tradeoff({("mixup", "mi_ol"): tradeoff})
    robust = tradeoff_points(tradeoff)[:, 1]
    assert robust[explorer.values["point"][2]] == robust.max(), "the most robust one first"
    explorer.set(point=("mixup", "mi_ol", 2))
    clean = 100 * correct(tradeoff["cells"][2]["clean"], tradeoff["labels"]).mean()
    ratio = tradeoff["settings"][2]["ratio"]
    assert explorer.text.startswith(f"Mixup + MI-OL, ratio {ratio}:\nclean {clean:.1f} [")


def test_a_click_picks_the_point_that_it_hits(tradeoff):
    tradeoff = copy.deepcopy(tradeoff)
    labels = tradeoff["labels"]
    for number, cell in enumerate(tradeoff["cells"]):  # no two points in one place
        guesses = [label if i < 3 + number else -1 for i, label in enumerate(labels)]
        cell[PRIMARY]["predictions"] = [guesses]
    explorer = explorers.tradeoff({("mixup", "mi_ol"): tradeoff})
    [canvas], _ = explorer.draw(("mixup", "mi_ol", 4))
    box = canvas.agg.figure.bbox
    x, y = canvas.axes["A"].transData.transform(tradeoff_points(tradeoff)[4])
    click = {"picture": 0, "across": x / box.width, "down": 1 - y / box.height}
    explorer.set(point=("mixup", "mi_ol", 0))
    answers = explorer.front.drawn
    explorer._clicked(explorer.front, click, [])
    assert explorer.values["point"] == ("mixup", "mi_ol", 4)
    assert explorer.front.drawn == answers + 1
    explorer._clicked(explorer.front, click | {"across": 0, "down": 0}, [])
    assert explorer.values["point"] == ("mixup", "mi_ol", 4)
    assert explorer.front.drawn == answers + 2, "a miss is answered too: the wait ends"


def test_an_error_while_drawing_ends_the_wait(inputs):
    answers = inputs.front.drawn
    inputs.draw = lambda **_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        inputs.set(threshold=-0.5)
    assert inputs.front.drawn == answers + 1


def test_without_a_frontend_pictures_stand_alone(inputs, monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(explorer, "display", lambda item, **_: shown.append(item))
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    inputs.show()
    assert [image.data for image in shown] == inputs.pngs
    assert [image.alt for image in shown] == inputs.alts
    assert capsys.readouterr().out == inputs.text + "\n"
    monkeypatch.setenv("JPY_SESSION_NAME", "notebooks/05_detection.ipynb")
    shown.clear()
    inputs.show()
    still, live = shown
    assert "application/vnd.jupyter.widget-view+json" in live and not live["text/plain"]
    kept = re.findall(r'src="data:image/png;base64,([^"]+)"', still["text/html"])
    assert [base64.b64decode(each) for each in kept] == inputs.pngs
    assert html.escape(inputs.text) in still["text/html"] and still["text/plain"] == inputs.text


# The explorer of 08


@pytest.fixture(scope="module")
def attacked(run):
    return attack_explorer.attacked(run)


def told(text: str, attack: str) -> float:
    return number(text, rf"{attack} +([\d.]+) ")


def test_attacks_agree_without_steps_and_the_one_that_knows_is_strongest(attacked):
    attacked.set(steps=0)
    before = {attack: told(attacked.text, attack) for attack in attack_explorer.LINES}
    assert len(set(before.values())) == 1
    attacked.set(steps=20)
    after = {attack: told(attacked.text, attack) for attack in attack_explorer.LINES}
    assert min(after, key=after.get) == "adaptive" and after["adaptive"] < before["adaptive"]


def test_its_numbers_are_the_defenses(run, attacked):
    attacked.set(steps=0, image=3, draws=30, ratio=0.4)
    points = run.points(4)
    mi = run.defense({"model": "mixup", "defense": "mi_ol", "ratio": 0.4}, 30)
    draws = rng.Draws(run.params.seed, "explore", "score")
    found = mi.probabilities(points.x[3:], draws, points.index[3:])[0, points.y[3]]
    assert told(attacked.text, "oblivious") == pytest.approx(float(found), abs=6e-4)


def test_its_examples_stay_in_the_ball(run, attacked):
    made = attacked.draw.__self__
    for attack in attack_explorer.LINES:
        found = made.examples(range(0, 2), "mixup", attack, 0.5, 3)
        assert found.shape[:2] == (2, len(attack_explorer.STEPS))
        assert (found - found[:, :1]).abs().max() <= run.params.epsilon + 1e-6
    assert made.source("mixup") != "mixup"


@pytest.mark.parametrize(
    "change", [{"samples": 1}, {"ratio": 0.2}, {"draws": 1}, {"model": "interpolated_at"}]
)
def test_its_controls_change_picture_and_numbers(attacked, change):
    attacked.set(steps=10, image=1, draws=30, ratio=0.5, samples=3, model="mixup")
    before = attacked.pngs, attacked.text
    attacked.set(**change)
    assert attacked.pngs != before[0] and attacked.text != before[1]


def test_nothing_is_cut_at_an_edge(inputs, tradeoff, attacked):
    """The outermost pixels of each picture are bare, also with the most curves."""
    defenses = ("mi_ol", "mi_pl", "mi_combined", "gaussian_noise", "rotation", "xie", "guo")
    of_all = explorers.tradeoff({("mixup", defense): tradeoff for defense in defenses})
    for made in (inputs, of_all, attacked):
        for png, alt in zip(made.pngs, made.alts, strict=True):
            pixels = np.asarray(PIL.Image.open(io.BytesIO(png)))
            ink = pixels.min(-1) < 250
            edges = {"top": ink[0], "bottom": ink[-1], "left": ink[:, 0], "right": ink[:, -1]}
            assert not [name for name, edge in edges.items() if edge.any()], alt


def test_global_generators_are_left_alone(inputs):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    inputs.set(image=5)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()
