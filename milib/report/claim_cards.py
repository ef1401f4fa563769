"""Claims as the report shows them: grouped by notebook, each comparison drawn."""

from collections import Counter

from milib.study import claims
from milib.study.rules import in_words


def strip(entry: dict, margin: object) -> dict[str, float]:
    """Where a comparison is drawn, as percent from the left of its strip.

    - entry: mean, and where it has an interval low and high.
    - margin: the claim's; words, None and 0 are not drawn.

    Returns the places of `zero`, `mean`, and where there are such `margin`, `low` and `high`.
    """
    values = {"zero": 0.0, "mean": entry["mean"]}
    if isinstance(margin, int | float) and margin:
        values["margin"] = margin
    if has_interval(entry):
        values |= {"low": entry["low"], "high": entry["high"]}
    least, most = min(values.values()), max(values.values())
    scale = 100 / (most - least or 1)
    return {name: round(scale * (value - least), 1) for name, value in values.items()}


def has_interval(entry: dict) -> bool:
    """Whether a comparison has both ends of its interval.

    - entry: of a claims record.
    """
    return entry.get("low") is not None and entry.get("high") is not None


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
    """A claim with its comparisons drawn, the weakest first.

    - claim: its rule, its words, and what was measured of it.
    - rehearsal: whether the run is one; then the claim's room is shown.
    """
    weakest_first = sorted(claim["comparisons"], key=lambda entry: entry["low"])
    comparisons = [
        entry | {"interval": has_interval(entry), "strip": strip(entry, claim["margin"])}
        for entry in weakest_first
    ]
    room = claim.get("room") if rehearsal else None
    return claim | {"comparisons": comparisons, "room": room}


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
