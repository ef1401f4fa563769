"""The paper's claims, decided from records: params/claims.yaml says what is compared, this how."""

from dataclasses import asdict

from milib.audit import measure
from milib.files import digest
from milib.study.comparisons import STATISTICS, Comparison, NotMeasuredError
from milib.study.experiments.variants import Variant
from milib.study.identity import code_digest
from milib.study.params import REHEARSALS
from milib.study.rows import TableRow
from milib.study.rules import claims_table, in_words, rule
from milib.study.study import Study

VERDICTS = {
    "holds": "hold",
    "fails": "fail",
    "undecided": "undecided",
    "not measured": "not measured",
}
"""A verdict of `verdict`, and its word after a number."""
MANY = 4
"""Of more comparisons than these behind one verdict, only the weakest stands open."""
DECIDING = ("milib.statistics", "milib.theory", "milib.study.rows", "milib.study.comparisons")
DECIDING += ("milib.study.claims",)
"""The modules that make verdicts of records."""


def verdict(comparisons: list[Comparison], margin: float, room: float = 0.0) -> str:
    """What the comparisons of a claim say of it.

    - comparisons: a claim holds for all of them.
    - margin: that each must exceed.
    - room: by so much more on a rehearsal, default 0.

    Returns "holds" where every interval lies above margin + room, "fails" where one lies below
    margin - room, "not measured" where there are none, else "undecided".
    """
    if not comparisons:
        return "not measured"
    if all(comparison.low > margin + room for comparison in comparisons):
        return "holds"
    if any(comparison.high < margin - room for comparison in comparisons):
        return "fails"
    return "undecided"


def judge(study: Study, evidence: dict) -> list[dict]:
    """The claims of the study's notebook with their comparisons and verdicts, kept as a record.

    - study: the notebook's study.
    - evidence: what it measured: see the head of `milib.study.comparisons`.

    Returns each claim with its words, "comparisons" and "verdict". A run on data of its own has no
    record of claims, and measures none of them. Raises UserError for a part of the evidence that is
    missing, and for NaN or inf in it.
    """
    rehearsal = study.params.data in REHEARSALS
    table = [claim for claim in claims_table() if claim["notebook"] == study.notebook]

    if study.params.paper_table == "none":  # the claims are about the paper's data
        return in_words([claim | {"comparisons": [], "verdict": "not measured"} for claim in table])

    def decide() -> dict:
        judged = []
        for claim in table:
            try:
                compared = STATISTICS[claim["statistic"]](evidence, **claim["of"])
            except NotMeasuredError:
                compared = []
            found = verdict(compared, claim["margin"], claim["room"] if rehearsal else 0.0)
            shown = [asdict(comparison) for comparison in compared]
            judged.append({"id": claim["id"], "comparisons": shown, "verdict": found})
        return {"claims": judged}

    identity = {
        "rules": [rule(claim) for claim in table],
        "evidence": sorted(digest(repr(part)) for part in evidence.items()),
        "rehearsal": rehearsal,
        "deciding": code_digest(DECIDING),
    }
    record = study.store.record(f"claims-{study.notebook}", identity, decide)
    return in_words(record["claims"])


def by_row(scores: dict[str, dict[str, dict]]) -> dict[tuple[str, str], dict]:
    """The evidence "scores" from {model: {defense: record}}.

    - scores: as `experiments.summary_rows` gives them for each model.
    """
    found = {}
    for model, records in scores.items():
        for defense, record in records.items():
            found[model, defense] = record
    return found


def by_table(table: list[TableRow]) -> dict[tuple[str, str], dict]:
    """The evidence "scores" from a table; the first of rows with one model and defense.

    - table: its rows.
    """
    found = {}
    for row in table:
        found.setdefault((row.settings["model"], row.defense), row.record)
    return found


def by_attack(
    table: list[tuple[Variant, dict]], audits: list[tuple[Variant, dict]]
) -> dict[tuple[str, str, str], list[float]]:
    """The evidence "attacked": (model, defense or control, attack) -> per-image accuracy [n].

    - table: rows with their records of `experiments.beyond.attacked`: under the standard.
    - audits: variants with their records of `experiments.beyond.audited`: under the worst case.

    Of several rows with one model and defense the first counts.
    """
    found: dict[tuple[str, str, str], list[float]] = {}
    for variant, records in table:
        key = (variant.row["model"], variant.row["defense"], "standard")
        found.setdefault(key, measure.worst([records["clean"], records["standard"]]).tolist())
    for variant, records in audits:
        defense = variant.row["defense"] if variant.name == "row" else variant.name
        key = (variant.row["model"], defense.replace(" ", "_"), "worst case")
        found.setdefault(key, measure.worst(measure.within(records)).tolist())
    return found
