"""A window of a network with gated synapses as one autograd operation, computed by the numba kernels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from engram.learned.learning_to_remember.gated_rule import GatedRule
from engram.nn.first_derivatives import differentiable_once
from engram.numeric.threads import single_threaded


class Wiring(NamedTuple):
    """The network of the kernels, without its rule.

    Attributes:
        kind: Type of each neuron.
        scale: Factors of the forward and backward messages that each neuron gets, by its degrees.
        edges: The neurons that each synapse connects, (post, pre), block after block, each (post, pre) row by row.
        ticks: Steps for each frame.
    """

    kind: Int[np.ndarray, " neurons"]
    scale: Float[Tensor, "neurons 2"]
    edges: Int[np.ndarray, "synapses 2"]
    ticks: int


def runs_fused(rule: nn.Module, *tensors: Tensor) -> bool:
    """Whether the kernels can run a window: a gated rule on a CPU, without a transform of ``torch.func``."""
    if type(rule) is not GatedRule or torch.compiler.is_compiling():
        return False
    return all(
        tensor.device.type == "cpu"
        and tensor.dtype in (torch.float32, torch.float64)
        and torch.func.debug_unwrap(tensor) is tensor
        for tensor in (*tensors, *rule.parameters(recurse=False))
    )


def run_fused(
    rule: GatedRule,
    wiring: Wiring,
    shown: Float[Tensor, "frames batch neurons 2"],
    body: Float[Tensor, "batch neurons body"],
    synapse: Float[Tensor, "batch channels synapses"],
) -> tuple[Float[Tensor, "frames batch neurons body"], Float[Tensor, "batch channels synapses"]]:
    """The bodies after each frame, and the synapses after the last.

    Args:
        rule: The rule.
        wiring: The network.
        shown: x and k of every neuron, at each frame.
        body: Bodies before the first frame.
        synapse: Synapses before it, in the order of ``wiring.edges``.
    """
    zeros = torch.zeros_like(rule.post)
    factor_i, factor_j = (zeros if factor is None else factor for factor in (rule.post_factor, rule.pre_factor))
    weights_of_known = torch.cat((rule.post, rule.pre, factor_i, factor_j), 1)
    known_bias = functional.pad(rule.bias, (0, 3 * rule.synapse_hidden))[None]
    body_in: Tensor = rule.body_in
    body_bias = rule.body_in_bias[None]
    # Terms that depend only on the type are part of a bias; with one type they are 0, and its embedding is empty.
    weights_of_known, type_weights = torch.split(weights_of_known, [2 * rule.body_size, rule.type_size])
    known_bias = known_bias + rule.embedding @ type_weights
    body_in, type_weights = torch.split(body_in, [len(body_in) - rule.type_size, rule.type_size])
    body_bias = body_bias + rule.embedding @ type_weights
    parameters = (
        torch.cat((rule.forward_projection, rule.backward_projection), 1),
        body_in, body_bias, rule.body_out, rule.body_out_bias,
        weights_of_known, known_bias, rule.own, rule.out, rule.out_bias,
    )  # fmt: skip
    return _Window.apply(wiring, shown, body, synapse, *parameters)  # type: ignore[no-any-return, no-untyped-call]


def _tiles(tensor: Tensor, batch: int, lanes: int) -> Any:
    """A tensor with the batch as first axis, as an array (tiles, ..., lanes), padded with zeros."""
    count = -(-batch // lanes)
    padded = tensor.detach()
    if batch < count * lanes:
        padded = functional.pad(padded, (0, 0) * (tensor.ndim - 1) + (0, count * lanes - batch))
    return padded.reshape(count, lanes, *tensor.shape[1:]).movedim(1, -1).contiguous().numpy()


def _batch(array: Any, batch: int) -> Tensor:
    """The inverse of ``_tiles``."""
    return torch.from_numpy(array).movedim(-1, 1).flatten(0, 1)[:batch]


class _Window(torch.autograd.Function):
    @staticmethod
    @single_threaded()
    def forward(ctx: Any, wiring: Wiring, shown: Tensor, body: Tensor, synapse: Tensor, *parameters: Tensor) -> Any:
        from engram.learned.learning_to_remember import kernels
        from engram.numeric.simd import REGISTER_BYTES

        batch, lanes = len(body), REGISTER_BYTES // body.element_size()
        frames = _tiles(shown.transpose(0, 1), batch, lanes)
        ticks = len(shown) * wiring.ticks
        states = ticks + 1 if any(ctx.needs_input_grad) else 2
        tiles, dtype = len(frames), frames.dtype
        first_body, first_synapse = _tiles(body, batch, lanes), _tiles(synapse.transpose(1, 2), batch, lanes)
        bodies, synapses = (
            np.empty((tiles, states, *initial.shape[1:]), dtype) for initial in (first_body, first_synapse)
        )
        bodies[:, 0], synapses[:, 0] = first_body, first_synapse
        messages = np.empty((*bodies.shape[:3], 2 * synapse.shape[1], lanes), dtype)
        ends = np.empty((tiles, len(shown), *first_body.shape[1:]), dtype)
        window = (
            kernels.States(bodies, synapses, messages),
            kernels.Wires(wiring.kind, wiring.scale.numpy(), wiring.edges, wiring.ticks),
            kernels.Parameters(*(parameter.detach().contiguous().numpy() for parameter in parameters)),
        )
        kernels.forward(frames, window[0], ends, *window[1:])
        ctx.saved = frames, *window, batch, lanes
        ctx.save_for_backward(body, synapse, *parameters)  # the arrays share the memory of the parameters
        return _batch(ends, batch).transpose(0, 1), _batch(synapses[:, ticks % states], batch).transpose(1, 2)

    @staticmethod
    @differentiable_once(
        "the kernels have no second derivative: make the network with backend='eager' to differentiate twice"
    )
    @single_threaded()
    def backward(ctx: Any, saved: tuple[Tensor, ...], grad_ends: Tensor, grad_synapse: Tensor) -> Any:
        from engram.learned.learning_to_remember import kernels

        # What was saved is read elsewhere; torch raises if an optimiser has changed it, or if the graph was used up.
        frames, states, wires, rule, batch, lanes = ctx.saved
        grad_ends_tiles = _tiles(grad_ends.transpose(0, 1), batch, lanes)
        grad_synapse_tiles = _tiles(grad_synapse.transpose(1, 2), batch, lanes)
        grad_body_tiles = np.zeros_like(states.body[:, 0])
        grads = kernels.Parameters(*(np.zeros((*array.shape, lanes), array.dtype) for array in rule))
        kernels.backward(frames, states, grad_ends_tiles, grad_body_tiles, grad_synapse_tiles, wires, rule, grads)
        parameter_grads = (torch.from_numpy(total.sum(-1)) for total in grads)
        grad_states = _batch(grad_body_tiles, batch), _batch(grad_synapse_tiles, batch).transpose(1, 2)
        return None, None, *grad_states, *parameter_grads


def edges_of(
    blocks: list[tuple[slice, slice, Bool[Tensor, "post pre"] | None]],
) -> tuple[Int[np.ndarray, "synapses 2"], list[Tensor | None]]:
    """The synapses of blocks, given as (post, pre, mask), and the indices of each block's synapses in it; None: all."""
    edges, indices = [], []
    for post, pre, mask in blocks:
        pairs = torch.cartesian_prod(torch.arange(post.start, post.stop), torch.arange(pre.start, pre.stop))
        index = None if mask is None else mask.flatten().nonzero()[:, 0]
        edges.append(pairs if index is None else pairs[index])
        indices.append(index)
    return torch.cat(edges).numpy(), indices
