"""What an audit found: a table of attacks, and the checklist, as text, HTML, JSON or a frame."""

import json
from dataclasses import asdict, dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from milib.audit.checklist import Line
from milib.audit.facts import Facts
from milib.audit.libraries import library
from milib.audit.measure import accuracy, within, worst
from milib.statistics import interval, percent

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = ("attack", "accuracy [95 %], %", "passes an image", "images", "note")
STYLE = "text-align: left; vertical-align: top"


@dataclass(frozen=True)
class Row:
    """A line of the table.

    - attack: its name, or "worst case".
    - accuracy, low, high: what it leaves of the images that it met, with the 95 % interval, as
      fractions; None where it met none.
    - passes: forward and backward passes of one draw, an image.
    - images: how many it met.
    - note: what was cut, or what is special.
    """

    attack: str
    accuracy: float | None
    low: float | None
    high: float | None
    passes: int
    images: int
    note: str


@dataclass(frozen=True)
class Audit:
    """The result of `milib.audit`: it shows itself in a notebook, and prints as text.

    - defense: its class.
    - records: what every attack left, by name: of `battery.run`.
    - facts: what the defense does with its randomness.
    - lines: the checklist.
    """

    defense: str
    records: dict[str, dict]
    facts: Facts
    lines: list[Line]

    @property
    def rows(self) -> list[Row]:
        """The table: a row for each attack in their order, and the worst case at the end."""
        found = [_row(name, record) for name, record in self.records.items()]
        counted = within(self.records)
        value, low, high = interval(worst(counted))
        total = sum(record["passes"] for record in counted)
        note = f"the minimum of each image over {len(counted) - 1} attacks"
        images = len(counted[0]["index"])
        return [*found, Row("worst case", value, low, high, total, images, note)]

    def frame(self) -> "DataFrame":
        """The table as a pandas data frame.

        Raises UserError where pandas is not installed.
        """
        return library("pandas").DataFrame([asdict(row) for row in self.rows])

    def json(self) -> str:
        """Everything as JSON: defense, table, checklist, facts and the records of every image."""
        found: dict[str, Any] = {
            "what": "an audit of milib",
            "defense": self.defense,
            "table": [asdict(row) for row in self.rows],
            "checklist": [asdict(line) for line in self.lines],
            "facts": asdict(self.facts),
            "records": self.records,
        }
        return json.dumps(found, indent=1, allow_nan=False)

    def __str__(self) -> str:
        cells = [COLUMNS, *(_cells(row) for row in self.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(COLUMNS))]
        text = [f"Audit of {self.defense}", ""]
        for row in cells:
            padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            text.append("  ".join(padded).rstrip())
        text.append("")
        for line in self.lines:
            text.append(f"{line.number:2d}  {line.verdict:14s}  {line.what}")
            text.append(f"{' ' * 20}{line.evidence}")
        return "\n".join(text)

    def _repr_html_(self) -> str:
        lines = [(str(line.number), line.what, line.verdict, line.evidence) for line in self.lines]
        head = ("", "checklist", "verdict", "evidence")
        title = f"<p><b>Audit of {escape(self.defense)}</b></p>"
        return title + _table(COLUMNS, [_cells(row) for row in self.rows]) + _table(head, lines)


def _row(name: str, record: dict) -> Row:
    met = len(record["index"])
    value = low = high = None
    if met:
        value, low, high = interval(accuracy(record))
    note = record["note"]
    if record["on"] == "left":
        note = f"of those left; {note}" if met else "no image was left"
    return Row(name, value, low, high, record["passes"], met, note)


def _cells(row: Row) -> tuple[str, ...]:
    """A row as a table shows it."""
    left = "-"
    if row.accuracy is not None and row.low is not None and row.high is not None:
        left = percent((row.accuracy, row.low, row.high))
    return row.attack, left, f"{row.passes:,}", str(row.images), row.note


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """An HTML table."""
    made = ["<table>", _line("th", head)]
    for row in rows:
        made.append(_line("td", row))
    return "\n".join([*made, "</table>"])


def _line(tag: str, cells: tuple[str, ...]) -> str:
    made = "".join(f'<{tag} style="{STYLE}">{escape(cell)}</{tag}>' for cell in cells)
    return f"<tr>{made}</tr>"
