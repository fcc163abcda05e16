"""Every registered replacement policy keeps the contract, and so do variants that need an argument."""

import pytest

from engram import registry
from engram.memory.episodic.policies import Aggregate, KMeans
from engram.testing import check_replacement_policy

REGISTERED = {name: (registry.get("replacement_policies", name), {}) for name in registry.names("replacement_policies")}
VARIANTS = {"aggregate": (Aggregate, {"radius": 0.5}), "k-means by counts": (KMeans, {"merge_radius": 0.1})}


@pytest.mark.parametrize(("make", "options"), (REGISTERED | VARIANTS).values(), ids=[*REGISTERED, *VARIANTS])
def test_policy_keeps_its_promises(make, options):
    check_replacement_policy(make, **options)
