"""The contract of a curiosity: it pays finite bonuses for valid steps, and is determined by its inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from engram.agents.bonuses import CheckedBonus
from engram.testing.promises import alike, check_maker, hold, no_global_draws, stored

Make = Callable[..., CheckedBonus]

_ENVS, _ROLLOUTS, _STEPS, _PLACES = 3, 6, 12, 4
_SHAPES = ((5,), (2, 3, 3))


def check_curiosity(curiosity_class: Callable[..., Any], **options: Any) -> None:
    """Check a curiosity, which is an ``ExplorationBonus``, against its contract, on noisy visits to four places.

    It can be made for observations of any shape and any number of environments. Its bonuses are finite numbers of at
    least 0, one for each step, and a learning step returns such a number. Observations in masked steps change nothing.
    It is determined by its generator and its inputs: no global generator is used, curiosities in the same process do
    not influence each other, and observations and masks are neither changed nor relied on later. A new curiosity that
    loads the ``state_dict``, with a generator in the same state, continues bit for bit. The checks call it through
    ``CheckedBonus``, which refuses bad input by an error that names it.

    Args:
        curiosity_class: The class, or another callable that makes the curiosity: called as
            ``curiosity_class(obs_shape, num_envs, generator=..., **options)``.
        **options: Further options of its constructor, to check a variant.

    Raises:
        AssertionError: A promise is broken; the message says which.

    Examples:
        >>> from engram.agents import HashCounts
        >>> check_curiosity(HashCounts)
    """
    check_maker("curiosity_class", curiosity_class)

    def make(obs_shape: tuple[int, ...] = _SHAPES[0], num_envs: int = _ENVS, *, draws: torch.Generator) -> CheckedBonus:
        return CheckedBonus(lambda *given, **more: curiosity_class(*given, **more, **options), obs_shape, num_envs,
                            generator=draws)  # fmt: skip

    checks = [
        _is_an_exploration_bonus,
        _pays_finite_numbers,
        _is_determined_by_its_generator,
        _ignores_masked_steps,
        _does_not_change_its_input,
        _copies_its_input,
        _is_independent_of_others,
        _resumes_from_a_stored_state,
    ]
    hold(curiosity_class, checks, make)


class _Rollout(NamedTuple):
    """The steps of a rollout."""

    obs: Tensor
    done: Tensor
    valid: Tensor
    envs: np.ndarray  # some environments in another order, for the second learning step


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _rollouts(seed: int = 5, obs_shape: tuple[int, ...] = _SHAPES[0], num_envs: int = _ENVS) -> list[_Rollout]:
    """Noisy visits to four places; a tenth of the steps do not count."""
    draws = _seeded(seed)
    places = torch.randn(_PLACES, *obs_shape, generator=draws)
    rollouts = []
    for _ in range(_ROLLOUTS):
        obs = places[torch.randint(_PLACES, (_STEPS, num_envs), generator=draws)]
        obs += 0.05 * torch.randn(obs.shape, generator=draws)
        done = torch.rand(_STEPS, num_envs, generator=draws) < 0.1
        done[0] = False
        rollouts.append(_Rollout(obs, done, ~done, np.arange(num_envs)[::-2].copy()))
    return rollouts


def _lived(bonus: CheckedBonus, rollouts: list[_Rollout]) -> Iterator[list[Any]]:
    """The bonuses for each rollout, and the return values of two learning steps."""
    for obs, done, valid, envs in rollouts:
        rewards = bonus.bonus(obs, done).clone()
        yield [rewards, bonus.update(obs, valid), bonus.update(obs[:, envs], valid[:, envs], envs)]


def _is_an_exploration_bonus(make: Make) -> None:
    """It is made from a shape, a number of environments and a generator, and has ``bonus``, ``update`` and a state."""
    for obs_shape in _SHAPES:
        for num_envs in (1, _ENVS):
            make(obs_shape, num_envs, draws=_seeded(0))


def _pays_finite_numbers(make: Make) -> None:
    """It pays finite numbers of at least 0, one for each step, and a learning step returns a finite number."""
    for obs_shape in _SHAPES:
        for num_envs in (1, _ENVS):
            list(_lived(make(obs_shape, num_envs, draws=_seeded(0)), _rollouts(5, obs_shape, num_envs)))


def _is_determined_by_its_generator(make: Make) -> None:
    """The same generator and the same rollouts lead to the same bonuses, and no global generator is used."""
    with no_global_draws():
        first, second = (list(_lived(make(draws=_seeded(0)), _rollouts())) for _ in range(2))
    assert alike(first, second), "two curiosities that were made alike pay different bonuses"


def _ignores_masked_steps(make: Make) -> None:
    """Observations in masked steps change nothing."""
    plain, altered = _rollouts(), _rollouts()
    for rollout in altered:
        rollout.obs[rollout.done] = 3.0
    lives = (list(_lived(make(draws=_seeded(0)), rollouts)) for rollouts in (plain, altered))
    assert alike(*lives), "other observations in masked steps change what it pays or learns"


def _does_not_change_its_input(make: Make) -> None:
    """It changes neither observations nor masks."""
    rollouts = _rollouts()
    list(_lived(make(draws=_seeded(0)), rollouts))
    assert alike(rollouts, _rollouts()), "its input was changed in place"


def _copies_its_input(make: Make) -> None:
    """It keeps copies of observations, since the next rollout may be written into the same tensor."""
    plain = list(_lived(make(draws=_seeded(0)), _rollouts()))
    rollouts, reused = _rollouts(), []
    for number, of_rollout in enumerate(_lived(make(draws=_seeded(0)), rollouts)):
        reused.append(of_rollout)
        rollouts[number].obs.fill_(7.0)
    assert alike(plain, reused), "it relies on a tensor that was overwritten later"


def _is_independent_of_others(make: Make) -> None:
    """Curiosities in the same process do not influence each other."""
    bonuses_alone = list(_lived(make(draws=_seeded(0)), _rollouts()))
    lives = (_lived(make(draws=_seeded(seed)), _rollouts(5 + seed)) for seed in range(2))
    bonuses_together = [first for first, _ in zip(*lives, strict=True)]
    assert alike(bonuses_alone, bonuses_together), "a curiosity pays different bonuses if another one runs next to it"


def _resumes_from_a_stored_state(make: Make) -> None:
    """A new curiosity that loads the ``state_dict`` from a file, with the generator's state, continues bit for bit."""
    draws, other_draws, rollouts = _seeded(0), _seeded(1), _rollouts()
    bonus, resumed = make(draws=draws), make(draws=other_draws)
    list(_lived(bonus, rollouts[: _ROLLOUTS // 2]))
    resumed.load_state_dict(stored(bonus.state_dict()))
    other_draws.set_state(draws.get_state())
    lives = (list(_lived(each, rollouts[_ROLLOUTS // 2 :])) for each in (bonus, resumed))
    assert alike(*lives), "the continuation differs"
