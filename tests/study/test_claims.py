"""Claims: synthetic evidence that must hold, fail or leave undecided every claim of params/claims.yaml."""

import numpy as np
import pytest

from milib.study import claims, params, paths
from milib.study.rows import BASELINES, PRIMARY

TABLE = params.read_table(paths.project_root() / "params" / "claims.yaml")
N = 200
LABELS = [0] * N


def cell(accuracy: float) -> dict:
    """Predictions of one draw set that are right on the first `accuracy` of the images."""
    return {"predictions": [[0] * round(accuracy * N) + [1] * (N - round(accuracy * N))]}


def scores(accuracies: dict, other: float = 0.5) -> dict:
    names = [
        (m, d)
        for m in ("erm", "mixup", "at", "interpolated_at")
        for d in ("none", "mi_ol", "mi_combined", *BASELINES)
    ]
    return {
        name: {
            "labels": LABELS,
            "cells": {c: cell(accuracies.get(name, other)) for c in ("clean", PRIMARY)},
        }
        for name in names
    }


def components(delta_y: float, delta_yhat: float) -> tuple[dict, float]:
    """Three classes; label 0, adversarial prediction 1: F(x) = (0.2, 0.7, 0.1), F(x~) moved by the given amounts."""
    before, after = [0.2, 0.7, 0.1], [0.2 + delta_y, 0.7 + delta_yhat, 0.1 - delta_y - delta_yhat]
    rows = {
        "F(x0)": [0.9, 0.05, 0.05],
        "F(x)": before,
        "F(x~)": after,
        "F(x~0)": [0.5, 0.3, 0.2],
        "F(x~0 + delta)": before,
        "F_MI(x0)": [0.6, 0.2, 0.2],
    }
    return {"labels": LABELS} | {name: [row] * N for name, row in rows.items()}, 0.5


def detection(good: str, bad: str) -> dict:
    """Scores that separate perfectly for one detector, and the wrong way round for the other."""
    noise = np.linspace(0, 0.01, N)
    part = {name: list(noise) for name in ("mi_pl", "mi_ol", "confidence")}
    clean = part | {good: list(noise), bad: list(noise + 0.5)}
    return {
        "scores": {"clean": clean, PRIMARY: part | {good: list(noise + 0.5), bad: list(noise)}},
        "labels": LABELS,
    }


def tradeoff(mi: float, baseline: float) -> dict:
    defenses = dict.fromkeys(("mi_pl", "mi_ol", "mi_combined"), mi) | dict.fromkeys(
        BASELINES, baseline
    )
    return {
        (model, defense): {
            "labels": LABELS,
            "settings": [{}],
            "cells": [{"clean": cell(0.9), PRIMARY: cell(robust)}],
        }
        for model in ("mixup", "interpolated_at")
        for defense, robust in defenses.items()
    }


def evidence(claim: dict, favourable: bool) -> dict:  # noqa: PLR0911
    """Evidence that must hold a claim, or must fail it."""
    high, low = (0.9, 0.1) if favourable else (0.1, 0.9)
    of = claim["of"]
    match claim["statistic"]:
        case "more_linear":
            return {
                "linearity": {
                    of["model"]: {"prediction": [[low]] * N},
                    of["than"]: {"prediction": [[high]] * N},
                }
            }
        case "beats":
            return {"scores": scores({tuple(of["row"]): high}, low)}
        case "gains_more":
            gains = {
                name: value
                for first, second in of["pairs"]
                for name, value in (((first, "mi_ol"), high), ((second, "mi_ol"), low))
            }
            return {"scores": scores(gains, 0.5)}
        case "ric":
            return {
                "components": {
                    of["mode"]: components(0.3, -0.4) if favourable else components(-0.1, 0.1)
                }
            }
        case "detects_better":
            pair = (of["detector"], of["than"]) if favourable else (of["than"], of["detector"])
            return {"detection": {model: detection(*pair) for model in of["models"]}}
        case "below_one_half":
            pair = ("mi_pl", of["detector"]) if favourable else (of["detector"], "mi_pl")
            return {"detection": {model: detection(*pair) for model in of["models"]}}
        case "dominates":
            return {"tradeoff": tradeoff(high, low)}
        case "leaves_a_gain":
            return {
                "adaptive": {
                    (of["model"], k): {"labels": LABELS, "cell": cell(a)}
                    for k, a in ((0, low), (30, high), (1, 0.5))
                }
            }


@pytest.mark.parametrize("claim", TABLE, ids=lambda claim: claim["id"])
@pytest.mark.parametrize(("favourable", "wanted"), [(True, "holds"), (False, "fails")])
def test_evidence_decides_each_claim(claim, favourable, wanted):
    found = claims.STATISTICS[claim["statistic"]](evidence(claim, favourable), **claim["of"])
    assert found and all(entry.low - 1e-9 <= entry.mean <= entry.high + 1e-9 for entry in found)
    assert claims.verdict(found, claim["margin"], claim["room"]) == wanted


def test_one_failing_comparison_fails_a_claim_that_says_every():
    claim = next(c for c in TABLE if c["id"] == "mi_ol_beats_baselines_on_mixup")
    one_better = {"scores": scores({("mixup", "mi_ol"): 0.6, ("mixup", "guo"): 0.8}, 0.2)}
    assert claims.verdict(claims.STATISTICS["beats"](one_better, **claim["of"]), 0) == "fails"


@pytest.mark.parametrize(
    ("low", "high", "room", "wanted"),
    [
        (0.01, 0.2, 0, "holds"),
        (-0.2, -0.01, 0, "fails"),
        (-0.1, 0.1, 0, "undecided"),
        (0.01, 0.2, 0.05, "undecided"),
        (-0.2, -0.01, 0.05, "undecided"),
    ],
)
def test_verdict(low, high, room, wanted):
    assert claims.verdict([claims.Comparison("", (low + high) / 2, low, high)], 0, room) == wanted


def test_no_comparison_is_no_verdict():
    assert claims.verdict([], 0) == "not measured"
    judged = [
        {"id": "x", "statement": "", "source": "", "comparisons": [], "verdict": "not measured"}
    ]
    assert claims.comparisons(judged).empty and list(claims.verdicts(judged)["verdict"]) == [
        "not measured"
    ]


def test_the_table_is_complete():
    notebooks = {path.stem for path in (paths.project_root() / "notebooks").glob("*.ipynb")}
    assert {claim["notebook"] for claim in TABLE} == notebooks
    assert len({claim["id"] for claim in TABLE}) == len(TABLE)
    assert all(
        claim["statistic"] in claims.STATISTICS and claim["statement"] and claim["source"]
        for claim in TABLE
    )
