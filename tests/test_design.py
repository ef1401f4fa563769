"""The project's rules about itself: layers of imports, short modules, private random numbers."""

import ast
import json
from pathlib import Path

import pytest

from milib.study.identity import PACKAGE, SOURCES, imported, reachable

ROOT = PACKAGE.parent
MAY_REACH = {
    "core": {"core"},
    "study": {"core", "study"},
    "views": {"core", "study", "views"},
    "report": {"core", "study", "views", "report"},
    "bench": {"core", "study", "views", "bench"},
}
"""What each layer may import, directly or through others; the core is milib's own modules."""
WIDTH = 100
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.stem != "__init__")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TEXTS = [*sorted(PACKAGE.rglob("*.py")), *sorted((ROOT / "tests").rglob("*.py"))]
TEXTS += [ROOT / "conftest.py", ROOT / "Snakefile"]
SEEDS = ("manual_seed", "seed", "manual_seed_all", "set_state", "set_rng_state")
DRAWN = ("torch.rand", "torch.randn", "torch.randint", "torch.randperm")
PRIVATE = ("np.random.default_rng", "numpy.random.default_rng")
OVERRIDES = ("forward", "backward", "transform", "log_mean")
"""Methods that a base class explains."""


def named(path: Path) -> str:
    """A file as a test's name shows it."""
    return str(path.relative_to(ROOT))


every_module = pytest.mark.parametrize("path", MODULES, ids=named)
every_text = pytest.mark.parametrize("path", TEXTS, ids=named)
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=named)


def layer(module: str) -> str:
    """milib.study.store -> study; milib.rng and milib itself -> core."""
    second = (*module.split("."), "")[1]
    return second if second in MAY_REACH else "core"


def seeding(tree: ast.AST, forked: bool = False) -> list[int]:
    """Lines that set or draw from a global generator outside `with torch.random.fork_rng(...)`."""
    lines = []
    if isinstance(tree, ast.With):
        forked |= any("fork_rng" in ast.unparse(item.context_expr) for item in tree.items)
    if isinstance(tree, ast.Call):
        called = ast.unparse(tree.func)
        from_numpy = called.startswith(("np.random.", "numpy.random.")) and called not in PRIVATE
        drawn = from_numpy or called.startswith("random.") or called in DRAWN
        if (called.split(".")[-1] in SEEDS or drawn) and not forked:
            lines.append(tree.lineno)
    for child in ast.iter_child_nodes(tree):
        lines += seeding(child, forked)
    return lines


def too_wide(text: str) -> list[int]:
    """Numbers of the lines that are longer than WIDTH."""
    return [number for number, line in enumerate(text.splitlines(), 1) if len(line) > WIDTH]


# Layers


@pytest.mark.parametrize("module", SOURCES)
def test_a_layer_reaches_only_those_below_it(module):
    met = {layer(name): name for name in reachable({module})}
    assert set(met) <= MAY_REACH[layer(module)], met


def test_the_walk_sees_what_is_imported_through_others():
    assert layer("milib.study.store") == "study"
    assert layer("milib.studying") == layer("milib") == "core"
    direct = imported(SOURCES["milib.attacks"])
    assert "milib.inference" in direct
    assert "milib.models" not in direct
    assert "milib.models" in reachable({"milib.attacks"})
    assert {layer(name) for name in SOURCES} == set(MAY_REACH)


def test_training_needs_no_defense():
    # the package itself imports everything: what training itself imports is asked for
    met, left = set(), {"milib.training"}
    while left:
        name = left.pop()
        met.add(name)
        left |= imported(SOURCES[name]) - met - {"milib"}
    assert not met & {"milib.averaging", "milib.baselines", "milib.defenses", "milib.theory"}
    assert not met & {"milib.constructed", "milib.statistics"}
    assert {"milib.attacks", "milib.objectives", "milib.inference"} <= met


@pytest.mark.parametrize("path", sorted((ROOT / "tests" / "core").glob("*.py")), ids=named)
def test_tests_of_the_core_need_the_core_alone(path):
    assert {layer(name) for name in imported(path.read_text())} <= {"core"}


# Modules


@every_module
def test_modules_are_short(path):
    assert len(path.read_text().splitlines()) <= 350


@every_text
def test_no_line_is_wider_than_100_columns(path):
    assert too_wide(path.read_text()) == []


@every_notebook
def test_no_line_of_a_code_cell_is_wider_than_100_columns(path):
    cells = json.loads(path.read_text())["cells"]
    codes = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert codes
    assert [code for code in codes if too_wide(code)] == []


def test_a_wide_line_would_be_seen():
    assert too_wide("x\n" + WIDTH * "x" + "\n" + (WIDTH + 1) * "x") == [3]


@every_module
def test_no_global_generator_is_set_or_read(path):
    assert seeding(ast.parse(path.read_text())) == []


def test_seeding_would_be_seen():
    outside = (
        "import torch\n"
        "torch.manual_seed(0)\n"
        "np.random.seed(1)\n"
        "x = np.random.rand(3)\n"
        "with open('f'):\n"
        "    torch.rand(2)\n"
    )
    assert seeding(ast.parse(outside)) == [2, 3, 4, 6]
    inside = "with torch.random.fork_rng(devices=[]):\n    torch.manual_seed(0)\n"
    assert seeding(ast.parse(inside)) == []


@every_module
def test_public_functions_and_classes_say_what_they_do(path):
    """Methods too. A command's `main` does what its module's docstring says."""
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    silent = []
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if node.name != "main" and not ast.get_docstring(node):
            silent.append(node.name)
        if isinstance(node, ast.ClassDef):
            silent += silent_methods(node)
    assert silent == []


def silent_methods(parent: ast.ClassDef) -> list[str]:
    """Public methods of a class without a docstring, but for those that a base class explains."""
    methods = [node for node in parent.body if isinstance(node, ast.FunctionDef)]
    public = [node for node in methods if not node.name.startswith("_")]
    told = [node for node in public if node.name not in OVERRIDES]
    return [f"{parent.name}.{node.name}" for node in told if not ast.get_docstring(node)]


def test_notebooks_and_library_name_no_place_outside_the_project():
    for path in [*MODULES, *(ROOT / "params").rglob("*.yaml"), *NOTEBOOKS]:
        text = path.read_text()
        assert not any(word in text for word in (str(ROOT), "../shared")), path.name
