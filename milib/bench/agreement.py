"""Whether the attacks that the benchmark times find the same: predictions beside milib's."""

import torch
from torch import Tensor, nn

from milib import attacks, inference
from milib.bench import peers
from milib.bench.setting import Sizes
from milib.errors import UserError
from milib.study import params, paths, weights
from milib.study.study import Study

MODEL, POINTS = "interpolated_at", 300
"""The model that is attacked, and on how many test images."""


def agreement(sizes: Sizes) -> dict[str, dict]:
    """Predictions and robust accuracy on every attack's PGD-10 examples, for each run, or why not.

    - sizes: threads and device.

    Attacked are the interpolated-AT models whose weights are there; that of digits is trained.
    """
    found = {}
    for name in ("digits", "c10_compact", "c10"):
        overrides = {"device": sizes.device, "n_test": POINTS, "threads": sizes.threads}
        run = params.load(paths.project_root() / "params" / f"{name}.yaml", overrides)
        here = Study(run, "bench")
        shipped = here.store.find_checkpoint(MODEL, weights.recipe(run, MODEL))
        if name != "digits" and shipped is None:
            found[name] = {"why": f"no weights of {MODEL} here yet"}
            continue
        try:
            found[name] = _of_run(here)
        except UserError as error:
            found[name] = {"why": str(error)}
    return found


def _milib(net: nn.Module, epsilon: float, step_size: float, steps: int) -> peers.Attack:
    """milib's PGD, made as those of `peers.ATTACKS` are."""
    options = {"epsilon": epsilon, "step_size": step_size, "steps": [steps]}

    def attack(x: Tensor, y: Tensor) -> Tensor:
        return attacks.pgd(net, x, y, **options)[:, 0]

    return attack


def _of_run(here: Study) -> dict:
    run, net, test = here.params, here.model(MODEL).net, here.points(here.params.n_test)
    options = (run.epsilon, run.step_size, run.steps[0])
    scorer = inference.frozen(net)
    ours = {"milib": scorer}
    if here.device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported():
        ours["milib bf16"] = inference.frozen(net, "bf16")

    def make(name: str) -> peers.Attack:
        if name in ours:
            return _milib(ours[name], *options)
        return peers.ATTACKS[name](net, *options)

    found, reference = {}, None
    for name in (*ours, *peers.ATTACKS):
        try:
            attack = make(name)
        except ImportError as error:
            found[name] = {"why": str(error)}
            continue
        examples = attack(test.x, test.y).detach()
        predicted = inference.probabilities(scorer, examples, run.chunk).argmax(1)
        reference = predicted if reference is None else reference
        found[name] = {
            "robust_accuracy": (predicted == test.y).double().mean().item(),
            "identical": (predicted == reference).double().mean().item(),
        }
    return {"points": len(test.y), "attacks": found}
