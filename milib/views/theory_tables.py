"""The tables of notebook 03: the theory on a constructed classifier, and as measured on a model."""

import numpy as np
import pandas as pd

from milib import statistics, theory
from milib.theory import ConstructedClassifier

MODES = ("pl", "ol")


def table1(world: ConstructedClassifier, ratio: float) -> pd.DataFrame:
    """Table 1 in expectation, each entry "formula = enumeration" to four digits."""
    found = {}
    for mode in MODES:
        both = theory.exact(world, mode, ratio)
        for z, name in ((0, "clean"), (1, "adversarial")):
            entries = zip(both[f"table_{name}"].items(), both[name].values(), strict=True)
            column = {
                (k, when): f"{f:.4f} = {e:.4f}"
                for (k, formula), enumeration in entries
                for when, f, e in zip(("F(x)", "E F(x~)"), formula, enumeration, strict=True)
            }
            found[f"MI-{mode.upper()}, z = {z}"] = column
    return pd.DataFrame(found)


def ric_exact(world: ConstructedClassifier, ratios: list[float]) -> pd.DataFrame:
    """RIC by Eq. 10 from the enumeration, and by the thresholds of Eq. 12/15 from G; the decision beside it."""
    found = []
    for mode in MODES:
        for ratio in ratios:
            both = theory.exact(world, mode, ratio)
            delta = {k: theory.delta_F(*pair) for k, pair in both["adversarial"].items()}
            distance = [g - mixed for g, mixed in zip(both["g"], both["mixed"], strict=True)]
            limit = theory.ric_thresholds(mode, ratio, world.classes)
            by_threshold = distance[0] < limit[0] and distance[1] > limit[1]
            row = [
                f"MI-{mode.upper()}",
                ratio,
                *(f"{value + 0:.3f}" for value in (*delta.values(), *distance)),
            ]
            found.append(
                [
                    *row,
                    bool(theory.ric(delta["y"], delta["yhat"])),
                    bool(by_threshold),
                    both["right"],
                ]
            )
    heads = [
        "mode",
        "lambda",
        "Delta F_y",
        "Delta F_yhat",
        "D_y",
        "D_yhat",
        "RIC (Eq. 10)",
        "RIC (Eq. 12/15)",
        "decision right",
    ]
    return pd.DataFrame(found, columns=heads)


def mechanisms_exact(worlds: dict[str, ConstructedClassifier], ratio: float) -> pd.DataFrame:
    """Eq. 13 at both components: input transfer, perturbation shrinkage, and their sum."""
    found = []
    for name, world in worlds.items():
        both = theory.exact(world, "ol", ratio)
        for k, position in (("y", 0), ("yhat", 1)):
            parts = theory.mechanisms(
                *(both[part][position] for part in ("g", "transferred", "mixed"))
            )
            found.append([name, k, *(f"{value + 0:.4f}" for value in (*parts, sum(parts)))])
    return pd.DataFrame(
        found, columns=["G with", "component", "input transfer", "perturbation shrinkage", "D"]
    ).set_index(["G with", "component"])


def gap_exact(world: ConstructedClassifier, ratios: list[float]) -> pd.DataFrame:
    """DG enumerated as E[s | z=1] - E[s | z=0], by Eq. 14/16, and by Eq. 11 as printed."""
    found = []
    for mode in MODES:
        for ratio in ratios:
            both = theory.exact(world, mode, ratio)
            delta = {z: theory.delta_F(*both[z]["yhat"]) for z in ("adversarial", "clean")}
            formula = theory.detection_gap(ratio, both["g"][1], both["mixed"][1])
            enumeration = delta["clean"] - delta["adversarial"]
            found.append(
                [
                    f"MI-{mode.upper()}",
                    ratio,
                    *(f"{value + 0:.4f}" for value in (enumeration, formula, -enumeration)),
                ]
            )
    return pd.DataFrame(
        found, columns=["mode", "lambda", "DG enumerated", "Eq. 14/16", "Eq. 11 as printed"]
    )


def ideal_clean_accuracy(cases: list[tuple[int, int]], ratios: list[float]) -> pd.DataFrame:
    """theory.ideal_clean_accuracy in percent for (L, N) cases, and the limit of Eq. 17."""
    found = {
        f"L = {classes}, N = {draws}": [
            100 * theory.ideal_clean_accuracy(ratio, classes, draws) for ratio in ratios
        ]
        for classes, draws in cases
    }
    frame = pd.DataFrame(found, index=pd.Index(ratios, name="lambda")).map(
        lambda value: f"{value:.1f}"
    )
    for classes in dict.fromkeys(classes for classes, _ in cases):
        frame[f"L = {classes}, N to infinity"] = [
            "100" if ratio > 1 / classes else "tie or wrong" for ratio in ratios
        ]
    return frame


def ric_agreement(values: dict[tuple[str, float], dict], classes: int) -> float:
    """The share of images, over modes and ratios, on which RIC by Eq. 10 and by Eq. 12/15 (reading A) agree, ties within 1e-5 aside."""
    agree = []
    for (mode, ratio), v in values.items():
        limit = theory.ric_thresholds(mode, ratio, classes)
        clear = (np.abs(v["delta_y"]) > 1e-5) & (np.abs(v["delta_yhat"]) > 1e-5)
        by_threshold = (v["D_y"] < limit[0]) & (v["D_yhat"] > limit[1])
        wrong = v["F_y"] < v["F_yhat"]  # the thresholds are those of z = 1
        agree.append((theory.ric(v["delta_y"], v["delta_yhat"]) == by_threshold)[clear & wrong])
    return float(np.concatenate(agree).mean())


def measured_theory(values: dict[str, dict], ratio: dict[str, float], classes: int) -> pd.DataFrame:
    """Eq. 9-16 as measured, per mode, over the images that satisfy Eq. 2 and over all: means with 95 % intervals, and shares."""
    found = {}
    for mode, v in values.items():
        for which, mask in (("Eq. 2", v["eq2"]), ("all", np.ones_like(v["eq2"]))):
            found[f"MI-{mode.upper()}, {which}"] = (
                _measured(v, mask, theory.ric_thresholds(mode, ratio[mode], classes))
                if mask.any()
                else {}
            )
    return pd.DataFrame(found)


def _measured(v: dict, mask: np.ndarray, limit: tuple[float, float]) -> dict[str, str]:
    v = {key: value[mask] for key, value in v.items()}
    holds = theory.ric(v["delta_y"], v["delta_yhat"])
    ideal_b = (v["D_B_y"] < limit[0]) & (v["D_B_yhat"] > limit[1])
    exact_b = (v["D_B_y"] < v["limit_B_y"]) & (v["D_B_yhat"] > v["limit_B_yhat"])
    means = {"Delta F_y": "delta_y", "Delta F_yhat": "delta_yhat"}
    means |= {
        f"{part}, {k}": f"{part}_{k}" for k in ("y", "yhat") for part in ("transfer", "shrinkage")
    }
    means |= {"score s, clean": "score_0", "score s, adversarial": "score_1"}
    shares = {
        "RIC holds": holds,
        "MI decides y": v["right"],
        "RIC and the decision agree": holds == v["right"],
        "G_yhat(delta; x~0) > 0": v["g_yhat"] - v["transfer_yhat"] > 0,
        "G_y(delta; x~0) < 0": v["g_y"] - v["transfer_y"] < 0,
        "reading B, ideal thresholds, disagrees with RIC": ideal_b != holds,
        "reading B, measured thresholds, disagrees with RIC": exact_b != holds,
    }
    found = {"images": str(len(holds))} | {
        name: "{:.3f} [{:.3f}, {:.3f}]".format(*statistics.mean_interval(v[key]))
        for name, key in means.items()
    }
    found["DG (Eq. 14/16)"] = f"{v['score_1'].mean() - v['score_0'].mean():.3f}"
    return found | {name: f"{100 * share.mean():.0f} %" for name, share in shares.items()}
