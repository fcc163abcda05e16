from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.lab import CorruptFileError
from engram.lab.trial.metrics import MetricsFile, check, read


@given(values=st.lists(st.floats(), min_size=1, max_size=20))
def test_floats_come_back_bit_for_bit(tmp_path_factory, values):
    metrics = MetricsFile(tmp_path_factory.mktemp("metrics") / "metrics.csv")
    for step, value in enumerate(values):
        metrics.append(step, "loss", value)
    metrics.mark()
    for frame in (metrics.frame(), *read(metrics.path)):
        for value, back in zip(values, frame["value"], strict=True):
            assert struct.pack("d", value) == struct.pack("d", back) or (math.isnan(value) and math.isnan(back))


def test_cutting_back_and_writing_again_gives_the_same_file(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.csv")
    metrics.append(0, "a", 0.5)
    mark = metrics.mark()
    metrics.append(1, "a", 0.25)
    metrics.mark()
    before = metrics.path.read_bytes()

    again = MetricsFile(metrics.path)
    again.cut(mark)
    assert again.frame()["step"].to_list() == [0]
    again.append(1, "a", 0.25)
    again.mark()
    assert metrics.path.read_bytes() == before


@pytest.mark.parametrize("damage", [lambda b: b[:-3], lambda b: b.replace(b"0.5", b"0.6"), lambda b: b""])
def test_a_damaged_file_is_noticed(tmp_path, damage):
    metrics = MetricsFile(tmp_path / "metrics.csv")
    metrics.append(0, "a", 0.5)
    mark = metrics.mark()
    metrics.path.write_bytes(damage(metrics.path.read_bytes()))
    with pytest.raises(CorruptFileError, match=r"metrics\.csv is corrupt"):
        check(metrics.path, mark)
    with pytest.raises(CorruptFileError):
        MetricsFile(metrics.path).cut(mark)


@pytest.mark.parametrize(
    "content",
    ["step,metric,value\n1,a,what\n", 'step,metric,value\n1,"a,1.0\n', "1,a,1.0\n", "step,metric,value\n1,a,1"],
)
def test_an_unreadable_table_is_named(tmp_path, content):
    path, other = tmp_path / "metrics.csv", tmp_path / "other.csv"
    path.write_text(content)
    other.write_text('step,metric,value\n1,a",1.0\n')
    for paths in ([path], [path, path], [path, other]):
        with pytest.raises(CorruptFileError, match=r"metrics\.csv is corrupt"):
            read(*paths)


@given(lengths=st.lists(st.integers(0, 5), max_size=5))
def test_tables_read_at_once_are_those_read_one_by_one(tmp_path_factory, lengths):
    folder, paths = tmp_path_factory.mktemp("metrics"), []
    for number, length in enumerate(lengths):
        metrics = MetricsFile(folder / f"{number}.csv")
        for step in range(length):
            metrics.append(step, f"loss-{number}", step / 3)
        metrics.mark()
        paths.append(metrics.path)
    for path, table in zip(paths, read(*paths), strict=True):
        assert table.equals(read(path)[0])
    assert [len(table) for table in read(*paths)] == lengths


def test_a_name_that_would_break_the_table_is_refused(tmp_path):
    with pytest.raises(ValueError, match="metric = 'a,b': expected letters"):
        MetricsFile(tmp_path / "m").append(0, "a,b", 1.0)
