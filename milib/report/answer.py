"""What a run says first: whether MI-OL helps, and the table that shows it."""

import pandas as pd

from milib.report import results
from milib.report.run_folder import RunFolder
from milib.study.rows import PRIMARY
from milib.views import styling

WORST = "worst case"
"""The column of 08 over all its attacks."""


def main_table(run: RunFolder) -> pd.DataFrame | None:
    """The bare models and those with MI-OL: clean, under PGD-10, and in the worst case of 08.

    - run: the run's folder.

    None where the run has no table of notebook 04.
    """
    if not run.table("oblivious"):
        return None
    frame = _frame(run, "oblivious")
    kept = [row for row in frame.index if " + " not in row or row.endswith(" + MI-OL")]
    shown = frame.loc[kept, [name for name in frame if name.split(" ")[0] in ("clean", PRIMARY)]]
    if run.table("beyond_left"):
        left = _frame(run, "beyond_left").reset_index("parameters", drop=True)
        shown = shown.join(left[[name for name in left if name.startswith(WORST)]])
    return shown


def answer(run: RunFolder) -> dict:
    """The values of the first sentences; empty where no notebook has measured MI-OL.

    - run: the run's folder.

    Its keys: the `nets`, as `results.defended` has them; on how many of these MI-OL `helps` under
    PGD-10; how many 08 attacked (`worst_of`), and on how many MI-OL helps there (`worst`); how many
    test `images` 04 and 08 (`worst_images`) have. MI-OL helps where the 95 % interval of its gain
    lies above 0.
    """
    nets = results.defended(run)
    if not nets:
        return {}
    rows = {f"{net.model} + MI-OL" for net in nets}
    worst = [row for row in run.table("beyond_gains") if row["comparison"] in rows]
    ends = [results.number(row, f"{WORST}, points low") for row in worst]
    paired = {row["row"]: row for row in run.table("paired")}
    gains = [paired[net.model] for net in nets if net.gain]
    return {
        "nets": nets,
        "helps": sum(results.number(row, f"{PRIMARY}, points high") < 0 for row in gains),
        "worst_of": len(ends),
        "worst": sum(end > 0 for end in ends),
        "images": results.images_of(run, "score"),
        "worst_images": results.images_of(run, "beyond"),
    }


def _frame(run: RunFolder, name: str) -> pd.DataFrame:
    return styling.read(run.path / "tables" / f"{name}.csv")
