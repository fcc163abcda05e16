"""States in double precision far from 0 are told apart, running moments and means are right from first to last."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from engram.agents import D3G, MFEC, RND, TD3
from engram.agents.a2c import sample_actions
from engram.agents.action_vectors import ActionVectors
from engram.agents.replay import ReplayBuffer
from engram.agents.rnd import RunningMoments
from engram.memory import KeyValueMemory, OnlineKMeans
from engram.memory.episodic import policies
from engram.tasks.environments.atari import EpisodicLife

FAR = 3e7


def far_states(count=40):
    return torch.from_numpy(np.random.default_rng(0).normal(0, 1, (count, 2)) + FAR)


def test_a_replay_buffer_keeps_double_precision_and_gives_flags_and_rewards_in_single():
    states, never = far_states().numpy(), np.zeros(40, bool)
    buffer = ReplayBuffer(50, spaces.Box(-np.inf, np.inf, (2,), np.float64))
    buffer.add(states, None, np.ones(40), states, terminated=never, truncated=never)
    batch = buffer.all()
    assert np.array_equal(batch.states.numpy(), states)
    assert batch.rewards.dtype == batch.terminated.dtype == torch.float32


def test_d3g_learns_from_states_in_double_precision_and_td3_takes_them():
    space, actions = spaces.Box(-np.inf, np.inf, (2,), np.float64), spaces.Box(-1, 1, (1,))
    states, never = far_states().numpy(), np.zeros(40, bool)
    buffer = ReplayBuffer(50, space, actions)
    buffer.add(states, np.zeros((40, 1)), np.ones(40), states + 0.5, terminated=never, truncated=never)
    for kind in (D3G, TD3):
        agent = kind(space, actions, generator=torch.Generator().manual_seed(0), hidden=(8,))
        if kind is D3G:
            agent.normalise(far_states())
            assert agent._scaled_states(states).std(0).numpy() == pytest.approx([1, 1], rel=1e-4)
            assert np.abs(agent.propose(states, cycled=False) - states).max() < 10, "in the units of the states"
        losses = agent.update(buffer.sample(16, torch.Generator().manual_seed(0)))
        assert all(torch.isfinite(loss) for loss in losses.values())


def test_mfec_with_a_single_memory_standardises_states_in_double_precision():
    agent = MFEC(KeyValueMemory(50, 2, tables=1), rng=np.random.default_rng(0), gamma=0.0, standardise=2)
    for step, state in enumerate(far_states().numpy()):
        agent.act(state)
        agent.observe(float(step), step == 39, False, state)
    agent.learn()
    assert agent.memory.n_filled.item() == 40


@pytest.mark.parametrize("mean", [1e-3, 1e4, 1e7])
def test_running_moments_are_those_of_the_first_batch(mean):
    moments, samples = RunningMoments((3,)), torch.randn(20, 3, dtype=torch.float64) + mean
    moments.add(samples[:7])
    assert moments.var == pytest.approx(samples[:7].var(0, correction=0), rel=1e-6)
    moments.add(samples[7:])
    assert moments.mean == pytest.approx(samples.mean(0), rel=1e-9)
    assert moments.var == pytest.approx(samples.var(0, correction=0), rel=1e-5)


def test_given_moments_have_their_weight():
    moments = RunningMoments((), torch.tensor(2.0), torch.tensor(3.0), count=10.0)
    moments.add(torch.full((10,), 4.0))
    assert (moments.mean.item(), moments.var.item()) == pytest.approx((3.0, 9 / 2 + 1))


def test_rnd_does_not_depend_on_the_origin():
    def errors(x):
        options = {"mean": x.mean(0), "std": x.std(0), "running": False}
        rnd = RND((2,), hidden=8, feature_dim=4, generator=torch.Generator().manual_seed(0), **options)
        return rnd.error(x).detach()

    states = far_states()
    assert torch.allclose(errors(states), errors(states - FAR), rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_equal_logits_of_any_precision_have_equal_shares(dtype):
    chosen = sample_actions(torch.full((40_000, 4), 7.0, dtype=dtype), torch.Generator().manual_seed(0))
    shares = torch.bincount(chosen, minlength=4) / 40_000
    assert (shares - 0.25).abs().max() < 5 * (0.25 * 0.75 / 40_000) ** 0.5


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float16, np.float64])
def test_actions_of_boxes_of_any_type_are_inside(dtype):
    low, high = (0, 7) if dtype == np.uint8 else (-3, 4)
    box = spaces.Box(low, high, (2,), dtype)
    vectors = ActionVectors(box)
    drawn = vectors.random(4000, torch.Generator().manual_seed(0))
    actions = vectors.decode(drawn)
    assert all(action in box for action in actions)
    assert all(action in box for action in vectors.decode(torch.tensor([[-99.0, 99.0], [1e9, -1e9]])))
    if np.issubdtype(dtype, np.integer):  # each integer is as likely
        shares = np.bincount((actions - low).ravel()) / actions.size
        assert shares == pytest.approx(np.full(8, 1 / 8), abs=0.03)


def test_the_widest_box_of_integers_has_its_bounds():
    box = spaces.Box(np.iinfo(np.int64).min, np.iinfo(np.int64).max, (1,), np.int64)
    actions = ActionVectors(box).decode(torch.tensor([[-1e30], [0.0], [1e30]]))
    assert actions.ravel().tolist() == [np.iinfo(np.int64).min, 0, np.iinfo(np.int64).max]


def test_bounds_beyond_single_precision_are_refused():
    with pytest.raises(ValueError, match="expected bounds that single precision can hold"):
        ActionVectors(spaces.Box(-1e300, 1e300, (1,), np.float64))


def test_the_widest_box_of_floats_is_drawn_evenly():
    bound = float(np.finfo(np.float32).max)
    vectors = ActionVectors(spaces.Box(-bound, bound, (1,), np.float32))
    drawn = vectors.random(4000, torch.Generator().manual_seed(0)).double() / bound
    assert drawn.isfinite().all()
    assert (drawn < 0).double().mean().item() == pytest.approx(0.5, abs=0.05)
    assert vectors.squash(torch.tensor([[-99.0], [0.0], [99.0]])).flatten().tolist() == [-bound, 0.0, bound]


def test_a_game_without_lives_left_goes_on_until_it_is_over():
    class Game(gymnasium.Env):
        observation_space, action_space = spaces.Box(0, 9, (1,)), spaces.Discrete(2)

        def reset(self, seed=None, options=None):
            self.steps = 0
            return np.zeros(1, np.float32), {"lives": 3}

        def step(self, action):
            self.steps += 1
            lives = [3, 2, 2, 1, 0, 0][min(self.steps, 5)]
            return np.zeros(1, np.float32), 1.0, self.steps == 7, False, {"lives": lives}

    env, lengths = EpisodicLife(Game()), []
    for _ in range(3):
        env.reset()
        steps, over = 0, False
        while not over:
            steps += 1
            over = env.step(0)[2]
        lengths.append(steps)
    assert lengths == [1, 1, 3], "a life, a life after a step of its reset, and the rest"


def test_means_of_many_samples_go_on_moving():
    x = np.repeat(np.array([[500.0], [501.0]], np.float32), 30_000, axis=0)
    assert OnlineKMeans(1).fit(x).cluster_centers_[0, 0] == pytest.approx(500.5)
    assert OnlineKMeans(1).partial_fit(x[:1]).partial_fit(x[1:]).cluster_centers_[0, 0] == pytest.approx(500.5)


def test_a_value_that_is_a_mean_of_many_moves_and_goes_on_after_it_was_stored():
    def write(memory, count):
        for _ in range(count):
            memory.write(torch.zeros(1, 1), torch.tensor([101.0]))

    memory = KeyValueMemory(3, 1, value_update="mean")
    memory.write(torch.zeros(1, 1), torch.tensor([100.0]))
    memory.counts[0, 0] = 3e6
    write(memory, 20)
    again = KeyValueMemory(3, 1, value_update="mean")
    again.load_state_dict(memory.state_dict())
    write(memory, 180)
    write(again, 180)
    exact = 100 + 200 / (3e6 + 200)
    assert torch.equal(memory.values, again.values)
    assert memory.values[0, 0, 0].item() == pytest.approx(exact, abs=1e-5), "one step alone is half of a rounding error"


def test_a_cluster_of_many_samples_moves_and_a_deleted_row_leaves_nothing():
    memory = KeyValueMemory(2, 1, policy=policies.KMeans())
    memory.write(torch.tensor([[-50.0], [100.0]]), torch.tensor([0.0, 100.0]))
    memory.counts[0, 1] = 3e6
    for _ in range(200):
        memory.write(torch.full((1, 1), 101.0), torch.full((1,), 101.0))
    assert memory.keys[0, 1, 0].item() == pytest.approx(100 + 200 / (3e6 + 200), abs=1e-5)
    assert memory.rounding[0, 1].any()
    memory.delete(torch.tensor([0, 1]))
    assert not memory.rounding.any()
