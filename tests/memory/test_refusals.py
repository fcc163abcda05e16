"""A call that is refused changes nothing."""

import copy

import numpy as np
import pytest
import torch

from engram.memory import (
    NOODL,
    AssociativeStore,
    DenseHopfield,
    ExpanderMemory,
    HebbHopfield,
    KeyValueMemory,
    Scaffold,
    random_regular,
)
from engram.memory.fragments import LongTermStore


def equal(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def test_refused_state_of_another_capacity_changes_nothing():
    memory, other = KeyValueMemory(8, key_dim=1), KeyValueMemory(4, key_dim=1)
    memory.write(torch.tensor([[5.0]]), torch.tensor([50.0]))
    other.write(torch.arange(1.0, 5.0)[:, None], torch.ones(4))
    before = copy.deepcopy(memory.state_dict())
    with pytest.raises(ValueError, match=r"state_dict\['keys'\].shape"):
        memory.load_state_dict(other.state_dict())
    assert equal(memory.state_dict(), before)


@pytest.mark.parametrize("key", [[1.0, 0.0, 0.0], [np.nan, 0.0]])
def test_refused_key_removes_no_fragment(key):
    store = LongTermStore("cosine", capacity=2)
    store.write("a", key=[1.0, 0.0])
    store.write("b", key=[0.0, 1.0])
    with pytest.raises(ValueError, match="key"):
        store.write("c", key=key)
    assert store.ids == [1, 0]
    assert store.match([1.0, 0.0]).target == 0
    assert store.write("c", key=[1.0, 1.0]) == 2


def test_refused_state_of_another_matcher_changes_nothing():
    store, other = LongTermStore("geometric"), LongTermStore("cosine")
    store.write("old", key=(0, 3, 5, 2, 9, 2))
    other.write("new", key=np.array([1.0, 0.0]))
    with pytest.raises(ValueError, match="key"):
        store.load_state_dict(other.state_dict())
    assert store.get(0) == "old"
    assert store.match((0, 3, 6, 2)).target == 0


def test_noodl_that_cannot_start_again_stays_fitted():
    X = np.random.default_rng(0).standard_normal((20, 6))
    model = NOODL(3, max_iter=1, random_state=0).fit(X[:, :5])
    codes = model.transform(X[:, :5])
    model.set_params(dict_init=np.eye(3, 5))
    with pytest.raises(ValueError, match="dict_init"):
        model.fit(X)
    np.testing.assert_array_equal(model.transform(X[:, :5]), codes)


def test_scaffold_without_stored_states_stores_nothing():
    scaffold = Scaffold(ExpanderMemory(random_regular(60, 5, 6, seed=0), "learn"), 4)
    with pytest.raises(ValueError, match="parity"):
        scaffold.store(torch.eye(2, 4))
    assert len(scaffold.content) == len(scaffold.states) == 0


def test_a_store_of_vectors_refuses_labels_without_them():
    store = AssociativeStore(ExpanderMemory(random_regular(480, 5, 6, seed=0)), features=3)
    with pytest.raises(ValueError, match="payloads = None: expected a vector of 3"):
        store.write(["apple"])
    assert len(store) == 0


@pytest.mark.parametrize("memory", [DenseHopfield(3), HebbHopfield(4)])
def test_a_recall_without_sweeps_draws_nothing(memory):
    pattern, generator = torch.tensor([[1, 1, -1, -1]]), torch.Generator()
    memory.store(pattern)
    before = generator.get_state()
    with pytest.raises(ValueError, match="max_iter = 0"):
        memory.recall(pattern, max_iter=0, generator=generator)
    assert torch.equal(generator.get_state(), before)


def test_a_hopfield_network_does_not_load_half_a_state():
    memory, other = HebbHopfield(4, "pseudo-inverse"), HebbHopfield(4, "pseudo-inverse")
    memory.store(torch.tensor([[1, 1, -1, -1]]))
    before = copy.deepcopy(memory.state_dict())
    for name in ("weight", "stored"):
        with pytest.raises(ValueError, match="only one of"):
            memory.load_state_dict({name: other.state_dict()[name]})
    with pytest.raises(ValueError, match=r"state\['weight'\] = .* expected 4 nodes"):
        memory.load_state_dict({**other.state_dict(), "weight": torch.zeros(5, 5)})
    assert equal(memory.state_dict(), before)


@pytest.mark.parametrize("change", [lambda x: x.to("meta"), torch.Tensor.to_sparse])
@pytest.mark.parametrize("memory", [HebbHopfield(6), HebbHopfield(6, "pseudo-inverse"), DenseHopfield()])
def test_patterns_that_cannot_be_read_are_named(memory, change):
    before = copy.deepcopy(memory.state_dict())
    with pytest.raises(NotImplementedError) as refused:
        memory.store(change(torch.ones(2, 6)))
    assert refused.value.__notes__ == ["X = tensor of shape (2, 6) and dtype torch.float32"]
    assert equal(memory.state_dict(), before)
