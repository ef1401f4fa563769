"""`make bench`: milib beside what a user would pick instead, as ratios from one run on one machine with nothing else running.

Every contender lives in a process of its own, with the memory and the settings it would have alone; the processes take turns, one
call each, round after round, and a ratio is the median over rounds of the two times of one round.
"""

import argparse
import dataclasses
import json
import os
import re
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from milib import files, inference
from milib.bench import costs
from milib.bench.contenders import CONTENDERS
from milib.bench.setting import Setting, Sizes
from milib.bench.turns import interleaved, ratio
from milib.study.paths import project_root
from milib.study.store import provenance
from milib.views import figures
from milib.views.figures import COLOURS, panels

# What is compared: in words, contender, beside what, limit (by instruction set where it depends on it), note
ROWS = [
    ("PGD step / folded forward", "pgd milib", "forward", 2.2, "exact fp32; the limit is 2.0"),
    (
        "PGD step / plain loop",
        "pgd milib",
        "pgd plain loop",
        {"AVX512": 0.70, "AVX2": 0.80},
        "channels_last, input gradient alone",
    ),
    (
        "PGD step / torchattacks",
        "pgd milib",
        "pgd torchattacks",
        {"AVX512": 0.70, "AVX2": 0.80},
        "",
    ),
    ("PGD step / foolbox", "pgd milib", "pgd foolbox", None, ""),
    (
        "PGD step / AutoAttack APGD",
        "pgd milib",
        "pgd AutoAttack APGD",
        None,
        "as many iterations; APGD sets its own step sizes",
    ),
    ("PGD step / ART", "pgd milib", "pgd ART", None, ""),
    (
        "PGD step in bf16 / plain loop",
        "pgd milib bf16",
        "pgd plain loop",
        0.40,
        "bf16 against fp32",
    ),
    (
        "its convolutions alone / plain loop",
        "convolutions",
        "pgd plain loop",
        None,
        "a PGD step in fp32 cannot beat it on a CPU; on CUDA it fuses them",
    ),
    (
        "its convolutions in bf16 alone / plain loop",
        "convolutions bf16",
        "pgd plain loop",
        None,
        "the same in bf16",
    ),
    (
        "PGD step, compiled / plain loop",
        "pgd milib compiled",
        "pgd plain loop",
        None,
        "torch.compile of the folded net",
    ),
    (
        "PGD-10, 50 and 200 in one / three runs",
        "pgd 10, 50, 200 in one",
        "pgd 10, 50, 200 apart",
        0.79,
        "200 / 260 is the limit",
    ),
    ("MI-OL / N + 1 bare forwards", "mi", "forwards", 1.05, "forwards at the best batch size"),
    (
        "MI-OL / Algorithm 1 at batch 1",
        "mi",
        "algorithm 1, batch 1",
        1 / 2.4,
        "as the authors ran it",
    ),
    (
        "MI-OL / Algorithm 1, batched",
        "mi",
        "algorithm 1, batched",
        None,
        "one draw at a time for the whole batch",
    ),
    (
        "MI-Combined / MI-OL, none flagged",
        "mi-combined, none flagged",
        "mi",
        None,
        "N draws of MI-PL and one base prediction",
    ),
    ("MI-Combined / MI-OL, half flagged", "mi-combined, half flagged", "mi", None, ""),
    ("MI-Combined / MI-OL, all flagged", "mi-combined, all flagged", "mi", None, ""),
    (
        "adaptive gradient / K bare passes",
        "mi adaptive",
        "passes",
        1.05,
        "forward and backward, K adaptive samples",
    ),
    (
        "defense's forward and backward / N bare passes",
        "mi gradient",
        "passes",
        1.40,
        "all chunks but the last are run twice: 1 + 1 / 2.1 is the bound",
    ),
    (
        "the same where the draws fill four chunks",
        "mi gradient, four chunks",
        "passes, four chunks",
        1.40,
        "as in the rows on memory",
    ),
    (
        "defense's forward and backward / N plain passes",
        "mi gradient",
        "plain passes",
        None,
        "passes of the net as it is: not folded, not frozen",
    ),
    (
        "training, compact net / DataLoader loop",
        "train compact",
        "train compact usual",
        0.90,
        "torchvision transforms, two workers",
    ),
    (
        "training in bf16, compact net / DataLoader loop",
        "train compact bf16",
        "train compact usual",
        None,
        "bf16 against fp32",
    ),
    (
        "training, ResNet-50 / DataLoader loop",
        "train resnet50",
        "train resnet50 usual",
        None,
        "batch 32",
    ),
    (
        "training in bf16, ResNet-50 / DataLoader loop",
        "train resnet50 bf16",
        "train resnet50 usual",
        None,
        "bf16 against fp32",
    ),
    (
        "AT with PGD-10, compact net / common mistake",
        "at compact",
        "at compact usual",
        0.78,
        "weight gradients inside the attack",
    ),
    (
        "AT with PGD-10, ResNet-50 / common mistake",
        "at resnet50",
        "at resnet50 usual",
        0.78,
        "batch 32",
    ),
]


def machine(sizes: Sizes) -> dict:
    """What ran it: processor, instruction set, threads, versions."""
    if sizes.device == "cuda":
        name, capability = torch.cuda.get_device_name(), "CUDA " + str(torch.version.cuda)
    else:
        lines = (
            Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
        )
        about = dict(
            re.split(r"\s*: ?", line, maxsplit=1) for line in reversed(lines) if ":" in line
        )
        name = (
            " ".join(about[key] for key in ("model name", "cpu family", "model") if key in about)
            or "CPU"
        )  # the name alone may cover generations
        capability = torch.backends.cpu.get_cpu_capability() + (
            " bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else ""
        )
    packages = (
        "torch",
        "torchvision",
        "numpy",
        "foolbox",
        "adversarial-robustness-toolbox",
        "pyautoattack",
        "torchattacks",
    )
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "name": name,
        "capability": capability,
        "threads": sizes.threads or len(os.sched_getaffinity(0)),
        "versions": versions,
    }


def groups() -> list[list[str]]:
    """The contenders that ROWS compares, directly or through others: each group takes turns."""
    found: list[set] = []
    for _, ours, theirs, *_ in ROWS:
        joined = [group for group in found if {ours, theirs} & group]
        found = [group for group in found if group not in joined] + [{ours, theirs}.union(*joined)]
    return [[name for name in CONTENDERS if name in group] for group in found]


def limit_of(limit, capability: str) -> float | None:
    """A row's limit on this machine."""
    if isinstance(limit, dict):
        return limit["AVX512" if "AVX512" in capability else "AVX2"]
    return limit


def shares(times: dict, sizes: Sizes) -> dict[str, float]:
    """Share of the measured matrix peak that the ResNet-50 work reaches: a training step counts three forwards, a PGD step two."""
    setting = Setting(sizes)
    cost = inference.flops(setting.net, (3, 32, 32))
    work = {
        "train resnet50": 3 * 2 * sizes.small_batch,
        "pgd milib": 2 * sizes.points * sizes.steps,
        "mi": sizes.few * (sizes.draws + 1),
    }
    work |= {"train resnet50 bf16": work["train resnet50"], "pgd milib bf16": work["pgd milib"]}
    peaks, found = {}, {}
    for name, passes in work.items():
        dtype = torch.bfloat16 if name.endswith("bf16") else torch.float32
        if isinstance(times[name], list):
            peaks[dtype] = peaks.get(dtype) or costs.peak_flops(sizes, dtype)
            found[name] = passes * cost / float(np.median(times[name])) / peaks[dtype]
    return found | {f"{str(dtype)[6:]} peak, GFLOP/s": peak / 1e9 for dtype, peak in peaks.items()}


def scaling(sweeps: dict[str, dict]) -> Figure:
    """The benchmark's cost: seconds against points, steps, N and K, with the fitted lines."""
    figure, axes = panels(1, len(sweeps), 2.6, 2.4)
    for axis, (name, sweep) in zip(axes[0], sweeps.items(), strict=True):
        line = np.array([0, max(sweep["values"])])
        axis.plot(line, sweep["slope_s"] * line + sweep["offset_s"], color=COLOURS["erm"], lw=1)
        axis.plot(sweep["values"], sweep["seconds"], "o", color=COLOURS["mi_ol"], ms=4)
        axis.set(
            xlabel=name,
            ylabel="seconds",
            title=f"{1e3 * sweep['slope_s']:.1f} ms each, R² {sweep['r2']:.3f}",
            ylim=(0, None),
        )
    return figure


def text(result: dict) -> str:
    """The benchmark's table, as it is printed."""
    about = result["machine"]
    sizes = ", ".join(f"{name} {value}" for name, value in result["sizes"].items())
    lines = [
        f"{about['name']}, {about['capability']}, {about['threads']} threads, torch {about['versions']['torch']}; {result['seconds'] / 60:.1f} min"
    ]
    lines += [
        sizes,
        "",
        f"{'ratio of times (median over rounds)':<52} {'ratio':>6} {'least':>6} {'most':>6} {'limit':>6}   ms / ms",
    ]
    for row in result["rows"]:
        if "why" in row:
            lines.append(f"{row['what']:<52} not run: {row['why']}")
            continue
        verdict = (
            ""
            if row["limit"] is None
            else ("reached" if row["ratio"] <= row["limit"] else "missed")
        )
        limit = "" if row["limit"] is None else f"{row['limit']:.2f}"
        times = f"{1e3 * row['ours_s']:.0f} / {1e3 * row['theirs_s']:.0f}"
        lines.append(
            f"{row['what']:<52} {row['ratio']:>6.2f} {row['least']:>6.2f} {row['most']:>6.2f} {limit:>6}   {times}  {verdict}  {row['note']}".rstrip()
        )
    lines += ["", "peak memory above the idle process, MiB"]
    for name, row in result["memory"].items():
        (few, many), (low, high) = row["MiB"], row["draws"]
        lines.append(
            f"{name}: {few:.0f} with {low} draws, {many:.0f} with {high} ({row['images']} images, chunk {row['chunk']}): ratio {row['ratio']:.3f}"
        )
    lines += ["", "seconds grow linearly with"]
    lines += [
        f"{name}: {1e3 * row['slope_s']:.2f} ms each, R2 {row['r2']:.4f}"
        for name, row in result["scaling"].items()
    ]
    lines += ["", f"latency of one prediction, ms (median; N = {result['sizes']['draws']})"]
    lines += [
        f"{name}: {1e3 * float(np.median(times)):.1f}" for name, times in result["latency"].items()
    ]
    lines += ["", "share of the measured matrix peak"] + [
        f"{name}: {value:.3g}" for name, value in result["peak"].items()
    ]
    for run, row in result["agreement"].items():
        lines += [
            "",
            f"PGD-10 against interpolated AT, run {run}: "
            + (row.get("why") or f"{row['points']} points"),
        ]
        for name, cell in row.get("attacks", {}).items():
            words = (
                cell.get("why")
                or f"robust accuracy {100 * cell['robust_accuracy']:.1f} %, {100 * cell['identical']:.1f} % of predictions as milib's"
            )
            lines.append(f"{name}: {words}")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """The command line: `python -m milib.bench [--out FOLDER] [-p SIZE VALUE]...`."""
    parser = argparse.ArgumentParser(
        prog="python -m milib.bench", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--out", type=Path, default=project_root() / "outputs" / "reference" / "bench"
    )
    parser.add_argument(
        "-p",
        nargs=2,
        action="append",
        default=[],
        metavar=("SIZE", "VALUE"),
        help="a field of milib.bench.setting.Sizes",
    )
    given = parser.parse_args(arguments)
    kinds = {field.name: type(field.default) for field in dataclasses.fields(Sizes)}
    try:
        sizes, started = (
            Sizes(**{name: kinds[name](value) for name, value in given.p}),
            time.perf_counter(),
        )
    except (KeyError, ValueError):
        known = ", ".join(f"{name} ({kind.__name__})" for name, kind in kinds.items())
        parser.error(f"-p {' -p '.join(map(' '.join, given.p))}: the sizes are {known}")
    sizes = dataclasses.replace(sizes, chunk=min(sizes.few, costs.best_chunk(sizes)))
    times = {}
    for names in groups():
        print(f"taking turns: {', '.join(names)}", file=sys.stderr, flush=True)
        times |= interleaved(names, sizes)
    about = machine(sizes)
    rows = [
        {"what": what, "limit": limit_of(limit, about["capability"]), "note": note}
        | ratio(times[a], times[b])
        for what, a, b, limit, note in ROWS
    ]
    result = {"machine": about, "sizes": dataclasses.asdict(sizes), "rows": rows, "times": times}
    for name, measure in {
        "memory": costs.memory,
        "scaling": costs.scaling,
        "latency": costs.latency,
        "agreement": costs.agreement,
    }.items():
        print(name, file=sys.stderr, flush=True)
        result[name] = measure(sizes)
    result |= {
        "peak": shares(times, sizes),
        "seconds": time.perf_counter() - started,
        "made": provenance(torch.device(sizes.device)),
    }
    name = re.sub(r"\W+", "_", f"{about['name']} {about['capability']}")
    files.write_atomic(given.out / f"{name}.json", json.dumps(result, indent=1).encode())
    figures.save(scaling(result["scaling"]), given.out / name)
    print(text(result))


if __name__ == "__main__":
    main(sys.argv[1:])
