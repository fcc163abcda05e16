import pytest
import torch

from engram.studies.experiments import pattern_completion
from engram.studies.experiments.pattern_completion import Config, build, errors, experiment


def test_the_long_task_of_the_paper_has_2_million_parameters():
    config = experiment.arms("published")["plastic-long"].config
    net = build(config, torch.Generator().manual_seed(0))
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == 2 * 1001**2 + 1
    steps = config.patterns * config.cycles * (config.presentation_steps + config.blank_steps)
    assert steps + config.presentation_steps == 106


def test_a_bit_is_wrong_where_its_sign_is():
    assert errors(torch.tensor([[0.1, -2.0, 0.0, 3.0]]), torch.tensor([[1.0, 1.0, 1.0, 1.0]])) == 0.5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bits": 7}, "bits = 7: expected an even number"),
        ({"hidden_size": 50}, "hidden_size = 50: expected at least 51, with bits = 50"),
        ({"network": "lstm", "hidden_size": 49}, "hidden_size = 49: expected at least 50, with bits = 50"),
    ],
)
def test_impossible_configs_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)


def test_a_step_that_is_timed_is_of_the_episodes_of_its_arm(monkeypatch):
    seen = []

    def built(*arguments):
        net = build(*arguments)
        net.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
        return net

    monkeypatch.setattr(pattern_completion, "build", built)
    changes = {"patterns": 3, "cycles": 2, "presentation_steps": 4, "blank_steps": 0}
    pattern_completion.step_of(Config(network="non-plastic", batch_size=2, **changes))()
    assert seen == [(3 * 2 * 4 + 4, 2, 50)]
