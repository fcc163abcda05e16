import numpy as np
import pytest
from gymnasium import spaces

from engram.agents import RandomActions


def test_first_actions_differ_between_seeds_and_the_space_keeps_its_generator():
    space = spaces.Discrete(10**6, seed=5)
    firsts = [int(RandomActions(space, space, rng=np.random.default_rng(seed)).act(0)) for seed in (*range(99), 0)]
    assert firsts[0] == firsts[-1]
    assert len(set(firsts)) > 90
    assert space.sample() == spaces.Discrete(10**6, seed=5).sample()


def test_a_saved_agent_draws_the_same_actions_and_other_spaces_are_refused():
    space = spaces.Box(-1, 1, (2,))
    agent, other = (RandomActions(space, space, rng=np.random.default_rng(seed)) for seed in (0, 1))
    other.load_state_dict(agent.state_dict())
    np.testing.assert_array_equal(agent.act(None), other.act(None))
    with pytest.raises(ValueError, match="rng"):
        other.load_state_dict({})
    with pytest.raises(TypeError, match=r"action_space = Text"):
        RandomActions(space, spaces.Text(3), rng=np.random.default_rng(0))
