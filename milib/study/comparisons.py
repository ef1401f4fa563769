"""What claims compare: the statistics that params/claims.yaml names, with its `of` as arguments.

`evidence` is what a notebook has measured. Each notebook gives the parts that its claims need:

- "linearity": {model: record}
- "scores": {(model, defense): record}
- "components": {mode: (record, ratio)}
- "detection": {model: record}
- "tradeoff": {(model, defense): record}
- "attacked": {(model, defense or control, "standard" or "worst case"): per-image accuracy}
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from milib import checks, statistics, theory
from milib.defenses import DEFENSES
from milib.errors import UserError
from milib.shapes import Values
from milib.study.rows import (
    BASELINES,
    MI,
    NAMES,
    PRIMARY,
    accuracy,
    by_setting,
    detector_scores,
    parameters,
    row_name,
)

MOST = 1e300
"""Beyond any difference: of a comparison's numbers it is asked that they are finite."""
ALLOWED = 0.01
"""By so much clean accuracy may an MI setting lie below the baseline that it dominates."""


@dataclass(frozen=True)
class Comparison:
    """One difference that a claim says is positive.

    - label: what is compared.
    - mean: over images.
    - low, high: its 95 % interval.

    Raises UserError for NaN or inf: nothing is claimed of these.
    """

    label: str
    mean: float
    low: float
    high: float

    def __post_init__(self) -> None:
        for name in ("mean", "low", "high"):
            checks.number(f"{self.label}: {name}", getattr(self, name), -MOST, MOST)


class NotMeasuredError(Exception):
    """A run has no such model or row, as Table 3 has no ERM: its claims are not decided."""


def _compare(label: str, values: Values) -> Comparison:
    return Comparison(label, *statistics.mean_interval(values))


def _named(row: Sequence[str]) -> str:
    model, defense = row
    if defense not in DEFENSES:
        return f"{NAMES[model]} + {defense.replace('_', ' ')}"
    return row_name({"model": model, "defense": defense})


def _part(evidence: dict, kind: str, key: Hashable) -> Any:
    """What was measured of a model or row. Raises NotMeasuredError where nothing was."""
    if kind not in evidence:
        raise UserError(f"evidence has no {kind!r}: a claim of this notebook needs it")
    if key not in evidence[kind]:
        raise NotMeasuredError(key)
    return evidence[kind][key]


def _accuracy(evidence: dict, row: Sequence[str], column: str = PRIMARY) -> Values:
    record = _part(evidence, "scores", tuple(row))
    if column not in record["cells"]:
        raise NotMeasuredError(column)
    return accuracy(record, column)


def more_linear(evidence: dict, model: str, than: str) -> list[Comparison]:
    """Total variation from linearity (Eq. 3), relative: (than - model) / mean(than).

    - evidence: its "linearity".
    - model, than: names of models.
    """
    first, second = (
        np.array(_part(evidence, "linearity", name)["prediction"]).mean(1) for name in (model, than)
    )
    if not second.mean():
        raise UserError(f"{NAMES[than]} is exactly linear: nothing is relative to that")
    return [_compare(f"{NAMES[model]} against {NAMES[than]}", (second - first) / second.mean())]


def beats(
    evidence: dict, row: list[str], others: list[list[str]], column: str = PRIMARY
) -> list[Comparison]:
    """Accuracy of a table row minus that of each other row, paired by image.

    - evidence: its "scores".
    - row: [model, defense].
    - others: of the same form.
    - column: of the table, by default untargeted PGD-10.
    """
    own, found = _accuracy(evidence, row, column), []
    for other in others:
        label = f"{_named(row)} - {_named(other)}"
        found.append(_compare(label, own - _accuracy(evidence, other, column)))
    return found


def gains_more(evidence: dict, pairs: list[list[str]]) -> list[Comparison]:
    """(MI-OL - bare) on one model minus (MI-OL - bare) on another, under untargeted PGD-10.

    - evidence: its "scores".
    - pairs: [one, another].
    """

    def gain(model: str) -> Values:
        return _accuracy(evidence, [model, "mi_ol"]) - _accuracy(evidence, [model, "none"])

    found = []
    for one, another in pairs:
        label = f"gain on {NAMES[one]} - gain on {NAMES[another]}"
        found.append(_compare(label, gain(one) - gain(another)))
    return found


def ric(evidence: dict, mode: str) -> list[Comparison]:
    """Delta F_y and -Delta F_yhat (Eq. 10) on the examples that satisfy Eq. 2; none: no comparison.

    - evidence: its "components".
    - mode: "pl" or "ol".
    """
    record, ratio = _part(evidence, "components", mode)
    values = theory.measured(record, mode, ratio)
    chosen = values["eq2"]
    if not chosen.any():
        return []
    return [
        _compare("Delta F_y", values["delta_y"][chosen]),
        _compare("-Delta F_yhat", -values["delta_yhat"][chosen]),
    ]


def _auc_comparison(label: str, mean: float, samples: np.ndarray) -> Comparison:
    low, high = np.quantile(samples, (0.025, 0.975))
    return Comparison(label, mean, float(low), float(high))


def detects_better(evidence: dict, detector: str, than: str, models: list[str]) -> list[Comparison]:
    """AUC of one detector minus that of another on the same images.

    - evidence: its "detection".
    - detector, than: "mi_pl", "mi_ol" or "confidence".
    - models: one comparison each.
    """
    found = []
    for model in models:
        record = _part(evidence, "detection", model)
        first, second = detector_scores(record, detector), detector_scores(record, than)
        label = f"{NAMES[detector]} - {NAMES[than]} on {NAMES[model]}"
        mean = statistics.auc(*first) - statistics.auc(*second)
        samples = statistics.auc_samples(*first) - statistics.auc_samples(*second)
        found.append(_auc_comparison(label, mean, samples))
    return found


def below_one_half(evidence: dict, detector: str, models: list[str]) -> list[Comparison]:
    """One half minus the AUC of a detector.

    - evidence: its "detection".
    - detector: "mi_pl", "mi_ol" or "confidence".
    - models: one comparison each.
    """
    found = []
    for model in models:
        scores = detector_scores(_part(evidence, "detection", model), detector)
        label = f"1/2 - {NAMES[detector]} on {NAMES[model]}"
        samples = 0.5 - statistics.auc_samples(*scores)
        found.append(_auc_comparison(label, 0.5 - statistics.auc(*scores), samples))
    return found


def dominates(evidence: dict, model: str) -> list[Comparison]:
    """For each baseline setting: the most robust MI setting that is as clean, minus that setting.

    - evidence: its "tradeoff".
    - model: its name.

    As clean: at most ALLOWED below. Where no MI setting is, the difference is -1.
    """
    baselines, mixed = [], []
    for (name, defense), record in evidence["tradeoff"].items():
        if name != model:
            continue
        for setting, (clean, robust) in zip(record["settings"], by_setting(record), strict=True):
            if defense in BASELINES:
                label = f"{NAMES[defense]} ({parameters(setting)})"
                baselines.append((label, clean, robust))
            elif defense in MI:
                mixed.append((clean, robust))
    found = []
    for label, clean, robust in baselines:
        least = clean.mean() - ALLOWED
        able = [its_robust for its_clean, its_robust in mixed if its_clean.mean() >= least]
        if able:
            found.append(_compare(f"MI - {label}", max(able, key=np.mean) - robust))
        else:
            nobody = f"no MI setting is as clean as {label}"
            found.append(_compare(nobody, np.full(len(robust), -1.0)))
    return found


def keeps_more(
    evidence: dict, row: list[str], others: list[list[str]], under: str
) -> list[Comparison]:
    """Accuracy of a defense minus that of each other one, each under an attack that knows it.

    - evidence: its "attacked".
    - row: [model, defense].
    - others: of the same form; controls of 08 among them.
    - under: "standard" or "worst case".
    """
    found, own = [], np.array(_part(evidence, "attacked", (*row, under)))
    for other in others:
        label = f"{_named(row)} - {_named(other)}, {under}"
        found.append(_compare(label, own - np.array(_part(evidence, "attacked", (*other, under)))))
    return found


STATISTICS: dict[str, Callable[..., list[Comparison]]] = {
    "more_linear": more_linear,
    "beats": beats,
    "gains_more": gains_more,
    "ric": ric,
    "detects_better": detects_better,
    "below_one_half": below_one_half,
    "dominates": dominates,
    "keeps_more": keeps_more,
}
