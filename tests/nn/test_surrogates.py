from __future__ import annotations

import math

import pytest
import torch

from engram.nn import surrogates

U = [-1.5, -0.2, 0.0, 0.3, 2.0]
FORMULAS = {
    "triangle": lambda u: 0.3 * max(0.0, 1 - abs(u)),
    "fast_sigmoid": lambda u: 1 / (1 + 25 * abs(u)) ** 2,
    "atan": lambda u: 1 / (1 + (math.pi * u) ** 2),
    "sigmoid": lambda u: 25 / (2 + math.exp(25 * u) + math.exp(-25 * u)),
    "straight_through": lambda u: 1.0,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_surrogate_is_a_step_forward_and_its_formula_backward(name):
    u = torch.tensor(U, dtype=torch.float64, requires_grad=True)
    spikes = getattr(surrogates, name)(u)
    spikes.sum().backward()
    assert spikes.tolist() == [0, 0, 0, 1, 1]
    torch.testing.assert_close(
        u.grad, torch.tensor(list(map(FORMULAS[name], U)), dtype=torch.float64), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("name", FORMULAS)
def test_a_surrogate_far_from_the_threshold_is_finite(name):
    u = torch.tensor([-1e30, -1e4, 1e4, 1e30], requires_grad=True)
    spikes = getattr(surrogates, name)(u)
    spikes.sum().backward()
    assert spikes.tolist() == [0, 0, 1, 1]
    assert u.grad.isfinite().all()


def test_settings_of_the_surrogates():
    half = torch.tensor([0.25], dtype=torch.float64)
    derivatives = [
        surrogates.derivative(lambda u: surrogates.triangle(u, gamma=2.0, width=0.5), half),
        surrogates.derivative(lambda u: surrogates.fast_sigmoid(u, slope=4.0), half),
        surrogates.derivative(lambda u: surrogates.atan(u, slope=4 / math.pi), half),
        surrogates.derivative(lambda u: surrogates.sigmoid(u, slope=0.0), half),
        surrogates.derivative(lambda u: surrogates.straight_through(u, width=0.25), half),
    ]
    assert [float(value) for value in derivatives] == pytest.approx([1.0, 0.25, (2 / math.pi) / 1.25, 0.0, 0.0])
