"""The first page of a report: its answer, its one scale, its ids, and tables to be copied."""

import json
import re

import pandas as pd
import pytest

from milib.report import copies, index, notebook_page, pdf
from milib.report.alt_texts import SEEN, alt_text
from milib.report.answer import answer, main_table
from milib.report.claim_cards import axis, claim_card
from milib.report.exhibits import exhibit
from milib.report.html import readable_heads
from milib.report.run_folder import RunFolder
from milib.study import paths

FRAME = pd.DataFrame(
    {
        "untargeted_pgd10": [8.7, 0.3],
        "untargeted_pgd10 low": [7.2, 0.1],
        "untargeted_pgd10 high": [10.3, 0.9],
        "untargeted_pgd10 paper": ["26.1", "<=1"],
    },
    index=pd.Index(["Mixup | MI_OL", "Mixup & none"], name="row"),
)


@pytest.fixture(scope="module")
def compact() -> RunFolder:
    """The curated run that has every notebook."""
    return RunFolder(paths.reference_root() / "c10_compact")


def claim(*ends: tuple[float, float], margin: float = 0.0, statistic: str = "beats") -> dict:
    """A judged claim with a comparison for each interval."""
    comparisons = [
        {"label": f"{low}", "mean": (low + high) / 2, "low": low, "high": high}
        for low, high in ends
    ]
    words = {"id": "a", "statistic": statistic, "margin": margin, "verdict": "holds"}
    return claim_card(words | {"comparisons": comparisons}, rehearsal=False)


def test_all_claims_have_one_scale_in_points():
    shown = [claim((0.02, 0.043)), claim((-0.31, 0.55), margin=-0.03)]
    scale = axis([{"claims": shown[:1]}, {"claims": shown[1:]}])
    assert scale.ticks == [-40, -20, 0, 20, 40, 60]
    assert [scale.place(points) for points in (-40, 0, 10, 60)] == [0, 40, 50, 100]
    assert shown[1]["comparisons"][0]["points"]["margin"] == -3 and shown[1]["margin"] == "-3"
    assert axis([]).ticks == [0, 1], "a run without claims has a scale, too"


def test_a_setting_that_no_mi_setting_is_as_clean_as_is_not_drawn():
    shown = claim((-1.0, -1.0), (0.01, 0.02), statistic="dominates")
    assert [entry["missing"] for entry in shown["comparisons"]] == [False, True]
    assert axis([{"claims": [shown]}]).ticks[0] == 0
    assert not claim((-1.0, -1.0))["comparisons"][0]["missing"]


def test_the_answer_counts_the_nets_that_mi_ol_helps(compact):
    found = answer(compact)
    assert [net.model for net in found["nets"]] == ["Mixup", "Interpolated AT"]
    assert (found["helps"], found["worst"], found["worst_of"]) == (2, 1, 2)
    assert (found["images"], found["worst_images"]) == (1000, 200)


def test_a_gain_that_may_be_none_is_no_help(compact, monkeypatch):
    def table(name: str) -> list[dict]:
        rows = RunFolder.table(compact, name)
        if name == "paired":
            rows = [row | {"untargeted_pgd10, points high": "0.1"} for row in rows]
        return rows

    monkeypatch.setattr(compact, "table", table)
    assert answer(compact)["helps"] == 0


def test_the_main_table_has_the_nets_with_and_without_mi_ol(compact):
    shown = main_table(compact)
    assert list(shown.index) == [
        "ERM",
        "Mixup",
        "Mixup + MI-OL",
        "AT",
        "Interpolated AT",
        "Interpolated AT + MI-OL",
    ]
    row = shown.loc["Interpolated AT + MI-OL"]
    assert (row["untargeted_pgd10"], row["worst case"], row["clean paper"]) == (46.6, 31.1, "84.2")


def test_a_run_without_04_has_no_answer(tmp_path):
    run = RunFolder(tmp_path)
    assert answer(run) == {} and main_table(run) is None
    assert "No notebook has measured MI-OL yet" in index.build(tmp_path).read_text()


def test_table_2_of_the_paper_has_a_number(compact):
    assert exhibit(compact, "tables", "oblivious")["paper"] == "2"
    assert exhibit(compact, "tables", "paired")["paper"] == ""


def test_a_table_is_copied_as_markdown():
    assert copies.markdown(FRAME).splitlines() == [
        "| row | untargeted, PGD-10 | untargeted, PGD-10, paper |",
        "| --- | ---: | ---: |",
        r"| Mixup \| MI_OL | 8.7 (7.2–10.3) | 26.1 |",
        "| Mixup & none | 0.3 (0.1–0.9) | <=1 |",
    ]


def test_a_table_is_copied_as_latex():
    lines = copies.latex(FRAME).splitlines()
    assert lines[0] == r"\begin{tabular}{lrr}" and lines[-1] == r"\end{tabular}"
    assert r"Mixup | MI\_OL & 8.7 (7.2--10.3) & 26.1 \\" in lines
    assert r"Mixup \& none & 0.3 (0.1--0.9) & <=1 \\" in lines


def test_heads_are_read_and_not_broken():
    assert readable_heads('<th class="a">&nbsp;</th><th></th>') == '<td class="a"></td><td></td>'
    assert readable_heads("<th>Mixup + MI-OL</th>") == (
        '<th>Mixup + <span class="word">MI-OL</span></th>'
    )
    assert readable_heads('<th class="row-head">a_<wbr>b</th>').count("<span") == 0


def test_every_figure_of_the_curated_runs_says_what_is_seen():
    figures = {path.stem for path in paths.reference_root().glob("*/figures/*.png")}
    assert figures and figures <= set(SEEN)
    assert alt_text("mine", "my caption") == "my caption"


def test_pages_of_notebooks_lead_to_the_ones_before_and_after(tmp_path):
    for name in ("01_a", "02_b", "03_c"):
        cell = {"cell_type": "markdown", "source": f"# Title of {name}"}
        (tmp_path / f"{name}.ipynb").write_text(json.dumps({"cells": [cell]}))
    first, middle = (
        [(turn.to, turn.title) for turn in notebook_page.turns(tmp_path / name, "../index.html")]
        for name in ("01_a.ipynb", "02_b.ipynb")
    )
    above = ("../index.html", "all results of this run")
    assert first == [above, ("02_b.html", "Title of 02_b")]
    assert middle == [above, ("01_a.html", "Title of 01_a"), ("03_c.html", "Title of 03_c")]


def test_what_is_printed_is_open_and_leads_to_no_file():
    page = (
        '<details><summary>others</summary></details><details class="copy"></details>'
        '<a href="notebooks/a.html">a</a><a href="#fig2">b</a><img alt="c" src="figures/c.png">'
        '<section id="records"><details></details></section>'
    )
    assert pdf.printable(page) == (
        '<details open><summary>others</summary></details><details class="copy"></details>'
        'a<a href="#fig2">b</a><img alt="c" src="../figures/c.png">'
        '<section id="records"><details></details></section>'
    )


def test_without_a_browser_the_pdf_ends_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(pdf.shutil, "which", lambda name: None)
    with pytest.raises(pdf.UserError, match="install chromium"):
        pdf.write(tmp_path / "index.html")


def test_ids_are_unique(compact):
    page = (compact.path / "index.html").read_text("utf-8")
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)) and {"table2", "table_main", "fig2", "answer"} <= set(ids)
