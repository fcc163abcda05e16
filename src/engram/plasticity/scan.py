"""The functional core: a layer of plastic connections run through time, in plain PyTorch.

This is the definition. A faster kernel sits beside it behind the same call, and is held to it.
Arguments are not validated here; the modules do that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from engram.plasticity.rule import PlasticityRule, TraceState
from engram.plasticity.validation import check_choice


class PlasticState(NamedTuple):
    """What a plastic recurrent network carries from step to step, and from call to call.

    Attributes:
        hidden: Activity of the units.
        rule: State of the plasticity rule; its trace is (batch, 0, 0) in a network without plasticity.
    """

    hidden: Float[Tensor, "batch hidden"]
    rule: TraceState

    @property
    def trace(self) -> Float[Tensor, "batch post pre"]:
        """The Hebbian traces."""
        return self.rule.trace

    def detach(self) -> PlasticState:
        """Return the same state cut off from the graph that made it, for truncated back-propagation."""
        return PlasticState(self.hidden.detach(), self.rule.detach())


def alpha_shape(alpha: str, post_size: int, pre_size: int) -> tuple[int, ...]:
    """Return the shape of the plasticity coefficient alpha.

    Args:
        alpha: ``"connection"`` (one for each), ``"post"`` (one for each receiving unit) or ``"homogeneous"`` (one).
        post_size: Number of receiving units.
        pre_size: Number of sending units.

    Raises:
        ValueError: Unknown ``alpha``.

    Examples:
        >>> alpha_shape("post", 3, 4)
        (3,)
    """
    shapes = {"connection": (post_size, pre_size), "post": (post_size,), "homogeneous": ()}
    check_choice("alpha", alpha, shapes)
    return shapes[alpha]


def plastic_current(
    current: Float[Tensor, "batch post"],
    pre: Float[Tensor, "batch pre"],
    alpha: Float[Tensor, "..."],
    trace: Float[Tensor, "batch post pre"],
) -> Float[Tensor, "batch post"]:
    """Return ``current`` with what the plastic part of the connections adds to it.

        c[j] + sum_i alpha[j, i] H[j, i] x[i]

    Args:
        current: What else reaches the receiving units, c.
        pre: Presynaptic activity, x.
        alpha: Plasticity coefficients, (post, pre), (post,) or (); one that does not depend on the sending unit
            is multiplied last, which saves a pass over the trace.
        trace: Hebbian traces, H.

    Examples:
        >>> plastic_current(torch.zeros(1, 1), torch.ones(1, 2), torch.tensor(2.0), torch.tensor([[[3.0, 4.0]]]))
        tensor([[14.]])
    """
    # vecdot rather than bmm: a batched product with a single column is several times slower in some BLAS.
    per_connection = alpha.dim() == 2
    plastic: Tensor = torch.linalg.vecdot(alpha * trace if per_connection else trace, pre.unsqueeze(1))
    return current + (plastic if per_connection else alpha * plastic)


def plastic_scan(
    drive: Float[Tensor, "time batch hidden"],
    weight: Float[Tensor, "hidden hidden"],
    alpha: Float[Tensor, "..."] | None,
    rule: PlasticityRule | None,
    state: PlasticState,
    *,
    clamp: Bool[Tensor, "time batch hidden"] | None = None,
    nonlinearity: Callable[[Tensor], Tensor] = torch.tanh,
) -> tuple[Float[Tensor, "time batch hidden"], PlasticState]:
    """Run a plastic recurrent network through time.

        y(t) = f(u(t) + (W + alpha * H(t-1)) y(t-1))    or, where clamped, u(t)
        H(t) = rule(H(t-1), x = y(t-1), y = y(t))

    The trace is updated after the activation, and the new trace is first used in the following step.

    Args:
        drive: External input u to the units.
        weight: Fixed weights W, (post, pre).
        alpha: Plasticity coefficients, (post, pre), (post,) or (); None without plasticity.
        rule: The plasticity rule; None without plasticity.
        state: State before the first step.
        clamp: Where true, the unit takes its external input as its activity.
        nonlinearity: f.

    Returns:
        The activity at every step, and the state after the last one.

    Source: Miconi, Clune and Stanley, "Differentiable plasticity" (2018), equations 1 and 2.

    Examples:
        >>> from engram.plasticity import Hebb
        >>> rule, one = Hebb(), torch.tensor(1.0)
        >>> state = PlasticState(torch.ones(1, 1), rule.init(1, 1, 1))
        >>> plastic_scan(torch.zeros(2, 1, 1), one.view(1, 1), one, rule, state)[0].flatten().tolist()
        [0.7615..., 0.6454...]
    """
    hidden, synapses = state
    masks = [None] * len(drive) if clamp is None else clamp.unbind(0)
    outputs = []
    for external, mask in zip(drive.unbind(0), masks, strict=True):
        current = torch.addmm(external, hidden, weight.t())
        if alpha is not None:
            current = plastic_current(current, hidden, alpha, synapses.trace)
        activity = nonlinearity(current)
        if mask is not None:
            activity = torch.where(mask, external, activity)
        if rule is not None:
            synapses = rule.update(synapses, pre=hidden, post=activity)
        hidden = activity
        outputs.append(hidden)
    return torch.stack(outputs) if outputs else drive, PlasticState(hidden, synapses)


def plastic_linear_scan(
    pre: Float[Tensor, "time batch pre"],
    current: Float[Tensor, "time batch post"],
    alpha: Float[Tensor, "..."],
    rule: PlasticityRule,
    state: TraceState,
    *,
    nonlinearity: Callable[[Tensor], Tensor],
) -> tuple[Float[Tensor, "time batch post"], TraceState]:
    """Run a feed-forward layer of plastic connections through time.

        y(t) = f(c(t) + (alpha * H(t-1)) x(t))
        H(t) = rule(H(t-1), x = x(t), y = y(t))

    Args:
        pre: Presynaptic activity x.
        current: What the fixed weights, the bias and the external input add up to, c; known beforehand for all steps.
        alpha: Plasticity coefficients, (post, pre), (post,) or ().
        rule: The plasticity rule.
        state: State of the rule before the first step.
        nonlinearity: f.

    Returns:
        The activity at every step, and the state after the last one.

    Source: Miconi, Clune and Stanley, "Differentiable plasticity" (2018), the plastic output layer for Omniglot.

    Examples:
        >>> from engram.plasticity import Hebb
        >>> rule, x = Hebb(eta=0.5), torch.ones(2, 1, 1)
        >>> plastic_linear_scan(x, x, torch.tensor(1.0), rule, rule.init(1, 1, 1), nonlinearity=torch.relu)[0].tolist()
        [[[1.0]], [[1.5]]]
    """
    outputs = []
    for sent, fixed in zip(pre.unbind(0), current.unbind(0), strict=True):
        post = nonlinearity(plastic_current(fixed, sent, alpha, state.trace))
        state = rule.update(state, pre=sent, post=post)
        outputs.append(post)
    return torch.stack(outputs) if outputs else current, state
