"""The checklist of an evaluation (Carlini et al. 2019, Tramer et al. 2020, Croce et al. 2022)."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from milib.audit import paired
from milib.audit.facts import Facts
from milib.audit.measure import SETS, accuracy, named_within, within, worst, wrong
from milib.audit.running import FROZEN
from milib.checks import SLACK
from milib.statistics import interval, mean_interval, percent

COSTLY = ("twice the steps", "restarts", "halving")
RADII = ("clean", "eps 0.5", "standard", "eps 2", "far")
WITHOUT_GRADIENT = ("Square", "HopSkipJump")
TRAINED = 3
"""Training seeds that a result asks for."""
MET, NOT_MET, NOT_APPLICABLE = "met", "not met", "not applicable"
WHAT = (
    "The threat model is stated, and matches what the attacks use",
    "The paper's own protocol is run",
    "The setting of Tramer et al. (2020) is run: 15 draws, 50 steps of eps/16",
    "The losses use the true label and the mean over draws",
    "EOT has converged: four times as many draws a step break no more",
    "AutoAttack (rand where the defense is random) is scored with fresh draws and breaks no more",
    "With its draws frozen the defense keeps no more",
    "More steps, restarts or another search break no more",
    "Accuracy falls with eps: clean at 0, about 0 at 64/255",
    "Many steps break more than one",
    "Attacks without gradients (by scores, by decisions) break nothing that gradients do not",
    "Transfer from other models and random noise break nothing that gradients do not",
    "Targeted and untargeted attacks are run",
    "The undefended model meets the same attacks; the defense keeps more, and its cost is stated",
    "The result is the worst case over attacks, image by image",
    "Final scores use 10 unseen sets of draws, have intervals, and cover 3 training seeds",
)


@dataclass(frozen=True)
class Line:
    """A line of the checklist.

    - number: from 1.
    - what: is asked.
    - verdict: "met", "not met" or "not applicable".
    - evidence: a sentence with the number behind it.
    """

    number: int
    what: str
    verdict: str
    evidence: str


def checklist(records: dict[str, dict], facts: Facts) -> list[Line]:
    """The lines, in their order.

    - records: of `battery.run`, by attack.
    - facts: of the defense.

    Comparisons are paired by image. A costlier attack is stronger where it leaves at least a
    point less, by more than chance (`paired.stronger`).
    """
    found = (
        _threat(records, facts),
        _published(records),
        _later(records, facts),
        _losses(records, facts),
        _draws(records, facts),
        _auto_attack(records),
        _frozen(records, facts),
        _effort(records),
        _curve(records, facts),
        _steps(records),
        _searches(records),
        _transfers(records),
        _targeted(records),
        _undefended(records, facts),
        _minimum(records),
        _scores(records, facts),
    )
    return [
        Line(number, what, verdict, evidence)
        for number, (what, (verdict, evidence)) in enumerate(zip(WHAT, found, strict=True), 1)
    ]


# Helpers


def _verdict(met: bool) -> str:
    return MET if met else NOT_MET


def _left(record: dict) -> str:
    """What an attack leaves, in percent, with its interval."""
    return f"{percent(interval(accuracy(record)))} %" if record["index"] else "no image was left"


def _all(records: dict[str, dict], names: Iterable[str]) -> str:
    """What several attacks leave."""
    return ", ".join(f"{name} {_left(records[name])}" for name in names if name in records)


def _besides(records: dict[str, dict], name: str) -> str:
    """What an attack breaks of the images that those before it left."""
    record = records[name]
    tried, found = len(record["index"]), len(wrong(record))
    return f"{record['note']}: of {tried} images that were left it breaks {found}"


def _radius(record: dict) -> float:
    """Of the ball in which an attack looked; of no attack 0."""
    return record["epsilon"] if record["passes"] else 0.0


def _transferred(name: str) -> bool:
    return name.startswith("transfer") or name in ("noise", "oblivious")


# Lines


def _threat(records: dict[str, dict], facts: Facts) -> tuple[str, str]:
    far = max(record["distance"] for record in within(records))
    inside = all(record["inside"] for record in within(records))
    text = f"l_inf, eps {facts.epsilon:.4g} on pixels in [0, 1]; the attacker knows {facts.reads}; "
    text += f"the largest distance is {far:.4g}, {'all' if inside else 'not all'} pixels in [0, 1]"
    if facts.sees_gradients:
        text += (
            "; the defense predicts differently where a gradient is asked: "
            "attacks see another function"
        )
    if not facts.repeats:
        text += "; draws do not repeat: whether gradients change the prediction was not checked"
    return _verdict(far <= facts.epsilon + SLACK and inside and not facts.sees_gradients), text


def _published(records: dict[str, dict]) -> tuple[str, str]:
    if "oblivious" not in records:
        return NOT_APPLICABLE, "there is no base model that PGD-10 could attack obliviously"
    return MET, f"left: {_all(records, ('oblivious', 'paper'))}"


def _later(records: dict[str, dict], facts: Facts) -> tuple[str, str]:
    if "later" not in records:
        return NOT_MET, "it was not run"
    at = f" at lambda {facts.ratio}, where it was published for 0.6" if facts.ratio else ""
    at = at if facts.ratio != "0.6" else " at lambda 0.6"
    return MET, f"left: {_left(records['later'])}{at}"


def _losses(records: dict[str, dict], facts: Facts) -> tuple[str, str]:
    wanted = ("standard", "ce", "dlr") if facts.classes > 2 else ("standard", "ce")
    met = all(name in records for name in wanted)
    return _verdict(met), f"left: {_all(records, wanted)} (standard: the margin)"


def _draws(records: dict[str, dict], facts: Facts) -> tuple[str, str]:
    if not facts.random:
        return NOT_APPLICABLE, "predictions do not differ between draws"
    if "4 times K" not in records:
        return NOT_MET, "it was not run"
    less = paired.less(paired.by_index(records["standard"]), paired.by_index(records["4 times K"]))
    return _verdict(not paired.stronger(less)), f"4 times K breaks {paired.points(less)} more"


def _auto_attack(records: dict[str, dict]) -> tuple[str, str]:
    if "AutoAttack" not in records:
        return NOT_MET, "it was not run"
    less = paired.taken(records, "AutoAttack")
    text = f"{_besides(records, 'AutoAttack')}, {paired.points(less)} of all"
    return _verdict(not paired.stronger(less)), text


def _frozen(records: dict[str, dict], facts: Facts) -> tuple[str, str]:
    if not facts.random or "frozen" not in records:
        return NOT_APPLICABLE, "there are no draws to freeze"
    index = records["clean"]["index"]
    least = dict(zip(index, worst(within(records)).tolist(), strict=True))
    less = paired.less(paired.by_index(records["frozen"]), least)
    text = f"frozen {_left(records['frozen'])}; minus the worst case of the same images: "
    text += f"{paired.points(less)}; the frozen defense's examples with fresh draws "
    text += _left(records[FROZEN])
    return _verdict(not paired.stronger(less)), text


def _effort(records: dict[str, dict]) -> tuple[str, str]:
    standard = paired.by_index(records["standard"])
    found = {
        name: paired.less(standard, paired.by_index(records[name]))
        for name in COSTLY
        if name in records
    }
    if "DeepFool" in records:
        found["DeepFool"] = paired.taken(records, "DeepFool")
    text = "; ".join(f"{name}: {paired.points(less)}" for name, less in found.items())
    more = any(paired.stronger(less) for less in found.values())
    return _verdict(not more), f"broken besides: {text}"


def _curve(records: dict[str, dict], facts: Facts) -> tuple[str, str]:
    names = [name for name in RADII if name in records]
    chance = 1 / facts.classes
    clean = interval(accuracy(records["clean"]))
    far = interval(accuracy(records[names[-1]]))
    rising = [
        after
        for before, after in pairwise(names)
        if paired.stronger(
            paired.less(paired.by_index(records[after]), paired.by_index(records[before]))
        )
    ]
    met = clean[1] > chance and far[0] <= min(chance, 0.1) and not rising
    each = (f"{_radius(records[name]):.3g}: {_left(records[name])}" for name in names)
    text = f"left at eps {', '.join(each)}; chance is {100 * chance:.1f} %"
    if rising:
        text += f"; it rises at {', '.join(rising)}"
    return _verdict(met), text


def _steps(records: dict[str, dict]) -> tuple[str, str]:
    once, often = paired.by_index(records["one step"]), paired.by_index(records["standard"])
    less = paired.less(once, often)
    met = less.sum() > 0 or not any(often.values())
    return _verdict(met), f"{_all(records, ('one step', 'standard'))}: {paired.points(less)} less"


def _searches(records: dict[str, dict]) -> tuple[str, str]:
    missing = [name for name in WITHOUT_GRADIENT if name not in records]
    why = f"{' and '.join(missing)} could not be run: draws do not repeat" if missing else ""
    return _beaten(records, WITHOUT_GRADIENT, why)


def _transfers(records: dict[str, dict]) -> tuple[str, str]:
    names = [name for name in records if _transferred(name)]
    why = "" if set(names) - {"noise"} else "no other model was given to transfer from"
    return _beaten(records, names, why)


def _beaten(records: dict[str, dict], others: Iterable[str], missing: str) -> tuple[str, str]:
    """Images that attacks without gradient break, and no attack with one does."""
    others = [name for name in others if name in records]
    if not others:
        return NOT_MET, "none was run"
    by_gradient = {
        name
        for name in named_within(records)
        if not _transferred(name) and name not in WITHOUT_GRADIENT
    }
    if records.get("AutoAttack", {}).get("note", "").startswith("standard, "):
        by_gradient.discard("AutoAttack")  # the whole standard has Square inside
    broken = set().union(*(wrong(records[name]) for name in by_gradient))
    alone = {name: len(wrong(records[name]) - broken) for name in others}
    total = len(records["clean"]["index"])
    text = ", ".join(
        f"{name} {count} of {len(set(records[name]['index']) - broken)}"
        for name, count in alone.items()
    )
    most = set().union(*(wrong(records[name]) for name in others)) - broken
    text = f"broken, of the images tried that gradients leave: {text}; "
    text += f"together {100 * len(most) / total:.1f} % of all images"
    if missing:
        return NOT_MET, f"{text}; {missing}"
    return _verdict(not most), text


def _targeted(records: dict[str, dict]) -> tuple[str, str]:
    if "targeted" not in records or "standard" not in records:
        return NOT_MET, "they were not run"
    return MET, f"untargeted: {_left(records['standard'])} left; {_besides(records, 'targeted')}"


def _undefended(records: dict[str, dict], facts: Facts) -> tuple[str, str]:
    bare = [record for name, record in records.items() if name.startswith("base: ")]
    if not bare:
        passes = f"{facts.passes} pass{'es' * (facts.passes != 1)}"
        return NOT_APPLICABLE, f"there is no base model; a prediction takes {passes}"
    attacked = within(records)
    gain = worst(attacked) - worst(bare)
    text = f"worst case with the defense {percent(interval(worst(attacked)))} % "
    text += f"({len(attacked) - 1} attacks), without {percent(interval(worst(bare)))} % "
    text += f"({len(bare) - 1} attacks): a gain of {paired.points(gain)}, for {facts.passes} "
    text += f"pass{'es' * (facts.passes != 1)} instead of one"
    return _verdict(mean_interval(gain)[1] > 0), text


def _minimum(records: dict[str, dict]) -> tuple[str, str]:
    names = [name for name in named_within(records) if "rows" not in records[name]]
    least = min(names, key=lambda name: accuracy(records[name]).mean())
    beaten = accuracy(records[least]) - worst(within(records))
    text = f"{percent(interval(worst(within(records))))} % over {len(within(records)) - 1} attacks"
    text += f"; the strongest one alone, {least}, leaves {_left(records[least])}"
    return _verdict(beaten.mean() >= -paired.POINT), text


def _scores(records: dict[str, dict], facts: Facts) -> tuple[str, str]:
    sets = len(records["clean"]["predictions"])
    faults = []
    if sets < SETS:
        faults.append("too few sets of draws")
    if facts.seeds < TRAINED:
        faults.append(f"{facts.seeds} of {TRAINED} training seeds")
    if facts.claims and not facts.random:
        faults.append("the defense is said to be random, but all sets give the same, bit for bit")
    if facts.seeds_itself:
        faults.append("the defense sets a global seed (torch, numpy, random): no draws are unseen")
    if not facts.repeats:
        faults.append("its draws come from a generator of its own: they do not repeat")
    low, high = interval(worst(within(records)))[1:]
    text = f"{sets} sets, {facts.seeds} training seed{'s' * (facts.seeds != 1)}, "
    text += f"worst case between {100 * low:.1f} and {100 * high:.1f} %"
    return _verdict(not faults), "; ".join([text, *faults])
