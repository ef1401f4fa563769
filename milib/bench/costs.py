"""What the benchmark measures besides ratios: memory, growth of cost, latency, peak."""

import multiprocessing
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from milib import attacks, defenses, inference, rng
from milib.adaptive import adaptive_gradient
from milib.bench.contenders import Contender, Run, mi_adaptive, mi_gradient
from milib.bench.setting import EPSILON, STEP_SIZE, Setting, Sizes, fastest, timed
from milib.data import SamplePool
from milib.study import params, paths
from milib.study.rows import settings_of


def _send(pipe: Connection, function: Callable, *arguments) -> None:
    pipe.send(function(*arguments))


def alone(function: Callable, *arguments):
    """What a function returns in a process of its own.

    - function: of a module, so that the process finds it.
    - arguments: its own.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_send, args=(theirs, function, *arguments))
    process.start()
    theirs.close()
    result = ours.recv()
    process.join()
    return result


# Memory

ACCOUNT = Path("/proc/self/status")
"""What Linux tells of a process."""


def _resident(field: str) -> float:
    """A line of this process's memory account, in MiB: VmRSS now, VmHWM at most so far."""
    return int(ACCOUNT.read_text().split(f"{field}:")[1].split()[0]) / 1024


def _peak_memory(contender: Contender, sizes: Sizes) -> float:
    setting = Setting(sizes)
    idle_net = inference.frozen(setting.net)
    with torch.no_grad():
        idle_net(setting.few[:1])  # libraries are loaded
    if setting.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        idle = torch.cuda.memory_allocated() / 2**20
        contender(setting)()
        return torch.cuda.max_memory_allocated() / 2**20 - idle
    idle = _resident("VmRSS")
    contender(setting)()
    return _resident("VmHWM") - idle


def memory(sizes: Sizes) -> dict:
    """Peak memory above the idle process, in MiB, with few draws and with ten times as many.

    - sizes: N (or K) is its `draws`; the images are as few as fill four chunks with them.
    """
    images, counts, found = sizes.four_chunks, [sizes.draws, 10 * sizes.draws], {}
    measured = {"adaptive gradient": mi_adaptive, "forward with gradients": mi_gradient}
    for name, contender in measured.items():
        peaks = []
        for draws in counts:
            changed = sizes.predicting(images, draws=draws)
            peaks.append(alone(_peak_memory, contender, changed))
        found[name] = {
            "draws": counts,
            "images": images,
            "chunk": sizes.chunk,
            "MiB": peaks,
            "ratio": peaks[1] / peaks[0],
        }
    return found


# Growth of cost


def _sweep(device: torch.device, values: list[int], make: Callable[[int], Run]) -> dict:
    """Seconds at each value, best of three, with the fitted line."""
    functions = [make(value) for value in values]
    functions[0]()
    rounds = [[timed(function, device) for function in functions] for _ in range(3)]
    seconds = np.min(rounds, 0)
    slope, offset = np.polyfit(values, seconds, 1)
    residual = seconds - (slope * np.array(values) + offset)
    return {
        "values": values,
        "seconds": seconds.tolist(),
        "slope_s": float(slope),
        "offset_s": float(offset),
        "r2": float(1 - residual.var() / seconds.var()),
    }


def _scaling(sizes: Sizes) -> dict[str, dict]:
    s, unit = Setting(sizes), sizes.chunk
    net, defense = inference.frozen(s.net), s.mi()
    index, draws = torch.arange(len(s.few), device=s.device), rng.Draws("bench")

    def pgd(batches: int, steps: int) -> Run:
        x, y = s.x[:1].repeat(unit, 1, 1, 1), s.y[:1].repeat(unit)
        options = {"epsilon": EPSILON, "step_size": STEP_SIZE, "steps": [steps]}
        return lambda: [attacks.pgd(net, x, y, **options) for _ in range(batches)]

    def prediction(count: int) -> Run:
        def run() -> None:
            defense.draws = count
            defense.probabilities(s.few, draws, index)

        return run

    def adaptive(count: int) -> Run:
        options = {"variant": "eq24", "first": 0, "samples": count}
        y = s.y[: len(s.few)]
        return lambda: adaptive_gradient(defense, s.few, y, index, draws, **options)

    points, sweep = [unit, 2 * unit, 4 * unit, 6 * unit], partial(_sweep, s.device)
    return {
        "points": sweep(points, lambda count: pgd(count // unit, 1)),
        "PGD steps": sweep([2, 4, 8, 12], lambda count: pgd(1, count)),
        "draws N": sweep([25, 50, 100, 150], prediction),
        "adaptive samples K": sweep([12, 25, 50, 75], adaptive),
    }


def scaling(sizes: Sizes) -> dict[str, dict]:
    """Seconds against points, steps, N and K, best of three, with fitted lines.

    - sizes: for MI its `few` is 4.
    """
    return alone(_scaling, sizes.predicting(4))


# Latency


def _latency(sizes: Sizes) -> dict[str, list[float]]:
    s, found = Setting(sizes), {}
    net, pool, one = inference.frozen(s.net), SamplePool(s.data), s.x[:1]
    index = torch.zeros(1, dtype=torch.int64, device=s.device)
    first_rows = {}
    for row in params.load(paths.project_root() / "params" / "c10.yaml").rows:
        if row["model"] == "mixup":
            first_rows.setdefault(row["defense"], row)
    for name, row in first_rows.items():
        options = {"draws": sizes.draws, "chunk": 1 if name == "none" else sizes.draws}
        defense = defenses.build(name, net, pool, settings_of(row), **options)
        run = partial(defense.probabilities, one, rng.Draws("bench"), index)
        run()
        found[name] = [timed(run, s.device) for _ in range(max(3, sizes.rounds))]
    return found


def latency(sizes: Sizes) -> dict[str, list[float]]:
    """Seconds of one prediction on one image, bare and with each defense of Table 2's mixup.

    - sizes: N is its `draws`.
    """
    return alone(_latency, sizes)


# The machine's best


def _best_chunk(sizes: Sizes) -> int:
    s = Setting(sizes)
    net, images, seconds = inference.frozen(s.net), s.data.pixels(slice(64)), {}
    for chunk in (8, 16, 32, 64):
        run = partial(inference.probabilities, net, images, chunk)
        seconds[chunk] = fastest(4, run, s.device)
    return min(seconds, key=lambda chunk: seconds[chunk])


def best_chunk(sizes: Sizes) -> int:
    """The batch size at which a bare forward costs least per image.

    - sizes: net, threads and device.
    """
    return alone(_best_chunk, sizes)


def peak_flops(sizes: Sizes, dtype: torch.dtype) -> float:
    """Operations a second that nothing exceeds by much.

    They are those of a large matrix product, or of a large convolution where that is faster.

    - sizes: the device.
    - dtype: of the numbers.
    """
    side, width, images = (8192, 256, 1024) if sizes.device == "cuda" else (2048, 256, 64)
    options = {"device": sizes.device, "dtype": dtype}
    a = torch.ones(side, side, **options)
    x = torch.ones(images, width, 16, 16, **options)
    x = x.contiguous(memory_format=torch.channels_last)
    kernel = torch.ones(width, width, 3, 3, **options)
    kernel = kernel.contiguous(memory_format=torch.channels_last)

    def rate(work: int, function: Run) -> float:
        timed(function, a.device)
        return work / fastest(5, function, a.device)

    product = rate(2 * side**3, lambda: a @ a)
    convolution = rate(2 * x.numel() * width * 9, lambda: torch.conv2d(x, kernel, padding=1))
    return max(product, convolution)


def shares(times: dict[str, list[float] | str], sizes: Sizes) -> dict[str, float]:
    """Share of the measured peak that the work with the large net reaches, and the peaks.

    - times: of `turns.interleaved`.
    - sizes: how much was done.

    A training step counts three forwards, a PGD step two.
    """
    cost = inference.flops(Setting(sizes).net, (3, 32, 32))
    training = 3 * 2 * sizes.small_batch
    pgd = 2 * sizes.points * sizes.steps
    forwards = {
        "train resnet50": training,
        "pgd milib": pgd,
        "mi": sizes.few * (sizes.draws + 1),
        "train resnet50 bf16": training,
        "pgd milib bf16": pgd,
    }
    peaks: dict[str, float] = {}
    found: dict[str, float] = {}
    for name, count in forwards.items():
        seconds = times[name]
        if isinstance(seconds, str):
            continue
        kind = "bfloat16" if name.endswith("bf16") else "float32"
        if kind not in peaks:
            peaks[kind] = peak_flops(sizes, getattr(torch, kind))
        found[name] = count * cost / float(np.median(seconds)) / peaks[kind]
    return found | {f"{kind} peak, GFLOP/s": peak / 1e9 for kind, peak in peaks.items()}
