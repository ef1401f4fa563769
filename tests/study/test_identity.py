"""What code means: words change nothing, a sign changes what depends on it, in each package."""

import json
import re

import pytest

from milib.study import identity, jobs
from milib.study.claims import DECIDING

SIGNS = {  # module -> a line whose meaning changes with one sign
    "milib.attacks": ("current + step_size", "current - step_size"),
    "milib.defenses": ("(1 - ratio) * partner", "(1 + ratio) * partner"),
    "milib.study.experiments.analysis": ("(1 - ratio)", "(1 + ratio)"),
    "milib.study.claims": ("margin + room", "margin - room"),
    "milib.views.figures": ("0.5", "-0.5"),
    "milib.views.input_explorer": ("2 * epsilon", "-2 * epsilon"),
    "milib.report.index": None,
    "milib.bench.costs": None,
}
RECORDS = {"milib.attacks", "milib.defenses", "milib.study.experiments.analysis"}
"""Those of SIGNS on which a record's numbers depend."""


def reworded(source: str) -> str:
    """Source with another comment at its end, and every docstring that fills a line changed."""
    changed = re.sub(r'(?m)^( *)"""(\w.*)"""$', r'\1"""Otherwise: \2"""', source)
    return changed + "\n# A remark.\n"


def turned(name: str) -> str:
    """A module's source with a sign changed; with a constant more where the table names none."""
    if SIGNS[name] is None:
        return identity.SOURCES[name] + "\nCHANGED = -1\n"
    before, after = SIGNS[name]
    assert before in identity.SOURCES[name]
    return identity.SOURCES[name].replace(before, after)


@pytest.fixture
def fingerprints(run):
    """fingerprints(): of records, of claims, and of each notebook."""

    def now() -> dict[str, str]:
        found = {name: jobs.fingerprint(name, run) for name in jobs.notebooks()}
        return found | {
            "records": identity.code_digest(),
            "claims": identity.code_digest(DECIDING),
        }

    return now


def test_rewording_every_docstring_and_comment_changes_nothing(fingerprints, monkeypatch):
    before, count = fingerprints(), 0
    for name, source in dict(identity.SOURCES).items():
        count += reworded(source).count("Otherwise: ")
        monkeypatch.setitem(identity.SOURCES, name, reworded(source))
    assert count > 100
    assert fingerprints() == before


@pytest.mark.parametrize("name", SIGNS)
def test_a_sign_changes_what_depends_on_it(fingerprints, monkeypatch, name):
    before = fingerprints()
    monkeypatch.setitem(identity.SOURCES, name, turned(name))
    changed = {what for what, value in fingerprints().items() if value != before[what]}
    assert ("records" in changed) == (name in RECORDS)
    assert ("claims" in changed) == (name in DECIDING)
    seeing = {notebook for notebook in jobs.notebooks() if name in seen_by(notebook)}
    assert changed - {"records", "claims"} == seeing
    if name.startswith(("milib.report", "milib.bench")):
        assert not changed
    if name == "milib.views.input_explorer":
        assert {notebook[:2] for notebook in seeing} == {"03", "05", "06"}


def seen_by(notebook: str) -> set[str]:
    """The modules that a notebook's cells reach."""
    path = identity.PACKAGE.parent / "notebooks" / f"{notebook}.ipynb"
    cells = json.loads(path.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return identity.reachable(identity.imported("\n".join(code)))


def test_records_depend_on_all_that_computes_them_but_what_is_told_here():
    """A module that experiments can reach decides records, or is named with the reason why not."""
    aside = {
        "milib": "names alone",
        "milib.audit": "the tool, which keeps records of its own",
        "milib.audit.checklist": "read from records afterwards",
        "milib.audit.facts": "read from records afterwards",
        "milib.audit.kept": "keeps",
        "milib.audit.paired": "read from records afterwards",
        "milib.audit.result": "shows",
        "milib.errors": "raises",
        "milib.register": "fills tables; what it is given is part of a record's identity",
        "milib.shipped": "a record names its weights",
        "milib.files": "keeps files; a changed fingerprint changes every record's name",
        "milib.shapes": "annotations",
        "milib.objectives": "used in training alone",
        "milib.training": "a record names its weights",
        "milib.recipes": "used in training alone",
        "milib.training_state": "used in training alone",
        "milib.divergence": "used in training alone",
        "milib.cuda_graph": "used in training alone",
        "milib.statistics": "read from records afterwards",
        "milib.study": "says what to install",
        "milib.study.checkpoints": "a record names its weights",
        "milib.study.estimate": "how long a training takes",
        "milib.study.extension": "its meaning is part of a record's identity",
        "milib.study.identity": "this, not what is measured",
        "milib.study.locks": "keeps",
        "milib.study.made": "noted beside what is measured",
        "milib.study.pinned": "a record names its weights",
        "milib.study.params": "values are part of a record's identity",
        "milib.study.values": "values are part of a record's identity",
        "milib.study.strict_yaml": "values are part of a record's identity",
        "milib.study.paths": "where files lie",
        "milib.study.progress": "shows",
        "milib.study.rules": "fixed claims",
        "milib.study.store": "keeps",
        "milib.study.weights": "a record names its weights",
    }
    experiments = "milib.study.experiments"
    reached = identity.reachable({experiments, f"{experiments}.beyond"})
    assert reached == set(identity.COMPUTE) | set(aside)


def test_meaning_sees_code_and_no_words():
    one = 'def f(x):\n    """Doc."""\n    return -x  # a sign\n'
    other = "def f(x):\n    'Another.'\n\n    return (-x)\n"
    assert identity.meaning(one) == identity.meaning(other)
    assert identity.meaning(one) != identity.meaning(other.replace("-x", "x"))
    assert identity.meaning("NAME = 1\n'''Explained.'''\n") == identity.meaning("NAME = 1")
    assert identity.meaning("%matplotlib inline") == "%matplotlib inline"


def test_imports_are_followed_through_packages():
    source = "from milib.views import tables\nimport milib.rng\nfrom milib.study.rows import MI\n"
    assert identity.imported(source) == {
        "milib.views",
        "milib.views.tables",
        "milib.rng",
        "milib.study.rows",
    }
    reached = identity.reachable({"milib.views.tables"})
    assert {"milib.views", "milib.study.store", "milib.rng", "milib"} <= reached
    assert not any(name.startswith(("milib.report", "milib.bench")) for name in reached)
