"""Evolution strategy with antithetic pairs, whose gradient estimate a torch optimiser applies."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from engram import checks
from engram.nn.parameter_hooks import run_accumulated_hooks, through_hooks
from engram.numeric.rounding import are_equal
from engram.optim.strategy import Shaping, Strategy, shaped
from engram.state import Axes, form_of


class AntitheticES(Strategy):
    r"""Evolution strategy with antithetic pairs over the parameters of any module.

    Individual h of a population of B has the parameters theta + eps_h, individual h + B/2 has theta - eps_h, with
    eps_h ~ N(0, sigma^2). Their losses F estimate the gradient of the expected loss,

        G = 1 / (B sigma^2) sum_h eps_h (F_h - F_{h+B/2})

    in double precision, which the optimiser then applies.

    Args:
        params: The parameters theta, changed in place by ``tell`` alone: individuals that are written into
            a module to be evaluated need a copy of it.
        sigma: Standard deviation of the mutations, above 0.
        optimizer: An optimiser of the same parameters, or a function that makes one from them, such as
            ``torch.optim.SGD``. None: Adam with learning rate 0.01 and weight decay 3e-4, as published.
        population_size: Number B of individuals, even, at least 4.
        shaping: ``"rank"``, ``"zscore"`` or None, as ``shaped`` defines them.
        include_mean: Leave the first pair unmutated, so that its loss is the loss of theta; the pair counts towards B.
        generator: Source of all randomness, on the CPU; None: a generator of seed 0.

    Attributes:
        generation: Number of generations so far.
        best, best_loss: The best individual of all generations, a tensor for each parameter, and its loss; None and
            infinity before the first ``tell``.

    Raises:
        TypeError: A parameter is not a tensor, or ``optimizer`` has the wrong type.
        ValueError: An argument is out of range, or the optimiser does not have the same parameters.

    Source: Salimans et al., "Evolution strategies as a scalable alternative to reinforcement learning" (2017); without
    shaping and with Adam, Miconi (2023). The antithetic pairs: Geweke (1988).

    Examples:
        >>> es = AntitheticES([torch.ones(3)], sigma=0.1, population_size=10)
        >>> es.tell(loss=es.ask()[0].square().sum(1))
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        sigma: float = 0.03,
        optimizer: Optimizer | Callable[[list[Tensor]], Optimizer] | None = None,
        *,
        population_size: int = 100,
        shaping: Shaping | None = None,
        include_mean: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        checks.arguments()
        super().__init__(params, sigma, generator)
        if population_size < 4 or population_size % 2:
            raise ValueError(f"population_size = {population_size}: expected an even number of at least 4")
        checks.choice("shaping", shaping, (None, "rank", "zscore"))
        if optimizer is None:
            optimizer = torch.optim.Adam(self.params, lr=0.01, weight_decay=3e-4)
        elif not isinstance(optimizer, Optimizer):
            if not callable(optimizer):
                raise TypeError(f"optimizer = {optimizer!r}: expected a torch optimiser, or a function returning one")
            optimizer = optimizer(self.params)
        optimized = {id(param) for group in optimizer.param_groups for param in group["params"]}
        if optimized != {id(param) for param in self.params}:
            raise ValueError("optimizer: expected an optimiser of the same parameters as params")
        self.sigma, self.optimizer, self.shaping, self.include_mean = sigma, optimizer, shaping, include_mean
        self.population_size = population_size
        self.generation = 0
        self._theta: list[Tensor] | None = None  # the parameters when the population was drawn; None if it was loaded

    @torch.no_grad()
    def ask(self) -> list[Float[Tensor, "population *shape"]]:
        """Draw a population: for each parameter a tensor of all individuals, first theta + eps, then theta - eps."""
        half = self.population_size // 2
        self._asked, self._theta = [], [param.detach().clone() for param in self.params]
        for param in self.params:
            mutation = torch.randn(half, *param.shape, generator=self.generator, dtype=torch.float32).mul_(self.sigma)
            if self.include_mean:
                mutation[0] = 0
            self._asked.append(mutation.to(param))
        pairs = zip(self.params, self._asked, strict=True)
        return [torch.cat((param + mutation, param - mutation)) for param, mutation in pairs]

    def _check_asked(self) -> None:
        super()._check_asked()
        for index, (param, theta) in enumerate(zip(self.params, self._theta or self.params, strict=True)):
            if not torch.equal(param, theta):  # to which the mutations would be added
                expected = "expected individuals to be evaluated elsewhere, as in a copy of the module"
                raise RuntimeError(f"params[{index}] has changed since ask: {expected}")

    @torch.no_grad()
    def _learn(self, losses: Float[Tensor, " population"]) -> None:
        # Their differences are rounding errors, of which some optimisers make full steps.
        values = torch.zeros_like(losses) if are_equal(losses.numpy()) else shaped(losses, self.shaping)
        half = self.population_size // 2
        difference = (values[:half] - values[half:]) / (self.population_size * self.sigma**2)
        params, gradients = {str(index): param for index, param in enumerate(self.params)}, {}
        for (name, param), mutation in zip(params.items(), self._asked, strict=True):
            gradient = difference.to(param.device) @ mutation.double().reshape(half, param.numel())
            gradients[name] = gradient.reshape(param.shape).to(param)
        for name, gradient in through_hooks(params, gradients).items():
            params[name].grad = gradient
        run_accumulated_hooks(self.params)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.generation += 1
        self._theta = None

    def _individual(self, index: int) -> list[Tensor]:
        half = self.population_size // 2
        sign = 1 if index < half else -1
        mutations = [mutation[index % half] for mutation in self._asked]
        return [param.detach() + sign * mutation for param, mutation in zip(self.params, mutations, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """The state without the parameters, also between ``ask`` and ``tell``."""
        optimizer = copy.deepcopy(self.optimizer.state_dict())
        return {**super().state_dict(), "optimizer": optimizer, "generation": self.generation}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a ``state_dict``, bit for bit; the parameters have to be loaded separately."""
        super().load_state_dict(state)
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.generation, self._theta = state["generation"], None
        if self._asked is not None:
            self._asked = [mutation.to(param) for mutation, param in zip(self._asked, self.params, strict=True)]

    def _form(self) -> dict[str, Any]:
        return super()._form() | {"optimizer": form_of(self.optimizer)}

    def _population_form(self) -> list[Axes]:
        return [Axes((self.population_size // 2, *param.shape), param) for param in self.params]
