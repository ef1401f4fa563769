"""Files are complete or absent, and what cannot be written or read ends in one line."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading

import pytest
import torch

from milib import files
from milib.errors import UserError

TENSORS = {"w": torch.arange(6.0).view(2, 3), "n": torch.tensor(5)}


def line_of(function, *args) -> str:
    """The one line that a call ends in."""
    with pytest.raises(UserError) as error:
        function(*args)
    assert "\n" not in str(error.value)
    return str(error.value)


# Writing


@pytest.mark.parametrize("failing", ["fsync", "replace"])
@pytest.mark.parametrize("before", [None, b"old"])
def test_no_room_on_the_disk_ends_in_a_line_and_leaves_no_temporary_file(
    tmp_path, monkeypatch, before, failing
):
    path = tmp_path / "folder" / "file.json"
    if before is not None:
        files.write_atomic(path, before)

    def fails(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(files.os, failing, fails)
        line = line_of(files.write_atomic, path, b"a new content")
    assert str(path) in line and "13 bytes" in line and "No space left" in line
    assert (path.read_bytes() if path.exists() else None) == before
    assert [each.name for each in path.parent.iterdir()] == ["file.json"] * (before is not None)
    files.write_atomic(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_stop_inside_a_write_leaves_no_temporary_file(tmp_path, monkeypatch):
    def stops(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", stops)
    with pytest.raises(KeyboardInterrupt):
        files.write_atomic(tmp_path / "a", b"x")
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from milib import files
files.os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
files.write_atomic(Path(sys.argv[1]), b"x")
"""


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path, monkeypatch):
    path = tmp_path / "run" / "records" / "a.json"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    [left] = path.parent.iterdir()
    assert left.name.startswith(".a.json.")
    names = []

    def looked(source, target):  # in the middle of a write
        files.remove_leftovers(tmp_path / "run")
        names.extend(each.name for each in path.parent.iterdir())

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", looked)
        files.write_atomic(path, b"y")
    assert len(names) == 1 and names[0] != left.name and f".{os.getpid()}." in names[0]


def test_what_another_host_left_goes_after_a_day(tmp_path):
    other = tmp_path / f".a.{16 * '0'}.1.{16 * '1'}.tmp"
    for path in (other, tmp_path / ".a.tmp", tmp_path / "a.1.tmp"):
        path.write_bytes(b"")
    files.remove_leftovers(tmp_path)
    assert other.exists()
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0))
    files.remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.tmp", "a.1.tmp"]
    files.remove_leftovers(tmp_path / "nowhere")


def test_a_folder_or_a_file_in_the_way_ends_in_a_line(tmp_path):
    (tmp_path / "taken").mkdir()
    assert "taken" in line_of(files.write_atomic, tmp_path / "taken", b"x")
    (tmp_path / "file").write_bytes(b"")
    assert "file" in line_of(files.write_atomic, tmp_path / "file" / "below", b"x")
    assert "cannot be written" in line_of(files.write_atomic, tmp_path / ("a" * 300), b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_ends_in_a_line(tmp_path):
    tmp_path.chmod(0o500)
    assert "Permission denied" in line_of(files.write_atomic, tmp_path / "a", b"x")
    tmp_path.chmod(0o700)


def test_writers_with_one_process_number_never_meet(tmp_path, monkeypatch):
    """As two hosts and two threads: every write succeeds, and the file is one of theirs."""
    monkeypatch.setattr(files.os, "getpid", lambda: 1)
    path, faults, names = tmp_path / "a", [], set()
    replace = os.replace

    def noted(source, target):
        names.add(str(source))
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", noted)

    def write(content: bytes) -> None:
        try:
            for _ in range(20):
                files.write_atomic(path, content)
        except Exception as error:
            faults.append(error)

    contents = [bytes([number]) * 10_000 for number in range(4)]
    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert path.read_bytes() in contents
    assert len(names) == 80  # a name for each write
    assert all(os.path.basename(name).startswith(".a.") for name in names)
    assert all(name.endswith(".tmp") for name in names)


def test_metadata_that_json_cannot_say_are_refused_and_nothing_is_written(tmp_path):
    path, endless = tmp_path / "a", {}
    endless["itself"] = endless
    for value in (float("nan"), float("inf"), {1}, torch.zeros(2), endless):
        assert "metadata" in line_of(files.write_tensors, path, TENSORS, {"x": value})
    assert "tensors" in line_of(files.write_tensors, path, {"a": 1.0}, {})
    assert list(tmp_path.iterdir()) == []


def test_tensors_that_share_memory_are_written(tmp_path):
    both = torch.arange(12.0).view(3, 4)
    tensors = {"all": both, "again": both, "turned": both.T, "row": both[1]}
    files.write_tensors(tmp_path / "a", tensors, {})
    found, _ = files.read_tensors(tmp_path / "a")
    assert all(torch.equal(found[name], value) for name, value in tensors.items())


# Reading


def raw(path, metadata: dict[str, str] | None) -> None:
    """A safetensors file with this header, its checksum made to fit where it has metadata."""
    if metadata is not None and "metadata" in metadata:
        content = [files.tensors_digest(TENSORS), metadata["metadata"]]
        metadata = {"checksum": files.digest(content)} | metadata
    files.safetensors.torch.save_file(TENSORS, path, metadata)


DEEP = "[" * 100_000 + "]" * 100_000
HEADERS = [None, {}, {"checksum": "0", "metadata": "{}"}]
HEADERS += [{"metadata": text} for text in ("null", "[1]", "{", DEEP)]


@pytest.mark.parametrize("metadata", HEADERS)
def test_a_header_of_another_form_is_damaged(tmp_path, metadata):
    raw(tmp_path / "a", metadata)
    assert "damaged: delete it" in line_of(files.read_tensors, tmp_path / "a")


def test_a_header_whose_values_are_no_texts_is_damaged(tmp_path):
    header = json.dumps({"__metadata__": {"checksum": 1, "metadata": 2}}).encode()
    (tmp_path / "a").write_bytes(len(header).to_bytes(8, "little") + header)
    assert "damaged" in line_of(files.read_tensors, tmp_path / "a")


def test_a_fitting_header_is_read(tmp_path):
    raw(tmp_path / "a", {"metadata": '{"log": []}'})
    assert files.read_tensors(tmp_path / "a")[1] == {"log": []}


def test_what_is_no_file_ends_in_a_line(tmp_path):
    assert "does not exist" in line_of(files.read_tensors, tmp_path / "none")
    assert "is no file" in line_of(files.read_tensors, tmp_path)
    os.mkfifo(tmp_path / "fifo")
    assert "is no file" in line_of(files.read_tensors, tmp_path / "fifo")
    for content in (b"", b"\xff" * 50, b"\xe9t\xe9", json.dumps({}).encode()):
        (tmp_path / "a").write_bytes(content)
        assert "damaged" in line_of(files.read_tensors, tmp_path / "a")


# Digests


def test_a_digest_is_the_same_in_every_locale():
    code = r"from milib import files; print(files.digest({'\u00e9': '\u00fc', 'a': 1.5}))"
    seen = set()
    for changes in ({"LC_ALL": "C", "PYTHONUTF8": "0"}, {"LC_ALL": "C.UTF-8"}):
        environment = os.environ | changes | {"PYTHONCOERCECLOCALE": "0"}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        seen.add(done.stdout)
    assert len(seen) == 1
    assert seen == {files.digest({"é": "ü", "a": 1.5}) + "\n"}


# Parts


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """The name of a file of 25 bytes in parts of 10, in a folder with names that look alike."""
    monkeypatch.setattr(files, "PART", 10)
    path = tmp_path / "a[1]"  # a pattern, were it not escaped
    files.write_parts(path, bytes(range(25)))
    for other in ("a[1].jsonl", "a[1].0.tmp", "a[1].01", "a1.3", "a[1].x"):
        (tmp_path / other).write_bytes(b"other")
    return path


def test_parts_are_written_and_read_and_their_neighbours_left_alone(parts):
    assert files.read_parts(parts) == bytes(range(25))
    files.write_parts(parts, bytes(12))
    assert files.read_parts(parts) == bytes(12)
    files.write_parts(parts, b"")
    assert files.read_parts(parts) == b""
    assert len(list(parts.parent.iterdir())) == 5


def test_where_a_part_cannot_be_written_the_older_ones_stay(parts, monkeypatch):
    written, write = [], files.write_atomic

    def full(path, content):
        if written:
            raise UserError("no room")
        written.append(path)
        write(path, content)

    monkeypatch.setattr(files, "write_atomic", full)
    with pytest.raises(UserError, match="no room"):
        files.write_parts(parts, bytes(25))
    assert files.read_parts(parts) == bytes(range(25))


@pytest.mark.parametrize("missing", [0, 1])
def test_a_missing_part_is_named(parts, missing):
    path = parts.with_name(f"{parts.name}.{missing}")
    path.unlink()
    line = line_of(files.read_parts, parts)
    assert line.startswith(f"{path} is missing") and f"{parts.name}.2" in line


def test_a_part_that_is_a_folder_ends_in_a_line(parts):
    part = parts.with_name(f"{parts.name}.1")
    part.unlink()
    part.mkdir()
    assert "cannot be read" in line_of(files.read_parts, parts)
