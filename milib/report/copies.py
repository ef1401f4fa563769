"""A table as text to be copied: LaTeX and Markdown, each value with its interval."""

import itertools

import pandas as pd

from milib.views import styling


def _parts(frame: pd.DataFrame) -> list[styling.Column]:
    """The columns, those that say what a row is of first."""
    if frame.index.names[0] is None:
        return styling.columns(frame)
    return styling.columns(frame.index.to_frame(index=False)) + styling.columns(frame)


def _heads(parts: list[styling.Column]) -> list[str]:
    """What stands above each column, in one line; a value of the paper stands beside ours."""
    found: list[str] = []
    for part in parts:
        if part.head == "paper":
            found.append(f"{found[-1]}, paper" if found else part.name)
        else:
            found.append(f"{part.group}, {part.head}" if part.group else part.head)
    return found


def _rows(parts: list[styling.Column]) -> list[list[str]]:
    cells = []
    for part in parts:
        pairs = zip(part.values, part.intervals, strict=True)
        cells.append([f"{value} ({ends})" if ends else value for value, ends in pairs])
    return [list(row) for row in zip(*cells, strict=True)]


def markdown(frame: pd.DataFrame) -> str:
    """A table as Markdown.

    - frame: as milib/views/styling.py describes it.
    """
    parts = _parts(frame)
    aligned = ["---" if part.classes[:1] == ["text"] else "---:" for part in parts]
    lines = []
    for row in itertools.chain([_heads(parts)], _rows(parts)):
        lines.append([cell.replace("|", r"\|") for cell in row])
    lines.insert(1, aligned)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def latex(frame: pd.DataFrame) -> str:
    r"""A table as a LaTeX tabular, whose lines need \usepackage{booktabs}.

    - frame: as milib/views/styling.py describes it.
    """
    parts = _parts(frame)
    aligned = "".join("l" if part.classes[:1] == ["text"] else "r" for part in parts)
    cells = pd.DataFrame([_heads(parts), *_rows(parts)]).replace("–", "--", regex=True)
    style = cells.iloc[1:].style.hide(axis="index").format(escape="latex")
    heads = cells.iloc[0].to_list()
    style.format_index(lambda place: heads[place], axis=1, escape="latex")
    return style.to_latex(column_format=aligned, hrules=True).rstrip()
