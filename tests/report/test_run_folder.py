"""Reading a run: the packed records, what is damaged, and the order of tables and figures."""

import json
import lzma

import pytest

from milib import files
from milib.errors import UserError
from milib.report.run_folder import NOTES, PACKED, RunFolder, pack, unpack
from milib.study.store import Store


def content(number: int) -> dict:
    """A record as the store writes it."""
    result, identity = {"cells": list(range(20 * number))}, {"number": number}
    found = {"name": "score", "notebook": "04_b", "fingerprint": files.digest(identity)}
    found |= {"checksum": files.digest(result), "seconds": 1.5, "identity": identity}
    return found | {"made": {}, "result": result}


def file_of(record: dict) -> str:
    """The file's name of a record."""
    return f"{record['name']}-{record['fingerprint']}.json"


RECORDS = {file_of(record): record for record in map(content, (3, 1, 2))}


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


def exchanged_names(packed: bytes) -> bytes:
    """Each of two records under the other's name."""
    first, second, *_ = (name.encode() for name in sorted(RECORDS))
    text = lzma.decompress(packed).replace(first, b"-").replace(second, first)
    return lzma.compress(text.replace(b"-" + b'"', second + b'"'))


def with_nan(packed: bytes) -> bytes:
    return lzma.compress(lzma.decompress(packed).replace(b'"seconds": 1.5', b'"seconds": NaN', 1))


def without_checksum(packed: bytes) -> bytes:
    return lzma.compress(lzma.decompress(packed).replace(b'"checksum"', b'"sum"'))


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[: len(packed) // 2],
        lambda packed: packed[:60] + bytes([packed[60] ^ 1]) + packed[61:],
        lambda packed: b"{",
        lambda packed: lzma.compress(b"[1]\n"),
        lambda packed: lzma.compress(b"null\n"),
        lambda packed: lzma.compress(b"[" * 200_000),
        lambda packed: lzma.compress("größe".encode("latin-1")),
        lambda packed: b"",
        lambda packed: lzma.compress(lzma.decompress(packed) + lzma.decompress(packed)),
        exchanged_names,
        with_nan,
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


WHOLE = {"parameters": {}, "profile": {}, "tables": {}, "figures": {}}
ENTRY = {"kind": "record", "name": "x", "seconds": 1.0, "cached": True}
NOTED = [
    {"profile": {}},
    WHOLE | {"profile": []},
    WHOLE | {"profile": {"01_a": {"seconds": "1", "entries": []}}},
    WHOLE | {"profile": {"01_a": {"seconds": 1.0, "entries": [1]}}},
    WHOLE | {"profile": {"01_a": {"seconds": 1.0, "entries": [ENTRY | {"name": None}]}}},
    WHOLE | {"profile": {"01_a": {"entries": []}}},
    WHOLE | {"parameters": {"01_a": [1]}},
    WHOLE | {"tables": {"a": None}},
    WHOLE | {"figures": {"a": {"records": "x"}}},
    WHOLE | {"figures": {"a": {"caption": 1}}},
]
"""Notes of which one part has another form."""


def test_whole_notes_are_read(tmp_path):
    profile = {"01_a": {"seconds": None, "entries": [ENTRY]}}
    (tmp_path / NOTES).write_text(json.dumps(WHOLE | {"profile": profile}))
    assert RunFolder(tmp_path).profile()["01_a"].entries == [ENTRY]


@pytest.mark.parametrize("text", ["{", "[]", "null", "", "[" * 200_000, *map(json.dumps, NOTED)])
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


def test_the_notebooks_of_a_run_are_the_studys_and_those_that_were_executed(tmp_path):
    """`make app` has a profile, too; a notebook that ran in JupyterLab has nothing else."""
    for name in ("03_theory", "train_erm", "mine", "app", "bench"):
        files.write_atomic(tmp_path / "profile" / f"{name}.json", b"[]")
    files.write_atomic(tmp_path / "notebooks" / "mine.ipynb", b"{}")
    assert sorted(RunFolder(tmp_path).notes()["profile"]) == ["03_theory", "mine", "train_erm"]


def test_parameters_that_this_version_does_not_know_are_those_of_the_opening(tmp_path):
    noted = {"metadata": {"papermill": {"parameters": {"run": "digits", "gone": 1}}}}
    files.write_atomic(tmp_path / "notebooks" / "03_theory.ipynb", json.dumps(noted).encode())
    run = RunFolder(tmp_path)
    assert run.parameters("03_theory") is None
    files.write_atomic(tmp_path / "profile" / "03_theory.parameters", b'{"run": "digits"}')
    assert RunFolder(tmp_path).parameters("03_theory") == {"run": "digits"}


def test_an_empty_run_has_nothing(tmp_path):
    run = RunFolder(tmp_path / "none")
    assert run.records() == run.profile() == {} and run.parameters("01_a") is None
    assert run.tables() == run.figures() == run.logs() == run.table("a") == []


def test_training_logs_are_recipe_and_epochs(tmp_path):
    path = tmp_path / "checkpoints" / "erm-1.jsonl"
    files.write_atomic(path, b'{"name": "erm"}\n{"epoch": 1}\n{"epoch": 2}\n')
    (log,) = RunFolder(tmp_path).logs()
    assert (log.file, log.recipe, len(log.epochs)) == ("erm-1.jsonl", {"name": "erm"}, 2)
    for text in ("[1]\n", "{", "", "{}", '{"name": "erm"}\n1\n', "null\n", "[" * 200_000):
        path.write_text(text)
        with pytest.raises(UserError, match=r"erm-1\.jsonl is damaged"):
            RunFolder(tmp_path).logs()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("profile/01_a.json", "null"),
        ("profile/01_a.json", "[1]"),
        ("profile/01_a.seconds", "nan"),
        ("profile/01_a.seconds", "größe"),
        ("tables/a.json", "null"),
        ("tables/a.json", '{"records": 1}'),
        ("figures/a.json", "[" * 200_000),
    ],
)
def test_damage_in_a_live_run_is_named(tmp_path, file, content):
    files.write_atomic(tmp_path / "notebooks" / "01_a.ipynb", b"{}")
    files.write_atomic(tmp_path / file, content.encode("latin-1"))
    with pytest.raises(UserError, match=file) as caught:
        RunFolder(tmp_path).notes()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"row,clean\nMixup\n", b"row\nMixup,1\n", b'row\n"Mixup\n', b"gr\xf6\xdfe\n"]
)
def test_a_damaged_table_is_named(tmp_path, content):
    files.write_atomic(tmp_path / "tables" / "a.csv", content)
    with pytest.raises(UserError, match=r"tables/a\.csv is damaged"):
        RunFolder(tmp_path).table("a")


def test_what_an_unfinished_write_left_is_no_part_of_a_run(tmp_path):
    for file in ("notebooks/.01_a.ipynb", "profile/.01_a.json", "tables/.a.csv", "tables/.a.json"):
        files.write_atomic(tmp_path / file, b"{")
    files.write_atomic(tmp_path / "figures" / ".a.png", b"")
    files.write_atomic(tmp_path / "checkpoints" / ".erm-1.jsonl", b"{")
    files.write_atomic(tmp_path / "records" / ".score-1.json", b"{")
    run = RunFolder(tmp_path)
    assert (
        run.records() == run.profile() == {} and run.tables() == run.figures() == run.logs() == []
    )


def test_a_deleted_record_is_told_with_what_makes_it_again(tmp_path):
    store = Store(tmp_path / "mine", tmp_path, "04_b")
    for name in ("score", "claims-04_b"):
        store.record(name, {}, lambda: {})
    files.write_atomic(store.folder / "notebooks" / "04_b.ipynb", b"{}")
    run = RunFolder(store.folder)
    assert run.lost() == []
    path = next(store.folder.glob("records/claims-*"))
    path.unlink()
    again = "`make study RUN=mine` makes it again"
    assert run.lost() == [f"{path}, of 04_b, is gone: {again}"]
