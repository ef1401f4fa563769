"""How long the jobs of a run take: as they took here, else as they were once measured."""

import contextlib
import json
from pathlib import Path

from milib.study import paths

KEPT = "times.json"
"""In outputs/reference: what `milib.report.took` kept of runs."""
ROUGHLY = {
    "c10_compact": {
        "01_train_mixup": 240, "02_train_interpolated_at": 240, "03_theory": 240,
        "04_oblivious": 6600, "05_detection": 360, "06_tradeoff": 3900,
        "07_adaptive_attacks": 2700, "08_beyond_the_paper": 10800,
    },
}  # fmt: skip
"""Seconds of a run whose jobs were never timed as a whole: the README's hours on two cores, shared
out as the records took on a GPU."""


def last(folder: Path) -> dict[str, float]:
    """What the jobs of a run took when they last ran here, by name, in seconds.

    - folder: of the run.
    """
    found = {}
    for path in folder.glob("profile/[!.]*.seconds"):
        with contextlib.suppress(OSError, ValueError):
            found[path.stem] = float(path.read_text())
    return found


def kept() -> dict[str, dict]:
    """What was kept, by run; nothing where milib was installed without the clone."""
    with contextlib.suppress(OSError):
        return json.loads((paths.reference_root() / KEPT).read_text("utf-8"))
    return {}


def expected(folder: Path, changed: bool) -> dict[str, float]:
    """How long jobs of a run may take, by name, in seconds; those that nothing tells are left out.

    - folder: of the run.
    - changed: whether parameters were changed: then what was measured says nothing.
    """
    if changed:
        return last(folder)
    measured = kept().get(folder.name, {}).get("seconds", ROUGHLY.get(folder.name, {}))
    return measured | last(folder)
