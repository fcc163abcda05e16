"""Memories compute the same under ``torch.autocast``, and keep no graph of what they store."""

import pytest
import torch

from engram.memory import (
    DND,
    AssociativeStore,
    AttentionMemory,
    ExpanderMemory,
    HebbHopfield,
    KeyValueMemory,
    NOODLLayer,
    Scaffold,
    random_regular,
)
from engram.memory.expander.recovery import nearest_state


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def signs(*shape, seed=0):
    return 1.0 - 2 * torch.randint(0, 2, shape, generator=seeded(seed))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed))


def noodl():
    layer = NOODLLayer(12, 10, code_step=0.1, generator=seeded())
    x = normal(7, 12)
    code = layer(x)
    gradient = layer.local_gradient(x, code)
    layer.local_update(x, code)
    return code, gradient, layer.weight


def hebb():
    memory, X = HebbHopfield(40), signs(700, 40)  # more patterns than whole numbers of half precision
    memory.store(X)
    return memory.weight, memory.recall(X[:9], generator=seeded()).x


def attention():
    memory, X = AttentionMemory(beta=1.0), signs(30, 700)
    X[1:] = X[0]
    X[torch.arange(30), torch.arange(30)] *= -1  # overlaps that differ by 4 in 700
    memory.store(X)
    return (memory.recall(X).x,)


def store():
    memory = AssociativeStore(ExpanderMemory(random_regular(60, 5, 6, seed=0)), 4)
    memory.write(list(range(20)), normal(20, 4))
    return memory.weight, memory.readout(signs(3, 60))


def scaffold():
    memory = Scaffold(ExpanderMemory(random_regular(60, 5, 6, seed=0)), 30, generator=seeded())
    content = normal(5, 30)
    memory.store(content)
    return memory.recall(content, generator=seeded()).content, memory.content


def nearest():
    memory = ExpanderMemory(random_regular(300, 29, 30, seed=0))
    return (nearest_state(memory, signs(6, 300)),)


def key_value(kind=KeyValueMemory):
    memory = kind(50, 16, tables=2)
    memory.write(normal(40, 16), normal(40), tables=torch.arange(40) % 2)
    recall = memory.query(normal(20, 16, seed=1), k=3)
    return recall.values, recall.rows, recall.squared_distances


def dnd():
    return key_value(DND)


@pytest.mark.parametrize("memory", [noodl, hebb, attention, store, scaffold, nearest, key_value, dnd])
def test_autocast_changes_nothing(memory):
    expected = memory()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = memory()
    for a, b in zip(actual, expected, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_inputs_that_autocast_made_are_taken():
    layer, x = NOODLLayer(6, 4, generator=seeded()), normal(5, 6).bfloat16()
    with pytest.raises(ValueError, match=r"input.dtype = torch.bfloat16: expected torch.float32"):
        layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        code = layer(x)
        layer.local_update(x, code)
    assert code.dtype == torch.float32
    memory = KeyValueMemory(8, 6)
    memory.write(x, x[:, 0])
    assert torch.equal(memory.query(x, k=1).values, x[:, :1].float())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NOODLLayer(3, 2, dtype=torch.bfloat16)(torch.zeros(1, 3)), "weight.dtype = torch.bfloat16"),
        (lambda: NOODLLayer(3, 2).half()(torch.zeros(1, 3)), "weight.dtype = torch.float16"),
        (lambda: HebbHopfield(3).bfloat16().store(torch.ones(1, 3)), "weight.dtype = torch.bfloat16"),
        (lambda: KeyValueMemory(4, 3).bfloat16().query(torch.ones(1, 3)), "keys.dtype = torch.bfloat16"),
        (lambda: KeyValueMemory(4, 3).half().write(torch.ones(1, 3), torch.ones(1)), "keys.dtype = torch.float16"),
    ],
)
def test_memories_of_half_precision_are_refused(call, message):
    with pytest.raises(ValueError, match=f"{message}: expected .*float32 or float64"):
        call()


def test_contents_that_require_gradients_leave_no_graph():
    content = normal(5, 30).requires_grad_()
    memory = Scaffold(ExpanderMemory(random_regular(60, 5, 6, seed=0)), 30, generator=seeded())
    memory.store(content)
    assert not memory.content.requires_grad
    associative = AssociativeStore(memory.memory, 30)
    associative.write(list(range(5)), content)
    assert not associative.weight.requires_grad
    table = KeyValueMemory(8, 30)
    table.write(content, content[:, 0])
    assert not table.values.requires_grad
