"""examples/own_defense.py: its defense, its gradient, and what it prints, at a smaller size."""

import importlib.util

import pytest
import torch

from milib import Draws, audit, data


@pytest.fixture(scope="module")
def example(root):
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("own", root / "examples" / "own_defense.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_jpeg_compresses_every_image_alike_and_has_a_gradient(example):
    x = data.load(
        "digits", classes=10, n_train=0, n_heldout=200, root=".", device="cpu"
    ).test.pixels(slice(6))
    net = example.net().eval()
    jpeg = example.Jpeg(net, quality=20, chunk=4)
    found = jpeg.transform(x, None, torch.arange(6), torch.zeros(6).long(), Draws(0))
    assert 0.01 < (found - x).abs().mean() < 0.2
    torch.testing.assert_close(found, found.mul(255).round() / 255)
    each = [jpeg.probabilities(part, Draws(0)) for part in (x, x[3:])]
    torch.testing.assert_close(each[0][3:], each[1])
    leaf = x.clone().requires_grad_()
    jpeg(leaf)[:, 0].sum().backward()
    assert leaf.grad.abs().amin((1, 2, 3)).shape == (6,)
    assert leaf.grad.abs().sum() > 0


@pytest.mark.slow
def test_the_example_runs_and_says_what_is_left(example, monkeypatch, capsys):
    pytest.importorskip("foolbox")
    pytest.importorskip("pyautoattack")
    kept = []

    def noted(*given, **options):
        kept.append(audit(*given, **options))
        return kept[0]

    monkeypatch.setattr(example, "IMAGES", 4)
    monkeypatch.setattr(example, "audit", noted)
    example.main()
    text = capsys.readouterr().out
    left = {row.attack: row.accuracy for row in kept[0].rows}
    assert left["worst case"] <= min(left["oblivious"], left["standard"])
    assert f"{left['worst case']:.0%} under the worst of all attacks" in text
    assert f"{left['oblivious']:.0%} under PGD-10" in text
    assert not kept[0].facts.random
