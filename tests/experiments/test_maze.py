import dataclasses

import pytest
import torch

from engram.experiments import maze
from engram.lab import at_least


def configs(config: object) -> dict:
    return {name: arm.config for name, arm in maze.arms(config).items()}


CONFIG = maze.experiment.presets["smoke"].config
PAPER = maze.experiment.presets["paper"].config


@pytest.mark.parametrize("preset", ["smoke", "laptop", "paper"])
def test_the_parameters_are_counted_right(preset):
    for config in configs(maze.experiment.presets[preset].config).values():
        agent = maze.build(config, torch.Generator().manual_seed(0))
        assert maze.parameter_count(config) == sum(p.numel() for p in agent.parameters())


def test_the_paper_preset_has_the_published_sizes():
    sizes = {arm: (config.hidden_size, maze.parameter_count(config)) for arm, config in configs(PAPER).items()}
    assert sizes["modulated"] == (100, 22_406)
    assert sizes["retroactive"] == (100, 22_407)
    assert sizes["clipped-hebb"] == (101, 22_731)
    assert sizes["non-plastic"] == (139, 22_523)
    assert configs(PAPER)["modulated-author-baseline"].a2c.author_value_bug
    assert not configs(PAPER)["modulated"].a2c.author_value_bug


def test_every_arm_is_a_network_of_its_own_kind():
    rules = {}
    for arm, config in configs(CONFIG).items():
        network = maze.build(config, torch.Generator().manual_seed(0)).network
        rules[arm] = (type(network.rule).__name__, None if network.alpha is None else network.alpha.dim())
    assert rules == {
        "random": ("NoneType", None),
        "non-plastic": ("NoneType", None),
        "hebb": ("Hebb", 2),
        "oja": ("Oja", 2),
        "clipped-hebb": ("ClippedHebb", 2),
        "homogeneous": ("ClippedHebb", 0),
        "modulated": ("Modulated", 2),
        "retroactive": ("Retroactive", 2),
    }


def test_the_criteria_are_those_of_the_protocol():
    claims = {claim.id: claim for claim in maze.claims}
    assert claims["plasticity-helps"].holds == at_least(1.15)
    assert claims["all-learn"].holds == at_least(4.0)
    assert {claim.id for claim in maze.claims if "laptop" in claim.presets} == {"plasticity-helps", "all-learn"}
    hits = {arm: {"hits": 8.0} for arm in maze.LEARNERS} | {"random": {"hits": 1.0}, "oja": {"hits": 4.0}}
    assert claims["all-learn"].metric(hits) == 4.0
    assert claims["plasticity-helps"].metric(hits) == 1.0
    with pytest.raises(ZeroDivisionError):  # which leaves the claim undecided, and says why
        claims["all-learn"].metric(hits | {"random": {"hits": 0.0}})


def test_an_even_size_is_named():
    with pytest.raises(ValueError, match="size = 8: expected an odd number"):
        dataclasses.replace(CONFIG, size=8)
