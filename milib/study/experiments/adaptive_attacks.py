"""MI-OL under attacks that know it: Eq. 21-24, Fig. 4 and 5."""

import torch
from torch import Tensor

from milib import inference
from milib.adaptive import adaptive_pgd
from milib.study.experiments.common import addresses, cell_of, draws_of
from milib.study.experiments.matching import reference_row
from milib.study.study import Study


def adaptive_examples(
    study: Study,
    name: str,
    variant: str,
    samples: int,
    epsilon: float,
    count: int,
) -> Tensor:
    """Adaptive PGD examples [count, C, H, W] against a model's MI-OL row.

    - study: the run.
    - name: the model.
    - variant: a name of `milib.adaptive.ADAPTIVE`.
    - samples: draws in each step.
    - epsilon: on pixels in [0, 1].
    - count: test images.

    The steps are those of the tables' first column (PGD-10). The draws are others than those that
    score.
    """
    run, row = study.params, reference_row(study, name)
    points, mi = study.points(count), study.defense(row, attacked=True)
    options = {"variant": variant, "samples": samples, "epsilon": epsilon}
    options |= {"step_size": run.step_size, "steps": run.steps[0]}
    draws, blocks = draws_of(study, f"adaptive {variant}"), []
    for start in range(0, count, run.chunk):
        here = slice(start, start + run.chunk)
        x, y, index = points.x[here], points.y[here], points.index[here]
        blocks.append(adaptive_pgd(mi, x, y, index, draws, **options))
    return torch.cat(blocks)


def adaptive(study: Study, name: str, variant: str, samples: int) -> dict:
    """One point of Fig. 4: MI-OL under an adaptive attack, scored with N fresh draws.

    - study: the run.
    - name: the model.
    - variant: a name of `milib.adaptive.ADAPTIVE`; with no samples "none".
    - samples: draws in each step; 0: the dashed line, the bare model under the oblivious attack.
    """
    run, row = study.params, reference_row(study, name)
    steps = run.steps[0]

    def bare() -> dict:
        x = study.examples(name, "untargeted", run.n_adaptive, (steps,))[steps]
        points = study.points(run.n_adaptive)
        found = inference.probabilities(study.model(name).scorer, x, run.chunk)
        return addresses(points) | {"cell": cell_of([found], points.y)}

    def attacked() -> dict:
        points = study.points(run.n_adaptive)
        x = adaptive_examples(study, name, variant, samples, run.epsilon, run.n_adaptive)
        with torch.no_grad():  # the published attack's images may leave [0, 1]
            log = study.defense(row).log_mean(x, draws_of(study, "score"), points.index)
        distance = (x - points.x).abs().max().item()
        return addresses(points) | {"cell": cell_of([log.exp()], points.y), "distance": distance}

    options = {"row": row, "variant": variant, "samples": samples, "n": run.n_adaptive}
    options |= {"steps": steps, "step_size": run.step_size}
    identity = study.identity(name, "attack", "draws") | options
    compute, each = bare, 1
    if samples:
        compute, each = attacked, steps * (samples + 1) + run.draws
    images = run.n_adaptive * each
    what = f"adaptive-{name}-{variant}-{samples}"
    return study.record(what, name, identity, compute, images, cost=2)
