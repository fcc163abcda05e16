import weakref
from typing import NamedTuple

import pytest
import torch

from engram.rules import detached, unroll

W = torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
INPUTS = torch.randn(17, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Carried(NamedTuple):
    hidden: torch.Tensor
    traces: tuple[torch.Tensor, ...]


def start():
    return Carried(torch.zeros(2, 3, dtype=torch.float64), (torch.zeros(2, 3, dtype=torch.float64),))


def step_with(weight, made=None):
    def step(state, x):
        current = state.hidden @ weight + x
        hidden = current.tanh()
        if made is not None:
            made.append(weakref.ref(hidden))
        return Carried(hidden, (0.9 * state.traces[0] + hidden.square(),)), hidden.sum(1)

    return step


def gradient(checkpointed, made=None):
    weight = W.clone().requires_grad_()
    state, outputs = unroll(step_with(weight, made), start(), INPUTS, checkpointed=checkpointed)
    loss = state.traces[0].sum() + torch.stack(outputs).square().sum()
    del state, outputs
    alive = 0 if made is None else sum(ref() is not None for ref in made)
    loss.backward()
    return weight.grad, alive


def test_it_is_the_loop():
    state, outputs = unroll(step_with(W), start(), INPUTS)
    expected, step = start(), step_with(W)
    for x, output in zip(INPUTS, outputs, strict=True):
        expected, y = step(expected, x)
        assert torch.equal(output, y)
    assert torch.equal(state.hidden, expected.hidden)
    assert torch.equal(state.traces[0], expected.traces[0])


def test_checkpoints_change_no_gradient_and_keep_few_activities():
    all_of_them, some_of_them = [], []
    plain, alive = gradient(False, all_of_them)
    checkpointed, kept_few = gradient(True, some_of_them)
    torch.testing.assert_close(checkpointed, plain, rtol=0, atol=1e-14)
    assert len(all_of_them) == alive == len(INPUTS)
    assert len(some_of_them) == 2 * len(INPUTS), "each step runs once more"
    assert kept_few <= 5, "the states between the parts, of four steps each"


def test_a_population_is_an_axis_that_vmap_adds():
    weights = torch.stack([W, W / 2])
    together = torch.func.vmap(lambda weight: unroll(step_with(weight), start(), INPUTS)[0].hidden)(weights)
    for weight, hidden in zip(weights, together, strict=True):
        torch.testing.assert_close(hidden, unroll(step_with(weight), start(), INPUTS)[0].hidden)


def test_a_detached_state_is_the_same_without_its_graph():
    state, _ = unroll(step_with(W.clone().requires_grad_()), start(), INPUTS)
    cut = detached(state)
    assert isinstance(cut, Carried)
    assert state.hidden.requires_grad
    assert not cut.hidden.requires_grad
    assert not cut.traces[0].requires_grad
    assert torch.equal(cut.hidden, state.hidden)
    assert detached(()) == ()


def test_no_steps_leave_the_state():
    assert unroll(step_with(W), 3, [], checkpointed=True) == (3, [])
    with pytest.raises(TypeError, match="state is a list"):
        detached([torch.ones(1)])
