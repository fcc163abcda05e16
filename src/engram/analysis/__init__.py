"""What was learned: measures of activity and of behaviour, and proofs, as functions of arrays and modules."""

from engram.analysis.decoding import cross_temporal_decoding
from engram.analysis.lifetime import cumulative_regret, normalized_return, stay_probabilities, within_lifetime_gain
from engram.analysis.verify import (
    AllOf,
    AnyOf,
    Argmax,
    Box,
    Budget,
    Certificate,
    LinearProperty,
    Polytope,
    Result,
    certified_radius,
    check_certificate,
    relaxed_region,
    verify,
)

__all__ = [
    "AllOf",
    "AnyOf",
    "Argmax",
    "Box",
    "Budget",
    "Certificate",
    "LinearProperty",
    "Polytope",
    "Result",
    "certified_radius",
    "check_certificate",
    "cross_temporal_decoding",
    "cumulative_regret",
    "normalized_return",
    "relaxed_region",
    "stay_probabilities",
    "verify",
    "within_lifetime_gain",
]
