"""What FINDINGS.md and the README say of curated runs."""

import csv
import io
import json
import shutil

import pytest

from milib import files, statistics
from milib.errors import UserError
from milib.report import beside_paper, beyond_cells, findings, results, trainings, verdicts
from milib.report.run_folder import RunFolder
from milib.study import params, paths
from milib.study.claims import Comparison
from milib.study.rows import accuracy, correct, row_name
from milib.study.rules import claims_table
from milib.study.store import Store
from milib.views.beyond_tables import MAIN

REFERENCE = paths.project_root() / "outputs" / "reference"
MARKS = "<!-- findings -->\n{}<!-- end of findings -->\n"


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


def put(folder, records: dict[str, tuple[dict, dict]], **tables: str) -> RunFolder:
    """A run with records, name -> (identity, result), and tables as lines of CSV."""
    store = Store(folder, folder / "none", "04_oblivious")
    for name, (identity, result) in records.items():
        store.record(name, identity, lambda result=result: result)
    for name, content in tables.items():
        files.write_atomic(folder / "tables" / f"{name}.csv", content.encode())
    return RunFolder(folder)


def scores(right: int, column: str = "untargeted_pgd10", **more) -> dict:
    """A record's result: of 1,000 images the first `right` are right."""
    return {
        "labels": [0] * 1000,
        "cells": {column: {"predictions": [[0] * right + [1] * (1000 - right)]}},
    } | more


TABLES = {
    "bare": "model,test images,clean,clean low,clean high,untargeted_pgd10\n"
    "ERM,5000,91.0,90.0,92.0,0.0\nAT,5000,80.0,,,35.0\n",
    "oblivious": "row,clean,clean paper,untargeted_pgd10,untargeted_pgd10 paper\n"
    "Mixup,90.0,93.8,1.0,3.6\nMixup + Guo,80.0,,19.0,31.2\n"
    "Mixup + MI-PL,90,,0.5,\nMixup + MI-OL,78.0,,9.0,\n",
    "adaptive": 'adaptive samples,"Mixup, none","Mixup, eq24"\n0,0.6,\n1,,8.0\n30,,2.0\n',
    "paired": 'row,minus,"untargeted_pgd10, points","untargeted_pgd10, points low",'
    '"untargeted_pgd10, points high"\n'
    "Mixup,Mixup + MI-OL,-8.0,-9.5,-6.5\n"
    "Mixup + A (2018),Mixup + MI-OL,1.0,,\n"
    "Mixup + A (sigma 0.4),Mixup + MI-OL,-8.3,-9,-8\n",
    "detection": 'model,detector,"AUC, all"\nMixup,MI-PL,0.8\nMixup,MI-OL,0.7\n'
    "Mixup,plain confidence,0.2\n",
}


def test_each_verdict_with_the_comparison_that_decides_it(tmp_path):
    judged = [
        claim("mi_ol_beats_mixup", "holds", 0.05, 0.2),
        claim("gain_needs_mixup", "not measured"),
    ]
    put(tmp_path / "c10_compact", {"claims-04_oblivious": ({}, {"claims": judged})}, **TABLES)
    text = findings.text(tmp_path)
    row = next(
        line
        for line in text.splitlines()
        if line.startswith("| mixup + MI-OL is more robust than mixup ")
    )
    assert row.endswith("| Table 2 | holds |")
    assert "gains more over the bare model" not in text, "what is not measured is left out"
    assert f"\n1 of {len(claims_table())} claims could be tested: 1 holds.\n" in text
    assert (
        "(Table 2)\n  - mi_ol_beats_mixup 0: +15.0 [+5.0, +25.0] points\n"
        "  - mi_ol_beats_mixup 1: +30.0"
    ) in text
    assert "c100" not in text and "Table 3" not in text


def test_a_question_has_its_table(tmp_path):
    judged = [claim("mi_ol_beats_mixup", "holds", 0.05)]
    adaptive = {f"adaptive-mixup-eq24-{k}": ({}, {"labels": [0] * 200}) for k in (1, 30)}
    known = {"claims-04_oblivious": ({}, {"claims": judged})} | adaptive
    put(tmp_path / "c10_compact", known, **TABLES)
    text = findings.text(tmp_path)
    assert "| `c10_compact` | Mixup | 90.0 | 1.0 | 78.0 | 9.0 | +8.0 [+6.5, +9.5] |\n" in text
    assert "- Mixup keeps 9.0 under PGD-10 with MI-OL, and more with Guo 19.0.\n" in text
    assert "Runs without notebook 08 have a few attacks alone" in text and "worst case" not in text
    assert "| `c10_compact` | Mixup | Eq. 24, 30 samples | 2.0 | PGD-10 | 0.6 | – | 200 |\n" in text
    assert "| `c10_compact` | Mixup | 0.800 | 0.700 | 0.200 |\n" in text
    assert "| `c10_compact` | ERM | 5,000 | 91.0 [90.0, 92.0] | 0.0 |\n" in text
    assert "| `c10_compact` | AT | 5,000 | 80.0 | 35.0 |\n" in text
    printed = "- Mixup + A (sigma 0.4), the sigma that the paper prints, minus Mixup + MI-OL: "
    assert f"\n{printed}-8.3 [-9.0, -8.0] points under PGD-10." in text
    assert text.count("the sigma that the paper prints") == 1


def test_the_readmes_table_has_a_line_for_each_compact_net(tmp_path):
    judged = [claim("mi_ol_beats_mixup", "holds", 0.05)]
    put(tmp_path / "c10_compact", {"claims-04_oblivious": ({}, {"claims": judged})}, **TABLES)
    page = findings.readme(MARKS.format("stale\n"), tmp_path)
    assert "| Mixup | 90.0 | 1.0 | 78.0 | 9.0 | – |\n" in page, "no worst case without 08"
    assert "stale" not in page


HEADS = list(MAIN.values())


def beyond_left(*rows: tuple[str, dict[str, float]]) -> str:
    """beyond_left.csv with the values given, of rows whose interval is a point on either side."""
    columns = [name for head in HEADS for name in (head, f"{head} low", f"{head} high")]
    lines = [["row", "parameters", *columns]]
    for name, values in rows:
        cells = [name, "-"]
        for head in HEADS:
            value = values.get(head)
            cells += ["", "", ""] if value is None else [str(value), str(value - 1), str(value + 1)]
        lines.append(cells)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


BARE = {"clean": 90, "oblivious PGD-10": 4, "standard": 3, "worst case": 2}
WITH_MI = {"clean": 78, "the paper's adaptive attack": 17, "standard": 16, "worst case": 15}
POINTS = "MI-OL minus this, points"
BEYOND = {
    "beyond_left": beyond_left(("Mixup", BARE), ("Mixup + MI-OL", WITH_MI)),
    "beyond_gains": 'comparison,"standard, points","standard, points low","standard, points high",'
    '"worst case, points"\nMixup + MI-OL,13.0,11.0,15.0,13.0\n',
    "beyond_rows": f'row,parameters,clean,standard,"{POINTS}","{POINTS} low","{POINTS} high"\n'
    "Mixup,-,90.0,3.0,13.0,11.0,15.0\nMixup + MI-OL,ratio 0.5,78.0,16.0,,,\n",
    "beyond_controls": f'row,parameters,clean,standard,"{POINTS}","{POINTS} low","{POINTS} high"\n'
    "Mixup + mean image,ratio 0.5,80.0,5.0,11.0,9.0,13.0\n",
}
"""A run's tables of notebook 08."""


@pytest.fixture
def with_08(tmp_path):
    """Two curated runs: one with notebook 08, one that has 07 alone."""
    judged = {"claims": [claim("mi_ol_beats_mixup", "holds", 0.05)]}
    for name, tables in (("c10_compact", TABLES | BEYOND), ("c100_compact", TABLES)):
        known = {"claims-04_oblivious": ({}, judged)}
        known["adaptive-mixup-eq24-30"] = ({}, {"labels": [0] * 200})
        if "beyond_left" in tables:
            known["beyond-mixup-none-row-clean"] = ({}, {"labels": [0] * 70})
            known["beyond-mixup-mi_ol-row-samples"] = ({}, {"labels": [0] * 30})
            known["beyond-mixup-mi_ol-tuned"] = ({"split": "heldout"}, {"labels": [0] * 90})
        put(tmp_path / name, known, **tables)
    return tmp_path


def test_what_an_attacker_who_knows_leaves_is_told_from_08(with_08):
    text = findings.text(with_08)
    start = text.index("## What does an attack that knows MI-OL leave?")
    section = text[start : text.index("\n## ", start + 5)]
    assert "(70 images in `c10_compact`)" in section
    run = "| `c10_compact` | "
    left = "17.0 [16.0, 18.0] | 16.0 [15.0, 17.0] | 15.0 [14.0, 16.0] |"
    assert f"{run}Mixup + MI-OL | 78.0 [77.0, 79.0] | – | {left}\n" in section
    assert f"{run}Mixup | 90.0 [89.0, 91.0] | 4.0 [3.0, 5.0] | – | 3.0 [2.0, 4.0] | " in section
    assert f"{run}Mixup + MI-OL | – | – | – | +13.0 [+11.0, +15.0] | – |\n" in section
    assert f"{run}Mixup | - | 90.0 | 3.0 | +13.0 [+11.0, +15.0] |\n" in section
    assert f"{run}Mixup + MI-OL | ratio 0.5 | 78.0 | 16.0 | – |\n" in section
    assert f"{run}Mixup + mean image | ratio 0.5 | 80.0 | 5.0 | +11.0 [+9.0, +13.0] |\n" in section
    line = "| `c100_compact` | Mixup | Eq. 24, 30 samples | 2.0 | PGD-10 | 0.6 | – | 200 |\n"
    assert line in section
    assert "Runs without notebook 08 have a few attacks alone" in section
    assert f"{run}Mixup | Eq. 24" not in section, "a run with 08 has the stronger one"
    for line in section.splitlines():
        if line.startswith("|---"):
            width = line.count("|")
        elif line.startswith("| `"):
            assert line.count("|") == width, line
    blocks = [block for block in section.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 5


def test_the_readme_has_the_worst_case_where_there_is_one(with_08):
    page = findings.readme(MARKS.format("stale\n"), with_08)
    [line] = [line for line in page.splitlines() if line.startswith("| Mixup |")]
    assert line.endswith(" | 15.0 (2.0) |")


def test_a_net_and_a_claim_of_two_runs_count_once_in_the_answer(tmp_path):
    for name in ("c10", "c10_compact"):
        shutil.copytree(REFERENCE / name, tmp_path / name)
    alone = findings.answer(findings.runs(tmp_path))
    shutil.copytree(REFERENCE / "c10_compact", tmp_path / "c10_500")
    notes = tmp_path / "c10_500" / "run.json"
    notes.write_text(notes.read_text().replace('"run": "c10_compact"', '"run": "c10_500"'))
    standard = tmp_path / "c10_500" / "tables" / "adaptive_standard.csv"
    standard.unlink()
    folders = findings.runs(tmp_path)
    found, (more_images, fewer) = findings.answer(folders), folders[:2]
    assert (more_images.name, fewer.name) == ("c10", "c10_500")
    assert found["nets"] == alone["nets"] + 1, "mixup is c10's net: only interpolated AT is new"
    page = findings.readme(MARKS.format("stale\n"), tmp_path)
    _, compact = page.split("| the compact net |")
    assert compact.count("\n| ") == 2, "the nets of the paper's size have a table of their own"
    assert found["paper_net"][0] == findings.tested(fewer)[0]
    assert findings.tested(fewer, more_images) == findings.tested(fewer)
    assert found["paper_net"] != findings.tested(fewer), "c10's verdicts come first"
    assert list(found["auc"]) == ["c10_500", "c10_compact"] and found["papers_net"] == {}
    rows = "Mixup,-,90.0,0.2\nMixup + MI-OL,ratio 0.5,80.0,1.1\n"
    standard.write_text(f"row,parameters,clean,standard\n{rows}")
    assert list(findings.answer(folders)["papers_net"]) == ["Mixup"]
    text = " ".join(findings.text(tmp_path).split())
    assert "leaves on 200 images: Mixup 1.1&nbsp;% with MI-OL and 0.2&nbsp;% bare. In the" in text


def test_the_answer_has_the_worst_case_where_the_compact_run_has_08(tmp_path):
    for name in ("c10", "c10_compact"):
        shutil.copytree(REFERENCE / name, tmp_path / name)
    rows = []
    for model in ("Mixup", "Interpolated AT"):
        rows += [(model, BARE), (f"{model} + MI-OL", WITH_MI)]
    table = tmp_path / "c10_compact" / "tables" / "beyond_left.csv"
    table.write_text(beyond_left(*rows))
    found = findings.answer(findings.runs(tmp_path))
    assert found["mixup"].left == "15.0 [14.0, 16.0]"
    assert found["interpolated_at"].bare == "2.0 [1.0, 3.0]"
    text = " ".join(findings.text(tmp_path).split())
    assert "In the worst case over all attacks tried, MI-OL keeps 15.0&nbsp;% on the" in text
    assert "the bare nets keep 2.0&nbsp;% and 2.0&nbsp;% in their own worst case (" in text
    table.unlink()
    assert findings.answer(findings.runs(tmp_path)) == {}, "without 08 there is no answer"


def test_the_strongest_attack_is_the_worst_case_or_that_which_leaves_least(with_08, tmp_path):
    [net] = results.defended(RunFolder(with_08 / "c10_compact"))
    assert net.worst == net.strongest and net.worst.left.startswith("15.0 ")
    assert net.attacks, "those of 07 are there too"
    [other] = results.defended(RunFolder(with_08 / "c100_compact"))
    assert other.worst is None and other.strongest == other.attacks[0]
    table = 'adaptive samples,"Mixup, none","Mixup, eq24","Mixup, mean_ce"\n'
    table += "0,0.6,,\n1,,8.0,9.0\n30,,2.0,1.1\n"
    run = put(tmp_path / "third", {}, **TABLES | {"adaptive": table})
    [third] = results.defended(run)
    assert [attack.left for attack in third.attacks] == ["2.0", "1.1"]
    assert third.strongest == third.attacks[1]
    standard = "row,parameters,clean,standard\nMixup,-,90.0,0.2\nMixup + MI-OL,ratio 0.5,80.0,1.1\n"
    known = {"beyond-mixup-none-row-clean": ({}, {"labels": [0] * 50})}
    both = {"adaptive": table, "adaptive_standard": standard}
    run = put(tmp_path / "fourth", known, **TABLES | both)
    [fourth] = results.defended(run)
    assert fourth.strongest == results.Attack(
        "the standard of notebook 8", "1.1", "the same attack", "0.2", 50
    )


def test_a_folder_without_runs_says_so(tmp_path):
    assert "No run on CIFAR has been curated yet." in findings.text(tmp_path)


def test_baselines_stand_side_by_side(tmp_path):
    name = "mi_ol_beats_baselines_on_mixup"
    judged = [claim(name, "fails", 0.0, -0.3, 0.1, 0.2)]
    run = put(tmp_path / "c10_compact", {"claims-04_oblivious": ({}, {"claims": judged})})
    cells = ["+10.0 [+0.0, +20.0]", "-20.0 [-30.0, -10.0]", "+20.0 [+10.0, +30.0]"]
    ((row, found),) = results.against_baselines(run)
    assert row == "Mixup + MI-OL" and found == [*cells, "+30.0 [+20.0, +40.0]"]
    assert f"| `c10_compact` | Mixup + MI-OL | {' | '.join(cells)} | " in findings.text(tmp_path)


def test_a_verdict_says_what_its_comparisons_say_and_many_are_told_by_the_weakest(tmp_path):
    run = RunFolder(tmp_path)

    def cell(verdict: str, *lows: float) -> str:
        return verdicts.cell(run, claim("a", verdict, *lows))

    assert cell("fails", 0.1, -0.3) == "fails (1 hold, 1 fail)"
    assert cell("undecided", 0.1, -0.1, 0.2) == "undecided (2 hold, 1 undecided)"
    assert cell("holds", 0.1, 0.2) == "holds" and cell("fails", -0.3) == "fails"
    assert verdicts.cell(run, None) == cell("not measured") == ""
    entries = verdicts.compared(claim("c", "fails", 0.3, -0.2, 0.1))
    mark = Comparison("no MI setting is as clean as b", -1.0, -1.0, -1.0)
    assert verdicts.weakest([*entries, mark]) == (
        "c 1: -10.0 [-20.0, +0.0] points (the weakest of 3 comparisons); "
        "in 1 more no MI setting is as clean"
    )


def test_rows_are_told_with_their_clean_accuracy():
    entry = Comparison("Mixup + MI-OL - Mixup", 0.1, 0.05, 0.15)
    told = "Mixup + MI-OL - Mixup: +10.0 [+5.0, +15.0] points"
    clean = {"Mixup + MI-OL": 80.0, "Mixup": 91.5}
    assert verdicts.line(entry, clean) == f"{told}; clean accuracy -11.5 points"
    assert verdicts.line(entry, {"Mixup": 91.5}) == told
    assert verdicts.line(entry, {}, in_points=False).endswith(": +0.100 [+0.050, +0.150]")


def test_bare_models_are_told_on_more_images_beside_the_verdict(tmp_path):
    run = put(tmp_path, {"bare-mixup": ({}, scores(300)), "bare-erm": ({}, scores(100))})
    judged = claim("a", "undecided", -0.05) | {
        "statistic": "beats",
        "of": {"row": ["mixup", "none"], "others": [["erm", "none"]]},
    }
    told = "on 1,000 images, under untargeted PGD-10: Mixup - ERM: +20.0 [+17.5, +22.5] points"
    assert verdicts.more_images(run, judged) == [f"{told} (the rule would say: holds)"]
    assert verdicts.cell(run, judged) == "undecided (1,000 images: holds)"
    assert verdicts.cell(run, judged | {"verdict": "holds"}) == "holds"
    defended = {"row": ["mixup", "mi_ol"], "others": [["erm", "none"]]}
    assert verdicts.more_images(run, judged | {"of": defended}) == []


def test_more_images_stand_beside_the_claims_images(tmp_path):
    judged = [claim("mixup_training_alone_helps", "undecided", -0.05)]
    records = {"bare-mixup": ({}, scores(300)), "bare-erm": ({}, scores(100))}
    records["claims-01_train_mixup"] = ({}, {"claims": judged})
    run = put(tmp_path, records)
    there = "+5.0 [-5.0, +15.0]", "+20.0 [+17.5, +22.5] on 1,000 images"
    assert results.on_trainings(run) == [("mixup_training_alone_helps 0, PGD-10", *there)]


def test_gains_are_told_with_their_ratios_and_at_one_ratio(tmp_path):
    """Of the protocol's own scores, not of those with another label or pool."""
    own = {"attack_label": "label", "pool": "train"}
    other = {"attack_label": "prediction", "pool": "train"}
    records = {
        "score-mixup-none": (own, scores(10, row={})),
        "score-erm-none": (own, scores(0, row={})),
    }
    for name, right in (("score-mixup-mi_ol", 100), ("score-erm-mi_ol", 50)):
        cells = scores(right)["cells"] | scores(right + 700, "clean")["cells"]
        result = scores(right, row={"ratio": 0.5}) | {"cells": cells}
        records |= {name: (own, result), name + "-0": (other, result | {"labels": [1] * 1000})}
    tables = {
        "oblivious": "row,clean,clean paper\nMixup + MI-OL,80.0,78.0\n"
        "ERM + MI-OL (ablation study),83.0,81.0\n",
        "parameters": "row,parameters\nMixup + MI-OL,ratio 0.5\n"
        "ERM + MI-OL (ablation study),ratio 0.6\n",
    }
    run = put(tmp_path, records, **tables)
    gains = {"statistic": "gains_more", "of": {"pairs": [["mixup", "erm"]]}}
    first, second = verdicts.gains(run, claim("a", "holds", 0.1) | gains)
    assert first == (
        "measured with Mixup + MI-OL (ratio 0.5, 80.0 % clean) and "
        "ERM + MI-OL (ablation study) (ratio 0.6, 83.0 % clean)"
    )
    assert second.startswith(
        "both at ratio 0.5, 80.0 and 75.0 % clean: gain on Mixup - gain on ERM: +4.0 ["
    )
    assert verdicts.gains(run, claim("b", "holds", 0.1) | {"of": {}}) == []
    assert verdicts.cell(run, claim("a", "holds", 0.1) | gains) == "holds"
    fails = verdicts.cell(run, claim("a", "fails", -0.3) | gains)
    assert fails == "fails (at one ratio: holds)", "what the rule would say there"


def test_the_papers_net_leads_the_readme_each_net_once(tmp_path):
    """Mixup from the run of more images, interpolated AT from the one that has it."""
    folders = []
    for name, models in (("c10", ["mixup"]), ("c10_500", ["mixup", "interpolated_at"])):
        rows, parameters = "row,clean,untargeted_pgd10\n", "row,parameters\n"
        known = {}
        for model in models:
            for defense in ("none", "rotation", "mi_ol"):
                row = {"model": model, "defense": defense}
                rows += f"{row_name(row)},90.0,1.0\n"
                parameters += f"{row_name(row)},-\n"
                for attacked, right in (("label", 10), ("prediction", 20)):
                    if (attacked, defense) != ("prediction", "rotation"):
                        result = scores(right, row=row)
                        identity = {"attack_label": attacked, "row": row}
                        known[f"score-{model}-{defense}-{attacked}"] = (identity, result)
        folders.append(put(tmp_path / name, known, oblivious=rows, parameters=parameters))
    mixup, *others = findings.papers_net(folders)
    assert [cells[0] for cells in others] == [
        "Mixup + MI-OL",
        "Interpolated AT",
        "Interpolated AT + MI-OL",
    ], "rotation was not attacked at the prediction"
    assert mixup[:4] == ["Mixup", "90.0", "3.6", "1.0"] and mixup[5] == "2.0"
    assert mixup[4].startswith("-2.6 [-") and mixup[6].startswith("-1.6 [-")
    assert findings.papers_net(folders[:1]) == [mixup, others[0]]
    shutil.copytree(tmp_path / "c10", tmp_path / "c100")
    of_cifar100 = RunFolder(tmp_path / "c100")
    assert findings.papers_net([*folders, of_cifar100]) == [mixup, *others]


def test_choices_are_told_where_they_matter(tmp_path):
    difference = '"difference, points","difference, points low","difference, points high"'
    table = f"choice,row,column,here,otherwise,{difference}\n"
    table += "pool,A,clean,1,2,1.0,0.5,1.5\npool,B,clean,1,1,-0.1,-0.5,0.3\n"
    for model in ("Mixup", "Mixup + MI-OL"):
        table += f"the prediction is attacked,{model},untargeted_pgd10,1,3.6,2.6,2.0,3.2\n"
    run = put(tmp_path / "c10", {"score-a": ({}, scores(1))}, otherwise=table)
    told = {(row["row"], row["column"], row["difference"]) for row in results.choices(run)}
    assert ("A", "clean", "+1.0 [+0.5, +1.5]") in told
    assert ("Mixup", "PGD-10", "+2.6 [+2.0, +3.2]") in told
    assert not any(row == "B" for row, _, _ in told)


def attacked_rows(label: dict[str, int], prediction: dict[str, int]) -> dict[str, tuple]:
    """Score records of mixup rows by defense, of which so many of 1,000 images are right."""
    found = {}
    for attacked, rights in (("label", label), ("prediction", prediction)):
        for defense, right in rights.items():
            row = {"model": "mixup", "defense": defense}
            identity = {"attack_label": attacked, "row": row}
            found[f"score-mixup-{defense}-{attacked}"] = (identity, scores(right, row=row))
    # with test images as sample pool: not the study's
    other = {"attack_label": "prediction", "pool": "test"}
    row = {"model": "mixup", "defense": "guo"}
    return found | {"score-mixup-guo-pool": (other, scores(1, row=row))}


def test_the_papers_net_stands_beside_the_paper_with_label_and_prediction_attacked(tmp_path):
    cell = "untargeted_pgd10,untargeted_pgd10 low,untargeted_pgd10 high"
    rows = "Mixup,0.2,0.1,0.7\nMixup + MI-OL,20.0,18.0,22.0\nMixup + another,9.0,8.0,9.9\n"
    rows += "Mixup + Guo et al. (2018),5.0,4.0,6.0\n"
    parameters = "row,parameters\n"
    for line in rows.splitlines():
        parameters += line.split(",")[0] + ",-\n"
    tables = {"oblivious": f"row,{cell}\n{rows}", "parameters": parameters}
    label, prediction = {"none": 2, "mi_ol": 200, "guo": 50}, {"none": 36, "mi_ol": 250}
    paper_net, compact = (
        put(tmp_path / name, attacked_rows(label, prediction), **tables)
        for name in ("c10", "c10_compact")
    )
    mixup, ol, guo = beside_paper.reached(paper_net)
    assert mixup[:3] == ["Mixup", "3.6", "0.2 [0.1, 0.7]"]
    assert mixup[4:] == ["3.6", "+0.0 [-1.7, +1.7]", "prediction"]
    assert ol[1] == "26.1" and ol[3].startswith("-6.1 [-") and ol[-1] == "prediction"
    assert guo[4:] == ["–", "–", "not with the label"]
    assert beside_paper.reached(compact) == []


def reading(folder, *weights: str) -> RunFolder:
    """A run whose notebook 04 read weights, by their files' stems."""
    kind = {"kind": "checkpoint", "seconds": 0.0, "cached": True}
    entries = [kind | {"name": f"{stem}.safetensors"} for stem in weights]
    profile = {"04_oblivious": {"seconds": 1.0, "entries": entries}}
    notes = {"parameters": {}, "profile": profile, "tables": {}, "figures": {}}
    files.write_atomic(folder / "run.json", json.dumps(notes).encode())
    return RunFolder(folder)


def test_weights_that_no_notebook_read_are_not_told():
    run = RunFolder(REFERENCE / "c10")
    assert {log.recipe["name"] for log in run.logs()} == {"mixup", "interpolated_at"}
    assert set(trainings.recipes(run)) == {"mixup"}


def test_weights_of_another_run_are_told(tmp_path):
    stem = "interpolated_at-5b898bd714cb4836"
    source = REFERENCE / "c10" / "checkpoints" / f"{stem}.jsonl"
    files.write_atomic(tmp_path / "c10" / "checkpoints" / source.name, source.read_bytes())
    told = trainings.trained(reading(tmp_path / "c10_500", stem))
    assert told.startswith("interpolated_at: resnet50 net, 46.8 of 60 epochs, PGD-10 inside (the ")
    stopped = trainings.stopped(RunFolder(tmp_path / "c10_500"))
    assert stopped == {"Interpolated AT": "46.8 of 60 epochs; the paper trains 200"}


def test_training_is_told_from_the_logs(tmp_path):
    folder = tmp_path / "c100_compact"
    settings = {"model": "compact", "n_heldout": 1000, "batch_size": 128, "train_steps": 3}
    zeros = ("schedule", "momentum", "nesterov", "weight_decay", "augment")
    for name, epochs, lr in (("at", 28, 0.2), ("interpolated_at", 42, 0.2)):
        header = settings | {"name": name, "epochs": epochs, "lr": lr} | dict.fromkeys(zeros, 0)
        files.write_atomic(
            folder / "checkpoints" / f"{name}-1.jsonl",
            json.dumps(header | {"train_step_size": 4 / 255}).encode() + b"\n{}\n",
        )
    run = reading(folder, "at-1", "interpolated_at-1")
    models = trainings.trained(run)
    assert models.startswith("at: compact net, 28 epochs, PGD-3 inside (the paper: ")
    assert "batch_size 128 (64)" in models and "train_step_size 4/255 (2/255)" in models
    assert trainings.unequal_training(run) == ["epochs (28, 42)"]
    assert "Mixup + Guo et al. (2018) 13.1" in results.table3(run)
    other = RunFolder(tmp_path / "c10_compact")
    assert results.table3(other) == trainings.unequal_training(other) == []
    assert trainings.trained(other) == ""


def test_rows_that_were_not_matched_within_a_point_are_named(tmp_path):
    run = put(tmp_path, {}, parameters="row,residual\nMixup,\nMixup + A,0.9\nMixup + B,-2.2\n")
    assert results.residuals(run) == ["Mixup + B -2.2"]
    assert results.residuals(RunFolder(tmp_path / "none")) == []


@pytest.mark.parametrize(
    ("identity", "told"),
    [
        ({"precision": "bf16", "scored": "fp32"}, ["Attacks in bf16, predictions in fp32."]),
        ({"precision": "bf16"}, ["Attacks in bf16, predictions in TF32."]),
        ({"precision": "fp32", "scored": "fp32"}, []),
    ],
)
def test_draw_sets_and_precision_are_told(tmp_path, identity, told):
    assert results.draws_and_precision(RunFolder(tmp_path)) == []
    run = put(tmp_path, {"score-a": (identity | {"sets": 3}, {})})
    sets = "Rows with draws are means over 3 sets of them."
    assert results.draws_and_precision(run) == [sets, *told]


def test_the_committed_findings_are_those_of_the_committed_records():
    assert (REFERENCE / "FINDINGS.md").read_text() == findings.text(REFERENCE)
    text = (paths.project_root() / "README.md").read_text()
    assert text == findings.readme(text, REFERENCE)


def ends(cell: str) -> tuple[float, float]:
    """The interval of a cell such as "+8.4 [+6.9, +9.9]"."""
    low, high = cell.split("[")[1].rstrip("]").split(", ")
    return float(low), float(high)


def test_the_words_of_the_findings_are_true_of_the_records():
    """The sentences of findings.md.j2 that hold no number: who wins, and where."""
    for run in findings.runs(REFERENCE):
        for net in results.defended(run):
            assert ends(net.gain)[0] > 0, "MI-OL helps on every net"
        for row, cells in results.against_baselines(run):
            noise, rotation, xie, guo = map(ends, cells)
            assert noise[0] > 0
            if row == "Mixup + MI-OL":
                assert rotation[1] < 0 and guo[1] < 0
                assert xie[1] < 0 or "compact" not in run.name
            elif row == "Mixup + MI-Combined":
                assert rotation[1] > 0 > guo[0]
            else:
                assert rotation[0] > 0 and xie[0] < 0 < xie[1] and guo[0] < 0 < guo[1]
        matched = [row for row in run.table("parameters") if row["residual"]]
        assert not matched or len(results.residuals(run)) > len(matched) / 2
    compact = RunFolder(REFERENCE / "c10_compact")
    judged = verdicts.judged(compact)["gain_needs_mixup"]
    _, at_one_ratio = verdicts.gains(compact, judged)
    low, high = ends(at_one_ratio.removesuffix(" points"))
    assert verdicts.cell(compact, judged) == "holds (at one ratio: undecided)"
    assert low < 0 < high and ", 77.6 and 64.2 % clean" in at_one_ratio
    mixup, interpolated = (net.strongest for net in results.defended(compact))
    assert mixup and findings.first(mixup.left) < 1
    assert interpolated
    assert findings.first(interpolated.left) > 2 + findings.first(interpolated.bare)
    gains = {cells[0]: cells[1:] for cells in beyond_cells.gains(compact)}
    _, oblivious, _, _, worst = gains["Interpolated AT + MI-OL"]
    assert 0 < ends(worst)[0] < findings.first(oblivious) - 5
    assert ends(gains["Interpolated AT + mean image"][-1])[0] < 0
    _, oblivious, _, standard, worst = gains["Interpolated AT + MI-OL, minus any label"]
    assert ends(oblivious)[0] <= 0 < ends(oblivious)[1] and ends(worst)[1] < 0
    assert ends(standard)[0] < 0 < ends(standard)[1]
    rows = {row["row"]: row for row in compact.table("beyond_rows")}
    at, mixed = rows["AT"], rows["Interpolated AT + MI-OL"]
    assert abs(float(at["standard"]) - float(mixed["standard"])) < 1
    assert float(at["clean"]) > float(mixed["clean"]) + 3
    mi_pl = rows["Interpolated AT + MI-PL"]
    low, high = (float(mi_pl[f"MI-OL minus this, points {end}"]) for end in ("low", "high"))
    assert low < 0 < high
    assert float(mi_pl["clean"]) > float(mixed["clean"]) + 3
    for name, row in rows.items():
        if name.startswith("Mixup"):
            assert (float(row["standard"]) > 0) == (name == "Mixup + MI-Combined")
    cells = " ".join(" ".join(row) for row in beyond_cells.left(compact))
    assert "[0.0, 0.1]" in cells and "[0.0, 1.9]" in cells
    for cells in beyond_cells.under_standard(compact, "beyond_controls"):
        if cells[0].endswith(("mean image", "black image", "fixed partners")):
            assert ends(cells[-1])[0] > 0
    robust = {row["model"]: float(row["untargeted_pgd10"]) for row in compact.table("bare")}
    assert robust["Mixup"] < 1 and 2 < robust["AT"] - robust["Interpolated AT"] < 4


def test_the_words_on_detection_are_true_of_the_records():
    """Which detector is better, on which net, and read which way round."""
    compact = RunFolder(REFERENCE / "c10_compact")
    auc = {
        model: {name: float(value) for name, value in values.items()}
        for model, values in results.detection(compact).items()
    }
    assert auc["Mixup"]["MI-PL"] > 0.75 and abs(auc["ERM"]["MI-PL"] - 0.5) < 0.06
    assert 1 - auc["ERM"]["plain confidence"] > auc["ERM"]["MI-PL"] + 0.3
    assert abs(1 - auc["Mixup"]["plain confidence"] - auc["Mixup"]["MI-PL"]) < 0.02
    papers = results.detection(RunFolder(REFERENCE / "c10_500"))
    mi_pl, confidence = (float(papers["Mixup"][name]) for name in ("MI-PL", "plain confidence"))
    assert mi_pl > 0.7 and 0.5 < 1 - confidence < mi_pl - 0.15
    of_adversarial = [auc["AT"], auc["Interpolated AT"], papers["Interpolated AT"]]
    for found in of_adversarial:
        with_mi = max(float(found["MI-PL"]), float(found["MI-OL"]))
        assert with_mi < 0.5 < float(found["plain confidence"])


@pytest.mark.parametrize("name", ["c10_compact", "c10_500"])
@pytest.mark.parametrize("model", ["mixup", "interpolated_at"])
def test_the_published_attack_is_weaker_than_eq24_and_not_shown_stronger_than_pgd(name, model):
    """What notebook 07 says of CIFAR-10."""
    run, right = RunFolder(REFERENCE / name), {}
    for form in ("as_published", "eq24"):
        [record] = verdicts.records(run, f"adaptive-{model}-{form}-30")
        right[form] = correct(record["result"]["cell"], record["result"]["labels"])
    published = right["as_published"]
    assert statistics.mean_interval(published - right["eq24"])[1] > 0
    for record in verdicts.scored(run, model, "mi_ol").values():
        oblivious = accuracy(record, "untargeted_pgd10")[: len(published)]
        assert statistics.mean_interval(published - oblivious)[2] > 0


@pytest.mark.parametrize("cell", ["high", "nan", "inf", "1,2"])
def test_a_cell_that_is_no_number_is_named(cell):
    with pytest.raises(UserError, match=f"clean of 'Mixup' is '{cell}', no number"):
        results.measured({"row": "Mixup", "clean": cell}, "clean")
    assert results.measured({"row": "Mixup", "clean": ""}, "clean") == ""


def test_the_records_bear_out_what_the_readme_says_in_words():
    """Which values of the paper are reached, and what keeps as much as MI-OL."""
    readme = " ".join((paths.project_root() / "README.md").read_text().split())
    of_mixup, of_interpolated_at = (RunFolder(REFERENCE / name) for name in findings.PAPERS_NET)
    counts = [results.images_of(run, "score") for run in (of_mixup, of_interpolated_at)]
    assert f"Mixup: {counts[0]:,} test images. Interpolated AT: {counts[1]}, and a net" in readme
    row, others = "Interpolated AT + MI-OL", ("Xie et al. (2018)", "Guo et al. (2018)")
    paired = {each["row"]: each for each in of_interpolated_at.table("paired")}
    for other in (f"Interpolated AT + {name}" for name in others):
        low, high = (float(paired[other][f"untargeted_pgd10, points {e}"]) for e in ("low", "high"))
        assert paired[other]["minus"] == row and low < 0 < high, "cannot tell it from these"
    [recipe] = [log.recipe for log in of_mixup.logs() if log.recipe["name"] == "interpolated_at"]
    stopped, planned = recipe["stop_epoch"], recipe["epochs"]
    papers = params.load(paths.parameter_file("c10")).epochs
    assert f"stopped after {stopped:.4g} of {planned} epochs (the paper's: {papers})" in readme
    mixup, interpolated = (
        results.standard(of_interpolated_at, name) for name in ("Mixup", "Interpolated AT")
    )
    assert mixup and findings.first(mixup.left) == 0, "nothing is left"
    assert interpolated and ends(interpolated.gain)[0] < 0 < ends(interpolated.gain)[1]
    points = interpolated.gain.replace(" [", " points [")
    told = (
        f"MI-OL minus bare is {points} under it on {interpolated.images} images (the paper's net)"
    )
    assert told in readme
    reached = {cells[0]: cells for cells in beside_paper.reached(of_interpolated_at)}
    assert reached["Interpolated AT"][-1] == "prediction"
    for defense in ("MI-OL", "Guo et al. (2018)"):
        assert reached[f"Interpolated AT + {defense}"][-1] == "neither", "only the bare net"
    compact = RunFolder(paths.reference_root() / "c10_compact")
    rows = {row["row"]: row for row in compact.table("beyond_rows")}
    under = {name: row["standard"] for name, row in rows.items()}
    at, mi_ol = under["AT"], under["Interpolated AT + MI-OL"]
    assert f"told from MI-OL ({mi_ol} %), and plain AT, cleaner, keeps {at} %" in readme
    assert under["Mixup + MI-OL"] == "0.0"
    gain = results.signed(rows["Interpolated AT"], "MI-OL minus this, points")
    images = results.images_of(compact, "beyond")
    assert ends(gain)[0] > 0 and f"{gain} on {images} (the compact net)" in readme
    assert float(at) >= float(mi_ol)
    met = [int(row["images"]) for row in compact.table("beyond_battery")]
    assert max(met) == 200 and max(n for n in met if n < 200) == 66
    assert "slow ones: at most 66 images" in readme and "worst case, 200 images" in readme
    gains = compact.table("beyond_gains")
    [any_label] = [row for row in gains if row["comparison"].endswith("minus any label")]
    for attack in ("standard", "worst case"):
        assert float(any_label[f"{attack}, points low"]) <= 0
        assert float(any_label[f"{attack}, points"]) <= 0
    assert float(any_label["standard, points high"]) > 0, "cannot be told from MI-OL"
