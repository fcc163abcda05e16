"""A call that is refused changes nothing."""

import numpy as np
import pytest
import torch

from engram.tasks import PointWorld, SnippetStream, photograph_patches
from engram.tasks.environments.texture_rooms import TextureRoomsVectorEnv
from engram.tasks.environments.two_stimulus import TwoStimulusVectorEnv
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


@pytest.mark.parametrize("shape", [(4, 2, 2, 3), (5, 3, 2, 3), (5, 2, 1, 3), (5, 2, 2, 1)])
def test_refused_snippets_of_the_past_draw_nothing(shape):
    stream, generator = SnippetStream(bits=3, old=1.0), torch.Generator()
    before = generator.get_state()
    with pytest.raises(ValueError, match=r"past has .* expected snippets of 5 streams"):
        stream.sample(5, generator, [torch.ones(shape)])
    assert torch.equal(generator.get_state(), before)
    assert stream.sample(5, generator, torch.ones(2, 5, 2, 2, 3)).age.max() == 2


def test_a_task_that_is_a_number_is_refused():
    with pytest.raises(TypeError, match=r"options\['instance'\] = 3"):
        TwoStimulusVectorEnv().reset(options={"instance": 3})


@pytest.mark.parametrize("wrong", [{"size": 1}, {"size": 1000}, {"count": 0}])
def test_refused_patches_draw_nothing(wrong):
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    with pytest.raises(ValueError, match=rf"{next(iter(wrong))} = \d+: expected (2 to \d+|at least 1)"):
        photograph_patches(**{"count": 5, "size": 8, "split": "test", "rng": rng} | wrong)
    assert rng.bit_generator.state == before


@pytest.mark.parametrize(("name", "wrong"), [("places", 9), ("places", -1), ("steps", -1)])
def test_rooms_refuse_a_state_of_other_rooms(name, wrong):
    env = TextureRoomsVectorEnv(2, rooms=3)
    env.reset(seed=0)
    before = env.places.copy()
    with pytest.raises(ValueError, match=rf"state\['{name}'\] = "):
        env.load_state_dict(env.state_dict() | {name: np.full_like(getattr(env, name), wrong)})
    np.testing.assert_array_equal(env.places, before)
