import pytest

from engram import registry
from engram.testing.module import check_module

EXEMPT = {"clamped-lstm": {"vmap": "torch.lstm has no batching rule"}}


@pytest.mark.parametrize("name", registry.names("modules"))
def test_module_keeps_its_promises(name):
    check_module(registry.get("modules", name), EXEMPT.get(name))
