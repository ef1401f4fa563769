"""Parameter files and overrides: what is accepted; what is not ends in one line of what to do."""

import csv
import dataclasses
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from milib import training
from milib.errors import UserError
from milib.study import params, paths, rows

FOLDER = paths.project_root() / "params"
FILES = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in FOLDER.glob("*.yaml")}
RUNS = sorted(name for name, content in FILES.items() if isinstance(content, dict))
FIELDS = {field.name: field for field in dataclasses.fields(params.Params)}
KEYS = list(FIELDS)
RANGES = {
    name: (field.metadata["low"], field.metadata["high"])
    for name, field in FIELDS.items()
    if field.metadata["low"] is not None
}
CHOICES = {name: field.metadata["choices"] for name, field in FIELDS.items()}
MI = {"mi_pl": [0.5], "mi_ol": [0.5]}
ROW = {"model": "mixup", "defense": "mi_ol", "ratio": 0.5}


def refusal(**values) -> str:
    """The one line with which a run of these values is refused."""
    with pytest.raises(UserError) as error:
        params.build({"run": "mine"} | values)
    assert "\n" not in str(error.value)
    assert "'mine'" in str(error.value)
    return str(error.value)


# Files


@pytest.mark.parametrize("run", RUNS)
def test_every_file_in_params_is_a_whole_run(run):
    loaded = params.load(FOLDER / f"{run}.yaml")
    assert loaded.run == run
    assert set(FILES[run]) == set(KEYS)
    assert min(map(loaded.epochs_of, training.MODELS)) >= 1
    assert loaded.row("mixup", "mi_ol")["ratio"] > 0
    assert loaded.row("interpolated_at", "mi_ol")["ratio"] > 0
    for name in ("gaussian_noise", "rotation", "xie", "guo", "mi_pl", "mi_ol", "mi_combined"):
        assert len(loaded.grids[name]) >= 7


def test_digits_is_among_them():
    assert "digits" in RUNS


@pytest.mark.parametrize(
    ("content", "word"), [("a: [", "YAML"), ("- 1", "key: value"), (None, "does not exist")]
)
def test_a_file_that_is_none_is_refused(tmp_path, content, word):
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=word) as error:
        params.load(path)
    assert "\n" not in str(error.value)


# Keys and values


@given(st.sampled_from(KEYS), st.data())
def test_a_misspelt_key_names_run_key_and_nearest(name, data):
    position = data.draw(st.integers(0, len(name) - 1))
    wrong = name[:position] + "z" + name[position + 1 :]
    assume(wrong not in KEYS)
    line = refusal(**{wrong: 1})
    assert f"'{wrong}'" in line
    near = line.rsplit("'", 2)[1]
    assert near in KEYS
    assert near == name or len(name) < 6  # short names have nearer neighbours


@given(st.sampled_from(sorted(RANGES)), st.booleans(), st.data())
def test_a_value_out_of_range_names_key_value_and_range(name, above, data):
    low, high = RANGES[name]
    if above:
        wrong = data.draw(st.integers(int(high) + 1, int(high) + 10**9))
    else:
        wrong = data.draw(st.integers(-(10**9), -2 if low <= 0 else 0))
    line = refusal(**{name: wrong if FIELDS[name].type in (int, float) else [wrong]})
    assert f"{name} is {wrong}" in line
    assert f"between {low} and {high}" in line


@pytest.mark.parametrize("name", [name for name in KEYS if CHOICES[name]])
def test_a_value_that_is_no_choice_names_the_choices_and_the_nearest(name):
    choices = list(CHOICES[name])
    line = refusal(**{name: choices[0] + "x"})
    assert all(choice in line for choice in choices)
    assert line.endswith(f"nearest: '{choices[0]}'")


def test_a_truth_may_be_text_as_papermill_passes_it():
    assert params.build({"nesterov": "true"}).nesterov is True
    assert params.build({"nesterov": "false"}).nesterov is False


@pytest.mark.parametrize(
    ("written", "value"), [("8/255", 8 / 255), ("0.25", 0.25), (1, 1.0), ("1e-3", 0.001)]
)
def test_numbers_may_be_fractions_or_text(written, value):
    grids = MI | {"gaussian_noise": [written]}
    found = params.build({"epsilon": written, "fig2_ratios": [written], "grids": grids})
    assert (found.epsilon, found.fig2_ratios) == (value, (value,))
    assert found.grids == MI | {"gaussian_noise": [value]}
    assert isinstance(found.epsilon, float)


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("epsilon", "small", "a number"),
        ("epsilon", "1/0", "a number"),
        ("epsilon", float("nan"), "a number"),
        ("epsilon", None, "a number"),
        ("epsilon", True, "a number"),
        ("epsilon", [0.1], "a number"),
        ("epochs", 2.5, "a whole number"),
        ("epochs", "3/2", "a whole number"),
        ("nesterov", 1, "true or false"),
        ("nesterov", "maybe", "true or false"),
        ("device", 3, "a word"),
        ("steps", 10, "a list"),
        ("steps", [], "a list"),
        ("steps", [10, "x"], "a number"),
        ("grids", [6, 8], "a table"),
        ("rows", ROW, "a list"),
        ("rows", ["mixup"], "a table"),
    ],
)
def test_values_of_another_type_are_refused(name, value, hint):
    line = refusal(**{name: value})
    assert f"{name} is" in line
    assert f"write {hint}" in line


@pytest.mark.parametrize("value", ["{mi_ol", "[10", "[1, 2]]", "\t"])
def test_a_text_that_is_no_yaml_says_where(value):
    assert "grids is not YAML: line 1: " in refusal(grids=value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "mixupp"}, ["unknown model in rows[1] 'mixupp'", "'mixup'"]),
        ({"defense": "mi_oll"}, ["unknown defense in rows[1] 'mi_oll'", "'mi_ol'"]),
        ({"defense": ["mi_ol"]}, ["unknown defense in rows[1] ['mi_ol']"]),
        ({"rati": 0.5}, ["rows[1]", "'rati'", "'ratio'"]),
        ({"model": None}, ["unknown model in rows[1] None"]),
        ({"ratio": 1.5}, ["rows[1]: ratio is 1.5", "between 0 and 1"]),
        ({"ratio": [0.6, 0.4]}, ["rows[1]: ratio is [0.6, 0.4]", "[least, most]"]),
        ({"ratio": [0.4, 0.5, 0.6]}, ["rows[1]: ratio", "[least, most]"]),
        ({"defense": "xie"}, ["rows[1]", "'ratio'", "'sizes'"]),
    ],
)
def test_rows_are_checked(change, words):
    line = refusal(rows=[ROW, ROW | change])
    assert all(word in line for word in words)


@pytest.mark.parametrize(
    ("grids", "words"),
    [
        ({"mi_oll": [0.5]}, ["unknown defense in grids 'mi_oll'", "'mi_ol'"]),
        ({"none": [0.5]}, ["unknown defense in grids 'none'"]),
        ({"mi_ol": 0.5}, ["grids: mi_ol is 0.5", "a list"]),
        ({"mi_ol": []}, ["grids: mi_ol is []", "a list"]),
        ({"mi_ol": [0.5, 2]}, ["grids: mi_ol is 2:", "between 0 and 1"]),
        ({"mi_combined": [-2]}, ["grids: mi_combined is -2:", "between -1 and 1"]),
        ({"gaussian_noise": [[0.1, 0.2]]}, ["grids: gaussian_noise is [0.1, 0.2]", "a number"]),
        ({"gaussian_noise": [0.1]}, ["grids lacks mi_pl", "the whole table"]),
        ({"xie": [6, 8]}, ["grids: xie is 6", "a list"]),
        ({"xie": [[8, 6]]}, ["grids: xie is [8, 6]", "[least, most]"]),
        ({"xie": [[0, 8]]}, ["grids: xie is 0", "between 1 and"]),
    ],
)
def test_grids_are_checked(grids, words):
    accepted = params.build({"grids": "{mi_pl: [0.5], mi_ol: [0.4], xie: [[6, 8]]}"}).grids
    assert accepted == {"mi_pl": [0.5], "mi_ol": [0.4], "xie": [[6, 8]]}
    line = refusal(grids=grids)
    assert all(word in line for word in words)


@pytest.mark.parametrize(
    ("stops", "words"),
    [
        ({"mixupp": 3}, ["unknown model in stop_epochs 'mixupp'", "'mixup'"]),
        ({"at": 0.5}, ["stop_epochs: at is 0.5", "between 1 and"]),
        ({"at": [3]}, ["stop_epochs: at is [3]", "a number"]),
        ([3], ["stop_epochs is [3]", "a table"]),
    ],
)
def test_stops_are_checked(stops, words):
    assert params.build({"stop_epochs": "{at: 93/2}"}).stop_epochs == {"at": 46.5}
    line = refusal(stop_epochs=stops)
    assert all(word in line for word in words)


@pytest.mark.parametrize("name", ["model", "defense", "ratio"])
def test_rows_must_be_whole(name):
    without = {key: value for key, value in ROW.items() if key != name}
    assert f"lacks '{name}'" in refusal(rows=[without])


def test_a_row_is_found_by_model_and_defense_at_a_fixed_ratio(run):
    rows = [ROW | {"ratio": ["0.4", "3/5"]}, ROW, ROW | {"ratio": 0.7}]
    found = params.build({"run": "mine", "rows": rows})
    assert found.row("mixup", "mi_ol") == ROW
    assert found.rows[0]["ratio"] == [0.4, 0.6]
    with pytest.raises(UserError, match=r"'mine'.*erm.*guo"):
        found.row("erm", "guo")


def test_a_run_is_frozen_and_overrides_win(run):
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.seed = 1
    assert params.load(FOLDER / "digits.yaml", {"seed": 3, "epochs": "7"}).epochs == 7
    assert params.build({"seed": 3}) == params.load(FOLDER / "digits.yaml", {"seed": 3})


# Where they are shown, and where files lie


def test_a_cell_shows_the_line_without_the_stack(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    shell = InteractiveShell(config=Config(HistoryManager={"enabled": False}))
    assert not shell.run_cell(
        "from milib.errors import UserError\nraise UserError('epochs is -1')"
    ).success
    assert capsys.readouterr().out == "UserError: epochs is -1\n"


def test_the_project_is_found_upwards(root, monkeypatch, tmp_path):
    for folder in (root, root / "notebooks", tmp_path):
        monkeypatch.chdir(folder)
        assert paths.project_root() == root
    monkeypatch.setenv("MILIB_OUTPUTS", str(tmp_path))
    assert paths.outputs_root() == tmp_path
    monkeypatch.delenv("MILIB_OUTPUTS")
    assert paths.outputs_root() == root / "outputs"


def test_a_home_folder_is_expanded(monkeypatch):
    home = Path.home()
    monkeypatch.setenv("MILIB_OUTPUTS", "~/there")
    monkeypatch.setenv("MILIB_DATA", "~/data")
    assert paths.outputs_root() == home / "there" and paths.data_root() == home / "data"
    found = params.load(FOLDER / "digits.yaml", {"data_root": "~/my sets"})
    assert paths.data_root(found.data_root) == home / "my sets"
    assert params.build({"data_root": Path("/sets")}).data_root == "/sets"
    assert params.build({"data_root": None}).data_root == ""
    with pytest.raises(UserError, match=r"data_root is '~nobody-of-this-name'.*no home folder"):
        paths.data_root("~nobody-of-this-name")


def test_no_notebook_takes_more_points_than_04():
    loaded = params.load(FOLDER / "digits.yaml", {"n_test": 40})
    assert (loaded.n_theory, loaded.n_adaptive) == (40, 40)


def test_c10_quick_has_the_parameters_that_c10_compact_chose():
    path = paths.reference_root() / "c10_compact" / "tables" / "parameters.csv"
    with open(path, newline="", encoding="utf-8") as file:
        chosen = {line["row"]: line["parameters"] for line in csv.DictReader(file)}
    found = params.load(FOLDER / "c10_quick.yaml").rows
    assert {rows.row_name(row): rows.parameters(row) for row in found} == chosen
