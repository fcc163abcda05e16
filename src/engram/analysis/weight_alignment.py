"""How lazy the training of a network was: its weight change compared with the initial network's prediction."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from engram import checks
from engram.analysis.learning_rules import alignment_score
from engram.numeric.rounding import FEW


def predicted_change(
    model: nn.Module,
    initial: Mapping[str, Tensor],
    x: Float[Tensor, "batch *features"],
    error_sum: Float[Tensor, "batch outputs"],
) -> dict[str, Tensor]:
    """The weight change by gradient descent, at a learning rate of 1, of a network linearised at its initial weights.

        Delta theta = -sum_x (df0(x)/dtheta)^T E(x),   E(x) = sum over steps of dL/df(x)

    An infinitely wide network changes by exactly this, times the learning rate.

    Args:
        model: The network; only its structure is used.
        initial: Its parameters before training, by name, or its state then.
        x: The training inputs.
        error_sum: E, the derivative of the loss with respect to the output, summed over the training steps.

    Raises:
        ValueError: A parameter is missing, or the shape of ``error_sum`` is not that of the output.

    Source: Boopathy and Fiete, "How to train your wide neural network without backprop" (2022), section 3.

    Examples:
        >>> model = nn.Sequential(nn.Linear(1, 1, bias=False))
        >>> predicted_change(model, {"0.weight": torch.ones(1, 1)}, torch.tensor([[2.0]]), torch.tensor([[3.0]]))
        {'0.weight': tensor([[-6.]])}
    """
    checks.arguments()
    parameters = dict(model.named_parameters())
    _complete(parameters, initial, "initial")
    with torch.enable_grad():
        leaves = {name: value.detach().requires_grad_() for name, value in initial.items() if name in parameters}
        # Batch norm changes its own, so these are copies.
        buffers = {name: initial.get(name, buffer).clone() for name, buffer in model.named_buffers()}
        output = functional_call(model, buffers | leaves, (x,))
    checks.tensor("error_sum", error_sum, tuple(output.shape), like=output)
    grads = torch.autograd.grad(output, list(leaves.values()), error_sum, allow_unused=True)
    return {name: -grad for name, grad in zip(leaves, grads, strict=True) if grad is not None}


def alignment_by_layer(
    trained: Mapping[str, Tensor], initial: Mapping[str, Tensor], predicted: Mapping[str, Tensor]
) -> dict[str, float]:
    """The ``alignment_score`` of each layer: 1 where it changed as the initial network predicts, up to a rotation.

    Args:
        trained: Parameters after training, by name; vectors, such as biases, are left out.
        initial: Parameters before training, by name.
        predicted: The predicted change of each, for example from ``predicted_change``; its scale does not matter.

    Returns:
        The score for each name of ``predicted`` but those of vectors; kernels of convolutions are unfolded,
        (out, in * k * k), which ignores what happens at the borders.

    Raises:
        ValueError: A parameter is missing or of another shape, or a layer did not change.

    Examples:
        >>> before, after = {"0.weight": torch.zeros(2, 2)}, {"0.weight": torch.eye(2)}
        >>> round(alignment_by_layer(after, before, {"0.weight": -3 * torch.eye(2)})["0.weight"], 6)
        1.0
    """
    checks.arguments()
    scores = {}
    for name, prediction in predicted.items():
        if prediction.ndim < 2:
            continue
        for kind, values in (("trained", trained), ("initial", initial)):
            _complete({name: prediction}, values, kind)
        change = (trained[name] - initial[name]).detach()
        rounding = FEW * torch.finfo(initial[name].dtype).eps * torch.maximum(trained[name].abs(), initial[name].abs())
        if (change.abs() <= rounding).all():
            raise ValueError(f"trained[{name!r}] is initial[{name!r}], up to rounding: expected weights that changed")
        change = change.double().flatten(1)
        scores[name] = alignment_score(change.cpu().numpy(), prediction.detach().double().flatten(1).cpu().numpy())
    return scores


def shuffled_control(
    trained: Mapping[str, Tensor],
    initial: Mapping[str, Tensor],
    predicted: Mapping[str, Tensor],
    generator: torch.Generator,
) -> dict[str, float]:
    """The ``alignment_by_layer`` of shuffled trained weights, which is the score expected by chance.

    Args:
        trained: Parameters after training, by name; the entries of each are shuffled.
        initial: Parameters before training.
        predicted: The predicted change of each.
        generator: Source of the permutations.

    Raises:
        ValueError: A parameter is missing or of another shape, or a layer did not change.

    Source: Boopathy and Fiete (2022), the authors' control.

    Examples:
        >>> generator = torch.Generator().manual_seed(0)
        >>> values = torch.randn(20, 30, generator=generator)
        >>> score = shuffled_control({"w": values}, {"w": 0 * values}, {"w": values}, generator)["w"]
        >>> score < 0.8
        True
    """
    checks.arguments()
    matrices = {name: prediction for name, prediction in predicted.items() if prediction.ndim >= 2}
    _complete(matrices, trained, "trained")  # before the generator moves
    _complete(matrices, initial, "initial")
    shuffled = {}
    for name, weights in trained.items():
        permutation = torch.randperm(weights.numel(), generator=generator, device=generator.device).to(weights.device)
        shuffled[name] = weights.flatten()[permutation].view_as(weights)
    return alignment_by_layer(shuffled, initial, predicted)


def _complete(expected: Mapping[str, Tensor], values: Mapping[str, Tensor], argument: str) -> None:
    for name, like in expected.items():
        if name not in values:
            raise ValueError(f"{argument} lacks {name}: expected {', '.join(expected)}")
        if values[name].shape != like.shape:
            shape = tuple(values[name].shape)
            raise ValueError(f"{argument}[{name!r}].shape = {shape}: expected {tuple(like.shape)}")
