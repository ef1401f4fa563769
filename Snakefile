# The order of the study, on one machine or a cluster: a job for a model, a job for a notebook.
# `make study` calls it (milib/study/launch.py), with the outputs folder as its working directory.
# What is redone is decided by fingerprints (milib/study/jobs.py), not file times. Inside a
# notebook, milib.study.store recomputes only what depends on a change.
import os
import re
import sys

from milib.errors import UserError
from milib.study import arguments, jobs, paths

if config:
    raise UserError("--config is not read: MILIB_RUN names the runs, MILIB_ARGS their parameters")
ROOT, PYTHON, JOB = str(workflow.basedir), sys.executable, jobs.COMMAND
OUT = str(paths.outputs_root().resolve())
ASKED = {asked.run.run: asked for asked in arguments.studies()}
OPTIONS = arguments.option(next(iter(ASKED.values())).changed)


def stem(wildcards):
    """The parameter file of a job's run; as a parameter of the rule it is not a path."""
    return ASKED[wildcards.run].file.stem


def threads(wildcards):
    """A cluster's number of cores is not known."""
    cores = None if os.environ.get("MILIB_PROFILE") else workflow.cores
    return jobs.threads(ASKED[wildcards.run].run, cores)


def resource(name):
    return lambda wildcards: jobs.resources(ASKED[wildcards.run].run)[name]


wildcard_constraints:
    run = "|".join(re.escape(name) for name in ASKED),
    model = "[a-z_]+",
    recipe = "[0-9a-f]{16}",
    notebook = "|".join(jobs.notebooks()),


rule all:
    input: [f"{run}/notebooks/{name}.ipynb" for run in ASKED for name in jobs.notebooks()]


rule model:
    output: "{run}/checkpoints/{model}-{recipe}.safetensors"
    params: stem = stem
    threads: threads
    resources:
        runtime = resource("runtime"), mem_mb = resource("mem_mb"), gpu = resource("gpu"),
        choose = resource("choose"),
    shell:
        "cd {ROOT:q} && exec {PYTHON:q} {JOB:q} {OUT:q}/{wildcards.run} train_{wildcards.model} '' "
        "{resources.choose} -- {PYTHON:q} -m milib.study.train {params.stem} {wildcards.model} "
        "--limited {OPTIONS}"


rule notebook:
    input: lambda wildcards: jobs.checkpoints(wildcards.notebook, ASKED[wildcards.run].run)
    output: "{run}/notebooks/{notebook}.ipynb"
    params:
        stem = stem,
        fingerprint = lambda wildcards:
            jobs.fingerprint(wildcards.notebook, ASKED[wildcards.run].run),
    threads: threads
    resources:
        runtime = resource("runtime"), mem_mb = resource("mem_mb"), gpu = resource("gpu"),
        choose = resource("choose"),
    # A failed run leaves its notebook, with the red cells, as <notebook>.failed.ipynb.
    shell:
        "cd {ROOT:q} && exec {PYTHON:q} {JOB:q} {OUT:q}/{wildcards.run} {wildcards.notebook} "
        "{OUT:q}/{output:q} {resources.choose} -- {PYTHON:q} -m papermill "
        "notebooks/{wildcards.notebook}.ipynb '{{made}}' -f params/{params.stem}.yaml {OPTIONS} "
        "--log-output --no-progress-bar"
