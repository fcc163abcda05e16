"""Replacement policies for a full memory, each a frozen dataclass with one pure function, ``write``."""

from engram.memory.episodic.policies.aggregate import Aggregate
from engram.memory.episodic.policies.fifo import FIFO
from engram.memory.episodic.policies.kmeans import DynamicKMeans, KMeans
from engram.memory.episodic.policies.lru import LRU
from engram.memory.episodic.policies.max_surprise import MaxSurprise
from engram.memory.episodic.policies.max_value import MaxValue
from engram.memory.episodic.policies.random_replacement import RandomReplacement
from engram.memory.episodic.policies.replacement import replaced
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
