"""Agents that know the meta-task, as measures of what can be reached in it: by chance, by knowing, by inference.

They do not learn to learn; they stand beside agents that do. Each acts in all environments of a
``MetaTaskVectorEnv`` at once, and ``play`` lets it live one lifetime in each.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from gymnasium.vector import VectorWrapper
from jaxtyping import Float, Int

from engram.tasks.environment import check_int
from engram.tasks.meta.environment import MetaTaskVectorEnv
from engram.tasks.meta.planning import enumerate_instances, model, optimal
from engram.tasks.meta.program import program
from engram.tasks.meta.task import MetaTask, StimVar

Actions = Int[np.ndarray, "num_envs"]
Seen = Float[np.ndarray, "num_envs features"]
Rewards = Float[np.ndarray, "num_envs"]


@runtime_checkable
class Agent(Protocol):
    """Who acts in many environments at once, each of which is in a lifetime of its own."""

    def begin(self, env: MetaTaskVectorEnv, seen: Seen) -> None:
        """Begin a lifetime in every environment, which has shown what is ``seen``."""

    def act(self) -> Actions:
        """Return the next action in every environment."""

    def learn(self, actions: Actions, rewards: Rewards, seen: Seen) -> None:
        """Be told what was done, what it gave, and what is seen now."""


class Lifetimes(NamedTuple):
    """One lifetime of each environment, step by step; after its end there is nothing but zeros.

    Attributes:
        states: The state acted from; -1 after the end.
        actions: What was done.
        rewards: What it gave.
        reached: The state that the environment was then in.
        lengths: Steps of each lifetime.
    """

    states: Int[np.ndarray, "num_envs steps"]
    actions: Int[np.ndarray, "num_envs steps"]
    rewards: Float[np.ndarray, "num_envs steps"]
    reached: Int[np.ndarray, "num_envs steps"]
    lengths: Int[np.ndarray, "num_envs"]


def play(env: MetaTaskVectorEnv | VectorWrapper, agent: Agent, *, seed: int | None = None) -> Lifetimes:
    """Let an agent live one lifetime in each environment.

    Args:
        env: The environments, or a wrapper around them, whose observations the agent is then shown.
        agent: Who acts.
        seed: Seed of the environments; None lets them go on with their own randomness.

    Returns:
        The lifetimes.

    Examples:
        >>> from engram.tasks.meta import named
        >>> env = MetaTaskVectorEnv(named.dependent_bandit("easy"), 1000)
        >>> lives = play(env, OracleAgent(), seed=0)
        >>> bool(abs(lives.rewards.mean() - 0.9) < 0.005)
        True
    """
    seen, _ = env.reset(seed=seed)
    inner = env.unwrapped
    assert isinstance(inner, MetaTaskVectorEnv)
    agent.begin(inner, seen)
    running = np.ones(env.num_envs, dtype=bool)
    steps = []
    while running.any():
        state = np.where(running, inner.lives.state, -1)
        chosen = agent.act()
        seen, rewards, terminations, truncations, _ = env.step(chosen)
        agent.learn(chosen, rewards, seen)
        reached = np.where(running, inner.lives.state, -1)
        steps.append((state, np.where(running, chosen, 0), np.where(running, rewards, 0.0), reached))
        running = running & ~(terminations | truncations)
    states, actions, gained, after = (np.stack(column, 1) for column in zip(*steps, strict=True))
    return Lifetimes(states, actions, gained, after, (states >= 0).sum(1))


class RandomAgent:
    """Draws every action with equal probability.

    Args:
        generator: The source of randomness.

    Examples:
        >>> from engram.tasks.meta import named
        >>> env = MetaTaskVectorEnv(named.two_step(), 1000)
        >>> bool(abs(play(env, RandomAgent(np.random.default_rng(0)), seed=0).rewards.sum(1).mean() / 50 - 0.5) < 0.01)
        True
    """

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator

    def begin(self, env: MetaTaskVectorEnv, seen: Seen) -> None:
        """Begin a lifetime in every environment."""
        self._shape, self._actions = env.num_envs, env.tasks[0].n_actions

    def act(self) -> Actions:
        """Return the next action in every environment."""
        return self.generator.integers(self._actions, size=self._shape)

    def learn(self, actions: Actions, rewards: Rewards, seen: Seen) -> None:
        """Do nothing with what it is told."""


class OracleAgent:
    """Knows the instance, the state and the flag, and acts in the best way, as if the instance stayed as it is.

    It asks the environment for all that, also after a variable has changed.

    Args:
        gamma: Discount for each step.

    Examples:
        >>> from engram.tasks.meta import named
        >>> play(MetaTaskVectorEnv(named.harlow("simultaneous"), 4), OracleAgent(), seed=0).rewards.sum(1).tolist()
        [6.0, 6.0, 6.0, 6.0]
    """

    def __init__(self, gamma: float = 0.95) -> None:
        self.gamma = gamma
        self._known: dict[Any, Int[np.ndarray, "z"]] = {}

    def begin(self, env: MetaTaskVectorEnv, seen: Seen) -> None:
        """Begin a lifetime in every environment."""
        self._env = env
        largest = max(task.n_states * (2 if task.flag_rules else 1) for task in env.tasks)
        self._policy: Int[np.ndarray, "num_envs z"] = np.zeros((env.num_envs, largest), dtype=np.int64)
        self._value = np.full(env.lives.value.shape, np.nan)
        self._walls = env.lives.walls.copy()

    def act(self) -> Actions:
        """Return the next action in every environment."""
        lives = self._env.lives
        changed = (self._value != lives.value).any(1) | (self._walls != lives.walls).any(1)
        if changed.any():
            self._plan(np.flatnonzero(changed))
        self._value[:], self._walls[:] = lives.value, lives.walls
        sizes = np.array([task.n_states for task in self._env.tasks])[self._env.task_of]
        has_flag = np.array([bool(task.flag_rules) for task in self._env.tasks])[self._env.task_of]
        z = lives.state + sizes * lives.flag * has_flag
        chosen: Actions = self._policy[np.arange(len(z)), z]
        return chosen

    def _plan(self, rows: Int[np.ndarray, "rows"]) -> None:
        env = self._env
        for number, task in enumerate(env.tasks):
            mine = rows[env.task_of[rows] == number]
            instances = {int(row): env.instance(int(row)) for row in mine}
            places = {row: (task, one.states, one.actions, one.probs, one.walls) for row, one in instances.items()}
            new = {place: instances[row] for row, place in places.items() if place not in self._known}
            entries = task.n_actions * (task.n_states * (2 if task.flag_rules else 1)) ** 2
            chunk = max(1, 4_000_000 // entries)
            for first in range(0, len(new), chunk):
                part = list(new.items())[first : first + chunk]
                best = optimal(model(task, [instance for _, instance in part]), self.gamma).argmax(2)
                self._known |= dict(zip((place for place, _ in part), best, strict=True))
            for row, place in places.items():
                policy = self._known[place]
                self._policy[row, : len(policy)] = policy
            if len(self._known) > 100_000:
                self._known.clear()

    def learn(self, actions: Actions, rewards: Rewards, seen: Seen) -> None:
        """Do nothing with what it is told: it knows."""


class BayesFilterAgent:
    """Infers the instance, what the variable stimuli mean, the state and the flag, and acts on what it believes.

    The posterior over instances, meanings of the stimuli that were seen, and z is exact where the instances can be
    enumerated: predicted with the transitions, multiplied by the likelihood of stimulus and reward. "qmdp" takes the
    action with the largest mean of the optimal values under the posterior, as if all would be known after the next
    step; "thompson" draws an instance and a meaning at the start of every trial, and acts as if they were true.

    Args:
        task: The task.
        mode: How the posterior is acted on: "qmdp" or "thompson".
        gamma: Discount for each step.
        points: Values that stand for a uniform probability: the midpoints of as many equal intervals.
        generator: The source of randomness of "thompson", and of ties.

    Raises:
        ValueError: The task's instances cannot be enumerated: it has random mazes, or too many variables; or its
            stimuli change within a lifetime, or may be equal.

    Source: QMDP is from Littman, Cassandra and Kaelbling, "Learning policies for partially observable environments"
    (1995); posterior sampling from Thompson (1933).

    Examples:
        >>> from engram.tasks.meta import named
        >>> task = named.harlow("simultaneous")
        >>> lives = play(MetaTaskVectorEnv(task, 500), BayesFilterAgent(task), seed=0)
        >>> lives.rewards[:, 3:].sum(1).mean().item()  # five trials after the first
        5.0
    """

    _MOST = 6561

    def __init__(
        self,
        task: MetaTask,
        mode: str = "qmdp",
        *,
        gamma: float = 0.95,
        points: int = 9,
        generator: np.random.Generator | None = None,
    ) -> None:
        check_int("points", points, 1)
        if mode not in ("qmdp", "thompson"):
            raise ValueError(f"mode = {mode!r}: expected 'qmdp' or 'thompson'")
        if task.topology is not None and task.topology.walls == "random_maze":
            raise ValueError("task.topology.walls = 'random_maze': expected instances that can be enumerated")
        if task.stim.hazard:
            raise ValueError(f"task.stim.hazard = {task.stim.hazard}: expected 0")
        if task.n_stim_vars and task.stim.kind == "binary" and not task.stim.distinct:
            raise ValueError("task.stim.distinct = False: expected stimuli that can be told apart")
        if task.n_stim_vars > 6:
            raise ValueError(f"task.n_stim_vars = {task.n_stim_vars}: expected at most 6")
        shares = [(i + 0.5) / points for i in range(points)]
        self.instances, complete = enumerate_instances(task, shares, most=self._MOST)
        if not complete:
            raise ValueError(f"task: expected at most {self._MOST} instances, with points = {points}")
        self.task, self.mode = task, mode
        self.generator = np.random.default_rng(0) if generator is None else generator
        self._model = model(task, self.instances)
        self._Q = optimal(self._model, gamma)
        self._changes = _changes(task, self.instances)
        self._meanings = np.array(list(itertools.permutations(range(task.n_stim_vars))), dtype=np.int64)
        self._joint: dict[tuple[int, float], Float[np.ndarray, "instances z z"]] = {}
        self._views = _views(task)
        code = program([task])
        self._fixed = code.fixed[0, : task.n_fixed, : task.stim.size]
        # What each state shows, by part: a fixed stimulus from 0, -1 nothing, -2 - k variable stimulus k.
        self._shown = np.array(
            [[-2 - one.index if isinstance(one, StimVar) else one for one in task.parts_of(s)]
             for s in range(task.n_states)]
        )  # fmt: skip

    def begin(self, env: MetaTaskVectorEnv, seen: Seen) -> None:
        """Begin a lifetime in every environment.

        Raises:
            ValueError: The environments are not all of the task.
        """
        if env.tasks != (self.task,):
            raise ValueError("env.tasks: expected the agent's task only")
        count, Z = env.num_envs, self._model.start.shape[1]
        # The variable stimuli that were seen, in this order.
        self._met = np.zeros((count, self.task.n_stim_vars, self.task.stim.size), dtype=np.float32)
        self._n_met = np.zeros(count, dtype=np.int64)
        start = np.broadcast_to(self._model.start[None, :, None], (count, len(self.instances), len(self._meanings), Z))
        self.belief: Float[np.ndarray, "num_envs instances meanings z"] = start / start[0].sum()
        self._drawn = np.zeros((count, 2), dtype=np.int64)
        self._begins = np.ones(count, dtype=bool)
        self._look(seen)

    def act(self) -> Actions:
        """Return the next action in every environment."""
        if self.mode == "thompson":
            self._draw(np.flatnonzero(self._begins))
            rows = np.arange(len(self.belief))
            at = self.belief[rows, self._drawn[:, 0], self._drawn[:, 1]]
            # What was drawn may have been refuted since the trial began.
            gone = at.sum(1) <= 0
            if gone.any():
                self._draw(np.flatnonzero(gone))
                at = self.belief[rows, self._drawn[:, 0], self._drawn[:, 1]]
            values = np.einsum("bz,bza->ba", at, self._Q[self._drawn[:, 0]])
        else:
            values = np.einsum("biz,iza->ba", self.belief.sum(2), self._Q)
        ties = values >= values.max(1, keepdims=True) - 1e-9 * np.abs(values).max(1, keepdims=True)
        chosen: Actions = (ties * self.generator.random(values.shape)).argmax(1)
        return chosen

    def learn(self, actions: Actions, rewards: Rewards, seen: Seen) -> None:
        """Update the posterior with what was done, what it gave, and what is seen now."""
        S = self.task.n_states
        after = np.empty_like(self.belief)
        pairs = np.stack([actions, rewards], 1)
        for action, reward in np.unique(pairs, axis=0):
            rows = np.flatnonzero((actions == action) & (rewards == reward))
            step = self._outcome(int(action), float(reward))
            before = self.belief[rows].transpose(1, 0, 2, 3)
            count = before.shape[1:3]
            moved = before.reshape(len(step), -1, before.shape[3]) @ step
            after[rows] = moved.reshape(len(step), *count, -1).transpose(1, 0, 2, 3)
        if self._changes is not None:
            after[..., 0] = np.einsum("bim,ij->bjm", after[..., 0], self._changes)
        self.belief = after
        self._look(seen)
        self._begins = (
            self.belief[..., ::S].sum((1, 2, 3)) > 0.5 if self.task.topology is None else np.asarray(rewards) != 0
        )

    def _draw(self, rows: Int[np.ndarray, "rows"]) -> None:
        """Draw an instance and a meaning from the posterior."""
        if not rows.size:
            return
        weights = self.belief[rows].sum(3).reshape(len(rows), -1).cumsum(1)
        place = (weights < self.generator.random((len(rows), 1)) * weights[:, -1:]).sum(1)
        self._drawn[rows] = np.stack(np.divmod(place, len(self._meanings)), 1)

    def _outcome(self, action: int, reward: float) -> Float[np.ndarray, "instances z z"]:
        """Return the probability of each successor together with the reward."""
        if (action, reward) not in self._joint:
            found = self._model
            step = found.paid[:, :, action] * (found.value[:, :, action] == reward)
            if reward == 0:
                step = step + found.unpaid[:, :, action]
            self._joint[action, reward] = step
        return self._joint[action, reward]

    def _look(self, seen: Seen) -> None:
        """Multiply the posterior by the likelihood of what is seen."""
        S, flags = self.task.n_states, self.belief.shape[3] // self.task.n_states
        if self._views is not None:  # a grid whose cells show themselves
            agrees = np.isclose(seen[:, None, :], self._views[None], atol=1e-6).all(2)
            self.belief = self.belief * np.tile(agrees, flags)[:, None, None, :]
        else:
            parts = seen.reshape(len(seen), -1, self.task.stim.size).swapaxes(0, 1)
            agree = np.ones((len(seen), len(self._meanings), S), dtype=bool)
            for part, vectors in enumerate(parts):
                agree &= self._labels(vectors)[..., None] == self._shown[:, part]
            self.belief = self.belief * np.tile(agree, flags)[:, None]
        total = self.belief.sum((1, 2, 3), keepdims=True)
        # Nothing that could be believed is left where a lifetime is over and another one has begun.
        self.belief = np.where(total > 0, self.belief / np.where(total > 0, total, 1), 1 / self.belief[0].size)

    def _labels(self, vectors: Float[np.ndarray, "num_envs size"]) -> Int[np.ndarray, "num_envs meanings"]:
        """Return what vectors are, as ``_shown`` says it; the j-th new one is variable stimulus meaning[j]."""
        label = np.where(vectors.any(1), -2, -1)
        for v, vector in enumerate(self._fixed):
            label[(vectors == vector).all(1)] = v
        count = self.task.n_stim_vars
        if not count:
            return np.broadcast_to(label[:, None], (len(vectors), 1))
        known = (vectors[:, None] == self._met).all(2) & (np.arange(count) < self._n_met[:, None])
        order = np.where(known.any(1), known.argmax(1), self._n_met)
        # One more than there are is of the lifetime after this one.
        new = np.flatnonzero((label == -2) & ~known.any(1) & (order < count))
        self._met[new, order[new]] = vectors[new]
        self._n_met[new] += 1
        variable = -2 - self._meanings[:, np.minimum(order, count - 1)].T
        return np.where(label[:, None] == -2, variable, label[:, None])


def regret(env: MetaTaskVectorEnv, lived: Lifetimes) -> Float[np.ndarray, "num_envs"]:
    """Return the regret of each lifetime of a bandit with one probability an arm, or with two dependent arms.

        sum over t of max over a of p(a) - p(a(t))

    It is that of the arms that were pulled, which varies less than that of the rewards.

    Args:
        env: The environments, in the instances that were lived in.
        lived: The lifetimes.

    Examples:
        >>> from engram.tasks.meta import named
        >>> env = MetaTaskVectorEnv(named.bandit(), 3)
        >>> regret(env, play(env, OracleAgent(), seed=0)).tolist()
        [0.0, 0.0, 0.0]
    """
    probs = [env.instance(row).probs for row in range(env.num_envs)]
    chances = np.array([(p[0], 1 - p[0]) if len(p) == 1 else p for p in probs])
    missed: Float[np.ndarray, "num_envs"] = (
        chances.max(1, keepdims=True) - np.take_along_axis(chances, lived.actions, 1)
    ).sum(1)
    return missed


class BanditAgent:
    """Pulls the arms of a Bernoulli bandit by a rule of the textbooks.

    "thompson" draws each arm's probability from its posterior under a uniform prior, and pulls the arm with the
    largest; "ucb1" pulls the arm with the largest mean + sqrt(2 ln t / n) after n pulls of it in t - 1 pulls of all,
    every arm once first; "greedy" pulls the arm with the largest posterior mean. With ``dependent`` it knows that the
    probabilities of two arms sum to one, and that a reward of one counts as none of the other.

    Args:
        rule: "thompson", "ucb1" or "greedy".
        generator: The source of randomness, of ties too.
        dependent: Whether the arms are two, with probabilities p and 1 - p.

    Raises:
        ValueError: There is no such rule.

    Source: Thompson (1933); Auer, Cesa-Bianchi and Fischer, "Finite-time analysis of the multiarmed bandit problem"
    (2002).

    Examples:
        >>> from engram.tasks.meta import named
        >>> agent = BanditAgent("thompson", np.random.default_rng(0))
        >>> bool(play(MetaTaskVectorEnv(named.bandit(), 1000), agent, seed=0).rewards.mean() > 0.6)
        True
    """

    def __init__(
        self,
        rule: str,
        generator: np.random.Generator,
        *,
        dependent: bool = False,
    ) -> None:
        if rule not in ("thompson", "ucb1", "greedy"):
            raise ValueError(f"rule = {rule!r}: expected 'thompson', 'ucb1' or 'greedy'")
        if dependent and rule == "ucb1":
            raise ValueError("dependent = True: expected False, because rule = 'ucb1'")
        self.rule, self.generator, self.dependent = rule, generator, dependent

    def begin(self, env: MetaTaskVectorEnv, seen: Seen) -> None:
        """Begin a lifetime in every environment.

        Raises:
            ValueError: The task is no bandit, or has not two arms although these are dependent.
        """
        if any(task.n_states != 1 for task in env.tasks):
            raise ValueError("env.tasks: expected bandits, which have one state")
        arms = env.tasks[0].n_actions
        if self.dependent and arms != 2:
            raise ValueError(f"dependent = True: expected 2 arms, found {arms}")
        self._won = np.zeros((env.num_envs, arms))
        self._lost = np.zeros((env.num_envs, arms))

    def act(self) -> Actions:
        """Return the next action in every environment."""
        won, lost = self._won, self._lost
        if self.dependent:
            won, lost = won + lost[:, ::-1], lost + won[:, ::-1]
        if self.rule == "ucb1":
            pulls = won + lost
            t = pulls.sum(1, keepdims=True) + 1
            n = np.maximum(pulls, 1)
            index = np.where(pulls == 0, np.inf, won / n + np.sqrt(2 * np.log(t) / n))
        elif self.rule == "greedy":
            index = (won + 1) / (won + lost + 2)
        elif self.dependent:
            first = self.generator.beta(won[:, 0] + 1, lost[:, 0] + 1)
            index = np.stack([first, 1 - first], 1)
        else:
            index = self.generator.beta(won + 1, lost + 1)
        ties = index >= index.max(1, keepdims=True) - 1e-12
        chosen: Actions = (ties * self.generator.random(index.shape)).argmax(1)
        return chosen

    def learn(self, actions: Actions, rewards: Rewards, seen: Seen) -> None:
        """Count what was won and lost."""
        rows = np.arange(len(actions))
        self._won[rows, actions] += rewards > 0
        self._lost[rows, actions] += rewards <= 0


def _views(task: MetaTask) -> Float[np.ndarray, "states features"] | None:
    """Return what each cell shows, where that is not a stimulus; None where it is."""
    grid = task.topology
    if grid is None or grid.obs in ("stimuli", "none"):
        return None
    row, column = np.divmod(np.arange(grid.n_cells), grid.width)
    if grid.obs == "position":
        return np.eye(grid.n_cells)
    if grid.obs == "coordinates":
        return np.stack([row / max(grid.height - 1, 1), column / max(grid.width - 1, 1)], 1)
    around = grid.window // 2
    walls = np.pad(grid.wall_map().reshape(grid.height, grid.width), around, constant_values=True)
    windows = np.lib.stride_tricks.sliding_window_view(walls, (grid.window, grid.window))
    return windows.reshape(grid.n_cells, -1).astype(float)


def _changes(task: MetaTask, instances: tuple[Any, ...]) -> Float[np.ndarray, "instances instances"] | None:
    """Return the probability that one instance becomes another at the start of a trial; None if none ever does.

    Raises:
        ValueError: Variables that change are tied to each other, or on a grid.
    """
    volatile: list[Any] = [*task.state_vars, *task.action_vars, *task.prob_vars]
    if not any(one.hazard for one in volatile) and not any(one.drift for one in task.prob_vars):
        return None
    if task.topology is not None:
        raise ValueError("task.topology: expected None, because variables have a hazard or a drift")
    if any(one.distinct_from is not None for one in task.state_vars):
        raise ValueError("task.state_vars: expected none that is distinct from another, because variables change")
    columns: list[tuple[list[Any], float, Any]] = []
    for k, state in enumerate(task.state_vars):
        columns.append(([one.states[k] for one in instances], state.hazard, None))
    first = 0
    for group in task.action_vars:
        columns.append(([one.actions[first : first + group.width] for one in instances], group.hazard, None))
        first += group.width
    for k, prob in enumerate(task.prob_vars):
        columns.append(([one.probs[k] for one in instances], prob.hazard, prob if prob.drift else None))
    whole = np.ones((len(instances), len(instances)))
    for values, hazard, drifting in columns:
        different = sorted(set(values))
        place = np.array([different.index(value) for value in values])
        n = len(different)
        kernel = np.eye(n)
        if drifting is not None:
            kernel = _drift(np.array(different), drifting.low, drifting.high, drifting.drift)
        elif n > 1 and hazard:
            kernel = (1 - hazard) * np.eye(n) + hazard * (1 - np.eye(n)) / (n - 1)
        whole *= kernel[np.ix_(place, place)]
    return whole


def _drift(
    values: Float[np.ndarray, "points"], low: float, high: float, drift: float
) -> Float[np.ndarray, "points points"]:
    """Return the probability of each interval after a reflected step, from the midpoint of each."""
    edges = np.concatenate([[low], (values[1:] + values[:-1]) / 2, [high]])
    span = 2 * (high - low)
    reach = 1 + math.ceil(6 * drift / span)

    def below(x: Any) -> Any:
        return 0.5 * (1 + np.vectorize(math.erf)((x - values[:, None]) / (drift * math.sqrt(2))))

    kernel = np.zeros((len(values), len(values)))
    for k in range(-reach, reach + 1):
        forth, back = edges + k * span, 2 * low - edges + k * span
        kernel += below(forth[1:]) - below(forth[:-1]) + below(back[:-1]) - below(back[1:])
    shares: Float[np.ndarray, "points points"] = kernel / kernel.sum(1, keepdims=True)
    return shares
