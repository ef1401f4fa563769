"""Makes nbval drop what was shown while a cell ran and cleared at its end (milib.progress.live): nbval does not know clear_output."""

import functools

from milib.progress import LIVE
from nbval import plugin


def _stays(output: dict) -> bool:
    text = output.get("text", "") if output["output_type"] == "stream" else ""
    return not text or any(line and not line.startswith(LIVE) for line in text.splitlines())


def _without_live_lines(compare):
    @functools.wraps(compare)
    def compared(self, test, *rest, **more):
        return compare(self, [output for output in test if _stays(output)], *rest, **more)

    return compared


plugin.IPyNbCell.compare_outputs = _without_live_lines(plugin.IPyNbCell.compare_outputs)
