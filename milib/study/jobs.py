"""What the Snakefile runs: a job for each model and each notebook, and when one is run again."""

import json

from milib.files import digest
from milib.study import identity
from milib.study.params import Params, paper_run
from milib.study.paths import outputs_root, project_root, reference_root
from milib.study.rules import claims_table
from milib.study.weights import recipe


def notebooks() -> list[str]:
    """The study's notebooks in their order, by file name without ending."""
    return sorted(path.stem for path in (project_root() / "notebooks").glob("0*.ipynb"))


def models_of(notebook: str, run: Params) -> tuple[str, ...]:
    """The models that a notebook asks for.

    - notebook: its file name without ending. Raises KeyError for one that has no line here.
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
    """The weights that a notebook needs and that no curated run ships: paths in the run's folder.

    - notebook: its file name without ending.
    - run: the run.
    """
    found = []
    for name in models_of(notebook, run):
        file = f"checkpoints/{name}-{digest(recipe(run, name))}.safetensors"
        shipped = (reference_root() / each / file for each in (run.run, run.weights_of) if each)
        if not any(path.exists() for path in shipped):
            found.append(str(outputs_root() / run.run / file))
    return found


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
    paper = project_root() / "params" / "paper" / f"{run.paper_table}.csv"
    shown = [claims, paper.read_text(encoding="utf-8"), repr(paper_run(run.paper_table))]
    return digest([sources, repr(run), identity.code_digest(tuple(seen)), shown])
