"""Tables as a reader sees them, made from data frames that hold one number a cell.

How columns are named, in the frames of `tables` and `theory_tables` and in the CSV files of a run:

- The leading columns with names of KEYS say what a row is of; in a frame they are its index.
- `c`: a value. Accuracies are in percent, differences of accuracies in points.
- `c low`, `c high`: its 95 % interval.
- `c paper`: the value that the paper prints, as text ("<=1" is one); empty where it prints none.
- `group, c`: c under the head of a group.
- `clean`, `untargeted_pgd10`, ...: accuracy on these inputs, as records name them.

A CSV file has one header row. A report shows it with `styled(read(path), name).to_html()`.
"""

import csv
import html
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import is_integer_dtype, is_numeric_dtype
from pandas.io.formats.style import Styler
from pandas.io.formats.style_render import CSSStyles

from milib.files import digest
from milib.views.wording import head_of, heads_of, readable

KEYS = ("choice", "row", "column", "model", "defense", "detector", "parameters", "claim")
KEYS += ("comparison", "quantity", "G with", "component", "prediction", "adaptive samples")
KEYS += ("attack", "item", "varied")
"""The columns that say what a row is of."""
DIFFERENCES = ("difference", "points", "residual")
"""What the name of a column of differences ends with."""
RAMP, SHADES = "45, 140, 215", 10
"""A colour and its shades from 0 to 100 %, laid thinly over a light or dark page."""
RULES = {
    "": "border-collapse: collapse; font-size: 12px; line-height: 1.25; margin: 4px 0",
    "caption": "caption-side: top; text-align: left; padding: 2px 5px 6px",
    "th, td": "padding: 2px 4px; border: 0; min-width: 0; vertical-align: top; color: inherit; "
    "white-space: normal; overflow-wrap: normal",
    "tbody tr": "background: transparent; border-top: 1px solid rgba(128, 128, 128, 0.3)",
    "thead th": "text-align: right; font-weight: 600; vertical-align: bottom; white-space: nowrap",
    "thead tr:not(:last-child) th": "text-align: center",
    "tbody th, thead th.index_name": "text-align: left; font-weight: 400; max-width: 13.5em",
    "tbody th.level1": "max-width: 24em",
    "td.number, td.paper": "text-align: right; white-space: nowrap; "
    "font-variant-numeric: tabular-nums",
    "td.text": "text-align: left; max-width: 34em",
    "td.paper": "opacity: 0.75",
    "td.best": "font-weight: 700",
    "td small": "font-size: 9px; font-weight: 400; color: inherit; opacity: 0.8",
}
RULES |= {
    f"td.shade{step}": f"background: rgba({RAMP}, {0.05 * step:.2f}); color: inherit"
    for step in range(SHADES + 1)
}
"""The look of every table: CSS selector -> properties."""


def write(frame: pd.DataFrame) -> bytes:
    """A table as CSV: a header row, one number a cell.

    - frame: as this module's head describes it.
    """
    return frame.to_csv(index=_has_keys(frame)).encode()


def read(path: Path) -> pd.DataFrame:
    """The frame of which `write` made a file.

    - path: the CSV file.
    """
    with open(path, newline="", encoding="utf-8") as file:
        names = next(csv.reader(file))
    printed = [name for name in names if name.split(" ")[-1] == "paper"]
    frame = pd.read_csv(
        path,
        dtype=dict.fromkeys(printed, "str"),
        keep_default_na=False,
        na_values={name: [""] for name in names if name not in printed},
    )
    for name in names:
        if not is_numeric_dtype(frame[name]):
            frame[name] = frame[name].fillna("")
    keys = list(itertools.takewhile(KEYS.__contains__, names))
    return frame.set_index(keys) if keys else frame


@dataclass(frozen=True)
class Column:
    """A column as it is shown. An interval is part of the column of its value.

    - name: that of the frame.
    - group, head: what stands above it, in two lines.
    - values: its cells as text.
    - intervals: theirs, "9.7–17.3" or "-1.2 to 0.4"; empty where there are none.
    - classes: theirs, for RULES.
    """

    name: str
    group: str
    head: str
    values: list[str]
    intervals: list[str]
    classes: list[str]


def columns(frame: pd.DataFrame) -> list[Column]:
    """The columns of a frame as they are shown; those of a group stand side by side.

    - frame: as this module's head describes it.
    """
    none = [""] * len(frame)
    found = []
    for name in frame:
        base, _, part = name.rpartition(" ")
        if part in ("low", "high") and base in frame:
            continue
        group, head = heads_of(base if part == "paper" and base else name)
        if part == "paper":
            if base in frame:
                head = part
            column = Column(name, group, head, list(frame[name]), none, ["paper"] * len(frame))
        elif is_numeric_dtype(frame[name]):
            values, intervals = _numbers(frame, name)
            column = Column(name, group, head, values, intervals, _classes(frame, name))
        else:
            values = [readable(value) for value in frame[name]]
            column = Column(name, group, head, values, none, ["text"] * len(frame))
        found.append(column)
    groups = [column.group or column.name for column in found]
    return sorted(found, key=lambda column: groups.index(column.group or column.name))


def styled(frame: pd.DataFrame, name: str) -> Styler:
    """A table for the eye, from its frame alone.

    - frame: as this module's head describes it.
    - name: becomes the id of the HTML table; unique on a page.

    Columns stand under the heads of their groups, an interval in small print under its value, the
    paper's value beside it. An accuracy is shaded by its value; it is bold where no row of the
    same model has a higher one.
    """
    parts = columns(frame)
    cells, classes, labels = {}, {}, {}
    for part in parts:
        pairs = zip(part.values, part.intervals, strict=True)
        cells[part.name] = [_cell(value, interval) for value, interval in pairs]
        classes[part.name] = part.classes
        labels[part.name] = html.escape(part.head)
    groups = [part.group for part in parts]
    heads = pd.Index(list(cells))
    if any(groups):
        heads = pd.MultiIndex.from_arrays([groups, list(cells)])
    row_heads = index = _row_heads(frame)
    heads.names = [*heads.names[:-1], index.names[-1]]
    if not isinstance(index, pd.MultiIndex):  # two rows may have one name: pandas wants them apart
        index = pd.RangeIndex(len(frame), name=index.name)
    shown = pd.DataFrame(cells, index=index).set_axis(heads, axis=1)
    named = pd.DataFrame(classes, index=index).set_axis(heads, axis=1)
    style = Styler(shown, uuid=name, cell_ids=False).set_td_classes(named)
    if index is row_heads:
        style.format_index(_breaking, axis=0)
    else:
        style.format_index(lambda place: _breaking(row_heads[place]), axis=0)
    style.format_index(html.escape, axis=1)
    style.format_index(labels.__getitem__, axis=1, level=heads.nlevels - 1)
    style.hide(axis="index", names=_has_keys(frame))
    style.set_table_styles(_rules(parts))
    return style


def _rules(parts: list[Column]) -> CSSStyles:
    """RULES, a line before each group of columns, and the heads of text above its left end."""
    rules = dict(RULES)
    for place, part in enumerate(parts):
        if place and part.group != parts[place - 1].group:
            rules[f".col{place}"] = "border-left: 1px solid rgba(128, 128, 128, 0.5)"
        if part.classes[:1] == ["text"]:
            rules[f"thead th.col{place}"] = "text-align: left"
    return [{"selector": selector, "props": props} for selector, props in rules.items()]


def _breaking(head: object) -> str:
    """A row's head as HTML, which may be broken at an underscore."""
    return html.escape(str(head)).replace("_", "_<wbr>")


@dataclass(frozen=True, repr=False)
class Shown:
    """A table in a notebook: styled where HTML is shown, else text.

    - frame: as this module's head describes it.
    - name: see `styled`.
    - caption: stands above the table; empty: none.

    Of an empty table only the caption is shown, and that there are no rows.
    """

    frame: pd.DataFrame
    name: str
    caption: str = ""

    def _repr_html_(self) -> str:
        if self.frame.empty:
            return f"<p>{html.escape(self.caption or 'this table')}: no rows</p>"
        style = styled(self.frame, self.name)
        if self.caption:
            style.set_caption(html.escape(self.caption))
        return style.to_html()

    def __repr__(self) -> str:
        if self.frame.empty:
            return "no rows"
        parts = columns(self.frame)
        heads, lines = [], []
        for part in parts:
            named = part.head == "paper" or not part.group
            heads.append(part.head if named else f"{part.group} {part.head}")
            pairs = zip(part.values, part.intervals, strict=True)
            lines.append([f"{value} ({ends})" if ends else value for value, ends in pairs])
        cells = pd.DataFrame(lines, index=heads, columns=_row_heads(self.frame))
        return cells.T.to_string()


def show(frame: pd.DataFrame, caption: str = "") -> Shown:
    """A table to be seen in a notebook without being kept.

    - frame: as this module's head describes it.
    - caption: stands above the table; by default none.
    """
    return Shown(frame, digest(write(frame).decode()), caption)


def _has_keys(frame: pd.DataFrame) -> bool:
    return frame.index.names[0] is not None


def _row_heads(frame: pd.DataFrame) -> pd.Index:
    """The index with names in words."""
    if not _has_keys(frame):
        return frame.index
    names = [head_of(name) for name in frame.index.names]
    if isinstance(frame.index, pd.MultiIndex):
        lines = [tuple(map(readable, line)) for line in frame.index]
        return pd.MultiIndex.from_tuples(lines, names=names)
    return pd.Index([readable(key) for key in frame.index], name=names[0])


def _cell(value: str, interval: str) -> str:
    """A cell as HTML. The line break stands where a page takes styles out, too."""
    text = html.escape(value)
    return f"{text}<br><small>{interval}</small>" if interval else text


def _decimals(values: np.ndarray) -> int:
    """Digits behind the point with which all these values are written."""
    known = values[~np.isnan(values)]
    return max((len(repr(float(value)).partition(".")[2]) for value in known), default=1)


def _digits(frame: pd.DataFrame, names: list[str]) -> list[int]:
    """Digits behind the point in each row of a column and its interval.

    Rows are alike in a column; where each row is another quantity, columns are alike in a row.
    """
    if frame.index.name != "quantity":
        whole = all(is_integer_dtype(frame[name]) for name in names)
        return [0 if whole else _decimals(frame[names].to_numpy(float).ravel())] * len(frame)
    found = []
    for row in frame.to_numpy(float):
        whole = np.equal(np.mod(row[~np.isnan(row)], 1), 0).all()
        found.append(0 if whole else _decimals(row))
    return found


def _is_difference(name: str) -> bool:
    return name.rpartition(", ")[2] in DIFFERENCES


def _numbers(frame: pd.DataFrame, name: str) -> tuple[list[str], list[str]]:
    """The values of a column as text, and their intervals."""
    names = [name]
    if f"{name} low" in frame:
        names += [f"{name} low", f"{name} high"]
    sign = "+" if _is_difference(name) else ""
    values, intervals = [], []
    for digits, row in zip(_digits(frame, names), frame[names].to_numpy(float), strict=True):
        texts = ["" if np.isnan(number) else f"{number:{sign}z.{digits}f}" for number in row]
        values.append(texts[0])
        ends = texts[1:] if all(texts) else []
        signed = bool(ends) and ends[0][0] in "+-"
        intervals.append((" to " if signed else "–").join(ends))
    return values, intervals


def _classes(frame: pd.DataFrame, name: str) -> list[str]:
    """The classes of a column of numbers: accuracies are those that have an interval."""
    accuracy = f"{name} low" in frame and not _is_difference(name)
    if not accuracy or frame.index.name == "quantity":
        return ["number"] * len(frame)
    values = frame[name].to_numpy(float)
    best = _best(frame, values)
    found = []
    for value, is_best in zip(values, best, strict=True):
        words = ["number"]
        if not np.isnan(value):
            words.append(f"shade{round(SHADES * value / 100)}")
        if is_best:
            words.append("best")
        found.append(" ".join(words))
    return found


def _best(frame: pd.DataFrame, values: np.ndarray) -> list[bool]:
    """Which values no other row of the same model exceeds; none where a model has one row.

    Rows that differ by their attack do not compete.
    """
    levels = frame.index.names
    if "attack" in levels:
        return [False] * len(frame)
    if "model" in levels:
        models = list(frame.index.get_level_values("model"))
    elif "row" in levels:
        models = [row.split(" + ")[0] for row in frame.index.get_level_values("row")]
    else:
        return [False] * len(frame)
    found: dict[str, list[float]] = {}
    for model, value in zip(models, values, strict=True):
        found.setdefault(model, []).append(value)
    pairs = zip(models, values, strict=True)
    return [len(found[model]) > 1 and value == max(found[model]) for model, value in pairs]
