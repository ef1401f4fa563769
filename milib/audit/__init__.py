"""The evaluation of a defense as a tool: a battery of attacks, and a checklist."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from milib import checks, eot
from milib.audit import battery
from milib.audit.facts import observed
from milib.audit.kept import Kept
from milib.audit.libraries import library
from milib.audit.measure import Target
from milib.averaging import Defense, Undefended
from milib.errors import UserError
from milib.rng import Draws

if TYPE_CHECKING:
    from milib.audit.result import Audit

__all__ = ["audit"]


@torch.inference_mode(False)
def audit(
    defense: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epsilon: float,
    base: nn.Module | None = None,
    surrogates: Mapping[str, nn.Module] | None = None,
    full: bool = False,
    index: Tensor | None = None,
    seed: int = 0,
    seeds: int = 1,
    folder: str | Path | None = None,
) -> "Audit":
    """What a battery of attacks leaves of a defense, and the checklist of its evaluation.

    - defense: any module from images [B, C, H, W] in [0, 1] to logits [B, L], in eval mode,
      randomized or not, differentiable in the images.
    - x: clean images [B, C, H, W] in [0, 1].
    - y: true labels [B].
    - epsilon: radius of the ball (l_inf), on pixels in [0, 1], as in 8 / 255.
    - base: the undefended model; by default a Defense's own classifier.
    - surrogates: other models by name, from which examples are transferred; by default none.
    - full: more steps and images; by default what takes minutes for 50 images on a CPU.
    - index: each image's number for its draws [B], no two the same; by default its place.
    - seed: of every draw of attacks and scores, by default 0.
    - seeds: nets trained from different seeds that you evaluate in this way; by default 1.
    - folder: where records are kept, so that an interrupted audit goes on; by default nowhere.

    Progress is told on stderr. Final scores come from ten sets of draws that no attack saw. Raises
    UserError for other input, where the folder has records of another defense, and where the
    packages of `milib[audit]` are missing.
    """
    from milib.audit.checklist import checklist  # here: scipy takes a second to import
    from milib.audit.result import Audit

    draws = Draws(seed, "audit", "check")
    x, y, index = eot.checked(defense, x, y, index, draws)
    x = x.float()
    epsilon = checks.radius("epsilon", epsilon)
    if not len(x) or epsilon == 0:
        raise UserError(f"{len(x)} images, epsilon {epsilon:g}: one image at least, and above 0")
    if len(index.unique()) < len(index):
        raise UserError("index holds a number twice: one of its own for each image")
    checks.instance("full", full, bool)
    seed, seeds = checks.count("seed", seed, 0), checks.count("seeds", seeds)
    if base is None and isinstance(defense, Defense) and not isinstance(defense, Undefended):
        base = defense.classifier
    others = surrogates or {}
    checks.instance("surrogates", others, Mapping)
    where = _folder(folder)
    for name, model in {"defense": defense, "base": base, **others}.items():
        if model is not None:
            checks.instance(name, model, nn.Module)
            _differentiable(name, model, x[:1], y[:1], epsilon)
    for name in ("pyautoattack", "foolbox"):
        library(name)
    target = Target(defense, x, y, index, epsilon, base, seed)
    entries = battery.battery(target, full, others)
    facts = observed(target, seeds)
    records = battery.run(target, entries, Kept(target, entries, where))
    return Audit(type(defense).__name__, records, facts, checklist(records, facts))


def _differentiable(name: str, model: nn.Module, x: Tensor, y: Tensor, epsilon: float) -> None:
    """One step of an attack, before hours of them. Raises UserError."""
    setting = eot.Setting(samples=1, steps=1)
    try:
        eot.attack(model, x, y, epsilon=epsilon, draws=Draws("try"), setting=setting)
    except UserError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:  # of torch, in the model's own code
        why = " ".join(str(error).split())
        raise UserError(f"{name} fails where its gradient is asked: {why}") from None


def _folder(given: object) -> Path | None:
    if given is None or isinstance(given, str | Path):
        return None if given is None else Path(given)
    raise UserError(f"folder is {checks.shown(given)}: where records are kept, or None")
