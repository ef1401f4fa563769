"""The paper's own net beside the paper's values under PGD-10, as cells for FINDINGS.md."""

from milib import statistics
from milib.report import verdicts
from milib.report.results import images_of, measured, number, settings_of
from milib.report.run_folder import RunFolder
from milib.study.comparisons import Comparison
from milib.study.rows import PRIMARY, paper_table
from milib.views.oblivious_tables import PAPER_IMAGES


def reached(run: RunFolder) -> list[list[str]]:
    """Each row that the paper prints, with the label and with the prediction attacked.

    - run: the run's folder. Of a net that is not the paper's there are no rows.

    Cells: row, the paper's value, here with the label attacked, here minus the paper; both again
    with the prediction attacked, as the authors' code does; which of the two reaches the paper's
    value, which means that the 95 % interval of the difference holds 0. A cell is "–" where
    nothing was measured.
    """
    settings = settings_of(run)
    if settings.model != "resnet50":
        return []
    paper, images = paper_table(settings), images_of(run, "score")
    otherwise = {
        row["row"]: number(row, "otherwise")
        for row in run.table("otherwise")
        if row["choice"] == "the prediction is attacked" and row["column"] == PRIMARY
    }
    found = []
    for row in run.table("oblivious"):
        name, _, _ = row["row"].partition(" (sigma ")  # the paper's row at another reading of sigma
        printed = paper.get(name, {}).get(PRIMARY)
        if printed is None:
            continue
        told, cells = [], [row["row"], printed]
        for what, here in (
            ("label", number(row, PRIMARY)),
            ("prediction", otherwise.get(row["row"])),
        ):
            shown, difference, holds = "–", "–", False
            if here is not None:
                shown = measured(row, PRIMARY) if what == "label" else f"{here:.1f}"
                difference, holds = _minus(here, printed, images)
            cells += [shown, difference]
            told += [what] * holds
        missed = "neither" if row["row"] in otherwise else "not with the label"
        found.append([*cells, " and ".join(told) or missed])
    return found


def _minus(here: float, printed: str, images: int) -> tuple[str, bool]:
    """Here minus the paper in points with its interval, and whether that holds 0."""
    share, theirs = here / 100, float(printed) / 100
    values = statistics.two_proportions(share, images, theirs, PAPER_IMAGES)
    return verdicts.difference(Comparison("", *values)), values[1] <= 0 <= values[2]
