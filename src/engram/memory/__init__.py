"""What stores and recalls: exact dictionaries, networks with exponentially many attractors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engram.memory.array_graph import array_graph
from engram.memory.associative_store import AssociativeStore, StoreRecall
from engram.memory.attention_memory import AttentionMemory
from engram.memory.belief_propagation import BeliefResult, belief_propagation
from engram.memory.bipartite_graph import BipartiteGraph
from engram.memory.bit_flipping import bit_flip_decode, gallager_b_decode
from engram.memory.dense_hopfield import DenseHopfield
from engram.memory.dictionary_matching import DictionaryMatch, explained_share, match_dictionaries, relative_error
from engram.memory.dnd import DND
from engram.memory.drifting_gaussians import DriftingGaussians
from engram.memory.expander_memory import ExpanderMemory, LearnResult, RecallResult
from engram.memory.hamming_blocks import hamming74_blocks
from engram.memory.hebb_hopfield import HebbHopfield, HopfieldRecall
from engram.memory.iht import IHTCode, hard_threshold, iht_encode
from engram.memory.key_value_memory import KeyValueMemory, Recall, Written
from engram.memory.local_graph import local_graph
from engram.memory.noodl_layer import NOODLLayer
from engram.memory.random_regular import random_regular
from engram.memory.recovery import corrupted, recovery_curve, recovery_rate
from engram.memory.scaffold import Scaffold, ScaffoldRecall
from engram.memory.search import ExactSearch, FaissSearch
from engram.memory.sparse_dictionary_data import make_sparse_dictionary_data, perturb_dictionary, turn_dictionary

if TYPE_CHECKING:
    from engram.memory.noodl import NOODL, DictionaryStep, noodl_step
    from engram.memory.online_kmeans import DynamicOnlineKMeans, OnlineKMeans

__all__ = [
    "DND",
    "NOODL",
    "AssociativeStore",
    "AttentionMemory",
    "BeliefResult",
    "BipartiteGraph",
    "DenseHopfield",
    "DictionaryMatch",
    "DictionaryStep",
    "DriftingGaussians",
    "DynamicOnlineKMeans",
    "ExactSearch",
    "ExpanderMemory",
    "FaissSearch",
    "HebbHopfield",
    "HopfieldRecall",
    "IHTCode",
    "KeyValueMemory",
    "LearnResult",
    "NOODLLayer",
    "OnlineKMeans",
    "Recall",
    "RecallResult",
    "Scaffold",
    "ScaffoldRecall",
    "StoreRecall",
    "Written",
    "array_graph",
    "belief_propagation",
    "bit_flip_decode",
    "corrupted",
    "explained_share",
    "gallager_b_decode",
    "hamming74_blocks",
    "hard_threshold",
    "iht_encode",
    "local_graph",
    "make_sparse_dictionary_data",
    "match_dictionaries",
    "noodl_step",
    "perturb_dictionary",
    "random_regular",
    "recovery_curve",
    "recovery_rate",
    "relative_error",
    "turn_dictionary",
]

# What needs scikit-learn, which takes nearly as long to import as torch, by the module that holds it.
_LAZY = dict.fromkeys(("NOODL", "DictionaryStep", "noodl_step"), "engram.memory.noodl")
_LAZY |= dict.fromkeys(("DynamicOnlineKMeans", "OnlineKMeans"), "engram.memory.online_kmeans")


def __getattr__(name: str) -> Any:
    if name in _LAZY:  # PEP 562
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'engram.memory' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
