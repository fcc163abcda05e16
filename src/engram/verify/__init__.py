"""Properties of small ReLU networks, proved or refuted."""

from engram.verify.answer import QueryResult, Question, check_query, read_question, verify_query
from engram.verify.bounds import LinearBounds, crown_bounds, interval_bounds
from engram.verify.certificate import Certificate, Check, check_certificate
from engram.verify.exact import Bound, maximize
from engram.verify.layer_rules import LayerRule, layer_rules, prove_rule
from engram.verify.modules import as_affine_relu
from engram.verify.network import AffineReLU, UnsupportedLayerError
from engram.verify.nnet import AcasProperty, Normalisation, acasxu_property, read_nnet
from engram.verify.onnx import OnnxNetwork, read_onnx
from engram.verify.query import Query, QueryCase
from engram.verify.region import InnerBox, Region, activation_pattern, local_affine, pattern_halfspaces
from engram.verify.relaxation import class_regions, relaxed_region
from engram.verify.robustness import certified_radius
from engram.verify.specification import AllOf, AnyOf, Argmax, Box, LinearProperty, Polytope
from engram.verify.verifier import Budget, Result, verify
from engram.verify.vnnlib import read_vnnlib

__all__ = [
    "AcasProperty",
    "AffineReLU",
    "AllOf",
    "AnyOf",
    "Argmax",
    "Bound",
    "Box",
    "Budget",
    "Certificate",
    "Check",
    "InnerBox",
    "LayerRule",
    "LinearBounds",
    "LinearProperty",
    "Normalisation",
    "OnnxNetwork",
    "Polytope",
    "Query",
    "QueryCase",
    "QueryResult",
    "Question",
    "Region",
    "Result",
    "UnsupportedLayerError",
    "acasxu_property",
    "activation_pattern",
    "as_affine_relu",
    "certified_radius",
    "check_certificate",
    "check_query",
    "class_regions",
    "crown_bounds",
    "interval_bounds",
    "layer_rules",
    "local_affine",
    "maximize",
    "pattern_halfspaces",
    "prove_rule",
    "read_nnet",
    "read_onnx",
    "read_question",
    "read_vnnlib",
    "relaxed_region",
    "verify",
    "verify_query",
]
