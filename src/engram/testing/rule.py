"""The contract of a plasticity rule: it owns parameters, never the state, and its coefficients tell all it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from engram.plasticity import PlasticityRule, TraceState
from engram.testing.module import (
    BadInput,
    assert_close,
    assert_gradient,
    assert_refused,
    copies_whole,
    runs_under_vmap,
    same,
    stores_whole,
    trains_every_parameter,
    without_type_checks,
)
from engram.testing.promises import hold

_BATCH, _POST, _PRE = 3, 4, 2


def check_rule(rule_class: Callable[[], PlasticityRule]) -> None:
    """Hold a plasticity rule to its contract.

    It starts from nothing, changes nothing in place, does what its coefficients tell, treats the elements of a batch
    alone, has right gradients, trains, stores and copies all its parameters, runs under ``torch.func.vmap`` and
    ``torch.compile``, and refuses bad input.

    Args:
        rule_class: The class, or whatever else makes the rule without arguments.

    Raises:
        AssertionError: A promise is broken; the message says which.

    Examples:
        >>> from engram.plasticity import Oja
        >>> check_rule(Oja)
    """
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    rule = rule_class().double()
    state, pre, post = TraceState(draw(_BATCH, _POST, _PRE)), draw(_BATCH, _PRE), draw(_BATCH, _POST)
    checks = [
        _starts_from_nothing,
        _changes_nothing,
        _does_what_its_coefficients_tell,
        _keeps_batch_elements_apart,
        _has_the_right_gradient,
        _compiles,
        _refuses_bad_input,
    ]
    name = getattr(rule_class, "__name__", repr(rule_class))
    hold(name, checks, rule, state, pre, post)
    hold(
        name,
        [trains_every_parameter, copies_whole, stores_whole, runs_under_vmap],
        lambda: _Update(rule_class().double()),
        _Update(rule),
        lambda call: call(state.trace, pre, post),
    )


class _Update(nn.Module):
    """One update as a module of tensors."""

    def __init__(self, rule: PlasticityRule) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, trace: Tensor, pre: Tensor, post: Tensor) -> Tensor:
        return self.rule.update(TraceState(trace), pre, post).trace


def _starts_from_nothing(rule: PlasticityRule, state: TraceState, pre: Tensor, post: Tensor) -> None:
    """``init`` gives a trace of zeros, (batch, post, pre), in the dtype of the parameters."""
    trace = rule.init(_BATCH, _POST, _PRE).trace
    assert trace.shape == (_BATCH, _POST, _PRE), f"trace of shape {tuple(trace.shape)}"
    assert trace.dtype == torch.float64, f"trace of {trace.dtype}"
    assert not trace.any(), "trace is not zero"


def _changes_nothing(rule: PlasticityRule, state: TraceState, pre: Tensor, post: Tensor) -> None:
    """``update`` changes neither its arguments nor the rule: called again, it gives the same."""
    involved = [state.trace, pre, post, *rule.state_dict().values()]
    before = [t.clone() for t in involved]
    first = rule.update(state, pre, post)
    assert same(before, involved), "an argument or a parameter was changed in place"
    assert same(first, rule.update(state, pre, post)), "the second call differs: hidden state"


def _does_what_its_coefficients_tell(rule: PlasticityRule, state: TraceState, pre: Tensor, post: Tensor) -> None:
    """``update`` gives keep * trace + gain * post * pre."""
    keep, gain, target = (c.expand(_BATCH, _POST).unsqueeze(2) for c in rule.coefficients(post))
    assert_close(rule.update(state, pre, post).trace, keep * state.trace + gain * target * pre.unsqueeze(1))


def _keeps_batch_elements_apart(rule: PlasticityRule, state: TraceState, pre: Tensor, post: Tensor) -> None:
    """A batch gives what its elements give alone."""
    elements = [slice(b, b + 1) for b in range(_BATCH)]
    alone = [rule.update(TraceState(state.trace[e]), pre[e], post[e]).trace for e in elements]
    assert_close(rule.update(state, pre, post).trace, torch.cat(alone))


def _has_the_right_gradient(rule: PlasticityRule, state: TraceState, pre: Tensor, post: Tensor) -> None:
    """Gradients with respect to state, activities and parameters agree with finite differences."""
    update = _Update(rule)
    names, parameters = zip(*update.named_parameters(), strict=True)

    def run(trace: Tensor, pre: Tensor, post: Tensor, *values: Tensor) -> Tensor:
        named = dict(zip(names, values, strict=True))
        after: Tensor = torch.func.functional_call(update, named, (trace, pre, post))
        return after

    assert_gradient(run, [state.trace, pre, post, *parameters])


def _compiles(rule: PlasticityRule, state: TraceState, pre: Tensor, post: Tensor) -> None:
    """``torch.compile`` takes ``update`` without a graph break, and changes nothing."""
    # The eager backend captures the whole graph, which is what may fail, and generates no code.
    compiled = torch.compile(_Update(rule), fullgraph=True, backend="eager")
    with without_type_checks():
        trace = compiled(state.trace, pre, post)
    assert_close(trace, rule.update(state, pre, post))


def _refuses_bad_input(rule: PlasticityRule, state: TraceState, pre: Tensor, post: Tensor) -> None:
    """Bad input gets a clear error."""
    bad: list[BadInput] = [
        (lambda: rule.init(0, _POST, _PRE), ValueError, "batch_size = 0"),
        (lambda: rule.init(_BATCH, 0, _PRE), ValueError, "post_size = 0"),
        (lambda: rule.init(_BATCH, _POST, -1), ValueError, "pre_size = -1"),
        (lambda: rule.update(TraceState(state.trace[0]), pre, post), ValueError, r"trace.*\(4, 2\)"),
        (lambda: rule.update(state, post, pre), ValueError, r"pre.*\(3, 4\).*\(3, 2\)"),
        (lambda: rule.update(state, pre, post[:1]), ValueError, r"post.*\(1, 4\).*\(3, 4\)"),
        (lambda: rule.update(state, pre.float(), post), ValueError, "pre.*float32.*float64"),
        (lambda: rule.update(state, pre, post.to("meta")), ValueError, "post.*meta.*cpu"),
        (lambda: rule.update(state, cast(Any, pre.tolist()), post), TypeError, "pre"),
    ]
    assert_refused(bad)
