"""What stores and recalls: exact dictionaries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engram.memory.dictionary_matching import DictionaryMatch, match_dictionaries
from engram.memory.iht import IHTCode, hard_threshold, iht_encode
from engram.memory.noodl_layer import NOODLLayer
from engram.memory.sparse_dictionary_data import make_sparse_dictionary_data, perturb_dictionary

if TYPE_CHECKING:
    from engram.memory.noodl import NOODL, DictionaryStep, noodl_step

__all__ = [
    "NOODL",
    "DictionaryMatch",
    "DictionaryStep",
    "IHTCode",
    "NOODLLayer",
    "hard_threshold",
    "iht_encode",
    "make_sparse_dictionary_data",
    "match_dictionaries",
    "noodl_step",
    "perturb_dictionary",
]

# What needs scikit-learn, which takes nearly as long to import as torch, by the module that holds it.
_LAZY = dict.fromkeys(("NOODL", "DictionaryStep", "noodl_step"), "engram.memory.noodl")


def __getattr__(name: str) -> Any:
    if name in _LAZY:  # PEP 562
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'engram.memory' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
