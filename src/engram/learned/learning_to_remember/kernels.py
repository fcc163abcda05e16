"""A window of a network with gated synapses as numba kernels: one pass over the synapses per tick, each way.

With q = [b, m, r, x, k] of a neuron, beta = [b', b] of both neurons of a synapse, and biases of each type of neuron,

    sent    = P^T b                                     projection: P = [P_f, P_b]
    (a, g)  = W2^T tanh(W1^T q + c1) + c2               body_in, body_in_bias, body_out, body_out_bias
    b'      = b + sigmoid(g) (tanh(a) - b)
    factors = [U, V, A, G]^T beta + c                   known, known_bias
    z       = Ws^T s + U^T beta_i + V^T beta_j + c + (A^T beta_i) (G^T beta_j)          own
    (p,f,w) = Wo^T tanh(z) + co                         out, out_bias
    s'      = sigmoid(f) s + sigmoid(w) tanh(p)

The last axis of a tile has one stream for each lane of a register, so that all operations are on
whole registers and every weight is a scalar. Only states are stored for the backward pass, which recomputes the rest
from them. The arrays of a tile, with S states, the first of them before the first tick:

    shown (frames, neurons, 2, lanes)         x and k
    body (S, neurons, n_b, lanes)             b
    synapse (S, synapses, C, lanes)           s
    message (S, neurons, 2 C, lanes)          m and r, from the state with the same index

``n`` is the index of a neuron, ``e`` of a synapse, ``i`` and ``j`` of its receiving and sending neuron, ``c`` of a
channel, ``k`` of a hidden unit and ``t`` of a tick; ``L`` is the number of lanes.
"""

from typing import NamedTuple

import numpy as np

from engram.numeric.jit import inline, jit
from engram.numeric.simd import clear, copy_row, lanes, load, sigmoid, splat, store, tanh


class States(NamedTuple):
    """Bodies, synapses and messages of all tiles and ticks."""

    body: np.ndarray
    synapse: np.ndarray
    message: np.ndarray


class Wires(NamedTuple):
    """The network: type and message factors of each neuron, (post, pre) of each synapse, ticks of a frame."""

    kind: np.ndarray
    scale: np.ndarray
    edges: np.ndarray
    ticks: int


class Parameters(NamedTuple):
    """The parameters of the rule, or their gradients, which have a further last axis (lanes)."""

    projection: np.ndarray  # P, (n_b, 2 C)
    body_in: np.ndarray  # W1, (inputs of a body, hidden units)
    body_in_bias: np.ndarray  # c1 for each type of neuron, (types, hidden units)
    body_out: np.ndarray  # W2, (hidden units, 2 n_b)
    body_out_bias: np.ndarray  # c2, (2 n_b,)
    known: np.ndarray  # [U, V, A, G], (2 n_b, 4 h)
    known_bias: np.ndarray  # c for each type of neuron, (types, 4 h)
    own: np.ndarray  # Ws, (C, h)
    out: np.ndarray  # Wo, (h, 3 C)
    out_bias: np.ndarray  # co, (3 C,)


@inline
def affine(weight, bias, x, out):
    """Write W^T x + c to ``out``."""
    L = lanes(x)
    for o in range(weight.shape[1]):
        total = splat(bias[o])
        for i in range(weight.shape[0]):
            total = total + splat(weight[i, o]) * load(x, i * L)
        store(out, o * L, total)


@inline
def affine_back(weight, x, grad, grad_x, grad_weight, grad_bias):
    """Add the gradients through W^T x + c."""
    L, outputs = lanes(x), weight.shape[1]
    for o in range(outputs):
        store(grad_bias, o * L, load(grad_bias, o * L) + load(grad, o * L))
    for i in range(weight.shape[0]):
        total, value = load(grad_x, i * L), load(x, i * L)
        for o in range(outputs):
            d, offset = load(grad, o * L), (i * outputs + o) * L
            total = total + splat(weight[i, o]) * d
            store(grad_weight, offset, load(grad_weight, offset) + value * d)
        store(grad_x, i * L, total)


@inline
def squash(rows, start, stop):
    """Replace x by tanh(x)."""
    L = lanes(rows)
    for i in range(start, stop):
        store(rows, i * L, tanh(load(rows, i * L)))


@inline
def open_gates(rows, start, stop):
    """Replace x by its sigmoid."""
    L = lanes(rows)
    for i in range(start, stop):
        store(rows, i * L, sigmoid(load(rows, i * L)))


@inline
def squash_back(rows, grad):
    """Multiply by the slope of tanh, given its values."""
    L = lanes(rows)
    for i in range(rows.shape[0]):
        y, d = load(rows, i * L), load(grad, i * L)
        store(grad, i * L, d - y * y * d)


@inline
def put(rows, start, source):
    """Write rows one after another, from ``start`` on."""
    copy_row(source, 0, rows, start * lanes(rows), source.size)


@inline
def add(rows, source, start):
    """Add the rows of ``source`` from ``start`` on."""
    L = lanes(rows)
    for offset in range(0, rows.size, L):
        store(rows, offset, load(rows, offset) + load(source, start * L + offset))


@inline
def wipe(rows):
    """Write zeros."""
    clear(rows, 0, rows.size)


@inline
def body_input(body, message, shown, out):
    """Write the inputs of a body's update, [b, m, r, x, k]."""
    put(out, 0, body)
    put(out, body.shape[0], message)
    put(out, body.shape[0] + message.shape[0], shown)


@inline
def decide(rule, kind, q, inner, decided):
    """Write tanh(a) and sigmoid(g) of one body, and tanh of its hidden units."""
    affine(rule.body_in, rule.body_in_bias[kind], q, inner)
    squash(inner, 0, inner.shape[0])
    affine(rule.body_out, rule.body_out_bias, inner, decided)
    size = decided.shape[0] // 2
    squash(decided, 0, size)
    open_gates(decided, size, 2 * size)


@inline
def hidden_units(own, synapse, post, pre, z):
    """Write tanh of z = Ws^T s + U^T beta_i + V^T beta_j + (A^T beta_i) (G^T beta_j)."""
    L, hidden = lanes(z), z.shape[0]
    for k in range(hidden):
        total = load(post, k * L) + load(pre, (hidden + k) * L)
        total = total + load(post, (2 * hidden + k) * L) * load(pre, (3 * hidden + k) * L)
        for c in range(own.shape[0]):
            total = total + splat(own[c, k]) * load(synapse, c * L)
        store(z, k * L, tanh(total))


@inline
def decisions(out_weight, out_bias, z, out):
    """Write tanh(p), sigmoid(f) and sigmoid(w) of one synapse."""
    affine(out_weight, out_bias, z, out)
    channels = out.shape[0] // 3
    squash(out, 0, channels)
    open_gates(out, channels, 3 * channels)


@inline
def scaled(message, scale):
    """Scale messages by their neurons' degrees: forward ones by the first factor, backward ones by the second."""
    L, channels = lanes(message), message.shape[1] // 2
    for n in range(message.shape[0]):
        for c in range(2 * channels):
            offset = (2 * n * channels + c) * L
            store(message, offset, load(message, offset) * splat(scale[n, c // channels]))


@inline
def send(synapse, i, j, sent, message):
    """Add the messages through one synapse: forwards from j to i, backwards from i to j."""
    L, channels = lanes(synapse), synapse.shape[0]
    for c in range(channels):
        s, to_i, to_j = load(synapse, c * L), (2 * i * channels + c) * L, ((2 * j + 1) * channels + c) * L
        from_j, from_i = (2 * j * channels + c) * L, ((2 * i + 1) * channels + c) * L
        store(message, to_i, load(message, to_i) + s * load(sent, from_j))
        store(message, to_j, load(message, to_j) + s * load(sent, from_i))


@inline
def send_back(synapse, i, j, sent, grad_message, grad_synapse, grad_sent):
    """Add the gradients through ``send``."""
    L, channels = lanes(synapse), synapse.shape[0]
    for c in range(channels):
        s, to_i, to_j = load(synapse, c * L), (2 * i * channels + c) * L, ((2 * j + 1) * channels + c) * L
        from_j, from_i = (2 * j * channels + c) * L, ((2 * i + 1) * channels + c) * L
        grad_forward, grad_backward = load(grad_message, to_i), load(grad_message, to_j)
        store(
            grad_synapse,
            c * L,
            load(grad_synapse, c * L) + grad_forward * load(sent, from_j) + grad_backward * load(sent, from_i),
        )
        store(grad_sent, from_j, load(grad_sent, from_j) + grad_forward * s)
        store(grad_sent, from_i, load(grad_sent, from_i) + grad_backward * s)


def _forward(shown, states, ends, wires, rule):
    """Run all frames of all tiles; if states are not stored, the arrays hold two, which are used in turn."""
    body, synapse, message = states
    kind, scale, edges, ticks = wires
    tiles, count, neurons, size, L = body.shape
    channels, hidden = synapse.shape[3], rule.own.shape[1]
    dtype = body.dtype
    zeros = np.zeros(2 * channels, dtype)
    q, inner = np.empty((rule.body_in.shape[0], L), dtype), np.empty((rule.body_in.shape[1], L), dtype)
    beta, decided = np.empty((2 * size, L), dtype), np.empty((2 * size, L), dtype)
    factors, sent = np.empty((neurons, 4 * hidden, L), dtype), np.empty((neurons, 2 * channels, L), dtype)
    z, out = np.empty((hidden, L), dtype), np.empty((3 * channels, L), dtype)
    for tile in range(tiles):
        for n in range(neurons):
            affine(rule.projection, zeros, body[tile, 0, n], sent[n])
        wipe(message[tile, 0])
        for e in range(edges.shape[0]):
            send(synapse[tile, 0, e], edges[e, 0], edges[e, 1], sent, message[tile, 0])
        scaled(message[tile, 0], scale)
        for t in range(shown.shape[1] * ticks):
            current_slot, next_slot = t % count, (t + 1) % count
            for n in range(neurons):
                old_body, new_body = body[tile, current_slot, n], body[tile, next_slot, n]
                body_input(old_body, message[tile, current_slot, n], shown[tile, t // ticks, n], q)
                decide(rule, kind[n], q, inner, decided)
                for k in range(size):
                    b = load(old_body, k * L)
                    store(new_body, k * L, b + load(decided, (size + k) * L) * (load(decided, k * L) - b))
                put(beta, 0, new_body)
                put(beta, size, old_body)
                affine(rule.known, rule.known_bias[kind[n]], beta, factors[n])
                affine(rule.projection, zeros, new_body, sent[n])
            wipe(message[tile, next_slot])
            for e in range(edges.shape[0]):
                i, j = edges[e, 0], edges[e, 1]
                s, changed_synapse = synapse[tile, current_slot, e], synapse[tile, next_slot, e]
                hidden_units(rule.own, s, factors[i], factors[j], z)
                decisions(rule.out, rule.out_bias, z, out)
                for c in range(channels):
                    remaining = load(out, (channels + c) * L) * load(s, c * L)
                    store(changed_synapse, c * L, remaining + load(out, (2 * channels + c) * L) * load(out, c * L))
                send(changed_synapse, i, j, sent, message[tile, next_slot])
            scaled(message[tile, next_slot], scale)
            if (t + 1) % ticks == 0:
                put(ends[tile, t // ticks], 0, body[tile, next_slot])


def _backward(shown, states, grad_ends, grad_body, grad_synapse, wires, rule, grads):
    """Turn the gradients of the last state, ``grad_body`` and ``grad_synapse``, into those of the first.

    The gradients of the parameters are added to ``grads``.
    """
    body, synapse, message = states
    kind, scale, edges, ticks = wires
    tiles, count, neurons, size, L = body.shape
    channels, hidden = synapse.shape[3], rule.own.shape[1]
    dtype = body.dtype
    zeros, unused = np.zeros(2 * channels, dtype), np.zeros((max(hidden, 2 * channels), L), dtype)
    q, inner = np.empty((rule.body_in.shape[0], L), dtype), np.empty((rule.body_in.shape[1], L), dtype)
    grad_q, grad_inner = np.empty_like(q), np.empty_like(inner)
    beta, decided = np.empty((2 * size, L), dtype), np.empty((2 * size, L), dtype)
    grad_beta, grad_decided = np.empty_like(beta), np.empty_like(beta)
    factors, sent = np.empty((neurons, 4 * hidden, L), dtype), np.empty((neurons, 2 * channels, L), dtype)
    grad_factors, grad_sent = np.empty_like(factors), np.empty_like(sent)
    z, out = np.empty((hidden, L), dtype), np.empty((3 * channels, L), dtype)
    grad_z, grad_out = np.empty_like(z), np.empty_like(out)
    grad_message, previous = np.zeros_like(sent), np.empty((neurons, size, L), dtype)
    for tile in range(tiles):
        grad = grad_body[tile]
        wipe(grad_message)
        # At t = -1 there is no earlier tick, and only the messages of the first state have a gradient.
        for t in range(count - 2, -2, -1):
            if t >= 0 and (t + 1) % ticks == 0:
                add(grad, grad_ends[tile, t // ticks], 0)
            for n in range(neurons):
                affine(rule.projection, zeros, body[tile, t + 1, n], sent[n])
            scaled(grad_message, scale)
            wipe(grad_sent)
            for e in range(edges.shape[0]):
                s, g = synapse[tile, t + 1, e], grad_synapse[tile, e]
                send_back(s, edges[e, 0], edges[e, 1], sent, grad_message, g, grad_sent)
            for n in range(neurons):
                affine_back(rule.projection, body[tile, t + 1, n], grad_sent[n], grad[n], grads.projection, unused)
            if t < 0:
                continue
            for n in range(neurons):
                put(beta, 0, body[tile, t + 1, n])
                put(beta, size, body[tile, t, n])
                affine(rule.known, rule.known_bias[kind[n]], beta, factors[n])
            wipe(grad_factors)
            for e in range(edges.shape[0]):
                s, g = synapse[tile, t, e], grad_synapse[tile, e]
                post, pre = factors[edges[e, 0]], factors[edges[e, 1]]
                hidden_units(rule.own, s, post, pre, z)
                decisions(rule.out, rule.out_bias, z, out)
                for c in range(channels):
                    p, f, w = load(out, c * L), load(out, (channels + c) * L), load(out, (2 * channels + c) * L)
                    d = load(g, c * L)
                    store(grad_out, c * L, d * w - d * w * p * p)
                    store(grad_out, (channels + c) * L, d * load(s, c * L) * (f - f * f))
                    store(grad_out, (2 * channels + c) * L, d * p * (w - w * w))
                    store(g, c * L, d * f)
                wipe(grad_z)
                affine_back(rule.out, z, grad_out, grad_z, grads.out, grads.out_bias)
                squash_back(z, grad_z)
                affine_back(rule.own, s, grad_z, g, grads.own, unused)
                to_i, to_j = grad_factors[edges[e, 0]], grad_factors[edges[e, 1]]
                for k in range(hidden):
                    d, at_u, at_v = load(grad_z, k * L), k * L, (hidden + k) * L
                    at_a, at_g = (2 * hidden + k) * L, (3 * hidden + k) * L
                    store(to_i, at_u, load(to_i, at_u) + d)
                    store(to_j, at_v, load(to_j, at_v) + d)
                    store(to_i, at_a, load(to_i, at_a) + d * load(pre, at_g))
                    store(to_j, at_g, load(to_j, at_g) + d * load(post, at_a))
            for n in range(neurons):
                old_body = body[tile, t, n]
                put(beta, 0, body[tile, t + 1, n])
                put(beta, size, old_body)
                wipe(grad_beta)
                put(grad_beta, 0, grad[n])
                affine_back(rule.known, beta, grad_factors[n], grad_beta, grads.known, grads.known_bias[kind[n]])
                body_input(old_body, message[tile, t, n], shown[tile, t // ticks, n], q)
                decide(rule, kind[n], q, inner, decided)
                for k in range(size):
                    a, w, d = load(decided, k * L), load(decided, (size + k) * L), load(grad_beta, k * L)
                    store(grad_decided, k * L, d * w - d * w * a * a)
                    store(grad_decided, (size + k) * L, d * (a - load(old_body, k * L)) * (w - w * w))
                    store(previous[n], k * L, load(grad_beta, (size + k) * L) + d - d * w)
                wipe(grad_inner)
                wipe(grad_q)
                affine_back(rule.body_out, inner, grad_decided, grad_inner, grads.body_out, grads.body_out_bias)
                squash_back(inner, grad_inner)
                affine_back(rule.body_in, q, grad_inner, grad_q, grads.body_in, grads.body_in_bias[kind[n]])
                add(previous[n], grad_q, 0)
                wipe(grad_message[n])
                add(grad_message[n], grad_q, size)
            put(grad, 0, previous)


forward, backward = jit(_forward), jit(_backward)
