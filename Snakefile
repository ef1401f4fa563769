# The order of the notebooks, on one machine or a cluster; papermill executes each.
#   snakemake --cores all --config run=digits args="-p seed 1"
# What is redone: a notebook whose fingerprint (its source, milib's, and the run's parameters) changed. Inside it, milib.artifacts
# recomputes only what depends on the change. File times play no part (`--rerun-triggers params`).
import json
import shlex
from pathlib import Path

import yaml
from milib import artifacts, params

RUN = config.get("run", "digits")
ARGS = shlex.split(str(config.get("args", "") or ""))
ROOT = Path(workflow.basedir)
OUT = params.outputs_root() / RUN
NEEDS = {  # notebook -> the notebooks whose models it uses
    "01_train_mixup": [],
    "02_train_interpolated_at": ["01_train_mixup"],
    "03_theory": ["01_train_mixup"],
    "04_oblivious": ["01_train_mixup", "02_train_interpolated_at"],
    "05_detection": ["01_train_mixup", "02_train_interpolated_at"],
    "06_tradeoff": ["01_train_mixup", "02_train_interpolated_at"],
    "07_adaptive_attacks": ["01_train_mixup", "02_train_interpolated_at"],
}
SOURCES = [path.read_text() for path in sorted((ROOT / "milib").glob("*.py")) if path.stem not in ("report", "refresh")]


def overrides() -> dict:
    """`-p key value` pairs, read as papermill reads them."""
    found = {}
    for position, word in enumerate(ARGS):
        if word == "-p":
            found[ARGS[position + 1]] = yaml.safe_load(ARGS[position + 2])
    return found


SETTINGS = params.load(ROOT / "params" / f"{RUN}.yaml", overrides())


def fingerprint(wildcards) -> str:
    cells = json.loads((ROOT / "notebooks" / f"{wildcards.notebook}.ipynb").read_text())["cells"]
    return artifacts.digest([[cell["source"] for cell in cells], repr(SETTINGS), SOURCES])


rule all:
    input: [OUT / "notebooks" / f"{name}.ipynb" for name in NEEDS]


rule notebook:
    input: lambda wildcards: [OUT / "notebooks" / f"{name}.ipynb" for name in NEEDS[wildcards.notebook]]
    output: OUT / "notebooks" / "{notebook}.ipynb"
    wildcard_constraints: notebook = "|".join(NEEDS)
    params: fingerprint = fingerprint
    threads: workflow.cores
    run:
        # A failed run leaves its notebook, with the red cells, as <notebook>.failed.ipynb.
        failed = str(output[0]).replace(".ipynb", ".failed.ipynb")
        source, settings = ROOT / "notebooks" / f"{wildcards.notebook}.ipynb", ROOT / "params" / f"{RUN}.yaml"
        options = " ".join(map(shlex.quote, ARGS))
        seconds = OUT / "profile" / f"{wildcards.notebook}.seconds"
        shell("mkdir -p {OUT}/profile; started=$(date +%s.%N); "
              "papermill {source} {failed} -f {settings} {options} --log-output --no-progress-bar && mv {failed} {output} && "
              "echo \"$(date +%s.%N) - $started\" | awk '{{print $1 - $3}}' > {seconds}")
