import pytest

from engram import registry
from engram.testing.module import check_module

EXEMPT = {
    "clamped-lstm": {"vmap": "torch.lstm has no batching rule"},
    "lif": {"gradient": "a spike has no derivative, and that of a surrogate is no limit of differences"},
}


@pytest.mark.parametrize("name", registry.names("modules"))
def test_module_keeps_its_promises(name):
    check_module(registry.get("modules", name), EXEMPT.get(name))
