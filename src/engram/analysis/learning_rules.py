"""Measures of a learning rule: the similarity of its weight changes to the gradient, and its cost."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from engram import checks


class LayerCosine(NamedTuple):
    """Cosine between two weight changes of a layer; if one of them is zero, ``zero`` is true and the cosine is 0."""

    cosine: float
    zero: bool


def gradient_cosine(grads: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> dict[str, LayerCosine]:
    """The cosine between pseudo-gradients and gradients, for each layer.

        cos = <g, r> / (|g| |r|),   over all parameters of a layer

    Args:
        grads: Pseudo-gradients by parameter name; missing ones count as zero.
        reference: Gradients by parameter name, such as those of backpropagation; their names define the layers.

    Returns:
        The cosine of each layer, by the name of the module that holds its parameters, in the order of ``reference``.

    Raises:
        ValueError: ``reference`` lacks a parameter of ``grads``, or has it in another shape.

    Examples:
        >>> reference = {"0.weight": torch.tensor([3.0, 4.0]), "2.weight": torch.ones(2)}
        >>> cosines = gradient_cosine({"0.weight": torch.tensor([1.0, 0.0])}, reference)
        >>> round(cosines["0"].cosine, 6), cosines["2"]
        (0.6, LayerCosine(cosine=0.0, zero=True))
    """
    checks.arguments()
    if unknown := sorted(set(grads) - set(reference)):
        raise ValueError(f"grads has {', '.join(unknown)}: expected only parameters of reference")
    layers: dict[str, list[str]] = {}
    for name, gradient in reference.items():
        if name in grads and grads[name].shape != gradient.shape:
            raise ValueError(f"grads[{name!r}].shape = {tuple(grads[name].shape)}: expected {tuple(gradient.shape)}")
        layers.setdefault(name.rpartition(".")[0], []).append(name)
    cosines = {}
    for layer, names in layers.items():
        reference_vector = torch.cat([reference[name].detach().double().flatten() for name in names])
        vector = torch.cat([grads.get(name, torch.zeros_like(reference[name])).double().flatten() for name in names])
        norms = vector.norm() * reference_vector.norm()
        zero = not bool(vector.any() and reference_vector.any())
        cosines[layer] = LayerCosine(0.0 if zero else float(vector @ reference_vector / norms), zero)
    return cosines


def alignment_score(change: Float[np.ndarray, "post pre"], predicted: Float[np.ndarray, "others _"]) -> float:
    """The alignment of a layer's weight change with a predicted one, from 0 to 1, in the space of its inputs.

        |A A*^T|_F^2 / (|A A^T|_F |A* A*^T|_F) = <A^T A, A*^T A*>_F / (|A^T A|_F |A*^T A*|_F)

    Args:
        change: A, weights after minus weights before, (out, in); kernels of a convolution unfolded, (out, in * k * k).
        predicted: A*, in the same form, with the same number of columns as A; the number of rows may differ.

    Raises:
        ValueError: The shapes do not fit, or a change is zero.

    Source: Boopathy and Fiete, "How to train your wide neural network without backprop" (2022); this is the expected
    value of their estimate from noise.

    Examples:
        >>> A = np.array([[1.0, 2.0], [0.0, 1.0]])
        >>> round(alignment_score(A, A[::-1]), 12), alignment_score(np.array([[1.0, 0.0]]), np.array([[0.0, 2.0]]))
        (1.0, 0.0)
    """
    A = checks.array("change", change, ("post", "pre"))
    B = checks.array("predicted", predicted, ("post", A.shape[1]))
    for name, value in (("change", A), ("predicted", B)):
        if not value.any():
            raise ValueError(f"{name} is zero everywhere: expected a change")
    A, B = A / np.abs(A).max(), B / np.abs(B).max()
    if len(A) + len(B) > A.shape[1]:  # use the smaller Gram matrices
        gram_change, gram_predicted = A.T @ A, B.T @ B
        overlap = float((gram_change * gram_predicted).sum())
    else:
        gram_change, gram_predicted = A @ A.T, B @ B.T
        overlap = float(np.square(A @ B.T).sum())
    return min(overlap / float(np.linalg.norm(gram_change) * np.linalg.norm(gram_predicted)), 1.0)


def extra_memory(update: Callable[[], object], forward: Callable[[], object], state: Iterable[Tensor] = ()) -> int:
    """The peak memory of the tensors of an update, in bytes, beyond that of a forward pass.

    Args:
        update: Function without arguments that calls ``rule.update``; the pseudo-gradients that it returns are part of
            the peak.
        forward: Function without arguments that only calls the network, without gradients.
        state: Tensors of the rule's state, which are added in full because they exist all the time.

    Raises:
        TypeError: ``update`` or ``forward`` is not callable.

    Examples:
        >>> extra_memory(lambda: torch.ones(1000), lambda: torch.ones(200), state=[torch.ones(10)])
        3240
    """
    checks.arguments()
    with checks.noted(update=update, forward=forward):
        return peak_memory(update) - peak_memory(forward) + sum(tensor.untyped_storage().nbytes() for tensor in state)


def peak_memory(call: Callable[[], object]) -> int:
    """The peak memory of the tensors that a call allocates, in bytes.

    Args:
        call: Function without arguments; it is called twice, since the first call may fill caches.

    Raises:
        TypeError: ``call`` is not callable.

    Examples:
        >>> peak_memory(lambda: torch.ones(1000) + 1)
        8000
    """
    _callable("call", call)
    call()
    with _Allocations() as allocations:
        result = call()
    del result
    return int(allocations.most)


class _Allocations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the storages that operations allocate, until they are freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now: int = 0
        self.most: int = 0
        self.known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.known.update(_storages((args, kwargs)))
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage not in self.known:
                self.known.add(storage)
                self._change(storage.nbytes())
                weakref.finalize(storage, self._change, -storage.nbytes())
        return result

    def _change(self, size: int) -> None:
        self.now += size
        self.most = max(self.most, self.now)


def _storages(nest: Any) -> list[torch.UntypedStorage]:
    dense = (leaf for leaf in tree_leaves(nest) if isinstance(leaf, Tensor) and leaf.layout is torch.strided)
    return [leaf.untyped_storage() for leaf in dense]


def forward_equivalents(update: Callable[[], object], forward: Callable[[], object]) -> float:
    """The cost of an update in units of a forward pass, counting multiplications in matrix products and convolutions.

    Args:
        update: Function without arguments that calls ``rule.update``.
        forward: Function without arguments that only calls the network.

    Raises:
        TypeError: ``update`` or ``forward`` is not callable.
        ValueError: The forward pass has no matrix product or convolution.

    Examples:
        >>> x = torch.ones(4, 3)
        >>> forward_equivalents(lambda: x @ x.T @ x, lambda: x @ x.T)
        2.0
    """
    flops = []
    for name, call in (("update", update), ("forward", forward)):
        _callable(name, call)
        with _Products() as products, checks.noted(**{name: call}):
            call()
        flops.append(products.flops)
    if not flops[1]:
        raise ValueError("forward has no product of matrices: expected a network with weights")
    return float(flops[0] / flops[1])


class _Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts as ``FlopCounterMode`` does, whose hooks prevent ``torch.autograd.grad`` by the input of a module."""

    def __init__(self) -> None:
        # Not imported above: it imports Triton where that is installed, which is slow and prints at exit.
        from torch.utils.flop_counter import flop_registry

        super().__init__()  # type: ignore[no-untyped-call]
        self.flops: int = 0
        self._formulas = flop_registry

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, formula = kwargs or {}, self._formulas.get(func._overloadpacket)
        if formula is None and func is not torch.ops.prim.device.default:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        self.flops += 0 if formula is None else formula(*args, **kwargs, out_val=result)
        return result


def _callable(name: str, value: object) -> None:
    if not callable(value):
        raise TypeError(f"{name} is a {type(value).__name__}: expected a function without arguments")
