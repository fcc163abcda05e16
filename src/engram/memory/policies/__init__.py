"""What a memory keeps when there is no room: each policy a frozen dataclass with one pure function, ``write``."""

from engram.memory.policies.aggregate import Aggregate
from engram.memory.policies.fifo import FIFO
from engram.memory.policies.kmeans import DynamicKMeans, OnlineKMeans
from engram.memory.policies.lru import LRU
from engram.memory.policies.max_surprise import MaxSurprise
from engram.memory.policies.max_value import MaxValue
from engram.memory.policies.random_replacement import RandomReplacement
from engram.memory.policies.table import Batch, Change, Merging, Policy, Table

__all__ = [
    "FIFO",
    "LRU",
    "Aggregate",
    "Batch",
    "Change",
    "DynamicKMeans",
    "MaxSurprise",
    "MaxValue",
    "Merging",
    "OnlineKMeans",
    "Policy",
    "RandomReplacement",
    "Table",
]
