import pytest

from engram import registry
from engram.testing.rule import check_rule


@pytest.mark.parametrize("name", registry.names("plasticity_rules"))
def test_rule_keeps_its_promises(name):
    check_rule(registry.get("plasticity_rules", name))
