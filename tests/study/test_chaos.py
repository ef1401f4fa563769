"""`make chaos` in small: the study survives kills, and what does not is found out."""

import dataclasses
import sys
from pathlib import Path

import chaos
import chaos_cases
import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Where the trials are made; whatever still runs there at the end is killed."""
    made = chaos.Lab(tmp_path_factory.mktemp("chaos"))
    yield made
    chaos.kill(chaos.ALL, made.folder)


FEW = ("training", "records", "shipping", "report", "curating", "papermill", "snakemake")
"""The cases of this test; `make chaos` has `launch` too, and takes an hour."""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "name"), list(enumerate(FEW)))
def test_the_study_survives(lab, number, name):
    """One kill of each case, by turns inside a save and at a random moment."""
    case = dataclasses.replace(chaos_cases.CASES[name], most=1)
    outcome = lab.trials(case, 1, seed=number % 2)
    assert outcome.inside + outcome.outside
    assert not outcome.faults, "\n".join(outcome.faults)


# What does not survive

SAVES = """
import json, os, time
from pathlib import Path

folder = Path(os.environ["MILIB_OUTPUTS"])
folder.mkdir(exist_ok=True)

def save(name, value, temporary):
    with open(folder / temporary, "w") as file:
        file.write(json.dumps(value))
        file.flush()
        os.fsync(file.fileno())
    os.replace(folder / temporary, folder / name)

"""
IN_PLACE = """
with open(folder / "a.json", "w") as file:
    file.write('{"a":')
    file.flush()
    time.sleep(0.5)
    file.write("1}")
"""
ATOMIC = "save('a.json', 1, '.a.json.tmp')"
LITTER = "save('a.json', 1, f'.a.json.{os.getpid()}.tmp')"
OTHERWISE = """
seen = (folder / "a.json").exists()
save("a.json", 1, ".a.json.tmp")
time.sleep(0.5)
save("b.json", seen, ".b.json.tmp")
"""
REFUSES = """
if (folder / "a.json").exists():
    raise SystemExit("what was this?")
(folder / "a.json").write_text("1")
time.sleep(0.5)
"""
STAYS = """
import subprocess
save("a.json", 1, ".a.json.tmp")
subprocess.Popen(["sleep", "60"])
"""
INSIDE, OUTSIDE = 0, 1
"""Seeds of trials."""


def case_of(name: str, script: str) -> chaos_cases.Case:
    """A case that starts from nothing and is killed once."""
    words = (sys.executable, "-c", SAVES + script)
    return chaos_cases.Case(name, words, chaos_cases.nothing, ("-c",), most=1)


@pytest.mark.parametrize(
    ("name", "script", "seed", "fault"),
    [
        ("in-place", IN_PLACE, OUTSIDE, "after the kill: outputs/a.json is damaged"),
        ("litter", LITTER, INSIDE, ".tmp is left over"),
        ("otherwise", OTHERWISE, OUTSIDE, "outputs/b.json differs"),
        ("refuses", REFUSES, OUTSIDE, "run again, it ended with 1: what was this?"),
        ("stays", STAYS, INSIDE, "run again, it left processes: "),
    ],
)
def test_what_does_not_survive_is_found_out(lab, monkeypatch, capsys, name, script, seed, fault):
    monkeypatch.setattr(chaos, "PATIENCE", 1)
    outcome = lab.trials(case_of(name, script), 1, seed)
    assert outcome.survived < outcome.tried
    assert fault in outcome.faults[0] and f"--only {name} --seed" in outcome.faults[0]
    assert outcome.faults[0] in capsys.readouterr().out


def test_what_is_whole_or_absent_survives(lab):
    outcome = lab.trials(case_of("atomic", ATOMIC), 4, INSIDE)
    assert outcome.inside and outcome.survived == outcome.tried, outcome.faults


def test_every_file_that_is_missing_left_over_or_other_is_named():
    found, wanted = {"a": 1, "b": 2, "d": 4}, {"a": 1, "b": 3, "c": 3}
    lines = ["d is left over", "c is missing", "b differs"]
    assert chaos_cases.differences(found, wanted) == lines
