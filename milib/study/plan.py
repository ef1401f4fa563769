"""What `make study` will do, and what is left of it, in jobs and in time."""

import os
import re
from pathlib import Path

from milib.study import jobs, paths, progress, times
from milib.study.arguments import Asked
from milib.study.device import cores


def asked_for(log: Path) -> int | None:
    """The jobs that snakemake found to be done; None before it has counted them.

    - log: what it printed.
    """
    text = log.read_text(errors="replace") if log.exists() else ""
    if not (table := re.search(r"^Job stats:\n(.*?)^total +\d+$", text, re.MULTILINE | re.DOTALL)):
        return None
    counts = re.findall(r"^(?:model|notebook) +(\d+)$", table[1], re.MULTILINE)
    return sum(map(int, counts))


def counted(count: int, what: str) -> str:
    """ "1 job", "2 jobs".

    - count: how many.
    - what: the word for one.
    """
    return f"{count} {what}{'' if count == 1 else 's'}"


class Plan:
    """The jobs of runs that are not done, and how long they may take.

    - studies: the runs.

    Its text has a line for each run. A notebook that is there may have to be run again, which
    snakemake finds out: `asked_for`.
    """

    def __init__(self, studies: list[Asked]):
        self.lines: list[str] = []
        self.seconds: dict[tuple[str, str], float | None] = {}
        self.done: set[tuple[str, str]] = set()
        for each in studies:
            self._add(each)

    def _add(self, study: Asked) -> None:
        """A run's jobs and its line."""
        run, root, books = study.run, paths.outputs_root(), jobs.notebooks()
        folder, models = root / run.run, set()
        for book in books:
            needed = jobs.checkpoints(book, run)
            models |= {
                Path(path).name.split("-")[0] for path in needed if not (root / path).exists()
            }
        left = [book for book in books if not (folder / "notebooks" / f"{book}.ipynb").exists()]
        known = times.expected(folder, bool(study.changed))
        for name in [*(f"train_{model}" for model in sorted(models)), *left]:
            self.seconds[run.run, name] = self._shared(study, known.get(name))
        own = [took for (name, _), took in self.seconds.items() if name == run.run]
        line = f"{run.run}: {counted(len(models), 'model')} to train"
        line += f", {counted(len(left), 'notebook')} to run"
        if len(left) < len(books):
            line += f" ({len(books) - len(left)} are there: again where a change touches them)"
        self.lines.append(f"{line}{self._time(own)}; logs in {os.path.relpath(folder / 'logs')}")

    def _shared(self, study: Asked, seconds: float | None) -> float | None:
        """Seconds of a job that runs beside others; None on a cluster, which is not known."""
        if seconds is None or os.environ.get("MILIB_PROFILE"):
            return None
        return seconds * jobs.threads(study.run, cores()) / cores()

    def _time(self, seconds: list[float | None]) -> str:
        known = [each for each in seconds if each is not None]
        return f", {progress.about(sum(known))}" if known and len(known) == len(seconds) else ""

    def __str__(self) -> str:
        return "\n".join([*self.lines, "Ctrl-C stops; the same command goes on from there."])

    def left(self, run: str, name: str, count: int | None) -> str:
        """What is left once a job has ended, for its line: "; 5 jobs left, about 3 min".

        - run, name: of the job.
        - count: see `asked_for`; nothing is told without it.
        """
        self.done.add((run, name))
        if count is None:
            return ""
        if (left := count - len(self.done)) <= 0:
            return "; the last one"
        waiting = [took for key, took in self.seconds.items() if key not in self.done]
        time = self._time(waiting) if len(waiting) == left else ""
        return f"; {counted(left, 'job')} left{time}"
