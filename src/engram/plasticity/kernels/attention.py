"""The decaying Hebbian scan without a trace: what the trace would recall, read from the activities that made it.

For the rule ``Hebb`` and coefficients that factor, alpha[j, i] = sum_r P[r, j] Q[r, i], the plastic current of step t
is

    sum_i alpha[j, i] H(t-1)[j, i] x[i]
        = sum_r P[r, j] ( (1 - eta)^(t-1) sum_i H(0)[j, i] Q[r, i] x[i]
                          + sum_{s<t} eta (1 - eta)^(t-1-s) (sum_i Q[r, i] x[i] x(s)[i]) y(s)[j] )

where x(s) and y(s) are the activities before and after step s: attention to earlier steps, with the present activity as
query, x(s) as keys, y(s) as values, and a weight that decays. T steps of N units cost T^2 N rather than T N^2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from engram.plasticity.alpha import LowRank
from engram.plasticity.hebb import Hebb
from engram.plasticity.rule import PlasticityRule, TraceState

if TYPE_CHECKING:
    from engram.plasticity.scan import PlasticState


def serves(alpha: Tensor | LowRank | None, rule: PlasticityRule | None) -> bool:
    """Return whether a scan can be run in this form.

    Args:
        alpha: Plasticity coefficients.
        rule: The plasticity rule.

    Examples:
        >>> serves(torch.ones(3), Hebb()), serves(torch.ones(3, 3), Hebb())
        (True, False)
    """
    return type(rule) is Hebb and (isinstance(alpha, LowRank) or (isinstance(alpha, Tensor) and alpha.dim() < 2))


def attention_scan(
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
    """Run a plastic recurrent network through time; see ``plastic_scan``, which it equals.

    Args:
        drive: External input u to the units.
        weight: Fixed weights W, (post, pre).
        alpha: Plasticity coefficients, (post,), () or two factors.
        rule: ``Hebb``.
        state: State before the first step.
        neuromodulator: None, for ``Hebb`` is not modulated.
        clamp: Where true, the unit takes its external input as its activity.
        nonlinearity: f.

    Returns:
        The activity at every step, and the state after the last one.

    Source: ours; without a nonlinearity between the steps it is linear attention with decay.

    Examples:
        >>> from engram.plasticity import PlasticState
        >>> rule, one = Hebb(), torch.tensor(1.0)
        >>> state = PlasticState(torch.ones(1, 1), rule.init(1, 1, 1))
        >>> attention_scan(torch.zeros(2, 1, 1), one.view(1, 1), one, rule, state)[0].flatten().tolist()
        [0.7615..., 0.6454...]
    """
    assert isinstance(rule, Hebb)
    post, pre = (alpha.post, alpha.pre) if isinstance(alpha, LowRank) else (alpha.reshape(1, -1), alpha.new_ones(1, 1))
    hidden, trace = state.hidden, state.trace
    steps = torch.arange(len(drive), dtype=drive.dtype, device=drive.device)
    decay = (1 - rule.eta) ** steps
    # Newest first: the weight of the step that was s + 1 steps ago is eta (1 - eta)^s.
    weights = rule.eta * decay
    past = hidden.new_empty(len(hidden), 0, hidden.shape[1])
    keys = values = past
    outputs = []
    for t, external in enumerate(drive.unbind(0)):
        current = torch.addmm(external, hidden, weight.t())
        queries = pre * hidden.unsqueeze(1)
        recalled = decay[t] * torch.bmm(queries, trace.transpose(1, 2))
        if t > 0:
            scores = torch.bmm(queries, keys.transpose(1, 2)) * weights[:t].flip(0)
            recalled = torch.baddbmm(recalled, scores, values)
        recalled = (post * recalled).sum(1)
        activity = nonlinearity(current + recalled)
        if clamp is not None:
            activity = torch.where(clamp[t], external, activity)
        keys = torch.cat((keys, hidden.unsqueeze(1)), dim=1)
        values = torch.cat((values, activity.unsqueeze(1)), dim=1)
        hidden = activity
        outputs.append(hidden)
    if not outputs:
        return drive, state
    learned = torch.bmm((values * weights.flip(0).unsqueeze(1)).transpose(1, 2), keys)
    last = TraceState((1 - rule.eta) * decay[-1] * trace + learned)
    return torch.stack(outputs), state._replace(hidden=hidden, rule=last)
