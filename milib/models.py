"""Architectures, with the normalisation inside.

ReLUs and the sums with a shortcut work in place, as their inputs are needed for no gradient. Fresh
memory for them would cost a PGD step on a CPU up to a quarter of its time.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from milib import checks
from milib.errors import UserError
from milib.shapes import Images, Predictions

Net = TypeVar("Net", bound=nn.Module)


class Rectified(torch.autograd.Function):
    """relu(conv(x) + bias + plus) as one kernel of cuDNN, on CUDA.

    `Rectified.apply(x, conv, plus)` is differentiable in x and `plus` (None: nothing is added), in
    no weight; a second derivative raises RuntimeError. Separate sums and ReLUs would take a third
    of a PGD step on a GPU, and half of a forward pass.
    """

    @staticmethod
    def forward(ctx, x: Tensor, conv: nn.Conv2d, plus: Tensor | None) -> Tensor:
        shape: Any = (conv.stride, conv.padding, conv.dilation, conv.groups)
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
        shape = conv.stride, conv.padding, conv.dilation
        transposed, output_padding, wanted = False, (0, 0), (True, False, False)
        options = (None, *shape, transposed, output_padding, conv.groups, wanted)
        downward = torch.ops.aten.convolution_backward(passed, x, conv.weight, *options)[0]
        return downward, None, passed if ctx.needs_input_grad[2] else None


class ConvNorm(nn.Sequential):
    """A convolution without bias, then batch norm; `inference.frozen` folds the two into one.

    - inputs, outputs: channels.
    - size: the side of the square kernel, odd; the image is padded to keep its size.
    - stride: of the convolution.
    """

    def __init__(self, inputs: int, outputs: int, size: int = 3, stride: int = 1):
        conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        super().__init__(conv, nn.BatchNorm2d(outputs))

    @property
    def conv(self) -> nn.Conv2d:
        """The convolution."""
        return cast(nn.Conv2d, self[0])

    @property
    def norm(self) -> nn.Module:
        """The batch norm; an identity once it is folded."""
        return self[1]

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the one convolution that equals this layer in eval mode."""
        conv, norm = self.conv, cast(nn.BatchNorm2d, self.norm)
        mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        return fuse_conv_bn_weights(
            conv.weight, None, mean, variance, norm.eps, norm.weight, norm.bias
        )

    def forward(self, x: Tensor, plus: Tensor | None = None, rectified: bool = False) -> Tensor:
        """norm(conv(x)) + plus, [B, outputs, H, W]; frozen on CUDA, one kernel does all of it.

        - x: [B, inputs, H, W].
        - plus: what is added, shaped like the result; by default nothing.
        - rectified: whether a ReLU follows; by default not.
        """
        conv, norm = self.conv, self.norm
        if rectified and x.is_cuda and isinstance(norm, nn.Identity):
            return Rectified.apply(x, conv, plus)
        result = norm(conv(x))
        result = result if plus is None else result.add_(plus)
        return result.relu_() if rectified else result


class Residual(nn.Module):
    """Two 3x3 convolutions beside the identity.

    - width: channels.
    """

    def __init__(self, width: int):
        super().__init__()
        self.first, self.second = ConvNorm(width, width), ConvNorm(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x, rectified=True), plus=x, rectified=True)


class Bottleneck(nn.Module):
    """Convolutions 1x1, 3x3 and 1x1, all equally wide, beside a shortcut.

    - inputs: channels of the input.
    - width: channels of the output.
    - stride: of the 3x3 convolution. Where it or the width changes the shape, the shortcut is a
      1x1 convolution.
    """

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.reduce = ConvNorm(inputs, width, 1)
        self.spatial = ConvNorm(width, width, 3, stride)
        self.expand = ConvNorm(width, width, 1)
        self.shortcut: nn.Module = nn.Identity()
        if (inputs, stride) != (width, 1):
            self.shortcut = ConvNorm(inputs, width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.spatial(self.reduce(x, rectified=True), rectified=True)
        return self.expand(inner, plus=self.shortcut(x), rectified=True)


class Classifier(nn.Module):
    """Images in [0, 1] to logits: (x - 1/2) / (1/2), the stages, global average, a linear layer.

    - stages: modules that follow each other.
    - width: channels that leave the last stage.
    - classes: L.
    """

    def __init__(self, stages: Sequence[nn.Module], width: int, classes: int):
        super().__init__()
        self.stages, self.head = nn.ModuleList(stages), nn.Linear(width, classes)

    def forward(
        self, x: Images, mix: tuple[int, Callable[[Tensor], Tensor]] | None = None
    ) -> Predictions:
        """Logits [B, L].

        - x: [B, C, H, W] in [0, 1].
        - mix: (k, f) applies f to the input of stage k (manifold mixup; Verma et al., ICML 2019).
        """
        if not x.is_floating_point():
            raise UserError(f"x is {str(x.dtype).removeprefix('torch.')}: floats in [0, 1]")
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
    """For 8x8 digits: 3x3 convolutions of 16, 32 | pool | 48, 48 channels; 1.7 MFLOP a forward.

    - classes, channels: of the images.
    """
    stages = [
        nn.Sequential(*_block(channels, 16)),
        nn.Sequential(*_pooled(16, 32)),
        nn.Sequential(*_block(32, 48), *_block(48, 48)),
    ]
    return Classifier(stages, 48, classes)


def compact(classes: int, channels: int) -> Classifier:
    """For 32x32 images on a CPU: a pooled stem, residual stages of 32, 64, 128; 0.48 M parameters.

    - classes, channels: of the images.
    """
    stages: list[nn.Module] = [nn.Sequential(*_pooled(channels, 32)), Residual(32)]
    for inputs, width in ((32, 64), (64, 128)):
        stages.append(nn.Sequential(*_pooled(inputs, width), Residual(width)))
    return Classifier(stages, 128, classes)


def resnet50(classes: int, channels: int) -> Classifier:
    """The net behind Tables 2 and 3, as the authors' code builds it.

    - classes, channels: of the images.

    A 5x5 stem of 64 channels, then five bottlenecks each of 64, 128 and 256; 4.75 M parameters.
    """
    stages: list[nn.Module] = [nn.Sequential(ConvNorm(channels, 64, 5), nn.ReLU(inplace=True))]
    inputs = 64
    for width, stride in ((64, 1), (128, 2), (256, 2)):
        first = Bottleneck(inputs, width, stride)
        stages.append(nn.Sequential(first, *(Bottleneck(width, width, 1) for _ in range(4))))
        inputs = width
    return Classifier(stages, 256, classes)


ARCHITECTURES: dict[str, Callable[[int, int], Classifier]] = {
    "small": small,
    "compact": compact,
    "resnet50": resnet50,
}
"""Every net that a run can name; `register.architecture` adds others."""


def build(name: str, classes: int, channels: int, key: int = 0) -> Classifier:
    """A net with weights drawn from a key, from PyTorch's default distributions.

    - name: of ARCHITECTURES.
    - classes, channels: of the images.
    - key: an integer of 64 bits, as `rng.key` makes them; by default 0. Global generators stay as
      they are.

    Raises UserError for another name, fewer than 2 classes, and numbers that are not whole.
    """
    checks.choice("name", name, ARCHITECTURES)
    classes = checks.count("classes", classes, 2, 10**5)
    channels = checks.count("channels", channels, 1, 10**4)
    key = checks.count("key", key, -(2**63), 2**63)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(key % 2**63)
        return ARCHITECTURES[name](classes, channels)


def channels_last(model: Net) -> Net:
    """The module itself, its weights laid out as convolutions read them fastest.

    - model: changed in place.
    """
    # torch documents this form of `to`, its annotations lack it
    return model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
