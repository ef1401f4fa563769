"""Keep a finished run as evidence: `python -m milib.curate RUN` copies what its notebooks last used to outputs/reference/RUN.

It then writes outputs/reference/FINDINGS.md and the README's overview anew, from the records of all runs that lie there.
"""

import csv
import gzip
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat

from milib import artifacts, claims, pages, params, report
from milib.errors import StudyError
from milib.experiments import PRIMARY

PARTS = {"tables": "*", "figures": "*", "profile": "*"}
"""What is kept besides notebooks and records. Checkpoints are shipped by milib.prepare."""
SCALES = {
    "c10": "CIFAR-10, the paper's net",
    "c10_compact": "CIFAR-10, compact net",
    "c10_compact_seed1": "the same, a second seed of mixup and interpolated AT",
    "c100": "CIFAR-100, the paper's net",
    "c100_compact": "CIFAR-100, compact net",
}
"""The runs that say something about the paper, in the order of FINDINGS.md."""
VERDICTS = ("holds", "fails", "undecided", "not measured")


def used_records(folder: Path) -> list[Path]:
    """The records that the notebooks' last runs read. Raises StudyError where one is missing or damaged."""
    found = [folder / "records" / name for name in sorted(_named(folder))]
    for path in found:
        if not path.exists():
            raise StudyError(f"{path} is missing: run the notebooks of '{folder.name}' again")
        artifacts.read_record(path)
    return found


def _named(folder: Path) -> set[str]:
    """The records that the profiles of a folder's notebooks name."""
    return {entry["name"] for path in folder.glob("profile/*.json") for entry in pages.read_json(path, []) if entry["kind"] == "record"}


def tidy(path: Path) -> bytes:
    """An executed notebook without what papermill notes about the machine. Raises StudyError where a cell failed or a path stands in it."""
    notebook = nbformat.read(path, 4)
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata = {"tags": cell.metadata.get("tags", [])}
        if any(output.output_type == "error" for output in cell.get("outputs", [])):
            raise StudyError(f"{path} stopped with an error: run it again")
    text = nbformat.writes(notebook)
    for place in (str(params.project_root()), str(Path.home()) + "/"):
        if len(place) > 3 and place in text:
            raise StudyError(f"{path} shows {place}: a path of this machine does not belong into a curated run")
    return (text + "\n").encode()


def curate(folder: Path, target: Path) -> None:
    """Copy a run's notebooks with their records, tables, figures and profiles to `target`, in place of what these notebooks left there.

    What other notebooks left stays. Records are compressed, to a quarter of their size: `zcat` shows one. Raises StudyError.
    """
    notebooks = {path.name: tidy(path) for path in sorted(folder.glob("notebooks/*.ipynb"))}
    if not notebooks:
        raise StudyError(f"{folder} has no executed notebook: `make study RUN={folder.name}` makes them")
    records = used_records(folder)
    for about in (*target.glob("tables/*.json"), *target.glob("figures/*.json")):
        if f"{pages.read_json(about)['notebook']}.ipynb" in notebooks:
            for path in about.parent.glob(f"{about.stem}.*"):
                path.unlink()
    for name, content in notebooks.items():
        artifacts.write_atomic(target / "notebooks" / name, content)
    for path in (path for part, pattern in PARTS.items() for path in sorted(folder.glob(f"{part}/{pattern}"))):
        artifacts.write_atomic(target / path.relative_to(folder), path.read_bytes())
    for path in (folder / "notebooks" / name for name in notebooks):
        if taken := pages.read_json(path)["metadata"].get("papermill", {}).get("duration"):  # started without make: no profile/*.seconds
            artifacts.write_atomic(target / "profile" / f"{path.stem}.seconds", f"{taken:.1f}\n".encode())
    for path in records:
        artifacts.write_atomic(target / "records" / f"{path.name}.gz", gzip.compress(path.read_bytes(), mtime=0))
    used = _named(target)
    for path in target.glob("records/*"):
        if path.name.removesuffix(".gz") not in used:
            path.unlink()


# What was found


def judged(folder: Path) -> dict[str, dict]:
    """The claims of a curated run by id, with comparisons and verdicts."""
    records = [artifacts.read_record(path) for path in sorted(folder.glob("records/claims-*.json.gz"))]
    return {claim["id"]: claim for record in records for claim in record["result"]["claims"]}


def line(entry: dict, clean: dict[str, float]) -> str:
    """A comparison as text; between two rows of 04's table also how much cleaner the first is (clean: row -> percent)."""
    text = f"{entry['label']}: {entry['mean']:+.3f} [{entry['low']:+.3f}, {entry['high']:+.3f}]"
    rows = entry["label"].split(" - ")
    known = len(rows) == 2 and set(rows) <= set(clean) and any(" + " in row for row in rows)
    return text + (f" at {clean[rows[0]] - clean[rows[1]]:+.1f} points of clean accuracy" if known else "")


def weakest(comparisons: list[dict]) -> str:
    """Of many comparisons the one whose interval reaches lowest; -1 (no MI setting is as clean) is a mark, not a measurement, and is counted."""
    measured = [entry for entry in comparisons if entry["high"] > -1] or comparisons
    text = f"{line(min(measured, key=lambda entry: entry['low']), {})} (the weakest of {len(measured)} comparisons)"
    missing = len(comparisons) - len(measured)
    return text + (f"; in {missing} more no MI setting is as clean" if missing else "")


def more_images(folder: Path, claim: dict) -> list[str]:
    """A claim on bare models alone, compared on the many images on which 04 measures these; the verdict stays that of its rule."""
    rows = [claim["of"]["row"], *claim["of"]["others"]] if claim["statistic"] == "beats" else []
    found = {(model, kind): list(folder.glob(f"records/bare-{model}-*.json.gz")) for model, kind in rows if kind == "none"}
    if not rows or len(found) < len(rows) or not all(found.values()):
        return []
    scores = {row: artifacts.read_record(paths[0])["result"] for row, paths in found.items()}
    count = len(next(iter(scores.values()))["labels"])
    column = claim["of"].get("column", PRIMARY)
    where = {PRIMARY: "under untargeted PGD-10"}.get(column, column)
    found = ((entry.label, *(100 * value for value in (entry.mean, entry.low, entry.high))) for entry in claims.beats({"scores": scores}, **claim["of"]))
    return [f"on {count:,} images, {where}: {label} {mean:+.1f} points [{low:+.1f}, {high:+.1f}]" for label, mean, low, high in found]


def otherwise(folder: Path) -> Iterator[str]:
    """The protocol choices of 04 whose difference is not zero."""
    found: dict[str, list[str]] = {}
    for row in _table(folder, "otherwise"):
        low, high = map(float, re.findall(r"[-+]?[0-9.]+", row["difference, points"])[1:])
        if low > 0 or high < 0:
            found.setdefault(row["choice"], []).append(f"{row['row']}, {row['column']}: {row['difference, points']}")
    if found:
        yield "**Protocol choices made otherwise** (points, where the interval leaves out zero)\n"
        yield from (f"- {choice}: {'; '.join(rows)}" for choice, rows in found.items())
        yield ""


def in_short(folder: Path) -> Iterator[str]:
    """What 04 and 07 say of MI-OL on each model: a line of percentages with their intervals."""
    rows = {row["row"]: {column: cell.split(" | ")[0] for column, cell in row.items()} for row in _table(folder, "oblivious")}
    first, *_, last = _table(folder, "adaptive") or [{}, {}]
    strong = {row["model"]: row for row in _table(folder, "stronger")}
    for model in ("Mixup", "Interpolated AT"):
        if not {model, f"{model} + MI-OL"} <= set(rows):
            continue
        alone, mi = rows[model], rows[f"{model} + MI-OL"]
        more = {name.removeprefix(f"{model} + "): row[PRIMARY] for name, row in rows.items() if name.startswith(f"{model} + ") and "MI-OL" not in name}
        more = [f"{name} {cell.split()[0]}" for name, cell in more.items() if float(cell.split()[0]) > float(mi[PRIMARY].split()[0])]
        text = f"{model}: clean {alone['clean']}, under untargeted PGD-10 {alone[PRIMARY]}; with MI-OL {mi['clean']} and {mi[PRIMARY]}"
        text += f"; more than that under PGD-10 with {', '.join(more)}" if more else "; by the estimates alone no other defence of the table has more"
        if f"{model}, eq24" in last:
            left, bare = last[f"{model}, eq24"], first[f"{model}, none"]
            text += f". Attacked adaptively (Eq. 24, {last['adaptive samples']} samples) {left} is left, of the bare model under PGD-10 {bare}"
        if row := strong.get(model):
            text += f"; end to end in 50 small steps (after Tramèr et al., 2020) {row['MI-OL']}, of the bare model {row['bare']}"
        yield text


def _table(folder: Path, name: str) -> list[dict[str, str]]:
    """The rows of a curated table; none where there is no such table."""
    path = folder / "tables" / f"{name}.csv"
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []


def computed(folder: Path) -> str:
    """On how many draw sets 04's rows are, and that attacks and predictions are not in fp32, where all are so."""
    found = [artifacts.read_record(path)["identity"] for path in sorted(folder.glob("records/score-*.json.gz"))]
    sets = max((identity.get("sets", 1) for identity in found), default=1)
    bf16 = {identity.get("precision") for identity in found} == {"bf16"}
    return f" Rows with draws are means over {sets} sets of them." * (sets > 1) + " Attacks in bf16, predictions in TF32." * bf16


def told(folder: Path, found: dict[str, dict]) -> Iterator[str]:
    """The text on one run: its models, how many claims hold, and each with the comparisons that decide it."""
    counts = {verdict: sum(claim["verdict"] == verdict for claim in found.values()) for verdict in VERDICTS}
    yield f"## {SCALES[folder.name]} (`{folder.name}`)\n"
    about = pages.read_json(folder / "tables" / "oblivious.json", {})
    yield from [f"Models: {about['models']}.{computed(folder)}\n"] if about.get("models") else []
    if alone := _table(folder, "bare"):
        cells = "; ".join(f"{row['model']} {row['clean']} / {row[PRIMARY]}" for row in alone)
        yield f"By themselves, on {int(alone[0]['test images']):,} test images, clean / untargeted PGD-10 in %: {cells}.\n"
    yield from (f"- {text}." for text in in_short(folder))
    for row in (row for row in _table(folder, "paired") if "(sigma " in row["row"]):  # the claims take the other reading's row
        yield f"- {row['row']}, sigma as printed, minus {row['minus']}: {row[f'{PRIMARY}, points']} points under untargeted PGD-10."
    yield ""
    yield f"{len(found)} claims: {', '.join(f'{verdict} {count}' for verdict, count in counts.items())}.\n"
    clean = {row["row"]: float(row["clean"].split()[0]) for row in _table(folder, "oblivious")}
    for verdict in VERDICTS:
        chosen = [claim for claim in found.values() if claim["verdict"] == verdict]
        if chosen:
            yield f"**{verdict.capitalize()}**\n"
        for claim in chosen:
            compared = claim["comparisons"]
            shown = [weakest(compared)] if len(compared) > report.MANY else [line(entry, clean) for entry in compared]
            yield f"- {claim['statement']} ({claim['source']})" + "".join(f"\n  - {text}" for text in [*shown, *more_images(folder, claim)])
        if chosen:
            yield ""
    yield from otherwise(folder)


def cell(claim: dict | None) -> str:
    """A claim's verdict in the overview, with how many of its comparisons hold where not all do."""
    if claim is None or not claim["comparisons"]:
        return "not measured"
    hold, count = sum(entry["low"] > claim["margin"] for entry in claim["comparisons"]), len(claim["comparisons"])
    return claim["verdict"] + (f" ({hold} of {count} hold)" if count > 1 and hold < count else "")


def overview(reference: Path) -> str:
    """Every claim with its verdict on each scale: a Markdown table."""
    runs = {name: found for name in SCALES if (found := judged(reference / name))}
    if not runs:
        return "No run on CIFAR has been curated yet."
    lines = ["| claim | in the paper | " + " | ".join(f"`{name}`" for name in runs) + " |", "|---" * (2 + len(runs)) + "|"]
    for claim in params.read_table(params.project_root() / "params" / "claims.yaml"):
        lines.append("| " + " | ".join([claim["statement"], claim["source"], *(cell(runs[name].get(claim["id"])) for name in runs)]) + " |")
    return "\n".join(lines)


def findings(reference: Path) -> str:
    """FINDINGS.md: the overview, then each scale by itself."""
    head = """# What the study found

Written by `python -m milib.curate` from the records in this folder; the rule of a verdict is in `params/claims.yaml`.
Differences are of accuracy, AUC or probability, with 95 % intervals over images; digits are a rehearsal and are not here.
A claim of several comparisons holds where each does. "Undecided" is a matter of how many images were measured: the interval beside it says
what they can tell apart. No interval covers training: a run has one of each model. Rules and margins were fixed before the first run on CIFAR, so what
more images say of bare models stands beside a verdict and does not change it. One source in that file is mistaken and stays, as it was fixed: three
points are not "the least difference 1,000 images can show", paired images can show less.
"""
    runs = (text for name in SCALES if (found := judged(reference / name)) for text in told(reference / name, found))
    return "\n".join([head, overview(reference), "", *runs]).rstrip() + "\n"


def readme(text: str, reference: Path) -> str:
    """The README with what was found between its two marks: MI-OL in short, the overview, and what more images say of bare models."""
    short = [f"- `{name}`, {found}." for name in SCALES for found in in_short(reference / name)]
    more = [f"- `{name}`, {found}" for name in SCALES for claim in judged(reference / name).values() for found in more_images(reference / name, claim)]
    parts = ["In short, in % with 95 % intervals:", "", *short, ""] if short else []
    parts += [overview(reference)] + (["", "A verdict is of its rule's images. More images say of bare models:", "", *more] if more else [])
    between = "\n".join(parts) + "\n"
    return re.sub(r"(?<=<!-- findings -->\n).*?(?=<!-- end of findings -->)", lambda _: between, text, flags=re.S)


def main(arguments: list[str]) -> None:
    """The command line. Without a run it writes FINDINGS.md and the README's overview alone. Raises StudyError."""
    root = params.project_root()
    reference = root / "outputs" / "reference"
    for run in arguments:
        curate(params.outputs_root() / run, reference / run)
    artifacts.write_atomic(reference / "FINDINGS.md", findings(reference).encode())
    artifacts.write_atomic(root / "README.md", readme((root / "README.md").read_text(), reference).encode())
    print(json.dumps({"curated": arguments, "findings": "outputs/reference/FINDINGS.md"}))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except StudyError as error:
        sys.exit(f"StudyError: {error}")
