"""The contract of a synaptic rule: it owns neither weights nor state, and needs no more than it declares."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from engram.rules import SynapticRule, SynapticUpdate
from engram.testing.module import assert_close
from engram.testing.promises import BadInput, assert_refused, check_made, check_maker, gpus, hold, no_global_draws, same

_BATCH, _POST, _PRE, _STEPS = 3, 4, 5, 6


def check_synaptic_rule(rule_class: Callable[[], SynapticRule[Any]]) -> None:
    """Check a synaptic rule against its contract.

    Its pseudo-gradient has the shape and dtype of the weights, is a mean over the batch, in any order, and is the same
    each time it is called and on a GPU, if there is one, and about the same in float32; nothing is changed in place, no
    global generator is used, and neither pseudo-gradient nor state keeps a graph of activities and weights that have
    one. A rule declared local uses only the synapse's own weight and input; the state of one declared online does not
    grow. It runs under ``torch.func.vmap``, which three-factor rules use, and refuses bad input. If its ``update`` has
    a ``modulator``, it gets one number for each sample, and refuses to run without it.

    Args:
        rule_class: The class, or another callable that makes the rule without arguments.

    Raises:
        AssertionError: A promise is broken; the message says which.
        TypeError: ``rule_class`` does not make a ``SynapticRule``.

    Examples:
        >>> from engram.rules.synaptic import oja
        >>> check_synaptic_rule(oja)
    """
    check_maker("rule_class", rule_class)
    generator = torch.Generator().manual_seed(0)
    rule = check_made("rule_class", rule_class(), SynapticRule)
    # Activities of 0 and 1, which can also be spikes and so suit all rules.
    pre, post = ((torch.rand(_STEPS, _BATCH, size, generator=generator) < 0.5).double() for size in (_PRE, _POST))
    weight = torch.rand(_POST, _PRE, generator=generator, dtype=torch.float64)
    signal = torch.randn(_STEPS, _BATCH, generator=generator, dtype=torch.float64)
    case = _Case(rule, pre, post, weight, signal, "modulator" in inspect.signature(rule.update).parameters)
    checks = [
        _has_the_form_of_the_weights,
        _changes_no_weights_at_the_start,
        _changes_nothing,
        _keeps_no_graph,
        _is_a_mean_over_the_batch,
        _does_not_depend_on_the_order_of_samples,
        _is_about_the_same_in_float32,
        _is_the_same_on_a_gpu,
        _runs_under_vmap,
        *([_is_local] if rule.properties.local else []),
        *([_is_online] if rule.properties.online else []),
        _refuses_bad_input,
    ]
    hold(getattr(rule_class, "__name__", repr(rule)), checks, case)


@dataclass(frozen=True)
class _Case:
    rule: SynapticRule[Any]
    pre: Tensor
    post: Tensor
    weight: Tensor
    signal: Tensor
    modulated: bool

    def update(self, pre: Tensor, post: Tensor, weight: Tensor, state: Any, signal: Tensor) -> SynapticUpdate:
        more = {"modulator": signal} if self.modulated else {}
        return self.rule.update(pre, post, weight, state, **more)

    @property
    def last(self) -> tuple[Tensor, Tensor, Tensor]:
        """Activities and weight at the last step, for the state of ``after``."""
        return self.pre[-1], self.post[-1], self.weight

    @property
    def last_grad(self) -> Tensor:
        """The pseudo-gradient of the last step."""
        return self.update(*self.last, self.after(_STEPS - 1), self.signal[-1]).grad

    def after(self, steps: int, rows: slice = slice(None)) -> Any:
        """The state after the first steps of some samples."""
        state = self.rule.init(self.weight)
        for pre, post, signal in zip(self.pre[:steps], self.post[:steps], self.signal, strict=False):
            state = self.update(pre[rows], post[rows], self.weight, state, signal[rows]).state
        return state


def _leaves(state: Any) -> list[Tensor]:
    """The tensors of a state."""
    if state is None:
        return []
    if isinstance(state, Tensor):
        return [state]
    fields = state.values() if isinstance(state, dict) else state
    return [leaf for part in fields for leaf in _leaves(part)]


def _has_the_form_of_the_weights(case: _Case) -> None:
    """The pseudo-gradient has the shape and dtype of the weights and is finite; the state consists of tensors."""
    grad, state = case.update(*case.last, case.after(_STEPS - 1), case.signal[-1])
    assert grad.shape == case.weight.shape, f"a pseudo-gradient of shape {tuple(grad.shape)}"
    assert grad.dtype == case.weight.dtype, f"a pseudo-gradient of {grad.dtype}"
    assert grad.isfinite().all(), "a pseudo-gradient that is not finite"
    assert grad.any(), "no change at all"
    _leaves(state)


def _changes_no_weights_at_the_start(case: _Case) -> None:
    """``init`` does not change the weights, and draws nothing."""
    weight = 3 * case.weight - 1  # as weights that an earlier call has clamped or normalised might stay as they are
    before = weight.clone()
    with no_global_draws():
        case.rule.init(weight)
    assert torch.equal(weight, before), "they were changed in place"


def _changes_nothing(case: _Case) -> None:
    """An update changes neither its arguments nor the rule, and draws nothing: a second call gives the same."""
    state = case.after(_STEPS - 1)
    involved = [*case.last, *_leaves(state)]
    before = [tensor.clone() for tensor in involved]
    with no_global_draws():
        first = case.update(*case.last, state, case.signal[-1])
        second = case.update(*case.last, state, case.signal[-1])
    assert same(before, involved), "an argument was changed in place"
    assert same([first.grad, *_leaves(first.state)], [second.grad, *_leaves(second.state)]), "the second call differs"


def _keeps_no_graph(case: _Case) -> None:
    """Pseudo-gradient and state have no graph, also if activities and weights have one."""
    live = replace(case, **{name: getattr(case, name).clone().requires_grad_() for name in ("pre", "post", "weight")})
    grad, state = live.update(*live.last, live.after(_STEPS - 1), live.signal[-1])
    kept = [tensor for tensor in (grad, *_leaves(state)) if tensor.requires_grad]
    assert not kept, f"a graph is kept by {len(kept)} of the tensors that it returns"


def _is_a_mean_over_the_batch(case: _Case) -> None:
    """A batch gives the mean over its samples alone, also if each has its own traces."""
    first = slice(0, 1)
    alike = replace(
        case,
        pre=case.pre[:, first].expand(-1, _BATCH, -1),
        post=case.post[:, first].expand(-1, _BATCH, -1),
        signal=case.signal[:, first].expand(-1, _BATCH),
    )
    # All samples have the same past, so means over them do not depend on their number.
    state, single_state = alike.after(_STEPS - 1), case.after(_STEPS - 1, first)
    pre, post, weight = case.last
    rows = [slice(row, row + 1) for row in range(_BATCH)]
    grads = [case.update(pre[row], post[row], weight, single_state, case.signal[-1][row]).grad for row in rows]
    assert_close(case.update(*case.last, state, case.signal[-1]).grad, torch.stack(grads).mean(0))


def _does_not_depend_on_the_order_of_samples(case: _Case) -> None:
    """The order of the samples does not matter, as long as it stays the same."""
    turned = replace(case, **{name: getattr(case, name).flip(1) for name in ("pre", "post", "signal")})
    assert_close(turned.last_grad, case.last_grad)


def _is_about_the_same_in_float32(case: _Case) -> None:
    """In float32 it gives the same as in float64, to four digits."""
    low = replace(case, **{name: getattr(case, name).float() for name in ("pre", "post", "weight", "signal")})
    grad = low.last_grad
    assert grad.dtype == torch.float32, f"float32 input gives {grad.dtype}"
    torch.testing.assert_close(grad.double(), case.last_grad, rtol=1e-4, atol=1e-4)


def _is_the_same_on_a_gpu(case: _Case) -> None:
    """A GPU gives the same as the CPU, up to rounding."""
    for device in gpus():
        there = replace(case, **{name: getattr(case, name).to(device) for name in ("pre", "post", "weight", "signal")})
        assert_close(there.last_grad.cpu(), case.last_grad)


def _runs_under_vmap(case: _Case) -> None:
    """``torch.func.vmap`` runs several layers at once."""
    pre, post, weight = case.last
    layers = [(part, 0.5 * part) for part in (pre, post, weight)]

    def grad(pre: Tensor, post: Tensor, weight: Tensor) -> Tensor:
        return case.update(pre, post, weight, case.rule.init(weight), case.signal[-1]).grad

    separate = [grad(*arguments) for arguments in zip(*layers, strict=True)]
    assert_close(torch.func.vmap(grad)(*map(torch.stack, layers)), torch.stack(separate))


def _is_local(case: _Case) -> None:
    """A rule declared local changes a weight independently of other weights and other inputs."""
    state = case.after(_STEPS - 1)
    pre, post, weight = case.last
    grad = case.update(pre, post, weight, state, case.signal[-1]).grad
    for j in range(_POST):
        for i in range(_PRE):
            elsewhere, other_inputs = 1 - weight, 1 - pre
            elsewhere[j, i], other_inputs[:, i] = weight[j, i], pre[:, i]
            for inputs, weights, kind in ((pre, elsewhere, "weights"), (other_inputs, weight, "inputs")):
                value = case.update(inputs, post, weights, state, case.signal[-1]).grad[j, i]
                assert torch.isclose(value, grad[j, i], rtol=1e-10), f"other {kind} changed grad[{j}, {i}]"


def _is_online(case: _Case) -> None:
    """The state of a rule declared online is as large after many steps as after a few."""
    after_few, after_many = (sum(leaf.numel() for leaf in _leaves(case.after(steps))) for steps in (2, _STEPS))
    assert after_few == after_many, f"{after_few} numbers after 2 steps, {after_many} after {_STEPS}"


def _refuses_bad_input(case: _Case) -> None:
    """Bad input gets a clear error."""
    pre, post, weight = case.last
    signal, state = case.signal[-1], case.rule.init(weight)

    def call(pre: Any, post: Any, weight: Any = weight) -> Callable[[], object]:
        return lambda: case.update(pre, post, weight, state, signal)

    bad: list[BadInput] = [
        (call(pre[:0], post[:0]), ValueError, r"pre.*\(0, 5\)"),
        (call(pre[:, :2], post), ValueError, r"pre.*\(3, 2\).*5"),
        (call(pre, post[:, :2]), ValueError, r"post.*\(3, 2\).*4"),
        (call(pre, post[:1]), ValueError, r"post.*\(1, 4\).*3"),
        (call(pre[0], post[0]), ValueError, r"pre.*\(5,\)"),
        (call(pre, post, weight[0]), ValueError, r"weight.*\(5,\)"),
        (call(pre.float(), post), ValueError, "pre.*float32.*float64"),
        (call(pre, post.to("meta")), ValueError, "post.*meta.*cpu"),
        (call(pre.tolist(), post), TypeError, "pre"),
    ]
    if case.modulated:
        bare = cast(Any, case.rule.update)
        bad += [
            (lambda: bare(pre, post, weight, state), ValueError, "modulator = None"),
            (lambda: bare(pre, post, weight, state, modulator=signal[:1]), ValueError, r"modulator.*\(1,\).*3"),
            (lambda: bare(pre, post, weight, state, modulator=1.0), TypeError, "modulator"),
        ]
    assert_refused(bad)
