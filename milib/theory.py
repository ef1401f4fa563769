"""The paper's theory: Table 1 and Eq. 7-17 as functions, a hand-built classifier for which they are exact, and estimators.

z says whether the input is adversarial. For z = 1, Eq. 2 is assumed: the prediction yhat differs from the label y.
G-arguments are expectations over p_s at one component: `g` = G_k(delta; x0), `mixed` = E G_k(lambda delta; x~0).
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from milib.data import Dataset, SamplePool
from milib.defenses import MixupInference
from milib.inference import chunked
from milib.rng import Draws
from milib.shapes import Images, Numbers, Predictions

Quantity = float | np.ndarray | Tensor
"""A number, or one per image: the formulas below go element by element, and return what they are given."""


def table1(
    mode: str,
    adversarial: bool,
    ratio: float,
    classes: int,
    g: tuple[Quantity, ...] = (0.0, 0.0),
    mixed: tuple[Quantity, ...] = (0.0, 0.0),
) -> dict[str, tuple[Quantity, Quantity]]:
    """Table 1 in expectation over p_s. mode: "pl" or "ol"; g, mixed: pairs (component y, component yhat).

    Returns {"y": (F_y(x), E F_y(x~)), "yhat": (F_yhat(x), E F_yhat(x~))}. E 1[y = y_s] is 1/(L-1) for MI-OL (Eq. 15).
    """
    if not adversarial:
        after = 1.0 if mode == "pl" else ratio
        return {"y": (1.0, after), "yhat": (1.0, after)}
    same = {"pl": (0.0, 1.0), "ol": (1 / (classes - 1), 0.0)}[mode]
    y_after = ratio + (1 - ratio) * same[0] + mixed[0]
    yhat_after = (1 - ratio) * same[1] + mixed[1]
    return {"y": (1 + g[0], y_after), "yhat": (g[1], yhat_after)}


def delta_F(before: Quantity, after: Quantity) -> Quantity:
    """Delta F_k = F_MI,k(x) - F_k(x) (Eq. 9), from probabilities at one component k."""
    return after - before


def ric(delta_y: Quantity, delta_yhat: Quantity) -> bool | np.bool | np.ndarray | Tensor:
    """The robustness improving condition (Eq. 10): Delta F_y > 0 and Delta F_yhat < 0."""
    return (delta_y > 0) & (delta_yhat < 0)


def ric_thresholds(mode: str, ratio: float, classes: int) -> tuple[float, float]:
    """Eq. 12 (MI-PL) and 15 (MI-OL): with D_k = E[G_k(delta; x0) - G_k(lambda delta; x~0)], RIC is D_y < the first value
    and D_yhat > the second."""
    if mode == "pl":
        return ratio - 1, 1 - ratio
    return (ratio - 1) * (classes - 2) / (classes - 1), 0.0


def mechanisms(g: Quantity, transferred: Quantity, mixed: Quantity) -> tuple[Quantity, Quantity]:
    """Eq. 13: (input transfer, perturbation shrinkage) = (G(delta; x0) - E G(delta; x~0), E[G(delta; x~0) - G(lambda delta; x~0)])."""
    return g - transferred, transferred - mixed


def detection_gap(ratio: float, g_yhat: Quantity, mixed_yhat: Quantity) -> Quantity:
    """DG = E[s | z=1] - E[s | z=0] for s = F_yhat(x) - F_MI,yhat(x): the same form for MI-PL and MI-OL.

    This is Eq. 14 and 16; Eq. 11 as printed has the opposite sign.
    """
    return g_yhat - mixed_yhat - (1 - ratio)


def ideal_clean_accuracy(ratio: float, classes: int, draws: int) -> float:
    """What is left of Eq. 17 at N draws: the probability that MI-OL with an ideal H predicts y on a clean input.

    F_MI,y = lambda, and F_MI,k = (1 - lambda) n_k / N with counts n_k of N uniform draws from the L - 1 other labels; exact:
    such counts are independent Poisson variables of mean N / (L - 1), given that they sum to N. A tie counts as an error.
    """
    if ratio >= 1:
        return 1.0
    most = math.ceil(draws * ratio / (1 - ratio) - 1e-9) - 1
    if most < 0:
        return 0.0
    mean = draws / (classes - 1)
    term = [
        math.exp(j * math.log(mean) - mean - math.lgamma(j + 1))
        for j in range(min(most, draws) + 1)
    ]
    series = np.ones(1)
    for _ in range(classes - 1):
        series = np.convolve(series, term)[: draws + 1]
    if len(series) <= draws:
        return 0.0
    return float(series[draws]) / math.exp(draws * math.log(draws) - draws - math.lgamma(draws + 1))


class ConstructedClassifier(nn.Module):
    """F = H + G by hand (Eq. 4): H exactly linear, G with a chosen shrinkage and transfer. For y -> attacked class a:

        G(t delta; x) = strength * t**power * (1 - transfer * w(x)) * (e_a - e_y)

    An "image" [B, 1, 1, L + 2] in [0, 1] holds the class masses, the size t of the perturbation, and w, a property of clean
    images that H ignores and G may feel. G sums to 0, vanishes at t = 0, and keeps F in the simplex for power >= 1.
    Returns logits log F. strength in (1/2, 1], so that Eq. 2 holds and F is a distribution; transfer in [0, 1]. Not checked.
    """

    def __init__(
        self, classes: int, y: int, attacked: int, strength: float, power: float, transfer: float
    ):
        super().__init__()
        self.classes, self.y, self.attacked = classes, y, attacked
        self.strength, self.power, self.transfer = strength, power, transfer

    def nonlinear(self, size: Tensor, w: Tensor) -> Tensor:
        """G [B, L] for perturbation sizes t [B] and properties w [B]."""
        moved = self.strength * size**self.power * (1 - self.transfer * w)
        direction = F.one_hot(torch.tensor([self.attacked, self.y]), self.classes).to(moved)
        return moved[:, None] * (direction[0] - direction[1])

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        mass, size, w = flat[:, : self.classes], flat[:, self.classes], flat[:, self.classes + 1]
        return (mass + self.nonlinear(size, w)).clamp(min=1e-30).log()

    def clean(self) -> Tensor:
        """x0 [1, 1, 1, L + 2]: class y, no perturbation, w = 0."""
        return F.one_hot(torch.tensor([self.y]), self.classes + 2).float().view(1, 1, 1, -1)

    def adversarial(self) -> Tensor:
        """x0 + delta: the perturbation at full size, t = 1."""
        x = self.clean()
        x[..., self.classes] = 1
        return x

    def pool(self, per_class: int) -> SamplePool:
        """A sample pool of clean one-hot images, w spread evenly over [0, 1] within each class."""
        labels = torch.arange(self.classes).repeat_interleave(per_class)
        images = F.one_hot(labels, self.classes + 2) * 240
        images[:, self.classes + 1] = (
            torch.arange(per_class) * 240 // max(1, per_class - 1)
        ).repeat(self.classes)
        return SamplePool(
            Dataset(
                images.to(torch.uint8).view(-1, 1, 1, self.classes + 2),
                labels,
                torch.arange(len(labels)),
                self.classes,
                240,
            )
        )


def enumerated(mi: MixupInference, x: Images) -> Predictions:
    """The exact E_ps F(x~) [B, L] (Eq. 20): Algorithm 1 over every image of the pool, weighted by p_s, for a fixed ratio."""
    pool = mi.pool
    with torch.no_grad():
        predicted = mi.base(x).argmax(1)
        labels = pool.data.labels
        partner, total = pool.data.pixels(), []
        for image, guess in zip(x, predicted, strict=True):
            weight = 1 / pool.sizes[labels].double()
            allowed = (labels == guess) if mi.mode == "pl" else (labels != guess)
            keep = allowed.nonzero()[:, 0]
            output = chunked(
                lambda s, image=image: mi.classifier(mi.ratio * image + (1 - mi.ratio) * s).softmax(
                    1
                ),
                mi.chunk,
                partner[keep],
            )
            weight = weight[keep] / weight[keep].sum()
            total.append((weight[:, None] * output).sum(0))
    return torch.stack(total)


def components(
    mi: MixupInference, clean: Images, adversarial: Images, index: Numbers, draws: Draws
) -> dict[str, Predictions]:
    """What Eq. 4-17 are made of, measured: predictions [n, L], means over the draws of `mi` where x~ occurs (a fixed ratio).

    `F(x0)`, `F(x)`; with the partners drawn around the prediction at the adversarial x: `F(x~)`, `F(x~0)` (its clean
    counterpart) and `F(x~0 + delta)` (transfer without shrinkage); and `F_MI(x0)`, MI on the clean input with its own partners.
    """
    with torch.no_grad():
        bases = {"F(x0)": mi.base(clean), "F(x)": mi.base(adversarial)}
        predicted, count = bases["F(x)"].argmax(1), len(clean)
        rows = torch.arange(count, device=clean.device).repeat_interleave(mi.draws)
        number = torch.arange(mi.draws, device=clean.device).repeat(count)

        def evaluate(row: Tensor, draw: Tensor) -> Tensor:
            partner, _, ratio = mi.partners(predicted[row], index[row], draw, draws)
            x0, x = clean[row], adversarial[row]
            mixed0, mixed = (ratio * u + (1 - ratio) * partner for u in (x0, x))
            return torch.cat(
                [mi.classifier(u).softmax(1) for u in (mixed, mixed0, mixed0 + x - x0)], 1
            )

        means = (
            chunked(evaluate, mi.chunk, rows, number).view(count, mi.draws, -1).mean(1).chunk(3, 1)
        )
        found = {name: value.exp() for name, value in bases.items()}
        found |= dict(zip(("F(x~)", "F(x~0)", "F(x~0 + delta)"), means, strict=True))
        return found | {"F_MI(x0)": mi.probabilities(clean, draws, index, bases["F(x0)"])}


def measured(record: dict, mode: str, ratio: float) -> dict[str, np.ndarray]:
    """Per-image quantities of Eq. 9-16, [n], from the lists that `components` gives (a record of 03, with "labels").

    For k in y, yhat (the prediction at x): `F_k` and `FMI_k` at the adversarial x, `delta_k` (Eq. 9); under reading A (G = F - H
    with the ideal H) `D_k` (left side of Eq. 12/15) with its parts `transfer_k`, `shrinkage_k` (Eq. 13); under reading B
    (differences of F) `D_B_k` and its exact threshold `limit_B_k` = E F_k(x~0) - F_k(x0). `clean`, `clean_MI`: the predicted
    label's components before and after MI at x0; `score_0`, `score_1`: detection scores; `eq2`: who satisfies Eq. 2.
    """
    parts = {name: np.array(value) for name, value in record.items() if name.startswith("F")}
    label, classes = np.array(record["labels"]), parts["F(x)"].shape[1]
    guess, before = parts["F(x)"].argmax(1), parts["F(x0)"].argmax(1)
    rows = np.arange(len(label))
    found = {"eq2": (before == label) & (guess != label)}
    partner = {"pl": lambda k: 1.0 * (k == guess), "ol": lambda k: (k != guess) / (classes - 1)}[
        mode
    ]
    for name, k in (("y", label), ("yhat", guess)):
        at = {part: value[rows, k] for part, value in parts.items()}
        ideal = 1.0 * (k == label)
        mixed = ratio * ideal + (1 - ratio) * partner(k)
        g, transferred, shrunk = (
            at["F(x)"] - ideal,
            at["F(x~0 + delta)"] - mixed,
            at["F(x~)"] - mixed,
        )
        found |= {
            f"F_{name}": at["F(x)"],
            f"FMI_{name}": at["F(x~)"],
            f"delta_{name}": delta_F(at["F(x)"], at["F(x~)"]),
        }
        found |= {f"g_{name}": g, f"mixed_{name}": shrunk, f"D_{name}": g - shrunk}
        found |= dict(
            zip(
                (f"transfer_{name}", f"shrinkage_{name}"),
                mechanisms(g, transferred, shrunk),
                strict=True,
            )
        )
        found |= {
            f"D_B_{name}": at["F(x)"] - at["F(x0)"] - at["F(x~)"] + at["F(x~0)"],
            f"limit_B_{name}": at["F(x~0)"] - at["F(x0)"],
        }
    found |= {"clean": parts["F(x0)"][rows, before], "clean_MI": parts["F_MI(x0)"][rows, before]}
    found |= {"score_0": found["clean"] - found["clean_MI"], "score_1": -found["delta_yhat"]}
    found["right"] = parts["F(x~)"].argmax(1) == label
    return found


def exact(world: ConstructedClassifier, mode: str, ratio: float, per_class: int = 4) -> dict:
    """Algorithm 1 enumerated on a constructed classifier, beside Table 1.

    `clean`, `adversarial`: {"y", "yhat"} -> (before, after) enumerated; `table_clean`, `table_adversarial`: the same from
    `table1`; `g`, `transferred`, `mixed`: E G at (delta; x0), (delta; x~0), (lambda delta; x~0), each (y, yhat); `right`: whether
    the adversarial input is decided as y.
    """
    pool = world.pool(per_class)
    mi = MixupInference(world, pool, mode, ratio)
    found: dict = {}
    for name, x, guess in (
        ("clean", world.clean(), world.y),
        ("adversarial", world.adversarial(), world.attacked),
    ):
        before, after = world(x).softmax(1)[0], enumerated(mi, x)[0]
        found[name] = {
            k: (float(before[c]), float(after[c])) for k, c in (("y", world.y), ("yhat", guess))
        }
    found["right"] = int(after.argmax()) == world.y
    property_w = torch.arange(per_class) / max(1, per_class - 1)
    for name, size, w in (
        ("g", 1.0, torch.zeros(1)),
        ("transferred", 1.0, (1 - ratio) * property_w),
        ("mixed", ratio, (1 - ratio) * property_w),
    ):
        mean = world.nonlinear(torch.full_like(w, size), w).mean(0)
        found[name] = (float(mean[world.y]), float(mean[world.attacked]))
    found["table_clean"] = table1(mode, False, ratio, world.classes)
    found["table_adversarial"] = table1(
        mode, True, ratio, world.classes, found["g"], found["mixed"]
    )
    return found
