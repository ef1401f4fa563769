"""The tables of notebook 08, against numbers by hand, and as files."""

import csv

import numpy as np
import pandas as pd
import pytest

from milib import eot, statistics
from milib.audit.checklist import Line
from milib.audit.measure import SETS
from milib.study import params, paths
from milib.study.experiments import beyond, variants
from milib.study.experiments.variants import Variant
from milib.study.rows import parameters
from milib.views import beyond_tables as tables
from milib.views import styling

AT, N = "interpolated_at", 10
ROW = {"model": AT, "defense": "mi_ol", "ratio": 0.6}
DIGITS = params.load(paths.project_root() / "params" / "digits.yaml", {})


def record(right: str, counts: bool = True, index: list[int] | None = None) -> dict:
    """A record of images: "1" is right, "0" wrong, "h" right with half of the draw sets."""
    index = list(range(len(right))) if index is None else index
    predictions = []
    for number in range(SETS):
        halves = {"1": 0, "0": 1, "h": number % 2}
        predictions.append([halves[each] for each in right])
    margin = [{"1": -1.0, "h": -0.5, "0": 1.0}[each] for each in right]
    known = {"index": index, "labels": [0] * len(right), "predictions": predictions}
    known["missed"] = [{"1": 0, "h": 1, "0": 3}[each] for each in right]
    return known | {"margin": margin, "counts": counts, "distance": 0.1, "inside": True}


def audit(**attacks: dict) -> dict[str, dict]:
    names = {"later": "later", "worse": "4 times K", "far": "eps 2", "base": "base: standard"}
    return {names.get(name, name): each for name, each in attacks.items()}


AUDITS = {
    "AT bare": audit(
        clean=record("1111111110"),
        oblivious=record("1111100000"),
        standard=record("1111000000"),
        worse=record("0111111110"),
    ),
    "AT MI-OL": audit(
        clean=record("1111111100"),
        oblivious=record("1111111000"),
        paper=record("1111110000"),
        standard=record("11111h0000"),
        worse=record("0111111100"),
        far=record("0000000000", counts=False),
        base=record("0000000000"),
    ),
}
VARIANTS = {
    "AT bare": variants.bare(AT),
    "AT MI-OL": Variant("row", ROW),
}


def low_high(frame: pd.DataFrame, row, column: str) -> tuple[float, float]:
    line = frame.loc[row]
    return float(line[f"{column} low"]), float(line[f"{column} high"])


def test_what_is_left_under_attacks_that_know_more():
    frame = tables.left(VARIANTS, AUDITS)
    bare = frame.xs("Interpolated AT").iloc[0]
    defended = frame.xs("Interpolated AT + MI-OL").iloc[0]
    assert [bare[head] for head in ("clean", "oblivious PGD-10", "standard")] == [90, 50, 40]
    assert bare["worst case"] == 30, "one more image falls to 4 times K alone"
    assert np.isnan(bare["the paper's adaptive attack"])
    assert [defended[head] for head in tables.MAIN.values()] == [80, 70, 60, 55, 45]
    low, high = defended["standard low"], defended["standard high"]
    values = np.array([1, 1, 1, 1, 1, 0.5, 0, 0, 0, 0])
    expected = [round(100 * each, 1) for each in statistics.interval(values)]
    assert [defended["standard"], low, high] == expected
    wilson = [round(100 * each, 1) for each in statistics.wilson(8, 10)]
    assert [defended["clean low"], defended["clean high"]] == wilson
    assert set(frame.index.get_level_values("parameters")) == {"-", parameters(ROW)}


def test_an_attack_never_leaves_more_than_clean_images_do():
    """Of each image the clean input counts where it is the worse of the two."""
    records = audit(clean=record("1100"), standard=record("1011"))
    found = tables.under(records, "standard")
    assert found.tolist() == [1, 0, 0, 0]


def test_what_a_defense_adds_is_paired_by_image():
    frame = tables.gains(AUDITS, {"MI-OL": ("AT MI-OL", "AT bare")})
    line = frame.loc["MI-OL"]
    points = [line[f"{head}, points"] for head in tables.MAIN.values()]
    assert points == [-10, 20, 10, 15, 15], "the paper's attack is set against the oblivious one"
    differences = np.array([0, 0, 0, 0, 1, 0.5, 0, 0, 0, 0])
    _, low, high = statistics.mean_interval(differences)
    expected = (round(100 * low, 1), round(100 * high, 1))
    assert low_high(frame, "MI-OL", "standard, points") == expected


def test_an_attack_outside_the_ball_is_seen():
    records = audit(clean=record("11"), standard=record("10"), far=record("00", counts=False))
    records["eps 2"]["distance"] = 0.2
    assert tables.inside(records, 0.1) and not tables.inside(records, 0.09)
    records["standard"]["inside"] = False
    assert not tables.inside(records, 0.1)
    assert tables.means(records, "clean", "standard", "worst case") == [1, 0.5, 0.5]


def test_the_sweep_has_a_row_for_each_setting_and_its_cost():
    records = {"clean": record("1111"), "standard": record("1100")}
    for what, settings in beyond.sweep().items():
        for name in settings:
            records.setdefault(beyond.entry_name(what, name), record("1000"))
    frame = tables.sweep(records)
    assert len(frame) == sum(map(len, beyond.sweep().values()))
    standard = frame.loc[("loss", "margin")]
    assert standard["accuracy"] == 50 and standard["passes"] == eot.STANDARD.passes
    assert np.isnan(standard["standard minus this, points"])
    other = frame.loc[("steps", "50")]
    assert (other["accuracy"], other["passes"]) == (25, 250)
    assert other["standard minus this, points"] == 25, "positive where it leaves less"


def test_a_costlier_setting_is_stronger_where_it_measurably_leaves_less():
    records = {"clean": record("1" * 20), "standard": record("1" * 20)}
    for what, settings in beyond.sweep().items():
        for name in settings:
            records.setdefault(beyond.entry_name(what, name), record("1" * 20))
    assert tables.stronger(records) == []
    records["steps: 200"] = record("1" * 10 + "0" * 10)
    records["steps: 50"] = record("0" * 20)  # cheaper: it would be the standard, not stronger
    records["samples: 10"] = record("1" * 19 + "0")  # too few images to tell
    assert tables.stronger(records) == ["steps 200"]


def test_rows_stand_beside_mi_ol_of_their_model(monkeypatch):
    monkeypatch.setattr(tables, "mi_ol", lambda _, model: Variant("row", ROW | {"model": model}))
    noise = Variant("row", {"model": AT, "defense": "gaussian_noise", "sigma": 0.1})
    other = Variant("row", {"model": "mixup", "defense": "none"})
    mean = Variant("mean image", ROW | {"defense": "mi_any"}, "mean", 1)
    compared = [variants.bare(AT), Variant("row", ROW), noise, other, mean]
    standards = ["1000", "1110", "1100", "1111", "1101"]
    records = [{"clean": record("1111"), "standard": record(each)} for each in standards]
    frame = tables.rows(None, compared, records)  # type: ignore[arg-type]
    names = list(frame.index.get_level_values("row"))
    assert names == [
        "Interpolated AT",
        "Interpolated AT + MI-OL",
        "Interpolated AT + Gaussian noise",
        "Mixup",
        "Interpolated AT + mean image",
    ]
    assert list(frame["standard"]) == [25, 75, 50, 100, 75]
    more = list(frame["MI-OL minus this, points"])
    assert [more[0], more[2], more[4]] == [50, 25, 0] and np.isnan([more[1], more[3]]).all()
    _, low, high = statistics.mean_interval(np.array([0, 0, 1, -1]))
    last = frame.iloc[4]
    ends = [last["MI-OL minus this, points low"], last["MI-OL minus this, points high"]]
    assert ends == [round(100 * low, 1), round(100 * high, 1)]


def test_other_numbers_of_draws_stand_in_one_line():
    frame = tables.numbers({"mixup": {1: record("1h00"), 30: record("1100")}})
    assert frame.loc["Mixup", "N = 1"] == 37.5 and frame.loc["Mixup", "N = 30"] == 50


@pytest.fixture
def evaded():
    """Twenty images: clean scores 0 .. 0.19, so that 0.1805 lets 95 % of them pass."""
    clean = [k / 100 for k in range(20)]
    attacks = {
        "clean": {"scores": clean, "predictions": [0] * 20},
        "standard": {"scores": [1.0] * 20, "predictions": [1] * 20},
        "evading": {"scores": [-1.0] * 5 + [1.0] * 15, "predictions": [1] * 10 + [0] * 10},
    }
    combined = {"clean": record("1" * 20), "standard": record("1" * 18 + "00")}
    combined["evading"] = record("1" * 5 + "0" * 15)
    known = {"index": list(range(20)), "labels": [0] * 20, "ratio": 0.5}
    return known | {"attacks": attacks, "combined": combined}


def test_a_detector_that_is_evaded_is_told_by_auc_and_by_what_passes(evaded):
    frame = tables.evading({"mixup": evaded})
    plain, evading = frame.loc["Mixup"].loc["on the bare model"], frame.loc["Mixup"].iloc[1]
    assert (plain["AUC"], plain["found at 5 % FPR, %"], plain["wrong and passed"]) == (1, 100, 0)
    assert (evading["AUC"], evading["found at 5 % FPR, %"]) == (0.75, 75)
    assert evading["wrong and passed"] == 25, "five of twenty are wrong and pass"
    assert (plain["MI-Combined, accuracy"], evading["MI-Combined, accuracy"]) == (90, 25)
    assert tables.aucs(evaded) == {"standard": 1, "evading": 0.75}
    bare = tables.evading({"mixup": evaded | {"combined": {}}})
    assert "MI-Combined, accuracy" not in bare


def test_black_box_attacks_say_on_how_many_images_and_what_they_broke_besides():
    records = audit(clean=record("111110"), standard=record("111000"))
    records["transfer"] = record("111010")
    records["Square"] = record("10", index=[0, 1])
    records["noise"] = record("", index=[])
    records["base: transfer"] = record("000000")
    frame = tables.black_box({"a": Variant("row", ROW)}, {"a": records})
    lines = frame.loc["Interpolated AT + MI-OL"]
    assert list(lines.index) == ["transfer", "Square", "noise"]
    assert list(lines["images"]) == [6, 2, 0]
    assert list(lines["broken first"]) == [0, 1, 0]
    assert list(lines["accuracy on them"])[:2] == [66.7, 50]
    assert np.isnan(lines.loc["noise", "accuracy on them"])


def test_the_whole_battery_has_a_row_for_each_attack_on_the_defense():
    records = audit(clean=record("1110"), standard=record("1100"), worse=record("0100"))
    records["far"] = record("0000", counts=False)
    records["noise"] = record("", index=[])
    records["base: clean"] = record("1111")
    for number, each in enumerate(records.values()):
        each |= {"passes": 100 * number, "note": f"note {number}"}
    frame = tables.battery(records)
    assert list(frame.index) == ["clean", "standard", "4 times K", "far", "noise"]
    assert list(frame["passes"]) == [0, 100, 200, 300, 400]
    assert list(frame["images"]) == [4, 4, 4, 4, 0]
    assert list(frame["broken first"]) == ["1", "1", "1", "-", "0"]
    assert list(frame["accuracy on them"])[:4] == [75, 50, 25, 0]
    assert frame.loc["far", "note"] == "note 3"


def test_the_checklist_is_told_line_by_line():
    lines = [Line(1, "What is asked", "met", "Told."), Line(2, "More", "not met", "So.")]
    frame = tables.checklist(lines)
    assert list(frame.index) == ["1. What is asked", "2. More"]
    assert list(frame["verdict"]) == ["met", "not met"] and list(frame["evidence"]) == [
        "Told.",
        "So.",
    ]


def judged(shrinkage: str, baselines: str) -> list[dict]:
    return [
        {"id": "mi_ol_keeps_more_than_shrinkage", "verdict": shrinkage},
        {"id": "mi_ol_keeps_more_than_baselines", "verdict": baselines},
    ]


def test_the_answer_is_made_from_the_records():
    audits = {}
    for model in ("mixup", "interpolated_at"):
        audits[f"{model} bare"] = AUDITS["AT bare"]
        audits[f"{model} MI-OL"] = AUDITS["AT MI-OL"]
    told = tables.answer(audits, judged("undecided", "fails")).splitlines()
    assert len(told) == 3
    assert told[0].startswith(
        "On Mixup, MI-OL keeps 45.0 % under the worst case, the bare model 30.0 %: +15.0 points [+"
    )
    assert told[1].startswith("On Interpolated AT, MI-OL keeps 45.0 %")
    assert told[2].endswith("each baseline under the standard: undecided, fails.")


def every(evaded: dict) -> dict[str, pd.DataFrame]:
    records = {"clean": record("1111"), "standard": record("1100")}
    for what, settings in beyond.sweep().items():
        for name in settings:
            records.setdefault(beyond.entry_name(what, name), record("1000"))
    return {
        "left": tables.left(VARIANTS, AUDITS),
        "gains": tables.gains(AUDITS, {"MI-OL": ("AT MI-OL", "AT bare")}),
        "sweep": tables.sweep(records),
        "numbers": tables.numbers({"mixup": {1: record("1h00")}}),
        "detection": tables.evading({"mixup": evaded}),
        "black_box": tables.black_box(VARIANTS, {"AT MI-OL": AUDITS["AT MI-OL"]}),
        "checklist": tables.checklist([Line(1, "What", "met", "Told, with a comma.")]),
    }


def test_each_is_shown_and_is_the_same_when_read_back(evaded, tmp_path):
    for name, frame in every(evaded).items():
        if name == "black_box":
            continue  # it has no line here
        path = tmp_path / f"{name}.csv"
        path.write_bytes(styling.write(frame))
        head = next(csv.reader(path.read_text().splitlines()))
        assert len(set(head)) == len(head) and all(head)
        pd.testing.assert_frame_equal(styling.read(path), frame)
        html = styling.styled(frame, f"caption of {name}").to_html()
        assert f"caption of {name}" in html and "nan" not in html
