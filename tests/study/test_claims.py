"""Claims: synthetic evidence must hold and fail every claim of params/claims.yaml."""

import copy
import inspect
from types import SimpleNamespace

import numpy as np
import pytest

from milib.errors import UserError
from milib.study import claims, comparisons, paths, rules
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


def attacked(of: dict, high: float, low: float) -> dict:
    """Accuracy of each image under the claim's attack; under the other one it is the reverse."""
    found = {}
    for under in rules.UNDER:
        own, other = (high, low) if under == of["under"] else (low, high)
        found[*of["row"], under] = images(own)
        for row in of["others"]:
            found[*row, under] = images(other)
    return found


def images(accuracy: float) -> list[float]:
    return [1.0] * round(accuracy * N) + [0.0] * (N - round(accuracy * N))


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
        case "keeps_more":
            return {"attacked": attacked(of, high, low)}
    raise AssertionError(claim["statistic"])


@pytest.mark.parametrize("claim", TABLE, ids=lambda claim: claim["id"])
@pytest.mark.parametrize(("favourable", "wanted"), [(True, "holds"), (False, "fails")])
def test_evidence_decides_each_claim(claim, favourable, wanted):
    found = comparisons.STATISTICS[claim["statistic"]](evidence(claim, favourable), **claim["of"])
    assert found and all(entry.low - 1e-9 <= entry.mean <= entry.high + 1e-9 for entry in found)
    assert claims.verdict(found, claim["margin"], claim["room"]) == wanted


def test_one_failing_comparison_fails_a_claim_that_says_every():
    claim = next(c for c in TABLE if c["id"] == "mi_ol_beats_baselines_on_mixup")
    one_better = {"scores": scores({("mixup", "mi_ol"): 0.6, ("mixup", "guo"): 0.8}, 0.2)}
    assert claims.verdict(comparisons.STATISTICS["beats"](one_better, **claim["of"]), 0) == "fails"


def test_an_attacked_row_is_paired_with_others_by_image_and_controls_are_named():
    """+1 on a quarter of the images and -1 on another: no difference, and its interval."""
    quarter = N // 4
    own = [1.0] * quarter + [0.0] * quarter + [0.5] * (N - 2 * quarter)
    other = [0.0] * quarter + [1.0] * quarter + [0.5] * (N - 2 * quarter)
    row, control = ["interpolated_at", "mi_ol"], ["interpolated_at", "mean_image"]
    evidence = {(*row, "worst case"): own, (*control, "worst case"): other}
    [found] = comparisons.keeps_more({"attacked": evidence}, row, [control], "worst case")
    assert found.label == "Interpolated AT + MI-OL - Interpolated AT + mean image, worst case"
    assert found.mean == 0 and 0.09 < found.high < 0.11 and found.low == pytest.approx(-found.high)
    with pytest.raises(comparisons.NotMeasuredError):
        comparisons.keeps_more({"attacked": evidence}, row, [control], "standard")


def test_claims_that_the_table_lacks_are_left_out():
    """A run may be older than the table."""
    known = {"id": TABLE[0]["id"], "comparisons": [], "verdict": "holds"}
    gone = {"id": "adaptive_leaves_a_gain_on_mixup", "comparisons": [], "verdict": "fails"}
    [told] = rules.in_words([gone, known])
    assert told["statement"] == TABLE[0]["statement"] and told["verdict"] == "holds"


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
    assert (
        claims.verdict([comparisons.Comparison("", (low + high) / 2, low, high)], 0, room) == wanted
    )


def test_no_comparison_is_no_verdict():
    assert claims.verdict([], 0) == "not measured"


def test_the_table_is_complete():
    notebooks = {path.stem for path in (paths.project_root() / "notebooks").glob("*.ipynb")}
    assert {claim["notebook"] for claim in TABLE} == notebooks - {"07_adaptive_attacks"}
    assert len({claim["id"] for claim in TABLE}) == len(TABLE)
    assert all(
        claim["statistic"] in comparisons.STATISTICS and claim["statement"] and claim["source"]
        for claim in TABLE
    )


def test_dominates_takes_the_most_robust_setting_that_is_as_clean():
    """A point of clean accuracy is allowed, no more; where no setting is as clean, MI loses."""
    records = tradeoff(0.1, 0.5)
    mixed = records["mixup", "mi_pl"]
    mixed["settings"] = [{}, {}]
    allowed, too_low = {"clean": cell(0.89)}, {"clean": cell(0.88)}
    mixed["cells"] = [allowed | {PRIMARY: cell(0.7)}, too_low | {PRIMARY: cell(0.9)}]
    found = comparisons.dominates({"tradeoff": records}, "mixup")
    assert [entry.mean for entry in found] == pytest.approx([0.2] * len(BASELINES))
    for record in records.values():
        if record is not mixed:
            record["cells"][0]["clean"] = cell(1.0)
    alone = {key: records[key] for key in records if key[1] in ("mi_pl", *BASELINES)}
    found = comparisons.dominates({"tradeoff": alone}, "mixup")
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
    digits = SimpleNamespace(data="digits", paper_table="table2_cifar10")
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

    table[0]["margin"] = 1
    assert rules.rules_digest() != fixed
    assert claims.judge(study, found)[0]["verdict"] == "fails"
    assert len(list(tmp_path.glob("records/*.json"))) == 2


# The table, as it is read


def edited(table: list[dict], name: str) -> dict:
    return next(claim for claim in table if claim["id"] == name)


FIRST, SECOND = "mixup_training_alone_helps", "mi_pl_detects_better_than_mi_ol"
THIRD = "standard_leaves_a_gain_on_mixup"
UNDER = {"row": ["mixup", "mi_ol"], "others": [["mixup", "mean_image"]], "under": "standard"}
DETECTORS = {"detector": "mi_pl", "than": "mi_ol", "models": ["mixup"]}
MISTAKES = [
    (THIRD, {"of": UNDER | {"under": "worst"}}, "under is 'worst'", "nearest: 'worst case'"),
    (THIRD, {"of": UNDER | {"others": [["mixup", "mean"]]}}, "others[0][1]", "nearest:"),
    (FIRST, {"statistic": "beat"}, "statistic is 'beat'", "nearest: 'beats'"),
    (FIRST, {"notebook": "01_train_mixupp"}, "notebook is", "nearest: '01_train_mixup'"),
    (FIRST, {"margin": "0"}, "margin is '0'", "a number"),
    (FIRST, {"margin": True}, "margin is True", "a number"),
    (FIRST, {"margin": float("nan")}, "margin is nan", "a number"),
    (FIRST, {"margin": 3}, "margin is 3", "from -1 to 1"),
    (FIRST, {"margin": None}, "margin is None", "a number"),
    (FIRST, {"room": -0.1}, "room is -0.1", "from 0 to 1"),
    (FIRST, {"marign": 0}, "a key is 'marign'", "nearest: 'margin'"),
    (FIRST, {"statement": ""}, "statement is ''", "a sentence"),
    (FIRST, {"source": 2}, "source is 2", "a sentence"),
    (FIRST, {"of": None}, "of is None", "a table of row, others, column"),
    (FIRST, {"of": {"row": ["mixup", "none"]}}, "of lacks others", "write it there"),
    (FIRST, {"of": {"row": ["mixup", "none"], "other": []}}, "a key is 'other'", "'others'"),
    (FIRST, {"of": {"row": ["mixup", "non"], "others": [["erm", "none"]]}}, "row[1]", "'none'"),
    (FIRST, {"of": {"row": ["mixupp", "none"], "others": [["erm", "none"]]}}, "row[0]", "'mixup'"),
    (FIRST, {"of": {"row": ["mixup"], "others": [["erm", "none"]]}}, "row is", "2 names"),
    (FIRST, {"of": {"row": "mixup", "others": [["erm", "none"]]}}, "row is 'mixup'", "a list"),
    (FIRST, {"of": {"row": ["mixup", "none"], "others": []}}, "others is []", "a list"),
    (FIRST, {"of": {"row": ["mixup", "none"], "others": ["erm", "none"]}}, "others[0]", "a list"),
    (
        FIRST,
        {"of": {"row": ["mixup", "none"], "others": [["erm", "none"]], "column": "claen"}},
        "column is 'claen'",
        "nearest: 'clean'",
    ),
    (SECOND, {"of": DETECTORS | {"than": "guess"}}, "than is", "mi_ol"),
    (SECOND, {"of": DETECTORS | {"models": "mixup"}}, "models is", "a list"),
    (SECOND, {"of": DETECTORS | {"models": ["mixup", "atom"]}}, "models[1] is", "one of erm"),
    ("ric_holds_for_mi_pl", {"of": {"mode": "lp"}}, "mode is 'lp'", "one of pl, ol"),
    ("gain_needs_mixup", {"of": {"pairs": [["mixup", "erm", "at"]]}}, "pairs[0] is", "2 names"),
]


@pytest.mark.parametrize(("name", "change", "what", "hint"), MISTAKES)
def test_a_mistake_in_the_claims_ends_in_one_line(table, name, change, what, hint):
    edited(table, name).update(change)
    with pytest.raises(UserError) as caught:
        rules.claims_table()
    line = str(caught.value)
    assert line.startswith(f"{paths.project_root()}/params/claims.yaml: claim {name}"), line
    assert what in line and hint in line and "\n" not in line, line


@pytest.mark.parametrize("key", [*rules.RULE, *rules.WORDS])
def test_a_missing_key_is_named(table, key):
    del table[3][key]
    words = "claim 4 needs an id" if key == "id" else f"lacks {key}"
    with pytest.raises(UserError, match=rf"claims\.yaml.*{words}"):
        rules.claims_table()


def test_what_is_no_list_of_claims_is_refused(table, monkeypatch):
    table[2]["id"] = table[1]["id"]
    with pytest.raises(UserError, match="claim 3 needs an id of its own"):
        rules.claims_table()
    for content in (None, {}, [], "text", [1], [{"id": 3}], [{"id": ""}]):
        monkeypatch.setattr(rules, "read_table", lambda path, content=content: content)
        with pytest.raises(UserError, match=r"claims\.yaml"):
            rules.claims_table()


def test_a_key_written_twice_is_refused(monkeypatch, tmp_path):
    """The second margin of a claim would have been another verdict."""
    text = (paths.project_root() / "params" / "claims.yaml").read_text(encoding="utf-8")
    (tmp_path / "params").mkdir()
    path = tmp_path / "params" / "claims.yaml"
    path.write_text(text.replace("  margin: 0\n", "  margin: 0\n  margin: -1\n", 1))
    monkeypatch.setattr(rules, "project_root", lambda: tmp_path)
    with pytest.raises(UserError, match=r"claims\.yaml.*margin") as caught:
        rules.claims_table()
    assert "\n" not in str(caught.value)


def test_what_a_statistic_takes_is_what_the_table_may_hold():
    assert rules.OF.keys() == comparisons.STATISTICS.keys()
    for name, statistic in comparisons.STATISTICS.items():
        given = list(inspect.signature(statistic).parameters.values())[1:]
        assert [each.name for each in given] == list(rules.OF[name])
        optional = {each.name for each in given if each.default is not each.empty}
        assert optional == set(rules.OPTIONAL) & set(rules.OF[name])


# What was not measured, and what is not finite


def judged_by(tmp_path, notebook: str, found: dict) -> list[dict]:
    run = SimpleNamespace(data="cifar10", paper_table="table2_cifar10")
    store = Store(tmp_path / "run", tmp_path, notebook)
    return claims.judge(SimpleNamespace(params=run, notebook=notebook, store=store), found)


def test_rows_and_models_that_a_run_lacks_are_not_measured(tmp_path):
    """Table 3 has neither ERM nor AT."""
    rows = scores({("mixup", "mi_ol"): 0.9}, 0.2)
    kept = {row: record for row, record in rows.items() if row[0] not in ("erm", "at")}
    found = {claim["id"]: claim for claim in judged_by(tmp_path, "04_oblivious", {"scores": kept})}
    lacking = {"gain_needs_mixup", "gain_needs_interpolation"}
    verdicts = {name: claim["verdict"] for name, claim in found.items()}
    assert {name for name, verdict in verdicts.items() if verdict == "not measured"} == lacking
    for notebook, kind in (("05_detection", "detection"), ("08_beyond_the_paper", "attacked")):
        found = judged_by(tmp_path, notebook, {kind: {}})
        assert {claim["verdict"] for claim in found} == {"not measured"}


def test_a_part_of_the_evidence_that_is_missing_is_no_such_case(tmp_path):
    with pytest.raises(UserError, match="evidence has no 'scores'"):
        judged_by(tmp_path, "04_oblivious", {})
    assert not list(tmp_path.glob("run/records/*"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", range(3))
def test_nothing_is_claimed_of_nan(value, place):
    numbers = [0.1, 0.0, 0.2]
    numbers[place] = value
    with pytest.raises(UserError, match=r"A - B: (mean|low|high) is -?(nan|inf): a number"):
        comparisons.Comparison("A - B", *numbers)


def test_nan_in_the_evidence_leaves_no_record(tmp_path):
    claim = next(claim for claim in TABLE if claim["statistic"] == "detects_better")
    broken = {model: detection("mi_pl", "mi_ol") for model in claim["of"]["models"]}
    broken["mixup"]["scores"]["clean"]["mi_pl"][7] = float("nan")
    with pytest.raises(UserError, match="is nan"):
        judged_by(tmp_path, claim["notebook"], {"detection": broken})
    assert not list(tmp_path.glob("run/records/*"))
    values = linearity({"model": "mixup", "than": "erm"}, 0.0, 0.0)
    with pytest.raises(UserError, match="ERM is exactly linear"):
        comparisons.more_linear({"linearity": values}, "mixup", "erm")
