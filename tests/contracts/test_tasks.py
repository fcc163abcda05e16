import pytest

from engram import registry
from engram.testing.task import check_task


@pytest.mark.parametrize("name", registry.names("tasks"))
def test_task_keeps_its_promises(name):
    check_task(registry.get("tasks", name))
