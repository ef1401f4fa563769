"""`make bench`: milib beside what a user would pick instead, as ratios of times on one machine.

Nothing else should run. Every contender lives in a process of its own, with the memory and the
settings it would have alone. The processes take turns, one call each, round after round; a ratio is
the median over rounds of the two times of one round.
"""

import argparse
import dataclasses
import json
import re
import sys
import time
from importlib import metadata
from pathlib import Path

import torch

from milib import files
from milib.bench import costs, shown
from milib.bench.agreement import agreement
from milib.bench.comparisons import COMPARISONS, groups
from milib.bench.setting import Sizes
from milib.bench.turns import interleaved, ratio
from milib.errors import UserError
from milib.study.paths import project_root
from milib.study.store import provenance
from milib.views import looks

PACKAGES = (
    "torch", "torchvision", "numpy",
    "foolbox", "adversarial-robustness-toolbox", "pyautoattack", "torchattacks",
)  # fmt: skip
"""Those whose versions decide the times."""
MEASURES = {
    "memory": costs.memory,
    "scaling": costs.scaling,
    "latency": costs.latency,
    "agreement": agreement,
}


def _processor() -> str:
    """The CPU's name, family and model: the name alone may cover generations."""
    path, about = Path("/proc/cpuinfo"), {}
    if path.exists():
        for line in path.read_text().splitlines():
            key, _, value = line.partition(":")
            about.setdefault(key.strip(), value.strip())
    known = [about[key] for key in ("model name", "cpu family", "model") if key in about]
    return " ".join(known) or "CPU"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def machine(sizes: Sizes) -> dict:
    """What ran the benchmark: processor, instruction set, threads, versions.

    - sizes: device and threads.
    """
    if sizes.device == "cuda":
        name, capability = torch.cuda.get_device_name(), f"CUDA {torch.version.cuda}"
    else:
        name, capability = _processor(), torch.backends.cpu.get_cpu_capability()
        if torch.ops.mkldnn._is_mkldnn_bf16_supported():
            capability += " bf16"
    versions = {package: _version(package) for package in PACKAGES}
    about = {"name": name, "capability": capability, "threads": sizes.used_threads}
    return about | {"versions": versions}


def measure(sizes: Sizes) -> dict:
    """Everything the benchmark measures, as its JSON file holds it.

    - sizes: how much; its `chunk` is measured first.
    """
    started = time.perf_counter()
    sizes = dataclasses.replace(sizes, chunk=min(sizes.few, costs.best_chunk(sizes)))
    times = {}
    for names in groups():
        print(f"taking turns: {', '.join(names)}", file=sys.stderr, flush=True)
        times |= interleaved(names, sizes)
    about, rows = machine(sizes), []
    for row in COMPARISONS:
        limit = row.limit_on(about["capability"])
        told = {"what": row.what, "limit": limit, "note": row.note}
        rows.append(told | ratio(times[row.ours], times[row.theirs]))
    result = {"machine": about, "sizes": dataclasses.asdict(sizes), "rows": rows, "times": times}
    for name, function in MEASURES.items():
        print(name, file=sys.stderr, flush=True)
        result[name] = function(sizes)
    result["peak"] = costs.shares(times, sizes)
    result["seconds"] = time.perf_counter() - started
    return result | {"made": provenance(torch.device(sizes.device))}


def main(arguments: list[str]) -> None:
    """The command line: `python -m milib.bench [--out FOLDER] [-p SIZE VALUE]...`.

    - arguments: without the program's name.
    """
    kinds = {name: type(value) for name, value in dataclasses.asdict(Sizes()).items()}
    named = ", ".join(f"{name} ({kind.__name__})" for name, kind in kinds.items())
    known = f"the sizes are {named}"
    what = "milib beside what a user would pick instead; nothing else should run"
    parser = argparse.ArgumentParser(prog="python -m milib.bench", description=what)
    folder = project_root() / "outputs" / "reference" / "bench"
    parser.add_argument("--out", type=Path, default=folder, help="where the result is written")
    options = {"nargs": 2, "action": "append", "default": [], "metavar": ("SIZE", "VALUE")}
    parser.add_argument("-p", **options, help=known)
    given = parser.parse_args(arguments)
    try:
        changes = {name: kinds[name](value) for name, value in given.p}
    except (KeyError, ValueError):
        parser.error(f"-p {' -p '.join(map(' '.join, given.p))}: {known}")
    if not costs.ACCOUNT.exists():
        parser.error(f"memory is read from {costs.ACCOUNT}, which is not here: run it on Linux")
    try:
        sizes = Sizes(**changes)
    except UserError as error:
        parser.error(f"-p: {error}")
    result = measure(sizes)
    about = result["machine"]
    name = re.sub(r"\W+", "_", f"{about['name']} {about['capability']}")
    files.write_atomic(given.out / f"{name}.json", json.dumps(result, indent=1).encode())
    looks.save(shown.scaling(result["scaling"]), given.out / name)
    print(shown.text(result))


if __name__ == "__main__":
    main(sys.argv[1:])
