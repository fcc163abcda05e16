"""Meta-learned networks that learn class after class (ANML, ANML without its gate, and OML)."""

from engram.continual.anml.gated_net import Features, GatedNet, anml_net, oml_net, sanml_net, zap_
from engram.continual.anml.meta_learner import MetaStep, SequentialMetaLearner
from engram.continual.anml.streams import Remembered, Stream, evaluate_lengths, learn_stream

__all__ = [
    "Features",
    "GatedNet",
    "MetaStep",
    "Remembered",
    "SequentialMetaLearner",
    "Stream",
    "anml_net",
    "evaluate_lengths",
    "learn_stream",
    "oml_net",
    "sanml_net",
    "zap_",
]
