import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engram.memory import AttentionMemory, DenseHopfield, HebbHopfield, corrupt
from engram.memory.associative.hopfield import attention, cubic, exponential, hebb, pseudo_inverse
from engram.storage import CorruptFileError

KINDS = {
    "hebb": HebbHopfield,
    "pseudo-inverse": lambda n: HebbHopfield(n, "pseudo-inverse"),
    "dense-2": lambda n: DenseHopfield(2),
    "dense-3": lambda n: DenseHopfield(3),
    "exponential": lambda n: DenseHopfield("exponential"),
    "attention": lambda n: AttentionMemory(),
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def signs(*shape, seed=0):
    return 1 - 2 * torch.randint(0, 2, shape, generator=seeded(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_few_patterns_come_back_from_noise(kind):
    memory, X = KINDS[kind](200), signs(5, 200)
    memory.store(X[:2])
    memory.store(X[2:])
    result = memory.recall(corrupt(X, 0.1, generator=seeded()))
    assert torch.equal(result.x, X)
    assert result.converged.all()
    expected = 200 * 199 // 2 if kind in ("hebb", "pseudo-inverse") else 1000
    assert memory.n_weights == expected


def test_hebbs_weights_are_the_sum_of_products():
    X = signs(3, 8)
    memory = HebbHopfield(8)
    memory.store(X)
    expected = (X.T @ X).float() / 8
    assert torch.allclose(memory.weight, expected.fill_diagonal_(0))


def test_the_pseudo_inverse_keeps_more_than_hebb():
    X = signs(60, 100)
    recalled = {}
    for rule in ("hebb", "pseudo-inverse"):
        memory = HebbHopfield(100, rule)
        memory.store(X)
        recalled[rule] = (memory.recall(X, generator=seeded()).x == X).all(1).float().mean().item()
    assert recalled["hebb"] < 0.1
    assert recalled["pseudo-inverse"] == 1


@given(st.integers(0, 2**32), st.sampled_from([2, 3, 4, "exponential"]))
def test_dense_networks_rest_at_minima_of_their_energy(seed, n):
    X, x = signs(6, 20, seed=seed), signs(10, 20, seed=seed + 1)

    def energy(state):
        overlap = (X.double() @ state.double().T).T
        return -(overlap.exp() if n == "exponential" else overlap**n).sum(1)

    memory = DenseHopfield(n)
    memory.store(X)
    result = memory.recall(x, generator=seeded(seed))
    assert result.converged.all()
    assert (energy(result.x) <= energy(x)).all()
    for state in result.x:
        flipped = state * (1 - 2 * torch.eye(20))
        assert (energy(flipped) >= energy(state[None]) - 1e-6 * energy(state[None]).abs()).all()


@given(st.integers(0, 2**32))
def test_classic_networks_rest_at_minima_of_their_energy(seed):
    memory = HebbHopfield(20)
    memory.store(signs(6, 20, seed=seed))
    result = memory.recall(signs(10, 20, seed=seed + 1), generator=seeded(seed))
    assert result.converged.all()
    field = result.x.float() @ memory.weight
    assert (field * result.x >= -1e-5).all()


def test_attention_is_a_softmax_over_the_patterns():
    X, x = signs(4, 30), signs(3, 30, seed=1)
    memory = AttentionMemory(0.5)
    memory.store(X)
    scores = np.exp(0.5 * x.numpy() @ X.numpy().T)
    expected = np.sign(scores / scores.sum(1, keepdims=True) @ X.numpy())
    assert (memory.recall(x).x.numpy() == expected).all()


def test_a_dense_network_draws_what_is_not_stored_to_what_is():
    memory, X = DenseHopfield("exponential"), signs(500, 100)
    memory.store(X)
    others = memory.recall(signs(50, 100, seed=1), generator=seeded()).x
    assert (others[:, None] == X).all(2).any(1).all()


@pytest.mark.parametrize("kind", ["hebb", "dense-3", "exponential"])
def test_seed_settles_it_and_threads_change_nothing(kind):
    memory = KINDS[kind](60)
    memory.store(signs(10, 60))
    x = signs(40, 60, seed=1)
    recalled = memory.recall(x, generator=seeded())
    torch.set_num_threads(2)
    assert all(torch.equal(a, b) for a, b in zip(recalled, memory.recall(x, generator=seeded()), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_files(kind, tmp_path):
    memory = KINDS[kind](40)
    memory.store(signs(5, 40))
    memory.save(tmp_path / "memory")
    again = type(memory).load(tmp_path / "memory")
    more, x = signs(2, 40, seed=2), signs(20, 40, seed=1)
    memory.store(more)
    again.store(more)
    arguments = () if kind == "attention" else (100, seeded())
    first = memory.recall(x, *arguments).x
    arguments = () if kind == "attention" else (100, seeded())
    assert torch.equal(first, again.recall(x, *arguments).x)
    other = DenseHopfield if isinstance(memory, HebbHopfield) else HebbHopfield
    with pytest.raises(CorruptFileError, match="it holds no"):
        other.load(tmp_path / "memory")


@pytest.mark.parametrize("kind", KINDS)
def test_bad_patterns_are_named(kind):
    memory = KINDS[kind](6)
    for bad, message in (
        (torch.ones(6), r"X.shape = \(6,\): expected \(batch, 6\)"),
        (torch.ones(0, 6), r"X.shape = \(0, 6\): expected"),
        (torch.zeros(1, 6), r"X\[0, 0\] = 0.0: expected -1 or \+1"),
        (torch.full((1, 6), torch.nan), r"X\[0, 0\] = nan: expected -1 or \+1"),
    ):
        with pytest.raises(ValueError, match=message):
            memory.store(bad)
    memory.store(signs(2, 6))
    with pytest.raises(ValueError, match=r"x.shape = \(1, 5\): expected \(batch, 6\)"):
        memory.recall(torch.ones(1, 5))


@pytest.mark.parametrize("memory", [DenseHopfield(), AttentionMemory()])
def test_nothing_is_recalled_from_nothing(memory):
    with pytest.raises(RuntimeError, match="nothing is stored"):
        memory.recall(torch.ones(1, 4))


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_dict_is_loaded_whatever_is_stored(kind):
    memory, other = KINDS[kind](20), KINDS[kind](20)
    memory.store(signs(3, 20))
    other.store(signs(5, 20, seed=1))
    for target in (KINDS[kind](20), other):
        torch.nn.Sequential(target).load_state_dict(torch.nn.Sequential(memory).state_dict())
        x = signs(4, 20, seed=2)
        results = [
            network.recall(x, **({} if kind == "attention" else {"generator": seeded()})).x
            for network in (memory, target)
        ]
        assert torch.equal(*results)


def test_a_memory_refuses_the_state_of_another_network():
    memories = {make: make(6) for make in (hebb, pseudo_inverse, cubic, exponential, attention)}
    for make, memory in memories.items():
        memory.store(signs(2, 6).float())
        make(6).load_state_dict(memory.state_dict())
        for other in memories.keys() - {make}:
            with pytest.raises(ValueError, match=r"state\['content'\]"):
                other(6).load_state_dict(memory.state_dict())


@pytest.mark.parametrize("nodes", [5, 40])
def test_exponential_networks_do_not_flip_for_ever_between_patterns_that_differ_in_one_node(nodes):
    X = signs(1, nodes).repeat(2, 1)
    X[1, 0] *= -1
    memory = DenseHopfield("exponential")
    memory.store(X)
    result = memory.recall(X, generator=seeded())
    assert (result.flips <= 2).all()
    assert result.converged.all()


@pytest.mark.parametrize("kind", ["hebb", "exponential"])
def test_a_recall_may_be_as_long_as_it_takes(kind):
    memory = KINDS[kind](6)
    memory.store(signs(1, 6))
    x = signs(2, 6, seed=1)
    assert torch.equal(memory.recall(x, 2**70, seeded()).x, memory.recall(x, 100, seeded()).x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_attention_keeps_the_sign_of_a_node_whose_patterns_cancel(dtype):
    """Pairs of patterns differ in their last node alone, and are equally near to a cue that knows nothing of it."""
    generator = torch.Generator().manual_seed(0)
    content = signs(9, 14).repeat(2, 1)
    answers = torch.ones(18, 1, dtype=torch.int64).index_fill(0, torch.arange(9), -1)
    order = torch.randperm(18, generator=generator)
    memory = AttentionMemory(beta=0.3)
    memory.store(torch.cat((content, answers, -answers), 1)[order])
    cues = torch.cat((content[:9], signs(9, 1, seed=1).expand(9, 2)), 1).to(dtype)
    recalled = memory.recall(cues).x
    assert torch.equal(recalled[:, 14:], cues[:, 14:])
    assert recalled.dtype == dtype
