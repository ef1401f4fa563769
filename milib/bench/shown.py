"""What the benchmark shows: the table it prints, and the figure of its cost."""

import numpy as np
from matplotlib.figure import Figure

from milib.views.looks import GREY, curve, panels


def scaling(sweeps: dict[str, dict]) -> Figure:
    """Seconds against points, steps, N and K, with the fitted lines: a panel each.

    - sweeps: of `costs.scaling`.
    """
    figure, axes = panels(1, len(sweeps), 2.6, 2.4)
    for axis, (name, sweep) in zip(axes[0], sweeps.items(), strict=True):
        line = np.array([0, max(sweep["values"])])
        axis.plot(line, sweep["slope_s"] * line + sweep["offset_s"], color=GREY, lw=1)
        axis.plot(sweep["values"], sweep["seconds"], **curve("mi_ol") | {"ls": ""})
        title = f"{1e3 * sweep['slope_s']:.1f} ms each, R² {sweep['r2']:.3f}"
        axis.set(xlabel=name, ylabel="seconds", title=title, ylim=(0, None))
    return figure


def text(result: dict) -> str:
    """The benchmark's table, as it is printed.

    - result: the content of one of its JSON files.
    """
    sections = [
        _machine(result),
        _ratios(result["rows"]),
        _memory(result["memory"]),
        _scaling(result["scaling"]),
        _latency(result["latency"], result["sizes"]["draws"]),
        _peak(result["peak"]),
    ]
    sections += [_agreement(run, row) for run, row in result["agreement"].items()]
    return "\n\n".join("\n".join(lines) for lines in sections)


def _machine(result: dict) -> list[str]:
    about, minutes = result["machine"], result["seconds"] / 60
    threads, torch = f"{about['threads']} threads", f"torch {about['versions']['torch']}"
    sizes = ", ".join(f"{name} {value}" for name, value in result["sizes"].items())
    machine = f"{about['name']}, {about['capability']}, {threads}, {torch}; {minutes:.1f} min"
    return [machine, sizes]


def _ratios(rows: list[dict]) -> list[str]:
    title = "ratio of times (median over rounds)"
    lines = [f"{title:<52} {'ratio':>6} {'least':>6} {'most':>6} {'limit':>6}   ms / ms"]
    for row in rows:
        if "why" in row:
            lines.append(f"{row['what']:<52} not run: {row['why']}")
            continue
        limit = verdict = ""
        if row["limit"] is not None:
            limit = f"{row['limit']:.2f}"
            verdict = "reached" if row["ratio"] <= row["limit"] else "missed"
        ratios = f"{row['ratio']:>6.2f} {row['least']:>6.2f} {row['most']:>6.2f} {limit:>6}"
        times = f"{1e3 * row['ours_s']:.0f} / {1e3 * row['theirs_s']:.0f}"
        line = f"{row['what']:<52} {ratios}   {times}  {verdict}  {row['note']}"
        lines.append(line.rstrip())
    return lines


def _memory(found: dict[str, dict]) -> list[str]:
    lines = ["peak memory above the idle process, MiB"]
    for name, row in found.items():
        (few, many), (low, high) = row["MiB"], row["draws"]
        peaks = f"{few:.0f} with {low} draws, {many:.0f} with {high}"
        work = f"{row['images']} images, chunk {row['chunk']}"
        lines.append(f"{name}: {peaks} ({work}): ratio {row['ratio']:.3f}")
    return lines


def _scaling(sweeps: dict[str, dict]) -> list[str]:
    lines = ["seconds grow linearly with"]
    for name, row in sweeps.items():
        lines.append(f"{name}: {1e3 * row['slope_s']:.2f} ms each, R2 {row['r2']:.4f}")
    return lines


def _latency(found: dict[str, list[float]], draws: int) -> list[str]:
    lines = [f"latency of one prediction, ms (median; N = {draws})"]
    for name, times in found.items():
        lines.append(f"{name}: {1e3 * float(np.median(times)):.1f}")
    return lines


def _peak(found: dict[str, float]) -> list[str]:
    values = [f"{name}: {value:.3g}" for name, value in found.items()]
    return ["share of the measured matrix peak", *values]


def _agreement(run: str, row: dict) -> list[str]:
    what = f"PGD-10 against interpolated AT, run {run}"
    if "why" in row:
        return [f"{what}: {row['why']}"]
    lines = [f"{what}: {row['points']} points"]
    for name, cell in row["attacks"].items():
        if "why" in cell:
            lines.append(f"{name}: {cell['why']}")
            continue
        robust, identical = 100 * cell["robust_accuracy"], 100 * cell["identical"]
        same = f"{identical:.1f} % of predictions as milib's"
        lines.append(f"{name}: robust accuracy {robust:.1f} %, {same}")
    return lines
