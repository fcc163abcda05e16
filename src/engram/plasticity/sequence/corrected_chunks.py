"""Chunks of the delta rule and the gated delta rule on the CPU, with their derivative.

``DeltaWrite`` and ``GatedDeltaWrite`` define them in operators that autograd knows. Here the same takes half the time
and less than half the memory: the matrices of a chunk are made, used and left while they are in the cache, and the
backward pass is written out. With M = S', D the products of alpha between two steps and g those since the
start, e = D[last] and primes for transposes, a chunk is

    L = tril(D * K K', -1),   A = tril(D * Q K'),   X = (I + diag(beta) L)^-1
    U = X diag(beta) (V - g K M),   O = g Q M + A U,   M_new = g[last] M + (e K)' U

and Y = V - g K M - L U, the error that each step corrects, so that U = diag(beta) Y. From the gradients O^ and M^_new
follow, chunk by chunk from the last,

    U^ = A' O^ + e K M^_new,   W = X' U^,   beta^ = diag(W Y'),   V^ = P = diag(beta) W
    A^ = tril(O^ U'),   L^ = -tril(P U', -1),   M^ = g[last] M^_new + (g Q)' O^ - (g K)' P

A second derivative is taken through the definition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.compiler import is_compiling

from engram.nn.sequence import autocast
from engram.plasticity.kernels.plain_gradients import has_tangent, plain_gradients
from engram.plasticity.sequence.products import decay_between

# Two chunks and less gain little, and keep the rounding of the definition, with which associative-recall is recorded.
FEWEST = 3

Chunks = Callable[..., tuple[Tensor, Tensor]]  # the definition: weight, sequences and signals to output and weight


class _Kept(NamedTuple):
    """What the forward pass leaves to the backward pass; batch and heads are one axis, ``row``."""

    memory: Float[Tensor, "chunks+1 row key value"]  # M before each chunk
    error: Float[Tensor, "chunks row size value"]  # Y
    inverse: Float[Tensor, "chunks row size size"]  # X
    attended: Float[Tensor, "chunks row size size"]  # A
    below: Float[Tensor, "chunks row size size"]  # L; without decay, nothing is needed of it


class _Decay(NamedTuple):
    between: Float[Tensor, "row size size"]  # D
    since: Float[Tensor, "row size 1"]  # g
    until: Float[Tensor, "row size 1"]  # e
    whole: Float[Tensor, "row 1 1"]  # g[last]


def can_run(*tensors: Tensor) -> bool:
    """Whether this pass, which autograd cannot look into, may stand in for the definition, and is worth its while.

    Args:
        *tensors: As ``corrected_chunks`` takes them.
    """
    return not (
        len(tensors[1]) < FEWEST
        or is_compiling()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or not tensors[0].is_cpu
        or autocast(tensors[0].device)
        or has_tangent(*tensors)
    )


def corrected_chunks(
    definition: Chunks,
    weight: Float[Tensor, "batch heads value key"],
    query: Float[Tensor, "chunks batch heads size key"],
    key: Float[Tensor, "chunks batch heads size key"],
    value: Float[Tensor, "chunks batch heads size value"],
    *signals: Float[Tensor, "chunks batch heads size"],
) -> tuple[Float[Tensor, "batch heads time value"], Float[Tensor, "batch heads value key"]]:
    """What is recalled at each step, and S after the last chunk.

    Args:
        definition: Computes the same from the same tensors; for second derivatives.
        weight: S before the first chunk.
        query: Q.
        key: K.
        value: V.
        *signals: beta, and the logarithm of alpha for the gated delta rule.
    """
    tensors = weight, query, key, value, *signals
    has_graph = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    recalled, last = _Chunks.apply(definition, has_graph, *tensors)  # type: ignore[no-untyped-call]
    return recalled, last


class _Chunks(Function):
    @staticmethod
    def forward(
        ctx: Any,
        definition: Chunks,
        has_graph: bool,
        weight: Tensor,
        *sequences: Tensor,
    ) -> tuple[Tensor, Tensor]:
        recalled, last, kept = _forward(weight, *(t.flatten(1, 2) for t in sequences), keep=has_graph)
        ctx.definition = definition
        if has_graph:
            ctx.save_for_backward(weight, *sequences, *kept)
        return recalled.view(*weight.shape[:2], *recalled.shape[1:]), last.mT.reshape(weight.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # once: with checkpointing, the first access recomputes them
        count = len(saved) - len(_Kept._fields)
        inputs, kept = saved[:count], _Kept(*saved[count:])
        if torch.is_grad_enabled():  # they are to be differentiated again
            return None, None, *plain_gradients(ctx.definition, inputs, ctx.needs_input_grad[2:], grads)
        weight, *sequences = inputs
        # Contiguous, as products of batches of expanded tensors, such as the gradient of a sum, are made one by one.
        of_recalled, of_last = (t.flatten(0, 1).contiguous() for t in grads)
        of_memory, *others = _backward(of_recalled, of_last.mT, kept, *(t.flatten(1, 2) for t in sequences))
        by_sequence = (grad.view(t.shape) for grad, t in zip(others, sequences, strict=True))
        return None, None, of_memory.mT.view_as(weight), *by_sequence


def _forward(
    weight: Tensor, query: Tensor, key: Tensor, value: Tensor, beta: Tensor, *log_decays: Tensor, keep: bool
) -> tuple[Tensor, Tensor, _Kept]:
    chunks, rows, size, value_size = value.shape
    places = chunks if keep else 1
    square = (places, rows, size, size)
    memory = weight.new_empty(places + 1, rows, key.shape[-1], value_size)
    kept = _Kept(memory, value.new_empty(places, *value.shape[1:]), *(weight.new_empty(square) for _ in range(3)))
    memory[0] = weight.flatten(0, 1).mT
    recalled = weight.new_empty(rows, chunks * size, value_size)
    identity = torch.eye(size, dtype=weight.dtype).expand(rows, size, size)
    for chunk in range(chunks):
        place = chunk % places
        before, error, inverse, attended, below = (t[place] for t in kept)
        q, k, v, b, *logs = (t[chunk] for t in (query, key, value, beta.unsqueeze(-1), *log_decays))
        decay = _decay(*logs)
        k_since, q_since, k_until = k, q, k
        torch.bmm(k, k.mT, out=below)
        torch.bmm(q, k.mT, out=attended)
        if decay is None:
            attended.tril_()
        else:
            below *= decay.between
            attended *= decay.between
            k_since, q_since, k_until = k * decay.since, q * decay.since, k * decay.until
        below.tril_(-1)
        torch.linalg.solve_triangular(below * b, identity, upper=False, unitriangular=True, out=inverse)
        missed = torch.baddbmm(v, k_since, before, alpha=-1)
        u = torch.bmm(inverse * b.mT, missed)
        torch.baddbmm(missed, below, u, alpha=-1, out=error)
        recalled[:, chunk * size : (chunk + 1) * size] = torch.bmm(q_since, before).baddbmm_(attended, u)
        left = before if decay is None else before * decay.whole
        after = memory[place + 1]
        torch.baddbmm(left, k_until.mT, u, out=after)
        if not keep:
            memory[0] = after
    return recalled, memory[-1], kept


def _backward(
    of_recalled: Float[Tensor, "row time value"],
    of_memory: Float[Tensor, "row key value"],
    kept: _Kept,
    *sequences: Float[Tensor, "chunks row size ..."],
) -> tuple[Tensor, ...]:
    """The gradients of M at the start, and of the sequences and signals."""
    chunks, _, size, _ = sequences[0].shape
    gradients = [torch.empty(t.shape, dtype=t.dtype) for t in sequences]
    for chunk in reversed(range(chunks)):
        before, error, inverse, attended, below = (t[chunk] for t in kept)
        q, k, _, b, *logs = (t[chunk] for t in sequences)
        of_query, of_key, of_value, of_beta, *of_logs = (t[chunk] for t in gradients)
        of_output, b, decay = of_recalled[:, chunk * size : (chunk + 1) * size], b.unsqueeze(-1), _decay(*logs)
        k_until = k if decay is None else k * decay.until
        w = torch.bmm(inverse.mT, torch.bmm(attended.mT, of_output).baddbmm_(k_until, of_memory))
        p = torch.mul(w, b, out=of_value)
        # Strengths multiply the small products rather than U, which is nowhere made.
        overlap = torch.bmm(w, error.mT)
        of_beta.copy_(overlap.diagonal(dim1=-2, dim2=-1))
        of_attended = torch.bmm(of_output, error.mT).mul_(b.mT).tril_()
        of_below = overlap.mul_(b).mul_(-b.mT).tril_(-1)
        if decay is None:
            q_since, k_since = q, k
            torch.bmm(of_output, before.mT, out=of_query)
            torch.bmm(error, of_memory.mT, out=of_key).baddbmm_(w, before.mT, alpha=-1).mul_(b)
        else:
            between = of_attended * attended + of_below * below  # of the logarithm of D
            of_attended *= decay.between
            of_below *= decay.between
            q_since, k_since = q * decay.since, k * decay.since
            by_query = torch.bmm(of_output, before.mT).mul_(decay.since)
            by_key = torch.bmm(p, before.mT).mul_(decay.since)
            by_until = torch.bmm(error, of_memory.mT).mul_(decay.until * b)
            between[:, -1] += (by_until * k).sum(-1)
            since = (by_query * q - by_key * k).sum(-1)
            since[:, -1] += (of_memory * before).sum((-1, -2)) * decay.whole.flatten()
            of_logs[0].copy_(_of_steps(between, since))
            of_memory = of_memory * decay.whole
            of_query.copy_(by_query)
            torch.sub(by_until, by_key, out=of_key)
        of_query.baddbmm_(of_attended, k)
        of_key.baddbmm_(of_attended.mT, q).baddbmm_(of_below + of_below.mT, k)
        of_memory = torch.baddbmm(of_memory, q_since.mT, of_output).baddbmm_(k_since.mT, p, alpha=-1)
    return of_memory, *gradients


def _decay(*log_decays: Float[Tensor, "row size"]) -> _Decay | None:
    if not log_decays:
        return None
    (log_decay,) = log_decays
    between, since = decay_between(log_decay), log_decay.cumsum(-1).exp().unsqueeze(-1)
    return _Decay(between, since, between[:, -1].unsqueeze(-1), since[:, -1:])


def _of_steps(between: Float[Tensor, "row size size"], since: Float[Tensor, "row size"]) -> Float[Tensor, "row size"]:
    """The gradient of the logarithm of alpha at each step, from those of the logarithms of D and g.

    Step i is in D[t, j] if j < i <= t, and in g[t] if i <= t; sums over just these lose nothing to rounding.
    """
    crossing = between.flip(-2).cumsum(-2).flip(-2).tril(-1).sum(-1)
    return crossing + since.flip(-1).cumsum(-1).flip(-1)
