from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from engram import registry
from engram.plasticity import ClippedHebb, PlasticityRule
from engram.rules import SynapticUpdate
from engram.rules.synaptic import CovarianceHebb, PairSTDP, Sanger, SlowWeights, ThreeFactor
from engram.testing import check_synaptic_rule


@pytest.mark.parametrize("name", registry.names("synaptic_rules"))
def test_synaptic_rule_keeps_its_promises(name):
    check_synaptic_rule(registry.get("synaptic_rules", name))


@dataclass(frozen=True)
class Hebb(SlowWeights):
    rule: PlasticityRule = ClippedHebb(1.0, clip=None)  # noqa: RUF009


class Summed(Hebb):
    def update(self, pre, post, weight, state):
        return SynapticUpdate(super().update(pre, post, weight, state).grad * len(pre), None)


class InPlace(Hebb):
    def update(self, pre, post, weight, state):
        grad = super().update(pre, post, weight, state).grad
        weight.sub_(grad)
        return SynapticUpdate(grad, None)


class Noisy(Hebb):
    def update(self, pre, post, weight, state):
        grad, _ = super().update(pre, post, weight, state)
        return SynapticUpdate(grad + torch.randn_like(grad), None)


@dataclass(frozen=True)
class Hidden(Hebb):
    seen: tuple[Any, ...] = ()

    def update(self, pre, post, weight, state):
        object.__setattr__(self, "seen", (*self.seen, pre))
        return SynapticUpdate(super().update(pre, post, weight, state).grad * len(self.seen), None)


class SaysLocal(Sanger):
    properties = replace(Sanger.properties, local=True)


class NormsInput(Hebb):
    def update(self, pre, post, weight, state):
        return super().update(pre / (1 + pre.sum(1, keepdim=True)), post, weight, state)


class Hoards(Hebb):
    def init(self, weight):
        return weight.new_zeros(0)

    @torch.no_grad()
    def update(self, pre, post, weight, state):
        return SynapticUpdate(super().update(pre, post, weight, None).grad, torch.cat((state, pre[0])))


class Precise(Hebb):
    def update(self, pre, post, weight, state):
        grad = super().update(pre, post, weight, state).grad
        return SynapticUpdate(grad + 0 * torch.zeros(1, dtype=torch.float64), None)


class TakesNothing(Hebb):
    @torch.no_grad()
    def update(self, pre, post, weight, state):
        return SynapticUpdate(-post.T @ pre / max(len(pre), 1), None)


class Branches(Hebb):
    def update(self, pre, post, weight, state):
        grad = super().update(pre, post, weight, state).grad
        return SynapticUpdate(grad if float(grad.sum()) < 1 else -grad, None)


class KeepsGraphs(Hebb):
    update = Hebb.update.__wrapped__  # without torch.no_grad


class Transposed(Hebb):
    def update(self, pre, post, weight, state):
        return SynapticUpdate(super().update(pre, post, weight, state).grad.T, None)


class OneTrace(PairSTDP):
    """All samples share the trace of the first."""

    def update(self, pre, post, weight, state):
        grad, after = super().update(pre, post, weight, state)
        return SynapticUpdate(grad, type(after)(*(part[:1] for part in after)))


class RewardedByDefault(ThreeFactor):
    def update(self, pre, post, weight, state, modulator: Tensor | None = None):
        given = pre.new_ones(len(pre)) if modulator is None else modulator
        return super().update(pre, post, weight, state, given)


class NormalisesAtTheStart(CovarianceHebb):
    def init(self, weight):
        weight /= weight.norm(dim=1, keepdim=True)
        return super().init(weight)


class DrawsAtTheStart(CovarianceHebb):
    def init(self, weight):
        torch.rand(1)
        return super().init(weight)


BROKEN = {
    Summed: "a mean over the batch|the mean over its samples",
    InPlace: "changed in place",
    Noisy: "global generator",
    Hidden: "second call differs",
    SaysLocal: "other weights changed",
    NormsInput: "other inputs changed",
    Hoards: "numbers after 2 steps",
    Precise: "float32 input gives torch.float64",
    TakesNothing: r"pre.*nothing was raised|expected ValueError",
    Branches: "vmap",
    KeepsGraphs: "a graph is kept by 1 of",
    Transposed: "shape",
    OneTrace: "order of the samples",
    RewardedByDefault: "modulator = None",
    NormalisesAtTheStart: "init does not change the weights",
    DrawsAtTheStart: "init does not change the weights.*global generator",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_promise_is_found(broken):
    with pytest.raises(AssertionError, match=BROKEN[broken]):
        check_synaptic_rule(broken)
