"""Every registered agent keeps the contract."""

import pytest

from engram import registry
from engram.testing import check_agent


@pytest.mark.parametrize("name", registry.names("agents"))
def test_agent_keeps_its_promises(name):
    check_agent(registry.get("agents", name))
