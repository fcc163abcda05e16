"""Learned bidirectional update rules: a learning rule of a few numbers, found by evolution (Sandler et al.)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engram.learned.blur.genome import Genome
from engram.learned.blur.meta import cross_entropy, lifetime, meta_step
from engram.learned.blur.network import BlurNetwork, BlurState
from engram.numeric.imports import deferred

if TYPE_CHECKING:  # scikit-learn takes nearly as long to import as torch, and few parts need it
    from engram.learned.blur.classifier import BlurClassifier

__all__ = ["BlurClassifier", "BlurNetwork", "BlurState", "Genome", "cross_entropy", "lifetime", "meta_step"]

__getattr__, __dir__ = deferred(__name__, {"engram.learned.blur.classifier": ["BlurClassifier"]})
