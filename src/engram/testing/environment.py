"""The contract of an environment: Gymnasium's own, and that a batch equals its single environments."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import Env, spaces
from gymnasium.error import DependencyNotInstalled
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.utils.passive_env_checker import env_render_passive_checker
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate

from engram.testing.promises import hold, no_global_draws

_EPISODE_STEPS = 20  # so short that several episodes end
_SEED = 123
_ADVICE = "probably too low|probably too high|recommend using a symmetric and normalized"


class _Step(NamedTuple):
    """The return values of a step; ``final`` has the last observations, by row, of episodes that SAME_STEP reset."""

    observations: Any
    rewards: Any
    terminations: Any
    truncations: Any
    final: Any


def check_environment(env_id: str, *, shared_generator: bool = False, steps: int = 100) -> None:
    """Check a registered environment against the contracts of Gymnasium and of batches.

    The environment passes Gymnasium's ``check_env`` without warnings, but for advice on the bounds of its spaces,
    renders in every mode that it names, and refuses actions outside its space. Batches of ``gymnasium.make_vec``, with
    one or several environments, stepped in turn or by a ``vector_entry_point``, return values in their spaces, are
    reproducible for the same seed and actions, draw from no global generator, and equal single environments in every
    step and frame, also across the ends of episodes as their ``autoreset_mode`` defines them: environment i of a batch
    seeded s is the single environment seeded s + i.

    Args:
        env_id: The id for ``gymnasium.make``.
        shared_generator: An exemption for a ``vector_entry_point`` that draws for all environments from one generator:
            batches of several environments are then not compared with single ones; instead, actions in one environment
            must not affect another.
        steps: Steps of each trajectory; a registered limit on the length of episodes is shortened to 20.

    Raises:
        TypeError: ``env_id`` is not a string.

    Examples:
        >>> check_environment("MountainCar-v0")
    """
    if not isinstance(env_id, str):
        raise TypeError(f"env_id = {env_id!r}: expected the id of a registered environment")
    spec = gymnasium.spec(env_id)
    hold(env_id, [_passes_gymnasium, _renders, _refuses_bad_actions], env_id)
    for mode in ["sync"] + ["vector_entry_point"] * (spec.vector_entry_point is not None):
        for num_envs in (1, 3):
            shared = shared_generator and mode == "vector_entry_point" and num_envs > 1
            checks = [
                _has_the_spaces_of_a_batch,
                _returns_values_in_its_spaces,
                _draws_from_no_global_generator,
                _is_reproducible,
                _steps_environments_independently if shared else _equals_single_environments,
                _refuses_bad_batches,
                *([] if shared else [_renders_each]),
            ]
            hold(f"{env_id} ({mode}, num_envs={num_envs})", checks, _Case(env_id, mode, num_envs, steps))


def _limit(env_id: str) -> dict[str, Any]:
    longest = gymnasium.spec(env_id).max_episode_steps
    return {} if longest is None else {"max_episode_steps": min(longest, _EPISODE_STEPS)}


def _single(env_id: str) -> Env[Any, Any]:
    return gymnasium.make(env_id, disable_env_checker=True, **_limit(env_id))


@dataclass(frozen=True)
class _Case:
    env_id: str
    mode: str
    num_envs: int
    steps: int

    def make(self, more: int = 0) -> VectorEnv[Any, Any, Any]:
        """Make the batch, or one with more environments."""
        count, limit = self.num_envs + more, _limit(self.env_id)
        return gymnasium.make_vec(self.env_id, count, vectorization_mode=self.mode, **limit)

    @cached_property
    def actions(self) -> list[Any]:
        """Random actions, the same each time."""
        return _actions(self.make(), self.steps)

    @cached_property
    def trajectory(self) -> list[_Step]:
        """The trajectory of these actions in a new batch."""
        return deepcopy(list(_run(self.make(), self.actions)))


def _together(space: spaces.Space[Any], rows: Sequence[Any]) -> Any:
    """One observation or action of each environment, as a batch."""
    empty: Any = create_empty_array(space, len(rows))
    return deepcopy(concatenate(space, rows, empty))


def _actions(batch: VectorEnv[Any, Any, Any], steps: int, seed: int = 0) -> list[Any]:
    batch.action_space.seed(seed)
    return [batch.action_space.sample() for _ in range(steps)]


def _run(batch: VectorEnv[Any, Any, Any], actions: Sequence[Any], seed: int = _SEED) -> Iterator[_Step]:
    """The steps of a batch: the result of ``reset``, then that of each action."""
    mode, idle = batch.metadata["autoreset_mode"], np.zeros(batch.num_envs, dtype=bool)
    observations, _ = batch.reset(seed=seed)
    yield _Step(observations, np.zeros(batch.num_envs), idle, idle, {})
    for action in actions:
        observations, rewards, terminations, truncations, infos = batch.step(action)
        done = np.logical_or(terminations, truncations)
        final: dict[int, Any] = {}
        if done.any() and mode is AutoresetMode.SAME_STEP:
            assert "final_obs" in infos, "an episode ended, but its last observation is not in infos['final_obs']"
            rows, space = np.flatnonzero(done).tolist(), batch.single_observation_space
            final = {row: _together(space, [infos["final_obs"][row]]) for row in rows}
        if done.any() and mode is AutoresetMode.DISABLED:
            observations, _ = batch.reset(options={"reset_mask": done})
        yield _Step(observations, rewards, terminations, truncations, final)


def _run_singles(case: _Case) -> list[_Step]:
    """The expected return values: those of single environments, run one after another and stacked."""
    batch, runs, steps = case.make(), [], []
    mode, space = batch.metadata["autoreset_mode"], batch.single_observation_space
    split = [list(iterate(batch.action_space, action)) for action in case.actions]
    for row in range(case.num_envs):
        environment = SyncVectorEnv([partial(_single, case.env_id)], autoreset_mode=mode)
        actions = [_together(batch.single_action_space, [action[row]]) for action in split]
        runs.append([(_first(environment, step), step) for step in _run(environment, actions, _SEED + row)])
    for rows in zip(*runs, strict=True):
        observations, singles = zip(*rows, strict=True)
        rewards, terminated, truncated = map(np.concatenate, zip(*(step[1:4] for step in singles), strict=True))
        final = {i: step.final[0] for i, step in enumerate(singles) if step.final}
        steps.append(_Step(_together(space, observations), rewards, terminated, truncated, final))
    return steps


def _first(batch: VectorEnv[Any, Any, Any], step: _Step) -> Any:
    """The observation of environment 0."""
    return next(iter(iterate(batch.observation_space, step.observations)))


def _compare(actual: Sequence[_Step], expected: Sequence[_Step]) -> None:
    for time, (step, expected_step) in enumerate(zip(actual, expected, strict=True)):
        for field in _Step._fields:
            first, second = getattr(step, field), getattr(expected_step, field)
            if field == "rewards":  # their precision may differ
                first, second = np.float64(first), np.float64(second)
            equal = data_equivalence(first, second, exact=True) or data_equivalence(first, second)
            assert equal, f"at step {time} the {field} are {first}, expected {second}"


def _passes_gymnasium(env_id: str) -> None:
    """It passes Gymnasium's ``check_env`` without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", f".*({_ADVICE})")
        check_env(gymnasium.make(env_id, disable_env_checker=True).unwrapped, skip_render_check=True)
    assert not gymnasium.spec(env_id).nondeterministic, "it is registered as nondeterministic"


def _renders(env_id: str) -> None:
    """It renders in every mode that its metadata names, and can be made with ``render_mode=None``."""
    gymnasium.make(env_id, render_mode=None, disable_env_checker=True).close()
    modes = gymnasium.make(env_id, disable_env_checker=True).metadata["render_modes"]
    for mode in set(modes) - {"human"}:  # "human" opens a window
        env = gymnasium.make(env_id, render_mode=mode, disable_env_checker=True)
        env.reset(seed=_SEED)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with suppress(DependencyNotInstalled):  # an optional extra of the environment
                env_render_passive_checker(env)
        env.close()


def _outside(space: spaces.Space[Any]) -> dict[str, Any]:
    """Actions that a space does not contain."""
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        count = space.n if isinstance(space, spaces.Discrete) else space.nvec
        return {"below the first": space.start - 1, "beyond the last": space.start + count}
    if isinstance(space, spaces.MultiBinary):
        return {"neither 0 nor 1": np.full(space.shape, 2, dtype=space.dtype)}
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return {"not a number": np.full(space.shape, np.nan, dtype=space.dtype)}
    return {"None": None}


def _refuses(step: Callable[[Any], Any], action: Any, description: str) -> None:
    try:
        step(action)
    except Exception:
        return
    raise AssertionError(f"{action!r}, {description}, was accepted as an action")


def _refuses_bad_actions(env_id: str) -> None:
    """An action outside the action space raises an error."""
    env = _single(env_id)
    space = env.action_space
    outside = _outside(space)
    if isinstance(space, spaces.Box):
        outside["of the wrong shape"] = np.zeros((*space.shape, 2), dtype=space.dtype)
    for description, action in outside.items():
        env.reset(seed=_SEED)
        _refuses(env.step, action, description)
    env.close()


def _refuses_bad_batches(case: _Case) -> None:
    """Actions outside the action space, or for the wrong number of environments, raise an error."""
    batch, wider = case.make(), case.make(more=1)
    batch.reset(seed=_SEED)
    _refuses(batch.step, _actions(wider, 1)[0], "for one environment too many")
    wider.reset(seed=_SEED)
    _refuses(wider.step, case.actions[0], "for one environment too few")
    for description, bad in _outside(batch.single_action_space).items():
        action = deepcopy(case.actions[0])
        if bad is not None and isinstance(action, np.ndarray):
            action[0] = bad
            batch.reset(seed=_SEED)
            _refuses(batch.step, action, f"{description} in environment 0")


def _renders_each(case: _Case) -> None:
    """It renders a frame for each environment, equal to the frame of the single environment."""
    for mode in set(case.make().metadata.get("render_modes", ())) - {"human"}:
        options = {"vectorization_mode": case.mode, "render_mode": mode}
        batch = gymnasium.make_vec(case.env_id, case.num_envs, **options)
        batch.reset(seed=_SEED)
        with suppress(DependencyNotInstalled):
            frames = batch.render()
            assert isinstance(frames, tuple | list), f"render_mode={mode!r} returned a {type(frames).__name__}"
            assert len(frames) == case.num_envs, f"render_mode={mode!r} returned {len(frames)} frames"
            for row, frame in enumerate(frames):
                environment = gymnasium.make(case.env_id, render_mode=mode, disable_env_checker=True)
                environment.reset(seed=_SEED + row)
                assert data_equivalence(frame, environment.render()), (
                    f"the {mode} frame of environment {row} differs from its frame alone"
                )


def _has_the_spaces_of_a_batch(case: _Case) -> None:
    """Its spaces are batches of the single environment's, and its metadata have the ``autoreset_mode``."""
    batch, single = case.make(), _single(case.env_id)
    assert batch.num_envs == case.num_envs, f"num_envs is {batch.num_envs}"
    for kind in ("observation_space", "action_space"):
        single_space, vector_space, expected = (
            getattr(batch, f"single_{kind}"),
            getattr(batch, kind),
            getattr(single, kind),
        )
        assert single_space == expected, f"its single space is {single_space}, the single environment has {expected}"
        batched = batch_space(expected, case.num_envs)
        assert vector_space == batched, f"its space is {vector_space}, expected {case.num_envs} times {single_space}"
    autoreset_mode = batch.metadata.get("autoreset_mode")
    assert isinstance(autoreset_mode, AutoresetMode), f"metadata['autoreset_mode'] is {autoreset_mode!r}"


def _returns_values_in_its_spaces(case: _Case) -> None:
    """Observations lie in its space, rewards are finite, ends are booleans, and none is overwritten later."""
    batch, returned, copies = case.make(), [], []
    for time, step in enumerate(_run(batch, case.actions)):
        assert step.observations in batch.observation_space, f"at step {time} the observations are {step.observations}"
        assert step.rewards.shape == (case.num_envs,), f"the rewards have shape {step.rewards.shape}"
        assert np.issubdtype(step.rewards.dtype, np.floating), f"the rewards are {step.rewards.dtype}"
        assert np.isfinite(step.rewards).all(), f"at step {time} the rewards are {step.rewards}"
        for name, ends in (("terminations", step.terminations), ("truncations", step.truncations)):
            assert ends.shape == (case.num_envs,), f"the {name} have shape {ends.shape}"
            assert ends.dtype == bool, f"the {name} are {ends.dtype}"
        returned.append(step)
        copies.append(deepcopy(step))
    assert data_equivalence(returned, copies, exact=True), "a later step overwrote what an earlier one returned"


def _draws_from_no_global_generator(case: _Case) -> None:
    """It draws from its own generators, and from no global one."""
    with no_global_draws():
        assert case.trajectory


def _is_reproducible(case: _Case) -> None:
    """The same seed and the same actions give the same trajectory, in the same object and in a new one."""
    batch = case.make()
    for _ in range(2):
        _compare(list(_run(batch, case.actions)), case.trajectory)


def _equals_single_environments(case: _Case) -> None:
    """Environment i of a batch seeded s is, step for step, the single environment seeded s + i."""
    _compare(case.trajectory, _run_singles(case))


def _steps_environments_independently(case: _Case) -> None:
    """Until an episode ends, actions in one environment do not affect another."""
    batch, mixed = case.make(), []
    for action_pair in zip(case.actions, _actions(batch, case.steps, seed=1), strict=True):
        (first, *_), (_, *other_actions) = (iterate(batch.action_space, actions) for actions in action_pair)
        mixed.append(_together(batch.single_action_space, [first, *other_actions]))
    for time, (plain_step, mixed_step) in enumerate(zip(case.trajectory, _run(batch, mixed), strict=True)):
        if any(step.terminations.any() or step.truncations.any() for step in (plain_step, mixed_step)):
            break
        observations = [_first(batch, step) for step in (plain_step, mixed_step)]
        assert data_equivalence(*observations), (
            f"at step {time} environment 0 observes {observations[0]} or {observations[1]}"
        )
