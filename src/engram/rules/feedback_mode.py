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
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from engram.nn.first_derivatives import differentiable_once
from engram.rules.error_paths import OtherUse
from engram.rules.origins import Origins, UsedOtherwise


def _overloads(name: str) -> list[Any]:
    """A function as exported modules call it."""
    packet = getattr(torch.ops.aten, name)
    return [packet, *(getattr(packet, overload) for overload in packet.overloads())]


_DIRECT = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
# Each convolution by the names of its arguments, and its number of axes in space.
_CONVOLUTIONS: dict[Any, tuple[tuple[str, ...], int]] = {
    function: (_TRANSPOSED if "transpose" in name else _DIRECT, int(name[-2]))
    for name in ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
    for function in (getattr(torch, name), *_overloads(name))
}
_LINEAR = {functional.linear, *_overloads("linear")}
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
        parameters: All parameters of the model, by name.
        inputs: The input of the model.

    Attributes:
        met: Names of the weights that a map used.
        uses: The last use of each weight through which an error goes back.
        refusal: The message of the error that the mode has raised: an operator such as ``@`` turns it into another one.

    Raises:
        TypeError: A map uses weights that are computed from a parameter, or have no substitute but require a gradient;
            or an operation that is neither a linear map nor a convolution uses frozen or detached weights so that
            errors would go back through them. Of other weights ``refuse_other_uses`` sees to that.

    Examples:
        >>> layer, x = nn.Linear(2, 1, bias=False), torch.ones(1, 2, requires_grad=True)
        >>> with FeedbackMode("fa", [Substitute("weight", layer.weight, torch.tensor([[3.0, 4.0]]))]):
        ...     y = layer(x)
        >>> torch.autograd.grad(y, x)
        (tensor([[3., 4.]]),)
    """

    def __init__(
        self,
        rule_name: str,
        substitutes: Sequence[Substitute],
        parameters: Mapping[str, Tensor] | None = None,
        inputs: Sequence[Tensor] = (),
    ) -> None:
        super().__init__()
        self._rule_name = rule_name
        self._parameters = parameters or {substitute.name: substitute.weight for substitute in substitutes}
        self._origins = Origins(inputs, self._parameters, "_SubstitutedBackward")
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
        try:
            return self._run(func, args, kwargs or {})
        except UsedOtherwise as error:
            self._refuse_use(error.use)

    def _run(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if func in _LINEAR:
            return self._linear(*args, **kwargs)
        if func in _CONVOLUTIONS:
            names, axes = _CONVOLUTIONS[func]
            return self._convolution(func, axes, **dict(zip(names, args, strict=False)), **kwargs)
        if func is functional.multi_head_attention_forward:
            with self:
                return _attention(*args, **kwargs)
        output = func(*args, **kwargs)
        self._origins.note(func, args, kwargs, output)
        return output

    def refuse_other_uses(self, loss: Tensor) -> None:
        """Refuse what a loss depends on by other uses of weights than maps, if errors go back through them.

        Args:
            loss: A tensor that is computed from the output of the model.

        Raises:
            TypeError: There is such a use; the message names the weights and the operation.
        """
        try:
            self._origins.refuse_other_uses(loss)
        except UsedOtherwise as error:
            self._refuse_use(error.use)

    def _linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        feedback = self._feedback(input, weight, "linear map")
        if feedback is None:
            output = functional.linear(input, weight, bias)
            self._origins.note(functional.linear, (input, weight, bias), {}, output)
            return output
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
        feedback = self._feedback(input, weight, "convolution")
        if feedback is None:
            output = func(input, weight, bias, padding=padding, groups=groups, **sizes)
            self._origins.note(func, (input, weight, bias), {}, output)
            return output  # type: ignore[no-any-return]
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
        if is_functorch_wrapped_tensor(input) or is_functorch_wrapped_tensor(weight):
            self._refuse(
                f"{feedback.name!r} within a transform of torch.func, such as vmap; expected the model without it"
            )
        if input.requires_grad:
            self._origins.refuse_within_function("the map", [input], feedback.weight)
        output: Tensor = _Substituted.apply(input, weight, bias, feedback.feedback, form)
        if input.requires_grad:
            self.uses[feedback.name] = Use(form, tuple(input.shape[1:]), tuple(weight.shape))
        if output.requires_grad:
            self.met.add(feedback.name)
        else:
            self._origins.note(functional.linear, (input, weight), {}, output)
        return output

    def _feedback(self, input: Tensor, weight: Tensor, kind: str) -> Substitute | None:
        """The weights of the same view of B; None for weights that nothing trains."""
        base = weight if weight._base is None or id(weight) in self._substitutes else weight._base
        if id(base) not in self._substitutes and not weight.requires_grad:
            held = self._origins.holder(weight)  # by detached weights
            base = base if held is None else held
        substitute = self._substitutes.get(id(base))
        if substitute is None:
            is_constant = not weight.requires_grad and self._origins.constant_weights(weight) is None
            if weight.requires_grad or (input.requires_grad and not is_constant):
                self._refuse(
                    f"the weights {tuple(weight.shape)} of a {kind}: they are computed from other parameters, or given "
                    "from outside; expected a parameter of the model"
                )
            return None
        if type(weight) not in {Tensor, nn.Parameter}:
            self._refuse(f"{substitute.name!r}, a {type(weight).__name__}: expected a plain parameter")
        if weight.is_complex():
            self._refuse(f"{substitute.name!r}, which is complex ({weight.dtype}): expected real weights")
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

    def _refuse_use(self, use: OtherUse) -> NoReturn:
        names = {id(parameter): repr(name) for name, parameter in self._parameters.items()}
        name = names.get(id(use.weights), f"weights {tuple(use.weights.shape)}, given from outside")
        self._refuse(f"{name}: {use.operation} {use.reason}; expected torch.nn.functional.linear")


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
    @differentiable_once(
        "gradients by feedback weights have no derivative, since they are not those of a loss: expected FeedbackMode, "
        "or a rule that uses it, without create_graph=True"
    )
    def backward(ctx: Any, saved: tuple[Tensor, ...], error: Tensor) -> tuple[Tensor | None, ...]:
        (input,), feedback = saved, ctx.feedback
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


def fan_in(weight: Tensor, transposed_groups: int = 0) -> int:
    """The number of inputs of a unit; of a transposed convolution, with its groups, those of its whole kernel."""
    if not transposed_groups:
        return math.prod(weight.shape[1:])
    return len(weight) // transposed_groups * math.prod(weight.shape[2:])
