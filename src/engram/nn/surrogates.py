"""Spikes with a surrogate derivative: a step in the forward pass, and a bump as its derivative in the backward pass.

Each is a function of u, a potential minus its threshold, and returns 1 where u > 0 and 0 elsewhere.

Source: Neftci, Mostafa and Zenke, "Surrogate gradient learning in spiking neural networks" (2019); the source of each
formula is given with it.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def _spike(u: Tensor, derivative: Tensor) -> Tensor:
    # The added term is exactly 0, but gives the step its derivative, under all of torch's transforms.
    return (u > 0).to(u.dtype) + (u - u.detach()) * derivative


def triangle(u: Float[Tensor, "*shape"], gamma: float = 0.3, width: float = 1.0) -> Float[Tensor, "*shape"]:
    """Spikes with the derivative gamma max(0, 1 - |u| / width).

    Args:
        u: Potential minus threshold.
        gamma: Height of the triangle.
        width: Half of its base.

    Source: Bellec et al., "Long short-term memory and learning-to-learn in networks of spiking neurons" (2018),
    equation 4.

    Examples:
        >>> u = torch.tensor([-0.5, 2.0], requires_grad=True)
        >>> triangle(u).sum().backward()
        >>> triangle(u).tolist(), u.grad
        ([0.0, 1.0], tensor([0.1500, 0.0000]))
    """
    return _spike(u, gamma * (1 - u.detach().abs() / width).clamp(min=0))


def fast_sigmoid(u: Float[Tensor, "*shape"], slope: float = 25.0) -> Float[Tensor, "*shape"]:
    """Spikes with the derivative 1 / (1 + slope |u|)^2.

    Source: Zenke and Ganguli, "SuperSpike" (2018), equation 6.

    Examples:
        >>> fast_sigmoid(torch.tensor([-0.1, 0.1]))
        tensor([0., 1.])
    """
    return _spike(u, (1 + slope * u.detach().abs()).pow(-2))


def atan(u: Float[Tensor, "*shape"], slope: float = 2.0) -> Float[Tensor, "*shape"]:
    """Spikes with the derivative (slope / 2) / (1 + (pi slope u / 2)^2).

    Source: Fang et al., "Incorporating learnable membrane time constant to enhance learning of spiking neural networks"
    (2021), section 4.3.

    Examples:
        >>> atan(torch.tensor([-0.1, 0.1]))
        tensor([0., 1.])
    """
    return _spike(u, slope / 2 / (1 + (math.pi / 2 * slope * u.detach()).square()))


def sigmoid(u: Float[Tensor, "*shape"], slope: float = 25.0) -> Float[Tensor, "*shape"]:
    """Spikes with the derivative slope s(slope u) s(-slope u), s being the logistic function.

    Source: Zenke and Ganguli, "SuperSpike" (2018), section III.

    Examples:
        >>> sigmoid(torch.tensor([-0.1, 0.1]))
        tensor([0., 1.])
    """
    scaled = slope * u.detach()
    return _spike(u, slope * scaled.sigmoid() * (-scaled).sigmoid())


def straight_through(u: Float[Tensor, "*shape"], width: float = math.inf) -> Float[Tensor, "*shape"]:
    """Spikes with the derivative 1 where |u| < width, by default everywhere, and 0 elsewhere.

    Source: Bengio, Leonard and Courville, "Estimating or propagating gradients through stochastic neurons for
    conditional computation" (2013), section 4.

    Examples:
        >>> straight_through(torch.tensor([-0.1, 0.1]))
        tensor([0., 1.])
    """
    return _spike(u, (u.detach().abs() < width).to(u.dtype))


def derivative(spikes: object, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The derivative at u of a function of this module, or of any other function from potentials to spikes.

    Examples:
        >>> derivative(atan, torch.zeros(1))
        tensor([1.])
    """
    with torch.enable_grad():
        point = u.detach().requires_grad_()
        (slope,) = torch.autograd.grad(spikes(point).sum(), point)  # type: ignore[operator]
    return slope
