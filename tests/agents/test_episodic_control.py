import copy
import math

import gymnasium
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engram.agents import (
    MFEC,
    NEC,
    EpsilonGreedy,
    MaxEntMellowmax,
    TabularQ,
    evaluate,
    monte_carlo_returns,
    n_step_returns,
    play_episode,
)
from engram.agents.episodic_control import RunningScale
from engram.agents.exploration import greedy
from engram.memory import DND, KeyValueMemory
from engram.memory.episodic.policies import LRU, DynamicKMeans
from engram.nn import RandomProjection, pixel_encoder, vector_encoder
from engram.storage import checkpoint

I_MAZE = "engram.tasks:engram/IMaze-v0"
WAY = [0, *[1] * 14, 0]  # the shortest one through it
numbers = st.lists(st.floats(-10, 10), min_size=1, max_size=12)


def rng(seed=0):
    return np.random.default_rng(seed)


def scripted(actions):
    """Return an exploration that takes these actions."""
    left = iter(actions)
    return lambda values, step, rng: next(left)


def mfec(key_dim=2, tables=4, capacity=100, **options):
    memory = KeyValueMemory(capacity, key_dim, tables=tables, generator=torch.Generator().manual_seed(0))
    return MFEC(memory, **{"rng": rng(), **options})


def nec(train_memory=False, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    memory = DND(30, 3, tables=2, train_memory=train_memory, generator=generator)
    options = {"learning_starts": 5, "k": 4, "n_steps": 3, "learning_rate": 1e-2, "batch_size": 8, **options}
    return NEC(memory, vector_encoder(2, 3, generator=generator), rng=rng(seed), **options)


@given(numbers, st.floats(0, 1), st.floats(-5, 5))
def test_monte_carlo_returns_are_discounted_sums(rewards, gamma, last):
    returns = monte_carlo_returns(rewards, gamma, last)
    for t in range(len(rewards)):
        left = [*rewards[t:], last]
        assert returns[t] == pytest.approx(sum(gamma**i * reward for i, reward in enumerate(left)), abs=1e-9)


@given(numbers, st.floats(0, 1), st.integers(1, 15), st.floats(-5, 5), st.data())
def test_n_step_returns_go_on_with_what_was_expected(rewards, gamma, n, last, data):
    values = data.draw(st.lists(st.floats(-10, 10), min_size=len(rewards), max_size=len(rewards)))
    returns = n_step_returns(rewards, values, gamma, n, last)
    for t in range(len(rewards)):
        left = [*rewards[t : t + n], values[t + n]] if t + n < len(rewards) else [*rewards[t:], last]
        assert returns[t] == pytest.approx(sum(gamma**i * reward for i, reward in enumerate(left)), abs=1e-9)


def test_the_returns_of_the_specification():
    assert monte_carlo_returns([0.0, 0.0, 1.0], 0.5).tolist() == [0.25, 0.5, 1]
    assert n_step_returns([1.0] * 4, [10.0] * 4, 1.0, 2).tolist() == [12, 12, 2, 1]
    with pytest.raises(ValueError, match="2 values and 1 rewards"):
        n_step_returns([1.0], [1.0, 2.0], 1.0, 1)


def test_epsilon_falls_as_published():
    policy = EpsilonGreedy(final=0.1)
    steps = {0: 1.0, 5000: 1.0, 15_000: 0.55, 25_000: 0.1, 10**6: 0.1}
    assert {step: policy.epsilon(step) for step in steps} == pytest.approx(steps)
    assert [EpsilonGreedy(0.1, 5, 5).epsilon(step) for step in (5, 6)] == [1.0, 0.1]
    chosen = [policy(np.array([0.0, 1.0, 0.5]), 15_000, rng(seed)) for seed in range(3000)]
    np.testing.assert_allclose(np.bincount(chosen) / 3000, [0.55 / 3, 0.45 + 0.55 / 3, 0.55 / 3], atol=0.03)
    with pytest.raises(ValueError, match="start = 10, end = 5"):
        EpsilonGreedy(start=10, end=5)


def test_equal_values_are_chosen_equally_often():
    generator = rng()
    chosen = [greedy(np.array([1.0, 3.0, 3.0]), generator) for _ in range(1000)]
    assert np.bincount(chosen)[0] == 0
    assert abs(np.mean(chosen) - 1.5) < 0.06


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=6), st.floats(1, 30))
def test_the_mellowmax_policy_expects_the_mellowmax(values, omega):
    q = np.array(values)
    mellowmax = math.log(np.exp(omega * q).mean()) / omega
    probabilities = MaxEntMellowmax(omega).probabilities(q)
    assert probabilities.sum() == pytest.approx(1)
    greediest = np.exp(100 * (q - q.max()))
    if np.dot(greediest / greediest.sum(), q) > mellowmax:  # else the root is beyond the interval
        assert np.dot(probabilities, q) == pytest.approx(mellowmax, abs=2e-3)
    else:
        np.testing.assert_allclose(probabilities, greediest / greediest.sum())


def test_the_mellowmax_policy_bears_any_values():
    policy = MaxEntMellowmax(25.0)
    assert policy.probabilities(np.array([0.0, 500.0])) @ [0, 500] == pytest.approx(500 - math.log(2) / 25)
    assert policy.probabilities(np.array([-1e9, 1e9])) == pytest.approx([0, 1], abs=1e-9)
    assert policy(np.array([0.0, 500.0]), 0, rng()) == 1


def test_random_projections_have_the_stated_entries():
    dense = RandomProjection(400, 50, rng=rng()).components
    assert float(dense.var()) == pytest.approx(1 / 50, rel=0.05)
    project = RandomProjection(400, 50, "sparse", rng=rng())
    matrix = project(torch.eye(400)).T
    share = 1 / 20
    assert float((matrix != 0).float().mean()) == pytest.approx(share, rel=0.1)
    torch.testing.assert_close(matrix[matrix != 0].abs().unique(), torch.tensor([(share * 50) ** -0.5]))
    x = torch.rand(3, 4, 100)
    torch.testing.assert_close(project(x), x.flatten(1) @ matrix.T)


def test_the_running_scale_is_that_of_all_vectors():
    data, scale = rng().normal([3, -1, 2], [2, 0.1, 0], (500, 3)), RunningScale(3)
    for x in data:
        scale.update(x)
    expected = (data - data.mean(0)) / np.where(data.std(0) == 0, 1, data.std(0))
    np.testing.assert_allclose(scale(data), expected, atol=1e-5)


def test_an_episode_is_written_when_it_is_over():
    env = gymnasium.make(I_MAZE)
    agent = mfec(exploration=scripted(WAY), k=1, gamma=0.9)
    assert play_episode(env, agent, seed=0) == (1.0, 16)
    assert agent.memory.n_filled.tolist() == [2, 14, 0, 0]
    assert agent.values([1, 1]) == pytest.approx([0.9**15, 0.9**14, 0, 0])  # its own, and its nearest neighbour's
    assert agent.values([15, 2])[0] == 1.0
    # A worse way from the same start changes nothing; a better one is kept.
    for actions, best in (([0, 2, *WAY], 0.9**15), ([3, *WAY], 0.9**15)):
        agent.exploration = scripted(actions)
        play_episode(env, agent)
        assert agent.values([1, 1])[0] == pytest.approx(best)


@pytest.mark.parametrize(("truncation", "worth"), [("terminal", 1.0), ("bootstrap", 1.0 + 0.5 * 7.0)])
def test_what_a_truncation_is_worth(truncation, worth):
    agent = mfec(key_dim=1, tables=2, gamma=0.5, truncation=truncation, k=1, exploration=scripted([1, 0]))
    agent.memory.write(torch.tensor([[5.0]]), torch.tensor([7.0]), tables=0)
    agent.act([0.0])
    agent.observe(1.0, False, True, [5.0])
    assert agent.values([0.0])[1] == 0, "nothing is learned before learn"
    agent.learn()
    assert agent.values([0.0])[1] == worth
    agent.act([0.0])
    agent.observe(1.0, True, True, [5.0])
    agent.learn()
    assert agent.values([0.0])[0] == 1.0, "what has terminated has no more worth"


def test_states_are_standardised_by_all_so_far():
    agent = mfec(standardise=2, exploration=scripted([0, 0]))
    for step, state in enumerate(([3.0, 5.0], [5.0, 5.0])):
        agent.act(state)
        agent.observe(1.0, step == 1, False)
    agent.learn()
    assert agent.memory.n_filled.tolist() == [2, 0, 0, 0]
    assert sorted(agent.memory.keys[0, :2].tolist()) == [[0.0, 0.0], [1.0, 0.0]]  # the first is its own mean


def test_acting_uses_what_is_remembered_and_looking_does_not():
    """The least recently used of two states makes room for a third."""
    for looks in (False, True):
        memory = KeyValueMemory(2, 1, policy=LRU(), tables=1, generator=torch.Generator().manual_seed(0))
        agent = MFEC(memory, rng=rng(), k=1)
        memory.write(torch.tensor([[0.0]]), torch.tensor([1.0]), tables=0)
        memory.write(torch.tensor([[5.0]]), torch.tensor([1.0]), tables=0)
        agent.values([0.0]) if looks else agent.act([0.0])
        memory.write(torch.tensor([[9.0]]), torch.tensor([1.0]), tables=0)
        assert sorted(memory.keys.flatten().tolist()) == ([5.0, 9.0] if looks else [0.0, 9.0])


def test_looking_at_values_changes_nothing():
    agent = mfec(capacity=10, k=5)
    env = gymnasium.make(I_MAZE)
    play_episode(env, agent, seed=0)
    before = copy.deepcopy(agent.state_dict())
    evaluate(env, agent, 2, seed=1)
    assert checkpoint_bytes(before) == checkpoint_bytes(agent.state_dict())


def checkpoint_bytes(state):
    """Return a tree of state in which arrays are bytes, to compare it."""
    match state:
        case torch.Tensor() | np.ndarray():
            return np.asarray(state).tobytes()
        case dict():
            return {name: checkpoint_bytes(item) for name, item in state.items()}
        case list() | tuple():
            return [checkpoint_bytes(item) for item in state]
        case _:
            return state


def drive(agent, steps, generator):
    """Let an agent meet random observations, rewards and ends; return its actions."""
    actions = []
    for _ in range(steps):
        actions.append(agent.act(generator.normal(size=2).round(1)))
        ended = generator.random() < 0.1
        agent.observe(generator.normal(), ended, False, generator.normal(size=2))
        agent.learn()
    return actions


@pytest.mark.parametrize(
    "build",
    [
        lambda seed: MFEC(
            KeyValueMemory(20, 2, policy=LRU(), tables=2),
            rng=rng(seed),
            exploration=EpsilonGreedy(0.1, 10, 50),
            embedding=RandomProjection(2, 2, rng=rng(seed)),
            standardise=2,
        ),
        lambda seed: nec(seed=seed),
        lambda seed: nec(True, seed=seed, truncation="bootstrap"),
        lambda seed: TabularQ([-2, -2], [2, 2], [3, 3], 2, rng=rng(seed), exploration=EpsilonGreedy(0.1, 10, 50)),
    ],
)
def test_resumes_exactly_in_the_middle_of_an_episode(build, tmp_path):
    agent, resumed, generator = build(1), build(2), rng(3)
    drive(agent, 99, generator)
    agent.act([0.5, 0.5])
    checkpoint.save(tmp_path / "agent", agent.state_dict())
    resumed.load_state_dict(checkpoint.load(tmp_path / "agent"))
    other = build(3)
    other.load_state_dict(agent.state_dict())
    other.observe(1.0, False, False, [0.0, 0.0])
    drive(other, 20, rng(5))  # which changes nothing of what it was loaded from
    again = copy.deepcopy(generator)
    for twin in (agent, resumed):
        twin.observe(1.0, False, False, [0.0, 0.0])
    assert drive(agent, 60, generator) == drive(resumed, 60, again)
    assert checkpoint_bytes(agent.state_dict()) == checkpoint_bytes(resumed.state_dict())


def test_neural_episodic_control_fits_what_it_replays():
    agent = nec(exploration=EpsilonGreedy(1.0), learning_starts=0, train_every=10**6)
    for noise, signal in rng().normal(size=(100, 2)) * [5, 1]:
        agent.act([noise, signal])
        agent.observe(signal, True, False)
        agent.learn()
    keys = agent.memory.keys.clone()
    agent.train_every = 1
    losses = [agent.learn()["loss"] for _ in range(500)]
    assert np.mean(losses[-50:]) < 0.5 * np.mean(losses[:10])
    assert torch.equal(agent.memory.keys, keys), "without train_memory only the encoder is trained"


def test_n_step_returns_are_replayed_with_the_best_value_that_was_expected():
    agent = nec(n_steps=1, gamma=0.5, exploration=scripted([0, 1, 0]))
    for table, value in enumerate((4.0, 10.0)):  # the only ones, and so those of all states
        agent.memory.write(torch.ones(1, 3), torch.tensor([value]), tables=table)
    for step in range(3):
        agent.act([0.1 * step, 1.0])
        agent.observe(1.0, step == 2, False)
    agent.learn()
    assert agent._replay["targets"][:3] == pytest.approx([6, 6, 1])
    assert agent._replay["actions"][:3].tolist() == [0, 1, 0]


def test_training_begins_after_so_many_steps_and_the_last_samples_are_replayed():
    agent = nec(replay_size=4, learning_starts=4, train_every=2, exploration=EpsilonGreedy(1.0))
    trained = []
    for step in range(11):
        agent.act([float(step), 0.0])
        agent.observe(1.0, step in (1, 2, 8, 10), False)
        trained += [agent.steps] * bool(agent.learn())
        if step == 8:  # after an episode of six
            assert sorted(agent._replay["observations"][:, 0].tolist()) == [5, 6, 7, 8]
    assert trained == [6, 8, 10]
    assert sorted(agent._replay["observations"][:, 0].tolist()) == [7, 8, 9, 10]


def test_trained_rows_forget_their_statistics_when_they_are_new():
    agent = nec(True, exploration=EpsilonGreedy(1.0), learning_starts=0)
    drive(agent, 200, rng())
    squares = [agent.optimizer.state[rows]["square_avg"] for rows in agent.memory.parameters()]
    assert [square.shape for square in squares] == [agent.memory.keys.shape, agent.memory.values.shape]
    assert all(square.any() for square in squares)
    fill = drive_until_written(agent)
    assert fill.fresh.any()
    for square in squares:
        assert not square[fill.tables[fill.fresh], fill.rows[fill.fresh]].any()


def drive_until_written(agent):
    """End an episode of new states, and return which rows its write has changed."""
    written, write = [], agent.memory.write
    agent.memory.write = lambda *args, **options: written.append(write(*args, **options)) or written[-1]
    agent.train_every = 10**9
    for step in range(10):
        agent.act(np.full(2, 100.0 + step))
        agent.observe(0.0, step == 9, False, np.zeros(2))
    agent.learn()
    return written[0]


def test_keys_that_explode_are_told():
    agent = nec(learning_rate=10.0, exploration=EpsilonGreedy(1.0))
    with pytest.warns(RuntimeWarning, match="the keys have a mean norm"):
        drive(agent, 300, rng())


def test_encoders_see_pixels_as_parts_of_255():
    generator = torch.Generator().manual_seed(0)
    encoder = pixel_encoder(8, generator=generator)
    agent = NEC(DND(10, 8, tables=2, generator=generator), encoder, rng=rng(), learning_starts=0, train_every=1, k=3)
    frames = rng().integers(0, 256, (3, 4, 84, 84), dtype=np.uint8)
    for i, frame in enumerate(frames):
        agent.act(frame)
        agent.observe(1.0, i == 2, False)
    key = encoder(torch.from_numpy(frames[:1]).float() / 255)
    assert "loss" in agent.learn()
    assert agent._replay["observations"].dtype == np.uint8
    squared = (agent.memory.keys - key.detach()).square().sum(-1).min()
    assert float(squared) < 1e-8, "the state is stored with the key that it had"


def test_states_are_the_same_whose_identity_is():
    memory = KeyValueMemory(10, 1, tables=1, hash_dim=2, generator=torch.Generator().manual_seed(0))
    agent = MFEC(memory, rng=rng(), k=3)
    for step, identity in enumerate([[0, 1], [0, 1], [1, 1]]):
        agent.act([float(step)], identity)
        agent.observe(1.0, True, False)
        agent.learn()
    assert memory.n_filled.tolist() == [2]
    with pytest.raises(ValueError, match="identity is given"):
        mfec(key_dim=1).act([0.0], [1.0])


def test_wrong_use_is_told():
    agent = mfec(key_dim=1, truncation="bootstrap")
    with pytest.raises(RuntimeError, match="without an action"):
        agent.observe(0.0, False, False)
    agent.act([0.0])
    with pytest.raises(RuntimeError, match="act was called twice"):
        agent.act([0.0])
    with pytest.raises(ValueError, match="observation = None"):
        agent.observe(0.0, False, True)
    with pytest.raises(ValueError, match="expected one table for each action"):
        MFEC(KeyValueMemory(10, 2), rng=rng())
    with pytest.warns(RuntimeWarning, match="k = 11: only 5 rows"):
        mfec(capacity=5)
    mfec(capacity=11)
    grid = TabularQ([0], [1], [2], 2, rng=rng())
    grid.act([0.0])
    with pytest.raises(ValueError, match="observation = None"):
        grid.observe(0.0, False, False)
    grid.observe(1.0, True, False)  # where there is no next one
    assert grid.table.max() == pytest.approx(0.1)
    for wrong in ({"low": [2]}, {"bins": [0]}, {"gamma": 2.0}, {"learning_rate": -0.1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            TabularQ(**{"low": [0], "high": [1], "bins": [2], "actions": 2, "rng": rng(), **wrong})


@pytest.mark.parametrize(("learner", "steps"), [("mfec", 2000), ("mfec-dkm", 2000), ("tabular-q", 8000)])
def test_agents_find_the_goal_again(learner, steps):
    options = {"rng": rng(), "exploration": EpsilonGreedy(0.1, 250, steps // 2)}
    policy = DynamicKMeans() if learner == "mfec-dkm" else LRU()
    if learner == "tabular-q":
        agent = TabularQ([0, 0], [12, 12], [12, 12], 4, learning_rate=0.5, **options)
    else:
        memory = KeyValueMemory(400, 2, policy=policy, tables=4, generator=torch.Generator().manual_seed(0))
        agent = MFEC(memory, k=5, **options)
    env = gymnasium.make("engram.tasks:engram/OpenRoom-v0")
    while agent.steps < steps:
        play_episode(env, agent, seed=0)
    assert all(played.total == 1 for played in evaluate(env, agent, 3, seed=0))


@pytest.mark.parametrize("build", [lambda policy: mfec(tables=3, exploration=policy), lambda policy: TabularQ(
    [0, 0], [1, 1], [2, 2], 3, rng=rng(), exploration=policy)])  # fmt: skip
def test_an_exploration_is_told_the_number_of_earlier_steps(build):
    steps = []

    def policy(values, step, rng):
        steps.append(step)
        return step % len(values)

    agent = build(policy)
    for _ in range(4):
        agent.act([0.0, 0.0])
        agent.observe(0.0, False, False, [0.0, 0.0])
    assert steps == [0, 1, 2, 3]


def test_an_identity_is_asked_for_at_each_step_and_judging_seeds_only_the_first_episode():
    class World(gymnasium.Env):
        observation_space, action_space = gymnasium.spaces.Box(0, 9, (1,)), gymnasium.spaces.Discrete(2)

        def __init__(self):
            self.seeds = []

        def reset(self, *, seed=None, options=None):
            self.seeds.append(seed)
            self.at = 0
            return np.zeros(1, np.float32), {}

        def step(self, action):
            self.at += 1
            return np.zeros(1, np.float32), 1.0, self.at == 3, False, {}

    world, given = World(), []
    agent = mfec(key_dim=1, tables=2)
    plain = agent.act
    agent.act = lambda observation, identity: given.append(identity) or plain(observation)
    assert play_episode(world, agent, seed=5, identity=lambda env: env.at) == (3.0, 3)
    assert given == [0, 1, 2]
    assert evaluate(world, agent, 3, seed=7) == [(3.0, 3)] * 3
    assert world.seeds == [5, 7, None, None]


def test_bytes_are_standardised_as_the_numbers_that_are_stored():
    rng = np.random.default_rng(0)
    memory = KeyValueMemory(100, key_dim=2, tables=2)
    agent = MFEC(memory, rng=rng, standardise=2)
    for _ in range(50):
        agent.act(rng.integers(256, size=2, dtype=np.uint8))
        agent.observe(0.0, False, False)
    keys = torch.cat(agent.state_dict()["traces"][-1]["keys"])[10:]
    assert keys.mean().abs() < 0.5
    assert 0.5 < keys.std() < 2


def test_a_state_does_not_change_while_the_episode_goes_on():
    agent = MFEC(KeyValueMemory(100, key_dim=2, tables=2), rng=np.random.default_rng(0))
    agent.act(np.zeros(2, np.float32))
    state = agent.state_dict()
    agent.observe(1.0, False, False)
    agent.act(np.ones(2, np.float32))
    assert len(state["traces"][-1]["actions"]) == 1
