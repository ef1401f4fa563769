"""The project's own lists and pages: what is declared in two places is the same."""

import csv
import filecmp
import importlib.util
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib

import pytest
import torch
import yaml

import milib
from milib import __main__ as commands
from milib import files
from milib.study import params, paths
from milib.study.rows import row_name

ROOT = paths.project_root()
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "outputs/reference/README.md",
    "outputs/reference/FINDINGS.md",
    "outputs/reference/c10/LEDGER.md",
)
every_page = pytest.mark.parametrize("page", PAGES)


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
    assert {re.split(r"[\[<>=]", name)[0] for name in requirements()} <= pinned
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
    assert set(printed) <= {row_name(row) for row in settings.rows}


def test_the_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == milib.__version__


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as a code host names them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@every_page
def test_the_links_of_a_page_lead_somewhere(page):
    text = (ROOT / page).read_text()
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    assert links, "a page without a link says nothing here"
    for link in links:
        place, _, anchor = link.partition("#")
        if not place.startswith("https://"):
            target = (ROOT / page).parent / place
            assert target.exists(), link
            assert not anchor or anchor in anchors(target.read_text()), link


@every_page
def test_the_commands_of_a_page_exist(page):
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    code = "\n".join(re.findall(r"`[^`]+`|^ {4}\S.*$", text, re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"^[ `]*make ([\w-]+)", code, re.MULTILINE)) <= targets
    if page == "CHANGELOG.md":
        return  # it also names commands that are gone
    for name in re.findall(r"python -m (milib[\w.]*)", code):
        assert importlib.util.find_spec(name), name


def test_the_list_of_commands_is_complete():
    """milib/study/job.py is the Snakefile's alone."""
    found = set()
    for path in (ROOT / "milib").rglob("[!.]*.py"):
        if 'if __name__ == "__main__":' in path.read_text():
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found.add(name.removesuffix(".__main__"))
    assert found - {"milib", "milib.study.job"} == set(commands.COMMANDS)
    assert all(line in commands.text() for line in commands.COMMANDS.values())


@pytest.mark.parametrize("name", ["milib", *commands.COMMANDS])
def test_every_command_has_help_and_does_nothing_else(name, monkeypatch, capsys):
    path = ROOT.joinpath(*name.split("."))
    path = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    monkeypatch.setattr(files, "write_atomic", None)  # would fail
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert not ended.value.code
    said = capsys.readouterr().out
    called = name if name != "milib.study.ledger" else "milib/study/ledger.py"
    assert called in said and "--help" in said


def test_the_tracked_tree_stays_small():
    """30 MiB, apart from the weights of the paper's net."""
    command = ["git", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if not listed:
        pytest.skip("no git, or no clone: what is tracked is not known")
    total = 0
    for name in listed.rstrip("\0").split("\0"):
        if not name.startswith(("outputs/reference/c10/check", "outputs/reference/c100/check")):
            total += (ROOT / name).stat().st_size if (ROOT / name).is_file() else 0
    assert total < 30 * 2**20


def test_tests_see_no_gpu():
    """But for those marked gpu, which `-m gpu` selects alone."""
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    table = text.split("<!-- findings -->")[1].split("<!-- end of findings -->")[0]
    assert 6 <= len(table.strip().splitlines()) <= 14, "two tables, at most nine rows in all"
    for target in ("study", "test", "lab"):
        assert f"    make {target} " in text


def test_parameter_files_name_every_key_and_themselves():
    keys = set(params.read_yaml(ROOT / "params" / "digits.yaml"))
    for name in paths.runs():
        content = params.read_yaml(ROOT / "params" / f"{name}.yaml")
        assert set(content) == keys and content["run"] == name


def test_the_papers_settings():
    """Sec. 4.1, Tables 4 and 5; sigma halved as protocol: it acts on pixels in [-1, 1] there."""
    for run in ("c10", "c100"):
        settings = params.load(ROOT / "params" / f"{run}.yaml")
        training = (settings.epochs, settings.batch_size, settings.lr, settings.lr_interpolated)
        assert (*training, settings.alpha) == (200, 64, 0.01, 0.1, 1.0)
        assert (settings.epsilon, settings.step_size) == (8 / 255, 2 / 255)
        assert (settings.steps, settings.draws) == ((10, 50, 200), 30)
        assert (settings.model, settings.schedule, settings.n_test) == ("resnet50", "step", 1000)
    cifar10, cifar100 = (params.load(ROOT / "params" / f"{run}.yaml") for run in ("c10", "c100"))
    assert cifar10.row("mixup", "gaussian_noise")["sigma"] == 0.02
    assert cifar100.row("interpolated_at", "guo")["sizes"] == [24, 32]


def readmes_example() -> str:
    found = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found
    return found[1]


def test_the_readmes_example_runs_on_a_model_of_ones_own(capsys):
    """Its code block as printed, on a stranger's net: MI-OL answers for every image."""
    block = readmes_example()
    assert "milib." not in block, "it imports from milib alone"
    assert len(block.strip().splitlines()) <= 12
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 5
    noise = 60 * torch.rand(200, 3, 8, 8, generator=draw)
    images = (noise + 40 * labels[:, None, None, None]).to(torch.uint8)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5)).eval()
    exec(block, {"model": model, "images": images, "labels": labels})
    printed = dict(line.rsplit(" ", 1) for line in capsys.readouterr().out.splitlines())
    assert set(printed) == {"bare", "MI-OL"}
    assert all(0 <= float(value) <= 1 for value in printed.values())


@pytest.mark.slow
def test_the_library_alone_needs_neither_jupyter_nor_snakemake(tmp_path):
    """`pip install .` into an empty environment, then the README's example from an empty folder."""
    installer = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    environment, source = tmp_path / "env", tmp_path / "source"
    python = environment / "bin" / "python"
    shutil.copytree(ROOT / "milib", source / "milib")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    made = [installer, "venv", "-q", "--python", sys.executable, str(environment)]
    subprocess.run(made, check=True)
    options = ["-q", "--python", str(python), "-c", str(ROOT / "constraints.txt")]
    subprocess.run([installer, "pip", "install", *options, str(source)], check=True)
    modules = sorted(path.stem for path in (ROOT / "milib").glob("*.py"))
    names = ["milib", *(f"milib.{name}" for name in modules if name != "__init__")]
    program = f"""
import torch
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5)).eval()
labels = torch.arange(200) % 5
images = torch.randint(0, 256, (200, 3, 8, 8)).to(torch.uint8)
{readmes_example()}
import importlib.util
import json
import {", ".join(names)}
assert "{tmp_path}" in milib.__file__
for name in ("IPython", "jupyterlab", "snakemake", "papermill", "pandas", "matplotlib"):
    assert not importlib.util.find_spec(name), name
"""
    done = subprocess.run(
        [str(python), "-c", program], cwd=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "MI-OL" in done.stdout


def test_the_time_of_c10_quick_is_the_one_that_was_measured():
    """Its jobs take both cores, one after the other, so that their sum is what a user waits."""
    kept = json.loads((ROOT / "outputs" / "reference" / "times.json").read_text())
    minutes = round(sum(kept["c10_quick"]["seconds"].values()) / 60)
    readme = (ROOT / "README.md").read_text()
    [row] = [line for line in readme.splitlines() if line.startswith("| `c10_quick`")]
    head = (ROOT / "params" / "c10_quick.yaml").read_text().splitlines()[0]
    assert f"about {minutes} minutes on 2 cores" in row
    assert f"about {minutes} minutes on two cores" in head
