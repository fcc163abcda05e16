"""The contract of an agent: it acts, observes and learns step by step, in any environment that fits its spaces."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from engram.agents import REFUSALS, OnlineAgent
from engram.checks import noted
from engram.testing.promises import alike, assert_refused, check_maker, hold, no_global_draws, stored

Make = Callable[..., OnlineAgent]

_ENVIRONMENTS = ("CartPole-v1", "FrozenLake-v1", "Pendulum-v1")
_STEPS, _LIMIT = 150, 20  # steps of an agent, and of an episode at most, so that many episodes end


def check_agent(agent_class: Callable[..., OnlineAgent], **options: Any) -> None:
    """Check an agent against its contract, in Gymnasium's CartPole, FrozenLake and Pendulum.

    It can be made for at least one of them, and its constructor refuses the others by one of
    ``engram.agents.REFUSALS``. Its actions lie in the action space, also across the ends of episodes. Its behaviour
    depends only on its generator and its observations: agents in the same process do not influence each other. The
    agent does not change observations or spaces, and does not rely on their arrays later. A learning rate below 0 is
    refused. An agent with a ``state_dict`` resumes from it bit for bit.

    Args:
        agent_class: The class, or another callable that makes the agent: called as
            ``agent_class(observation_space, action_space, rng=..., **options)``.
        **options: Further options of its constructor, to check a variant.

    Raises:
        AssertionError: A promise is broken; the message says which.

    Examples:
        >>> from engram.agents import RandomActions
        >>> check_agent(RandomActions)
    """
    check_maker("agent_class", agent_class)

    def make(*args: Any, **more: Any) -> OnlineAgent:
        return agent_class(*args, **{**options, **more})

    hold(agent_class, [_fits_an_environment], make)
    has_state = all(hasattr(_new(make, _fitting(make)[0], 0), name) for name in ("state_dict", "load_state_dict"))
    checks = [
        _acts_within_the_action_space,
        _is_determined_by_its_generator,
        _does_not_change_its_input,
        _copies_observations,
        _is_independent_of_other_agents,
        *([_resumes_from_a_stored_state] if has_state else []),
        *([_refuses_a_negative_learning_rate] if "learning_rate" in inspect.signature(agent_class).parameters else []),
    ]
    hold(agent_class, checks, make)


def _environment(env_id: str) -> gymnasium.Env[Any, Any]:
    return gymnasium.make(env_id, max_episode_steps=_LIMIT, disable_env_checker=True)


def _new(make: Make, env_id: str, seed: int) -> OnlineAgent:
    env = _environment(env_id)
    return make(env.observation_space, env.action_space, rng=np.random.default_rng(seed))


def _fitting(make: Make) -> list[str]:
    """The environments that an agent fits."""
    fitting = []
    for env_id in _ENVIRONMENTS:
        try:
            _new(make, env_id, 0)
        except REFUSALS:
            continue
        fitting.append(env_id)
    return fitting


class _Step(NamedTuple):
    """One step of an agent: its observation, its action, and the outcome."""

    observation: Any
    action: Any
    reward: float


def _steps_of(env_id: str, agent: OnlineAgent, seed: int = 0, *, reuse: bool = False) -> Iterator[_Step]:
    """The steps of an agent; with ``reuse`` each observation array is overwritten once the agent has learned."""
    env = _environment(env_id)
    observation, _ = env.reset(seed=seed)
    for _ in range(_STEPS):
        observation_copy = copy.deepcopy(observation)
        with noted(environment=env_id, observation_space=env.observation_space):
            action = copy.deepcopy(agent.act(observation_copy))
            next_observation, reward, terminated, truncated, _ = env.step(action)
            next_copy = copy.deepcopy(next_observation)
            agent.observe(float(reward), terminated, truncated, next_copy)
            agent.learn()
        yield _Step(observation, action, float(reward))
        for array in (observation_copy, next_copy):
            if reuse and isinstance(array, np.ndarray):
                array[...] = 7
        observation = env.reset()[0] if terminated or truncated else next_observation


def _fits_an_environment(make: Make) -> None:
    """It can be made for CartPole, FrozenLake or Pendulum, and has ``act``, ``observe`` and ``learn``."""
    refusals = []
    for env_id in _ENVIRONMENTS:
        try:
            agent = _new(make, env_id, 0)
        except REFUSALS as error:
            refusals.append(f"{env_id}: {type(error).__name__}: {error}")
            continue
        missing = [name for name in ("act", "observe", "learn") if not callable(getattr(agent, name, None))]
        assert not missing, f"{agent!r} has no {', '.join(missing)}"
    assert len(refusals) < len(_ENVIRONMENTS), f"it fits none; {'; '.join(refusals)}"


def _acts_within_the_action_space(make: Make) -> None:
    """Each action lies in the action space, also after an episode terminated or was truncated."""
    for env_id in _fitting(make):
        env, agent = _environment(env_id), _new(make, env_id, 1)
        observation, _ = env.reset(seed=0)
        for step in range(_STEPS):
            action = agent.act(observation)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about observations that are not arrays
                is_within = action in env.action_space
            assert is_within, f"in {env_id}, step {step}, {action!r} is not in {env.action_space}"
            observation, reward, terminated, truncated, _ = env.step(action)
            agent.observe(float(reward), terminated, truncated, observation)
            agent.learn()
            if terminated or truncated:
                observation, _ = env.reset()


def _is_determined_by_its_generator(make: Make) -> None:
    """The same generator and environment lead to the same behaviour, and no global generator is used."""
    for env_id in _fitting(make):
        with no_global_draws():
            first, second = (list(_steps_of(env_id, _new(make, env_id, 1))) for _ in range(2))
        assert alike(first, second), f"two agents with the same seed behave differently in {env_id}"


def _does_not_change_its_input(make: Make) -> None:
    """It changes neither the spaces nor the observations."""
    for env_id in _fitting(make):
        env = _environment(env_id)
        agent = make(env.observation_space, env.action_space, rng=np.random.default_rng(0))
        fresh = _environment(env_id)
        assert env.observation_space == fresh.observation_space, "the observation space was changed"
        assert env.action_space == fresh.action_space, "the action space was changed"
        observation, _ = env.reset(seed=0)
        before = copy.deepcopy(observation)
        agent.act(observation)
        agent.observe(0.0, False, False, observation)
        agent.learn()
        assert alike(before, observation), "an observation was changed in place"


def _copies_observations(make: Make) -> None:
    """It keeps copies of observations, since an environment may write the next one into the same array."""
    for env_id in _fitting(make):
        plain, reused = (list(_steps_of(env_id, _new(make, env_id, 1), reuse=reuse)) for reuse in (False, True))
        assert alike(plain, reused), f"in {env_id} it relies on an array that was overwritten later"


def _is_independent_of_other_agents(make: Make) -> None:
    """Agents in the same process do not influence each other."""
    for env_id in _fitting(make):
        steps_alone = list(_steps_of(env_id, _new(make, env_id, 1)))
        lives = _steps_of(env_id, _new(make, env_id, 1)), _steps_of(env_id, _new(make, env_id, 2), seed=5)
        steps_together = [step for step, _ in zip(*lives, strict=True)]
        assert alike(steps_alone, steps_together), (
            f"in {env_id} an agent behaves differently if another one runs next to it"
        )


def _resumes_from_a_stored_state(make: Make) -> None:
    """A new agent that loads the ``state_dict`` from a file continues bit for bit, even in the middle of an episode."""
    for env_id in _fitting(make):
        agent: Any = _new(make, env_id, 1)
        resumed: Any = _new(make, env_id, 2)
        life = _steps_of(env_id, agent)
        for _ in range(2 * _LIMIT + 5):
            next(life)
        state = stored(agent.state_dict())
        resumed.load_state_dict(state)
        env = _environment(env_id)
        observation, _ = env.reset(seed=3)
        for step in range(_STEPS):
            actions = [each.act(copy.deepcopy(observation)) for each in (agent, resumed)]
            assert alike(*actions), f"in {env_id} the continuation differs at step {step}: {actions}"
            observation, reward, terminated, truncated, _ = env.step(actions[0])
            for each in (agent, resumed):
                each.observe(float(reward), terminated, truncated, copy.deepcopy(observation))
                each.learn()
            if terminated or truncated:
                observation, _ = env.reset()


def _refuses_a_negative_learning_rate(make: Make) -> None:
    """A learning rate below 0 is refused by an error that names it."""
    box, two, rng = spaces.Box(-1.0, 1.0, (4,)), spaces.Discrete(2), np.random.default_rng(0)
    if "CartPole-v1" in _fitting(make):
        assert_refused([(lambda: make(box, two, rng=rng, learning_rate=-1.0), ValueError, "(?i)learning.rate")])
