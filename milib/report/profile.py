"""What of a run took how long."""

from collections.abc import Collection
from pathlib import Path

from milib.report.run_folder import RunFolder

SLOWEST = 10
"""So many of the slowest things are listed."""


def latest(entries: list[dict]) -> dict[str, dict]:
    """A profile's entries by name.

    - entries: as `RunFolder.profile` has them. Of several with one name the computed one stays,
      and of several computed ones the slowest.
    """
    in_order = sorted(entries, key=lambda entry: (not entry["cached"], entry["seconds"]))
    return {entry["name"]: entry for entry in in_order}


def summary(entries: Collection[dict]) -> tuple[str, int]:
    """What was computed, "checkpoint 2 (30.1 s), record 5 (8.2 s)", and how much was cached.

    - entries: one for each thing that a notebook read or made.
    """
    seconds: dict[str, list[float]] = {}
    for entry in entries:
        if not entry["cached"]:
            seconds.setdefault(entry["kind"], []).append(entry["seconds"])
    made = [f"{kind} {len(each)} ({sum(each):.1f} s)" for kind, each in sorted(seconds.items())]
    computed = sum(map(len, seconds.values()))
    return ", ".join(made) or "nothing", len(entries) - computed


def profile(folder: Path) -> str:
    """What `make study` prints at its end: what each notebook computed and how long it took.

    - folder: the run's folder.
    """
    timing = RunFolder(folder).profile()
    note = "what took how long (a record's time includes the tensors made for it)"
    lines, slowest = [f"run '{folder.name}': {note}"], []
    for name, (wall, entries) in timing.items():
        if wall is None:
            lines.append(f"  {name:<26} not re-run: nothing changed")
            continue
        found = latest(entries).values()
        computed, cached = summary(found)
        lines.append(f"  {name:<26} {wall:7.1f} s  computed: {computed}; from the cache: {cached}")
        slowest += [(e["seconds"], e["kind"], e["name"], name) for e in found if not e["cached"]]
    total = sum(wall or 0 for wall, _ in timing.values())
    lines.append(f"  {'all (some at the same time)':<26} {total:7.1f} s")
    if slowest:
        lines.append("the slowest things computed:")
    for seconds, kind, what, name in sorted(slowest, reverse=True)[:SLOWEST]:
        lines.append(f"  {seconds:7.1f} s  {kind:<10}  {what}  ({name})")
    return "\n".join(lines)
