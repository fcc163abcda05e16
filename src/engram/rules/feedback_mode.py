"""A mode in which linear maps and convolutions send their errors back through other weights than their own.

    y = op(x, W) + b,   dL/dW and dL/db as always,   dL/dx = op^T(dL/dy, B)

where op^T is the transpose of the same map. All else keeps its exact derivative: activations, norms, pooling, the
products of attention, residual sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_DIRECT = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
# Each convolution by the names of its arguments, and its number of axes in space.
_CONVOLUTIONS: dict[Any, tuple[tuple[str, ...], int]] = {
    torch.conv1d: (_DIRECT, 1),
    torch.conv2d: (_DIRECT, 2),
    torch.conv3d: (_DIRECT, 3),
    torch.conv_transpose1d: (_TRANSPOSED, 1),
    torch.conv_transpose2d: (_TRANSPOSED, 2),
    torch.conv_transpose3d: (_TRANSPOSED, 3),
}
_PRODUCTS = {
    *(torch.matmul, torch.mm, torch.bmm, torch.mv, torch.addmm, torch.addmv, torch.addbmm, torch.baddbmm),
    *(torch.einsum, torch.tensordot, torch.bilinear, torch.chain_matmul, torch.inner, torch.dot),
    *(torch.linalg.matmul, torch.linalg.multi_dot, torch.linalg.vecdot),
    *(Tensor.matmul, Tensor.__matmul__, Tensor.__rmatmul__, Tensor.mm, Tensor.bmm, Tensor.mv, Tensor.addmm),
    *(Tensor.addmv, Tensor.addbmm, Tensor.baddbmm, Tensor.inner, Tensor.dot),
}
# The function asks whether a mode is on, and if so is handed over whole. This copy says no, so that its linear maps are
# met one by one.
_attention = FunctionType(
    functional.multi_head_attention_forward.__code__,
    {**functional.multi_head_attention_forward.__globals__, "has_torch_function": lambda tensors: False},
    "multi_head_attention_forward",
    functional.multi_head_attention_forward.__defaults__,
)


class Substitute(NamedTuple):
    """A parameter W and the weights B, of its shape, through which its errors go back."""

    name: str
    weight: Tensor
    feedback: Tensor


class Use(NamedTuple):
    """The arguments of a convolution, or None for a linear map, and the shapes of a sample of its input and of W."""

    form: Convolution | None
    shape: tuple[int, ...]
    weights: tuple[int, ...]


class FeedbackMode(TorchFunctionMode):
    """Within it, each map whose weights have a substitute sends its errors back through that.

    The backward pass may run after the mode has ended.

    Args:
        rule_name: Name of the rule, for error messages.
        substitutes: The weights W with their feedback B. Views of W, as of the projections of attention or the
            transpose of a tied decoder, use the same view of B.

    Attributes:
        met: Names of the weights that a map used.
        uses: The last use of each weight through which an error goes back.
        refusal: The message of the error that the mode has raised: an operator such as ``@`` turns it into another one.

    Raises:
        TypeError: A map uses weights that have no substitute but require a gradient, or a product that is neither a
            linear map nor a convolution uses a parameter.

    Examples:
        >>> layer, x = nn.Linear(2, 1, bias=False), torch.ones(1, 2, requires_grad=True)
        >>> with FeedbackMode("fa", [Substitute("weight", layer.weight, torch.tensor([[3.0, 4.0]]))]):
        ...     y = layer(x)
        >>> torch.autograd.grad(y, x)
        (tensor([[3., 4.]]),)
    """

    def __init__(self, rule_name: str, substitutes: Sequence[Substitute]) -> None:
        super().__init__()
        self._rule_name = rule_name
        self._substitutes = {id(substitute.weight): substitute for substitute in substitutes}
        self.met: set[str] = set()
        self.uses: dict[str, Use] = {}
        self.refusal = ""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.linear:
            return self._linear(*args, **kwargs)
        if func in _CONVOLUTIONS:
            names, axes = _CONVOLUTIONS[func]
            return self._convolution(func, axes, **dict(zip(names, args, strict=False)), **kwargs)
        if func is functional.multi_head_attention_forward:
            with self:
                return _attention(*args, **kwargs)
        if func in _PRODUCTS:
            for value in (*args, *kwargs.values()):
                for tensor in value if isinstance(value, (tuple, list)) else (value,):
                    self._refuse_product(func, tensor)
        return func(*args, **kwargs)

    def _linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        feedback = self._feedback(weight, "linear map")
        if feedback is None:
            return functional.linear(input, weight, bias)
        return self._applied(input, weight, bias, feedback, None)

    def _convolution(
        self,
        func: Callable[..., Any],
        axes: int,
        *,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        padding: int | str | Sequence[int] = 0,
        groups: int = 1,
        **sizes: int | Sequence[int],
    ) -> Tensor:
        feedback = self._feedback(weight, "convolution")
        if feedback is None:
            return func(input, weight, bias, padding=padding, groups=groups, **sizes)  # type: ignore[no-any-return]
        stride, dilation = (_each(sizes.get(name, 1), axes) for name in ("stride", "dilation"))
        if isinstance(padding, str):
            input, padding = _padded(input, padding, weight, dilation)
        form = Convolution(
            stride,
            _each(padding, axes),
            dilation,
            func.__name__.startswith("conv_transpose"),
            _each(sizes.get("output_padding", 0), axes),
            groups,
        )
        if input.ndim == axes + 1:  # one sample without its axis
            return self._applied(input[None], weight, bias, feedback, form)[0]
        return self._applied(input, weight, bias, feedback, form)

    def _applied(
        self, input: Tensor, weight: Tensor, bias: Tensor | None, feedback: Substitute, form: Convolution | None
    ) -> Tensor:
        if torch._C._autograd._top_saved_tensors_default_hooks(True):
            self._refuse(
                f"{feedback.name!r} within a checkpoint or other hooks of saved tensors, which run it again where its "
                "errors go back through the weights themselves; expected the model without them"
            )
        output: Tensor = _Substituted.apply(input, weight, bias, feedback.feedback, form)
        self.met.add(feedback.name)
        if input.requires_grad:
            self.uses[feedback.name] = Use(form, tuple(input.shape[1:]), tuple(weight.shape))
        return output

    def _feedback(self, weight: Tensor, kind: str) -> Substitute | None:
        """The weights of the same view of B; None for weights that nothing trains."""
        base = weight if weight._base is None or id(weight) in self._substitutes else weight._base
        substitute = self._substitutes.get(id(base))
        if substitute is None:
            if weight.requires_grad:
                self._refuse(
                    f"the weights {tuple(weight.shape)} of a {kind}: they are computed from other parameters, or given "
                    "from outside; expected a parameter of the model"
                )
            return None
        if type(weight) not in {Tensor, nn.Parameter}:
            self._refuse(f"{substitute.name!r}, a {type(weight).__name__}: expected a plain parameter")
        B = substitute.feedback
        if base is not weight:
            if B.stride() != base.stride():
                B = torch.empty_strided(base.shape, base.stride(), dtype=B.dtype, device=B.device).copy_(B)
            offset = B.storage_offset() + weight.storage_offset() - base.storage_offset()
            B = B.as_strided(weight.shape, weight.stride(), offset)
        return Substitute(substitute.name, weight, B)

    def _refuse(self, reason: str) -> NoReturn:
        self.refusal = f"model: {self._rule_name} cannot train {reason}"
        raise TypeError(self.refusal)

    def _refuse_product(self, func: Callable[..., Any], tensor: Any) -> None:
        if not isinstance(tensor, Tensor):
            return
        for base in _weights_of(tensor if tensor._base is None else tensor._base):
            name = self._substitutes[id(base)].name if id(base) in self._substitutes else f"weights {tuple(base.shape)}"
            self._refuse(
                f"{name!r}: {func.__name__} would send errors back through the weights themselves; expected "
                "torch.nn.functional.linear"
            )


@dataclass(frozen=True)
class Convolution:
    """The arguments of a convolution, as its backward pass takes them."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    transposed: bool
    output_padding: list[int]
    groups: int

    def forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Its output."""
        return torch.convolution(input, weight, bias, *vars(self).values())

    def backward(self, error: Tensor, input: Tensor, weight: Tensor, mask: list[bool]) -> tuple[Any, Any, Any]:
        """The gradients of input, weights and bias, where the mask is true."""
        units = weight.shape[1] * self.groups if self.transposed else len(weight)
        # With channels last, kernels of 1 x 1 and strides, torch 2.13 writes past its buffers on some processors.
        if weight[0, 0].numel() == 1:
            error, input = error.contiguous(), input.contiguous()
        gradients: tuple[Any, Any, Any] = torch.ops.aten.convolution_backward(
            error, input, weight, [units], *vars(self).values(), mask
        )
        return gradients


class _Substituted(torch.autograd.Function):
    """A map whose derivative with respect to its input has B in the place of W."""

    @staticmethod
    def forward(  # noqa: PLR0917 - as torch calls it
        ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, feedback: Tensor, form: Convolution | None
    ) -> Tensor:
        ctx.save_for_backward(input)
        ctx.feedback, ctx.form, ctx.version = feedback, form, feedback._version
        return functional.linear(input, weight, bias) if form is None else form.forward(input, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, ...]:
        (input,), feedback = ctx.saved_tensors, ctx.feedback
        if feedback._version != ctx.version:
            raise RuntimeError("feedback weights were changed in place between the forward and the backward pass")
        to_input, to_weight, to_bias = ctx.needs_input_grad[:3]
        if ctx.form is None:
            flat = error.reshape(-1, error.shape[-1])
            down = (flat @ feedback).view(input.shape) if to_input else None
            grad = flat.t() @ input.reshape(-1, input.shape[-1]) if to_weight else None
            return down, grad, flat.sum(0) if to_bias else None, None, None
        # The gradient of the weights does not depend on them, so that one call with B gives all three.
        return *ctx.form.backward(error, input, feedback, [to_input, to_weight, to_bias]), None, None


def _weights_of(tensor: Tensor) -> list[Tensor]:
    """The matrices that a tensor is computed from, if it is from parameters alone; none of an activity."""
    if isinstance(tensor, nn.Parameter):
        return [tensor] if tensor.requires_grad and tensor.ndim > 1 else []
    weights: dict[int, Tensor] = {}
    pending, seen = [tensor.grad_fn], set[Any]()
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)  # of a leaf
        if isinstance(variable, nn.Parameter):
            weights |= {id(variable): variable} if variable.ndim > 1 else {}
        elif variable is not None or node.name().startswith(("_Substituted", "Embedding")):
            return []
        pending += [before for before, _ in node.next_functions]
    return list(weights.values())


def _each(size: int | Sequence[int], axes: int) -> list[int]:
    """A size for each axis."""
    return [size] * axes if isinstance(size, int) else list(size) * (axes if len(size) == 1 else 1)


def _padded(input: Tensor, padding: str, weight: Tensor, dilation: Sequence[int]) -> tuple[Tensor, list[int]]:
    """The input and the equal padding of both sides that ``"valid"`` or ``"same"`` stands for."""
    if padding == "valid":
        return input, [0] * len(dilation)
    spans = [d * (size - 1) for d, size in zip(dilation, weight.shape[2:], strict=True)]
    if any(span % 2 for span in spans):  # torch puts what is left on the far side
        input = functional.pad(input, [end for span in reversed(spans) for end in (0, span % 2)])
    return input, [span // 2 for span in spans]


def fan_in(weight: Tensor, transposed: bool) -> int:
    """The number of inputs of a unit; of a transposed convolution, those of all positions of its kernel."""
    return len(weight) * math.prod(weight.shape[2:]) if transposed else weight[0].numel()
