"""Three-factor rules: eligibility traces of activity become weight changes when a reward signal arrives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from engram import checks
from engram.nn.sequence import check_precision
from engram.rules.contract import SynapticRule, SynapticUpdate
from engram.rules.synaptic.activities import check_activities
from engram.rules.synaptic.pair_stdp import PairSTDP, bounded
from engram.rules.synaptic.slow_weights import HEBBIAN, SlowWeights, hebb
from engram.rules.synaptic.triplet_stdp import TripletSTDP
from engram.state import register_states


class EligibilityTraces(NamedTuple):
    """Eligibility traces of each sample; an initial batch of 1 stands for any number of samples.

    Attributes:
        eligibility: E.
        baseline: The running mean of the signal.
        rule: The state of the rule that makes the traces, with a first axis for the samples.
    """

    eligibility: Float[Tensor, "batch post pre"]
    baseline: Float[Tensor, ""]
    rule: Any


register_states(EligibilityTraces)


@dataclass(frozen=True)
class ThreeFactor(SynapticRule[EligibilityTraces]):
    """A two-factor rule whose changes wait for a third factor, the modulator M: a reward, a surprise, an error.

        E' = (1 - 1 / tau) E + f(pre, post)
        dW = mean over the batch of (M - base) E',   base' = base + baseline_rate (mean M - base)

    where f is the growth by another rule; each sample has its own eligibility trace. The bounds of an STDP rule hold
    for dW, so that punishment, which turns growth into decay and decay into growth, keeps within them too; f has none.

    Args:
        rule: The synaptic rule that gives f; ``hebb()`` if None.
        tau: Time constant of the eligibility trace, in steps, at least 1.
        baseline_rate: Rate of the running mean of M, from 0 to 1; with 0 the baseline stays 0.

    Raises:
        TypeError: ``rule`` is not a synaptic rule.
        ValueError: An argument is out of range, or the batch size differs from that of the traces.

    Source: Fremaux and Gerstner, "Neuromodulated spike-timing-dependent plasticity, and theory of three-factor learning
    rules" (2016), equations 1 and 2.

    Examples:
        >>> rule, one = ThreeFactor(tau=2.0), torch.ones(1, 1)
        >>> _, state = rule.update(one, one, one, rule.init(one), modulator=torch.tensor([0.0]))
        >>> rule.update(0 * one, one, one, state, modulator=torch.tensor([3.0])).grad  # by past activity alone
        tensor([[-1.5000]])
    """

    rule: SynapticRule[Any] | None = None
    tau: float = 20.0
    baseline_rate: float = 0.0

    properties = replace(HEBBIAN, unsupervised=False)
    _unbounded = None  # the rule without its bounds

    def __post_init__(self) -> None:
        rule = hebb() if self.rule is None else self.rule
        object.__setattr__(self, "rule", checks.instance("rule", rule, SynapticRule))  # type: ignore[type-abstract]
        has_bounds = isinstance(self.rule, PairSTDP | TripletSTDP)
        object.__setattr__(self, "_unbounded", replace(self.rule, bounds="none") if has_bounds else self.rule)  # type: ignore[type-var]
        checks.number("tau", self.tau, minimum=1)
        checks.number("baseline_rate", self.baseline_rate, minimum=0, maximum=1)
        object.__setattr__(self, "properties", replace(self.rule.properties, unsupervised=False))  # type: ignore[union-attr]

    def init(self, weight: Float[Tensor, "post pre"]) -> EligibilityTraces:
        """No eligibility, a baseline of 0, and the rule's own state."""
        checks.arguments()
        check_precision(weight)
        return EligibilityTraces(
            weight.new_zeros(1, *weight.shape),
            weight.new_zeros(()),
            _each(lambda part: part[None], self.rule.init(weight)),  # type: ignore[union-attr]
        )

    @torch.no_grad()
    def update(
        self,
        pre: Annotated[Tensor, "batch pre"],
        post: Annotated[Tensor, "batch post"],
        weight: Annotated[Tensor, "post pre"],
        state: EligibilityTraces,
        modulator: Annotated[Tensor, "batch *post"] | None = None,
    ) -> SynapticUpdate:
        """Minus the mean of (M - base) E', and the next state.

        Args:
            pre: Presynaptic activity.
            post: Postsynaptic activity.
            weight: W.
            state: The state from ``init`` or the last update.
            modulator: M for each sample, (batch,), or for each of its units, (batch, post).

        Raises:
            ValueError: There is no modulator, or shapes do not match.
        """
        check_activities(pre, post, weight)
        checks.instance("state", state, EligibilityTraces)
        if modulator is None:
            raise ValueError("modulator = None: expected a tensor, (batch,) or (batch, post)")
        shape = (len(pre), len(weight)) if getattr(modulator, "ndim", 1) == 2 else (len(pre),)
        checks.tensor("modulator", modulator, shape, weight)
        if len(state.eligibility) not in (1, len(pre)):
            raise ValueError(f"state has traces of {len(state.eligibility)} samples: expected {len(pre)}, as pre has")
        growth, rule_state = self._growth(pre, post, weight, state.rule)
        eligibility = (1 - 1 / self.tau) * state.eligibility + growth
        surprise = (modulator - state.baseline).reshape(len(pre), -1, 1)
        grad = -self._change(surprise * eligibility, weight)
        baseline = state.baseline.lerp(modulator.mean(), self.baseline_rate)
        return SynapticUpdate(grad, EligibilityTraces(eligibility, baseline, rule_state))

    def _change(self, changes: Tensor, weight: Tensor) -> Tensor:
        """The mean of each sample's change, within the rule's bounds."""
        if isinstance(self.rule, PairSTDP | TripletSTDP) and self.rule.bounds != "none":
            growth, decay = changes.clamp(min=0).mean(0), changes.clamp(max=0).mean(0).neg()
            return bounded(growth, decay, weight, self.rule.bounds, self.rule.w_max)
        return changes.mean(0)

    def _growth(self, pre: Tensor, post: Tensor, weight: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The rule's growth by each sample alone, and its next states."""
        if isinstance(self.rule, SlowWeights):  # the same, without the cost of vmap
            return self.rule.growth(pre, post, weight), None

        rule: Any = self._unbounded

        def of_sample(pre: Tensor, post: Tensor, state: Any) -> Any:
            grad, after = rule.update(pre[None], post[None], weight, state)
            return (-grad,) if after is None else (-grad, after)

        states = _each(lambda part: part.expand(len(pre), *part.shape[1:]), state)
        growth, *after = torch.func.vmap(of_sample, in_dims=(0, 0, None if state is None else 0))(pre, post, states)
        return growth, after[0] if after else None


def _each(function: Any, state: Any) -> Any:
    """The state of a rule with a function applied to each tensor."""
    if state is None or isinstance(state, Tensor):
        return None if state is None else function(state)
    fields = [_each(function, part) for part in state]
    return type(state)(*fields) if hasattr(state, "_fields") else tuple(fields)


def reward_modulated_stdp(
    stdp: PairSTDP | None = None, *, tau: float = 1000.0, baseline_rate: float = 0.01
) -> ThreeFactor:
    """R-STDP: pairs of spikes mark their synapse, and a reward above its running mean changes the marked synapses.

    Args:
        stdp: The rule by which pairs of spikes mark synapses; ``PairSTDP()`` if None.
        tau: Time constant of the mark, in steps; by default 1 s in steps of 1 ms.
        baseline_rate: Rate of the running mean of the reward, from 0 to 1.

    Source: Izhikevich, "Solving the distal reward problem through linkage of STDP and dopamine signaling" (2007); the
    mean is subtracted as in Fremaux, Sprekeler and Gerstner (2010).

    Examples:
        >>> reward_modulated_stdp().rule
        PairSTDP(a_plus=0.01, a_minus=0.0105, tau_plus=20.0, tau_minus=20.0, bounds='none', w_max=1.0)
    """
    checks.arguments()
    return ThreeFactor(PairSTDP() if stdp is None else stdp, tau, baseline_rate)
