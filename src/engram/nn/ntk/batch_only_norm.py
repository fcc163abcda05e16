"""Normalisation of every unit over the batch alone."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from engram import checks


class BatchOnlyNorm(nn.Module):
    """Batch normalisation with a mean and a variance for every unit, and in images for every position.

        y = (x - mean(x)) / sqrt(var(x) + eps),   over the batch

    It has no parameters and no running averages: every batch is normalised by its own statistics, in ``eval()`` too,
    until ``freeze_norms`` fixes them. A loaded ``state_dict`` of a network with other norms fixes or frees them; a
    state from which the statistics were left out, as for ``strict=False``, leaves them as they are.

    Args:
        eps: Added to the variance, so that the division stays finite.

    Attributes:
        mean, variance: The fixed statistics, buffers of the shape of a sample; None as long as each batch uses its own.

    Raises:
        ValueError: ``eps`` is not above 0.

    Source: Ioffe and Szegedy, "Batch normalization" (2015), algorithm 1, without scale and shift.

    Examples:
        >>> BatchOnlyNorm()(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
        tensor([[-1.0000,  0.0000],
                [ 1.0000,  0.0000]])
    """

    def __init__(self, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = checks.number("eps", eps, above=0)
        self.mean: Tensor | None
        self.variance: Tensor | None
        self.register_buffer("mean", None)
        self.register_buffer("variance", None)

    def forward(self, input: Float[Tensor, "batch *units"]) -> Float[Tensor, "batch *units"]:
        """The normalised input y.

        Raises:
            ValueError: The batch has fewer than two samples, and so no variance; or, with fixed statistics, its samples
                have another shape.
        """
        checks.instance("input", input, Tensor)
        if self.mean is not None and self.variance is not None:
            checks.has_shape("input", input.shape, ("batch", *self.mean.shape))
            x = checks.widened(input)  # or the difference from the mean loses digits to the size of the mean
            return ((x - self.mean.to(x)) * (self.variance + self.eps).rsqrt().to(x)).to(input.dtype)
        if len(input) < 2:
            raise ValueError(f"input.shape = {tuple(input.shape)}: expected at least 2 samples, to normalise over them")
        flat = input.flatten(1)
        return functional.batch_norm(flat, None, None, training=True, eps=self.eps).view_as(input)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if hasattr(destination, "_metadata"):  # tells a norm that is free from one whose statistics were left out
            destination._metadata[prefix[:-1]]["fixed"] = self.mean is not None

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *arguments: Any
    ) -> None:
        stored = {name: state_dict.get(prefix + name) for name in ("mean", "variance")}
        is_free = "version" in local_metadata and not local_metadata.get("fixed")  # a new dict has no version
        if is_free and not any(prefix + name in state_dict for name in stored):
            self.mean, self.variance = None, None
        for name, statistic in stored.items():  # only the loaded state tells their shape
            if statistic is not None:
                setattr(self, name, torch.empty_like(statistic))
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *arguments)


@torch.no_grad()
def freeze_norms(model: nn.Module, x: Float[Tensor, "batch *features"]) -> None:
    """Fix the statistics of every ``BatchOnlyNorm`` in a network to those of the given samples.

    The output for a sample then depends on that sample alone.

    Args:
        model: The network; its norms are changed.
        x: Samples, such as the training set, as one batch.

    Raises:
        ValueError: There is only one sample, or the network has no such norm, or does not run each norm exactly once;
            no statistics were changed.

    Examples:
        >>> model = nn.Sequential(BatchOnlyNorm())
        >>> freeze_norms(model, torch.tensor([[1.0], [3.0]]))
        >>> model(torch.tensor([[5.0]])).round(decimals=4)
        tensor([[3.]])
    """
    checks.arguments()

    def record_input(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        if module in statistics:
            raise ValueError("model runs a BatchOnlyNorm more than once: expected a separate norm for each place")
        statistics[module] = (inputs[0].mean(0), inputs[0].var(0, correction=0))

    norms = [module for module in model.modules() if isinstance(module, BatchOnlyNorm)]
    if not norms:
        raise ValueError(f"model is a {type(model).__name__} without a BatchOnlyNorm: expected at least one")
    statistics: dict[nn.Module, tuple[Tensor, Tensor]] = {}
    fixed: list[tuple[Tensor | None, Tensor | None]] = [(norm.mean, norm.variance) for norm in norms]
    for norm in norms:
        norm.mean, norm.variance = None, None
    hooks = [norm.register_forward_hook(record_input) for norm in norms]
    try:
        model(x)
        if len(statistics) < len(norms):
            raise ValueError(f"model ran {len(statistics)} of its {len(norms)} norms: expected all of them")
        fixed = [statistics[norm] for norm in norms]
    finally:
        for hook in hooks:
            hook.remove()
        for norm, statistic in zip(norms, fixed, strict=True):
            norm.mean, norm.variance = statistic
