"""Reading a run: the packed records, what is damaged, and the order of tables and figures."""

import json
import lzma

import pytest

from milib import files
from milib.errors import UserError
from milib.report.run_folder import NOTES, PACKED, RunFolder, pack, unpack


def content(result: dict) -> dict:
    return {"name": "score", "checksum": files.digest(result), "result": result}


RECORDS = {f"score-{k}.json": content({"cells": list(range(20 * k))}) for k in (3, 1, 2)}


def test_packed_records_come_back_by_name(tmp_path):
    files.write_atomic(tmp_path / PACKED, pack(RECORDS))
    found = unpack(tmp_path / PACKED)
    assert found == RECORDS and list(found) == sorted(RECORDS)
    assert unpack(tmp_path / "none.xz") == {}


def test_the_same_records_give_the_same_bytes():
    assert pack(RECORDS) == pack({name: RECORDS[name] for name in sorted(RECORDS)})


def test_a_record_is_a_line_of_json():
    lines = lzma.decompress(pack(RECORDS)).decode().splitlines()
    assert [json.loads(line)["file"] for line in lines] == sorted(RECORDS)


def changed_line(packed: bytes) -> bytes:
    """The second record's numbers changed, its checksum kept."""
    return lzma.compress(lzma.decompress(packed).replace(b"[0, 1, 2, 3", b"[0, 1, 2, 4", 2))


def cut_line(packed: bytes) -> bytes:
    return lzma.compress(lzma.decompress(packed)[:-10])


def without_checksum(packed: bytes) -> bytes:
    return lzma.compress(lzma.decompress(packed).replace(b'"checksum"', b'"sum"'))


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[: len(packed) // 2],
        lambda packed: packed[:60] + bytes([packed[60] ^ 1]) + packed[61:],
        lambda packed: b"{",
        lambda packed: lzma.compress(b"[1]\n"),
        changed_line,
        cut_line,
        without_checksum,
    ],
)
def test_damage_ends_in_one_line_that_names_the_file(tmp_path, damage):
    packed = pack(RECORDS)
    files.write_atomic(tmp_path / PACKED, damage(packed))
    assert damage(packed) != packed
    with pytest.raises(UserError, match=PACKED) as caught:
        unpack(tmp_path / PACKED)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", '{"profile": {}}'])
def test_damaged_notes_end_in_one_line(tmp_path, text):
    (tmp_path / NOTES).write_text(text)
    with pytest.raises(UserError, match=NOTES) as caught:
        RunFolder(tmp_path).tables()
        RunFolder(tmp_path).profile()
    assert "\n" not in str(caught.value)


def test_tables_and_figures_come_in_the_notebooks_order(tmp_path):
    """A notebook reads more and more records; names decide where it read as many."""
    made = {
        "z": ("01_a", 1),
        "y": ("01_a", 2),
        "b": ("04_b", 0),
        "a": ("04_b", 1),
        "c": ("04_b", 1),
    }
    for name, (notebook, count) in made.items():
        about = {"notebook": notebook, "records": ["r.json"] * count}
        for kind, ending in (("tables", "csv"), ("figures", "png")):
            files.write_atomic(tmp_path / kind / f"{name}.{ending}", b"row\n")
            files.write_atomic(tmp_path / kind / f"{name}.json", json.dumps(about).encode())
    run = RunFolder(tmp_path)
    assert run.tables() == run.figures() == ["z", "y", "b", "a", "c"]
    assert run.about("tables", "y")["notebook"] == "01_a" and run.about("tables", "none") == {}


def test_an_empty_run_has_nothing(tmp_path):
    run = RunFolder(tmp_path / "none")
    assert run.records() == run.profile() == {} and run.parameters("01_a") is None
    assert run.tables() == run.figures() == run.logs() == run.table("a") == []


def test_training_logs_are_recipe_and_epochs(tmp_path):
    path = tmp_path / "checkpoints" / "erm-1.jsonl"
    files.write_atomic(path, b'{"name": "erm"}\n{"epoch": 1}\n{"epoch": 2}\n')
    (log,) = RunFolder(tmp_path).logs()
    assert (log.file, log.recipe, len(log.epochs)) == ("erm-1.jsonl", {"name": "erm"}, 2)
    for text in ("[1]\n", "{", ""):
        path.write_text(text)
        with pytest.raises(UserError, match=r"erm-1\.jsonl is damaged"):
            RunFolder(tmp_path).logs()
