"""Wrong parameters: whatever is written where a run is described works, or ends in one line."""

import base64
import dataclasses
import math
import os
import subprocess
import sys
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from test_params import KEYS, MI, RANGES, ROW

from milib.defenses import DEFENSES
from milib.errors import UserError
from milib.study import device, experiments, params, paths, train
from milib.study.study import Study
from milib.views import explorers

DIGITS = paths.parameter_file("digits")


def line(act, *words: str) -> str:
    """The one line in which something ends, with words that must stand in it."""
    with pytest.raises(UserError) as error:
        act()
    found = str(error.value)
    assert "\n" not in found and len(found) < 500
    for word in words:
        assert word in found, found
    return found


# Values

NAN, INF = float("nan"), float("inf")
VALUES = [
    ("epsilon", "1e999999999"),
    ("epsilon", "1/1e99999"),
    ("epsilon", "1e-999999999"),
    ("epsilon", "8/0"),
    ("epsilon", "8/255/2"),
    ("epsilon", "/"),
    ("epsilon", "8//255"),
    ("epsilon", ""),
    ("epsilon", "nan"),
    ("epsilon", "-inf"),
    ("epsilon", "0x1p-3"),
    ("epsilon", "8/255 "[::-1] + "x"),
    ("epsilon", NAN),
    ("epsilon", -INF),
    ("epsilon", 0),
    ("epsilon", 8),
    ("epsilon", -0.1),
    ("epsilon", None),
    ("epsilon", True),
    ("epsilon", [0.1]),
    ("epsilon", {"value": 0.1}),
    ("epsilon", 1j),
    ("step_size", 0),
    ("train_step_size", "0"),
    ("fig5_epsilon", 0.0),
    ("max_hours", INF),
    ("lr", 0),
    ("lr_interpolated", 0),
    ("lr", NAN),
    ("lr", "0,1"),
    ("seed", -1),
    ("seed", 0.5),
    ("seed", 10**400),
    ("seed", -(10**5000)),
    ("seed", "9" * 5000),
    ("seed", False),
    ("seed", "1e400"),
    ("epochs", 0),
    ("epochs", "sixty"),
    ("epochs", "1" * 10**6),
    ("momentum", 1),
    ("momentum", 0),
    ("nesterov", 1),
    ("nesterov", 0.0),
    ("nesterov", "yess"),
    ("nesterov", None),
    ("nesterov", "[true]"),
    ("steps", 10),
    ("steps", []),
    ("steps", [0, 10]),
    ("steps", [20, 50]),
    ("steps", [10, 10]),
    ("steps", [10, 200, 50]),
    ("steps", [10.5]),
    ("steps", [[10]]),
    ("steps", {"10": 1}),
    ("steps", "10"),
    ("steps", "[10, 10"),
    ("steps", "[" * 10**4),
    ("steps", "[10, 20]\n---\n[10]"),
    ("steps", "\0"),
    ("steps", range(10, 20, 10)),
    ("fig2_ratios", [0.5, 1.5]),
    ("fig2_ratios", [True]),
    ("adaptive_samples", [None]),
    ("device", "gpu"),
    ("device", "cpu:7"),
    ("device", "cuda:-1"),
    ("device", "cuda:"),
    ("device", "CUDA"),
    ("device", "cuda:0\n"),
    ("device", ""),
    ("device", None),
    ("model", "resnet"),
    ("model", 50),
    ("model", ["small"]),
    ("data", "mnist"),
    ("pool", ""),
    ("data_root", 5),
    ("data_root", False),
    ("data_root", ["a"]),
    ("data_root", "a\0b"),
    ("data_root", "a\nb"),
    ("grids", None),
    ("grids", [MI]),
    ("grids", {}),
    ("grids", MI | {1: [0.5]}),
    ("grids", MI | {"rotation": 5}),
    ("grids", MI | {"rotation": []}),
    ("grids", MI | {"rotation": [NAN]}),
    ("grids", MI | {"xie": [[6, 8, 8]]}),
    ("grids", MI | {"xie": [[6.5, 8]]}),
    ("grids", MI | {"xie": [["a", "b"]]}),
    ("grids", "{mi_pl: [0.5], mi_pl: [0.4], mi_ol: [0.5]}"),
    ("rows", None),
    ("rows", []),
    ("rows", {}),
    ("rows", ROW),
    ("rows", [None]),
    ("rows", [[ROW]]),
    ("rows", ["mixup"]),
    ("rows", [{}]),
    ("rows", [ROW | {"ratio": NAN}]),
    ("rows", [ROW | {"ratio": [0.6, 0.4]}]),
    ("rows", [ROW | {"ratio": True}]),
    ("rows", [ROW | {"ratio": None}]),
    ("rows", [ROW | {"model": {}}]),
    ("rows", [ROW | {"defense": ["mi_ol"]}]),
    ("rows", [ROW | {3: 4}]),
    ("rows", [ROW | {"sigma": 0.1}]),
    ("run", ""),
    ("run", ".."),
    ("run", "../elsewhere"),
    ("run", "a/b"),
    ("run", "/tmp/x"),
    ("run", ".hidden"),
    ("run", "-p"),
    ("run", "reference"),
    ("run", "Reference"),
    ("run", "two words"),
    ("run", "a\n"),
    ("run", "é"),
    ("run", "x" * 101),
    ("run", None),
    ("run", True),
    ("run", ["a"]),
]


def name_of(value) -> str:
    return ascii(str(value)[:20]) if not isinstance(value, int) else "number"


@pytest.mark.parametrize(("name", "value"), VALUES, ids=name_of)
def test_a_wrong_value_is_one_line(name, value):
    started = time.process_time()
    found = line(lambda: params.build({"run": "mine"} | {name: value}), name)
    assert time.process_time() - started < 5
    assert name == "run" or found.startswith("run 'mine': ")


@pytest.mark.parametrize("key", [1, None, "", "é", "a\nb", "x" * 10**5, (1, 2), True, 0.5])
def test_a_key_of_any_kind_is_one_line(key):
    line(lambda: params.build({"run": "mine", key: 1}), "run 'mine'", "unknown key", "nearest")


def test_there_are_enough_of_them():
    assert len(VALUES) + len(FILES) + len(COMMANDS) > 120
    assert {name for name, _ in VALUES} <= set(KEYS)


# Files

FILES = {
    "empty": (b"", "`key: value`"),
    "null": (b"null", "`key: value`"),
    "list": (b"- run: mine", "`key: value`"),
    "word": (b"digits", "`key: value`"),
    "comment": (b"# nothing\n", "`key: value`"),
    "latin-1": ("run: mine # für\n".encode("latin-1"), "UTF-8"),
    "utf-16": ("run: mine".encode("utf-16"), "UTF-8"),
    "nul": (b"run: mine\0", "not YAML"),
    "bytes": (bytes(range(256)), "UTF-8"),
    "tab": (b"run: mine\n\tseed: 1", "line 2"),
    "unclosed": (b"steps: [10", "not YAML"),
    "two documents": (b"seed: 1\n---\nseed: 2", "line 2"),
    "twice": (b"seed: 1\nrun: mine\nseed: 2", "'seed' stands twice (lines 1 and 3)"),
    "twice, quoted": (b"seed: 1\n'seed': 1", "'seed' stands twice (lines 1 and 2)"),
    "twice, deep": (b"rows:\n- a:\n    b: 1\n    b: 1", "'b' stands twice (lines 3 and 4)"),
    "twice, one line": (b"grids: {mi_ol: [1], mi_ol: [1]}", "'mi_ol' stands twice (line 1)"),
    "deep": (b"seed: " + b"[" * 10**4 + b"]" * 10**4, "nested too deep"),
    "deep maps": (b"{a: " * 3000, "nested too deep"),
    "reference": (b"a: &x [1]\nsteps: *x", "line 2: *x is a reference"),
    "endless": (b"a: &x [*x]", "*x is a reference"),
    "long number": (b"seed: " + b"9" * 5000, "not YAML"),
    "python": (b"seed: !!python/object/apply:os.getcwd []", "not YAML"),
    "other tag": (b"seed: !!int x", "not YAML"),
    "no truth": (b"nesterov: !!bool perhaps", "not YAML"),
    "unknown key": (b"run: mine\nepohcs: 3", "unknown key 'epohcs'"),
    "no run's name": (b"run: 010", "run is 8"),
}


@pytest.mark.parametrize(("content", "word"), FILES.values(), ids=FILES)
def test_a_wrong_file_is_one_line(tmp_path, content, word):
    path = tmp_path / "params" / "mine.yaml"
    path.parent.mkdir()
    path.write_bytes(content)
    if word.startswith(("unknown", "run is")):
        project(tmp_path, content)
        return
    line(lambda: params.load(path), str(path), word)


def project(folder, content: bytes) -> None:
    """What is wrong with a file in its place, the folder params/ of a project."""
    (folder / "notebooks").mkdir()
    (folder / "params" / "digits.yaml").write_bytes(DIGITS.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        line(lambda: params.load(paths.parameter_file("mine")), "mine")


def test_what_is_no_file_is_one_line(tmp_path):
    line(lambda: params.load(tmp_path), str(tmp_path), "cannot be read")
    line(lambda: params.load(tmp_path / "none.yaml"), "none.yaml does not exist", "digits")
    line(lambda: params.load(DIGITS / "x.yaml"), "x.yaml", "cannot be read")
    line(lambda: params.load(tmp_path / ("x" * 300)), "cannot be read")
    line(lambda: params.load(tmp_path / "a\0b"), "cannot be read", "null byte")
    line(lambda: params.load(tmp_path / "a\nb"), r"a\nb' does not exist")


def test_a_file_in_params_is_named_after_its_run(tmp_path, monkeypatch):
    """Elsewhere its run decides."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "params").mkdir()
    text = DIGITS.read_text("utf-8")
    for place in (tmp_path, tmp_path / "params"):
        (place / "digits.yaml").write_text(text)
        (place / "copy.yaml").write_text(text)
    (tmp_path / "params" / "none.yaml").write_text("seed: 1")
    (tmp_path / "params" / "2024.yaml").write_text(text.replace("run: digits", "run: 2024"))
    monkeypatch.chdir(tmp_path)
    load = params.load
    wanted = 'write run: "copy"'
    line(lambda: load(paths.parameter_file("copy")), "copy.yaml", "run is 'digits'", wanted)
    line(lambda: load(paths.parameter_file("none")), "none.yaml", "run is None", '"none"')
    assert load(paths.parameter_file("2024")).run == "2024"
    assert load(tmp_path / "copy.yaml").run == "digits"
    assert load(paths.parameter_file("digits"), {"run": "another"}).run == "another"


def test_files_are_utf_8_whatever_the_locale_says(tmp_path):
    (tmp_path / "mine.yaml").write_bytes("data_root: für\n".encode())
    program = f"from milib.study import params; print(ascii(params.load('{tmp_path}/mine.yaml')))"
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", program],
        env=os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "data_root='f\\xfcr'" in done.stdout, done.stderr


# The command of a model's job; ARGS are in test_arguments

COMMANDS = {
    "": "RUN",
    "digits": "MODELS",
    "nope erm": "nope.yaml does not exist",
    "../digits erm": "run is '../digits'",
    "digits ern": "MODEL is 'ern'",
    "digits erm -p epochs": "'-p' requires 2 arguments",
    "digits erm -p epohcs 1": "unknown key 'epohcs'",
    "digits erm -p epochs 0": "epochs is 0",
    "digits erm -r lr nan": "lr is 'nan'",
    "digits erm -y [1": "-y '[1' is not YAML",
    "digits erm -b x": "-b 'x'",
    "digits erm -f nowhere.yaml": "nowhere.yaml does not exist",
    "digits erm --unknown": "--unknown",
    "digits erm -p device cuda:-1": "device is 'cuda:-1'",
}


@pytest.mark.parametrize(("words", "word"), COMMANDS.items(), ids=COMMANDS)
def test_a_wrong_command_is_one_line(words, word):
    line(lambda: train.main(words.split()), word)


def test_help_is_no_error(capsys):
    with pytest.raises(SystemExit) as ended:
        train.main(["--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0 and "--ship" in said and "--parameters_yaml" in said


# Over the ranges

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.text(max_size=20),
    st.floats(-2, 2).map(str),
    st.integers(-3, 300).map(str),
    st.sampled_from([*DEFENSES, "erm", "mixup", "8/255", "[10, 50]", "true", "auto", "cuda:1"]),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)


def assert_in_range(run: params.Params) -> None:
    """Every value of a run has its type and lies in its range."""
    for spec in dataclasses.fields(params.Params):
        value, allowed = getattr(run, spec.name), spec.metadata
        values = value if isinstance(value, tuple) else (value,)
        assert values
        for each in values:
            if allowed["low"] is not None:
                assert type(each) in (int, float) and math.isfinite(each)
                assert allowed["low"] <= each <= allowed["high"]
            if allowed["choices"]:
                assert each in allowed["choices"]
    for row in run.rows:
        assert set(row) == {"model", "defense", *DEFENSES[row["defense"]].settings}
    assert params.build(dataclasses.asdict(run)) == run


@given(st.sampled_from(KEYS), ANYTHING)
def test_any_value_for_any_key_works_or_is_one_line(name, value):
    try:
        found = params.build({name: value})
    except UserError as error:
        assert "\n" not in str(error) and name in str(error)
    else:
        assert_in_range(found)


ROWS = st.lists(
    st.dictionaries(
        st.sampled_from(["model", "defense", "ratio", "sigma", "sizes", "threshold", "x"]),
        st.one_of(SCALARS, st.lists(SCALARS, max_size=3)),
    ),
    max_size=3,
)
GRIDS = st.dictionaries(
    st.sampled_from([*DEFENSES, "x"]), st.lists(st.one_of(SCALARS, st.lists(SCALARS, max_size=3)))
)


@given(ROWS, GRIDS)
def test_any_table_works_or_is_one_line(rows, grids):
    for name, value in (("rows", rows), ("grids", MI | grids), ("rows", [ROW, *rows])):
        try:
            found = params.build({name: value})
        except UserError as error:
            assert "\n" not in str(error) and name in str(error)
        else:
            assert_in_range(found)


@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
def test_any_file_works_or_is_one_line(content):
    path = paths.outputs_root() / "any.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    try:
        assert_in_range(params.load(path))
    except UserError as error:
        assert "\n" not in str(error)


@given(st.dictionaries(st.sampled_from(KEYS), ANYTHING, max_size=3), st.data())
def test_any_words_work_or_are_one_line(values, data):
    """papermill's options as they come from a shell."""
    words = ["digits", "ern"]
    for name, value in values.items():
        text = yaml.safe_dump({name: value}) if len(repr(value)) < 4000 else "1"
        coded = base64.b64encode(text.encode()).decode()
        kinds = [["-p", name, str(value)[:50]], ["-r", name, text], ["-y", text], ["-b", coded]]
        words += data.draw(st.sampled_from(kinds))
    line(lambda: train.main(words))  # there is no such model in any case


# What lies near the bounds


@pytest.mark.parametrize("name", sorted(RANGES))
def test_both_ends_of_a_range_are_accepted(name):
    for end in RANGES[name]:
        values = [10, max(end, 11)] if name == "steps" else [end, end]
        several = isinstance(getattr(params.build({}), name), tuple)
        changes = {"nesterov": False, "n_test": 10**5, "n_heldout": 10**5}
        changes |= {name: values if several else end}
        found = params.build(changes)
        assert getattr(found, name) == (tuple(values) if several else end)
        assert_in_range(found)


@pytest.mark.parametrize(
    "name", ["a", "2024", "c10_compact", "my-run.v2", "A_b", "_", "x" * 100, 2024, 1.5]
)
def test_names_of_runs(name):
    assert params.build({"run": name}).run == str(name)


def test_rows_may_repeat():
    assert params.build({"rows": [ROW, dict(ROW), ROW | {"ratio": "1/2"}]}).rows == (ROW,) * 3


TINY = {"epochs": 1, "n_test": 10, "n_train": 200, "draws": 2, "steps": [10], "threads": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"momentum": 0, "nesterov": False, "lr": params.LEAST, "weight_decay": 0},
        {"epsilon": params.LEAST, "step_size": params.LEAST, "train_step_size": params.LEAST},
        {"epsilon": 1, "step_size": 1, "draws": 1, "draw_sets": 1, "n_test": 2},
        {"batch_size": 10**5, "chunk": 1, "alpha": 100, "seed": 2**31},
        {"batch_size": 2, "n_train": 61, "chunk": 1000, "alpha": 1e-3},
    ],
    ids=lambda change: next(iter(change)),
)
def test_values_near_the_bounds_run(change, tmp_path, monkeypatch):
    """A training, and the explorer of 05, which shows shares of epsilon."""
    monkeypatch.setenv("MILIB_OUTPUTS", str(tmp_path))
    study = Study(params.load(DIGITS, TINY | change), "bounds")
    explorers.inputs(study, {"mixup": experiments.detection(study, "mixup")})


# Other machines


def test_a_system_without_affinity_gives_all_cores(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert device.cores() == 7
    threads = []
    monkeypatch.setattr(device.torch, "set_num_threads", threads.append)
    Study(params.load(DIGITS, {"threads": 0}), "cores")
    assert threads == [7]


def test_a_card_that_is_not_there_is_one_line(monkeypatch):
    run = params.load(DIGITS, {"device": "cuda:3"})
    monkeypatch.setattr(device.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(device.torch.cuda, "device_count", lambda: 2)
    line(lambda: device.resolve_device(run), "'digits'", "cuda:3", "the last is cuda:1")
