"""Measures of activity, behaviour, task difficulty and composition."""

from engram.analysis.accuracy_matrix import AccuracyMatrix
from engram.analysis.composition import (
    BumpScore,
    Coupling,
    Factorization,
    RepresentationOrder,
    bump_score,
    coupling,
    factorization,
    percolation_ratio,
    representation_order,
)
from engram.analysis.decoding import cross_temporal_decoding
from engram.analysis.difficulty.chi_square import noncentral_chi2_logcdf, weighted_chi2_logcdf
from engram.analysis.difficulty.classification import classification_difficulty
from engram.analysis.difficulty.closed_form import (
    Difficulty,
    GeneralizationTask,
    MeasuredDifficulty,
    inductive_bias_complexity,
)
from engram.analysis.difficulty.dimension import (
    DimensionEstimate,
    IntrinsicDimension,
    intrinsic_dimension,
    maximum_likelihood_dimension,
)
from engram.analysis.difficulty.direct_bias import FittedBias, TestError, gaussian_process_test_error, sampled_bias
from engram.analysis.difficulty.environment import environment_difficulty, roll_out, stacked, standardised
from engram.analysis.difficulty.margin import Margin, class_margin, extreme_quantile
from engram.analysis.difficulty.nearest_neighbours import nearest_distances
from engram.analysis.difficulty.published_tasks import (
    BENCHMARKS,
    architecture_information,
    control_task,
    distractor_task,
    few_shot_task,
)
from engram.analysis.forgetting.extract import extract
from engram.analysis.forgetting.linear_probe import LinearProbe
from engram.analysis.forgetting.nearest_mean_probe import NearestMeanProbe
from engram.analysis.forgetting.report import RepresentationReport
from engram.analysis.forgetting.representational import ProbedTask, representational_forgetting
from engram.analysis.learning_rules import (
    LayerCosine,
    alignment_score,
    extra_memory,
    forward_equivalents,
    gradient_cosine,
    peak_memory,
)
from engram.analysis.lifetime import cumulative_regret, normalized_return, stay_probabilities, within_lifetime_gain
from engram.analysis.recordings import NWBSession, read_nwb, split_trials
from engram.analysis.similarity.choose_delays import DelayChoice, choose_delays
from engram.analysis.similarity.delay_embedding import delay_embedding
from engram.analysis.similarity.dsa import DSA, split_half_floor, trial_permutation_test
from engram.analysis.similarity.hankel_dmd import HankelDMD, departure_from_normality
from engram.analysis.similarity.hidden_states import HiddenStates
from engram.analysis.similarity.input_dsa import DrivenDistance, DrivenOperators, driven_distance, fit_driven
from engram.analysis.similarity.linear_cka import linear_cka
from engram.analysis.similarity.measure import pairwise
from engram.analysis.similarity.operator_distance import (
    Alignment,
    OperatorComparison,
    align_operators,
    compare_operators,
    operator_bounds,
    operator_distance,
    operator_distances,
)
from engram.analysis.similarity.permutation_test import PermutationTest, permutation_test, silhouette
from engram.analysis.similarity.procrustes_angle import procrustes_angle
from engram.analysis.similarity.rsa import rsa
from engram.analysis.similarity.spectral_distance import spectral_distance
from engram.analysis.weight_alignment import alignment_by_layer, predicted_change, shuffled_control
from engram.nn.representation_distance import gram_distance, nmse

__all__ = [
    "BENCHMARKS",
    "DSA",
    "AccuracyMatrix",
    "Alignment",
    "BumpScore",
    "Coupling",
    "DelayChoice",
    "Difficulty",
    "DimensionEstimate",
    "DrivenDistance",
    "DrivenOperators",
    "Factorization",
    "FittedBias",
    "GeneralizationTask",
    "HankelDMD",
    "HiddenStates",
    "IntrinsicDimension",
    "LayerCosine",
    "LinearProbe",
    "Margin",
    "MeasuredDifficulty",
    "NWBSession",
    "NearestMeanProbe",
    "OperatorComparison",
    "PermutationTest",
    "ProbedTask",
    "RepresentationOrder",
    "RepresentationReport",
    "TestError",
    "align_operators",
    "alignment_by_layer",
    "alignment_score",
    "architecture_information",
    "bump_score",
    "choose_delays",
    "class_margin",
    "classification_difficulty",
    "compare_operators",
    "control_task",
    "coupling",
    "cross_temporal_decoding",
    "cumulative_regret",
    "delay_embedding",
    "departure_from_normality",
    "distractor_task",
    "driven_distance",
    "environment_difficulty",
    "extra_memory",
    "extract",
    "extreme_quantile",
    "factorization",
    "few_shot_task",
    "fit_driven",
    "forward_equivalents",
    "gaussian_process_test_error",
    "gradient_cosine",
    "gram_distance",
    "inductive_bias_complexity",
    "intrinsic_dimension",
    "linear_cka",
    "maximum_likelihood_dimension",
    "nearest_distances",
    "nmse",
    "noncentral_chi2_logcdf",
    "normalized_return",
    "operator_bounds",
    "operator_distance",
    "operator_distances",
    "pairwise",
    "peak_memory",
    "percolation_ratio",
    "permutation_test",
    "predicted_change",
    "procrustes_angle",
    "read_nwb",
    "representation_order",
    "representational_forgetting",
    "roll_out",
    "rsa",
    "sampled_bias",
    "shuffled_control",
    "silhouette",
    "spectral_distance",
    "split_half_floor",
    "split_trials",
    "stacked",
    "standardised",
    "stay_probabilities",
    "trial_permutation_test",
    "weighted_chi2_logcdf",
    "within_lifetime_gain",
]
