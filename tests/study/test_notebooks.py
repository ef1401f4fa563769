"""The notebooks as files: what a reader and nbval rely on."""

import dataclasses
import difflib
import itertools
import re
import statistics
import symtable

import nbformat
import pytest
from papermill.translators import PythonTranslator

from milib.study import params, paths
from milib.study.notebook import SIMILAR, from_names, parameters_cell
from milib.study.rules import claims_table
from milib.views.exercises import EXERCISES

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


def sources(notebook) -> list[str]:
    """The lines of the code cells."""
    return [line for cell in code(notebook) for line in cell.source.splitlines()]


def printed(cell) -> str:
    """The text a cell shows, figures' size lines and captions apart."""
    texts = [  # a line may be spread over two streams
        output.get("text") or output.get("data", {}).get("text/plain", "") + "\n"
        for output in cell.outputs
        if "text/markdown" not in output.get("data", {})
    ]
    return "".join(text for text in texts if not text.startswith("<Figure size")).strip()


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, 4)


def test_there_are_eight():
    assert [path.stem[:2] for path in NOTEBOOKS] == [f"0{k}" for k in range(1, 9)]


def test_ids_of_cells_are_their_places(notebook):
    number = notebook.cells[0].id[:2]
    assert [cell.id for cell in notebook.cells] == [
        f"{number}-{place:02d}" for place in range(len(notebook.cells))
    ]


def test_parameters_cell_is_that_of_digits(notebook):
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert [cell.source for cell in cells] == [parameters_cell()]
    names: dict = {}
    exec(cells[0].source, {}, names)
    assert from_names(names, first=True) == params.load(ROOT / "params" / "digits.yaml")


def test_parameters_cell_is_hidden_short_and_known_to_papermill(notebook):
    [cell] = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert cell.metadata == {"tags": ["parameters"], "jupyter": {"source_hidden": True}}
    assert len(cell.source.splitlines()) < 55
    fields, known = dataclasses.fields(params.Params), PythonTranslator.inspect(cell)
    assert [parameter.name for parameter in known] == [field.name for field in fields]
    for parameter, field in zip(known, fields, strict=True):
        assert parameter.inferred_type_name.split("[")[0] in str(field.type)
        assert parameter.help.startswith(field.metadata["doc"])
        assert all(choice in parameter.help for choice in field.metadata["choices"] or ())


def test_other_cells_have_tags_alone(notebook):
    others = [cell for cell in notebook.cells if "parameters" not in cell.metadata.get("tags", [])]
    assert {key for cell in others for key in cell.metadata} <= {"tags"}


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


def test_no_line_is_longer_than_a_screen_is_wide(notebook):
    lines = [line for cell in notebook.cells for line in cell.source.splitlines()]
    assert max(map(len, lines)) <= 100


def bound(source: str) -> set[str]:
    """The names that a cell leaves in the notebook; those of its comprehensions are gone."""
    symbols = symtable.symtable(source, "cell", "exec").get_symbols()
    return {name.get_name() for name in symbols if name.is_assigned() or name.is_imported()}


def test_what_a_cell_binds_is_seen():
    source = (
        "import a.b\nfrom c import d as e\nf, (g, *h) = 1\ni: int = 2\nfor j in [k for k in x]:"
    )
    source += "\n  with l as m: n += (o := 1)\n"
    assert bound(source) == set("aefghijmno")


ALIKE = {"mode": "pl", "row": {"model": "mixup", "defense": "none"}, "cases": [(10, 30)]}
ALIKE |= {"grows": True, "theory": params, "adaptive": params, "beyond": params}
ALIKE |= {"tuned": {"standard": {}}}
"""What resembles a parameter's name in a cell, with what it holds there; modules among it."""


def test_no_cell_changes_a_parameter_or_is_taken_for_one(notebook):
    """So that the study can be opened again after all cells ran."""
    names = set().union(*(bound(cell.source) for cell in code(notebook)))
    assert not names & set(params.KEYS)
    alike = {name for name in names if difflib.get_close_matches(name, params.KEYS, 1, SIMILAR)}
    held = {name: ALIKE[name] for name in alike}
    assert from_names(dict(held), first=False).run == "digits"


def test_stored_checks_hold(notebook):
    """A check prints `what it asks: yes`; its threshold is meant for the stored run, digits."""
    assert not any(re.search(r"print\(.* [<>=]=? ", line) for line in sources(notebook))
    lines = [line for cell in code(notebook) for line in printed(cell).splitlines()]
    checks = [line for line in lines if re.search(r": (yes|no)$", line)]
    calls = [line for line in sources(notebook) if "course.state(" in line]
    assert len(checks) >= len(calls) > 0  # a call may stand in a loop
    assert not [line for line in checks if line.endswith("no")]
    bare = [line for line in lines if re.search(r"\b(True|False)$", line)]
    assert set(bare) <= {"nesterov: True"}  # of a recipe


@pytest.mark.parametrize(
    "name, algorithm, verdict",
    [
        ("03_theory", "Algorithm 1", "Algorithm 1 equals milib to 1e-05: yes"),
        ("04_oblivious", "PGD-10", "the predictions are the same: yes"),
    ],
)
def test_algorithm_is_shown_in_plain_torch_and_equals_milib(name, algorithm, verdict):
    cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4).cells
    [place] = [k for k, cell in enumerate(cells) if "in plain PyTorch" in cell.source]
    shown, check = cells[place + 1], cells[place + 3]
    assert algorithm in "".join(cell.source for cell in cells[place - 4 : place + 1])
    assert 10 <= len(shown.source.splitlines()) <= 15
    assert verdict in printed(check).splitlines()


def test_cells_compute_before_they_show(notebook):
    """What runs for long clears its cell's output when it is done (milib.study.progress)."""
    shown, worked = (
        r"\bprint\(|course\.|figures\.show\(|tables\.(save|show)\(|\.show\(\)",
        r"study\.(require|batch|examples)\(|(experiments|beyond|variants)\.\w+\(|choices\(",
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


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_verdicts_stand_where_a_claim_is_judged_and_are_compared_strictly(path):
    cells = code(nbformat.read(path, 4))
    cells = [cell for cell in cells if "tables.verdicts(" in cell.source]
    claims = [claim for claim in claims_table() if claim["notebook"] == path.stem]
    assert len(cells) == bool(claims)
    for cell in cells:
        assert not cell.metadata.get("tags")
        assert len(re.findall("holds|fails|undecided", printed(cell))) == len(claims)


def test_every_claim_names_a_notebook():
    stems = {path.stem for path in NOTEBOOKS}
    assert {claim["notebook"] for claim in claims_table()} <= stems
    assert "07_adaptive_attacks" not in {claim["notebook"] for claim in claims_table()}


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


# The course


@pytest.mark.parametrize("place", range(8))
def test_previous_next_and_all_notebooks_are_linked_at_both_ends(place):
    stems = [path.stem for path in NOTEBOOKS]
    cells = nbformat.read(NOTEBOOKS[place], 4).cells
    others = stems[:place] + stems[place + 1 :]
    for text in (cells[0].source.partition("\n# ")[0], cells[-1].source):
        beside, contents = text.split("Contents:")
        assert re.findall(r"\((\w+)\.ipynb\)", contents) == others
        assert contents.count("**") == 2 and f"**{place + 1} " in contents
        for word, near in (("Previous", place - 1), ("Next", place + 1)):
            found = re.search(rf"{word}: \[{near + 1} [\w -]+\]\((\w+)\.ipynb\)", beside)
            assert (found and found[1]) == (stems[near] if 0 <= near < 8 else None)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_question_then_the_answer_of_the_real_run_then_what_the_digits_show(path):
    opening, _, before, shown, digits, *_ = nbformat.read(path, 4).cells
    assert re.search(r"^\*\*.+\?\*\*$", opening.source, re.M)
    assert before.source.startswith("## The answer on CIFAR-10\n")
    assert shown.source.endswith(f'\ncourse.answer("{path.stem}")')
    [run] = re.findall("tables of the curated run `(\\w+)`", before.source)
    assert printed(shown).startswith(f"From the curated run {run}, not this run (CIFAR-10, ")
    assert digits.source.startswith("**What the digits will show:** ")


def test_the_curated_run_is_quoted_by_one_function_alone(notebook):
    """No notebook takes a result of it for its own."""
    lines = [line for line in sources(notebook) if "course." in line or "reference" in line]
    assert all(re.match(r" *course\.(answer|state|check)\(", line) for line in lines)


def test_two_or_three_exercises_stand_at_the_end_and_are_open(notebook):
    *_, before_last, _ = notebook.cells
    names = []
    for cell in code(notebook):
        if "course.check(" in cell.source:
            first, second = cell.source.splitlines()
            names += re.findall(r'^course\.check\("(\w+)", answer', second)
            assert first == "answer = None" and printed(cell).endswith(
                f"Exercise {names[-1]} is open. Hint: {EXERCISES[names[-1]].hint}."
            )
    number = str(int(notebook.cells[0].id[:2]))
    assert names == [name for name in EXERCISES if name[0] == number]
    assert len(names) in (2, 3) and "course.check(" in before_last.source
