"""`make chaos`: kills the study at random moments, runs it again, and compares what came out.

Two kills of three come at a random moment after the command's first sign of work, the third inside
a save: between the writing of a temporary file and its renaming. A trial survives where the files
are those of an undisturbed run, none is damaged or left over at any time, and nothing still runs.
"""

import argparse
import contextlib
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import project_copy
from chaos_cases import (
    ALL,
    CASES,
    NOTEBOOK,
    TRIAL,
    Case,
    contents,
    differences,
    environment,
    nothing,
)

HOOK = '''"""Ends a process inside a save, as $CHAOS_AT asks; $CHAOS_LOG lists the saves."""
import os, signal, sys

first, second = (*sys.orig_argv[1:3], "", "")[:2]
PROGRAM = second if first == "-m" else os.path.basename(first)
LOG, WANTED = os.environ.get("CHAOS_LOG"), os.environ.get("CHAOS_AT", "- - 0 -").split()
TRIAL = os.path.dirname(os.environ.get("MILIB_OUTPUTS", "/-"))
calls = 0

def note(*words):
    with open(LOG, "a") as log:
        log.write(" ".join(words) + "\\n")

def die():
    note("killed")
    os.kill(os.getpid(), signal.SIGKILL)

def halved(file):
    """What was written is on the disk in part."""
    os.ftruncate(file, os.fstat(file).st_size // 2)

def deadly(function, path_of, before):
    def call(*given, **more):
        global calls
        path = os.path.abspath(path_of(*given))
        folder = os.path.basename(os.path.dirname(path))
        if not path.startswith(TRIAL + "/"):
            return function(*given, **more)
        note(str(os.getpid()), PROGRAM, folder)
        calls += [PROGRAM, folder] == WANTED[:2]
        now = [PROGRAM, folder, str(calls)] == WANTED[:3]
        if now and WANTED[3] == "before":
            before(given[0])
            die()
        result = function(*given, **more)
        if now:
            die()
        return result
    return call

if LOG:
    os.fsync = deadly(os.fsync, lambda file: os.readlink(f"/proc/self/fd/{file}"), halved)
    os.replace = deadly(os.replace, lambda source, target: target, lambda source: None)
'''
"""The `sitecustomize` of every process of a trial: there is no hook in the product."""
MOST = 0.8
"""The latest kill, as a share of an undisturbed run: the rest may be faster on a quiet machine."""
LIMIT = 900
"""Seconds after which a command hangs."""
PATIENCE = 10
"""Seconds that kernels have to end after their command."""
LOOK = 0.005
"""Seconds between two looks for the first sign of work: curating writes for so short a time."""


def program(words: list[str]) -> str:
    """What a python runs: its module, the name of its file, or -c.

    - words: of its command line.
    """
    first, second = (*words[1:3], "", "")[:2]
    return second if first == "-m" else Path(first).name


def running(folder: Path) -> dict[int, str]:
    """The processes of a trial, wherever they hang in the tree: number -> program.

    - folder: of the trial, or of all trials; $MILIB_OUTPUTS of all of them lies in it.
    """
    mark, found = f"\0MILIB_OUTPUTS={folder}/".encode(), {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in b"\0" + (path / "environ").read_bytes():
                words = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
                found[int(path.name)] = program(words)
    return found


def ended(trial: Path, seconds: float) -> bool:
    """Whether all processes of a trial have ended, waiting so long for it.

    - trial: its folder.
    - seconds: at most.
    """
    deadline = time.monotonic() + seconds
    while running(trial):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def stamps(trial: Path) -> set[tuple]:
    """The files of a trial with the times of their last change.

    - trial: its folder.
    """
    found = set()
    for path in trial.rglob("*"):
        with contextlib.suppress(OSError):  # it is gone
            found.add((path, path.stat().st_mtime_ns))
    return found


# A trial


@dataclass(frozen=True)
class Whole:
    """An undisturbed run.

    - start: the folder that it began from.
    - trial: its own.
    - seconds: from the first sign of its work to its end.
    - saves: how often each program saves into a folder: fsync and rename count one each.
    - contents: what came out.
    """

    start: Path
    trial: Path
    seconds: float
    saves: dict[tuple[str, str], int]
    contents: dict[str, object]


@dataclass
class Outcome:
    """What became of a case's trials.

    - tried: trials.
    - survived: those without a fault.
    - outside, inside: kills at random moments, and inside saves.
    - faults: what is printed of those that did not survive.
    """

    tried: int = 0
    survived: int = 0
    outside: int = 0
    inside: int = 0
    faults: list[str] = field(default_factory=list)


class Lab:
    """Where the trials are made: a copy of the project, and a folder for each trial.

    - folder: an empty one.
    """

    def __init__(self, folder: Path):
        self.folder, self.project = folder, folder / "project"
        project_copy.make(self.project, (NOTEBOOK,))
        (self.project / "sitecustomize.py").write_text(HOOK)
        self._wholes: dict[tuple, Whole] = {}

    def begin(self, case: Case, trial: Path, **more: str) -> subprocess.Popen:
        """Start a case's command in a process group of its own; what it says goes to TRIAL.txt.

        - case: the case.
        - trial: the folder of the trial.
        - more: further variables.
        """
        log = {"CHAOS_LOG": f"{trial}.log"}
        variables = environment(self.project, trial) | log | more
        words = [word.replace(TRIAL, str(trial)) for word in case.words]
        with open(f"{trial}.txt", "w") as text:
            options = {"stdout": text, "stderr": text, "start_new_session": True}
            return subprocess.Popen(words, cwd=self.project, env=variables, **options)

    @cached_property
    def finished(self) -> Path:
        """The folder of a finished run, made by `make study`."""
        return self.whole(CASES["launch"]).trial

    def whole(self, case: Case) -> Whole:
        """The undisturbed run of a case, made once.

        - case: the case.
        """
        known = case.words, case.begin
        if known not in self._wholes:
            start, trial = (self.folder / f"{case.name}-{name}" for name in ("start", "whole"))
            case.begin(self.folder if case.begin is nothing else self.finished, start)
            shutil.copytree(start, trial)
            before = stamps(trial)
            process = self.begin(case, trial)
            signed(process, trial, before)
            since = time.monotonic()
            if process.wait(LIMIT):
                raise RuntimeError(f"{case.name} fails undisturbed: {tail(trial)}")
            seconds = time.monotonic() - since
            found, damaged = contents(trial, case.exact)
            if damaged:
                raise RuntimeError(f"{case.name}, undisturbed: {damaged}")
            self._wholes[known] = Whole(start, trial, seconds, saves_of(trial), found)
        return self._wholes[known]

    def kill_inside(self, case: Case, trial: Path, chance: random.Random) -> str:
        """Run a case's command and kill one of its processes inside a save; what was done.

        - case: the case.
        - trial: the folder of the trial.
        - chance: chooses.

        Empty where the command ended before.
        """
        saves = self.whole(case).saves
        name, folder = chance.choice(sorted(saves))
        when = chance.choice(["before", "after"])
        wanted = f"{name} {folder} {chance.randint(1, saves[name, folder])} {when}"
        log = Path(f"{trial}.log")
        log.write_text("")
        self.begin(case, trial, CHAOS_AT=wanted).wait(LIMIT)
        return f"inside a save: {wanted}" if "killed" in log.read_text() else ""

    def kill_outside(self, case: Case, trial: Path, chance: random.Random) -> str:
        """Run a case's command and kill a victim at a random moment; what was done.

        - case: the case.
        - trial: the folder of the trial.
        - chance: chooses.

        Empty where the command ended before.
        """
        victim = chance.choice(case.victims)
        moment = chance.uniform(0, MOST * self.whole(case).seconds)
        before = stamps(trial)
        process = self.begin(case, trial)
        signed(process, trial, before)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moment)
        killed = False
        while process.poll() is None and not killed:
            killed = kill(victim, trial)
            time.sleep(LOOK)
        process.wait(LIMIT)
        return f"{victim}, {moment:.2f} s after its first sign" if killed else ""

    def trial(self, case: Case, seed: int) -> tuple[bool, list[str], list[str]]:
        """Kills of one command in a row, and the run that is left to end.

        - case: the case.
        - seed: decides all that is random; every third kills inside saves.

        Returns whether the kills came inside saves, what they were, and the faults.
        """
        chance, inside = random.Random(f"{case.name} {seed}"), case.inside and seed % 3 == 0
        whole, trial = self.whole(case), self.folder / f"{case.name}-{seed}"
        shutil.copytree(whole.start, trial)
        kills, faults = [], []
        for _ in range(chance.randint(1, case.most)):
            try:
                how = (self.kill_inside if inside else self.kill_outside)(case, trial, chance)
            except subprocess.TimeoutExpired:
                faults.append(f"did not end within {LIMIT} s of the kill: {running(trial)}")
                kill(ALL, trial)
                break
            if not how:
                break
            kills.append(how)
            if case.orphans and not ended(trial, case.orphans):
                faults.append(f"still runs {case.orphans} s later: {running(trial)}")
            faults += [f"after the kill: {line}" for line in contents(trial, False)[1]]
        faults += self.left(case, trial)
        kill(ALL, trial)
        shutil.rmtree(trial, ignore_errors=True)  # what was killed may still write
        return inside, kills, faults

    def left(self, case: Case, trial: Path) -> list[str]:
        """What is wrong once the command was left to end.

        - case: the case.
        - trial: the folder of the trial.
        """
        faults = []
        try:
            status = self.begin(case, trial).wait(LIMIT)
        except subprocess.TimeoutExpired:
            return [f"run again, it did not end within {LIMIT} s: {running(trial)}"]
        if status or "Traceback" in Path(f"{trial}.txt").read_text(errors="replace"):
            faults.append(f"run again, it ended with {status}: {tail(trial)}")
        if not ended(trial, PATIENCE):
            faults.append(f"run again, it left processes: {running(trial)}")
        found, damaged = contents(trial, case.exact)
        return faults + damaged + differences(found, self.whole(case).contents)

    def trials(self, case: Case, kills: int, seed: int) -> Outcome:
        """Trials of a case until there were so many kills.

        - case: the case.
        - kills: at least so many, unless the command keeps ending before them.
        - seed: of the first trial; the next has the next number.
        """
        outcome = Outcome()
        while outcome.outside + outcome.inside < kills and outcome.tried < 3 * kills + 3:
            number = seed + outcome.tried
            inside, done, faults = self.trial(case, number)
            outcome.tried += 1
            outcome.inside += len(done) if inside else 0
            outcome.outside += 0 if inside else len(done)
            outcome.survived += not faults
            if faults:
                again = f"make chaos ARGS='--only {case.name} --seed {number} --kills 1'"
                lines = [f"{case.name}, seed {number}, did not survive: {again}"]
                lines += [
                    f"  command: {shlex.join(case.words)}",
                    *(f"  kill: {how}" for how in done),
                ]
                outcome.faults.append("\n".join(lines + [f"  fault: {line}" for line in faults]))
                print(outcome.faults[-1], flush=True)
        return outcome


def saves_of(trial: Path) -> dict[tuple[str, str], int]:
    """How often a process of each program saves into each folder, as the hook has noted it.

    - trial: its folder.
    """
    log, saves = Path(f"{trial}.log"), {}
    for line, count in Counter(log.read_text().splitlines() if log.exists() else []).items():
        _, name, folder = line.split()
        saves[name, folder] = max(count, saves.get((name, folder), 0))
    return saves


def tail(trial: Path) -> str:
    """The last lines that a trial's command said.

    - trial: its folder.
    """
    return " | ".join(Path(f"{trial}.txt").read_text(errors="replace").splitlines()[-5:])


def signed(process: subprocess.Popen, trial: Path, before: set[tuple]) -> None:
    """Wait until a command writes something: imports alone take most of its time.

    - process: the command.
    - trial: its folder.
    - before: the folder's `stamps` before it was started.
    """
    while process.poll() is None and stamps(trial) == before:
        time.sleep(LOOK)


def kill(victim: str, folder: Path) -> bool:
    """Kill a victim; returns whether it was there.

    - victim: a program, or ALL.
    - folder: of the trial, or of all trials.
    """
    found = [number for number, name in running(folder).items() if victim in (name, ALL)]
    for number in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    return bool(found)


def row(name: str, one: Outcome) -> str:
    """A case's line of the table.

    - name: of the case.
    - one: what became of its trials.
    """
    kills = f"{one.outside + one.inside} ({one.inside} inside saves)"
    return f"{name} | {one.tried} | {kills} | {one.survived}"


def table(outcomes: dict[str, Outcome]) -> str:
    """The outcomes as lines, and their total.

    - outcomes: by case.
    """
    tried, survived = (
        sum(getattr(one, what) for one in outcomes.values()) for what in ("tried", "survived")
    )
    lines = ["case | tried | kills | survived", *(row(*each) for each in outcomes.items())]
    return "\n".join([*lines, f"survived: {survived}/{tried}"])


def main(arguments: list[str]) -> int:
    """The command line; returns the exit status.

    - arguments: without the program's name.
    """
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="at least so many in all")
    parser.add_argument("--seed", type=int, default=0, help="of each case's first trial")
    parser.add_argument("--only", default=",".join(CASES), help="cases, by default all")
    given = parser.parse_args(arguments)
    names = given.only.split(",")
    if unknown := set(names) - set(CASES):
        parser.error(f"--only {', '.join(unknown)}: cases are {', '.join(CASES)}")
    cases = [CASES[name] for name in names]
    shares, outcomes = sum(case.share for case in cases), {}
    with tempfile.TemporaryDirectory(prefix="milib-chaos-", ignore_cleanup_errors=True) as folder:
        lab = Lab(Path(folder))
        try:
            for case in cases:
                kills = -(-given.kills * case.share // shares)
                outcomes[case.name] = lab.trials(case, kills, given.seed)
                print(row(case.name, outcomes[case.name]), file=sys.stderr, flush=True)
        finally:
            kill(ALL, lab.folder)
    print(table(outcomes))
    return int(any(one.survived < one.tried for one in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
