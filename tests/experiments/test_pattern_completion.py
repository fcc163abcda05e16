import pytest
import torch

from engram.experiments.pattern_completion import Config, arms, build, errors, experiment


def configs(config: Config) -> dict:
    return {name: arm.config for name, arm in arms(config).items()}


def test_arms_differ_from_the_plastic_network_as_their_names_say():
    rates = {"baseline_learning_rate": 0.1, "enlarged_learning_rate": 0.3, "lstm_learning_rate": 0.2}
    found = configs(Config(rule="oja", alpha="post", episodes=50, **rates))
    sizes = {arm: (config.network, config.hidden_size, config.learning_rate) for arm, config in found.items()}
    assert sizes == {
        "plastic": ("plastic", 51, 3e-4),
        "homogeneous": ("plastic", 51, 3e-4),
        "non-plastic": ("non-plastic", 51, 0.1),
        "non-plastic-large": ("non-plastic", 251, 0.3),
        "lstm": ("lstm", 200, 0.2),
        "plastic-long": ("plastic", 201, 3e-4),
    }
    assert {config.rule for arm, config in found.items() if arm.startswith(("non", "lstm"))} == {"hebb"}
    assert [config.episodes for config in found.values()] == [50, 50, 50, 50, 50, 1000]
    assert [found[arm].alpha for arm in ("plastic", "homogeneous")] == ["post", "homogeneous"]


def test_the_long_task_of_the_paper_has_2_million_parameters():
    config = configs(experiment.presets["paper"].config)["plastic-long"]
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
        ({"long_bits": 13}, "long_bits = 13: expected an even number"),
        ({"hidden_size": 50}, "hidden_size = 50: expected more than bits = 50"),
        ({"network": "lstm", "hidden_size": 49}, "hidden_size = 49: expected at least bits = 50"),
    ],
)
def test_impossible_configs_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)
