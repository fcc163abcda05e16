"""What was learned: measures of activity and of behaviour, as functions of arrays."""

from engram.analysis.decoding import cross_temporal_decoding
from engram.analysis.dsa import (
    DSA,
    Alignment,
    DrivenDistance,
    DrivenOperators,
    HankelDMD,
    HiddenStates,
    OperatorComparison,
    PermutationTest,
    align_operators,
    compare_operators,
    delay_embedding,
    departure_from_normality,
    driven_distance,
    fit_driven,
    operator_bounds,
    operator_distance,
    operator_distances,
    permutation_test,
    published_distance,
    silhouette,
    spectral_distance,
    split_half_floor,
)
from engram.analysis.lifetime import cumulative_regret, normalized_return, stay_probabilities, within_lifetime_gain
from engram.analysis.linear_cka import linear_cka
from engram.analysis.procrustes_angle import procrustes_angle
from engram.analysis.rsa import rsa

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
    "cross_temporal_decoding",
    "cumulative_regret",
    "delay_embedding",
    "departure_from_normality",
    "driven_distance",
    "fit_driven",
    "linear_cka",
    "normalized_return",
    "operator_bounds",
    "operator_distance",
    "operator_distances",
    "permutation_test",
    "procrustes_angle",
    "published_distance",
    "rsa",
    "silhouette",
    "spectral_distance",
    "split_half_floor",
    "stay_probabilities",
    "within_lifetime_gain",
]
