"""Parameters of defenses, chosen on held-out images at MI-OL's clean accuracy."""

from milib import defenses
from milib.study.experiments.common import draws_of, passes
from milib.study.study import Study

MATCHING_IMAGES = 400
"""Most held-out images by which parameters are chosen; never more than the table's test points.

All N draws are taken there: MI-OL's clean accuracy depends on them more than a baseline's.
"""


def reference_row(study: Study, model: str) -> dict:
    """The MI-OL row to whose clean accuracy a model's other rows are matched.

    - study: the run.
    - model: any; the row is that of the mixup-trained model of its kind.
    """
    return study.params.row({"erm": "mixup", "at": "interpolated_at"}.get(model, model), "mi_ol")


def heldout_clean(study: Study, row: dict) -> float:
    """Clean accuracy of a row on held-out images, in [0, 1]: parameters are chosen by it.

    - study: the run.
    - row: model, defense and its parameters.
    """
    run, name = study.params, row["model"]
    count = min(MATCHING_IMAGES, run.n_test, run.n_heldout)

    def compute() -> dict:
        points = study.points(count, "heldout")
        draws = draws_of(study, "held out")
        found = study.defense(row).probabilities(points.x, draws, points.index)
        return {"accuracy": (found.argmax(1) == points.y).double().mean().item()}

    identity = study.identity(name, "draws", row=row, count=count)
    images = count * max(1, passes(row, run.draws))
    what = f"heldout-{name}-{row['defense']}"
    return study.record(what, name, identity, compute, images)["accuracy"]


def grid(study: Study, row: dict) -> list[dict]:
    """A row with each value of its defense's grid in the last parameter.

    - study: its `grids` are read.
    - row: model, defense and its parameters; no values where the defense has no grid.
    """
    key = list(defenses.DEFENSES[row["defense"]].settings)[-1]
    return [row | {key: value} for value in study.params.grids.get(row["defense"], ())]


def matched_row(study: Study, row: dict) -> dict:
    """A table's row with its parameters: as given, or chosen on held-out images.

    - study: the run.
    - row: as parameter files give it.

    Returns the "row", with the "target" and its own "heldout" accuracy where it was chosen, else
    None for both. With `match_clean`, every row takes the value of its grid whose held-out clean
    accuracy is nearest to that of the `reference_row`, the last such value at a tie. Bare models,
    the reference rows themselves and defenses without a grid keep theirs.
    """
    reference = reference_row(study, row["model"])
    is_reference = row["defense"] == "mi_ol" and row["model"] == reference["model"]
    no_choice = is_reference or row["defense"] not in study.params.grids
    if no_choice or not study.params.match_clean:
        return {"row": row, "target": None, "heldout": None}
    target = heldout_clean(study, reference)
    chosen, nearest, least = row, None, float("inf")
    for candidate in grid(study, row):
        accuracy = heldout_clean(study, candidate)
        distance = round(abs(accuracy - target), 9)
        if distance <= least:
            chosen, nearest, least = candidate, accuracy, distance
    return {"row": chosen, "target": target, "heldout": nearest}
