"""Online agents compared on bandits, random meta-tasks, mazes and cart-poles.

Every agent starts from the same seed and is judged by the mean return of all episodes of its lifetime, including the
early ones in which it knows nothing. In some tasks the environment changes with every episode, so only what is learned
within an episode helps; in one, the actuators are swapped halfway. Each agent's learning rate is chosen by the return
of another agent, with another seed, over half a lifetime; 0 is among the candidates, for tasks in which learning does
not help. The experiment, its tasks and its criteria are ours.
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
from engram import references, registry
from engram.agents import REFUSALS, OnlineAgent, play_episode
from engram.analysis import environment_difficulty
from engram.lab import (
    Experiment,
    Grid,
    Lines,
    Points,
    Preset,
    Quantity,
    Run,
    Study,
    Task,
    claims_from,
    metric,
    setting,
    settings,
)
from engram.tasks.meta import MetaTaskEnv, sample

TaskName = Literal["bandit", "two-step", "t-maze", "meta-tasks", "grid-maze", "i-maze", "cartpole", "exchanged"]
FACTORS = (0.0, 0.1, 0.3, 1.0, 3.0)  # candidate learning rates, as multiples of the agent's default
LARGEST = 1.0  # learning rate
USUAL = 1e-3  # the default learning rate of agents that declare none
TERMINAL = {"mfec", "nec", "lstm", "plastic", "modulated"}  # take a truncation for an end, as their papers do
PARTS = 20  # parts of a lifetime for which returns are logged


class World(NamedTuple):
    """The world of a task for agents.

    Attributes:
        title: A short title.
        env: The id of the environment; empty for a random meta-task, a new one for each seed.
        best: The return of an agent that knows the episode's environment; None if unknown.
        chance: The return of random actions; None if unknown.
        margin: The smallest difference of returns that matters.
    """

    title: str
    env: str
    best: float | None
    chance: float | None
    margin: float


TASKS: dict[TaskName, World] = {
    "bandit": World("a two-armed bandit", "engram/Bandit-v0", 200 / 3, 50.0, 1.0),
    "two-step": World("the two-step task", "engram/TwoStep-v0", 41.0, 25.0, 0.5),
    "t-maze": World("a T-maze whose better arm differs between lifetimes", "engram/TMaze-v0", 33.0, 18.15, 0.5),
    "meta-tasks": World("random meta-tasks, a new one in each lifetime", "", None, None, 1.0),
    "grid-maze": World("a maze with a hidden reward", "engram/GridMaze-v0", None, None, 2.0),
    "i-maze": World("a maze of dead ends and one goal", "engram/IMaze-v0", 1.0, None, 0.05),
    "cartpole": World("a pole to be kept up", "CartPole-v1", 500.0, None, 5.0),
    "exchanged": World("a pole whose actuators are swapped", "CartPole-v1", 500.0, None, 5.0),
}


class Exchanged(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment whose two actions are swapped after a number of steps."""

    def __init__(self, env: gymnasium.Env[Any, Any], after: int) -> None:
        super().__init__(env)
        self.left = after

    def step(self, action: Any) -> Any:
        """Take a step, with the actions swapped in the second half."""
        self.left -= 1
        return self.env.step(action if self.left >= 0 else 1 - action)


@settings
class Config:
    """The settings of a trial."""

    agent: str = setting("random", "a registered agent, or a reference such as file.py:Name")
    task: TaskName = setting("bandit", "the task")
    rates: tuple[float, ...] = setting((), "candidate learning rates, extended if needed; empty if the agent has none")
    steps: int = setting(5000, "steps of a lifetime; the last episode is completed", ge=100)

    def __post_init__(self) -> None:
        registry.check("agents", self.agent, "agent")


def world_of(task: TaskName, steps: int, seed: int = 0) -> gymnasium.Env[Any, Any]:
    """The environment of a task, for a lifetime of ``steps`` steps; the seed determines the meta-task.

    Args:
        task: The name of the task.
        steps: Length of the lifetime in steps.
        seed: Seed of the meta-task; the other tasks are the same for all seeds.
    """
    assert engram.tasks  # importing it registers the environments
    if task == "meta-tasks":
        return MetaTaskEnv(sample(np.random.default_rng(seed)))
    env = gymnasium.make(TASKS[task].env, disable_env_checker=True)
    return Exchanged(env, steps // 2) if task == "exchanged" else env


def agent_of(agent: str, env: gymnasium.Env[Any, Any], seed: int, rate: float | None) -> OnlineAgent:
    """A new agent for an environment, with the given learning rate unless that is None.

    Args:
        agent: The registered name of the agent.
        env: The environment, whose spaces the agent gets.
        seed: Seed of the agent.
        rate: The learning rate; None: the agent's default.
    """
    options: dict[str, Any] = {} if rate is None else {"learning_rate": rate}
    if agent in TERMINAL:
        options["truncation"] = "terminal"
    make = registry.get("agents", agent)
    new_agent: OnlineAgent = make(env.observation_space, env.action_space, rng=np.random.default_rng(seed), **options)
    return new_agent


class Life(NamedTuple):
    """The sums of episode returns and the numbers of episodes, by the part of the lifetime in which they ended."""

    totals: Float[np.ndarray, "parts"]
    counts: Float[np.ndarray, "parts"]


def live(config: Config, length: int, seed: int, rate: float | None) -> Life:
    """The returns of a new agent in a lifetime of at least ``length`` steps; the last episode is completed.

    Args:
        config: The settings.
        length: Least number of steps of the lifetime.
        seed: Seed of the agent and of the environment.
        rate: The learning rate; None: the agent's default.
    """
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
    """Run an agent for a lifetime; the results are its mean return over all episodes and over the last quarter."""
    seed, rate = int(run.rng.integers(2**31)), None

    def score(rate: float) -> float:
        life = live(config, config.steps // 2, seed + 1, rate)
        return float(life.totals.sum() / life.counts.sum())

    if config.rates:
        rate = run.choose("learning_rate", config.rates, score, bounds=(0.0, LARGEST))
    totals, counts = np.zeros(PARTS), np.zeros(PARTS)
    for _ in run.steps(1, totals=totals, counts=counts):
        totals[:], counts[:] = live(config, config.steps, seed, rate)
    for part in np.flatnonzero(counts):
        run.log((int(part) + 1) * config.steps // PARTS, **{"return": totals[part] / counts[part]})
    late, best = slice(PARTS * 3 // 4, None), TASKS[config.task].best
    mean, mean_late = (float(totals[span].sum() / counts[span].sum()) for span in (slice(None), late))
    return {"return": mean, "late_return": mean_late} | ({} if best is None else {"regret": best - mean})


@references.cached
def fits(agent: str, task: TaskName, rate: float | None = None) -> bool:
    """Whether an agent can be made for a task, with the given learning rate unless that is None.

    Args:
        agent: The registered name of the agent.
        task: The name of the task.
        rate: The learning rate; None: the agent's default.
    """
    try:
        agent_of(agent, world_of(task, 1), 0, rate)
    except REFUSALS:
        return False
    return True


@references.cached
def rates_of(agent: str) -> tuple[float, ...]:
    """The candidate learning rates of an agent, at most 1; empty if it has no learning rate."""
    parameters = inspect.signature(registry.get("agents", agent)).parameters
    if "learning_rate" not in parameters:
        return ()
    default = parameters["learning_rate"].default
    rates = (factor * (default if isinstance(default, float) else USUAL) for factor in FACTORS)
    return tuple(dict.fromkeys(min(rate, LARGEST) for rate in rates))


def changes_of(agent: str, task: TaskName) -> dict[str, Any] | None:
    """The settings of the arm of an agent on a task; None if the agent does not fit it."""
    if not fits(agent, task):
        return None
    rates = tuple(rate for rate in rates_of(agent) if rate or fits(agent, task, rate))  # not all agents take 0
    return {"agent": agent, "task": task, "rates": rates}


def arms() -> dict[str, dict[str, Any]]:
    """The arms of all registered agents on all tasks that they fit."""
    pairs = [(task, agent) for task in TASKS for agent in registry.names("agents")]
    return {f"{task}-{agent}": changes for task, agent in pairs if (changes := changes_of(agent, task)) is not None}


def step_of(config: Config) -> Callable[[], object]:
    """A function to be timed, which takes a step in the environment and learns from it."""
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
    """The base-2 logarithm of the bits of inductive bias needed to balance a pole, estimated from random actions."""
    return float(environment_difficulty(gymnasium.make("CartPole-v1"), steps=2000).difficulty.log2_bits)


gained = metric("return")
claim = claims_from("ours")
claims = [
    claim("a-table-finds-the-better-arm", "Q-learning finds the better of two arms anew in each episode: its return is "
        "above that of random actions", gained("bandit-tabular-q") - gained("bandit-random") >= 3.0),
    claim("a-table-adapts-in-two-steps", "In the two-step task the return of Q-learning is above that of random "
        "actions",
        gained("two-step-tabular-q") - gained("two-step-random") >= 5.0),
    claim("a-table-learns-random-tasks", "In random meta-tasks, a new one in each lifetime, the return of Q-learning "
        "is above that of random actions", gained("meta-tasks-tabular-q") - gained("meta-tasks-random") >= 1.0),
    claim("episodes-before-a-table", "Episodic control keeps a pole up longer than Q-learning (ratio)",
        gained("cartpole-mfec") / gained("cartpole-tabular-q") >= 1.15),
    claim("networks-find-the-goal", "In a maze of dead ends an online LSTM reaches the goal more often than Q-learning",
        gained("i-maze-lstm") - gained("i-maze-tabular-q") >= 0.3),
]  # fmt: skip
quantities = [
    Quantity(
        "pole-mfec-over-lstm",
        "Time that episodic control keeps a pole up over that of an online LSTM (ratio)",
        gained("cartpole-mfec") / gained("cartpole-lstm"),
    ),
    Quantity(
        "return-after-exchange",
        "Return of episodic control with swapped actuators over that without (ratio)",
        gained("exchanged-mfec") / gained("cartpole-mfec"),
    ),
]
tasks = [
    Task(
        "agents",
        world.title,
        f"{name}-{{}}".format,
        partial(changes_of, task=name),
        "return",
        margin=world.margin,
        chance=world.chance,
        trivial="random",
        bits=bits_of_pole if world.env == "CartPole-v1" else None,
        costs={"in the last quarter": "late_return"} | ({} if world.best is None else {"regret": "regret"}),
        step=step_of,
    )
    for name, world in TASKS.items()
]


def figure(results: Any) -> Any:
    """Returns over the lifetime and their means, with a row for each task."""
    panels: list[Any] = []
    for task in dict.fromkeys(results.configs[arm].task for arm in results.arms):
        names = [arm for arm in results.arms if results.configs[arm].task == task]
        title = TASKS[task].title
        panels += [Lines("return", title, arms=names), Points("return", "over the whole lifetime", arms=names)]
    return Grid(panels, title="Returns of agents", height=130 * len(panels))(results)


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
        "large": Preset(seeds=10, changes={"steps": 50_000}),
    },
    claims=claims,
    quantities=quantities,
    figure=figure,
    headline="return",
    tasks=tasks,
    answer="""Within a lifetime of 5,000 steps, tabular Q-learning finds the better of two arms anew in each episode
    {a-table-finds-the-better-arm}, adapts in the two-step task {a-table-adapts-in-two-steps} and learns random
    meta-tasks {a-table-learns-random-tasks}. Episodic control keeps a pole up twice as long as Q-learning
    {episodes-before-a-table} and {pole-mfec-over-lstm:0.0} times as long as an online LSTM, but
    {return-after-exchange:0 %} of this is left when actuators are swapped. In a maze of dead ends the LSTM finds the
    goal in half of the episodes, a table hardly ever {networks-find-the-goal}. So begin with a table, and use an
    episodic memory if there are many states.""",
)
