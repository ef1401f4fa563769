"""Locks on files, which the system takes back from a process that died."""

import contextlib
import fcntl
import os
import platform
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO

from milib.errors import UserError
from milib.study.progress import live

PATIENCE = 60
"""Seconds after which who waits for a lock is told who holds it."""


@contextlib.contextmanager
def lock(path: Path, wait: bool = True) -> Iterator[IO[str]]:
    """One process at a time: who needs the same file waits until it is there.

    - path: the file; the lock lies beside it.
    - wait: by default, a line names the holder after PATIENCE seconds.

    Gives the lock's file: a child that inherits it holds the lock too. Raises UserError where the
    folder takes no lock, and with `wait=False` where somebody holds it.
    """
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # not "w": it would erase who holds it
            file = stack.enter_context(open(path.with_name(f".{path.name}.lock"), "a+"))
            _acquire(file, path, wait)
            sign(file, os.getpid())
        except OSError as error:
            raise UserError(
                f"{path.parent} takes no lock ({error.strerror}): "
                "set MILIB_OUTPUTS to a folder that can be written, on a file system with locks"
            ) from None
        yield file


def _acquire(file: IO[str], path: Path, wait: bool) -> None:
    with contextlib.suppress(BlockingIOError):
        return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if not wait:
        raise UserError(f"{path} is being made by {_holder(file)}: wait for it, or stop it")
    told = threading.Timer(
        PATIENCE, lambda: live(f"{path.name} is being made by {_holder(file)}: waiting for it")
    )
    told.daemon = True
    told.start()
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    finally:
        told.cancel()


def sign(file: IO[str], process: int) -> None:
    """Write into a lock who holds it: a process of this host, from now on.

    - file: of the lock.
    - process: its number.
    """
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    file.truncate(0)
    file.write(f"process {process} on {platform.node()} since {since}")
    file.flush()


def _holder(file: IO[str]) -> str:
    """Who holds a lock, in words."""
    file.seek(0)
    return file.read(200) or "another process"
