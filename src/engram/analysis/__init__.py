"""What was learned, and how hard it was: measures of activity, behaviour and tasks, as functions of arrays."""

from engram.analysis.chi_square import noncentral_chi2_logcdf, weighted_chi2_logcdf
from engram.analysis.classification_difficulty import classification_difficulty
from engram.analysis.decoding import cross_temporal_decoding
from engram.analysis.difficulty import (
    BENCHMARKS,
    Difficulty,
    GeneralizationTask,
    MeasuredDifficulty,
    architecture_information,
    control_task,
    distractor_task,
    few_shot_task,
    inductive_bias_complexity,
)
from engram.analysis.dimension import (
    DimensionEstimate,
    IntrinsicDimension,
    intrinsic_dimension,
    maximum_likelihood_dimension,
)
from engram.analysis.direct_bias import FittedBias, TestError, gaussian_process_test_error, sampled_bias
from engram.analysis.environment_difficulty import environment_difficulty, roll_out, stacked, standardised
from engram.analysis.lifetime import cumulative_regret, normalized_return, stay_probabilities, within_lifetime_gain
from engram.analysis.margin import Margin, class_margin, extreme_quantile
from engram.analysis.nearest_neighbours import nearest_distances

__all__ = [
    "BENCHMARKS",
    "Difficulty",
    "DimensionEstimate",
    "FittedBias",
    "GeneralizationTask",
    "IntrinsicDimension",
    "Margin",
    "MeasuredDifficulty",
    "TestError",
    "architecture_information",
    "class_margin",
    "classification_difficulty",
    "control_task",
    "cross_temporal_decoding",
    "cumulative_regret",
    "distractor_task",
    "environment_difficulty",
    "extreme_quantile",
    "few_shot_task",
    "gaussian_process_test_error",
    "inductive_bias_complexity",
    "intrinsic_dimension",
    "maximum_likelihood_dimension",
    "nearest_distances",
    "noncentral_chi2_logcdf",
    "normalized_return",
    "roll_out",
    "sampled_bias",
    "stacked",
    "standardised",
    "stay_probabilities",
    "weighted_chi2_logcdf",
    "within_lifetime_gain",
]
