"""The public face: what a user writes runs, is typed, and loads the library alone."""

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import milib

SCRIPT = Path(__file__).with_name("user_script.py")
HEAVY = ("matplotlib", "pandas", "scipy", "sklearn", "torchvision", "ipywidgets", "yaml", "IPython")


def python(*arguments) -> str:
    """What a fresh process prints."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def imported(source: str) -> dict[str, set[str]]:
    """The names that Python source imports from each module of milib."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "milib":
            found.setdefault(node.module or "", set()).update(alias.name for alias in node.names)
    return found


def test_the_script_defends_attacks_and_trains():
    lines = python("-W", "error", SCRIPT).splitlines()
    assert [line.split(":")[0] for line in lines] == ["MI-OL", "MI-Combined", "mixup", "recipe"]
    assert all("torch.Size([30, 4])" in line for line in lines[:3])
    assert "augment, alpha" in lines[3]


def test_pyright_has_nothing_to_say_about_the_script_and_the_library(root):
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("needs pyright, which is not installed beside this Python")
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, SCRIPT, "milib"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-500:]


def test_importing_milib_loads_nothing_of_the_studys(root):
    code = "import sys, milib; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = set(python("-c", code).split())
    assert "torch" in loaded
    assert not loaded & set(HEAVY)


def test_the_version_is_that_of_pyproject(root):
    """Which reads it from the package: one source."""
    content = tomllib.loads((root / "pyproject.toml").read_text())
    assert "version" in content["project"]["dynamic"]
    assert content["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "milib.__version__"}
    assert milib.__version__ == metadata.version("milib")


def test_the_public_face_is_what_the_readme_and_the_script_import(root):
    blocks = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), re.DOTALL)
    shown: set[str] = set()
    for block in blocks:
        names = imported(block)
        assert set(names) <= {"milib"}, "README's examples import from milib itself"
        shown |= names.get("milib", set())
    assert shown <= set(milib.__all__)
    assert shown | imported(SCRIPT.read_text())["milib"] == set(milib.__all__)
    assert all(hasattr(milib, name) for name in milib.__all__)
