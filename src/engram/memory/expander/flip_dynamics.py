"""How a network of nodes and constraint clusters settles: five orders in which nodes flip, in plain torch.

Let d_j be the distance of what cluster j sees from the nearest pattern that it permits, and V the sum of all d_j.
Flipping node i lowers V by its excess

    e_i = sum over its clusters of d_j(x) - d_j(x with i flipped)

See ``ExpanderMemory``, and its ``recall`` for the orders. This is the definition, for any device; ``kernels.flips``
computes the same, faster. A sample's n-th random number depends neither on its nodes nor on other samples.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int, Int8, UInt8
from torch import Tensor

from engram.memory.splitmix import below, chance, number
from engram.numeric.threads import in_ranges

ORDERS = ("max", "random", "parallel", "wta", "glauber")
FAR = 2**62  # larger than any local pattern
CERTAIN = 2**53
NUMBERED, DRAWN = 62, 53  # most nodes of a constraint whose patterns are 64-bit integers, or are drawn from 53 bits
Bits = UInt8[Tensor, "batch nodes"]
Seeds = Int[Tensor, " batch"]
PerCluster = Int[Tensor, "batch constraints"]


class Network(NamedTuple):
    """The wiring and the hidden neurons in the form that the dynamics need; for the kernels, made of arrays."""

    A: Int[Tensor, "nodes z"]  # constraints of each node, -1 where there is none
    slots: Int[Tensor, "nodes z"]  # the node's position in the row of C of each of its constraints
    node_degrees: Int[Tensor, " nodes"]
    C: Int[Tensor, "constraints r"]  # nodes of each constraint, -1 where there is none
    constraint_degrees: Int[Tensor, " constraints"]
    target: UInt8[Tensor, " constraints"]  # 1 where the parity of a constraint must be odd
    # d_j of every local pattern, whose bit k is 1 where node k of the row is -1; no rows for parity
    distance: Int8[Tensor, "tables locals"]
    patterns: Int[Tensor, "tables patterns"]  # permitted local patterns, in ascending order, filled up with -1


class Settled(NamedTuple):
    """The states in which the dynamics ended."""

    bits: UInt8[Tensor, "batch nodes"]  # 1 where a node is -1
    oscillating: Bool[Tensor, " batch"]  # ``parallel`` alternates between two states
    flips: Int[Tensor, " batch"]
    iterations: Int[Tensor, " batch"]  # flips of ``max`` and ``random``, node updates of ``glauber``, else sweeps
    violated: Int[Tensor, " batch"]  # V at the end
    stable: Bool[Tensor, " batch"]  # no node may flip
    trace: Int[Tensor, "batch steps"] | None = None  # V before each iteration and after the last, if asked for


def local_patterns(network: Network, bits: Bits) -> PerCluster:
    """The local pattern of each cluster as an integer; for parity, 1 where the constraint is violated."""
    if len(network.distance):
        return patterns_seen(network, bits)
    return (bits[:, network.C.clamp(min=0)] * (network.C >= 0)).sum(2) & 1 ^ network.target


def patterns_seen(network: Network, bits: Bits) -> PerCluster:
    """The pattern that each cluster sees, as an integer."""
    local_bits = bits[:, network.C.clamp(min=0)] * (network.C >= 0)
    return (local_bits.long() << torch.arange(network.C.shape[1], device=bits.device)).sum(2)


def distances(network: Network, local: PerCluster) -> PerCluster:
    """The distances d_j of what clusters see from the nearest permitted pattern."""
    if not len(network.distance):
        return local
    return network.distance[torch.arange(len(network.C), device=local.device), local].long()


def gains(network: Network, local: PerCluster) -> Int[Tensor, "batch nodes z"]:
    """The decrease of d_j when a node flips, for each node and each of its clusters."""
    clusters, has_edge = network.A.clamp(min=0), network.A >= 0
    patterns = local[:, clusters]
    if not len(network.distance):
        return (2 * patterns - 1) * has_edge
    distance = network.distance[clusters, patterns].long()
    return (distance - network.distance[clusters, patterns ^ (1 << network.slots.long())]) * has_edge


def _may_flip(network: Network, order: str, gain: Int[Tensor, "batch nodes z"]) -> Bool[Tensor, "batch nodes"]:
    """The mask of nodes that may flip in this order; a state without any is stable."""
    if order == "wta":
        return 2 * (gain > 0).sum(2) > network.node_degrees
    return gain.sum(2) > 0


def settle(
    network: Network, bits: Bits, order: str, limit: int, seed: Seeds, *, beta: float, faults: float, trace: bool
) -> Settled:
    """The states in which samples settle.

    Args:
        network: Wiring and hidden neurons.
        bits: Initial states, 1 where a node is -1.
        order: Order of flips; see ``ExpanderMemory.recall``.
        limit: Maximum number of iterations.
        seed: Seed of each sample.
        beta: Inverse temperature of ``glauber``.
        faults: Probability that a winner of ``wta`` is a random hidden neuron.
        trace: Whether to record V before each iteration.
    """
    bits, accept = bits.clone(), _acceptance(beta, network.A.shape[1], bits.device)
    batch, nodes = bits.shape
    active = torch.ones(batch, dtype=torch.bool, device=bits.device)
    oscillating, flips, iterations = ~active, seed * 0, seed * 0
    last_flips, violated = torch.zeros_like(bits, dtype=torch.bool), []
    for count in range(limit):
        local = local_patterns(network, bits)
        gain = gains(network, local)
        V = distances(network, local).sum(1)
        if trace:
            violated.append(V)
        may_flip = _may_flip(network, order, gain)
        active = active & (V > 0 if order == "glauber" or faults else may_flip.any(1))
        if order in ("max", "random"):
            excess = gain.sum(2)
            candidates = may_flip & (excess == excess.amax(1, keepdim=True)) if order == "max" else may_flip
            flipped = nth(candidates, below(number(seed, count), candidates.sum(1)))
        elif order == "glauber":
            node = below(number(seed, 2 * count), nodes)
            excess = gain.sum(2).gather(1, node[:, None])[:, 0]
            allowed = chance(number(seed, 2 * count + 1)) < accept[excess + network.A.shape[1]]
            flipped = torch.nn.functional.one_hot(node, nodes).bool() & allowed[:, None]
        elif order == "wta":
            flipped = _majority(network, local, seed, count, faults)
        else:
            flipped = may_flip
            repeated = active & (flipped == last_flips).all(1)
            oscillating, active = oscillating | repeated, active & ~repeated
        if not active.any():
            break
        flipped = last_flips = flipped & active[:, None]
        bits ^= flipped.to(bits.dtype)
        flips += flipped.sum(1)
        iterations += active
    local = local_patterns(network, bits)
    V, stable = distances(network, local).sum(1), ~_may_flip(network, order, gains(network, local)).any(1)
    steps = int(iterations.max()) + 1
    path = torch.stack([*violated, V], 1)[:, :steps] if trace else None
    return Settled(bits, oscillating, flips, iterations, V, stable, path)


def nth(mask: Bool[Tensor, "batch some"], index: Int[Tensor, " batch"]) -> Bool[Tensor, "batch some"]:
    """The mask of the true entry of ``mask`` with a given index among them (from 0), in each row."""
    return mask & (mask.cumsum(1) == index[:, None] + 1)


def _majority(
    network: Network, local: PerCluster, seed: Seeds, sweep: int, faults: float
) -> Bool[Tensor, "batch nodes"]:
    """The nodes against which more than half of the winners of their clusters vote."""
    constraints = len(network.C)
    cluster = torch.arange(constraints, device=local.device)
    draw = number(seed[:, None], sweep * constraints + cluster)
    change = nearest_change(network, local, draw)
    if faults:
        count, fault_seed = 2 * (sweep * constraints + cluster), ~seed[:, None]
        is_faulty = chance(number(fault_seed, count)) < int(faults * CERTAIN)
        change = torch.where(is_faulty, _any_change(network, local, number(fault_seed, count + 1)), change)
    votes = (change[:, network.A.clamp(min=0)] >> network.slots & 1) * (network.A >= 0)
    return 2 * votes.sum(2) > network.node_degrees


def nearest_change(network: Network, local: PerCluster, draw: PerCluster) -> PerCluster:
    """The bits in which a random one of the nearest hidden neurons differs from the cluster's nodes.

    Args:
        network: Wiring and hidden neurons.
        local: Local pattern of each cluster.
        draw: Random bits for each cluster.
    """
    if not len(network.distance):
        _check_degrees(network, NUMBERED)
        return (1 << below(draw, network.constraint_degrees)) * local
    change = torch.where(network.patterns >= 0, network.patterns ^ local[:, :, None], FAR)
    weight = sum(change >> k & 1 for k in range(network.C.shape[1]))
    nearest = (weight == distances(network, local)[:, :, None]) & (network.patterns >= 0)
    change = torch.where(nearest, change, FAR).sort(2).values
    n_nearest = nearest.sum(2)
    return torch.where(n_nearest > 0, change.gather(2, below(draw, n_nearest)[:, :, None])[:, :, 0], 0)


def _check_degrees(network: Network, most: int) -> None:
    """Raise ValueError if a constraint has too many nodes for its hidden neurons to be numbered or drawn."""
    if network.C.shape[1] > most:
        most_nodes = f"expected at most {most}, for the hidden neurons to fit into the bits of an integer"
        raise ValueError(f"graph has constraints of {network.C.shape[1]} nodes: {most_nodes}")


def _any_change(network: Network, local: PerCluster, draw: PerCluster) -> PerCluster:
    """The bits in which a random hidden neuron of each cluster differs from what the cluster sees."""
    if len(network.distance):
        n_patterns = (network.patterns >= 0).sum(1)
        cluster = torch.arange(len(network.C), device=local.device)
        return torch.where(n_patterns > 0, network.patterns[cluster, below(draw, n_patterns)] ^ local, 0)
    # All but the last bit change at random; the last one makes the parity right.
    last_position = network.constraint_degrees - 1
    change = chance(draw) & ((1 << last_position) - 1)
    parity = sum(change >> k & 1 for k in range(network.C.shape[1])) + local & 1
    return change | parity << last_position


def fill_erased(network: Network, bits: Bits, erased: Bool[Tensor, "batch nodes"], seed: Seeds) -> Bits:
    """The bits with each erased node set by the majority of its clusters without other erased nodes, ties at random.

    Args:
        network: Wiring and hidden neurons.
        bits: States, 1 where a node is -1.
        erased: Mask of the nodes to fill in.
        seed: Seed of each sample.
    """
    bits = bits.masked_fill(erased, 0)
    missing = (erased[:, network.C.clamp(min=0)] & (network.C >= 0)).sum(2)
    sure = missing[:, network.A.clamp(min=0)] == 1
    votes = (gains(network, local_patterns(network, bits)) * sure).sum(2)
    node = torch.arange(bits.shape[1], device=bits.device)
    coin = below(number(seed[:, None], -1 - node), 2)
    return torch.where(erased, torch.where(votes == 0, coin, (votes > 0).long()).to(bits.dtype), bits)


def _acceptance(beta: float, z: int, device: torch.device) -> Int[Tensor, " excesses"]:
    """2^53 times the probability that ``glauber`` flips a node with an excess of -z .. z."""
    excess = torch.arange(-z, z + 1, dtype=torch.float64)
    return (torch.sigmoid(2 * beta * excess) * CERTAIN).long().to(device)


def settle_fast(
    network: Network, bits: Bits, order: str, limit: int, seed: Seeds, *, beta: float, faults: float, trace: bool
) -> Settled:
    """As ``settle``, by a kernel if there is one and no trace; ``violated`` may then be 1 for any number but 0.

    Args:
        network: Wiring and hidden neurons.
        bits: Initial states, 1 where a node is -1.
        order: Order of flips.
        limit: Maximum number of iterations.
        seed: Seed of each sample.
        beta: Inverse temperature of ``glauber``.
        faults: Probability that a winner of ``wta`` is a random hidden neuron.
        trace: Whether to record V before each iteration, which uses ``settle``.
    """
    from engram.memory.expander.kernels import flips

    if faults:
        _check_degrees(network, DRAWN)
    plain = order in ("parallel", "wta") and len(network.distance)
    if plain or trace or bits.device.type != "cpu":
        return settle(network, bits, order, limit, seed, beta=beta, faults=faults, trace=trace)
    x, samples = bits.numpy().copy(), len(bits)
    wiring = [value.numpy().astype(np.int32) for value in network[:5]]
    net = Network(*wiring, *(value.numpy() for value in network[5:]))  # type: ignore[arg-type]
    (oscillating, stable), counts = np.zeros((2, samples), bool), np.zeros((3, samples), np.int64)
    results: Any = Settled(x, oscillating, *counts, stable)  # type: ignore[call-arg, arg-type]
    seeds_of, limit = seed.numpy(), min(limit, 2**62)
    if order == "parallel":
        samples = (samples + 63) // 64
        call = partial(flips.all_at_once, net, limit, results)
    elif order == "wta":
        call = partial(flips.winner_take_all, net, seeds_of, limit, int(faults * CERTAIN), results)
    elif order == "glauber":
        accept = _acceptance(beta, net.A.shape[1], bits.device).numpy()
        call = partial(flips.glauber, net, seeds_of, limit, accept, results)
    else:
        levels = net.A.shape[1] if order == "max" else 1
        call = partial(flips.one_by_one, net, seeds_of, levels, limit, results)
    in_ranges(call, samples, torch.get_num_threads())
    return Settled(*map(torch.from_numpy, results[:-1]))
