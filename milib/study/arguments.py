"""Parameters on a command line: papermill's options, in papermill's reading."""

import base64
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import yaml

from milib.checks import shown
from milib.errors import UserError
from milib.study.params import Params, load, read_yaml
from milib.study.paths import parameter_file
from milib.study.strict_yaml import parse


def options() -> list[click.Parameter]:
    """papermill's -p, -r, -f, -y, -b and their long names."""
    from papermill.cli import papermill  # here: it takes seconds to import

    return [option for option in papermill.params if str(option.name).startswith("parameters")]


def read(
    words: Sequence[str], command: str, own: Sequence[click.Parameter] = (), about: str = ""
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a command line gives: its own arguments, and the parameters of papermill's options.

    - words: the command line, as a shell splits it.
    - command: its name, for help and errors.
    - own: the arguments and options of the command; by default none.
    - about: the command in a sentence, for its help.

    Raises UserError where the words are not of this form. `--help` prints help and ends.
    """
    known = options()
    line = click.Command(
        command,
        params=[*own, *known],
        help=about,
        callback=lambda **found: found,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    try:
        found = line.main(list(words), prog_name=command, standalone_mode=False)
    except click.ClickException as error:
        raise UserError(f"{command}: {' '.join(error.format_message().split())}") from None
    if not isinstance(found, dict):
        sys.exit(found)
    given = {str(option.name): found.pop(str(option.name)) for option in known}
    return found, _parameters(command, given)


def _parameters(command: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options' parameters by key: of one that stands twice, papermill's choice."""
    from papermill.cli import _resolve_type

    values: dict[str, Any] = {}
    for text in given["parameters_base64"]:
        values |= _table(f"{command}: -b {shown(text)}", _decoded(command, text))
    for path in given["parameters_file"]:
        values |= read_yaml(Path(path))
    for text in given["parameters_yaml"]:
        values |= _table(f"{command}: -y {shown(text)}", text)
    for name, value in given["parameters"]:
        values[name] = _resolve_type(value)
    return values | dict(given["parameters_raw"])


def _decoded(command: str, text: str) -> str:
    try:
        return base64.b64decode(text).decode()
    except ValueError:
        raise UserError(f"{command}: -b {shown(text)} is no base64 of a text") from None


def _table(where: str, text: str) -> dict[str, Any]:
    found = parse(where, text)
    if not isinstance(found, dict | None):
        raise UserError(f"{where} must hold `key: value`")
    return found or {}


def option(values: dict[str, Any]) -> str:
    """Parameters as one option, for a shell: whoever reads it gets the same values.

    - values: what `read` gave.
    """
    if not values:
        return ""
    style = {"default_flow_style": True, "width": 10**9, "sort_keys": False}
    return f"-y {shlex.quote(yaml.safe_dump(values, **style).strip())}"


class Asked(NamedTuple):
    """A run that `make study` is to make: its parameter file, what is changed in it, and itself."""

    file: Path
    changed: dict[str, Any]
    run: Params


def studies() -> list[Asked]:
    """The runs that `make study` is to make.

    $MILIB_RUN names their parameter files (by default digits), and $MILIB_ARGS changes parameters
    of all. Both reach this process with whatever quotes they have. Raises UserError where they
    describe no run, or one twice.
    """
    text = os.environ.get("MILIB_ARGS", "")
    try:
        words = shlex.split(text)
    except ValueError:
        raise UserError(f"ARGS is {shown(text)}: a quote in it is not closed") from None
    if {"-h", "--help"} & set(words):
        raise UserError("ARGS takes papermill's options -p, -r, -y, -f and -b, as in -p seed 1")
    values, found = read(words, "ARGS")[1] if words else {}, []
    for name in os.environ.get("MILIB_RUN", "").split() or ["digits"]:
        path = parameter_file(name)
        asked = Asked(path, values, load(path, values))
        if any(asked.run.run == other.run.run for other in found):
            raise UserError(f"RUN and ARGS name the run '{asked.run.run}' twice: once is enough")
        found.append(asked)
    return found
