"""Tables of notebook 08: what is left of a defense when the attacker knows it.

Under an attack (`under`) an image keeps its clean input where that is the worse of the two.
`audits` are a variant's key -> name of an attack -> record of `audit.measure.scored`; `variants`
have such keys.
"""

import numpy as np
import pandas as pd

from milib import eot, statistics
from milib.audit import measure
from milib.audit.checklist import Line
from milib.audit.paired import POINT
from milib.shapes import Values
from milib.study.experiments import beyond
from milib.study.experiments.variants import Variant, mi_ol
from milib.study.rows import NAMES, parameters, row_name
from milib.study.study import Study
from milib.views.frames import rounded, table_of, with_interval

MAIN = {
    "clean": "clean",
    "oblivious": "oblivious PGD-10",
    "paper": "the paper's adaptive attack",
    "standard": "standard",
    "worst case": "worst case",
}
"""The attacks of the first table, and their heads."""
ATTACKED = {"standard": "on the bare model", "evading": "on bare model and MI-PL"}
"""The attacks of `experiments.beyond.evaded`, and their names."""
UNKNOWN = (np.nan, np.nan, np.nan)
"""The interval of what was not measured."""
BLACK_BOX = ("transfer", "noise", "Square", "HopSkipJump", "DeepFool", "AutoAttack")
"""What the names begin with of black-box attacks and of those of libraries."""


def name_of(variant: Variant) -> str:
    """What a variant is called: a row's name, or the control's beside its model.

    - variant: which.
    """
    if variant.name == "row":
        return row_name(variant.row)
    return f"{NAMES[variant.row['model']]} + {variant.name}"


def under(records: dict[str, dict], attack: str) -> Values:
    """Per-image accuracy [n] under an attack, or "worst case": the worst of all within epsilon.

    - records: of one variant, by attack.
    - attack: its name.
    """
    if attack == "worst case":
        return measure.worst(measure.within(records))
    return measure.worst([records["clean"], records[attack]])


def left(variants: dict[str, Variant], audits: dict[str, dict[str, dict]]) -> pd.DataFrame:
    """Accuracy under attacks that know more and more, by variant.

    - variants, audits: see this module's head.
    """
    lines = []
    for key, records in audits.items():
        line: dict = {"row": name_of(variants[key]), "parameters": parameters(variants[key].row)}
        for attack, head in MAIN.items():
            interval = UNKNOWN
            if attack in records or attack == "worst case":
                interval = statistics.interval(under(records, attack))
            line |= with_interval(head, interval)
        lines.append(line)
    return table_of(lines, "row", "parameters")


def inside(records: dict[str, dict], epsilon: float) -> bool:
    """Whether every attack of the worst case stayed in the ball and in [0, 1].

    - records: of one variant, by attack.
    - epsilon: on pixels in [0, 1].
    """
    found = measure.within(records)
    return all(each["inside"] and each["distance"] <= epsilon + 1e-6 for each in found)


def means(records: dict[str, dict], *attacks: str) -> list[float]:
    """Mean accuracy in [0, 1] under each attack.

    - records: of one variant, by attack.
    - attacks: their names.
    """
    return [float(under(records, attack).mean()) for attack in attacks]


def gains(audits: dict[str, dict[str, dict]], pairs: dict[str, tuple[str, str]]) -> pd.DataFrame:
    """What a defense keeps more than another variant under the same attack, paired by image.

    - audits: see this module's head.
    - pairs: what is compared -> the defended variant and the other one.

    In points. A bare model's "paper's attack" is the oblivious one.
    """
    lines = []
    for what, (defended, other) in pairs.items():
        line: dict = {"comparison": what}
        bare = not any(name.startswith("base: ") for name in audits[other])
        for attack, head in MAIN.items():
            counterpart = "oblivious" if attack == "paper" and bare else attack
            interval = UNKNOWN
            met = ("worst case", *audits[defended].keys() & audits[other].keys())
            if counterpart in met and attack in ("worst case", *audits[defended]):
                gain = under(audits[defended], attack) - under(audits[other], counterpart)
                interval = statistics.mean_interval(gain)
            line |= with_interval(f"{head}, points", interval)
        lines.append(line)
    return table_of(lines, "comparison")


def battery(records: dict[str, dict]) -> pd.DataFrame:
    """What each attack of the battery leaves of the images that it met, and what it broke first.

    - records: of one variant, by attack.

    "broken first": images that it broke and no attack above it did. Attacks at other radii, and on
    frozen draws, have no part in the worst case and no such count.
    """
    lines = []
    for attack, record in records.items():
        if attack.startswith("base: "):
            continue
        line: dict = {"attack": attack, "passes": record["passes"], "images": len(record["index"])}
        interval = UNKNOWN
        if record["index"]:
            interval = statistics.interval(measure.accuracy(record))
        line |= with_interval("accuracy on them", interval)
        line["broken first"] = str(measure.broken(records, attack)) if record["counts"] else "-"
        lines.append(line | {"note": record["note"]})
    return table_of(lines, "attack")


def stronger(records: dict[str, dict]) -> list[str]:
    """Settings of the sweep that cost more than the standard and leave less, measurably.

    - records: of `experiments.beyond.tuned`.

    Measurably: a point less at least, and the 95 % interval excludes 0.
    """
    found, chosen = [], measure.worst([records["clean"], records["standard"]])
    for what, settings in beyond.sweep().items():
        for name, setting in settings.items():
            record = records[beyond.entry_name(what, name)]
            values = measure.worst([records["clean"], record])
            mean, low, _ = statistics.mean_interval(chosen - values)
            if setting.passes > eot.STANDARD.passes and mean >= POINT and low > 0:
                found.append(f"{what} {name}")
    return found


def sweep(records: dict[str, dict]) -> pd.DataFrame:
    """The sweep behind the standard: accuracy, what it differs from the standard, and its cost.

    - records: of `experiments.beyond.tuned`.

    A positive difference says that the setting leaves less than the standard does.
    """
    lines, chosen = [], measure.worst([records["clean"], records["standard"]])
    for what, settings in beyond.sweep().items():
        for name, setting in settings.items():
            record = records[beyond.entry_name(what, name)]
            values = measure.worst([records["clean"], record])
            line: dict = {"varied": what, "parameters": name, "passes": setting.passes}
            line |= with_interval("accuracy", statistics.interval(values))
            if setting != eot.STANDARD:
                beaten = statistics.mean_interval(chosen - values)
                line |= with_interval("standard minus this, points", beaten)
            lines.append(line)
    return table_of(lines, "varied", "parameters")


def rows(study: Study, variants: list[Variant], records: list[dict[str, dict]]) -> pd.DataFrame:
    """Variants under the standard, and what MI-OL on the same model keeps more, paired by image.

    - study: the run, which tells what MI-OL's row is.
    - variants: which, MI-OL's row among them. Of two that differ by their names alone (a control
      whose accuracy is nearest at the ratio that it has) the first is shown.
    - records: of each, by attack.
    """
    lines, named = [], dict(zip(map(str, variants), records, strict=True))
    shown: list[Variant] = []
    for variant, found in zip(variants, records, strict=True):
        if (unnamed := variant._replace(name="")) in shown:
            continue
        shown.append(unnamed)
        line: dict = {"row": name_of(variant), "parameters": parameters(variant.row)}
        for attack in ("clean", "standard"):
            line |= with_interval(attack, statistics.interval(under(found, attack)))
        its = named.get(str(mi_ol(study, variant.row["model"])))
        if its is not None and its is not found:
            more = under(its, "standard") - under(found, "standard")
            line |= with_interval("MI-OL minus this, points", statistics.mean_interval(more))
        lines.append(line)
    return table_of(lines, "row", "parameters")


def numbers(records: dict[str, dict[int, dict]]) -> pd.DataFrame:
    """MI-OL with other N, on the same attacked images.

    - records: model -> N -> a record of `measure.scored`.
    """
    lines = []
    for model, by_number in records.items():
        line: dict = {"model": NAMES[model]}
        for number, record in by_number.items():
            interval = statistics.interval(measure.accuracy(record))
            line |= with_interval(f"N = {number}", interval)
        lines.append(line)
    return table_of(lines, "model")


def evading(records: dict[str, dict]) -> pd.DataFrame:
    """MI-PL as a detector under attacks that do not know it, and that evade it.

    - records: model -> a record of `experiments.beyond.evaded`.

    AUC, and the percentage found at 5 % false positives, are over all images. "wrong and passed":
    the share of all images whose bare prediction is wrong and that the detector lets pass at that
    threshold.
    """
    lines = []
    for model, record in records.items():
        labels = np.array(record["labels"])
        clean = np.array(record["attacks"]["clean"]["scores"])
        threshold = np.quantile(clean, 0.95)
        for attack, title in ATTACKED.items():
            scores = np.array(record["attacks"][attack]["scores"])
            wrong = np.array(record["attacks"][attack]["predictions"]) != labels
            missed = (wrong & (scores <= threshold)).astype(float)
            line: dict = {"model": NAMES[model], "attack": title}
            line["AUC"] = rounded(statistics.auc(clean, scores), 3)
            line["found at 5 % FPR, %"] = rounded(100 * statistics.detected_at(clean, scores))
            line |= with_interval("wrong and passed", statistics.interval(missed))
            if record["combined"]:
                combined = [record["combined"][name] for name in ("clean", attack)]
                accuracy = statistics.interval(measure.worst(combined))
                line |= with_interval("MI-Combined, accuracy", accuracy)
            lines.append(line)
    return table_of(lines, "model", "attack")


def aucs(record: dict) -> dict[str, float]:
    """The AUC of MI-PL as a detector, by attack.

    - record: of `experiments.beyond.evaded`.
    """
    clean, found = np.array(record["attacks"]["clean"]["scores"]), {}
    for attack in ("standard", "evading"):
        scores = np.array(record["attacks"][attack]["scores"])
        found[attack] = statistics.auc(clean, scores)
    return found


def black_box(variants: dict[str, Variant], audits: dict[str, dict[str, dict]]) -> pd.DataFrame:
    """Black-box attacks and those of libraries: on how many images, and what they broke.

    - variants, audits: see this module's head.

    "broken first": images that they broke and no attack before them did. Slow ones are given some
    of those alone.
    """
    lines = []
    for key, records in audits.items():
        for attack in measure.named_within(records):
            if not attack.startswith(BLACK_BOX):
                continue
            record = records[attack]
            line: dict = {
                "row": name_of(variants[key]),
                "attack": attack,
                "images": len(record["index"]),
            }
            if record["index"]:
                values = measure.accuracy(record)
                line |= with_interval("accuracy on them", statistics.interval(values))
            line["broken first"] = measure.broken(records, attack)
            lines.append(line)
    return table_of(lines, "row", "attack")


def checklist(lines: list[Line]) -> pd.DataFrame:
    """The checklist as a table.

    - lines: of `experiments.beyond.checked`.
    """
    found = []
    for line in lines:
        words = {"verdict": line.verdict, "evidence": line.evidence}
        found.append({"item": f"{line.number}. {line.what}"} | words)
    return table_of(found, "item")


def answer(audits: dict[str, dict[str, dict]], judged: list[dict]) -> str:
    """What is left under the worst case, in three sentences.

    - audits: see this module's head; the keys are those of notebook 08.
    - judged: from `claims.judge`.
    """
    told = []
    for model in ("mixup", "interpolated_at"):
        alone, defended = (audits[f"{model} {kind}"] for kind in ("bare", "MI-OL"))
        values = [under(each, "worst case") for each in (alone, defended)]
        gain = statistics.mean_interval(values[1] - values[0])
        bare, kept = (f"{100 * each.mean():.1f} %" for each in values)
        mean, low, high = (f"{100 * each:+z.1f}" for each in gain)
        told.append(
            f"On {NAMES[model]}, MI-OL keeps {kept} under the worst case, the bare model {bare}: "
            f"{mean} points [{low}, {high}]."
        )
    verdicts = {claim["id"]: claim["verdict"] for claim in judged}
    shrinkage, baselines = (
        verdicts[f"mi_ol_keeps_more_than_{n}"] for n in ("shrinkage", "baselines")
    )
    told.append(
        f"The claims that it keeps more there than shrinkage alone under the worst case, and than "
        f"each baseline under the standard: {shrinkage}, {baselines}."
    )
    return "\n".join(told)
