"""What the curated runs found: FINDINGS.md and the README's tables.

The words are in the templates findings.md.j2 and readme.md.j2; the values come from the runs'
records, tables and training logs alone.
"""

import re
from collections import Counter
from pathlib import Path

import jinja2

from milib.report import beside_paper, beyond_cells, results, trainings, verdicts
from milib.report.run_folder import RunFolder
from milib.study import claims
from milib.study.rows import BASELINES, NAMES
from milib.study.rules import claims_table
from milib.views.beyond_tables import MAIN

SCALES = {
    "c10": "CIFAR-10, the paper's net",
    "c10_500": "CIFAR-10, the paper's net, 500 images",
    "c10_compact": "CIFAR-10, compact net",
    "c10_compact_seed1": "CIFAR-10, compact net, seed 1",
    "c100": "CIFAR-100, the paper's net",
    "c100_compact": "CIFAR-100, compact net",
}
"""The runs that say something about the paper, in the order of FINDINGS.md."""
PAPERS_NET = ("c10", "c10_500")
"""The runs on CIFAR-10 with the paper's net, that of more images first."""


def runs(reference: Path) -> list[RunFolder]:
    """The curated runs on CIFAR that hold claims, in the order of SCALES.

    - reference: the folder of the curated runs.
    """
    folders = (RunFolder(reference / name) for name in SCALES)
    return [run for run in folders if verdicts.judged(run)]


def tested(*folders: RunFolder) -> tuple[int, str]:
    """How many claims runs could test, and "1 holds, 2 fail".

    - folders: the runs; of a claim that several tested, the first one's verdict counts.
    """
    found: dict[str, str] = {}
    for run in folders:
        for name, claim in verdicts.judged(run).items():
            if claim["comparisons"]:
                found.setdefault(name, claim["verdict"])
    counts = Counter(found.values())
    told = []
    for verdict, plural in claims.VERDICTS.items():
        if number := counts[verdict]:
            told.append(f"{number} {verdict if number == 1 else plural}")
    return len(found), ", ".join(told)


def by_verdict(run: RunFolder) -> dict[str, list[tuple[dict, list[str]]]]:
    """Verdict -> the claims that have it, each with the comparisons that decide it.

    - run: the run's folder.
    """
    clean = verdicts.clean_accuracy(run)
    judged = verdicts.judged(run).values()
    found: dict[str, list] = {}
    for verdict in claims.VERDICTS:
        for claim in judged:
            if claim["verdict"] == verdict and claim["comparisons"]:
                told = verdicts.told(run, claim, clean)
                found.setdefault(verdict, []).append((claim, told))
    return found


def overview(folders: list[RunFolder]) -> list[tuple[dict, list[str]]]:
    """Every claim that some run measured, with a cell for each run.

    - folders: the runs, a column each.
    """
    judged = {run: verdicts.judged(run) for run in folders}
    found = []
    for claim in claims_table():
        cells = [verdicts.cell(run, judged[run].get(claim["id"])) for run in folders]
        if any(cells):
            found.append((claim, cells))
    return found


def described(run: RunFolder) -> dict:
    """The values of a run, under the names that the templates use.

    - run: the run's folder.
    """
    return {
        "name": run.name,
        "title": SCALES[run.name],
        "defended": results.defended(run),
        "matched": results.settings_of(run).match_clean,
        "against_baselines": results.against_baselines(run),
        "has_adaptive": any(net.attacks for net in results.defended(run)),
        "beyond_images": results.images_of(run, "beyond"),
        "beyond_left": beyond_cells.left(run),
        "beyond_gains": beyond_cells.gains(run),
        "beyond_rows": beyond_cells.under_standard(run, "beyond_rows"),
        "beyond_controls": beyond_cells.under_standard(run, "beyond_controls"),
        "beyond_detection": beyond_cells.evading(run),
        "not_met": beyond_cells.not_met(run),
        "bare": run.table("bare"),
        "on_trainings": results.on_trainings(run),
        "detection": results.detection(run),
        "detection_images": results.images_of(run, "detection"),
        "trained": trainings.trained(run),
        "stopped": trainings.stopped(run),
        "draws_and_precision": results.draws_and_precision(run),
        "unequal_training": trainings.unequal_training(run),
        "residuals": results.residuals(run),
        "table3": results.table3(run),
        "printed_sigma": [row for row in run.table("paired") if "(sigma " in row["row"]],
        "clean": verdicts.clean_accuracy(run),
        "tested": tested(run),
        "by_verdict": by_verdict(run),
        "choices": results.choices(run),
        "beside_paper": beside_paper.reached(run),
    }


def nets(folders: list[RunFolder]) -> list[tuple[RunFolder, results.Defended]]:
    """Every net once, with the first of the runs that measured it.

    - folders: the runs.
    """
    found: dict = {}
    for run in folders:
        trained_by = results.settings_of(run).weights_of or run.name
        for net in results.defended(run):
            found.setdefault((trained_by, net.model), (run, net))
    return list(found.values())


def papers_net(folders: list[RunFolder]) -> list[list[str]]:
    """The rows of the paper's net that were attacked at the prediction too, for the README.

    - folders: the runs, of which PAPERS_NET count; a net's rows come from the first that has it.

    Cells: row; clean accuracy; then those of `beside_paper.reached` but the last.
    """
    found = []
    for run, net in nets([run for run in folders if run.name in PAPERS_NET]):
        clean = {row["row"]: results.measured(row, "clean") for row in run.table("oblivious")}
        for row, *with_label, prediction, minus, _ in beside_paper.reached(run):
            if row.partition(" + ")[0] == net.model and prediction != "–":
                found.append([row, clean[row], *with_label, prediction, minus])
    return found


def answer(folders: list[RunFolder]) -> dict:
    """The values of the five sentences; empty where a run that they speak of is missing.

    - folders: the runs. c10_compact has notebook 08.
    """
    named = {run.name: run for run in folders}
    if not {"c10", "c10_compact"} <= set(named):
        return {}
    compact = named["c10_compact"]
    worst = {net.model: net.worst for net in results.defended(compact)}
    if None in worst.values():
        return {}
    measured, guo, prediction = [], [], []
    for run in folders:
        measured += results.defended(run)
        cells = dict(results.against_baselines(run))["Mixup + MI-OL"]
        guo.append(-first(cells[BASELINES.index("guo")]))
        for row in results.choices(run):
            if row["choice"] == "the prediction is attacked":
                prediction.append(first(row["difference"]))
    return {
        "nets": len(nets(folders)),
        "gains": span([first(net.gain) for net in measured]),
        "costs": span([first(net.clean) - first(net.mi_clean) for net in measured]),
        "guo": span(guo),
        "prediction": span(prediction),
        "mixup": worst["Mixup"],
        "interpolated_at": worst["Interpolated AT"],
        "papers_net": standard_on_papers_net(folders),
        "auc": {run.name: results.detection(run) for run in folders if run.table("detection")},
        "compact": tested(compact),
        "paper_net": tested(*(named[name] for name in PAPERS_NET if name in named)),
    }


def standard_on_papers_net(folders: list[RunFolder]) -> dict[str, results.Attack]:
    """Model -> what the standard attack leaves of the paper's net; empty where 07 has not run.

    - folders: the runs, of which PAPERS_NET count.
    """
    found: dict[str, results.Attack] = {}
    for run in (run for run in folders if run.name in PAPERS_NET):
        for net in results.defended(run):
            if (attack := results.standard(run, net.model)) is not None:
                found.setdefault(net.model, attack)
    return found


def first(cell: str) -> float:
    """The value of a cell such as "90.4 [88.4, 92.1]".

    - cell: its text.
    """
    return float(cell.split(maxsplit=1)[0])


def span(values: list[float]) -> str:
    """From the least to the most: "2.3 to 20.3".

    - values: in points.
    """
    return f"{min(values):.1f} to {max(values):.1f}"


def _render(template: str, reference: Path) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.globals |= {"measured": results.measured, "signed": results.signed}
    environment.globals |= {"number": first, "attacks_of_08": list(MAIN.values())}
    folders = runs(reference)
    return environment.get_template(template).render(
        runs=[described(run) for run in folders],
        claims=overview(folders),
        claim_count=len(claims_table()),
        baselines=[NAMES[name] for name in BASELINES],
        answer=answer(folders),
        papers_net=papers_net(folders),
    )


def text(reference: Path) -> str:
    """FINDINGS.md.

    - reference: the folder of the curated runs.
    """
    return _render("findings.md.j2", reference).rstrip() + "\n"


def readme(page: str, reference: Path) -> str:
    """The README with its tables of results between its two marks.

    - page: the README as it stands.
    - reference: the folder of the curated runs.
    """
    between = _render("readme.md.j2", reference)
    marks = r"(?<=<!-- findings -->\n).*?(?=<!-- end of findings -->)"
    return re.sub(marks, lambda _: between, page, flags=re.S)
