"""Memories: exact dictionaries, networks with exponentially many attractors, episodic memories, fragments.

The packages are ``dictionary``, ``hopfield``, ``expander``, ``episodic``, ``fragments``, and ``associative``, a common
contract for all memories of patterns. Their public names can be imported from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engram.memory.associative.contract import AssociativeMemory, apply_recall, apply_store
from engram.memory.associative.hopfield import HopfieldMemory
from engram.memory.associative.scaffold import ScaffoldMemory
from engram.memory.dictionary.iht import IHTCode, hard_threshold, iht_encode
from engram.memory.dictionary.layer import NOODLLayer
from engram.memory.dictionary.matching import DictionaryMatch, explained_share, match_dictionaries, relative_error
from engram.memory.dictionary.step import DictionaryStep, noodl_step
from engram.memory.episodic.dnd import DND
from engram.memory.episodic.faiss_search import FaissSearch
from engram.memory.episodic.key_value_memory import KeyValueMemory, Recall, Written
from engram.memory.expander.associative_store import AssociativeStore, StoreRecall, sign_labels
from engram.memory.expander.belief_propagation import BeliefResult, belief_propagation
from engram.memory.expander.bipartite_graph import BipartiteGraph
from engram.memory.expander.bit_flipping import bit_flip_decode, gallager_b_decode
from engram.memory.expander.expander_memory import ExpanderMemory, LearnResult, RecallResult
from engram.memory.expander.graphs import array_graph, hamming74_blocks, local_graph, random_regular
from engram.memory.expander.recovery import corrupt, recovery_rate
from engram.memory.expander.scaffold import Scaffold, ScaffoldRecall
from engram.memory.fragments import Decision, FragmentAndRecall, LongTermStore, SurprisalMonitor
from engram.memory.hopfield.attention import AttentionMemory
from engram.memory.hopfield.dense import DenseHopfield
from engram.memory.hopfield.hebb import HebbHopfield
from engram.memory.hopfield.recall import HopfieldRecall
from engram.numeric.imports import deferred

if TYPE_CHECKING:  # scikit-learn takes nearly as long to import as torch, and few parts need it
    from engram.memory.associative.plastic import PlasticMemory
    from engram.memory.dictionary.noodl import NOODL
    from engram.memory.episodic.online_kmeans import DynamicOnlineKMeans, OnlineKMeans

__all__ = [
    "DND",
    "NOODL",
    "AssociativeMemory",
    "AssociativeStore",
    "AttentionMemory",
    "BeliefResult",
    "BipartiteGraph",
    "Decision",
    "DenseHopfield",
    "DictionaryMatch",
    "DictionaryStep",
    "DynamicOnlineKMeans",
    "ExpanderMemory",
    "FaissSearch",
    "FragmentAndRecall",
    "HebbHopfield",
    "HopfieldMemory",
    "HopfieldRecall",
    "IHTCode",
    "KeyValueMemory",
    "LearnResult",
    "LongTermStore",
    "NOODLLayer",
    "OnlineKMeans",
    "PlasticMemory",
    "Recall",
    "RecallResult",
    "Scaffold",
    "ScaffoldMemory",
    "ScaffoldRecall",
    "StoreRecall",
    "SurprisalMonitor",
    "Written",
    "apply_recall",
    "apply_store",
    "array_graph",
    "belief_propagation",
    "bit_flip_decode",
    "corrupt",
    "explained_share",
    "gallager_b_decode",
    "hamming74_blocks",
    "hard_threshold",
    "iht_encode",
    "local_graph",
    "match_dictionaries",
    "noodl_step",
    "random_regular",
    "recovery_rate",
    "relative_error",
    "sign_labels",
]

__getattr__, __dir__ = deferred(
    __name__,
    {
        "engram.memory.associative.plastic": ["PlasticMemory"],
        "engram.memory.dictionary.noodl": ["NOODL"],
        "engram.memory.episodic.online_kmeans": ["DynamicOnlineKMeans", "OnlineKMeans"],
    },
)
