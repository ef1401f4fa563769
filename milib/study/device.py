"""The machine a run is on: its device, the precision used there, threads and memory."""

import contextlib
import ctypes
import os

import torch

from milib.errors import UserError
from milib.study.params import Params


def resolve_device(run: Params) -> torch.device:
    """auto: CUDA where there is one. Raises UserError."""
    name = run.device if run.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    if name.split(":")[0] not in ("cpu", "cuda"):
        raise UserError(
            f"run '{run.run}': device is '{run.device}': one of auto, cpu, cuda, cuda:<n>"
        )
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(
            f"run '{run.run}': device is '{run.device}', but torch sees no CUDA here: use -p device cpu"
        )
    return torch.device(name)


def resolve_precision(run: Params, device: torch.device) -> str:
    """auto: fp32 on a CPU, bf16 on CUDA (attacks have bf16 weights). Raises UserError for bf16 on a CPU without its instructions."""
    if run.precision == "auto":
        return "bf16" if device.type == "cuda" else "fp32"
    if (
        run.precision == "bf16"
        and device.type == "cpu"
        and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    ):
        raise UserError(
            f"run '{run.run}': precision is bf16, but this CPU has no bf16 instructions (10 to 400 times slower): use -p precision fp32"
        )
    return run.precision


def scoring(run: Params, device: torch.device) -> str:
    """What the predictions of records are computed in: fp32; where attacks are in bf16 on CUDA, TF32 (fp32 with products of 10-bit mantissas)."""
    return "TF32" if device.type == "cuda" and resolve_precision(run, device) == "bf16" else "fp32"


def keep_freed_memory() -> None:
    """Let glibc keep what tensors free. Fresh pages at every step cost a CPU a tenth of a training or PGD step; peaks stay the same."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(-3, 2**30)  # M_MMAP_THRESHOLD
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def prepare(run: Params, device: torch.device) -> None:
    """Threads and memory on a CPU; on CUDA the precision of `scoring`, and deterministic kernels where PyTorch lets choose them, which it
    does not for `models.Rectified`: a test on a GPU compares two calls."""
    if device.type == "cpu":
        torch.set_num_threads(run.threads or len(os.sched_getaffinity(0)))
        keep_freed_memory()
    else:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = (
            scoring(run, device) == "TF32"
        )
        torch.backends.cudnn.deterministic = True
