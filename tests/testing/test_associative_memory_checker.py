"""An associative memory that breaks one promise is refused, and the message says which promise."""

import pytest
import torch

from engram.memory import AssociativeMemory
from engram.testing import check_associative_memory


class Table(AssociativeMemory):
    """A table, of which the nearest row is the answer: keeps all promises."""

    stored = ("table",)

    def __init__(self, units, *, generator=None):
        super().__init__(units, generator=generator)
        self.table = torch.zeros(0, units)

    def store(self, patterns):
        self.table = torch.cat((self.table, patterns))

    def recall(self, cues):
        return self.table[(cues @ self.table.T).argmax(1)]

    @property
    def n_weights(self):
        return self.table.numel()


class NotOne:
    def __init__(self, units, *, generator):
        self.units = units


class Complement(Table):
    def recall(self, cues):
        return -super().recall(cues)


class LatestOnly(Table):
    def store(self, patterns):
        self.table = patterns


class Echo(Table):
    def recall(self, cues):
        return cues


class DrawsGlobally(Table):
    def store(self, patterns):
        super().store(patterns[torch.randperm(len(patterns))])


class OneForAll(Table):
    def recall(self, cues):
        return super().recall(cues - cues.mean(0))


class LearnsCues(Table):
    def recall(self, cues):
        answers = super().recall(cues)
        super().store(answers)
        return answers


class SavesNothing(Table):
    stored = ()


class CountsNothing(Table):
    n_weights = 0


class AnswersZero(Table):
    def recall(self, cues):
        return 0 * cues


class LosesItsState(Table):
    stored = ("table",)
    scale = 1.0

    def store(self, patterns):
        super().store(patterns)
        self.scale = -1.0

    def recall(self, cues):
        return -self.scale * super().recall(cues)


class TakesNoUnits(Table):
    def __init__(self, units, *, generator=None):
        super().__init__(max(units, 2), generator=generator)


BROKEN = {
    NotOne: "a NotOne",
    Complement: "are recalled exactly.*240 of 240 units are wrong",
    LatestOnly: "stored one by one",
    Echo: "a tenth of its units flipped",
    DrawsGlobally: "global generator of torch",
    OneForAll: "alone and among others",
    LearnsCues: "it changed table",
    SavesNothing: "from a file",
    CountsNothing: "n_weights is 0, but 240 numbers changed",
    AnswersZero: r"the answer of AnswersZero\[0, 0\] = .*0.0: expected -1 or \+1",
    LosesItsState: "answers differ at once",
    TakesNoUnits: "units = 0.*nothing was raised",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_promise_is_found(broken):
    with pytest.raises(AssertionError, match=BROKEN[broken]):
        check_associative_memory(broken)


def test_a_table_keeps_all_promises():
    check_associative_memory(Table)


class Network(Table):
    """A table in the weights of a layer, beside a number that is None at first: keeps all promises."""

    stored = ("layer", "count")

    def __init__(self, units, *, generator=None):
        super().__init__(units, generator=generator)
        self.layer, self.count = torch.nn.utils.skip_init(torch.nn.Linear, units, 16, bias=False), None
        torch.nn.init.zeros_(self.layer.weight)

    def store(self, patterns):
        start = self.count or 0
        self.count = start + len(patterns)
        with torch.no_grad():
            self.layer.weight[start : self.count] = patterns

    def recall(self, cues):
        return self.layer.weight.detach()[self.layer(cues)[:, : self.count].argmax(1)]

    @property
    def n_weights(self):
        return self.layer.weight.numel()


def test_a_memory_may_store_in_a_module_and_begin_with_none():
    check_associative_memory(Network)
