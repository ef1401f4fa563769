"""`python -m milib`: lists the commands."""

import argparse

COMMANDS = {
    "milib.audit": "what a battery of attacks leaves of a defense of your own",
    "milib.bench": "times beside other libraries, as ratios (`make bench`)",
    "milib.report": "a run's pages, from what the run left",
    "milib.report.curate": "keep a finished run as evidence; write FINDINGS.md anew",
    "milib.report.redraw": "draw a curated run's figures anew, from its records",
    "milib.report.took": "keep how long a run's jobs took, for the plan of `make study`",
    "milib.report.unfinished": "pack the records of a run that another machine finishes",
    "milib.study.identity": "pin what the training code means",
    "milib.study.launch": "make whole runs (`make study`)",
    "milib.study.ledger": "run a step of the GPU ledger (`make gpu`)",
    "milib.study.rerun_notebooks": "run the notebooks and store their outputs (`make notebooks`)",
    "milib.study.train": "train models of a run without a notebook, and ship them",
    "milib.views.app": "all explorers of a run as one page (`make app`)",
}
"""What `python -m` runs, with a line for each."""


def text() -> str:
    """The list, a command a line."""
    width = max(map(len, COMMANDS))
    return "\n".join(f"  python -m {name:<{width}}  {what}" for name, what in COMMANDS.items())


def main() -> None:
    """The command line: prints the list, with --help and without."""
    parser = argparse.ArgumentParser(
        prog="python -m milib",
        description=f"Mixup Inference, re-run. The commands, each with --help:\n\n{text()}",
        epilog="As a library: `import milib`. `make study` makes the run on small digits.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=argparse.SUPPRESS,
    )
    parser.parse_args()
    parser.print_help()


if __name__ == "__main__":
    main()
