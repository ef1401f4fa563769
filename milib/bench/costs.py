"""What the benchmark measures besides ratios: memory, growth of cost, latency, share of the machine's peak, agreement of attacks."""

import dataclasses
import multiprocessing
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from milib import attacks, defenses, inference, rng
from milib.bench import contenders, peers
from milib.bench.setting import Setting, Sizes, timed
from milib.data import SamplePool
from milib.errors import UserError
from milib.study import params, paths, weights
from milib.study.rows import settings_of
from milib.study.study import Study


def _resident(field: str) -> float:
    """A line of this process's memory account, in MiB: VmRSS now, VmHWM at most so far."""
    return int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def _peak(pipe, kind: str, sizes: Sizes) -> None:
    setting = Setting(sizes)
    idle_net = inference.frozen(setting.net)
    with torch.no_grad():
        idle_net(setting.few[:1])  # libraries are loaded
    if setting.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        idle = torch.cuda.memory_allocated() / 2**20
        contenders.mi(kind)(setting)()
        pipe.send(torch.cuda.max_memory_allocated() / 2**20 - idle)
        return
    idle = _resident("VmRSS")
    contenders.mi(kind)(setting)()
    pipe.send(_resident("VmHWM") - idle)


def alone(function: Callable, *arguments):
    """What `function(pipe, *arguments)` sends, from a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=function, args=(theirs, *arguments))
    process.start()
    theirs.close()
    result = ours.recv()
    process.join()
    return result


def memory(sizes: Sizes) -> dict:
    """Peak memory above the idle process, in MiB, with N (or K) draws, which fill four chunks or more, and with ten times as many."""
    images, found = sizes.four_chunks, {}
    for kind, name in (("adaptive", "adaptive gradient"), ("gradient", "forward with gradients")):
        counts = [sizes.draws, 10 * sizes.draws]
        few, many = (
            alone(_peak, kind, dataclasses.replace(sizes, few=images, draws=draws))
            for draws in counts
        )
        found[name] = {
            "draws": counts,
            "images": images,
            "chunk": sizes.chunk,
            "MiB": [few, many],
            "ratio": many / few,
        }
    return found


def _scaling(pipe, sizes: Sizes) -> None:
    s, found = Setting(sizes), {}
    net, defense = inference.frozen(s.net), s.mi()
    index, draws = torch.arange(len(s.few), device=s.device), rng.Draws("bench")

    def pgd(points: int, steps: int) -> Callable:
        x, y = s.x[:1].repeat(sizes.chunk, 1, 1, 1), s.y[:1].repeat(sizes.chunk)
        options = {"epsilon": 8 / 255, "step_size": 2 / 255, "steps": [steps]}
        return lambda: [attacks.pgd(net, x, y, **options) for _ in range(points // sizes.chunk)]

    def prediction(count: int) -> Callable:
        return lambda: (
            setattr(defense, "draws", count) or defense.probabilities(s.few, draws, index)
        )

    def adaptive(count: int) -> Callable:
        return lambda: attacks.adaptive_gradient(
            defense, s.few, s.y[: len(s.few)], index, draws, variant="eq24", first=0, samples=count
        )

    unit = sizes.chunk
    sweeps = {
        "points": ([unit, 2 * unit, 4 * unit, 6 * unit], lambda n: pgd(n, 1)),
        "PGD steps": ([2, 4, 8, 12], lambda n: pgd(unit, n)),
        "draws N": ([25, 50, 100, 150], prediction),
        "adaptive samples K": ([12, 25, 50, 75], adaptive),
    }
    for name, (values, make) in sweeps.items():
        functions = [make(value) for value in values]
        functions[0]()
        seconds = np.min(
            [[timed(function, s.device) for function in functions] for _ in range(3)], 0
        )
        slope, offset = np.polyfit(values, seconds, 1)
        residual = seconds - (slope * np.array(values) + offset)
        found[name] = {
            "values": values,
            "seconds": seconds.tolist(),
            "slope_s": float(slope),
            "offset_s": float(offset),
        }
        found[name]["r2"] = float(1 - residual.var() / seconds.var())
    pipe.send(found)


def scaling(sizes: Sizes) -> dict:
    """Seconds against points, steps, N and K (best of three), with fitted lines."""
    return alone(_scaling, dataclasses.replace(sizes, few=4))


def _latency(pipe, sizes: Sizes) -> None:
    s, found = Setting(sizes), {}
    net, pool, one, index = (
        inference.frozen(s.net),
        SamplePool(s.data),
        s.x[:1],
        torch.zeros(1, dtype=torch.int64, device=s.device),
    )
    rows = params.load(paths.project_root() / "params" / "c10.yaml").rows
    table4 = {
        row["defense"]: settings_of(row) for row in reversed(rows) if row["model"] == "mixup"
    }  # the first row of each defense
    for name, settings in reversed(table4.items()):
        defense = defenses.build(
            name, net, pool, settings, draws=sizes.draws, chunk=1 if name == "none" else sizes.draws
        )
        function = lambda defense=defense: defense.probabilities(one, rng.Draws("bench"), index)  # noqa: E731
        function()
        found[name] = [timed(function, s.device) for _ in range(max(3, sizes.rounds))]
    pipe.send(found)


def _best_chunk(pipe, sizes: Sizes) -> None:
    s = Setting(sizes)
    net, images = inference.frozen(s.net), s.data.pixels(slice(64))
    pipe.send(
        min(
            (8, 16, 32, 64),
            key=lambda chunk: min(
                timed(lambda: inference.probabilities(net, images, chunk), s.device)
                for _ in range(4)
            ),
        )
    )


def best_chunk(sizes: Sizes) -> int:
    """The batch size at which a bare forward costs least per image."""
    return alone(_best_chunk, sizes)


def latency(sizes: Sizes) -> dict[str, list[float]]:
    """Seconds of one prediction on one image, bare and with each defense (N draws)."""
    return alone(_latency, sizes)


def peak_flops(sizes: Sizes, dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product, or of a large convolution where that is faster: what nothing exceeds by much."""
    side, width, images = (8192, 256, 1024) if sizes.device == "cuda" else (2048, 256, 64)
    a = torch.ones(side, side, device=sizes.device, dtype=dtype)
    x = torch.ones(images, width, 16, 16, device=sizes.device, dtype=dtype).contiguous(
        memory_format=torch.channels_last
    )
    kernel = torch.ones(width, width, 3, 3, device=sizes.device, dtype=dtype).contiguous(
        memory_format=torch.channels_last
    )
    rates = []
    for work, function in (
        (2 * side**3, lambda: a @ a),
        (2 * x.numel() * width * 9, lambda: torch.conv2d(x, kernel, padding=1)),
    ):
        timed(function, a.device)
        rates.append(work / min(timed(function, a.device) for _ in range(5)))
    return max(rates)


def agreement(sizes: Sizes, points: int = 300) -> dict:
    """Predictions on the PGD-10 examples of every library beside milib's, and robust accuracy, on interpolated-AT models that are there."""
    found = {}
    for name in ("digits", "c10_compact", "c10"):
        run = params.load(
            paths.project_root() / "params" / f"{name}.yaml",
            {"device": sizes.device, "n_test": points, "threads": sizes.threads},
        )
        here = Study(run, "bench")
        if (
            name != "digits"
            and here.store.find_checkpoint(
                "interpolated_at", weights.recipe(run, "interpolated_at")
            )
            is None
        ):
            found[name] = {"why": "no weights of interpolated_at here yet"}
            continue
        try:
            found[name] = _agreement(here)
        except UserError as error:
            found[name] = {"why": str(error)}
    return found


def _agreement(here: Study) -> dict:
    run, net, test = here.params, here.model("interpolated_at").net, here.points(here.params.n_test)
    options = (run.epsilon, run.step_size, run.steps[0])
    scorer = inference.frozen(net)
    ours = {"milib": scorer}
    if here.device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported():
        ours["milib bf16"] = inference.frozen(net, "bf16")
    attack = {"epsilon": run.epsilon, "step_size": run.step_size, "steps": [run.steps[0]]}
    made = {
        name: lambda x, y, net=classifier: attacks.pgd(net, x, y, **attack)[:, 0]
        for name, classifier in ours.items()
    }
    found, reference = {}, None
    for name in (*made, *peers.ATTACKS):
        try:
            function = made.get(name) or peers.ATTACKS[name](net, *options)
        except ImportError as error:
            found[name] = {"why": str(error)}
            continue
        examples = function(test.x, test.y).detach()
        predicted = inference.probabilities(scorer, examples, run.chunk).argmax(1)
        reference = predicted if reference is None else reference
        found[name] = {
            "robust_accuracy": (predicted == test.y).double().mean().item(),
            "identical": (predicted == reference).double().mean().item(),
        }
    return {"points": len(test.y), "attacks": found}
