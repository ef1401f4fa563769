"""The machine a run is on: its device, the precision used there, threads and memory."""

import contextlib
import ctypes
import os

import torch

from milib.errors import UserError
from milib.study.params import Params


def resolve_device(run: Params) -> torch.device:
    """The device that a run asks for; for "auto" CUDA where there is one, else the CPU.

    - run: its `device`.

    Raises UserError where torch sees no CUDA, or fewer of them.
    """
    name, count = run.device, torch.cuda.device_count()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    found, asked = torch.device(name), f"run '{run.run}': device is '{run.device}'"
    if found.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{asked}, but torch sees no CUDA here: use -p device cpu")
    if found.type == "cuda" and (found.index or 0) >= count:
        raise UserError(f"{asked}, but torch sees {count} of them: the last is cuda:{count - 1}")
    return found


def cores() -> int:
    """The CPU cores that this process may use; all of them where the system does not tell."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolve_precision(run: Params, device: torch.device) -> str:
    """The precision of training and attacks: "fp32" or "bf16", which gives attacks bf16 weights.

    - run: its `precision`; "auto" is fp32 on a CPU, bf16 on CUDA.
    - device: see `resolve_device`.
    """
    if run.precision == "auto":
        return "bf16" if device.type == "cuda" else "fp32"
    return run.precision


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse to train or attack in bf16 on a CPU without bf16 instructions.

    - precision: "fp32" or "bf16".
    - device: where it is to be computed. Finished records can be read anywhere.

    Raises UserError.
    """
    asked = precision == "bf16" and device.type == "cpu"
    if asked and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise UserError(
            "precision is bf16, but this CPU has no bf16 instructions "
            "(10 to 400 times slower): use -p precision fp32"
        )


def scoring(run: Params, device: torch.device) -> str:
    """The precision of a record's predictions: "TF32" beside bf16 attacks on CUDA, else "fp32".

    - run: its `precision`.
    - device: see `resolve_device`.

    TF32 is fp32 whose products have mantissas of 10 bits.
    """
    on_cuda = device.type == "cuda"
    return "TF32" if on_cuda and resolve_precision(run, device) == "bf16" else "fp32"


def keep_freed_memory() -> None:
    """Let glibc keep what tensors free.

    Fresh pages at every step cost a CPU a tenth of a training or PGD step; peaks stay the same.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(-3, 2**30)  # M_MMAP_THRESHOLD
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def prepare(run: Params, device: torch.device) -> None:
    """Set threads and memory on a CPU; on CUDA the precision of `scoring` and fixed kernels.

    - run: its `threads` and `precision`.
    - device: see `resolve_device`.

    PyTorch cannot fix the kernels of `models.Rectified`: a test on a GPU compares two calls.
    """
    if device.type == "cpu":
        torch.set_num_threads(run.threads or cores())
        keep_freed_memory()
    else:
        tf32 = scoring(run, device) == "TF32"
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.deterministic = True
