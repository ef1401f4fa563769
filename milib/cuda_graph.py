"""On a GPU, a function of tensors as one CUDA graph.

At batch 64, launching kernels one by one takes longer than running them.
"""

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

WARM_UP = 3
"""Calls before a capture, in which libraries choose algorithms and allocate workspaces."""


class CudaGraph:
    """A function as one captured graph per key and input shapes on CUDA; on a CPU a plain call.

    - function: `function(key, **inputs)` gives a tuple of tensors.
    - changed: the tensors that `function` changes in place (batch-norm statistics). They are put
      back after the warm-up, so that a call changes them once.

    Call it as `function` is called. On CUDA the results are the graph's own tensors: read them
    before the next call.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]], changed: list[Tensor]):
        self.function, self.changed = function, changed
        self.graphs: dict[Hashable, tuple] = {}

    def __call__(self, key: Hashable, **inputs: Tensor) -> tuple[Tensor, ...]:
        if not any(value.is_cuda for value in inputs.values()):
            return self.function(key, **inputs)
        shapes = (key, *((name, value.shape, value.dtype) for name, value in inputs.items()))
        if shapes not in self.graphs:
            self.graphs[shapes] = self._capture(key, inputs)
        graph, fixed, results = self.graphs[shapes]
        for name, value in inputs.items():
            fixed[name].copy_(value)
        graph.replay()
        return results

    def _capture(self, key: Hashable, inputs: dict[str, Tensor]) -> tuple:
        fixed = {name: value.clone() for name, value in inputs.items()}
        before = [tensor.clone() for tensor in self.changed]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self.function(key, **fixed)
        torch.cuda.current_stream().wait_stream(side)
        for tensor, value in zip(self.changed, before, strict=True):
            tensor.copy_(value)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            results = self.function(key, **fixed)
        return graph, fixed, results
