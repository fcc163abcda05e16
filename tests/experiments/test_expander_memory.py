import numpy as np
import pytest
import torch

from engram.experiments.expander_memory import (
    Config,
    arms,
    build_graph,
    decoded,
    experiment,
    fractions,
    seconds,
)
from engram.memory import ExpanderMemory, corrupted
from engram.memory.expander.recovery import nearest_state, random_states


def configs(config: object) -> dict:
    return {name: arm.config for name, arm in arms(config).items()}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_graphs_differ_in_wiring_alone():
    rng = np.random.default_rng(0)
    random, local = (build_graph(Config(graph=kind), 240, rng) for kind in ("random", "local"))
    assert random.C.shape == local.C.shape == (200, 6)
    assert build_graph(Config(graph="hamming"), 1920, rng).n_nodes == 1925


def test_the_same_seed_gives_all_decoders_the_same_states_and_noise():
    shown = configs(experiment.presets["laptop"].config)
    ladder = [config for arm, config in shown.items() if arm.startswith("decoder-")]
    assert len({(c.smallest, c.doublings, c.z, c.r, c.words, c.lowest, c.highest) for c in ladder}) == 1
    assert ladder[0].smallest == 960
    assert fractions(ladder[0]) == [0.02, 0.04, 0.06, 0.08, 0.1]


@pytest.mark.parametrize("decoder", ["max", "random", "parallel", "wta", "gallager-b", "belief-propagation", "nearest"])
def test_every_decoder_corrects_a_little_noise(decoder):
    config = Config(decoder=decoder, smallest=60, doublings=0)
    memory = ExpanderMemory(build_graph(config, 60, np.random.default_rng(0)))
    assert memory.message_size == 10
    x = random_states(memory, 40, seeded())
    noisy = corrupted(x, 1 / 60, generator=seeded())
    found = decoded(config, memory, noisy, 1 / 60, seeded())
    assert found.dtype == x.dtype
    assert (found == x).all(1).float().mean() >= 0.9


def test_the_nearest_state_is_the_nearest():
    memory = ExpanderMemory(build_graph(Config(r=10), 20, np.random.default_rng(0)))
    size = memory.message_size
    every = memory.encode(torch.arange(2**size)[:, None] >> torch.arange(size) & 1)
    noisy = 1 - 2 * torch.randint(0, 2, (30, 20), generator=seeded(), dtype=torch.int8)
    far = (noisy[:, None] != every).sum(2)
    assert torch.equal((noisy != nearest_state(memory, noisy)).sum(1), far.amin(1))


def test_larger_trials_are_said_to_take_longer():
    small, large = (sum(map(seconds, configs(experiment.presets[name].config).values())) for name in ("smoke", "paper"))
    assert 0 < small < large


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lowest": 0.1, "highest": 0.05}, "lowest = 0.1: expected at most highest = 0.05"),
        ({"smallest": 241}, "smallest = 241: expected a multiple of r / z"),
        ({"graph": "local", "span": 16, "smallest": 120}, "smallest = 120: expected a multiple of span = 16"),
    ],
)
def test_impossible_configs_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)


def test_a_network_too_large_for_the_nearest_state_says_so():
    memory = ExpanderMemory(build_graph(Config(), 240, np.random.default_rng(0)))
    with pytest.raises(ValueError, match="memory stores 2\\^40 states: expected at most 2\\^14"):
        nearest_state(memory, torch.ones(1, 240))
