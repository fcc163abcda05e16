from inspect import unwrap

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from hypothesis import given
from hypothesis import strategies as st

from engram.agents import ReplayBuffer, TransitionBatch, transition_consistency, vector_episodes
from engram.testing.promises import default_dtype

PLANE, LINE = spaces.Box(-1.0, 1.0, (2,)), spaces.Box(-1.0, 1.0, (1,))


def generator():
    return torch.Generator().manual_seed(0)


def transitions(n, first=0):
    """Return transitions that are counted: the state of number i is (i, 0)."""
    states = np.stack([np.arange(first, first + n), np.zeros(n)], 1)
    ends = {"terminated": np.arange(n) % 3 == 0, "truncated": np.arange(n) % 3 == 1}
    return (states, np.full((n, 1), 0.5), np.arange(first, first + n) / 2, states + np.array([1, 0])), ends


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(1, 20))
def test_the_last_transitions_are_kept(sizes, capacity):
    buffer, written = ReplayBuffer(capacity, PLANE, LINE), 0
    for n in sizes:
        parts, ends = transitions(n, written)
        buffer.add(*parts, **ends)
        written += n
    stored = buffer.all()
    assert len(buffer) == min(written, capacity)
    expected = np.arange(written)[-capacity:]
    assert sorted(stored.states[:, 0].tolist()) == expected.tolist()
    assert torch.equal(stored.next_states[:, 0], stored.states[:, 0] + 1)
    assert torch.equal(stored.rewards, stored.states[:, 0] / 2)
    assert (stored.actions == 0.5).all()


def test_ends_are_told_apart_and_restored():
    buffer, again = (ReplayBuffer(20, PLANE, LINE) for _ in range(2))
    parts, ends = transitions(9)
    buffer.add(*parts, **ends)
    assert buffer.all().terminated.tolist() == [1, 0, 0] * 3
    assert buffer.all().truncated.tolist() == [0, 1, 0] * 3
    again.load_state_dict(buffer.state_dict())
    for part, other in zip(buffer.sample(5, generator()), again.sample(5, generator()), strict=True):
        assert torch.equal(part, other)


def test_a_full_buffer_goes_on_where_it_was():
    buffer, again = (ReplayBuffer(7, PLANE, LINE) for _ in range(2))
    for first, n in ((0, 9), (9, 2)):
        if first:
            state = buffer.state_dict()
            again.load_state_dict(state)
        parts, ends = transitions(n, first)
        for each in (buffer, again):
            each.add(*parts, **ends)
    for part, other in zip(buffer.all(), again.all(), strict=True):
        assert torch.equal(part, other)
    assert state["rows"][:, 0].max() == 8  # a copy, which nothing was added to


def test_a_log_has_no_gaps():
    states = np.arange(6.0)[:, None].repeat(2, 1)
    no = np.zeros(5, bool)
    log = ReplayBuffer(100, PLANE)
    log.add_log(states[:-1], None, np.zeros(5), states[1:], terminated=no, truncated=no)
    assert log.all().actions is None
    following = states[1:].copy()
    following[2] += 1
    with pytest.raises(ValueError, match=r"next_states\[2\] is not states\[3\]"):
        log.add_log(states[:-1], None, np.zeros(5), following, terminated=no, truncated=no)
    log.add_log(states[:-1], None, np.zeros(5), following, terminated=no, truncated=np.arange(5) == 2)
    log.add_log(states[:-1], None, np.zeros(5), following, terminated=np.arange(5) == 2, truncated=no)
    assert len(log) == 15


def test_wrong_use_is_told():
    (states, actions, rewards, following), ends = transitions(3)
    buffer, log = ReplayBuffer(10, PLANE, LINE), ReplayBuffer(10, PLANE)
    with pytest.raises(ValueError, match="the buffer is empty"):
        buffer.sample(1, generator())
    for name, wrong in (("states", 0), ("rewards", 2), ("next_states", 3)):
        parts = [states.copy(), actions, rewards.copy(), following.copy()]
        parts[wrong][1] = np.nan
        with pytest.raises(FloatingPointError, match=rf"^{name} of transition"):
            buffer.add(*parts, **ends)
    assert len(buffer) == 0, "nothing of it was kept"
    with pytest.raises(ValueError, match="actions = None: expected those"):
        buffer.add(states, None, rewards, following, **ends)
    with pytest.raises(ValueError, match="expected None, in a log of states"):
        log.add(states, actions, rewards, following, **ends)
    with pytest.raises(ValueError, match=r"actions.shape = \(3, 2\)"):
        buffer.add(states, np.zeros((3, 2)), rewards, following, **ends)
    with pytest.raises(ValueError, match="one for each of 3"):
        buffer.add(states, actions[:2], rewards, following, **ends)
    with pytest.raises(ValueError, match="expected 0 to 1"):
        ReplayBuffer(10, PLANE, spaces.Discrete(2)).add(states, np.array([0, 1, 2]), rewards, following, **ends)
    buffer.add(states, actions, rewards, following, **ends)
    with pytest.warns(RuntimeWarning, match="batch_size = 4: only 3 transitions"):
        assert len(buffer.sample(4, generator()).states) == 4


def walks(noise, n=800):
    rng = np.random.default_rng(0)
    states, actions = rng.uniform(-1, 1, (n, 2)), rng.uniform(-1, 1, (n, 1))
    following = states + np.sin(3 * states) * actions + noise * rng.normal(size=(n, 2))
    parts = [torch.as_tensor(part, dtype=torch.float32) for part in (states, actions, np.zeros(n), following)]
    return TransitionBatch(*parts, torch.zeros(n), torch.zeros(n))


def test_contradictions_are_told():
    assert transition_consistency(walks(0.0)) < 0.25
    with pytest.warns(RuntimeWarning, match="takes the environment for deterministic"):
        assert 0.8 < transition_consistency(walks(3.0)) < 1.2
    with pytest.raises(ValueError, match="expected actions"):
        transition_consistency(walks(0.0)._replace(actions=None))
    with pytest.raises(ValueError, match="at least 3 transitions"):
        transition_consistency(walks(0.0, 2))


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_episodes_are_recorded_whole_however_they_are_reset(mode):
    """Each step leads from where the one before has led, up to its own last state."""
    env = gymnasium.make_vec(
        "CartPole-v1", num_envs=5, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}
    )
    seen, rng = [], np.random.default_rng(0)
    space = env.single_observation_space
    buffer = ReplayBuffer(5000, space, env.single_action_space)

    def record(*parts, **ends):
        seen.append(len(parts[0]))
        buffer.add(*parts, **ends)

    returns = vector_episodes(env, lambda states: rng.integers(2, size=5), 0, record)
    assert returns.sum() == len(buffer) == sum(seen)
    assert seen[0] == 5
    recorded = buffer.all()
    assert recorded.terminated.sum() == 5
    follows = (recorded.next_states[:, None] == recorded.states[None]).all(2).any(1)
    assert torch.equal(follows, recorded.terminated == 0)


def test_one_transition_alone_is_named():
    buffer = ReplayBuffer(5, PLANE)
    with pytest.raises(ValueError, match=r"rewards.shape = \(\): expected \(transitions\)"):
        unwrap(ReplayBuffer.add)(buffer, np.zeros(2), None, 1.0, np.zeros(2), terminated=False, truncated=False)


def test_one_environment_alone_is_named():
    with pytest.raises(TypeError, match=r"env = <TimeLimit.*: expected .*VectorEnv"):
        unwrap(vector_episodes)(gymnasium.make("CartPole-v1"), lambda states: 0)


def test_it_holds_float32_whatever_the_default_dtype():
    with default_dtype(torch.float64):
        buffer = ReplayBuffer(20, PLANE, LINE)
        parts, ends = transitions(3)
        buffer.add(*parts, **ends)
    assert {column.dtype for column in buffer.all()} == {torch.float32}
