"""Calls whose second derivatives are right: torch has fused kernels with a wrong one, or with none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.backends import cuda
from torch.overrides import TorchFunctionMode

_ATTENTION: tuple[
    tuple[Callable[[], bool], Callable[[bool], None], bool], ...
] = (  # whether each kernel may be used, and how to say so; only that of plain products has a derivative
    (cuda.flash_sdp_enabled, cuda.enable_flash_sdp, False),
    (cuda.mem_efficient_sdp_enabled, cuda.enable_mem_efficient_sdp, False),
    (cuda.cudnn_sdp_enabled, cuda.enable_cudnn_sdp, False),
    (cuda.math_sdp_enabled, cuda.enable_math_sdp, True),
)


class TwiceDifferentiable:
    """Contexts in which a module is called without fused kernels that cannot be differentiated twice.

    Attention uses the kernel of plain products, weight normalisation is written out (the second derivative of the fused
    one is wrong), and recurrent layers run without cuDNN. Other functions without a second derivative, such as
    ``torch.cdist`` and ``ctc_loss``, say so in the backward pass.

    Args:
        module: Its submodules say what is needed.

    Examples:
        >>> q = torch.ones(1, 2, 3, requires_grad=True)
        >>> with TwiceDifferentiable(nn.Identity()).call():
        ...     y = nn.functional.scaled_dot_product_attention(q, q, q.square()).sum()
        >>> torch.autograd.grad(y, q, create_graph=True)[0].sum().backward()
        >>> q.grad.shape
        torch.Size([1, 2, 3])
    """

    def __init__(self, module: nn.Module) -> None:
        parts = list(module.modules())  # looked through once, as calls are many
        self._normalises = any(map(_normalises_weights, parts))
        has_cudnn: bool = torch.backends.cudnn.is_available()  # type: ignore[no-untyped-call]
        self._recurs = has_cudnn and any(isinstance(part, nn.RNNBase) for part in parts)

    @contextmanager
    def call(self) -> Iterator[None]:
        """The context of one call."""
        former = [is_enabled() for is_enabled, _, _ in _ATTENTION]
        try:
            for _, enable, allowed in _ATTENTION:
                enable(allowed)
            if not (self._normalises or self._recurs):
                yield
                return
            with ExitStack() as stack:
                if self._normalises:
                    stack.enter_context(_WrittenOut())
                if self._recurs:
                    stack.enter_context(torch.backends.cudnn.flags(enabled=False))
                yield
        finally:
            for (_, enable, _), was_enabled in zip(_ATTENTION, former, strict=True):
                enable(was_enabled)


def _normalises_weights(module: nn.Module) -> bool:
    """Whether a module is torch's weight normalisation, or has that of ``torch.nn.utils.weight_norm`` as a hook."""
    return any("WeightNorm" in type(part).__name__ for part in (module, *module._forward_pre_hooks.values()))


class _WrittenOut(TorchFunctionMode):
    """Weight normalisation by its definition, v g / |v|."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (_weight_norm if func is torch._weight_norm else func)(*args, **(kwargs or {}))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    return v * (g / torch.norm_except_dim(v, 2, dim))
