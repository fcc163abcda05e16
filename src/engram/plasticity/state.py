"""States that plastic layers carry from step to step: the traces of a rule, the activity of a network."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from engram.state import register_states


class TraceState(NamedTuple):
    """The state of a rule with one Hebbian trace for each connection and episode."""

    trace: Float[Tensor, "*batch post pre"]

    def detach(self) -> TraceState:
        """The same state, detached from its graph, for truncated back-propagation."""
        return TraceState(self.trace.detach())


class EligibilityState(NamedTuple):
    """The state of a retroactive rule: Hebbian traces H, and eligibility traces E."""

    trace: Float[Tensor, "*batch post pre"]
    eligibility: Float[Tensor, "*batch post pre"]

    def detach(self) -> EligibilityState:
        """As ``TraceState.detach``."""
        return EligibilityState(self.trace.detach(), self.eligibility.detach())


RuleState = TraceState | EligibilityState
"""The state of a rule; ``PlasticityRule.state_type`` says which of the two."""


class PlasticState(NamedTuple):
    """The activity of a plastic recurrent network and its rule's state; without plasticity the trace is (batch, 0, 0).

    In a network the first axis is that of the layers, (layers, batch, ...); for a single sequence there is no batch
    axis.
    """

    hidden: Float[Tensor, "*batch hidden"]
    rule: RuleState

    @property
    def trace(self) -> Float[Tensor, "*batch post pre"]:
        """The Hebbian traces."""
        return self.rule.trace

    @property
    def eligibility(self) -> Float[Tensor, "*batch post pre"]:
        """The eligibility traces; only the state of a retroactive rule has them."""
        return self.rule.eligibility  # type: ignore[union-attr]

    def detach(self) -> PlasticState:
        """As ``TraceState.detach``."""
        return PlasticState(self.hidden.detach(), self.rule.detach())


class PlasticLSTMState(NamedTuple):
    """The output h, the cell state c and the rule's state of a plastic LSTM; axes as in ``PlasticState``."""

    hidden: Float[Tensor, "*batch hidden"]
    cell: Float[Tensor, "*batch hidden"]
    rule: RuleState

    @property
    def trace(self) -> Float[Tensor, "*batch post pre"]:
        """The Hebbian traces."""
        return self.rule.trace

    @property
    def eligibility(self) -> Float[Tensor, "*batch post pre"]:
        """The eligibility traces; only the state of a retroactive rule has them."""
        return self.rule.eligibility  # type: ignore[union-attr]

    def detach(self) -> PlasticLSTMState:
        """As ``TraceState.detach``."""
        return PlasticLSTMState(self.hidden.detach(), self.cell.detach(), self.rule.detach())


register_states(TraceState, EligibilityState, PlasticState, PlasticLSTMState)
