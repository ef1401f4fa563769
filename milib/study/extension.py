"""A run's own defenses, losses, data sets and architectures: its `extension`, a file of Python.

The file calls the functions of `milib.register`. What a record or a recipe names of it enters their
fingerprint by its meaning: a changed defense recomputes its rows, and nothing else. It is one file:
what it imports beside milib and installed packages is not looked at.
"""

import ast
import sys
import traceback
from pathlib import Path
from types import ModuleType

from milib import register
from milib.errors import UserError
from milib.study import identity
from milib.study.paths import project_root

_texts: dict[str, str] = {}
"""The text of every extension that this process has run, by its path."""
_from: dict[str, str] = {}
"""Of each name that one of them registered, the path."""


def load(given: str) -> None:
    """Run an extension, so that what it registers is known here; again only where it was changed.

    - given: the run's `extension`, from the project's folder; empty: there is none.

    Raises UserError where there is no such file, or it fails.
    """
    if not given:
        return
    path = project_root() / Path(given).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8"
        raise UserError(f"extension is {given!r}: {path} cannot be read: {why}") from None
    if _texts.get(str(path)) == text:
        return
    before, module = dict(register.own), ModuleType(f"extension_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look for their module there
    try:
        exec(compile(text, str(path), "exec"), vars(module))
    except Exception as error:  # whatever it raises, it ends in one line
        raise UserError(f"extension {_where(path, error)}{_told(error)}") from None
    _texts[str(path)] = text
    for key, value in register.own.items():
        if before.get(key) is not value:
            _from[key[1]] = str(path)


def _where(path: Path, error: Exception) -> str:
    """The file, and the line in it that failed."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)]
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    own = [line for line, file in zip(lines, files, strict=True) if file == str(path)]
    number = error.lineno if isinstance(error, SyntaxError) else next(iter(own), None)
    return f"{path}, line {number}: " if number else f"{path}: "


def _told(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def whole(given: str) -> str:
    """What an extension means as a whole, for a notebook, which may show any of it.

    - given: the run's `extension`; of none it is empty.
    """
    path = str(project_root() / Path(given).expanduser())
    return identity.meaning(_texts[path]) if given else ""


def used(value: dict) -> dict[str, dict[str, str]]:
    """{"extension": name -> fingerprint} of the registered names in an identity; else empty.

    - value: a record's identity or a recipe; every word in it counts.

    Raises UserError for a name that was registered elsewhere: its meaning is in no file of the run.
    """
    found, names = {}, {name for _, name in register.own}
    for name in sorted(names & _words(value)):
        if name not in _from:
            raise UserError(
                f"{name!r} was registered outside a run's extension: put the call of "
                "milib.register into a file, and name it as the parameter `extension`"
            )
        found[name] = _meaning(name)
    return {"extension": found} if found else {}


def _words(value: object) -> set[str]:
    """Every text in nested dicts and lists."""
    if isinstance(value, str):
        return {value}
    parts = [*value, *value.values()] if isinstance(value, dict) else value
    found: set[str] = set()
    if isinstance(parts, list | tuple):
        for part in parts:
            found |= _words(part)
    return found


def _meaning(name: str) -> str:
    """A fingerprint of what an extension's text says about one of its names.

    That is every statement at its top that defines nothing, but for the registrations of others,
    and the definitions that it names at any remove.
    """
    path = _from[name]
    others = {other for other, file in _from.items() if file == path} - {name}
    definitions: dict[str, list[ast.AST]] = {"": []}
    for defined, node in identity.definitions_of(_texts[path]):
        words = {each.value for each in ast.walk(node) if isinstance(each, ast.Constant)}
        if defined or name in words or not words & others:
            definitions.setdefault(defined, []).append(node)
    return identity.followed(definitions, {""})
