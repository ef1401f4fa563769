"""Run a step of the GPU ledger: `python milib/study/ledger.py STEP`; without a step, list them.

Steps and commands are in outputs/reference/c10/ledger.yaml, results in LEDGER.md beside it. Nothing
of milib is imported: that takes seconds, and a step's own command does it again.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
LEDGER = ROOT / "outputs" / "reference" / "c10" / "ledger.yaml"


def steps() -> list[dict]:
    """The ledger's steps in order, each with `id`, `title` and `command`.

    Ends in one line where the ledger cannot be read.
    """
    try:
        found = yaml.safe_load(LEDGER.read_text(encoding="utf-8"))
        return [{key: step[key] for key in ("id", "title", "command")} for step in found]
    except (OSError, ValueError, yaml.YAMLError, TypeError, KeyError):
        sys.exit(f"UserError: {LEDGER} is damaged: take it from git")


def command(step: str) -> str:
    """The command of a step, with $TINY and $SIZES filled in.

    - step: the id of a step.

    Ends in one line where there is no such step.
    """
    found = {str(entry["id"]): entry["command"] for entry in steps()}
    if step not in found:
        sys.exit(f"UserError: the ledger has no step '{step}': its steps are {', '.join(found)}")
    text = found[step]
    for name in ("TINY", "SIZES"):  # filled in here, so that the shell reads their quotes
        text = text.replace(f"${name}", os.environ.get(name, ""))
    return text.strip()


def main(arguments: list[str]) -> int:
    """The command line: the exit status is that of the step's command."""
    parser = argparse.ArgumentParser(prog="python milib/study/ledger.py", description=__doc__)
    parser.add_argument("step", nargs="?", help="its id; without it all steps are listed")
    step = parser.parse_args(arguments).step
    if step is None:
        print("\n".join(f"{entry['id']:>2}  {entry['title']}" for entry in steps()))
        return 0
    text = command(step)
    out = Path(os.environ.get("OUT") or ROOT / "outputs" / "gpu")
    out.mkdir(parents=True, exist_ok=True)
    print(text, flush=True)
    environment = os.environ | {"OUT": str(out)}
    return subprocess.run(["bash", "-c", text], cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
