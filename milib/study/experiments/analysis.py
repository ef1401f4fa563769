"""How a model predicts between images, and what mixing does to its predictions (Eq. 3-20)."""

import torch

from milib import defenses, inference, rng, theory
from milib.data import SamplePool
from milib.study.experiments.common import addresses, draws_of, rounded
from milib.study.rows import PRIMARY
from milib.study.study import Study


def _mixup(
    study: Study, name: str, mode: str, ratio: float, draws: int | None = None
) -> defenses.MixupInference:
    row = {"model": name, "defense": f"mi_{mode}", "ratio": ratio}
    found = study.defense(row, draws=draws)
    assert isinstance(found, defenses.MixupInference)
    return found


def linearity(study: Study, name: str) -> dict:
    """How linear a model is between test points (Eq. 3), for lambda = 0.1 ... 0.9.

    - study: the run.
    - name: the model.

    The record's "prediction" and "label" are [n_test][9]: for a pair of images the total variation
    between F(lambda x_i + (1 - lambda) x_j) and the same mixture of F(x_i) and F(x_j), or of the
    one-hot labels.
    """
    run = study.params
    ratios = [round(0.1 * k, 1) for k in range(1, 10)]

    def compute() -> dict:
        points, model = study.points(run.n_test), study.model(name).scorer
        order = rng.generator(run.seed, "pairs").permutation(len(points.y))
        other = torch.from_numpy(order).to(study.device)
        single = inference.probabilities(model, points.x, run.chunk)
        label = torch.nn.functional.one_hot(points.y, run.classes).float()
        distance = {"prediction": [], "label": []}
        for ratio in ratios:
            between = ratio * points.x + (1 - ratio) * points.x[other]
            mixed = inference.probabilities(model, between, run.chunk)
            for kind, ends in (("prediction", single), ("label", label)):
                off = mixed - ratio * ends - (1 - ratio) * ends[other]
                distance[kind].append(off.abs().sum(1) / 2)
        stacked = {kind: torch.stack(values, 1) for kind, values in distance.items()}
        return {"ratios": ratios} | {kind: rounded(found, 5) for kind, found in stacked.items()}

    identity = study.identity(name, n=run.n_test, ratios=ratios)
    images = run.n_test * (1 + len(ratios))
    return study.record(f"linearity-{name}", name, identity, compute, images)


def mixed_predictions(study: Study, name: str, mode: str, ratio: float) -> dict:
    """The parts of Eq. 4-17 on `n_theory` test points: see `theory.components`.

    - study: the run.
    - name: the model.
    - mode: "pl" or "ol".
    - ratio: lambda, fixed.

    The record holds [n][L] lists of means over draws.
    """
    run = study.params

    def compute() -> dict:
        points = study.points(run.n_theory)
        adversarial = study.batch(name, PRIMARY, run.n_theory)
        mi = _mixup(study, name, mode, ratio)
        draws = draws_of(study, "theory")
        found = theory.components(mi, points.x, adversarial, points.index, draws)
        return addresses(points) | {key: rounded(value, 6) for key, value in found.items()}

    identity = study.identity(name, "attack", "draws", mode=mode, ratio=ratio, n=run.n_theory)
    images = 2 * run.n_theory * (run.draws + 1)
    what = f"components-{name}-{mode}-{ratio}"
    return study.record(what, name, identity, compute, images, cost=2)


def monte_carlo(
    study: Study, name: str, mode: str, ratio: float, counts: list[int], sets: int = 20, n: int = 4
) -> dict:
    """The Monte Carlo error of Eq. 6 for each number of draws.

    - study: the run.
    - name: the model.
    - mode: "pl" or "ol".
    - ratio: lambda, fixed.
    - counts: the numbers of draws N.
    - sets: of draws, default 20.
    - n: test images, default 4.

    The record's "errors", one for each N, are root mean square distances of F_MI,N from the
    enumerated expectation over images and sets. Partners are neither cropped nor flipped here.
    """

    def compute() -> dict:
        points = study.points(n)
        mi = _mixup(study, name, mode, ratio, draws=max(counts))
        mi.pool = SamplePool(study.pool.data)  # as it is: crops and flips cannot be enumerated
        exact = theory.enumerated(mi, points.x)
        found = []
        with torch.no_grad():
            for k in range(sets):
                draws = draws_of(study, "monte carlo", k)
                found.append(mi.each(points.x, draws, points.index).exp())
        each, errors = torch.stack(found), []
        for count in counts:
            distance = each[:, :, :count].mean(2) - exact
            errors.append(distance.square().sum(2).mean().sqrt().item())
        return {"counts": counts, "errors": errors, "pool": len(study.pool.data)}

    classes = study.params.classes
    allowed = 1 if mode == "pl" else classes - 1  # classes of the pool that the prediction leaves
    images = n * (len(study.pool.data) * allowed // classes + sets * max(counts))
    identity = study.identity(name, "draws", mode=mode, ratio=ratio, counts=counts, sets=sets, n=n)
    return study.record(f"monte-carlo-{name}-{mode}", name, identity, compute, images)
