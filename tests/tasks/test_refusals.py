"""A call that is refused changes nothing."""

import numpy as np
import pytest

from engram.tasks import PointWorld
from engram.tasks.meta import MetaTaskEnv, MetaTaskVectorEnv, named
from engram.tasks.meta.instance import Instance
from engram.tasks.meta.wrappers import InnerEpisodes, RL2Observation


@pytest.mark.parametrize("seed", [-1, [3, -1]])
def test_refused_seed_changes_no_instance_and_no_generator(seed):
    env = MetaTaskVectorEnv(named.two_step(), 2)
    env.reset(seed=0)
    rngs, instances = list(env.rngs), [env.instance(row) for row in range(2)]
    other = Instance(states=(3 - instances[0].states[0],))
    with pytest.raises(ValueError, match="seed = -1"):
        env.reset(seed=seed, options={"instance": other})
    assert [env.instance(row) for row in range(2)] == instances
    assert all(new is old for new, old in zip(env.rngs, rngs, strict=True))


@pytest.mark.parametrize("make", [lambda: MetaTaskEnv(named.two_step()), PointWorld])
def test_refused_reset_does_not_take_the_seed(make):
    env, twin = make(), make()
    for each in (env, twin):
        each.reset(seed=0)
    with pytest.raises(ValueError, match="reset_mask"):
        env.reset(seed=7, options={"reset_mask": [1, 1]})
    assert env.np_random.random() == twin.np_random.random()


def test_refused_reset_keeps_the_features_of_rl2():
    env = RL2Observation(MetaTaskVectorEnv(named.two_step(), 2))
    env.reset(seed=0)
    seen = env.step(np.array([1, 1]))[0]
    with pytest.raises(ValueError, match="kept"):
        env.reset(options={"instance": "kept"})
    assert (env.more() == seen[:, -len(env.more()[0]) :]).all()


def test_refused_reset_keeps_the_number_of_inner_episodes():
    env = InnerEpisodes(MetaTaskVectorEnv(named.dark_room(5), 1), 3)
    env.reset(seed=0)
    while not env.step(np.array([0]))[4].get("inner_end", np.zeros(1)).any():
        pass
    with pytest.raises(ValueError, match="kept"):
        env.reset(options={"instance": "kept"})
    assert env._over.tolist() == [1]
