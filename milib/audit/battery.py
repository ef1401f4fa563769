"""The battery: which attacks a classifier meets, and in which order."""

import dataclasses
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from milib import eot
from milib.adaptive import adaptive_pgd
from milib.audit import libraries
from milib.audit.measure import Make, Target
from milib.audit.noise import noise
from milib.audit.running import HELD, Entry, Keep, frozen, randomized, repeats, run, seen, weights
from milib.averaging import Defense, Undefended
from milib.defenses import MixupInference
from milib.eot import STANDARD, Setting
from milib.rng import Draws

__all__ = ["CLEAN", "FAR", "LATER", "Entry", "Keep", "battery", "entry", "run"]
LATER = Setting("eq24", 15, 50, "constant", 1 / 16)
"""A later evaluation of Mixup Inference: 15 draws, 50 steps of 0.5/255 at 8/255."""
FAR = 64 / 255
"""A radius at which nothing should be left; 8 eps where that is more."""
PART, MORE = 25, 50
"""Images of attacks that change one thing of the standard, in the quick and in the full battery."""
FEW, MANY = 10, 30
"""Images of searches by scores and decisions, in the quick and in the full battery."""


def battery(
    target: Target, full: bool, surrogates: Mapping[str, nn.Module] | None = None
) -> list[Entry]:
    """The attacks on a classifier, in their order: the first is none.

    - target: the classifier and its images.
    - full: more steps and images; else what fits into minutes on a CPU.
    - surrogates: other models by name, from which examples are transferred; by default none.

    A classifier without randomness is attacked with one draw a step, and by AutoAttack's standard.
    An `Undefended` one is its own base: it is attacked as the classifier alone.
    """
    random = randomized(target)
    standard = STANDARD if random else dataclasses.replace(STANDARD, samples=1)
    classes = seen(target.only(torch.arange(1)), 0).shape[1]
    held = repeats(target)
    entries = [CLEAN, *_published(target, random), *_standards(standard, classes, full, random)]
    if random:
        entries += [_held(target, standard, full), _auto_attack(True, full)]
    if held:
        entries.append(_deep_fool(full, random))
    entries += _transfers(target, surrogates or {})
    entries += _without_gradient(full, random, held)
    if not random:  # the whole standard has Square inside
        entries.append(_auto_attack(False, full))
    entries += _radii(target, standard, full)
    if target.base is not None and not _is_bare(target):
        entries += _of_base(target.base, target, full)
    return entries


def _is_bare(target: Target) -> bool:
    """Whether the classifier has no defense, so that its base is the same model again."""
    return isinstance(target.classifier, Undefended)


def entry(name: str, setting: Setting, *lines: int, **more: Any) -> Entry:
    """An attack of `eot` on the target.

    - name: of its record.
    - setting: of the attack.
    - lines: of the checklist that it serves.
    - more: further values of `Entry`.
    """
    return Entry(
        name, _attack(setting), setting.passes, settings=asdict(setting), lines=lines, **more
    )


def _untouched(target: Target, draws: Draws) -> Tensor:
    return target.x


CLEAN = Entry("clean", _untouched, 0, lines=(9,))
"""No attack: the first of every battery."""


def _attack(setting: Setting, source: nn.Module | None = None) -> Make:
    """Examples by `eot.attack`, made on a source where one is given."""

    def make(target: Target, draws: Draws) -> Tensor:
        return eot.attack(
            target.classifier if source is None else source,
            target.x,
            target.label,
            epsilon=target.epsilon,
            draws=draws,
            index=target.index,
            setting=setting,
        )

    return make


def _held(target: Target, standard: Setting, full: bool) -> Entry:
    """The standard on the defense with one set of draws, of which each step takes all."""
    defense = target.classifier
    width = min(HELD, defense.draws) if isinstance(defense, Defense) else 1
    setting = dataclasses.replace(standard, samples=1, steps=100 if full else 50)
    most = MORE if full else PART

    def make(target: Target, draws: Draws) -> Tensor:
        return _attack(setting, frozen(target).classifier)(target, draws)

    return Entry(
        "frozen",
        make,
        width * setting.steps,
        most=most,
        settings=asdict(setting) | {"width": width},
        note=f"one set of draws, {setting.steps} steps, {most} images at most",
        lines=(7,),
    )


def _draws(source: nn.Module) -> int:
    """Draws of a step on a model that need not be randomized."""
    return STANDARD.samples if isinstance(source, Defense) else 1


def _published(target: Target, random: bool) -> list[Entry]:
    """The paper's adaptive attack, and that of a later evaluation."""
    mi, found = target.classifier, []
    known = isinstance(mi, MixupInference) and mi.mode != "any" and mi.fixed is None
    if known and not isinstance(mi.classifier, Defense):
        of = {"variant": "eq24", "samples": 30, "steps": 10, "size": 0.25}
        found.append(Entry("paper", _paper, 300, settings=of, lines=(2,)))
    later = LATER if random else dataclasses.replace(LATER, samples=1)
    return [*found, entry("later", later, 3)]


def _paper(target: Target, draws: Draws) -> Tensor:
    assert isinstance(target.classifier, MixupInference)
    return adaptive_pgd(
        target.classifier,
        target.x,
        target.label,
        target.index,
        draws,
        variant="eq24",
        samples=30,
        epsilon=target.epsilon,
        step_size=target.epsilon / 4,
        steps=10,
    )


def _standards(standard: Setting, classes: int, full: bool, random: bool) -> list[Entry]:
    """The study's standard, and what is changed in it, one thing at a time."""
    most = MORE if full else PART
    cut = {"most": most, "note": f"{most} images at most"}
    targets = Setting(samples=standard.samples, steps=50, targets=5 if full else 3)
    targets = dataclasses.replace(targets, targets=min(targets.targets, classes - 1))
    changed = dataclasses.replace
    halving = changed(standard, schedule="halving", size=1.0, momentum=0.25)
    entries = [
        entry("standard", standard, 4, 8, 10),
        entry("ce", changed(standard, loss="ce"), 4, **cut),
        entry("one step", changed(standard, steps=1, size=1.0, schedule="constant"), 10, **cut),
        entry("twice the steps", changed(standard, steps=2 * standard.steps), 8, **cut),
        entry("restarts", changed(standard, restarts=3), 8, **cut),
        entry("halving", halving, 8, **cut),
    ]
    if classes > 2:
        entries.insert(2, entry("dlr", changed(standard, loss="dlr"), 4, **cut))
    if random:
        more = changed(standard, samples=4 * standard.samples)
        entries.append(entry("4 times K", more, 5, **cut))
    note = f"{targets.targets} targets, {targets.steps} steps"
    return [*entries, entry("targeted", targets, 13, on="left", note=note)]


def _transfers(target: Target, surrogates: Mapping[str, nn.Module]) -> list[Entry]:
    """Examples of other models: the base's, of PGD-10 too, and the surrogates'."""
    sources = {f"transfer from {name}": model for name, model in surrogates.items()}
    entries = []
    if target.base is not None:
        weak = Setting("ce", _draws(target.base), 10, "constant", 0.25)
        entries.append(_transfer("oblivious", weak, target.base, 2, 12))
        if not _is_bare(target):
            sources = {"transfer": target.base} | sources
    for name, source in sources.items():
        setting = dataclasses.replace(STANDARD, samples=_draws(source))
        entries.append(_transfer(name, setting, source, 12))
    return entries


def _transfer(name: str, setting: Setting, source: nn.Module, *lines: int) -> Entry:
    """An attack of `eot` on another model."""
    of = asdict(setting) | {"source": weights(source)}
    return Entry(name, _attack(setting, source), setting.passes, settings=of, lines=lines)


def _auto_attack(random: bool, full: bool) -> Entry:
    """AutoAttack: "rand" of a randomized classifier, else "standard"."""
    steps, repeated = (100, 4) if full else (25, 2)
    draws = libraries.DRAWS * repeated if random else 1
    tries, kind = 2, f"rand, {draws} draws"  # APGD on two losses
    if not random:  # APGD on one, and on 9 targets; then FAB on as many, and Square's queries
        tries = 1 + 9 + (9 + 50 // 3 if full else 0)
        kind = "standard" if full else "standard without FAB and Square"
    return Entry(
        "AutoAttack",
        libraries.auto_attack(random, steps, repeated, full),
        tries * steps * draws,
        on="left",
        most=None if full else FEW,
        settings={"random": random, "steps": steps, "repeats": repeated, "whole": full},
        note=f"{kind}, {steps} steps",
        lines=(6,),
    )


def _deep_fool(full: bool, random: bool) -> Entry:
    """DeepFool with draws held."""
    steps, candidates = (50, 10) if full else (20, 4)
    return Entry(
        "DeepFool",
        libraries.deep_fool(steps, candidates),
        steps * candidates * (libraries.DRAWS if random else 1),
        on="left",
        most=MANY if full else FEW,
        settings={"steps": steps, "candidates": candidates},
        note=f"{steps} steps{', draws held' if random else ''}",
        lines=(8,),
    )


def _without_gradient(full: bool, random: bool, held: bool) -> list[Entry]:
    """Noise, and the attacks that go by scores or decisions, on images that are left."""
    noises, queries, along, tried = (10_000, 2000, 10, 50) if full else (1000, 500, 5, 30)
    draws, most = libraries.DRAWS if random else 1, MANY if full else FEW
    noisy = Entry(
        "noise",
        noise(noises),
        noises // 3,
        on="left",
        most=most,
        settings={"noises": noises},
        note=f"{noises:,} corners",
        lines=(12,),
    )
    searched = Entry(
        "Square",
        libraries.square(queries),
        queries * draws // 3,
        on="left",
        most=most,
        settings={"queries": queries},
        note=f"{queries:,} queries",
        lines=(11,),
    )
    decided = Entry(
        "HopSkipJump",
        libraries.hop_skip_jump(along, tried),
        along * tried * draws,  # decisions: about three times as many
        on="left",
        most=most,
        settings={"steps": along, "evaluations": tried},
        note=f"{along} steps{', draws held' if random else ''}",
        lines=(11,),
    )
    # where draws cannot be held, a search by decisions would not end
    return [noisy, searched, decided] if held else [noisy, searched]


def _radii(target: Target, standard: Setting, full: bool) -> list[Entry]:
    """The standard at other radii."""
    steps, most = (standard.steps, MORE) if full else (25, PART)
    setting = dataclasses.replace(standard, steps=steps)
    far = max(FAR, min(1.0, 8 * target.epsilon)) / target.epsilon
    radii = {"eps 0.5": 0.5, "eps 2": min(2.0, 1 / target.epsilon), "far": far}
    entries = []
    for name, share in radii.items():
        note = f"radius {share * target.epsilon:.3g}, {steps} steps, {most} images at most"
        entries.append(entry(name, setting, 9, epsilon=share, most=most, note=note))
    return entries


def _of_base(base: nn.Module, target: Target, full: bool) -> list[Entry]:
    """The undefended model under the same attack."""
    bare = Target(base, target.x, target.label, target.index, target.epsilon, None, target.seed)
    random = randomized(bare)
    setting = STANDARD if random else dataclasses.replace(STANDARD, samples=1)
    attacks = [CLEAN, entry("standard", setting)]
    if full:
        attacks.append(_auto_attack(random, full))
    known = {"base": weights(base)}
    return [
        dataclasses.replace(
            each, name=f"base: {each.name}", settings=each.settings | known, lines=(14,)
        )
        for each in attacks
    ]
