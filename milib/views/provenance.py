"""What a table or figure says of itself: its settings, the training of its models, and what made it."""

import json

from milib.study import device, weights
from milib.study.params import load
from milib.study.paths import project_root
from milib.study.store import commit
from milib.study.study import Study
from milib.training import MODELS

OTHERWISE = (
    "batch_size",
    "schedule",
    "lr",
    "momentum",
    "nesterov",
    "weight_decay",
    "augment",
    "train_step_size",
)
"""The settings of a training, besides net, epochs and inner steps, in which a run may differ from the paper."""


def fraction(value: float) -> str:
    """8/255 for what is a number of 255ths, else the number."""
    return (
        f"{round(255 * value)}/255"
        if abs(255 * value - round(255 * value)) < 1e-6
        else f"{value:g}"
    )


def training_note(study: Study) -> str:
    """`models_note` of the models used so far. The report shows it."""
    return models_note(
        {name: model.settings for name, model in study.models.loaded.items()},
        study.params.paper_table,
    )


def models_note(recipes: dict[str, dict], paper_table: str) -> str:
    """Net, epochs and inner attack of each model, with the paper's in brackets where they differ; then what else of training is not the paper's.

    recipes: name -> weights.recipe. The paper's own are those of the run that its table belongs to.
    """
    scale = {"table2_cifar10": "c10", "table3_cifar100": "c100"}[paper_table]
    paper = load(project_root() / "params" / f"{scale}.yaml")

    def told(recipe: dict) -> str:
        inner = f", PGD-{recipe['train_steps']} inside" if "train_steps" in recipe else ""
        return f"{recipe['model']} net, {recipe['epochs']} epochs{inner}"

    notes, printed, others = (
        [],
        {row["model"] for row in paper.rows},
        {},
    )  # what B.1 only names has no recipe there
    for name, recipe in sorted(recipes.items(), key=lambda item: MODELS.index(item[0])):
        theirs = weights.recipe(paper, name)
        here, there = told(recipe), told(theirs)
        notes.append(
            f"{name}: {here}"
            + (f" (the paper: {there})" if name in printed and here != there else "")
        )
        for key in (
            key for key in OTHERWISE if name in printed and recipe.get(key) != theirs.get(key)
        ):
            here, there = (
                fraction(made[key]) if key == "train_step_size" else str(made[key])
                for made in (recipe, theirs)
            )
            others.setdefault(key, {})[f"{here} ({there})"] = None
    found = [f"{key} {' and '.join(values)}" for key, values in others.items()]
    found += sorted(
        {f"{recipe['n_heldout']:,} training images held out (0)" for recipe in recipes.values()}
    )
    return "; ".join(
        [*notes, f"training otherwise, the paper's in brackets: {', '.join(found)}"]
        if notes
        else []
    )


def settings_note(study: Study) -> str:
    """What the study's notebook measures on and with: test images, epsilon on [0, 1], the draws N (and in 04 how many sets of them), and where it is not
    fp32 the precision. The report shows it."""
    run = study.params
    count = {"03_theory": run.n_theory, "07_adaptive_attacks": run.n_adaptive}.get(
        study.notebook, run.n_test
    )
    sets = f", {run.draw_sets} draw sets" if study.notebook == "04_oblivious" else ""
    precision = (
        f", attacks in bf16, scored in {device.scoring(run, study.device)}"
        if study.precision == "bf16"
        else ""
    )
    return f"{count:,} test images, eps = {fraction(run.epsilon)}, N = {run.draws}{sets}{precision}"


def about(study: Study, caption: str, measured: bool = True) -> bytes:
    """What made a table or figure, as JSON: notebook, caption, settings (where `measured` with them), models, and what was read up to it."""
    read = {
        kind: sorted({event["name"] for event in study.store.events if event["kind"] == kind})
        for kind in ("record", "checkpoint")
    }
    notes = {"settings": settings_note(study) if measured else "", "models": training_note(study)}
    made = {"commit": commit(), "records": read["record"], "checkpoints": read["checkpoint"]}
    return json.dumps(
        {"notebook": study.notebook, "caption": caption} | notes | made, indent=1
    ).encode()
