"""Claims: synthetic evidence must hold and fail every claim of params/claims.yaml."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest

from milib.study import claims, paths, rules
from milib.study.rows import BASELINES, PRIMARY
from milib.study.store import Store

TABLE = rules.claims_table()
N = 200
LABELS = [0] * N


def cell(accuracy: float) -> dict:
    """Predictions of one draw set that are right on the first `accuracy` of the images."""
    return {"predictions": [[0] * round(accuracy * N) + [1] * (N - round(accuracy * N))]}


def scores(accuracies: dict, other: float = 0.5) -> dict:
    """Records of every row: (model, defense) -> accuracy, the same clean and attacked."""
    found = {}
    for model in ("erm", "mixup", "at", "interpolated_at"):
        for defense in ("none", "mi_ol", "mi_combined", *BASELINES):
            own = cell(accuracies.get((model, defense), other))
            found[model, defense] = {"labels": LABELS, "cells": {"clean": own, PRIMARY: own}}
    return found


def components(delta_y: float, delta_yhat: float) -> tuple[dict, float]:
    """Three classes, label 0, adversarial prediction 1: F(x~) is F(x) moved by these amounts."""
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
    """One setting a family, clean right on 90 %: PGD-10 accuracy of MI and of the baselines."""
    robust = dict.fromkeys(("mi_pl", "mi_ol", "mi_combined"), mi)
    robust |= dict.fromkeys(BASELINES, baseline)
    found = {}
    for model in ("mixup", "interpolated_at"):
        for defense, accuracy in robust.items():
            cells = [{"clean": cell(0.9), PRIMARY: cell(accuracy)}]
            found[model, defense] = {"labels": LABELS, "settings": [{}], "cells": cells}
    return found


def linearity(of: dict, high: float, low: float) -> dict:
    values = {of["model"]: low, of["than"]: high}
    return {name: {"prediction": [[value]] * N} for name, value in values.items()}


def gains(of: dict, high: float, low: float) -> dict:
    accuracies = {}
    for first, second in of["pairs"]:
        accuracies |= {(first, "mi_ol"): high, (second, "mi_ol"): low}
    return scores(accuracies, 0.5)


def adaptive(of: dict, high: float, low: float) -> dict:
    accuracies = {0: low, 30: high, 1: 0.5}
    return {
        (of["model"], samples): {"labels": LABELS, "cell": cell(accuracy)}
        for samples, accuracy in accuracies.items()
    }


def evidence(claim: dict, favourable: bool) -> dict:  # noqa: PLR0911
    """Evidence that must hold a claim, or must fail it."""
    high, low = (0.9, 0.1) if favourable else (0.1, 0.9)
    of = claim["of"]
    match claim["statistic"]:
        case "more_linear":
            return {"linearity": linearity(of, high, low)}
        case "beats":
            return {"scores": scores({tuple(of["row"]): high}, low)}
        case "gains_more":
            return {"scores": gains(of, high, low)}
        case "ric":
            moved = components(0.3, -0.4) if favourable else components(-0.1, 0.1)
            return {"components": {of["mode"]: moved}}
        case "detects_better":
            pair = (of["detector"], of["than"]) if favourable else (of["than"], of["detector"])
            return {"detection": {model: detection(*pair) for model in of["models"]}}
        case "below_one_half":
            pair = ("mi_pl", of["detector"]) if favourable else (of["detector"], "mi_pl")
            return {"detection": {model: detection(*pair) for model in of["models"]}}
        case "dominates":
            return {"tradeoff": tradeoff(high, low)}
        case "leaves_a_gain":
            return {"adaptive": adaptive(of, high, low)}
    raise AssertionError(claim["statistic"])


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


def test_the_table_is_complete():
    notebooks = {path.stem for path in (paths.project_root() / "notebooks").glob("*.ipynb")}
    assert {claim["notebook"] for claim in TABLE} == notebooks
    assert len({claim["id"] for claim in TABLE}) == len(TABLE)
    assert all(
        claim["statistic"] in claims.STATISTICS and claim["statement"] and claim["source"]
        for claim in TABLE
    )


def test_dominates_takes_the_most_robust_setting_that_is_as_clean():
    """A point of clean accuracy is allowed, no more; where no setting is as clean, MI loses."""
    records = tradeoff(0.1, 0.5)
    mixed = records["mixup", "mi_pl"]
    mixed["settings"] = [{}, {}]
    allowed, too_low = {"clean": cell(0.89)}, {"clean": cell(0.88)}
    mixed["cells"] = [allowed | {PRIMARY: cell(0.7)}, too_low | {PRIMARY: cell(0.9)}]
    found = claims.dominates({"tradeoff": records}, "mixup")
    assert [entry.mean for entry in found] == pytest.approx([0.2] * len(BASELINES))
    for record in records.values():
        if record is not mixed:
            record["cells"][0]["clean"] = cell(1.0)
    alone = {key: records[key] for key in records if key[1] in ("mi_pl", *BASELINES)}
    found = claims.dominates({"tradeoff": alone}, "mixup")
    assert {entry.mean for entry in found} == {-1.0}
    assert all(entry.label.startswith("no MI setting is as clean as ") for entry in found)


@pytest.fixture
def table(monkeypatch):
    """The claims as a test edits them: what params/claims.yaml holds from then on."""
    edited = copy.deepcopy(TABLE)
    monkeypatch.setattr(rules, "read_table", lambda path: edited)
    return edited


def test_words_may_be_mended_and_rules_may_not(table, tmp_path):
    """Another statement leaves digest and record alone; another margin makes both anew."""
    name = "01_train_mixup"
    digits = SimpleNamespace(data="digits")
    study = SimpleNamespace(params=digits, notebook=name, store=Store(tmp_path, tmp_path, name))
    found: dict = {}
    for claim in table:
        if claim["notebook"] == name:
            found |= evidence(claim, True)
    assert len(found) == 2
    fixed, before = rules.rules_digest(), claims.judge(study, found)
    [kept] = tmp_path.glob("records/*.json")
    content = kept.read_bytes()

    table[0]["statement"], table[1]["source"] = "said otherwise", "elsewhere"
    again = claims.judge(study, found)
    assert rules.rules_digest() == fixed
    assert list(tmp_path.glob("records/*.json")) == [kept] and kept.read_bytes() == content
    assert (again[0]["statement"], again[1]["source"]) == ("said otherwise", "elsewhere")
    assert [claim["verdict"] for claim in again] == [claim["verdict"] for claim in before]

    table[0]["margin"] = 2
    assert rules.rules_digest() != fixed
    assert claims.judge(study, found)[0]["verdict"] == "fails"
    assert len(list(tmp_path.glob("records/*.json"))) == 2
