"""How a curated run's models were trained, as values for FINDINGS.md."""

from pathlib import Path

from milib.recipes import STOP, length
from milib.report.results import settings_of
from milib.report.run_folder import RunFolder
from milib.study.params import paper_run
from milib.study.rows import NAMES
from milib.views import provenance

READ = "checkpoint"
"""The kind of a profile's entry that names weights."""


def recipes(run: RunFolder) -> dict[str, dict]:
    """The recipes of the models that a run's notebooks read, by name, from the training logs.

    - run: the run's folder. Logs may lie in that of the run in `weights_of`, beside it.
    """
    used, logs = set(), run.logs()
    for timing in run.notes()["profile"].values():
        used |= {Path(each["name"]).stem for each in timing["entries"] if each["kind"] == READ}
    if lender := settings_of(run).weights_of:
        logs += RunFolder(run.path.parent / lender).logs()
    return {log.recipe["name"]: log.recipe for log in logs if Path(log.file).stem in used}


def trained(run: RunFolder) -> str:
    """What the run's models had of training, beside the paper's; empty where no log tells.

    - run: the run's folder.
    """
    found = recipes(run)
    return provenance.models_note(found, settings_of(run).paper_table) if found else ""


def stopped(run: RunFolder) -> dict[str, str]:
    """The models of a run whose training was stopped, by their names in tables: after how much.

    - run: the run's folder, of one that stands beside a table of the paper.
    """
    found = {}
    for name, recipe in recipes(run).items():
        if STOP in recipe:
            done = f"{recipe[STOP]:.4g} of {recipe['epochs']} epochs"
            papers = paper_run(settings_of(run).paper_table).epochs
            found[NAMES[name]] = f"{done}; the paper trains {papers}"
    return found


def unequal_training(run: RunFolder) -> list[str]:
    """In which of epochs and lr AT and interpolated AT differ: "epochs (28, 42)".

    - run: the run's folder.
    """
    found = recipes(run)
    if not {"at", "interpolated_at"} <= set(found):
        return []
    plain, mixed = found["at"], found["interpolated_at"]
    both = {"epochs": (length(plain), length(mixed)), "lr": (plain["lr"], mixed["lr"])}
    return [f"{key} ({at}, {other})" for key, (at, other) in both.items() if at != other]
