"""Defenses under attacks that know the bare model alone: Tables 2 and 3, Fig. 3."""

import torch
from torch import Tensor

from milib import defenses
from milib.study.experiments.common import addresses, cell_of, draws_of, passes, rounded
from milib.study.experiments.matching import grid, reference_row
from milib.study.rows import MI, PRIMARY, settings_of
from milib.study.study import Study


def score(study: Study, row: dict, which: list[str]) -> dict:
    """One row of Table 2 or 3: per-image predictions for each column.

    - study: the run.
    - row: model, defense and its parameters.
    - which: columns. "clean" and the first PGD column of each mode have `draw_sets` sets of draws
      where the defense draws; the rest have one.
    """
    run, name, defended = study.params, row["model"], row["defense"] != "none"
    several = {"clean", f"untargeted_pgd{run.steps[0]}", f"targeted_pgd{run.steps[0]}"}
    sets = {column: run.draw_sets if defended and column in several else 1 for column in which}

    def compute() -> dict:
        points, defense = study.points(run.n_test), study.defense(row)
        cells = {}
        for column in which:
            x, base = study.batch(name, column, run.n_test), study.base(name, column, run.n_test)
            found = []
            for k in range(sets[column]):
                draws = draws_of(study, "score", k)
                found.append(defense.probabilities(x, draws, points.index, base))
            cells[column] = cell_of(found, points.y)
        return addresses(points) | {"row": row, "cells": cells}

    uses, options = ["attack"], {"row": row, "columns": which, "n": run.n_test}
    if defended:
        uses.append("draws")
        options["sets"] = run.draw_sets
    identity = study.identity(name, *uses, **options)
    images = run.n_test * sum(sets.values()) * passes(row, run.draws)
    return study.record(f"score-{name}-{row['defense']}", name, identity, compute, images)


def bare(study: Study, name: str) -> dict:
    """A model by itself, clean and under untargeted PGD-10, on ten times the table's test points.

    - study: the run.
    - name: the model.

    It needs no draws, so more images are cheap; fewer where the data set has fewer.
    """
    count = min(10 * study.params.n_test, len(study.splits.test))

    def compute() -> dict:
        points, cells = study.points(count), {}
        for column in ("clean", PRIMARY):
            cells[column] = cell_of([study.base(name, column, count).exp()], points.y)
        return addresses(points) | {"cells": cells}

    return study.store.record(f"bare-{name}", study.identity(name, "attack", n=count), compute)


def summary_rows(study: Study, name: str) -> dict[str, dict]:
    """A model bare ("none") and under MI-OL at the mixup row's ratio ("mi_ol"), for 01 and 02.

    - study: the run.
    - name: the model.

    Each is a record of `score` with the columns "clean" and PRIMARY.
    """
    bare_row = {"model": name, "defense": "none"}
    ratio = study.params.row("mixup", "mi_ol")["ratio"]
    mixed_row = {"model": name, "defense": "mi_ol", "ratio": ratio}
    which = ["clean", PRIMARY]
    return {"none": score(study, bare_row, which), "mi_ol": score(study, mixed_row, which)}


def detection(study: Study, name: str) -> dict:
    """Scores of three detectors on clean images and their PGD-10 examples; for Eq. 2 predictions.

    - study: the run.
    - name: the model.

    MI-PL and MI-OL score F_yhat(x) - F_MI,yhat(x), "confidence" -F_yhat(x). A higher score means
    adversarial.
    """
    run = study.params
    reference = reference_row(study, name)
    ratio = {"mi_pl": run.row(reference["model"], "mi_pl")["ratio"], "mi_ol": reference["ratio"]}

    def compute() -> dict:
        points, found = study.points(run.n_test), {}
        for column in ("clean", PRIMARY):
            x, base = study.batch(name, column, run.n_test), study.base(name, column, run.n_test)
            scores = {"confidence": -base.max(1).values.exp()}
            for kind, value in ratio.items():
                mi = study.defense({"model": name, "defense": kind, "ratio": value})
                with torch.no_grad():
                    mixed = mi.log_mean(x, draws_of(study, "detect"), points.index, base)
                    scores[kind] = defenses.detection_score(base, mixed)
            found[column] = {"predictions": base.argmax(1).tolist()}
            found[column] |= {kind: rounded(values, 6) for kind, values in scores.items()}
        return addresses(points) | {"scores": found, "ratio": ratio}

    identity = study.identity(name, "attack", "draws", ratio=ratio, n=run.n_test)
    images = 2 * len(ratio) * run.n_test * run.draws
    return study.record(f"detection-{name}", name, identity, compute, images)


def families(study: Study, model: str) -> list[dict]:
    """One row for each defense with a grid, for 06: the first of the model's table.

    - study: the run.
    - model: a model whose table has MI-PL and MI-OL. Where it has no MI-Combined, their ratios
      make one.
    """
    run = study.params
    combined = {"model": model, "defense": "mi_combined"}
    combined |= {"ratio_pl": run.row(model, "mi_pl")["ratio"]}
    combined |= {"ratio_ol": run.row(model, "mi_ol")["ratio"], "threshold": 0.2}
    first = {}
    for row in (*run.rows, combined):
        if row["model"] == model:
            first.setdefault(row["defense"], row)
    order = (*MI, *(name for name in run.grids if name not in MI))
    return [first[name] for name in order if name in first and name in run.grids]


def _by_threshold(
    study: Study, candidates: list[dict], x: Tensor, index: Tensor, base: Tensor
) -> list[Tensor]:
    """MI-Combined at several thresholds, from one MI-PL and one MI-OL: all else is the same."""
    combined, draws = study.defense(candidates[0]), draws_of(study, "tradeoff")
    assert isinstance(combined, defenses.MICombined)
    with torch.no_grad():
        pl = combined.pl.log_mean(x, draws, index, base)
        ol = combined.ol.log_mean(x, draws, index, base)
        gap = defenses.detection_score(base, pl)[:, None]
    return [torch.where(gap > row["threshold"], ol, base).exp() for row in candidates]


def tradeoff(study: Study, row: dict) -> dict:
    """One family of Fig. 3(b): per-image predictions, clean and under PGD-10, for each grid value.

    - study: the run.
    - row: model, defense and its parameters; the last one takes the values of the grid.

    There is one set of draws.
    """
    run, name = study.params, row["model"]
    candidates, combined = grid(study, row), row["defense"] == "mi_combined"

    def compute() -> dict:
        points = study.points(run.n_test)
        cells: list[dict] = [{} for _ in candidates]
        for column in ("clean", PRIMARY):
            x, base = study.batch(name, column, run.n_test), study.base(name, column, run.n_test)
            if combined:
                results = _by_threshold(study, candidates, x, points.index, base)
            else:
                draws, results = draws_of(study, "tradeoff"), []
                for candidate in candidates:
                    defense = study.defense(candidate)
                    results.append(defense.probabilities(x, draws, points.index, base))
            for cell, result in zip(cells, results, strict=True):
                cell[column] = cell_of([result], points.y)
        settings = [settings_of(candidate) for candidate in candidates]
        return addresses(points) | {"settings": settings, "cells": cells}

    identity = study.identity(name, "attack", "draws", candidates=candidates, n=run.n_test)
    computed = 2 if combined else len(candidates)
    images = 2 * computed * run.n_test * run.draws
    return study.record(f"tradeoff-{name}-{row['defense']}", name, identity, compute, images)
