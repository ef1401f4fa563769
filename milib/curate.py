"""Keep a finished run as evidence: `python -m milib.curate RUN` copies what its notebooks last used to outputs/reference/RUN.

It then writes outputs/reference/FINDINGS.md and the README's overview anew, from the records of all runs that lie there.
"""

import gzip
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat

from milib import artifacts, pages, params, report
from milib.errors import StudyError

PARTS = {"tables": "*", "figures": "*", "profile": "*.json"}
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


def line(entry: dict) -> str:
    """A comparison as text."""
    return f"{entry['label']}: {entry['mean']:+.3f} [{entry['low']:+.3f}, {entry['high']:+.3f}]"


def weakest(comparisons: list[dict]) -> str:
    """Of many comparisons the one whose interval reaches lowest; -1 (no MI setting is as clean) is a mark, not a measurement, and is counted."""
    measured = [entry for entry in comparisons if entry["high"] > -1] or comparisons
    text = f"{line(min(measured, key=lambda entry: entry['low']))} (the weakest of {len(measured)} comparisons)"
    missing = len(comparisons) - len(measured)
    return text + (f"; in {missing} more no MI setting is as clean" if missing else "")


def told(name: str, claims: dict[str, dict]) -> Iterator[str]:
    """The text on one run: how many claims hold, and each with the comparisons that decide it."""
    counts = {verdict: sum(claim["verdict"] == verdict for claim in claims.values()) for verdict in VERDICTS}
    yield f"## {SCALES[name]} (`{name}`)\n"
    yield f"{len(claims)} claims: {', '.join(f'{verdict} {count}' for verdict, count in counts.items())}.\n"
    for verdict in VERDICTS:
        chosen = [claim for claim in claims.values() if claim["verdict"] == verdict]
        if chosen:
            yield f"**{verdict.capitalize()}**\n"
        for claim in chosen:
            compared = claim["comparisons"]
            shown = [weakest(compared)] if len(compared) > report.MANY else [line(entry) for entry in compared]
            yield f"- {claim['statement']} ({claim['source']})" + "".join(f"\n  - {text}" for text in shown)
        if chosen:
            yield ""


def cell(claim: dict | None) -> str:
    """A claim's verdict in the overview, with how many of its comparisons hold where not all do."""
    if claim is None or not claim["comparisons"]:
        return "not measured"
    hold, count = sum(entry["low"] > claim["margin"] for entry in claim["comparisons"]), len(claim["comparisons"])
    return claim["verdict"] + (f" ({hold} of {count} hold)" if count > 1 and hold < count else "")


def overview(reference: Path) -> str:
    """Every claim with its verdict on each scale: a Markdown table."""
    runs = {name: claims for name in SCALES if (claims := judged(reference / name))}
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
what they can tell apart.
"""
    runs = (line for name in SCALES if (claims := judged(reference / name)) for line in told(name, claims))
    return "\n".join([head, overview(reference), "", *runs]).rstrip() + "\n"


def readme(text: str, reference: Path) -> str:
    """The README with the overview between its two marks."""
    return re.sub(r"(?<=<!-- findings -->\n).*?(?=<!-- end of findings -->)", lambda _: overview(reference) + "\n", text, flags=re.S)


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
