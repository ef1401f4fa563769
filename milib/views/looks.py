"""The look of all figures: colours, marks and lines, sizes, and how they are kept."""

import io
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from milib import files


class Style(NamedTuple):
    """How the curve and the points of one thing are drawn.

    - colour: as #RRGGBB.
    - marker: of matplotlib.
    - line: of matplotlib.
    """

    colour: str
    marker: str
    line: str | tuple


BLACK, GREY = "#000000", "#656565"
"""Of what has no defense, and of lines that nothing measured: chance, a fit."""
BLUE, ORANGE, PURPLE, GREEN = "#1637E3", "#D17F12", "#400766", "#2C4535"
BROWN, AZURE, SAGE, MAUVE = "#885409", "#2994FF", "#83967B", "#977599"
SHORT, LONG, SPARSE = (0, (2, 1)), (0, (9, 2)), (0, (4, 4))
UNEQUAL, DASH_DOTS, DOTS = (0, (7, 2, 3, 2)), (0, (5, 1.5, 1, 1.5, 1, 1.5)), (0, (1, 3))
OWN = Style(GREY, "p", DOTS)
"""Of what a reader adds."""
STYLES = {
    "none": Style(BLACK, "h", "--"),
    "gaussian_noise": Style(GREEN, "^", ":"),
    "rotation": Style(BROWN, "v", DASH_DOTS),
    "xie": Style(AZURE, "P", SPARSE),
    "guo": Style(SAGE, "X", SHORT),
    "mi_pl": Style(BLUE, "o", LONG),
    "mi_ol": Style(ORANGE, "s", "-"),
    "mi_combined": Style(PURPLE, "D", "-."),
    "mi_any": Style(MAUVE, "*", UNEQUAL),
    "confidence": Style(BLACK, "h", ":"),
    "erm": Style(GREEN, "^", ":"),
    "mixup": Style(AZURE, "o", "-"),
    "at": Style(PURPLE, "D", "--"),
    "interpolated_at": Style(ORANGE, "s", "-."),
    "manifold_mixup": Style(SAGE, "X", SHORT),
    "matched_mixup": Style(BLUE, "P", LONG),
    "long_mixup": Style(BROWN, "v", DASH_DOTS),
}
"""Of defenses, detectors and models: the same style for the same thing everywhere.

A search found the colours. Under normal vision, protanopia, deuteranopia and tritanopia those of
one figure are at least 17 apart in CIEDE2000, and OWN's at least 14 from each of them."""
COLOURS = defaultdict(lambda: OWN.colour, {name: style.colour for name, style in STYLES.items()})
"""The colours of `STYLES`, for what has neither line nor marks."""
LOOK: Any = {
    "figure.dpi": 100,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "svg.hashsalt": "milib",
    "figure.constrained_layout.use": True,
}
"""Settings of matplotlib."""
OUTSIDE = {"loc": "center left", "bbox_to_anchor": (1, 0.5), "frameon": False, "fontsize": 8}
"""Where a legend covers no curve."""


def curve(name: str) -> dict[str, Any]:
    """Options of matplotlib's `plot` for the curve of a defense, a detector or a model.

    - name: a key of `STYLES`; any other is drawn as a reader's own.
    """
    style = STYLES.get(name, OWN)
    return {"color": style.colour, "marker": style.marker, "ls": style.line, "ms": 4, "lw": 1}


def panels(
    rows: int, columns: int, width: float = 3.2, height: float = 2.7, **options
) -> tuple[Figure, np.ndarray]:
    """A figure with a grid of axes [rows, columns].

    - rows, columns: how many.
    - width, height: of one of them, in inches; by default 3.2 and 2.7.
    - options: of matplotlib's `subplots`.
    """
    size = (width * columns, height * rows)
    with plt.rc_context(LOOK):
        return plt.subplots(rows, columns, figsize=size, squeeze=False, **options)


def save(figure: Figure, path: Path) -> None:
    """Write path.png and path.svg, each complete or not at all.

    - figure: what is saved; its layout is fixed from then on.
    - path: without an ending.
    """
    metadata = {"png": None, "svg": {"Date": None}}
    with plt.rc_context(LOOK):
        for ending in ("png", "svg"):
            content = io.BytesIO()
            figure.savefig(content, format=ending, dpi=200, metadata=metadata[ending])
            figure.set_layout_engine("none")  # laid out once: it takes as long as drawing
            files.write_atomic(path.with_name(f"{path.name}.{ending}"), content.getvalue())
