"""Plasticity rules for slow weights: a rule's change of a trace becomes a pseudo-gradient of a layer's weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from engram import checks
from engram.copying import copied
from engram.plasticity import ClippedHebb, Competitive, Instar, Oja, PlasticityRule
from engram.rules.contract import Properties, SynapticRule, SynapticUpdate
from engram.rules.synaptic.activities import check_activities

HEBBIAN = Properties(
    local=True,
    no_weight_transport=True,
    one_phase=True,
    online=True,
    unsupervised=True,
    black_box=True,
    spikes=True,
)


@dataclass(frozen=True)
class SlowWeights(SynapticRule[None]):
    """A rule of ``engram.plasticity`` that changes the slow weights of a layer instead of its traces.

        grad = W - mean over the batch of H',   H' = the trace to which the rule changes H = W

    With the rule's coefficients D, M and z this is mean(D) W - (M z)^T x / B. It is computed in this form, since a
    difference of large numbers would lose small changes.

    Args:
        rule: The rule, with a linear recursion and without a bound or a modulator. It is copied, and its parameters are
            frozen.

    Raises:
        TypeError: ``rule`` is not a ``PlasticityRule``.
        ValueError: The rule has a bound, another recursion, a modulator, or a rate for each connection.

    Examples:
        >>> import torch
        >>> x, y, W = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0]]), torch.zeros(1, 2)
        >>> SlowWeights(Oja(eta=0.5)).update(x, y, W, None).grad
        tensor([[-1.5000, -3.0000]])
    """

    rule: PlasticityRule

    properties = HEBBIAN

    def __post_init__(self) -> None:
        rule = checks.instance("rule", self.rule, PlasticityRule)  # type: ignore[type-abstract]
        if rule.modulated or rule.clip is not None or rule.recursion != "linear":
            raise ValueError(f"rule = {rule}: expected one of linear recursion, clip = None, without a modulator")
        if any(parameter.dim() for parameter in rule.parameters()):
            raise ValueError(f"rule = {rule}: expected one rate for all connections")
        object.__setattr__(self, "rule", copied(rule).requires_grad_(False))

    def init(self, weight: Float[Tensor, "post pre"]) -> None:
        """No state."""

    @torch.no_grad()
    def update(
        self,
        pre: Annotated[Tensor, "batch pre"],
        post: Annotated[Tensor, "batch post"],
        weight: Annotated[Tensor, "post pre"],
        state: None,
    ) -> SynapticUpdate:
        """Minus the mean change of the weights.

        Args:
            pre: Presynaptic activity x.
            post: Postsynaptic activity y.
            weight: W.
            state: None.

        Raises:
            ValueError: The batch is empty, or shapes do not match.
        """
        check_activities(pre, post, weight)
        decay, gain, target = self.rule.coefficients(post)
        decay_per_weight = decay.mean(0)[:, None] if decay.dim() else decay
        return SynapticUpdate(decay_per_weight * weight - (gain * target).T @ pre / len(pre), None)

    def growth(
        self, pre: Float[Tensor, "batch pre"], post: Float[Tensor, "batch post"], weight: Float[Tensor, "post pre"]
    ) -> Float[Tensor, "batch post pre"]:
        """The change of the weights by each sample alone.

        Args:
            pre: Presynaptic activity x.
            post: Postsynaptic activity y.
            weight: W.
        """
        checks.arguments()
        decay, gain, target = self.rule.coefficients(post)
        decay_per_weight = decay[:, :, None] if decay.dim() else decay
        return (gain * target)[:, :, None] * pre[:, None, :] - decay_per_weight * weight


def hebb() -> SlowWeights:
    """Hebb's rule: a weight grows by the product of the activities that it connects.

        dW = y^T x / B

    It is unbounded: along an eigenvector of the inputs' second moments, of eigenvalue l, a linear layer's weights grow
    as (1 + lr l)^n. ``oja`` is the same with a bound. It is ``ClippedHebb`` without a bound.

    Source: Hebb, "The Organization of Behavior" (1949), chapter 4.

    Examples:
        >>> import torch
        >>> hebb().update(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0]]), torch.zeros(1, 2), None).grad
        tensor([[-3., -6.]])
    """
    return SlowWeights(ClippedHebb(eta=1.0, clip=None))


def oja() -> SlowWeights:
    """Oja's rule: each unit finds the first principal component, with weights of norm 1.

        dw[j] = mean over the batch of y[j] (x - y[j] w[j])

    The learning rate must be below the inverse of the inputs' largest eigenvalue, or the weights diverge.

    Source: Oja, "A simplified neuron model as a principal component analyzer" (1982), equation 3.

    Examples:
        >>> import torch
        >>> oja().update(torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0]]), torch.tensor([[1.0, 0.0]]), None).grad
        tensor([[ 0., -1.]])
    """
    return SlowWeights(Oja(eta=1.0))


def instar() -> SlowWeights:
    """The instar rule: weights move towards the inputs to which their unit responds.

        dw[j] = mean over the batch of y[j] (x - w[j])

    Source: Grossberg, "Adaptive pattern classification and universal recoding: I" (1976).

    Examples:
        >>> import torch
        >>> instar().update(torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0]]), torch.ones(1, 2), None).grad
        tensor([[ 0., -2.]])
    """
    return SlowWeights(Instar(eta=1.0))


def competitive(temperature: float = 1.0) -> SlowWeights:
    """Soft winner-take-all: units move towards the inputs to which they respond more than other units.

        p = softmax(a / T),   dw[j] = mean over the batch of p[j] (x - w[j])

    Args:
        temperature: T, positive; as it goes to 0, the winner takes all.

    Raises:
        ValueError: ``temperature`` is not positive.

    Source: as for ``engram.plasticity.Competitive``.

    Examples:
        >>> import torch
        >>> x, W = torch.tensor([[1.0, 0.0]]), torch.zeros(2, 2)
        >>> competitive().update(x, x @ W.T, W, None).grad  # a tie
        tensor([[-0.5000,  0.0000],
                [-0.5000,  0.0000]])
    """
    return SlowWeights(Competitive(eta=1.0, temperature=temperature))
