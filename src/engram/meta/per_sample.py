"""Exact sums of powers of per-sample gradients, without computing each gradient where the layer allows it."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

CHUNK = 32  # samples whose gradients are in memory at once
TRIED = 8  # samples on which the fast path is verified


def power_sums(
    model: nn.Module,
    parameters: dict[str, nn.Parameter],
    inputs: Tensor,
    cotangents: Callable[[Tensor], Float[Tensor, "cotangents batch outputs"]],
    sums: dict[str, Tensor],
    *,
    verified: dict[str, bool],
    power: int,
    batched: bool = False,
) -> None:
    """Add sum_{n, v} |J_n^T v_n|^power to ``sums``; ``batched``: sum_v |sum_n J_n^T v_n|^power.

    For one sample, the gradient of a linear layer's weight is g a^T, where a is its input and g the gradient of its
    output. The sum of squares over samples is thus (G^2)^T A^2: no per-sample gradient is computed, and all v share one
    product. A convolution is the same after a sum over positions. This is first verified against the gradient of a few
    samples; parameters for which it differs, such as those of a layer that is called twice or used outside its call,
    get a gradient for each sample by ``torch.func.vmap``.

    Args:
        model: Returns (batch, outputs).
        parameters: The parameters, by name.
        inputs: A batch.
        cotangents: Function from the outputs to the v_n.
        sums: The sum for each parameter, changed in place.
        verified: Whether the fast computation is right for each parameter; filled at the first batch.
        power: 1 or 2.
        batched: Whether the gradients of the batch are summed first.
    """
    names = {id(p): name for name, p in parameters.items()}
    layers = [] if batched else [module for module in model.modules() if _is_outer_product(module)]
    if layers and not verified:
        verified |= _exact_by_call(model, parameters, inputs[:TRIED], layers)
    calls, output = _recorded(model, inputs, layers)
    directions = cotangents(output.detach())
    if batched:
        for direction in directions:
            gradients = torch.autograd.grad(
                output, list(parameters.values()), direction, retain_graph=True, materialize_grads=True
            )
            for total, g in zip(sums.values(), gradients, strict=True):
                total.add_(_raised(g, power))
        return
    roles = [{name: role for name, role in _roles(call, names).items() if verified.get(name)} for call in calls]
    fast = {name for role in roles for name in role}
    remaining = {name: p for name, p in parameters.items() if name not in fast}
    output_sums = [torch.zeros_like(call.output, dtype=at_least_single(call.output.dtype)).detach() for call in calls]
    for index, direction in enumerate(directions):
        sources = [*(call.output for call in calls), *(remaining.values() if index == 0 else ())]
        if not sources:
            break
        retain_graph = index + 1 < len(directions)
        grads = torch.autograd.grad(output, sources, direction, retain_graph=retain_graph, allow_unused=True)
        if index == 0:  # parameters without effect on the output need no gradients
            remaining = {
                name: p for (name, p), g in zip(remaining.items(), grads[len(calls) :], strict=True) if g is not None
            }
        for call, g, exact, total in zip(calls, grads, roles, output_sums, strict=False):
            if g is None:
                continue
            if not isinstance(call.module, nn.Conv2d):
                total.add_(_raised(g, power))
                continue
            for name, role in exact.items():
                sums[name] += _of_layer(call, g, role, power)
    for call, total, exact in zip(calls, output_sums, roles, strict=True):
        for name, role in exact.items() if not isinstance(call.module, nn.Conv2d) else ():
            if role == "bias":
                sums[name] += total.sum(0)
            else:
                sums[name].addmm_(total.T, _raised(call.input, power))
    if remaining:
        for x, v in zip(torch.split(inputs, CHUNK), torch.split(directions, CHUNK, dim=1), strict=True):
            for name, total in _by_sample(model, remaining, x, v, power).items():
                sums[name] += total


class Call(NamedTuple):
    """One call of a layer."""

    module: nn.Module
    input: Tensor
    output: Tensor


def _recorded(model: nn.Module, inputs: Tensor, layers: Sequence[nn.Module]) -> tuple[list[Call], Tensor]:
    """Run the model; return the calls of the layers that are called exactly once, on all samples, and the output."""
    calls: list[Call] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        calls.append(Call(module, inputs[0].detach(), output))
        return output.clone()  # which may be changed in place later

    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        with torch.enable_grad():
            output = model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != len(inputs):
        form = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"model returns {form}: expected a tensor, ({len(inputs)}, outputs)")
    count = Counter(call.module for call in calls)
    return [c for c in calls if count[c.module] == 1 and len(c.input) == len(inputs) and c.output.requires_grad], output


def _is_outer_product(module: nn.Module) -> bool:
    """Whether a layer's weight gradient is a sum of outer products of its input and its output's gradient."""
    if isinstance(module, nn.Conv2d):
        return module.groups == 1 and module.padding_mode == "zeros"
    return isinstance(module, nn.Linear) or bool(getattr(module, "is_linear_in_weight", False))


def _roles(call: Call, names: dict[int, str]) -> dict[str, str]:
    """The names of a layer's parameters, each with its role."""
    roles = {names.get(id(getattr(call.module, role, None)), ""): role for role in ("weight", "bias")}
    return {name: role for name, role in roles.items() if name}


def _exact_by_call(
    model: nn.Module, parameters: Mapping[str, nn.Parameter], inputs: Tensor, layers: Sequence[nn.Module]
) -> dict[str, bool]:
    """Whether each parameter's gradient over a few samples is right when computed from the call of its layer."""
    names = {id(p): name for name, p in parameters.items()}
    calls, output = _recorded(model, inputs, layers)
    direction = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output)
    sources = [*(call.output for call in calls), *parameters.values()]
    grads = torch.autograd.grad(output, sources, direction, allow_unused=True)
    gradients = dict(zip(parameters, grads[len(calls) :], strict=True))
    exact = dict.fromkeys(parameters, False)
    for call, g in zip(calls, grads, strict=False):
        expected = (4, 4) if isinstance(call.module, nn.Conv2d) else (2, 2)
        if g is None or (call.input.ndim, g.ndim) != expected:  # several positions in a sample, or no effect
            continue
        for name, role in _roles(call, names).items():
            if (gradient := gradients[name]) is not None:
                gap = (_of_layer(call, g, role, power=0) - gradient).norm()
                exact[name] = bool(gap < 1e-4 * gradient.norm())
    return exact


def at_least_single(dtype: torch.dtype) -> torch.dtype:
    """The precision of sums over many samples of numbers of a dtype: that dtype, but at least float32."""
    return torch.promote_types(dtype, torch.float32)


def _raised(tensor: Tensor, power: int) -> Tensor:
    """The magnitude to a power, in single precision at least; the tensor itself for power 0."""
    if power == 0:
        return tensor
    magnitude = tensor.to(at_least_single(tensor.dtype)).abs()
    return magnitude if power == 1 else magnitude.square()


def _of_layer(call: Call, g: Tensor, role: str, power: int) -> Tensor:
    """The sum over samples of the gradient's magnitude to a power; of the gradient itself for power 0."""
    if role == "bias":
        return _raised(g.flatten(2).sum(2) if g.ndim == 4 else g, power).sum(0)
    layer = call.module
    if not isinstance(layer, nn.Conv2d):
        return _raised(g, power).T @ _raised(call.input, power)
    dtype = layer.weight.dtype if power == 0 else at_least_single(layer.weight.dtype)
    total = torch.zeros_like(layer.weight, dtype=dtype).detach()
    for x, output_grad in zip(torch.split(call.input, CHUNK), torch.split(g, CHUNK), strict=True):
        padded = functional.pad(x, layer._reversed_padding_repeated_twice)
        patches = functional.unfold(padded, layer.kernel_size, layer.dilation, 0, layer.stride)
        total += _raised(output_grad.flatten(2) @ patches.transpose(1, 2), power).sum(0).view_as(total)
    return total


def _by_sample(
    model: nn.Module,
    parameters: dict[str, nn.Parameter],
    x: Tensor,
    v: Float[Tensor, "cotangents batch outputs"],
    power: int,
) -> dict[str, Tensor]:
    """The sums of per-sample gradients, computed all at once or, if the model does not allow that, one by one."""
    values = {name: parameter.detach() for name, parameter in parameters.items()}

    def projected_output(values: dict[str, Tensor], x: Tensor, v: Tensor) -> Tensor:
        logits: Tensor = functional_call(model, values, (x[None],))
        return (logits[0] * v).sum()

    zeros = {name: torch.zeros_like(value, dtype=at_least_single(value.dtype)) for name, value in values.items()}
    totals = {name: zero.clone() for name, zero in zeros.items()}
    for direction in v:
        try:
            # No gradient for parameters that are not in ``values``; recurrent layers are batched one by one, with a
            # warning that this takes time.
            with torch.no_grad(), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "There is a performance drop because we have not yet implemented")
                per_sample = vmap(grad(projected_output), in_dims=(None, 0, 0))(values, x, direction)
            sums = {name: _raised(gradient, power).sum(0) for name, gradient in per_sample.items()}
        except RuntimeError:  # the model reads values, or changes tensors in place
            sums = {name: zero.clone() for name, zero in zeros.items()}
            for sample, cotangent in zip(x, direction, strict=True):
                with torch.enable_grad():
                    output = (model(sample[None])[0] * cotangent).sum()
                    gradients = torch.autograd.grad(output, list(parameters.values()), materialize_grads=True)
                for name, gradient in zip(parameters, gradients, strict=True):
                    sums[name] += _raised(gradient, power)
        for name, total in sums.items():
            totals[name] += total
    return totals
