"""Many tasks, one after another: learning through which one differentiates, and networks that do not forget."""

from engram import arguments
from engram.continual.fast_weights import FastWeights
from engram.continual.inner_updates import AdamState, adam, sgd
from engram.continual.recomputed import recomputed

__all__ = ["AdamState", "FastWeights", "adam", "recomputed", "sgd"]

arguments.noted_in(__name__)
