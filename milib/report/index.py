"""The index of a report: claims, figures, tables, and what made each of them."""

import base64
import contextlib
import html
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from milib import files
from milib.data import SOURCES
from milib.errors import UserError
from milib.report import notebook_page
from milib.report.html import prose, whole_page
from milib.report.profile import _summary, _timing
from milib.study import claims, notebook, progress
from milib.study.rules import in_words
from milib.study.store import read_json, read_record
from milib.views import provenance

ABOUT = (
    "Mixup Inference (Pang, Xu and Zhu, ICLR 2020) averages a mixup-trained classifier's predictions over mixtures of the input with other images, "
    "to blunt adversarial perturbations. This page gathers what seven notebooks measured when they ran that paper again: "
    "claims with their verdicts, figures, tables, and what made each of them. "
)

DATA_NOTES = {
    "digits": "The data are scikit-learn's digits (8x8 pixels): <strong>a rehearsal, never evidence about the paper</strong>.",
    "cifar10": "The data are CIFAR-10.",
    "cifar100": "The data are CIFAR-100.",
    "generated": "The data are images made from random numbers: <strong>a test of the code, evidence of nothing</strong>.",
}
"""A sentence (HTML) on each data set that needs one."""


def _link(folder: Path, path: str, text: str = "") -> str:
    """A relative link to a file, or to its compressed form (a curated record); the text alone where there is neither."""
    text = html.escape(text or Path(path).name)
    there = next((name for name in (path, f"{path}.gz") if (folder / name).is_file()), None)
    return f'<a href="{quote(there)}">{text}</a>' if there else text


def _table(header: list[str], rows: Iterable[list[str]]) -> str:
    """A table of ready HTML cells; headings that begin with # stand over numbers."""
    right = [' class="number"' if cell.startswith("#") else "" for cell in header]
    lines = [
        [f"<td{side}>{cell}</td>" for cell, side in zip(row, right, strict=True)] for row in rows
    ]
    top = [f"<th{side}>{cell.lstrip('#')}</th>" for cell, side in zip(header, right, strict=True)]
    return (
        '<div class="wide"><table>'
        + "".join(f"<tr>{''.join(cells)}</tr>" for cells in [top, *lines])
        + "</table></div>"
    )


def _records(folder: Path, used: set[str]) -> dict[str, dict]:
    """Records by file name, without their results (claims apart), each with `used`: whether the notebooks' last runs read it.

    Where no profile says, all count as used. Raises UserError for a damaged one.
    """
    found = {}
    for path in sorted(folder.glob("records/*.json*")):
        content = read_record(path)
        found[path.name.removesuffix(".gz")] = (
            content
            if path.name.startswith("claims-")
            else content | {"result": None, "identity": {"data": content["identity"].get("data")}}
        )
    for name, record in found.items():
        record["used"] = name in used or not used & set(found)
    return found


def _made_by(folder: Path, about: dict, records: dict[str, dict]) -> str:
    """Under a figure or table: the notebook, the commits, and the files it had read so far (their names hold the fingerprints)."""
    notebook, names = str(about.get("notebook", "")), about.get("records", [])
    links = [
        _link(folder, f"records/{name}") + ("" if name in records else " (no longer there)")
        for name in names
    ]
    links += [_link(folder, f"checkpoints/{name}") for name in about.get("checkpoints", [])]
    commits = {str(records[name]["made"]["commit"]) for name in names if name in records} | (
        {str(about["commit"])} if about.get("commit") else set()
    )
    text = (
        f"made by notebook {_link(folder, f'notebooks/{notebook}.html', notebook)}"
        if notebook
        else "nothing says what made it"
    )
    text += f" at commit {', '.join(sorted(commits))}" if commits else ""
    read = ", ".join(links)
    if len(links) > 3:
        return f'<details class="made"><summary>{text}; {len(links)} files read up to here</summary>{read}</details>'
    return f'<p class="made">{text}{f" from {read}" if read else ""}</p>'


def _comparison(entry: dict, margin: object) -> str:
    """A measured difference: its interval in numbers, and drawn with zero (line) and the margin (dashed)."""
    mean, ends = (
        entry["mean"],
        [entry[end] for end in ("low", "high") if entry.get(end) is not None],
    )
    text = f"{prose(entry['label'])}: <strong>{mean:.3g}</strong>" + (
        f" [{ends[0]:.3g}, {ends[1]:.3g}]" if len(ends) == 2 else ""
    )
    marks = {"zero": 0.0} | (
        {"margin": margin} if isinstance(margin, int | float) and margin else {}
    )
    least, most = min(mean, *ends, *marks.values()), max(mean, *ends, *marks.values())
    place = {
        value: f"{100 * (value - least) / ((most - least) or 1):.1f}"
        for value in (mean, *ends, *marks.values())
    }
    drawn = "".join(
        f'<i class="{kind}" style="left:{place[value]}%"></i>' for kind, value in marks.items()
    )
    if len(ends) == 2:
        drawn += f'<i class="range" style="left:{place[ends[0]]}%;right:{100 - float(place[ends[1]]):.1f}%"></i>'
    drawn += f'<i class="mean" style="left:{place[mean]}%"></i>'
    return f'<div class="comparison"><span>{text}</span><span class="strip" aria-hidden="true">{drawn}</span></div>'


def _claims(folder: Path, records: dict[str, dict]) -> str:
    """Every claim with its verdict, from the newest claims record of each notebook (one its last run read comes first)."""
    newest: dict[str, str] = {}
    for name, record in records.items():
        rank = [
            (records[n]["used"], records[n]["made"]["when"])
            for n in (name, newest.get(record["name"]))
            if n
        ]
        if name.startswith("claims-") and rank[0] == max(rank):
            newest[record["name"]] = name
    tally, parts = Counter(), []
    for title, name in sorted(newest.items()):
        parts.append(
            f"<h3>{html.escape(title.removeprefix('claims-'))}{'' if records[name]['used'] else ' (of an earlier run)'}</h3>"
        )
        for claim in in_words(records[name]["result"]["claims"]):
            tally[claim["verdict"]] += 1
            head = f'<span class="verdict">{claim["verdict"]}</span> {prose(claim["statement"])}'
            room = (
                f" ± {claim['room']}"
                if claim.get("room") and records[name]["identity"].get("rehearsal")
                else ""
            )
            made = f"{html.escape(claim['id'])}; {prose(claim['source'])}; margin {prose(claim['margin'])}{room}"
            drawn = [
                _comparison(entry, claim["margin"])
                for entry in sorted(claim["comparisons"], key=lambda entry: entry["low"])
            ]
            if len(drawn) > claims.MANY:
                drawn = [
                    *drawn[:1],
                    f"<details><summary>the weakest of {len(drawn)} comparisons; the others</summary>",
                    *drawn[1:],
                    "</details>",
                ]
            kind = claim["verdict"].replace(" ", "-")
            parts.append(
                f'<article class="claim {kind}"><p>{head}</p>{"".join(drawn)}<p class="made">{made}</p></article>'
            )
        parts.append(
            _made_by(folder, {"notebook": records[name]["notebook"], "records": [name]}, records)
        )
    count = ", ".join(
        f"{tally[verdict]} {word}"
        for verdict, word in claims.VERDICTS.items()
        if tally[verdict] or verdict != "not measured"
    )
    note = "Each interval is drawn with zero (solid) and the margin (dashed)."
    return (
        f"<p>{count}. {note}</p>" + "".join(parts) if tally else "<p>No claims were judged yet.</p>"
    )


def _exhibits(folder: Path, kind: str, records: dict[str, dict]) -> str:
    """All figures or all tables, embedded, each with its caption and what made it, in the order in which the notebooks made them."""
    names = {
        path.stem
        for ending in ("png", "svg", "html")
        for path in folder.glob(f"{kind}/[!.]*.{ending}")
    }
    notes, parts = {name: read_json(folder / kind / f"{name}.json", {}) for name in names}, []
    for name in sorted(
        names,
        key=lambda name: (
            notes[name].get("notebook", ""),
            len(notes[name].get("records", [])),
            name,
        ),
    ):
        about, files = (
            notes[name],
            {e: folder / kind / f"{name}.{e}" for e in ("png", "svg", "html", "csv")},
        )
        settings = "; ".join(about[key] for key in ("settings", "models") if about.get(key))
        caption = prose(about.get("caption", name)) + (
            f". <small>{html.escape(settings)}.</small>" if settings else ""
        )
        if files["html"].exists():
            shown = f'<div class="wide">{files["html"].read_text()}</div>'
        else:
            file, media = (
                (files["png"], "image/png")
                if files["png"].exists()
                else (files["svg"], "image/svg+xml")
            )
            content = file.read_bytes()
            width = (
                f' width="{int.from_bytes(content[16:20]) // 2}"' if media == "image/png" else ""
            )  # one size of letters in all figures
            shown = f'<img alt="{html.escape(name)}"{width} src="data:{media};base64,{base64.b64encode(content).decode()}">'
        same = ", ".join(
            _link(folder, f"{kind}/{file.name}", ending)
            for ending, file in files.items()
            if file.exists()
        )
        made = _made_by(folder, about, records)
        parts.append(
            f'<figure id="{html.escape(name)}">{shown}<figcaption>{caption} <small>({same})</small></figcaption>{made}</figure>'
        )
    return "".join(parts) or "<p>None yet.</p>"


def _settings(folder: Path) -> list[str]:
    """What the notebooks measured on and with, in words, from their parameters cells; where they differ, each. Cells of another version say nothing."""
    found = []
    for path in sorted(folder.glob("notebooks/*.ipynb")):
        sources = [
            "".join(cell["source"])
            for cell in read_json(path, {}).get("cells", [])
            if cell["cell_type"] == "code"
        ]
        if not any(source.startswith(notebook.MARK) for source in sources):
            continue
        with contextlib.suppress(UserError):
            run = notebook.from_sources(sources)
            fewer = {"03": run.n_theory, "07": run.n_adaptive}
            fewer = ", ".join(
                f"{count:,} in {number}"
                for number, count in fewer.items()
                if list(folder.glob(f"notebooks/{number}_*.ipynb"))
            )
            images = f"{run.n_test:,} test images" + (f" ({fewer})" if fewer else "")
            attack = f"PGD within {provenance.fraction(run.epsilon)}, in steps of {provenance.fraction(run.step_size)}, on pixels in [0, 1]"
            found.append(
                f"{run.model} net; {images}; {attack}; N = {run.draws}, {run.draw_sets} sets of draws; seed {run.seed}"
            )
    return list(dict.fromkeys(found))


def _origin(folder: Path, records: dict[str, dict], timing: dict) -> str:
    """What the run is: its data, machine, versions, commits and dates, as its records tell, and how long its notebooks took."""
    made = [record["made"] for record in records.values() if record["used"]]
    data = sorted(
        {
            record["identity"]["data"]
            for record in records.values()
            if record["identity"].get("data") in SOURCES
        }
    ) or [folder.name]
    whens = sorted({entry["when"] for entry in made})
    facts = {
        "Settings": _settings(folder),
        "Machine": sorted({f"{entry['machine']}, {entry['threads']} threads" for entry in made}),
        "Versions": sorted(
            {f"{name} {version}" for entry in made for name, version in entry["versions"].items()}
        ),
        "Commit": sorted({str(entry["commit"]) for entry in made}),
        "Computed": [" to ".join(dict.fromkeys((whens[0], whens[-1])))]
        if whens
        else ["nothing yet"],
        "Records took": [
            progress.about(sum(record["seconds"] for record in records.values() if record["used"]))
        ],
    }
    if walls := [wall for wall, _ in timing.values() if wall is not None]:
        facts["Notebooks took"] = [f"{progress.about(sum(walls))} when they last ran"]
    lines = "".join(
        f"<dt>{name}</dt><dd>{html.escape('; '.join(values))}</dd>"
        for name, values in facts.items()
        if values
    )
    symbols = (
        f"Symbols are explained in {_link(folder, 'notebooks/01_train_mixup.html', 'notebook 1')}. "
    )
    return f"<p>{ABOUT}{symbols}{' '.join(DATA_NOTES.get(name, f'The data are {html.escape(name)}.') for name in data)}</p><dl>{lines}</dl>"


def _logs(folder: Path) -> list[dict]:
    """The training logs: file, model, epochs, seconds. Raises UserError for a damaged one."""
    found = []
    for path in sorted(folder.glob("checkpoints/*.jsonl")):
        try:
            recipe, *entries = map(json.loads, path.read_text().splitlines())
            seconds = sum(entry.get("seconds", 0.0) for entry in entries)
            found.append(
                {
                    "file": path.name,
                    "name": recipe.get("name", path.stem),
                    "epochs": len(entries),
                    "seconds": seconds,
                }
            )
        except (ValueError, AttributeError):
            raise UserError(f"{path} is damaged: delete it") from None
    return found


def build(folder: Path) -> Path:
    """The report of a run's folder: each notebook as HTML, then index.html, whose path is returned. Raises UserError."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist: `make study RUN={folder.name}` makes it")
    notebooks, shown = sorted(folder.glob("notebooks/*.ipynb")), []
    for path in notebooks:
        notebook_page.notebook_html(path, path.with_suffix(".html"), home="../index.html")
        title, failed = notebook_page.notebook_title(path)
        links = f"{_link(folder, f'notebooks/{path.stem}.html', title)} <small>({_link(folder, f'notebooks/{path.name}', 'ipynb')})</small>"
        shown.append(
            f"<li>{links}{' <strong class=verdict>stopped with an error</strong>' if failed else ''}</li>"
        )
    timing, logs = _timing(folder), _logs(folder)
    records = _records(folder, {name for _, entries in timing.values() for name in entries})
    cost = [
        (r["seconds"], _link(folder, f"records/{name}"), r["notebook"])
        for name, r in records.items()
        if r["used"]
    ]
    cost += [
        (log["seconds"], _link(folder, f"checkpoints/{log['file']}"), "training") for log in logs
    ]
    listed = _table(
        ["record", "notebook", "#seconds", "made", "commit"],
        (
            [
                _link(folder, f"records/{name}") + ("" if r["used"] else " <small>(older)</small>"),
                *(
                    html.escape(str(cell))
                    for cell in (
                        r["notebook"],
                        f"{r['seconds']:.1f}",
                        r["made"]["when"],
                        r["made"]["commit"],
                    )
                ),
            ]
            for name, r in records.items()
        ),
    )
    walls = [
        [
            html.escape(name),
            "not re-run" if wall is None else f"{wall:.1f}",
            *map(str, _summary(entries.values())),
        ]
        for name, (wall, entries) in timing.items()
    ]
    trained = (
        [
            _link(folder, f"checkpoints/{g['file']}"),
            html.escape(g["name"]),
            str(g["epochs"]),
            f"{g['seconds']:.1f}",
        ]
        for g in logs
    )
    slowest = (
        [f"{seconds:.1f}", what, html.escape(where)]
        for seconds, what, where in sorted(cost, reverse=True)[:10]
    )
    sections = {
        "Claims": _claims(folder, records),
        "Figures": _exhibits(folder, "figures", records),
        "Tables": _exhibits(folder, "tables", records),
        "Notebooks": f"<ul>{''.join(shown)}</ul>" if shown else "<p>None was run yet.</p>",
        "Training logs": _table(["log", "model", "#epochs", "#seconds"], trained),
        "What took how long": _table(
            ["notebook", "#wall seconds", "computed when it last ran", "#from the cache"], walls
        )
        + "<p>The slowest records and trainings, whenever they were computed:</p>"
        + _table(["#seconds", "what", "where"], slowest),
        "Records": f"<details><summary>all {len(records)} records, one JSON file each</summary>{listed}</details>",
    }
    body = f"<h1>Mixup Inference, run again: {html.escape(folder.name)}</h1>" + _origin(
        folder, records, timing
    )
    body += "".join(
        f"<section><h2>{title}</h2>{content}</section>" for title, content in sections.items()
    )
    index = folder / "index.html"
    files.write_atomic(index, whole_page(f"Mixup Inference: {folder.name}", body, ""))
    return index
