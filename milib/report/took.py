"""Keeps how long the jobs of a run took, for the plan that `make study` prints.

    python -m milib.report.took digits c10_quick    # into outputs/reference/times.json

Each run must have run from an empty folder to its end, with nothing else running.
"""

import argparse
import json
import sys
from pathlib import Path

from milib.errors import UserError
from milib.files import write_atomic
from milib.report.run_folder import RunFolder
from milib.study import jobs, paths, times


def timed(folder: Path) -> dict:
    """The seconds of a run's jobs, and on what: CPU or GPU, threads of a job, commit, dates.

    - folder: of the run.

    Raises UserError where a notebook has no time, or a record is damaged.
    """
    seconds = times.last(folder)
    if missing := sorted(set(jobs.notebooks()) - set(seconds)):
        raise UserError(f"{folder} has no time of {missing[0]}: run the whole study there first")
    made = [record["made"] for record in RunFolder(folder).records().values()]
    days = sorted(each["when"][:10] for each in made)
    return {
        "machine": sorted({f"{each['machine']}, {each['threads']} threads" for each in made}),
        "commit": sorted({str(each["commit"]) for each in made}),
        "dates": sorted({days[0], days[-1]}),
        "seconds": {name: round(seconds[name]) for name in sorted(seconds)},
    }


def main(runs: list[str]) -> None:
    """The command line.

    - runs: their names.

    Raises UserError.
    """
    path = paths.reference_root() / times.KEPT
    kept = times.kept()
    kept |= {run: timed(paths.outputs_root() / run) for run in runs}
    write_atomic(path, (json.dumps(kept, indent=1, sort_keys=True) + "\n").encode())
    print(json.dumps({"kept": runs, "file": f"outputs/reference/{times.KEPT}"}))


if __name__ == "__main__":
    raw = argparse.RawDescriptionHelpFormatter
    command = "python -m milib.report.took"
    parser = argparse.ArgumentParser(prog=command, description=__doc__, formatter_class=raw)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run in outputs/")
    try:
        main(parser.parse_args().runs)
    except UserError as error:
        sys.exit(f"UserError: {error}")
