"""Draws the figures of a curated run anew from its records, where their look has changed since.

    python -m milib.report.redraw c10_compact

Today's notebooks run, each up to its last figure, beside copies of the records that pass for
today's; only figures are taken from them. What no record holds, such as the images of an attack, is
computed. Records, tables and executed notebooks of the curated run stay as they are.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from milib.errors import UserError
from milib.files import digest, write_atomic
from milib.report.curate import shown_as_svg
from milib.report.pictures import small
from milib.report.run_folder import RunFolder
from milib.study import params, paths
from milib.study.identity import code_digest
from milib.study.store import read_json

HERE = {"device": "cpu", "scored": "fp32"}
"""The parts of an identity that tell where a record was made, as they are on a CPU."""


def lend(run: RunFolder, folder: Path) -> None:
    """Writes copies of a run's records where today's code looks for its own, on a CPU.

    - run: the curated run.
    - folder: of the run that gets them; they are evidence of nothing, so it must not be kept.
    """
    for record in run.records().values():
        where = HERE if "device" in record["identity"] else {}
        passed = record["identity"] | where | {"source": code_digest()}
        name = f"{record['name']}-{digest(passed)}.json"
        content = record | {"identity": passed, "fingerprint": digest(passed)}
        write_atomic(folder / "records" / name, json.dumps(content).encode())


def redraw(run: RunFolder) -> list[str]:
    """Replaces the figures of a curated run, and returns their names.

    - run: the curated run.

    Raises UserError where there is none, and where a notebook fails.
    """
    if not run.curated:
        raise UserError(f"{run.path} is no curated run")
    as_svg, drawn = shown_as_svg(run.name), []
    with tempfile.TemporaryDirectory() as outputs:
        folder = Path(outputs) / run.name
        lend(run, folder)
        for notebook in run.notes()["parameters"]:
            path = Path(outputs) / f"{notebook}.yaml"
            path.write_text(yaml.safe_dump(parameters(run, notebook)), encoding="utf-8")
            _execute(notebook, path)
        for name in run.figures():
            for ending in ("png", "svg") if name in as_svg else ("png",):
                content = (folder / "figures" / f"{name}.{ending}").read_bytes()
                content = small(content) if ending == "png" else content
                write_atomic(run.path / "figures" / f"{name}.{ending}", content)
            drawn.append(name)
    return drawn


def parameters(run: RunFolder, notebook: str) -> dict:
    """A curated run's own parameters, in the precision of its attacks; today's of what is new.

    - run: the curated run.
    - notebook: that ran with them.

    Raises UserError where params/ has no file of the run.
    """
    today = params.read_yaml(paths.project_root() / "params" / f"{run.name}.yaml")
    own = run.parameters(notebook) or {}
    identities = (record["identity"] for record in run.records().values())
    precision = {each["precision"] for each in identities if "precision" in each}
    found = today | {key: value for key, value in own.items() if key in today}
    return found | ({"precision": precision.pop()} if precision else {})


def up_to_its_last_figure(notebook: str) -> dict:
    """Today's notebook without the cells after its last figure, which may take hours.

    - notebook: its name.
    """
    content = read_json(paths.project_root() / "notebooks" / f"{notebook}.ipynb", {})
    drawn = ["figures.show(" in "".join(cell["source"]) for cell in content["cells"]]
    last = max((place for place, draws in enumerate(drawn) if draws), default=-1)
    return content | {"cells": content["cells"][: last + 1]}


def _execute(notebook: str, path: Path) -> None:
    """Execute a notebook with a file of parameters; what it leaves lies beside the file."""
    cut = path.with_suffix(".cut.ipynb")
    cut.write_text(json.dumps(up_to_its_last_figure(notebook)), encoding="utf-8")
    words = [sys.executable, "-m", "papermill", str(cut), str(path.with_suffix(".ipynb"))]
    words += ["-f", str(path)]
    words += ["--no-progress-bar", "--log-level", "ERROR"]
    environment = os.environ | {"MILIB_OUTPUTS": str(path.parent), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{notebook} failed: {done.stderr.strip().splitlines()[-1]}")


def main(runs: list[str]) -> None:
    """The command line.

    - runs: names of curated runs.

    Raises UserError.
    """
    for run in runs:
        drawn = redraw(RunFolder(paths.reference_root() / run))
        print(json.dumps({"redrawn": run, "figures": drawn}), flush=True)


if __name__ == "__main__":
    raw = argparse.RawDescriptionHelpFormatter
    command = "python -m milib.report.redraw"
    parser = argparse.ArgumentParser(prog=command, description=__doc__, formatter_class=raw)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run in outputs/reference/")
    try:
        main(parser.parse_args().runs)
    except UserError as error:
        sys.exit(f"UserError: {error}")
