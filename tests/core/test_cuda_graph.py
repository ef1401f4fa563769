"""CudaGraph: a plain call on a CPU; on CUDA one captured graph of the same numbers and effects."""

import dataclasses

import pytest
import torch

from milib import files, training
from milib.cuda_graph import CudaGraph


def test_on_a_cpu_it_is_the_function_itself():
    calls = []

    def function(key, **inputs):
        calls.append(key)
        return (inputs["x"] * 2,)

    replay = CudaGraph(function, [])
    x = torch.arange(3)
    assert torch.equal(replay("a", x=x)[0], 2 * x)
    assert (calls, replay.graphs) == (["a"], {})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: captures a graph")
# the second has fused convolutions
@pytest.mark.parametrize(("net", "precision"), [("small", "fp32"), ("compact", "bf16")])
@pytest.mark.parametrize("name", ["mixup", "at", "interpolated_at", "manifold_mixup"])
def test_training_by_graphs_equals_training_by_calls(
    splits, recipe, name, net, precision, monkeypatch, tmp_path
):
    def cuda(data):
        moved = {key: getattr(data, key).cuda() for key in ("images", "labels", "index")}
        return dataclasses.replace(
            data.take(slice(300)), **{key: value[:300] for key, value in moved.items()}
        )

    few = dataclasses.replace(splits, train=cuda(splits.train), heldout=cuda(splits.heldout))
    settings = recipe(name, model=net, epochs=2)
    if name in training.ADVERSARIAL:
        settings["train_steps"] = 3
    options = {"epsilon": 0.1, "precision": precision, "chunk": 50}
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    found = training.train(settings, few, tmp_path / "a", **options)[0]
    monkeypatch.setattr(
        CudaGraph, "__call__", lambda self, key, **inputs: self.function(key, **inputs)
    )
    expected = training.train(settings, few, tmp_path / "b", **options)[0]
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4)
    assert files.tensors_digest(found) != files.tensors_digest(
        training.Trainer(settings, few, "fp32").model.state_dict()
    )
