import numpy as np
from gymnasium import spaces

from engram.agents import RandomActions


def test_first_actions_differ_between_seeds_and_the_space_keeps_its_generator():
    space = spaces.Discrete(10**6, seed=5)
    firsts = [int(RandomActions(space, space, rng=np.random.default_rng(seed)).act(0)) for seed in (*range(99), 0)]
    assert firsts[0] == firsts[-1]
    assert len(set(firsts)) > 90
    assert space.sample() == spaces.Discrete(10**6, seed=5).sample()
