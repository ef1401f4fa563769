"""What FINDINGS.md and the README say of curated runs."""

import gzip
import json
from pathlib import Path

import pytest

from milib import files
from milib.report import findings
from milib.study import paths
from milib.study import store as store_module

REFERENCE = paths.project_root() / "outputs" / "reference"


def claim(identifier: str, verdict: str, *lows: float) -> dict:
    comparisons = [
        {"label": f"{identifier} {i}", "mean": low + 0.1, "low": low, "high": low + 0.2}
        for i, low in enumerate(lows)
    ]
    return {
        "id": identifier,
        "statement": f"statement of {identifier}",
        "source": "Table 2",
        "margin": 0,
        "verdict": verdict,
        "statistic": "none",
        "comparisons": comparisons,
    }


def put(folder: Path, records: dict[str, tuple[dict, dict]], **tables: str) -> None:
    """Curated records, name -> (identity, result), and tables as CSV."""
    store = store_module.Store(folder, folder / "none", "04_oblivious")
    for name, (identity, result) in records.items():
        store.record(name, identity, lambda result=result: result)
    for path in folder.glob("records/*.json"):
        files.write_atomic(path.with_suffix(".json.gz"), gzip.compress(path.read_bytes()))
    for name, content in tables.items():
        files.write_atomic(folder / "tables" / f"{name}.csv", content.encode())


def scores(right: int, column: str = "untargeted_pgd10", **more) -> dict:
    """A record's result: of 1,000 images the first `right` are right."""
    return {
        "labels": [0] * 1000,
        "cells": {column: {"predictions": [[0] * right + [1] * (1000 - right)]}},
    } | more


def test_each_verdict_with_the_comparison_that_decides_it(tmp_path):
    judged = [
        claim("mi_ol_beats_mixup", "holds", 0.05, 0.2),
        claim("gain_needs_mixup", "not measured"),
    ]
    tables = {
        "bare": 'model,test images,clean,untargeted_pgd10\nERM,5000,"91.0 [90.0, 92.0]",0.0\nAT,5000,80.0,35.0\n',
        "oblivious": "row,clean,untargeted_pgd10\nMixup,90.0 | 93.8,1.0 | 3.6\nMixup + Guo,80.0,19.0 | 31.2\nMixup + MI-PL,90,0.5\nMixup + MI-OL,78.0,9.0\n",
        "adaptive": 'adaptive samples,"Mixup, none","Mixup, eq24"\n0,0.6,\n1,,8.0\n30,,2.0\n',
        "stronger": "model,test images,bare,MI-OL\nMixup,200,0.4,0.1\n",
        "paired": 'row,minus,"untargeted_pgd10, points"\nMixup + A (2018),Mixup + MI-OL,1.0\nMixup + A (sigma 0.4),Mixup + MI-OL,"-8.3 [-9, -8]"\n',
    }
    put(tmp_path / "c10_compact", {"claims-04_oblivious": ({}, {"claims": judged})}, **tables)
    text = findings.text(tmp_path)
    assert (
        "on 5,000 test images, clean / untargeted PGD-10 in %: ERM 91.0 [90.0, 92.0] / 0.0; AT 80.0 / 35.0.\n"
        in text
    )
    row = next(
        line
        for line in text.splitlines()
        if line.startswith("| mixup + MI-OL is more robust than mixup ")
    )
    assert row.endswith("| Table 2 | holds |")
    assert "2 of 19 claims were judged: holds 1, fails 0, undecided 0, not measured 1." in text
    assert (
        "(Table 2)\n  - mi_ol_beats_mixup 0: +0.150 [+0.050, +0.250]\n  - mi_ol_beats_mixup 1: +0.300"
        in text
    )
    assert "c100" not in text and "Table 3" not in text
    told = "Mixup: clean 90.0, under untargeted PGD-10 1.0; with MI-OL 78.0 and 9.0; more than that under PGD-10 with Guo 19.0. Attacked adaptively "
    told += "(Eq. 24, 30 samples) 2.0 is left, of the bare model under PGD-10 0.6; end to end in 50 small steps (after Tramèr et al., 2020) 0.1, "
    told += "of the bare model 0.4"
    printed = "- Mixup + A (sigma 0.4), sigma as printed, minus Mixup + MI-OL: -8.3 [-9, -8] points under untargeted PGD-10."
    assert f"\n- {told}.\n{printed}\n\n" in text and text.count("as printed") == 1
    marks = "<!-- findings -->\n{}<!-- end of findings -->\n"
    page = findings.readme(marks.format("stale\n"), tmp_path)
    assert (
        f"\n- `c10_compact`, {told}.\n" in page
        and findings.MISTAKEN in page
        and "stale" not in page
    )


def test_a_verdict_says_what_its_comparisons_say_and_many_are_told_by_the_weakest(tmp_path):
    assert findings.cell(tmp_path, claim("a", "fails", 0.1, -0.3)) == "fails (1 hold, 1 fail)"
    assert (
        findings.cell(tmp_path, claim("a", "undecided", 0.1, -0.1, 0.2))
        == "undecided (2 hold, 1 undecided)"
    )
    assert (
        findings.cell(tmp_path, claim("a", "holds", 0.1, 0.2)) == "holds"
        and findings.cell(tmp_path, claim("a", "fails", -0.3)) == "fails"
    )
    assert (
        findings.cell(tmp_path, None)
        == findings.cell(tmp_path, claim("a", "not measured"))
        == "not measured"
    )
    mark = {"label": "no MI setting is as clean as b", "mean": -1.0, "low": -1.0, "high": -1.0}
    told = findings.weakest([*claim("c", "fails", 0.3, -0.2, 0.1)["comparisons"], mark])
    assert (
        told
        == "c 1: -0.100 [-0.200, +0.000] (the weakest of 3 comparisons); in 1 more no MI setting is as clean"
    )


def test_rows_are_told_with_their_clean_accuracy():
    entry = {"label": "Mixup + MI-OL - Mixup", "mean": 0.1, "low": 0.05, "high": 0.15}
    assert (
        findings.line(entry, {"Mixup + MI-OL": 80.0, "Mixup": 91.5})
        == "Mixup + MI-OL - Mixup: +0.100 [+0.050, +0.150] at -11.5 points of clean accuracy"
    )
    assert findings.line(entry, {"Mixup": 91.5}).endswith("+0.150]")


def test_bare_models_are_told_on_more_images_beside_the_verdict(tmp_path):
    put(tmp_path, {"bare-mixup": ({}, scores(300)), "bare-erm": ({}, scores(100))})
    judged = claim("a", "undecided", -0.05) | {
        "statistic": "beats",
        "of": {"row": ["mixup", "none"], "others": [["erm", "none"]]},
    }
    told = "on 1,000 images, under untargeted PGD-10: Mixup - ERM +20.0 points [+17.5, +22.5] (the rule would say: holds)"
    assert findings.more_images(tmp_path, judged) == [told]
    assert findings.cell(tmp_path, judged) == "undecided (1,000 images: holds)"
    assert findings.cell(tmp_path, judged | {"verdict": "holds"}) == "holds"
    assert (
        findings.more_images(
            tmp_path, judged | {"of": {"row": ["mixup", "mi_ol"], "others": [["erm", "none"]]}}
        )
        == []
    )


def test_gains_are_told_with_their_ratios_and_at_one_ratio(tmp_path):
    """Of the protocol's own scores, not of those with another label or pool."""
    own, other = (
        {"attack_label": "label", "pool": "train"},
        {"attack_label": "prediction", "pool": "train"},
    )
    records = {
        f"score-{model}-none": (own, scores(right, row={}))
        for model, right in (("mixup", 10), ("erm", 0))
    }
    both = {f"score-{model}-mi_ol": right for model, right in (("mixup", 100), ("erm", 50))}
    for name, right in both.items():
        cells = scores(right)["cells"] | scores(right + 700, "clean")["cells"]
        result = scores(right, row={"ratio": 0.5}) | {"cells": cells}
        records |= {name: (own, result), name + "-0": (other, result | {"labels": [1] * 1000})}
    tables = {
        "oblivious": "row,clean\nMixup + MI-OL,80.0 [78.0]\nERM + MI-OL (ablation study),83.0 [81.0]\n",
        "parameters": "row,parameters\nMixup + MI-OL,ratio 0.5\nERM + MI-OL (ablation study),ratio 0.6\n",
    }
    put(tmp_path, records, **tables)
    judged = claim("a", "holds", 0.1) | {
        "statistic": "gains_more",
        "of": {"pairs": [["mixup", "erm"]]},
    }
    first, second = findings.unmatched(tmp_path, judged)
    assert (
        first
        == "of Mixup + MI-OL, ratio 0.5, 80.0 % clean and ERM + MI-OL (ablation study), ratio 0.6, 83.0 % clean"
    )
    assert second.startswith(
        "both at ratio 0.5, 80.0 and 75.0 % clean: gain on Mixup - gain on ERM +4.0 points ["
    )
    assert list(findings.unmatched(tmp_path, claim("b", "holds", 0.1) | {"of": {}})) == []


def test_choices_are_told_where_they_matter_and_beside_the_paper_on_its_own_net(tmp_path):
    table = 'choice,row,column,here,otherwise,"difference, points"\npool,A,clean,1,2,"1.0 [0.5, 1.5]"\npool,B,clean,1,1,"-0.1 [-0.5, 0.3]"\n'
    for model in ("Mixup", "Mixup + MI-OL"):
        table += f'the prediction is attacked,{model},untargeted_pgd10,1,3.6,"2.6 [2.0, 3.2]"\n'
    for name in ("c10", "c10_compact"):
        put(tmp_path / name, {"score-a": ({}, scores(1))}, otherwise=table)
    lines = list(findings.otherwise(tmp_path / "c10"))
    assert "- pool: A, clean: 1.0 [0.5, 1.5]" in lines and not any(
        "B, clean" in line for line in lines
    )
    told = next(line for line in lines if "here minus the paper" in line)
    assert "Mixup +0.0 points [-1.7, +1.7]; Mixup + MI-OL -22.5 points [" in told, (
        "the paper prints 3.6 and 26.1"
    )
    assert not any(
        "here minus the paper" in line for line in findings.otherwise(tmp_path / "c10_compact")
    )


def test_training_is_told_from_the_logs(tmp_path):
    run = tmp_path / "c100_compact"
    settings = {"model": "compact", "n_heldout": 1000, "batch_size": 128, "train_steps": 3}
    for name, epochs, lr in (("at", 28, 0.2), ("interpolated_at", 42, 0.2)):
        header = (
            settings
            | {"name": name, "epochs": epochs, "lr": lr}
            | dict.fromkeys(("schedule", "momentum", "nesterov", "weight_decay", "augment"), 0)
        )
        files.write_atomic(
            run / "checkpoints" / f"{name}-1.jsonl",
            json.dumps(header | {"train_step_size": 4 / 255}).encode() + b"\n{}\n",
        )
    models, apart = findings.trained(run)
    assert models.startswith("Models: at: compact net, 28 epochs, PGD-3 inside (the paper: ")
    assert "batch_size 128 (64)" in models and "train_step_size 4/255 (2/255)" in models
    assert (
        apart
        == "AT and interpolated AT differ in epochs (28, 42) besides the mixing: so does what sets them side by side.\n"
    )
    assert "Mixup + Guo et al. (2018) 13.1" in "".join(findings.other_table(run))
    assert (
        list(findings.other_table(tmp_path / "c10_compact"))
        == list(findings.trained(tmp_path / "c10_compact"))
        == []
    )


def test_rows_that_were_not_matched_within_a_point_are_named(tmp_path):
    put(tmp_path, {}, parameters="row,residual\nMixup,given\nMixup + A,0.9\nMixup + B,-2.2\n")
    assert "".join(findings.matched(tmp_path)).endswith(" in points: Mixup + B -2.2.\n")
    assert list(findings.matched(tmp_path / "none")) == []


@pytest.mark.parametrize(
    ("identity", "told"),
    [
        ({"precision": "bf16", "scored": "fp32"}, " Attacks in bf16, predictions in fp32."),
        ({"precision": "bf16"}, " Attacks in bf16, predictions in TF32."),
        ({"precision": "fp32", "scored": "fp32"}, ""),
    ],
)
def test_draw_sets_and_precision_are_told(tmp_path, identity, told):
    assert findings.computed(tmp_path) == ""
    put(tmp_path, {"score-a": (identity | {"sets": 3}, {})})
    assert findings.computed(tmp_path) == " Rows with draws are means over 3 sets of them." + told


def test_the_committed_findings_are_those_of_the_committed_records():
    assert (REFERENCE / "FINDINGS.md").read_text() == findings.text(REFERENCE)
    text = (paths.project_root() / "README.md").read_text()
    assert text == findings.readme(text, REFERENCE) and findings.overview(REFERENCE) in text
