"""A notebook's parameters, which are the values of its names, and the study that they describe."""

import contextlib
import dataclasses
import difflib
import json
import numbers
import os
import sys
from typing import get_args
from weakref import WeakSet

from milib.errors import UserError
from milib.files import write_atomic
from milib.study.params import KEYS, Params, build, read_yaml, unknown
from milib.study.paths import parameter_file
from milib.study.study import Study

TABLES = ("rows", "grids")
"""Parameters that are tables: the cell leaves those of params/digits.yaml there, as None."""
PLAIN = (numbers.Real, str, os.PathLike, list, tuple, dict, type(None))
"""What a parameter may be. Modules, functions and arrays under other names are none."""
SIMILAR = 0.82
"""From here on a name is taken for a misspelt key: `epohcs` is at 0.83, `drawn` at 0.8."""

_opened: WeakSet = WeakSet()
"""The shells in which a study was opened: what later cells bind there is no parameter."""


def parameters_cell() -> str:
    """The source of every notebook's parameters cell, one key of params/digits.yaml a line.

    Each has its type and what `Params` says of it, with its choices in brackets: `papermill
    --help-notebook` shows them, and papermill knows the keys that it finds there.
    """
    lines = [
        "# The run's parameters: those of params/digits.yaml, "
        "unless papermill injects others below.",
        "# None, for a table: that of params/digits.yaml.",
    ]
    values = read_yaml(parameter_file("digits"))
    for spec in dataclasses.fields(Params):
        kind = getattr(spec.type, "__name__", spec.type)
        if get_args(spec.type):
            kind = str(spec.type)
        value = None if spec.name in TABLES else values[spec.name]
        shown = repr(value).replace("'", '"')  # as ruff quotes
        said = spec.metadata["doc"]
        if spec.metadata["choices"]:
            said += f" [{', '.join(spec.metadata['choices'])}]"
        lines.append(f"{spec.name}: {kind} = {shown}  # {said}")
    return "\n".join(lines)


def is_misspelt(name: str, value: object) -> bool:
    """Whether a name closely resembles a parameter's, and its value could be that one's.

    - name: no parameter's own, such as `epoch`; `row` with a single row is none.
    - value: what it holds.
    """
    for key in difflib.get_close_matches(name.lower(), KEYS, 1, SIMILAR):
        with contextlib.suppress(UserError):
            build({key: value})
            return True
    return False


def _from_milib(name: str, value: object) -> bool:
    """Whether an import from milib bound the name, such as `NAMES` beside `open_study`."""
    loaded = [module for key, module in list(sys.modules.items()) if key.startswith("milib.")]
    return any(name in vars(module) and vars(module)[name] is value for module in loaded)


def from_names(names: dict, first: bool, own: frozenset[str] = frozenset()) -> Params:
    """The run that a notebook's names describe, as they stand now.

    - names: name -> value. Names that are no parameter are removed where they are refused, so
      that the cell that set them can be mended and run again.
    - first: no study was opened before: every plain value without a leading underscore counts as
      a parameter. Later cells bind names of their own: see `is_misspelt`.
    - own: the shell's own names, which are none.

    A table that is None is that of params/digits.yaml. papermill's PAPERMILL_ names are left alone.
    Raises UserError as `params.build` does.
    """
    given = {name: names[name] for name in KEYS if name in names}
    wrong = []
    for name, value in names.items():
        hidden = name.startswith("_") and name.strip("_") not in KEYS
        if name in given or name in own or hidden or name.startswith("PAPERMILL_"):
            continue
        plain = isinstance(value, PLAIN) and not _from_milib(name, value)
        if plain and (first or is_misspelt(name, value)):
            wrong.append(name)
    for name in wrong:
        del names[name]
    if wrong:
        error = unknown(given.get("run", "?"), "key", wrong[0], KEYS)
        raise UserError(f"{error}; mend the cell that sets it, and run it again")
    for name in TABLES:
        if given.get(name, ()) is None:
            del given[name]
    return build(given)


def from_notebook() -> Params:
    """The run that the calling notebook describes: the values that its names have now.

    Raises UserError outside IPython, where no name is a parameter's, and as `from_names` does.
    """
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None:
        raise UserError("no notebook here: use milib.study.params.load(path) outside Jupyter")
    own = frozenset(shell.user_ns_hidden)
    names = shell.user_ns
    if not any(key in names for key in KEYS):
        raise UserError("no parameter is set here: run the cell of the parameters first")
    found = from_names(names, shell not in _opened, own)
    _opened.add(shell)
    return found


def open_study(notebook: str) -> Study:
    """The study that the calling notebook's parameters describe.

    - notebook: its file name without the ending.

    The parameters are noted in the run's folder, for its report. Raises UserError as
    `from_notebook` and `Study` do.
    """
    study = Study(from_notebook(), notebook)
    noted = json.dumps(dataclasses.asdict(study.params)) + "\n"
    with contextlib.suppress(UserError):  # the report alone reads them
        write_atomic(study.store.folder / "profile" / f"{notebook}.parameters", noted.encode())
    return study
