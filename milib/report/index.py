"""The index of a report: claims, figures, tables, and what made each of them.

What the page shows is gathered here; how it is shown, and every sentence, is in index.html.j2.
"""

import base64
import contextlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from milib import files
from milib.data import SOURCES
from milib.errors import UserError
from milib.report import notebook_page
from milib.report.claim_cards import claim_groups, tally
from milib.report.html import TEMPLATES, whole_page
from milib.report.profile import SLOWEST, latest, summary
from milib.report.run_folder import PACKED, RunFolder
from milib.study import claims, params, progress
from milib.views import provenance, styling


@dataclass(frozen=True)
class Origin:
    """What made a figure, a table or a verdict.

    - notebook: its name; empty where nothing is known.
    - commits: at which its records were made, and it itself.
    - records, checkpoints: the files that the notebook had read up to there.
    """

    notebook: str
    commits: list[str]
    records: list[str]
    checkpoints: list[str]


def origin(run: RunFolder, about: dict) -> Origin:
    """What made something, from the note that was left beside it.

    - run: the run's folder.
    - about: as `RunFolder.about` returns it.
    """
    names, records = about.get("records", []), run.records()
    commits = {str(records[name]["made"]["commit"]) for name in names if name in records}
    if about.get("commit"):
        commits.add(str(about["commit"]))
    notebook = str(about.get("notebook", ""))
    return Origin(notebook, sorted(commits), names, about.get("checkpoints", []))


def link(folder: Path, path: str, text: str = "") -> Markup:
    """A link to a file of the run; the text alone where there is no such file.

    - folder: the run's folder.
    - path: relative to the run's folder.
    - text: by default the file's name.
    """
    shown = text or Path(path).name
    if not (folder / path).is_file():
        return Markup.escape(shown)
    return Markup('<a href="{}">{}</a>').format(quote(path), shown)


def used_records(run: RunFolder) -> set[str]:
    """The records that the notebooks' last runs read; all of them where no profile tells.

    - run: the run's folder.
    """
    read: set[str] = set()
    for timing in run.profile().values():
        read |= {entry["name"] for entry in timing.entries}
    return read & set(run.records()) or set(run.records())


def exhibit(run: RunFolder, kind: str, name: str) -> dict:
    """A figure or table: what is shown, its caption, its files, and the note beside it.

    - run: the run's folder.
    - kind: "figures" or "tables".
    - name: of its files.
    """
    about = run.about(kind, name)
    endings = ("png", "svg", "csv")
    paths = {ending: run.path / kind / f"{name}.{ending}" for ending in endings}
    there = {ending: path for ending, path in paths.items() if path.exists()}
    notes = [about[key] for key in ("settings", "models") if about.get(key)]
    shown = _image(there) if kind == "figures" else {"table": _table(there["csv"], name)}
    return shown | {
        "name": name,
        "caption": about.get("caption", name),
        "settings": "; ".join(notes),
        "files": {ending: f"{kind}/{path.name}" for ending, path in there.items()},
        "about": about,
    }


def _image(paths: dict[str, Path]) -> dict:
    """A picture as the page embeds it; the width gives all PNG figures letters of one size."""
    if "png" not in paths:
        return {"media": "image/svg+xml", "content": _base64(paths["svg"]), "width": None}
    header = paths["png"].read_bytes()[:24]
    width = int.from_bytes(header[16:20]) // 2
    return {"media": "image/png", "content": _base64(paths["png"]), "width": width}


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _table(path: Path, name: str) -> Markup:
    return Markup(styling.styled(styling.read(path), name).to_html())


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
    steps = provenance.fraction(run.step_size)
    attack = f"PGD within {provenance.fraction(run.epsilon)}, in steps of {steps}"
    draws = f"N = {run.draws}, {run.draw_sets} sets of draws; seed {run.seed}"
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
        notebook_page.notebook_html(path, path.with_suffix(".html"), home="../index.html")
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
    body = TEMPLATES.get_template("index.html.j2").render(
        run=run,
        link=partial(link, run.path),
        origin=partial(origin, run),
        packed=PACKED,
        notebooks=notebooks,
        data=data_sets(run, used),
        facts=facts(run, used),
        groups=groups,
        tally=tally(groups),
        many=claims.MANY,
        figures=[exhibit(run, "figures", name) for name in run.figures()],
        tables=[exhibit(run, "tables", name) for name in run.tables()],
        logs=logs,
        timings=timings(run),
        costs=costs(run, used, logs),
        records=run.records(),
        used=used,
    )
    index = run.path / "index.html"
    files.write_atomic(index, whole_page(f"Mixup Inference: {run.name}", body))
    return index
