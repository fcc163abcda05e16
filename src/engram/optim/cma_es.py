"""CMA-ES by ask and tell over the parameters of any module, computed by the package ``cmaes``."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from cmaes import CMA, SepCMA
from jaxtyping import Float
from torch import Tensor

from engram.optim.strategy import Strategy

LARGEST = 2000  # parameters whose covariance is still kept in full: it costs their number to the third power


class CMAES(Strategy):
    """Covariance matrix adaptation over the parameters of any module, called as ``AntitheticES`` is.

    The mean of the search distribution N(m, s^2 C) is the parameters; how it, the step size s and the covariance C
    follow from the order of the losses is the work of the package ``cmaes``.

    Args:
        params: The parameters, changed in place by ``tell``.
        sigma: Initial step size s.
        population_size: Individuals of a generation, at least 4; None: 4 + 3 log(number of parameters).
        diagonal: Keep only the diagonal of C, as one must with more than 2000 parameters.
        generator: Source of all randomness, on the CPU; None: one of its own with seed 0.

    Attributes:
        generation: How many generations were told.

    Raises:
        TypeError: A parameter is no tensor.
        ValueError: ``sigma`` or ``population_size`` is out of range, there is no parameter, or there are too many.

    Source: Hansen, "The CMA evolution strategy: a tutorial" (2016); with ``diagonal``, Ros and Hansen (2008).

    Examples:
        >>> theta = torch.ones(3)
        >>> es = CMAES([theta], sigma=0.3, generator=torch.Generator().manual_seed(0))
        >>> for _ in range(50):
        ...     (population,) = es.ask()
        ...     es.tell(loss=population.square().sum(1))
        >>> bool(theta.abs().max() < 0.01)
        True
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        sigma: float = 0.03,
        *,
        population_size: int | None = None,
        diagonal: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(params, sigma, generator)
        if population_size is not None and population_size < 4:
            raise ValueError(f"population_size = {population_size}: expected at least 4")
        mean = torch.cat([param.detach().cpu().double().flatten() for param in self.params]).numpy()
        if len(mean) > LARGEST and not diagonal:
            raise ValueError(f"params hold {len(mean)} numbers: expected at most {LARGEST}, unless diagonal = True")
        if len(mean) < 2:
            raise ValueError(f"params hold {len(mean)} numbers: expected at least 2")
        self._cma = (SepCMA if diagonal else CMA)(mean, sigma, population_size=population_size, seed=0)
        self.population_size = self._cma.population_size

    @property
    def generation(self) -> int:
        """How many generations were told."""
        return int(self._cma.generation)

    def ask(self) -> list[Float[Tensor, "population *shape"]]:
        """Draw a population; one that was asked for before and never told is forgotten.

        Returns:
            For each parameter those of all individuals, (population_size, *shape).
        """
        # Its generator is seeded anew each time, so that ours is all the randomness there is.
        self._cma.reseed_rng(int(torch.randint(2**31, (), generator=self.generator)))
        self._asked = np.stack([self._cma.ask() for _ in range(self.population_size)])
        return self._split(torch.from_numpy(self._asked))

    def _learn(self, losses: Float[Tensor, " population"]) -> None:
        self._cma.tell(list(zip(self._asked, losses.tolist(), strict=True)))
        self._move_to_the_mean()

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes, also between ``ask`` and ``tell``: an exact copy goes on from it."""
        # All of what `cmaes` keeps but its generator, which is seeded anew before every use.
        kept = {name: copy.deepcopy(value) for name, value in vars(self._cma).items() if name != "_rng"}
        return {**super().state_dict(), "cma": kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a ``state_dict``; the parameters become the mean that it holds."""
        super().load_state_dict(state)
        vars(self._cma).update(copy.deepcopy(state["cma"]))
        self._move_to_the_mean()

    @torch.no_grad()
    def _move_to_the_mean(self) -> None:
        for param, mean in zip(self.params, self._split(torch.from_numpy(self._cma.mean)[None]), strict=True):
            param.copy_(mean[0])

    def _split(self, rows: Tensor) -> list[Tensor]:
        parts = torch.split(rows, [param.numel() for param in self.params], dim=1)
        return [
            part.reshape(len(rows), *param.shape).to(param, copy=True)
            for part, param in zip(parts, self.params, strict=True)
        ]
