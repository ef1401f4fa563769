"""The library's rules about itself: imports point backwards, modules stay short, global generators stay alone."""

import ast
from pathlib import Path

import pytest

import milib

ORDER = "errors progress shapes rng data models attacks defenses params machine artifacts replay training theory evaluation study experiments".split()
ORDER += (
    "captions tables tables_theory protocol claims figures pages report refresh prepare".split()
)
ORDER += "findings curate peers contenders measures bench canvas explore".split()
"""The modules that exist import only those before them."""
MODULES = sorted(
    path for path in Path(milib.__file__).parent.glob("*.py") if path.stem != "__init__"
)
SEEDS = ("manual_seed", "seed", "manual_seed_all", "set_state", "set_rng_state")
OVERRIDES = ("forward", "backward", "transform", "log_mean")
"""Methods that a base class explains."""
every_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)


def imported(tree: ast.AST) -> set[str]:
    """Modules of milib that a source imports, at the top or inside functions."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "milib":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("milib."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {
                alias.name.split(".")[1] for alias in node.names if alias.name.startswith("milib.")
            }
    return found


def seeding(tree: ast.AST, forked: bool = False) -> list[int]:
    """Lines that set or draw from a global generator outside `with torch.random.fork_rng(...)`."""
    lines = []
    if isinstance(tree, ast.With):
        forked |= any("fork_rng" in ast.unparse(item.context_expr) for item in tree.items)
    if isinstance(tree, ast.Call):
        called = ast.unparse(tree.func)
        drawn = called.startswith(("np.random.", "numpy.random.")) and called not in (
            "np.random.default_rng",
            "numpy.random.default_rng",
        )
        drawn |= called.startswith("random.") or called in (
            "torch.rand",
            "torch.randn",
            "torch.randint",
            "torch.randperm",
        )
        if (called.split(".")[-1] in SEEDS or drawn) and not forked:
            lines.append(tree.lineno)
    for child in ast.iter_child_nodes(tree):
        lines += seeding(child, forked)
    return lines


@every_module
def test_imports_point_backwards(path):
    assert path.stem in ORDER, f"{path.name} has no place in the order yet"
    names = imported(ast.parse(path.read_text()))
    assert names <= set(ORDER[: ORDER.index(path.stem)])


def test_training_needs_no_defense():
    tree = ast.parse((MODULES[0].parent / "training.py").read_text())
    assert not imported(tree) & {"defenses", "theory", "evaluation", "study", "experiments"}
    assert "attacks" in imported(tree)  # the reader above sees imports


@every_module
def test_modules_are_short(path):
    assert len(path.read_text().splitlines()) <= 350


@every_module
def test_no_global_generator_is_set_or_read(path):
    assert seeding(ast.parse(path.read_text())) == []


def test_seeding_would_be_seen():
    outside = "import torch\ntorch.manual_seed(0)\nnp.random.seed(1)\nx = np.random.rand(3)\nwith open('f'):\n    torch.rand(2)\n"
    assert seeding(ast.parse(outside)) == [2, 3, 4, 6]
    assert (
        seeding(ast.parse("with torch.random.fork_rng(devices=[]):\n    torch.manual_seed(0)\n"))
        == []
    )


@every_module
def test_public_functions_and_classes_say_what_they_do(path):
    """Methods too. A command's `main` does what its module's docstring says."""
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    public = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and node.name != "main"
    ]
    methods = [
        node
        for parent in public
        if isinstance(parent, ast.ClassDef)
        for node in parent.body
        if isinstance(node, ast.FunctionDef)
    ]
    public += [
        node for node in methods if not node.name.startswith("_") and node.name not in OVERRIDES
    ]
    assert [node.name for node in public if not ast.get_docstring(node)] == []


def test_notebooks_and_library_name_no_place_outside_the_project(root):
    for path in [
        *MODULES,
        *(root / "params").glob("*.yaml"),
        *(root / "notebooks").glob("*.ipynb"),
    ]:
        text = path.read_text()
        assert not any(word in text for word in (str(root), "../shared")), path.name
