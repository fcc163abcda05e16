from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.lab import CorruptFileError
from engram.lab.metrics import MetricsFile, check, read


@given(values=st.lists(st.floats(), min_size=1, max_size=20))
def test_floats_come_back_bit_for_bit(tmp_path_factory, values):
    metrics = MetricsFile(tmp_path_factory.mktemp("metrics") / "metrics.csv")
    for step, value in enumerate(values):
        metrics.append(step, "loss", value)
    metrics.mark()
    for frame in (metrics.frame(), read(metrics.path)):
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


def test_an_unreadable_table_is_named(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,metric,value\n1,a,what\n")
    with pytest.raises(CorruptFileError, match=r"metrics\.csv is corrupt"):
        read(path)


def test_a_name_that_would_break_the_table_is_refused(tmp_path):
    with pytest.raises(ValueError, match="metric = 'a,b': expected letters"):
        MetricsFile(tmp_path / "m").append(0, "a,b", 1.0)
