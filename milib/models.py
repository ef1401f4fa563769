"""Architectures, with the normalisation inside.

ReLUs and the sums with a shortcut work in place: their inputs are not needed for any gradient, and a PGD step on a CPU loses up to a
quarter of its time to fresh memory otherwise.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from milib.shapes import Images, Predictions


class Rectified(torch.autograd.Function):
    """relu(conv(x) + bias + plus) as one kernel of cuDNN, differentiable in x and `plus` (None: nothing is added), in no weight.

    Sums and ReLUs of their own take a third of a PGD step on a GPU, and half of a forward. A second derivative raises RuntimeError.
    """

    @staticmethod
    def forward(ctx, x: Tensor, conv: nn.Conv2d, plus: Tensor | None) -> Tensor:
        shape = conv.stride, conv.padding, conv.dilation, conv.groups
        if plus is None:
            result = torch.cudnn_convolution_relu(x, conv.weight, conv.bias, *shape)
        else:
            result = torch.cudnn_convolution_add_relu(x, conv.weight, plus, 1.0, conv.bias, *shape)
        ctx.conv = conv
        ctx.save_for_backward(x, result)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x, result), conv = ctx.saved_tensors, ctx.conv
        passed = torch.ops.aten.threshold_backward(gradient, result, 0)
        options = (
            None,
            conv.stride,
            conv.padding,
            conv.dilation,
            False,
            (0, 0),
            conv.groups,
            (True, False, False),
        )
        return (
            torch.ops.aten.convolution_backward(passed, x, conv.weight, *options)[0],
            None,
            passed if ctx.needs_input_grad[2] else None,
        )


class ConvNorm(nn.Sequential):
    """A convolution without bias, then batch norm; `frozen` folds the two into one."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, stride: int = 1):
        conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        super().__init__(conv, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor, plus: Tensor | None = None, rectified: bool = False) -> Tensor:
        """norm(conv(x)), with `plus` added and through a ReLU where asked for: frozen on CUDA, one kernel does all of it."""
        conv, norm = self
        if rectified and x.is_cuda and isinstance(norm, nn.Identity):
            return Rectified.apply(x, conv, plus)
        result = norm(conv(x))
        result = result if plus is None else result.add_(plus)
        return result.relu_() if rectified else result


class Residual(nn.Module):
    """Two 3x3 convolutions beside the identity."""

    def __init__(self, width: int):
        super().__init__()
        self.first, self.second = ConvNorm(width, width), ConvNorm(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x, rectified=True), plus=x, rectified=True)


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride), 1x1, expansion 1; a projected shortcut where the shape changes."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.reduce, self.spatial, self.expand = (
            ConvNorm(inputs, width, 1),
            ConvNorm(width, width, 3, stride),
            ConvNorm(width, width, 1),
        )
        self.shortcut = (
            nn.Identity() if (inputs, stride) == (width, 1) else ConvNorm(inputs, width, 1, stride)
        )

    def forward(self, x: Tensor) -> Tensor:
        inner = self.spatial(self.reduce(x, rectified=True), rectified=True)
        return self.expand(inner, plus=self.shortcut(x), rectified=True)


class Classifier(nn.Module):
    """Images [B, C, H, W] in [0, 1] to logits [B, L]: (x - 1/2) / (1/2), the stages, global average, linear."""

    def __init__(self, stages: list[nn.Module], width: int, classes: int):
        super().__init__()
        self.stages, self.head = nn.ModuleList(stages), nn.Linear(width, classes)

    def forward(
        self, x: Images, mix: tuple[int, Callable[[Tensor], Tensor]] | None = None
    ) -> Predictions:
        """`mix` = (k, f) applies f to the input of stage k (manifold mixup; Verma et al., ICML 2019)."""
        hidden = (x * 2 - 1).to(self.head.weight.dtype)
        for position, stage in enumerate(self.stages):
            if mix is not None and mix[0] == position:
                hidden = mix[1](hidden)
            hidden = stage(hidden)
        return self.head(hidden.mean((2, 3))).to(x.dtype)


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    return [ConvNorm(inputs, outputs), nn.ReLU(inplace=True)]


def _pooled(inputs: int, outputs: int) -> list[nn.Module]:
    """A block with a 2x2 pool; ReLU and maximum commute, and the ReLU is cheaper after the pool."""
    return [ConvNorm(inputs, outputs), nn.MaxPool2d(2), nn.ReLU(inplace=True)]


def small(classes: int, channels: int) -> Classifier:
    """For 8x8 digits: 3x3 convolutions of 16, 32 | pool | 48, 48 channels; 1.7 MFLOP a forward."""
    stages = [
        nn.Sequential(*_block(channels, 16)),
        nn.Sequential(*_block(16, 32), nn.MaxPool2d(2)),
        nn.Sequential(*_block(32, 48), *_block(48, 48)),
    ]
    return Classifier(stages, 48, classes)


def compact(classes: int, channels: int) -> Classifier:
    """For 32x32 images on a CPU: a stem of 32 channels and a pool, then residual stages of 32, 64, 128; 0.48 M parameters."""
    stages = [nn.Sequential(*_pooled(channels, 32)), Residual(32)]
    for inputs, width in ((32, 64), (64, 128)):
        stages.append(nn.Sequential(*_pooled(inputs, width), Residual(width)))
    return Classifier(stages, 128, classes)


def resnet50(classes: int, channels: int) -> Classifier:
    """The net behind Tables 2 and 3, as the authors' code builds it: a 5x5 stem of 64, then 5 bottlenecks each of 64, 128, 256."""
    stages: list[nn.Module] = [nn.Sequential(ConvNorm(channels, 64, 5), nn.ReLU(inplace=True))]
    inputs = 64
    for width, stride in ((64, 1), (128, 2), (256, 2)):
        blocks = [Bottleneck(inputs, width, stride)] + [
            Bottleneck(width, width, 1) for _ in range(4)
        ]
        stages.append(nn.Sequential(*blocks))
        inputs = width
    return Classifier(stages, 256, classes)


ARCHITECTURES = {"small": small, "compact": compact, "resnet50": resnet50}


def build(name: str, classes: int, channels: int, key: int) -> Classifier:
    """An architecture (a name of ARCHITECTURES, else KeyError) with weights drawn from `key` (PyTorch's default distributions); global
    generators stay as they are."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(key % 2**63)
        return ARCHITECTURES[name](classes, channels)
