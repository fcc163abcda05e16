import dataclasses

import pytest
import torch

from engram.experiments import cue_reward
from engram.lab import at_least, at_most


def configs(config: object) -> dict:
    return {name: arm.config for name, arm in cue_reward.arms(config).items()}


CONFIG = cue_reward.experiment.presets["laptop"].config


def test_the_arms_differ_in_their_rule_alone_but_for_the_time_that_retroactive_modulation_gets():
    arms = configs(CONFIG)
    rules = {
        "modulated": "modulated",
        "clipped-hebb": "clipped-hebb",
        "non-plastic": "none",
        "retroactive": "retroactive",
    }
    assert {arm: config.rule for arm, config in arms.items()} == rules
    same = {dataclasses.replace(config, rule="none", iterations=2500) for config in arms.values()}
    assert len(same) == 1
    assert [config.iterations for config in arms.values()] == [2500, 2500, 2500, 4000]
    network = cue_reward.build(arms["retroactive"], 15, 2, torch.Generator()).network
    assert network.rule.eta.item() == pytest.approx(0.1)


def test_the_criteria_are_those_of_the_protocol():
    claims = {claim.id: claim for claim in cue_reward.claims}
    assert claims["modulated-learns"].holds == at_least(0.85)
    assert claims["modulated-learns"].sameness == "numeric", "with every seed"
    assert claims["non-modulated-fail"].holds == at_most(0.55)
    assert claims["modulation-matters"].holds == at_least(0.30)
    share = {"modulated": 0.9, "clipped-hebb": 0.5, "non-plastic": 0.6}
    results = {arm: {"accuracy": value} for arm, value in share.items()}
    assert claims["non-modulated-fail"].metric(results) == 0.6
    assert claims["modulation-matters"].metric(results) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cues": 3}, "cues = 3: expected an even number"),
        ({"cues": 4, "cue_bits": 1}, "cues = 4: expected at most 2, with cue_bits = 1"),
        ({"cues": 4, "cue_bits": 3, "fixed_cues": True}, "cues = 4: expected at most cue_bits = 3"),
        ({"episode_len": 4}, "episode_len = 4: expected at least 5, the longest trial"),
    ],
)
def test_configs_that_make_no_task_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **changes)
