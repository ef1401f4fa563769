"""The committed pages in a browser: axe-core, heads, captions, the contents, and paper."""

import shutil

import pytest

from milib.report import pdf
from milib.study import paths

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium"
    ),
]
RUN = paths.reference_root() / "c10_compact"
INDEX, NOTEBOOK = RUN / "index.html", RUN / "notebooks" / "04_oblivious.html"
PAPER = 1031
"""Pixels across A4 landscape without its margins of 12 mm: 273 mm of 96 pixels an inch."""
# Heads of tables whose words stand in more than one line.
BROKEN = """() => {
  const broken = [];
  for (const head of document.querySelectorAll('th')) {
    const walker = document.createTreeWalker(head, NodeFilter.SHOW_TEXT);
    while (walker.nextNode())
      for (const word of walker.currentNode.data.matchAll(/\\\\S+/g)) {
        const range = document.createRange();
        range.setStart(walker.currentNode, word.index);
        range.setEnd(walker.currentNode, word.index + word[0].length);
        if (range.getClientRects().length > 1) broken.push(word[0]);
      }
  }
  return broken;
}""".replace("\\\\", "\\")
LINES = """() => [...document.querySelectorAll('figcaption')]
  .map(caption => [caption.innerText,
    Math.round(caption.clientHeight / parseFloat(getComputedStyle(caption).lineHeight))])"""
CUT = """width => [...document.querySelectorAll('table, img')]
  .filter(each => each.getBoundingClientRect().right > width + 1)
  .map(each => each.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser):
    """opened(path, width, scheme): a page of the report, whose policy lets axe-core in."""
    contexts = []

    def open_page(path, width: int, scheme: str = "light"):
        view = {"width": width, "height": 900}
        contexts.append(browser.new_context(viewport=view, color_scheme=scheme, bypass_csp=True))
        page = contexts[-1].new_page()
        page.set_default_timeout(120_000)
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize(
    ("path", "width", "scheme"),
    [(INDEX, 1280, "light"), (INDEX, 390, "dark"), (NOTEBOOK, 390, "light")],
    ids=["index", "index, narrow and dark", "notebook, narrow"],
)
def test_axe_finds_no_serious_violation(opened, path, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(opened(path, width, scheme)).response["violations"]
    told = [(each["id"], each["nodes"][0]["html"][:200]) for each in found]
    assert not told


@pytest.mark.parametrize("width", [1280, 800, 390])
def test_no_head_breaks_inside_a_word_and_no_page_scrolls_sideways(opened, width):
    for path in (INDEX, NOTEBOOK):
        page = opened(path, width)
        assert page.evaluate(BROKEN) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_captions_have_two_lines_at_most(opened):
    lines = opened(INDEX, 1280).evaluate(LINES)
    assert lines and not [caption for caption, count in lines if count > 2]


@pytest.mark.parametrize("width", [1280, 390])
def test_contents_stay_in_sight(opened, width):
    page = opened(INDEX, width)
    page.evaluate("() => { location.hash = '#table2' }")
    page.wait_for_function("scrollY > 2000")
    assert page.locator("nav.contents").bounding_box()["y"] == 0
    top = page.locator("#table_oblivious").bounding_box()["y"]
    assert 0 <= top < 100, "the table is hidden, or far from where its link leads"


def test_all_figures_are_there(opened):
    loaded = opened(INDEX, 1280).evaluate(
        "() => [...document.images].map(image => image.naturalWidth)"
    )
    assert loaded and min(loaded) > 100


def test_on_paper_no_table_is_cut(opened):
    page = opened(INDEX, PAPER)
    page.emulate_media(media="print")
    assert page.evaluate(CUT, PAPER) == []


def test_the_pdf_holds_all_figures_and_names_no_file_of_this_machine(tmp_path):
    index = tmp_path / "index.html"
    index.write_text(INDEX.read_text("utf-8"), encoding="utf-8")
    shutil.copytree(INDEX.parent / "figures", tmp_path / "figures")
    printed = pdf.write(index).read_bytes()
    figures = len(list(tmp_path.glob("figures/*.png")))
    assert printed.startswith(b"%PDF") and printed.count(b"/Subtype /Image") >= figures > 10
    assert b"file:" not in printed and str(tmp_path).encode() not in printed
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", "report.pdf", "figures"}
