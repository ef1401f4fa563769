# The order of the notebooks, on one machine or a cluster; papermill executes each.
#   snakemake --cores all --config run=digits args="-p seed 1"
# What is redone: a notebook whose fingerprint (its source, milib's, and the run's parameters) changed. Inside it, milib.artifacts
# recomputes only what depends on the change. File times play no part (`--rerun-triggers params`).
import json
import shlex
from pathlib import Path

import yaml
from milib import params

RUN = config.get("run", "digits")
ARGS = shlex.split(str(config.get("args", "") or ""))
ROOT = str(workflow.basedir)
OUT = str(params.outputs_root() / RUN)
NEEDS = {  # notebook -> the notebooks whose models it uses
    "01_train_mixup": [],
    "02_train_interpolated_at": ["01_train_mixup"],
    "03_theory": ["01_train_mixup"],
    "04_oblivious": ["01_train_mixup", "02_train_interpolated_at"],
    "05_detection": ["01_train_mixup", "02_train_interpolated_at"],
    "06_tradeoff": ["01_train_mixup", "02_train_interpolated_at"],
    "07_adaptive_attacks": ["01_train_mixup", "02_train_interpolated_at"],
}
SOURCES = [path.read_text() for path in sorted(Path(ROOT, "milib").glob("*.py")) if path.stem not in ("pages", "report", "refresh")]
SOURCES += [path.read_text() for path in (Path(ROOT, "params", "claims.yaml"), *sorted(Path(ROOT, "params", "paper").glob("*.csv")))]


def overrides() -> dict:
    """`-p key value` pairs, read as papermill reads them."""
    found = {}
    for position, word in enumerate(ARGS):
        if word == "-p":
            found[ARGS[position + 1]] = yaml.safe_load(ARGS[position + 2])
    return found


OPTIONS = " ".join(map(shlex.quote, ARGS))
SETTINGS = params.load(Path(ROOT, "params", f"{RUN}.yaml"), overrides())


def fingerprint(wildcards) -> str:
    cells = json.loads(Path(ROOT, "notebooks", f"{wildcards.notebook}.ipynb").read_text())["cells"]
    return params.digest([[cell["source"] for cell in cells], repr(SETTINGS), SOURCES])


rule all:
    input: [f"{OUT}/notebooks/{name}.ipynb" for name in NEEDS]


rule notebook:
    input: lambda wildcards: [f"{OUT}/notebooks/{name}.ipynb" for name in NEEDS[wildcards.notebook]]
    output: OUT + "/notebooks/{notebook}.ipynb"
    wildcard_constraints: notebook = "|".join(NEEDS)
    params: fingerprint = fingerprint
    # A failed run leaves its notebook, with the red cells, as <notebook>.failed.ipynb.
    threads: SETTINGS.threads or workflow.cores
    shell:
        "mkdir -p {OUT:q}/profile; started=$(date +%s.%N); "
        "papermill {ROOT:q}/notebooks/{wildcards.notebook}.ipynb {OUT:q}/notebooks/{wildcards.notebook}.failed.ipynb "
        "-f {ROOT:q}/params/{RUN}.yaml {OPTIONS} --log-output --no-progress-bar && "
        "mv {OUT:q}/notebooks/{wildcards.notebook}.failed.ipynb {output:q} && "
        "echo \"$(date +%s.%N) $started\" | awk '{{print $1 - $2}}' > {OUT:q}/profile/{wildcards.notebook}.seconds"
