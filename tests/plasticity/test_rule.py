import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from engram.plasticity import (
    ClippedHebb,
    Coefficients,
    Hebb,
    Modulated,
    Oja,
    PlasticityRule,
    PlasticRNN,
    Retroactive,
    TraceState,
)


class PerUnit(PlasticityRule):
    """Coefficients of every shape that the contract allows: a number, one per unit, one per unit and episode."""

    def __init__(self, decay, gain):
        super().__init__()
        self.decay, self.gain = nn.Parameter(decay), nn.Parameter(gain)

    def coefficients(self, post, modulator=None):
        return Coefficients(self.decay, self.gain if modulator is None else self.gain * modulator, post)


@pytest.mark.parametrize("decay_shape", [(), (4,), (3, 1), (3, 4)])
@pytest.mark.parametrize("gain_shape", [(), (4,), (3, 1), (3, 4)])
def test_update_is_the_linear_recursion_for_coefficients_of_every_shape(decay_shape, gain_shape):
    generator = torch.Generator().manual_seed(0)
    decay, gain, trace, pre, post, modulator = (
        torch.randn(shape, generator=generator)
        for shape in (decay_shape, gain_shape, (3, 4, 2), (3, 2), (3, 4), (3, 1))
    )
    updated = PerUnit(decay, gain).update(TraceState(trace), pre, post, modulator).trace
    for b in range(3):
        for j in range(4):
            for i in range(2):
                expected = (1 - decay.expand(3, 4)[b, j]) * trace[b, j, i]
                expected += gain.expand(3, 4)[b, j] * modulator[b, 0] * post[b, j] * pre[b, i]
                torch.testing.assert_close(updated[b, j, i], expected)


@pytest.mark.parametrize("rule_class", [Hebb, Oja, ClippedHebb, Retroactive])
def test_a_rate_through_a_sigmoid_is_the_same_rate_and_stays_in_the_unit_interval(rule_class):
    raw, squashed = rule_class(0.2, dtype=torch.float64), rule_class(0.2, eta_param="sigmoid", dtype=torch.float64)
    assert list(dict(squashed.named_parameters())) == ["eta_logit"]
    torch.testing.assert_close(squashed.eta, raw.eta.detach())
    gradients = []
    for rule in (raw, squashed):
        state = rule.init(2, 3, 4)
        generator = torch.Generator().manual_seed(0)
        for _ in range(3):
            pre, post = (torch.randn(2, n, generator=generator, dtype=torch.float64) for n in (4, 3))
            signal = [torch.ones(2, 1).double()] if rule.modulated else []
            state = rule.update(state, pre, post, *signal)
        state.trace.square().sum().backward()
        gradients.append(next(rule.parameters()).grad)
    torch.testing.assert_close(gradients[1], 0.2 * 0.8 * gradients[0])
    with torch.no_grad():
        squashed.eta_logit.sub_(1000)
    assert squashed.eta == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eta": 1.0, "eta_param": "sigmoid"}, "eta = 1.0: expected a number between 0 and 1"),
        ({"eta": float("nan"), "eta_param": "sigmoid"}, "eta = nan: expected a finite number"),
        ({"eta_param": "tanh"}, "eta_param = 'tanh': expected one of 'raw', 'sigmoid'"),
    ],
)
def test_a_rate_that_no_sigmoid_gives_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Hebb(**options)


def test_the_parameter_of_a_rate_may_be_parametrized():
    rule = Hebb(0.2, eta_param="sigmoid")
    register_parametrization(rule, "eta_logit", nn.Hardtanh())
    assert rule.eta == torch.tensor(-1.0).sigmoid()


def test_a_rule_without_a_rate_has_none():
    assert not hasattr(Modulated(), "eta")


def test_init_follows_the_parameters():
    rule = PerUnit(torch.ones(()), torch.ones(())).double()
    assert rule.init(2, 3, 4).trace.dtype == torch.float64
    assert rule.to("meta").init(2, 3, 4).trace.device.type == "meta"


def test_no_kernel_runs_a_soft_rule_that_declares_a_decay():
    class Fading(PerUnit):
        recursion, forgets = "soft", "rate"

    rule = Fading(torch.zeros(()), torch.ones(()))
    with pytest.raises(ValueError, match=r"backend = 'fused': forgets = 'rate' of .*: expected 'nothing'"):
        PlasticRNN(3, 4, rule=rule, backend="fused")(torch.ones(2, 1, 3))
    with torch.no_grad():  # where the kernel of few steps is the fastest one that may run
        assert PlasticRNN(3, 4, rule=rule)(torch.ones(2, 1, 3))[1].trace.shape == (1, 1, 4, 4)
