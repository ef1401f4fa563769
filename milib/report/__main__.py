"""The report of a run, `python -m milib.report RUN`: its pages and its profile.

The pages, index.html and the notebooks as HTML, are read offline and hold no scripts.
"""

import argparse
import os
import sys

from milib.errors import UserError
from milib.report.index import build
from milib.report.profile import profile
from milib.report.run_folder import RunFolder
from milib.study import paths


def main(arguments: list[str] | None = None) -> None:
    """The command line: builds the pages, then prints the profile and where index.html lies.

    - arguments: by default those of the command line.

    A UserError becomes one line and exit 1.
    """
    parser = argparse.ArgumentParser(prog="python -m milib.report", description=__doc__)
    parser.add_argument("run", help="name of a run: a folder in outputs/")
    run = parser.parse_args(arguments).run
    try:
        folder = paths.outputs_root() / run
        index = build(folder)
        print(
            *RunFolder(folder).lost(),
            profile(folder),
            f"report: {os.path.relpath(index)}",
            sep="\n",
        )
    except UserError as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
