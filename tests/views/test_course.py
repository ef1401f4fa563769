"""What a notebook says as a course: answers of the curated run, checks and exercises."""

import re

import numpy as np
import pytest

from milib import eot
from milib.errors import UserError
from milib.study import params, paths
from milib.views import course
from milib.views.exercises import EXERCISES

RUN = params.load(paths.parameter_file("digits"))


def value(table: str, row: str, column: str, run: str = course.REFERENCE) -> float:
    return float(course.quoted(table, row, column, run))


@pytest.mark.parametrize("notebook", course.ANSWERS)
def test_an_answer_is_marked_and_quotes_the_curated_tables(notebook, capsys):
    course.answer(notebook)
    mark, *lines = capsys.readouterr().out.splitlines()
    run = "c10_500" if notebook[:2] in ("03", "04", "05", "07") else "c10_compact"
    assert mark.startswith(f"From the curated run {run}, not this run (CIFAR-10, ")
    assert mark.endswith(" test images, eps = 8/255, N = 30):")
    page = (paths.project_root() / "notebooks" / f"{notebook}.ipynb").read_text("utf-8")
    assert f"read from the tables of the curated run `{run}`, which comes with the clone." in page
    said, place = " ".join(lines).replace("\u00a0", " "), 0
    assert "{" not in said and max(map(len, [mark, *lines])) <= 100
    for field in course.FIELD.findall(course.ANSWERS[notebook]):
        place = said.index(course.quoted(*field, run), place)


def test_an_answer_has_a_notebook_of_its_own():
    names = sorted(path.stem for path in (paths.project_root() / "notebooks").glob("*.ipynb"))
    assert list(course.ANSWERS) == names


def test_the_words_of_the_answers_are_those_of_the_numbers():
    """Which number is the larger one is said in words."""
    tv, robust = ("TV, predictions", "PGD-10")
    assert 0.05 < value("models_01", "Mixup", tv) < value("models_01", "ERM", tv)
    assert value("models_01", "Mixup", robust) < 2 < value("models_01", "Mixup", "MI-OL, PGD-10")
    for name in ("AT", "Interpolated AT"):
        assert 30 < value("models_02", name, robust) < 40
    assert value("models_02", "Interpolated AT", "clean") < value("models_02", "AT", "clean")
    for mode in ("MI-PL, Eq. 2", "MI-OL, Eq. 2"):
        raised, lowered, right = (
            value("theory", quantity, mode, "c10_500")
            for quantity in ("Delta F_y", "Delta F_yhat", "MI decides y, %")
        )
        assert raised > 0 > lowered and right < 25
    bare, mi_ol, guo = (
        value("oblivious", f"Mixup{more}", "untargeted_pgd10", "c10_500")
        for more in ("", " + MI-OL", " + Guo et al. (2018)")
    )
    assert bare < mi_ol < guo
    bare, mi_ol, guo = (
        value("oblivious", f"Interpolated AT{more}", "untargeted_pgd10", "c10_500")
        for more in ("", " + MI-OL", " + Guo et al. (2018)")
    )
    assert bare < guo < mi_ol
    row, ends = "Interpolated AT + Guo et al. (2018)", []
    for end in ("low", "high"):
        ends.append(value("paired", row, f"untargeted_pgd10, points {end}", "c10_500"))
    assert ends[0] < 0 < ends[1], "so few images cannot tell the two apart"
    for name in ("Mixup", "Interpolated AT"):
        with_mi, alone = (
            value("oblivious", f"{name}{more}", "clean", "c10_500") for more in (" + MI-OL", "")
        )
        assert with_mi < alone
    mixup, other = ("Mixup", "Interpolated AT")
    for net in (mixup, other):
        mi_pl, confidence = (
            value("detection", f"{net}, {name}", "AUC, all", "c10_500")
            for name in ("MI-PL", "plain confidence")
        )
        if net == mixup:
            assert 0.5 < 1 - confidence < 0.7 < mi_pl
        else:
            assert mi_pl < 0.5 < confidence
    adaptive = {net: value("adaptive", "30", f"{net}, eq24", "c10_500") for net in (mixup, other)}
    assert adaptive[mixup] < 0.05
    assert adaptive[other] > value("adaptive", "0", f"{other}, none", "c10_500")
    ends = []
    for column in ("MI-OL minus this, points low", "MI-OL minus this, points high"):
        ends.append(value("adaptive_standard", f"{other}, -", column, "c10_500"))
    assert ends[0] < 0 < ends[1], "so few images show no difference"
    worst = "worst case"
    assert value("beyond_left", "Mixup + MI-OL, ratio 0.5", worst) < 1
    mi_ol = value("beyond_left", f"{other} + MI-OL, ratio 0.6", worst)
    assert value("beyond_left", f"{other}, -", worst) < mi_ol
    assert value("beyond_left", f"{other} + any label, ratio 0.6", worst) >= mi_ol
    row = f"{other} + MI-OL, ratio 0.6"
    standard = value("adaptive_standard", row, "standard", "c10_500")
    assert standard < adaptive[other], "ten steps are a weak attack"
    assert value("beyond_rows", "AT, -", "standard") >= value("beyond_rows", row, "standard")


def test_on_the_trade_off_no_defense_is_first_at_every_price():
    """The settings that the answer names, and that neither of a pair wins on both nets."""
    rows = {tuple(field[1:]) for field in course.FIELD.findall(course.ANSWERS["06_tradeoff"])}
    found = {key: value("tradeoff", *key) for key in rows}
    combined, guo, xie, mi_ol = (
        {column: found[row, column] for row, column in found if word in row}
        for word in ("MI-Combined", "Guo", "Xie", "Interpolated AT, MI-OL")
    )
    assert combined["PGD-10"] > guo["PGD-10"] and abs(combined["clean"] - guo["clean"]) < 1
    assert xie["PGD-10"] > mi_ol["PGD-10"] and xie["clean"] > mi_ol["clean"]
    on_front = set()
    for ratio in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        if course.quoted("tradeoff", f"Mixup, MI-OL, ratio {ratio}", "front"):
            on_front.add(ratio)
    assert max(on_front) == 0.4, "its clean accuracy grows with the ratio"


@pytest.mark.parametrize("missing", ["folder", "project"])
def test_without_the_curated_run_one_line_says_so(missing, tmp_path, monkeypatch, capsys):
    def nowhere():
        raise UserError("no project above /")

    gone = (lambda: tmp_path) if missing == "folder" else nowhere
    monkeypatch.setattr(course, "reference_root", gone)
    course.answer("04_oblivious")
    line = "The curated run c10_500 is not here: a clone of the project has it.\n"
    assert capsys.readouterr().out == line


def test_a_check_says_what_it_asked(capsys):
    course.state("largest difference below 5 points", np.bool_(True))
    course.state("none is left", False)
    assert capsys.readouterr().out == "largest difference below 5 points: yes\nnone is left: no\n"


LINEARITY = {"erm": {"prediction": [[0.2, 0.4]]}, "mixup": {"prediction": [[0.1, 0.2]]}}
POINTS = {
    ("mixup", "mi_ol"): np.array([[80.0, 50.0], [91.0, 20.0]]),
    ("mixup", "guo"): np.array([[95.0, 30.0]]),
    ("mixup", "xie"): np.array([[70.0, 10.0]]),
    ("interpolated_at", "mi_pl"): np.array([[99.0, 90.0]]),
}
SOLVED = {
    "1a": (0.61, 0.7, ()),
    "1b": (50, 0.5, (LINEARITY,)),
    "1c": (0, 1, ()),
    "2a": (12, 11, (RUN,)),
    "3a": (0.01, 0.1, ()),
    "3b": (0.4, 0.6, ()),
    "3c": (120, 60, (RUN,)),
    "4a": (1.26, 0, (RUN,)),
    "4c": (0.05, 0.1, (RUN,)),
    "5b": (14, 80, ()),
    "6a": ("Guo et al. (2018)", "MI-OL", (POINTS,)),
    "6b": (2, 3, ()),
    "7a": (300, 30, (RUN,)),
    "8a": (4000, 500, (eot.STANDARD,)),
    "8c": ("gradients are masked", "the defense is robust", ()),
}
"""Exercise -> a right answer, a wrong one, and what the notebook gives."""


@pytest.mark.parametrize("name", SOLVED)
def test_an_exercise_knows_right_from_wrong(name, capsys):
    right, wrong, given = SOLVED[name]
    exercise = EXERCISES[name]
    for answer, told in (
        (None, f"Exercise {name} is open. Hint: {exercise.hint}."),
        (right, f"Exercise {name}: {right} is right: {exercise.why}."),
        (wrong, f"Exercise {name}: {wrong} is not right. Hint: {exercise.hint}."),
    ):
        course.check(name, answer, *given)
        assert capsys.readouterr().out == f"{told}\n"


def scored(right: list[float]) -> dict:
    return {"labels": [0] * 4, "cell": {"predictions": [[1 - value for value in right]]}}


def test_exercises_on_records_are_solved_from_them():
    three, one = scored([1, 1, 1, 0]), scored([1, 0, 0, 0])
    records = {("mixup", "as_published", 30): three, ("mixup", "eq24", 30): one}
    assert EXERCISES["7b"].solution(records, 30) == 50
    clean, attacked = ({"mi_pl": [0.0, 0.4]}, {"mi_pl": [0.2, 0.6]})
    scores = {"clean": clean, "untargeted_pgd10": attacked}
    assert EXERCISES["5a"].solution({"mixup": {"scores": scores}}) == 0.25


@pytest.mark.parametrize(
    ("name", "answer"), [("1a", "a lot"), ("1a", True), ("6a", "MI"), ("6a", 1)]
)
def test_what_is_no_answer_ends_in_one_line(name, answer):
    with pytest.raises(UserError, match=r"^answer is .+: (a number|one of)") as error:
        course.check(name, answer, *SOLVED[name][2])
    assert "\n" not in str(error.value)


def test_hints_and_reasons_are_one_sentence():
    for exercise in EXERCISES.values():
        for text in (exercise.hint, exercise.why):
            assert re.fullmatch(r"[^\n]{10,110}[^.\n]", text)
