"""What the notebooks measure: each function returns one record, computed once and kept by the study's store."""

import numpy as np
import torch
from torch import Tensor

from milib import attacks, defenses, models, rng, theory
from milib.study import Points, Study, settings_of

MI = ("mi_pl", "mi_ol", "mi_combined")
BASELINES = ("gaussian_noise", "rotation", "xie", "guo")
PRIMARY = "untargeted_pgd10"
"""The attack of 03, 05, 06 and 07: untargeted PGD-10."""
MATCHING_IMAGES = 400
"""Held-out images by which parameters are chosen: as many as test points, up to these. With all draws, on which MI-OL's clean accuracy
depends more than a baseline's."""


def columns(study: Study) -> list[str]:
    """The columns of Tables 2 and 3."""
    return ["clean"] + [f"{mode}_pgd{step}" for mode in ("untargeted", "targeted") for step in study.params.steps]


def _draws(study: Study, purpose: str, number: int = 0) -> rng.Draws:
    return rng.Draws(study.params.seed, purpose, number)


def _passes(row: dict, draws: int) -> int:
    """Images through the net for one input under a row's defence, beside the input itself."""
    return {"none": 0, "mi_combined": 2 * draws}.get(row["defence"], draws)


def _cell(probabilities: list[Tensor], y: Tensor) -> dict:
    """Per-example results of one cell: predictions and the probability of the label, one list per draw set."""
    return {
        "predictions": [p.argmax(1).tolist() for p in probabilities],
        "probability": [np.round(p.gather(1, y[:, None])[:, 0].cpu().double().numpy(), 4).tolist() for p in probabilities],
    }


def _points(points: Points) -> dict:
    return {"index": points.index.tolist(), "labels": points.y.tolist()}


# 01 and 02


def linearity(study: Study, name: str) -> dict:
    """How linear F is between test points (Eq. 3): per pair, the total variation between F(lambda x_i + (1-lambda) x_j) and
    lambda F(x_i) + (1-lambda) F(x_j), and the mixed one-hot labels; the mean over lambda = 0.1 ... 0.9."""
    run = study.params
    ratios = [round(0.1 * k, 1) for k in range(1, 10)]

    def compute() -> dict:
        points, model = study.points(run.n_test), study.model(name).scorer
        other = torch.from_numpy(rng.generator(run.seed, "pairs").permutation(len(points.y))).to(study.device)
        single = models.probabilities(model, points.x, run.chunk)
        label = torch.nn.functional.one_hot(points.y, run.classes).float()
        distance = {"prediction": [], "label": []}
        for ratio in ratios:
            mixed = models.probabilities(model, ratio * points.x + (1 - ratio) * points.x[other], run.chunk)
            for kind, ends in (("prediction", single), ("label", label)):
                distance[kind].append((mixed - ratio * ends - (1 - ratio) * ends[other]).abs().sum(1) / 2)
        return {"ratios": ratios} | {kind: torch.stack(values, 1).cpu().double().numpy().round(5).tolist() for kind, values in distance.items()}

    return study.record(f"linearity-{name}", name, study.identity(name, n=run.n_test, ratios=ratios), compute, run.n_test * (1 + len(ratios)))


def summary_rows(study: Study, name: str) -> dict[str, dict]:
    """A model bare and under MI-OL at the mixup row's ratio: clean and under PGD-10 (01 and 02)."""
    rows = {"none": {}, "mi_ol": {"ratio": study.params.row("mixup", "mi_ol")["ratio"]}}
    return {defence: score(study, {"model": name, "defence": defence, **more}, ["clean", PRIMARY]) for defence, more in rows.items()}


# 03


def mixed_predictions(study: Study, name: str, mode: str, ratio: float) -> dict:
    """The parts of Eq. 4-17 on `n_theory` test points at one ratio: see theory.components; [n][L] lists of means over draws."""
    run = study.params

    def compute() -> dict:
        points = study.points(run.n_theory)
        adversarial = study.batch(name, PRIMARY, run.n_theory)
        mi = study.defence({"model": name, "defence": f"mi_{mode}", "ratio": ratio})
        found = theory.components(mi, points.x, adversarial, points.index, _draws(study, "theory"))
        return _points(points) | {key: value.cpu().double().numpy().round(6).tolist() for key, value in found.items()}

    identity = study.identity(name, "attack", "draws", mode=mode, ratio=ratio, n=run.n_theory)
    return study.record(f"components-{name}-{mode}-{ratio}", name, identity, compute, 2 * run.n_theory * (run.draws + 1), cost=2)


def monte_carlo(study: Study, name: str, mode: str, ratio: float, counts: list[int], sets: int = 20, n: int = 4) -> dict:
    """The Monte Carlo error of Eq. 6: root mean square distance of F_MI,N from the enumerated expectation, for each N."""

    def compute() -> dict:
        points = study.points(n)
        mi = study.defence({"model": name, "defence": f"mi_{mode}", "ratio": ratio}, draws=max(counts))
        exact = theory.enumerated(mi, points.x)
        with torch.no_grad():
            each = torch.stack([mi.each(points.x, _draws(study, "monte carlo", k), points.index).exp() for k in range(sets)])
        errors = [(each[:, :, :count].mean(2) - exact).square().sum(2).mean().sqrt().item() for count in counts]
        return {"counts": counts, "errors": errors, "pool": len(study.pool.data)}

    classes = study.params.classes
    pool = len(study.pool.data) * (1 if mode == "pl" else classes - 1) // classes  # what the predicted label allows
    identity = study.identity(name, "draws", mode=mode, ratio=ratio, counts=counts, sets=sets, n=n)
    return study.record(f"monte-carlo-{name}-{mode}", name, identity, compute, n * (pool + sets * max(counts)))


# 04


def score(study: Study, row: dict, which: list[str]) -> dict:
    """One row of Table 2 or 3: per-example predictions for each column; `draw_sets` sets for clean and the first PGD columns."""
    run, name = study.params, row["model"]
    first = {"clean", *(f"{mode}_pgd{run.steps[0]}" for mode in ("untargeted", "targeted"))}
    sets = {column: run.draw_sets if column in first and row["defence"] != "none" else 1 for column in which}

    def compute() -> dict:
        points, defence = study.points(run.n_test), study.defence(row)
        cells = {}
        for column in which:
            x, base = study.batch(name, column, run.n_test), study.base(name, column, run.n_test)
            cells[column] = _cell([defence.probabilities(x, _draws(study, "score", k), points.index, base) for k in range(sets[column])], points.y)
        return _points(points) | {"row": row, "cells": cells}

    uses, options = ["attack"], {"row": row, "columns": which, "n": run.n_test}
    if row["defence"] != "none":
        uses, options = ["attack", "draws"], options | {"sets": run.draw_sets}
    images = run.n_test * sum(sets.values()) * _passes(row, run.draws)
    return study.record(f"score-{name}-{row['defence']}", name, study.identity(name, *uses, **options), compute, images)


def bare(study: Study, name: str) -> dict:
    """A model by itself, clean and under untargeted PGD-10, on ten times the table's test points where there are so many: it needs no draws."""
    count = min(10 * study.params.n_test, len(study.splits.test))

    def compute() -> dict:
        points = study.points(count)
        return _points(points) | {"cells": {column: _cell([study.base(name, column, count).exp()], points.y) for column in ("clean", PRIMARY)}}

    return study.store.record(f"bare-{name}", study.identity(name, "attack", n=count), compute)


def reference_row(study: Study, model: str) -> dict:
    """The MI-OL row whose clean accuracy a model's other rows are matched to: that of the mixup-trained model of its kind."""
    return study.params.row({"erm": "mixup", "at": "interpolated_at"}.get(model, model), "mi_ol")


def heldout_clean(study: Study, row: dict) -> float:
    """Clean accuracy of a row on held-out images (MATCHING_IMAGES): what parameters are chosen by."""
    name, count = row["model"], min(MATCHING_IMAGES, study.params.n_test, study.params.n_heldout)

    def compute() -> dict:
        points = study.points(count, "heldout")
        found = study.defence(row).probabilities(points.x, _draws(study, "held out"), points.index)
        return {"accuracy": (found.argmax(1) == points.y).double().mean().item()}

    identity, images = study.identity(name, "draws", row=row, count=count), count * max(1, _passes(row, study.params.draws))
    return study.record(f"heldout-{name}-{row['defence']}", name, identity, compute, images)["accuracy"]


def grid(study: Study, row: dict) -> list[dict]:
    """The candidates of a row's defence: the row with each value of the printed grid in its last parameter."""
    key = list(defenses.DEFENCES[row["defence"]].settings)[-1]
    return [row | {key: value} for value in study.params.grids.get(row["defence"], ())]


def matched_row(study: Study, row: dict) -> dict:
    """A table's row with its parameters: as given, or (`match_clean`) chosen on held-out images, the same way for all.

    Bare models, the MI-OL rows of mixup-trained models and defences without a grid keep theirs; every other row takes the value of its grid whose
    held-out clean accuracy is nearest to that MI-OL row's, the last such value at a tie. With its target and its own accuracy where it was chosen.
    """
    reference = reference_row(study, row["model"])
    fixed = row["defence"] not in study.params.grids or (row["defence"] == "mi_ol" and row["model"] == reference["model"])
    if fixed or not study.params.match_clean:
        return {"row": row, "target": None, "heldout": None}
    target = heldout_clean(study, reference)
    tried = [(candidate, heldout_clean(study, candidate)) for candidate in grid(study, row)]
    chosen, accuracy = min(reversed(tried), key=lambda pair: round(abs(pair[1] - target), 9))
    return {"row": chosen, "target": target, "heldout": accuracy}


# 05


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
                mi = study.defence({"model": name, "defence": kind, "ratio": value})
                with torch.no_grad():
                    scores[kind] = defenses.detection_score(base, mi.log_mean(x, _draws(study, "detect"), points.index, base))
            found[column] = {"predictions": base.argmax(1).tolist()} | {k: v.cpu().double().numpy().round(6).tolist() for k, v in scores.items()}
        return _points(points) | {"scores": found, "ratio": ratio}

    identity = study.identity(name, "attack", "draws", ratio=ratio, n=run.n_test)
    return study.record(f"detection-{name}", name, identity, compute, 2 * len(ratio) * run.n_test * run.draws)


# 06


def families(study: Study, model: str) -> list[dict]:
    """One row per defence with a grid for 06: those of the model's table, and MI-Combined with its MI rows' ratios where it has none."""
    pl, ol = (study.params.row(model, defence)["ratio"] for defence in ("mi_pl", "mi_ol"))
    combined = {"model": model, "defence": "mi_combined", "ratio_pl": pl, "ratio_ol": ol, "threshold": 0.2}
    rows = {"mi_combined": combined} | {row["defence"]: row for row in reversed(study.params.rows) if row["model"] == model}
    order = (*MI, *(name for name in study.params.grids if name not in MI))
    return [rows[defence] for defence in order if defence in rows and defence in study.params.grids]


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
            if row["defence"] == "mi_combined":  # the threshold alone varies: one MI-PL and one MI-OL serve all
                combined = study.defence(row)
                with torch.no_grad():
                    gap = defenses.detection_score(base, combined.pl.log_mean(x, draws, points.index, base))
                    other = combined.ol.log_mean(x, draws, points.index, base)
                results = [torch.where((gap > c["threshold"])[:, None], other, base).exp() for c in candidates]
            else:
                results = [study.defence(c).probabilities(x, draws, points.index, base) for c in candidates]
            for cell, result in zip(cells, results, strict=True):
                cell[column] = _cell([result], points.y)
        return _points(points) | {"settings": [settings_of(c) for c in candidates], "cells": cells}

    identity = study.identity(name, "attack", "draws", candidates=candidates, n=run.n_test)
    passes = 2 if row["defence"] == "mi_combined" else len(candidates)
    return study.record(f"tradeoff-{name}-{row['defence']}", name, identity, compute, 2 * passes * run.n_test * run.draws)


# 07


def adaptive_examples(study: Study, name: str, variant: str, samples: int, epsilon: float, count: int) -> Tensor:
    """Adaptive PGD examples [count, C, H, W] against a model's MI-OL row, of the first column's length (PGD-10); the attack's draws are its own."""
    run, row = study.params, reference_row(study, name)
    points, mi = study.points(count), study.defence(row, attacked=True)
    options = {"variant": variant, "samples": samples, "epsilon": epsilon, "step_size": run.step_size, "steps": run.steps[0]}
    blocks = [
        attacks.adaptive_pgd(mi, x, y, index, _draws(study, f"adaptive {variant}"), **options)
        for x, y, index in zip(*(tensor.split(run.chunk) for tensor in (points.x, points.y, points.index)), strict=True)
    ]
    return torch.cat(blocks)


def adaptive(study: Study, name: str, variant: str, samples: int) -> dict:
    """One point of Fig. 4: the accuracy of MI-OL under an adaptive attack with `samples` adaptive samples and as many steps as the first column of the
    tables has, N draws of its own at scoring. samples = 0: the dashed line, the bare model under the oblivious attack of that length."""
    run, row = study.params, reference_row(study, name)

    def compute() -> dict:
        points = study.points(run.n_adaptive)
        if samples == 0:
            x = study.examples(name, "untargeted", run.n_adaptive, tuple(run.steps[:1]))[run.steps[0]]
            return _points(points) | {"cell": _cell([models.probabilities(study.model(name).scorer, x, run.chunk)], points.y)}
        x = adaptive_examples(study, name, variant, samples, run.epsilon, run.n_adaptive)
        distance = (x - points.x).abs().max().item()
        defended = study.defence(row).probabilities(x, _draws(study, "score", 0), points.index)
        return _points(points) | {"cell": _cell([defended], points.y), "distance": distance}

    options = {"row": row, "variant": variant, "samples": samples, "n": run.n_adaptive, "steps": run.steps[0]}
    images = run.n_adaptive * (run.steps[0] * (samples + 1) + run.draws if samples else 1)
    return study.record(f"adaptive-{name}-{variant}-{samples}", name, study.identity(name, "attack", "draws", **options), compute, images, cost=2)


def stronger(study: Study, name: str) -> dict[str, dict]:
    """The bare model ("none") and its MI-OL row ("eq24") under 50 steps of epsilon / 16, as records of `adaptive`.

    As Tramèr et al. (On Adaptive Attacks to Adversarial Example Defenses, NeurIPS 2020) attack MI-OL: end to end, 50 steps of 0.5/255 within
    8/255, 15 samples a step.
    """
    study = study.varied(steps=(50,), step_size=study.params.epsilon / 16)
    return {variant: adaptive(study, name, variant, samples) for variant, samples in (("none", 0), ("eq24", 15))}
