import numpy as np
import pytest

from engram.tasks import collision_advice


def test_costs_follow_from_the_geometry():
    X, costs = collision_advice(20_000, 0)
    rho, own, intruder = X[:, 0], X[:, 3], X[:, 4]
    far = (rho > 0.4) & (own < -0.4) & (intruder < -0.4)
    assert (costs[far].argmin(1) == 0).mean() > 0.99, "slow aircraft that are far apart need no manoeuvre"
    assert np.array_equal(collision_advice(20_000, 0)[1], costs)
    assert not np.array_equal(collision_advice(20_000, 1)[0], X)
    assert set(costs.argmin(1)) == set(range(5)), "each manoeuvre is the best one for some encounter"


def test_left_and_right_are_alike():
    """Encounters with the intruder on the left, slow and abreast, cost a turn to the left more."""
    X, costs = collision_advice(50_000, 0)
    rho, theta, _, own, intruder = X.T
    beside = (rho < 0) & (theta > 0.05) & (theta < 0.2) & (own > 0) & (intruder < -0.4)
    mirrored = (rho < 0) & (theta < -0.05) & (theta > -0.2) & (own > 0) & (intruder < -0.4)
    assert costs[beside, 3].mean() > costs[beside, 4].mean()
    assert costs[mirrored, 4].mean() > costs[mirrored, 3].mean()
    assert costs[:, 1].mean() == pytest.approx(costs[:, 2].mean(), rel=0.02)
