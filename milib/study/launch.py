"""`make study`: says what it will do, makes the runs, tells of each job, and builds the reports.

$MILIB_RUN names the runs, $MILIB_ARGS changes parameters of all of them, and $MILIB_PROFILE is a
profile of snakemake, such as slurm in profiles/; without it all runs on this machine.
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from milib.errors import UserError
from milib.files import remove_leftovers
from milib.study import arguments, job, jobs, paths, progress, times
from milib.study.arguments import Asked
from milib.study.locks import lock, sign
from milib.study.plan import Plan, asked_for, counted
from milib.study.store import lost_records

FIRST = "08_beyond_the_paper"
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
    if FIRST in jobs.notebooks():
        words += ["--prioritize", *(f"{each.name}/notebooks/{FIRST}.ipynb" for each in folders)]
    return words


def said(log: Path) -> str:
    """What snakemake says of its own failure, in a line.

    - log: what it printed.
    """
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [number for number, line in enumerate(lines) if re.search("Error|Exception", line)]
    return " ".join(lines[errors[0] :][:4] if errors else lines[-1:])[:400]


class Watch:
    """Tells of jobs as their logs come to an end, wherever they run, and of what is left.

    - studies: the runs.
    - log: what snakemake prints; it counts the jobs.
    """

    def __init__(self, studies: list[Asked], log: Path):
        self.folders = [paths.outputs_root() / each.run.run for each in studies]
        self.plan, self.log = Plan(studies), log
        self.seen = {path: path.stat().st_mtime_ns for path in self._logs()}
        self.failed = False

    def _logs(self) -> list[Path]:
        """The logs of all runs."""
        found: list[Path] = []
        for folder in self.folders:
            found += sorted(folder.glob("logs/*.log"))
        return found

    def look(self, status: int | None = None) -> None:
        """Print a line for each job that has ended since the last look.

        - status: of snakemake, once all have ended: a log without its last line is then of a job
          that was killed, unless all succeeded. By default None: they run.
        """
        for path in self._logs():
            # by its change, not by a clock: another host's may be behind
            if path.stat().st_mtime_ns == self.seen.get(path):
                continue
            end = job.last_line(path)
            if not end.startswith((job.DONE, job.FAILED)):
                if status is None:
                    continue
                end = f"{job.FAILED} killed, or out of time or memory" if status else "done"
            # as it is now: its last line may have come after the first look at it
            self.seen[path] = path.stat().st_mtime_ns
            failed = end.startswith(job.FAILED)
            end += self.plan.left(path.parents[1].name, path.stem, asked_for(self.log))
            log = f" (log: {os.path.relpath(path)})" if failed else ""
            print(f"{path.parents[1].name} {path.stem}: {end}{log}", flush=True)
            self.failed |= failed


def _interrupt(*_) -> None:
    raise KeyboardInterrupt


def started(words: list[str], log: Path, held: list[IO[str]]) -> subprocess.Popen:
    """A process that runs snakemake, in a session of its own: it is interrupted by this one alone.

    - words: of the command.
    - log: takes what it prints.
    - held: locks. It holds them too, should this process be killed.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _interrupt)
    # what a shell starts with & ignores SIGINT, and so would its children
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    descriptors = [file.fileno() for file in held]
    with open(log, "w") as printed:
        options = {"stdout": printed, "stderr": printed, "start_new_session": True}
        snakemake = subprocess.Popen(words, pass_fds=descriptors, **options)
    signal.signal(signal.SIGINT, before)
    return snakemake


def stop(snakemake: subprocess.Popen) -> None:
    """Interrupt snakemake and its jobs, and wait for their end, however often that is interrupted.

    - snakemake: its process.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended
        os.killpg(snakemake.pid, signal.SIGINT)
    while snakemake.poll() is None:
        with contextlib.suppress(KeyboardInterrupt):
            snakemake.wait()


def call(words: list[str], studies: list[Asked], held: list[IO[str]]) -> int:
    """Run snakemake and tell of its jobs; returns its exit status.

    - words: of the command.
    - studies: the runs.
    - held: their locks.

    Who stops this process stops snakemake and its jobs. Raises UserError where snakemake itself
    fails.
    """
    log = paths.outputs_root() / studies[0].run.run / "logs" / "snakemake.txt"
    watch = Watch(studies, log)
    print(watch.plan, flush=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    snakemake = started(words, log, held)
    try:
        for file in held:
            sign(file, snakemake.pid)
        while (status := snakemake.poll()) is None:
            watch.look()
            time.sleep(LOOK)
    except BaseException:  # also where nobody takes what is printed
        stop(snakemake)
        raise
    watch.look(status if status >= 0 else None)  # a cluster's jobs outlive a killed snakemake
    if status and shutil.disk_usage(log.parent).free < ROOM:
        raise UserError(f"{paths.outputs_root()} has no room left: make some, and run again")
    if status and not watch.failed:
        raise UserError(f"snakemake ended with {status}: {said(log)} (log: {log})")
    return status


def seconds(folder: Path) -> dict[Path, int]:
    """The files that tell what each notebook took, and when they were written.

    - folder: of a run.
    """
    return {path: path.stat().st_mtime_ns for path in folder.glob("profile/*.seconds")}


def finish(folder: Path, before: dict[Path, int], began: float) -> bool:
    """Build a run's report and print three lines; returns whether it was built.

    - folder: of the run.
    - before: its `seconds` from before: what a notebook took then is forgotten.
    - began: when the run was begun, as `time.monotonic` counts.
    """
    for path, written in seconds(folder).items():
        if before.get(path) == written:
            path.unlink(missing_ok=True)
    log = folder / "logs" / "report.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w", encoding="utf-8") as printed:
        made = subprocess.run([*REPORT, folder.name], stdout=printed, check=False)
    if made.returncode:
        return False
    took = times.last(folder)
    longest = sorted(took, key=lambda name: -took[name])[:3]
    most = ", ".join(f"{name} {took[name]:.0f} s" for name in longest)
    spent = progress.told(time.monotonic() - began)
    print(
        f"{folder.name}: {counted(len(took), 'job')} in {spent}{most and f'; the longest: {most}'}"
    )
    print(f"what took how long: {os.path.relpath(log)}")
    print(f"report: {os.path.relpath(folder / 'index.html')}", flush=True)
    return True


def main() -> int:
    """The command; returns the exit status.

    Raises UserError where nothing was begun, or snakemake itself failed.
    """
    # its jobs have other working folders
    os.environ["MILIB_OUTPUTS"] = str(paths.outputs_root().resolve())
    began, studies = time.monotonic(), arguments.studies()
    folders = [paths.outputs_root() / each.run.run for each in studies]
    words = command(folders)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(lock(folder, wait=False)) for folder in folders]
        for folder in folders:
            remove_leftovers(folder)
            forget_lost(folder)
        before = [seconds(folder) for folder in folders]
        if status := call(words, studies, held):
            return status
        built = [finish(*each, began) for each in zip(folders, before, strict=True)]
        return 0 if all(built) else 1


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m milib.study.launch", description=__doc__).parse_args()
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except OSError as error:
        sys.exit(f"{error.filename or 'make study'}: {error.strerror}")
    except KeyboardInterrupt:
        sys.exit("stopped: the same command goes on from here")
