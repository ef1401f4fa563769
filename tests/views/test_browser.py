"""JupyterLab in a real browser.

Every notebook runs, sliders move pictures and numbers, equations are set, nothing leaves the
machine.
"""

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import papermill
import pytest

from milib.study import params

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium"
    ),
]
NOTEBOOKS = ["01_train_mixup", "02_train_interpolated_at", "03_theory", "04_oblivious"]
NOTEBOOKS += ["05_detection", "06_tradeoff", "07_adaptive_attacks", "08_beyond_the_paper"]
EXPLORERS = {
    "explorers.fig2": "03_theory",
    "explorers.inputs": "05_detection",
    "explorers.tradeoff": "06_tradeoff",
}
SLIDERS = {
    "explorers.fig2": ["lambda"],
    "explorers.inputs": ["lambda", "draws N", "threshold", "PGD steps", "epsilon", "test image"],
    "explorers.tradeoff": [],
}
MOVES = (60, -120, 120, -60) * 5
"""Pixels by which a slider is dragged, there and back."""
RUN_ALL = "() => window.jupyterapp.commands.execute('notebook:run-all-cells')"
IDLE = """() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status
  === 'idle'"""
CELLS = "() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells"
# Milliseconds from the release of a control to the picture that is drawn for it.
RELEASED = """() => new Promise((resolve, reject) => {
  setTimeout(() => reject(new Error('no new picture within a minute')), 60000);
  const picture = document.querySelector('.widget-image');
  let released = null;
  for (const event of ['pointerup', 'change'])
    document.addEventListener(event, () => { released = performance.now(); },
                              {once: true, capture: true});
  new MutationObserver((_, observer) => {
    observer.disconnect();
    picture.decode().then(() => resolve(performance.now() - released));
  }).observe(picture, {attributes: true, attributeFilter: ['src']});
})"""


@pytest.fixture(scope="module")
def lab_home(tmp_path_factory, root):
    """The folder that JupyterLab shows, with a copy of the notebooks.

    What JupyterLab saves by itself must not reach the project.
    """
    home = tmp_path_factory.mktemp("lab")
    shutil.copytree(root / "notebooks", home / "notebooks")
    return home


@pytest.fixture(scope="module")
def lab(lab_home):
    """JupyterLab's address. Its kernels write where this test run does, and find its models."""
    home = lab_home
    places = {
        "HOME": str(home),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_RUNTIME_DIR": str(home / "run"),
    }
    options = [
        "--no-browser",
        "--allow-root",
        "--ServerApp.token=",
        "--ServerApp.port=0",
        f"--ServerApp.root_dir={home}",
    ]
    options += [
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    environment = os.environ | places | {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    with open(home / "server.log", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            cwd=home,
            env=environment,
            stdout=log,
            stderr=log,
        )
    for _ in range(240):
        found = list((home / "run").glob("jpserver-*.json"))
        if found and found[0].read_text().endswith("}"):
            break
        assert server.poll() is None, (home / "server.log").read_text()
        time.sleep(0.25)
    yield json.loads(found[0].read_text())["url"]
    server.terminate()
    server.wait(30)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(lab, browser):
    """opened(name): that notebook in a page of its own, all cells run.

    The page notes which hosts it asked.
    """
    context = browser.new_context(viewport={"width": 1400, "height": 1600})
    page = context.new_page()
    page.set_default_timeout(600_000)
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname or ""))

    def open_and_run(name: str):
        page.goto(f"{lab}lab/tree/notebooks/{name}.ipynb?reset", wait_until="domcontentloaded")
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        page.wait_for_function(IDLE)
        page.evaluate(RUN_ALL)
        page.wait_for_function(IDLE)
        return page

    yield open_and_run
    assert hosts - {"", "127.0.0.1", "localhost"} == set()
    context.close()


def show(page, text: str) -> None:
    """Scroll to the cell with this source."""
    page.evaluate(
        """text => { const panel = window.jupyterapp.shell.currentWidget.content;
        panel.activeCellIndex = panel.widgets.findIndex(
            cell => cell.model.sharedModel.getSource().includes(text));
        return panel.scrollToItem(panel.activeCellIndex, 'start'); }""",
        text,
    )


def timed(page, act: Callable[[], object]) -> float:
    """Picture and numbers change after `act` on a control.

    Returns the milliseconds from its release to the new picture.
    """
    picture, numbers = page.locator(".widget-image"), page.locator(".widget-html pre")
    before, text = picture.get_attribute("src"), numbers.inner_text()
    page.evaluate(f"() => {{ window.taken = ({RELEASED})() }}")
    act()
    taken = page.evaluate("() => window.taken")
    assert (
        picture.get_attribute("src") != before
        and picture.evaluate("image => image.naturalWidth") > 300
    )
    page.wait_for_function(
        "text => document.querySelector('.widget-html pre').innerText !== text", arg=text
    )
    return taken


def handle_of(page, slider: str):
    """The handle of the slider with this name."""
    return page.locator(".widget-inline-hbox", has=page.get_by_text(slider, exact=True)).locator(
        ".noUi-handle"
    )


def drag(page, slider: str, distance: int) -> None:
    """Drag a slider's handle by pixels and let it go."""
    place = handle_of(page, slider).bounding_box()
    x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + distance, y, steps=4)
    page.mouse.up()


def told(name: str, control: str, taken: list[float]) -> None:
    """Print how long the pictures took; `-s` shows it."""
    taken = sorted(taken)
    median, late = taken[len(taken) // 2], taken[math.ceil(0.95 * len(taken)) - 1]
    times = f"median {median:.0f} ms, 95th percentile {late:.0f} ms"
    print(f"{name}, {control}: {len(taken)} moves, {times}")


def move_all(page, name: str, explorer: str) -> None:
    """Move every slider of an explorer, there and back; choose targets where it has some."""
    show(page, f"{explorer}(")
    for slider in SLIDERS[explorer]:
        handle_of(page, slider).wait_for()
        told(
            name,
            slider,
            [
                timed(page, lambda slider=slider, d=distance: drag(page, slider, d))
                for distance in MOVES
            ],
        )
    if explorer == "explorers.inputs":
        target = page.locator(
            ".widget-dropdown", has=page.get_by_text("target", exact=True)
        ).locator("select")
        told(
            name,
            "target",
            [timed(page, lambda k=k: target.select_option(index=k)) for k in (3, 5, 1, 8, 0)],
        )


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_run_all_finishes_equations_are_set_and_sliders_move(opened, name):
    page = opened(name)
    code = [cell for cell in page.evaluate(CELLS) if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code)
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    show(page, "$$" if name != "06_tradeoff" else "$\\lambda$")
    page.wait_for_selector(".jp-MarkdownOutput mjx-container", state="attached")
    assert page.locator(".jp-MarkdownOutput mjx-merror").count() == 0
    assert {
        cell["source"].split("(")[0]
        for cell in code
        if "explorers." in cell["source"] and ".show()" in cell["source"]
    } == {explorer for explorer, where in EXPLORERS.items() if where == name}
    for explorer in (explorer for explorer, where in EXPLORERS.items() if where == name):
        move_all(page, name, explorer)
    if name == "06_tradeoff":
        point = page.locator(".widget-select select")
        told(
            name,
            "point",
            [timed(page, lambda k=k: point.select_option(index=k)) for k in (9, 2, 30, 50, 0)],
        )


def test_the_explorer_of_inputs_moves_on_cifar(lab_home, opened, root, cifar_root):
    """05 of c10_compact on a few test images, from the shipped weights."""
    values = params.read_yaml(root / "params" / "c10_compact.yaml") | {
        "n_test": 20,
        "data_root": str(cifar_root),
    }
    source, copy = (folder / "notebooks" / "05_detection.ipynb" for folder in (root, lab_home))
    papermill.execute_notebook(source, copy.with_stem("05_of_cifar"), values, prepare_only=True)
    page = opened("05_of_cifar")
    outputs = [
        output
        for cell in page.evaluate(CELLS)
        if cell["cell_type"] == "code"
        for output in cell["outputs"]
    ]
    assert not [output for output in outputs if output["output_type"] == "error"]
    move_all(page, "05_detection of c10_compact", "explorers.inputs")
