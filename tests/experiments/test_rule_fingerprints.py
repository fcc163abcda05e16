import pytest
import torch

from engram.experiments.rule_fingerprints import RULES, Config, arms, build
from engram.rules import FeedbackAlignmentLinear


def configs(config: object) -> dict:
    return {name: arm.config for name, arm in arms(config).items()}


def test_networks_of_all_rules_start_alike():
    networks = {rule: build(rule, torch.Generator().manual_seed(3)) for rule in RULES}
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    for rule, network in networks.items():
        assert torch.equal(network(x), networks["sgd"](x))
        assert isinstance(network[2], FeedbackAlignmentLinear) == (rule == "feedback-alignment")


def test_the_control_has_one_rule_and_is_else_the_same():
    usual, control = configs(Config(networks=4)).values()
    assert (usual.rules, control.rules) == ("four", "one")
    assert {**vars(usual), "rules": ""} == {**vars(control), "rules": ""}


def test_too_few_looks_are_refused():
    with pytest.raises(ValueError, match="every = 10: expected 30 looks at least in steps = 100"):
        Config(steps=100, every=10)
