import copy

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from engram.tasks.environments.grid_maze import GridMazeVectorEnv
from engram.tasks.meta import (
    EnvId,
    Grid,
    Instance,
    MetaTask,
    MetaTaskEnv,
    MetaTaskVectorEnv,
    RewardRule,
    Stim,
    StimVar,
    named,
    sample_instance,
)
from engram.tasks.meta.wrappers import InnerEpisodes, RevealInstance, RL2Observation

# Two actions and five numbers observed, and otherwise as different as can be: sizes, horizons, hazards, drifts, flags.
MIXED = [
    named.two_step(),
    named.two_step("wang2018", horizon=70),
    named.two_step("daw2011", horizon=130),
    named.t_maze(2, hazard=0.3, horizon=33),
    named.cue_t_maze(),
    named.example(3),
    named.two_stimulus(horizon=90),
    MetaTask(
        [[[0, 1]] * 2, [[1, 0]] * 2],
        (RewardRule(1, action=1, p=0.2, ends=True),),
        stimuli=(StimVar(0), StimVar(1)),
        stim=Stim(hazard=0.4),
    ),
]
GRIDS = [
    named.find_the_spot(3, horizon=40),
    MetaTask(reward_rules=(RewardRule(new=8),), horizon=30, topology=Grid(3, 3, on_reward="reset", start="random")),
    MetaTask(reward_rules=(RewardRule(new=8, p=0.5),), horizon=25, topology=Grid(3, 3, on_reward="terminate")),
    named.full_maze(3, horizon=35),
]


@pytest.mark.parametrize("tasks", [MIXED, GRIDS])
def test_a_mixed_batch_is_its_single_environments(tasks):
    envs = MetaTaskVectorEnv(tasks, 2 * len(tasks))
    singles = [MetaTaskEnv(tasks[i % len(tasks)]) for i in range(envs.num_envs)]
    seen, _ = envs.reset(seed=11)
    alone = [env.reset(seed=11 + i) for i, env in enumerate(singles)]
    assert [info["instance"] for _, info in alone] == [envs.instance(i) for i in range(envs.num_envs)]
    np.testing.assert_array_equal(seen, [observation for observation, _ in alone])
    ended, ends, rng = np.zeros(envs.num_envs, dtype=bool), 0, np.random.default_rng(0)
    for _ in range(220):
        actions = rng.integers(0, envs.single_action_space.n, envs.num_envs)
        seen, rewards, terminations, truncations, _ = envs.step(actions)
        for i, env in enumerate(singles):
            step = (env.reset()[0], 0.0, False, False) if ended[i] else env.step(int(actions[i]))[:4]
            np.testing.assert_array_equal(seen[i], step[0])
            assert (rewards[i], terminations[i], truncations[i]) == step[1:]
            assert env.instance == envs.instance(i)
        ended = terminations | truncations
        ends += ended.sum()
    assert ends > 3 * envs.num_envs // 2


def test_horizons_truncate_and_rules_terminate():
    task = MetaTask([[[1.0], [1.0]]], (RewardRule(action=1, ends=True),), horizon=4)
    env = MetaTaskEnv(task)
    env.reset(seed=0)
    assert [env.step(0)[2:4] for _ in range(4)] == [(False, False)] * 3 + [(False, True)]
    with pytest.raises(ResetNeeded, match="the episode is over"):
        env.step(0)
    env.reset()
    assert env.step(1)[1:4] == (1.0, True, False)
    never = MetaTaskEnv(MetaTask([[[1.0]]], (RewardRule(p=0.0, ends=True),), horizon=3))
    never.reset(seed=0)
    assert not any(never.step(0)[2] for _ in range(3))


def test_the_order_of_a_step():
    """A reward reads the flag of before the step; state 0 clears the flag, whatever a rule says."""
    from engram.tasks.meta import FlagRule

    ring = [[[0, 1.0, 0]], [[0, 0, 1.0]], [[1.0, 0, 0]]]
    task = MetaTask(ring, (RewardRule(1, flag=1), RewardRule(0, flag=1, value=5.0)), (FlagRule(1), FlagRule(2)))
    env = MetaTaskEnv(task)
    env.reset(seed=0)
    assert [env.step(0)[1] for _ in range(6)] == [0.0] * 6
    task = MetaTask(ring, (RewardRule(1, flag=1), RewardRule(2, flag=1, value=5.0)), (FlagRule(0),))
    env = MetaTaskEnv(task)
    env.reset(seed=0)
    assert [env.step(0)[1] for _ in range(6)] == [0.0, 1.0, 5.0] * 2


def test_reset_keeps_renews_or_sets_the_instance():
    env = MetaTaskEnv(named.bandit(3))
    with pytest.raises(ResetNeeded, match="there is no instance yet"):
        env.reset(options={"instance": "keep"})
    _, first = env.reset(seed=4)
    _, again = env.reset(options={"instance": "keep"})
    assert again == first
    _, new = env.reset(options={"instance": "new"})
    assert new != first
    own = Instance(probs=(0.0, 1.0, 0.25))
    assert env.reset(options={"instance": own})[1]["instance"] == own
    assert [env.step(a)[1] for a in (0, 1, 0, 1)] == [0.0, 1.0, 0.0, 1.0]
    with pytest.raises(ValueError, match=r"options\['instance'\] = 'old': expected 'new', 'keep' or an Instance"):
        env.reset(options={"instance": "old"})

    envs = MetaTaskVectorEnv(named.bandit(3), 4)
    envs.reset(seed=0)
    before = [envs.instance(i) for i in range(4)]
    envs.reset(options={"instance": [own] * 4, "reset_mask": np.array([True, False, True, False])})
    assert [envs.instance(i) for i in range(4)] == [own, before[1], own, before[3]]
    envs.reset(options={"instance": "keep"})
    assert envs.instance(0) == own
    with pytest.raises(ValueError, match=r"options\['instance'\] = .*: expected one, or 4 in a sequence"):
        envs.reset(options={"instance": [own] * 2})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reset_mask": np.array([True])}, r"options\['reset_mask'\] = array\(\[ True\]\): expected 4 booleans"),
        ({"instance": [Instance(probs=(0.0, 1.0, 0.25))] * 3 + [Instance(probs=(0.5,))]}, "probs"),
        ({"seed": [0, 1]}, r"seed = \[0, 1\]: expected num_envs = 4 seeds"),
        ({"instances": "keep"}, "expected only instance and reset_mask, not 'instances'"),
    ],
)
def test_a_refused_reset_changes_no_instance(options, message):
    envs = MetaTaskVectorEnv(named.bandit(3), 4)
    envs.reset(seed=0)
    before = [envs.instance(i) for i in range(4)]
    options = {"instance": Instance(probs=(0.0, 1.0, 0.25)), **options}
    with pytest.raises(ValueError, match=message):
        envs.reset(seed=options.pop("seed", None), options=options)
    assert [envs.instance(i) for i in range(4)] == before


def test_the_single_environment_shows_its_arguments():
    assert repr(MetaTaskEnv(named.bandit(2))).startswith("MetaTaskEnv(task=MetaTask(")


def test_the_same_instance_with_other_chance():
    task = named.two_step()
    env = MetaTaskEnv(task)
    instance = sample_instance(task, np.random.default_rng(0))
    runs = []
    for seed in (1, 2, 1):
        env.reset(seed=seed, options={"instance": instance})
        runs.append([env.step(1)[1] for _ in range(60)])
        assert env.instance == instance
    assert runs[0] == runs[2] != runs[1]


def test_a_copy_goes_on_as_the_original_does():
    envs = MetaTaskVectorEnv(MIXED, len(MIXED))
    envs.reset(seed=0)
    envs.step([0] * len(MIXED))
    twin = copy.deepcopy(envs)
    for _ in range(150):
        step, same = envs.step([1] * len(MIXED)), twin.step([1] * len(MIXED))
        assert all((one == other).all() for one, other in zip(step[:4], same[:4], strict=True))


def test_views_of_a_grid():
    wall = ((False, True, False), (False, False, False))
    seen = {
        "none": [0] * 5,
        "coordinates": [1, 0],
        "position": [0, 0, 0, 1, 0, 0],
        "window": [1, 0, 1, 1, 0, 0, 1, 1, 1],
    }
    for obs, expected in seen.items():
        env = MetaTaskEnv(MetaTask(topology=Grid(2, 3, walls=wall, obs=obs, start=3)))
        assert env.reset(seed=0)[0].tolist() == expected
    task = MetaTask(stimuli=(0, -1, 1, 2, 0, 1), topology=Grid(2, 3, walls=wall, obs="stimuli", start=3))
    env = MetaTaskEnv(task)
    home = env.reset(seed=0)[0]
    up = env.step(0)[0]
    assert not (home == up).all()
    assert (env.step(1)[0] == up).all(), "a wall"
    assert (env.step(3)[0] == up).all(), "the edge"
    assert (env.step(2)[0] == home).all()
    assert (env.step(1)[0] == up).all(), "the same stimulus as above"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MetaTaskVectorEnv([]), r"tasks = \[\]: expected at least one"),
        (
            lambda: MetaTaskVectorEnv([named.two_step(), named.contextual_bandit(3, 3)]),
            r"tasks\[1\].n_actions = 3: expected 2, as in tasks\[0\]",
        ),
        (
            lambda: MetaTaskVectorEnv([named.two_step(), named.bandit(2)]),
            r"tasks\[1\].observation_size = 1: expected 5, as in tasks\[0\]",
        ),
    ],
)
def test_batches_that_cannot_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_steps():
    env = MetaTaskEnv(named.bandit(2))
    with pytest.raises(ResetNeeded):
        env.step(0)
    env.reset(seed=0)
    for action in (2, -1, 0.5, "left"):
        with pytest.raises(ValueError, match=f"action = {action!r}"):
            env.step(action)
    envs = MetaTaskVectorEnv(named.bandit(2), 2)
    with pytest.raises(ResetNeeded):
        envs.step([0, 0])
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"actions\[1\] = 2: expected an integer from 0 to 1"):
        envs.step([0, 2])


def test_every_named_task_is_registered_with_its_arguments():
    for env_id in EnvId:
        assert gymnasium.spec(str(env_id)).kwargs["name"] == env_id.name.lower()
        assert hasattr(named, env_id.name.lower())
    envs = gymnasium.make_vec("engram/TwoStep-v0", num_envs=3, kind="daw2011")
    assert envs.unwrapped.tasks == (named.two_step("daw2011"),)
    assert gymnasium.make("engram/Bandit-v0", k=7).unwrapped.task == named.bandit(7)
    limited = gymnasium.make_vec("engram/Bandit-v0", num_envs=2, max_episode_steps=3)
    limited.reset(seed=0)
    assert [limited.step([0, 0])[3].tolist() for _ in range(3)] == [[False] * 2] * 2 + [[True] * 2]


# -- wrappers


def test_what_rl2_shows():
    envs = RL2Observation(MetaTaskVectorEnv(named.bandit(3, horizon=4), 2), done_bit=True)
    seen, _ = envs.reset(seed=0)
    assert seen.tolist() == [[0.0] * 7] * 2
    assert seen in envs.observation_space
    seen, rewards, *_ = envs.step([2, 0])
    assert seen.tolist() == [[0, 0, 0, 1, rewards[0], 0, 0.25], [0, 1, 0, 0, rewards[1], 0, 0.25]]
    for _ in range(3):
        seen, rewards, _terminated, truncated, _ = envs.step([0, 0])
    assert truncated.all()
    assert seen.tolist() == [[0, 1, 0, 0, reward, 1, 1] for reward in rewards]
    assert envs.step([1, 1])[0].tolist() == [[0.0] * 7] * 2, "the action that begins an episode is not shown"
    assert envs.step([1, 1])[0][:, 2].tolist() == [1, 1]
    assert envs.reset(options={"reset_mask": np.array([True, False])})[0][:, 2].tolist() == [0, 1]
    plain = RL2Observation(MetaTaskVectorEnv(named.bandit(3), 1), prev_action=False, time=False)
    assert plain.observation_space.shape == (1, 2)
    with pytest.raises(TypeError, match=r"env = GridMazeVectorEnv.*: expected environments with horizons"):
        RL2Observation(GridMazeVectorEnv(2))
    assert RL2Observation(GridMazeVectorEnv(2), time=False).observation_space.shape == (2, 22)
    with pytest.raises(ValueError, match=r"env.observation_space = .*: expected a Box of one dimension"):
        RL2Observation(gymnasium.make_vec("CliffWalking-v1", vectorization_mode="sync"), time=False)
    with pytest.raises(ValueError, match=r"env.action_space = .*: expected Discrete"):
        RL2Observation(gymnasium.make_vec("Pendulum-v1", vectorization_mode="sync"), time=False)


def wrapped(task, num_envs):
    return RL2Observation(RevealInstance(InnerEpisodes(MetaTaskVectorEnv(task, num_envs), 3)), done_bit=True)


@pytest.mark.parametrize(
    "task", [named.dark_room_hard(3, horizon=7), named.example(2, horizon=5), named.full_maze(3, horizon=6)]
)
def test_wrapped_batches_are_wrapped_single_environments(task):
    envs, singles = wrapped(task, 5), [wrapped(task, 1) for _ in range(5)]
    assert envs.single_observation_space == singles[0].single_observation_space
    seen, _ = envs.reset(seed=3)
    np.testing.assert_array_equal(seen, [env.reset(seed=3 + i)[0][0] for i, env in enumerate(singles)])
    inner, rng = 0, np.random.default_rng(1)
    for _ in range(80):
        actions = rng.integers(0, task.n_actions, 5)
        seen, *columns, infos = envs.step(actions)
        assert seen in envs.observation_space
        for i, env in enumerate(singles):
            observation, *alone, info = env.step(actions[i : i + 1])
            np.testing.assert_array_equal(seen[i], observation[0])
            assert [column[i] for column in columns] == [column[0] for column in alone]
            ends = info.get("inner_end", [False])[0]
            assert infos.get("inner_end", np.zeros(5, dtype=bool))[i] == ends
            inner += ends
    assert inner > 20


def test_inner_episodes_keep_the_instance():
    envs = InnerEpisodes(MetaTaskVectorEnv(named.dark_room(5, horizon=4), 1), 3)
    envs.reset(seed=0)
    first, ends = envs.unwrapped.instance(0), []
    for _ in range(12):
        _, _, terminated, truncated, info = envs.step([0])
        ends.append((info.get("inner_end", [False])[0], (terminated | truncated)[0]))
        assert envs.unwrapped.instance(0) == first
    assert [i for i, (inner, _) in enumerate(ends) if inner] == [3, 7]
    assert [i for i, (_, over) in enumerate(ends) if over] == [11]
    envs.step([0])
    assert envs.unwrapped.instance(0) != first


def test_what_is_revealed():
    envs = RevealInstance(MetaTaskVectorEnv(named.two_stimulus(["dms", "dnms"]), 1))
    own = Instance(actions=(1, 0, 0, 1))
    seen, _ = envs.reset(seed=0, options={"instance": own})
    assert seen[0, 5:].tolist() == [0, 1, 1, 0, 1, 0, 0, 1]
    with pytest.raises(ValueError, match=r"tasks\[1\]: expected as many variables"):
        RevealInstance(MetaTaskVectorEnv([named.two_step(), named.harlow()], 2))
    with pytest.raises(TypeError, match="expected an instance of MetaTaskVectorEnv"):
        RevealInstance(gymnasium.make_vec("CartPole-v1", vectorization_mode="sync"))
