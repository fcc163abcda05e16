"""What all strategies of evolution share: parameters, a population that is asked for and told of, and its state."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from engram.optim.fitness import checked_loss


class Strategy:
    """A strategy over the parameters of any module; each says what it asks for and how it learns.

    Args:
        params: The parameters, changed in place by ``tell``.
        sigma: Standard deviation of the first mutations.
        generator: Source of all randomness, on the CPU; None: one of its own with seed 0.

    Raises:
        TypeError: A parameter is no tensor.
        ValueError: ``sigma`` is not positive, or there is no parameter.
    """

    population_size: int

    def __init__(self, params: Iterable[Tensor], sigma: float, generator: torch.Generator | None) -> None:
        self.params = _checked(params)
        if not 0 < sigma < math.inf:
            raise ValueError(f"sigma = {sigma}: expected a positive number")
        self.generator = torch.Generator().manual_seed(0) if generator is None else generator
        self._asked: Any = None

    def tell(self, fitness: Any = None, *, loss: Any = None) -> None:
        """Learn from what became of the population, and move the parameters.

        Args:
            fitness: Fitness of each individual, (population_size,), to be maximised.
            loss: Instead of it, the loss of each, to be minimised. A number that is not finite is replaced by the worst
                one that is, with a warning.

        Raises:
            RuntimeError: There is no population: ``ask`` was not called since.
            TypeError: Neither or both are given.
            ValueError: Not one number for each individual, or none of them is finite.
        """
        if self._asked is None:
            raise RuntimeError("tell was called without a population: call ask before")
        self._learn(checked_loss(fitness, loss, self.population_size))
        self._asked = None

    def _learn(self, losses: Float[Tensor, " population"]) -> None:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Return all but the parameters, also between ``ask`` and ``tell``: an exact copy goes on from it."""
        return {"generator": self.generator.get_state(), "asked": copy.deepcopy(self._asked)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a ``state_dict``; the parameters are loaded by whoever has them."""
        self.generator.set_state(state["generator"])
        self._asked = copy.deepcopy(state["asked"])


def _checked(params: Iterable[Tensor]) -> list[Tensor]:
    """Return the parameters as a list, if they are floating-point tensors and there is one at least."""
    found = [params] if isinstance(params, Tensor) else list(params)
    for place, param in enumerate(found):
        if not isinstance(param, Tensor):
            raise TypeError(f"params[{place}] is a {type(param).__name__}: expected a tensor")
        if not param.is_floating_point() or not param.is_leaf:
            raise ValueError(f"params[{place}]: expected a floating-point tensor that is no result of others")
    if not found:
        raise ValueError("params = []: expected at least one tensor")
    return found
