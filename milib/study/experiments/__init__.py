"""What the notebooks measure: each function returns one record, kept by the study's store."""

from milib.study.experiments.adaptive_attacks import adaptive, adaptive_examples
from milib.study.experiments.analysis import linearity, mixed_predictions, monte_carlo
from milib.study.experiments.matching import grid, heldout_clean, matched_row, reference_row
from milib.study.experiments.oblivious import (
    bare,
    detection,
    families,
    score,
    summary_rows,
    tradeoff,
)

__all__ = [
    "adaptive",
    "adaptive_examples",
    "bare",
    "detection",
    "families",
    "grid",
    "heldout_clean",
    "linearity",
    "matched_row",
    "mixed_predictions",
    "monte_carlo",
    "reference_row",
    "score",
    "summary_rows",
    "tradeoff",
]
