"""States of learning rules are saved by ``torch.save`` and loaded without unpickling."""

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from engram import registry
from engram.learned.blur import Genome
from engram.rules import synaptic

NAMES = [name for name in registry.names("learning_rules") if name not in ("eprop", "rtrl", "bptt")]


def network(activation=nn.Tanh):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), activation(), nn.Linear(5, 5), activation(), nn.Linear(5, 3))


def loaded(state, tmp_path):
    torch.save(state, tmp_path / "state.pt")
    return torch.load(tmp_path / "state.pt")


def is_same(state, other):
    pairs = zip(tree_leaves(state), tree_leaves(other), strict=True)
    is_equal = [torch.equal(*pair) if isinstance(pair[0], torch.Tensor) else pair[0] == pair[1] for pair in pairs]
    return type(state) is type(other) and all(is_equal)


@pytest.mark.parametrize("name", NAMES)
def test_the_state_of_a_learning_rule_is_loaded(name, tmp_path):
    rule, generator = registry.get("learning_rules", name)(), torch.Generator().manual_seed(0)
    for activation in (nn.Tanh, nn.Hardtanh, nn.Sigmoid):
        try:
            state = rule.init(network(activation), generator)
        except TypeError:  # it needs another activation
            continue
        assert is_same(state, loaded(state, tmp_path))
        return
    pytest.skip("it trains other networks")


@pytest.mark.parametrize(
    "make", [synaptic.PairSTDP, synaptic.TripletSTDP, synaptic.CovarianceHebb, synaptic.ThreeFactor]
)
def test_the_state_of_a_synaptic_rule_is_loaded(make, tmp_path):
    state = make().init(torch.rand(3, 4))
    assert is_same(state, loaded(state, tmp_path))


def test_a_genome_is_loaded(tmp_path):
    genome = Genome.backprop(0.1)
    assert is_same(genome, loaded(genome, tmp_path))
