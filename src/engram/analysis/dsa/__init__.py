"""Dynamical similarity analysis: do two systems follow the same dynamics, whatever the shape of their activity?"""

from engram.analysis.dsa.delay_embedding import delay_embedding
from engram.analysis.dsa.dsa import DSA
from engram.analysis.dsa.hankel_dmd import HankelDMD, departure_from_normality
from engram.analysis.dsa.hidden_states import HiddenStates
from engram.analysis.dsa.input_dsa import DrivenDistance, DrivenOperators, driven_distance, fit_driven
from engram.analysis.dsa.operator_distance import (
    Alignment,
    OperatorComparison,
    align_operators,
    compare_operators,
    operator_bounds,
    operator_distance,
    operator_distances,
)
from engram.analysis.dsa.permutation_test import PermutationTest, permutation_test, silhouette
from engram.analysis.dsa.published_search import published_distance
from engram.analysis.dsa.spectral_distance import spectral_distance
from engram.analysis.dsa.split_half_floor import split_half_floor

__all__ = [
    "DSA",
    "Alignment",
    "DrivenDistance",
    "DrivenOperators",
    "HankelDMD",
    "HiddenStates",
    "OperatorComparison",
    "PermutationTest",
    "align_operators",
    "compare_operators",
    "delay_embedding",
    "departure_from_normality",
    "driven_distance",
    "fit_driven",
    "operator_bounds",
    "operator_distance",
    "operator_distances",
    "permutation_test",
    "published_distance",
    "silhouette",
    "spectral_distance",
    "split_half_floor",
]
