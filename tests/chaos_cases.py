"""What `make chaos` kills: commands of the study, where each begins, what must come out of it."""

import hashlib
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from milib import files
from milib.errors import UserError
from milib.report.curate import curate
from milib.study import paths
from milib.study.store import read_record

ROOT, RUN, NOTEBOOK, PYTHON = paths.project_root(), "digits", "04_oblivious", sys.executable
TRIAL = "<TRIAL>"
"""Stands for a trial's folder in the words of a command."""
ROWS = (
    "[{model: mixup, defense: none}, {model: mixup, defense: mi_pl, ratio: 0.5}, "
    "{model: mixup, defense: mi_ol, ratio: 0.5}]"
)
SMALL = {
    "n_train": 200, "n_heldout": 20, "n_test": 6, "n_theory": 4, "n_adaptive": 3, "n_beyond": 3,
    "n_tuned": 2, "chunk": 20, "epochs": 1, "steps": "[10]", "draws": 3, "draw_sets": 2,
    "extra_models": "false", "match_clean": "false", "rows": ROWS,
}  # fmt: skip
"""One model, one notebook of seconds."""
LONGER = SMALL | {"n_train": 0, "n_heldout": 100, "epochs": 12}
"""A training of several seconds."""


def pairs(settings: dict) -> list[str]:
    """Parameters as papermill takes them.

    - settings: by name.
    """
    return [word for key, value in settings.items() for word in ("-p", key, str(value))]


OFTEN = """
import runpy
from milib import training
training.STATE_SECONDS = 0.2
runpy.run_module("milib.study.train", run_name="__main__", alter_sys=True)
"""
"""`python -m milib.study.train`, whose state is saved not every minute: a trial takes seconds."""
RECORDS = """
from milib.study import arguments, experiments
from milib.study.rows import columns
from milib.study.study import Study
study = Study(arguments.studies()[0].run, "records")
for count in range(20, 120, 10):
    larger = study.varied(n_test=count)
    for row in larger.params.rows:
        experiments.score(larger, row, columns(larger.params))
"""
CURATE = """
import sys
from pathlib import Path
from milib.report.curate import curate
curate(*map(Path, sys.argv[1:]))
"""
ALL = "all processes"
"""As a host that goes down, or a cluster that takes its processes back."""


@dataclass(frozen=True)
class Case:
    """A command that is killed and run again.

    - name: of the case.
    - words: of the command; TRIAL stands for the trial's folder.
    - begin: lays out what is there before, from a folder with a finished run.
    - victims: what is killed at random moments: programs, as `chaos.program` names them, or ALL.
    - share: of all kills, beside the other cases' shares.
    - most: kills in a row, before the command is left to end.
    - exact: whether files must be equal byte by byte: none of them names a time of this run.
    - orphans: seconds within which what a kill leaves has ended by itself, before the command is
      run again; 0: it is run again at once.
    - inside: whether it is killed inside saves too.
    """

    name: str
    words: tuple[str, ...]
    begin: Callable[[Path, Path], None]
    victims: tuple[str, ...]
    share: int = 3
    most: int = 3
    exact: bool = False
    orphans: int = 0
    inside: bool = True


def environment(project: Path, trial: Path) -> dict[str, str]:
    """The variables of a trial's processes.

    - project: the copy that they run.
    - trial: the folder that they write to.
    """
    study = {"MILIB_OUTPUTS": f"{trial}/outputs", "MILIB_RUN": RUN, "MILIB_PROFILE": ""}
    study |= {"MILIB_ARGS": shlex.join(pairs(SMALL)), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    return os.environ | study | {"PYTHONPATH": str(project)}


def run_of(trial: Path) -> Path:
    """The run's folder of a trial.

    - trial: its folder.
    """
    return trial / "outputs" / RUN


def nothing(finished: Path, trial: Path) -> None:
    """From nothing."""
    trial.mkdir()


def weights(finished: Path, trial: Path) -> None:
    """From the weights of the model."""
    shutil.copytree(run_of(finished) / "checkpoints", run_of(trial) / "checkpoints")


def without_pages(finished: Path, trial: Path) -> None:
    """From a finished run that has no report."""
    shutil.copytree(run_of(finished), run_of(trial), ignore=shutil.ignore_patterns("*.html"))


def curated_before(finished: Path, trial: Path) -> None:
    """From a finished run, and a curated one with a table that is made no more."""
    without_pages(finished, trial)
    table = run_of(trial) / "tables" / "old.csv"
    about = f'{{"notebook": "{NOTEBOOK}", "caption": "old"}}'
    files.write_atomic(table, b"row,clean\nMixup,1.0\n")
    files.write_atomic(table.with_suffix(".json"), about.encode())
    curate(run_of(trial), trial / "reference" / RUN)
    table.unlink()
    table.with_suffix(".json").unlink()


FOLDER = f"{TRIAL}/outputs/{RUN}"
MADE = f"{FOLDER}/notebooks/{NOTEBOOK}.ipynb"
JOB = ("milib/study/job.py", FOLDER, NOTEBOOK, MADE, "0", "--", PYTHON, "-m", "papermill")
PAPERMILL = (f"notebooks/{NOTEBOOK}.ipynb", "{made}", "-f", f"params/{RUN}.yaml", *pairs(SMALL))
TRAIN, LAUNCH = (PYTHON, "-c", OFTEN, RUN, "mixup", *pairs(LONGER)), "milib.study.launch"
STUDY, CURATED = (PYTHON, "-m", LAUNCH), (FOLDER, f"{TRIAL}/reference/{RUN}")
ONE = ("-c",)
CASES = {
    case.name: case
    for case in (
        Case("training", TRAIN, nothing, ONE, share=5),
        Case("records", (PYTHON, "-c", RECORDS), weights, ONE, share=5),
        Case("shipping", (*TRAIN, "--ship", f"{TRIAL}/shipped"), nothing, ONE),
        Case(
            "report",
            (PYTHON, "-m", "milib.report", RUN),
            without_pages,
            ("milib.report",),
            exact=True,
        ),
        Case("curating", (PYTHON, "-c", CURATE, *CURATED), curated_before, ONE, exact=True),
        Case(
            "papermill",
            (PYTHON, *JOB, *PAPERMILL),
            weights,
            ("job.py", "papermill", "ipykernel_launcher"),
            share=2,
            most=2,
        ),
        Case(
            "snakemake",
            STUDY,
            nothing,
            ("snakemake",),
            share=1,
            most=1,
            orphans=20,
            inside=False,  # `launch` does, in the same processes
        ),
        # snakemake goes on where the launcher alone is killed
        Case("launch", STUDY, nothing, (LAUNCH, ALL), share=2, most=1, orphans=300),
    )
}


# What comes out

ASIDE = {"logs", "locks", ".snakemake"}
"""Folders of which nothing is compared: who made what when."""


def said(path: Path, exact: bool) -> object:
    """What a file says, without what names times.

    - path: the file.
    - exact: nothing in it does.

    Raises UserError, ValueError or KeyError where it is damaged.
    """
    content, kind = path.read_bytes(), path.suffix
    plain: object = hashlib.sha256(content).hexdigest()
    if kind == ".safetensors":
        tensors, about = files.read_tensors(path)
        plain = [files.tensors_digest(tensors), about]
    elif kind == ".json":
        value = json.loads(content)
        plain = read_record(path)["result"] if path.parent.name == "records" else value
    elif kind == ".jsonl":
        timed, lines = {"seconds", "made"}, map(json.loads, content.splitlines())
        plain = [{key: line[key] for key in line.keys() - timed} for line in lines]
    elif kind == ".ipynb":
        plain = [shown(cell) for cell in json.loads(content)["cells"]]
    elif kind == ".html":
        if not content.rstrip().endswith(b"</html>"):
            raise ValueError("it has no end")
        plain = "whole"
    return hashlib.sha256(content).hexdigest() if exact else plain


def shown(cell: dict) -> object:
    """A cell and what it shows, where that is the same whenever it is run.

    - cell: of a notebook.
    """
    if "nbval-ignore-output" in cell["metadata"].get("tags", []):
        return cell["source"]
    outputs = cell.get("outputs", [])
    # what is printed comes in as many pieces as there was time for
    printed = "".join(line for output in outputs for line in output.get("text", []))
    return [cell["source"], printed, [output["data"] for output in outputs if "data" in output]]


def contents(trial: Path, exact: bool) -> tuple[dict[str, object], list[str]]:
    """What the files of a trial say by their path, hidden ones as well, and those that are damaged.

    - trial: its folder.
    - exact: whether every byte counts.

    A profile is read, and is not compared: it tells what was there already.
    """
    found, damaged = {}, []
    for path in sorted(trial.rglob("*")):
        name = path.relative_to(trial)
        if ASIDE & set(name.parts) or path.suffix == ".lock" or not path.is_file():
            continue
        if path.name.startswith("."):
            found[str(name)] = "left over"
            continue
        try:
            value = said(path, exact)
        except (UserError, ValueError, KeyError) as error:
            damaged.append(f"{name} is damaged: {error}")
        else:
            if path.parent.name != "profile":
                found[str(name)] = value
    return found, damaged


def differences(found: dict[str, object], wanted: dict[str, object]) -> list[str]:
    """What two runs differ in, a line each.

    - found: what came out.
    - wanted: of the undisturbed run.
    """
    lines = [f"{name} is left over" for name in sorted(found.keys() - wanted.keys())]
    lines += [f"{name} is missing" for name in sorted(wanted.keys() - found.keys())]
    both = sorted(found.keys() & wanted.keys())
    differing = [name for name in both if found[name] != wanted[name]]
    return lines + [f"{name} differs{_where(found[name], wanted[name])}" for name in differing]


def _where(one: object, other: object) -> str:
    """The cells or lines in which two files differ; empty for files of other kinds."""
    if not isinstance(one, list) or not isinstance(other, list):
        return ""
    pairs = enumerate(zip(one, other, strict=False))
    return " in " + ", ".join(str(place) for place, (here, there) in pairs if here != there)
