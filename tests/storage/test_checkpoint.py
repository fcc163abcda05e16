from __future__ import annotations

import enum
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engram.storage import CorruptFileError, checkpoint

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**130), 2**130),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.lists(st.floats(width=32, allow_nan=False), max_size=4).map(torch.tensor),
    st.lists(st.integers(0, 9), max_size=4).map(np.array),
    st.just(np.array([])),
    st.just(torch.tensor(True)),
    st.just(torch.zeros(2, 0, dtype=torch.bfloat16)),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(st.text(max_size=3), st.integers()), inner, max_size=3),
    ),
    max_leaves=8,
)


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return type(b) is type(a) and a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@given(state=trees)
def test_what_is_saved_comes_back(tmp_path_factory, state):
    path = tmp_path_factory.mktemp("checkpoint") / "c.safetensors"
    checkpoint.save(path, state)
    assert same(state, checkpoint.load(path))


def test_an_optimiser_comes_back(tmp_path):
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    checkpoint.save(tmp_path / "c", optimizer.state_dict())
    assert same(optimizer.state_dict(), checkpoint.load(tmp_path / "c"))


def test_tensors_that_share_memory_are_saved_apart(tmp_path):
    base = torch.arange(6.0)
    checkpoint.save(tmp_path / "c", {"all": base, "part": base[2:], "turned": base.view(2, 3).T})
    assert torch.equal(checkpoint.load(tmp_path / "c")["turned"], base.view(2, 3).T)


def test_keys_that_make_one_path_are_kept_apart(tmp_path):
    state = {"a.b": torch.zeros(1), "a": {"b": torch.ones(1), 1: torch.tensor([2.0]), "1": torch.tensor([3.0])}}
    checkpoint.save(tmp_path / "c", state)
    loaded = checkpoint.load(tmp_path / "c")
    assert [loaded["a.b"].item(), *(value.item() for value in loaded["a"].values())] == [0, 1, 2, 3]


@given(data=st.data())
def test_any_altered_or_missing_byte_is_noticed(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("checkpoint") / "c.safetensors"
    checkpoint.save(path, {"w": torch.arange(4.0), "step": 7})
    content = bytearray(path.read_bytes())
    where = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[where:]
    else:
        content[where] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=re.escape(str(path))):
        checkpoint.load(path)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": [1, object()]}, r"state\.a\.1 is of type object"),
        ({"a": {(1, 2): 3}}, r"state\.a has the key \(1, 2\)"),
        ({"f": len}, r"state\.f is of type builtin_function_or_method"),
        ({"z": torch.ones(1, dtype=torch.complex128)}, r"state\.z has the type torch\.complex128"),
        ({"s": torch.eye(2).to_sparse()}, r"state\.s has the layout torch\.sparse_coo: a checkpoint stores dense"),
        ({"c": np.complex64(1j)}, r"state\.c is of type complex64"),
        ({"names": np.array(["a"])}, r"state\.names has the type <U1"),
    ],
)
def test_what_cannot_be_saved_is_named(tmp_path, state, message):
    with pytest.raises(TypeError, match=message):
        checkpoint.save(tmp_path / "c", state)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "value", [np.float64(0.1), np.float32(0.1), np.int8(3), np.bool_(True), np.float16(-0.0), np.uint64(2**63 + 1)]
)
def test_a_scalar_keeps_its_type(tmp_path, value):
    checkpoint.save(tmp_path / "c", {"scalar": value})
    loaded = checkpoint.load(tmp_path / "c")["scalar"]
    assert (type(loaded), loaded) == (type(value), value)


def test_arrays_of_any_layout_and_name_come_back(tmp_path):
    state = {"__metadata__": torch.ones(1), "back": np.arange(3)[::-1], "big": np.arange(3, dtype=">f4")}
    checkpoint.save(tmp_path / "c", state)
    loaded = checkpoint.load(tmp_path / "c")
    assert torch.equal(loaded["__metadata__"], torch.ones(1))
    assert (loaded["back"].tolist(), loaded["big"].tolist(), loaded["big"].dtype) == ([2, 1, 0], [0, 1, 2], np.float32)


def test_an_entry_that_is_missing_is_named(tmp_path):
    checkpoint.save(tmp_path / "c", {"step": 7})
    assert checkpoint.peek(tmp_path / "c", "step") == 7
    with pytest.raises(CorruptFileError, match="c is corrupt: it has no entry 'manifest'"):
        checkpoint.peek(tmp_path / "c", "manifest")


def test_a_member_of_an_enumeration_is_saved_as_its_value(tmp_path):
    class Mode(str, enum.Enum):  # noqa: UP042 - of which ``str`` gives the name
        FAST = "fast"

    checkpoint.save(tmp_path / "c", {"mode": Mode.FAST})
    assert checkpoint.load(tmp_path / "c") == {"mode": "fast"}


def test_a_mask_is_not_lost(tmp_path):
    with pytest.raises(TypeError, match=r"state\.x is a masked array: expected one in which no number is masked"):
        checkpoint.save(tmp_path / "c", {"x": np.ma.masked_array([1, 2], [0, 1])})
