"""Agents that learn while they live, side by side: arms that pay at random, random meta-tasks, mazes, tipping poles.

Every agent lives alone, from the same seed on, and is judged by the mean return of all episodes of its life, those in
which it knew nothing included. The worlds of some tasks are others in each episode, so that only what is found out
within it helps; that of one changes its actuators at half time. An agent that has a learning rate has the one at which
another, of another seed, got the highest return in half a life; a rate of 0 is among the candidates, for where learning
does not help. The experiment, its tasks and its criteria are ours.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Literal, NamedTuple

import gymnasium
import numpy as np
from jaxtyping import Float

import engram.tasks
from engram import registry
from engram.agents import OnlineAgent, play_episode
from engram.analysis import environment_difficulty
from engram.lab import (
    Contest,
    Experiment,
    Grid,
    Lines,
    Points,
    Preset,
    Run,
    Study,
    claims_from,
    metric,
    setting,
    settings,
)
from engram.tasks.meta import MetaTaskEnv, sample

TaskName = Literal["bandit", "two-step", "t-maze", "meta-tasks", "grid-maze", "i-maze", "cartpole", "exchanged"]
FACTORS = (0.0, 0.1, 0.3, 1.0, 3.0)  # times an agent's default are the learning rates to choose from
USUAL = 1e-3  # where it has none
PARTS = 20  # of a life, whose returns are logged


class Task(NamedTuple):
    """What agents have to do.

    Attributes:
        title: In a few words.
        world: The id of the environment; empty: a random meta-task, another one for each seed.
        best: The return of who knows everything of an episode's world; None: not known.
        chance: That of actions at random; None: not known.
        margin: The smallest difference of returns that matters.
    """

    title: str
    world: str
    best: float | None
    chance: float | None
    margin: float


TASKS: dict[TaskName, Task] = {
    "bandit": Task("two arms that pay at random", "engram/Bandit-v0", 200 / 3, 50.0, 1.0),
    "two-step": Task("choices in two steps", "engram/TwoStep-v0", 41.0, 25.0, 0.5),
    "t-maze": Task("a T-maze whose better end is another in each life", "engram/TMaze-v0", 33.0, 18.15, 0.5),
    "meta-tasks": Task("random meta-tasks, each life another one", "", None, None, 1.0),
    "grid-maze": Task("a maze with a hidden reward", "engram/GridMaze-v0", None, None, 2.0),
    "i-maze": Task("a maze of dead ends and one goal", "engram/IMaze-v0", 1.0, None, 0.05),
    "cartpole": Task("a pole to be kept up", "CartPole-v1", 500.0, None, 5.0),
    "exchanged": Task("a pole by actuators that change places", "CartPole-v1", 500.0, None, 5.0),
}


class Exchanged(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment whose two actions change places after so many steps."""

    def __init__(self, env: gymnasium.Env[Any, Any], after: int) -> None:
        super().__init__(env)
        self.left = after

    def step(self, action: Any) -> Any:
        """Act; the other way round in the second half."""
        self.left -= 1
        return self.env.step(action if self.left >= 0 else 1 - action)


@settings
class Config:
    """What one trial is made of."""

    agent: str = setting("random", "a registered agent, or where it is")
    task: TaskName = setting("bandit", "what it has to do")
    rates: tuple[float, ...] = setting((), "learning rates to choose from, and beyond; empty: it has none")
    steps: int = setting(5000, "steps of a life; the last episode is lived to its end", ge=100, scales=True)

    def __post_init__(self) -> None:
        registry.check("agents", self.agent, "agent")


def world_of(task: TaskName, steps: int, seed: int = 0) -> gymnasium.Env[Any, Any]:
    """The environment of a task, for a life of so many steps; the seed draws which meta-task it is."""
    assert engram.tasks  # which registers the environments
    if task == "meta-tasks":
        return MetaTaskEnv(sample(np.random.default_rng(seed)))
    env = gymnasium.make(TASKS[task].world, disable_env_checker=True)
    return Exchanged(env, steps // 2) if task == "exchanged" else env


def agent_of(agent: str, env: gymnasium.Env[Any, Any], seed: int, rate: float | None) -> OnlineAgent:
    """A new agent for an environment, with a learning rate unless that is None."""
    options = {} if rate is None else {"learning_rate": rate}
    make = registry.get("agents", agent)
    made: OnlineAgent = make(env.observation_space, env.action_space, rng=np.random.default_rng(seed), **options)
    return made


class Life(NamedTuple):
    """The sums of the returns of episodes and their numbers, by the part of the life in which they ended."""

    totals: Float[np.ndarray, "parts"]
    counts: Float[np.ndarray, "parts"]


def lived(config: Config, length: int, seed: int, rate: float | None) -> Life:
    """The life of a new agent, of so many steps, and those that its last episode takes besides."""
    env = world_of(config.task, length, seed)
    agent, life, steps = agent_of(config.agent, env, seed, rate), Life(np.zeros(PARTS), np.zeros(PARTS)), 0
    while steps < length:
        episode = play_episode(env, agent, None if steps else seed)
        steps += episode.length
        part = min(steps * PARTS // length, PARTS - 1)
        life.totals[part] += episode.total
        life.counts[part] += 1
    return life


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Let an agent live; the result is the mean return of its episodes, and of those in the last quarter."""
    first, rate = int(run.rng.integers(2**31)), None

    def score(rate: float) -> float:
        life = lived(config, config.steps // 2, first + 1, rate)
        return float(life.totals.sum() / life.counts.sum())

    if config.rates:
        rate = run.choose("learning_rate", config.rates, score, bounds=(0.0, 1.0))
    totals, counts = np.zeros(PARTS), np.zeros(PARTS)
    for _ in run.steps(1, totals=totals, counts=counts):
        totals[:], counts[:] = lived(config, config.steps, first, rate)
    for part in np.flatnonzero(counts):
        run.log((int(part) + 1) * config.steps // PARTS, **{"return": totals[part] / counts[part]})
    late, best = slice(PARTS * 3 // 4, None), TASKS[config.task].best
    mean, mean_late = (float(totals[some].sum() / counts[some].sum()) for some in (slice(None), late))
    return {"return": mean, "late_return": mean_late} | ({} if best is None else {"regret": best - mean})


@cache
def fits(agent: str, task: TaskName, rate: float | None = None) -> bool:
    """Whether an agent can be made for a task, with a learning rate unless that is None."""
    try:
        agent_of(agent, world_of(task, 1), 0, rate)
    except (AssertionError, TypeError, ValueError):  # the first is how some libraries refuse
        return False
    return True


@cache
def rates_of(agent: str) -> tuple[float, ...]:
    """The learning rates that an agent may choose from; none where it has none."""
    parameters = inspect.signature(registry.get("agents", agent)).parameters
    if "learning_rate" not in parameters:
        return ()
    default = parameters["learning_rate"].default
    return tuple(factor * (default if isinstance(default, float) else USUAL) for factor in FACTORS)


def arm_of(agent: str, task: TaskName) -> dict[str, dict[str, Any]]:
    """The arm of an agent in a task; none where it does not fit."""
    if not fits(agent, task):
        return {}
    rates = tuple(rate for rate in rates_of(agent) if rate or fits(agent, task, rate))  # not all agents take 0
    return {f"{task}-{agent}": {"agent": agent, "task": task, "rates": rates}}


def arms() -> dict[str, dict[str, Any]]:
    """Each registered agent in each task that it fits."""
    every = (arm_of(agent, task) for task in TASKS for agent in registry.names("agents"))
    return {arm: own for of_agent in every for arm, own in of_agent.items()}


def step_of(config: Config) -> Callable[[], object]:
    """A step in the world, from which the agent learns, as often as one likes: to be timed."""
    env = world_of(config.task, config.steps)
    agent = agent_of(config.agent, env, 0, config.rates[len(config.rates) // 2] if config.rates else None)
    state = {"observation": env.reset(seed=0)[0]}

    def step() -> None:
        observation, reward, terminated, truncated, _ = env.step(agent.act(state["observation"]))
        agent.observe(float(reward), terminated, truncated, observation)
        agent.learn()
        state["observation"] = env.reset()[0] if terminated or truncated else observation

    return step


@cache
def bits_of_pole() -> float:
    """The logarithm to base 2 of the bits of inductive bias that it takes to act on what random actions lead to."""
    return float(environment_difficulty(gymnasium.make("CartPole-v1"), steps=2000).difficulty.log2_bits)


gained = metric("return")
claim = claims_from("ours")
claims = [
    claim("a-table-finds-the-better-arm", "Q-learning finds the better of two arms anew in each episode: it gets more "
        "than actions at random", gained("bandit-tabular-q") - gained("bandit-random") >= 3.0),
    claim("a-table-adapts-in-two-steps", "In choices of two steps Q-learning gets more than actions at random",
        gained("two-step-tabular-q") - gained("two-step-random") >= 5.0),
    claim("a-table-learns-random-tasks", "In random meta-tasks, another one in each life, Q-learning gets more than "
        "actions at random", gained("meta-tasks-tabular-q") - gained("meta-tasks-random") >= 1.0),
    claim("episodes-before-a-table", "A pole is kept up longer by episodic control than by Q-learning (ratio)",
        gained("cartpole-mfec") / gained("cartpole-tabular-q") >= 1.15),
    claim("networks-are-slow", "A pole is kept up longer by episodic control than by an online LSTM (ratio)",
        gained("cartpole-mfec") / gained("cartpole-lstm") >= 1.5),
    claim("networks-find-the-goal", "In a maze of dead ends an online LSTM reaches the goal more often than Q-learning",
        gained("i-maze-lstm") - gained("i-maze-tabular-q") >= 0.3),
    claim("exchanged-actuators-cost", "Actuators that change places cost episodic control a part of its return (ratio)",
        gained("exchanged-mfec") / gained("cartpole-mfec") <= 0.9),
]  # fmt: skip
contests = [
    Contest(
        "agents",
        task.title,
        partial(arm_of, task=name),
        "return",
        margin=task.margin,
        chance=task.chance,
        trivial="random",
        bits=bits_of_pole if task.world == "CartPole-v1" else None,
        costs={"in the last quarter": "late_return"} | ({} if task.best is None else {"regret": "regret"}),
        step=step_of,
    )
    for name, task in TASKS.items()
]


def figure(results: Any) -> Any:
    """Returns over the life, and means over it, a row for each task."""
    panels: list[Any] = []
    for task in dict.fromkeys(results.configs[arm].task for arm in results.arms):
        names = [arm for arm in results.arms if results.configs[arm].task == task]
        title = TASKS[task].title
        panels += [Lines("return", title, arms=names), Points("return", "over the whole life", arms=names)]
    return Grid(panels, title="Returns of agents")(results)


experiment = Experiment(
    name="agents",
    about=__doc__,
    paper="No paper: agents of engram in worlds of engram and Gymnasium",
    studies=Study(trial, arms),
    presets={
        "smoke": Preset(
            seeds=1,
            changes={"steps": 100},
            arms=["bandit-random", "t-maze-lstm", "i-maze-mfec", "exchanged-tabular-q"],
        ),
        "laptop": Preset(seeds=5),
        "paper": Preset(seeds=10, changes={"steps": 50_000}),
    },
    claims=claims,
    figure=figure,
    headline="return",
    contests=contests,
)
