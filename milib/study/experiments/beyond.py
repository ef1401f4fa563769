"""What is left of a defense when the attacker knows it: variants under milib's attack."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import torch

from milib import eot, losses
from milib.audit import measure, running
from milib.audit.battery import CLEAN, FAR, Entry, battery, entry
from milib.audit.checklist import Line, checklist
from milib.audit.facts import observed
from milib.defenses import Agreeing, detection_score
from milib.eot import Setting
from milib.rng import Draws
from milib.sampling import log_mean
from milib.shapes import Values
from milib.study.experiments.common import addresses, draws_of, rounded
from milib.study.experiments.matching import matched_row
from milib.study.experiments.variants import Variant, bare, defense_of, mi_ol
from milib.study.study import Study

NUMBERS = (1, 5, 30, 100)
"""N, under the same attack."""


def _target(study: Study, variant: Variant, count: int, split: str) -> measure.Target:
    points, run = study.points(count, split), study.params
    classifier, base = defense_of(study, variant), study.model(variant.row["model"]).scorer
    chosen = (points.x, points.y, points.index)
    return measure.Target(classifier, *chosen, run.epsilon, base, run.seed)


def _keep(study: Study, variant: Variant, count: int, split: str) -> running.Keep:
    """Keeps the battery's records in the study's store."""

    def keep(name: str, identity: dict, compute: Callable[[], dict]) -> dict:
        model, defense = variant.row["model"], variant.row["defense"]
        known = study.identity(model, "draws", variant=variant._asdict(), n=count, split=split)
        what = f"beyond-{model}-{defense}-{variant.name}-{name}".replace(" ", "_")
        images = len(identity["rows"]) * identity["passes"]
        return study.record(what.replace("/", "_"), model, known | identity, compute, images, 3)

    return keep


def attacked(
    study: Study,
    variant: Variant,
    entries: Sequence[Entry],
    count: int | None = None,
    split: str = "test",
) -> dict[str, dict]:
    """Attacks on a variant, by name: records of `audit.measure.scored`, the clean images first.

    - study: the run.
    - variant: which.
    - entries: the attacks.
    - count: how many images; by default the run's n_beyond.
    - split: "test" (default), or "heldout" to choose an attack.
    """
    count = count or study.params.n_beyond
    target = _target(study, variant, count, split)
    wanted = [CLEAN, *entries]
    return running.run(target, wanted, _keep(study, variant, count, split))


# The attacks


def standard(variant: Variant) -> list[Entry]:
    """The study's standard alone; one draw a step where nothing is drawn.

    - variant: that is attacked.
    """
    drawn = variant.row["defense"] != "none" and variant.draws != 1
    return [entry("standard", eot.STANDARD if drawn else replace(eot.STANDARD, samples=1))]


def sweep() -> dict[str, dict[str, Setting]]:
    """The settings behind the standard: what is varied -> value -> setting.

    All but one thing is the standard's.
    """
    base, found = eot.STANDARD, {}
    found["loss"] = {name: replace(base, loss=name) for name in losses.LOSSES}
    found["steps"] = {str(steps): replace(base, steps=steps) for steps in (10, 20, 50, 100, 200)}
    found["samples"] = {str(k): replace(base, samples=k) for k in (1, 2, 5, 10)}
    found["restarts"] = {str(number): replace(base, restarts=number) for number in (1, 3)}
    found["targets"] = {str(number): replace(base, targets=number) for number in (0, 1, 3)}
    found["schedule"] = {
        "constant": replace(base, schedule="constant", size=1 / 16),
        "decaying": base,
        "halving, momentum": replace(base, schedule="halving", size=1.0, momentum=0.25),
        "decaying, momentum": replace(base, momentum=0.25),
    }
    return found


def entry_name(what: str, name: str) -> str:
    """The name of a setting of the sweep among the attacks of `tuned`.

    - what: is varied.
    - name: of its value. The standard is one attack, wherever it stands in the sweep.
    """
    return "standard" if sweep()[what][name] == eot.STANDARD else f"{what}: {name}"


def tuned(study: Study, model: str) -> dict[str, dict]:
    """The sweep on held-out images against a model's MI-OL row, by `entry_name`.

    - study: the run.
    - model: its name.
    """
    entries = {}
    for what, settings in sweep().items():
        for value, setting in settings.items():
            name = entry_name(what, value)
            entries[name] = entry(name, setting)
    wanted = list(entries.values())
    return attacked(study, mi_ol(study, model), wanted, study.params.n_tuned, "heldout")


def curve(study: Study, variant: Variant) -> dict[float, Values]:
    """Per-image accuracy [n] under the standard, by radius on pixels in [0, 1].

    - study: the run.
    - variant: which.
    """
    epsilon, [usual] = study.params.epsilon, standard(variant)
    far = max(FAR, min(1.0, 8 * epsilon)) / epsilon
    shares = [share for share in (0.25, 0.5, 1, 2, 4) if share * epsilon < 1] + [far]
    entries = []
    for share in shares:
        name = "far" if share == far else f"eps {share:g}"
        entries.append(usual if share == 1 else replace(usual, name=name, epsilon=share))
    found = attacked(study, variant, entries)
    clean = found["clean"]
    accuracies = {0.0: measure.accuracy(clean)}
    for share, each in zip(shares, entries, strict=True):
        found_there = measure.worst([clean, found[each.name]])
        accuracies[share * epsilon] = found_there
    return accuracies


def surrogates(study: Study, model: str) -> dict[str, torch.nn.Module]:
    """Other nets, from which examples are transferred: ERM's, and one of another training seed.

    - study: the run.
    - model: that is attacked.
    """
    found = {"ERM": study.model("erm").scorer} if "erm" in study.table_models else {}
    twin = study.twin_model(model)
    return found if twin is None else found | {"another seed": twin}


def audited(study: Study, variant: Variant) -> dict[str, dict]:
    """The whole battery on a variant, by name of the attack; that of its bare model as "base: ...".

    - study: the run; its `battery` is run.
    - variant: which.
    """
    model, count = variant.row["model"], study.params.n_beyond
    target = _target(study, variant, count, "test")
    entries = battery(target, study.params.battery == "full", surrogates(study, model))
    entries = [each for each in entries if not each.of_base]
    found = running.run(target, entries, _keep(study, variant, count, "test"))
    if variant.row["defense"] == "none":
        return found
    base = audited(study, bare(model))
    return found | {f"base: {name}": base[name] for name in measure.named_within(base)}


def checked(study: Study, variant: Variant, records: dict[str, dict]) -> list[Line]:
    """The checklist for a variant.

    - study: the run, one training seed.
    - variant: which.
    - records: of `audited`.
    """
    target = _target(study, variant, study.params.n_beyond, "test")
    return checklist(records, observed(target, seeds=1))


# N, and detection


def by_number(study: Study, model: str) -> dict[int, dict]:
    """MI-OL's accuracy with other N, on examples made as "standard" makes them, of every image.

    - study: the run.
    - model: its name.

    Returns N -> a record of `measure.scored`.
    """
    run, variant = study.params, mi_ol(study, model)

    def compute() -> dict:
        target = _target(study, variant, run.n_beyond, "test")
        draws = Draws(run.seed, "audit", "attack", "standard")  # as the battery has it
        options = {"epsilon": run.epsilon, "draws": draws, "index": target.index}
        examples = eot.attack(target.classifier, target.x, target.label, **options)
        found = {}
        for number in NUMBERS:
            classifier = defense_of(study, variant._replace(draws=number))
            scoring = replace(target, classifier=classifier)
            found[str(number)] = measure.scored(scoring, examples)
        return found

    identity = study.identity(model, "draws", row=variant.row, n=run.n_beyond, numbers=NUMBERS)
    identity |= {"setting": asdict(eot.STANDARD), "epsilon": run.epsilon}
    images = run.n_beyond * (3 * eot.STANDARD.passes + sum(NUMBERS) * measure.SETS)
    found = study.record(f"numbers-{model}", model, identity, compute, images)
    return {int(number): record for number, record in found.items()}


def evaded(study: Study, model: str) -> dict:
    """MI-PL as a detector, and MI-Combined, when the attacker evades the detector too.

    - study: the run.
    - model: its name.

    The examples make the bare prediction and MI-PL's wrong at once (`defenses.Agreeing`). Returns
    detection scores and bare predictions for "clean", "standard" (an attack on the bare model
    alone) and "evading", and under "combined" what MI-Combined makes of each.
    """
    run = study.params
    ratio = run.row(model, "mi_pl")["ratio"]
    combined = next((row for row in run.rows if row["defense"] == "mi_combined"), None)
    if combined is not None:
        combined = matched_row(study, combined | {"model": model})["row"]

    def compute() -> dict:
        points, net = study.points(run.n_beyond), study.model(model).scorer
        pl = study.defense({"model": model, "defense": "mi_pl", "ratio": ratio})
        both = Agreeing(net, study.pool, "pl", ratio, draws=run.draws, chunk=run.chunk)
        made = {"clean": points.x}
        alone = replace(eot.STANDARD, samples=1)
        for name, classifier, setting in (
            ("standard", net, alone),
            ("evading", both, eot.STANDARD),
        ):
            draws = Draws(run.seed, "detector", name)
            options = {"epsilon": run.epsilon, "draws": draws, "index": points.index}
            made[name] = eot.attack(classifier, points.x, points.y, setting=setting, **options)
        found = addresses(points) | {"ratio": ratio, "attacks": {}, "combined": {}}
        for name, x in made.items():
            base = log_mean(net, x, points.index, Draws("bare"))
            mixed = log_mean(pl, x, points.index, draws_of(study, "detect"))
            scores = rounded(detection_score(base, mixed), 6)
            found["attacks"][name] = {"scores": scores, "predictions": base.argmax(1).tolist()}
            if combined is not None:
                target = _target(study, Variant("row", combined), run.n_beyond, "test")
                found["combined"][name] = measure.scored(target, x)
        return found

    identity = study.identity(model, "draws", ratio=ratio, n=run.n_beyond, combined=combined)
    identity |= {"setting": asdict(eot.STANDARD), "epsilon": run.epsilon}
    images = run.n_beyond * 3 * 2 * eot.STANDARD.passes
    return study.record(f"evaded-{model}", model, identity, compute, images)
