"""What a notebook says as a course: the answer of the curated run, checks, and exercises.

The answer's numbers are read from the tables of a curated run, and marked as such: they are no
result of the notebook's own run.
"""

import csv
import itertools
import json
import re
import textwrap

from milib import checks
from milib.errors import UserError
from milib.study.paths import reference_root
from milib.views.exercises import EXERCISES
from milib.views.styling import KEYS

REFERENCE = "c10_compact"
"""The curated run whose answers the notebooks quote, where OTHERS names no other."""
OTHERS: dict[str, str] = dict.fromkeys(
    ["03_theory", "04_oblivious", "05_detection", "07_adaptive_attacks"], "c10_500"
)
"""Notebook -> the curated run that it quotes instead: that of the paper's own net."""
WIDTH = 100
"""Characters in a printed line."""
FIELD = re.compile(r"\{(\w+) \| (.+?) \| (.+?)\}")
"""A number in an answer: {table | what the row is of | column}."""
AFTER_DRAWS = re.compile(r"(?<=N = )(\d+).*")
"""What a table's settings say after images, epsilon and draws."""
ANSWERS = {
    "01_train_mixup": (
        "More than ERM does, but not linear. The total variation from Eq. 3, which is 0 for a "
        "linear classifier, is {models_01 | Mixup | TV, predictions} for the mixup model and "
        "{models_01 | ERM | TV, predictions} for ERM. Mixup training alone does not protect: "
        "under PGD-10 the model keeps {models_01 | Mixup | PGD-10} %, with MI-OL "
        "{models_01 | Mixup | MI-OL, PGD-10} %."
    ),
    "02_train_interpolated_at": (
        "They keep about a third under PGD-10: AT {models_02 | AT | PGD-10} %, interpolated AT "
        "{models_02 | Interpolated AT | PGD-10} %, ERM {models_02 | ERM | PGD-10} %. Mixup fits "
        "in, and gains nothing by itself: clean accuracy is "
        "{models_02 | Interpolated AT | clean} % with it and {models_02 | AT | clean} % without."
    ),
    "03_theory": (
        "Mixing shrinks the perturbation and moves it to another input; the condition is RIC "
        "(Eq. 10). On the mixup model under PGD-10 its means hold for both modes: F_y rises by "
        "{theory | Delta F_y | MI-PL, Eq. 2} under MI-PL and {theory | Delta F_y | MI-OL, Eq. 2} "
        "under MI-OL, and F_yhat falls. The decision is seldom right all the same: of the images "
        "that the attack turned (Eq. 2), on {theory | MI decides y, % | MI-PL, Eq. 2} % under "
        "MI-PL and on "
        "{theory | MI decides y, % | MI-OL, Eq. 2} % under MI-OL."
    ),
    "04_oblivious": (
        "Some, at a cost of clean accuracy. On the paper's net with mixup, PGD-10 leaves "
        "{oblivious | Mixup | untargeted_pgd10} % bare, "
        "{oblivious | Mixup + MI-OL | untargeted_pgd10} % with MI-OL and "
        "{oblivious | Mixup + Guo et al. (2018) | untargeted_pgd10} % with the simpler defense "
        "of Guo et al. With interpolated AT, stopped early, it leaves "
        "{oblivious | Interpolated AT | untargeted_pgd10} %, "
        "{oblivious | Interpolated AT + MI-OL | untargeted_pgd10} % and "
        "{oblivious | Interpolated AT + Guo et al. (2018) | untargeted_pgd10} %: so few images "
        "cannot tell MI-OL from Guo et al. there. Where it attacks the net's prediction instead "
        "of the label, as the authors' code does, it leaves "
        "{otherwise | the prediction is attacked, Interpolated AT, untargeted_pgd10 | otherwise} "
        "%, {otherwise | the prediction is attacked, Interpolated AT + MI-OL, untargeted_pgd10 | "
        "otherwise} % and {otherwise | the prediction is attacked, Interpolated AT + Guo et al. "
        "(2018), untargeted_pgd10 | otherwise} %. The paper prints "
        "{oblivious | Interpolated AT | untargeted_pgd10 paper} %, "
        "{oblivious | Interpolated AT + MI-OL | untargeted_pgd10 paper} % and "
        "{oblivious | Interpolated AT + Guo et al. (2018) | untargeted_pgd10 paper} %. On mixup, "
        "clean accuracy falls from "
        "{oblivious | Mixup | clean} % to {oblivious | Mixup + MI-OL | clean} % with MI-OL, on "
        "interpolated AT from {oblivious | Interpolated AT | clean} % to "
        "{oblivious | Interpolated AT + MI-OL | clean} %."
    ),
    "05_detection": (
        "On mixup, yes; on interpolated AT, no. On mixup the area under the ROC curve is "
        "{detection | Mixup, MI-PL | AUC, all} for MI-PL, which finds "
        "{detection | Mixup, MI-PL | at 5 % FPR, all} % at 5 % false positives. Plain confidence, "
        "where low means adversarial as in the paper, has "
        "{detection | Mixup, plain confidence | AUC, all}: PGD makes this net too confident. Read "
        "the other way round it has 1 minus that, still less than MI-PL. On "
        "interpolated AT MI-PL has {detection | Interpolated AT, MI-PL | AUC, all}, below one "
        "half, and plain confidence {detection | Interpolated AT, plain confidence | AUC, all}. An "
        "attack that evades MI-PL: notebook 8."
    ),
    "06_tradeoff": (
        "No defense at every price. On mixup, MI-Combined keeps "
        "{tradeoff | Mixup, MI-Combined, ratio_pl 0.5, ratio_ol 0.4, threshold 0.2 | PGD-10} % "
        "under PGD-10 at a clean accuracy of "
        "{tradeoff | Mixup, MI-Combined, ratio_pl 0.5, ratio_ol 0.4, threshold 0.2 | clean} %, "
        "Guo et al. {tradeoff | Mixup, Guo et al. (2018), sizes [22, 30] | PGD-10} % at "
        "{tradeoff | Mixup, Guo et al. (2018), sizes [22, 30] | clean} %. MI-OL is on the "
        "Pareto front of mixup only up to a clean accuracy of "
        "{tradeoff | Mixup, MI-OL, ratio 0.4 | clean} %. On interpolated AT, Xie et al. keep "
        "{tradeoff | Interpolated AT, Xie et al. (2018), sizes [22, 30] | PGD-10} % at "
        "{tradeoff | Interpolated AT, Xie et al. (2018), sizes [22, 30] | clean} %, MI-OL "
        "{tradeoff | Interpolated AT, MI-OL, ratio 0.6 | PGD-10} % at "
        "{tradeoff | Interpolated AT, MI-OL, ratio 0.6 | clean} %."
    ),
    "07_adaptive_attacks": (
        "On mixup, nothing: with 30 adaptive samples, Eq. 24 leaves "
        "{adaptive | 30 | Mixup, eq24} % under MI-OL. On interpolated AT it leaves "
        "{adaptive | 30 | Interpolated AT, eq24} %. Ten steps are a weak attack. The standard of "
        "notebook 8, under which an image that is wrong without an attack counts as wrong, leaves "
        "{adaptive_standard | Interpolated AT + MI-OL, ratio 0.6 | standard} % there, and "
        "{adaptive_standard | Interpolated AT, - | standard} % bare. The difference is "
        "{adaptive_standard | Interpolated AT, - | MI-OL minus this, points} points, its interval "
        "{adaptive_standard | Interpolated AT, - | MI-OL minus this, points low} to "
        "{adaptive_standard | Interpolated AT, - | MI-OL minus this, points high}: so few images "
        "cannot tell. Notebook 8 attacks the compact net on more."
    ),
    "08_beyond_the_paper": (
        "On mixup, next to nothing: under the worst case MI-OL is right on "
        "{beyond_left | Mixup + MI-OL, ratio 0.5 | worst case} % of the images, on average over "
        "draws. On interpolated AT it is right on "
        "{beyond_left | Interpolated AT + MI-OL, ratio 0.6 | worst case} %, the bare net on "
        "{beyond_left | Interpolated AT, - | worst case} %. Choosing partners by the prediction is "
        "not what helps: with partners of any label, most of which differ from it all the same, it "
        "is "
        "{beyond_left | Interpolated AT + any label, ratio 0.6 | worst case} % (MI-OL minus that: "
        "{beyond_gains | Interpolated AT + MI-OL, minus any label | worst case, points} points, "
        "{beyond_gains | Interpolated AT + MI-OL, minus any label | worst case, points low} to "
        "{beyond_gains | Interpolated AT + MI-OL, minus any label | worst case, points high}). "
        "Plain AT was not "
        "attacked by all of the battery. Under the standard attack alone it keeps "
        "{beyond_rows | AT, - | standard} % without a defense, and interpolated AT with MI-OL "
        "{beyond_rows | Interpolated AT + MI-OL, ratio 0.6 | standard} %."
    ),
}
"""Notebook -> its answer. A test compares the words with the numbers."""


def _table(run: str, name: str) -> dict[str, dict[str, str]]:
    """What a row is of -> column -> number as the curated table holds it."""
    path = reference_root() / run / "tables" / f"{name}.csv"
    with open(path, newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    keys = list(itertools.takewhile(KEYS.__contains__, lines[0]))
    return {", ".join(line[key] for key in keys): line for line in lines}


def quoted(table: str, row: str, column: str, run: str = REFERENCE) -> str:
    """A number of a curated run, as its table holds it.

    - table: the name of its file in tables/.
    - row: what the row is of: its leading columns, joined by commas.
    - column: as the file names it.
    - run: the curated run (default: c10_compact).

    Raises KeyError for a row or column that is not there, OSError without the file.
    """
    return _table(run, table)[row][column]


def answer(notebook: str) -> None:
    """Print what a curated run answers to a notebook's question, marked as its numbers.

    - notebook: its file name without the ending.

    Where the curated run is not there (milib was installed without the clone), that is said.
    """
    text, run = ANSWERS[notebook], OTHERS.get(notebook, REFERENCE)
    table = FIELD.findall(text)[0][0]
    try:
        noted = json.loads((reference_root() / run / "run.json").read_text("utf-8"))
        said = FIELD.sub(lambda found: quoted(found[1], found[2], found[3], run), text)
    except (OSError, UserError):
        print(f"The curated run {run} is not here: a clone of the project has it.")
        return
    settings = AFTER_DRAWS.sub(r"\1", noted["tables"][table]["settings"])
    mark = f"From the curated run {run}, not this run (CIFAR-10, {settings}):"
    for text in (mark, said.replace(" %", "\u00a0%")):  # no line begins with a percent sign
        print(textwrap.fill(text, WIDTH))


def state(what: str, holds: bool) -> None:
    """Print what was checked, and whether it holds.

    - what: with its threshold; a digit that differs between processors must not stand in it.
    - holds: the outcome.
    """
    print(f"{what}: {'yes' if holds else 'no'}")


def check(name: str, answer: object, *given: object) -> None:
    """Print whether the answer to an exercise is right; a hint where it is None or wrong.

    - name: of the exercise, such as "1a".
    - answer: a number or one of its choices; None: not answered yet.
    - given: what the solution is computed from, such as the notebook's records.

    Raises UserError for an answer that is no number, or none of the choices.
    """
    exercise = EXERCISES[name]
    if answer is None:
        print(f"Exercise {name} is open. Hint: {exercise.hint}.")
        return
    solution = exercise.solution(*given)
    if exercise.choices:
        right = checks.choice("answer", answer, exercise.choices) == solution
    else:
        distance = abs(checks.number("answer", answer, -1e9, 1e9) - float(solution))
        right = distance <= exercise.within
    told = f"is right: {exercise.why}." if right else f"is not right. Hint: {exercise.hint}."
    print(f"Exercise {name}: {answer} {told}")
