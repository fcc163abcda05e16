"""What a plasticity rule is: one linear recursion on the trace of every connection, told by coefficients."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from typing import Annotated, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram.plasticity.validation import check_size, check_tensor, readable


class TraceState(NamedTuple):
    """What a rule carries from step to step: one Hebbian trace per connection and episode."""

    trace: Float[Tensor, "batch post pre"]

    def detach(self) -> TraceState:
        """Return the same state cut off from the graph that made it, for truncated back-propagation."""
        return TraceState(self.trace.detach())


class Coefficients(NamedTuple):
    """The three numbers per receiving unit that tell a rule, each broadcastable to (batch, post).

    Attributes:
        keep: The share A of the trace that stays.
        gain: The factor M of what is added.
        post: The postsynaptic term z that is multiplied with the presynaptic activity.
    """

    keep: Float[Tensor, "..."]
    gain: Float[Tensor, "..."]
    post: Float[Tensor, "batch post"]


class PlasticityRule(nn.Module, ABC):
    """A rule for the Hebbian traces H of a layer of plastic connections; subclasses give its coefficients.

    With presynaptic activity x, and coefficients A, M and z of the receiving unit j,

        H'[j, i] = A[j] H[j, i] + M[j] z[j] x[i]

    A rule owns its parameters and never the state: ``update`` returns a new state and changes nothing.
    It knows no sizes, so that one rule serves a layer of any shape. Because every rule of this family is told by
    its coefficients alone, one kernel can serve them all.

    Source: Miconi, Clune and Stanley, "Differentiable plasticity" (2018), whose rules are written here in one form.

    Examples:
        >>> class Accumulate(PlasticityRule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.eta = trained_rate(0.1)
        ...
        ...     def coefficients(self, post, modulator=None):
        ...         return Coefficients(keep=torch.ones_like(self.eta), gain=self.eta, post=post)
        >>> rule = Accumulate()
        >>> rule.update(rule.init(1, 1, 2), pre=torch.tensor([[1.0, 2.0]]), post=torch.tensor([[5.0]])).trace
        tensor([[[0.5000, 1.0000]]], grad_fn=<BaddbmmBackward0>)
    """

    @abstractmethod
    def coefficients(
        self, post: Float[Tensor, "batch post"], modulator: Float[Tensor, "..."] | None = None
    ) -> Coefficients:
        """Return the coefficients of one step.

        Args:
            post: Postsynaptic activity, (batch, post).
            modulator: Neuromodulatory signal, broadcastable to (batch, post). A rule that is not modulated ignores it.
        """

    def init(self, batch_size: int, post_size: int, pre_size: int) -> TraceState:
        """Return the state at the start of an episode: no trace, in the dtype and on the device of the parameters.

        Args:
            batch_size: Number of independent episodes.
            post_size: Number of receiving units.
            pre_size: Number of sending units.

        Raises:
            ValueError: A size is less than one.
        """
        sizes = {"batch_size": batch_size, "post_size": post_size, "pre_size": pre_size}
        for name, size in sizes.items():
            check_size(name, size)
        like = next(self.parameters())
        return TraceState(torch.zeros(*sizes.values(), dtype=like.dtype, device=like.device))

    def update(
        self,
        state: TraceState,
        pre: Annotated[Tensor, "batch pre"],
        post: Annotated[Tensor, "batch post"],
        modulator: Annotated[Tensor, "batch post"] | None = None,
    ) -> TraceState:
        """Return the state after one step.

        Args:
            state: The state before the step, trace (batch, post, pre).
            pre: Presynaptic activity, (batch, pre).
            post: Postsynaptic activity, (batch, post).
            modulator: Neuromodulatory signal, broadcastable to (batch, post).

        Raises:
            TypeError: An activity is no tensor.
            ValueError: The shapes, dtypes or devices do not belong together.
        """
        trace = state.trace
        if trace.dim() != 3:
            raise ValueError(f"state.trace.shape = {tuple(trace.shape)}: expected (batch, post, pre)")
        batch_size, post_size, pre_size = trace.shape
        check_tensor("pre", pre, (batch_size, pre_size), like=trace)
        check_tensor("post", post, (batch_size, post_size), like=trace)
        keep, gain, target = self.coefficients(post, modulator)
        kept = (keep if keep.dim() == 0 else keep.unsqueeze(-1)) * trace
        return TraceState(torch.baddbmm(kept, (gain * target).unsqueeze(2), pre.unsqueeze(1)))

    def warn_if_unstable(self) -> None:
        """Warn (once a process and rule, by Python's default filter) if a parameter ``eta`` is outside [0, 1].

        Training can take it there, and the trace may then grow without bound. Modules ask once a forward pass.
        """
        eta = getattr(self, "eta", None)
        if eta is not None and readable(eta) and not ((eta >= 0) & (eta <= 1)).all():
            warnings.warn(
                f"eta of {type(self).__name__} is outside [0, 1]: the trace may grow without bound",
                RuntimeWarning,
                stacklevel=2,
            )


def trained_rate(
    eta: float, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> nn.Parameter:
    """Return a plasticity rate as a scalar parameter, which training may change without constraint.

    Raises:
        ValueError: ``eta`` is not finite.
    """
    if not math.isfinite(eta):
        raise ValueError(f"eta = {eta}: expected a finite number")
    return nn.Parameter(torch.tensor(float(eta), device=device, dtype=dtype))
