"""Files are complete or absent, and made once.

They are made anew when their identity changes, and refused when damaged.
"""

import fcntl
import json
import os
import re
import subprocess
import sys
import threading
import time

import pytest
import torch

from milib import files
from milib.errors import UserError
from milib.study import locks
from milib.study import store as stores
from milib.study.identity import COMPUTE, SOURCES, code_digest
from milib.study.locks import lock
from milib.study.store import Store, lost_records, read_json, read_profile, read_record


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "run", tmp_path / "reference", "nb")


class Counted:
    """A computation that counts its calls."""

    def __init__(self, result):
        self.result, self.calls = result, 0

    def __call__(self):
        self.calls += 1
        return self.result


def refused(read, path) -> None:
    with pytest.raises(UserError, match="is damaged: delete it") as error:
        read(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


# Atomic


@pytest.mark.parametrize("before", [None, b"old"])
@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch, before, failing):
    path = tmp_path / "folder" / "file.json"
    if before is not None:
        files.write_atomic(path, before)

    def fails(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, failing, fails)
        with pytest.raises(UserError, match=r"file\.json cannot be written .*disk full"):
            files.write_atomic(path, b"new")
    assert (path.read_bytes() if path.exists() else None) == before
    files.write_atomic(path, b"new")
    assert path.read_bytes() == b"new"


# Records and tensors: once


@pytest.mark.parametrize("kind", ["record", "tensors"])
def test_computed_once_and_again_when_the_identity_changes(store, kind):
    result = {"a": [1, 2.5]} if kind == "record" else {"a": torch.arange(3)}
    compute, ask = Counted(result), getattr(store, kind)
    once, other, more = {"n": 1}, {"n": 2}, {"n": 1, "m": 0}
    for identity, calls in ((once, 1), (once, 1), (other, 2), (more, 3), (once, 3)):
        found = ask("x", identity, compute)
        assert compute.calls == calls
        assert str(found) == str(result)
    ask("y", {"n": 1}, compute)
    assert compute.calls == 4
    assert [event["cached"] for event in store.events] == [False, True, False, False, True, False]
    assert json.loads((store.folder / "profile" / "nb.json").read_text()) == store.events


@pytest.mark.parametrize("kind", ["record", "tensors"])
def test_a_change_in_a_computing_module_recomputes(store, monkeypatch, kind):
    compute = Counted({} if kind == "record" else {"a": torch.zeros(1)})
    getattr(store, kind)("x", {}, compute)
    monkeypatch.setitem(SOURCES, COMPUTE[0], "another text")
    getattr(store, kind)("x", {}, compute)
    assert compute.calls == 2


def test_records_say_what_made_them_and_nothing_of_it_is_identity(store):
    store.record("x", {"n": 1, "t": (1, 2)}, lambda: {"value": 1})
    content = json.loads(next((store.folder / "records").iterdir()).read_text())
    assert content["result"] == {"value": 1}
    assert content["identity"] == {"n": 1, "t": [1, 2], "source": code_digest()}
    assert content["made"].keys() >= {"commit", "versions", "machine", "threads", "when"}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    compute = Counted({})
    store.record("x", {"t": [1, 2], "n": 1}, compute)
    torch.set_num_threads(threads)
    assert compute.calls == 0


def test_a_computation_that_fails_leaves_no_record(store):
    with pytest.raises(ZeroDivisionError):
        store.record("x", {}, lambda: 1 / 0)
    assert store.record("x", {}, lambda: {"value": 2}) == {"value": 2}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_inf_are_neither_kept_nor_read(store, value):
    with pytest.raises(UserError, match="record x: the result holds NaN or inf"):
        store.record("x", {}, lambda: {"deep": [{"value": value}]})
    with pytest.raises(UserError, match="tensors x: the result holds NaN or inf"):
        store.tensors("x", {}, lambda: {"a": torch.full((2,), value)})
    assert not list(store.folder.glob("records/*")) + list(store.folder.glob("cache/*"))
    store.record("x", {}, lambda: {"value": 1e3})
    path = next((store.folder / "records").iterdir())
    for text in (b"NaN", b"Infinity", b"-Infinity", b"1e999"):
        path.write_bytes(path.read_bytes().replace(b"1000.0", text))
        with pytest.raises(UserError, match="holds NaN or inf: delete it"):
            read_record(path)
        path.write_bytes(path.read_bytes().replace(text, b"1000.0"))
    assert read_record(path)["result"] == {"value": 1e3}


# Damage


def test_damaged_records_are_refused(store):
    store.record("x", {}, lambda: {"values": [1, 2, 3]})
    path = next((store.folder / "records").iterdir())
    whole = path.read_bytes()
    damaged = [whole[:length] for length in (0, 1, len(whole) // 2, len(whole) - 1)]
    damaged.append(whole.replace(b"[1, 2, 3]", b"[1, 2, 4]"))
    damaged.append(whole.replace(b'"checksum"', b'"chicksum"'))
    damaged += [b"\xff" * 20, b"[]", b"null", b"[" * 100_000, b'{"a":' * 100_000]
    for content in damaged:
        assert content != whole
        path.write_bytes(content)
        refused(read_record, path)
        with pytest.raises(UserError):
            store.record("x", {}, lambda: {"values": [1, 2, 3]})
    path.write_bytes(whole)
    assert read_record(path)["result"] == {"values": [1, 2, 3]}


def test_a_record_of_another_row_under_this_ones_name_is_named(store):
    for n in (1, 2):
        store.record(f"x{n}", {"n": n}, lambda n=n: {"value": n})
    one, other = sorted((store.folder / "records").iterdir())
    one.write_bytes(other.read_bytes())
    with pytest.raises(UserError) as caught:
        store.record("x1", {"n": 1}, lambda: {"value": 1})
    words = f"{one} holds another record, {other.name}: delete it and run again"
    assert str(caught.value) == words
    one.unlink()
    assert store.record("x1", {"n": 1}, lambda: {"value": 1}) == {"value": 1}


def test_an_identity_that_was_edited_is_damage(store):
    """Also where name, fingerprint and checksum were left as they belong together."""
    store.record("x", {"seed": 0}, lambda: {"value": 1})
    path = next((store.folder / "records").iterdir())
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"seed": 0', b'"seed": 1'))
    assert path.read_bytes() != whole
    refused(read_record, path)


def test_cached_examples_of_another_row_are_named(store):
    for n in (1, 2):
        store.tensors(f"x{n}", {"n": n}, lambda n=n: {"a": torch.full((2,), float(n))})
    one, other = sorted((store.folder / "cache").iterdir())
    one.write_bytes(other.read_bytes())
    with pytest.raises(UserError, match=r"holds other tensors \(x2\): delete it and run again"):
        store.tensors("x1", {"n": 1}, lambda: {"a": torch.zeros(1)})
    files.write_tensors(one, {"a": torch.full((2,), torch.nan)}, files.read_tensors(other)[1])
    one.rename(other)
    with pytest.raises(UserError, match="holds NaN or inf: delete it and run again"):
        store.tensors("x2", {"n": 2}, lambda: {"a": torch.zeros(1)})


NO_JSON = {
    "cut": b'{"a": [1, 2',
    "empty": b"",
    "null": b"null",
    "number": b"1",
    "Latin-1": '{"a": "größe"}'.encode("latin-1"),
    "deep": b"[" * 200_000,
    "deep tables": b'{"a":' * 200_000,
    "long number": b'{"a": ' + b"1" * 10_000 + b"}",
}


@pytest.mark.parametrize("kind", NO_JSON)
@pytest.mark.parametrize("read", [read_json, read_record, read_profile, files.read_tensors])
def test_what_is_no_such_file_ends_in_one_line(tmp_path, kind, read):
    path = tmp_path / "file.json"
    path.write_bytes(NO_JSON[kind])
    refused(read, path)


def test_a_folder_or_a_loose_link_in_a_files_place_is_named(tmp_path):
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "link.json").symlink_to(tmp_path / "nothing")
    for name in ("folder.json", "link.json"):
        for read in (read_json, read_record, read_profile):
            refused(read, tmp_path / name)
    assert read_json(tmp_path / "none.json") is None and read_profile(tmp_path / "none.json") == []


@pytest.mark.parametrize(
    "entry",
    [
        1,
        {},
        {"kind": "record", "name": 1, "seconds": 1.0, "cached": True},
        {"kind": "record", "name": "x", "seconds": "1", "cached": True},
        {"kind": "record", "name": "x", "seconds": 1.0},
    ],
)
def test_a_profile_is_a_list_of_its_entries(tmp_path, entry):
    path = tmp_path / "nb.json"
    path.write_text(json.dumps([entry]))
    refused(read_profile, path)


def test_a_deleted_record_is_known_and_made_again(store):
    """Of those that the last run of a notebook read; what it did not read is not missed."""
    executed = store.folder / "notebooks" / "nb.ipynb"
    files.write_atomic(executed, b"{}")
    compute = Counted({"value": 1})
    store.record("old", {}, compute)
    store.events.clear()
    for name in ("x", "y"):
        store.record(name, {}, compute)
    assert lost_records(store.folder) == {}
    for path in (store.folder / "records").glob("[ox]*"):
        path.unlink()
    gone = next(event["name"] for event in store.events if event["name"].startswith("x-"))
    assert lost_records(store.folder) == {"nb": [gone]}
    executed.unlink()
    assert lost_records(store.folder) == {}, "`make study` makes no record of `make app`"
    store.record("x", {}, compute)
    assert lost_records(store.folder) == {} and compute.calls == 4


def test_damaged_tensors_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = {"w": torch.randn(3, 2), "n": torch.tensor(5)}
    tensors["h"] = torch.ones(2, dtype=torch.bfloat16)
    files.write_tensors(path, tensors, {"log": [1]})
    found, metadata = files.read_tensors(path)
    assert metadata == {"log": [1]}
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype
    whole = path.read_bytes()
    cut = [whole[:length] for length in (0, 5, 40, len(whole) - 1)]
    flipped = []
    for position in range(len(whole) - 36, len(whole)):  # the data
        byte = bytes([whole[position] ^ 1])
        flipped.append(whole[:position] + byte + whole[position + 1 :])
    renames = {
        b'"w"': b'"v"',
        b"[3,2]": b"[2,3]",
        b'"checksum"': b'"chicksum"',
        b'"metadata"': b'"metedata"',
        b"log": b"l\\g",
    }
    renamed = [whole.replace(before, after) for before, after in renames.items()]
    for content in cut + flipped + renamed:
        assert content != whole
        path.write_bytes(content)
        refused(files.read_tensors, path)


def test_tensor_digests_see_names_shapes_types_and_values():
    a, b = torch.arange(6.0).view(2, 3), torch.zeros(1)
    base = {"a": a, "b": b}
    others = [{"a": a.view(3, 2)}, {"a": a.double()}, {"a": a + 1e-6}, {"b": -b}, {"c": b}]
    digests = [files.tensors_digest(base | other) for other in ({}, *others)]
    assert len(set(digests)) == len(digests)
    assert files.tensors_digest({"b": b, "a": a}) == digests[0]
    # Memory layout is not identity.
    assert files.tensors_digest(base | {"a": a.t().contiguous().t()}) == digests[0]


def test_a_folder_that_takes_no_lock_is_named(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(77, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    words = r"No locks available.*set MILIB_OUTPUTS"
    with pytest.raises(UserError, match=words) as caught, lock(tmp_path / "locks" / "x"):
        pass
    assert str(tmp_path / "locks") in str(caught.value)
    with monkeypatch.context() as patch:
        patch.undo()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="takes no lock"), lock(tmp_path / "file" / "x"):
        pass


@pytest.mark.parametrize("kind", ["record", "tensors"])
def test_what_is_there_is_read_where_nothing_can_be_written(store, monkeypatch, kind):
    result = {"value": torch.ones(1) if kind == "tensors" else 1}
    made = getattr(store, kind)("x", {}, lambda: result)

    def refuse(*_, **__):
        raise UserError("Read-only file system")

    for name in ("lock", "write_atomic"):
        monkeypatch.setattr(stores, name, refuse)
    assert getattr(store, kind)("x", {}, Counted(None)) == made
    with pytest.raises(UserError, match="Read-only"):
        getattr(store, kind)("y", {}, lambda: result)


# Locks and reference

CHILD = """
import sys, time
from pathlib import Path
from milib.study.store import lock
with lock(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(0.5)
    Path(sys.argv[1]).write_text("made")
"""


def test_a_second_process_waits_for_the_first(tmp_path):
    path = tmp_path / "locks" / "weights"
    command = [sys.executable, "-c", CHILD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "locked\n"
        assert not path.exists()
        with lock(path):
            assert path.read_text() == "made"
    assert child.returncode == 0


def test_who_waits_for_long_is_told_for_whom(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(locks, "PATIENCE", 0.01)
    path, go, line = tmp_path / "locks" / "weights", threading.Event(), ""

    def hold() -> None:
        with lock(path):
            inside.set()
            go.wait(10)

    inside = threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    assert inside.wait(10)

    def let_go() -> None:
        nonlocal line
        for _ in range(1000):
            line += capsys.readouterr().out
            if line.endswith("\n"):
                break
            time.sleep(0.01)
        go.set()

    watcher = threading.Thread(target=let_go)
    watcher.start()
    with lock(path):
        watcher.join(10)
    holder.join(10)
    who = rf"weights is being made by process {os.getpid()} on \S+ since 20\d\d-.*"
    assert re.fullmatch(rf"» {who}: waiting for it\n", line)
    refused = pytest.raises(UserError, match=rf"{who}: wait for it, or stop it")
    with lock(path), refused, lock(path, wait=False):
        pass


def test_two_that_need_the_same_record_compute_it_once(store, tmp_path):
    inside, go, results = threading.Event(), threading.Event(), []

    def slow() -> dict:
        inside.set()
        go.wait(10)
        return {"value": 1}

    second = Counted({"value": 2})
    other = Store(store.folder, store.reference, "other")
    threads = [threading.Thread(target=lambda: results.append(store.record("x", {}, slow)))]
    threads[0].start()
    assert inside.wait(10)
    threads.append(threading.Thread(target=lambda: results.append(other.record("x", {}, second))))
    threads[1].start()
    go.set()
    for thread in threads:
        thread.join(10)
    assert results == [{"value": 1}] * 2
    assert second.calls == 0


def test_checkpoints_are_read_from_the_reference_and_records_never(store, tmp_path):
    reference = Store(tmp_path / "reference", tmp_path / "none", "nb")
    assert store.find_checkpoint("erm", {"seed": 0}) is None
    shipped = reference.checkpoint_path("erm", {"seed": 0})
    files.write_tensors(shipped, {"w": torch.zeros(1)}, {})
    assert store.find_checkpoint("erm", {"seed": 0}) == shipped
    assert store.find_checkpoint("erm", {"seed": 1}) is None
    assert store.find_checkpoint("at", {"seed": 0}) is None
    own = store.checkpoint_path("erm", {"seed": 0})
    files.write_tensors(own, {"w": torch.ones(1)}, {})
    assert store.find_checkpoint("erm", {"seed": 0}) == own
    compute = Counted({"value": "computed"})
    reference.record("x", {}, lambda: {"value": "committed"})
    reference.tensors("t", {}, lambda: {"a": torch.zeros(1)})
    assert store.record("x", {}, compute) == {"value": "computed"}
    assert store.tensors("t", {}, lambda: {"a": torch.ones(1)})["a"] == 1
