import pytest

from engram import registry
from engram.plasticity import Competitive
from engram.testing.rule import check_rule

RULES = {name: registry.get("plasticity_rules", name) for name in registry.names("plasticity_rules")}


@pytest.mark.parametrize("rule", [*RULES.values(), Competitive], ids=[*RULES, "competitive"])
def test_rule_keeps_its_promises(rule):
    check_rule(rule)
