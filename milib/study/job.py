"""A job of the Snakefile: runs a command, keeps what it prints, and ends with the run.

python milib/study/job.py FOLDER NAME MADE GPU -- COMMAND...

FOLDER is a run's, and what the command prints goes to FOLDER/logs/NAME.log, whose last line tells
how it ended. MADE is empty, or the file that the command is to make: it gets it as "{made}" under
another name, and the file has its own once it is complete. GPU is 1 where the job is to have one of
several for itself, else 0. This file is run by its path and needs the standard library alone, since
importing torch takes seconds.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

DONE, FAILED = "done in", "failed:"
"""Begin the last line of a log."""
WATCH = 0.5
"""Seconds between two looks at whether the run still lives."""


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name]
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    with contextlib.suppress(OSError):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.split()
    return []


def lives(parent: int) -> bool:
    """Whether the process that started this one is still there.

    - parent: its number, as it was at the beginning.
    """
    return os.getppid() == parent


def locked(file: IO[str]) -> bool:
    """Take a lock where it is free.

    - file: of the lock, which its closing gives back.
    """
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def free_gpu(kept: contextlib.ExitStack, parent: int) -> str | None:
    """A GPU that no other job of this user has, once there is one; None where there is no choice.

    - kept: the job keeps the GPU until it closes.
    - parent: see `lives`; nobody waits for a GPU whose run has died.
    """
    several = gpus()
    folder = Path(tempfile.gettempdir())
    paths = [folder / f"milib-gpu-{name}-{os.getuid()}.lock" for name in several]
    files = [kept.enter_context(path.open("w")) for path in paths] if len(several) > 1 else []
    while files and lives(parent):
        for name, file in zip(several, files, strict=True):
            if locked(file):
                return name
        time.sleep(WATCH)
    return None


def watched(
    command: list[str], log: IO[str], environment: dict[str, str], parent: int, lock: IO[str]
) -> int:
    """Run a command until it ends, or until the process that started this one has died.

    - command: its words.
    - log: takes what it prints.
    - environment: its variables.
    - parent: see `lives`.
    - lock: of the job; the command holds it too, should this process be killed.

    Returns its exit status. Nobody would read on what an orphan makes, and it would be in the way.
    """
    held = (lock.fileno(),)
    with subprocess.Popen(command, stdout=log, stderr=log, env=environment, pass_fds=held) as child:
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        while True:
            try:
                return child.wait(WATCH)
            except subprocess.TimeoutExpired:
                if not lives(parent):
                    child.terminate()
            except KeyboardInterrupt:  # the command may not have got it
                child.terminate()


def last_line(path: Path) -> str:
    """The last line of a log that says something.

    - path: the log.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def settle(made: Path, unfinished: Path, status: int) -> None:
    """Give what a command made its name: its own where it is whole, else <name>.failed.

    - made: the file's own name.
    - unfinished: where the command wrote it.
    - status: of the command; below 0 where it was killed, perhaps while it wrote.
    """
    failed = made.with_suffix(f".failed{made.suffix}")
    if status == 0:
        os.replace(unfinished, made)
        failed.unlink(missing_ok=True)
    elif status > 0 and unfinished.exists():
        os.replace(unfinished, failed)
    else:
        unfinished.unlink(missing_ok=True)


def run(folder: Path, name: str, made: str, gpu: bool, command: list[str]) -> int:
    """A job, from its log's first line to its last; returns the exit status.

    - folder: of the run.
    - name: of the job.
    - made: the file that it makes; empty: the command sees to that.
    - gpu: whether it is to have a GPU for itself.
    - command: its words; "{made}" stands for the file.
    """
    parent, path = os.getppid(), folder / "logs" / f"{name}.log"
    unfinished = Path(made).with_name(f".{Path(made).name}") if made else None
    for each in (path.parent, folder / "locks", folder / "profile", Path(made or path).parent):
        each.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as kept:
        lock = kept.enter_context(open(folder / "locks" / f".{name}.job", "w"))
        if not locked(lock):
            print(f"{name}: a job of a run that was killed makes it: waiting for it", flush=True)
            while not locked(lock):
                if not lives(parent):
                    return 1
                time.sleep(WATCH)
        log, started = kept.enter_context(open(path, "w", encoding="utf-8")), time.monotonic()
        environment = dict(os.environ)
        if gpu and (name_of_gpu := free_gpu(kept, parent)):
            environment["CUDA_VISIBLE_DEVICES"] = name_of_gpu
        words = [word.replace("{made}", str(unfinished)) for word in command]
        status = watched(words, log, environment, parent, lock)
        seconds = time.monotonic() - started
        if unfinished:
            settle(Path(made), unfinished, status)
        if status == 0:
            if unfinished:
                took = folder / "profile" / f".{name}.seconds"
                took.write_text(f"{seconds:.2f}\n")
                os.replace(took, took.with_name(f"{name}.seconds"))
            end = f"{DONE} {seconds:.0f} s"
        else:
            why = f"ended by signal {-status}" if status < 0 else last_line(path)
            end = f"{FAILED} {why or f'exit status {status}'}"
        log.write(f"{end}\n")
    return 1 if status else 0


def main(words: list[str]) -> int:
    """The command line; returns the exit status.

    - words: FOLDER NAME MADE GPU -- COMMAND...
    """
    folder, name, made, gpu, _, *command = words
    try:
        return run(Path(folder), name, made, gpu == "1", command)
    except OSError as error:
        print(f"{name}: {error.filename or folder}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # while it waited
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
