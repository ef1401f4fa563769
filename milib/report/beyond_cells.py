"""The tables of notebook 08 in FINDINGS.md: each row as a list of cells."""

from milib.audit.checklist import NOT_MET
from milib.report.results import measured, signed
from milib.report.run_folder import RunFolder
from milib.views.beyond_tables import MAIN


def left(run: RunFolder) -> list[list[str]]:
    """The first table of 08, as cells: the row, and what each attack of MAIN leaves of it.

    - run: the run's folder.
    """
    heads = list(MAIN.values())
    return [
        [row["row"], *(measured(row, head) or "–" for head in heads)]
        for row in run.table("beyond_left")
    ]


def gains(run: RunFolder) -> list[list[str]]:
    """What a defense adds to its bare net under the same attack, of 08, as cells.

    - run: the run's folder.
    """
    heads = [f"{head}, points" for head in MAIN.values()]
    return [
        [row["comparison"], *(signed(row, head) or "–" for head in heads)]
        for row in run.table("beyond_gains")
    ]


def under_standard(run: RunFolder, table: str) -> list[list[str]]:
    """Rows under 08's standard, as cells: row, parameters, clean, standard, MI-OL minus this.

    - run: the run's folder.
    - table: "beyond_rows" or "beyond_controls".
    """
    return [
        [
            row["row"],
            row["parameters"],
            measured(row, "clean"),
            measured(row, "standard"),
            signed(row, "MI-OL minus this, points") or "–",
        ]
        for row in run.table(table)
    ]


def evading(run: RunFolder) -> list[list[str]]:
    """MI-PL as a detector, as cells: net, attack, AUC, found at 5 % FPR, wrong and passed.

    - run: the run's folder.
    """
    told = ("model", "attack", "AUC", "found at 5 % FPR, %")
    return [
        [*(row[head] for head in told), measured(row, "wrong and passed")]
        for row in run.table("beyond_detection")
    ]


def not_met(run: RunFolder) -> list[str]:
    """The lines of the checklist that are not met, each with the number behind it.

    - run: the run's folder.
    """
    lines = run.table("beyond_checklist")
    return [f"{row['item']}: {row['evidence']}" for row in lines if row["verdict"] == NOT_MET]
