"""Similarity of two systems: dynamical similarity analysis, and measures of the shape of their activity.

All measures with the interface of ``SimilarityMeasure`` can be imported from here.
"""

from engram.analysis.similarity.measure import SimilarityMeasure, as_measure
from engram.analysis.similarity.measures import (
    AlignmentLoss,
    DynamicalAngle,
    EigenvalueDistance,
    RankCorrelationLoss,
    ShapeAngle,
)

__all__ = [
    "AlignmentLoss",
    "DynamicalAngle",
    "EigenvalueDistance",
    "RankCorrelationLoss",
    "ShapeAngle",
    "SimilarityMeasure",
    "as_measure",
]
