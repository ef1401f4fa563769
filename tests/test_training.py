"""The objectives, what identifies a training, and that it resumes and repeats exactly."""

import dataclasses
import json
import subprocess
import sys

import pytest
import torch

from milib import artifacts, attacks, experiments, models, params, rng, training
from milib.study import Study


class Interruption(Exception):  # noqa: N818
    """What stops a training in its middle."""


@pytest.fixture(scope="module")
def few(splits):
    """300 training and 50 held-out digits: five steps of 64 an epoch, the last a short one."""
    return dataclasses.replace(splits, train=splits.train.take(slice(300)), heldout=splits.heldout.take(slice(50)))


@pytest.fixture(scope="module")
def recipe(run):
    """recipe(name): a training of three epochs."""
    short = dataclasses.replace(run, epochs=3, adversarial_share=1.0, train_steps=3)
    return lambda name, **changes: training.recipe(dataclasses.replace(short, **changes), name)


def train(settings, splits, state):
    return training.train(settings, splits, state, epsilon=0.1, precision="fp32", chunk=50, report=lambda entry: None)


def batch(settings, data, step=(0, 0), count=64) -> training.Batch:
    data = data.take(slice(count))
    numbers = training.numbers(settings, data.index, *step)
    start = attacks.random_start(rng.Draws(settings["seed"], settings["name"], "start"), data.index, 0 * data.index + step[0], data.images.shape[1:], 0.1)
    attacker = models.frozen(models.build("small", 10, 1, 0))
    return training.Batch(data.pixels(), data.labels, data.classes, settings, numbers, start, attacker)


def mixing(step: training.Batch, part: str) -> list[torch.Tensor]:
    """Two permutations and the mixup ratios of a part of a step."""
    return [step.numbers[f"{part}_{key}"] for key in ("first", "second", "ratio")]


# What identifies a checkpoint

IRRELEVANT = {"run": "other", "draws": 7, "chunk": 5, "n_test": 9, "steps": (3,), "threads": 1, "device": "cpu", "data_root": "x", "step_size": 0.01}


@pytest.mark.parametrize("name", params.MODELS)
def test_recipe_changes_with_what_decides_the_weights_and_with_nothing_else(run, recipe, name):
    base = recipe(name)
    assert recipe(name, **IRRELEVANT) == base
    adversarial, mixes = name in training.ADVERSARIAL, name not in ("erm", "at")
    changes = {"seed": 1, "epochs": 5, "n_train": 9, "batch_size": 32, "lr": 0.01, "lr_interpolated": 0.01, "alpha": 0.5, "epsilon": 0.05, "train_steps": 4}
    expected = dict.fromkeys(("seed", "epochs", "n_train", "batch_size"), True) | {"lr": name != "interpolated_at"}
    expected |= {"lr_interpolated": name == "interpolated_at", "alpha": mixes and name != "matched_mixup"}
    expected |= {"epsilon": adversarial, "train_steps": adversarial}
    assert {key: recipe(name, **{key: value}) != base for key, value in changes.items()} == expected
    assert len({artifacts.digest(recipe(other)) for other in params.MODELS}) == len(params.MODELS)


def test_epochs_of_adversarial_and_long_trainings(recipe):
    epochs = {name: recipe(name, epochs=20, adversarial_share=0.25, interpolated_share=1.6)["epochs"] for name in params.MODELS}
    assert epochs == dict.fromkeys(params.MODELS, 20) | {"at": 5, "interpolated_at": 8, "long_mixup": 40}


# Objectives


@pytest.mark.parametrize("name", params.MODELS)
def test_every_objective_learns(recipe, few, tmp_path, name):
    weights, log = train(recipe(name), few, tmp_path / "state")
    assert [entry["epoch"] for entry in log] == list(range(1, recipe(name)["epochs"] + 1))
    assert log[-1]["loss"] < log[0]["loss"] - 0.02
    assert all(0 <= entry["heldout_pgd10"] <= entry["heldout_clean"] for entry in log)
    assert all(torch.isfinite(value).all() for value in weights.values() if value.is_floating_point())


@pytest.mark.parametrize(("name", "attacked"), [("erm", 20), ("at", 50)])
def test_held_out_images_are_attacked_after_every_epoch(recipe, few, monkeypatch, name, attacked):
    monkeypatch.setattr(training, "ATTACKED", 20)
    trainer, epsilon = training.Trainer(recipe(name), few, "fp32"), 0.1
    seen = few.heldout.take(slice(attacked))
    start = attacks.random_start(rng.Draws(trainer.settings["seed"], "held out"), seen.index, 0 * seen.index, seen.pixels().shape[1:], epsilon)
    net = trainer.model.eval()
    with torch.no_grad():
        clean = (net(few.heldout.pixels()).argmax(1) == few.heldout.labels).float().mean().item()
    x = attacks.pgd(net, seen.pixels(), seen.labels, epsilon=epsilon, step_size=epsilon / 4, steps=[10], start=start)[:, 0]
    robust = (net(x).argmax(1) == seen.labels).float().mean().item()
    found = trainer.heldout(50, epsilon)
    assert found == {"heldout_clean": pytest.approx(clean), "heldout_pgd10": pytest.approx(robust), "attacked": attacked}


@pytest.mark.parametrize("name", ["mixup", "matched_mixup"])
def test_mixup_targets_and_ratios(recipe, few, name):
    step = batch(recipe(name), few.train)
    first, second, ratio = mixing(step, "mix")
    assert ratio.shape == (64,)
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(64))
    if name == "matched_mixup":
        assert (ratio == 0.5).all()  # MI-OL's ratio in digits.yaml
    else:
        assert len(ratio.unique()) == 64  # one lambda per example
        many = torch.cat([mixing(batch(recipe(name), few.train, (0, k)), "mix")[2] for k in range(100)])
        assert torch.histc(many, 8, 0, 1).sub(800).abs().max() < 130  # Beta(1, 1)
    net = models.build("small", 10, 1, 0)
    lam = ratio.view(-1, 1, 1, 1)
    log = net(lam * step.x[first] + (1 - lam) * step.x[second]).log_softmax(1)
    rows = torch.arange(64)
    expected = -(ratio * log[rows, step.y[first]] + (1 - ratio) * log[rows, step.y[second]]).mean()
    torch.testing.assert_close(training.mixup(net, step), expected)


def test_mixing_differs_between_steps_parts_and_models(recipe, few):
    settings = recipe("mixup")
    draws = [mixing(batch(settings, few.train, step), part) for step, part in (((0, 0), "mix"), ((0, 1), "mix"), ((1, 0), "mix"))]
    draws.append(mixing(batch(recipe("long_mixup"), few.train), "mix"))
    draws += [mixing(batch(recipe("interpolated_at"), few.train), part) for part in ("clean", "adversarial")]
    assert len({tuple(first.tolist()) for first, _, _ in draws}) == len(draws)
    assert not torch.equal(draws[0][0], draws[0][1])


def test_crafting_happens_in_eval_mode_on_the_unmixed_batch(recipe, few):
    step, net = batch(recipe("interpolated_at"), few.train), models.build("small", 10, 1, 0).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    x = training.craft(net, step)
    assert net.training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    expected = attacks.pgd(models.frozen(net), step.x, step.y, epsilon=0.1, step_size=0.025, steps=[3], start=step.start)[:, 0]
    assert torch.equal(x, expected)
    assert not torch.equal(training.craft(net, batch(step.settings, few.train, (1, 0))), x)  # another start each epoch


@pytest.mark.parametrize(("name", "sizes"), [("interpolated_at", [128]), ("at", [64, 64]), ("mixup", [64])])
def test_forwards_of_a_step(recipe, few, name, sizes):
    step, seen = batch(recipe(name), few.train), []
    net = models.build("small", 10, 1, 0).train()
    crafted = training.craft(net, step) if name in training.ADVERSARIAL else None

    def note(module, inputs):
        if module.training:
            seen.append(inputs[0])

    net.register_forward_pre_hook(note)
    training.OBJECTIVES[name](net, step)
    assert [len(x) for x in seen] == sizes
    if name == "at":  # the adversarial half first
        assert torch.equal(seen[0], crafted)
        assert torch.equal(seen[1], step.x)
    if name == "interpolated_at":  # each half mixed by itself
        for half, x, part in zip(seen[0].chunk(2), (step.x, crafted), ("clean", "adversarial"), strict=True):
            first, second, ratio = mixing(step, part)
            ratio = ratio.view(-1, 1, 1, 1)
            torch.testing.assert_close(half, ratio * x[first] + (1 - ratio) * x[second])


def test_schedules():
    step = {"schedule": "step", "lr": 0.3}
    rates = [training.rate(step, progress) for progress in (0, 0.499, 0.5, 0.749, 0.75, 0.999)]
    assert rates == pytest.approx([0.3, 0.3, 0.03, 0.03, 0.003, 0.003])
    cycle = [training.rate({"schedule": "onecycle", "lr": 0.3}, k / 1000) for k in range(1000)]
    assert max(cycle) == pytest.approx(0.3)
    assert cycle.index(max(cycle)) == 200
    assert min(cycle[0], cycle[-1]) < 0.02


# Resuming and repeating


@pytest.mark.parametrize("name", ["erm", "manifold_mixup", "interpolated_at"])
def test_an_interrupted_training_resumes_to_the_same_bits(recipe, few, tmp_path, monkeypatch, name):
    settings, state, one_step, calls = recipe(name), tmp_path / "state.safetensors", training.Trainer.one_step, []
    expected, log = train(settings, few, tmp_path / "unused")

    def stops(trainer, order):
        if len(calls) == 7:  # in the middle of the second epoch
            raise Interruption
        calls.append(trainer.step)
        one_step(trainer, order)

    with monkeypatch.context() as patch:
        patch.setattr(training, "STATE_SECONDS", 0)
        patch.setattr(training.Trainer, "one_step", stops)
        with pytest.raises(Interruption):
            train(settings, few, state)
    monkeypatch.setattr(training.Trainer, "one_step", lambda trainer, order: (calls.append(trainer.step), one_step(trainer, order)))
    found, resumed = train(settings, few, state)
    assert calls == [0, 1, 2, 3, 4] * 3  # no step twice, none left out
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert [{k: v for k, v in entry.items() if k != "seconds"} for entry in resumed] == [{k: v for k, v in entry.items() if k != "seconds"} for entry in log]


OVERRIDES = {"run": "repeat", "epochs": 2, "n_train": 200, "n_test": 20, "draws": 4, "draw_sets": 2, "steps": [10, 12], "chunk": 50, "train_steps": 2}
SCRIPT = """
import json, sys
from milib import experiments, params
from milib.study import Study
root, overrides = sys.argv[1], json.loads(sys.argv[2])
study = Study(params.load(f"{root}/params/digits.yaml", overrides), "test")
experiments.score(study, study.params.row("interpolated_at", "mi_ol"), ["clean", "untargeted_pgd10", "targeted_pgd12"])
"""


def test_the_same_seed_gives_the_same_records_in_two_processes(root, tmp_path, monkeypatch):
    """Both train from nothing; this process has trained, attacked and drawn before."""
    with monkeypatch.context() as patch:
        patch.setenv("MILIB_OUTPUTS", str(tmp_path / "other"))
        subprocess.run([sys.executable, "-c", SCRIPT, str(root), json.dumps(OVERRIDES)], check=True)
    monkeypatch.setenv("MILIB_OUTPUTS", str(tmp_path / "here"))
    study = Study(params.load(root / "params" / "digits.yaml", OVERRIDES), "test")
    experiments.score(study, study.params.row("interpolated_at", "mi_ol"), ["clean", "untargeted_pgd10", "targeted_pgd12"])
    records = [{path.name: json.loads(path.read_text()) for path in (tmp_path / side / "repeat" / "records").glob("*.json")} for side in ("here", "other")]
    assert len(records[0]) == 1
    assert records[0].keys() == records[1].keys()
    for name, record in records[0].items():
        assert record["result"] == records[1][name]["result"]
        assert record["identity"]["weights"] == records[1][name]["identity"]["weights"]


@pytest.mark.parametrize(("fixed", "expected"), [(0.04, 2 * 8 * (0.04 + 0.128)), (1.0, 2 * 64 * (1.0 + 0.016))])
def test_the_estimate_is_of_whole_batches_where_they_are_quick(monkeypatch, splits, fixed, expected):
    """A step costs `fixed` seconds and a millisecond an image; 1,024 training images, batches of 128, two epochs."""
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
    assert training.estimate_seconds({"batch_size": 128, "epochs": 2}, splits, "fp32") == pytest.approx(expected)
