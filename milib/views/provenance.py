"""Where a table or figure comes from: its settings, how its models were trained, and its records.

Each has a file <name>.json beside it, which `about` makes. A report tells what it says.
"""

import json

from milib import recipes
from milib.study import device, weights
from milib.study.made import commit
from milib.study.params import paper_run
from milib.study.study import Study
from milib.training import MODELS
from milib.views.written import of_pixels

OTHERWISE = ("batch_size", "schedule", "lr", "momentum", "nesterov")
OTHERWISE += ("weight_decay", "augment", "train_step_size")
"""Training settings in which a run may differ, besides net, epochs and inner steps."""


def training_note(study: Study) -> str:
    """`models_note` of the models that a study has used so far.

    - study: the notebook's study.
    """
    by_name = {name: model.settings for name, model in study.models.loaded.items()}
    return models_note(by_name, study.params.paper_table)


def models_note(by_name: dict[str, dict], paper_table: str) -> str:
    """How models were trained, with the paper's settings in brackets where they differ.

    - by_name: name -> weights.recipe.
    - paper_table: the table of the paper that the run stands beside.

    First net, epochs and inner attack of each model, then what else of training differs. Models
    that the paper's table does not have stand alone, and so do all of a run beside no table.
    """
    if not by_name:
        return ""
    if paper_table == "none":
        return "; ".join(f"{name}: {_told(by_name[name])}" for name in _in_order(by_name))
    paper = paper_run(paper_table)
    printed = {row["model"] for row in paper.rows}
    notes, others = [], {}
    for name in _in_order(by_name):
        ours, theirs = by_name[name], weights.recipe(paper, name)
        here, there = _told(ours), _told(theirs)
        differs = name in printed and here != there
        notes.append(f"{name}: {here}" + (f" (the paper: {there})" if differs else ""))
        if name not in printed:
            continue
        for key in OTHERWISE:
            if ours.get(key) != theirs.get(key):
                both = f"{_setting(ours, key)} ({_setting(theirs, key)})"
                values = others.setdefault(key, [])
                if both not in values:
                    values.append(both)
    found = [f"{key} {' and '.join(values)}" for key, values in others.items()]
    heldout = {recipe["n_heldout"] for recipe in by_name.values()}
    found += sorted(f"{count:,} training images held out (0)" for count in heldout)
    notes.append(f"training otherwise, the paper's in brackets: {', '.join(found)}")
    return "; ".join(notes)


def _in_order(recipes: dict[str, dict]) -> list[str]:
    return sorted(recipes, key=MODELS.index)


def _told(recipe: dict) -> str:
    """Net, epochs and inner attack of a recipe."""
    inner = f", PGD-{recipe['train_steps']} inside" if "train_steps" in recipe else ""
    epochs = str(recipe["epochs"])
    if recipes.STOP in recipe:
        epochs = f"{recipe[recipes.STOP]:.4g} of {epochs}"
    return f"{recipe['model']} net, {epochs} epochs{inner}"


def _setting(recipe: dict, key: str) -> str:
    return of_pixels(recipe[key]) if key == "train_step_size" else str(recipe[key])


def settings_note(study: Study) -> str:
    """What a notebook measures on and with.

    - study: the notebook's study.

    Test images, epsilon on [0, 1] and the draws N; in 04 also the number of draw sets, and where
    attacks are not in fp32 the precision.
    """
    run = study.params
    counts = {"03_theory": run.n_theory, "07_adaptive_attacks": run.n_adaptive}
    counts["08_beyond_the_paper"] = run.n_beyond
    count = counts.get(study.notebook, run.n_test)
    parts = [f"{count:,} test images", f"eps = {of_pixels(run.epsilon)}", f"N = {run.draws}"]
    if study.notebook == "04_oblivious":
        parts.append("1 draw set" if run.draw_sets == 1 else f"{run.draw_sets} draw sets")
    if study.precision == "bf16":
        parts += ["attacks in bf16", f"scored in {device.scoring(run, study.device)}"]
    return ", ".join(parts)


def about(study: Study, caption: str, measured: bool = True) -> bytes:
    """What made a table or figure, as JSON.

    - study: the notebook's study.
    - caption: of the table or figure.
    - measured: whether its numbers are of the notebook's test images, epsilon and draws (default).

    Its keys: notebook, caption, settings (`settings_note`; empty where not `measured`), models
    (`training_note`), commit, and the records and checkpoints that the notebook has read so far.
    """
    found: dict = {"notebook": study.notebook, "caption": caption}
    found["settings"] = settings_note(study) if measured else ""
    found["models"] = training_note(study)
    found["commit"] = commit()
    for kind in ("record", "checkpoint"):
        read = {event["name"] for event in study.store.events if event["kind"] == kind}
        found[f"{kind}s"] = sorted(read)
    return json.dumps(found, indent=1).encode()
