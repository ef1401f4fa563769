# The order of the study, on one machine or a cluster: a job for each model, a job for each notebook.
#   snakemake --cores all --config run=digits args="-p seed 1"
# What is redone: a notebook whose fingerprint (its cells, the code it can see, the run's parameters)
# changed. Inside it, milib.study.store recomputes only what depends on the change. File times play no
# part (`--rerun-triggers params`).
import json
import shlex
from pathlib import Path

import yaml
from milib.files import digest
from milib.study import identity, params, paths, rules, weights

RUN = config.get("run", "digits")
ARGS = shlex.split(str(config.get("args", "") or ""))
ROOT = str(workflow.basedir)
OUT = str(paths.outputs_root() / RUN)
NOTEBOOKS = sorted(path.stem for path in Path(ROOT, "notebooks").glob("0*.ipynb"))


def overrides() -> dict:
    """`-p key value` pairs, read as papermill reads them."""
    found = {}
    for position, word in enumerate(ARGS):
        if word == "-p":
            found[ARGS[position + 1]] = yaml.safe_load(ARGS[position + 2])
    return found


OPTIONS = " ".join(map(shlex.quote, ARGS))
SETTINGS = params.load(Path(ROOT, "params", f"{RUN}.yaml"), overrides())
EXTRA = ("manifold_mixup", "matched_mixup", "long_mixup") if SETTINGS.extra_models else ()
TABLE = tuple(dict.fromkeys(row["model"] for row in SETTINGS.rows))
MODELS = {  # notebook -> the models it asks for
    "01_train_mixup": ("erm", "mixup"),
    "02_train_interpolated_at": ("erm", "mixup", "at", "interpolated_at", *EXTRA),
    "03_theory": ("mixup",),
    "04_oblivious": TABLE,
    "05_detection": TABLE,
    "06_tradeoff": ("mixup", "interpolated_at"),
    "07_adaptive_attacks": ("mixup", "interpolated_at"),
}


def checkpoints(wildcards) -> list[str]:
    """The weights that a notebook needs and that no curated run ships."""
    found = []
    for name in MODELS[wildcards.notebook]:
        file = f"{name}-{digest(weights.recipe(SETTINGS, name))}.safetensors"
        if not (paths.reference_root() / RUN / "checkpoints" / file).exists():
            found.append(f"{OUT}/checkpoints/{file}")
    return found


def fingerprint(wildcards) -> str:
    """What a notebook's outputs depend on: its cells, the code and claims it sees, the parameters."""
    path = Path(ROOT, "notebooks", f"{wildcards.notebook}.ipynb")
    cells = json.loads(path.read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    code = [text for cell, text in zip(cells, sources) if cell["cell_type"] == "code"]
    seen = identity.reachable(identity.imported("\n".join(code)))
    claims = [claim for claim in rules.claims_table() if claim["notebook"] == wildcards.notebook]
    paper = Path(ROOT, "params", "paper", f"{SETTINGS.paper_table}.csv").read_text()
    meaning = identity.code_digest(tuple(sorted(seen)))
    return digest([sources, repr(SETTINGS), meaning, claims, paper])


rule all:
    input: [f"{OUT}/notebooks/{name}.ipynb" for name in NOTEBOOKS]


rule model:
    output: OUT + "/checkpoints/{name}-{recipe}.safetensors"
    wildcard_constraints: name = "[a-z_]+", recipe = "[0-9a-f]{16}"
    threads: SETTINGS.threads or workflow.cores
    shell:
        "python -m milib.study.train {RUN} {wildcards.name} {OPTIONS} "
        "-p max_hours {SETTINGS.max_hours}"


rule notebook:
    input: checkpoints
    output: OUT + "/notebooks/{notebook}.ipynb"
    wildcard_constraints: notebook = "|".join(NOTEBOOKS)
    params: fingerprint = fingerprint
    threads: SETTINGS.threads or workflow.cores
    # A failed run leaves its notebook, with the red cells, as <notebook>.failed.ipynb.
    shell:
        "mkdir -p {OUT:q}/profile; started=$(date +%s.%N); "
        "failed={OUT:q}/notebooks/{wildcards.notebook}.failed.ipynb; "
        "papermill {ROOT:q}/notebooks/{wildcards.notebook}.ipynb $failed "
        "-f {ROOT:q}/params/{RUN}.yaml {OPTIONS} --log-output --no-progress-bar && "
        "mv $failed {output:q} && "
        "echo \"$(date +%s.%N) $started\" | awk '{{print $1 - $2}}' "
        "> {OUT:q}/profile/{wildcards.notebook}.seconds"
