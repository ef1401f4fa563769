"""What of a run took how long."""

from collections.abc import Collection
from pathlib import Path

from milib.errors import UserError
from milib.study.store import read_json


def _timing(folder: Path) -> dict[str, tuple[float | None, dict[str, dict]]]:
    """Per notebook: its wall seconds (None: not run this time) and its entries by name, computed ones before cached ones."""
    found = {}
    names = {
        path.stem for part in ("notebooks/*.ipynb", "profile/*.json") for path in folder.glob(part)
    }
    for name in sorted(name for name in names if not name.endswith(".failed")):
        path = folder / "profile" / f"{name}.seconds"
        try:
            wall = float(path.read_text()) if path.exists() else None
        except ValueError:
            raise UserError(f"{path} holds no number: delete it") from None
        entries = read_json(folder / "profile" / f"{name}.json", [])
        found[name] = (
            wall,
            {
                entry["name"]: entry
                for entry in sorted(
                    entries, key=lambda entry: (not entry["cached"], entry["seconds"])
                )
            },
        )
    return found


def _summary(entries: Collection[dict]) -> tuple[str, int]:
    """What was computed, by kind ('checkpoint 2 (30.1 s), record 5 (8.2 s)'), and how many things came from the cache."""
    made = [entry for entry in entries if not entry["cached"]]
    kinds = {
        entry["kind"]: [other["seconds"] for other in made if other["kind"] == entry["kind"]]
        for entry in made
    }
    text = ", ".join(
        f"{kind} {len(seconds)} ({sum(seconds):.1f} s)" for kind, seconds in sorted(kinds.items())
    )
    return text or "nothing", len(entries) - len(made)


def profile(folder: Path) -> str:
    """What `make study` prints at its end: per notebook the wall seconds, what was computed and what came from the cache."""
    timing = _timing(folder)
    lines, slowest = (
        [
            f"run '{folder.name}': what took how long (a record's time includes the tensors made for it)"
        ],
        [],
    )
    for name, (wall, entries) in timing.items():
        if wall is None:
            lines.append(f"  {name:<26} not re-run: nothing changed")
            continue
        computed, cached = _summary(entries.values())
        lines.append(f"  {name:<26} {wall:7.1f} s  computed: {computed}; from the cache: {cached}")
        slowest += [
            (entry["seconds"], entry["kind"], entry["name"], name)
            for entry in entries.values()
            if not entry["cached"]
        ]
    lines.append(
        f"  {'all (some at the same time)':<26} {sum(wall or 0 for wall, _ in timing.values()):7.1f} s"
    )
    lines += ["the slowest things computed:"] if slowest else []
    lines += [
        f"  {seconds:7.1f} s  {kind:<10}  {what}  ({name})"
        for seconds, kind, what, name in sorted(slowest, reverse=True)[:10]
    ]
    return "\n".join(lines)
