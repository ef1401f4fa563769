"""How a notebook's study gets its parameters: the values that names hold when it is opened."""

import os
import subprocess
import sys

import IPython
import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbformat.v4 import new_code_cell, new_notebook, new_output
from papermill.parameterize import parameterize_notebook
from test_params import MI, ROW
from traitlets.config import Config

from milib.errors import UserError
from milib.report.run_folder import RunFolder
from milib.study import params
from milib.study.notebook import from_names, from_notebook, open_study, parameters_cell

TAGGED = {"tags": ["parameters"]}
SHOW = "from milib.study.notebook import from_notebook\nprint(from_notebook().n_test)"


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """A kernel that keeps no history, as under nbval; `milib` sees it as the notebook's."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    made = InteractiveShell(config=Config(HistoryManager={"enabled": False}))
    monkeypatch.setattr(IPython, "get_ipython", lambda: made)
    return made


def run(shell, *cells: str) -> None:
    for cell in cells:
        shell.run_cell(cell).raise_error()


@pytest.mark.parametrize(
    "cell",
    [
        "n_test = 20",
        "n_test: int = 20",
        "# tried on Monday\n# The run's parameters\nn_test = 20",
        "# The run\u2019s parameters\nn_test = 20",
        "n_test, n_theory = 20, 10",
        "n_test = 300\nn_test -= 280",
        "if True:\n    n_test = 20",
        "n_test = 2 * 10",
        "n_test = '20'",
        "%%time\nn_test = 20",
        "%time n_test = 20",
        "n_test = 300\n# n_test = 50\nn_test = 20; seed = 1",
        "import numpy\nn_test = numpy.int64(20)",
        "for n_test in (10, 20):\n    pass",
        "globals().update(n_test=20)",
        "steps, n_test, epsilon = (10, 50), 20, 8 / 255",
    ],
)
def test_whatever_sets_a_name_sets_the_parameter(shell, cell):
    run(shell, cell)
    assert from_notebook().n_test == 20


def test_the_notebooks_own_cell_is_digits(shell):
    run(shell, parameters_cell())
    assert from_notebook() == params.load(params.parameter_file("digits"))


def test_papermills_cell_comes_on_top_and_its_own_names_are_left_alone(shell):
    given = {"run": "mine", "n_test": 20, "rows": [ROW], "grids": MI, "epsilon": "8/255"}
    given |= {"PAPERMILL_OUTPUT_PATH": "out.ipynb", "PAPERMILL_INPUT_PATH": "in.ipynb"}
    run(shell, *injected(given))
    found = from_notebook()
    assert (found.run, found.n_test, found.epsilon) == ("mine", 20, 8 / 255)
    assert (found.rows, found.grids) == ((ROW,), MI)
    assert shell.user_ns["PAPERMILL_OUTPUT_PATH"] == "out.ipynb"


def injected(values: dict) -> list[str]:
    """The cells of a notebook that papermill gave these values."""
    cell = new_code_cell(parameters_cell(), metadata=TAGGED)
    kernel = {"name": "python3", "display_name": "x", "language": "python"}
    made = new_notebook(metadata={"kernelspec": kernel, "papermill": {}}, cells=[cell])
    made = parameterize_notebook(made, values, kernel_name="python3", language="python")
    return [cell.source for cell in made.cells]


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("max_hours", float("inf"), "inf"),
        ("lr", float("nan"), "nan"),
        ("lr", float("-inf"), "-inf"),
        ("epsilon", None, "None"),
    ],
)
def test_a_value_that_is_no_number_ends_in_the_line_of_a_file(shell, name, value, shown):
    run(shell, *injected({name: value}))
    for make in (from_notebook, lambda: params.build({"run": "digits", name: value})):
        with pytest.raises(UserError) as error:
            make()
        assert str(error.value).startswith(f"run 'digits': {name} is {shown}: write a number")


@pytest.mark.parametrize("wrong", ["epohcs = 3", "epoch = 3", "EPOCHS = 3", "epochs_ = '3'"])
@pytest.mark.parametrize("opened", [False, True])
def test_a_misspelt_key_is_refused_until_it_is_mended(shell, wrong, opened):
    run(shell, parameters_cell())
    if opened:
        from_notebook()
    name = wrong.split()[0]
    for _ in range(2):
        run(shell, wrong)
        with pytest.raises(UserError) as error:
            from_notebook()
        line = str(error.value)
        assert f"unknown key '{name}'; nearest valid key: 'epochs'" in line
        assert line.startswith("run 'digits'") and "\n" not in line
    run(shell, "epochs = 3")
    assert from_notebook().epochs == 3


@pytest.mark.parametrize("value", ["1", "0.5", "'x'", "True", "[1]", "(1,)", "{}", "None"])
def test_at_first_every_plain_value_must_be_a_parameter(shell, value):
    run(shell, parameters_cell(), f"first = {value}; second = {value}")
    with pytest.raises(UserError, match="unknown key 'first'"):
        from_notebook()
    assert not {"first", "second"} & set(shell.user_ns)
    from_notebook()


def test_other_names_are_no_parameters(shell):
    run(
        shell,
        parameters_cell(),
        "import numpy as np\nimport milib\nfrom milib.study.rows import NAMES\n_mine = 3",
        "array, make = np.zeros(3), lambda: 3\ndef helper(): pass\nclass Kind: pass",
    )
    assert from_notebook().run == "digits"
    run(shell, "count, names, table = 3, ['x'], {}\ndrawn, figure = 1, 'x'")
    assert from_notebook().run == "digits"
    assert shell.user_ns["count"] == 3


def test_a_kernel_without_any_parameter_is_told_so(shell):
    with pytest.raises(UserError, match="no parameter is set here"):
        from_notebook()


@pytest.mark.parametrize("line", ["epocs = np.int64(3)", "data_rot = Path('x')", "_seed = 3"])
def test_a_misspelt_key_of_another_type_is_refused(shell, line):
    run(shell, "import numpy as np\nfrom pathlib import Path\nseed = 0", line)
    with pytest.raises(UserError, match="unknown key"):
        from_notebook()


def test_what_is_not_set_is_that_of_digits(shell):
    run(shell, "rows = None\ngrids = None\nseed = 3")
    digits = params.load(params.parameter_file("digits"), {"seed": 3})
    assert from_notebook() == digits


def test_values_are_those_at_the_opening(shell):
    """A parameter's tables are copies: a cell that changes the name's list changes no study."""
    run(shell, "rows = [{'model': 'mixup', 'defense': 'mi_ol', 'ratio': [0.4, 0.6]}]")
    found = from_notebook()
    run(shell, "rows[0]['ratio'][0] = 0.1\nrows.append({})\nseed = 7")
    assert found.rows == (ROW | {"ratio": [0.4, 0.6]},) and found.seed == 0


def test_outside_a_notebook_there_is_one_line(monkeypatch):
    monkeypatch.setattr(IPython, "get_ipython", lambda: None)
    with pytest.raises(UserError, match=r"no notebook here: use milib\.study\.params\.load"):
        open_study("01_train_mixup")


def test_the_report_knows_the_values_that_were_taken(shell, tmp_path, monkeypatch):
    monkeypatch.setenv("MILIB_OUTPUTS", str(tmp_path))
    run(shell, parameters_cell(), "run = 'mine'", "if True:\n    n_test = 2 * 10")
    study = open_study("04_oblivious")
    noted = RunFolder(tmp_path / "mine")
    study.store.note("record", "x.json", 1.0, False)
    assert params.build(noted.parameters("04_oblivious") or {}) == study.params
    assert noted.parameters("01_train_mixup") is None
    (tmp_path / "mine" / "profile" / "04_oblivious.parameters").write_text("[")
    with pytest.raises(UserError, match=r"04_oblivious\.parameters is damaged"):
        RunFolder(tmp_path / "mine").parameters("04_oblivious")


def test_a_folder_that_cannot_be_written_can_be_read(shell, tmp_path, monkeypatch):
    monkeypatch.setenv("MILIB_OUTPUTS", str(tmp_path))
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "profile").write_text("no folder")
    run(shell, "seed = 0")
    assert open_study("04_oblivious").params.run == "digits"


@pytest.mark.parametrize(
    ("name", "value", "misspelt"),
    [
        ("epoch", 3, True),
        ("epohcs", "3", True),
        ("N_TEST", 20, True),
        ("step_sizes", 0.1, True),
        ("weigth_decay", 0, True),
        ("nesterv", False, True),
        ("Rows", [ROW], True),
        ("row", ROW, False),
        ("step", 50, False),
        ("mode", "pl", False),
        ("epoch", {"loss": 1.0}, False),
        ("count", 3, False),
        ("k", 3, False),
    ],
)
def test_a_later_name_is_a_slip_or_a_cells_own(shell, name, value, misspelt):
    names = {"seed": 1, name: value}
    if misspelt:
        with pytest.raises(UserError, match=f"unknown key '{name}'"):
            from_names(names, first=False)
    else:
        assert from_names(names, first=False).seed == 1
    assert (name in names) is not misspelt


# Other ways to run a notebook


@pytest.fixture
def notebook(tmp_path):
    """A notebook whose parameters cell says 20 test points, stored with what it prints."""
    output = new_output("stream", name="stdout", text="20\n")
    shown = new_code_cell(SHOW, outputs=[output], execution_count=2)
    cells = [new_code_cell("# The run's parameters\nn_test = 20", metadata=TAGGED), shown]
    kernel = {"name": "python3", "display_name": "x", "language": "python"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), tmp_path / "a.ipynb")
    return tmp_path / "a.ipynb"


def started(notebook, *words: str) -> subprocess.CompletedProcess[str]:
    command, places = [sys.executable, "-m", *words], {"IPYTHONDIR": str(notebook.parent)}
    return subprocess.run(
        command,
        cwd=notebook.parent,
        env=os.environ | places,
        capture_output=True,
        text=True,
        check=False,
    )


def test_nbval_sees_the_parameters(notebook):
    options = ["-q", "--nbval", "--nbval-current-env", "-p", "no:cacheprovider"]
    done = started(notebook, "pytest", *options, "a.ipynb")
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout[-2000:]


@pytest.mark.parametrize("words", [["a.ipynb"], ["-c", "%run a.ipynb"]], ids=["file", "%run"])
def test_ipython_sees_the_parameters(notebook, words):
    done = started(notebook, "IPython", *words)
    assert done.stdout.split()[-1:] == ["20"], done.stdout + done.stderr
