"""The paper's claims, decided from records: params/claims.yaml says what is compared, this module how.

`evidence` is what a notebook has measured: {"linearity": {model: record}, "scores": {(model, defense): record},
"components": {mode: (record, ratio)}, "detection": {model: record}, "tradeoff": {(model, defense): record},
"adaptive": {(model, samples): record}}; each notebook gives the parts its own claims need.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from milib import statistics, theory
from milib.files import digest
from milib.study.identity import code_digest
from milib.study.rows import BASELINES, MI, NAMES, PRIMARY, TableRow, correct, parameters, row_name
from milib.study.rules import claims_table, in_words, rule
from milib.study.study import Study

VERDICTS = {
    "holds": "hold",
    "fails": "fail",
    "undecided": "undecided",
    "not measured": "not measured",
}
"""A verdict of claims.verdict, and its word after a number."""
MANY = 4
"""Of more comparisons than these behind one verdict, only the weakest stands open."""


DECIDING = ("milib.statistics", "milib.theory", "milib.study.rows", "milib.study.claims")
"""The modules that make verdicts of records."""


@dataclass(frozen=True)
class Comparison:
    """One difference that a claim says is positive: its mean over images and 95 % interval."""

    label: str
    mean: float
    low: float
    high: float


def _compare(label: str, values: np.ndarray) -> Comparison:
    return Comparison(label, *statistics.mean_interval(values))


def more_linear(evidence: dict, model: str, than: str) -> list[Comparison]:
    """Total variation from linearity (Eq. 3), relative: (than - model) / mean(than)."""
    first, second = (
        np.array(evidence["linearity"][name]["prediction"]).mean(1) for name in (model, than)
    )
    return [_compare(f"{NAMES[model]} against {NAMES[than]}", (second - first) / second.mean())]


def _accuracy(evidence: dict, row: list[str], column: str) -> np.ndarray:
    record = evidence["scores"][tuple(row)]
    return correct(record["cells"][column], record["labels"])


def _named(row: list[str]) -> str:
    return row_name(dict(zip(("model", "defense"), row, strict=True)))


def beats(
    evidence: dict, row: list[str], others: list[list[str]], column: str = PRIMARY
) -> list[Comparison]:
    """Accuracy of a table row minus that of each other row, paired by image."""
    return [
        _compare(
            f"{_named(row)} - {_named(other)}",
            _accuracy(evidence, row, column) - _accuracy(evidence, other, column),
        )
        for other in others
    ]


def gains_more(evidence: dict, pairs: list[list[str]]) -> list[Comparison]:
    """(MI-OL - bare) on the first model of a pair minus (MI-OL - bare) on the second."""
    found = []
    for pair in pairs:
        first, second = (
            _accuracy(evidence, [model, "mi_ol"], PRIMARY)
            - _accuracy(evidence, [model, "none"], PRIMARY)
            for model in pair
        )
        found.append(
            _compare(f"gain on {NAMES[pair[0]]} - gain on {NAMES[pair[1]]}", first - second)
        )
    return found


def ric(evidence: dict, mode: str) -> list[Comparison]:
    """Delta F_y and -Delta F_yhat (Eq. 10) on the examples that satisfy Eq. 2."""
    record, ratio = evidence["components"][mode]
    values = theory.measured(record, mode, ratio)
    chosen = values["eq2"]
    if not chosen.any():
        return []
    return [
        _compare("Delta F_y", values["delta_y"][chosen]),
        _compare("-Delta F_yhat", -values["delta_yhat"][chosen]),
    ]


def _scores(evidence: dict, model: str, detector: str) -> tuple[np.ndarray, np.ndarray]:
    scores = evidence["detection"][model]["scores"]
    return np.array(scores["clean"][detector]), np.array(scores[PRIMARY][detector])


def _auc_comparison(label: str, mean: float, samples: np.ndarray) -> Comparison:
    return Comparison(label, mean, *map(float, np.quantile(samples, (0.025, 0.975))))


def detects_better(evidence: dict, detector: str, than: str, models: list[str]) -> list[Comparison]:
    """AUC of one detector minus that of another on the same images."""
    found = []
    for model in models:
        first, second = (_scores(evidence, model, name) for name in (detector, than))
        samples = statistics.auc_samples(*first) - statistics.auc_samples(*second)
        found.append(
            _auc_comparison(
                f"{NAMES[detector]} - {NAMES[than]} on {NAMES[model]}",
                statistics.auc(*first) - statistics.auc(*second),
                samples,
            )
        )
    return found


def below_one_half(evidence: dict, detector: str, models: list[str]) -> list[Comparison]:
    """One half minus the AUC of a detector."""
    found = []
    for model in models:
        scores = _scores(evidence, model, detector)
        found.append(
            _auc_comparison(
                f"1/2 - {NAMES[detector]} on {NAMES[model]}",
                0.5 - statistics.auc(*scores),
                0.5 - statistics.auc_samples(*scores),
            )
        )
    return found


def dominates(evidence: dict, model: str) -> list[Comparison]:
    """For each baseline setting: the most robust MI setting at least as clean (less a point) minus that setting; -1 where none is."""
    cells: dict[bool, list] = {True: [], False: []}
    for (name, defense), record in evidence["tradeoff"].items():
        if name == model and defense in (*MI, *BASELINES):
            for setting, cell in zip(record["settings"], record["cells"], strict=True):
                accuracy = [
                    correct(cell[column], record["labels"]) for column in ("clean", PRIMARY)
                ]
                cells[defense in BASELINES].append(
                    (f"{NAMES[defense]} ({parameters(setting)})", *accuracy)
                )
    found = []
    for label, clean, robust in cells[True]:
        able = [
            other for _, its_clean, other in cells[False] if its_clean.mean() >= clean.mean() - 0.01
        ]
        best = max(able, key=np.mean) if able else robust - 1
        found.append(
            _compare(
                f"MI - {label}" if able else f"no MI setting is as clean as {label}", best - robust
            )
        )
    return found


def leaves_a_gain(evidence: dict, model: str) -> list[Comparison]:
    """MI-OL under the adaptive attack with the most samples minus the bare model under oblivious PGD-10 (samples = 0)."""
    most = max(samples for name, samples in evidence["adaptive"] if name == model)
    defended, bare = (evidence["adaptive"][model, samples] for samples in (most, 0))
    values = [correct(record["cell"], record["labels"]) for record in (defended, bare)]
    return [
        _compare(
            f"{_named([model, 'mi_ol'])}, {most} samples - {NAMES[model]}", values[0] - values[1]
        )
    ]


STATISTICS: dict[str, Callable[..., list[Comparison]]] = {
    function.__name__: function
    for function in (
        more_linear,
        beats,
        gains_more,
        ric,
        detects_better,
        below_one_half,
        dominates,
        leaves_a_gain,
    )
}


def verdict(comparisons: list[Comparison], margin: float, room: float = 0.0) -> str:
    """holds: every interval above margin + room; fails: one of them below margin - room; undecided else; not measured: none."""
    if not comparisons:
        return "not measured"
    if all(comparison.low > margin + room for comparison in comparisons):
        return "holds"
    return (
        "fails"
        if any(comparison.high < margin - room for comparison in comparisons)
        else "undecided"
    )


def judge(study: Study, evidence: dict) -> list[dict]:
    """The claims of the study's notebook with their comparisons and verdicts, kept as a record.

    - study: the notebook's study.
    - evidence: what it measured: see this module's head.
    """
    rehearsal = study.params.data in ("digits", "generated")
    table = [claim for claim in claims_table() if claim["notebook"] == study.notebook]

    def decide() -> dict:
        judged = []
        for claim in table:
            try:
                compared = STATISTICS[claim["statistic"]](evidence, **claim["of"])
            except KeyError:  # a row or model that this run's table lacks (Table 3 has no ERM)
                compared = []
            found = verdict(compared, claim["margin"], claim["room"] if rehearsal else 0.0)
            judged.append(
                {"id": claim["id"], "comparisons": list(map(asdict, compared)), "verdict": found}
            )
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
    """{model: {defense: record}} as the evidence "scores": {(model, defense): record}."""
    return {
        (model, defense): record
        for model, both in scores.items()
        for defense, record in both.items()
    }


def by_table(table: list[TableRow]) -> dict[tuple[str, str], dict]:
    """The rows of a table as the evidence "scores"; of several rows with one model and defense, the first."""
    return {(row.settings["model"], row.defense): row.record for row in reversed(table)}
