"""Frozen nets and inference in chunks: the form in which a model is attacked and scored.

Every call has one shape, so a row gives the same bits whatever stands beside it, and memory is that of one chunk.
"""

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from milib.models import ConvNorm
from milib.shapes import Images, Predictions

observers: list[Callable[[int], None]] = []
"""Called with the number of rows that a chunk has done: a progress bar adds itself here."""


def flops(model: nn.Module, shape: tuple[int, int, int]) -> int:
    """Floating-point operations (2 per multiply-add) of the convolutions and linear layers, for one image of `shape`."""
    total = 0

    def count(layer, _inputs, output):
        nonlocal total
        total += 2 * layer[0].weight[0].numel() * output[0].numel()

    copied = frozen(model)
    for layer in copied.modules():
        if isinstance(layer, ConvNorm):
            layer.register_forward_hook(count)
    copied(torch.zeros(1, *shape, device=copied.head.weight.device))
    return total + 2 * copied.head.weight.numel()


def refold(copied: nn.Module, model: nn.Module) -> nn.Module:
    """Write the weights of `model` into its `frozen` copy, in place, batch norm folded into the convolutions. Returns the copy."""
    with torch.no_grad():
        for new, old in zip(copied.modules(), model.modules(), strict=True):
            if isinstance(old, ConvNorm):
                conv, norm = old
                folded = fuse_conv_bn_weights(
                    conv.weight,
                    None,
                    norm.running_mean,
                    norm.running_var,
                    norm.eps,
                    norm.weight,
                    norm.bias,
                )
                new[0].weight.copy_(folded[0])
                new[0].bias.copy_(folded[1])
            elif isinstance(old, nn.Linear):
                new.weight.copy_(old.weight)
                new.bias.copy_(old.bias)
    return copied


def frozen(model: nn.Module, precision: str = "fp32") -> nn.Module:
    """A copy for attacks and scoring: eval mode, no weight gradients, batch norm folded, channels_last.

    Logits equal the model's in eval mode to rounding, on CUDA to that of TF32 where it is on; with "bf16" weights and activations are bfloat16.
    """
    copied = copy.deepcopy(model).eval()
    for module in copied.modules():
        if isinstance(module, ConvNorm):
            module[0].bias = nn.Parameter(torch.zeros_like(module[1].bias))
            module[1] = nn.Identity()
    copied = copied.requires_grad_(False).to(
        memory_format=torch.channels_last, dtype=torch.bfloat16 if precision == "bf16" else None
    )
    return refold(copied, model)


def pieces(chunk: int, *inputs: Tensor) -> Iterator[tuple[int, list[Tensor]]]:
    """(first row, `inputs` from there on) in pieces of exactly `chunk` rows, the last padded with its own first row."""
    for start in range(0, len(inputs[0]), chunk):
        found = [tensor[start : start + chunk] for tensor in inputs]
        missing = chunk - len(found[0])
        if missing:
            found = [
                torch.cat([piece, piece[:1].expand(missing, *piece.shape[1:])]) for piece in found
            ]
        yield start, found
        for observer in observers:
            observer(chunk - missing)


def chunked(function: Callable[..., Tensor], chunk: int, *inputs: Tensor) -> Tensor:
    """`function` over `pieces` of the inputs, joined.

    One shape for every call, so the same row gives the same bits whatever stands beside it.
    """
    return torch.cat(
        [function(*found)[: len(inputs[0]) - start] for start, found in pieces(chunk, *inputs)]
    )


class Folded(torch.autograd.Function):
    """function(x[row], *addresses) in chunks of pairs, differentiable in x alone, in the memory of one chunk.

    The backward pass recomputes a chunk before it goes through it, all but the last, whose graph is kept: one graph at a time, however
    many chunks there are. The classifier's weights get no gradient; a second derivative raises RuntimeError.
    """

    @staticmethod
    def forward(
        ctx, function: Callable[..., Tensor], chunk: int, x: Tensor, row: Tensor, *addresses: Tensor
    ) -> Tensor:
        ctx.function, ctx.chunk, ctx.last = function, chunk, None
        ctx.save_for_backward(x, row, *addresses)
        if not ctx.needs_input_grad[2]:
            return chunked(lambda row, *piece: function(x[row], *piece), chunk, row, *addresses)
        results = []
        for start, (where, *piece) in pieces(chunk, row, *addresses):
            with torch.set_grad_enabled(start + chunk >= len(row)):
                images = x[where].detach().requires_grad_()
                results.append(function(images, *piece)[: len(row) - start])
        ctx.last = images, results[-1]
        return torch.cat([result.detach() for result in results])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, row, *addresses = ctx.saved_tensors
        total, (kept, ctx.last) = torch.zeros_like(x), (ctx.last, None)
        for start, (where, *piece) in reversed(list(pieces(ctx.chunk, row, *addresses))):
            part = gradient[start : start + ctx.chunk]
            if kept is None:
                with torch.enable_grad():
                    images = x[where].detach().requires_grad_()
                    kept = images, ctx.function(images, *piece)[: len(part)]
            total.index_put_(
                (where,), torch.autograd.grad(kept[1], kept[0], part)[0], accumulate=True
            )
            kept = None
        return None, None, total, *[None] * (1 + len(addresses))


def probabilities(model: nn.Module, x: Images, chunk: int) -> Predictions:
    """Softmax predictions F(x) [B, L] in float32, without gradient."""
    with torch.no_grad():
        return chunked(lambda piece: model(piece).softmax(1), chunk, x)
