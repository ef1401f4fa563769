"""Parameters on a command line: what papermill would take, the jobs of `make study` get."""

import base64
import shlex
from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_notebook
from papermill.cli import papermill

from milib.errors import UserError
from milib.study import arguments, jobs, paths

ROOT = paths.project_root()
BASE64 = base64.b64encode(b"{seed: 5, epochs: 3}").decode()
FILE = "{seed: 7, lr: 0.5, run: other}"
"""In `mine.yaml`, which the words name with -f."""
WORDS = [
    "-p seed 1",
    "-p seed 010",
    "-p lr 1e-3 -p lr 2",
    "-p steps '[10, 50]' -p match_clean True",
    "-p max_hours inf",
    "-p threads -1",
    "-p data_root '/data/my sets' -p pool None",
    "-r seed 010",
    "-r seed 3 -p seed 4",
    "-y 'seed: 010'",
    "-y 'seed: 1' -y '{seed: 2, run: 2024-01-01}' -p epochs 3",
    "-y 'steps: [10, 20]' -y ''",
    f"-b {BASE64}",
    f"-b {BASE64} -f 'my file.yaml' -p epochs 8",
    f"-f 'my file.yaml' -b {BASE64} -y 'lr: 8/255'",
    "--parameters seed 1 --parameters_raw epochs 2 --parameters_yaml 'lr: 1' -f 'my file.yaml'",
    f"--parameters_base64 {BASE64} --parameters_file 'my file.yaml'",
    "--parameters_base64=c2VlZDogMQ== '-yepochs: 4'",
]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working folder, with a notebook for papermill and a parameter file."""
    monkeypatch.chdir(tmp_path)
    cell = new_code_cell("seed = 0", metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "display_name": "x", "language": "python"}}
    nbformat.write(new_notebook(cells=[cell], metadata=kernel), "a.ipynb")
    Path("my file.yaml").write_text(FILE)
    return tmp_path


def prepared(words: list[str]) -> dict:
    """The parameters that papermill itself takes from these words."""
    quiet = ["--prepare-only", "--no-progress-bar", "--log-level", "CRITICAL"]
    papermill.main(["a.ipynb", "out.ipynb", *quiet, *words], standalone_mode=False)
    return nbformat.read("out.ipynb", 4).metadata.papermill.parameters


@pytest.mark.filterwarnings("ignore:.*missing an id")
@pytest.mark.parametrize("text", WORDS)
def test_options_mean_what_they_mean_to_papermill(folder, text):
    words = shlex.split(text)
    own, found = arguments.read(words, "ARGS")
    assert own == {} and found == prepared(words) and found
    passed_on = shlex.split(arguments.option(found))
    assert arguments.read(passed_on, "ARGS")[1] == prepared(passed_on) == found


plain = st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.none(), st.text())
tables = st.dictionaries(st.text(), st.one_of(plain, st.lists(plain)), min_size=1)


@given(tables)
def test_any_values_are_passed_on_as_they_are(values):
    words = shlex.split(arguments.option(values))
    found = arguments.read(words, "ARGS")[1]
    assert found == values and list(map(type, found.values())) == list(map(type, values.values()))


def test_without_parameters_nothing_is_passed_on():
    assert arguments.option({}) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("-p seed", ["ARGS", "'-p'", "2 arguments"]),
        ("-y", ["ARGS", "'-y'", "argument"]),
        ("-q seed 1", ["ARGS", "'-q'"]),
        ("--kernel other", ["ARGS", "'--kernel'"]),
        ("--inject-paths", ["ARGS", "'--inject-paths'"]),
        ("seed=1", ["ARGS", "seed=1"]),
        ("-y '[1'", ["ARGS: -y '[1' is not YAML", "line 1"]),
        ("-y '- 1'", ["ARGS: -y '- 1'", "`key: value`"]),
        ("-y '{seed: 1, seed: 2}'", ["-y", "'seed' stands twice"]),
        ("-b x", ["-b 'x'", "base64"]),
        ("-b /////w==", ["-b '/////w=='", "base64 of a text"]),
        ("-f nowhere.yaml", ["nowhere.yaml", "does not exist"]),
        ("-p seed '1", ["ARGS is", "not closed"]),
        ("-p epohcs 1", ["'digits'", "'epohcs'", "'epochs'"]),
        ("-p PAPERMILL_OUTPUT_PATH x", ["unknown key 'PAPERMILL_OUTPUT_PATH'"]),
        ("-p seed nan", ["'digits'", "seed is nan"]),
        ("-p run ../evil", ["run is '../evil'"]),
    ],
)
def test_a_mistake_in_args_is_one_line(folder, monkeypatch, text, words):
    monkeypatch.setenv("MILIB_ARGS", text)
    monkeypatch.setenv("MILIB_RUN", "digits")
    with pytest.raises(UserError) as error:
        arguments.studies()
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), str(error.value)


def fingerprint(monkeypatch, text: str) -> str:
    monkeypatch.setenv("MILIB_ARGS", text)
    return jobs.fingerprint("01_train_mixup", arguments.studies()[0].run)


def test_every_option_is_in_the_fingerprint(folder, monkeypatch):
    monkeypatch.delenv("MILIB_RUN", raising=False)
    Path("seed.yaml").write_text("seed: 1")
    plain = fingerprint(monkeypatch, "")
    one = fingerprint(monkeypatch, "-p seed 1")
    assert one != plain
    for text in ("-r seed 1", "--parameters seed 1", "-b c2VlZDogMQ==", "-y 'seed: 1'"):
        assert fingerprint(monkeypatch, text) == one, text
    assert fingerprint(monkeypatch, "-f seed.yaml") == one
    assert fingerprint(monkeypatch, "-p data_root '/data/my sets'") not in (plain, one)
    assert fingerprint(monkeypatch, "-p seed 010") == fingerprint(monkeypatch, "-p seed 10")
    assert fingerprint(monkeypatch, "-y 'seed: 010'") == fingerprint(monkeypatch, "-p seed 8")


def test_several_runs_have_the_same_changes(folder, monkeypatch):
    monkeypatch.setenv("MILIB_RUN", " digits c10_compact ")
    monkeypatch.setenv("MILIB_ARGS", "-p seed 3")
    found = arguments.studies()
    assert [(each.file.stem, each.run.run, each.run.seed) for each in found] == [
        ("digits", "digits", 3),
        ("c10_compact", "c10_compact", 3),
    ]
    monkeypatch.setenv("MILIB_ARGS", "-p run both")
    with pytest.raises(UserError, match="the run 'both' twice"):
        arguments.studies()


def test_a_file_from_elsewhere_decides_its_run(folder, monkeypatch):
    monkeypatch.setenv("MILIB_ARGS", "-f 'my file.yaml'")
    monkeypatch.setenv("MILIB_RUN", "digits")
    path, _, run = arguments.studies()[0]
    assert path == ROOT / "params" / "digits.yaml" and (run.run, run.lr) == ("other", 0.5)
