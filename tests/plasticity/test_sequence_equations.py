"""The writes of Titans and TTT against loops in NumPy, state by state, in the letters and the layout of their authors.

There rows are features of the key, so that a memory is (key, value). ``benchmarks/sequence.py`` compares the same with
an implementation by others.
"""

import numpy as np
import pytest
import torch

from engram.plasticity.sequence import GradientWrite, MomentumDeltaWrite, step_scan

LENGTH, SIZE = 7, 5


def drawn(seed=0):
    """Return the memory at the start, queries, keys, values and three rows of numbers in (0, 1)."""
    rng = np.random.default_rng(seed)
    sequences = rng.standard_normal((3, LENGTH, SIZE))
    return rng.standard_normal((SIZE, SIZE)), *sequences, *rng.uniform(0.1, 0.9, (3, LENGTH))


def one_head(array):
    return torch.from_numpy(np.ascontiguousarray(array))[None, None]


def states(rule, memory, sequences, signals):
    """Return what is recalled and the memory after each step."""
    state, recalled, memories = rule.init(one_head(memory.T)), [], []
    for step in range(LENGTH):
        at_step = (one_head(t[step : step + 1]) for t in (*sequences, *signals))
        output, state = step_scan(rule, state, *at_step)
        recalled.append(output[0, 0, 0].numpy())
        memories.append(state.weight[0, 0].numpy().T)
    return np.array(recalled), np.array(memories)


def titans(memory, queries, keys, values, rates):
    """Equations 13 and 14 of Titans for the loss |k M - v|^2: S is the momentum, M the memory."""
    momentum, recalled, memories = np.zeros_like(memory), [], []
    for query, key, value, theta, alpha, eta in zip(queries, keys, values, *rates, strict=True):
        gradient = 2 * np.outer(key, key @ memory - value)
        momentum = eta * momentum - theta * gradient
        memory = (1 - alpha) * memory + momentum
        recalled.append(query @ memory)
        memories.append(memory)
    return np.array(recalled), np.array(memories)


def ttt(memory, keys, values, rates, size):
    """TTT-linear by mini-batches, for the loss |LN(k W) + k - v|^2 / 2, whose gradient is a difference quotient."""

    def loss(start, key, value):
        z = key @ start
        normal = (z - z.mean()) / np.sqrt(z.var() + 1e-6)
        return np.square(normal + key - value).sum() / 2

    def gradient(start, key, value, h=1e-5):
        slope = np.zeros_like(start)
        for place in np.ndindex(start.shape):
            step = np.zeros_like(start)
            step[place] = h
            slope[place] = (loss(start + step, key, value) - loss(start - step, key, value)) / (2 * h)
        return slope

    memories, start = [], memory
    for step, (key, value, rate) in enumerate(zip(keys, values, rates, strict=True)):
        start = memory if step % size == 0 else start
        memory = memory - rate * gradient(start, key, value)
        memories.append(memory)
    return np.array(memories)


@pytest.mark.parametrize("chunk", [1, 3, LENGTH])
def test_momentum_is_titans_with_the_factor_2_in_beta(chunk):
    memory, queries, keys, values, theta, alpha, eta = drawn()
    signals = 2 * theta, np.log(1 - alpha), np.log(eta)
    recalled, memories = titans(memory, queries, keys, values, (theta, alpha, eta))
    rule = MomentumDeltaWrite()
    mine, each = states(rule, memory, (queries, keys, values), signals)
    np.testing.assert_allclose(each, memories, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(mine, recalled, rtol=1e-12, atol=1e-12)
    sequences = map(one_head, (queries, keys, values, *signals))
    whole, last = rule.scan(rule.init(one_head(memory.T)), *sequences, chunk_size=chunk)
    np.testing.assert_allclose(whole[0, 0], recalled, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(last.weight[0, 0].T, memories[-1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [1, 3])
def test_gradients_are_those_of_ttt_with_a_rate_for_each_step(size):
    memory, queries, keys, values, rates, *_ = drawn()
    _, each = states(GradientWrite(size), memory, (queries, keys, values), (rates,))
    np.testing.assert_allclose(each, ttt(memory, keys, values, rates, size), rtol=1e-7, atol=1e-7)
