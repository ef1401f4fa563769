"""A notebook's parameters cell, and the study that it describes."""

import ast
from collections.abc import Iterable

import pandas as pd

from milib.errors import UserError
from milib.study.params import Params, build, read_yaml
from milib.study.paths import project_root
from milib.study.study import Study

MARK = "# The run's parameters"
"""First words of the notebooks' parameters cell; papermill's own cell begins with INJECTED."""
INJECTED = "# Parameters"


def parameters_cell() -> str:
    """The source of every notebook's parameters cell: the keys of digits.yaml, so that papermill knows each of them."""
    values = read_yaml(project_root() / "params" / "digits.yaml")
    lines = [
        f"{MARK}, those of params/digits.yaml unless papermill injects others; milib/params.py explains each."
    ]
    for name, value in values.items():
        if name == "rows":
            lines += ["rows = [", *(f"    {row!r}," for row in value), "]"]
        elif name == "grids":
            lines += [
                "grids = {",
                *(f"    {defense!r}: {grid!r}," for defense, grid in value.items()),
                "}",
            ]
        else:
            lines.append(f"{name} = {value!r}")
    return "\n".join(lines)


def assignments(source: str) -> dict:
    """The `name = literal` lines of a parameters cell."""
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = ast.literal_eval(node.value)
    return found


def from_sources(sources: Iterable[str]) -> Params:
    """The run that a notebook's code cells describe: the parameters cell, then what papermill injected. Raises UserError."""
    values: dict = {}
    for source in sources:
        if source.startswith((MARK, INJECTED)):
            values |= assignments(source)
    return build(values)


def from_notebook() -> Params:
    """The run of the calling notebook: its parameters cell, then what papermill injected.

    Both are read from the kernel's input history, not from its globals, which later cells may have changed.
    Raises UserError, also for a key that only papermill knows.
    """
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None:
        raise UserError("no notebook here: use milib.params.load(path) outside Jupyter")
    return from_sources(shell.user_ns["In"])


def open_study(notebook: str) -> Study:
    """The study as the calling notebook's parameters describe it. notebook: its file name without the ending."""
    pd.set_option(
        "display.max_colwidth",
        None,
        "display.max_rows",
        200,
        "display.width",
        200,
        "display.max_columns",
        30,
    )
    return Study(from_notebook(), notebook)
