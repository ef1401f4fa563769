"""The report of a run, `python -m milib.report RUN`: its pages and its profile.

The pages, index.html and the notebooks as HTML, are read offline and hold no scripts.
"""

import argparse
import os
import sys
from pathlib import Path

from milib.errors import UserError
from milib.report import pdf
from milib.report.index import build
from milib.report.profile import profile
from milib.report.run_folder import RunFolder
from milib.study import paths

FORMATS = ("html", "pdf")


def place(run: str) -> Path:
    """The folder of a run: that in outputs/, else the curated one.

    - run: its name.
    """
    live, curated = paths.outputs_root() / run, paths.reference_root() / run
    return live if live.is_dir() or not curated.is_dir() else curated


def main(arguments: list[str] | None = None) -> None:
    """The command line: builds the pages, then prints the profile and where index.html lies.

    - arguments: by default those of the command line.

    A UserError becomes one line and exit 1.
    """
    parser = argparse.ArgumentParser(prog="python -m milib.report", description=__doc__)
    parser.add_argument("run", help="a run: a folder in outputs/, else in outputs/reference/")
    parser.add_argument("--format", choices=FORMATS, default="html", help="pdf: prints it, too")
    given = parser.parse_args(arguments)
    try:
        folder = place(given.run)
        index = build(folder)
        made = pdf.write(index) if given.format == "pdf" else index
        print(
            *RunFolder(folder).lost(),
            profile(folder),
            f"report: {os.path.relpath(made)}",
            sep="\n",
        )
    except UserError as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
