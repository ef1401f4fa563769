# The order of the study, on one machine or a cluster: a job for a model, a job for a notebook.
#   snakemake --cores all --config run=digits args="-p seed 1"
# What is redone is decided by fingerprints (milib/study/jobs.py), not file times
# (`--rerun-triggers params`). Inside a notebook, milib.study.store recomputes only what depends on
# a change.
import shlex
from pathlib import Path

import yaml
from milib.study import jobs, params, paths

RUN = config.get("run", "digits")
ARGS = shlex.split(str(config.get("args", "") or ""))
ROOT = str(workflow.basedir)
OUT = str(paths.outputs_root() / RUN)


def overrides() -> dict:
    """`-p key value` pairs, read as papermill reads them."""
    found = {}
    for position, word in enumerate(ARGS):
        if word == "-p":
            found[ARGS[position + 1]] = yaml.safe_load(ARGS[position + 2])
    return found


OPTIONS = " ".join(map(shlex.quote, ARGS))
SETTINGS = params.load(Path(ROOT, "params", f"{RUN}.yaml"), overrides())


rule all:
    input: [f"{OUT}/notebooks/{name}.ipynb" for name in jobs.notebooks()]


rule model:
    output: OUT + "/checkpoints/{name}-{recipe}.safetensors"
    wildcard_constraints: name = "[a-z_]+", recipe = "[0-9a-f]{16}"
    threads: SETTINGS.threads or workflow.cores
    shell:
        "python -m milib.study.train {RUN} {wildcards.name} {OPTIONS} "
        "-p max_hours {SETTINGS.max_hours}"


rule notebook:
    input: lambda wildcards: jobs.checkpoints(wildcards.notebook, SETTINGS)
    output: OUT + "/notebooks/{notebook}.ipynb"
    wildcard_constraints: notebook = "|".join(jobs.notebooks())
    params: fingerprint = lambda wildcards: jobs.fingerprint(wildcards.notebook, SETTINGS)
    threads: SETTINGS.threads or workflow.cores
    # A failed run leaves its notebook, with the red cells, as <notebook>.failed.ipynb.
    shell:
        "mkdir -p {OUT:q}/profile; started=$(date +%s.%N); "
        "failed={OUT:q}/notebooks/{wildcards.notebook}.failed.ipynb; "
        "papermill {ROOT:q}/notebooks/{wildcards.notebook}.ipynb \"$failed\" "
        "-f {ROOT:q}/params/{RUN}.yaml {OPTIONS} --log-output --no-progress-bar && "
        "mv \"$failed\" {output:q} && "
        "echo \"$(date +%s.%N) $started\" | awk '{{print $1 - $2}}' "
        "> {OUT:q}/profile/{wildcards.notebook}.seconds"
