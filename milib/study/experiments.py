"""What the notebooks measure: each function returns one record, computed once and kept by the study's store."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from milib import attacks, defenses, inference, rng, theory
from milib.study.rows import MI, PRIMARY, settings_of
from milib.study.study import Points, Study

MATCHING_IMAGES = 400
"""Held-out images by which parameters are chosen: as many as test points, up to these. With all draws, on which MI-OL's clean accuracy
depends more than a baseline's."""


def _draws(study: Study, purpose: str, number: int = 0) -> rng.Draws:
    return rng.Draws(study.params.seed, purpose, number)


def _passes(row: dict, draws: int) -> int:
    """Images through the net for one input under a row's defense, beside the input itself."""
    return {"none": 0, "mi_combined": 2 * draws}.get(row["defense"], draws)


def _cell(probabilities: list[Tensor], y: Tensor) -> dict:
    """Per-example results of one cell: predictions and the probability of the label, one list per draw set."""
    return {
        "predictions": [p.argmax(1).tolist() for p in probabilities],
        "probability": [
            np.round(p.gather(1, y[:, None])[:, 0].cpu().double().numpy(), 4).tolist()
            for p in probabilities
        ],
    }


def _points(points: Points) -> dict:
    return {"index": points.index.tolist(), "labels": points.y.tolist()}


def linearity(study: Study, name: str) -> dict:
    """How linear F is between test points (Eq. 3): per pair, the total variation between F(lambda x_i + (1-lambda) x_j) and
    lambda F(x_i) + (1-lambda) F(x_j), and the mixed one-hot labels; the mean over lambda = 0.1 ... 0.9."""
    run = study.params
    ratios = [round(0.1 * k, 1) for k in range(1, 10)]

    def compute() -> dict:
        points, model = study.points(run.n_test), study.model(name).scorer
        other = torch.from_numpy(rng.generator(run.seed, "pairs").permutation(len(points.y))).to(
            study.device
        )
        single = inference.probabilities(model, points.x, run.chunk)
        label = torch.nn.functional.one_hot(points.y, run.classes).float()
        distance = {"prediction": [], "label": []}
        for ratio in ratios:
            mixed = inference.probabilities(
                model, ratio * points.x + (1 - ratio) * points.x[other], run.chunk
            )
            for kind, ends in (("prediction", single), ("label", label)):
                distance[kind].append(
                    (mixed - ratio * ends - (1 - ratio) * ends[other]).abs().sum(1) / 2
                )
        return {"ratios": ratios} | {
            kind: torch.stack(values, 1).cpu().double().numpy().round(5).tolist()
            for kind, values in distance.items()
        }

    return study.record(
        f"linearity-{name}",
        name,
        study.identity(name, n=run.n_test, ratios=ratios),
        compute,
        run.n_test * (1 + len(ratios)),
    )


def summary_rows(study: Study, name: str) -> dict[str, dict]:
    """A model bare and under MI-OL at the mixup row's ratio: clean and under PGD-10 (01 and 02)."""
    rows = {"none": {}, "mi_ol": {"ratio": study.params.row("mixup", "mi_ol")["ratio"]}}
    return {
        defense: score(study, {"model": name, "defense": defense, **more}, ["clean", PRIMARY])
        for defense, more in rows.items()
    }


def mixed_predictions(study: Study, name: str, mode: str, ratio: float) -> dict:
    """The parts of Eq. 4-17 on `n_theory` test points at one ratio: see theory.components; [n][L] lists of means over draws."""
    run = study.params

    def compute() -> dict:
        points = study.points(run.n_theory)
        adversarial = study.batch(name, PRIMARY, run.n_theory)
        mi = study.defense({"model": name, "defense": f"mi_{mode}", "ratio": ratio})
        found = theory.components(mi, points.x, adversarial, points.index, _draws(study, "theory"))
        return _points(points) | {
            key: value.cpu().double().numpy().round(6).tolist() for key, value in found.items()
        }

    identity = study.identity(name, "attack", "draws", mode=mode, ratio=ratio, n=run.n_theory)
    return study.record(
        f"components-{name}-{mode}-{ratio}",
        name,
        identity,
        compute,
        2 * run.n_theory * (run.draws + 1),
        cost=2,
    )


def monte_carlo(
    study: Study, name: str, mode: str, ratio: float, counts: list[int], sets: int = 20, n: int = 4
) -> dict:
    """The Monte Carlo error of Eq. 6: root mean square distance of F_MI,N from the enumerated expectation, for each N."""

    def compute() -> dict:
        points = study.points(n)
        mi = study.defense(
            {"model": name, "defense": f"mi_{mode}", "ratio": ratio}, draws=max(counts)
        )
        exact = theory.enumerated(mi, points.x)
        with torch.no_grad():
            each = torch.stack(
                [
                    mi.each(points.x, _draws(study, "monte carlo", k), points.index).exp()
                    for k in range(sets)
                ]
            )
        errors = [
            (each[:, :, :count].mean(2) - exact).square().sum(2).mean().sqrt().item()
            for count in counts
        ]
        return {"counts": counts, "errors": errors, "pool": len(study.pool.data)}

    classes = study.params.classes
    pool = (
        len(study.pool.data) * (1 if mode == "pl" else classes - 1) // classes
    )  # what the predicted label allows
    identity = study.identity(name, "draws", mode=mode, ratio=ratio, counts=counts, sets=sets, n=n)
    return study.record(
        f"monte-carlo-{name}-{mode}", name, identity, compute, n * (pool + sets * max(counts))
    )


def score(study: Study, row: dict, which: list[str]) -> dict:
    """One row of Table 2 or 3: per-example predictions for each column; `draw_sets` sets for clean and the first PGD columns."""
    run, name = study.params, row["model"]
    first = {"clean", *(f"{mode}_pgd{run.steps[0]}" for mode in ("untargeted", "targeted"))}
    sets = {
        column: run.draw_sets if column in first and row["defense"] != "none" else 1
        for column in which
    }

    def compute() -> dict:
        points, defense = study.points(run.n_test), study.defense(row)
        cells = {}
        for column in which:
            x, base = study.batch(name, column, run.n_test), study.base(name, column, run.n_test)
            cells[column] = _cell(
                [
                    defense.probabilities(x, _draws(study, "score", k), points.index, base)
                    for k in range(sets[column])
                ],
                points.y,
            )
        return _points(points) | {"row": row, "cells": cells}

    uses, options = ["attack"], {"row": row, "columns": which, "n": run.n_test}
    if row["defense"] != "none":
        uses, options = ["attack", "draws"], options | {"sets": run.draw_sets}
    images = run.n_test * sum(sets.values()) * _passes(row, run.draws)
    return study.record(
        f"score-{name}-{row['defense']}",
        name,
        study.identity(name, *uses, **options),
        compute,
        images,
    )


def bare(study: Study, name: str) -> dict:
    """A model by itself, clean and under untargeted PGD-10, on ten times the table's test points where there are so many: it needs no draws."""
    count = min(10 * study.params.n_test, len(study.splits.test))

    def compute() -> dict:
        points = study.points(count)
        return _points(points) | {
            "cells": {
                column: _cell([study.base(name, column, count).exp()], points.y)
                for column in ("clean", PRIMARY)
            }
        }

    return study.store.record(f"bare-{name}", study.identity(name, "attack", n=count), compute)


def reference_row(study: Study, model: str) -> dict:
    """The MI-OL row whose clean accuracy a model's other rows are matched to: that of the mixup-trained model of its kind."""
    return study.params.row({"erm": "mixup", "at": "interpolated_at"}.get(model, model), "mi_ol")


def heldout_clean(study: Study, row: dict) -> float:
    """Clean accuracy of a row on held-out images (MATCHING_IMAGES): what parameters are chosen by."""
    name, count = row["model"], min(MATCHING_IMAGES, study.params.n_test, study.params.n_heldout)

    def compute() -> dict:
        points = study.points(count, "heldout")
        found = study.defense(row).probabilities(points.x, _draws(study, "held out"), points.index)
        return {"accuracy": (found.argmax(1) == points.y).double().mean().item()}

    identity, images = (
        study.identity(name, "draws", row=row, count=count),
        count * max(1, _passes(row, study.params.draws)),
    )
    return study.record(f"heldout-{name}-{row['defense']}", name, identity, compute, images)[
        "accuracy"
    ]


def grid(study: Study, row: dict) -> list[dict]:
    """The candidates of a row's defense: the row with each value of the printed grid in its last parameter."""
    key = list(defenses.DEFENSES[row["defense"]].settings)[-1]
    return [row | {key: value} for value in study.params.grids.get(row["defense"], ())]


def matched_row(study: Study, row: dict) -> dict:
    """A table's row with its parameters: as given, or (`match_clean`) chosen on held-out images, the same way for all.

    Bare models, the MI-OL rows of mixup-trained models and defenses without a grid keep theirs; every other row takes the value of its grid whose
    held-out clean accuracy is nearest to that MI-OL row's, the last such value at a tie. With its target and its own accuracy where it was chosen.
    """
    reference = reference_row(study, row["model"])
    fixed = row["defense"] not in study.params.grids or (
        row["defense"] == "mi_ol" and row["model"] == reference["model"]
    )
    if fixed or not study.params.match_clean:
        return {"row": row, "target": None, "heldout": None}
    target = heldout_clean(study, reference)
    tried = [(candidate, heldout_clean(study, candidate)) for candidate in grid(study, row)]
    chosen, accuracy = min(reversed(tried), key=lambda pair: round(abs(pair[1] - target), 9))
    return {"row": chosen, "target": target, "heldout": accuracy}


def detection(study: Study, name: str) -> dict:
    """Scores of three detectors on clean inputs and their PGD-10 examples, with the bare predictions (for Eq. 2).

    MI-PL, MI-OL: F_yhat(x) - F_MI,yhat(x); confidence: -F_yhat(x). Higher means adversarial.
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
                    scores[kind] = defenses.detection_score(
                        base, mi.log_mean(x, _draws(study, "detect"), points.index, base)
                    )
            found[column] = {"predictions": base.argmax(1).tolist()} | {
                k: v.cpu().double().numpy().round(6).tolist() for k, v in scores.items()
            }
        return _points(points) | {"scores": found, "ratio": ratio}

    identity = study.identity(name, "attack", "draws", ratio=ratio, n=run.n_test)
    return study.record(
        f"detection-{name}", name, identity, compute, 2 * len(ratio) * run.n_test * run.draws
    )


def families(study: Study, model: str) -> list[dict]:
    """One row per defense with a grid for 06: those of the model's table, and MI-Combined with its MI rows' ratios where it has none."""
    pl, ol = (study.params.row(model, defense)["ratio"] for defense in ("mi_pl", "mi_ol"))
    combined = {
        "model": model,
        "defense": "mi_combined",
        "ratio_pl": pl,
        "ratio_ol": ol,
        "threshold": 0.2,
    }
    rows = {"mi_combined": combined} | {
        row["defense"]: row for row in reversed(study.params.rows) if row["model"] == model
    }
    order = (*MI, *(name for name in study.params.grids if name not in MI))
    return [rows[defense] for defense in order if defense in rows and defense in study.params.grids]


def tradeoff(study: Study, row: dict) -> dict:
    """One family of Fig. 3(b): per grid value, per-example predictions on clean inputs and under PGD-10, one draw set."""
    run, name = study.params, row["model"]
    candidates = grid(study, row)

    def compute() -> dict:
        points = study.points(run.n_test)
        cells: list[dict] = [{} for _ in candidates]
        for column in ("clean", PRIMARY):
            x, base = study.batch(name, column, run.n_test), study.base(name, column, run.n_test)
            draws = _draws(study, "tradeoff")
            if (
                row["defense"] == "mi_combined"
            ):  # the threshold alone varies: one MI-PL and one MI-OL serve all
                combined = study.defense(row)
                with torch.no_grad():
                    gap = defenses.detection_score(
                        base, combined.pl.log_mean(x, draws, points.index, base)
                    )
                    other = combined.ol.log_mean(x, draws, points.index, base)
                results = [
                    torch.where((gap > c["threshold"])[:, None], other, base).exp()
                    for c in candidates
                ]
            else:
                results = [
                    study.defense(c).probabilities(x, draws, points.index, base) for c in candidates
                ]
            for cell, result in zip(cells, results, strict=True):
                cell[column] = _cell([result], points.y)
        return _points(points) | {"settings": [settings_of(c) for c in candidates], "cells": cells}

    identity = study.identity(name, "attack", "draws", candidates=candidates, n=run.n_test)
    passes = 2 if row["defense"] == "mi_combined" else len(candidates)
    return study.record(
        f"tradeoff-{name}-{row['defense']}",
        name,
        identity,
        compute,
        2 * passes * run.n_test * run.draws,
    )


class Steps(NamedTuple):
    """The steps of an adaptive attack: how many, and their size on pixels in [0, 1]."""

    count: int
    size: float


def adaptive_examples(
    study: Study,
    name: str,
    variant: str,
    samples: int,
    epsilon: float,
    count: int,
    steps: Steps | None = None,
) -> Tensor:
    """Adaptive PGD examples [count, C, H, W] against a model's MI-OL row, from draws of their own.

    - name: the model.
    - variant: a name of `attacks.ADAPTIVE`.
    - samples: draws in each step.
    - epsilon: on pixels in [0, 1].
    - count: test images.
    - steps: by default those of the tables' first column (PGD-10).
    """
    run, row = study.params, reference_row(study, name)
    steps = steps or Steps(run.steps[0], run.step_size)
    points, mi = study.points(count), study.defense(row, attacked=True)
    options = {"variant": variant, "samples": samples, "epsilon": epsilon}
    options |= {"step_size": steps.size, "steps": steps.count}
    draws, blocks = _draws(study, f"adaptive {variant}"), []
    for start in range(0, count, run.chunk):
        here = slice(start, start + run.chunk)
        x, y, index = points.x[here], points.y[here], points.index[here]
        blocks.append(attacks.adaptive_pgd(mi, x, y, index, draws, **options))
    return torch.cat(blocks)


def adaptive(
    study: Study, name: str, variant: str, samples: int, steps: Steps | None = None
) -> dict:
    """One point of Fig. 4: the accuracy of MI-OL under an adaptive attack; N fresh draws score it.

    - name: the model.
    - variant: a name of `attacks.ADAPTIVE`; with no samples "none".
    - samples: draws in each step; 0: the dashed line, the bare model under the oblivious attack.
    - steps: by default those of the tables' first column (PGD-10).
    """
    run, row = study.params, reference_row(study, name)
    steps = steps or Steps(run.steps[0], run.step_size)

    def bare() -> dict:
        wanted = {"steps": (steps.count,), "step_size": steps.size}
        x = study.examples(name, "untargeted", run.n_adaptive, **wanted)[steps.count]
        points = study.points(run.n_adaptive)
        found = inference.probabilities(study.model(name).scorer, x, run.chunk)
        return _points(points) | {"cell": _cell([found], points.y)}

    def attacked() -> dict:
        points = study.points(run.n_adaptive)
        options = (run.epsilon, run.n_adaptive, steps)
        x = adaptive_examples(study, name, variant, samples, *options)
        defended = study.defense(row).probabilities(x, _draws(study, "score", 0), points.index)
        distance = (x - points.x).abs().max().item()
        return _points(points) | {"cell": _cell([defended], points.y), "distance": distance}

    options = {"row": row, "variant": variant, "samples": samples, "n": run.n_adaptive}
    options |= {"steps": steps.count, "step_size": steps.size}
    identity = study.identity(name, "attack", "draws") | options
    passes = steps.count * (samples + 1) + run.draws if samples else 1
    return study.record(
        f"adaptive-{name}-{variant}-{samples}",
        name,
        identity,
        attacked if samples else bare,
        run.n_adaptive * passes,
        cost=2,
    )


def stronger(study: Study, name: str) -> dict[str, dict]:
    """The bare model ("none") and its MI-OL row ("eq24") under 50 steps of epsilon / 16.

    As Tramèr et al. (On Adaptive Attacks to Adversarial Example Defenses, NeurIPS 2020) attack
    MI-OL: end to end, 50 steps of 0.5/255 within 8/255, 15 samples a step.
    """
    steps = Steps(50, study.params.epsilon / 16)
    return {
        "none": adaptive(study, name, "none", 0, steps),
        "eq24": adaptive(study, name, "eq24", 15, steps),
    }
