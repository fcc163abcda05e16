"""Under autocast the states of learned rules keep their precision, at every batch size; half precision is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from engram.learned.blur import BlurNetwork, Genome
from engram.learned.learning_to_remember import GatedRule, LSTMMemory, RuleNetwork, Topology
from engram.learned.updates import GatedCoordinateRule, LearnedOptimizer


def seeded():
    return torch.Generator().manual_seed(0)


def remembered(batch, autocast):
    net = RuleNetwork(Topology.visible(4), GatedRule(generator=seeded()))
    return lambda x: net(x, net.init(batch, seeded()))


def remembered_eagerly(batch, autocast):
    net = RuleNetwork(Topology.visible(4), GatedRule(generator=seeded()), backend="eager")
    return lambda x: net(x, net.init(batch, seeded()))


def remembered_by_lstm(batch, autocast):
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        net = LSTMMemory(4, 5)
    return lambda x: net(x, net.init(batch))


@pytest.mark.parametrize("make", [remembered, remembered_eagerly, remembered_by_lstm])
@pytest.mark.parametrize("batch", [1, 3])
def test_memories_compute_in_their_own_precision(make, batch):
    x = torch.randn(5, batch, 4, generator=seeded()).bfloat16()
    expected = make(batch, False)(x.float())
    with torch.autocast("cpu", torch.bfloat16):
        found = make(batch, True)(x)
    for one, other in zip(*map(torch.utils._pytree.tree_leaves, (found, expected)), strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)


def test_a_network_of_rules_in_half_precision_is_refused():
    net = RuleNetwork(Topology.visible(4), GatedRule(generator=seeded())).bfloat16()
    with pytest.raises(ValueError, match=r"parameters have dtype = torch\.bfloat16: expected torch\.float32"):
        net(torch.ones(2, 1, 4, dtype=torch.bfloat16), net.init(1, seeded()))


@pytest.mark.parametrize("batch", [1, 3])
def test_evolved_rules_compute_in_their_own_precision(batch):
    net, genome = BlurNetwork.backprop((4, 3, 2)), Genome.backprop(0.1)
    state = net.init(seeded())
    x, y = torch.randn(batch, 4, generator=seeded()).bfloat16(), torch.ones(batch, 2).bfloat16()
    expected = [net.forward(genome, state, x.float()), *net.step(genome, state, x.float(), y.float()).W]
    with torch.autocast("cpu", torch.bfloat16):
        found = [net.forward(genome, state, x), *net.step(genome, state, x, y).W]
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)


def test_a_learned_optimiser_steps_in_its_own_precision():
    weights = []
    for enabled in (False, True):
        net = nn.Linear(3, 2)
        with torch.no_grad():
            net.weight.fill_(0.3)
            net.bias.fill_(0.1)
        optimizer = LearnedOptimizer(net.parameters(), 0.1, rule=GatedCoordinateRule(generator=seeded()))
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            for parameter in net.parameters():
                parameter.grad = torch.linspace(-1, 1, parameter.numel()).view_as(parameter)
            optimizer.step()
        weights.append(net.weight.detach().clone())
    assert torch.equal(*weights)
