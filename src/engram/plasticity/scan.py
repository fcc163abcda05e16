"""Layers of plastic connections run through time, in plain PyTorch: the definition that every kernel must match.

Arguments are checked once, for all steps.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from engram import checks
from engram.plasticity.alpha import LowRank
from engram.plasticity.neuromodulator import Neuromodulator
from engram.plasticity.rule import PlasticityRule, bounded, checked_bound
from engram.plasticity.state import PlasticLSTMState, PlasticState, RuleState


def identity(current: Float[Tensor, "*batch units"]) -> Float[Tensor, "*batch units"]:
    """The current as it is."""
    return current


def softmax(current: Float[Tensor, "*batch units"]) -> Float[Tensor, "*batch units"]:
    """Exp(c[j]) / sum_k exp(c[k]), over the units."""
    return current.softmax(-1)


def plastic_current(
    current: Float[Tensor, "batch post"],
    pre: Float[Tensor, "batch pre"],
    alpha: Float[Tensor, "..."],
    trace: Float[Tensor, "batch post pre"],
) -> Float[Tensor, "batch post"]:
    """``current`` plus the current through the plastic part of the connections.

        c[j] + sum_i alpha[j, i] H[j, i] x[i]

    Args:
        current: All other input c of the receiving units.
        pre: Presynaptic activity x.
        alpha: Plasticity coefficients, (post, pre), (post,) or (); one that does not depend on the sending unit
            is multiplied last, which saves a pass over the trace.
        trace: Hebbian traces H.

    Raises:
        ValueError: The shapes, dtypes or devices do not match.

    Examples:
        >>> plastic_current(torch.zeros(1, 1), torch.ones(1, 2), torch.tensor(2.0), torch.tensor([[[3.0, 4.0]]]))
        tensor([[14.]])
    """
    checks.arguments()
    for name, tensor in (("pre", pre), ("trace", trace)):
        checks.tensor(name, tensor, tuple(tensor.shape), like=current)
    _check_alpha(alpha, trace.shape[1], trace.shape[2])
    return _plastic_current(current, pre, alpha, trace)


def _plastic_current(
    current: Float[Tensor, "batch post"],
    pre: Float[Tensor, "batch pre"],
    alpha: Float[Tensor, "..."],
    trace: Float[Tensor, "batch post pre"],
) -> Float[Tensor, "batch post"]:
    """``plastic_current`` without checks, for arguments that were checked once for all steps."""
    # vecdot rather than bmm: a batched product with a single column is several times slower in some BLAS.
    per_connection = alpha.dim() == 2
    plastic: Tensor = torch.linalg.vecdot(alpha * trace if per_connection else trace, pre.unsqueeze(1))
    return current + (plastic if per_connection else alpha * plastic)


def _check_alpha(alpha: Float[Tensor, "..."], post: int, pre: int) -> None:
    if alpha.shape not in ((), (post,), (post, pre)):
        raise ValueError(f"alpha.shape = {tuple(alpha.shape)}: expected (), ({post},) or ({post}, {pre})")


def plastic_scan(
    drive: Float[Tensor, "time batch hidden"],
    weight: Float[Tensor, "hidden hidden"],
    alpha: Float[Tensor, "..."] | LowRank | None,
    rule: PlasticityRule | None,
    state: PlasticState,
    *,
    neuromodulator: Neuromodulator | None = None,
    clamp: Bool[Tensor, "time batch hidden"] | None = None,
    nonlinearity: Callable[[Tensor], Tensor] = torch.tanh,
) -> tuple[Float[Tensor, "time batch hidden"], PlasticState]:
    """Run a plastic recurrent network through time.

        y(t) = f(u(t) + (W + alpha * H(t-1)) y(t-1))    or, where clamped, u(t)
        m(t) = neuromodulator(y(t))
        H(t) = rule(H(t-1), x = y(t-1), y = y(t), m = m(t))

    The trace is updated after the activation, and the new trace is first used in the following step.

    Args:
        drive: External input u to the units.
        weight: Fixed weights W, (post, pre).
        alpha: Plasticity coefficients, (post, pre), (post,), () or two factors; None without plasticity.
        rule: The plasticity rule; None without plasticity.
        state: State before the first step.
        neuromodulator: The module that modulates the rule; None if the rule is not modulated.
        clamp: Where the activity is the external input.
        nonlinearity: f.

    Returns:
        The activity at every step, and the state after the last one.

    Raises:
        TypeError: The state is that of another kind of rule.
        ValueError: The shapes, dtypes or devices do not match, or a modulated rule gets no signal.

    Source: Miconi, Clune and Stanley, "Differentiable plasticity" (2018), equations 1 and 2; Miconi, Rawal, Clune and
    Stanley, "Backpropamine" (2019), equations 1 to 5.

    Examples:
        >>> from engram.plasticity import Hebb
        >>> rule, one = Hebb(), torch.tensor(1.0)
        >>> state = PlasticState(torch.ones(1, 1), rule.init(1, 1, 1))
        >>> plastic_scan(torch.zeros(2, 1, 1), one.view(1, 1), one, rule, state)[0].flatten().tolist()
        [0.7615..., 0.6454...]
    """
    checks.arguments()
    hidden, synapses = state
    batch, size = drive.shape[1:]
    checks.tensor("state.hidden", hidden, (batch, size), like=weight)
    alpha = alpha.dense() if isinstance(alpha, LowRank) else alpha
    if alpha is not None:
        _check_alpha(alpha, size, size)
    if rule is not None:
        rule.check_state(synapses, (batch, size, size), like=weight)
    elif alpha is not None:
        checks.tensor("state.trace", synapses.trace, (batch, size, size), like=weight)
    masks = [None] * len(drive) if clamp is None else clamp.unbind(0)
    outputs = []
    for external, mask in zip(drive.unbind(0), masks, strict=True):
        current = torch.addmm(external, hidden, weight.t())
        if alpha is not None:
            current = _plastic_current(current, hidden, alpha, synapses.trace)
        activity = nonlinearity(current)
        if mask is not None:
            activity = torch.where(mask, external, activity)
        if rule is not None:
            modulator = None if neuromodulator is None else neuromodulator(activity)
            synapses = rule.update(synapses, pre=hidden, post=activity, modulator=modulator)
        hidden = activity
        outputs.append(hidden)
    return torch.stack(outputs) if outputs else drive, PlasticState(hidden, synapses)


def plastic_linear_scan(
    pre: Float[Tensor, "time batch pre"],
    current: Float[Tensor, "time batch post"],
    alpha: Float[Tensor, "..."] | LowRank,
    rule: PlasticityRule,
    state: RuleState,
    *,
    modulator: Float[Tensor, "time batch signals"] | None = None,
    nonlinearity: Callable[[Tensor], Tensor],
) -> tuple[Float[Tensor, "time batch post"], RuleState]:
    """Run a feed-forward layer of plastic connections through time.

        y(t) = f(c(t) + (alpha * H(t-1)) x(t))
        H(t) = rule(H(t-1), x = x(t), y = y(t), m = m(t))

    Args:
        pre: Presynaptic activity x.
        current: c, the sum of fixed weights, bias and external input.
        alpha: Plasticity coefficients, (post, pre), (post,), () or two factors.
        rule: The plasticity rule.
        state: State before the first step.
        modulator: m, (time, batch, 1) or (time, batch, post), for a modulated rule.
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
    checks.arguments()
    (_, batch, receiving), sending = current.shape, pre.shape[2]
    rule.check_state(state, (batch, receiving, sending), like=pre)
    alpha = alpha.dense() if isinstance(alpha, LowRank) else alpha
    _check_alpha(alpha, receiving, sending)
    signals = [None] * len(pre) if modulator is None else modulator.unbind(0)
    outputs = []
    for source, fixed, signal in zip(pre.unbind(0), current.unbind(0), signals, strict=True):
        post = nonlinearity(_plastic_current(fixed, source, alpha, state.trace))
        state = rule.update(state, pre=source, post=post, modulator=signal)
        outputs.append(post)
    return torch.stack(outputs) if outputs else current, state


def plastic_lstm_scan(
    drive: Float[Tensor, "time batch gates"],
    weight: Float[Tensor, "gates hidden"],
    alpha: Float[Tensor, "..."] | LowRank,
    rule: PlasticityRule,
    state: PlasticLSTMState,
    *,
    neuromodulator: Neuromodulator | None = None,
    hebb_post: str = "input",
    modulator_source: str = "hidden",
    read_clip: float | None = None,
) -> tuple[Float[Tensor, "time batch hidden"], PlasticLSTMState]:
    """Run an LSTM whose connections from the hidden units to the cell input are plastic through time.

        i, f, o = sigmoid(u_k(t) + W_k h(t-1))               k = i, f, o
        r       = (W_g + alpha * H(t-1)) h(t-1)
        g       = tanh(u_g(t) + r)
        c(t)    = f c(t-1) + i g
        h(t)    = o tanh(c(t))
        m(t)    = neuromodulator(h(t))
        H(t)    = rule(H(t-1), x = h(t-1), y = g, m = m(t))

    Args:
        drive: u, biases included, of the gates in torch's order i, f, g, o, (time, batch, 4 hidden).
        weight: Fixed weights W of the gates, (4 hidden, hidden).
        alpha: Plasticity coefficients, (post, pre), (post,), () or two factors.
        rule: The plasticity rule.
        state: State before the first step.
        neuromodulator: The module that modulates the rule; None if the rule is not modulated.
        hebb_post: The rule's y: ``"input"`` g, ``"recurrent"`` r, ``"cell"`` c(t) or ``"hidden"`` h(t).
        modulator_source: The input of the neuromodulator: ``"hidden"``, ``"cell"`` or ``"previous"`` h(t-1).
        read_clip: Bound of the traces where they act, clip(H(t-1)) in r; None: no bound.

    Returns:
        The output h at every step, and the state after the last one.

    Raises:
        ValueError: Shapes, dtypes or devices do not match, or an option is unknown.

    Source: Miconi, Rawal, Clune and Stanley, "Backpropamine" (2019), the plastic LSTM, with the options of its code.

    Examples:
        >>> from engram.plasticity import ClippedHebb
        >>> rule, zeros = ClippedHebb(), torch.zeros(1, 2)
        >>> state = PlasticLSTMState(zeros, zeros, rule.init(1, 2, 2))
        >>> plastic_lstm_scan(torch.ones(1, 1, 8), torch.zeros(8, 2), torch.tensor(1.0), rule, state)[0].tolist()
        [[[0.369..., 0.369...]]]
    """
    checks.arguments()
    hidden, cell, synapses = state
    (_, batch, gates), size = drive.shape, weight.shape[1]
    if gates != 4 * size:
        raise ValueError(f"weight.shape = {tuple(weight.shape)}: expected (4 hidden, hidden)")
    for name, tensor in (("hidden", hidden), ("cell", cell)):
        checks.tensor(f"state.{name}", tensor, (batch, size), like=weight)
    rule.check_state(synapses, (batch, size, size), like=weight)
    alpha = alpha.dense() if isinstance(alpha, LowRank) else alpha
    _check_alpha(alpha, size, size)
    checks.choice("hebb_post", hebb_post, ("input", "recurrent", "cell", "hidden"))
    checks.choice("modulator_source", modulator_source, ("hidden", "cell", "previous"))
    checked_bound(read_clip, "read_clip")
    cell_input = slice(2 * size, 3 * size)
    outputs = []
    for external in drive.unbind(0):
        fixed = hidden @ weight.t()
        recurrent = _plastic_current(fixed[:, cell_input], hidden, alpha, bounded(synapses.trace, read_clip))
        cell_activity = torch.tanh(external[:, cell_input] + recurrent)
        admit, forget, _, emit = torch.sigmoid(external + fixed).chunk(4, dim=1)
        cell = forget * cell + admit * cell_activity
        output = emit * torch.tanh(cell)
        modulator = None
        if neuromodulator is not None:
            modulator = neuromodulator({"hidden": output, "cell": cell, "previous": hidden}[modulator_source])
        post = {"input": cell_activity, "recurrent": recurrent, "cell": cell, "hidden": output}[hebb_post]
        synapses = rule.update(synapses, pre=hidden, post=post, modulator=modulator)
        hidden = output
        outputs.append(hidden)
    return torch.stack(outputs) if outputs else drive[..., :size], PlasticLSTMState(hidden, cell, synapses)
