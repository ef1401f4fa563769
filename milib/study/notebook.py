"""A notebook's parameters cell, and the study that it describes."""

import ast
from collections.abc import Iterable

from milib.errors import UserError
from milib.study.params import Params, build, read_yaml
from milib.study.paths import project_root
from milib.study.study import Study

MARK = "# The run's parameters"
"""First words of the notebooks' parameters cell; papermill's own cell begins with INJECTED."""
INJECTED = "# Parameters"
TABLES = ("rows", "grids")
"""Parameters that are tables: the cell leaves those of params/digits.yaml there, as None."""


def parameters_cell() -> str:
    """The source of every notebook's parameters cell, one key of params/digits.yaml a line.

    papermill knows the keys that it finds there.
    """
    lines = [
        f"{MARK}: those of params/digits.yaml, unless papermill injects others below.",
        "# milib/study/params.py explains each of them.",
    ]
    for name, value in read_yaml(project_root() / "params" / "digits.yaml").items():
        if name in TABLES:
            lines.append(f"{name} = None  # the table in params/digits.yaml")
        else:
            lines.append(f"{name} = {value!r}".replace("'", '"'))  # as ruff quotes
    return "\n".join(lines)


def assignments(source: str) -> dict:
    """The `name = literal` lines of a parameters cell, as a dict.

    - source: the cell's text. A table that is None there is left out.
    """
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name, value = node.targets[0].id, ast.literal_eval(node.value)
            if value is not None or name not in TABLES:
                found[name] = value
    return found


def from_sources(sources: Iterable[str]) -> Params:
    """The run that a notebook describes: its parameters cell, then what papermill injected.

    - sources: the texts of its code cells.

    Raises UserError as `params.build` does.
    """
    values: dict = {}
    for source in sources:
        if source.startswith((MARK, INJECTED)):
            values |= assignments(source)
    return build(values)


def from_notebook() -> Params:
    """The run that the calling notebook describes.

    It is read from the kernel's input history, not from its globals: later cells may change those.
    Raises UserError outside a notebook, and as `params.build` does.
    """
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None:
        raise UserError("no notebook here: use milib.study.params.load(path) outside Jupyter")
    return from_sources(shell.user_ns["In"])


def open_study(notebook: str) -> Study:
    """The study that the calling notebook's parameters describe.

    - notebook: its file name without the ending.

    Raises UserError as `from_notebook` and `Study` do.
    """
    return Study(from_notebook(), notebook)
