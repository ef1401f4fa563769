"""A defense, a loss, a data set and a net of one's own: `extension` names their file."""

import html
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import project_copy
import pytest
import test_runs
import yaml

from milib import data, defenses, losses, models, register
from milib.errors import UserError
from milib.study import claims, extension, jobs, params, paths, weights
from milib.study.store import Store, read_record

ROOT = paths.project_root()
FILE = Path(__file__).with_name("extension.py")
OWN = {"run": "mine", "extension": str(FILE), "data": "stripes", "classes": 5, "model": "plain"}
OWN |= {"paper_table": "none", "extra_models": False}
TABLES = (data.SOURCES, defenses.DEFENSES, losses.OF_DRAWS, losses.OF_MEAN, models.ARCHITECTURES)
NAMES = ("quantised", "squared", "stripes", "plain")


@pytest.fixture(autouse=True)
def tables():
    """What is registered here is forgotten afterwards."""
    kept = [*TABLES, register.own, extension._texts, extension._from]
    before = [dict(table) for table in kept]
    yield
    for table, content in zip(kept, before, strict=True):
        table.clear()
        table.update(content)


def changed(tmp_path: Path, old: str, new: str) -> dict:
    """The fingerprints of all names once the extension was changed in a place."""
    text = FILE.read_text()
    assert text.count(old) == 1
    (tmp_path / "own.py").write_text(text.replace(old, new))
    params.build(OWN | {"extension": str(tmp_path / "own.py")})
    return extension.used({"names": list(NAMES)})["extension"]


CHANGES = {
    "a docstring": ("Pixels rounded to", "Pixels, rounded to", None),
    "the defense": ("self.levels + noise", "self.levels - noise", "quantised"),
    "its limits": ("Limits(1, 255)", "Limits(2, 255)", "quantised"),
    "the loss": ("** 2", "** 3", "squared"),
    "the data": ("0, 20, (count", "0, 21, (count", "stripes"),
    "the net": ("nn.ReLU()", "nn.ReLU6()", "plain"),
}


@pytest.mark.parametrize(("old", "new", "touched"), CHANGES.values(), ids=CHANGES)
def test_a_change_touches_what_names_it_alone(old, new, touched, tmp_path):
    params.build(OWN)
    before = extension.used({"names": list(NAMES)})["extension"]
    after = changed(tmp_path, old, new)
    assert {name for name in NAMES if before[name] != after[name]} == {touched} - {None}


def test_a_record_of_a_changed_defense_is_computed_again(tmp_path):
    params.build(OWN)
    store, made = Store(tmp_path / "run", tmp_path / "none", "04_oblivious"), []
    rows = [{"model": "mixup", "defense": name} for name in ("quantised", "guo")]

    def record(row: dict) -> None:
        store.record(f"score-{row['defense']}", {"row": row}, lambda: made.append(row) or {})

    for _ in range(2):
        for row in rows:
            record(row)
    assert made == rows
    changed(tmp_path, "self.levels + noise", "self.levels - noise")
    for row in rows:
        record(row)
    assert made == [*rows, rows[0]]


def test_recipes_name_their_data_and_net(tmp_path):
    whole = params.build(OWN)
    assert set(weights.recipe(whole, "mixup")["extension"]) == {"stripes", "plain"}
    usual = params.build(OWN | {"data": "digits", "classes": 10, "model": "small"})
    assert "extension" not in weights.recipe(usual, "mixup")


def test_a_notebook_is_run_again_where_the_extension_was_changed(tmp_path):
    found = []
    for old, new in (("class Quantised", "# a comment\nclass Quantised"), ("** 2", "** 3")):
        changed(tmp_path, old, new)
        own = params.build(OWN | {"extension": str(tmp_path / "own.py")})
        found.append(jobs.fingerprint("04_oblivious", own))
    assert found[0] != found[1]
    assert jobs.resources(own)["mem_mb"] == jobs.ASKED["resnet50"]["mem_mb"]


WRONG = {
    "no such file": ("nowhere.py", "", "nowhere.py cannot be read"),
    "another type": (3, "", "extension is 3"),
    "no Python": ("own.py", "x = (", "line 1: SyntaxError"),
    "an error": ("own.py", "import os\n1 / 0\n", "line 2: ZeroDivisionError"),
    "a wrong registration": (
        "own.py",
        "from milib import register\n\nregister.loss('ce', len, of='mean')\n",
        "line 3: loss 'ce' is the library's own",
    ),
}


@pytest.mark.parametrize(("given", "text", "words"), WRONG.values(), ids=WRONG)
def test_an_extension_that_cannot_be_used_ends_in_one_line(given, text, words, tmp_path):
    (tmp_path / "own.py").write_text(text)
    name = str(tmp_path / given) if isinstance(given, str) else given
    with pytest.raises(UserError) as found:
        params.build({"run": "mine", "extension": name})
    assert words in str(found.value)
    assert "\n" not in str(found.value)


def test_a_name_that_no_file_explains_is_kept_in_no_record():
    register.loss("mine", lambda log, label: log[:, 0], of="mean")
    with pytest.raises(UserError, match="'mine' was registered outside"):
        extension.used({"settings": {"loss": "mine"}})


# Data that are not the paper's


def test_other_data_stand_beside_no_table_of_the_paper():
    for table in ("table2_cifar10", "table3_cifar100"):
        with pytest.raises(UserError, match="data is stripes: write paper_table none"):
            params.build(OWN | {"paper_table": table})
    with pytest.raises(UserError, match="of cifar10, and data is cifar100"):
        params.build({"data": "cifar100", "classes": 100, "paper_table": "table2_cifar10"})
    assert not params.build(OWN).evidence
    assert not params.build({}).evidence
    assert params.build({"data": "cifar10", "paper_table": "table2_cifar10"}).evidence
    assert not params.build({"data": "cifar10", "paper_table": "none"}).evidence


def test_claims_about_the_paper_are_not_measured_on_other_data(tmp_path):
    class Other:
        params, notebook = params.build(OWN), "04_oblivious"

    judged = claims.judge(Other, {})  # no evidence is asked for, and no record is kept
    assert len(judged) > 2
    assert {claim["verdict"] for claim in judged} == {"not measured"}
    assert all(claim["comparisons"] == [] for claim in judged)


@pytest.mark.slow
def test_a_run_with_all_of_them(tmp_path):
    """By `make study`, with its report; nothing of the paper stands beside it."""
    run = yaml.safe_load((ROOT / "params" / "digits.yaml").read_text())
    for key, value in test_runs.TINY.items():
        run[key] = yaml.safe_load(value) if isinstance(value, str) else value
    run |= OWN | {"extension": "own/extension.py"}
    run["rows"].append({"model": "mixup", "defense": "quantised", "levels": 8})
    run["grids"]["quantised"] = [4, 16]
    project = tmp_path / "project"
    project_copy.make(
        project, ("01_train_mixup", "04_oblivious", "06_tradeoff", "07_adaptive_attacks")
    )
    (project / "own").mkdir()
    shutil.copy(FILE, project / "own")
    (project / "params" / "mine.yaml").write_text(yaml.safe_dump(run))
    given = {"MILIB_OUTPUTS": str(tmp_path), "MILIB_RUN": "mine", "PYTHONPATH": str(project)}
    given |= {"MILIB_ARGS": "", "MILIB_PROFILE": ""}
    done = subprocess.run(
        [sys.executable, "-m", "milib.study.launch"],
        cwd=project,
        env=os.environ | given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    folder, records = tmp_path / "mine", {}
    for path in folder.glob("records/*.json"):
        records[path.name.rsplit("-", 1)[0]] = read_record(path)
    scored = records["score-mixup-quantised"]
    assert scored["result"]["row"]["levels"] in (4.0, 16.0)  # matched on held-out images
    assert set(scored["identity"]["extension"]) == {"quantised", "stripes"}
    settings = records["tradeoff-mixup-quantised"]["result"]["settings"]
    assert [point["levels"] for point in settings] == [4.0, 16.0]
    assert {"adaptive-mixup-squared-1", "adaptive-interpolated_at-squared-2"} <= set(records)
    assert not any(name.startswith("claims") for name in records)
    caption = json.loads((folder / "figures" / "fig4.json").read_text())["models"]
    assert "mixup: plain net, 1 epochs" in caption
    tables = {path.stem: path.read_text() for path in folder.glob("tables/*.csv")}
    assert "squared" in tables["adaptive"].splitlines()[0]
    assert "Quantised" in tables["oblivious"]
    heads = "".join(text.splitlines()[0] for text in tables.values())
    assert "paper" not in heads + caption
    page = (folder / "index.html").read_text("utf-8")
    assert "Quantised" in page and "squared" in page
    assert "On other data none is judged" in page and "Of the claims" not in page
    assert "paper's values" not in html.unescape(page) and "table_against_paper" not in page
