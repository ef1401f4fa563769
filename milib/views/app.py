"""All explorers of a run as one page without code: `make app`, `make app RUN=c10_compact`.

$MILIB_RUN names the run, by default digits; $MILIB_ARGS changes its parameters, as `make study`
says. What is missing is computed first. Then voila shows the page at an address with a token, on
this machine alone.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat

from milib.errors import UserError
from milib.study import arguments, experiments, progress
from milib.study.study import Study
from milib.views import attack_explorer, explorers
from milib.views.explorer import Explorer

MODELS = ("mixup", "interpolated_at")
SECTIONS = {
    "inputs": """## One input
Attack a test image and mix it: what does each part predict, and is the attack detected?
(notebook 5)""",
    "attacks": """## Who knows the defense
The same attack, made on the bare model, on another model, and through the defense. (notebook 8)""",
    "tradeoff": """## Clean against robust accuracy
Pick a setting from the list, or click its point. (notebook 6)""",
    "fig2": """## What mixing does to predictions
Mean predictions at one lambda beside Table 1. (notebook 3)""",
}
"""The page's parts, with their headings in Markdown."""
OWN = "default-src 'self' 'unsafe-inline' 'unsafe-eval' blob: data:"
SETTINGS = {"headers": {"Content-Security-Policy": OWN}}
"""voila's page asks for a font from elsewhere; the browser is told to load nothing from there."""


def opened() -> Study:
    """The study of the run that $MILIB_RUN and $MILIB_ARGS describe.

    Raises UserError where they describe none or several.
    """
    runs = [asked.run for asked in arguments.studies()]
    if len(runs) != 1:
        names = ", ".join(run.run for run in runs)
        raise UserError(f"RUN names {names}: the page shows one run")
    return Study(runs[0], "app")


def explorers_of(study: Study) -> dict[str, Explorer]:
    """The explorers of a run, by the names of SECTIONS; their records are made where they are not.

    - study: the run.
    """
    run = study.params
    study.require(*MODELS, *study.table_models[:1])
    detection, tradeoff, fig2 = {}, {}, {}
    for name in MODELS:
        detection[name] = experiments.detection(study, name)
    families = [row for name in MODELS for row in experiments.families(study, name)]
    for row in progress.sweep("Fig. 3(b)", families):
        tradeoff[row["model"], row["defense"]] = experiments.tradeoff(study, row)
    settings = [(mode, ratio) for mode in ("pl", "ol") for ratio in run.fig2_ratios]
    for mode, ratio in progress.sweep("Fig. 2", settings):
        fig2[mode, ratio] = experiments.mixed_predictions(study, "mixup", mode, ratio)
    return {
        "inputs": explorers.inputs(study, detection),
        "attacks": attack_explorer.attacked(study, MODELS),
        "tradeoff": explorers.tradeoff(tradeoff),
        "fig2": explorers.fig2(fig2, run.classes),
    }


def page(study: Study) -> nbformat.NotebookNode:
    """The page as a notebook, whose code voila runs and does not show.

    - study: the run.
    """
    v4, run = nbformat.v4, study.params
    cells = [
        v4.new_markdown_cell(f"# Mixup Inference: the explorers of run {run.run} ({run.data})"),
        v4.new_code_cell(
            "from milib.views import app\nshown = app.explorers_of(app.opened())\nNone"
        ),
    ]
    for name, heading in SECTIONS.items():
        cells += [v4.new_markdown_cell(heading), v4.new_code_cell(f"shown[{name!r}].front")]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def main() -> int:
    """The command line: makes what is missing, then serves the page until it is stopped."""
    argparse.ArgumentParser(prog="python -m milib.views.app", description=__doc__).parse_args()
    try:
        study = opened()
        explorers_of(study)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped: the same command goes on from here", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        notebook = Path(folder) / "explorers.ipynb"
        nbformat.write(page(study), notebook)
        words = [sys.executable, "-m", "voila", str(notebook), "--token", "--Voila.ip=127.0.0.1"]
        words.append(f"--Voila.tornado_settings={SETTINGS}")
        print("the page is made anew for each visitor, in some seconds; Ctrl+C ends it", flush=True)
        with subprocess.Popen(words) as server, contextlib.suppress(KeyboardInterrupt):
            return server.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
