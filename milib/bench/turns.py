"""Contenders that take turns: a process each, one call each, round after round.

A ratio is the median over rounds of the two times of one round.
"""

import multiprocessing
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext

import numpy as np

from milib.bench.contenders import CONTENDERS
from milib.bench.setting import Setting, Sizes, timed
from milib.study.device import keep_freed_memory


def contend(name: str, sizes: Sizes, pipe: Connection) -> None:
    """A contender's process: one warm-up, then one timed call for each message until None comes.

    - name: of CONTENDERS.
    - sizes: how much it does.
    - pipe: gets None when the contender is ready, or text where it cannot run; then seconds.
    """
    try:
        if name.startswith("pgd milib") or not name.startswith("pgd "):
            keep_freed_memory()  # as in every run of the study
        setting = Setting(sizes)
        function = CONTENDERS[name](setting)
        function()
        pipe.send(None)
    except Exception as error:  # a library that is not installed, a compiler that is missing
        pipe.send(f"{type(error).__name__}: {' '.join(str(error).split())[:120]}")
        return
    while pipe.recv() is not None:
        pipe.send(timed(function, setting.device))


def _context(device: str) -> SpawnContext | ForkServerContext:
    if device == "cuda":  # CUDA does not outlive a fork
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["milib.bench.contenders"])  # PyTorch is imported once
    return context


def interleaved(names: list[str], sizes: Sizes) -> dict[str, list[float] | str]:
    """Seconds of each contender in each round, or why it cannot run.

    - names: of CONTENDERS.
    - sizes: how much they do, and in how many rounds.
    """
    context = _context(sizes.device)
    found: dict[str, list[float] | str] = {}
    times: dict[str, list[float]] = {}
    pipes, processes = {}, {}
    for name in names:
        ours, theirs = context.Pipe()
        process = context.Process(target=contend, args=(name, sizes, theirs))
        process.start()
        theirs.close()
        # Each warms up before the next one starts: the threads of two would wait for each other.
        try:
            trouble = ours.recv()
        except EOFError:
            trouble = "its process ended"
        if trouble is None:
            found[name] = times[name] = []
            pipes[name], processes[name] = ours, process
        else:
            found[name] = trouble
            process.join()
    for _ in range(sizes.rounds):
        for name, pipe in pipes.items():
            pipe.send("run")
            times[name].append(pipe.recv())
    for name, pipe in pipes.items():
        pipe.send(None)
        processes[name].join()
    return found


def ratio(ours: list[float] | str, theirs: list[float] | str) -> dict:
    """Median, least and largest of the ratios of one round; `why` where a contender could not run.

    - ours, theirs: seconds in each round, or why there are none.
    """
    if isinstance(ours, str):
        return {"why": ours}
    if isinstance(theirs, str):
        return {"why": theirs}
    each = np.array(ours) / np.array(theirs)
    return {
        "ratio": float(np.median(each)),
        "least": float(each.min()),
        "most": float(each.max()),
        "ours_s": float(np.median(ours)),
        "theirs_s": float(np.median(theirs)),
    }
