"""The functional core against closed forms, and against a backward pass derived by hand."""

import numpy as np
import pytest
import torch

from engram.plasticity import Hebb, Oja, PlasticState, TraceState, plastic_scan

TIME, BATCH, UNITS = 9, 3, 6
ALPHA_SHAPES = [(UNITS, UNITS), (UNITS,), ()]
RULES = [Hebb, Oja]


def draw(*shape, seed=0, scale=1.0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def initial(rule, batch=BATCH, units=UNITS):
    state = rule.init(batch, units, units)
    return PlasticState(state.trace.new_zeros(batch, units), state)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"alpha": draw(UNITS, 1)}, r"alpha\.shape = \(6, 1\): expected \(\), \(6,\) or \(6, 6\)"),
        ({"state": initial(Hebb(dtype=torch.float64), 2)}, r"state\.hidden\.shape = \(2, 6\): expected \(3, 6\)"),
        ({"state": initial(Hebb())}, r"state\.hidden\.dtype = torch.float32: expected torch.float64"),
        ({"state": PlasticState(draw(3, 6), TraceState(draw(3, 6, 5)))}, r"state\.trace\.shape = \(3, 6, 5\)"),
    ],
)
def test_what_does_not_fit_the_drive_is_named(wrong, message):
    rule = Hebb(dtype=torch.float64)
    given = {"alpha": draw(UNITS, UNITS), "state": initial(rule)} | wrong
    with pytest.raises(ValueError, match=message):
        plastic_scan(draw(TIME, BATCH, UNITS), draw(UNITS, UNITS), rule=rule, **given)


@pytest.mark.parametrize("rule_class", RULES)
def test_one_step_leaves_no_trace_and_two_leave_one_product(rule_class):
    rule, weight, alpha = rule_class(0.1, dtype=torch.float64), draw(UNITS, UNITS), draw(UNITS, UNITS, seed=1)
    output, state = plastic_scan(draw(2, BATCH, UNITS, seed=2), weight, alpha, rule, initial(rule))
    _, first = plastic_scan(draw(2, BATCH, UNITS, seed=2)[:1], weight, alpha, rule, initial(rule))
    assert not first.trace.any()
    torch.testing.assert_close(state.trace, 0.1 * output[1][:, :, None] * output[0][:, None, :])


@pytest.mark.parametrize("rule_class", RULES)
@pytest.mark.parametrize("alpha_shape", ALPHA_SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_alpha_it_is_the_ordinary_network_bit_by_bit(rule_class, alpha_shape, dtype):
    rule, weight, drive = rule_class(0.1, dtype=dtype), draw(UNITS, UNITS).to(dtype), draw(TIME, BATCH, UNITS).to(dtype)
    start = initial(rule)
    plastic, state = plastic_scan(drive, weight, torch.zeros(alpha_shape, dtype=dtype), rule, start)
    ordinary, _ = plastic_scan(drive, weight, None, None, start)
    assert torch.equal(plastic, ordinary)
    assert state.trace.any()


@pytest.mark.parametrize("rule_class", RULES)
def test_without_eta_there_is_no_trace_and_alpha_gets_no_gradient(rule_class):
    rule, alpha = rule_class(0.0, dtype=torch.float64), draw(UNITS, UNITS).requires_grad_()
    output, state = plastic_scan(draw(TIME, BATCH, UNITS), draw(UNITS, UNITS, seed=1), alpha, rule, initial(rule))
    output.square().sum().backward()
    assert not state.trace.any()
    assert not alpha.grad.any()


@pytest.mark.parametrize("rule_class", RULES)
def test_one_stored_pattern_is_recalled_from_half_of_its_bits(rule_class):
    units = 40
    pattern = draw(2, units).sign()
    rule, weight, alpha = rule_class(0.1, dtype=torch.float64), torch.zeros(units, units).double(), torch.ones(())
    everything = torch.ones(4, 2, units, dtype=torch.bool)
    shown = pattern.expand(4, 2, units)
    _, state = plastic_scan(shown, weight, alpha.double(), rule, initial(rule, 2, units), clamp=everything)
    # A Hopfield network: the trace is a positive multiple of the outer product of the pattern with itself.
    multiple = state.trace / (pattern[:, :, None] * pattern[:, None, :])
    torch.testing.assert_close(multiple, multiple[:, :1, :1].expand_as(multiple))
    assert (multiple > 0).all()

    visible = torch.arange(units) < units // 2
    probe = pattern.where(visible, 0.0).expand(2, 2, units)
    start = PlasticState(torch.zeros(2, units).double(), state.rule)
    output, _ = plastic_scan(probe, weight, alpha.double(), rule, start, clamp=visible.expand(2, 2, units))
    assert torch.equal(output[-1].sign(), pattern)


@pytest.mark.parametrize("clamped", [False, True])
@pytest.mark.parametrize("alpha_shape", ALPHA_SHAPES)
@pytest.mark.parametrize("rule_class", RULES)
def test_autograd_agrees_with_the_backward_pass_derived_by_hand(rule_class, alpha_shape, clamped):
    mask = draw(TIME, BATCH, UNITS, seed=9) > 0.5 if clamped else torch.zeros(TIME, BATCH, UNITS, dtype=torch.bool)
    rule = rule_class(0.1, dtype=torch.float64)
    inputs = {
        "drive": draw(TIME, BATCH, UNITS, scale=0.7),
        "weight": draw(UNITS, UNITS, seed=1, scale=0.4),
        "alpha": draw(*alpha_shape, seed=2, scale=0.6),
        "hidden": draw(BATCH, UNITS, seed=3, scale=0.5),
        "trace": draw(BATCH, UNITS, UNITS, seed=4, scale=0.3),
    }
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in inputs.items()}
    start = PlasticState(leaves["hidden"], TraceState(leaves["trace"]))
    output, last = plastic_scan(
        leaves["drive"], leaves["weight"], leaves["alpha"], rule, start, clamp=mask if clamped else None
    )
    # A loss that is linear in every output and in the final trace, so that its direct gradients are known.
    output_grad, trace_grad = draw(TIME, BATCH, UNITS, seed=5), draw(BATCH, UNITS, UNITS, seed=6)
    ((output * output_grad).sum() + (last.trace * trace_grad).sum()).backward()

    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    by_hand = run_by_hand(
        arrays,
        mask.numpy(),
        eta=0.1,
        is_oja=rule_class is Oja,
        output_grad=output_grad.numpy(),
        trace_grad=trace_grad.numpy(),
    )
    by_autograd = {name: leaf.grad for name, leaf in leaves.items()} | {"eta": rule.eta.grad}
    by_autograd |= {"output": output.detach(), "last trace": last.trace.detach()}
    for name, expected in by_hand.items():
        np.testing.assert_allclose(by_autograd[name].numpy(), expected, rtol=1e-10, atol=1e-10, err_msg=name)


def run_by_hand(inputs, mask, *, eta, is_oja, output_grad, trace_grad):
    """Run forward, and backward by the derived equations; x and y are pre- and postsynaptic activity, H the trace."""
    drive, weight, alpha = inputs["drive"], inputs["weight"], inputs["alpha"]
    scale = alpha[:, None] if alpha.ndim == 1 else alpha
    activities, traces, free = [inputs["hidden"]], [inputs["trace"]], []
    for u, clamped in zip(drive, mask, strict=True):
        x, H = activities[-1], traces[-1]
        z = np.tanh(u + np.einsum("bji,bi->bj", weight + scale * H, x))
        y = np.where(clamped, u, z)
        keep = 1 - eta * y**2 if is_oja else np.full_like(y, 1 - eta)
        activities.append(y)
        traces.append(keep[:, :, None] * H + eta * y[:, :, None] * x[:, None, :])
        free.append(z)

    drive_grad, weight_grad, connection_grad = np.zeros_like(drive), np.zeros_like(weight), np.zeros_like(weight)
    eta_grad, x_grad, H_grad = 0.0, np.zeros_like(activities[0]), trace_grad
    for t in reversed(range(len(drive))):
        x, y, H = activities[t], activities[t + 1], traces[t]
        y_grad = output_grad[t] + x_grad
        # The rule first: what it adds to the gradient of the activity passes through the nonlinearity too.
        q = np.einsum("bji,bi->bj", H_grad, x)
        s = np.einsum("bji,bji->bj", H_grad, H)
        x_grad = eta * np.einsum("bji,bj->bi", H_grad, y)
        if is_oja:
            y_grad = y_grad + eta * (q - 2 * y * s)
            eta_grad += (y * q - y**2 * s).sum()
            H_grad = (1 - eta * y**2)[:, :, None] * H_grad
        else:
            y_grad = y_grad + eta * q
            eta_grad += (q * y - s).sum()
            H_grad = (1 - eta) * H_grad
        delta = np.where(mask[t], 0, y_grad * (1 - free[t] ** 2))
        drive_grad[t] = np.where(mask[t], y_grad, delta)
        outer = delta[:, :, None] * x[:, None, :]
        weight_grad += outer.sum(0)
        connection_grad += (H * outer).sum(0)
        H_grad = H_grad + scale * outer
        x_grad = x_grad + np.einsum("bji,bj->bi", weight + scale * H, delta)
    return {
        "output": np.stack(activities[1:]),
        "last trace": traces[-1],
        "drive": drive_grad,
        "weight": weight_grad,
        "alpha": connection_grad.sum(axis=tuple(range(alpha.ndim, 2))),
        "hidden": x_grad,
        "trace": H_grad,
        "eta": eta_grad,
    }
