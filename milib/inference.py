"""Frozen nets and inference in chunks: the form in which a model is attacked and scored.

Every call has one shape. A row so gives the same bits whatever stands beside it, and memory is that
of one chunk.
"""

import copy
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from milib.models import Classifier, ConvNorm, Net, channels_last
from milib.shapes import Images, Predictions

observers: list[Callable[[int], None]] = []
"""Called with the number of rows that a chunk has done: a progress bar adds itself here."""


def flops(model: Classifier, shape: Sequence[int]) -> int:
    """Floating-point operations of the convolutions and the linear layer, 2 per multiply-add.

    - model: one of `models`.
    - shape: (C, H, W) of one image.
    """
    copied = frozen(model)
    counts = [2 * copied.head.weight.numel()]

    def count(layer: ConvNorm, _inputs: tuple, output: Tensor) -> None:
        counts.append(2 * layer.conv.weight[0].numel() * output[0].numel())

    for layer in copied.modules():
        if isinstance(layer, ConvNorm):
            layer.register_forward_hook(count)
    copied(torch.zeros(1, *shape, device=copied.head.weight.device))
    return sum(counts)


def refold(copied: Net, model: nn.Module) -> Net:
    """Write the weights of a net into its `frozen` copy, in place, batch norm folded in.

    - copied: the frozen copy, which is returned.
    - model: the net.
    """
    with torch.no_grad():
        for new, old in zip(copied.modules(), model.modules(), strict=True):
            if isinstance(old, ConvNorm) and isinstance(new, ConvNorm):
                weight, bias = old.folded()
                new.conv.weight.copy_(weight)
                new.conv.get_parameter("bias").copy_(bias)
            elif isinstance(old, nn.Linear) and isinstance(new, nn.Linear):
                new.weight.copy_(old.weight)
                new.bias.copy_(old.bias)
    return copied


def frozen(model: Net, precision: str = "fp32") -> Net:
    """A copy for attacks and scoring: eval mode, no weight gradients, batch norm folded.

    - model: the net, which stays as it is; batch norm is folded in the nets of `models`.
    - precision: "fp32" (default) or "bf16": the type of weights and activations.

    In fp32, logits equal the model's in eval mode to rounding; on CUDA, to that of TF32 where it
    is on.
    """
    copied = copy.deepcopy(model).eval()
    for module in copied.modules():
        if isinstance(module, ConvNorm):
            module.conv.bias = nn.Parameter(torch.zeros_like(module.norm.get_parameter("bias")))
            module[1] = nn.Identity()
    copied = channels_last(copied.requires_grad_(False))
    if precision == "bf16":
        copied = copied.to(torch.bfloat16)
    return refold(copied, model)


def pieces(chunk: int, *inputs: Tensor) -> Iterator[tuple[int, list[Tensor]]]:
    """Yields (first row, the inputs from there on) in pieces of exactly `chunk` rows.

    - chunk: rows of a piece; the last piece is padded with its own first row.
    - inputs: tensors of the same length.
    """
    for start in range(0, len(inputs[0]), chunk):
        found = [tensor[start : start + chunk] for tensor in inputs]
        missing = chunk - len(found[0])
        if missing:
            found = [_padded(piece, missing) for piece in found]
        yield start, found
        for observer in observers:
            observer(chunk - missing)


def _padded(piece: Tensor, missing: int) -> Tensor:
    return torch.cat([piece, piece[:1].expand(missing, *piece.shape[1:])])


def chunked(function: Callable[..., Tensor], chunk: int, *inputs: Tensor) -> Tensor:
    """A function of rows in calls of one shape, its results joined.

    - function: takes pieces of the inputs and gives one row for each of theirs.
    - chunk: rows of a call.
    - inputs: tensors of the same length.
    """
    results = []
    for start, found in pieces(chunk, *inputs):
        results.append(function(*found)[: len(inputs[0]) - start])
    return torch.cat(results)


class Folded(torch.autograd.Function):
    """function(x[row], *addresses) in chunks of pairs, differentiable in x, in flat memory.

    `Folded.apply(function, chunk, x, row, *addresses)`:

    - function: takes images [chunk, C, H, W] and the addresses of their pairs.
    - chunk: pairs of a call.
    - x: images [B, C, H, W].
    - row: the image of each pair [P].
    - addresses: further numbers of each pair [P].

    The backward pass recomputes each chunk before it goes through it, but for the last one, whose
    graph is kept: there is one graph at a time, however many chunks there are. The classifier's
    weights get no gradient; a second derivative raises RuntimeError.
    """

    @staticmethod
    def forward(
        ctx, function: Callable[..., Tensor], chunk: int, x: Tensor, row: Tensor, *addresses: Tensor
    ) -> Tensor:
        ctx.function, ctx.chunk, ctx.kept = function, chunk, []
        ctx.save_for_backward(x, row, *addresses)
        if not ctx.needs_input_grad[2]:
            return chunked(lambda row, *piece: function(x[row], *piece), chunk, row, *addresses)
        results = []
        for start, (where, *piece) in pieces(chunk, row, *addresses):
            left = len(row) - start
            with torch.set_grad_enabled(left <= chunk):
                images, output = _graph(function, x[where], piece, left)
            results.append(output.detach())
        ctx.kept = [(images, output)]
        return torch.cat(results)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, row, *addresses = ctx.saved_tensors
        total = torch.zeros_like(x)
        for start, (where, *piece) in reversed(list(pieces(ctx.chunk, row, *addresses))):
            part = gradient[start : start + ctx.chunk]
            if ctx.kept:  # at first, as the last chunk comes first
                images, output = ctx.kept.pop()
            else:
                with torch.enable_grad():
                    images, output = _graph(ctx.function, x[where], piece, len(part))
            downward = torch.autograd.grad(output, images, part)[0]
            total.index_put_((where,), downward, accumulate=True)
        return None, None, total, *[None] * (1 + len(addresses))


def _graph(
    function: Callable[..., Tensor], images: Tensor, piece: list[Tensor], count: int
) -> tuple[Tensor, Tensor]:
    """A chunk's images as a leaf, and its output, of which the first `count` rows are wanted."""
    leaf = images.detach().requires_grad_()
    return leaf, function(leaf, *piece)[:count]


def probabilities(model: nn.Module, x: Images, chunk: int) -> Predictions:
    """Softmax predictions F(x) [B, L] in float32, without gradient.

    - model: images to logits.
    - x: [B, C, H, W] in [0, 1].
    - chunk: images of a forward pass.
    """
    with torch.no_grad():
        return chunked(lambda piece: model(piece).softmax(1), chunk, x)
