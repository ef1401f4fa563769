"""Tables and captions of a run whose models have had one epoch."""

import json

import pytest

from milib.study import alternatives, experiments, params, paths
from milib.study.rows import PRIMARY, columns, correct, table_rows
from milib.study.study import Study
from milib.views import provenance, tables

DIGITS = paths.project_root() / "params" / "digits.yaml"
MI = {"mi_pl": [0.5], "mi_ol": [0.5]}
TINY = {"n_test": 12, "n_theory": 6, "n_adaptive": 4, "n_beyond": 5, "draws": 3, "draw_sets": 2}
TINY |= {"steps": [10], "epochs": 1, "adversarial_share": 1, "train_steps": 1}


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """tiny(**overrides): a study with files of its own."""
    monkeypatch.setenv("MILIB_OUTPUTS", str(tmp_path))
    return lambda **overrides: Study(params.load(DIGITS, TINY | overrides), "test")


def scored(run: Study) -> list:
    """The table's rows of the mixup-trained model."""
    rows = [row for row in run.params.rows if row["model"] == "mixup"]
    entries = [experiments.matched_row(run, row) for row in rows]
    which = columns(run.params)
    records = [experiments.score(run, entry["row"], which) for entry in entries]
    return table_rows(run.params, entries, records)


def accuracy(record: dict, column: str) -> float:
    return correct(record["cells"][column], record["labels"]).mean()


def test_protocol_choices_stand_beside_here_and_the_papers_value(tiny):
    run = tiny(match_clean=False)
    table = scored(run)
    found = alternatives.choices(run, table)
    frame = tables.alternatives(run.params, found)
    papers = frame["paper"].to_dict()
    assert papers["the prediction is attacked", "Mixup", PRIMARY] == "3.6"
    name = "Mixup + Gaussian noise (sigma 0.2)"
    line = frame.loc[("sigma read on [0, 1]", name, "clean")]
    [choice] = [choice for choice in found if choice.row == name]
    other = accuracy(choice.other, "clean")
    [here] = [row for row in table if row.name == "Mixup + Gaussian noise"]
    assert line["otherwise"] == round(100 * other, 1)
    difference = 100 * (other - here.accuracy("clean").mean())
    assert line["difference, points"] == pytest.approx(difference, abs=0.0501)
    assert line["difference, points low"] <= line["difference, points"]
    assert line["difference, points"] <= line["difference, points high"]


def test_a_row_of_no_mi_ol_model_has_nothing_to_be_paired_with(tiny):
    table = scored(tiny(grids=MI | {"gaussian_noise": [0.9]}))
    assert len(tables.paired(table)) == len(table) - 1
    assert tables.paired([row for row in table if row.defense != "mi_ol"]).empty


def test_a_bare_model_is_told_with_its_images_and_interval(tiny):
    record = experiments.bare(tiny(n_test=5), "erm")
    line = tables.bare({"erm": record}).loc["ERM"]
    assert line["test images"] == 50
    assert line[PRIMARY] == round(100 * accuracy(record, PRIMARY), 1)
    assert line[f"{PRIMARY} low"] <= line[PRIMARY] <= line[f"{PRIMARY} high"]


def test_a_claim_without_comparisons_is_told_as_not_measured():
    judged = {"id": "x", "statement": "", "source": "", "comparisons": []}
    judged["verdict"] = "not measured"
    assert tables.comparisons([judged]).empty
    assert list(tables.verdicts([judged])["verdict"]) == ["not measured"]


# Captions


def test_captions_say_what_a_model_has_had_and_what_the_papers_had(tiny):
    run = tiny()
    run.require("erm", "at", "manifold_mixup")
    erm, at, manifold, others = provenance.training_note(run).split("; ")
    epochs, steps = run.params.epochs, run.params.train_steps
    assert erm == f"erm: small net, {epochs} epochs (the paper: resnet50 net, 200 epochs)"
    paper = "(the paper: resnet50 net, 200 epochs, PGD-10 inside)"
    assert at.endswith(f"epochs, PGD-{steps} inside {paper}")
    # The paper names manifold mixup and trains none.
    assert manifold == f"manifold_mixup: small net, {epochs} epochs"
    differing = "schedule onecycle (step), lr 0.1 (0.01), nesterov True (False), "
    assert others.startswith(f"training otherwise, the paper's in brackets: {differing}")
    assert others.endswith(", 200 training images held out (0)")
    assert "batch_size" not in others  # 64 here and there
    assert provenance.training_note(run.varied(pool="test")) == provenance.training_note(run)
    assert provenance.models_note({}, run.params.paper_table) == ""


def test_captions_say_on_how_many_images_within_what_and_with_how_many_draws(tiny):
    run = tiny(epsilon="16/255")

    def settings(**options) -> str:
        return json.loads(provenance.about(run, "a caption", **options))["settings"]

    sets = f", {run.params.draw_sets} draw sets"
    for notebook, count, more in (
        ("03_theory", 6, ""),
        ("04_oblivious", 12, sets),
        ("07_adaptive_attacks", 4, ""),
        ("08_beyond_the_paper", 5, ""),
    ):
        run.notebook = notebook
        assert settings() == f"{count} test images, eps = 16/255, N = 3{more}"
    run.precision = "bf16"
    assert settings().endswith(", attacks in bf16, scored in fp32")  # a CPU has no TF32
    assert settings(measured=False) == ""
    one = tiny(draw_sets=1)
    one.notebook = "04_oblivious"
    assert provenance.settings_note(one).endswith(", N = 3, 1 draw set")
