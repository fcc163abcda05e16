"""The layer with each write rule, under the names of the registry."""

from __future__ import annotations

from functools import partial

from engram.plasticity.sequence.layer import FastWeightLayer

hebbian = partial(FastWeightLayer, rule="hebbian")
decayed = partial(FastWeightLayer, rule="decayed")
delta = partial(FastWeightLayer, rule="delta")
gated_delta = partial(FastWeightLayer, rule="gated-delta")
momentum_delta = partial(FastWeightLayer, rule="momentum-delta")
gradient = partial(FastWeightLayer, rule="gradient")
least_squares = partial(FastWeightLayer, rule="least-squares")
