"""What a reader sees of the names of code, records and columns: words, and symbols of equations."""

import re
from collections.abc import Hashable

WORDS = {"eq24": "Eq. 24", "mean_ce": "mean cross-entropy", "as_published": "as published"}
WORDS |= {"none": "bare", "TV": "total variation", "ce": "cross-entropy", "dlr": "DLR"}
"""What a reader sees of a name of the code."""
HEADS = {
    "at 5 % FPR": "found at 5 % false positives",
    "found at 5 % FPR": "found at 5 % false positives",
    "best": "its accuracy",
    "last": "last epoch's accuracy",
    "lost": "points lost",
    "minus": "compared with",
    "residual": "difference, points",
    "here": "this run",
    "otherwise": "chosen otherwise",
    "one set": "one draw set",
    "all sets": "all draw sets",
    "front": "on the Pareto front",
    "passes": "passes of the net",
    "varied": "what is varied",
    "G with": "G acts by",
    "DG enumerated": "detection gap, enumerated",
    "decision right": "right decision",
}
"""What a reader sees of a column's name. Files keep the short one."""
SYMBOLS = {"Delta F": "ΔF", "(delta;": "(δ;", "yhat": "ŷ", "x~0": "x̃₀", "x~": "x̃", "lambda": "λ"}
"""Symbols as the notebooks' equations have them."""
ATTACK = re.compile(r"(untargeted|targeted)_pgd(\d+)")


def readable(value: Hashable) -> str:
    """A name of the code in words: "untargeted PGD-10"; symbols as equations have them.

    - value: a name, a number or a text.
    """
    text = str(value)
    text = WORDS.get(text, ATTACK.sub(r"\1 PGD-\2", text))
    for written, symbol in SYMBOLS.items():
        text = text.replace(written, symbol)
    return text


def heads_of(name: str) -> tuple[str, str]:
    """What stands above a column: the head of its group and its own.

    - name: the column's, such as "MI-OL, clean".
    """
    group, _, own = name.rpartition(", ")
    attack = ATTACK.fullmatch(own)
    if attack and not group:
        return attack[1], f"PGD-{attack[2]}"
    return head_of(group), head_of(own)


def head_of(name: Hashable) -> str:
    """What stands above a column.

    - name: its own name, or that of its group.
    """
    return HEADS.get(str(name), readable(name))
