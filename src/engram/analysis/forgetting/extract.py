"""Features of a network, computed without changing the network."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from engram import checks
from engram.nn.modes import evaluation_mode


@torch.no_grad()
def extract(
    body: nn.Module, x: Shaped[Tensor, "samples ..."], *, batch_size: int = 256, layer: str | None = None
) -> Float[Tensor, "samples features"]:
    """The features of inputs: the output of a network or of one of its layers, in float64 on the CPU.

    The network runs in evaluation mode, so that dropout and batch normalisation behave as at inference; its former mode
    is restored afterwards.

    Args:
        body: The network; called with batches of inputs.
        x: Inputs.
        batch_size: Number of inputs in a batch.
        layer: Name of the submodule whose output is returned, as in ``named_modules`` (default: the whole network).

    Raises:
        ValueError: There is no such layer, it does not run once for each batch or return a row for each
            sample, or a feature is not finite.
        RuntimeError: The network changed a parameter or buffer in evaluation mode; the change is undone.

    Examples:
        >>> body = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Dropout())
        >>> extract(body, torch.ones(5, 3)).shape, extract(body, torch.ones(5, 3), layer="0").dtype
        (torch.Size([5, 2]), torch.float64)
    """
    checks.arguments()
    checks.instance("body", body, nn.Module)
    checks.instance("x", x, Tensor)
    checks.size("batch_size", batch_size)
    if x.ndim == 0 or not len(x):
        raise ValueError(f"x.shape = {tuple(x.shape)}: expected at least one sample")
    modules = dict(body.named_modules())
    if layer is not None and layer not in modules:
        raise ValueError(f"layer = {layer!r}: expected one of {', '.join(name for name in modules if name)}")
    tensors = {**dict(body.named_parameters()), **dict(body.named_buffers())}
    initial_values = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    outputs_by_batch: list[Tensor] = []
    hook = modules[layer or ""].register_forward_hook(
        lambda module, inputs, output: outputs_by_batch.append(_tensor(output))
    )
    try:
        device = next((tensor.device for tensor in tensors.values()), x.device)
        batches = torch.split(x, batch_size)
        with evaluation_mode(body):
            for batch in batches:
                body(batch.to(device))
    finally:
        hook.remove()
    changed_names = [name for name, tensor in tensors.items() if not _same(tensor, initial_values[name])]
    for name in changed_names:
        tensors[name].copy_(initial_values[name])
    if changed_names:
        raise RuntimeError(f"body changed {', '.join(changed_names)} in evaluation mode: expected nothing to change")
    if len(outputs_by_batch) != len(batches):
        raise ValueError(
            f"layer = {layer!r} ran {len(outputs_by_batch)} times on {len(batches)} batches: expected once on each"
        )
    for batch, batch_output in zip(batches, outputs_by_batch, strict=True):
        if batch_output.shape[:1] != batch.shape[:1]:  # as of a recurrent layer whose first axis is time
            name = "body" if layer is None else f"layer = {layer!r}"
            shape = tuple(batch_output.shape)
            raise ValueError(f"{name} returns {shape} for {len(batch)} samples: expected the samples along axis 0")
    features = torch.cat([batch_output.reshape(len(batch_output), -1) for batch_output in outputs_by_batch])
    checks.finite("features", features, ("sample", "feature"))
    return features


def _same(tensor: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal; NaN equals NaN."""
    if torch.equal(tensor, other):
        return True
    return tensor.is_floating_point() and torch.equal(tensor.nan_to_num(), other.nan_to_num())


def _tensor(output: Any) -> Tensor:
    """A module's output, without the state of a recurrent one, as a float64 copy on the CPU."""
    activations = output[0] if isinstance(output, tuple) else output
    return checks.instance("output", activations, Tensor).detach().to("cpu", torch.float64, copy=True)
