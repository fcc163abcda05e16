import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engram.memory import (
    AssociativeStore,
    ExpanderMemory,
    Scaffold,
    corrupt,
    random_regular,
    recovery_rate,
    sign_labels,
)

MEMORY = ExpanderMemory(random_regular(240, 5, 6, seed=0))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@given(st.dictionaries(st.text(max_size=20) | st.integers(0, 2**40 - 1), st.integers(), min_size=1, max_size=20))
def test_a_store_is_a_dictionary_found_by_noisy_addresses(items):
    store = AssociativeStore(MEMORY)
    store.write(list(items), list(items.values()))
    assert len(store) == len(items)
    noisy = corrupt(store.address(list(items)), 0.02, generator=seeded())
    recalled = store.recall(noisy, seeded())
    assert recalled.labels == list(items)
    assert recalled.payloads == list(items.values())


def test_an_integer_is_its_own_message():
    store = AssociativeStore(MEMORY)
    numbers = [0, 1, 5, 2**store.message_size - 1]
    assert MEMORY.index(store.address(numbers)) == numbers


def test_vectors_have_addresses_by_their_sides_of_random_planes():
    vectors = torch.randn(30, 8, generator=seeded(1))
    store = AssociativeStore(MEMORY)
    labels = sign_labels(vectors, store.message_size, seeded(2))
    assert labels == sign_labels(7 * vectors, store.message_size, seeded(2))
    assert len(set(labels)) == 30
    store.write(labels, list(range(30)))
    assert store.recall(corrupt(store.address(labels), 0.02, generator=seeded()), seeded()).payloads == list(range(30))


@given(st.floats(0.05, 3.0))
def test_bits_of_two_vectors_differ_as_often_as_their_angle_says(angle):
    angle, bits = torch.tensor(angle, dtype=torch.float64), 20_000
    pair = torch.stack(
        [torch.stack([torch.ones(()).double(), torch.zeros(()).double()]), torch.stack([angle.cos(), angle.sin()])]
    )
    one, other = sign_labels(pair, bits, seeded(3))
    share = float(angle) / torch.pi
    assert abs((one ^ other).bit_count() / bits - share) < 5 * (share * (1 - share) / bits) ** 0.5


@pytest.mark.parametrize(
    ("x", "bits", "message"), [(torch.zeros(1, 2), 0, "bits = 0"), (torch.full((1, 2), torch.nan), 3, "x")]
)
def test_vectors_that_have_no_sides_are_refused(x, bits, message):
    with pytest.raises(ValueError, match=message):
        sign_labels(x, bits, seeded())


def test_what_is_not_there_is_not_found():
    store = AssociativeStore(MEMORY)
    store.write(["apple"])
    empty = store.recall(store.address(["pear", "apple"]), seeded())
    assert empty.labels == empty.payloads == [None, "apple"]
    assert empty.result.converged.all()
    lost = store.recall(corrupt(store.address(["apple"]), 0.4, generator=seeded()), seeded())
    assert lost.labels == [None]
    assert not lost.result.converged.any()


def test_a_label_written_again_has_the_new_payload():
    store = AssociativeStore(MEMORY, features=2)
    store.write(["a", "b"], torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    store.write(["a", "a"], torch.tensor([[9.0, 9.0], [0.0, 2.0]]))
    assert len(store) == 2
    assert store.recall(store.address(["a"]), seeded()).payloads[0].tolist() == [0.0, 2.0]
    fresh = AssociativeStore(MEMORY, features=2)
    fresh.write(["b", "a"], torch.tensor([[0.0, 1.0], [0.0, 2.0]]))
    assert torch.allclose(store.weight, fresh.weight, atol=1e-6)


def test_hebbian_readout_holds_few_items_and_the_table_all():
    payloads = 1 - 2 * torch.randint(0, 2, (3000, 20), generator=seeded()).float()
    agree = []
    for items in (10, 3000):
        store = AssociativeStore(MEMORY, features=20)
        store.write(range(items), payloads[:items])
        x = store.address(range(10))
        agree.append((store.readout(x).sign() == payloads[:10]).float().mean().item())
        exact = store.recall(corrupt(x, 0.02, generator=seeded()), seeded()).payloads
        assert torch.equal(torch.stack(exact), payloads[:10])
    assert agree[0] >= 0.99
    assert agree[1] <= 0.8


def test_two_labels_of_one_address_are_refused():
    store = AssociativeStore(ExpanderMemory(random_regular(12, 3, 6, seed=0)))
    with pytest.raises(ValueError, match="have the same address: take a memory of more nodes"):
        store.write([f"item {i}" for i in range(200)])
    assert len(store) == 0


def test_a_store_comes_back_from_its_file(tmp_path):
    store = AssociativeStore(MEMORY)
    store.write(["a", 7], [{"colour": "red"}, [1, 2]])
    store.save(tmp_path / "store")
    again = AssociativeStore.load(tmp_path / "store")
    again.write(["c"], [None])
    assert again.recall(store.address([7, "a", "b"]), seeded()).payloads == [[1, 2], {"colour": "red"}, None]
    again.write(["d"], [object()])
    with pytest.raises(TypeError, match="payloads"):
        again.save(tmp_path / "store")
    assert len(AssociativeStore.load(tmp_path / "store")) == 2
    for items in (0, 3):
        vectors = AssociativeStore(MEMORY, features=2)
        vectors.write(range(items), torch.rand(items, 2, generator=seeded()))
        vectors.save(tmp_path / "vectors")
        same = AssociativeStore.load(tmp_path / "vectors")
        assert len(same) == items
        assert torch.equal(same.weight, vectors.weight)


def test_a_scaffold_cleans_noisy_contents():
    scaffold = Scaffold(MEMORY, 400, generator=seeded())
    content = 1 - 2 * torch.randint(0, 2, (40, 400), generator=seeded()).float()
    scaffold.store(content[:20])
    scaffold.store(content[20:])
    recalled = scaffold.recall(corrupt(content, 0.1, generator=seeded()), seeded())
    assert recalled.converged.all()
    assert torch.allclose(recalled.content, content, atol=1e-3)


def test_a_scaffold_comes_back_from_its_file(tmp_path):
    scaffold = Scaffold(MEMORY, 100, generator=seeded())
    content = torch.randn(5, 100, generator=seeded())
    scaffold.store(content)
    scaffold.save(tmp_path / "scaffold")
    again = Scaffold.load(tmp_path / "scaffold")
    assert torch.equal(again.recall(content, seeded()).content, scaffold.recall(content, seeded()).content)


def test_corruption_is_of_the_amount_asked_for():
    x = torch.ones(200, 50)
    assert ((corrupt(x, 0.1, generator=seeded()) == -1).sum(1) == 5).all()
    assert ((corrupt(x, 0.1, noise="erase", generator=seeded()) == 0).sum(1) == 5).all()
    share = (corrupt(x, 0.1, noise="bsc", generator=seeded()) == -1).float().mean().item()
    assert share == pytest.approx(0.1, abs=0.015)
    assert recovery_rate(lambda noisy: noisy, x, 0.0) == 1
    assert recovery_rate(lambda noisy: noisy, x, 0.1) == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: AssociativeStore(ExpanderMemory(MEMORY.graph, "learn")), ValueError, "expected 'parity'"),
        (
            lambda: AssociativeStore(ExpanderMemory(MEMORY.graph, encoding="bits"), 2),
            ValueError,
            "memory.encoding = 'bits': expected 'signs' with features",
        ),
        (lambda: AssociativeStore(MEMORY).write(["a"], []), ValueError, "payloads has 0 items: expected 1"),
        (lambda: AssociativeStore(MEMORY).address([-1]), ValueError, r"labels has -1: expected 0 .. 2\^40 - 1"),
        (lambda: AssociativeStore(MEMORY).readout(torch.ones(1, 240)), ValueError, "features = None: expected"),
        (
            lambda: AssociativeStore(MEMORY, 2).write(["a"], torch.ones(1, 3)),
            ValueError,
            r"payloads of shape \(1, 3\): expected finite numbers, \(1, 2\)",
        ),
        (lambda: Scaffold(MEMORY, 2).recall(torch.ones(1, 2)), RuntimeError, "nothing is stored"),
        (lambda: corrupt(torch.ones(1, 2), 0.5, noise="white"), ValueError, "noise = 'white': expected one of"),
        (lambda: corrupt(torch.zeros(1, 2), 0.5), ValueError, r"x\[0, 0\] = 0.0: expected -1 or \+1"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_payloads_are_copied():
    store = AssociativeStore(ExpanderMemory(random_regular(60, 5, 6, seed=0)), features=2)
    payload = torch.tensor([[1.0, 2.0]])
    store.write(["a"], payload)
    payload.zero_()
    assert store.recall(store.address(["a"])).payloads[0].tolist() == [1.0, 2.0]
    store.write(["a"], torch.tensor([[5.0, 5.0]]))
    torch.testing.assert_close(store.readout(store.address(["a"])), torch.tensor([[5.0, 5.0]]))


def test_an_answer_is_a_copy_of_what_is_stored():
    store = AssociativeStore(ExpanderMemory(random_regular(120, 5, 6, seed=0)), features=2)
    store.write(["a"], torch.tensor([[3.0, 4.0]]))
    (answer,) = store.recall(store.address(["a"])).payloads
    answer /= answer.norm()
    assert store.recall(store.address(["a"])).payloads[0].tolist() == [3, 4]
    store.write(["a"], torch.zeros(1, 2))
    assert store.readout(store.address(["a"])).tolist() == [[0, 0]]


def test_a_store_keeps_its_own_payloads():
    store, tensors, array = AssociativeStore(MEMORY), torch.ones(1, 3), np.ones(3)
    store.write(["a"], tensors)
    store.write(["b"], [array])
    tensors.zero_()
    array[:] = 0
    for _ in range(2):
        first, second = store.recall(store.address(["a", "b"])).payloads
        assert first.tolist() == second.tolist() == [1, 1, 1]
        first.zero_()
        second[:] = 0
