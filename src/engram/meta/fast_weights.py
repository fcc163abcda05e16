"""Differentiate through learning: a module whose weight updates stay part of the graph."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterable
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_map_only

from engram import checks
from engram.meta.inner_updates import Update, Weights, sgd
from engram.meta.recomputed import recomputed
from engram.meta.second_derivatives import TwiceDifferentiable

Batch = TypeVar("Batch")


class FastWeights:
    """A module with separate weights that learn, step by step, while the module itself does not change.

        w(0) = the module's parameters;  w(i+1), s(i+1) = update(dL/dw(i), w(i), s(i))

    Each step returns new fast weights and changes nothing, so that tasks cannot affect each other, and the network of
    every stage of learning can still be called. A loss at the end has a gradient with respect to all of the module's
    parameters, whether they moved or not, and to whatever else the update depends on, such as a learning rate.

    Args:
        module: Any module, even if it is recurrent, normalises or shares weights. Its buffers, such as running means,
            are copied, and only the copies change.
        update: How weights move: ``sgd(lr)``, ``adam(lr)``, or a function of gradients, weights (dictionaries by name)
            and a state (None before the first step) that returns new weights and state.
        select: Names of the parameters that move, or of submodules whose parameters all move; None: all that require a
            gradient. A selected parameter that requires no gradient moves, but its initial value gets no gradient.
        order: 2: the outer gradient goes through the inner ones, for which the module runs without fused attention. 1:
            inner gradients are constants, dw(i)/dw(0) = 1, which costs no more than the steps themselves.

    Attributes:
        params: The weights that move, by name.
        buffers: The copies of the module's buffers, by name.
        state: The state of the update.

    Raises:
        TypeError: ``module`` is not a module, or ``update`` cannot be called.
        ValueError: A name in ``select`` is not in the module, nothing is left to move, or ``order`` is neither 1 nor 2.

    Source: Finn, Abbeel and Levine, "Model-agnostic meta-learning" (2017), equation 1 and, for order 1, section 5.2.

    Examples:
        >>> net = nn.Linear(1, 1, bias=False)
        >>> x = torch.ones(1, 1)
        >>> fast = FastWeights(net, sgd(0.25))
        >>> fast = fast.step(fast(x).square().sum())
        >>> torch.equal(fast(x), net(x) / 2)
        True
        >>> fast(x).sum().backward()
        >>> net.weight.grad
        tensor([[0.5000]])
    """

    __repr__ = checks.described

    def __init__(
        self,
        module: nn.Module,
        update: Update = sgd(0.1),  # noqa: B008 - it has no state
        *,
        select: Collection[str] | None = None,
        order: int = 2,
    ) -> None:
        checks.arguments()
        self.module = checks.instance("module", module, nn.Module)
        if not callable(update):
            raise TypeError(f"update = {update!r}: expected a function, as sgd(0.1) returns")
        self.update, self.order, self.state = update, checks.choice("order", order, (1, 2)), None
        selected = _selected(module, select)
        self.params: Weights = {n: p if p.requires_grad else p.detach().requires_grad_() for n, p in selected.items()}
        self.buffers: Weights = {name: buffer.clone() for name, buffer in module.named_buffers()}
        self._unfused = TwiceDifferentiable(module)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module with these weights."""
        tensors = self.params | self.buffers
        with self._unfused.call() if self.order == 2 else nullcontext():
            output = functional_call(self.module, tensors, args, kwargs)
        self.buffers = {name: tensors[name] for name in self.buffers}  # a module may have assigned new ones
        return output

    def step(self, loss: Tensor) -> FastWeights:
        """The weights after one update on a loss; weights that the loss does not depend on have a gradient of 0.

        Args:
            loss: A scalar, computed with these weights.

        Raises:
            TypeError: It is not a tensor.
            ValueError: It is not one number, does not depend on these weights, or was computed without gradients; or
                the update returned weights with other names or shapes.
        """
        if checks.instance("loss", loss, Tensor).numel() != 1:
            raise ValueError(f"loss.shape = {tuple(loss.shape)}: expected one number")
        if not loss.requires_grad:
            expected = "expected one with, neither under torch.no_grad nor in inference mode"
            raise ValueError(f"loss = {loss.item()} has no gradient: {expected}")
        weights, second_order = list(self.params.values()), self.order == 2
        grads = torch.autograd.grad(loss, weights, create_graph=second_order, allow_unused=True)
        if all(gradient is None for gradient in grads):
            raise ValueError(
                f"loss = {loss.item()} depends on no fast weight: expected a loss computed with these weights"
            )
        gradients = {
            name: torch.zeros_like(weight) if gradient is None else gradient
            for (name, weight), gradient in zip(self.params.items(), grads, strict=True)
        }
        params, state = self.update(gradients, dict(self.params), self.state)
        new_shapes, old_shapes = (
            {name: tuple(w.shape) for name, w in weights.items()} for weights in (params, self.params)
        )
        if new_shapes != old_shapes:
            raise ValueError(f"update returned weights {new_shapes}: expected {old_shapes}")
        return self._with(params, state)

    def adapt(
        self, loss: Callable[[FastWeights, Batch], Tensor], batches: Iterable[Batch], *, checkpointed: bool = False
    ) -> tuple[FastWeights, Tensor]:
        """Take a step on each of a sequence of batches.

        Args:
            loss: The loss of fast weights on a batch, such as ``lambda fast, batch: fast(batch).square().mean()``.
            batches: A batch for each step: the first axis of a tensor, or any sequence.
            checkpointed: For the backward pass, store only the weights before every sqrt(T)-th of the T steps, and
                repeat the steps in between when needed: memory for 2 sqrt(T) steps, at the cost of one more pass.

        Returns:
            The weights after the last step, and the loss before each, (steps,), with its graph if ``order`` is 2.

        Raises:
            ValueError: There are no batches, or ``step`` raises it.
        """
        checks.arguments()
        sequence = list(batches)
        if not sequence:
            raise ValueError("batches is empty: expected one for each step, at least one")

        def take_steps(fast: FastWeights, batches: list[Batch]) -> tuple[FastWeights, list[Tensor]]:
            fast, losses = fast._with(fast.params, fast.state), []  # so that a repetition starts with the same buffers
            for batch in batches:
                losses.append(loss(fast, batch))
                fast = fast.step(losses[-1])
            return fast, losses

        fast, losses = self, []
        length = math.isqrt(len(sequence)) if checkpointed else len(sequence)
        for start in range(0, len(sequence), length):
            segment = sequence[start : start + length]
            fast, segment_losses = recomputed(take_steps, fast, segment) if checkpointed else take_steps(fast, segment)
            losses += segment_losses
        stacked = torch.stack([value.reshape(()) for value in losses])
        return fast, stacked if self.order == 2 else stacked.detach()  # a step of order 1 uses up the graph

    def state_dict(self) -> dict[str, Any]:
        """The module's state with these weights and buffers, for its ``load_state_dict``, detached from the graph.

        ``module.load_state_dict(fast.state_dict())`` makes the module do what ``fast`` does, in evaluation mode too,
        where running statistics count. ``fast.buffers`` alone carries these, and leaves the weights.

        Examples:
            >>> net = nn.BatchNorm1d(1)
            >>> fast = FastWeights(net)
            >>> fast = fast.step(fast(torch.tensor([[10.0], [30.0]])).square().sum())
            >>> net.running_mean, fast.state_dict()["running_mean"]
            (tensor([0.]), tensor([2.]))
        """
        module = self.module
        originals: Weights = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        current = {id(originals[name]): tensor for name, tensor in (self.params | self.buffers).items()}
        state = module.state_dict(keep_vars=True)  # by identity, as a shared weight has several names
        return {
            name: current.get(id(value), value).detach() if isinstance(value, Tensor) else value
            for name, value in state.items()
        }

    def detach(self) -> FastWeights:
        """The same weights, detached from the graph, for use or to continue with a new graph."""
        params = {name: weight.detach().requires_grad_() for name, weight in self.params.items()}
        copied = self._with(params, tree_map_only(Tensor, Tensor.detach, self.state))
        copied.buffers = {name: buffer.detach() for name, buffer in copied.buffers.items()}
        return copied

    def _with(self, params: Weights, state: Any) -> FastWeights:
        copied = copy.copy(self)
        copied.params, copied.state = params, state
        copied.buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        return copied


def _selected(module: nn.Module, select: Collection[str] | None) -> Weights:
    """The parameters with these names, or in submodules with these names."""
    parameters: Weights = dict(module.named_parameters())
    if select is None:
        selected = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
        if not selected:
            raise ValueError("module has no parameter that requires a gradient: expected one, or select")
        return selected
    if isinstance(select, str):
        raise TypeError(f"select = {select!r}: expected a collection of names, as ({select!r},)")
    first_names = {id(parameter): name for name, parameter in parameters.items()}
    every = dict(module.named_parameters(remove_duplicate=False))  # a shared one has several names
    moving: set[str] = set()
    for selected_name in select:
        found = {first_names[id(p)] for name, p in every.items() if f"{name}.".startswith(f"{selected_name}.")}
        if not found:
            raise ValueError(f"select has {selected_name!r}: expected names among {', '.join(every)}, or of submodules")
        moving |= found
    selected = {name: weight for name, weight in parameters.items() if name in moving}
    if not selected:
        raise ValueError("select is empty: expected names of parameters or submodules")
    return selected
