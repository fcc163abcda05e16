"""Every registered curiosity keeps the contract, and so does one of the library's that is not registered as it is."""

import pytest

from engram import registry
from engram.agents import RND
from engram.testing import check_curiosity

REGISTERED = {name: (registry.get("curiosities", name), {}) for name in registry.names("curiosities")}
VARIANTS = {"as published": (RND, {}), "fixed scale": (RND, {"hidden": 8, "running": False, "keep_prob": 1.0})}


@pytest.mark.parametrize(("make", "options"), (REGISTERED | VARIANTS).values(), ids=[*REGISTERED, *VARIANTS])
def test_curiosity_keeps_its_promises(make, options):
    check_curiosity(make, **options)
