import dataclasses

import pytest
import torch

from engram.experiments import cue_reward


def configs(config: object) -> dict:
    return {name: arm.config for name, arm in cue_reward.arms(config).items()}


CONFIG = cue_reward.experiment.presets["laptop"].config


def test_the_arms_differ_as_their_names_say():
    arms = configs(dataclasses.replace(CONFIG, fixed_cue_control=True))
    assert [arm for arm, config in arms.items() if config.iterations != 2500] == ["retroactive-late", "one-step-late"]
    told = {
        arm: (config.rule, config.eta, config.fixed_cues, config.reward_delay, config.eta_trained, config.episode_len)
        for arm, config in arms.items()
    }
    assert told == {
        "modulated": ("modulated", 0.1, False, 0, True, 60),
        "clipped-hebb": ("clipped-hebb", 0.1, False, 0, True, 60),
        "non-plastic": ("none", 0.1, False, 0, True, 60),
        "retroactive": ("retroactive", 0.5, False, 0, True, 60),
        "modulated-fixed-cues": ("modulated", 0.1, True, 0, True, 60),
        "clipped-hebb-fixed-cues": ("clipped-hebb", 0.1, True, 0, True, 60),
        "retroactive-late": ("retroactive", 0.5, True, 1, True, 67),
        "one-step-late": ("retroactive", 1.0, True, 1, False, 67),
    }
    for arm in ("retroactive-late", "one-step-late"):
        eta = cue_reward.build(arms[arm], 15, 2, torch.Generator()).network.rule.eta
        assert (eta.item(), eta.requires_grad) == (pytest.approx(arms[arm].eta), arms[arm].eta_trained)


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
