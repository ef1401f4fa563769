"""What a run reads is what was asked for: weights, code and commit that are others are refused."""

import ast
import os
import shutil
import subprocess
import sys

import pytest
import torch

from milib import data, files, training
from milib.errors import UserError
from milib.study import checkpoints, identity, ledger, made, params, paths, pinned, train
from milib.study.study import Study
from milib.study.weights import recipe

OVERRIDES = {"epochs": 1, "n_train": 200, "n_test": 20}


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
    """The outputs of a run of seconds with trained ERM and mixup."""
    outputs = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MILIB_OUTPUTS", str(outputs))
        study = Study(params.load(root / "params" / "digits.yaml", OVERRIDES), "test")
        study.require("erm", "mixup")
    return outputs


@pytest.fixture
def study(root, finished, tmp_path, monkeypatch):
    """A study on a copy of that run; its curated run is an empty folder."""
    shutil.copytree(finished, tmp_path / "outputs")
    monkeypatch.setenv("MILIB_OUTPUTS", str(tmp_path / "outputs"))
    found = Study(params.load(root / "params" / "digits.yaml", OVERRIDES), "test")
    found.store.reference = tmp_path / "reference"
    return found


def refused(study: Study, words: str) -> None:
    """Mixup's weights are refused in one line that names their file, and not trained anew."""
    path = study.models.find("mixup")
    with pytest.raises(UserError) as caught:
        study.model("mixup")
    assert str(caught.value) == f"{path} {words}: delete it and run again"


# Weights


def test_weights_of_another_model_under_this_ones_name(study):
    shutil.copy(study.models.find("erm"), study.models.find("mixup"))
    refused(study, "holds erm's weights, not mixup's")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_not_finite(study, value):
    path = study.models.find("mixup")
    weights, header = files.read_tensors(path)
    weights[sorted(weights)[-1]].view(-1)[-1] = value
    files.write_tensors(path, weights, header)
    refused(study, "holds NaN or inf")


@pytest.mark.parametrize("kind", ["missing", "extra", "shape", "whole"])
def test_tensors_of_another_net(study, kind):
    path = study.models.find("mixup")
    weights, header = files.read_tensors(path)
    name = next(name for name, value in weights.items() if value.is_floating_point())
    value = weights.pop(name)
    if kind != "missing":
        weights[name] = {
            "extra": value,
            "shape": torch.cat([value, value]),
            "whole": value.long(),
        }[kind]
    if kind == "extra":
        weights["more"] = value
    files.write_tensors(path, weights, header)
    refused(study, "holds the tensors of another net than small")


@pytest.mark.parametrize(
    ("part", "other", "words"),
    [
        ("recipe", {"seed": 1}, "was trained with seed 1, not 0"),
        ("recipe", {"version": 0}, f"was trained with version 0, not {training.VERSION}"),
        ("recipe", {"more": 1}, "was trained with more 1, not None"),
        ("trained", {"data": "0" * 16}, "was trained on other images than digits has here"),
        (
            "trained",
            {"precision": "bf16"},
            "was trained with precision bf16, not fp32 (or name another run)",
        ),
        (
            "trained",
            {"device": "cuda"},
            "was trained with device cuda, not cpu (or name another run)",
        ),
        ("trained", None, "does not say how its weights were trained"),
        ("recipe", None, "does not say how its weights were trained"),
        ("log", None, "was not trained to its end"),
    ],
)
def test_weights_of_another_training(study, part, other, words):
    path = study.models.find("mixup")
    weights, header = files.read_tensors(path)
    header[part] = header[part] | other if other else []
    files.write_tensors(path, weights, header)
    refused(study, words)


def test_other_images_under_the_same_data_sets_name(study, monkeypatch):
    load = data.load

    def changed(*args, **options) -> data.Splits:
        splits = load(*args, **options)
        splits.train.images[0, 0, 0, 0] ^= 1
        return splits

    monkeypatch.setattr(data, "load", changed)
    refused(study, "was trained on other images than digits has here")


def test_an_intact_file_is_read_and_says_what_it_is(study):
    path = study.models.find("mixup")
    _, header = files.read_tensors(path)
    assert header["recipe"] == recipe(study.params, "mixup")
    assert header["trained"] == {
        "data": study.splits.fingerprint,
        "precision": "fp32",
        "device": "cpu",
    }
    assert study.model("mixup").log == header["log"]
    first = path.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()[0]
    assert '"trained": {"data": ' in first


def test_shipped_weights_may_come_from_another_machine_and_not_from_other_images(study):
    """They are used on every machine; those in the run's own folder are this machine's."""
    own, shipped = study.models.find("mixup"), study.store.reference / "checkpoints"
    weights, header = files.read_tensors(own)
    own.unlink()
    elsewhere = header["trained"] | {"precision": "bf16", "device": "cuda"}
    files.write_tensors(shipped / own.name, weights, header | {"trained": elsewhere})
    assert study.model("mixup").weights == files.tensors_digest(weights)
    study.models.loaded.clear()
    other = header | {"trained": elsewhere | {"data": "0" * 16}}
    files.write_tensors(shipped / own.name, weights, other)
    refused(study, "was trained on other images than digits has here")


def test_what_would_be_refused_is_not_shipped(study, tmp_path):
    shutil.copy(study.models.find("erm"), study.models.find("mixup"))
    with pytest.raises(UserError, match="holds erm's weights, not mixup's"):
        train.ship(study, "mixup", tmp_path / "shipped")
    assert not (tmp_path / "shipped").exists()


def test_weights_are_shipped_with_their_log(study, tmp_path):
    study.models.find("mixup").with_suffix(".jsonl").unlink()
    with pytest.raises(UserError, match=r"mixup.*\.jsonl is missing"):
        train.ship(study, "mixup", tmp_path / "shipped")
    assert not (tmp_path / "shipped").exists()


def test_a_checkpoint_in_place_of_an_unfinished_training(study):
    """One line before anything is estimated or trained."""
    path = study.models.find("mixup")
    shutil.copytree(path.parent, path.parents[1] / "state")
    path.unlink()
    with pytest.raises(UserError, match="delete it and run again") as caught:
        study.require("mixup")
    assert str(study.models.state_path("mixup")) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parts_of_an_unfinished_training_that_lack_their_end(study):
    """The copy is removed, so that better parts are taken the next time."""
    path = study.models.find("mixup")
    parts = study.store.reference / "state" / path.name
    files.write_parts(parts, path.read_bytes()[:-10])
    path.unlink()
    with pytest.raises(UserError, match="or copy all again") as caught:
        study.require("mixup")
    assert str(parts) in str(caught.value) and not study.models.state_path("mixup").exists()


def asked_for(folder: str, name: str) -> list[dict]:
    """The recipes of a model in the runs that read shipped weights from a folder."""
    found = [params.load(paths.parameter_file(run)) for run in paths.runs()]
    return [recipe(run, name) for run in found if folder in (run.run, run.weights_of)]


def test_committed_weights_say_what_they_are(root):
    """Their names are their recipes', and they were trained to their end."""
    found = sorted((root / "outputs" / "reference").glob("*/checkpoints/*.safetensors"))
    assert len(found) >= 9
    for path in found:
        header = files.read_tensors(path)[1]
        name, _, digest = path.stem.rpartition("-")
        recipes = {files.digest(each): each for each in asked_for(path.parents[1].name, name)}
        settings = recipes[digest]
        channels, wanted = 3, {"data": header["trained"]["data"]}
        checkpoints.read(path, settings, wanted, channels)
        assert header["trained"].keys() == {"data", "precision", "device"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("run", "count"),
    [("c10", 1), ("c10_500", 2), ("c10_compact", 4), ("c10_compact_seed1", 2), ("c100_compact", 2)],
)
def test_committed_weights_are_of_the_official_images(
    root, cifar_root, tmp_path, run, count, monkeypatch
):
    monkeypatch.setenv("MILIB_OUTPUTS", str(tmp_path))
    overrides = {"data_root": str(cifar_root), "device": "cpu", "precision": "fp32"}
    study = Study(params.load(root / "params" / f"{run}.yaml", overrides), "test")
    found = {name: study.models.find(name) for name in training.MODELS}
    shipped = {name: path for name, path in found.items() if path is not None}
    assert len(shipped) == count
    for name, path in shipped.items():
        study.models.read(name, path)


# The training code


def change(monkeypatch, module: str, before: str, after: str) -> None:
    """Another text in the one place of a module where `before` stands."""
    source = identity.SOURCES[module]
    assert source.count(before) == 1, (module, before)
    monkeypatch.setitem(identity.SOURCES, module, source.replace(before, after))


def test_the_pinned_meaning_is_that_of_the_training_code():
    assert identity.training_digest() == pinned.TRAINING, (
        "the training code was changed: raise training.VERSION, unless it gives the same weights; "
        "then run: python -m milib.study.identity"
    )


DECIDING = {
    "milib.training": ("(self.epoch + self.step /", "(self.epoch - self.step /"),
    "milib.recipes": ("math.cos(", "math.sin("),
    "milib.models": ("((32, 64), (64, 128))", "((32, 64), (64, 127))"),
    "milib.data": ("uniform[:, 2:] < 0.5", "uniform[:, 2:] > 0.5"),
    "milib.study.device": ("matmul.allow_tf32 = tf32", "matmul.allow_tf32 = not tf32"),
}
BESIDE = {
    "milib.data": ("DIGITS_TEST = 397", "DIGITS_TEST = 398"),
    "milib.training": ("A model in training: ", "A net in training: "),
    "milib.inference": ("def flops(", "def operations("),
}
"""A reader (images have a fingerprint of their own), a docstring, what training does not name."""


@pytest.mark.parametrize("module", DECIDING)
def test_changed_training_code_uses_no_weights(study, monkeypatch, module):
    monkeypatch.setattr(pinned, "TRAINING", identity.training_digest())
    change(monkeypatch, module, *DECIDING[module])
    with pytest.raises(
        UserError, match=r"raise training\.VERSION.*python -m milib\.study\.identity"
    ):
        study.model("mixup")


@pytest.mark.parametrize("module", BESIDE)
def test_what_decides_no_weights_changes_nothing(study, monkeypatch, module):
    monkeypatch.setattr(pinned, "TRAINING", identity.training_digest())
    change(monkeypatch, module, *BESIDE[module])
    study.model("mixup")


def test_another_version_is_another_meaning(monkeypatch):
    before = identity.training_digest()
    line = f"VERSION = {training.VERSION}\n"
    change(monkeypatch, "milib.training", line, f"VERSION = {training.VERSION + 1}\n")
    assert identity.training_digest() != before


def test_no_module_that_training_reaches_is_left_out():
    """The package itself imports everything: what training itself imports is asked for."""
    aside = {
        "milib.errors": "raises",
        "milib.files": "keeps",
        "milib.shapes": "annotations",
    }
    met, left = set(), {"milib.training"}
    while left:
        name = left.pop()
        met.add(name)
        left |= identity.imported(identity.SOURCES[name]) - met - {"milib"}
    assert met == (set(identity.TRAINING) - {"milib.study.device"}) | set(aside)


def test_the_command_writes_the_pin(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(identity, "PACKAGE", tmp_path)
    identity.main()
    text = (tmp_path / "study" / "pinned.py").read_text(encoding="utf-8")
    names: dict = {}
    exec(text, names)
    assert names["TRAINING"] == identity.training_digest()
    assert capsys.readouterr().out == f"pinned: {names['TRAINING']}\n"
    assert text.splitlines()[0] == identity.SOURCES["milib.study.pinned"].splitlines()[0]


# Meaning is that of every version of Python

SOURCE = """
def f(x: int = 1, *, more=None) -> str:
    return f"{x!r:>{more}} and {x=}" + u"\\U0001fae8" + "é"


class Pair(tuple, metaclass=type): ...
"""


def test_meaning_does_not_depend_on_pythons_version(monkeypatch):
    """The text is ASCII; fields that only some versions have, and empty text, change nothing."""
    before, parse = identity.meaning.__wrapped__(SOURCE), ast.parse
    assert before.isascii()
    assert files.digest(before) == "7382a70b92cfae9c"

    def other_version(source: str) -> ast.Module:
        tree = parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                node.type_params = []
                node._fields = (*type(node)._fields, "type_params", "not_yet")
                node.not_yet = None
            if isinstance(node, ast.JoinedStr):
                node.values = [ast.Constant(""), *node.values]
            if isinstance(node, ast.Constant):
                node.kind = None
        return tree

    monkeypatch.setattr(ast, "parse", other_version)
    assert identity.meaning.__wrapped__(SOURCE) == before


# Provenance


def git(folder, *words: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *words]
    own = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull}  # a user's hooks and signatures stay away
    return subprocess.run(
        command, cwd=folder, env=own, capture_output=True, text=True, check=True
    ).stdout


def project(folder, monkeypatch):
    """A project of nothing but its marks, as the one that runs."""
    for name in ("params/digits.yaml", "notebooks/01.ipynb", "milib/__init__.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    monkeypatch.setattr(made, "project_root", lambda: folder)
    monkeypatch.setattr(made, "PACKAGE", folder / "milib")
    return folder


def commit_of(folder) -> str:
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "--allow-empty", "-m", "x")
    return git(folder, "rev-parse", "--short", "HEAD").strip()


def test_the_commit_of_a_repository_around_the_project_is_not_its_own(tmp_path, monkeypatch):
    commit_of(tmp_path)
    inner = project(tmp_path / "größe" / "study", monkeypatch)
    assert made.commit.__wrapped__() is None
    assert made.commit.__wrapped__() is None, "nor with the project's files in that repository"
    own = commit_of(inner)
    assert made.commit.__wrapped__() == own


@pytest.mark.parametrize("file", ["milib/rng.py", "params/mine.yaml", "notebooks/01.ipynb"])
def test_a_changed_tree_says_so(tmp_path, monkeypatch, file):
    own = commit_of(project(tmp_path, monkeypatch))
    (tmp_path / "README.md").write_text("words decide nothing")
    assert made.commit.__wrapped__() == own
    (tmp_path / file).write_text("changed")
    assert made.commit.__wrapped__() == f"{own}, changed"


def test_a_hooks_variables_name_no_other_repository(tmp_path, monkeypatch):
    other, inner = tmp_path / "other", tmp_path / "inner"
    own = commit_of(project(inner, monkeypatch))
    other.mkdir()
    commit_of(other)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert made.commit.__wrapped__() == own


def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
    commit_of(project(tmp_path, monkeypatch))
    monkeypatch.setenv("PATH", "")
    assert made.commit.__wrapped__() is None


def test_code_of_one_copy_and_parameters_of_another_are_refused(tmp_path, monkeypatch):
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        commit_of(project(folder, monkeypatch))
    monkeypatch.setattr(made, "PACKAGE", one / "milib")
    with pytest.raises(UserError) as caught:
        made.commit.__wrapped__()
    assert str(one) in str(caught.value) and str(other) in str(caught.value)
    (one / "params" / "digits.yaml").unlink()  # a folder of packages: no project
    assert made.commit.__wrapped__() is None


def test_a_study_of_two_copies_does_not_begin(root, tmp_path):
    """In a process of its own, in whose path another copy's package comes first."""
    for folder in ("milib", "params"):
        shutil.copytree(root / folder, tmp_path / folder)
    (tmp_path / "notebooks").mkdir()
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from milib.study import params, paths, study\n"
        "study.Study(params.load(paths.project_root() / 'params' / 'digits.yaml'), 'x')\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode and last.startswith("milib.errors.UserError: milib of "), last
    assert str(tmp_path) in last and str(root) in last


# The ledger


@pytest.mark.parametrize("content", [None, b"", b"- id: 1", b"{", b"- 1", b"gr\xf6\xdfe", b"5"])
def test_a_damaged_ledger_ends_in_one_line(tmp_path, monkeypatch, content):
    path = tmp_path / "ledger.yaml"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(ledger, "LEDGER", path)
    with pytest.raises(SystemExit) as caught:
        ledger.main(["1"])
    assert str(caught.value) == f"UserError: {path} is damaged: take it from git"
