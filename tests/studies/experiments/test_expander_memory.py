from dataclasses import replace

import numpy as np
import pytest
import torch

from engram.memory import ExpanderMemory, HebbHopfield, corrupt
from engram.memory.expander.recovery import nearest_state, random_states
from engram.studies.experiments.expander_memory import experiment
from engram.studies.experiments.expander_memory.claims import growth, least_recovery
from engram.studies.experiments.expander_memory.contents import WIDTH, Contents
from engram.studies.experiments.expander_memory.recovery import Network, Recovery, build_graph, decode


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_graphs_differ_in_wiring_alone():
    rng = np.random.default_rng(0)
    random, local = (build_graph(Recovery(graph=kind), 240, rng) for kind in ("random", "local"))
    assert random.C.shape == local.C.shape == (200, 6)
    assert build_graph(Recovery(graph="hamming"), 1920, rng).n_nodes == 1925


def test_the_same_seed_gives_all_decoders_the_same_states_and_noise():
    ladder = [arm.config for name, arm in experiment.arms("laptop").items() if name.startswith("decoder-")]
    assert len({replace(config, decoder="max") for config in ladder}) == 1
    assert ladder[0].shares() == [0.02, 0.04, 0.06, 0.08, 0.1]


@pytest.mark.parametrize("decoder", ["max", "random", "parallel", "wta", "belief-propagation", "nearest"])
def test_every_decoder_corrects_a_little_noise(decoder):
    config = Recovery(decoder=decoder, smallest=60, doublings=0)
    memory = ExpanderMemory(build_graph(config, 60, np.random.default_rng(0)))
    assert memory.message_size == 10
    x = random_states(memory, 40, seeded())
    noisy = corrupt(x, 1 / 60, generator=seeded())
    answer = decode(config, memory, noisy, 1 / 60, seeded())
    assert answer.dtype == x.dtype
    assert (answer == x).all(1).float().mean() >= 0.9


def test_the_nearest_state_is_the_nearest():
    memory = ExpanderMemory(build_graph(Recovery(r=10), 20, np.random.default_rng(0)))
    size = memory.message_size
    every = memory.encode(torch.arange(2**size)[:, None] >> torch.arange(size) & 1)
    noisy = 1 - 2 * torch.randint(0, 2, (30, 20), generator=seeded(), dtype=torch.int8)
    far = (noisy[:, None] != every).sum(2)
    assert torch.equal((noisy != nearest_state(memory, noisy)).sum(1), far.amin(1))


def test_scaffold_and_networks_have_as_many_weights():
    nodes = Contents().nodes
    scaffold, network = 2 * nodes * WIDTH * nodes, HebbHopfield(WIDTH * nodes).n_weights
    assert scaffold == pytest.approx(network, rel=0.01)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lowest": 0.1, "highest": 0.05}, "lowest = 0.1: expected at most highest = 0.05"),
        ({"smallest": 241}, "smallest = 241: expected a multiple of r / z"),
        ({"graph": "local", "smallest": 126}, "smallest = 126: expected a multiple of 12 for local wiring"),
    ],
)
def test_impossible_configs_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Recovery(**fields)


def test_a_network_that_is_not_regular_is_refused():
    with pytest.raises(ValueError, match="nodes = 241: expected a multiple of r / z, here of 6 / 5"):
        Network(nodes=241)


def test_what_the_claims_compute():
    results = {
        "a": {"recovery_first_0.04": 0.9, "recovery_second_0.04": 0.5, "recovery_second_0.1": 0.1, "recovery": 0.0},
        "b": {"recovery_first_0.04": 0.7, "recovery_second_0.04": 0.6, "recovery_second_0.1": 0.1},
        "c": {"recovery_first_0.04": 0.7},
    }
    assert least_recovery("a")(results) == 0.5
    assert growth("a", "first", "second")(results) == pytest.approx(-0.4)


def test_the_nearest_state_in_bits_is_that_in_signs():
    graph = build_graph(Recovery(r=10), 20, np.random.default_rng(0))
    bits = torch.randint(0, 2, (30, 20), generator=seeded())
    nearest = nearest_state(ExpanderMemory(graph, encoding="bits"), bits)
    assert torch.equal(1 - 2 * nearest, nearest_state(ExpanderMemory(graph), 1 - 2 * bits))


def test_a_network_too_large_for_the_nearest_state_says_so():
    memory = ExpanderMemory(build_graph(Recovery(), 240, np.random.default_rng(0)))
    with pytest.raises(ValueError, match="memory stores 2\\^40 states: expected at most 2\\^14"):
        nearest_state(memory, torch.ones(1, 240))


def test_shares_of_flipped_nodes_do_not_exceed_the_largest():
    assert Recovery(lowest=0.03, highest=0.06).shares() == [0.03, 0.05]
    assert Recovery(lowest=0.05, highest=0.15).shares() == [0.05, 0.07, 0.09, 0.11, 0.13, 0.15]
    assert Recovery(lowest=0.06, highest=0.06).shares() == [0.06]
