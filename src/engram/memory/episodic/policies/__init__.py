"""Replacement policies for a full memory, each a frozen dataclass with one pure function, ``write``."""

from engram.memory.episodic.policies.kmeans import DynamicKMeans, KMeans
from engram.memory.episodic.policies.replacement import (
    FIFO,
    LRU,
    Aggregate,
    MaxSurprise,
    MaxValue,
    RandomReplacement,
    replaced,
)
from engram.memory.episodic.policies.table import Batch, Change, Merging, Policy, Table

__all__ = [
    "FIFO",
    "LRU",
    "Aggregate",
    "Batch",
    "Change",
    "DynamicKMeans",
    "KMeans",
    "MaxSurprise",
    "MaxValue",
    "Merging",
    "Policy",
    "RandomReplacement",
    "Table",
    "replaced",
]
