import dataclasses

import pytest
import torch

from engram.experiments import learning_to_remember as experiment
from engram.experiments.learning_to_remember import references, remembering
from engram.experiments.learning_to_remember.claims import smallest_fall
from engram.learned.learning_to_remember import GatedRule, LSTMMemory, StaticRule

CONFIG = experiment.experiment.presets["laptop"].config


def built(arm):
    config = experiment.arms(CONFIG)[arm].config
    return config, remembering.build(config, torch.Generator().manual_seed(0)), remembering.stream_of(config)


def test_the_arms_differ_as_their_names_say():
    arms = {name: arm.config for name, arm in experiment.arms(CONFIG).items() if name != "references"}
    told = {
        name: {
            field.name: value
            for field in dataclasses.fields(config)
            if (value := getattr(config, field.name)) != getattr(arms["two"], field.name)
        }
        for name, config in arms.items()
    }
    longer = {"windows": 4000}
    assert told == {
        "two": {},
        "carried": {"carry": True, "windows": 1200, "further": 10_000},
        "additive": {"rule": "additive"},
        "two-longer": longer,
        "six": {**longer, "snippets": 6, "curriculum": True},
        "twelve": {**longer, "snippets": 12, "curriculum": True},
        "static": {**longer, "snippets": 6, "rule": "static"},
        "retention": {"carry": True, "old": 0.5, "windows": 4000},
        "retention-untrained": {"carry": True, "windows": 4000},
        "mean": {"aggregate": "mean", "transfer": (24, 48)},
        "four": {**longer, "snippets": 4},
        "recurrent": {**longer, "snippets": 4, "network": "recurrent"},
        "layered": {**longer, "snippets": 4, "network": "layered", "hidden": 24},
        "feedforward": {**longer, "snippets": 4, "network": "feedforward", "hidden": 24},
        "lstm": {"network": "lstm"},
    }


@pytest.mark.parametrize(
    ("arm", "groups", "mode", "bidirectional"),
    [
        ("two", (12,), "sequence", False),
        ("recurrent", (12, 12), "sequence", True),
        ("layered", (12, 24, 12), "paired", True),
        ("feedforward", (12, 24, 12), "paired", False),
    ],
)
def test_networks_are_of_their_types(arm, groups, mode, bidirectional):
    _, net, stream = built(arm)
    assert (net.topology.groups, stream.mode, net.topology.bidirectional) == (groups, mode, bidirectional)
    assert net.rule.types == len(groups)


def test_rules_are_of_their_kinds():
    assert isinstance(built("static")[1].rule, StaticRule)
    assert built("static")[1].init(2).synapses[0].any()
    assert (built("two")[1].rule.product, built("additive")[1].rule.product) == (True, False)
    assert isinstance(built("mean")[1].rule, GatedRule)
    config, lstm, _ = built("lstm")
    assert isinstance(lstm, LSTMMemory)
    assert 2 * lstm.hidden_size == config.bits * config.body_size + config.bits**2 * config.channels


def test_rates_of_gradient_descent_are_seven_from_a_thousandth_to_one():
    assert tuple(pytest.approx(r) for r in (1e-3, 10**-2.5, 1e-2, 10**-1.5, 0.1, 10**-0.5, 1.0)) == references.RATES


def test_a_recall_that_rises_with_age_is_seen():
    assert smallest_fall([0.9, 0.8, 0.8, 0.7]) == pytest.approx(0.0)
    assert smallest_fall([0.9, 0.8, 0.85, 0.7]) < 0
