"""A few steps of the plastic recurrent scan where nothing is to be differentiated, as when an agent acts.

What the long scan does to be fast, laying out its matrices anew and starting threads, takes longer than a step. Here
all that a step does is one numba call on the tensors as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from engram.plasticity.alpha import LowRank
from engram.plasticity.kernels.fused import rule_numbers, signal
from engram.plasticity.rule import PlasticityRule

if TYPE_CHECKING:
    from engram.plasticity.scan import PlasticState


def step_scan(
    drive: Float[Tensor, "time batch hidden"],
    weight: Float[Tensor, "hidden hidden"],
    alpha: Float[Tensor, "..."] | LowRank,
    rule: PlasticityRule,
    state: PlasticState,
    *,
    neuromodulator: nn.Module | None = None,
    clamp: Bool[Tensor, "time batch hidden"] | None = None,
    nonlinearity: Callable[[Tensor], Tensor] = torch.tanh,
) -> tuple[Float[Tensor, "time batch hidden"], PlasticState]:
    """Run a plastic recurrent network through time without a graph; see ``plastic_scan``, which it equals.

    Args:
        drive: External input u to the units, on the CPU.
        weight: Fixed weights W, (post, pre).
        alpha: Plasticity coefficients, (post, pre), (post,), () or two factors.
        rule: The plasticity rule, one that ``fused.unsupported`` has nothing against.
        state: State before the first step.
        neuromodulator: What modulates the rule; None if the rule is not modulated.
        clamp: Where true, the unit takes its external input as its activity.
        nonlinearity: f, ``torch.tanh`` or ``torch.relu``.

    Returns:
        The activity at every step, and the state after the last one.

    Examples:
        >>> from engram.plasticity import Hebb, PlasticState
        >>> rule, one = Hebb(), torch.ones(1, 1)
        >>> state = PlasticState(one, rule.init(1, 1, 1))
        >>> with torch.no_grad():
        ...     step_scan(torch.zeros(2, 1, 1), one, one[0, 0], rule, state)[0].flatten().tolist()
        [0.7615..., 0.6454...]
    """
    from engram.plasticity.kernels.cpu_step import kernel

    hidden, synapses = state
    outputs, last = drive.new_empty(drive.shape), type(synapses)(*(t.new_empty(t.shape) for t in synapses))
    mask = drive.new_empty((*drive.shape[:2], 0), dtype=torch.bool) if clamp is None else clamp.contiguous()
    before = [t.contiguous().numpy() for t in synapses]
    after = [t.numpy() for t in last]
    kernel()(
        drive.contiguous().numpy(),
        mask.numpy(),
        hidden.contiguous().numpy(),
        before[0],
        before[-1],
        *_constants(weight, alpha, rule, neuromodulator, nonlinearity),
        outputs.numpy(),
        after[0],
        after[-1],
    )
    return outputs, state._replace(hidden=outputs[-1] if len(drive) else hidden, rule=last)


def stepper(
    weight: Float[Tensor, "hidden hidden"],
    alpha: Float[Tensor, "..."] | LowRank,
    rule: PlasticityRule,
    state: PlasticState,
    *,
    neuromodulator: nn.Module | None = None,
    nonlinearity: Callable[[Tensor], Tensor] = torch.tanh,
) -> Callable[[Float[Tensor, "1 batch hidden"]], Float[Tensor, "1 batch hidden"]]:
    """Return ``step_scan`` as a function of one step's external input after another, which keeps the state to itself.

    What depends on the layer alone is laid out once, so the layer must not change meanwhile.

    Args:
        weight: Fixed weights W, (post, pre).
        alpha: Plasticity coefficients, (post, pre), (post,), () or two factors.
        rule: The plasticity rule, one that ``fused.unsupported`` has nothing against.
        state: State before the first step; it is left as it is.
        neuromodulator: What modulates the rule; None if the rule is not modulated.
        nonlinearity: f, ``torch.tanh`` or ``torch.relu``.

    Examples:
        >>> from engram.plasticity import Hebb, PlasticState
        >>> rule, one = Hebb(), torch.ones(1, 1)
        >>> with torch.no_grad():
        ...     step = stepper(one, one[0, 0], rule, PlasticState(one, rule.init(1, 1, 1)))
        >>> [step(torch.zeros(1, 1, 1)).item() for _ in range(2)]
        [0.7615..., 0.6454...]
    """
    from engram.plasticity.kernels.cpu_step import kernel

    run, constants = kernel(), _constants(weight, alpha, rule, neuromodulator, nonlinearity)
    mask = np.empty((1, len(state.hidden), 0), dtype=bool)
    hidden = state.hidden.numpy()
    # The new trace goes to other memory than the old one: only then may the kernel's loops be vector instructions.
    before, after = ([t.numpy().copy() for t in state.rule] for _ in range(2))

    def step(drive: Float[Tensor, "1 batch hidden"]) -> Float[Tensor, "1 batch hidden"]:
        nonlocal hidden, before, after
        outputs = torch.empty_like(drive)
        activity = outputs.numpy()
        run(drive.numpy(), mask, hidden, before[0], before[-1], *constants, activity, after[0], after[-1])
        hidden, before, after = activity[0], after, before
        return outputs

    return step


def _constants(
    weight: Float[Tensor, "hidden hidden"],
    alpha: Float[Tensor, "..."] | LowRank,
    rule: PlasticityRule,
    neuromodulator: nn.Module | None,
    nonlinearity: Callable[[Tensor], Tensor],
) -> tuple[Any, ...]:
    """Return what the kernel is told of a layer, in its order."""
    from engram.plasticity.kernels.simd import REGISTER_BYTES

    size = weight.shape[0]
    alpha = alpha.dense() if isinstance(alpha, LowRank) else alpha
    padding = -size % (REGISTER_BYTES // weight.element_size())
    none = weight.new_zeros(size + padding).numpy()
    v, v0, fan, base, squash = none, none, none, none, 0
    if neuromodulator is not None:
        *rows, squash = signal(neuromodulator, weight)
        v, fan, base = (functional.pad(row, (0, padding)).contiguous().numpy() for row in (rows[0], *rows[2:]))
        v0 = rows[1].numpy()
    numbers = rule_numbers(rule)
    return (
        weight.contiguous().numpy(),
        (alpha.expand(size) if alpha.dim() == 0 else alpha).contiguous().numpy(),
        rule.eta.reshape(1).numpy() if hasattr(rule, "eta") else none,
        v,
        v0,
        fan,
        base,
        numbers.recursion,
        numbers.clip,
        numbers.trace_first,
        nonlinearity is torch.relu,
        neuromodulator is not None,
        squash,
        numbers.forgets,
    )
