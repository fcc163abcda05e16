"""The contract of a plasticity rule: it owns parameters, never the state, and its coefficients describe it fully."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from engram.plasticity import EligibilityState, PlasticityRule, RuleState, TraceState
from engram.testing.module import WHOLE, assert_close, assert_gradient, assert_vmap, without_type_checks
from engram.testing.promises import BadInput, assert_refused, check_made, check_maker, gpus, hold, same

_BATCH, _POST, _PRE = 3, 4, 2


def check_rule(rule_class: Callable[[], PlasticityRule]) -> None:
    """Check a plasticity rule against its contract.

    The rule starts from zero traces, changes nothing in place, follows its coefficients and its attribute ``forgets``,
    respects its bound, treats the elements of a batch independently, gives the same on a GPU, if there is one, has
    correct gradients, trains, stores and copies all its parameters, runs under ``torch.func.vmap`` and
    ``torch.compile``, and refuses bad input. A modulated rule is given a signal.

    Args:
        rule_class: The class, or another callable that makes the rule without arguments.

    Raises:
        AssertionError: A promise is broken; the message says which.
        TypeError: ``rule_class`` does not make a ``PlasticityRule``.

    Examples:
        >>> from engram.plasticity import Retroactive
        >>> check_rule(Retroactive)
    """
    check_maker("rule_class", rule_class)
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    rule = check_made("rule_class", rule_class(), PlasticityRule).double()
    state = rule.state_type(*(draw(_BATCH, _POST, _PRE) for _ in rule.state_type._fields))
    pre, post = draw(_BATCH, _PRE), draw(_BATCH, _POST)
    signals = [draw(_BATCH, _POST)] if rule.modulated else []
    checks = [
        _starts_from_zero_traces,
        _changes_nothing,
        _follows_its_coefficients,
        _forgets_as_declared,
        _stays_within_its_bound,
        _treats_batch_elements_independently,
        _is_the_same_on_a_gpu,
        _has_the_right_gradient,
        _compiles,
        _runs_under_vmap,
        _refuses_bad_input,
    ]
    hold(rule_class, checks, rule, state, pre, post, *signals)
    make, run = (lambda: _Update(rule_class().double())), (lambda call: call(*state, pre, post, *signals))
    hold(rule_class, WHOLE, make, _Update(rule), run)


class _Update(nn.Module):
    """One update as a module of tensors: those of the state, pre, post, and the signal if there is one."""

    def __init__(self, rule: PlasticityRule) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, *tensors: Tensor) -> Tensor:
        traces = len(self.rule.state_type._fields)
        return torch.stack(tuple(self.rule.update(self.rule.state_type(*tensors[:traces]), *tensors[traces:])))


def _starts_from_zero_traces(rule: PlasticityRule, state: RuleState, *_: Tensor) -> None:
    """``init`` gives a trace of zeros, (batch, post, pre), in the dtype of the parameters."""
    initial = rule.init(_BATCH, _POST, _PRE)
    assert type(initial) is type(state), f"state is a {type(initial).__name__}: expected {type(state).__name__}"
    for name, trace in initial._asdict().items():
        assert trace.shape == (_BATCH, _POST, _PRE), f"{name} of shape {tuple(trace.shape)}"
        assert trace.dtype == torch.float64, f"{name} of {trace.dtype}"
        assert not trace.any(), f"{name} is not zero"


def _changes_nothing(rule: PlasticityRule, state: RuleState, *tensors: Tensor) -> None:
    """``update`` changes neither its arguments nor the rule: called again, it gives the same."""
    involved = [*state, *tensors, *rule.state_dict().values()]
    before = [t.clone() for t in involved]
    first = rule.update(state, *tensors)
    assert same(before, involved), "an argument or a parameter was changed in place"
    assert same(first, rule.update(state, *tensors)), "the second call differs: hidden state"


def _follows_its_coefficients(rule: PlasticityRule, state: RuleState, *tensors: Tensor) -> None:
    """``update`` gives (1 - decay) * trace + gain * post * pre, or the soft or retroactive form of it."""
    pre, post, *signals = tensors
    if rule.recursion == "own":
        return
    decay, gain, target = (
        coefficient.expand(_BATCH, _POST).unsqueeze(2) for coefficient in rule.coefficients(post, *signals)
    )
    added = gain * target * pre.unsqueeze(1)
    clip = math.inf if rule.clip is None else rule.clip
    after = rule.update(state, *tensors)
    if rule.recursion == "linear":
        assert_close(after.trace, ((1 - decay) * state.trace + added).clamp(-clip, clip))
    elif rule.recursion == "soft":
        assert_close(after.trace, ((1 - decay - added.abs()) * state.trace + added).clamp(-clip, clip))
    else:
        assert rule.recursion == "retroactive", f"recursion = {rule.recursion!r} is unknown"
        assert isinstance(state, EligibilityState), "a retroactive rule has an EligibilityState"
        eligibility = (1 - decay) * state.eligibility + added
        credited = eligibility if getattr(rule, "trace_first", False) else state.eligibility
        assert_close(after, ((state.trace + signals[0].unsqueeze(2) * credited).clamp(-clip, clip), eligibility))


def _forgets_as_declared(rule: PlasticityRule, state: RuleState, *tensors: Tensor) -> None:
    """The attribute ``forgets``, for the kernels, agrees with the coefficients."""
    if "forgets" not in vars(type(rule)) or rule.forgets is None:
        return
    _, post, *signals = tensors
    rate = signals[0] if signals and rule.recursion != "retroactive" else rule.eta
    rate = rate.clamp(0, 1) if rule.forgets == "share" else rate
    forgotten = {"nothing": 0 * rate, "oja": rate * post.square()}.get(rule.forgets, rate)
    decay, gain, target = (coefficient.expand(_BATCH, _POST) for coefficient in rule.coefficients(post, *signals))
    assert_close((decay, gain * target), (forgotten.expand(_BATCH, _POST), rate * post))


def _stays_within_its_bound(rule: PlasticityRule, state: RuleState, *tensors: Tensor) -> None:
    """No trace is ever outside [-clip, clip]."""
    for _ in range(20):
        state = rule.update(state, *tensors)
        assert rule.clip is None or state.trace.abs().max() <= rule.clip, f"a trace of {state.trace.abs().max()}"


def _treats_batch_elements_independently(rule: PlasticityRule, state: RuleState, *tensors: Tensor) -> None:
    """A batch gives the same as its elements alone, also with one signal for all units."""
    pre, post, *signals = tensors
    for signals_used in (signals, [signal[:, :1] for signal in signals]):
        separate = [
            rule.update(
                rule.state_type(*(t[element] for t in state)),
                pre[element],
                post[element],
                *(signal[element] for signal in signals_used),
            )
            for element in (slice(b, b + 1) for b in range(_BATCH))
        ]
        batched = rule.update(state, pre, post, *signals_used)
        assert_close(batched, [torch.cat(outputs) for outputs in zip(*separate, strict=True)])


def _is_the_same_on_a_gpu(rule: PlasticityRule, state: RuleState, *tensors: Tensor) -> None:
    """A GPU gives the same as the CPU, up to rounding."""
    update = _Update(rule)
    for device in gpus():
        after = copy.deepcopy(update).to(device)(*(t.to(device) for t in (*state, *tensors)))
        assert_close(after.cpu(), update(*state, *tensors))


def _as_function(
    rule: PlasticityRule, state: RuleState, tensors: tuple[Tensor, ...]
) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """An update as a function of state, activities, signal and parameters, with a point at which to evaluate it."""
    update, arguments = _Update(rule), [*state, *tensors]
    names = [name for name, _ in update.named_parameters()]

    def run(*values: Tensor) -> Tensor:
        by_name = dict(zip(names, values[len(arguments) :], strict=True))
        after: Tensor = torch.func.functional_call(update, by_name, values[: len(arguments)])
        return after

    return run, [*arguments, *update.parameters()]


def _has_the_right_gradient(rule: PlasticityRule, state: RuleState, *tensors: Tensor) -> None:
    """Gradients with respect to state, activities, signal and parameters agree with finite differences."""
    assert_gradient(*_as_function(rule, state, tensors))


def _runs_under_vmap(rule: PlasticityRule, state: RuleState, *tensors: Tensor) -> None:
    """``torch.func.vmap`` runs several sets of states, activities, signals and parameters at once."""
    assert_vmap(*_as_function(rule, state, tensors))


def _compiles(rule: PlasticityRule, state: RuleState, *tensors: Tensor) -> None:
    """``torch.compile`` takes ``update`` without a graph break, and the result is the same."""
    torch.compiler.reset()  # else the graphs of rules that were checked before count towards a limit
    # The eager backend captures the whole graph, which is the step that may fail, but generates no code.
    compiled = torch.compile(_Update(rule), fullgraph=True, backend="eager")
    with without_type_checks():
        after = compiled(*state, *tensors)
    assert_close(after, torch.stack(tuple(rule.update(state, *tensors))))


def _refuses_bad_input(rule: PlasticityRule, state: RuleState, *tensors: Tensor) -> None:
    """Bad input gets a clear error."""
    pre, post, *signals = tensors
    flat, halved = (rule.state_type(*map(change, state)) for change in (lambda t: t[0], lambda t: t[:, :, :1]))
    other_type, own_name = TraceState if isinstance(state, EligibilityState) else EligibilityState, type(state).__name__
    wrong = other_type(*[state.trace] * len(other_type._fields))
    bad: list[BadInput] = [
        (lambda: rule.init(0, _POST, _PRE), ValueError, "batch_size = 0"),
        (lambda: rule.init(_BATCH, 0, _PRE), ValueError, "post_size = 0"),
        (lambda: rule.init(_BATCH, _POST, -1), ValueError, "pre_size = -1"),
        (lambda: rule.update(flat, pre, post, *signals), ValueError, r"trace.*\(4, 2\)"),
        (lambda: rule.update(halved, pre, post, *signals), ValueError, r"pre.*\(3, 2\).*\(3, 1\)"),
        (lambda: rule.update(cast(Any, state.trace), pre, post, *signals), TypeError, "state"),
        (lambda: rule.update(wrong, pre, post, *signals), TypeError, f"state.*{other_type.__name__}.*{own_name}"),
        (lambda: rule.update(state, post, pre, *signals), ValueError, r"pre.*\(3, 4\).*\(3, 2\)"),
        (lambda: rule.update(state, pre, post[:1], *signals), ValueError, r"post.*\(1, 4\).*\(3, 4\)"),
        (lambda: rule.update(state, pre.float(), post, *signals), ValueError, "pre.*float32.*float64"),
        (lambda: rule.update(state, pre, post.to("meta"), *signals), ValueError, "post.*meta.*cpu"),
        (lambda: rule.update(state, cast(Any, pre.tolist()), post, *signals), TypeError, "pre"),
    ]
    if signals:
        signal = signals[0]
        bad += [
            (lambda: rule.update(state, pre, post), ValueError, "modulator = None"),
            (lambda: rule.update(state, pre, post, signal[0]), ValueError, r"modulator.*\(4,\).*\(3, 1\).*\(3, 4\)"),
            (lambda: rule.update(state, pre, post, signal[:1]), ValueError, r"modulator.*\(1, 4\)"),
            (lambda: rule.update(state, pre, post, signal.float()), ValueError, "modulator.*float32.*float64"),
            (lambda: rule.update(state, pre, post, cast(Any, 1.0)), TypeError, "modulator"),
        ]
    assert_refused(bad)
