"""`make study`: makes the runs that are asked for, tells of each job, and builds their reports.

$MILIB_RUN names the runs, $MILIB_ARGS changes parameters of all of them, and $MILIB_PROFILE is a
profile of snakemake, such as slurm in profiles/; without it all runs on this machine.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from milib.errors import UserError
from milib.files import remove_leftovers
from milib.study import arguments, job, paths
from milib.study.locks import lock, sign
from milib.study.store import lost_records

FIRST = "04_oblivious"
"""Its models and itself come first: it takes longest, and nothing waits for the others."""
REPORT = [sys.executable, "-m", "milib.report"]
ROOM = 2**20
"""Bytes that a folder must have left: with fewer, logs are cut short and say nothing."""
LOOK = 0.5
"""Seconds between two looks at the logs of the jobs."""


def forget_lost(folder: Path) -> None:
    """Remove the executed notebooks that read a record which is gone: run again, they make it.

    - folder: of a run.

    Raises UserError where a profile is damaged.
    """
    for name in lost_records(folder):
        (folder / "notebooks" / f"{name}.ipynb").unlink(missing_ok=True)


def profile() -> list[str]:
    """The options of snakemake that say where jobs run: this machine's cores, or $MILIB_PROFILE.

    Raises UserError where there is no such profile.
    """
    name = os.environ.get("MILIB_PROFILE", "")
    if not name:
        return ["--cores", "all"]
    for place in (paths.project_root(), paths.outputs_root().resolve()):
        if odd := set(str(place)) & set("'\"`$\\"):
            raise UserError(
                f"PROFILE: {place} has a {odd.pop()}, which snakemake's jobs cannot read"
            )
    own = paths.project_root() / "profiles"
    for folder in (own / name, Path(os.path.expanduser(name))):
        if folder.is_dir():
            return ["--profile", str(folder.resolve())]
    known = ", ".join(sorted(path.name for path in own.glob("*") if path.is_dir()))
    raise UserError(f"PROFILE is {name!r}: a folder with a profile of snakemake, or {known}")


def command(folders: list[Path]) -> list[str]:
    """How snakemake is called.

    - folders: of the runs.
    """
    words = [sys.executable, "-m", "snakemake"]
    words += ["--snakefile", str(paths.project_root() / "Snakefile")]
    words += ["--directory", str(paths.outputs_root().resolve()), *profile(), "--keep-going"]
    # `lock` is taken back from whoever is killed; snakemake's own lock is not
    words += ["--nolock", "--rerun-triggers", "params", "--rerun-incomplete"]
    return [*words, "--prioritize", *(f"{each.name}/notebooks/{FIRST}.ipynb" for each in folders)]


def said(log: Path) -> str:
    """What snakemake says of its own failure, in a line.

    - log: what it printed.
    """
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [number for number, line in enumerate(lines) if "Error" in line]
    return " ".join(lines[errors[0] :][:4] if errors else lines[-1:])[:400]


class Watch:
    """Tells of jobs as their logs come to an end, wherever they run.

    - folders: of the runs.
    """

    def __init__(self, folders: list[Path]):
        self.folders = folders
        self.before = {path: path.stat().st_mtime_ns for path in self._logs()}
        self.told: set[Path] = set()
        self.failed = False

    def _logs(self) -> list[Path]:
        """The logs of all runs."""
        found: list[Path] = []
        for folder in self.folders:
            found += sorted(folder.glob("logs/*.log"))
        return found

    def look(self, over: bool = False) -> None:
        """Print a line for each job that has ended since the last look.

        - over: whether all have ended: a log without its last line is then of a job that was
          killed. By default False.
        """
        for path in self._logs():
            # by its change, not by a clock: another host's may be behind
            if path in self.told or path.stat().st_mtime_ns == self.before.get(path):
                continue
            end = job.last_line(path)
            if not end.startswith((job.DONE, job.FAILED)):
                if not over:
                    continue
                end = f"{job.FAILED} killed, or out of time or memory"
            self.told.add(path)
            failed = end.startswith(job.FAILED)
            log = f" (log: {os.path.relpath(path)})" if failed else ""
            print(f"{path.parents[1].name} {path.stem}: {end}{log}", flush=True)
            self.failed |= failed


def _interrupt(*_) -> None:
    raise KeyboardInterrupt


def call(words: list[str], folders: list[Path], held: list[IO[str]]) -> int:
    """Run snakemake and tell of its jobs; returns its exit status.

    - words: of the command.
    - folders: of the runs.
    - held: their locks. Snakemake holds them too, should this process be killed.

    Who stops this process stops snakemake and its jobs. Raises UserError where snakemake itself
    fails.
    """
    watch, log = Watch(folders), folders[0] / "logs" / "snakemake.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    descriptors = [file.fileno() for file in held]
    # a session of its own: it is interrupted once, by this process
    options = {"pass_fds": descriptors, "start_new_session": True}
    with open(log, "w") as printed:
        snakemake = subprocess.Popen(words, stdout=printed, stderr=printed, **options)
        try:
            for file in held:
                sign(file, snakemake.pid)
            while (status := snakemake.poll()) is None:
                watch.look()
                time.sleep(LOOK)
        except KeyboardInterrupt:
            os.killpg(snakemake.pid, signal.SIGINT)
            snakemake.wait()
            raise
    watch.look(over=True)
    if status and shutil.disk_usage(log.parent).free < ROOM:
        raise UserError(f"{folders[0].parent} has no room left: make some, and run again")
    if status and not watch.failed:
        raise UserError(f"snakemake ended with {status}: {said(log)} (log: {log})")
    return status


def finish(folder: Path, started: float) -> int:
    """Build a run's report; returns its exit status.

    - folder: of the run.
    - started: when `make study` did, in seconds of the clock. What a notebook took before is
      forgotten.
    """
    for path in folder.glob("profile/*.seconds"):
        if path.stat().st_mtime < started:
            path.unlink(missing_ok=True)
    return subprocess.run([*REPORT, folder.name], check=False).returncode


def main() -> int:
    """The command; returns the exit status.

    Raises UserError where nothing was begun, or snakemake itself failed.
    """
    root, asked, started = paths.outputs_root(), arguments.studies(), time.time()
    folders = [root / each.run.run for each in asked]
    words = command(folders)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(lock(folder, wait=False)) for folder in folders]
        for folder in folders:
            remove_leftovers(folder)
            forget_lost(folder)
        if status := call(words, folders, held):
            return status
        return max(finish(folder, started) for folder in folders)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped: the same command goes on from here")
