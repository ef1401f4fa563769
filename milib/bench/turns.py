"""Contenders that take turns: a process each, one call each, round after round.

A ratio is the median over rounds of the two times of one round.
"""

import multiprocessing

import numpy as np

from milib.bench.contenders import CONTENDERS
from milib.bench.setting import Setting, Sizes, timed
from milib.study.device import keep_freed_memory


def contend(name: str, sizes: Sizes, pipe) -> None:
    """A contender's process: ready, then one timed call for each message, until None comes. Sends text where it cannot run."""
    try:
        if not name.startswith("pgd ") or name.startswith("pgd milib"):
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


def interleaved(names: list[str], sizes: Sizes) -> dict[str, list[float] | str]:
    """Seconds of each contender in each round, or why it cannot run."""
    context, found, running = (
        multiprocessing.get_context("spawn" if sizes.device == "cuda" else "forkserver"),
        {},
        {},
    )
    context.set_forkserver_preload(
        ["milib.bench.contenders"]
    )  # dozens of processes import PyTorch once; CUDA does not outlive a fork
    for name in names:
        ours, theirs = context.Pipe()
        process = context.Process(target=contend, args=(name, sizes, theirs))
        process.start()
        theirs.close()
        try:
            trouble = (
                ours.recv()
            )  # warmed up before the next one starts: threads of two would wait for each other
        except EOFError:
            trouble = "its process ended"
        found[name] = trouble or []
        if trouble is None:
            running[name] = ours, process
        else:
            process.join()
    for _ in range(sizes.rounds):
        for name, (pipe, _) in running.items():
            pipe.send("run")
            found[name].append(pipe.recv())
    for pipe, process in running.values():
        pipe.send(None)
        process.join()
    return found


def ratio(ours: list[float] | str, theirs: list[float] | str) -> dict:
    """Median, least and largest of the ratios of one round; `why` where a contender could not run."""
    for times in (ours, theirs):
        if isinstance(times, str):
            return {"why": times}
    each = np.array(ours) / np.array(theirs)
    return {
        "ratio": float(np.median(each)),
        "least": float(each.min()),
        "most": float(each.max()),
        "ours_s": float(np.median(ours)),
        "theirs_s": float(np.median(theirs)),
    }
