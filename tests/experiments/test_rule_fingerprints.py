import pytest
import torch

from engram.experiments.rule_fingerprints import RULES, Config, arms, build, rule_of
from engram.rules import Backprop, FeedbackAlignment


def configs(config: object) -> dict:
    return {name: arm.config for name, arm in arms(config).items()}


def test_networks_start_alike_within_the_range_of_torch():
    one, other = (build(torch.Generator().manual_seed(3)) for _ in range(2))
    for (name, value), same in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(value, same)
        bound = (64 if name.startswith("0") else 32) ** -0.5
        assert 0.8 * bound < value.abs().max() <= bound


def test_only_one_of_the_rules_sends_errors_back_otherwise():
    kinds = {rule: type(rule_of(rule)) for rule in RULES}
    assert kinds.pop("feedback-alignment") is FeedbackAlignment
    assert set(kinds.values()) == {Backprop}


def test_the_control_has_one_rule_and_is_else_the_same():
    usual, control = configs(Config(networks=4)).values()
    assert (usual.rules, control.rules) == ("four", "one")
    assert {**vars(usual), "rules": ""} == {**vars(control), "rules": ""}


def test_too_few_looks_are_refused():
    with pytest.raises(ValueError, match="every = 10: expected 30 looks at least in steps = 100"):
        Config(steps=100, every=10)
