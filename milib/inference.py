"""Frozen nets and inference in chunks: the form in which a model is attacked and scored.

Every call has as many rows as a chunk, or, where there is less to do, the next multiple of LITTLE.
A row so gives the same bits whatever stands beside it, and memory is that of one chunk.
"""

import contextlib
import copy
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from milib import checks
from milib.models import Classifier, ConvNorm, Net, channels_last
from milib.shapes import Images, Predictions

HALF = (torch.float16, torch.bfloat16)
"""Types of images that are computed on in float32."""
PRECISIONS = ("fp32", "bf16")
observers: list[Callable[[int], None]] = []
"""Called with the number of rows that a chunk has done: a progress bar adds itself here."""


def flops(model: Classifier, shape: Sequence[int]) -> int:
    """Floating-point operations of convolutions and matrix products, 2 per multiply-add.

    - model: one of `models`.
    - shape: (C, H, W) of one image.
    """
    from torch.utils.flop_counter import FlopCounterMode  # here: it takes half a second

    checks.instance("model", model, Classifier)
    copied = frozen(model).cpu()  # on CUDA its convolutions are one kernel with what follows
    with FlopCounterMode(display=False) as counter:
        copied(torch.zeros(1, *shape))
    return counter.get_total_flops()


def refold(copied: Net, model: nn.Module) -> Net:
    """Write the weights of a net of `models` into its `frozen` copy, in place, batch norm folded.

    - copied: the frozen copy, which is returned.
    - model: the net.
    """
    within: set[nn.Module] = set()
    with torch.no_grad():
        for new, old in zip(copied.modules(), model.modules(), strict=True):
            if isinstance(old, ConvNorm) and isinstance(new, ConvNorm):
                weight, bias = old.folded()
                new.conv.weight.copy_(weight)
                new.conv.get_parameter("bias").copy_(bias)
                within |= set(old.children())
            elif old not in within:
                for mine, its in zip(_tensors(new), _tensors(old), strict=True):
                    mine.copy_(its)
    return copied


def _tensors(module: nn.Module) -> list[Tensor]:
    """A module's weights and buffers without those of the modules in it."""
    return [*module.parameters(recurse=False), *module.buffers(recurse=False)]


def frozen(model: Net, precision: str = "fp32") -> Net:
    """A copy for attacks and scoring: eval mode, no weight gradients, batch norm folded.

    - model: the net, which stays as it is; batch norm is folded in the nets of `models`.
    - precision: "fp32" (default) or "bf16": the type of weights and activations.

    In fp32, logits equal the model's in eval mode to rounding; on CUDA, to that of TF32 where it
    is on.
    """
    checks.choice("precision", precision, PRECISIONS)
    checks.instance("model", model, nn.Module)
    copied = copy.deepcopy(model).eval()
    for module in copied.modules():
        if isinstance(module, ConvNorm) and isinstance(module.norm, nn.BatchNorm2d):
            weight, bias = module.folded()
            module.conv.weight, module.conv.bias = nn.Parameter(weight), nn.Parameter(bias)
            module[1] = nn.Identity()
    copied = channels_last(copied.requires_grad_(False))
    return copied.to(torch.bfloat16) if precision == "bf16" else copied


LITTLE = 256
"""Rows of a call that cost little: where a chunk has room for more than there is to do, a call
takes the next multiple of these."""
_fitting: dict[object, int] = {}
"""Rows of a call that the GPU's memory was found to hold, by the code of the function."""


def _code(function: Callable) -> object:
    """What two closures of one `def` share."""
    return getattr(function, "__code__", type(function))


def _rows(function: Callable, chunk: int, count: int) -> int:
    """The rows of a call: a chunk, or less where there is less to do or less memory."""
    return min(chunk, _fitting.get(_code(function), chunk), -(-count // LITTLE) * LITTLE)


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


def _fitted(function: Callable, evaluate: Callable[[int], Tensor], rows: int) -> Tensor:
    """What `evaluate` makes in calls of so many rows: of half as many where they do not fit.

    What fits is remembered for the function, with a warning. Raises what torch raises where one row
    is too many.
    """
    given = rows
    while True:
        try:
            found = evaluate(rows)
            break
        except torch.OutOfMemoryError:
            if rows == 1:
                raise
        # outside the handler, which would keep the tensors of what failed
        torch.cuda.empty_cache()
        rows = (rows + 1) // 2
    if rows < given:
        _fitting[_code(function)] = rows
        full = f"the GPU's memory is full: {rows} images at once from now on, not {given}"
        warnings.warn(full, stacklevel=4)
    return found


def chunked(function: Callable[..., Tensor], chunk: int, *inputs: Tensor) -> Tensor:
    """A function of rows in calls of one shape, its results joined.

    - function: takes pieces of the inputs and gives one row for each of theirs.
    - chunk: rows of a call, at most. Where there is less to do, or where the memory of a GPU is too
      small, calls have fewer, and last bits may be others.
    - inputs: tensors of the same length.
    """
    count = len(inputs[0])
    if count == 0:  # one row that does not count tells the shape
        return function(*(tensor.new_zeros(1, *tensor.shape[1:]) for tensor in inputs))[:0]

    def evaluate(rows: int) -> Tensor:
        found = [function(*piece)[: count - start] for start, piece in pieces(rows, *inputs)]
        return torch.cat(found)

    return _fitted(function, evaluate, _rows(function, chunk, count))


def folded(
    function: Callable[..., Tensor],
    chunk: int,
    weights: Iterator[Tensor],
    x: Tensor,
    row: Tensor,
    *addresses: Tensor,
) -> Tensor:
    """function(x[row], *addresses) in chunks of pairs, differentiable once, in flat memory.

    - function: takes images [chunk, C, H, W] and the addresses of their pairs.
    - chunk: pairs of a call, at most; see `chunked`.
    - weights: what the function depends on besides; those that ask for a gradient get one.
    - x: images [B, C, H, W].
    - row: the image of each pair [P].
    - addresses: further numbers of each pair [P].

    The backward pass recomputes each chunk, in the random state that it had, but for the last one,
    whose graph is kept: there is one graph at a time, however many chunks there are. A second
    derivative raises RuntimeError, and so do weights that were changed in between.
    """
    if len(row) == 0:  # one pair of an image that does not count tells the shape
        blank = torch.cat([x, x.new_zeros(1, *x.shape[1:])])
        return function(blank, *(number.new_zeros(1) for number in addresses))[:0]
    found = tuple(weights)
    recorded = any(tensor.requires_grad for tensor in (x, *found))
    if recorded and torch.is_grad_enabled():
        return Folded.apply(function, chunk, x, row, addresses, *found)
    return chunked(lambda row, *piece: function(x[row], *piece), chunk, row, *addresses)


class Folded(torch.autograd.Function):
    """The autograd function behind `folded`."""

    @staticmethod
    def forward(
        ctx,
        function: Callable[..., Tensor],
        chunk: int,
        x: Tensor,
        row: Tensor,
        addresses: tuple[Tensor, ...],
        *weights: Tensor,
    ) -> Tensor:
        ctx.function, ctx.pairs = function, (row, *addresses)
        kind = x.device.type
        autocast = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
        ctx.autocast = {"device_type": kind, "enabled": autocast[0], "dtype": autocast[1]}
        ctx.save_for_backward(x, *weights)

        def evaluate(rows: int) -> Tensor:
            ctx.chunk, ctx.states, ctx.kept, results = rows, [], [], []
            for start, (where, *piece) in pieces(rows, *ctx.pairs):
                left = len(row) - start
                ctx.states.append(_random_state(x.device))
                with torch.set_grad_enabled(left <= rows):
                    images, output = _graph(function, x[where], piece, left)
                results.append(output.detach())
                ctx.kept = [(images, output)]
            return torch.cat(results)

        return _fitted(function, evaluate, _rows(function, chunk, len(row)))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        wanted = [weight for weight in weights if weight.requires_grad]
        totals = [torch.zeros_like(weight) for weight in wanted]
        total = torch.zeros_like(x)
        chunks = list(zip(pieces(ctx.chunk, *ctx.pairs), ctx.states, strict=True))
        for (start, (where, *piece)), state in reversed(chunks):
            part = gradient[start : start + ctx.chunk]
            if ctx.kept:  # at first, as the last chunk comes first
                images, output = ctx.kept.pop()
            else:
                with _as_before(x.device, state, ctx.autocast), torch.enable_grad():
                    images, output = _graph(ctx.function, x[where], piece, len(part))
            inputs = (images, *wanted)
            downward, *found = torch.autograd.grad(output, inputs, part, allow_unused=True)
            if downward is not None:
                total.index_put_((where,), downward, accumulate=True)
            for sum_, value in zip(totals, found, strict=True):
                if value is not None:
                    sum_ += value
        summed = iter(totals)
        each = [next(summed) if weight.requires_grad else None for weight in weights]
        return None, None, total, None, None, *each


def _random_state(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states


@contextlib.contextmanager
def _as_before(device: torch.device, states: list[Tensor], autocast: dict) -> Iterator[None]:
    """The random state and autocast of an earlier moment; those of now come back at the end."""
    on_cuda = device.type == "cuda"
    devices = [device] if on_cuda else []
    with torch.random.fork_rng(devices=devices), torch.autocast(**autocast):
        torch.set_rng_state(states[0])
        if on_cuda:
            torch.cuda.set_rng_state(states[1], device)
        yield


def _graph(
    function: Callable[..., Tensor], images: Tensor, piece: list[Tensor], count: int
) -> tuple[Tensor, Tensor]:
    """A chunk's images as a leaf, and its output, of which the first `count` rows are wanted."""
    leaf = images.detach().requires_grad_()
    return leaf, function(leaf, *piece)[:count]


def logits(classifier: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A classifier's logits [B, L] in float32 or float64, whatever the type of its weights.

    - classifier: images to logits; a net of `models` converts by itself.
    - x: [B, C, H, W] in float32 or float64.
    """
    if isinstance(classifier, nn.Module) and not isinstance(classifier, Classifier):
        values = itertools.chain(classifier.parameters(), classifier.buffers())
        x = x.to(next((each.dtype for each in values if each.is_floating_point()), x.dtype))
    found = classifier(x)
    if isinstance(found, Tensor) and found.dtype in HALF:
        return found.float()
    return found


def probabilities(model: nn.Module, x: Images, chunk: int) -> Predictions:
    """Softmax predictions F(x) [B, L] in float32, without gradient.

    - model: images to logits.
    - x: [B, C, H, W] in [0, 1], in floating point.
    - chunk: images of a forward pass.

    Raises UserError for input that is none of these, and where the model gives NaN.
    """
    x, chunk = working(checks.images("x", x)), checks.count("chunk", chunk)
    checks.deterministic(model)
    with torch.no_grad():
        # copies, as a net may normalise in place
        found = chunked(lambda piece: logits(model, piece.clone()), chunk, x)
    checks.logits(found, len(x))
    return found.softmax(1)


def working(x: Images) -> Images:
    """Images in the type that is computed in: float64 where they have it, else float32.

    - x: [B, C, H, W] in floating point.
    """
    return x.float() if x.dtype in HALF else x
