"""JupyterLab and the page of explorers in a real browser.

Every notebook runs, explorers answer and leave their pictures, equations are set, nothing leaves
the machine.
"""

import contextlib
import json
import math
import os
import re
import shutil
import signal
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
    "attack_explorer.attacked": "08_beyond_the_paper",
}
SLIDERS = {
    "explorers.fig2": ["lambda"],
    "explorers.inputs": ["lambda", "draws N", "threshold", "PGD steps", "epsilon"],
    "explorers.tradeoff": [],
    "attack_explorer.attacked": ["attack steps", "draws K", "lambda", "draws N"],
}
MOVES = (0.1, 0.9, 0.3, 0.7) * 5
"""Places to which a slider is dragged, as shares of its width; the first is where none starts."""
RUN_ALL = "() => window.jupyterapp.commands.execute('notebook:run-all-cells')"
IDLE = """() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status
  === 'idle'"""
CELLS = "() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells"
# Milliseconds from the release of a control to the picture that is drawn for it.
RELEASED = """() => new Promise((resolve, reject) => {
  setTimeout(() => reject(new Error('no new picture within a minute')), 60000);
  const picture = document.querySelector('.milib-live img');
  let released = null;
  for (const event of ['pointerup', 'change'])
    document.addEventListener(event, () => { released ??= performance.now(); },
                              {once: true, capture: true});
  new MutationObserver((_, observer) => {
    observer.disconnect();
    picture.decode().then(() => resolve(performance.now() - released));
  }).observe(picture, {attributes: true, attributeFilter: ['src']});
})"""
ANSWERED = "() => document.querySelector('.milib-live').getAttribute('aria-busy') === 'false'"


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


@contextlib.contextmanager
def pages(lab, browser):
    """A function that opens a notebook in a page of its own, all cells run.

    The page notes which hosts it asked.
    """
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(600_000)
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname or ""))

    def open_and_run(name: str):
        open_notebook(page, lab, name)
        page.wait_for_function(IDLE)
        page.evaluate(RUN_ALL)
        page.wait_for_function(IDLE)
        return page

    yield open_and_run
    assert hosts - {"", "127.0.0.1", "localhost"} == set()
    context.close()


def open_notebook(page, lab: str, name: str) -> None:
    """Open a notebook as it is stored."""
    page.goto(f"{lab}lab/tree/notebooks/{name}.ipynb?reset", wait_until="domcontentloaded")
    page.wait_for_selector(".jp-Notebook .jp-Cell")


@pytest.fixture
def opened(lab, browser):
    with pages(lab, browser) as open_and_run:
        yield open_and_run


@pytest.fixture(scope="module")
def detection(lab, lab_home, browser):
    """The page of 05 with its explorer in sight; a copy, which a test saves."""
    folder = lab_home / "notebooks"
    shutil.copy(folder / "05_detection.ipynb", folder / "copy.ipynb")
    with pages(lab, browser) as open_and_run:
        page = open_and_run("copy")
        show(page, "explorers.inputs(")
        page.wait_for_selector(".milib-live img")
        yield page


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
    """Pictures and numbers change after `act` on a control.

    Returns the milliseconds from its release to the new picture.
    """
    picture, numbers = page.locator(".milib-live img").first, page.locator(".milib-live pre")
    before, text = picture.get_attribute("src"), numbers.text_content()
    page.evaluate(f"() => {{ window.taken = ({RELEASED})() }}")
    act()
    taken = page.evaluate("() => window.taken")
    assert (
        picture.get_attribute("src") != before
        and picture.evaluate("image => image.naturalWidth") > 300
    )
    assert numbers.text_content() != text
    page.wait_for_function(ANSWERED)
    return taken


def control(page, name: str):
    """The control that a screen reader calls so."""
    return page.locator(".milib-live").get_by_label(name, exact=True)


def drag(page, slider: str, share: float) -> None:
    """Drag a slider's handle to a share of its width and let it go."""
    place = control(page, slider).bounding_box()
    y = place["y"] + place["height"] / 2
    page.mouse.move(place["x"] + 0.5 * place["width"], y)
    page.mouse.down()
    page.mouse.move(place["x"] + share * place["width"], y, steps=4)
    page.mouse.up()


def told(name: str, control: str, taken: list[float]) -> None:
    """Print how long the pictures took; `-s` shows it."""
    taken = sorted(taken)
    median, late = taken[len(taken) // 2], taken[math.ceil(0.95 * len(taken)) - 1]
    times = f"median {median:.0f} ms, 95th percentile {late:.0f} ms"
    print(f"{name}, {control}: {len(taken)} moves, {times}")


def move_all(page, name: str, explorer: str) -> None:
    """Move every slider of an explorer, there and back; choose targets and images where it can."""
    show(page, f"{explorer}(")
    for slider in SLIDERS[explorer]:
        control(page, slider).wait_for()
        times = [timed(page, lambda s=slider, at=share: drag(page, s, at)) for share in MOVES]
        told(name, slider, times)
    if explorer == "explorers.inputs":
        target = control(page, "target")
        told(
            name,
            "target",
            [timed(page, lambda k=k: target.select_option(index=k)) for k in (3, 5, 1, 8, 0)],
        )
        told(name, "test image", [timed(page, lambda k=k: numbered(page, k)) for k in (3, 5, 1)])


def numbered(page, image: int) -> None:
    """Type the number of a test image."""
    control(page, "test image").fill(str(image))
    control(page, "test image").press("Enter")


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
        if "explorer" in cell["source"] and ".show()" in cell["source"]
    } == {explorer for explorer, where in EXPLORERS.items() if where == name}
    for explorer in (explorer for explorer, where in EXPLORERS.items() if where == name):
        move_all(page, name, explorer)
    if name == "06_tradeoff":
        point = control(page, "point")
        told(
            name,
            "point",
            [timed(page, lambda k=k: point.select_option(index=k)) for k in (9, 2, 30, 50, 0)],
        )


def test_controls_have_names_tooltips_and_values_as_written(detection):
    for name in (*SLIDERS["explorers.inputs"], "test image", "model", "target"):
        found = control(detection, name)
        assert found.count() == 1 and len(found.get_attribute("title")) > 10
    slider = control(detection, "epsilon")
    assert slider.get_attribute("aria-valuetext") == "0.1"
    told = slider.locator("xpath=following-sibling::output").text_content()
    assert told == "0.1"
    images = detection.locator(".milib-live img")
    assert all(len(images.nth(k).get_attribute("alt")) > 20 for k in range(images.count()))


def test_a_wait_is_shown_and_reset_brings_back_the_first_values(detection):
    text = detection.locator(".milib-live pre").text_content()
    detection.evaluate(
        """() => { window.busy = []; const root = document.querySelector('.milib-live');
        new MutationObserver(() => window.busy.push(root.getAttribute('aria-busy') + ' '
          + root.querySelector('[role=status]').textContent))
          .observe(root, {attributes: true, attributeFilter: ['aria-busy']}); }"""
    )
    timed(detection, lambda: control(detection, "model").select_option(index=3))
    timed(detection, lambda: drag(detection, "lambda", 0.2))
    timed(detection, lambda: detection.locator(".milib-live button").click())
    assert detection.evaluate("() => window.busy") == ["true Computing …", "false "] * 3
    assert detection.locator(".milib-live pre").text_content() == text


def test_keys_never_reach_the_notebook(detection):
    state = """() => { const notebook = window.jupyterapp.shell.currentWidget.content;
        return [notebook.widgets.length, notebook.activeCellIndex, notebook.mode]; }"""
    for name in ("model", "lambda", "test image"):
        control(detection, name).click()
        before = detection.evaluate(state)
        for key in ("a", "b", "d", "d", "m", "ArrowDown", "ArrowUp", "Shift+Enter", "Escape"):
            detection.keyboard.press(key)
        assert detection.evaluate(state) == before, name
    detection.wait_for_function(ANSWERED)


def test_the_explorer_fits_one_screen_and_is_sharp_and_legible(detection):
    root = detection.locator(".milib-live")
    panel = detection.locator(".jp-WindowedPanel-outer").first.bounding_box()
    assert root.bounding_box()["height"] < panel["height"]
    widths = "images => images.map(image => [image.naturalWidth, image.width, image.clientWidth])"
    for natural, width, shown in root.locator("img").evaluate_all(widths):
        assert natural >= 2 * width - 2 and shown == width
    places = "labels => labels.map(label => Math.round(label.getBoundingClientRect().x))"
    assert len(set(root.locator("label").evaluate_all(places))) == 2, "two aligned columns"
    detection.set_viewport_size({"width": 800, "height": 900})
    detection.wait_for_function("() => document.querySelector('.milib-live').clientWidth < 500")
    for natural, _, shown in root.locator("img").evaluate_all(widths):
        assert shown >= 0.85 * natural / 2, "letters of 12 pixels become 10 at least"
    assert len(set(root.locator("label").evaluate_all(places))) == 1
    detection.set_viewport_size({"width": 1280, "height": 900})


def test_letters_are_light_in_the_dark_theme(detection):
    theme = "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})"
    detection.evaluate(theme, "JupyterLab Dark")
    detection.wait_for_selector("body[data-jp-theme-light='false']", state="attached")
    colour = "() => getComputedStyle(document.querySelector('.milib-live pre')).color"
    detection.wait_for_function(
        f"() => ({colour})().match(/\\d+/g).slice(0, 3).every(c => c > 180)"
    )
    scheme = "() => getComputedStyle(document.querySelector('.milib-live select')).colorScheme"
    assert detection.evaluate(scheme) == "dark"
    detection.evaluate(theme, "JupyterLab Light")
    detection.wait_for_selector("body[data-jp-theme-light='true']", state="attached")


def test_a_notebook_without_its_kernel_shows_the_stored_pictures(detection, lab):
    still = detection.locator(".milib-still")
    assert still.count() == 1 and not still.is_visible(), "one of the two is in sight"
    detection.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    detection.evaluate("""() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()""")
    open_notebook(detection, lab, "copy")
    show(detection, "explorers.inputs(")
    lost = "() => document.body.textContent.includes('Error displaying widget: model not found')"
    detection.wait_for_function(lost)
    assert not detection.get_by_text("Error displaying widget").is_visible()
    still.get_by_text("Detection score").wait_for()
    assert still.locator("img").count() > 0
    for image in still.locator("img").all():
        assert image.is_visible() and image.evaluate("image => image.naturalWidth") > 300


def test_points_of_the_tradeoff_are_picked_by_list_keys_and_clicks(opened):
    page = opened("06_tradeoff")
    show(page, "explorers.tradeoff(")
    point = control(page, "point")
    state = "() => window.jupyterapp.shell.currentWidget.content.activeCellIndex"
    timed(page, lambda: point.select_option(index=3))
    before = page.evaluate(state)
    timed(page, lambda: point.press("ArrowDown"))
    assert page.evaluate(state) == before
    assert point.evaluate("list => list.selectedIndex") == 4

    image = page.locator(".milib-live img")

    def clicked(across: float, down: float) -> int:
        """The chosen place in the list after a click there, in shares of the picture."""
        box = image.bounding_box()
        image.click(position={"x": across * box["width"], "y": down * box["height"]})
        page.wait_for_function(ANSWERED)
        return point.evaluate("list => list.selectedIndex")

    first = clicked(0.5, 0.99)
    assert first == 4, "no point lies in the legend"
    grid = [(0.9 - 0.03 * x, 0.1 + 0.05 * y) for x in range(20) for y in range(10)]
    at = next(place for place in grid if clicked(*place) != first)
    found = point.evaluate("list => list.selectedIndex")
    point.select_option(index=4)
    page.wait_for_function(ANSWERED)
    assert clicked(*at) == found


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


@pytest.fixture
def app(tmp_path):
    """The address of `make app` for digits, as it prints it."""
    log = tmp_path / "app.log"
    environment = os.environ | {"BROWSER": "true", "MILIB_RUN": "digits", "MILIB_ARGS": ""}
    with open(log, "w") as file:
        command = [sys.executable, "-m", "milib.views.app"]
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=file,
            stderr=file,
            start_new_session=True,
            # What a shell starts with `&` ignores SIGINT, and so would all that it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )
    while not (found := re.search(r"http://\S+[?]token=\w+", log.read_text())):
        assert process.poll() is None, log.read_text()
        time.sleep(0.5)
    yield found[0]
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl+C does
    assert process.wait(60) == 0


def test_the_app_shows_all_explorers_without_code_to_who_has_the_token(app, browser):
    assert urlsplit(app).hostname == "127.0.0.1"
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page, hosts = context.new_page(), set()
    page.set_default_timeout(600_000)
    page.on("response", lambda response: hosts.add(urlsplit(response.url).hostname or ""))
    page.goto(app, wait_until="domcontentloaded")
    page.wait_for_function("() => document.querySelectorAll('.milib-live img').length === 7")
    assert "explorers_of" not in page.locator("body").inner_text()
    for number, name in ((0, "lambda"), (1, "attack steps"), (3, "lambda")):
        explorer = page.locator(".milib-live").nth(number)
        before = explorer.locator("pre").text_content()
        explorer.get_by_label(name, exact=True).press("ArrowRight")
        page.wait_for_function(
            "([number, text]) => document.querySelectorAll('.milib-live pre')[number].textContent"
            " !== text",
            arg=[number, before],
        )
    assert hosts - {"", "127.0.0.1"} == set()
    stranger = browser.new_context().new_page()
    stranger.goto(app.split("?")[0])
    assert "/login" in stranger.url and not stranger.locator(".milib-live").count()
    context.close()
