"""The paper's theory: Table 1 and Eq. 7-17 as functions, and what they are made of, measured.

z says whether the input is adversarial. For z = 1, Eq. 2 is assumed: the prediction yhat differs
from the label y. Arguments named after G are expectations over p_s at one component k:
`g` = G_k(delta; x0), `transferred` = E G_k(delta; x~0), `mixed` = E G_k(lambda delta; x~0).

Everything here raises UserError for numbers that are not finite, arrays of different shapes, a
mode that is neither "pl" nor "ol", a ratio outside [0, 1], fewer than 2 classes and no draws.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from milib import checks
from milib.averaging import Defense
from milib.constructed import ConstructedClassifier
from milib.defenses import MixupInference
from milib.errors import UserError
from milib.inference import chunked, logits
from milib.rng import Draws
from milib.shapes import Images, Numbers, Predictions

Quantity = float | np.ndarray | Tensor
"""A number, or one per image: the formulas go element by element and return what they are given."""
MODES = ("pl", "ol")
PARTS = ("F(x0)", "F(x)", "F(x~)", "F(x~0)", "F(x~0 + delta)", "F_MI(x0)")
"""What `components` gives, by name."""


def _setting(mode: str, ratio: float, classes: int) -> tuple[float, int]:
    """Lambda and L, checked as the mode is."""
    checks.choice("mode", mode, MODES)
    return checks.number("ratio", ratio, 0, 1), checks.count("classes", classes, 2)


def table1(
    mode: str,
    adversarial: bool,
    ratio: float,
    classes: int,
    g: tuple[Quantity, ...] = (0.0, 0.0),
    mixed: tuple[Quantity, ...] = (0.0, 0.0),
) -> dict[str, tuple[Quantity, Quantity]]:
    """Table 1 in expectation over p_s: {"y": (F_y(x), E F_y(x~)), "yhat": the same for yhat}.

    - mode: "pl" or "ol".
    - adversarial: z = 1; for a clean input, y and yhat are one component.
    - ratio: lambda.
    - classes: L. E 1[y = y_s] is 1/(L-1) for MI-OL (Eq. 15).
    - g, mixed: pairs (component y, component yhat), used where `adversarial`.
    """
    ratio, classes = _setting(mode, ratio, classes)
    if not isinstance(adversarial, bool | np.bool_):
        raise UserError(f"adversarial is {checks.shown(adversarial)}: True or False")
    for name, pair in (("g", g), ("mixed", mixed)):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise UserError(f"{name} is {checks.shown(pair)}: (component y, component yhat)")
    checks.quantities(g_y=g[0], g_yhat=g[1], mixed_y=mixed[0], mixed_yhat=mixed[1])
    if not adversarial:
        after = 1.0 if mode == "pl" else ratio
        return {"y": (1.0, after), "yhat": (1.0, after)}
    same_y, same_yhat = (0.0, 1.0) if mode == "pl" else (1 / (classes - 1), 0.0)
    y_after = ratio + (1 - ratio) * same_y + mixed[0]
    yhat_after = (1 - ratio) * same_yhat + mixed[1]
    return {"y": (1 + g[0], y_after), "yhat": (g[1], yhat_after)}


def delta_F(before: Quantity, after: Quantity) -> Quantity:
    """Delta F_k = F_MI,k(x) - F_k(x) (Eq. 9).

    - before, after: probabilities at one component k, F_k(x) and F_MI,k(x).
    """
    checks.quantities(before=before, after=after)
    return after - before


def ric(delta_y: Quantity, delta_yhat: Quantity) -> Any:
    """The robustness improving condition (Eq. 10), as bool: Delta F_y > 0 and Delta F_yhat < 0.

    - delta_y, delta_yhat: Delta F at y and at yhat.
    """
    checks.quantities(delta_y=delta_y, delta_yhat=delta_yhat)
    return (delta_y > 0) & (delta_yhat < 0)


def ric_thresholds(mode: str, ratio: float, classes: int) -> tuple[float, float]:
    """The thresholds of Eq. 12 (MI-PL) and 15 (MI-OL): RIC is D_y < the first, D_yhat > the second.

    - mode: "pl" or "ol".
    - ratio: lambda.
    - classes: L.

    D_k = E[G_k(delta; x0) - G_k(lambda delta; x~0)].
    """
    ratio, classes = _setting(mode, ratio, classes)
    if mode == "pl":
        return ratio - 1, 1 - ratio
    return (ratio - 1) * (classes - 2) / (classes - 1), 0.0


def mechanisms(g: Quantity, transferred: Quantity, mixed: Quantity) -> tuple[Quantity, Quantity]:
    """Eq. 13: (input transfer, perturbation shrinkage) at one component.

    - g, transferred, mixed: as at the top of this module.

    They are G(delta; x0) - E G(delta; x~0) and E[G(delta; x~0) - G(lambda delta; x~0)].
    """
    checks.quantities(g=g, transferred=transferred, mixed=mixed)
    return g - transferred, transferred - mixed


def detection_gap(ratio: float, g_yhat: Quantity, mixed_yhat: Quantity) -> Quantity:
    """DG = E[s | z=1] - E[s | z=0] for s = F_yhat(x) - F_MI,yhat(x), for MI-PL and MI-OL alike.

    - ratio: lambda.
    - g_yhat, mixed_yhat: `g` and `mixed` at yhat.

    This is Eq. 14 and 16; Eq. 11 as printed has the opposite sign.
    """
    ratio = checks.number("ratio", ratio, 0, 1)
    checks.quantities(g_yhat=g_yhat, mixed_yhat=mixed_yhat)
    return g_yhat - mixed_yhat - (1 - ratio)


def ideal_clean_accuracy(ratio: float, classes: int, draws: int) -> float:
    """The probability that MI-OL with an ideal H predicts y on a clean input (Eq. 17 at N draws).

    - ratio: lambda.
    - classes: L.
    - draws: N.

    F_MI,y = lambda, and F_MI,k = (1 - lambda) n_k / N, with counts n_k of N uniform draws from the
    L - 1 other labels. The result is exact: such counts are independent Poisson variables of mean
    N / (L - 1), given that they sum to N. A tie counts as an error.
    """
    ratio, classes = _setting("ol", ratio, classes)
    draws = checks.count("draws", draws)
    if ratio >= 1:
        return 1.0
    most = math.ceil(draws * ratio / (1 - ratio) - 1e-9) - 1  # the largest harmless count
    if most < 0:
        return 0.0
    mean = draws / (classes - 1)
    poisson = []
    for count in range(min(most, draws) + 1):
        poisson.append(math.exp(count * math.log(mean) - mean - math.lgamma(count + 1)))
    of_sum = np.ones(1)
    for _ in range(classes - 1):
        of_sum = np.convolve(of_sum, poisson)[: draws + 1]
    if len(of_sum) <= draws:
        return 0.0
    given = math.exp(draws * math.log(draws) - draws - math.lgamma(draws + 1))
    return float(of_sum[draws]) / given


def enumerated(mi: MixupInference, x: Images) -> Predictions:
    """The exact E_ps F(x~) [B, L] (Eq. 20): Algorithm 1 over every image of the pool.

    - mi: with one ratio.
    - x: [B, C, H, W] in [0, 1].

    Raises UserError for a range of ratios and for images that are none.
    """
    _one_ratio(mi)
    if mi.pool.augmented:
        raise UserError("mi crops and flips its partners: take a pool without, to enumerate it")
    with torch.no_grad():
        x, base = mi.check(x), mi.base(x)
        pairs = zip(x, base.argmax(1), strict=True)
        each = [_expectation(mi, image, guess) for image, guess in pairs]
        return torch.stack(each) if each else base


def _one_ratio(mi: MixupInference) -> float:
    checks.instance("mi", mi, MixupInference)
    if isinstance(mi.classifier, Defense):
        raise UserError("mi defends another defense, which draws: the theory is of one net")
    if not isinstance(mi.ratio, float | int):
        raise UserError(f"mi draws its ratio from {mi.ratio}: one number, as in ratio=0.5")
    return float(mi.ratio)


def _expectation(mi: MixupInference, image: Tensor, guess: Tensor) -> Tensor:
    """E F(x~) [L] for one image: its partners are weighted by p_s."""
    ratio, labels = _one_ratio(mi), mi.pool.data.labels
    allowed = ((labels == guess) == (mi.mode == "pl")).nonzero()[:, 0]

    def evaluate(partner: Tensor) -> Tensor:
        return logits(mi.classifier, ratio * image + (1 - ratio) * partner).softmax(1)

    outputs = chunked(evaluate, mi.chunk, mi.pool.data.pixels(allowed))
    weight = 1 / mi.pool.sizes[labels[allowed]].double()
    weight = weight / weight.sum()
    return (weight[:, None] * outputs).sum(0)


def components(
    mi: MixupInference, clean: Images, adversarial: Images, index: Numbers, draws: Draws
) -> dict[str, Predictions]:
    """What Eq. 4-17 are made of, measured: predictions [n, L], means over draws where x~ occurs.

    - mi: with one ratio.
    - clean, adversarial: x0 and x, the same images [n, C, H, W], in [0, 1].
    - index: each image's number for its draws [n].
    - draws: the random numbers.

    `F(x0)` and `F(x)`; `F(x~)`, its clean counterpart `F(x~0)`, and `F(x~0 + delta)` (transfer
    without shrinkage), all three with the partners drawn around the prediction at x; and
    `F_MI(x0)`, MI on the clean input with its own partners. Raises UserError for a range of ratios,
    images that are none, and where the two are not of one shape.
    """
    _one_ratio(mi)
    clean, adversarial = mi.check(clean, "clean"), mi.check(adversarial, "adversarial")
    if clean.shape != adversarial.shape:
        shapes = f"{list(clean.shape)} and {list(adversarial.shape)}"
        raise UserError(f"clean and adversarial have shapes {shapes}: both the same")
    index = checks.labels("index", index, len(clean), clean.device)
    checks.instance("draws", draws, Draws)
    with torch.no_grad():
        base_clean, base = mi.base(clean), mi.base(adversarial)
        predicted, count = base.argmax(1), len(clean)

        def evaluate(row: Tensor, draw: Tensor) -> Tensor:
            partner, _, ratio = mi.partners(predicted[row], index[row], draw, draws)
            x0, x = clean[row], adversarial[row]
            mixed0 = ratio * x0 + (1 - ratio) * partner
            mixed = ratio * x + (1 - ratio) * partner
            inputs = (mixed, mixed0, mixed0 + x - x0)
            return torch.cat([logits(mi.classifier, u).softmax(1) for u in inputs], 1)

        rows = torch.arange(count, device=clean.device).repeat_interleave(mi.draws)
        number = torch.arange(mi.draws, device=clean.device).repeat(count)
        each = chunked(evaluate, mi.chunk, rows, number).view(count, mi.draws, -1)
        mixed, mixed0, transferred = each.mean(1).chunk(3, 1)
        return {
            "F(x0)": base_clean.exp(),
            "F(x)": base.exp(),
            "F(x~)": mixed,
            "F(x~0)": mixed0,
            "F(x~0 + delta)": transferred,
            "F_MI(x0)": mi.probabilities(clean, draws, index, base_clean),
        }


def measured(record: dict, mode: str, ratio: float) -> dict[str, np.ndarray]:
    """The quantities of Eq. 9-16 for each image, [n].

    - record: the lists that `components` gives, and "labels".
    - mode: "pl" or "ol".
    - ratio: lambda.

    For k in y and yhat (the prediction at x):

    - `F_k`, `FMI_k`: at the adversarial x. `delta_k`: Eq. 9.
    - Reading A (G = F - H with the ideal H): `D_k`, the left side of Eq. 12 and 15, with its parts
      `transfer_k` and `shrinkage_k` (Eq. 13); `g_k`, `mixed_k`.
    - Reading B (differences of F): `D_B_k`, and its exact threshold
      `limit_B_k` = E F_k(x~0) - F_k(x0).

    Besides: `clean` and `clean_MI`, the predicted label's components before and after MI at x0;
    `score_0` and `score_1`, detection scores for z = 0 and 1; `eq2`, who satisfies Eq. 2; `right`,
    whether MI decides x as y. Raises UserError for a record that is none.
    """
    parts, label = _record(record)
    ratio, classes = _setting(mode, ratio, parts["F(x)"].shape[1])
    guess, before = parts["F(x)"].argmax(1), parts["F(x0)"].argmax(1)
    rows = np.arange(len(label))
    found = {"eq2": (before == label) & (guess != label)}
    for name, k in (("y", label), ("yhat", guess)):
        at = {part: value[rows, k] for part, value in parts.items()}
        ideal = 1.0 * (k == label)
        partner = 1.0 * (k == guess) if mode == "pl" else (k != guess) / (classes - 1)
        ideal_mixed = ratio * ideal + (1 - ratio) * partner
        g = at["F(x)"] - ideal
        transferred = at["F(x~0 + delta)"] - ideal_mixed
        mixed = at["F(x~)"] - ideal_mixed
        transfer, shrinkage = mechanisms(g, transferred, mixed)
        quantities = {
            "F": at["F(x)"],
            "FMI": at["F(x~)"],
            "delta": delta_F(at["F(x)"], at["F(x~)"]),
            "g": g,
            "mixed": mixed,
            "D": g - mixed,
            "transfer": transfer,
            "shrinkage": shrinkage,
            "D_B": at["F(x)"] - at["F(x0)"] - at["F(x~)"] + at["F(x~0)"],
            "limit_B": at["F(x~0)"] - at["F(x0)"],
        }
        found |= {f"{quantity}_{name}": value for quantity, value in quantities.items()}
    found |= {"clean": parts["F(x0)"][rows, before], "clean_MI": parts["F_MI(x0)"][rows, before]}
    found |= {"score_0": found["clean"] - found["clean_MI"], "score_1": -found["delta_yhat"]}
    found["right"] = parts["F(x~)"].argmax(1) == label
    return found


def _record(record: dict) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The predictions [n, L] and labels [n] of a record."""
    try:
        parts = {name: np.array(record[name]) for name in PARTS}
        label, shape = np.array(record["labels"]), parts["F(x)"].shape
    except (TypeError, KeyError, ValueError):  # the last: rows of different lengths
        raise UserError(f"record: predictions [n, L] {', '.join(PARTS)}; and labels [n]") from None
    checks.quantities(**parts)
    if len(shape) != 2 or label.shape != shape[:1] or not np.isin(label, range(shape[1])).all():
        raise UserError(f"record has F(x) {list(shape)}: [n, L], with n labels in 0..L-1")
    return parts, label.astype(int)


def exact(world: ConstructedClassifier, mode: str, ratio: float, per_class: int = 4) -> dict:
    """Algorithm 1 enumerated on a constructed classifier, beside Table 1.

    - world: the classifier.
    - mode: "pl" or "ol".
    - ratio: lambda.
    - per_class: images of a class in the pool, by default 4.

    `clean`, `adversarial`: {"y", "yhat"} -> (before, after), enumerated; `table_clean` and
    `table_adversarial`: the same from `table1`; `g`, `transferred`, `mixed`: see the top of this
    module, each (y, yhat); `right`: whether the adversarial input is decided as y.
    """
    checks.instance("world", world, ConstructedClassifier)
    mi = MixupInference(world, world.pool(per_class), mode, ratio)
    inputs = torch.cat([world.clean(), world.adversarial()])
    before, after = world(inputs).softmax(1), enumerated(mi, inputs)

    def change(row: int, k: int) -> tuple[float, float]:
        return float(before[row, k]), float(after[row, k])

    def expectation(size: float, w: Tensor) -> tuple[float, float]:
        """E G at perturbations of this size, over partners of properties w."""
        mean = world.nonlinear(torch.full_like(w, size), w).mean(0)
        return float(mean[world.y]), float(mean[world.attacked])

    felt = (1 - ratio) * (torch.arange(per_class) / max(1, per_class - 1))
    g, mixed = expectation(1.0, torch.zeros(1)), expectation(ratio, felt)
    return {
        "clean": {"y": change(0, world.y), "yhat": change(0, world.y)},
        "adversarial": {"y": change(1, world.y), "yhat": change(1, world.attacked)},
        "right": int(after[1].argmax()) == world.y,
        "g": g,
        "transferred": expectation(1.0, felt),
        "mixed": mixed,
        "table_clean": table1(mode, False, ratio, world.classes),
        "table_adversarial": table1(mode, True, ratio, world.classes, g, mixed),
    }
