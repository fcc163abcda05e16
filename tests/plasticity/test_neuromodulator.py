import pytest
import torch

from engram.plasticity import Neuromodulator


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("nonlinearity", ["tanh", "sigmoid", "identity"])
def test_the_signal_is_that_of_one_unit_and_fans_out(nonlinearity):
    modulator = Neuromodulator(5, fan_out=True, nonlinearity=nonlinearity, generator=seeded())
    activity = torch.randn(3, 5, generator=seeded(1))
    current = activity @ modulator.weight[0] + modulator.bias
    signal = current if nonlinearity == "identity" else getattr(torch, nonlinearity)(current)
    expected = signal[:, None] * modulator.fan_weight[:, 0] + modulator.fan_bias
    torch.testing.assert_close(modulator(activity), expected)
    single = Neuromodulator(5, nonlinearity=nonlinearity)
    single.load_state_dict({"weight": modulator.weight, "bias": modulator.bias})
    torch.testing.assert_close(single(activity), signal[:, None])


def test_initial_values_are_those_of_two_linear_layers():
    modulator = Neuromodulator(400, fan_out=True, generator=seeded())
    assert modulator.weight.abs().max().item() == pytest.approx(400**-0.5, rel=0.05)
    assert modulator.bias.abs().item() <= 400**-0.5
    for fan in (modulator.fan_weight, modulator.fan_bias):
        assert 0.95 < fan.abs().max().item() <= 1
        assert fan.std().item() == pytest.approx(3**-0.5, rel=0.1)
    again = Neuromodulator(400, fan_out=True, generator=seeded())
    assert all(torch.equal(p, q) for p, q in zip(modulator.parameters(), again.parameters(), strict=True))


def test_it_has_as_many_parameters_as_the_published_one():
    assert sum(p.numel() for p in Neuromodulator(100).parameters()) == 101
    assert sum(p.numel() for p in Neuromodulator(100, True).parameters()) == 301
    assert sum(p.numel() for p in Neuromodulator(100, "connection").parameters()) == 101 + 100**2


def test_the_signal_fans_out_to_connections():
    modulator = Neuromodulator(5, "connection", generator=seeded())
    assert 0.9 < modulator.fan_weight.abs().max().item() <= 1
    activity = torch.randn(3, 5, generator=seeded(1))
    signal = torch.tanh(activity @ modulator.weight[0] + modulator.bias)
    torch.testing.assert_close(modulator(activity), torch.einsum("b,ji->bji", signal, modulator.fan_weight))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Neuromodulator(0), "hidden_size = 0: expected at least 1"),
        (lambda: Neuromodulator(3, "post"), "fan_out = 'post': expected one of False, True, 'connection'"),
        (lambda: Neuromodulator(3, nonlinearity="relu"), "nonlinearity = 'relu': expected one of 'tanh', 'sigmoid'"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_repr_names_the_arguments():
    assert repr(Neuromodulator(3, True)) == "Neuromodulator(3, fan_out=True, nonlinearity='tanh')"
