import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engram.learned.blur import Genome


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@given(states=st.integers(1, 8), seed=st.integers(0, 99), members=st.sampled_from([(), (3,), (2, 1)]))
def test_a_vector_is_the_genome(states, seed, members):
    genome = Genome.random(states, seeded(seed))
    vector = genome.to_vector().expand(*members, -1)
    assert vector.shape == (*members, 4 * states**2 + 7)
    again = Genome.from_vector(vector)
    assert again.n_states == states
    for parameter, other in zip(genome, again, strict=True):
        assert torch.equal(parameter.expand_as(other), other)


def test_a_random_genome_is_drawn_from_its_generator():
    vectors = [Genome.random(3, seeded(seed)).to_vector() for seed in (0, 0, 1)]
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.equal(vectors[0], vectors[2])


def test_the_counts_are_those_published():
    assert [Genome.random(states, seeded()).to_vector().numel() for states in (2, 4, 8)] == [23, 71, 263]


def test_a_random_genome_has_the_published_numbers():
    scalars = Genome.random(3, seeded())._asdict()
    assert {name: scalars[name].item() for name in list(scalars)[4:]} == pytest.approx({
        "keep_n": 1, "gain_n": 1, "keep_s": 1, "gain_s": -0.512, "norm_gain": 1, "norm_shift": 0, "oja": 1,
    })  # fmt: skip


def test_the_gradient_reaches_the_vector():
    vector = Genome.backprop(0.1).to_vector().requires_grad_()
    Genome.from_vector(vector).Q.sum().backward()
    assert vector.grad.sum() == 4


def test_near_backprop_is_near():
    mean = Genome.backprop(0.3)._replace(gain_s=torch.tensor(0.3), oja=torch.tensor(1.0)).to_vector()
    assert torch.equal(Genome.near_backprop(0.0, seeded(), learning_rate=0.3).to_vector(), mean)
    many = [Genome.near_backprop(0.1, seeded(seed), learning_rate=0.3).to_vector() - mean for seed in range(300)]
    assert torch.stack(many).std(0).sub(0.1).abs().max() < 0.03
    assert torch.stack(many).mean(0).abs().max() < 0.03


def test_it_is_written_down_by_name():
    written = Genome.backprop(0.25).to_dict()
    assert written["gain_s"] == -0.25
    assert written["nu"] == [[1, 1], [0, 0]]
    assert Genome(**{name: torch.tensor(value) for name, value in written.items()}).keep_s == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Genome.from_vector(torch.zeros(7)), r"vector.shape = \(7,\): expected a last axis of 4 k\^2 \+ 7"),
        (lambda: Genome.from_vector(torch.zeros(24)), r"vector.shape = \(24,\)"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
