"""The index of a report: claims, figures, tables, and what made each of them.

What the page shows is gathered here; how it is shown, and every sentence, is in index.html.j2.
"""

import contextlib
from functools import partial
from pathlib import Path

from milib import files
from milib.data import SOURCES
from milib.errors import UserError
from milib.report import notebook_page
from milib.report.answer import answer, main_table
from milib.report.claim_cards import axis, claim_groups, tally
from milib.report.exhibits import exhibit, link, origin, table
from milib.report.html import TEMPLATES, Around, Entry, prose, whole_page
from milib.report.profile import SLOWEST, latest, summary
from milib.report.run_folder import NOTES, PACKED, RunFolder
from milib.study import claims, params, progress
from milib.views.written import of_pixels

FEW = 3
"""So many files are named where something was made; more are folded away."""
SECTIONS = {"answer": "Answer", "about": "The run", "claims": "Claims", "figures": "Figures"}
SECTIONS |= {"tables": "Tables", "notebooks": "Notebooks", "trainings": "Training logs"}
SECTIONS |= {"times": "Times", "records": "Records"}
"""The page's sections: id -> title in the contents."""


def used_records(run: RunFolder) -> set[str]:
    """The records that the notebooks' last runs read; all of them where no profile tells.

    - run: the run's folder.
    """
    read: set[str] = set()
    for timing in run.profile().values():
        read |= {entry["name"] for entry in timing.entries}
    return read & set(run.records()) or set(run.records())


def settings(run: RunFolder) -> list[str]:
    """What the notebooks measured on and with, in words; where they differ, each.

    - run: the run's folder.

    Parameters that this version does not know say nothing.
    """
    found = []
    for name in run.profile():
        with contextlib.suppress(UserError):
            if values := run.parameters(name):
                found.append(_told(params.build(values), list(run.profile())))
    return list(dict.fromkeys(found))


def _told(run: params.Params, notebooks: list[str]) -> str:
    fewer = {"03": run.n_theory, "07": run.n_adaptive, "08": run.n_beyond}
    numbers = {name[:2] for name in notebooks}
    others = ", ".join(f"{count:,} in {nr}" for nr, count in fewer.items() if nr in numbers)
    images = f"{run.n_test:,} test images" + (f" ({others})" if others else "")
    steps = of_pixels(run.step_size)
    attack = f"PGD within {of_pixels(run.epsilon)}, in steps of {steps}"
    sets = "1 set" if run.draw_sets == 1 else f"{run.draw_sets} sets"
    draws = f"N = {run.draws}, {sets} of draws; seed {run.seed}"
    return f"{run.model} net; {images}; {attack}, on pixels in [0, 1]; {draws}"


def facts(run: RunFolder, used: set[str]) -> dict[str, list[str]]:
    """What the run is, as its records tell: settings, machine, versions, commits, dates, times.

    - run: the run's folder.
    - used: the records that count.
    """
    records = [record for name, record in run.records().items() if name in used]
    made = [record["made"] for record in records]
    versions: set[str] = set()
    for entry in made:
        versions |= {f"{name} {version}" for name, version in entry["versions"].items()}
    whens = sorted({entry["when"] for entry in made})
    walls = [wall for wall, _ in run.profile().values() if wall is not None]
    found = {
        "Settings": settings(run),
        "Machine": sorted({f"{entry['machine']}, {entry['threads']} threads" for entry in made}),
        "Versions": sorted(versions),
        "Commit": sorted({str(entry["commit"]) for entry in made}),
        "Computed": [" to ".join(dict.fromkeys((whens[0], whens[-1])))] if made else [],
        "Records took": [progress.about(sum(record["seconds"] for record in records))],
        "Notebooks took": [f"{progress.about(sum(walls))} when they last ran"] if walls else [],
    }
    return {name: values for name, values in found.items() if values}


def data_sets(run: RunFolder, used: set[str]) -> list[str]:
    """The data sets of the records that count; the run's name where none tells.

    - run: the run's folder.
    - used: the records that count.
    """
    named = {run.records()[name]["identity"].get("data") for name in used}
    return sorted(named & set(SOURCES)) or [run.name]


def on_other_data(run: RunFolder) -> bool:
    """Whether a run is on data of its own: no value of the paper belongs to it.

    - run: the run's folder.
    """
    noted = run.notes()["parameters"].values()
    return bool(noted) and all(each.get("paper_table") == "none" for each in noted)


def costs(run: RunFolder, used: set[str], logs: list[dict]) -> list[dict]:
    """The slowest records and trainings: seconds, file, and where they were made.

    - run: the run's folder.
    - used: the records that count.
    - logs: of `training_logs`.
    """
    found = [
        {"seconds": record["seconds"], "record": name, "log": "", "where": record["notebook"]}
        for name, record in run.records().items()
        if name in used
    ]
    for log in logs:
        row = {"seconds": log["seconds"], "record": "", "log": log["file"], "where": "training"}
        found.append(row)
    return sorted(found, key=lambda row: row["seconds"], reverse=True)[:SLOWEST]


def training_logs(run: RunFolder) -> list[dict]:
    """File, model, epochs and seconds of each training.

    - run: the run's folder.
    """
    return [
        {
            "file": log.file,
            "model": log.recipe.get("name", Path(log.file).stem),
            "epochs": len(log.epochs),
            "seconds": sum(entry.get("seconds", 0.0) for entry in log.epochs),
        }
        for log in run.logs()
    ]


def timings(run: RunFolder) -> list[dict]:
    """Of each notebook the wall seconds, what it computed, and how much came from the cache.

    - run: the run's folder.
    """
    found = []
    for name, (wall, entries) in run.profile().items():
        computed, cached = summary(latest(entries).values())
        found.append({"notebook": name, "wall": wall, "computed": computed, "cached": cached})
    return found


def pages(run: RunFolder) -> list[dict]:
    """Writes each notebook's page; returns their names, titles, and whether they failed.

    - run: the run's folder.
    """
    found = []
    for path in sorted(run.path.glob("notebooks/*.ipynb")):
        page = path.with_suffix(".html")
        notebook_page.notebook_html(path, page, "../index.html", linked=run.curated)
        title, failed = notebook_page.notebook_title(path)
        found.append({"name": path.stem, "title": title, "failed": failed})
    return found


def build(folder: Path) -> Path:
    """Writes the report of a run: each notebook as HTML, then index.html.

    - folder: the run's folder, live or curated.

    Returns the path of index.html. Raises UserError where the folder is missing or a file damaged.
    """
    run = RunFolder(folder)
    if not run.path.is_dir():
        raise UserError(f"{run.path} does not exist: `make study RUN={run.name}` makes it")
    files.remove_leftovers(run.path)
    notebooks, logs, used = pages(run), training_logs(run), used_records(run)
    groups = claim_groups(run.records(), used)
    main = main_table(run)
    figures = [exhibit(run, "figures", name) for name in run.figures()]
    tables = [exhibit(run, "tables", name) for name in run.tables() if run.table(name)]
    body = TEMPLATES.get_template("index.html.j2").render(
        run=run,
        link=partial(link, run.path),
        origin=partial(origin, run),
        packed=PACKED,
        notes=NOTES,
        answer=answer(run),
        main=None if main is None else table(main, "main"),
        notebooks=notebooks,
        data=data_sets(run, used),
        facts=facts(run, used),
        groups=groups,
        other_data=on_other_data(run),
        axis=axis(groups),
        tally=tally(groups),
        many=claims.MANY,
        few=FEW,
        figures=figures,
        tables=tables,
        logs=logs,
        timings=timings(run),
        costs=costs(run, used, logs),
        records=run.records(),
        used=used,
    )
    around = Around(contents(groups, figures, tables))
    index = run.path / "index.html"
    files.write_atomic(index, whole_page(f"Mixup Inference: {run.name}", body, around))
    return index


def contents(groups: list[dict], figures: list[dict], tables: list[dict]) -> list[Entry]:
    """The contents of the page.

    - groups: of `claim_groups`.
    - figures, tables: of `exhibit`.
    """
    parts = {
        "claims": [Entry(f"claims_{group['title']}", group["title"]) for group in groups],
        "figures": [Entry(shown["id"], prose(shown["caption"])) for shown in figures],
        "tables": [Entry(shown["id"], prose(shown["caption"])) for shown in tables],
    }
    return [Entry(name, title, parts.get(name, [])) for name, title in SECTIONS.items()]
