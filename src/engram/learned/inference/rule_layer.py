"""A layer whose weights follow any plasticity rule with free parameters; derivatives by PyTorch's forward mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram.copying import copied
from engram.learned.inference.feed_forward import DIVERGED, Path, Rows
from engram.plasticity import PlasticityRule, TraceState
from engram.plasticity.scan import identity

NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": identity,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
}
CHUNK = 1 << 18  # numbers of the derivatives that are advanced together


class _Update(nn.Module):
    """One update as a module, whose parameters can be replaced."""

    def __init__(self, rule: PlasticityRule) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, trace: Tensor, pre: Tensor, post: Tensor, signal: Tensor) -> Tensor:
        given = signal if self.rule.modulated else None
        return self.rule.update(TraceState(trace), pre, post, given).trace


class RuleLayer:
    """A feed-forward layer whose weights follow a rule; its parameters are the coefficients.

        y(t) = f(W(t) x(t)),   W(t + 1) = rule(W(t), x(t), y(t), m(t)) where weights change, else W(t)

    Args:
        rule: The rule; it is copied.
        nonlinearity: The name of f.

    Attributes:
        names: Names of the numbers in the rule's parameters.
        start: Their values.

    Raises:
        ValueError: The rule has no parameter, has another state than its trace, or its units depend on each other.
    """

    def __init__(self, rule: PlasticityRule, nonlinearity: str) -> None:
        self.update = _Update(copied(rule).double().requires_grad_(False))
        self.f = NONLINEARITIES[nonlinearity]
        self.parameters = {name: value.detach() for name, value in self.update.named_parameters()}
        if not self.parameters:
            raise ValueError(f"family = {rule}: expected a rule with parameters that can be fitted")
        if rule.state_type is not TraceState:
            raise ValueError(f"family = {rule}: expected a rule whose only state is its trace")
        self._check_units(rule)
        self.names = tuple(
            name.removeprefix("rule.") + (f"{list(index)}" if value.dim() else "")
            for name, value in self.parameters.items()
            for index in np.ndindex(*value.shape)
        )
        self.start = np.concatenate([value.numpy().ravel() for value in self.parameters.values()])

    def _check_units(self, rule: PlasticityRule) -> None:
        """Raise unless two units change as each of them would alone."""
        generator = torch.Generator().manual_seed(0)
        shapes = (3, 2, 4), (3, 4), (3, 2), (3, 1)
        trace, pre, post, m = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
        together = self.update(trace, pre, post, m)
        for unit in range(2):
            alone = self.update(trace[:, unit : unit + 1], pre, post[:, unit : unit + 1], m)
            if not torch.allclose(together[:, unit : unit + 1], alone):
                raise ValueError(f"family = {rule}: expected a rule that treats each unit as if it were alone")

    def rule(self, theta: Float[np.ndarray, " part"]) -> PlasticityRule:
        """The rule with these coefficients."""
        rule = copied(self.update.rule)
        with torch.no_grad():
            for parameter, value in zip(rule.parameters(), self._named(torch.from_numpy(theta)).values(), strict=True):
                parameter.copy_(value)
        return rule

    @torch.no_grad()
    def run(self, theta: Float[np.ndarray, " part"], rows: Rows, *, keep_weights: bool = False) -> Path | None:
        """The activity of every row, or None if a weight exceeds 10^6; see ``feed_forward.Layer.run``.

        Args:
            theta: Coefficients.
            rows: The units.
            keep_weights: Whether to return the weights too.
        """
        activity, weights = self._run(torch.from_numpy(theta), torch.from_numpy(rows.initial), rows, keep_weights)
        if not weights[-1].abs().max() <= DIVERGED:
            return None
        return Path(activity.numpy(), weights.numpy() if keep_weights else np.zeros((0, *rows.initial.shape)))

    @torch.no_grad()
    def linearise(
        self, theta: Float[np.ndarray, " part"], rows: Rows, *, by_initial: bool
    ) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """The activity and its derivatives, for some rows at a time; see ``feed_forward.Layer.linearise``.

        Args:
            theta: Coefficients.
            rows: The units.
            by_initial: Whether the parameters include, after theta, the first weights of the row.
        """
        count, inputs = rows.initial.shape
        directions = len(theta) + by_initial * inputs
        size = max(1, CHUNK // (directions * inputs))
        of_theta = torch.eye(directions, len(theta), dtype=torch.float64)
        for begin in range(0, count, size):
            kept = slice(begin, min(begin + size, count))
            some = rows.of(kept)
            of_initial = torch.zeros(directions, *some.initial.shape, dtype=torch.float64)
            if by_initial:
                of_initial[len(theta) :] = torch.eye(inputs, dtype=torch.float64)[:, None, :]
            point = torch.from_numpy(theta), torch.from_numpy(some.initial)

            def slope(*tangents: Tensor, some: Rows = some, point: tuple[Tensor, Tensor] = point) -> Tensor:
                run = lambda t, w: self._run(t, w, some, keep_weights=False)[0]  # noqa: E731
                derivative: Tensor = torch.func.jvp(run, point, tangents)[1]
                return derivative

            J = torch.func.vmap(slope)(of_theta, of_initial)
            activity, _ = self._run(*point, some, keep_weights=False)
            yield kept, activity.numpy(), J.permute(1, 2, 0).numpy()

    def _run(self, theta: Tensor, initial: Tensor, rows: Rows, keep_weights: bool) -> tuple[Tensor, Tensor]:
        parameters = self._named(theta)
        w, activity, weights = initial[:, None, :], [], [initial]
        sequence, signal = (torch.from_numpy(part[rows.session]) for part in (rows.inputs, rows.signal))
        changes = torch.from_numpy(rows.changes[rows.session])
        for t in range(rows.inputs.shape[1]):
            x = sequence[:, t]
            y = self.f((w[:, 0] * x).sum(1))
            activity.append(y)
            changed = torch.func.functional_call(self.update, parameters, (w, x, y[:, None], signal[:, t, None]))
            w = torch.where(changes[:, t, None, None], changed, w)
            weights = [*weights, w[:, 0]] if keep_weights else [w[:, 0]]
        return torch.stack(activity, 1), torch.stack(weights)

    def _named(self, theta: Tensor) -> dict[str, Tensor]:
        sizes = [value.numel() for value in self.parameters.values()]
        parts = torch.split(theta, sizes)
        return {
            name: part.reshape(value.shape) for (name, value), part in zip(self.parameters.items(), parts, strict=True)
        }
