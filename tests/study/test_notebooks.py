"""The notebooks as files: what a reader and nbval rely on."""

import itertools
import re
import statistics

import nbformat
import pytest

from milib.study import notebook as notebook_cell
from milib.study import params, paths

ROOT = paths.project_root()
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
IGNORED = "nbval-ignore-output"


def code(notebook):
    """Code cells but the parameters cell, each with its tags."""
    return [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", [])
    ]


def printed(cell) -> str:
    """The text a cell shows, figures' size lines apart."""
    texts = [
        output.get("text") or output.get("data", {}).get("text/plain", "")
        for output in cell.outputs
    ]
    return "\n".join(text for text in texts if not text.startswith("<Figure size"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, 4)


def test_there_are_seven():
    assert [path.stem[:2] for path in NOTEBOOKS] == [f"0{k}" for k in range(1, 8)]


def test_parameters_cell_is_that_of_digits(notebook):
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert [cell.source for cell in cells] == [notebook_cell.parameters_cell()]
    assert params.build(notebook_cell.assignments(cells[0].source)) == params.load(
        ROOT / "params" / "digits.yaml"
    )


def test_stored_outputs_are_complete_and_in_order(notebook):
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert all(
        output.output_type != "error" and output.get("name") != "stderr"
        for cell in code(notebook)
        for output in cell.outputs
    )


def test_every_cell_shows_something_and_is_introduced(notebook):
    assert all(cell.outputs for cell in code(notebook))
    for before, cell in zip(notebook.cells, notebook.cells[1:], strict=False):
        if cell.cell_type == "code":
            assert before.cell_type == "markdown" and len(before.source) > 20


def test_no_definitions_and_short_cells(notebook):
    sources = [cell.source for cell in code(notebook)]
    assert not any(re.search(r"(?m)^\s*(def|class)\s", source) for source in sources)
    assert statistics.median(len(source.splitlines()) for source in sources) < 6


def test_cells_compute_before_they_show(notebook):
    """What runs for long clears its cell's output when it is done (milib.progress)."""
    shown, worked = (
        r"\bprint\(|figures\.show\(|tables\.save\(|\.show\(\)",
        r"study\.(require|batch|examples)\(|experiments\.\w+\(|choices\(",
    )
    for cell in code(notebook):
        shows, works = (
            [place for place, line in enumerate(cell.source.splitlines()) if re.search(kind, line)]
            for kind in (shown, worked)
        )
        assert not shows or not works or max(works) <= min(shows), cell.source


def test_ignored_cells_are_followed_by_a_check(notebook):
    """The next code cell that prints is compared strictly."""
    cells = [cell for cell in code(notebook) if printed(cell)]
    ignored = [IGNORED in cell.metadata.get("tags", []) for cell in cells]
    assert not ignored[-1] and not any(
        first and second for first, second in itertools.pairwise(ignored)
    )
    assert {tag for cell in cells for tag in cell.metadata.get("tags", [])} <= {IGNORED}


def test_at_least_half_of_the_cells_with_numbers_are_compared_strictly(notebook):
    numbers = [cell for cell in code(notebook) if re.search(r"\d", printed(cell))]
    strict = [cell for cell in numbers if IGNORED not in cell.metadata.get("tags", [])]
    assert 2 * len(strict) >= len(numbers)


def test_verdicts_are_compared_strictly(notebook):
    cells = [cell for cell in code(notebook) if "claims.verdicts(" in cell.source]
    assert len(cells) == 1 and not cells[0].metadata.get("tags")
    assert re.search("holds|fails|undecided", printed(cells[0]))


def test_equations_carry_their_numbers_once():
    text = "\n".join(
        cell.source
        for path in NOTEBOOKS
        for cell in nbformat.read(path, 4).cells
        if cell.cell_type == "markdown"
    )
    numbers = [
        int(number) for tag in re.findall(r"\\tag\{([\d, ]+)\}", text) for number in tag.split(",")
    ]
    assert sorted(numbers) == list(range(1, 25))


def test_no_stored_output_of_a_live_line(notebook):
    assert "»" not in "".join(map(printed, code(notebook)))
