"""The registration of a scan and its derivative as custom operators of torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_type_hints

import torch
from torch import Tensor
from torch.library import custom_op

from engram.numeric.threads import single_threaded
from engram.plasticity.kernels.plain_gradients import plain_gradients

if TYPE_CHECKING:
    from torch._library.custom_ops import CustomOpDef

# The tensors that the operators of recurrent layers take last.
RECURRENT = (
    "Tensor trace, Tensor eligibility, Tensor weight, Tensor alpha, "
    "Tensor eta, Tensor v, Tensor v0, Tensor fan, Tensor base"
)


def numbers(options: tuple[Any, ...]) -> list[float]:
    """Options as an operator takes them."""
    return [float(number) for number in options]


def with_options(kind: type, call: Callable[..., Any]) -> Callable[..., Any]:
    """A function that takes options as a list of numbers, its last argument, and calls another with each of them.

    Args:
        kind: NamedTuple class of the options.
        call: The function that is called.
    """
    types = tuple(get_type_hints(kind).values())

    def called(*args: Any) -> Any:
        *tensors, options = args
        return call(*tensors, *(type_of(number) for type_of, number in zip(types, options, strict=True)))

    return called


def implement(
    operators: tuple[CustomOpDef, CustomOpDef],
    passes: tuple[Callable[..., Any], Callable[..., Any]],
    options: type,
    device_type: str,
) -> None:
    """Give an operator and its derivative the passes that compute on a further kind of device; see ``register``."""
    for operator, call in zip(operators, passes, strict=True):
        operator.register_kernel(device_type, with_options(options, call))


def register(
    name: str,
    passes: tuple[Callable[..., Any], Callable[..., Any]],
    fakes: tuple[Callable[..., Any], Callable[..., Any]],
    *,
    plain: Callable[..., tuple[Tensor, ...]],
    given: str,
    kept: str,
    keep: Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]],
    external: int,
    options: type,
    returned: int,
    graded: int,
) -> tuple[CustomOpDef, CustomOpDef]:
    """A CPU operator and its derivative, registered with torch and known to ``torch.compile``.

    Where its derivative is to have a graph, as in a second derivative, it is that of the plain scan. ``torch.func``
    cannot transform the operator.

    Args:
        name: Its name, without ``engram::``; that of the derivative ends in ``_backward``.
        passes: The forward pass, which takes the input tensors and the options; and the backward pass, which takes the
            gradients, the kept tensors and the options, and returns the gradients of all input tensors except optional
            ones.
        fakes: For both passes, functions that return outputs of the right shape without computing them.
        given: The schema of the input tensors.
        plain: The plain scan; takes what the forward pass takes, and returns the outputs that may have gradients.
        kept: The schema of the tensors that the backward pass needs: some outputs, and all inputs except one.
        keep: Selects these outputs, given all of them.
        external: The place of this input, which only the plain scan needs.
        options: NamedTuple class of the options, whose numbers follow the tensors as one list: torch takes longer over
            many arguments than a small layer computes.
        returned: Number of tensors that the forward pass returns.
        graded: Number of outputs, from the first on, that may have gradients.
    """
    gradients = ", ".join(f"Tensor grad_{number}" for number in range(graded))
    has_gradient = [not tensor.startswith("Tensor?") for tensor in given.split(", ")]
    schemas = (f"{given}, float[] options", returned), (f"{gradients}, {kept}, float[] options", sum(has_gradient))
    forward, backward = (
        custom_op(
            f"engram::{name}{suffix}",
            single_threaded()(with_options(options, call)),
            mutates_args=(),
            device_types="cpu",
            schema=f"({arguments}) -> ({', '.join(['Tensor'] * number)})",
        )
        for suffix, call, (arguments, number) in zip(("", "_backward"), passes, schemas, strict=True)
    )
    for operator, fake in zip((forward, backward), fakes, strict=True):
        operator.register_fake(with_options(options, fake))

    count, scan = len(has_gradient), with_options(options, plain)

    def save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs[:count], *keep(output))
        ctx.options = inputs[-1]
        ctx.shapes = [tensor.shape for tensor in output]
        ctx.set_materialize_grads(False)  # autograd would fill in zeros with all threads

    def derivative(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # once: with checkpointing, the first access recomputes them
        inputs, outputs = saved[:count], saved[count:]
        with single_threaded():
            filled = [outputs[0].new_zeros(size) if g is None else g for g, size in zip(grads, ctx.shapes, strict=True)]
        if torch.is_grad_enabled():  # they are to be differentiated again
            outputs_of = lambda *tensors: scan(*tensors, ctx.options)  # noqa: E731
            return *plain_gradients(outputs_of, inputs, ctx.needs_input_grad[:count], filled), None
        others = inputs[:external] + inputs[external + 1 :]
        gradients = iter(backward(*filled[:graded], *outputs, *others, ctx.options))
        return (*(next(gradients) if has else None for has in has_gradient), None)

    forward.register_autograd(derivative, setup_context=save)
    return forward, backward
