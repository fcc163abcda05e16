"""Learned bidirectional update rules: a learning rule as a few numbers, searched for by evolution (Sandler et al.)."""

from engram.learned.blur.classifier import BlurClassifier
from engram.learned.blur.genome import Genome
from engram.learned.blur.meta import cross_entropy, lifetime, meta_step
from engram.learned.blur.network import BlurNetwork, BlurState

__all__ = ["BlurClassifier", "BlurNetwork", "BlurState", "Genome", "cross_entropy", "lifetime", "meta_step"]
