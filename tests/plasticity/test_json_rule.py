"""A rule that was written as JSON computes as before, once its trained rates are loaded."""

from __future__ import annotations

import json

import pytest
import torch

from engram import registry
from engram.plasticity import (
    ClippedHebb,
    Coefficients,
    Hebb,
    Modulated,
    PlasticityRule,
    Retroactive,
    rule_from_json,
    rule_to_json,
)

OWN_SETTINGS = [
    Hebb(0.2, eta_param="sigmoid"),
    Hebb(0.2, connections=(3, 2)),
    ClippedHebb(clip=0.5),
    Modulated(mode="decay", strict=True),
    Modulated(clip=None, only_half=True, hebb_eta=0.3),
    Retroactive(trace_first=True, only_half=True, hebb_eta=0.3),
]


@pytest.mark.parametrize(
    "rule",
    [*(registry.get("plasticity_rules", name)() for name in registry.names("plasticity_rules")), *OWN_SETTINGS],
    ids=lambda rule: repr(rule)[:40],
)
def test_a_rule_comes_back_and_computes_the_same(rule):
    again = rule_from_json(json.loads(json.dumps(rule_to_json(rule))))
    with torch.no_grad():
        for parameter in rule.parameters():
            parameter.sub_(0.05)  # a trained rate may be what the constructor refuses
    again.load_state_dict(rule.state_dict())
    generator = torch.Generator().manual_seed(0)
    pre, post, signal = (torch.rand(1, n, generator=generator) for n in (2, 3, 1))
    states = [each.update(each.init(1, 3, 2), pre, post, signal if each.modulated else None) for each in (rule, again)]
    assert type(again) is type(rule)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*states, strict=True))


class Own(PlasticityRule):
    def __init__(self, rate, forgotten=0.5):
        super().__init__()
        self.rate = rate

    def coefficients(self, post, modulator=None):
        return Coefficients(torch.zeros(()), torch.tensor(self.rate), post)


def test_an_argument_that_a_rule_of_ones_own_does_not_keep_is_named():
    with pytest.raises(TypeError, match="rule is a Own, whose argument 'forgotten' is not kept"):
        rule_to_json(Own(0.1))


def test_a_rule_of_ones_own_comes_back_where_its_module_is_imported():
    stored = {"rule": f"{__name__}:Own", "rate": 0.25}
    assert rule_from_json(stored).rate == 0.25


@pytest.mark.parametrize(
    ("stored", "error", "message"),
    [
        (
            {"rule": "os:system"},
            ValueError,
            r"stored\['rule'\] = 'os:system': expected one of .*oja:Oja",
        ),
        ({}, ValueError, r"stored\['rule'\] = None: expected one of"),
        ({"rule": "engram.plasticity.oja:Oja", "sizes": 3}, TypeError, "sizes"),
    ],
)
def test_what_is_no_rule_is_refused(stored, error, message):
    with pytest.raises(error, match=message):
        rule_from_json(stored)
