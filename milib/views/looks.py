"""The look of all figures: colours, sizes, and how they are kept."""

import io
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from milib import files

# Okabe and Ito's colours, told apart by every kind of colour vision; grey for what a reader adds.
COLOURS = defaultdict(
    lambda: "#666666",
    {
        "none": "#000000",
        "gaussian_noise": "#009E73",
        "rotation": "#E69F00",
        "xie": "#56B4E9",
        "guo": "#999933",
        "mi_pl": "#0072B2",
        "mi_ol": "#D55E00",
        "mi_combined": "#CC79A7",
        "mi_any": "#882255",
        "confidence": "#000000",
        "erm": "#999999",
        "mixup": "#0072B2",
        "at": "#E69F00",
        "interpolated_at": "#D55E00",
        "manifold_mixup": "#009E73",
        "matched_mixup": "#56B4E9",
        "long_mixup": "#CC79A7",
    },
)
"""Of defenses, detectors and models: the same colour for the same thing everywhere."""
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
