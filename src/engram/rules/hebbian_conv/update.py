"""Hebbian updates of a convolutional or linear layer: computed directly, or as the gradient of a scalar."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from engram import checks
from engram.nn.sequence import full_precision, precise
from engram.rules.feedback_mode import Convolution
from engram.rules.synaptic import hebb, instar, oja

Rule = Literal["instar", "hebb", "oja"]
RULES = {"instar": instar(), "hebb": hebb(), "oja": oja()}


def hebbian_update(
    x: Float[Tensor, "batch inputs ..."],
    y: Float[Tensor, "batch units ..."],
    weight: Float[Tensor, "units inputs ..."],
    *,
    rule: Rule = "instar",
    stride: int = 1,
    padding: int = 0,
) -> Float[Tensor, "units inputs ..."]:
    """The change of each weight, summed over the batch and over all positions p, without a graph.

        dW[j] = sum_p y[j, p] x[p] - d[j] W[j]

    Args:
        x: Input: (batch, channels, height, width) for a convolution, (batch, features) for a linear layer.
        y: Activity of the units, such as the result of ``k_winners``.
        weight: W: (units, channels, height, width), or (units, features).
        rule: d[j]: ``"instar"`` sum_p y[j, p], ``"hebb"`` 0, ``"oja"`` sum_p y[j, p]^2.
        stride: Stride of the convolution.
        padding: Padding of the convolution.

    Raises:
        ValueError: The rule is unknown, or shapes do not match.

    Source: Miconi, "Hebbian learning with gradients: Hebbian convolutional neural networks with modern deep learning
    frameworks" (2021).

    Examples:
        >>> x, w = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 1.0]])
        >>> [hebbian_update(x, torch.tensor([[2.0]]), w, rule=rule).tolist() for rule in ("hebb", "instar", "oja")]
        [[[2.0, 4.0]], [[1.0, 2.0]], [[0.0, 0.0]]]
    """
    checks.arguments()
    checks.choice("rule", rule, RULES)
    checks.size("stride", stride)
    checks.size("padding", padding, minimum=0)
    x, y = precise(x, weight), precise(y, weight)
    with torch.no_grad(), full_precision(weight.device):
        if weight.ndim == 2:
            checks.tensor("x", x, ("batch", weight.shape[1]), weight)
            checks.tensor("y", y, (len(x), weight.shape[0]), weight)
            growth = y.T @ x
        elif weight.ndim == 4:
            checks.tensor("x", x, ("batch", weight.shape[1], "height", "width"), weight)
            places = [(x.shape[a] + 2 * padding - weight.shape[a]) // stride + 1 for a in (2, 3)]
            checks.tensor("y", y, (len(x), weight.shape[0], *places), weight)
            form = Convolution([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1)
            growth = form.backward(y, x, weight, [False, True, False])[1]
        else:
            raise ValueError(
                f"weight.shape = {tuple(weight.shape)}: expected (units, channels, height, width) or (units, features)"
            )
        return growth - summed_decay(y, rule).view(-1, *[1] * (weight.ndim - 1)) * weight


def hebbian_loss(
    z: Float[Tensor, "batch units ..."],
    y: Float[Tensor, "batch units ..."],
    weight: Float[Tensor, "units inputs ..."],
    *,
    rule: Rule = "instar",
) -> Float[Tensor, ""]:
    """A scalar whose gradient with respect to the weights is minus the Hebbian update, for use with any optimiser.

        L = -sum_jp y[j, p] s[j, p],   s = z - |W[j]|^2 q / 2

    with constant y, and q = 1 (instar), 0 (Hebb) or y (Oja). Do not subtract thresholds from z: they act only on y.

    Args:
        z: Drive: the output of the convolution or linear layer, with its graph.
        y: Activity of the units, of the shape of z.
        weight: W, with which z was computed.
        rule: ``"instar"``, ``"hebb"`` or ``"oja"``.

    Raises:
        ValueError: The rule is unknown, or shapes do not match.

    Source: as for ``hebbian_update``.

    Examples:
        >>> x, w = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 1.0]], requires_grad=True)
        >>> hebbian_loss(x @ w.T, torch.tensor([[2.0]]), w).backward()
        >>> w.grad
        tensor([[-1., -2.]])
    """
    checks.arguments()
    checks.choice("rule", rule, RULES)
    checks.tensor("z", z, ("batch", weight.shape[0], *z.shape[2:]), weight)
    checks.tensor("y", y, tuple(z.shape), weight)
    y = y.detach()
    if rule == "hebb":
        return -(y * z).sum()
    square = weight.flatten(1).square().sum(1).view(1, -1, *[1] * (z.ndim - 2))
    return -(y * (z - square / 2 * (1.0 if rule == "instar" else y))).sum()


def summed_decay(y: Float[Tensor, "batch units ..."], rule: Rule) -> Float[Tensor, " units"]:
    """The rule's decay d of each unit, summed over the batch and over all positions."""
    by_unit = y.transpose(0, 1).flatten(1)
    return RULES[rule].rule.coefficients(by_unit.T).decay.expand_as(by_unit.T).to(y).sum(0)
