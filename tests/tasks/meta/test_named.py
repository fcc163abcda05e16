"""Every named task against a simulator of its own, written without the task space."""

import itertools

import numpy as np
import pytest

from engram.tasks.environments.grid_maze import GridMazeVectorEnv
from engram.tasks.meta import Grid, Instance, MetaTaskVectorEnv, named, sample_instance
from engram.tasks.meta.planning import outcomes

LIVES = 600
UP, RIGHT, DOWN, LEFT = range(4)


def played(task, oracle=None, lives=LIVES, seed=0):
    """Return the sums of rewards of lifetimes, of random actions or those of an oracle."""
    envs = MetaTaskVectorEnv(task, lives)
    envs.reset(seed=seed)
    actions, total = np.random.default_rng(seed + 99), np.zeros(lives)
    ended = np.zeros(lives, dtype=bool)
    for _ in range(task.horizon):
        if oracle is None:
            action = actions.integers(0, task.n_actions, lives)
        else:
            action = np.asarray(oracle(envs.lives.state, envs.lives.value.T), dtype=np.int64)
        _, rewards, terminations, truncations, _ = envs.step(action)
        total += np.where(ended, 0.0, rewards)
        ended |= terminations | truncations
    assert ended.all()
    return total


def agree(returns, expected):
    error = np.sqrt(returns.var() / len(returns) + expected.var() / len(expected))
    assert abs(returns.mean() - expected.mean()) <= 3 * error + 1e-9, (returns.mean(), expected.mean(), error)


# -- bandits


def drawn(kind, rng):
    if kind == "uniform":
        return rng.random(LIVES)
    high = {"easy": 0.9, "medium": 0.75, "hard": 0.6}[kind]
    return np.where(rng.random(LIVES) < 0.5, high, 1 - high)


@pytest.mark.parametrize("k", [2, 5])
def test_bandit(k):
    rng = np.random.default_rng(1)
    p = rng.random((LIVES, k))
    agree(played(named.bandit(k)), rng.binomial(100, p.mean(1)))
    agree(played(named.bandit(k), lambda s, v: v[:k].argmax(0)), rng.binomial(100, p.max(1)))


@pytest.mark.parametrize("kind", ["uniform", "easy", "medium", "hard"])
def test_dependent_bandit(kind):
    rng = np.random.default_rng(2)
    p, task = drawn(kind, rng), named.dependent_bandit(kind)
    agree(played(task), rng.binomial(100, np.full(LIVES, 0.5)))
    agree(played(task, lambda s, v: v[0] < 0.5), rng.binomial(100, np.maximum(p, 1 - p)))


def test_reversal():
    rng = np.random.default_rng(3)
    task = named.reversal(0.1)
    agree(played(task), rng.binomial(100, np.full(LIVES, 0.5)))
    agree(played(task, lambda s, v: v[0] < 0.5), rng.binomial(100, np.full(LIVES, 0.9)))
    p, total = drawn("easy", rng), np.zeros(LIVES)
    for _ in range(100):  # always the first arm
        total += rng.random(LIVES) < p
        p = np.where(rng.random(LIVES) < 0.1, 1 - p, p)
    agree(played(task, lambda s, v: np.zeros(LIVES)), total)


def test_restless_bandit():
    rng = np.random.default_rng(4)
    p, best, first = rng.random(LIVES), np.zeros(LIVES), np.zeros(LIVES)
    for _ in range(150):
        best += rng.random(LIVES) < np.maximum(p, 1 - p)
        first += rng.random(LIVES) < p
        p = p + rng.normal(0, 0.1, LIVES)
        p = np.abs(p)
        p = np.where(p > 1, 2 - p, p)
    task = named.restless_bandit()
    agree(played(task), rng.binomial(150, np.full(LIVES, 0.5)))
    agree(played(task, lambda s, v: v[0] < 0.5), best)
    returns = played(task, lambda s, v: np.zeros(LIVES))
    agree(returns, first)
    assert returns.var() == pytest.approx(first.var(), rel=0.15), "the walk is as wide"


def test_special_arm():
    rng = np.random.default_rng(5)
    task = named.special_arm(4, 0.8, 0.2)
    agree(played(task), rng.binomial(100, np.full(LIVES, (0.8 + 3 * 0.2) / 4)))
    agree(played(task, lambda s, v: v[0]), rng.binomial(100, np.full(LIVES, 0.8)))


def test_contextual_bandit():
    rng = np.random.default_rng(6)
    task, each = named.contextual_bandit(3, 4), np.arange(LIVES)
    p = rng.random((LIVES, 3, 4))
    context, at_random, best = np.zeros(LIVES, dtype=int), np.zeros(LIVES), np.zeros(LIVES)
    for _ in range(100):
        at_random += rng.random(LIVES) < p[each, context, rng.integers(0, 4, LIVES)]
        best += rng.random(LIVES) < p[each, context].max(1)
        context = rng.integers(0, 3, LIVES)
    agree(played(task), at_random)
    agree(played(task, lambda s, v: v[:12].T.reshape(-1, 3, 4)[each, s].argmax(1)), best)


# -- trials


def test_harlow():
    rng = np.random.default_rng(7)
    task = named.harlow()
    good = rng.binomial(50, 0.5, LIVES)
    agree(played(task), rng.binomial(good, 0.5) - rng.binomial(50 - good, 0.5))
    agree(played(task, lambda s, v: s == 1), good)
    both = named.harlow("simultaneous")
    agree(played(both), 2.0 * rng.binomial(6, 0.5, LIVES) - 6)
    assert (played(both, lambda s, v: s == 2) == 6).all()


@pytest.mark.parametrize("depth", [1, 2])
def test_t_maze(depth):
    rng = np.random.default_rng(8)
    task = named.t_maze(depth)
    trips = 100 // (depth + 2)
    hits = rng.binomial(trips, 2.0**-depth, LIVES)
    agree(played(task), hits + 0.1 * (trips - hits))
    if depth == 1:
        returns = played(task, lambda s, v: v[0] == 3)
    else:
        returns = played(task, lambda s, v: np.where(s == 1, v[0] >= 6, v[0] % 2))
    np.testing.assert_allclose(returns, trips)
    # The end that pays moves at the start of a trip, and never stays where it was then.
    envs = MetaTaskVectorEnv(named.t_maze(depth, hazard=1.0), 50)
    envs.reset(seed=0)
    for _ in range(20):
        before = envs.lives.value[:, 0].copy()
        envs.step(rng.integers(0, 2, 50))
        assert ((envs.lives.value[:, 0] != before) == (envs.lives.state == 0)).all()


@pytest.mark.parametrize("length", [0, 3])
def test_cue_t_maze(length):
    rng = np.random.default_rng(9)
    task, cue = named.cue_t_maze(length), np.zeros(LIVES, dtype=int)
    trips = 100 // (length + 4)
    agree(played(task), rng.binomial(trips, 0.5, LIVES))

    def remembers(s, v):
        cue[:] = np.where((s == 1) | (s == 2), s - 1, cue)
        return cue

    assert (played(task, remembers) == trips).all()


@pytest.mark.parametrize(
    ("kind", "trials", "best"), [("paper", 50, 0.82), ("wang2018", 100, 0.74), ("wang2016", 50, 0.7)]
)
def test_two_step(kind, trials, best):
    rng = np.random.default_rng(10)
    task = named.two_step(kind)
    agree(played(task), rng.binomial(trials, np.full(LIVES, 0.5)))
    returns = played(task, lambda s, v: v[0] == 1)  # action 1 is the one that often leads to state 1
    agree(returns, rng.binomial(trials, np.full(LIVES, best)))
    # Always action 1: a lifetime is good or bad, but for the changes of the better state.
    good, total = rng.integers(1, 3, LIVES), np.zeros(LIVES)
    common = {"paper": 0.9, "wang2018": 0.8, "wang2016": 0.75}[kind]
    for _ in range(trials):
        state = np.where(rng.random(LIVES) < common, 1, 2)
        total += rng.random(LIVES) < np.where(state == good, 0.9, 0.1)
        good = np.where(rng.random(LIVES) < (0.025 if kind == "wang2018" else 0), 3 - good, good)
    returns = played(task, lambda s, v: np.ones(LIVES))
    agree(returns, total)
    assert returns.std() == pytest.approx(total.std(), rel=0.1)


def test_two_step_daw2011():
    rng = np.random.default_rng(11)
    task = named.two_step("daw2011")
    p, at_random, best = rng.uniform(0.25, 0.75, (LIVES, 2, 2)), np.zeros(LIVES), np.zeros(LIVES)
    for _ in range(201):
        at_random += rng.random(LIVES) < p.mean((1, 2))
        richer = p.max(2).argmax(1)
        state = np.where(rng.random(LIVES) < 0.7, richer, 1 - richer)
        best += rng.random(LIVES) < p[np.arange(LIVES), state].max(1)
        p += rng.normal(0, 0.025, p.shape)
        p = np.where(p < 0.25, 0.5 - p, p)
        p = np.where(p > 0.75, 1.5 - p, p)

    def knows(s, v):
        arms = v[:4].T.reshape(-1, 2, 2)
        second = arms[np.arange(LIVES), np.maximum(s - 1, 0)].argmax(1)
        return np.where(s == 0, arms.max(2).argmax(1) == 0, second)

    agree(played(task), at_random)
    agree(played(task, knows), best)


def test_two_stimulus():
    rng = np.random.default_rng(12)
    task = named.two_stimulus()
    agree(played(task), rng.binomial(100, np.full(LIVES, 0.5)))
    assert (played(task, lambda s, v: np.where(s >= 3, v[np.maximum(s - 3, 0), np.arange(LIVES)], 0)) == 100).all()
    # An ideal learner errs at a pair that it meets first as often as the functions left do not agree about it.
    tables = np.array([[int(bit) for bit in table] for table in named.TABLES.values()])
    assert tables.shape == (14, 4)
    assert {tuple(1 - row) for row in tables} == {tuple(row) for row in tables}, "closed under negation"
    envs = MetaTaskVectorEnv(task, 3000)
    envs.reset(seed=0)
    drawn, counts = np.unique(envs.lives.value[:, :4], axis=0, return_counts=True)
    assert {tuple(row) for row in drawn.astype(int)} == {tuple(row) for row in tables}
    np.testing.assert_allclose(counts / 3000, 1 / 14, atol=0.02)


def walked(chances, pays, rng, actions=None, horizon=100):
    """Walk by hand: ``chances[s][a]`` maps states to probabilities; ``pays(s, a, f, life)``; ``flags(s, f, life)``."""
    total = np.zeros(LIVES)
    n, k = len(chances), len(chances[0])
    T = np.zeros((n, k, n))
    for s, a in np.ndindex(n, k):
        for s2, p in chances[s][a].items():
            T[s, a, s2] = p
    state, life = np.zeros(LIVES, dtype=int), pays.begin(rng)
    for t in range(horizon):
        action = rng.integers(0, k, LIVES) if actions is None else np.full(LIVES, actions[t % len(actions)])
        new = (rng.random(LIVES)[:, None] > T[state, action].cumsum(1)).sum(1).clip(0, n - 1)
        total += rng.random(LIVES) < pays.chance(state, action, life)
        pays.after(state, new, life)
        state = new
    return total


class FirstExample:
    chances = (
        ({1: 1}, {0: 1 / 3, 1: 1 / 3, 2: 1 / 3}),
        ({0: 1 / 6, 2: 5 / 6}, {0: 5 / 6, 1: 1 / 6}),
        ({1: 1}, {1: 1}),
    )

    def begin(self, rng):
        return {"special": rng.choice([0, 2], LIVES)}

    def chance(self, state, action, life):
        return 1.0 * ((state == 1) | (state == life["special"]))

    def after(self, state, new, life):
        pass


class SecondExample(FirstExample):
    chances = (({0: 1}, {0: 0.5, 2: 0.5}), ({0: 1}, {1: 1}), ({0: 0.5, 1: 0.5}, {0: 1 / 6, 2: 5 / 6}))

    def begin(self, rng):
        return {"special": rng.integers(0, 2, LIVES), "p": rng.random((3, LIVES))}

    def chance(self, state, action, life):
        return np.where(state == 1, life["p"][2], np.where(state == life["special"], life["p"][1], 0.0))


class ThirdExample(FirstExample):
    chances = (
        ({1: 0.5, 2: 0.5}, {2: 1}),
        ({1: 0.5, 2: 0.5}, {3: 1}),
        ({0: 1 / 3, 1: 1 / 3, 3: 1 / 3},) * 2,
        ({1: 1}, {1: 1}),
    )

    def begin(self, rng):
        return {"key": rng.integers(1, 4, LIVES), "has": np.zeros(LIVES, dtype=bool)}

    def chance(self, state, action, life):
        return 1.0 * ((state == 2) & life["has"])

    def after(self, state, new, life):
        life["has"] |= state == life["key"]
        life["has"] &= new != 0


@pytest.mark.parametrize(("number", "direct"), [(1, FirstExample()), (2, SecondExample()), (3, ThirdExample())])
@pytest.mark.parametrize("actions", [None, (0, 1), (1, 1, 0)])
def test_examples(number, direct, actions):
    rng = np.random.default_rng(13)
    clock = iter(range(1000))

    def in_turn(s, v):
        return np.full(LIVES, actions[next(clock) % len(actions)])

    returns = played(named.example(number), None if actions is None else in_turn)
    agree(returns, walked(direct.chances, direct, rng, actions))


# -- grids


def stepped(place, action, size, wall=None):
    """Move on a grid: rows and columns, (lives, 2)."""
    step = np.array([[-1, 0], [0, 1], [1, 0], [0, -1], [0, 0]])[action]
    new = np.clip(place + step, 0, size - 1)
    if wall is None:
        return new
    each = np.arange(len(place))
    return np.where(wall[each, new[:, 0], new[:, 1]][:, None], place, new)


def somewhere_else(wall, place, rng):
    """A random free cell, any but the one that one is on."""
    each, occupied = np.arange(len(place)), wall.copy()
    occupied[each, place[:, 0], place[:, 1]] = True
    score = np.where(occupied, -1, rng.random(wall.shape)).reshape(len(place), -1)
    return np.stack(np.unravel_index(score.argmax(1), wall.shape[1:]), axis=1)


def distances(wall, goal):
    """Steps to the goal, by spreading from it: (lives, rows, columns)."""
    n = len(wall)
    steps = np.full(wall.shape, 10_000)
    steps[np.arange(n), goal[:, 0], goal[:, 1]] = 0
    while True:
        padded = np.pad(steps, ((0, 0), (1, 1), (1, 1)), constant_values=10_000)
        near = np.minimum.reduce([padded[:, :-2, 1:-1], padded[:, 2:, 1:-1], padded[:, 1:-1, :-2], padded[:, 1:-1, 2:]])
        closer = np.where(wall, 10_000, np.minimum(steps, near + 1))
        if (closer == steps).all():
            return steps
        steps = closer


def downhill(steps, place, size, wall, noop=False):
    options = [
        steps[(np.arange(len(place)), *stepped(place, np.full(len(place), a), size, wall).T)] for a in range(4 + noop)
    ]
    return np.argmin(options, axis=0)


def goal_returns(wall, start, goal, rng, horizon, *, oracle, reward=1.0):
    """Return the sums of rewards for reaching a goal and being put elsewhere, again and again."""
    n, size = len(wall), wall.shape[1]
    steps = distances(wall, goal) if oracle else None
    place, total = start.copy(), np.zeros(n)
    for _ in range(horizon):
        action = downhill(steps, place, size, wall) if oracle else rng.integers(0, 4, n)
        place = stepped(place, action, size, wall)
        there = (place == goal).all(1)
        total += reward * there
        place = np.where(there[:, None], somewhere_else(wall, place, rng), place)
    return total


def played_on_grid(task, size, lives):
    """Return the sums of rewards of who takes the shortest way by the walls of the environment."""
    envs, total = MetaTaskVectorEnv(task, lives), np.zeros(lives)
    envs.reset(seed=5)
    wall = envs.lives.walls[:, : size * size].reshape(-1, size, size)
    steps = distances(wall, np.stack(np.divmod(envs.lives.value[:, 0].astype(int), size), axis=1))
    for _ in range(task.horizon):
        place = np.stack(np.divmod(envs.lives.state, size), axis=1)
        total += envs.step(downhill(steps, place, size, wall, noop=task.n_actions == 5))[1]
    return total


def test_find_the_spot():
    rng, lives = np.random.default_rng(14), 400
    task, wall = named.find_the_spot(5), np.zeros((lives, 5, 5), dtype=bool)
    centre = np.full((lives, 2), 2)
    goal = somewhere_else(wall, centre, rng)
    agree(played(task, lives=lives), goal_returns(wall, centre, goal, rng, 100, oracle=False))
    agree(played_on_grid(task, 5, lives), goal_returns(wall, centre, goal, rng, 100, oracle=True))


def test_pillar_maze():
    rng, lives = np.random.default_rng(15), 300
    task, wall = named.pillar_maze(), np.zeros((lives, 9, 9), dtype=bool)
    wall[:, 1::2, 1::2] = True
    centre = np.full((lives, 2), 4)
    goal = somewhere_else(wall, centre, rng)
    agree(played_on_grid(task, 9, lives), goal_returns(wall, centre, goal, rng, 200, oracle=True, reward=10.0))
    # The published maze, which is an environment of its own.
    envs = GridMazeVectorEnv(lives)
    envs.reset(seed=1)
    published = sum(envs.step(rng.integers(0, 4, lives))[1] for _ in range(200))
    agree(played(task, lives=lives), published)


def carved(n, rng):
    """One maze by depth-first search, from the first corner: (n, n) of whether there is a wall."""
    wall = np.ones((n, n), dtype=bool)
    wall[0, 0] = False
    stack = [(0, 0)]
    while stack:
        r, c = stack[-1]
        ways = [(r + dr, c + dc) for dr, dc in ((-2, 0), (0, 2), (2, 0), (0, -2))]
        ways = [(i, j) for i, j in ways if 0 <= i < n and 0 <= j < n and wall[i, j]]
        if not ways:
            stack.pop()
            continue
        i, j = ways[rng.integers(len(ways))]
        wall[(r + i) // 2, (c + j) // 2] = wall[i, j] = False
        stack.append((i, j))
    return wall


def test_full_maze():
    rng, lives = np.random.default_rng(16), 300
    task = named.full_maze()
    wall = np.stack([carved(9, rng) for _ in range(lives)])
    corner = np.zeros((lives, 2), dtype=int)
    goal = somewhere_else(wall, corner, rng)
    agree(played(task, lives=lives), goal_returns(wall, corner, goal, rng, 200, oracle=False))
    agree(played_on_grid(task, 9, lives), goal_returns(wall, corner, goal, rng, 200, oracle=True))
    instances = [sample_instance(task, rng) for _ in range(20)]
    for instance in instances:
        mine = np.zeros(81, dtype=bool)
        mine[list(instance.walls)] = True
        mine = mine.reshape(1, 9, 9)
        assert (~mine).sum() == 25 + 24, "rooms and the passages of a tree"
        assert (distances(mine, np.zeros((1, 2), dtype=int))[~mine] < 10_000).all(), "all of it can be reached"
    assert len({instance.walls for instance in instances}) == 20


@pytest.mark.parametrize("hard", [False, True])
def test_dark_room(hard):
    rng, n = np.random.default_rng(17), 5 if hard else 9
    task = named.dark_room_hard(n) if hard else named.dark_room(n)
    goal, place = rng.integers(0, n, (LIVES, 2)), np.full((LIVES, 2), n // 2)
    total, over = np.zeros(LIVES), np.zeros(LIVES, dtype=bool)
    for _ in range(20):
        place = stepped(place, rng.integers(0, 5, LIVES), n)
        there = (place == goal).all(1)
        total += there & ~over
        over |= there & hard
    agree(played(task), total)
    far = np.abs(np.stack(np.divmod(np.arange(n * n), n), axis=1) - n // 2).sum(1)
    if hard:
        return
    best = np.where(far == 0, 20, 21 - far).mean()
    assert best == pytest.approx(16.543, abs=5e-4)
    returns = played_on_grid(task, n, LIVES)
    assert returns.mean() == pytest.approx(best, abs=3 * returns.std() / np.sqrt(LIVES))


def test_dark_key_to_door():
    rng, n = np.random.default_rng(18), 5
    key, door, place = rng.integers(0, n, (3, LIVES, 2))
    has, over, total = np.zeros(LIVES, dtype=bool), np.zeros(LIVES, dtype=bool), np.zeros(LIVES)
    for _ in range(50):
        place = stepped(place, rng.integers(0, 5, LIVES), n)
        opens = has & (place == door).all(1) & ~over
        takes = ~has & (place == key).all(1) & ~over
        total += 1.0 * opens + takes
        has |= takes
        over |= opens
    agree(played(named.dark_key_to_door(n)), total)


# -- tables

HALF, CUES = {1: 0.5, 2: 0.5}, ((1.0, 0, 0, 0, 0), (0, 1.0, 0, 0, 0))
TWO = [({1: 0.1, 2: 0.9}, {1: 0.9, 2: 0.1}), ({0: 1},) * 2, ({0: 1},) * 2]
TABLES = [  # task, instance, transitions, rules (old, new, action, flag, p, value), flag rules (old, new, action, set)
    (
        named.dependent_bandit("hard"),
        Instance(probs=(0.4,)),
        [({0: 1}, {0: 1})],
        [(0, -1, 0, -1, 0.4, 1), (0, -1, 1, -1, 0.6, 1)],
        [],
    ),
    (
        named.special_arm(3),
        Instance(actions=(2,)),
        [({0: 1},) * 3],
        [(0, -1, -1, -1, 0.1, 1), (0, -1, 2, -1, 0.9, 1)],
        [],
    ),
    (
        named.harlow(),
        Instance(stimuli=CUES),
        [(HALF, HALF), ({0: 1},) * 2, ({0: 1},) * 2],
        [(1, -1, 1, -1, 1, 1), (2, -1, 1, -1, 1, -1)],
        [],
    ),
    (
        named.t_maze(),
        Instance(states=(3,)),
        [({1: 1},) * 2, ({2: 1}, {3: 1}), ({0: 1},) * 2, ({0: 1},) * 2],
        [(2, -1, -1, -1, 1, 0.1), (3, -1, -1, -1, 1, 0.1), (3, -1, -1, -1, 1, 1)],
        [],
    ),
    (
        named.two_step(),
        Instance(states=(1,)),
        TWO,
        [(1, -1, -1, -1, 0.1, 1), (2, -1, -1, -1, 0.1, 1), (1, -1, -1, -1, 0.9, 1)],
        [],
    ),
    (
        named.cue_t_maze(1),
        Instance(stimuli=CUES),
        [(HALF, HALF), ({3: 1},) * 2, ({3: 1},) * 2, ({4: 1},) * 2, ({5: 1}, {6: 1}), ({0: 1},) * 2, ({0: 1},) * 2],
        [(5, -1, -1, 0, 1, 1), (6, -1, -1, 1, 1, 1)],
        [(2, -1, -1, 1)],
    ),
    (
        named.two_stimulus(["dms", "or"]),
        Instance(actions=(1, 0, 0, 1)),
        [(HALF, HALF), ({3: 0.5, 4: 0.5},) * 2, ({5: 0.5, 6: 0.5},) * 2, *[({0: 1},) * 2] * 4],
        [(3, -1, 1, -1, 1, 1), (4, -1, 0, -1, 1, 1), (5, -1, 0, -1, 1, 1), (6, -1, 1, -1, 1, 1)],
        [],
    ),
    (
        named.example(1),
        Instance(states=(2,)),
        FirstExample.chances,
        [(1, -1, -1, -1, 1, 1), (2, -1, -1, -1, 1, 1), (2, -1, 0, -1, 1, 1)],
        [],
    ),
    (
        named.example(2),
        Instance(states=(0,), probs=(0.2, 0.4, 0.8), stimuli=CUES),
        SecondExample.chances,
        [(0, -1, -1, -1, 0.2, 1), (0, -1, -1, -1, 0.4, 1), (1, -1, -1, -1, 0.8, 1)],
        [],
    ),
    (
        named.example(3),
        Instance(states=(1,), stimuli=CUES),
        ThirdExample.chances,
        [(2, -1, -1, 1, 1, 1)],
        [(1, -1, -1, 1)],
    ),
]


@pytest.mark.parametrize(("task", "instance", "transitions", "rules", "flags"), TABLES)
def test_tables_are_those_written_by_hand(task, instance, transitions, rules, flags):
    step = outcomes(task, [instance, instance], flags=2)
    for s, row in enumerate(transitions):
        for a, chances in enumerate(row):
            reached, chance = step.reached[1, s, a], step.chance[1, s, a]
            probabilities = {int(s2): p for s2, p in zip(reached, chance, strict=True) if p}
            assert probabilities == pytest.approx(chances)
            for (k, s2), f in itertools.product(enumerate(reached), (0, 1)):
                paid = [(p, v) for old, new, by, flag, p, v in rules if matches((old, new, by, flag), (s, s2, a, f))]
                assert (step.p[1, f, s, a, k], step.value[1, f, s, a, k]) == ([(0, 0), *paid])[-1]
                after = [to for old, new, by, to in flags if matches((old, new, by), (s, s2, a))]
                assert step.flag[1, f, s, a, k] == (0 if s2 == 0 else [f, *after][-1])


def matches(places, actual):
    return all(place in (-1, value) for place, value in zip(places, actual, strict=True))


def test_tables_of_a_grid_are_its_moves():
    task = named.find_the_spot(3)
    step = outcomes(task, [Instance(states=(5,))])
    assert step.reached[0, ..., 0].tolist() == [
        [0, 1, 3, 0], [1, 2, 4, 0], [2, 2, 5, 1], [0, 4, 6, 3], [1, 5, 7, 3], [2, 5, 8, 4], [3, 7, 6, 6], [4, 8, 7, 6],
        [5, 8, 8, 7],
    ]  # fmt: skip
    assert ((step.p[0, 0] == 1) == (step.reached[0] == 5)).all()
    pillars = Grid(5, 5, walls="pillars", moves=5)
    assert pillars.wall_map().reshape(5, 5).astype(int).tolist() == [
        [0, 0, 0, 0, 0], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: named.two_stimulus(["xor"]), "tables: 'xor': expected four bits or one of and, nand"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
