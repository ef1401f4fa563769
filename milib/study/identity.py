"""What code means: fingerprints that a reworded docstring or comment leaves alone.

A record is keyed by the meaning of the code that made its numbers. A notebook is rerun for the code
that it can see. Weights are used while training means what it meant at `training.VERSION`: its
meaning is pinned in `milib.study.pinned`, and this module run as a command pins another.
"""

import argparse
import ast
import functools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import milib
from milib.errors import UserError
from milib.files import digest, write_atomic
from milib.study import pinned

PACKAGE = Path(milib.__file__).resolve().parent
CORE = "checks rng dataset data models inference attacks losses adaptive averaging sampling eot"
CORE += " scoring baselines defenses constructed theory audit.measure audit.battery"
CORE += " audit.running audit.libraries audit.noise"
EXPERIMENTS = "common analysis matching oblivious adaptive_attacks variants beyond"
COMPUTE = (
    *("milib." + name for name in CORE.split()),
    *("milib.study." + name for name in ("device", "rows", "study", "experiments")),
    *("milib.study.experiments." + name for name in EXPERIMENTS.split()),
)
"""The modules that decide a record's numbers. Training does not: a record names its weights."""
WEIGHTS = (
    "checks training training_state divergence recipes objectives models inference attacks dataset"
)
WEIGHTS += " data rng cuda_graph"
TRAINING = (*("milib." + name for name in WEIGHTS.split()), "milib.study.device")
"""The modules in which lies what decides weights; `training_digest` takes what training names."""
ROOTS = ("milib.training", "milib.study.device")
"""Those of TRAINING all of whose definitions count."""


def _module(path: Path) -> str:
    """milib/study/store.py -> milib.study.store; a package's own name for its __init__.py."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {
    _module(path): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("[!.]*.py"))
}
"""Every module's text as this process has it, whatever is edited while it lives."""


def _tree(source: str) -> ast.Module:
    """The syntax tree of source without docstrings and bare strings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                setattr(node, name, [line for line in block if not _is_bare_string(line)])
    return tree


def _is_bare_string(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _plain(node: object) -> object:
    """A syntax tree as lists and words that are the same in every version of Python.

    Empty fields are left out, since versions differ in them, and so is the u of u"text". Constants
    are ASCII: which characters are printable depends on the version.
    """
    if isinstance(node, list):
        return [_plain(each) for each in node]
    if not isinstance(node, ast.AST):
        return ascii(node)
    fields = {}
    for name, value in ast.iter_fields(node):
        if value is not None and value != [] and name != "kind":
            fields[name] = _plain(value)
    if isinstance(node, ast.JoinedStr):
        fields["values"] = [_plain(each) for each in _pieces(node)]
    return [type(node).__name__, fields]


def _pieces(node: ast.JoinedStr) -> list[ast.expr]:
    """The parts of an f-string, its text in as few pieces as there can be."""
    found: list[ast.expr] = []
    for each in node.values:
        before = found[-1] if found else None
        if not isinstance(each, ast.Constant):
            found.append(each)
        elif isinstance(before, ast.Constant):
            found[-1] = ast.Constant(f"{before.value}{each.value}")
        elif each.value:
            found.append(each)
    return found


@functools.cache
def meaning(source: str) -> str:
    """The syntax tree of Python source as text: no comments, layout, docstrings or bare strings.

    - source: Python source. What is not Python (a notebook's magics) is returned as it is.

    Every version of Python gives the same text.
    """
    try:
        return json.dumps(_plain(_tree(source)), sort_keys=True)
    except (SyntaxError, ValueError):  # ValueError: a null byte, in some versions
        return source


def code_digest(modules: tuple[str, ...] = COMPUTE) -> str:
    """A fingerprint of what modules of milib mean.

    - modules: dotted names, keys of SOURCES; by default COMPUTE.
    """
    return _digest_of(tuple(SOURCES[name] for name in modules))


@functools.cache
def _digest_of(sources: tuple[str, ...]) -> str:
    return digest([meaning(source) for source in sources])


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


# The training code


def definitions_of(text: str) -> Iterator[tuple[str, ast.AST]]:
    """What a module's top defines, by name; each import alone; what defines nothing under "".

    - text: Python source.
    """
    for node in _tree(text).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            source = getattr(node, "module", None)
            for alias in node.names:
                name = alias.asname or alias.name.split(".")[0]
                yield name, ast.ImportFrom(source, [alias], 0)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                for name in _mentioned(target):
                    yield name, node
        else:
            yield "", node


def _mentioned(node: ast.AST) -> set[str]:
    """Every name and attribute in a piece of code."""
    found: set[str] = set()
    for each in ast.walk(node):
        if isinstance(each, ast.Name):
            found.add(each.id)
        elif isinstance(each, ast.Attribute):
            found.add(each.attr)
        elif isinstance(each, ast.alias):
            found.add(each.name)
    return found


def training_digest() -> str:
    """A fingerprint of what decides weights: the definitions that training names, at any remove.

    A data set's reader is not among them: its images have a fingerprint of their own. Nor is an
    attack that training does not use.
    """
    definitions: dict[str, list[ast.AST]] = {"": []}
    left = {""}
    for module in TRAINING:
        for name, node in definitions_of(SOURCES[module]):
            definitions.setdefault(name, []).append(node)
            if module in ROOTS:
                left.add(name)
    return followed(definitions, left)


def followed(definitions: dict[str, list[ast.AST]], left: set[str]) -> str:
    """A fingerprint of definitions and of all that they name, at any remove.

    - definitions: by name.
    - left: the names to begin with.
    """
    found: dict[str, object] = {}
    while left:
        name = left.pop()
        found[name] = _plain(definitions[name])
        for node in definitions[name]:
            left |= (_mentioned(node) & definitions.keys()) - found.keys()
    return digest(found)


def check_training() -> None:
    """Refuse weights where the training code means something else than what was pinned.

    Raises UserError.
    """
    if training_digest() != pinned.TRAINING:
        raise UserError(
            "the training code was changed: raise training.VERSION, unless it gives the same "
            "weights; then pin its meaning with `python -m milib.study.identity`"
        )


def main() -> None:
    """The command line: writes the training code's meaning into milib/study/pinned.py."""
    name, found = "milib.study.pinned", training_digest()
    text = re.sub(r'(?m)^TRAINING = ".*"$', f'TRAINING = "{found}"', SOURCES[name])
    write_atomic(PACKAGE / "study" / "pinned.py", text.encode())
    print(f"pinned: {found}")


if __name__ == "__main__":
    what = "Pin what the training code means, in milib/study/pinned.py; CONTRIBUTING says when."
    argparse.ArgumentParser(prog="python -m milib.study.identity", description=what).parse_args()
    main()
