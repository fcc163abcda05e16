"""Clusters of hidden neurons: the local patterns that each permits, and the distances of others from these."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int, Int8, UInt8
from torch import Tensor

from engram.memory.expander.bipartite_graph import PADDING, BipartiteGraph


def parity_table(
    graph: BipartiteGraph, target: UInt8[np.ndarray, " constraints"]
) -> Bool[np.ndarray, "constraints locals"]:
    """The mask of local patterns with the target parity (1: odd); bit k of a pattern is 1 where node k is -1."""
    local = np.arange(2 ** graph.C.shape[1])
    odd = np.bitwise_count(local) % 2 == 1
    return np.asarray((odd == (target[:, None] == 1)) & (local < 2 ** graph.constraint_degrees[:, None]))


def given_table(graph: BipartiteGraph, patterns: Any) -> Bool[np.ndarray, "constraints locals"]:
    """The mask of given local patterns: an array of +1 and -1, (patterns, r), for all clusters, or one for each."""
    table = np.zeros((graph.n_constraints, 2 ** graph.C.shape[1]), bool)
    per_cluster = isinstance(patterns, list | tuple) and np.ndim(patterns[0]) == 2
    sets = patterns if per_cluster else [patterns] * len(table)
    if len(sets) != len(table):
        raise ValueError(f"patterns has {len(sets)} sets: expected {len(table)}, one for each constraint")
    for j, (allowed, degree) in enumerate(zip(sets, graph.constraint_degrees, strict=True)):
        local = np.asarray(allowed)
        if local.ndim != 2 or local.shape[1] != degree or not np.isin(local, (-1, 1)).all():
            raise ValueError(f"patterns of constraint {j} of shape {local.shape}: expected +1 and -1, (some, {degree})")
        table[j, (local < 0) @ (1 << np.arange(degree))] = True
        members = np.flatnonzero(table[j])
        if any(table[j, members ^ (1 << k)].any() for k in range(degree)):
            raise ValueError(f"patterns of constraint {j}: expected a distance of at least 2 between any two")
    return table


def nearest_patterns(
    table: Bool[Tensor, "tables locals"], r: int
) -> tuple[Int8[Tensor, "tables locals"], Int[Tensor, "tables patterns"]]:
    """The distance of each local pattern from the nearest permitted one, and the sorted permitted ones, padded with -1.

    Without a permitted pattern the distance is r everywhere, so that no flip helps.
    """
    patterns = torch.zeros(table.shape, dtype=torch.long, device=table.device)
    distance = torch.zeros(table.shape, dtype=torch.int8, device=table.device)
    if len(table):
        distance += (r * ~table).to(torch.int8)
        local = torch.arange(table.shape[1], device=table.device)
        for k in range(r):  # the distance along one axis of the hypercube after another
            distance = torch.minimum(distance, distance[:, local ^ (1 << k)] + 1)
        distance[~table.any(1)] = r
        width = max(1, int(table.sum(1).max()))
        patterns = torch.where(table, local, 2**62).sort(1).values[:, :width]
        patterns[patterns == 2**62] = PADDING
    return distance, patterns
