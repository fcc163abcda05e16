"""What learning to learn stands on: updates of weights that can be differentiated, and gradients of each sample.

``FastWeights`` lets any module take steps that stay part of the graph, ``sgd`` and ``adam`` are such steps,
``recomputed`` lets long inner loops fit into memory, and ``per_sample`` sums the gradients of single samples.
"""

from engram.meta.fast_weights import FastWeights
from engram.meta.inner_updates import AdamState, adam, sgd
from engram.meta.recomputed import recomputed

__all__ = ["AdamState", "FastWeights", "adam", "recomputed", "sgd"]
