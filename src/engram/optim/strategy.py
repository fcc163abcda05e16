"""The common part of evolution strategies with ask and tell: parameters, pending population, state and losses."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from engram import checks
from engram.numeric.rounding import are_equal, levelled
from engram.state import Axes, Maybe, check_state

Shaping = Literal["rank", "zscore"]


class Strategy:
    """An evolution strategy over the parameters of any module.

    A subclass defines ``ask``, ``_learn`` and ``_individual``.

    Args:
        params: The parameters, changed in place by ``tell``.
        sigma: Standard deviation of the first mutations, above 0.
        generator: Source of all randomness, on the CPU; None: a generator of seed 0.

    Attributes:
        best: The individual with the lowest loss of all generations, a tensor for each parameter; None before the
            first ``tell``. If the loss is noisy, it may only have been lucky.
        best_loss: Its loss, or minus its fitness; infinity before the first ``tell``.
    """

    population_size: int

    __repr__ = checks.described

    def __init__(self, params: Iterable[Tensor], sigma: float, generator: torch.Generator | None) -> None:
        checks.arguments()
        self.params = [params] if isinstance(params, Tensor) else list(params)
        for index, param in enumerate(self.params):
            checks.instance(f"params[{index}]", param, Tensor)
            if not param.is_floating_point() or not param.is_leaf:
                raise ValueError(f"params[{index}]: expected a floating-point leaf tensor, not the result of others")
            first = next(i for i, other in enumerate(self.params) if other is param)
            if first < index:  # it would move twice, or to the last of its two individuals
                raise ValueError(f"params[{index}] is the same tensor as params[{first}]: expected each once")
        if not self.params:
            raise ValueError("params = []: expected at least one tensor")
        checks.number("sigma", sigma, above=0)
        self.generator = torch.Generator().manual_seed(0) if generator is None else generator
        self._asked: Any = None
        self.best: list[Tensor] | None = None
        self.best_loss = math.inf

    def tell(self, fitness: Any = None, *, loss: Any = None) -> None:
        """Update the parameters from the fitness of each individual, to be maximised, or its loss, to be minimised.

        A number that is not finite is replaced by the worst finite one, with a warning; such an individual never
        becomes ``best``.

        Args:
            fitness: A number for each individual, to be maximised; None if ``loss`` is given.
            loss: A number for each individual, to be minimised; None if ``fitness`` is given.

        Raises:
            RuntimeError: ``ask`` was not called since the last ``tell``; or, with ``AntitheticES``, the parameters were
                changed in between.
            TypeError: Neither or both of fitness and loss are given.
            ValueError: There is not one number for each individual, or no number is finite.
        """
        self._check_asked()
        measured = measured_loss(fitness, loss, self.population_size, others="ranked last")
        candidates = torch.where(measured.isfinite(), measured, math.inf)
        if (lowest := float(candidates.min())) < self.best_loss:
            with torch.no_grad():
                self.best, self.best_loss = self._individual(int(candidates.argmin())), lowest
        self._learn(_ranked_last(measured))
        self._asked = None

    def _check_asked(self) -> None:
        """Raise RuntimeError unless a population is pending."""
        if self._asked is None:
            raise RuntimeError("tell was called without a population: call ask before")

    def _learn(self, losses: Float[Tensor, " population"]) -> None:
        raise NotImplementedError

    def _individual(self, index: int) -> list[Tensor]:
        """A copy of one individual of the pending population."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """The state without the parameters, also between ``ask`` and ``tell``."""
        pending = {"asked": copy.deepcopy(self._asked)}
        best = {"best": copy.deepcopy(self.best), "best_loss": self.best_loss}
        return {"generator": self.generator.get_state(), **pending, **best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a ``state_dict``, bit for bit; the parameters have to be loaded separately."""
        checks.arguments()
        check_state(state, self._form())
        self._restore(state)

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Take over a state that has been checked."""
        self.generator.set_state(state["generator"])
        self._asked, self.best_loss = copy.deepcopy(state["asked"]), state["best_loss"]
        self.best = state["best"]
        if self.best is not None:
            self.best = [tensor.to(param, copy=True) for tensor, param in zip(self.best, self.params, strict=True)]

    def _form(self) -> dict[str, Any]:
        best = [Axes(tuple(param.shape), Tensor) for param in self.params]
        return self.state_dict() | {"asked": Maybe(self._population_form()), "best": Maybe(best)}

    def _population_form(self) -> Any:
        raise NotImplementedError


def checked_loss(fitness: Any, loss: Any, population_size: int) -> Float[Tensor, "population"]:
    """Losses, or negated fitness, in double precision; numbers that are not finite become the worst finite one.

    Args:
        fitness: A number for each individual, to be maximised; None if ``loss`` is given.
        loss: A number for each individual, to be minimised; None if ``fitness`` is given.
        population_size: Number of individuals.

    Raises:
        TypeError: Neither or both of fitness and loss are given.
        ValueError: There is not one number for each individual, or no number is finite.

    Examples:
        >>> checked_loss([1.0, 2.0], None, 2)
        tensor([-1., -2.], dtype=torch.float64)
    """
    checks.size("population_size", population_size)
    return _ranked_last(measured_loss(fitness, loss, population_size, others="ranked last", stacklevel=4))


def _ranked_last(losses: Float[Tensor, "population"]) -> Float[Tensor, "population"]:
    """Losses with the worst finite one in place of those that are not finite."""
    finite = losses.isfinite()
    return losses if finite.all() else torch.where(finite, losses, losses[finite].max())


def measured_loss(
    fitness: Any, loss: Any, population_size: int, *, others: str, stacklevel: int = 3
) -> Float[Tensor, "population"]:
    """Losses, or negated fitness, in double precision, with a warning about those that are not finite.

    Args:
        fitness: A number for each individual, to be maximised; None if ``loss`` is given.
        loss: A number for each individual, to be minimised; None if ``fitness`` is given.
        population_size: Number of individuals.
        others: Treatment of individuals without a finite number, for the warning.
        stacklevel: The caller that the warning names, counted as in ``warnings.warn``.

    Raises:
        TypeError: Neither or both of fitness and loss are given.
        ValueError: There is not one number for each individual, or no number is finite.
    """
    if (fitness is None) == (loss is None):
        raise TypeError("expected either fitness, to be maximised, or loss, to be minimised")
    name, numbers = ("fitness", fitness) if loss is None else ("loss", loss)
    with checks.noted(**{name: numbers}):
        values = torch.as_tensor(checks.as_array(numbers), dtype=torch.float64)
    if values.shape != (population_size,):
        raise ValueError(f"{name}.shape = {tuple(values.shape)}: expected ({population_size},), the population's")
    values = -values if name == "fitness" else values
    finite = values.isfinite()
    if not finite.any():
        raise ValueError(f"{name}: expected finite numbers, but none of {population_size} individuals has one")
    if finite.all():
        return values
    not_finite = (~finite).nonzero()[:, 0].tolist()
    individuals = ", ".join(map(str, not_finite[:10])) + (", ..." if len(not_finite) > 10 else "")
    message = f"{name} is not finite for {len(not_finite)} of {population_size} individuals ({individuals}): {others}"
    warnings.warn(message, RuntimeWarning, stacklevel=stacklevel)
    return values


def shaped(loss: Float[Tensor, "population"], shaping: Shaping | None) -> Float[Tensor, "population"]:
    """Losses transformed so that their scale does not matter.

    Args:
        loss: Loss of each individual.
        shaping: ``"rank"``: ranks from -0.5 (best) to 0.5 (worst); losses that are equal up to rounding get their mean
            rank. ``"zscore"``: minus the mean, divided by the standard deviation; zero if all are equal up to rounding.
            None: unchanged.

    Source: centred ranks: Salimans et al., "Evolution strategies as a scalable alternative to reinforcement learning"
    (2017), section 2.1.

    Examples:
        >>> shaped(torch.tensor([5.0, -100.0, 1.0]), "rank")
        tensor([ 0.5000, -0.5000,  0.0000], dtype=torch.float64)
    """
    checks.arguments()
    if shaping is None:
        return loss.double()
    if shaping == "rank":
        from scipy import stats  # takes most of a second to import, and no worker that evaluates needs it

        return (torch.from_numpy(stats.rankdata(levelled(loss.numpy()))) - 1) / max(len(loss) - 1, 1) - 0.5
    values = loss.double()
    spread = values.std(correction=0)
    return torch.zeros_like(values) if spread == 0 or are_equal(loss.numpy()) else (values - values.mean()) / spread
