"""CMA-ES with ask and tell over the parameters of any module, computed by the package ``cmaes``."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engram import checks
from engram.numeric.rounding import are_equal
from engram.optim.strategy import Strategy
from engram.state import Axes, check_state

MAXIMUM = 2000  # parameters with a full covariance, whose cost grows with the cube of their number


class CMAES(Strategy):
    """Covariance matrix adaptation over the parameters of any module.

    The parameters are the mean m of the search distribution N(m, s^2 C); the package ``cmaes`` adapts m, the step size
    s and the covariance C to the ranking of the losses.

    Args:
        params: The parameters, changed in place by ``tell``.
        sigma: Initial step size s, above 0.
        population_size: Number of individuals in a generation, at least 4; None: 4 + 3 log(n), rounded
            down, for n numbers in all parameters.
        diagonal: Keep only the diagonal of C, as is necessary with more than 2000 parameters.
        generator: Source of all randomness, on the CPU; None: a generator of seed 0.

    Attributes:
        best, best_loss: The best individual of all generations, a tensor for each parameter, and its loss; None and
            infinity before the first ``tell``.

    Raises:
        TypeError: A parameter is not a tensor.
        ValueError: An argument is out of range, or there are too many parameters.

    Source: Hansen, "The CMA evolution strategy: a tutorial" (2016); with ``diagonal``, Ros and Hansen (2008).

    Examples:
        >>> es = CMAES([torch.ones(3)], sigma=0.3)
        >>> es.tell(loss=es.ask()[0].square().sum(1))
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
        checks.arguments()
        from cmaes import CMA, SepCMA  # imports scipy.stats, which takes half as long as torch

        super().__init__(params, sigma, generator)
        if population_size is not None:
            checks.size("population_size", population_size, 4, 10**6)
        mean = torch.cat([param.detach().cpu().double().flatten() for param in self.params]).numpy()
        if len(mean) > MAXIMUM and not diagonal:
            raise ValueError(f"params hold {len(mean)} numbers: expected at most {MAXIMUM}, unless diagonal = True")
        if not len(mean):
            raise ValueError("params hold 0 numbers: expected at least 1")
        # ``SepCMA`` refuses a single number, whose covariance is its own diagonal.
        self._cma = (SepCMA if diagonal and len(mean) > 1 else CMA)(
            mean, sigma, population_size=population_size, seed=0
        )
        self._cma._funhist_values.fill(0.0)  # uninitialised by `cmaes`: the state would differ from run to run
        self.population_size = self._cma.population_size

    @property
    def generation(self) -> int:
        """Number of generations so far."""
        return int(self._cma.generation)

    def ask(self) -> list[Float[Tensor, "population *shape"]]:
        """Draw a population: for each parameter a tensor of all individuals. A pending population is discarded."""
        # The generator of `cmaes` is seeded every time, so that ours is the only source of randomness.
        self._cma.reseed_rng(int(torch.randint(2**31, (), generator=self.generator)))
        self._asked = torch.from_numpy(np.stack([self._cma.ask() for _ in range(self.population_size)]))
        return self._split(self._asked)

    def _learn(self, losses: Float[Tensor, " population"]) -> None:
        numbers = [0.0] * len(losses) if are_equal(losses.numpy()) else losses.tolist()  # rounding would rank them
        self._cma.tell(list(zip(self._asked.numpy(), numbers, strict=True)))
        self._move_to_the_mean()

    def _individual(self, index: int) -> list[Tensor]:
        return [stack[0] for stack in self._split(self._asked[index : index + 1])]

    def state_dict(self) -> dict[str, Any]:
        """The state, also between ``ask`` and ``tell``."""
        cma = {name: _stored(value) for name, value in vars(self._cma).items() if name != "_rng"}
        return {**super().state_dict(), "cma": cma}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a ``state_dict``, bit for bit; the parameters are set to its mean.

        Args:
            state: The state that ``state_dict`` returned.

        Raises:
            TypeError, ValueError: It is not such a state, or has another population size; nothing was changed.
        """
        check_state(state, self._form())
        if (size := state["cma"]["_popsize"]) != self.population_size:
            raise ValueError(f"state['cma']['_popsize'] = {size}: expected population_size = {self.population_size}")
        self._restore(state)
        vars(self._cma).update({name: _restored(value) for name, value in state["cma"].items()})
        self._move_to_the_mean()

    def _form(self) -> dict[str, Any]:
        form = super()._form()
        any_value = dict.fromkeys(form["cma"], object)  # many are None at times
        return form | {"cma": {**any_value, "_mean": form["cma"]["_mean"]}}

    def _population_form(self) -> Axes:
        return Axes((self.population_size, len(self._cma.mean)), torch.zeros(0, dtype=torch.float64))

    @torch.no_grad()
    def _move_to_the_mean(self) -> None:
        for param, mean in zip(self.params, self._split(torch.from_numpy(self._cma.mean)[None]), strict=True):
            param.copy_(mean[0])

    def _split(self, rows: Tensor) -> list[Tensor]:
        blocks = zip(torch.split(rows, [param.numel() for param in self.params], dim=1), self.params, strict=True)
        return [block.reshape(len(rows), *param.shape).to(param, copy=True) for block, param in blocks]


def _stored(value: Any) -> Any:
    """A value of the state as ``torch.load`` takes it: arrays as tensors, numbers of NumPy as Python's."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    return value.item() if isinstance(value, np.generic) else copy.deepcopy(value)


def _restored(value: Any) -> Any:
    return value.numpy().copy() if isinstance(value, Tensor) else copy.deepcopy(value)
