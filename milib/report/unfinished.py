"""A run that no session finishes: its records go into the tree, and another machine goes on.

    python -m milib.report.unfinished keep RUN    # outputs/RUN -> outputs/unfinished/RUN.jsonl.xz
    python -m milib.report.unfinished take RUN    # and back, before the run goes on

Only records of the code as it is now are kept and taken: others would be computed again anyway.
"""

import argparse
import json
import sys
from pathlib import Path

from milib.errors import UserError
from milib.files import write_atomic
from milib.report.run_folder import RunFolder, pack, unpack
from milib.study import paths
from milib.study.identity import code_digest


def _of_this_code(records: dict[str, dict]) -> dict[str, dict]:
    source = code_digest()
    return {name: each for name, each in records.items() if each["identity"]["source"] == source}


def keep(run: Path, packed: Path) -> int:
    """Packs a run's records beside those that are packed already, and returns how many they are.

    - run: the run's folder.
    - packed: the file.

    Raises UserError where there are none of this code, and where a record is damaged.
    """
    records = _of_this_code(unpack(packed) | RunFolder(run).records())
    if not records:
        raise UserError(f"{run} has no record of this code: there is nothing to keep")
    write_atomic(packed, pack(records))
    return len(records)


def take(run: Path, packed: Path) -> int:
    """Unpacks the records that a run lacks, and returns how many they were.

    - run: the run's folder.
    - packed: the file.

    Raises UserError where there are none of this code, and where a record is damaged.
    """
    if not packed.exists():
        raise UserError(f"{packed} does not exist: nothing was kept of this run")
    kept = unpack(packed)
    records, taken = _of_this_code(kept), 0
    if not records:
        commits = sorted({str(each["made"]["commit"]) for each in kept.values()})
        raise UserError(
            f"{packed} has no record of this code: the run goes on at commit "
            f"{' or '.join(commits)}, and here the run begins anew"
        )
    for name, content in records.items():
        path = run / "records" / name
        if not path.exists():
            write_atomic(path, json.dumps(content).encode())
            taken += 1
    return taken


def main(words: list[str]) -> None:
    """The command line.

    - words: "keep" or "take", and a run's name.

    Raises UserError.
    """
    known = {"keep": keep, "take": take}
    if len(words) != 2 or words[0] not in known:
        raise UserError(f"{' '.join(words) or 'nothing'} is given: keep RUN, or take RUN")
    does, run = words
    packed = paths.project_root() / "outputs" / "unfinished" / f"{run}.jsonl.xz"
    count = known[does](paths.outputs_root() / run, packed)
    print(json.dumps({does: run, "records": count, "file": f"outputs/unfinished/{packed.name}"}))


if __name__ == "__main__":
    raw = argparse.RawDescriptionHelpFormatter
    command = "python -m milib.report.unfinished"
    parser = argparse.ArgumentParser(prog=command, description=__doc__, formatter_class=raw)
    parser.add_argument("words", nargs="*", metavar="keep|take RUN")
    try:
        main(parser.parse_args().words)
    except UserError as error:
        sys.exit(f"UserError: {error}")
