import dataclasses

import pytest
import torch

from engram.studies.experiments import maze


def configs(preset: str) -> dict:
    return {name: arm.config for name, arm in maze.experiment.arms(preset).items()}


@pytest.mark.parametrize("preset", ["smoke", "laptop", "published"])
def test_the_parameters_are_counted_right(preset):
    for config in configs(preset).values():
        agent = maze.build(config, torch.Generator().manual_seed(0))
        assert maze.parameter_count(config) == sum(p.numel() for p in agent.parameters())


def test_the_published_preset_has_the_published_sizes():
    published = configs("published")
    sizes = {arm: (config.hidden_size, maze.parameter_count(config)) for arm, config in published.items()}
    assert sizes["modulated"] == (100, 22_406)
    assert sizes["retroactive"] == (100, 22_407)
    assert sizes["clipped-hebb"] == (101, 22_731)
    assert sizes["non-plastic"] == (139, 22_523)


@pytest.mark.parametrize("preset", ["smoke", "laptop"])
def test_no_network_is_smaller_than_the_modulated_one_or_larger_than_need_be(preset):
    arms = configs(preset)
    least = maze.parameter_count(arms["modulated"])
    for config in arms.values():
        smaller = dataclasses.replace(config, hidden_size=config.hidden_size - 1)
        assert maze.parameter_count(smaller) < least <= maze.parameter_count(config)


def test_every_arm_is_a_network_of_its_own_kind():
    rules = {}
    for arm, config in configs("published").items():
        network = maze.build(config, torch.Generator().manual_seed(0)).network
        rules[arm] = (type(network.rule).__name__, None if network.alpha is None else network.alpha.dim())
    assert rules == {
        "random": ("NoneType", None),
        "non-plastic": ("NoneType", None),
        "oja": ("Oja", 2),
        "modulated": ("Modulated", 2),
        "clipped-hebb": ("ClippedHebb", 2),
        "retroactive": ("Retroactive", 2),
    }


def test_an_even_size_is_named():
    with pytest.raises(ValueError, match="size = 8: expected an odd number"):
        maze.Config(size=8)
