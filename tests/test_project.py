"""The project's own lists: what is declared in two places is the same."""

import csv
import filecmp
import re
import tomllib

import pytest
import yaml

from milib import params

ROOT = params.project_root()


def requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return project["project"]["dependencies"] + project["project"]["optional-dependencies"]["study"] + project["dependency-groups"]["dev"]


def test_environment_lists_what_pyproject_lists():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert sorted(pip) == sorted(requirements())


def test_every_requirement_is_pinned():
    pinned = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert {re.split("[<>=]", name)[0] for name in requirements()} <= pinned
    assert "://" not in (ROOT / "constraints.txt").read_text()


@pytest.mark.parametrize("name", ["table2_cifar10.csv", "table3_cifar100.csv"])
def test_paper_tables_are_the_shared_ones(name):
    shared = ROOT.parent / "shared" / "paper" / name
    if not shared.exists():
        pytest.skip(f"{shared.parent} is not here: the copy cannot be compared")
    assert filecmp.cmp(shared, ROOT / "params" / "paper" / name, shallow=False)


@pytest.mark.parametrize("run", ["c10", "c100"])
def test_every_row_of_the_paper_is_in_the_run(run):
    from milib import tables

    settings = params.load(ROOT / "params" / f"{run}.yaml")
    with open(ROOT / "params" / "paper" / f"{settings.paper_table}.csv", newline="") as file:
        printed = [row["method"] for row in csv.DictReader(file)]
    assert set(printed) <= {tables.row_name(row) for row in settings.rows}


def test_parameter_files_name_every_key_and_themselves():
    keys = set(params.read_yaml(ROOT / "params" / "digits.yaml"))
    for name in params.runs():
        content = params.read_yaml(ROOT / "params" / f"{name}.yaml")
        assert set(content) == keys and content["run"] == name


def test_the_papers_settings():
    """Sec. 4.1, Tables 4 and 5; sigma halved as protocol: it acts on pixels in [-1, 1] there."""
    for run in ("c10", "c100"):
        settings = params.load(ROOT / "params" / f"{run}.yaml")
        assert (settings.epochs, settings.batch_size, settings.lr, settings.lr_interpolated, settings.alpha) == (200, 64, 0.01, 0.1, 1.0)
        assert (settings.epsilon, settings.step_size, settings.steps, settings.draws) == (8 / 255, 2 / 255, (10, 50, 200), 30)
        assert (settings.model, settings.schedule, settings.n_test) == ("resnet50", "step", 1000)
    assert params.load(ROOT / "params" / "c10.yaml").row("mixup", "gaussian_noise")["sigma"] == 0.02
    assert params.load(ROOT / "params" / "c100.yaml").row("interpolated_at", "guo")["sizes"] == [24, 32]
