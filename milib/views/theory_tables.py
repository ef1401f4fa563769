"""The tables of notebook 03: the theory on a constructed classifier, and as measured on a model.

Columns are named as `styling` says; numbers are probabilities and differences of probabilities.
"""

import numpy as np
import pandas as pd

from milib import statistics, theory
from milib.constructed import ConstructedClassifier
from milib.views.frames import rounded, table_of

MODES = ("pl", "ol")
PREDICTIONS = ("F(x)", "E F(x~)")


def _title(mode: str) -> str:
    return f"MI-{mode.upper()}"


def _said(value: object) -> str:
    return "yes" if value else "no"


def table1(world: ConstructedClassifier, ratio: float) -> pd.DataFrame:
    """Table 1 in expectation: each entry by its formula and by enumeration.

    - world: the constructed classifier.
    - ratio: lambda.
    """
    lines: dict[tuple[str, str], dict] = {}
    for mode in MODES:
        both = theory.exact(world, mode, ratio)
        for z, name in ((0, "clean"), (1, "adversarial")):
            for component, formulas in both[f"table_{name}"].items():
                enumerated = both[name][component]
                for prediction, *found in zip(PREDICTIONS, formulas, enumerated, strict=True):
                    line = lines.setdefault((component, prediction), {})
                    line |= {"component": component, "prediction": prediction}
                    for way, value in zip(("formula", "enumeration"), found, strict=True):
                        line[f"{_title(mode)}, z = {z}, {way}"] = rounded(value, 4)
    return table_of(list(lines.values()), "component", "prediction")


def ric_exact(world: ConstructedClassifier, ratios: list[float]) -> pd.DataFrame:
    """RIC by Eq. 10 from the enumeration and by the thresholds of Eq. 12/15 from G.

    - world: the constructed classifier.
    - ratios: values of lambda, a row each.
    """
    lines = []
    for mode in MODES:
        for ratio in ratios:
            both = theory.exact(world, mode, ratio)
            delta = {k: theory.delta_F(*pair) for k, pair in both["adversarial"].items()}
            distance = [g - mixed for g, mixed in zip(both["g"], both["mixed"], strict=True)]
            limit = theory.ric_thresholds(mode, ratio, world.classes)
            by_threshold = distance[0] < limit[0] and distance[1] > limit[1]
            line: dict = {"mode": _title(mode), "lambda": ratio}
            line |= {f"Delta F_{k}": rounded(value, 3) for k, value in delta.items()}
            line |= {"D_y": rounded(distance[0], 3), "D_yhat": rounded(distance[1], 3)}
            line["RIC (Eq. 10)"] = _said(theory.ric(delta["y"], delta["yhat"]))
            line["RIC (Eq. 12/15)"] = _said(by_threshold)
            line["decision right"] = _said(both["right"])
            lines.append(line)
    return pd.DataFrame(lines)


def mechanisms_exact(worlds: dict[str, ConstructedClassifier], ratio: float) -> pd.DataFrame:
    """Eq. 13 at both components: input transfer, perturbation shrinkage, and their sum.

    - worlds: name -> constructed classifier.
    - ratio: lambda.
    """
    lines = []
    for name, world in worlds.items():
        both = theory.exact(world, "ol", ratio)
        for component, position in (("y", 0), ("yhat", 1)):
            terms = (both[part][position] for part in ("g", "transferred", "mixed"))
            transfer, shrinkage = theory.mechanisms(*terms)
            line: dict = {"G with": name, "component": component}
            line["input transfer"] = rounded(transfer, 4)
            line["perturbation shrinkage"] = rounded(shrinkage, 4)
            line["D"] = rounded(transfer + shrinkage, 4)
            lines.append(line)
    return table_of(lines, "G with", "component")


def gap_exact(world: ConstructedClassifier, ratios: list[float]) -> pd.DataFrame:
    """DG enumerated as E[s | z=1] - E[s | z=0], by Eq. 14/16, and by Eq. 11 as printed.

    - world: the constructed classifier.
    - ratios: values of lambda, a row each.
    """
    lines = []
    for mode in MODES:
        for ratio in ratios:
            both = theory.exact(world, mode, ratio)
            clean, attacked = (theory.delta_F(*both[z]["yhat"]) for z in ("clean", "adversarial"))
            formula = theory.detection_gap(ratio, both["g"][1], both["mixed"][1])
            line: dict = {"mode": _title(mode), "lambda": ratio}
            line["DG enumerated"] = rounded(clean - attacked, 4)
            line["Eq. 14/16"] = rounded(formula, 4)
            line["Eq. 11 as printed"] = rounded(attacked - clean, 4)
            lines.append(line)
    return pd.DataFrame(lines)


def ideal_clean_accuracy(cases: list[tuple[int, int]], ratios: list[float]) -> pd.DataFrame:
    """theory.ideal_clean_accuracy in percent, and the limit of Eq. 17.

    - cases: pairs (L, N), a column each.
    - ratios: values of lambda, a row each.
    """
    lines = []
    for ratio in ratios:
        line: dict = {"lambda": ratio}
        for classes, draws in cases:
            accuracy = theory.ideal_clean_accuracy(ratio, classes, draws)
            line[f"L = {classes}, N = {draws}"] = rounded(100 * accuracy)
        for classes in dict.fromkeys(classes for classes, _ in cases):
            limit = "100" if ratio > 1 / classes else "tie or wrong"
            line[f"L = {classes}, N to infinity"] = limit
        lines.append(line)
    return pd.DataFrame(lines)


def ric_agreement(values: dict[tuple[str, float], dict], classes: int) -> float:
    """The share of images, modes and ratios on which RIC by Eq. 10 and by Eq. 12/15 agree.

    - values: (mode, ratio) -> theory.measured.
    - classes: L.

    D_k is that of reading A. Left out are ties within 1e-5 and images whose prediction is right, as
    the thresholds are those of z = 1.
    """
    agree = []
    for (mode, ratio), v in values.items():
        limit = theory.ric_thresholds(mode, ratio, classes)
        clear = (np.abs(v["delta_y"]) > 1e-5) & (np.abs(v["delta_yhat"]) > 1e-5)
        by_threshold = (v["D_y"] < limit[0]) & (v["D_yhat"] > limit[1])
        wrong = v["F_y"] < v["F_yhat"]
        agree.append((theory.ric(v["delta_y"], v["delta_yhat"]) == by_threshold)[clear & wrong])
    return float(np.concatenate(agree).mean())


def measured_theory(values: dict[str, dict], ratio: dict[str, float], classes: int) -> pd.DataFrame:
    """Eq. 9-16 as measured: a row per quantity, a column per mode and set of images.

    - values: mode -> theory.measured.
    - ratio: mode -> lambda.
    - classes: L.

    The sets are the images that satisfy Eq. 2, and all. A set without images has empty cells.
    """
    lines: dict[str, dict] = {}
    heads: list[str] = []
    for mode, found in values.items():
        limit = theory.ric_thresholds(mode, ratio[mode], classes)
        for which, mask in (("Eq. 2", found["eq2"]), ("all", np.ones_like(found["eq2"]))):
            column = f"{_title(mode)}, {which}"
            names = [column, f"{column} low", f"{column} high"]
            heads += names
            if mask.any():
                for quantity, cells in _measured(found, mask, limit).items():
                    line = lines.setdefault(quantity, {"quantity": quantity})
                    line |= dict(zip(names, cells, strict=True))
    return table_of(list(lines.values()), "quantity").reindex(columns=heads)


MEANS = {"Delta F_y": "delta_y", "Delta F_yhat": "delta_yhat"}
MEANS |= {f"{part}, y": f"{part}_y" for part in ("transfer", "shrinkage")}
MEANS |= {f"{part}, yhat": f"{part}_yhat" for part in ("transfer", "shrinkage")}
MEANS |= {"score s, clean": "score_0", "score s, adversarial": "score_1"}
"""Quantities whose means have intervals, and their keys in theory.measured."""


def _measured(
    found: dict[str, np.ndarray], mask: np.ndarray, limit: tuple[float, float]
) -> dict[str, tuple[float, float, float]]:
    """Quantity -> value and interval over the images of a mask; NaN where there is none."""
    v = {key: value[mask] for key, value in found.items()}
    holds = np.asarray(theory.ric(v["delta_y"], v["delta_yhat"]))
    ideal_b = (v["D_B_y"] < limit[0]) & (v["D_B_yhat"] > limit[1])
    exact_b = (v["D_B_y"] < v["limit_B_y"]) & (v["D_B_yhat"] > v["limit_B_yhat"])
    shares = {
        "RIC holds, %": holds,
        "MI decides y, %": v["right"],
        "RIC and the decision agree, %": holds == v["right"],
        "G_yhat(delta; x~0) > 0, %": v["g_yhat"] - v["transfer_yhat"] > 0,
        "G_y(delta; x~0) < 0, %": v["g_y"] - v["transfer_y"] < 0,
        "reading B, ideal thresholds, disagrees with RIC, %": ideal_b != holds,
        "reading B, measured thresholds, disagrees with RIC, %": exact_b != holds,
    }
    cells = {"images": (float(mask.sum()), np.nan, np.nan)}
    for quantity, key in MEANS.items():
        mean, low, high = statistics.mean_interval(v[key])
        cells[quantity] = (rounded(mean, 3), rounded(low, 3), rounded(high, 3))
    gap = v["score_1"].mean() - v["score_0"].mean()
    cells["DG (Eq. 14/16)"] = (rounded(gap, 3), np.nan, np.nan)
    for quantity, share in shares.items():
        cells[quantity] = (rounded(100 * share.mean()), np.nan, np.nan)
    return cells
