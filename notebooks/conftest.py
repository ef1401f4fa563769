"""nbval compares no live line: what a cell showed while it ran, and cleared at its end.

nbval does not know clear_output, with which milib.study.progress clears its live lines.
"""

import functools

from nbval import plugin

from milib.study.progress import LIVE


def _stays(output: dict) -> bool:
    text = output.get("text", "") if output["output_type"] == "stream" else ""
    return not text or any(line and not line.startswith(LIVE) for line in text.splitlines())


def _without_live_lines(compare):
    @functools.wraps(compare)
    def compared(self, test, *rest, **more):
        return compare(self, [output for output in test if _stays(output)], *rest, **more)

    return compared


plugin.IPyNbCell.compare_outputs = _without_live_lines(plugin.IPyNbCell.compare_outputs)
