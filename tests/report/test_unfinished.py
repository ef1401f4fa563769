"""A run that is not done: what another machine finds of it, and what it does not."""

import json

import pytest

from milib.errors import UserError
from milib.report import unfinished
from milib.study import store as stores
from milib.study.store import Store


@pytest.fixture
def made(tmp_path) -> Store:
    """A run with two records."""
    store = Store(tmp_path / "here" / "mine", tmp_path / "none", "08_beyond_the_paper")
    for number in (1, 2):
        store.record(f"part-{number}", {"n": number}, lambda number=number: {"found": number})
    return store


def test_another_machine_goes_on_from_what_is_kept(tmp_path, made):
    packed, there = tmp_path / "mine.jsonl.xz", tmp_path / "there" / "mine"
    assert unfinished.keep(made.folder, packed) == 2
    assert unfinished.take(there, packed) == 2
    other = Store(there, tmp_path / "none", "08_beyond_the_paper")
    for number in (1, 2):
        found = other.record(f"part-{number}", {"n": number}, lambda: pytest.fail("made again"))
        assert found == {"found": number}
    assert other.record("part-3", {"n": 3}, lambda: {"found": 3}) == {"found": 3}
    assert unfinished.keep(there, packed) == 3
    assert unfinished.take(made.folder, packed) == 1, "what is there stays as it is"


def test_records_of_other_code_are_neither_kept_nor_taken(tmp_path, made, monkeypatch):
    packed = tmp_path / "mine.jsonl.xz"
    unfinished.keep(made.folder, packed)
    for module in (unfinished, stores):
        monkeypatch.setattr(module, "code_digest", lambda: "another")
    with pytest.raises(UserError, match="the run begins anew"):
        unfinished.take(tmp_path / "there", packed)
    with pytest.raises(UserError, match="nothing to keep"):
        unfinished.keep(made.folder, packed)
    made.record("part-3", {"n": 3}, lambda: {"found": 3})
    assert unfinished.keep(made.folder, packed) == 1


def test_a_damaged_record_is_not_kept(tmp_path, made):
    [first, _] = sorted((made.folder / "records").glob("*.json"))
    content = json.loads(first.read_text())
    first.write_text(json.dumps(content | {"result": {"found": 7}}))
    with pytest.raises(UserError, match="is damaged"):
        unfinished.keep(made.folder, tmp_path / "mine.jsonl.xz")
    (tmp_path / "torn.jsonl.xz").write_bytes(b"torn")
    with pytest.raises(UserError):
        unfinished.take(tmp_path / "there", tmp_path / "torn.jsonl.xz")


def test_a_run_of_which_nothing_was_kept_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nobody\.jsonl\.xz does not exist"):
        unfinished.take(tmp_path / "there", tmp_path / "nobody.jsonl.xz")


@pytest.mark.parametrize("words", [[], ["keep"], ["drop", "digits"]])
def test_a_wrong_command_ends_in_one_line(words):
    with pytest.raises(UserError, match="keep RUN, or take RUN"):
        unfinished.main(words)
