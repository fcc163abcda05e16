"""A continual method that breaks one promise is refused, and the message says which promise."""

import copy

import pytest
import torch

from engram.continual import ContinualMethod
from engram.testing import check_continual_method


class NotOne:
    def __init__(self, model, *, generator):
        self.model = model


class PerSample(ContinualMethod):
    def loss(self, x, y, logits):
        return logits.square().sum(1)


class Infinite(ContinualMethod):
    tasks = 0
    stored = ("tasks",)

    def loss(self, x, y, logits):
        return float("inf") * self.tasks if self.tasks else 0.0

    def end_task(self, task):
        self.tasks += 1


class DrawsGlobally(ContinualMethod):
    def loss(self, x, y, logits):
        return logits.square().mean() * torch.rand(())


class Shuffles(ContinualMethod):
    def end_task(self, task):
        if isinstance(task.train, tuple):
            task.train[0].copy_(task.train[0].flip(0))


class Rewinds(ContinualMethod):
    @torch.no_grad()
    def end_task(self, task):
        for p in self.model.parameters():
            p.mul_(0.5)


class LeavesEvaluation(ContinualMethod):
    def end_task(self, task):
        self.model.eval()


class HoldsFromTheStart(ContinualMethod):
    def __init__(self, model, *, generator=None):
        super().__init__(model, generator=generator)
        self.start = [p.detach().clone() for p in model.parameters()]

    def loss(self, x, y, logits):
        pairs = zip(self.model.parameters(), self.start, strict=True)
        return sum((p - start).square().sum() for p, start in pairs)


class OnlyTensors(ContinualMethod):
    def end_task(self, task):
        task.train[0].mean(0)


class StaysAttached(ContinualMethod):
    def attach(self, optimizer):
        super().attach(optimizer)
        optimizer.register_step_post_hook(lambda *_: self.decay())

    @torch.no_grad()
    def decay(self):
        self.model[0].weight.mul_(0.999)


class ForgetsItsState(ContinualMethod):
    anchor = None

    def loss(self, x, y, logits):
        return 0.0 if self.anchor is None else (self.model[0].weight - self.anchor).square().sum()

    def end_task(self, task):
        self.anchor = self.model[0].weight.detach().clone()


class AlwaysActs(ContinualMethod):
    def __init__(self, model, strength=1.0, *, generator=None):
        super().__init__(model, generator=generator)

    def loss(self, x, y, logits):
        return 1e-3 * logits.square().mean()


class TakesAnyOptimizer(ContinualMethod):
    def attach(self, optimizer):
        pass


class Teachers(ContinualMethod):
    """Distils from copies of the network after each task, and keeps the newest beside the list: keeps all promises."""

    stored = ("teachers", "newest")

    def __init__(self, model, *, generator=None):
        super().__init__(model, generator=generator)
        self.teachers, self.newest = [], None

    def loss(self, x, y, logits):
        if self.newest is None:
            return 0.0
        with torch.no_grad():
            answers = torch.stack([teacher(x) for teacher in [*self.teachers, self.newest]])
        return (logits - answers.mean(0)).square().mean()

    def end_task(self, task):
        self.newest = copy.deepcopy(self.model).eval()
        self.teachers.append(copy.deepcopy(self.model).requires_grad_(False))


BROKEN = {
    NotOne: "a NotOne",
    PerSample: "the loss has shape",
    Infinite: "the loss is inf",
    DrawsGlobally: "global generator of torch",
    Shuffles: "training data were changed",
    Rewinds: "a weight was changed",
    LeavesEvaluation: "evaluation mode",
    HoldsFromTheStart: "the loss falls from",
    OnlyTensors: "in batches",
    StaysAttached: "as if attached once",
    ForgetsItsState: "the continuation from step 6 differs",
    AlwaysActs: "fine-tuning",
    TakesAnyOptimizer: "optimizer.*nothing was raised",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_promise_is_found(broken):
    with pytest.raises(AssertionError, match=BROKEN[broken]):
        check_continual_method(broken)


def test_a_method_may_keep_copies_of_its_network():
    check_continual_method(Teachers)


def test_a_copy_of_the_network_is_restored_with_its_weights_and_mode_and_a_wrong_one_is_refused():
    model = torch.nn.Linear(3, 2)
    method, resumed = Teachers(model), Teachers(copy.deepcopy(model))
    method.end_task(None)
    state = method.state_dict()
    resumed.load_state_dict(state)
    assert torch.equal(resumed.newest.weight, model.weight)
    assert not resumed.newest.training
    assert resumed.teachers[0].training
    assert not resumed.newest.weight.requires_grad
    state["newest"]["module"]["weight"].zero_()
    assert torch.equal(resumed.newest.weight, model.weight)
    with pytest.raises(ValueError, match=r"state\['teachers'\]\['module'\]\['weight'\]\.shape = \(2, 3\)"):
        Teachers(torch.nn.Linear(4, 2)).load_state_dict(state)
