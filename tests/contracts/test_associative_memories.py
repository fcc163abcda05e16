"""Every registered associative memory keeps the contract."""

import pytest

from engram import registry
from engram.testing import check_associative_memory


@pytest.mark.parametrize("name", registry.names("associative_memories"))
def test_memory_keeps_its_promises(name):
    check_associative_memory(registry.get("associative_memories", name))
