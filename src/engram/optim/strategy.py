"""Evolution strategies by ask and tell: the parameters, the population in flight, and their state."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from engram import checks
from engram.optim.fitness import checked_loss


class Strategy:
    """An evolution strategy over the parameters of any module; a subclass defines ``ask`` and ``_learn``.

    Args:
        params: The parameters, changed in place by ``tell``.
        sigma: Standard deviation of the first mutations, above 0.
        generator: Source of all randomness, on the CPU; None: one of its own with seed 0.
    """

    population_size: int

    def __init__(self, params: Iterable[Tensor], sigma: float, generator: torch.Generator | None) -> None:
        self.params = [params] if isinstance(params, Tensor) else list(params)
        for place, param in enumerate(self.params):
            checks.instance(f"params[{place}]", param, Tensor)
            if not param.is_floating_point() or not param.is_leaf:
                raise ValueError(f"params[{place}]: expected a floating-point tensor that is no result of others")
        if not self.params:
            raise ValueError("params = []: expected at least one tensor")
        checks.number("sigma", sigma, above=0)
        self.generator = torch.Generator().manual_seed(0) if generator is None else generator
        self._asked: Any = None

    def tell(self, fitness: Any = None, *, loss: Any = None) -> None:
        """Update the parameters by the fitness of each individual, to be maximised, or by its loss, to be minimised.

        A number that is not finite is replaced by the worst finite one, with a warning.

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
        """Return all but the parameters, also between ``ask`` and ``tell``."""
        return {"generator": self.generator.get_state(), "asked": copy.deepcopy(self._asked)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a ``state_dict``, bit for bit; the parameters have to be loaded elsewhere."""
        self.generator.set_state(state["generator"])
        self._asked = copy.deepcopy(state["asked"])
