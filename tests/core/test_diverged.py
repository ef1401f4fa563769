"""A training stops at the step that is not finite, names the rate to lower, and keeps nothing."""

import dataclasses
import re

import pytest
import torch

from milib import divergence, files, models, training
from milib.errors import UserError
from milib.training import Trainer

OPTIONS = {"epsilon": 0.1, "chunk": 50}


@pytest.fixture(scope="module")
def few(splits):
    """300 training and 50 held-out digits: five steps of 64 an epoch."""
    return dataclasses.replace(
        splits, train=splits.train.take(slice(300)), heldout=splits.heldout.take(slice(50))
    )


@pytest.fixture
def short(recipe):
    """short(name, **changes): a training of three epochs."""

    def make(name: str, **changes) -> dict:
        found = recipe(name, epochs=3)
        return found | ({"train_steps": 2} if name in training.ADVERSARIAL else {}) | changes

    return make


def disturbed(monkeypatch, at: tuple[int, int], which: str, value: float) -> None:
    """Make the loss, or the gradient of the last parameter, `value` at (epoch, step), from 1."""
    healthy = Trainer.loss_and_gradients

    def disturbs(trainer, *args, **kwargs):
        loss, *gradients = healthy(trainer, *args, **kwargs)
        if (trainer.epoch + 1, trainer.step + 1) == at:
            if which == "loss":
                loss = torch.full_like(loss, value)
            else:
                gradients[-1] = torch.full_like(gradients[-1], value)
        return loss, *gradients

    monkeypatch.setattr(Trainer, "loss_and_gradients", disturbs)


@pytest.mark.parametrize("name", training.MODELS)
def test_a_rate_of_100_ends_in_one_line_and_leaves_no_number_that_is_not_finite(
    short, few, tmp_path, monkeypatch, name
):
    monkeypatch.setattr(training, "STATE_SECONDS", 0)
    state, entries = tmp_path / "state", []
    wild = {"lr": 100, "momentum": 0.99, "schedule": "step", "weight_decay": 1}
    with pytest.raises(UserError) as error:
        training.train(short(name, **wild), few, state, report=entries.append, **OPTIONS)
    run = "; of a run: lr_interpolated" if name == "interpolated_at" else ""
    what = r"(the loss is|the weights are) not finite at epoch \d, step \d"
    assert re.fullmatch(rf"{name}: {what}: lower lr \(now 100{run}\)", str(error.value))
    for entry in entries:
        assert all(torch.tensor(float(value)).isfinite() for value in entry.values())
    if state.exists():  # of a step before
        tensors, _ = files.read_tensors(state)
        assert all(value.isfinite().all() for value in tensors.values())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(("epoch", "step"), [(1, 1), (1, 3), (2, 5), (3, 4)])
@pytest.mark.parametrize("which", ["loss", "weights"])
def test_the_step_is_named(short, few, monkeypatch, which, epoch, step, value):
    disturbed(monkeypatch, (epoch, step), which, value)
    entries = []
    with pytest.raises(UserError) as error:
        training.train(short("erm"), few, report=entries.append, **OPTIONS)
    what = "the loss is" if which == "loss" else "the weights are"
    where = f"not finite at epoch {epoch}, step {step}"
    assert str(error.value) == f"erm: {what} {where}: lower lr (now 0.1)"
    assert len(entries) == epoch - 1  # the epoch is not reported


def test_batch_norms_statistics_count_as_weights(short, few):
    trainer = Trainer(short("erm"), few, "fp32")
    next(iter(trainer.model.buffers())).fill_(float("inf"))
    with pytest.raises(UserError, match="the weights are not finite at epoch 1, step 1"):
        trainer.one_step(trainer.order())


def test_no_state_is_saved_of_a_training_that_diverged(short, few, tmp_path, monkeypatch):
    """As on a GPU, where nothing is looked at after a step."""
    disturbed(monkeypatch, (1, 2), "loss", float("nan"))
    trainer, path = Trainer(short("erm"), few, "fp32"), tmp_path / "state"
    order = trainer.order()
    trainer.one_step(order)
    trainer.save(path)
    before = path.read_bytes()
    with pytest.raises(UserError, match="step 2"):
        trainer.one_step(order)
    with pytest.raises(UserError, match="step 2"):
        trainer.save(path)
    assert path.read_bytes() == before


def test_the_first_step_is_kept_though_it_is_asked_for_later():
    net = models.build("small", 10, 1)
    watch = divergence.Watch(net, "mixup", 0.5)
    fine, broken = torch.tensor(1.0), torch.tensor(float("nan"))
    for step, loss in enumerate((fine, fine, broken, fine, broken), 1):
        watch.note(loss, step)
    with pytest.raises(UserError, match=r"the loss is not finite at epoch 4, step 3: .*now 0.5"):
        watch.stop(4)
    net.head.bias.data.fill_(float("nan"))
    watch = divergence.Watch(net, "mixup", 0.5)
    watch.note(fine, 6)
    watch.note(broken, 7)
    with pytest.raises(UserError, match="the weights are not finite at epoch 1, step 6"):
        watch.stop(1)


def test_logits_that_overflow_on_held_out_images_stop_a_training(short, few):
    trainer = Trainer(short("mixup"), few, "fp32")
    for value in trainer.model.head.parameters():
        value.data.fill_(3e38)  # finite, but not their sum
    line = "mixup: the logits of held-out images are not finite after epoch 1: lower lr"
    with pytest.raises(UserError, match=line):
        trainer.heldout(50, 0.1)


def test_a_large_rate_that_stays_finite_is_left_alone(short, few):
    weights, log = training.train(short("erm", lr=3.0), few, **OPTIONS)
    assert len(log) == 3
    assert all(value.isfinite().all() for value in weights.values())
