"""The claims of a curated run: verdicts, and the comparisons behind them in words."""

from collections import Counter

from milib.report.run_folder import RunFolder
from milib.study import claims, comparisons
from milib.study.comparisons import Comparison, NotMeasuredError
from milib.study.rows import PRIMARY, correct, row_name
from milib.study.rules import in_words

IN_POINTS = ("beats", "gains_more", "dominates", "keeps_more")
"""The statistics that compare accuracies. Their differences are told in percentage points."""
COLUMNS = {PRIMARY: "under untargeted PGD-10"}


def records(run: RunFolder, name: str) -> list[dict]:
    """The records of a run whose file names begin with `name` and a hyphen, by file name.

    - run: the run's folder.
    - name: as in `Store.record`.
    """
    found = run.records()
    return [found[file] for file in sorted(found) if file.startswith(f"{name}-")]


def judged(run: RunFolder) -> dict[str, dict]:
    """The claims of a run by id, with words, comparisons and verdicts.

    - run: the run's folder.
    """
    found = {}
    for record in records(run, "claims"):
        found |= {claim["id"]: claim for claim in in_words(record["result"]["claims"])}
    return found


def clean_accuracy(run: RunFolder) -> dict[str, float]:
    """Row of notebook 04 -> its clean accuracy in percent.

    - run: the run's folder.
    """
    return {row["row"]: float(row["clean"]) for row in run.table("oblivious")}


def compared(claim: dict) -> list[Comparison]:
    """The comparisons of a judged claim.

    - claim: from `judged`.
    """
    return [Comparison(**entry) for entry in claim["comparisons"]]


def difference(entry: Comparison, in_points: bool = True) -> str:
    """A comparison's value and interval: "+0.4 [+0.2, +0.5]" in points, else with three digits.

    - entry: the comparison.
    - in_points: whether it is of accuracies (default).
    """
    scale, digits = (100, 1) if in_points else (1, 3)
    values = (scale * value for value in (entry.mean, entry.low, entry.high))
    mean, low, high = (f"{value:+z.{digits}f}" for value in values)
    return f"{mean} [{low}, {high}]"


def line(entry: Comparison, clean: dict[str, float], in_points: bool = True) -> str:
    """A comparison as text.

    - entry: the comparison.
    - clean: clean accuracy in percent of each row of 04's table. Between two of them the text also
      says by how much the first is cleaner.
    - in_points: whether it is of accuracies.
    """
    text = f"{entry.label}: {difference(entry, in_points)}" + (" points" if in_points else "")
    rows = entry.label.split(" - ")
    defended = any(" + " in row for row in rows)
    if len(rows) == 2 and set(rows) <= set(clean) and defended:
        text += f"; clean accuracy {clean[rows[0]] - clean[rows[1]]:+z.1f} points"
    return text


def weakest(comparisons: list[Comparison]) -> str:
    """Of many comparisons the one whose interval reaches lowest, and how many there are.

    - comparisons: at least one.

    A comparison of -1 marks a setting that no MI setting is as clean as; these are counted apart.
    """
    measured = [entry for entry in comparisons if entry.high > -1] or comparisons
    lowest = min(measured, key=lambda entry: entry.low)
    text = f"{line(lowest, {})} (the weakest of {len(measured)} comparisons)"
    missing = len(comparisons) - len(measured)
    return text + (f"; in {missing} more no MI setting is as clean" if missing else "")


def on_more_images(run: RunFolder, claim: dict) -> tuple[int, list[Comparison]]:
    """A claim on bare models alone, on the many images on which 04 measures these.

    - run: the run's folder.
    - claim: from `judged`.

    Returns their number and the comparisons; 0 and none for other claims.
    """
    if claim["statistic"] != "beats":
        return 0, []
    scores = {}
    for model, defense in (claim["of"]["row"], *claim["of"]["others"]):
        found = records(run, f"bare-{model}")
        if defense != "none" or not found:
            return 0, []
        scores[model, defense] = found[0]["result"]
    count = len(next(iter(scores.values()))["labels"])
    try:
        return count, comparisons.beats({"scores": scores}, **claim["of"])
    except NotMeasuredError:  # 04 has no such column of bare models
        return 0, []


def more_images(run: RunFolder, claim: dict) -> list[str]:
    """What more images say of bare models, and the verdict that the claim's rule would give.

    - run: the run's folder.
    - claim: from `judged`.
    """
    count, found = on_more_images(run, claim)
    if not found:
        return []
    verdict = claims.verdict(found, claim["margin"])
    column = claim["of"].get("column", PRIMARY)
    where = f"on {count:,} images, {COLUMNS.get(column, column)}"
    return [f"{where}: {line(entry, {})} (the rule would say: {verdict})" for entry in found]


def gains(run: RunFolder, claim: dict) -> list[str]:
    """The ratio and clean accuracy behind a claim on gains, and the gains at one ratio.

    - run: the run's folder.
    - claim: from `judged`.
    """
    if claim["statistic"] != "gains_more" or not claim["comparisons"]:
        return []
    clean = clean_accuracy(run)
    chosen = {row["row"]: row["parameters"] for row in run.table("parameters")}
    found = []
    for pair in claim["of"]["pairs"]:
        rows = [row_name({"model": model, "defense": "mi_ol"}) for model in pair]
        told = [f"{row} ({chosen[row]}, {clean[row]:.1f} % clean)" for row in rows]
        found.append(f"measured with {' and '.join(told)}")
    return found + [f"{where}: {line(entry, {})}" for where, entry in at_one_ratio(run, claim)]


def at_one_ratio(run: RunFolder, claim: dict) -> list[tuple[str, Comparison]]:
    """A claim on gains, with both nets of a pair at each ratio at which both were measured.

    - run: the run's folder.
    - claim: from `judged`.

    Returns what each comparison is made with, and the comparison; none for other claims.
    """
    if claim["statistic"] != "gains_more":
        return []
    found = []
    for pair in claim["of"]["pairs"]:
        found += _gains_at_one_ratio(run, pair)
    return found


def _gains_at_one_ratio(run: RunFolder, pair: list[str]) -> list[tuple[str, Comparison]]:
    bare = {model: scored(run, model, "none") for model in pair}
    defended = {model: scored(run, model, "mi_ol") for model in pair}
    found = []
    for ratio in sorted(set.intersection(*(set(scores) for scores in defended.values()))):
        scores, accuracies = {}, []
        for model in pair:
            record = defended[model][ratio]
            scores[model, "none"] = next(iter(bare[model].values()))
            scores[model, "mi_ol"] = record
            accuracy = correct(record["cells"]["clean"], record["labels"]).mean()
            accuracies.append(f"{100 * accuracy:.1f}")
        for entry in comparisons.gains_more({"scores": scores}, [pair]):
            found.append((f"both at ratio {ratio}, {' and '.join(accuracies)} % clean", entry))
    return found


def scored(run: RunFolder, model: str, defense: str) -> dict[str, dict]:
    """A model's scores under a defense as the study's protocol has them, by ratio.

    - run: the run's folder.
    - model: its name.
    - defense: a name of `defenses.DEFENSES`.
    """
    found = {}
    for record in records(run, f"score-{model}-{defense}"):
        identity = record["identity"]
        own = identity.get("attack_label") == "label" and identity.get("pool", "train") == "train"
        if own:
            found[str(record["result"]["row"].get("ratio"))] = record["result"]
    return found


def cell(run: RunFolder, claim: dict | None) -> str:
    """A claim's verdict in a table, empty where nothing was measured.

    - run: the run's folder.
    - claim: from `judged`; None where the run has not judged it.

    Brackets count the comparisons where not all of them hold, and give another verdict that more
    images, or gains at one ratio, would lead to.
    """
    if claim is None or not claim["comparisons"]:
        return ""
    each = Counter(claims.verdict([entry], claim["margin"]) for entry in compared(claim))
    notes = []
    if each.total() > max(1, each["holds"]):
        told = [f"{each[name]} {word}" for name, word in claims.VERDICTS.items() if each[name]]
        notes.append(", ".join(told))
    count, more = on_more_images(run, claim)
    asked = {f"{count:,} images": more}
    asked["at one ratio"] = [entry for _, entry in at_one_ratio(run, claim)]
    for how, entries in asked.items():
        if entries and (other := claims.verdict(entries, claim["margin"])) != claim["verdict"]:
            notes.append(f"{how}: {other}")
    return claim["verdict"] + (f" ({'; '.join(notes)})" if notes else "")


def told(run: RunFolder, claim: dict, clean: dict[str, float]) -> list[str]:
    """The comparisons that decide a claim, as lines.

    - run: the run's folder.
    - claim: from `judged`.
    - clean: as `line` takes it.
    """
    entries = compared(claim)
    if len(entries) > claims.MANY:
        lines = [weakest(entries)]
    else:
        in_points = claim["statistic"] in IN_POINTS
        lines = [line(entry, clean, in_points) for entry in entries]
    return [*lines, *more_images(run, claim), *gains(run, claim)]
