"""Statistics and counts keep their precision under autocast, or refuse; numbers are observations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engram.agents import MFEC, RND, CuriousActorCritic, HashCounts
from engram.agents.rnd import RunningMoments
from engram.memory import KeyValueMemory


def seeded():
    return torch.Generator().manual_seed(0)


def rnd():
    return RND((3,), num_envs=2, hidden=4, feature_dim=4, generator=seeded())


def counts():
    return HashCounts((3,), num_envs=2, generator=seeded())


@pytest.mark.parametrize("make", [rnd, counts])
def test_a_bonus_is_the_same_under_autocast(make):
    x, never = torch.randn(6, 2, 3, generator=seeded()), torch.zeros(6, 2, dtype=torch.bool)
    expected = make().bonus(x, never)
    with torch.autocast("cpu", torch.bfloat16):
        found = make().bonus(x, never)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


@pytest.mark.parametrize("make", [rnd, counts])
def test_a_bonus_in_half_precision_is_refused(make):
    x, never = torch.ones(1, 2, 3), torch.zeros(1, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"dtype = torch\.bfloat16: expected torch\.float32"):
        make().bfloat16().bonus(x, never)


def test_moments_in_half_precision_are_refused():
    with pytest.raises(ValueError, match=r"dtype = torch\.float16: expected torch\.float32"):
        RunningMoments(()).half().add(torch.ones(3))


def test_observations_may_be_numbers():
    agent = MFEC(KeyValueMemory(5, 1, tables=2, generator=seeded()), rng=np.random.default_rng(0), k=1)
    agent.exploration = lambda values, step, rng: step
    for observation in (2, 3):
        agent.act(np.int64(observation))
        agent.observe(1.0, observation == 3, False)
    agent.learn()
    assert [float(agent.values(number)[table]) for table, number in enumerate((2, 3))] == pytest.approx([1.99, 1.0])
    net = CuriousActorCritic((), 2, hidden=4, memory=None, generator=seeded())
    steps, never = torch.zeros(5, 2, dtype=torch.int64), torch.zeros(5, 2, dtype=torch.bool)
    assert net(torch.rand(5, 2), steps, never)[0].values.shape == (5, 2, 2)
    for curiosity in (RND((), 2, hidden=4, feature_dim=4, generator=seeded()), HashCounts((), 2, generator=seeded())):
        assert curiosity.bonus(torch.rand(5, 2, generator=seeded()), never).shape == (5, 2)
