"""A value of a parameter in its one form, or one line that says what to write instead."""

import difflib
import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any, get_args, get_origin

from milib.checks import choice, shown
from milib.defenses import Limits
from milib.errors import UserError
from milib.study.strict_yaml import parse

WORDS = {dict: "a table", bool: "true or false", str: "a word"}
"""What a value of a type is called where another one was given."""


def nearest(word: object, valid: Iterable[str]) -> str:
    """The name that a word is most like.

    - word: what was written.
    - valid: the names.
    """
    return difflib.get_close_matches(str(word)[:100].lower(), list(valid), 1, 0)[0]


def _float(value: object) -> float | None:
    """A number, or a text that is one or a fraction of two; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | numbers.Real):
        return None
    try:
        if isinstance(value, str) and "/" in value:
            above, below = value.split("/")
            return float(above) / float(below)
        return float(value)
    except OverflowError:  # a whole number beyond every range
        return 1e308 if value > 0 else -1e308  # pyright: ignore[reportOperatorIssue]
    except (ValueError, ZeroDivisionError):
        return None


def number(where: str, value: object, kind: type, low: float, high: float) -> float:
    """A number within bounds, as an int or a float.

    - where: the parameter, for the error.
    - value: what was given: a number or a text such as "8/255".
    - kind: int or float.
    - low, high: both allowed.

    Raises UserError for anything else, inf, NaN and bools included.
    """
    found = _float(value)
    if found is None or not math.isfinite(found):
        raise UserError(f"{where} is {shown(value)}: write a number such as 0.5 or 8/255")
    if kind is int and not found.is_integer():
        raise UserError(f"{where} is {shown(value)}: write a whole number")
    if not low <= found <= high:
        raise UserError(f"{where} is {shown(value)}: it must lie between {low} and {high}")
    return kind(found)


def items(where: str, value: Any) -> list | tuple:
    """A list or tuple that is not empty. Raises UserError for anything else.

    - where: the parameter, for the error.
    - value: what was given.
    """
    if not isinstance(value, list | tuple) or not value:
        raise UserError(f"{where} is {shown(value)}: write a list such as [1, 2, 3]")
    return value


def checked(where: str, value: Any, kind: Any, allowed: Mapping) -> Any:
    """A value as its kind has it.

    - where: the parameter, for the error.
    - value: what was given; a text may be the YAML of a list, a table, true or false.
    - kind: int, float, bool, str, dict or a list of one of them.
    - allowed: `low` and `high` of a number, `choices` of a word.

    A list comes back as a tuple. Raises UserError where the value is none of this.
    """
    is_list = get_origin(kind) is list
    if isinstance(value, str) and value and (is_list or kind in (dict, bool)):
        value = parse(where, value)  # `-p steps "[10, 50]"`, `-p match_clean true`
    if is_list:
        (of,) = get_args(kind)
        return tuple(checked(where, item, of, allowed) for item in items(where, value))
    if kind not in WORDS:
        return number(where, value, kind, allowed["low"], allowed["high"])
    if not isinstance(value, kind):
        raise UserError(f"{where} is {shown(value)}: write {WORDS[kind]}")
    if allowed["choices"]:
        return choice(where, value, allowed["choices"])
    if kind is str and not value.isprintable():
        raise UserError(f"{where} is {shown(value)}: write a word of characters that print")
    return value


def setting(where: str, value: Any, limits: Limits) -> Any:
    """A parameter of a defense: a number, or [least, most] as a list.

    - where: the parameter, for the error.
    - value: what was given.
    - limits: its form and bounds.

    Raises UserError where it is of another form or outside.
    """
    kind: Any = float
    if limits.form == "whole range":
        kind = list[int]
    elif limits.form == "number or range" and isinstance(value, list | tuple):
        kind = list[float]
    found = checked(where, value, kind, {"low": limits.low, "high": limits.high})
    if not isinstance(found, tuple):
        return found
    if len(found) != 2 or found[0] > found[1]:
        raise UserError(f"{where} is {shown(list(found))}: write [least, most]")
    return list(found)
