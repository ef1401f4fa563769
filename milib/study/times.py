"""How long the jobs of a run take: as they took here, else as they were once measured."""

import contextlib
from pathlib import Path

MEASURED = {
    "digits": {
        "train_at": 58, "train_erm": 24, "train_interpolated_at": 58, "train_long_mixup": 50,
        "train_manifold_mixup": 29, "train_matched_mixup": 24, "train_mixup": 26,
        "01_train_mixup": 20, "02_train_interpolated_at": 23, "03_theory": 27,
        "04_oblivious": 215, "05_detection": 21, "06_tradeoff": 75,
        "07_adaptive_attacks": 90, "08_beyond_the_paper": 290,
    },
    "c10_compact": {
        "01_train_mixup": 240, "02_train_interpolated_at": 240, "03_theory": 240,
        "04_oblivious": 6600, "05_detection": 360, "06_tradeoff": 3900,
        "07_adaptive_attacks": 2700, "08_beyond_the_paper": 10800,
    },
}  # fmt: skip
"""Seconds on two cores with AVX2; c10_compact's are what the README has, shared out as on a GPU."""


def last(folder: Path) -> dict[str, float]:
    """What the jobs of a run took when they last ran here, by name, in seconds.

    - folder: of the run.
    """
    found = {}
    for path in folder.glob("profile/[!.]*.seconds"):
        with contextlib.suppress(OSError, ValueError):
            found[path.stem] = float(path.read_text())
    return found


def expected(folder: Path, changed: bool) -> dict[str, float]:
    """How long jobs of a run may take, by name, in seconds; those that nothing tells are left out.

    - folder: of the run.
    - changed: whether parameters were changed: then what was measured says nothing.
    """
    measured = {} if changed else MEASURED.get(folder.name, {})
    return measured | last(folder)
