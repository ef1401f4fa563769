"""What a curated run measured, as values for FINDINGS.md."""

import contextlib
import math
from dataclasses import dataclass

from milib.adaptive import ADAPTIVE
from milib.errors import UserError
from milib.report import verdicts
from milib.report.run_folder import RunFolder
from milib.study import params, paths
from milib.study.params import Params
from milib.study.rows import BASELINES, NAMES, PRIMARY, paper_table
from milib.views.wording import WORDS

AGAINST_BASELINES = {
    "mi_ol_beats_baselines_on_mixup": "Mixup + MI-OL",
    "mi_combined_beats_baselines_on_mixup": "Mixup + MI-Combined",
    "mi_ol_beats_baselines_on_interpolated_at": "Interpolated AT + MI-OL",
}
"""The claims that compare a row with each baseline, and the row."""


def number(row: dict[str, str], column: str) -> float:
    """A cell of a table as a number.

    - row: column -> cell.
    - column: the cell's.

    Raises UserError where there is none.
    """
    with contextlib.suppress(KeyError, ValueError):
        if math.isfinite(found := float(row[column])):
            return found
    where = next(iter(row.values()), "")
    raise UserError(
        f"tables: {column} of {where!r} is {row.get(column)!r}, no number: run its notebook again"
    )


def measured(row: dict[str, str], column: str) -> str:
    """A cell of a table with its interval: "90.4 [88.4, 92.1]"; empty where the row has none.

    - row: of a table, column -> cell.
    - column: the value's.
    """
    if not row.get(column):
        return ""
    text = f"{number(row, column):.1f}"
    if row.get(f"{column} low"):
        low, high = number(row, f"{column} low"), number(row, f"{column} high")
        text += f" [{low:.1f}, {high:.1f}]"
    return text


STRONGER = {
    "standard": ("the standard of notebook 8", "the same attack"),
    "worst case": ("the worst case over all attacks", "its own worst case"),
}
"""Attacks stronger than the paper's: what they are called, on MI-OL and on the bare model."""


@dataclass(frozen=True)
class Attack:
    """An attack that knows MI-OL.

    - name: of the attack.
    - left: accuracy in percent of the model with MI-OL, with its interval.
    - on_bare: the attack's counterpart on the bare model.
    - bare: what that leaves, as in `left`.
    - images: on how many test images.
    - gain: left - bare in points, paired by image, where the attack is the same; else empty.
    """

    name: str
    left: str
    on_bare: str
    bare: str
    images: int
    gain: str = ""


@dataclass(frozen=True)
class Defended:
    """A model without and with MI-OL, from 04 and 07: accuracies in percent with intervals.

    - model: its name.
    - clean, attacked: of the bare model; attacked by untargeted PGD-10.
    - mi_clean, mi_attacked: of the model with MI-OL.
    - gain: mi_attacked - attacked in points, paired by image.
    - better: the other defenses that keep more under PGD-10 than MI-OL: "Random rotation 26.5".
    - attacks: that know MI-OL, of 07.
    - worst: the worst case over all attacks, of 08; None in a run without it.
    """

    model: str
    clean: str
    attacked: str
    mi_clean: str
    mi_attacked: str
    gain: str
    better: list[str]
    attacks: list[Attack]
    worst: Attack | None

    @property
    def strongest(self) -> Attack | None:
        """The worst case, or without 08 the attack that leaves least; of equals the standard."""
        if self.worst is not None:
            return self.worst
        last_first = reversed(self.attacks)
        return min(last_first, key=lambda attack: float(attack.left.split()[0]), default=None)


def defended(run: RunFolder) -> list[Defended]:
    """The models of a run that have an MI-OL row in 04's table.

    - run: the run's folder.
    """
    rows = {row["row"]: row for row in run.table("oblivious")}
    gains = {row["row"]: row for row in run.table("paired")}
    found = []
    for model in (NAMES["mixup"], NAMES["interpolated_at"]):
        if not {model, f"{model} + MI-OL"} <= set(rows):
            continue
        alone, mi = rows[model], rows[f"{model} + MI-OL"]
        better = []
        for name, row in rows.items():
            other = name.startswith(f"{model} + ") and "MI-OL" not in name
            if other and number(row, PRIMARY) > number(mi, PRIMARY):
                better.append(f"{name.removeprefix(f'{model} + ')} {number(row, PRIMARY):.1f}")
        gain = signed(gains.get(model, {}), f"{PRIMARY}, points", turned=True)
        net = Defended(
            model=model,
            clean=measured(alone, "clean"),
            attacked=measured(alone, PRIMARY),
            mi_clean=measured(mi, "clean"),
            mi_attacked=measured(mi, PRIMARY),
            gain=gain,
            better=better,
            attacks=adaptive(run, model),
            worst=worst_case(run, model),
        )
        found.append(net)
    return found


def signed(row: dict[str, str], column: str, turned: bool = False) -> str:
    """A difference with its interval: "+8.4 [+6.9, +9.9]"; empty where the row has none.

    - row, column: where it stands in a table.
    - turned: second minus first instead of first minus second.
    """
    ends = [column, f"{column} low", f"{column} high"]
    if not all(row.get(end) for end in ends):
        return ""
    mean, low, high = (number(row, end) for end in ends)
    if turned:
        mean, low, high = -mean, -high, -low
    return f"{mean:+z.1f} [{low:+z.1f}, {high:+z.1f}]"


def adaptive(run: RunFolder, model: str) -> list[Attack]:
    """The attacks of 07 on a model's MI-OL row: each form with the most samples, and the standard.

    - run: the run's folder.
    - model: its name in tables.
    """
    found, table = [], run.table("adaptive")
    if table:
        last, bare = table[-1], measured(table[0], f"{model}, none")
        for variant in ADAPTIVE:
            if left := measured(last, f"{model}, {variant}"):
                name = f"{WORDS.get(variant, variant)}, {last['adaptive samples']} samples"
                found.append(Attack(name, left, "PGD-10", bare, images_of(run, "adaptive")))
    known = standard(run, model)
    return found if known is None else [*found, known]


def standard(run: RunFolder, model: str) -> Attack | None:
    """What the standard attack of 08 leaves in 07, with MI-OL and bare; None where 07 has it not.

    - run: the run's folder.
    - model: its name in tables.
    """
    return _stronger(run, model, "adaptive_standard", "standard")


def worst_case(run: RunFolder, model: str) -> Attack | None:
    """What the worst case of 08 leaves of a model, with MI-OL and bare; None without 08.

    - run: the run's folder.
    - model: its name in tables.
    """
    return _stronger(run, model, "beyond_left", "worst case")


def _stronger(run: RunFolder, model: str, table: str, attack: str) -> Attack | None:
    """One of STRONGER on a model with MI-OL and bare, where the table has both."""
    rows = {row["row"]: row for row in run.table(table)}
    if not {model, f"{model} + MI-OL"} <= set(rows):
        return None
    left, bare = (measured(rows[name], attack) for name in (f"{model} + MI-OL", model))
    name, on_bare = STRONGER[attack]
    gain = signed(rows[model], "MI-OL minus this, points")
    return Attack(name, left, on_bare, bare, images_of(run, "beyond"), gain)


def images_of(run: RunFolder, name: str) -> int:
    """On how many test images records are, at most; 0 where the run has none.

    Those on held-out images do not count.

    - run: the run's folder.
    - name: how their names begin: "adaptive" in 07, "beyond" in 08.
    """
    sizes = [0]
    for record in verdicts.records(run, name):
        if record["identity"].get("split") != "heldout":
            sizes.append(len(record["result"]["labels"]))
    return max(sizes)


def against_baselines(run: RunFolder) -> list[tuple[str, list[str]]]:
    """Of each MI row, its difference from each baseline under PGD-10, in points, as claims have it.

    - run: the run's folder.

    Returns the row and a cell for each of BASELINES.
    """
    judged, found = verdicts.judged(run), []
    for name, row in AGAINST_BASELINES.items():
        claim = judged.get(name)
        if claim and claim["comparisons"]:
            others = [defense for _, defense in claim["of"]["others"]]
            pairs = zip(others, verdicts.compared(claim), strict=True)
            cells = {defense: verdicts.difference(entry) for defense, entry in pairs}
            found.append((row, [cells[defense] for defense in BASELINES]))
    return found


def detection(run: RunFolder) -> dict[str, dict[str, str]]:
    """Model -> detector -> AUC over all images, of 05.

    - run: the run's folder.
    """
    found: dict[str, dict[str, str]] = {}
    for row in run.table("detection"):
        found.setdefault(row["model"], {})[row["detector"]] = f"{number(row, 'AUC, all'):.3f}"
    return found


def on_trainings(run: RunFolder) -> list[tuple[str, str, str]]:
    """Claims on bare models: what is compared, on the claim's images, and on the many of 04.

    - run: the run's folder.
    """
    found = []
    for claim in verdicts.judged(run).values():
        count, more = verdicts.on_more_images(run, claim)
        for entry, again in zip(verdicts.compared(claim), more, strict=False):
            clean = claim["of"].get("column") == "clean"
            what = f"{entry.label}, {'clean' if clean else 'PGD-10'}"
            images = f"{verdicts.difference(again)} on {count:,} images"
            found.append((what, verdicts.difference(entry), images))
    return found


def settings_of(run: RunFolder) -> Params:
    """The parameter file of a run, as it stands.

    - run: the run's folder, which has the file's name.
    """
    return params.load(paths.project_root() / "params" / f"{run.name}.yaml")


def draws_and_precision(run: RunFolder) -> list[str]:
    """On how many draw sets 04's rows are, and their precision where that is not fp32.

    - run: the run's folder.
    """
    found = [record["identity"] for record in verdicts.records(run, "score")]
    sets = max((identity.get("sets", 1) for identity in found), default=1)
    told = [f"Rows with draws are means over {sets} sets of them."] if sets > 1 else []
    # A record without "scored" was scored in TF32.
    made = {(identity.get("precision"), identity.get("scored", "TF32")) for identity in found}
    if len(made) == 1:
        precision, scored = made.pop()
        if precision == "bf16":
            told.append(f"Attacks in bf16, predictions in {scored}.")
    return told


def residuals(run: RunFolder) -> list[str]:
    """The rows of 04 more than a point off their target clean accuracy: "Mixup + A -2.2".

    - run: the run's folder.
    """
    found = []
    for row in run.table("parameters"):
        if row["residual"] and abs(number(row, "residual")) > 1:
            found.append(f"{row['row']} {number(row, 'residual'):+z.1f}")
    return found


def table3(run: RunFolder) -> list[str]:
    """On CIFAR-100 what the paper prints under PGD-10, as the claims' sources name Table 2.

    - run: the run's folder.
    """
    settings = settings_of(run)
    if settings.paper_table != "table3_cifar100":
        return []
    return [f"{row} {printed[PRIMARY]}" for row, printed in paper_table(settings).items()]


def choices(run: RunFolder) -> list[dict[str, str]]:
    """The protocol choices of 04 whose difference is not zero: choice, row, column, difference.

    - run: the run's folder.
    """
    found = []
    for row in run.table("otherwise"):
        name = "difference, points"
        low, high = number(row, f"{name} low"), number(row, f"{name} high")
        if low > 0 or high < 0:
            column = "PGD-10" if row["column"] == PRIMARY else row["column"]
            told = {"choice": row["choice"], "row": row["row"], "column": column}
            found.append(told | {"difference": signed(row, name)})
    return found
