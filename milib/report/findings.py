"""What the curated runs found, in words: FINDINGS.md and the README's overview, made from their records, tables and training logs alone."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from milib import statistics
from milib.study import claims, params, paths
from milib.study.rows import PRIMARY, correct, paper_table, row_name
from milib.study.rules import claims_table, in_words
from milib.study.store import read_record
from milib.views import provenance

SCALES = {
    "c10": "CIFAR-10, the paper's net",
    "c10_compact": "CIFAR-10, compact net",
    "c10_compact_seed1": "the same, a second seed of mixup and interpolated AT",
    "c100": "CIFAR-100, the paper's net",
    "c100_compact": "CIFAR-100, compact net",
}
"""The runs that say something about the paper, in the order of FINDINGS.md."""
COLUMNS = {PRIMARY: "under untargeted PGD-10"}
MISTAKEN = """One source in `params/claims.yaml` is mistaken and stays, as it was fixed: three points are not "the least difference 1,000 images can show",
paired images can show less. They are about half the width of the 95 % interval of one accuracy near a third on 1,000 images."""
HEAD = f"""# What the study found

Written by `python -m milib.report.curate` from the records in this folder; the rule of a verdict is in `params/claims.yaml`.
Differences are of accuracy, AUC or probability, with 95 % intervals over images; "at +3.2 points of clean accuracy": by so much the first of the two rows
is cleaner. Digits are a rehearsal and are not here. A claim of several comparisons holds where each does, and fails where one does, with no correction for
their number. "Undecided" says that these images cannot tell, because they are few or because there is next to no difference: the interval beside it
says what they can tell apart. No interval covers training: a run has one of each model. Rules and margins were fixed before the first run on CIFAR, so what
more images say of bare models stands beside a verdict and does not change it.
{MISTAKEN}
"""


def _table(folder: Path, name: str) -> list[dict[str, str]]:
    """The rows of a curated table; none where there is no such table."""
    path = folder / "tables" / f"{name}.csv"
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []


def _records(folder: Path, pattern: str) -> list[dict]:
    """The curated records whose names begin so."""
    return [read_record(path) for path in sorted(folder.glob(f"records/{pattern}-*.json.gz"))]


def judged(folder: Path) -> dict[str, dict]:
    """The claims of a curated run by id, with comparisons and verdicts."""
    return {
        claim["id"]: claim
        for record in _records(folder, "claims")
        for claim in in_words(record["result"]["claims"])
    }


def points(entry: claims.Comparison) -> str:
    """A comparison in points: "Mixup - ERM +0.4 points [+0.2, +0.5]"."""
    return "{} {:+.1f} points [{:+.1f}, {:+.1f}]".format(
        entry.label, *(100 * value for value in (entry.mean, entry.low, entry.high))
    )


def line(entry: dict, clean: dict[str, float]) -> str:
    """A comparison as text; between two rows of 04's table also how much cleaner the first is (clean: row -> percent)."""
    text = f"{entry['label']}: {entry['mean']:+.3f} [{entry['low']:+.3f}, {entry['high']:+.3f}]"
    rows = entry["label"].split(" - ")
    known = len(rows) == 2 and set(rows) <= set(clean) and any(" + " in row for row in rows)
    return text + (
        f" at {clean[rows[0]] - clean[rows[1]]:+.1f} points of clean accuracy" if known else ""
    )


def weakest(comparisons: list[dict]) -> str:
    """Of many comparisons the one whose interval reaches lowest; -1 (no MI setting is as clean) is a mark, not a measurement, and is counted."""
    measured = [entry for entry in comparisons if entry["high"] > -1] or comparisons
    text = f"{line(min(measured, key=lambda entry: entry['low']), {})} (the weakest of {len(measured)} comparisons)"
    missing = len(comparisons) - len(measured)
    return text + (f"; in {missing} more no MI setting is as clean" if missing else "")


def on_more_images(folder: Path, claim: dict) -> tuple[int, list[claims.Comparison]]:
    """A claim on bare models alone, on the many images on which 04 measures these: their number, and the comparisons (none for other claims)."""
    rows = [claim["of"]["row"], *claim["of"]["others"]] if claim["statistic"] == "beats" else []
    found = {
        (model, kind): _records(folder, f"bare-{model}") for model, kind in rows if kind == "none"
    }
    if not rows or len(found) < len(rows) or not all(found.values()):
        return 0, []
    scores = {row: records[0]["result"] for row, records in found.items()}
    return len(next(iter(scores.values()))["labels"]), claims.beats(
        {"scores": scores}, **claim["of"]
    )


def more_images(folder: Path, claim: dict) -> list[str]:
    """What more images say of bare models, with the verdict that the claim's rule would give there; the verdict stays that of its own images."""
    count, found = on_more_images(folder, claim)
    where = claim["of"].get("column", PRIMARY) if found else ""
    there = f"the rule would say: {claims.verdict(found, claim['margin'])}"
    return [
        f"on {count:,} images, {COLUMNS.get(where, where)}: {points(entry)} ({there})"
        for entry in found
    ]


def unmatched(folder: Path, claim: dict) -> Iterator[str]:
    """Of a claim on gains: ratio and clean accuracy of the rows behind it, and the same gains with both models at one ratio (01 and 02)."""
    clean = {row["row"]: row["clean"].split()[0] for row in _table(folder, "oblivious")}
    chosen = {row["row"]: row["parameters"] for row in _table(folder, "parameters")}
    for pair in (
        claim["of"]["pairs"] if claim["statistic"] == "gains_more" and claim["comparisons"] else []
    ):
        rows = [row_name({"model": model, "defense": "mi_ol"}) for model in pair]
        yield "of " + " and ".join(f"{row}, {chosen[row]}, {clean[row]} % clean" for row in rows)
        bare, defended = (
            {model: _scored(folder, model, defense) for model in pair}
            for defense in ("none", "mi_ol")
        )
        for ratio in sorted(set.intersection(*(set(found) for found in defended.values()))):
            scores = {(model, "none"): next(iter(found.values())) for model, found in bare.items()}
            scores |= {(model, "mi_ol"): found[ratio] for model, found in defended.items()}
            accuracy = [
                f"{100 * correct(found[ratio]['cells']['clean'], found[ratio]['labels']).mean():.1f}"
                for found in defended.values()
            ]
            for entry in claims.gains_more({"scores": scores}, [pair]):
                yield f"both at ratio {ratio}, {' and '.join(accuracy)} % clean: {points(entry)}"


def _scored(folder: Path, model: str, defense: str) -> dict[str, dict]:
    """A model's scores under a defense as the study's protocol has them, by ratio."""
    found = [
        record
        for record in _records(folder, f"score-{model}-{defense}")
        if record["identity"].get("attack_label") == "label"
    ]
    return {
        str(r["result"]["row"].get("ratio")): r["result"]
        for r in found
        if r["identity"].get("pool", "train") == "train"
    }


def cell(folder: Path, claim: dict | None) -> str:
    """A claim's verdict in the overview: where not all of its comparisons hold, how many do; and another verdict on more images."""
    if claim is None or not claim["comparisons"]:
        return "not measured"
    found = [claims.Comparison(**entry) for entry in claim["comparisons"]]
    each = Counter(claims.verdict([entry], claim["margin"]) for entry in found)
    mixed = len(found) > 1 and len(found) > each["holds"]
    notes = (
        [
            ", ".join(
                f"{each[verdict]} {word}"
                for verdict, word in claims.VERDICTS.items()
                if each[verdict]
            )
        ]
        if mixed
        else []
    )
    count, more = on_more_images(folder, claim)
    if more and (other := claims.verdict(more, claim["margin"])) != claim["verdict"]:
        notes.append(f"{count:,} images: {other}")
    return claim["verdict"] + (f" ({'; '.join(notes)})" if notes else "")


def otherwise(folder: Path) -> Iterator[str]:
    """The protocol choices of 04 whose difference is not zero; on the paper's net also what the label that its code attacks leaves of the differences
    from its table."""
    found: dict[str, list[str]] = {}
    for row in _table(folder, "otherwise"):
        low, high = map(float, re.findall(r"[-+]?[0-9.]+", row["difference, points"])[1:])
        if low > 0 or high < 0:
            found.setdefault(row["choice"], []).append(
                f"{row['row']}, {row['column']}: {row['difference, points']}"
            )
    if found:
        yield "**Protocol choices made otherwise** (points, where the interval leaves out zero)\n"
        yield from (f"- {choice}: {'; '.join(rows)}" for choice, rows in found.items())
        yield from as_published(folder)
        yield ""


def as_published(folder: Path) -> Iterator[str]:
    """With the model's prediction attacked, as the authors' code does, here minus the paper: only where the net is the paper's."""
    run = params.load(paths.project_root() / "params" / f"{folder.name}.yaml")
    paper, count = (
        paper_table(run),
        max((len(record["result"]["labels"]) for record in _records(folder, "score")), default=0),
    )
    found = []
    for row in _table(folder, "otherwise") if run.model == "resnet50" else []:
        printed = paper.get(row["row"], {}).get(row["column"], "<")
        if row["choice"] == "the prediction is attacked" and not printed.startswith("<"):
            difference = statistics.two_proportions(
                float(row["otherwise"]) / 100, count, float(printed) / 100, 1000
            )
            found.append(points(claims.Comparison(row["row"], *difference)))
    if found:
        yield f"- the prediction is attacked, {COLUMNS[PRIMARY]}, here minus the paper: {'; '.join(found)}"


def in_short(folder: Path) -> Iterator[str]:
    """What 04 and 07 say of MI-OL on each model: a line of percentages with their intervals."""
    rows = {
        row["row"]: {column: cell.split(" | ")[0] for column, cell in row.items()}
        for row in _table(folder, "oblivious")
    }
    first, *_, last = _table(folder, "adaptive") or [{}, {}]
    strong = {row["model"]: row for row in _table(folder, "stronger")}
    for model in ("Mixup", "Interpolated AT"):
        if not {model, f"{model} + MI-OL"} <= set(rows):
            continue
        alone, mi = rows[model], rows[f"{model} + MI-OL"]
        more = {
            name.removeprefix(f"{model} + "): row[PRIMARY]
            for name, row in rows.items()
            if name.startswith(f"{model} + ") and "MI-OL" not in name
        }
        more = [
            f"{name} {cell.split()[0]}"
            for name, cell in more.items()
            if float(cell.split()[0]) > float(mi[PRIMARY].split()[0])
        ]
        text = f"{model}: clean {alone['clean']}, under untargeted PGD-10 {alone[PRIMARY]}; with MI-OL {mi['clean']} and {mi[PRIMARY]}"
        text += (
            f"; more than that under PGD-10 with {', '.join(more)}"
            if more
            else "; by the estimates alone no other defense of the table has more"
        )
        if f"{model}, eq24" in last:
            left, bare = last[f"{model}, eq24"], first[f"{model}, none"]
            text += f". Attacked adaptively (Eq. 24, {last['adaptive samples']} samples) {left} is left, of the bare model under PGD-10 {bare}"
        if row := strong.get(model):
            text += f"; end to end in 50 small steps (after Tramèr et al., 2020) {row['MI-OL']}, of the bare model {row['bare']}"
        yield text


def computed(folder: Path) -> str:
    """On how many draw sets 04's rows are, and their precision where that is not fp32."""
    found = [record["identity"] for record in _records(folder, "score")]
    sets = max((identity.get("sets", 1) for identity in found), default=1)
    made = {
        (identity.get("precision"), identity.get("scored", "TF32")) for identity in found
    }  # records of before "scored" was in them: TF32
    bf16 = "".join(
        f" Attacks in bf16, predictions in {scored}."
        for precision, scored in made
        if precision == "bf16" and len(made) == 1
    )
    return f" Rows with draws are means over {sets} sets of them." * (sets > 1) + bf16


def trained(folder: Path) -> Iterator[str]:
    """What the run's models had of training, from their logs; and that AT and interpolated AT had not the same, where they had not."""
    recipes = {
        recipe["name"]: recipe
        for path in sorted(folder.glob("checkpoints/*.jsonl"))
        for recipe in (json.loads(path.read_text().splitlines()[0]),)
    }
    if recipes:
        table = params.load(paths.project_root() / "params" / f"{folder.name}.yaml").paper_table
        yield f"Models: {provenance.models_note(recipes, table)}.{computed(folder)}\n"
    both = [recipes[name] for name in ("at", "interpolated_at") if name in recipes]
    apart = [
        f"{key} ({both[0][key]}, {both[1][key]})"
        for key in ("epochs", "lr")
        if len(both) == 2 and both[0][key] != both[1][key]
    ]
    if apart:
        yield f"AT and interpolated AT differ in {' and '.join(apart)} besides the mixing: so does what sets them side by side.\n"


def matched(folder: Path) -> Iterator[str]:
    """The rows of 04 that did not come within a point of the clean accuracy they were matched to."""
    residuals = {
        row["row"]: float(row["residual"])
        for row in _table(folder, "parameters")
        if row["residual"] != "given"
    }
    far = [f"{row} {residual:+.1f}" for row, residual in residuals.items() if abs(residual) > 1]
    if far:
        yield f"Rows whose grid has no value within a point of their MI-OL row's clean accuracy on the held-out images, in points: {', '.join(far)}.\n"


def other_table(folder: Path) -> Iterator[str]:
    """On CIFAR-100 the paper's values by which the claims, whose sources name Table 2, are to be read."""
    run = params.load(paths.project_root() / "params" / f"{folder.name}.yaml")
    if run.paper_table == "table3_cifar100":
        cells = ", ".join(f"{row} {values[PRIMARY]}" for row, values in paper_table(run).items())
        yield f"Where a claim's source is Table 2, the paper's values here are those of Table 3, {COLUMNS[PRIMARY]} in %: {cells}.\n"


def told(folder: Path, found: dict[str, dict]) -> Iterator[str]:
    """The text on one run: its models, how many claims hold, and each with the comparisons that decide it."""
    counts = Counter(claim["verdict"] for claim in found.values())
    yield f"## {SCALES[folder.name]} (`{folder.name}`)\n"
    yield from trained(folder)
    yield from matched(folder)
    yield from other_table(folder)
    if alone := _table(folder, "bare"):
        cells = "; ".join(f"{row['model']} {row['clean']} / {row[PRIMARY]}" for row in alone)
        yield f"By themselves, on {int(alone[0]['test images']):,} test images, clean / untargeted PGD-10 in %: {cells}.\n"
    yield from (f"- {text}." for text in in_short(folder))
    for row in (
        row for row in _table(folder, "paired") if "(sigma " in row["row"]
    ):  # the claims take the other reading's row
        yield f"- {row['row']}, sigma as printed, minus {row['minus']}: {row[f'{PRIMARY}, points']} points under untargeted PGD-10."
    yield ""
    all_claims = claims_table()
    yield f"{len(found)} of {len(all_claims)} claims were judged: {', '.join(f'{verdict} {counts[verdict]}' for verdict in claims.VERDICTS)}.\n"
    clean = {row["row"]: float(row["clean"].split()[0]) for row in _table(folder, "oblivious")}
    for verdict in claims.VERDICTS:
        chosen = [claim for claim in found.values() if claim["verdict"] == verdict]
        if chosen:
            yield f"**{verdict.capitalize()}**\n"
        for claim in chosen:
            compared = claim["comparisons"]
            shown = (
                [weakest(compared)]
                if len(compared) > claims.MANY
                else [line(entry, clean) for entry in compared]
            )
            shown += [*more_images(folder, claim), *unmatched(folder, claim)]
            yield f"- {claim['statement']} ({claim['source']})" + "".join(
                f"\n  - {text}" for text in shown
            )
        if chosen:
            yield ""
    yield from otherwise(folder)


def overview(reference: Path) -> str:
    """Every claim with its verdict on each scale: a Markdown table."""
    runs = {name: found for name in SCALES if (found := judged(reference / name))}
    if not runs:
        return "No run on CIFAR has been curated yet."
    lines = [
        "| claim | in the paper | " + " | ".join(f"`{name}`" for name in runs) + " |",
        "|---" * (2 + len(runs)) + "|",
    ]
    for claim in claims_table():
        verdicts = (cell(reference / name, runs[name].get(claim["id"])) for name in runs)
        lines.append("| " + " | ".join([claim["statement"], claim["source"], *verdicts]) + " |")
    return "\n".join(lines)


def text(reference: Path) -> str:
    """FINDINGS.md: the overview, then each scale by itself."""
    runs = (
        part
        for name in SCALES
        if (found := judged(reference / name))
        for part in told(reference / name, found)
    )
    return "\n".join([HEAD, overview(reference), "", *runs]).rstrip() + "\n"


def readme(page: str, reference: Path) -> str:
    """The README with what was found between its two marks: MI-OL in short, the overview, and what more images say of bare models."""
    short = [f"- `{name}`, {found}." for name in SCALES for found in in_short(reference / name)]
    more = [
        f"- `{name}`, {found}"
        for name in SCALES
        for claim in judged(reference / name).values()
        for found in more_images(reference / name, claim)
    ]
    parts = ["In short, in % with 95 % intervals:", "", *short, ""] if short else []
    parts += [overview(reference), "", MISTAKEN]
    parts += (
        ["", "A verdict is of its rule's images. More images say of bare models:", "", *more]
        if more
        else []
    )
    between = "\n".join(parts) + "\n"
    return re.sub(
        r"(?<=<!-- findings -->\n).*?(?=<!-- end of findings -->)",
        lambda _: between,
        page,
        flags=re.S,
    )
