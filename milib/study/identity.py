"""What code means: fingerprints that a reworded docstring or comment leaves alone.

A record is keyed by the meaning of the code that made its numbers. A notebook is rerun for the code
that it can see.
"""

import ast
import functools
from collections.abc import Iterable
from pathlib import Path

import milib
from milib.files import digest

PACKAGE = Path(milib.__file__).parent
CORE = "rng data models inference attacks averaging baselines defenses constructed theory"
EXPERIMENTS = "common analysis matching oblivious adaptive_attacks"
COMPUTE = (
    *("milib." + name for name in CORE.split()),
    *("milib.study." + name for name in ("device", "rows", "study", "experiments")),
    *("milib.study.experiments." + name for name in EXPERIMENTS.split()),
)
"""The modules that decide a record's numbers. Training does not: a record names its weights."""


def _module(path: Path) -> str:
    """milib/study/store.py -> milib.study.store; a package's own name for its __init__.py."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {_module(path): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}
"""Every module's text as this process has it, whatever is edited while it lives."""


@functools.cache
def meaning(source: str) -> str:
    """The syntax tree of Python source as text: no comments, layout, docstrings or bare strings.

    - source: Python source. What is not Python (a notebook's magics) is returned as it is.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return source
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                setattr(node, name, [line for line in block if not _is_bare_string(line)])
    return ast.dump(tree)


def _is_bare_string(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def code_digest(modules: tuple[str, ...] = COMPUTE) -> str:
    """A fingerprint of what modules of milib mean.

    - modules: dotted names, keys of SOURCES; by default COMPUTE.
    """
    return digest([meaning(SOURCES[name]) for name in modules])


@functools.cache
def imported(source: str) -> frozenset[str]:
    """The modules of milib that Python source imports, at its top or inside functions.

    - source: Python source, with absolute imports.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found & set(SOURCES))


def reachable(modules: Iterable[str]) -> set[str]:
    """Modules of milib with all that they import, directly or through others.

    - modules: dotted names. The packages around a module count: importing it runs them.
    """
    found: set[str] = set()
    left = set(modules)
    while left:
        name = left.pop()
        found.add(name)
        parts = name.split(".")
        around = {".".join(parts[:count]) for count in range(1, len(parts))}
        left |= (imported(SOURCES[name]) | around) - found
    return found
