"""Architectures as stated; `frozen` and `chunked`, in which models are attacked and scored."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from milib import inference, models

SHAPES = {"small": (1, 8, 8), "compact": (3, 32, 32), "resnet50": (3, 32, 32)}
every_architecture = pytest.mark.parametrize("name", models.ARCHITECTURES)


def images(name: str, count: int) -> torch.Tensor:
    return torch.rand(count, *SHAPES[name], generator=torch.Generator().manual_seed(count))


def exercised(name: str) -> models.Classifier:
    """A net after a few training steps: its batch-norm statistics are not those of the start."""
    net = models.build(name, 10, SHAPES[name][0], 3).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(net(images(name, 8)), torch.arange(8)).backward()
        optimizer.step()
    return net


def test_resnet50_is_the_net_behind_tables_2_and_3():
    net = models.build("resnet50", 10, 3, 0)
    assert sum(p.numel() for p in net.parameters()) == 4_752_586
    multiply_adds = inference.flops(net, (3, 32, 32)) / 2
    assert multiply_adds == pytest.approx(0.71e9, abs=0.005e9)
    convolutions = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    assert all(m.bias is None for m in convolutions)
    stem = convolutions[0]
    assert (stem.in_channels, stem.out_channels) == (3, 64)
    assert (stem.kernel_size, stem.stride) == ((5, 5), (1, 1))
    blocks = [m for m in net.modules() if isinstance(m, models.Bottleneck)]
    assert [m.spatial[0].out_channels for m in blocks] == [64] * 5 + [128] * 5 + [256] * 5
    strided = [i for i, m in enumerate(blocks) if m.spatial[0].stride == (2, 2)]
    assert strided == [5, 10]  # the stride sits in the 3x3
    assert [i for i, m in enumerate(blocks) if isinstance(m.shortcut, models.ConvNorm)] == [5, 10]


def test_small_net_costs_one_to_three_mflop():
    assert 1e6 <= inference.flops(models.build("small", 10, 1, 0), SHAPES["small"]) <= 3e6


def test_flops_counts_a_convolution_by_hand():
    net = models.Classifier([models.ConvNorm(3, 5)], 5, 7)
    assert inference.flops(net, (3, 4, 6)) == 2 * (3 * 5 * 9 * 24 + 5 * 7)


@every_architecture
def test_frozen_has_the_logits_of_eval_mode(name):
    net = exercised(name)
    frozen = inference.frozen(net)
    assert net.training
    x = images(name, 16)
    torch.testing.assert_close(frozen(x), net.eval()(x), atol=1e-4, rtol=1e-4)
    assert (net.train()(x) - frozen(x)).abs().max() > 1e-2  # batch statistics would have shown
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in frozen.modules())
    assert not frozen.training
    assert not any(p.requires_grad for p in frozen.parameters())
    assert all(p.requires_grad for p in net.parameters())


@every_architecture
def test_weights_come_from_the_key_and_global_generators_stay(name):
    before = torch.get_rng_state()
    first, again, other = (
        models.build(name, 10, SHAPES[name][0], key).state_dict() for key in (5, 5, 6)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
    assert first["head.weight"].shape[0] == 10


@every_architecture
def test_manifold_mix_acts_on_the_input_of_its_stage(name):
    net = models.build(name, 10, SHAPES[name][0], 1).eval()
    x = images(name, 4)
    plain, seen = net(x), []
    for stage in range(len(net.stages)):
        assert torch.equal(net(x, mix=(stage, lambda hidden: seen.append(hidden) or hidden)), plain)
        torch.testing.assert_close(
            net(x, mix=(stage, lambda hidden: hidden.flip(0))), plain.flip(0), atol=1e-5, rtol=1e-4
        )
    assert torch.equal(seen[0], x * 2 - 1)
    assert torch.equal(seen[1], net.stages[0](x * 2 - 1))
    mixed = net(x, mix=(0, lambda hidden: (hidden + hidden.flip(0)) / 2))
    # at stage 0: mixup of the pixels
    torch.testing.assert_close(mixed, net((x + x.flip(0)) / 2), atol=1e-5, rtol=1e-4)


def test_bf16_is_near_fp32_and_returns_float32():
    net = exercised("small")
    x = images("small", 32)
    half = inference.frozen(net, "bf16")(x)
    assert half.dtype == torch.float32
    full = inference.frozen(net)(x)
    assert not torch.equal(half, full)
    torch.testing.assert_close(half.softmax(1), full.softmax(1), atol=0.05, rtol=0)


@pytest.mark.parametrize("total", [1, 6, 7, 20, 21])
def test_chunked_keeps_one_shape_and_the_order(total):
    shapes = []

    def double(x, y):
        shapes.append((len(x), len(y)))
        return x * 2 + y[:, None]

    x, y = torch.randn(total, 3), torch.arange(total)
    assert torch.equal(inference.chunked(double, 7, x, y), x * 2 + y[:, None])
    assert set(shapes) == {(7, 7)}
    assert len(shapes) == -(-total // 7)


@pytest.mark.parametrize("with_gradient", [False, True])
def test_a_chunk_larger_than_the_work_costs_next_to_nothing(with_gradient):
    shapes = []

    def double(x, *_):
        shapes.append(len(x))
        return x * 2

    x = torch.randn(20, 3, requires_grad=with_gradient)
    if with_gradient:
        row = torch.arange(20)
        found = inference.folded(double, 100_000, iter([]), x, row)
    else:
        found = inference.chunked(double, 100_000, x)
    assert torch.equal(found, x * 2) and shapes == [inference.LITTLE]


class Crowded:
    """A function for which a GPU's memory holds so many rows."""

    def __init__(self, most):
        self.most, self.shapes = most, []

    def __call__(self, x, *_):
        self.shapes.append(len(x))
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return x * x


@pytest.mark.parametrize("with_gradient", [False, True])
def test_a_full_gpu_halves_the_chunk_once_and_says_so(monkeypatch, with_gradient):
    monkeypatch.setattr(inference, "_fitting", {})
    x, row, crowded = torch.randn(50, 3, requires_grad=with_gradient), torch.arange(50), Crowded(9)

    def squares() -> torch.Tensor:
        if with_gradient:
            return inference.folded(crowded, 32, iter([]), x, row)
        return inference.chunked(crowded, 32, x)

    with pytest.warns(UserWarning, match="memory is full: 8 images at once .* not 32") as said:
        found = squares()
    assert len(said) == 1
    assert torch.equal(found, x * x)
    if with_gradient:
        found.sum().backward()
        torch.testing.assert_close(x.grad, 2 * x.detach())
    crowded.shapes.clear()
    assert torch.equal(squares(), x * x)  # without a warning, which would fail here
    assert set(crowded.shapes) == {8}
    crowded.most = 0
    with pytest.raises(torch.OutOfMemoryError):
        squares()


def test_probabilities_are_softmax_without_gradient():
    net, x = inference.frozen(exercised("small")), images("small", 10).requires_grad_()
    found = inference.probabilities(net, x, 4)
    assert not found.requires_grad
    np.testing.assert_allclose(found.numpy(), net(x).softmax(1).detach().numpy(), atol=1e-6)


def plain_kernels(monkeypatch):
    """cuDNN's fused convolutions by plain calls, so that `Rectified` runs on a CPU."""

    def relu(x, weight, bias, *shape):
        return F.conv2d(x, weight, bias, *shape).relu()

    def add_relu(x, weight, plus, factor, bias, *shape):
        return (F.conv2d(x, weight, bias, *shape) + factor * plus).relu()

    monkeypatch.setattr(torch, "cudnn_convolution_relu", relu)
    monkeypatch.setattr(torch, "cudnn_convolution_add_relu", add_relu)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_fused_convolution_has_the_gradients_of_its_parts(monkeypatch, stride):
    plain_kernels(monkeypatch)
    generator = torch.Generator().manual_seed(0)
    conv = torch.nn.Conv2d(3, 5, 3, stride, 1).requires_grad_(False)
    x = torch.randn(4, 3, 8, 8, generator=generator).requires_grad_()
    plus = torch.randn(4, 5, 8 // stride, 8 // stride, generator=generator).requires_grad_()
    upward = torch.randn(plus.shape, generator=generator)
    for added in (None, plus):
        inputs = (x,) if added is None else (x, plus)
        expected = (conv(x) if added is None else conv(x) + plus).relu()
        found = models.Rectified.apply(x, conv, added)
        torch.testing.assert_close(found, expected)
        for here, there in zip(
            torch.autograd.grad(found, inputs, upward),
            torch.autograd.grad(expected, inputs, upward),
            strict=True,
        ):
            torch.testing.assert_close(here, there)


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs CUDA: runs cuDNN's fused convolutions"
)
@pytest.mark.parametrize("name", ["compact", "resnet50"])
def test_fused_convolutions_give_logits_and_gradients_of_plain_ones(name, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    frozen, x = inference.frozen(exercised(name)), images(name, 32)
    results = []
    for device in ("cpu", "cuda"):
        leaf = x.to(device).requires_grad_()
        logits = frozen.to(device)(leaf)
        results.append(
            (logits.detach().cpu(), torch.autograd.grad(logits[:, 0].sum(), leaf)[0].cpu())
        )
    for here, there in zip(*results, strict=True):
        torch.testing.assert_close(here, there, atol=1e-4, rtol=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs CUDA: runs cuDNN's fused convolutions"
)
@pytest.mark.parametrize(
    ("dtype", "tf32"), [(torch.float32, False), (torch.float32, True), (torch.bfloat16, False)]
)
def test_fused_convolutions_repeat_themselves_whatever_lay_in_their_memory(
    dtype, tf32, monkeypatch
):
    """cuDNN is given the unwritten result as a summand with the factor zero.

    Freed NaNs must not come through, and no bit may vary.
    """
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", tf32)
    conv = (
        torch.nn.Conv2d(32, 32, 3, 1, 1)
        .requires_grad_(False)
        .to("cuda", dtype, memory_format=torch.channels_last)
    )
    x = torch.randn(64, 32, 16, 16, device="cuda", dtype=dtype).contiguous(
        memory_format=torch.channels_last
    )
    plus = torch.randn_like(x)
    expected = (conv(x).relu(), (conv(x) + plus).relu())
    for _ in range(3):
        spoiled = [torch.full_like(x, float("nan")) for _ in range(4)]
        del spoiled
        found = (models.Rectified.apply(x, conv, None), models.Rectified.apply(x, conv, plus))
        for here, there in zip(found, expected, strict=True):
            torch.testing.assert_close(here, there, atol=0.05, rtol=0.02)
    again = (models.Rectified.apply(x, conv, None), models.Rectified.apply(x, conv, plus))
    assert all(torch.equal(here, there) for here, there in zip(found, again, strict=True))


@pytest.mark.parametrize("images", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("weights", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_net_works_in_its_own_type_and_answers_in_that_of_the_images(weights, images):
    net = models.build("small", 10, 1, 0).eval()
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = net(x)
    found = net.to(weights)(x.to(images))
    assert found.dtype == images
    torch.testing.assert_close(found.float(), expected, atol=0.02, rtol=0.05)
