"""Every registered continual method keeps the contract, and so do the variants of penalties."""

import pytest

from engram import registry
from engram.continual import ContinualMethod
from engram.testing import check_continual_method

VARIANTS = [
    *((name, {}) for name in registry.names("continual_methods")),
    *((name, {"applied": "gradient", "strength": 0.3}) for name in ("l2", "ewc", "si", "mas")),
    *((name, {"applied": "loss", "strength": 0.3}) for name in ("l2", "online-ewc", "mas")),
    ("ewc", {"fisher": "sample", "strength": 10.0}),
]


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_method_keeps_its_promises(name, options):
    check_continual_method(registry.get("continual_methods", name), **options)


def test_fine_tuning_is_the_method_that_does_nothing():
    assert registry.get("continual_methods", "finetune") is ContinualMethod
