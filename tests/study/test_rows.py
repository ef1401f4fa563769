"""Rows, columns and cells of the tables; the paper's values are all there and are numbers."""

import pytest

from milib.errors import UserError
from milib.study import params, paths, rows
from milib.study.rows import correct

PAPER = paths.project_root() / "params" / "paper"


def test_correct_averages_draw_sets_within_each_image():
    cell = {"predictions": [[1, 2, 3], [1, 0, 0]]}
    assert correct(cell, [1, 2, 2]).tolist() == [1, 0.5, 0]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run beside a copy of the paper's Table 3; the copy's path is `run[1]`."""
    found = params.load(paths.project_root() / "params" / "c100.yaml")
    copy = tmp_path / "params" / "paper" / "table3_cifar100.csv"
    copy.parent.mkdir(parents=True)
    copy.write_bytes((PAPER / copy.name).read_bytes())
    monkeypatch.setattr(rows, "project_root", lambda: tmp_path)
    return found, copy


@pytest.mark.parametrize(("name", "count"), rows.PRINTED.items())
def test_the_papers_tables_are_read_whole(name, count):
    run = "c10" if "cifar10." in f"{name}." else "c100"
    found = rows.paper_table(params.load(paths.project_root() / "params" / f"{run}.yaml"))
    assert len(found) == count and all(len(row) == 7 for row in found.values())
    assert found["Mixup"]["targeted_pgd10"] == "<=1"


DAMAGE = {
    "cut in a line": (lambda text: text[: len(text) // 2], "has 7 rows"),
    "cut between lines": (lambda text: "\n".join(text.splitlines()[:9]), "has 8 rows"),
    "a row more": (lambda text: text + text.splitlines()[-1] + "\n", "has 14 rows"),
    "a row twice": (
        lambda text: text.replace("Mixup + Xie et al. (2018)", "Mixup + Guo et al. (2018)", 1),
        "line 6: method is 'Mixup + Guo et al. (2018)'",
    ),
    "a misspelt row": (
        lambda text: text.replace("Mixup + MI-OL", "Mixup + MIOL"),
        "'Mixup + MIOL'",
    ),
    "a misspelt column": (lambda text: text.replace("clean", "claen"), "its columns are"),
    "columns exchanged": (
        lambda text: text.replace(
            "untargeted_pgd10,untargeted_pgd50", "untargeted_pgd50,untargeted_pgd10"
        ),
        "its columns are",
    ),
    "a column less": (
        lambda text: "\n".join(line.rpartition(",")[0] for line in text.splitlines()),
        "its columns are",
    ),
    "no number": (lambda text: text.replace("74.2", "74,2"), "line 2 has 9 cells"),
    "a word": (lambda text: text.replace("74.2", "high"), "line 2: clean is 'high'"),
    "NaN": (lambda text: text.replace("74.2", "nan"), "line 2: clean is 'nan'"),
    "above 100": (lambda text: text.replace("74.2", "742"), "line 2: clean is '742'"),
    "empty cell": (lambda text: text.replace("74.2", ""), "line 2: clean is ''"),
    "empty": (lambda text: "", "cannot be read as CSV"),
    "a quote": (lambda text: text.replace("Mixup,", '"Mixup,', 1), "cannot be read as CSV"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_table_of_the_paper_ends_in_one_line(run, damage):
    change, words = DAMAGE[damage]
    settings, path = run
    before = path.read_text(encoding="utf-8")
    path.write_text(change(before), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != before
    with pytest.raises(UserError) as caught:
        rows.paper_table(settings)
    assert words in str(caught.value) and path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_text_is_no_table(run):
    settings, path = run
    path.write_bytes("größe".encode("latin-1"))
    with pytest.raises(UserError, match=path.name):
        rows.paper_table(settings)
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=path.name):
        rows.paper_table(settings)
