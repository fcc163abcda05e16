import pytest
import torch
from torch import nn

from engram.plasticity import Coefficients, PlasticityRule, TraceState


class PerUnit(PlasticityRule):
    """Coefficients of every shape that the contract allows: a number, one per unit, one per unit and episode."""

    def __init__(self, keep, gain):
        super().__init__()
        self.keep, self.gain = nn.Parameter(keep), nn.Parameter(gain)

    def coefficients(self, post, modulator=None):
        return Coefficients(self.keep, self.gain if modulator is None else self.gain * modulator, post)


@pytest.mark.parametrize("keep_shape", [(), (4,), (3, 1), (3, 4)])
@pytest.mark.parametrize("gain_shape", [(), (4,), (3, 1), (3, 4)])
def test_update_is_the_linear_recursion_for_coefficients_of_every_shape(keep_shape, gain_shape):
    generator = torch.Generator().manual_seed(0)
    keep, gain, trace, pre, post, modulator = (
        torch.randn(shape, generator=generator) for shape in (keep_shape, gain_shape, (3, 4, 2), (3, 2), (3, 4), (3, 1))
    )
    found = PerUnit(keep, gain).update(TraceState(trace), pre, post, modulator).trace
    for b in range(3):
        for j in range(4):
            for i in range(2):
                expected = keep.expand(3, 4)[b, j] * trace[b, j, i]
                expected += gain.expand(3, 4)[b, j] * modulator[b, 0] * post[b, j] * pre[b, i]
                torch.testing.assert_close(found[b, j, i], expected)


def test_init_follows_the_parameters():
    rule = PerUnit(torch.ones(()), torch.ones(())).double()
    assert rule.init(2, 3, 4).trace.dtype == torch.float64
    assert rule.to("meta").init(2, 3, 4).trace.device.type == "meta"
