# The order of the study, on one machine or a cluster: a job for a model, a job for a notebook.
#   MILIB_RUN=digits MILIB_ARGS="-p seed 1" snakemake --cores all
# What is redone is decided by fingerprints (milib/study/jobs.py), not file times
# (`--rerun-triggers params`). Inside a notebook, milib.study.store recomputes only what depends on
# a change.
from milib.errors import UserError
from milib.study import arguments, jobs, paths

if config:
    raise UserError("--config is not read: MILIB_RUN names the run, MILIB_ARGS its parameters")
ROOT = str(workflow.basedir)
FILE, CHANGED, SETTINGS = arguments.study()
OPTIONS = arguments.option(CHANGED)
OUT = str(paths.outputs_root() / SETTINGS.run)


rule all:
    input: [f"{OUT}/notebooks/{name}.ipynb" for name in jobs.notebooks()]


rule model:
    output: OUT + "/checkpoints/{name}-{recipe}.safetensors"
    wildcard_constraints: name = "[a-z_]+", recipe = "[0-9a-f]{16}"
    threads: SETTINGS.threads or workflow.cores
    shell:
        "python -m milib.study.train {FILE.stem} {wildcards.name} {OPTIONS} "
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
        "-f {FILE:q} {OPTIONS} --log-output --no-progress-bar && "
        "mv \"$failed\" {output:q} && "
        "echo \"$(date +%s.%N) $started\" | awk '{{print $1 - $2}}' "
        "> {OUT:q}/profile/{wildcards.notebook}.seconds"
