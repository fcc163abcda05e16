import pytest
import torch

from engram.studies.experiments import cue_reward


@pytest.mark.parametrize("arm", ["retroactive-late", "one-step-late"])
def test_where_the_reward_is_late_the_episodes_are_longer_and_the_rate_is_the_arms_own(arm):
    config = cue_reward.experiment.arms("laptop")[arm].config
    assert (config.reward_delay, config.episode_len) == (1, 67)
    eta = cue_reward.build(config, torch.Generator()).network.rule.eta
    assert (eta.item(), eta.requires_grad) == (pytest.approx(config.eta), config.eta_trained)


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
        cue_reward.Config(**changes)
