"""Properties of small ReLU networks, proved or refuted."""

from engram.analysis.verify.bounds import LinearBounds, crown_bounds, interval_bounds
from engram.analysis.verify.certificate import Certificate, Check, check_certificate
from engram.analysis.verify.exact import Bound, maximize
from engram.analysis.verify.network import AffineReLU, UnsupportedLayerError, as_affine_relu
from engram.analysis.verify.specification import AllOf, AnyOf, Argmax, Box, LinearProperty, Polytope
from engram.analysis.verify.verify import Budget, Result, verify

__all__ = [
    "AffineReLU",
    "AllOf",
    "AnyOf",
    "Argmax",
    "Bound",
    "Box",
    "Budget",
    "Certificate",
    "Check",
    "LinearBounds",
    "LinearProperty",
    "Polytope",
    "Result",
    "UnsupportedLayerError",
    "as_affine_relu",
    "check_certificate",
    "crown_bounds",
    "interval_bounds",
    "maximize",
    "verify",
]
