import pytest
import torch

from engram.plasticity import ClampedLSTM, LSTMState

INPUTS, UNITS = 5, 12


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=seeded(seed))


def test_it_is_an_lstm_into_which_the_clamped_values_were_written():
    lstm = ClampedLSTM(INPUTS, UNITS, generator=seeded())
    peer = torch.nn.LSTM(INPUTS, UNITS)
    peer.load_state_dict(lstm.state_dict())
    with torch.no_grad():
        weight, bias = peer.weight_ih_l0.view(4, UNITS, INPUTS), peer.bias_ih_l0.view(4, UNITS)
        weight[2, :INPUTS] = 10 * torch.eye(INPUTS)
        for gate, value in enumerate((10, -1000, 0, 10)):
            bias[gate, :INPUTS] = value
        peer.bias_hh_l0.zero_()
    start = LSTMState(draw(1, 2, UNITS, seed=1), draw(1, 2, UNITS, seed=2))
    output, state = lstm(draw(6, 2, INPUTS), start)
    expected, (hidden, cell) = peer(100 * draw(6, 2, INPUTS), start)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(state.hidden, hidden)
    torch.testing.assert_close(state.cell, cell)


def test_the_first_units_show_the_sign_of_the_input_after_one_step():
    patterns = draw(1, 20, 50).sign()
    output, _ = ClampedLSTM(50, 2000, generator=seeded())(patterns)
    assert torch.equal(output[..., :50].sign(), patterns)


@pytest.mark.parametrize(("units", "share"), [(2000, 0.73), (200, 0.40)])
def test_narrow_networks_close_more_gates_as_the_docstring_says(units, share):
    output, _ = ClampedLSTM(50, units, generator=seeded())(draw(1, 200, 50).sign())
    assert (output[..., :50].abs() > 0.5).float().mean().item() == pytest.approx(share, abs=0.03)


def test_a_clamped_unit_takes_on_its_feature_where_the_others_leave_its_gates_alone():
    alone = torch.eye(50).unsqueeze(0)
    output, _ = ClampedLSTM(50, 400, generator=seeded())(alone)
    shown = output[0, :, :50].diagonal()
    assert (shown - torch.tanh(torch.tensor(1.0))).abs().max() < 0.02


def test_a_clamped_unit_forgets_at_once():
    lstm = ClampedLSTM(INPUTS, UNITS, generator=seeded())
    _, state = lstm(torch.zeros(1, 2, INPUTS), LSTMState(torch.zeros(1, 2, UNITS), 1e3 * torch.ones(1, 2, UNITS)))
    assert not state.cell[..., :INPUTS].any()
    assert (state.cell[..., INPUTS:] > 1).all()


def test_clamped_entries_keep_their_values_and_get_no_gradient():
    lstm = ClampedLSTM(INPUTS, UNITS, generator=seeded())
    before = {name: p.clone() for name, p in lstm.named_parameters()}
    # Weak input, or the gates saturate and the free entries get no gradient either.
    lstm(1e-3 * draw(6, 2, INPUTS))[0].square().sum().backward()
    assert all(torch.equal(p, before[name]) for name, p in lstm.named_parameters())
    weight, bias = lstm.weight_ih_l0.grad.view(4, UNITS, INPUTS), lstm.bias_ih_l0.grad.view(4, UNITS)
    assert not weight[2, :INPUTS].any()
    assert not bias[:, :INPUTS].any()
    assert weight[2, INPUTS:].all()
    assert weight[[0, 3]].all()
    assert bias[:, INPUTS:].all()
    assert lstm.weight_hh_l0.grad.any()
    assert lstm.bias_hh_l0.grad is None


def test_initial_values_are_those_of_an_lstm():
    lstm, like = ClampedLSTM(10, 400, generator=seeded()), torch.nn.LSTM(10, 400)
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"):
        assert getattr(lstm, name).std().item() == pytest.approx(getattr(like, name).std().item(), rel=0.1)
        assert getattr(lstm, name).abs().max().item() == pytest.approx(400**-0.5, rel=0.01)
    assert not lstm.bias_hh_l0.any()


LSTM = ClampedLSTM(INPUTS, UNITS)
BAD = {
    "units": (lambda: ClampedLSTM(5, 4), ValueError, "hidden_size = 4: expected at least input_size = 5"),
    "size": (lambda: ClampedLSTM(-1, 4), ValueError, "input_size = -1: expected at least 1"),
    "state length": (lambda: LSTM(draw(2, 3, INPUTS), (draw(1, 3, UNITS),) * 3), TypeError, "state"),
    "state rank": (
        lambda: LSTM(draw(2, 3, INPUTS), (draw(3, UNITS), draw(3, UNITS))),
        ValueError,
        r"state.hidden.shape = \(3, 12\): expected \(1, 3, 12\)",
    ),
    "cell dtype": (
        lambda: LSTM(draw(2, 3, INPUTS), (draw(1, 3, UNITS), draw(1, 3, UNITS).double())),
        ValueError,
        "state.cell.dtype = torch.float64: expected torch.float32",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name):
    call, expected, message = BAD[name]
    with pytest.raises(expected, match=message):
        call()
