from __future__ import annotations

import pytest

from engram.storage import CannotWriteError, CorruptFileError, checkpoint
from engram.storage.files import keep_aside, read_json, sweep, write_atomic, write_json


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, no_file_larger_than):
    path = tmp_path / "file"
    write_atomic(path, b"old")
    with no_file_larger_than(1000), pytest.raises(CannotWriteError, match=r"cannot write .*file: File too large"):
        write_atomic(path, b"n" * 5000)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_that_does_not_fit_leaves_the_old_one(tmp_path, no_file_larger_than):
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, {"step": 1})
    with no_file_larger_than(1000), pytest.raises(CannotWriteError):
        checkpoint.save(path, {"step": 2, "text": "x" * 5000})
    assert checkpoint.load(path) == {"step": 1}


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(CannotWriteError, match=r"cannot write .*missing/file: No such file or directory"):
        write_json(tmp_path / "missing" / "file", {})


def test_an_interrupt_during_a_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def interrupted(number: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
def test_what_is_no_json_object_is_corrupt(tmp_path, content):
    (tmp_path / "f.json").write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"f\.json is corrupt"):
        read_json(tmp_path / "f.json", dict)


def test_corrupt_files_are_kept_aside_one_by_one(tmp_path):
    for number in (1, 2):
        (tmp_path / "f").write_text(str(number))
        assert keep_aside(tmp_path / "f").name == f"f.corrupt-{number}"
    assert (tmp_path / "f.corrupt-1").read_text() == "1"


def test_what_killed_writers_left_is_swept(tmp_path):
    (tmp_path / ".checkpoint-0.safetensors.123.tmp").write_text("")
    (tmp_path / "metrics.csv").write_text("")
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]
