import gymnasium
import numpy as np
import pytest

from engram.tasks.environments.grid_transfer import GridTransferVectorEnv, grid_transfer

UP, DOWN, LEFT, RIGHT = range(4)


def chain(mdp, policy):
    """Return the transition matrix and the expected rewards of a policy, (states, actions)."""
    states = np.arange(len(mdp.terminal))
    going = np.zeros((len(states), len(states)))
    for k in range(mdp.successors.shape[2]):
        for a in range(mdp.successors.shape[1]):
            np.add.at(going, (states, mdp.successors[:, a, k]), policy[:, a] * mdp.probabilities[:, a, k])
    paid = (policy[:, :, None] * mdp.probabilities * mdp.rewards).sum((1, 2))
    going[mdp.terminal], paid[mdp.terminal] = 0, 0
    return going, paid


def expected_return(mdp, policy, steps=500):
    going, paid = chain(mdp, policy)
    value = np.zeros(len(paid))
    for _ in range(steps):
        value = paid + going @ value
    return value[mdp.start]


def best_policy(mdp, gamma=0.99):
    value = np.zeros(len(mdp.terminal))
    for _ in range(3000):
        worth = (mdp.probabilities * (mdp.rewards + gamma * np.where(mdp.terminal, 0, value)[mdp.successors])).sum(2)
        value = worth.max(1)
    return np.eye(worth.shape[1])[worth.argmax(1)]


def shortest_walks(mdp, down_first):
    row, column = np.divmod(np.arange(121), 11)
    policy = np.zeros((121, 4))
    down, right = row < 10, column < 10
    both = down & right
    policy[:, DOWN] = np.where(both, 1.0 if down_first else 0.5, down)
    policy[:, RIGHT] = np.where(both, 0.0 if down_first else 0.5, right)
    return policy


@pytest.mark.parametrize(
    ("noise", "best", "either", "down_first"),
    [(0.25, -23.936, -24.639, -24.726), (0.5, -35.806, -38.021, -38.970), (0.75, -71.323, -79.188, -84.987)],
)
def test_returns_under_noise_are_those_of_the_specification(noise, best, either, down_first):
    mdp = grid_transfer(noise=noise)
    assert expected_return(mdp, best_policy(mdp)) == pytest.approx(best, abs=6e-4)
    assert expected_return(mdp, shortest_walks(mdp, False)) == pytest.approx(either, abs=6e-4)
    assert expected_return(mdp, shortest_walks(mdp, True)) == pytest.approx(down_first, abs=6e-4)


def test_the_windy_cliff():
    mdp = grid_transfer(cliff=True)
    assert expected_return(mdp, best_policy(mdp)) == pytest.approx(0.5)
    always_right = np.eye(4)[np.full(132, RIGHT)]
    assert expected_return(mdp, always_right) == pytest.approx(2.0**-10)
    edge = mdp.successors[10 * 11 + 3]
    assert edge[DOWN, mdp.probabilities[113, DOWN] == 1].tolist() == [11 * 11 + 3]
    assert mdp.terminal.sum() == 12
    goal = 9 * 11 + 10
    assert mdp.probabilities[goal, DOWN].tolist() == [1, 0], "from above the goal is safe"


def test_labels_of_the_same_remainder_do_the_same():
    many = grid_transfer(n_actions=10, perm=np.array([3, 2, 1, 0]))
    few = grid_transfer()
    for label in range(10):
        assert np.array_equal(many.successors[:, label], few.successors[:, 3 - label % 4])


@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize("cliff", [False, True])
def test_the_environment_walks_by_its_tables(noise, cliff):
    env = GridTransferVectorEnv(500, size=4, noise=noise, cliff=cliff, n_actions=7, episode_len=60)
    env.reset(seed=0)
    mdp, rng = env.mdp, np.random.default_rng(0)
    counts = np.zeros((*mdp.successors.shape[:2], len(mdp.terminal)))
    for _ in range(300):
        before, actions, resting = env.state.copy(), rng.integers(7, size=500), env.ended.copy()
        seen, rewards, terminated, _, _ = env.step(actions)
        went = ~resting
        np.add.at(counts, (before[went], actions[went], env.state[went]), 1)
        assert np.array_equal(terminated[went], mdp.terminal[env.state[went]])
        assert np.array_equal(seen @ [4, 1], env.state)
        paid = np.where(env.state == 15, 1.0, 0.0 if cliff else -1.0)
        assert np.array_equal(rewards, np.where(went, paid, 0.0))
    expected = np.zeros_like(counts)
    s, a, _ = np.indices(mdp.successors.shape)
    np.add.at(expected, (s, a, mdp.successors), mdp.probabilities)
    visits = counts.sum(2, keepdims=True)
    assert not counts[expected == 0].any()
    # Five standard errors of a share, or what one visit more or less makes.
    error = 5 * np.sqrt(expected * (1 - expected) / np.maximum(visits, 1)) + 1 / np.maximum(visits, 1)
    assert (np.abs(counts / np.maximum(visits, 1) - expected) <= error)[visits[..., 0] > 0].all()
    assert (visits[~mdp.terminal] > 0).mean() > 0.9


def test_a_walk_is_shown():
    env = gymnasium.make("engram.tasks:engram/GridTransfer-v0", size=3, cliff=True, render_mode="ansi")
    env.reset(seed=0)
    assert env.render().splitlines() == ["...", "...", "A.G", "###"]
    env.step(DOWN)
    assert env.render().splitlines() == ["...", "...", "..G", "A##"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"perm": (0, 1, 2)}, r"perm = \(0, 1, 2\): expected each of 0 \(up\)"),
        ({"perm": (0, 1, 2, 2)}, "perm"),
    ],
)
def test_wrong_use_is_told(wrong, message):
    with pytest.raises(ValueError, match=message):
        GridTransferVectorEnv(**wrong)
