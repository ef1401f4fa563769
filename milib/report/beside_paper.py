"""The paper's own net beside the paper's values under PGD-10, as cells for FINDINGS.md."""

from milib import statistics
from milib.report import verdicts
from milib.report.results import measured, settings_of
from milib.report.run_folder import RunFolder
from milib.study.comparisons import Comparison
from milib.study.rows import PRIMARY, accuracies, paper_table, parameters, row_name
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
    paper, measured_rows = paper_table(settings), _by_label(run)
    chosen = {row["row"]: row["parameters"] for row in run.table("parameters")}
    found = []
    for row in run.table("oblivious"):
        name, _, _ = row["row"].partition(" (sigma ")  # the paper's row at another reading of sigma
        printed = paper.get(name, {}).get(PRIMARY)
        if printed is None:
            continue
        told, cells, here = [], [row["row"], printed], (name, chosen[row["row"]])
        for attacked in ("label", "prediction"):
            shown, difference = "–", "–"
            if (record := measured_rows.get((attacked, *here))) is not None:
                share = accuracies(record)[PRIMARY]
                shown = measured(row, PRIMARY) if attacked == "label" else f"{100 * share:.1f}"
                difference, holds = _minus(share, len(record["labels"]), printed)
                told += [attacked] if holds else []
            cells += [shown, difference]
        missed = "neither" if ("prediction", *here) in measured_rows else "not with the label"
        found.append([*cells, " and ".join(told) or missed])
    return found


def _by_label(run: RunFolder) -> dict[tuple[str, str, str], dict]:
    """What is attacked, row and parameters -> its scores with the study's sample pool."""
    found = {}
    for record in verdicts.records(run, "score"):
        identity, result = record["identity"], record["result"]
        if identity.get("pool", "train") == "train" and PRIMARY in result["cells"]:
            row = result["row"]
            found[identity["attack_label"], row_name(row), parameters(row)] = result
    return found


def _minus(share: float, images: int, printed: str) -> tuple[str, bool]:
    """Here minus the paper in points with its interval, and whether that holds 0."""
    theirs = float(printed) / 100
    values = statistics.two_proportions(share, images, theirs, PAPER_IMAGES)
    return verdicts.difference(Comparison("", *values)), values[1] <= 0 <= values[2]
