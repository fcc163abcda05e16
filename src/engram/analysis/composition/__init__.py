"""Whether a generative model composes: scores of its images, order of its representation, overlap of its data."""

from engram.analysis.composition.bump_score import BumpScore, bump_score
from engram.analysis.composition.coupling import Coupling, coupling
from engram.analysis.composition.factorization import Factorization, factorization
from engram.analysis.composition.percolation import percolation_ratio
from engram.analysis.composition.representation_order import RepresentationOrder, representation_order

__all__ = [
    "BumpScore",
    "Coupling",
    "Factorization",
    "RepresentationOrder",
    "bump_score",
    "coupling",
    "factorization",
    "percolation_ratio",
    "representation_order",
]
