"""Claims as the report shows them: grouped by notebook, each comparison drawn."""

import math
from collections import Counter
from dataclasses import dataclass

from milib.study import claims
from milib.study.rules import in_words

STEPS = (1, 2, 5, 10, 20, 50)
"""Distances of ticks, in points."""
MOST = 8
"""So many distances a scale has at most, but for its ends."""


@dataclass(frozen=True)
class Axis:
    """The scale on which every comparison of a page is drawn.

    - ticks: in points, equally far apart, from its left end to its right end; 0 is one of them.
    """

    ticks: list[int]

    def place(self, points: float) -> float:
        """How far from the left a value lies, in percent of the scale.

        - points: the value.
        """
        least, most = self.ticks[0], self.ticks[-1]
        return round(100 * (points - least) / (most - least), 2)


def axis(groups: list[dict]) -> Axis:
    """The scale that holds every comparison and margin of a page.

    - groups: of `claim_groups`.
    """
    found = [0.0]
    for group in groups:
        for claim in group["claims"]:
            for entry in claim["comparisons"]:
                found += [value for value in entry["points"].values() if not entry["missing"]]
    step = next((step for step in STEPS if max(found) - min(found) <= MOST * step), STEPS[-1])
    first, last = math.floor(min(found) / step), math.ceil(max(found) / step)
    return Axis([step * place for place in range(first, max(last, first + 1) + 1)])


def claim_groups(records: dict[str, dict], used: set[str]) -> list[dict]:
    """The claims of each notebook, from its newest claims record.

    - records: all of the run, by file name.
    - used: the records that the last runs read; one of these comes before a newer one.

    Returns for each group its title, its claims, whether an earlier run judged them, and a note on
    what made them.
    """
    candidates: dict[str, list[str]] = {}
    for name, record in records.items():
        if name.startswith("claims-"):
            candidates.setdefault(record["name"], []).append(name)

    def rank(name: str) -> tuple[bool, str]:
        return name in used, records[name]["made"]["when"]

    groups = []
    for title, names in sorted(candidates.items()):
        newest = max(names, key=rank)
        record = records[newest]
        rehearsal = record["identity"].get("rehearsal")
        judged = [claim_card(claim, rehearsal) for claim in in_words(record["result"]["claims"])]
        about = {"notebook": record["notebook"], "records": [newest]}
        group = {"title": title.removeprefix("claims-"), "claims": judged, "about": about}
        groups.append(group | {"old": newest not in used})
    return groups


def claim_card(claim: dict, rehearsal: bool) -> dict:
    """A claim in points, its comparisons the weakest first.

    - claim: its rule, its words, and what was measured of it.
    - rehearsal: whether the run is one; then the claim's room is shown.
    """
    margin = claim["margin"]
    comparisons = []
    for entry in claim["comparisons"]:
        points = {end: 100 * entry[end] for end in ("mean", "low", "high")}
        points["margin"] = 100 * margin
        # comparisons.dominates: no MI setting is as clean
        missing = claim["statistic"] == "dominates" and entry["mean"] == -1
        comparisons.append(entry | {"points": points, "missing": missing})
    comparisons.sort(key=lambda entry: (entry["missing"], entry["low"]))
    room = 100 * claim["room"] if rehearsal and claim.get("room") else None
    return claim | {"comparisons": comparisons, "margin": f"{100 * margin:g}", "room": room}


def tally(groups: list[dict]) -> str:
    """The verdicts counted: "1 hold, 0 fail, 1 undecided".

    - groups: of `claim_groups`.
    """
    counts: Counter[str] = Counter()
    for group in groups:
        counts.update(claim["verdict"] for claim in group["claims"])
    told = []
    for verdict, word in claims.VERDICTS.items():
        if counts[verdict] or verdict != "not measured":
            told.append(f"{counts[verdict]} {word}")
    return ", ".join(told)
