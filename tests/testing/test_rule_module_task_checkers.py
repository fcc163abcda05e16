"""A part that breaks one promise is refused, and the message says which promise."""

import pytest
import torch
from torch import nn

from engram.plasticity import (
    ClippedHebb,
    Coefficients,
    EligibilityState,
    Hebb,
    Modulated,
    PlasticRNN,
    PlasticState,
    Retroactive,
    TraceState,
)
from engram.rules import Backprop
from engram.rules.synaptic import PairSTDP
from engram.tasks import PatternCompletion
from engram.testing.learning_rule import check_learning_rule
from engram.testing.module import check_module
from engram.testing.rule import check_rule
from engram.testing.synaptic_rule import check_synaptic_rule
from engram.testing.task import check_task


class StartsFull(Hebb):
    def init(self, *sizes):
        return TraceState(super().init(*sizes).trace + 1)


class RuleInPlace(Hebb):
    def update(self, state, pre, post, modulator=None):
        state.trace.mul_(0.9)
        return super().update(state, pre, post)


class RuleThatCounts(Hebb):
    calls = 0

    def update(self, state, pre, post, modulator=None):
        self.calls += 1
        return TraceState(super().update(state, pre, post).trace * self.calls)


class Disagrees(Hebb):
    def update(self, state, pre, post, modulator=None):
        return TraceState(super().update(state, pre, post).trace.clamp(-0.5, 0.5))


class MixesRuleBatch(Hebb):
    def coefficients(self, post, modulator=None):
        return super().coefficients(post - post.mean(0))


class CutsRuleGradient(Hebb):
    def coefficients(self, post, modulator=None):
        return super().coefficients(post.detach())


class Branches(Hebb):
    def coefficients(self, post, modulator=None):
        return super().coefficients(post if self.eta > 0 else -post)


class AcceptsAnything(Hebb):
    def update(self, state, pre, post, modulator=None):
        decay, gain, target = self.coefficients(post)
        return TraceState((1 - decay) * state.trace + gain * target.unsqueeze(2) * pre.unsqueeze(1))


class DeclaresAnother(Hebb):
    forgets = "oja"


class IdleParameter(Hebb):
    def __init__(self):
        super().__init__()
        self.momentum = nn.Parameter(torch.zeros(()))


class SharesCopies(Hebb):
    def __deepcopy__(self, memo):
        return self


class KeepsElsewhere(Hebb):
    def __init__(self):
        super().__init__()
        self.scale = torch.rand((), dtype=torch.float64)

    def coefficients(self, post, modulator=None):
        return Coefficients(self.eta, self.scale * self.eta, post)


class NoEligibility(Retroactive):
    def init(self, *sizes):
        return TraceState(super().init(*sizes).trace)


class SignalTooEarly(Retroactive):
    def update(self, state, pre, post, modulator=None):
        first = super().update(state, pre, post, modulator)
        return EligibilityState(super().update(first, pre, post, modulator).trace, first.eligibility)


class LeavesItsBound(ClippedHebb):
    recursion = "own"

    def update(self, state, pre, post, modulator=None):
        self.check_step(state, pre, post, modulator)
        return TraceState(state.trace + self.eta * post.unsqueeze(2) * pre.unsqueeze(1))


class OneSignalForAll(Modulated):
    def update(self, state, pre, post, modulator=None):
        signal = None if modulator is None else modulator[:1].expand(len(modulator), -1)
        return super().update(state, pre, post, signal)


class NeedsNoSignal(Modulated):
    def update(self, state, pre, post, modulator=None):
        return super().update(state, pre, post, post.detach() if modulator is None else modulator)


RULES = [
    (NoEligibility, "init gives a trace of zeros.*TraceState: expected EligibilityState"),
    (SignalTooEarly, "update gives \\(1 - decay"),
    (LeavesItsBound, "No trace is ever outside"),
    (OneSignalForAll, "update gives \\(1 - decay"),
    (NeedsNoSignal, "Bad input gets a clear error.*modulator = None"),
    (StartsFull, "init gives a trace of zeros"),
    (RuleInPlace, "update changes neither its arguments .* in place"),
    (RuleThatCounts, "update changes neither .* hidden state"),
    (Disagrees, "update gives \\(1 - decay"),
    (DeclaresAnother, "The attribute forgets"),
    (MixesRuleBatch, "A batch gives the same as its elements alone"),
    (CutsRuleGradient, "Gradients .* agree with finite differences"),
    (Branches, "torch.compile takes update without a graph break"),
    (AcceptsAnything, "Bad input gets a clear error"),
    (IdleParameter, "Every parameter .* gets one.*momentum"),
    (SharesCopies, "A deep copy .* shares nothing"),
    (KeepsElsewhere, "The state_dict is complete"),
]


@pytest.mark.parametrize(("broken", "promise"), RULES)
def test_a_broken_rule_is_refused(broken, promise):
    with pytest.raises(AssertionError, match=f"(?s){broken.__name__} breaks a promise: {promise}"):
        check_rule(broken)


class GlobalWeights(PlasticRNN):
    def reset_parameters(self, generator=None):
        super().reset_parameters(None)


class NoTuple(PlasticRNN):
    def forward(self, sequence, state=None):
        output, state = super().forward(sequence, state)
        return output, list(state)


class NeedsSteps(PlasticRNN):
    def forward(self, sequence, state=None):
        output, state = super().forward(sequence, state)
        return output, state._replace(hidden=output[-1:])


class ModuleInPlace(PlasticRNN):
    def forward(self, sequence, state=None):
        output, state = super().forward(sequence, state)
        if len(sequence):
            sequence.mul_(0.5)
        return output, state


class GoesOnByItself(PlasticRNN):
    last = None

    def forward(self, sequence, state=None):
        output, self.last = super().forward(sequence, self.last if state is None else state)
        return output, self.last


class MixesBatch(PlasticRNN):
    def forward(self, sequence, state=None):
        output, state = super().forward(sequence, state)
        return output - output.mean(1, keepdim=True), state


class ForgetsState(PlasticRNN):
    def forward(self, sequence, state=None):
        if isinstance(state, PlasticState):
            state = state._replace(hidden=torch.zeros_like(state.hidden))
        return super().forward(sequence, state)


class IgnoresBatchFirst(PlasticRNN):
    def __init__(self, input_size, hidden_size, *, batch_first=False):
        super().__init__(input_size, hidden_size)


class CutsGradient(PlasticRNN):
    def forward(self, sequence, state=None):
        return super().forward(sequence.detach(), state)


class AcceptsNaN(PlasticRNN):
    def forward(self, sequence, state=None):
        return super().forward(sequence.nan_to_num() if isinstance(sequence, torch.Tensor) else sequence, state)


class ReadsItsWeights(PlasticRNN):
    def forward(self, sequence, state=None):
        output, state = super().forward(sequence, state)
        return output * (2 if self.bias.sum() > 0 else 1), state


class StartsAgainDetached(PlasticRNN):
    class State(PlasticState):
        def detach(self):
            return type(self)(*(0 * tensor.detach() for tensor in super().detach()))

    def forward(self, sequence, state=None):
        output, state = super().forward(sequence, state)
        return output, self.State(*state)


MODULES = [
    (GlobalWeights, "The generator alone"),
    (NoTuple, "Output is .* state is a NamedTuple"),
    (StartsAgainDetached, "Output is .* with detach.*the detached state is another"),
    (NeedsSteps, "A sequence without steps"),
    (ModuleInPlace, "A call changes neither its arguments .* in place"),
    (GoesOnByItself, "A call changes neither .* hidden state"),
    (MixesBatch, "A batch gives the same as its elements alone"),
    (ForgetsState, "A sequence in two parts"),
    (IgnoresBatchFirst, "batch_first swaps"),
    (CutsGradient, "Gradients .* agree with finite differences"),
    (AcceptsNaN, "Bad input gets a clear error.*nan"),
    (ReadsItsWeights, "torch.func.vmap runs"),
]


@pytest.mark.parametrize(("broken", "promise"), MODULES)
def test_a_broken_module_is_refused(broken, promise):
    with pytest.raises(AssertionError, match=f"(?s){broken.__name__} breaks a promise: {promise}"):
        check_module(broken)


def test_an_exemption_is_known_and_gives_its_reason():
    check_module(ReadsItsWeights, {"vmap": "looks at the sign of a weight"})
    for exempt in ({"batches": "too slow"}, {"vmap": ""}):
        with pytest.raises(ValueError, match="exempt"):
            check_module(PlasticRNN, exempt)


class GlobalDraw(PatternCompletion):
    def sample(self, batch_size, generator):
        episode = super().sample(batch_size, generator)
        return episode._replace(inputs=episode.inputs + torch.randn(episode.inputs.shape))


class AlwaysTheSame(PatternCompletion):
    def sample(self, batch_size, generator):
        return super().sample(batch_size, torch.Generator().manual_seed(generator.initial_seed()))


class OneForAll(PatternCompletion):
    def sample(self, batch_size, generator):
        episode = super().sample(batch_size, generator)
        return episode._replace(inputs=episode.inputs[:, :1].expand_as(episode.inputs))


class NothingCounts(PatternCompletion):
    def sample(self, batch_size, generator):
        episode = super().sample(batch_size, generator)
        return episode._replace(mask=torch.zeros_like(episode.mask))


class BatchFirst(PatternCompletion):
    def sample(self, batch_size, generator):
        inputs, targets, mask = super().sample(batch_size, generator)
        return (
            super()
            .sample(batch_size, generator)
            ._replace(inputs=inputs.transpose(0, 1), targets=targets.transpose(0, 1), mask=mask.T)
        )


class AcceptsNoEpisodes(PatternCompletion):
    def sample(self, batch_size, generator):
        return super().sample(max(batch_size, 1), generator)


TASKS = [
    (GlobalDraw, "The generator alone.*global generator of torch"),
    (AlwaysTheSame, "Every sample is new.*in succession"),
    (OneForAll, "Every sample is new.*of a batch"),
    (NothingCounts, "sample gives an Episode.*no answer counts"),
    (BatchFirst, r"sample gives an Episode.*batch_size = 1 gave inputs \(1, 11, 50\)"),
    (AcceptsNoEpisodes, "Bad input gets a clear error.*batch_size = 0"),
]


@pytest.mark.parametrize(("broken", "promise"), TASKS)
def test_a_broken_task_is_refused(broken, promise):
    with pytest.raises(AssertionError, match=f"(?s){broken.__name__} breaks a promise: {promise}"):
        check_task(broken)


@pytest.mark.parametrize(
    ("check", "part"),
    [
        (check_rule, Hebb()),
        (check_module, PlasticRNN(2, 3)),
        (check_task, PatternCompletion()),
        (check_synaptic_rule, PairSTDP()),
        (check_learning_rule, Backprop()),
    ],
)
def test_a_part_instead_of_its_class_is_refused(check, part):
    with pytest.raises(TypeError, match=r"_class = .*: expected a class, or a function that makes the part"):
        check(part)


@pytest.mark.parametrize(
    ("check", "base"),
    [
        (check_rule, "PlasticityRule"),
        (check_module, "Module"),
        (check_synaptic_rule, "SynapticRule"),
        (check_learning_rule, "LearningRule"),
    ],
)
def test_a_class_without_the_base_of_the_contract_is_refused(check, base):
    with pytest.raises(TypeError, match=f"_class makes a list: expected a subclass of {base}"):
        check(lambda *_: [])
