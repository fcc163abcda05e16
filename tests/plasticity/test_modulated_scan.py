"""The functional core with modulated rules, and of the LSTM, against a backward pass derived by hand."""

import numpy as np
import pytest
import torch

from engram.plasticity import (
    ClippedHebb,
    EligibilityState,
    Modulated,
    Neuromodulator,
    PlasticLSTMState,
    PlasticState,
    Retroactive,
    TraceState,
    plastic_lstm_scan,
    plastic_scan,
)

TIME, BATCH, UNITS = 9, 3, 6
ALPHA_SHAPES = [(UNITS, UNITS), (UNITS,), ()]
BOUND, LSTM_BOUND = 0.4, 0.15  # so tight that many traces reach it
RULES = {
    "clipped": lambda: ClippedHebb(0.3, BOUND, dtype=torch.float64),
    "modulated": lambda: Modulated(BOUND),
    "soft": lambda: Modulated(BOUND, "soft"),
    "decay": lambda: Modulated(BOUND, "decay"),
    "retroactive": lambda: Retroactive(0.6, BOUND, dtype=torch.float64),
    "trace first": lambda: Retroactive(0.6, BOUND, trace_first=True, dtype=torch.float64),
}
CASES = [("clipped", False), *((name, fan_out) for name in list(RULES)[1:] for fan_out in (False, True))]


def draw(*shape, seed=0, scale=1.0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def neuromodulator(fan_out, seed=20):
    """Return one whose signals are large, of both signs, and partly within [0, 1]."""
    modulator = Neuromodulator(UNITS, fan_out, dtype=torch.float64)
    with torch.no_grad():
        for number, parameter in enumerate(modulator.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=seed + number, scale=0.8))
    return modulator


def signal_by_hand(parameters, source):
    """Return M, (batch,), and m, (batch, units), of a neuromodulator that reads ``source``."""
    M = np.tanh(source @ parameters["v"][0] + parameters["v0"])
    if "F" not in parameters:
        return M, np.repeat(M[:, None], UNITS, axis=1)
    return M, M[:, None] * parameters["F"][:, 0] + parameters["b"]


def signal_backward(parameters, gradients, source, M, m_grad):
    """Add to the gradients of a neuromodulator; return that of what it reads."""
    M_grad = m_grad.sum(1)
    if "F" in parameters:
        gradients["F"] += (M[:, None] * m_grad).sum(0)[:, None]
        gradients["b"] += m_grad.sum(0)
        M_grad = m_grad @ parameters["F"][:, 0]
    s = M_grad * (1 - M**2)
    gradients["v"] += (s @ source)[None]
    gradients["v0"] += s.sum(0, keepdims=True)
    return s[:, None] * parameters["v"]


def named(modulator):
    """Return the parameters of a neuromodulator by the names of the paper; none for None."""
    return {} if modulator is None else dict(zip(("v", "v0", "F", "b"), modulator.parameters(), strict=False))


def check(by_autograd, by_hand):
    assert set(by_autograd) == set(by_hand)
    for name, expected in by_hand.items():
        np.testing.assert_allclose(by_autograd[name].numpy(), expected, rtol=1e-10, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("clamped", [False, True])
@pytest.mark.parametrize("alpha_shape", ALPHA_SHAPES)
@pytest.mark.parametrize(("name", "fan_out"), CASES)
def test_autograd_agrees_with_the_backward_pass_derived_by_hand(name, fan_out, alpha_shape, clamped):
    mask = draw(TIME, BATCH, UNITS, seed=9) > (0.5 if clamped else 100)
    rule, modulator = RULES[name](), neuromodulator(fan_out) if name != "clipped" else None
    inputs = {
        "drive": draw(TIME, BATCH, UNITS, scale=0.7),
        "weight": draw(UNITS, UNITS, seed=1, scale=0.4),
        "alpha": draw(*alpha_shape, seed=2, scale=0.6),
        "hidden": draw(BATCH, UNITS, seed=3, scale=0.5),
        "trace": draw(BATCH, UNITS, UNITS, seed=4, scale=0.1).clamp(-BOUND, BOUND),
    }
    if rule.state_type is EligibilityState:
        inputs["eligibility"] = draw(BATCH, UNITS, UNITS, seed=7, scale=0.3)
    leaves = {key: tensor.clone().requires_grad_() for key, tensor in inputs.items()}
    traces = rule.state_type(*(leaves[field] for field in rule.state_type._fields))
    output, last = plastic_scan(
        leaves["drive"],
        leaves["weight"],
        leaves["alpha"],
        rule,
        PlasticState(leaves["hidden"], traces),
        neuromodulator=modulator,
        clamp=mask if clamped else None,
    )
    # A loss that is linear in every output and in the final traces, so that its direct gradients are known.
    output_grad = draw(TIME, BATCH, UNITS, seed=5)
    trace_grads = {
        key: draw(BATCH, UNITS, UNITS, seed=6 + number) for number, key in enumerate(rule.state_type._fields)
    }
    loss = (output * output_grad).sum()
    for key, gradient in trace_grads.items():
        loss = loss + (getattr(last, key) * gradient).sum()
    loss.backward()

    by_hand, cut = run_by_hand(
        name,
        {key: tensor.numpy() for key, tensor in inputs.items()},
        {key: p.detach().numpy() for key, p in named(modulator).items()},
        mask.numpy(),
        output_grad=output_grad.numpy(),
        trace_grads={key: gradient.numpy() for key, gradient in trace_grads.items()},
    )
    assert cut > (0 if name == "decay" else 50)
    by_autograd = {key: leaf.grad for key, leaf in leaves.items()}
    by_autograd |= {"output": output.detach(), **{f"last {key}": getattr(last, key).detach() for key in trace_grads}}
    by_autograd |= {key: p.grad for key, p in (named(modulator) | dict(rule.named_parameters())).items()}
    check(by_autograd, by_hand)


def run_by_hand(name, inputs, parameters, mask, *, output_grad, trace_grads):
    """Run forward, and backward by the derived equations, in the notation of the paper; also count the traces cut."""
    drive, weight, alpha = inputs["drive"], inputs["weight"], inputs["alpha"]
    scale = alpha[:, None] if alpha.ndim == 1 else alpha
    retroactive, eta = "eligibility" in inputs, {"clipped": 0.3}.get(name, 0.6)
    steps, y, H, E = [], inputs["hidden"], inputs["trace"], inputs.get("eligibility")
    for u, clamped in zip(drive, mask, strict=True):
        x = y
        z = np.tanh(u + np.einsum("bji,bi->bj", weight + scale * H, x))
        y = np.where(clamped, u, z)
        M, m = (None, np.full_like(y, eta)) if name == "clipped" else signal_by_hand(parameters, y)
        inside = (m >= 0) & (m <= 1)
        m = np.clip(m, 0, 1) if name == "decay" else m
        product = y[:, :, None] * x[:, None, :]
        after = (1 - eta) * E + eta * product if retroactive else None
        d = m[:, :, None] * (product if not retroactive else after if name == "trace first" else E)
        keep = {"soft": 1 - np.abs(d), "decay": 1 - m[:, :, None]}.get(name, 1)
        P = keep * H + d
        steps.append((x, y, z, M, m, inside, H, E, after, d, keep, P))
        H, E = np.clip(P, -BOUND, BOUND), after

    grads = {key: np.zeros_like(value) for key, value in (inputs | parameters).items()}
    grads |= {"eta": 0.0} if retroactive or name == "clipped" else {}
    connection_grad, x_grad, cut = np.zeros_like(weight), np.zeros_like(y), 0
    H_grad, E_grad = trace_grads["trace"], trace_grads.get("eligibility")
    for t in reversed(range(len(drive))):
        x, y, z, M, m, inside, H_before, E_before, E_after, d, keep, P = steps[t]
        y_grad, x_grad = output_grad[t] + x_grad, np.zeros_like(x)
        # The rule first: what it adds to the gradient of the activity passes through the nonlinearity too.
        G = H_grad * (np.abs(P) <= BOUND)
        cut += (np.abs(P) > BOUND).sum()
        if retroactive:
            m_grad = np.einsum("bji,bji->bj", G, E_after if name == "trace first" else E_before)
            if name == "trace first":
                E_grad = E_grad + m[:, :, None] * G
            q = np.einsum("bji,bi->bj", E_grad, x)
            y_grad = y_grad + eta * q
            x_grad = x_grad + eta * np.einsum("bji,bj->bi", E_grad, y)
            grads["eta"] += (q * y).sum() - (E_grad * E_before).sum()
            E_grad = (1 - eta) * E_grad
            if name == "retroactive":
                E_grad = E_grad + m[:, :, None] * G
            H_grad = G
        else:
            D = G * (1 - np.sign(d) * H_before) if name == "soft" else G
            q = np.einsum("bji,bi->bj", D, x)
            m_grad = y * q
            y_grad = y_grad + m * q
            x_grad = x_grad + np.einsum("bji,bj->bi", D, m * y)
            if name == "decay":
                m_grad = (m_grad - np.einsum("bji,bji->bj", G, H_before)) * inside
            H_grad = keep * G
        if name == "clipped":
            grads["eta"] += m_grad.sum()
        else:
            y_grad = y_grad + signal_backward(parameters, grads, y, M, m_grad)
        delta = np.where(mask[t], 0, y_grad * (1 - z**2))
        grads["drive"][t] = np.where(mask[t], y_grad, delta)
        outer = delta[:, :, None] * x[:, None, :]
        grads["weight"] += outer.sum(0)
        connection_grad += (H_before * outer).sum(0)
        H_grad = H_grad + scale * outer
        x_grad = x_grad + np.einsum("bji,bj->bi", weight + scale * H_before, delta)
    grads |= {"hidden": x_grad, "trace": H_grad, "alpha": connection_grad.sum(axis=tuple(range(alpha.ndim, 2)))}
    grads |= {"eligibility": E_grad, "last eligibility": steps[-1][8]} if retroactive else {}
    return grads | {"output": np.stack([step[1] for step in steps]), "last trace": H}, cut


@pytest.mark.parametrize("alpha_shape", ALPHA_SHAPES)
@pytest.mark.parametrize("fan_out", [False, True])
def test_autograd_of_the_lstm_agrees_with_the_backward_pass_derived_by_hand(fan_out, alpha_shape):
    rule, modulator = Modulated(LSTM_BOUND), neuromodulator(fan_out)
    inputs = {
        "drive": draw(TIME, BATCH, 4 * UNITS, scale=0.7),
        "weight": draw(4 * UNITS, UNITS, seed=1, scale=0.4),
        "alpha": draw(*alpha_shape, seed=2, scale=0.6),
        "hidden": draw(BATCH, UNITS, seed=3, scale=0.5),
        "cell": draw(BATCH, UNITS, seed=7, scale=0.5),
        "trace": draw(BATCH, UNITS, UNITS, seed=4, scale=0.1).clamp(-LSTM_BOUND, LSTM_BOUND),
    }
    leaves = {key: tensor.clone().requires_grad_() for key, tensor in inputs.items()}
    start = PlasticLSTMState(leaves["hidden"], leaves["cell"], TraceState(leaves["trace"]))
    output, last = plastic_lstm_scan(
        leaves["drive"], leaves["weight"], leaves["alpha"], rule, start, neuromodulator=modulator
    )
    output_grad, cell_grad = draw(TIME, BATCH, UNITS, seed=5), draw(BATCH, UNITS, seed=8)
    trace_grad = draw(BATCH, UNITS, UNITS, seed=6)
    ((output * output_grad).sum() + (last.cell * cell_grad).sum() + (last.trace * trace_grad).sum()).backward()

    by_hand, cut = run_lstm_by_hand(
        {key: tensor.numpy() for key, tensor in inputs.items()},
        {key: p.detach().numpy() for key, p in named(modulator).items()},
        output_grad.numpy(),
        cell_grad.numpy(),
        trace_grad.numpy(),
    )
    assert cut > 20
    by_autograd = {key: leaf.grad for key, leaf in leaves.items()} | {
        key: p.grad for key, p in named(modulator).items()
    }
    check(
        by_autograd | {"output": output.detach(), "last cell": last.cell.detach(), "last trace": last.trace.detach()},
        by_hand,
    )


def run_lstm_by_hand(inputs, parameters, output_grad, c_grad, H_grad):
    """Run the plastic LSTM forward, and backward by the derived equations; also count the traces cut."""
    drive, weight, alpha = inputs["drive"], inputs["weight"], inputs["alpha"]
    scale = alpha[:, None] if alpha.ndim == 1 else alpha
    Wi, Wf, Wg, Wo = np.split(weight, 4)
    steps, h, c, H = [], inputs["hidden"], inputs["cell"], inputs["trace"]
    for u in drive:
        before = h, c, H
        ui, uf, ug, uo = np.split(u, 4, axis=1)
        i, f, o = (1 / (1 + np.exp(-(v + h @ W.T))) for v, W in ((ui, Wi), (uf, Wf), (uo, Wo)))
        g = np.tanh(ug + np.einsum("bji,bi->bj", Wg + scale * H, h))
        c = f * c + i * g
        h = o * np.tanh(c)
        M, m = signal_by_hand(parameters, h)
        P = H + (m * g)[:, :, None] * before[0][:, None, :]
        H = np.clip(P, -LSTM_BOUND, LSTM_BOUND)
        steps.append((*before, i, f, o, g, c, h, M, m, P))

    grads = {key: np.zeros_like(value) for key, value in (inputs | parameters).items()}
    connection_grad, h_grad, cut = np.zeros_like(Wg), np.zeros_like(h), 0
    for t in reversed(range(len(drive))):
        x, c_before, H_before, i, f, o, g, c, h, M, m, P = steps[t]
        h_grad = output_grad[t] + h_grad
        G = H_grad * (np.abs(P) <= LSTM_BOUND)
        cut += (np.abs(P) > LSTM_BOUND).sum()
        q = np.einsum("bji,bi->bj", G, x)
        g_grad, m_grad = m * q, g * q
        x_grad = np.einsum("bji,bj->bi", G, m * g)
        h_grad = h_grad + signal_backward(parameters, grads, h, M, m_grad)
        o_grad = h_grad * np.tanh(c)
        c_grad = c_grad + h_grad * o * (1 - np.tanh(c) ** 2)
        f_grad, i_grad, g_grad = c_grad * c_before, c_grad * g, g_grad + c_grad * i
        c_grad = c_grad * f
        di, df, do = (grad * gate * (1 - gate) for grad, gate in ((i_grad, i), (f_grad, f), (o_grad, o)))
        dg = g_grad * (1 - g**2)
        grads["drive"][t] = np.concatenate((di, df, dg, do), axis=1)
        grads["weight"] += grads["drive"][t].T @ x
        outer = dg[:, :, None] * x[:, None, :]
        connection_grad += (H_before * outer).sum(0)
        h_grad = x_grad + di @ Wi + df @ Wf + do @ Wo + np.einsum("bji,bj->bi", Wg + scale * H_before, dg)
        H_grad = G + scale * outer
    grads |= {"hidden": h_grad, "cell": c_grad, "trace": H_grad}
    grads["alpha"] = connection_grad.sum(axis=tuple(range(alpha.ndim, 2)))
    return grads | {"output": np.stack([step[8] for step in steps]), "last cell": steps[-1][7], "last trace": H}, cut
