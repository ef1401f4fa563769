"""What the Snakefile runs: a job for each model and each notebook, and when one is run again."""

import contextlib
import functools
import json
import os
import re
import subprocess
from pathlib import Path

from milib.files import digest
from milib.study import extension, identity, job
from milib.study.params import Params, paper_run
from milib.study.paths import project_root, reference_root
from milib.study.rules import claims_table
from milib.study.weights import recipe

NOTEBOOKS = (
    "01_train_mixup",
    "02_train_interpolated_at",
    "03_theory",
    "04_oblivious",
    "05_detection",
    "06_tradeoff",
    "07_adaptive_attacks",
    "08_beyond_the_paper",
)
"""The study's notebooks in their order."""


def notebooks() -> list[str]:
    """Those of NOTEBOOKS that the project has; a reader's own copies beside them are left alone."""
    folder = project_root() / "notebooks"
    return [name for name in NOTEBOOKS if (folder / f"{name}.ipynb").exists()]


def models_of(notebook: str, run: Params) -> tuple[str, ...]:
    """The models that a notebook asks for.

    - notebook: one of NOTEBOOKS.
    - run: the run.
    """
    table = tuple(dict.fromkeys(row["model"] for row in run.rows))
    extra = ("manifold_mixup", "matched_mixup", "long_mixup") if run.extra_models else ()
    return {
        "01_train_mixup": ("erm", "mixup"),
        "02_train_interpolated_at": ("at", "interpolated_at", "erm", "mixup", *extra),
        "03_theory": ("mixup",),
        "04_oblivious": table,
        "05_detection": table,
        "06_tradeoff": ("mixup", "interpolated_at"),
        "07_adaptive_attacks": ("mixup", "interpolated_at"),
        "08_beyond_the_paper": (*table, *(("matched_mixup",) if run.extra_models else ())),
    }[notebook]


def checkpoints(notebook: str, run: Params) -> list[str]:
    """The weights that a notebook needs and that no curated run ships: paths in the outputs folder.

    - notebook: its file name without ending.
    - run: the run.
    """
    found = []
    for name in models_of(notebook, run):
        file = f"checkpoints/{name}-{digest(recipe(run, name))}.safetensors"
        shipped = (reference_root() / each / file for each in (run.run, run.weights_of) if each)
        if not any(path.exists() for path in shipped):
            found.append(f"{run.run}/{file}")
    return found


COMMAND = Path(job.__file__)
"""What runs a job; see its head."""
ASKED = {
    "small": {"runtime": 60, "mem_mb": 3000},
    "compact": {"runtime": 480, "mem_mb": 6000},
    "resnet50": {"runtime": 720, "mem_mb": 16000},
}
"""What a job asks a cluster for, by architecture: minutes and MB. A net of the run's own asks for
what the largest does. A job that ran out of its minutes goes on from there when its run is made
again."""
CORES = 2
"""Of a job on a cluster where the run does not say."""


@functools.cache
def longest() -> int | None:
    """The minutes that Slurm's default partition gives a job; None where nothing tells.

    A profile of one's own may name another partition: it sees to its minutes itself.
    """
    if os.environ.get("MILIB_PROFILE") != "slurm":
        return None
    with contextlib.suppress(OSError):
        command = ["sinfo", "--noheader", "--format", "%P %l"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = re.search(r"^\S+\* (?:(\d+)-)?(?:(\d+):)?(\d+):\d\d$", done.stdout, re.MULTILINE)
        if found:
            days, hours, minutes = (int(number or 0) for number in found.groups())
            return (24 * days + hours) * 60 + minutes
    return None


def resources(run: Params) -> dict[str, int]:
    """What a job of the run asks a cluster for: minutes, MB of memory, and the paper's net a GPU.

    - run: the run. Another net asks for a GPU where its device is CUDA, and none does on a CPU.

    `choose` is 1 where a machine's job takes one of its GPUs: see `job.free_gpu`.
    """
    asked = ASKED.get(run.model, ASKED["resnet50"])
    wants = run.device.startswith("cuda") or (run.device == "auto" and run.model == "resnet50")
    given = min(asked["runtime"], longest() or asked["runtime"])
    choose = run.device in ("auto", "cuda")
    return asked | {"runtime": given, "gpu": int(wants), "choose": int(choose)}


def threads(run: Params, cores: int | None) -> int:
    """The CPU cores of a job: all of a machine's, or a share of them for each of its GPUs.

    - run: the run, which may say it itself; its jobs are never more than the GPUs that they share.
    - cores: the machine's; None on a cluster.
    """
    if not cores:
        return run.threads or CORES
    side_by_side = len(job.gpus()) if run.device in ("auto", "cuda") else 0
    if side_by_side > 1:  # no more jobs than GPUs
        return max(run.threads, cores // side_by_side, 1)
    return run.threads or cores


def fingerprint(notebook: str, run: Params) -> str:
    """What a notebook's outputs depend on: its cells, the code that it sees, its claims, the run.

    - notebook: its file name without ending.
    - run: the run.

    A changed docstring or comment changes nothing, nor does a module that it cannot reach.
    """
    path = project_root() / "notebooks" / f"{notebook}.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    code = "\n".join(text for kind, text in sources if kind == "code")
    seen = sorted(identity.reachable(identity.imported(code)))
    claims = [claim for claim in claims_table() if claim["notebook"] == notebook]
    shown = [claims, extension.whole(run.extension)]
    if run.paper_table != "none":
        paper = project_root() / "params" / "paper" / f"{run.paper_table}.csv"
        shown += [paper.read_text(encoding="utf-8"), repr(paper_run(run.paper_table))]
    return digest([sources, repr(run), identity.code_digest(tuple(seen)), shown])
