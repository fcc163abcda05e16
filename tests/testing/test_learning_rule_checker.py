"""A learning rule that breaks one promise is refused, and the message says which promise."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from engram.rules import (
    Backprop,
    FeedbackAlignment,
    KolenPollack,
    LearningRule,
    LocalError,
    NodePerturbation,
    PredictiveCoding,
    Properties,
    Update,
    checked_update,
    output_loss,
)
from engram.testing import check_learning_rule


class DrawsGlobally(FeedbackAlignment):
    def init(self, model, generator):
        return {name: torch.randn(W.shape).to(W) for name, W in super().init(model, generator).items()}


class WrongShape(FeedbackAlignment):
    def update(self, *batch):
        grads, *rest = super().update(*batch)
        return Update({name: grad.flatten() for name, grad in grads.items()}, *rest)


class WithoutLoss(FeedbackAlignment):
    def update(self, *batch):
        return super().update(*batch)._replace(info={})


class InPlace(FeedbackAlignment):
    def update(self, model, x, target, state):
        state["2.weight"] *= 0.9
        return super().update(model, x, target, state)


class SetsGrad(Backprop):
    def update(self, model, x, target, state):
        update = super().update(model, x, target, state)
        model[0].weight.grad = update.grads["0.weight"]
        return update


class Counts(FeedbackAlignment):
    calls = 0

    def update(self, *batch):
        self.calls += 1
        grads, *rest = super().update(*batch)
        return Update({name: grad * self.calls for name, grad in grads.items()}, *rest)


class Sums(FeedbackAlignment):
    def update(self, model, x, target, state):
        grads, *rest = super().update(model, x, target, state)
        return Update({name: grad * len(x) for name, grad in grads.items()}, *rest)


class FirstSampleTwice(FeedbackAlignment):
    def update(self, model, x, target, state):
        return super().update(model, torch.cat((x, x[:1])), torch.cat((target, target[:1])), state)


class Restless(FeedbackAlignment):
    def update(self, *batch):
        grads, *rest = super().update(*batch)
        return Update({name: grad + 0.01 for name, grad in grads.items()}, *rest)


class Uphill(FeedbackAlignment):
    def update(self, *batch):
        grads, *rest = super().update(*batch)
        return Update({name: -grad for name, grad in grads.items()}, *rest)


class Hides(FeedbackAlignment):
    """A part of its state is not where it says."""

    def init(self, model, generator):
        self.kept = super().init(model, generator)
        return {name: torch.zeros_like(value) for name, value in self.kept.items()}

    def update(self, model, x, target, state):
        own = self.kept if all(not value.any() for value in state.values()) else state
        update = super().update(model, x, target, own)
        return update._replace(state={name: value.to_sparse() for name, value in own.items()})


class OtherNoiseInSingle(NodePerturbation):
    def update(self, model, x, target, state):
        return super().update(model, x, target, state if x.dtype == torch.float64 else state + 1)


class Transports(Backprop):
    properties = Properties(no_weight_transport=True)


class CopiesWeights(FeedbackAlignment):
    """Transports the weights after the step, whole or in part."""

    share = 1.0

    def after_step(self, model, deltas, state):
        weights = dict(model.named_parameters())
        return {name: torch.lerp(feedback, weights[name].detach(), self.share) for name, feedback in state.items()}

    def watched(self, state):
        return state


class CopiesAPart(CopiesWeights):
    share = 0.1


class CopiesOneBelow(CopiesWeights):
    """Transports the weights of the lowest layer that has feedback, and of no other."""

    def after_step(self, model, deltas, state):
        lowest = next(iter(state))
        return {**state, lowest: super().after_step(model, deltas, state)[lowest]}


class TakesSharedWeights(FeedbackAlignment):
    def init(self, model, generator):
        separate = nn.Sequential(*(copy.deepcopy(module) for module in model))
        return super().init(separate, generator)

    def update(self, model, x, target, state):
        return super().update(nn.Sequential(*(copy.deepcopy(module) for module in model)), x, target, state)


class TrainsFrozenLayers(FeedbackAlignment):
    def update(self, model, x, target, state):
        return super().update(copy.deepcopy(model).requires_grad_(True), x, target, state)


class TakesAnyState(FeedbackAlignment):
    def update(self, model, x, target, state):
        fresh = self.init(model, torch.Generator().manual_seed(0))
        fits = all(name in state and state[name].shape == fresh[name].shape for name in fresh)
        return super().update(model, x, target, state if fits else fresh)


class FromTheInput(LearningRule[None]):
    """Backpropagation that also takes the derivative by its input, as a rule may."""

    properties = Properties(one_phase=True)

    def init(self, model, generator):
        return None

    def update(self, model, x, target, state):
        x = x.clone().requires_grad_()
        loss = output_loss(model(x), target)
        parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
        _, *grads = torch.autograd.grad(loss, [x, *parameters.values()])
        return checked_update(self, dict(zip(parameters, grads, strict=True)), None, loss.detach())


class TwoPhases(PredictiveCoding):
    properties = Properties(one_phase=True)

    def __init__(self):
        super().__init__("strict")


class Remembers(FeedbackAlignment):
    def update(self, model, x, target, state):
        past = state.get("past", x[:0])
        known = {name: value for name, value in state.items() if name != "past"}
        return super().update(model, x, target, known)._replace(state=known | {"past": torch.cat((past, x))})


class RemembersSteps(Remembers):
    def update(self, model, x, target, state):
        known = {name: value for name, value in state.items() if name != "past"}
        return FeedbackAlignment.update(self, model, x, target, known)._replace(state=state)

    def after_step(self, model, deltas, state):
        return state | {"past": torch.cat((state.get("past", torch.zeros(0)), torch.zeros(1)))}


class ClampsAtTheStart(FeedbackAlignment):
    def init(self, model, generator):
        with torch.no_grad():
            model[0].weight.clamp_(-0.5, 0.5)
        return super().init(model, generator)


class Supervised(FeedbackAlignment):
    properties = Properties(unsupervised=True)


class NeedsDerivative(LearningRule[None]):
    """The derivative is that of what the layer is made of, as autograd has it."""

    properties = Properties(black_box=True)

    def init(self, model, generator):
        return None

    def update(self, model, x, target, state):
        grads, _, info = Backprop().update(nn.Sequential(*model), x, target, None)
        return checked_update(self, grads, None, info["loss"])


class TakesEmpty(Backprop):
    def update(self, model, x, target, state):
        if not len(x):
            return Update({}, state, {"loss": torch.tensor(0.0)})
        return super().update(model, x, target, state)


class LetsNaNPass(Backprop):
    def update(self, model, x, target, state):
        try:
            return super().update(model, x, target, state)
        except FloatingPointError:
            return Update({"0.weight": torch.full_like(model[0].weight, torch.nan)}, state, {"loss": torch.tensor(0.0)})


class DoesNotSayWhich(Backprop):
    def update(self, model, x, target, state):
        try:
            return super().update(model, x, target, state)
        except FloatingPointError:
            raise FloatingPointError("not finite") from None


BROKEN = {
    DrawsGlobally: "generator of init determines",
    WrongShape: "pseudo-gradient '4.weight' of",
    WithoutLoss: "expected the loss, as 'loss'",
    InPlace: "changes neither model, batch nor state.*in place",
    SetsGrad: "changes neither model, batch nor state.*grad was set",
    Counts: "generator of init determines|second call differs",
    Sums: "mean of its halves",
    FirstSampleTwice: "mean of its halves",
    Restless: "Nothing changes if the output equals the target",
    Uphill: "lowers the loss",
    OtherNoiseInSingle: "In float32",
    Transports: "no_weight_transport",
    CopiesWeights: "no_weight_transport: after_step",
    CopiesAPart: "no_weight_transport: after_step",
    CopiesOneBelow: "no_weight_transport: after_step",
    TakesAnyState: "state of a network of other sizes",
    TwoPhases: "one_phase",
    Remembers: "online",
    RemembersSteps: "online",
    ClampsAtTheStart: "init does not change the model",
    Supervised: "unsupervised",
    NeedsDerivative: "black_box",
    DoesNotSayWhich: "not finite raises FloatingPointError.*the message is",
}
NOISY = {"batch": "noise", "zero error": "noise"}


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_promise_is_named(rule):
    with pytest.raises(AssertionError, match=f"(?s){rule.__name__} breaks a promise: .*({BROKEN[rule]})"):
        check_learning_rule(rule, exempt=NOISY if issubclass(rule, NodePerturbation) else None)


def test_a_rule_may_take_the_derivative_by_its_input():
    check_learning_rule(FromTheInput, gradient=True)


@pytest.mark.parametrize("decay", [0.0, 1e-3, 0.5])
def test_a_rule_that_needs_the_change_without_its_decay_transports_no_weights(decay):
    check_learning_rule(partial(KolenPollack, decay))


def test_a_state_that_cannot_be_stored_is_refused():
    with pytest.raises(AssertionError, match="Hides breaks a promise"):
        check_learning_rule(Hides)


def test_what_is_not_the_gradient_does_not_pass_for_it():
    with pytest.raises(AssertionError, match="are the gradients of the loss"):
        check_learning_rule(FeedbackAlignment, gradient=True)


@pytest.mark.parametrize("exempt", [{"batch": ""}, {"speed": "it is slow"}])
def test_an_exemption_is_known_and_has_a_reason(exempt):
    with pytest.raises(ValueError, match=r"exempt = .*expected reasons for 'batch'"):
        check_learning_rule(LocalError, exempt=exempt)


@pytest.mark.parametrize("rule", [TakesSharedWeights, TrainsFrozenLayers, TakesEmpty, LetsNaNPass])
def test_what_every_rule_must_refuse_is_refused_by_its_caller(rule):
    check_learning_rule(rule)
