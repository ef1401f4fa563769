"""The committed pages of the curated runs: what the code makes, small, and complete."""

import os
import re
import shutil

import pytest

from milib.report import index, notebook_page
from milib.study import paths

REFERENCE = paths.reference_root()
RUNS = sorted(path.parent.name for path in REFERENCE.glob("*/run.json"))
AGAIN = "`MILIB_OUTPUTS=outputs/reference python -m milib.report RUN` makes the pages again"
LIMIT = 210_000
"""Bytes of a page, on average."""


@pytest.mark.parametrize("name", RUNS)
def test_the_committed_pages_are_what_the_code_makes(name, tmp_path):
    """A page of a notebook names what it was made of; the first page is made again."""
    run = tmp_path / name
    shutil.copytree(REFERENCE / name, run, copy_function=os.symlink)
    for notebook in run.glob("notebooks/*.ipynb"):
        page = notebook.with_suffix(".html")
        assert page.exists(), AGAIN
        written = notebook_page.notebook_html(notebook, page, "../index.html", linked=True)
        assert not written, f"{page.name}: {AGAIN}"
    committed = (REFERENCE / name / "index.html").read_bytes()
    assert index.build(run).read_bytes() == committed, AGAIN


def test_a_committed_page_of_a_notebook_is_what_the_code_makes(tmp_path):
    notebook, page = REFERENCE / "c10" / "notebooks" / "04_oblivious.ipynb", tmp_path / "04.html"
    assert notebook_page.notebook_html(notebook, page, "../index.html", linked=True)
    assert page.read_bytes() == notebook.with_suffix(".html").read_bytes(), AGAIN


def test_the_committed_pages_are_small_and_show_the_committed_figures():
    pages = [*REFERENCE.glob("*/index.html"), *REFERENCE.glob("*/notebooks/*.html")]
    assert len(pages) > len(RUNS)
    assert sum(page.stat().st_size for page in pages) < LIMIT * len(pages)
    first = (REFERENCE / "c10_compact" / "index.html").read_text("utf-8")
    assert 'src="figures/fig2.png"' in first and "base64," not in first
    page = (REFERENCE / "c10_compact" / "notebooks" / "03_theory.html").read_text("utf-8")
    assert 'src="../figures/fig2.png"' in page and '<a id="fig2"></a>' in page


@pytest.mark.parametrize("name", RUNS)
def test_a_table_of_a_notebook_leads_to_where_it_can_be_copied(name):
    first = (REFERENCE / name / "index.html").read_text("utf-8")
    there = set(re.findall(r'<figure id="(table_\w+)">', first))
    text = "".join(page.read_text("utf-8") for page in REFERENCE.glob(f"{name}/notebooks/*.html"))
    found = set(re.findall(r'<a href="../index.html#(table_\w+)">as LaTeX', text))
    assert found and found <= there
