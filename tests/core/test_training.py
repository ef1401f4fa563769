"""The objectives, what identifies a training, and that it resumes and repeats exactly."""

import dataclasses

import pytest
import torch

from milib import attacks, files, inference, models, objectives, recipes, rng, training
from milib.errors import UserError
from milib.objectives import Batch


class Interruption(Exception):  # noqa: N818
    """What stops a training in its middle."""


@pytest.fixture(scope="module")
def few(splits):
    """300 training and 50 held-out digits: five steps of 64 an epoch, the last a short one."""
    return dataclasses.replace(
        splits, train=splits.train.take(slice(300)), heldout=splits.heldout.take(slice(50))
    )


@pytest.fixture(scope="module")
def short(recipe):
    """short(name): a training of three epochs."""

    def make(name: str) -> dict:
        found = recipe(name, epochs=3)
        return found | ({"train_steps": 3} if name in training.ADVERSARIAL else {})

    return make


def train(settings, splits, state):
    return training.train(
        settings, splits, state, epsilon=0.1, precision="fp32", chunk=50, report=lambda entry: None
    )


def batch(settings, data, step=(0, 0), count=64) -> Batch:
    data = data.take(slice(count))
    numbers = objectives.numbers(settings, data.index, *step)
    start = attacks.random_start(
        rng.Draws(settings["seed"], settings["name"], "start"),
        data.index,
        0 * data.index + step[0],
        data.images.shape[1:],
        0.1,
    )
    attacker = inference.frozen(models.build("small", 10, 1, 0))
    return Batch(data.pixels(), data.labels, data.classes, settings, numbers, start, attacker)


def mixing(step: Batch, part: str) -> list[torch.Tensor]:
    """Two permutations and the mixup ratios of a part of a step."""
    return [step.numbers[f"{part}_{key}"] for key in ("first", "second", "ratio")]


# Objectives


@pytest.mark.parametrize("name", training.MODELS)
def test_every_objective_learns(short, few, tmp_path, name):
    weights, log = train(short(name), few, tmp_path / "state")
    assert [entry["epoch"] for entry in log] == list(range(1, short(name)["epochs"] + 1))
    assert log[-1]["loss"] < log[0]["loss"] - 0.02
    assert all(0 <= entry["heldout_pgd10"] <= entry["heldout_clean"] for entry in log)
    assert all(
        torch.isfinite(value).all() for value in weights.values() if value.is_floating_point()
    )


@pytest.mark.parametrize(("name", "attacked"), [("erm", 20), ("at", 50)])
def test_held_out_images_are_attacked_after_every_epoch(short, few, monkeypatch, name, attacked):
    monkeypatch.setattr(training, "ATTACKED", 20)
    trainer, epsilon = training.Trainer(short(name), few, "fp32"), 0.1
    seen = few.heldout.take(slice(attacked))
    start = attacks.random_start(
        rng.Draws(trainer.settings["seed"], "held out"),
        seen.index,
        0 * seen.index,
        seen.pixels().shape[1:],
        epsilon,
    )
    net = trainer.model.eval()
    with torch.no_grad():
        clean = (net(few.heldout.pixels()).argmax(1) == few.heldout.labels).float().mean().item()
    x = attacks.pgd(
        net,
        seen.pixels(),
        seen.labels,
        epsilon=epsilon,
        step_size=epsilon / 4,
        steps=[10],
        start=start,
    )[:, 0]
    robust = (net(x).argmax(1) == seen.labels).float().mean().item()
    found = trainer.heldout(50, epsilon)
    assert found == {
        "heldout_clean": pytest.approx(clean),
        "heldout_pgd10": pytest.approx(robust),
        "attacked": attacked,
    }


@pytest.mark.parametrize("name", ["mixup", "matched_mixup"])
def test_mixup_targets_and_ratios(short, few, name):
    step = batch(short(name), few.train)
    first, second, ratio = mixing(step, "mix")
    assert ratio.shape == (64,)
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(64))
    if name == "matched_mixup":
        assert (ratio == 0.5).all()  # MI-OL's ratio in digits.yaml
    else:
        assert len(ratio.unique()) == 64  # one lambda per example
        many = torch.cat(
            [mixing(batch(short(name), few.train, (0, k)), "mix")[2] for k in range(100)]
        )
        assert torch.histc(many, 8, 0, 1).sub(800).abs().max() < 130  # Beta(1, 1)
    net = models.build("small", 10, 1, 0)
    lam = ratio.view(-1, 1, 1, 1)
    log = net(lam * step.x[first] + (1 - lam) * step.x[second]).log_softmax(1)
    rows = torch.arange(64)
    expected = -(ratio * log[rows, step.y[first]] + (1 - ratio) * log[rows, step.y[second]]).mean()
    torch.testing.assert_close(objectives.mixup(net, step), expected)


def test_mixing_differs_between_steps_parts_and_models(short, few):
    settings = short("mixup")
    draws = [
        mixing(batch(settings, few.train, step), part)
        for step, part in (((0, 0), "mix"), ((0, 1), "mix"), ((1, 0), "mix"))
    ]
    draws.append(mixing(batch(short("long_mixup"), few.train), "mix"))
    draws += [
        mixing(batch(short("interpolated_at"), few.train), part)
        for part in ("clean", "adversarial")
    ]
    assert len({tuple(first.tolist()) for first, _, _ in draws}) == len(draws)
    assert not torch.equal(draws[0][0], draws[0][1])


def test_crafting_happens_in_eval_mode_on_the_unmixed_batch(short, few):
    step, net = batch(short("interpolated_at"), few.train), models.build("small", 10, 1, 0).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    x = objectives.craft(net, step)
    assert net.training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    expected = attacks.pgd(
        inference.frozen(net),
        step.x,
        step.y,
        epsilon=0.1,
        step_size=0.025,
        steps=[3],
        start=step.start,
    )[:, 0]
    assert torch.equal(x, expected)
    assert not torch.equal(
        objectives.craft(net, batch(step.settings, few.train, (1, 0))), x
    )  # another start each epoch


@pytest.mark.parametrize(
    ("name", "sizes"), [("interpolated_at", [128]), ("at", [64, 64]), ("mixup", [64])]
)
def test_forwards_of_a_step(short, few, name, sizes):
    step, seen = batch(short(name), few.train), []
    net = models.build("small", 10, 1, 0).train()
    crafted = objectives.craft(net, step) if name in training.ADVERSARIAL else None

    def note(module, inputs):
        if module.training:
            seen.append(inputs[0])

    net.register_forward_pre_hook(note)
    objectives.OBJECTIVES[name].loss(net, step)
    assert [len(x) for x in seen] == sizes
    if name == "at":  # the adversarial half first
        assert torch.equal(seen[0], crafted)
        assert torch.equal(seen[1], step.x)
    if name == "interpolated_at":  # each half mixed by itself
        for half, x, part in zip(
            seen[0].chunk(2), (step.x, crafted), ("clean", "adversarial"), strict=True
        ):
            first, second, ratio = mixing(step, part)
            ratio = ratio.view(-1, 1, 1, 1)
            torch.testing.assert_close(half, ratio * x[first] + (1 - ratio) * x[second])


def test_schedules():
    step = {"schedule": "step", "lr": 0.3}
    rates = [recipes.rate(step, progress) for progress in (0, 0.499, 0.5, 0.749, 0.75, 0.999)]
    assert rates == pytest.approx([0.3, 0.3, 0.03, 0.03, 0.003, 0.003])
    cycle = [recipes.rate({"schedule": "onecycle", "lr": 0.3}, k / 1000) for k in range(1000)]
    assert max(cycle) == pytest.approx(0.3)
    assert cycle.index(max(cycle)) == 200
    assert min(cycle[0], cycle[-1]) < 0.02


# Recipes


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("erm", "lr"),
        ("mixup", "alpha"),
        ("matched_mixup", "ratio"),
        ("interpolated_at", "train_step_size"),
    ],
)
def test_a_recipe_without_a_key_ends_in_one_line_that_names_it(short, few, name, key):
    lacking = {k: v for k, v in short(name).items() if k != key}
    with pytest.raises(UserError, match=rf"^recipe: no {key}; its keys are .*{key}[^\n]*$"):
        training.train(lacking, few, epsilon=0.1)


@pytest.mark.parametrize(
    ("key", "value"),
    [("name", "mixed_up"), ("model", "vgg"), ("schedule", "cosine"), ("augment", "flip")],
)
def test_an_unknown_name_ends_in_one_line_with_the_known_ones(short, few, key, value):
    with pytest.raises(UserError) as error:
        training.train(short("mixup") | {key: value}, few, epsilon=0.1)
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in (key, value, *recipes.CHOICES[key]))


@pytest.mark.parametrize(("name", "key"), [("mixup", "wiegth_decay"), ("erm", "alpha")])
def test_a_key_that_the_objective_does_not_know_ends_in_one_line(short, few, name, key):
    with pytest.raises(UserError, match=rf"^recipe: unknown {key}; its keys are [^\n]*lr[^\n]*$"):
        training.train(short(name) | {key: 1.0}, few, epsilon=0.1)


def test_training_reads_neither_the_notes_nor_a_state(short, few):
    settings = short("erm") | {"epochs": 1}
    bare = {key: value for key, value in settings.items() if key not in recipes.NOTES}
    assert set(bare) < set(settings)
    found, expected = (training.train(one, few, epsilon=0.1)[0] for one in (bare, settings))
    assert all(torch.equal(found[key], expected[key]) for key in expected)


# Resuming and repeating


@pytest.mark.parametrize("name", ["erm", "manifold_mixup", "interpolated_at"])
def test_an_interrupted_training_resumes_to_the_same_bits(short, few, tmp_path, monkeypatch, name):
    settings, state = short(name), tmp_path / "state.safetensors"
    one_step, calls = training.Trainer.one_step, []
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

    def counted(trainer, order):
        calls.append(trainer.step)
        one_step(trainer, order)

    monkeypatch.setattr(training.Trainer, "one_step", counted)
    found, resumed = train(settings, few, state)
    assert calls == [0, 1, 2, 3, 4] * 3  # no step twice, none left out
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    for entry in log + resumed:
        del entry["seconds"]
    assert resumed == log


# Early stopping


def stopped_by_hand(settings: dict, few, steps: int) -> dict[str, torch.Tensor]:
    """The weights after so many steps, an epoch being five of them."""
    trainer = training.Trainer(settings, few, "fp32")
    for step in range(steps):
        trainer.one_step(trainer.order())
        if step % 5 == 4:
            trainer.end_epoch({"epoch": trainer.epoch + 1})
    return trainer.model.state_dict()


@pytest.mark.parametrize(("stop", "steps"), [(1, 5), (1.6, 8), (1.999, 9), (2, 10), (3, 15)])
def test_a_training_stops_after_a_part_of_its_epochs(short, few, stop, steps):
    settings = short("interpolated_at") | {"train_steps": 1}
    found, log = training.train(settings | {"stop_epoch": stop}, few, epsilon=0.1)
    expected = stopped_by_hand(settings, few, steps)
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert [entry["epoch"] for entry in log] == list(range(1, int(stop) + 1))


def test_a_stop_may_be_set_later_but_not_before_where_a_state_stands(short, few, tmp_path, state):
    path = tmp_path / "state"
    files.write_tensors(path, *state)  # it stands at epoch 1.2
    stopped = short("mixup") | {"stop_epoch": 1.2}
    found, log = training.train(stopped, few, path, epsilon=0.1)
    assert all(torch.equal(found[key], state[0][f"model.{key}"]) for key in found)
    assert len(log) == 1
    line = r"state is at epoch 1\.2, past where training stops: stop it later, or delete this$"
    with pytest.raises(UserError, match=line):
        training.train(stopped | {"stop_epoch": 1.0}, few, path, epsilon=0.1)
    later, _ = training.train(stopped | {"stop_epoch": 1.8}, few, path, epsilon=0.1)
    anew, _ = training.train(stopped | {"stop_epoch": 1.8}, few, epsilon=0.1)
    assert all(torch.equal(later[key], anew[key]) for key in anew)
    assert files.read_tensors(path)[1]["step"] == 4  # and another one goes on from there


@pytest.mark.parametrize("stop", [{}, {"stop_epoch": 2}])
def test_an_epoch_that_is_interrupted_before_it_is_scored_is_scored_later(
    short, few, tmp_path, monkeypatch, stop
):
    settings, state = short("erm") | stop, tmp_path / "state"
    heldout, last = training.Trainer.heldout, stop.get("stop_epoch", 3)

    def stops(trainer, *options):
        if trainer.epoch + 1 == last:
            raise Interruption
        return heldout(trainer, *options)

    with monkeypatch.context() as patch:
        patch.setattr(training, "STATE_SECONDS", 0)
        patch.setattr(training.Trainer, "heldout", stops)
        with pytest.raises(Interruption):
            train(settings, few, state)
    _, log = train(settings, few, state)
    assert [entry["epoch"] for entry in log] == list(range(1, last + 1))


def test_of_a_part_of_an_epoch_the_whole_steps_count():
    whole, stops = {"epochs": 12}, (1.15, 1.999, 2, 9.87, 4 / 3, 2.9999999999)
    steps = [recipes.steps(whole | {"stop_epoch": stop}, 300) for stop in stops]
    assert steps == [345, 599, 600, 2961, 400, 899]
    assert recipes.steps(whole, 300) == 3600


@pytest.mark.parametrize("stop", [0, 0.5, 4, True, "2", None, float("nan")])
def test_a_stop_lies_within_the_training(short, few, stop):
    with pytest.raises(UserError, match=r"^recipe: stop_epoch is "):
        training.train(short("erm") | {"stop_epoch": stop}, few, epsilon=0.1)


# States


@pytest.fixture(scope="module")
def state(short, few, tmp_path_factory):
    """The tensors and the header of a mixup training that was stopped in its second epoch."""
    trainer = training.Trainer(short("mixup"), few, "fp32")
    for _ in range(trainer.steps_per_epoch):
        trainer.one_step(trainer.order())
    entry = {"epoch": 1, "loss": 2.0, "heldout_clean": 0.5, "heldout_pgd10": 0.1, "attacked": 50}
    trainer.end_epoch(entry | {"seconds": 1.0})
    trainer.one_step(trainer.order())
    path = tmp_path_factory.mktemp("state") / "state"
    trainer.save(path)
    return files.read_tensors(path)


def refused(settings, splits, path, precision="fp32") -> str:
    """The one line that going on from a state ends in; the file stays as it was."""
    before = path.read_bytes()
    with pytest.raises(UserError) as error:
        training.train(settings, splits, path, epsilon=0.1, precision=precision)
    assert path.read_bytes() == before
    line = str(error.value)
    assert "\n" not in line
    assert str(path) in line
    assert line.endswith("delete it and run again")
    return line


def test_a_state_is_gone_on_from_where_it_is_of_this_training(short, few, tmp_path, state):
    path = tmp_path / "state"
    files.write_tensors(path, *state)
    notes = {"data": "another note", "n_train": 5}
    found, log = training.train(short("mixup") | notes, few, str(path), epsilon=0.1)
    expected, _ = training.train(short("mixup"), few, epsilon=0.1)
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert log[0]["loss"] == 2.0


CHANGES = [
    ({"seed": 1}, "seed 0 there, 1 here"),
    ({"lr": 0.05}, "lr 0.1 there, 0.05 here"),
    ({"alpha": 2}, "alpha 1.0 there, 2.0 here"),
    ({"epochs": 4}, "epochs 3 there, 4 here"),
    ({"batch_size": 32}, "batch_size 64 there, 32 here"),
    ({"nesterov": False}, "nesterov True there, False here"),
    ({"name": "long_mixup"}, "name 'mixup' there, 'long_mixup' here"),
    ({"schedule": "step"}, "schedule 'onecycle' there, 'step' here"),
]


@pytest.mark.parametrize(("change", "words"), CHANGES)
def test_a_state_of_another_recipe_is_refused(short, few, tmp_path, state, change, words):
    files.write_tensors(tmp_path / "state", *state)
    line = refused(short("mixup") | change, few, tmp_path / "state")
    assert f"is of another training: {words}; " in line


@pytest.mark.parametrize("part", ["train", "heldout"])
def test_a_state_of_other_data_of_the_same_name_is_refused(short, few, tmp_path, state, part):
    files.write_tensors(tmp_path / "state", *state)
    images = getattr(few, part).images.clone()
    images[3, 0, 4, 4] ^= 1
    other = dataclasses.replace(getattr(few, part), images=images)
    line = refused(short("mixup"), dataclasses.replace(few, **{part: other}), tmp_path / "state")
    assert "data " in line


def test_a_state_of_another_precision_device_or_version_is_refused(
    short, few, tmp_path, state, monkeypatch
):
    path, (tensors, about) = tmp_path / "state", state
    files.write_tensors(path, tensors, about)
    assert "precision 'fp32' there, 'bf16' here" in refused(short("mixup"), few, path, "bf16")
    monkeypatch.setattr(training, "VERSION", training.VERSION + 1)
    assert "version 1 there, 2 here" in refused(short("mixup"), few, path)
    monkeypatch.undo()
    moved = about | {"training": about["training"] | {"device": "cuda"}}
    files.write_tensors(path, tensors, moved)
    assert "device 'cuda' there, 'cpu' here" in refused(short("mixup"), few, path)


def test_a_state_that_does_not_say_what_it_is_is_refused(short, few, tmp_path, state):
    tensors, about = state
    for training_of in ({}, {"training": None}, {"training": "mixup"}):
        old = {key: value for key, value in about.items() if key != "training"}
        files.write_tensors(tmp_path / "state", tensors, old | training_of)
        line = refused(short("mixup"), few, tmp_path / "state")
        assert "does not say which training it is of (an older file)" in line


HEADERS = [
    {"epoch": 999}, {"epoch": 3}, {"epoch": -1}, {"epoch": 1.0}, {"epoch": True}, {"epoch": None},
    {"epoch": 2}, {"epoch": 0}, {"step": -1}, {"step": 6}, {"step": "1"}, {"seconds": -1.0},
    {"seconds": None}, {"total": -1.0}, {"total": [1]}, {"log": []}, {"log": None}, {"log": [1]},
    {"log": {"epoch": 1}}, {"log": [{"epoch": 2}]}, {"log": [{"loss": 1}]},
    {"log": [{"epoch": 1}]},
    {"log": [{"epoch": 1, "loss": None, "heldout_clean": 1, "seconds": 1}]},
]  # fmt: skip


DONE = [dict.fromkeys(("loss", "heldout_clean", "seconds"), 1.0) | {"epoch": k} for k in (1, 2, 3)]
HEADERS.append({"epoch": 3, "log": DONE})  # of three: nothing is left to do


@pytest.mark.parametrize("change", HEADERS, ids=str)
def test_a_state_that_stands_nowhere_in_the_training_is_refused(
    short, few, tmp_path, state, change
):
    tensors, about = state
    files.write_tensors(tmp_path / "state", tensors, about | change)
    line = refused(short("mixup"), few, tmp_path / "state")
    assert "holds no state of this training" in line


def broken(tensors: dict, fault: str) -> dict:
    """The tensors of a state with one fault."""
    weight = "model.head.weight"
    if fault == "without momentum":
        return {name: value for name, value in tensors.items() if name.startswith("model.")}
    if fault == "without one momentum":
        return {name: value for name, value in tensors.items() if name != "momentum.head.bias"}
    if fault == "without a weight":
        return {name: value for name, value in tensors.items() if name != weight}
    changes = {
        "of another shape": {weight: tensors[weight][:, :-1]},
        "of another type": {weight: tensors[weight].half()},
        "with NaN": {weight: torch.full_like(tensors[weight], float("nan"))},
        "with inf in momentum": {"momentum.head.bias": torch.full((10,), float("inf"))},
        "with one more": {"model.tail": torch.zeros(1)},
    }
    return tensors | changes[fault]


FAULTS = ["without momentum", "without one momentum", "without a weight", "of another shape"]
FAULTS += ["of another type", "with NaN", "with inf in momentum", "with one more"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_state_whose_tensors_do_not_fit_is_refused(short, few, tmp_path, state, fault):
    tensors, about = state
    files.write_tensors(tmp_path / "state", broken(tensors, fault), about)
    line = refused(short("mixup"), few, tmp_path / "state")
    assert "holds no state of this training" in line


def test_a_state_without_momentum_fits_where_there_is_none(short, few, tmp_path):
    for changes, steps in (({"momentum": 0, "nesterov": False}, 2), ({}, 0)):
        settings, path = short("erm") | changes, tmp_path / f"state{steps}"
        trainer = training.Trainer(settings, few, "fp32")
        for _ in range(steps):
            trainer.one_step(trainer.order())
        trainer.save(path)
        assert not any(name.startswith("momentum.") for name in files.read_tensors(path)[0])
        found, _ = training.train(settings, few, path, epsilon=0.1)
        expected, _ = training.train(settings, few, epsilon=0.1)
        assert all(torch.equal(found[key], expected[key]) for key in expected)
