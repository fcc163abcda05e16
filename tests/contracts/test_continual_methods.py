"""Every registered continual method keeps the contract, and so do the variants of penalties."""

import pytest

from engram import registry
from engram.continual import ContinualMethod
from engram.testing import check_continual_method

GRADIENT, LOSS = ({"applied": way, "strength": 0.3} for way in ("gradient", "loss"))
VARIANTS = [
    *((name, {}) for name in registry.names("continual_methods")),
    *((name, GRADIENT) for name in ("ewc", "si")),
    *((name, LOSS) for name in ("l2", "mas")),
    *(pytest.param(name, GRADIENT, marks=pytest.mark.soak) for name in ("l2", "mas")),
    pytest.param("online-ewc", LOSS, marks=pytest.mark.soak),
    ("ewc", {"fisher": "sample", "strength": 10.0}),
]


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_method_keeps_its_promises(name, options):
    check_continual_method(registry.get("continual_methods", name), **options)


def test_fine_tuning_is_the_method_that_does_nothing():
    assert registry.get("continual_methods", "finetune") is ContinualMethod
