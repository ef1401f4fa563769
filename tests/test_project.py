"""The project's own lists: what is declared in two places is the same."""

import csv
import filecmp
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import torch
import yaml

from milib.study import params, paths
from milib.study import rows as rows_module

ROOT = paths.project_root()


def requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return (
        project["project"]["dependencies"]
        + project["project"]["optional-dependencies"]["study"]
        + project["dependency-groups"]["dev"]
    )


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

    settings = params.load(ROOT / "params" / f"{run}.yaml")
    with open(ROOT / "params" / "paper" / f"{settings.paper_table}.csv", newline="") as file:
        printed = [row["method"] for row in csv.DictReader(file)]
    assert set(printed) <= {rows_module.row_name(row) for row in settings.rows}


def test_parameter_files_name_every_key_and_themselves():
    keys = set(params.read_yaml(ROOT / "params" / "digits.yaml"))
    for name in paths.runs():
        content = params.read_yaml(ROOT / "params" / f"{name}.yaml")
        assert set(content) == keys and content["run"] == name


def test_the_papers_settings():
    """Sec. 4.1, Tables 4 and 5; sigma halved as protocol: it acts on pixels in [-1, 1] there."""
    for run in ("c10", "c100"):
        settings = params.load(ROOT / "params" / f"{run}.yaml")
        assert (
            settings.epochs,
            settings.batch_size,
            settings.lr,
            settings.lr_interpolated,
            settings.alpha,
        ) == (200, 64, 0.01, 0.1, 1.0)
        assert (settings.epsilon, settings.step_size, settings.steps, settings.draws) == (
            8 / 255,
            2 / 255,
            (10, 50, 200),
            30,
        )
        assert (settings.model, settings.schedule, settings.n_test) == ("resnet50", "step", 1000)
    assert params.load(ROOT / "params" / "c10.yaml").row("mixup", "gaussian_noise")["sigma"] == 0.02
    assert params.load(ROOT / "params" / "c100.yaml").row("interpolated_at", "guo")["sizes"] == [
        24,
        32,
    ]


def test_the_readmes_example_runs_on_a_model_of_ones_own(capsys):
    """Its code block as printed, on a stranger's net: MI-OL is attacked and answers for every image."""
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    assert len(block.strip().splitlines()) <= 12
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 5
    images = (torch.rand(200, 3, 8, 8, generator=draw) * 60 + 40 * labels[:, None, None, None]).to(
        torch.uint8
    )
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5)).eval()
    exec(block, {"model": model, "images": images, "labels": labels})
    printed = dict(line.rsplit(" ", 1) for line in capsys.readouterr().out.splitlines())
    assert set(printed) == {"bare", "MI-OL"} and all(
        0 <= float(value) <= 1 for value in printed.values()
    )


@pytest.mark.slow
def test_the_library_alone_needs_neither_jupyter_nor_snakemake(tmp_path):
    """`pip install .` into an empty environment, then the README's example from an empty folder."""
    installer = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    python = tmp_path / "env" / "bin" / "python"
    source = tmp_path / "source"
    shutil.copytree(ROOT / "milib", source / "milib")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run(
        [installer, "venv", "-q", "--python", sys.executable, str(tmp_path / "env")], check=True
    )
    subprocess.run(
        [
            installer,
            "pip",
            "install",
            "-q",
            "--python",
            str(python),
            "-c",
            str(ROOT / "constraints.txt"),
            str(source),
        ],
        check=True,
    )
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    net = "import torch\nmodel = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5)).eval()\n"
    net += "labels = torch.arange(200) % 5\nimages = torch.randint(0, 256, (200, 3, 8, 8)).to(torch.uint8)\n"
    extras = ("explore", "curate", "refresh")  # need ipywidgets or nbformat
    names = [
        "milib",
        *(
            f"milib.{path.stem}"
            for path in sorted((ROOT / "milib").glob("*.py"))
            if path.stem not in ("__init__", *extras)
        ),
    ]
    end = f"import importlib.util as found\nimport {', '.join(names)}\nassert '{tmp_path}' in milib.__file__\n"
    end += "assert not [name for name in ('IPython', 'jupyterlab', 'snakemake', 'papermill') if found.find_spec(name)]\n"
    done = subprocess.run(
        [str(python), "-c", net + block + end],
        cwd=tmp_path / "env",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "MI-OL" in done.stdout
