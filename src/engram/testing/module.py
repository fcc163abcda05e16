"""The contract of a recurrent module: called like ``nn.RNN``, state in and state out, parameters trained and stored."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jaxtyping
import safetensors.torch
import torch
from torch import Tensor, nn

from engram.testing.promises import (
    BadInput,
    assert_refused,
    assert_seeded,
    check_made,
    check_maker,
    gpus,
    hold,
    same,
    tensors,
)

Run = Callable[[Callable[..., Any]], Tensor]

_TIME, _BATCH, _INPUTS, _OUTPUTS = 5, 2, 3, 4


@torch.random.fork_rng(devices=())
def check_module(module_class: Callable[..., nn.Module], exempt: Mapping[str, str] | None = None) -> None:
    """Check a recurrent module against the contract of engram's modules.

    It is made by ``module_class(input_size, output_size)`` and called by ``output, state = module(input, state=None)``
    with ``input`` (time, batch, features) and a NamedTuple ``state`` that has ``detach()``. It stores no state itself,
    treats the elements of a batch independently, continues from a state, accepts a sequence without steps, has correct
    gradients, trains, stores and copies all its parameters, gives the same on a GPU, if there is one, runs under
    ``torch.func.vmap``, and refuses bad input. If its signature has ``batch_first`` or ``generator``, they have their
    usual meaning.

    Args:
        module_class: The class, or another callable that makes the module.
        exempt: Promises that it cannot keep, each with the reason: ``"vmap"``, or ``"gradient"`` for modules with
            surrogate gradients.

    Raises:
        TypeError: ``module_class`` does not make a ``torch.nn.Module``.
        ValueError: An exemption is unknown or gives no reason.

    Examples:
        >>> from engram.plasticity import PlasticLinear
        >>> check_module(PlasticLinear)
    """
    check_maker("module_class", module_class)
    exempt = exempt or {}
    if not set(exempt) <= {"vmap", "gradient"} or not all(exempt.values()):
        raise ValueError(f"exempt = {dict(exempt)!r}: expected at most {{'vmap': reason, 'gradient': reason}}")
    generator = torch.Generator().manual_seed(0)
    sequence = torch.randn(_TIME, _BATCH, _INPUTS, generator=generator, dtype=torch.float64)
    torch.manual_seed(0)  # the same weights each time, even if the module draws them from the global generator
    module = check_made("module_class", module_class(_INPUTS, _OUTPUTS), nn.Module).double()
    with torch.no_grad():
        for parameter in module.parameters():  # tiny initial values would hide a wrong gradient
            parameter.add_(torch.rand(parameter.shape, generator=generator).to(parameter), alpha=0.3)
    case = _Case(module_class, module, sequence)
    parameter_names = set(inspect.signature(module_class).parameters)
    checks = [
        *([_draws_from_its_generator] if "generator" in parameter_names else []),
        _has_the_shapes,
        _changes_nothing,
        _accepts_an_empty_sequence,
        _treats_batch_elements_independently,
        _continues_from_a_state,
        _is_the_same_on_a_gpu,
        *([_swaps_time_and_batch] if "batch_first" in parameter_names else []),
        *([] if "gradient" in exempt else [_has_the_right_gradient]),
        _refuses_bad_input,
    ]
    hold(module_class, checks, case)
    checks_of_whole = [*WHOLE, *([] if "vmap" in exempt else [_runs_under_vmap])]
    make, run = (lambda: module_class(_INPUTS, _OUTPUTS).double()), (lambda call: call(sequence)[0])
    hold(module_class, checks_of_whole, make, module, run)


@dataclass(frozen=True)
class _Case:
    make: Callable[..., nn.Module]
    module: nn.Module
    sequence: Tensor


def _draws_from_its_generator(case: _Case) -> None:
    """The generator alone determines the initial values."""
    assert_seeded(lambda generator: case.make(_INPUTS, _OUTPUTS, generator=generator).parameters())


def _has_the_shapes(case: _Case) -> None:
    """Output is (time, batch, output_size) in the dtype of the input; the state is a NamedTuple with ``detach``."""
    output, state = case.module(case.sequence)
    assert output.shape == (_TIME, _BATCH, _OUTPUTS), f"output of shape {tuple(output.shape)}"
    assert output.dtype == case.sequence.dtype, f"output of {output.dtype}"
    assert hasattr(state, "_fields"), f"state is a {type(state).__name__}"
    assert not any(t.requires_grad for t in tensors(state.detach())), "the detached state requires a gradient"
    assert same(tensors(state.detach()), tensors(state)), "the detached state is another one"


def _accepts_an_empty_sequence(case: _Case) -> None:
    """A sequence without steps gives an output without steps, and the initial state."""
    output, initial = case.module(case.sequence[:0])
    assert output.shape == (0, _BATCH, _OUTPUTS), f"output of shape {tuple(output.shape)}"
    assert_close(case.module(case.sequence, initial), case.module(case.sequence))


def _changes_nothing(case: _Case) -> None:
    """A call changes neither its arguments nor the module: called again, it gives the same."""
    _, state = case.module(case.sequence)
    involved = [case.sequence, *tensors(state), *case.module.state_dict().values()]
    before = [t.clone() for t in involved]
    for arguments in ((case.sequence,), (case.sequence, state)):
        first, second = case.module(*arguments), case.module(*arguments)
        assert same(before, involved), "an argument or a parameter was changed in place"
        assert same(tensors(first), tensors(second)), "the second call differs: hidden state"


def _treats_batch_elements_independently(case: _Case) -> None:
    """A batch gives the same as its elements alone."""
    by_element = [case.module(case.sequence[:, element : element + 1])[0] for element in range(_BATCH)]
    assert_close(case.module(case.sequence)[0], torch.cat(by_element, dim=1))


def _continues_from_a_state(case: _Case) -> None:
    """A sequence in two parts, with the state passed on, gives the same as the whole."""
    output, last = case.module(case.sequence)
    head, state = case.module(case.sequence[:2])
    tail, same_last = case.module(case.sequence[2:], state)
    assert_close((torch.cat((head, tail)), same_last), (output, last))


def _is_the_same_on_a_gpu(case: _Case) -> None:
    """A GPU gives the same outputs and gradients as the CPU, up to rounding."""

    def results(device: str) -> list[Tensor]:
        module = copy.deepcopy(case.module).to(device)
        output, state = module(case.sequence.to(device))
        trained = [p for p in module.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(output.square().sum(), trained, allow_unused=True) if trained else ()
        return [t.cpu() for t in (output, *tensors(state), *(g for g in gradients if g is not None))]

    for device in gpus():
        assert_close(results(device), results("cpu"))


def _swaps_time_and_batch(case: _Case) -> None:
    """``batch_first`` swaps time and batch in input and output, and nothing else."""
    turned = case.make(_INPUTS, _OUTPUTS, batch_first=True).double()
    turned.load_state_dict(case.module.state_dict())
    output, state = turned(case.sequence.transpose(0, 1))
    assert_close((output.transpose(0, 1), state), case.module(case.sequence))


def _has_the_right_gradient(case: _Case) -> None:
    """Gradients with respect to input, state and parameters agree with finite differences."""
    _, state = case.module(case.sequence)
    names = [name for name, parameter in case.module.named_parameters() if parameter.requires_grad]
    parameters = [case.module.get_parameter(name) for name in names]
    n_state_tensors = len(tensors(state))

    def run(sequence: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        by_name = dict(zip(names, values[n_state_tensors:], strict=True))
        start = rebuilt(state, values[:n_state_tensors])
        return tuple(tensors(torch.func.functional_call(case.module, by_name, (sequence, start))))

    assert_gradient(run, [case.sequence[:3], *tensors(state), *parameters])


def _refuses_bad_input(case: _Case) -> None:
    """Bad input gets a clear error."""
    make, module, sequence = case.make, case.module, case.sequence
    _, state = module(sequence)
    nan = sequence.clone()
    nan[1, 0, 2] = math.nan
    bad: list[BadInput] = [
        (lambda: make(0, _OUTPUTS), ValueError, "0"),
        (lambda: make(_INPUTS, 0), ValueError, "0"),
        (lambda: module(sequence.tolist()), TypeError, "input"),
        (lambda: module(sequence[0, 0]), ValueError, r"input.*\(3,\)"),
        (lambda: module(sequence[..., :2]), ValueError, r"input.*\(5, 2, 2\).*3"),
        (lambda: module(sequence[:, :0]), ValueError, r"input.*\(5, 0, 3\)"),
        (lambda: module(sequence.float()), ValueError, r"input.*float32.*float64"),
        (lambda: module(sequence.to("meta")), ValueError, r"input.*meta.*cpu"),
        (lambda: module(nan), ValueError, r"input.*time=1, batch=0, feature=2.*nan"),
        (lambda: module(sequence, sequence), TypeError, "state"),
        (lambda: module(sequence[:, :1], state), ValueError, r"state.*1"),
        (lambda: module(sequence, rebuilt(state, [t.float() for t in tensors(state)])), ValueError, "state.*float32"),
        (lambda: module(sequence, rebuilt(state, [t.to("meta") for t in tensors(state)])), ValueError, "state.*meta"),
    ]
    assert_refused(bad)


def _trains_every_parameter(make: Callable[[], nn.Module], module: nn.Module, run: Run) -> None:
    """Every parameter that requires a gradient gets one."""
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not trained:
        return
    gradients = torch.autograd.grad(run(module).square().sum(), list(trained.values()), allow_unused=True)
    without = [name for name, g in zip(trained, gradients, strict=True) if g is None or not g.any()]
    assert not without, f"no gradient reaches {', '.join(without)}"


def _is_copied_completely(make: Callable[[], nn.Module], module: nn.Module, run: Run) -> None:
    """A deep copy gives the same output, and shares nothing with the original."""
    before, twin = run(module), copy.deepcopy(module)
    assert torch.equal(run(twin), before), "the copy gives something else"
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(0.5)
    assert torch.equal(run(module), before), "a change of the copy changed the original"


def _is_stored_completely(make: Callable[[], nn.Module], module: nn.Module, run: Run) -> None:
    """The ``state_dict`` is complete: loaded into a new module, it gives the same output."""
    stored = safetensors.torch.save({name: t.contiguous() for name, t in module.state_dict().items()})
    restored = make()
    restored.load_state_dict(safetensors.torch.load(stored))
    assert torch.equal(run(restored), run(module)), "something is stored elsewhere"


def _runs_under_vmap(make: Callable[[], nn.Module], module: nn.Module, run: Run) -> None:
    """``torch.func.vmap`` runs several sets of parameters at once."""
    names = [name for name, _ in module.named_parameters()]

    def call(*values: Tensor) -> Tensor:
        by_name = dict(zip(names, values, strict=True))
        return run(lambda *arguments: torch.func.functional_call(module, by_name, arguments))

    assert_vmap(call, list(module.parameters()))


WHOLE = (_trains_every_parameter, _is_copied_completely, _is_stored_completely)
"""Checks that a module keeps everything in its parameters, called with its factory, the module, and a call of it."""


@contextmanager
def without_type_checks() -> Iterator[None]:
    """Suspend run-time checks of shapes within the block: ``torch.compile`` cannot trace them."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


def assert_gradient(function: Callable[..., Any], points: Sequence[Tensor]) -> None:
    """Compare the gradient of a function with finite differences, in float64."""
    assert torch.autograd.gradcheck(function, tuple(p.detach().double().requires_grad_() for p in points))


def assert_vmap(function: Callable[..., Tensor], points: Sequence[Tensor]) -> None:
    """Compare a function under ``torch.func.vmap``, at the points and at half of them, with its separate values."""
    stacked = [torch.stack((p.detach(), 0.5 * p.detach())) for p in points]
    one_by_one = [function(*(p[i] for p in stacked)) for i in range(2)]
    assert_close(torch.func.vmap(function)(*stacked), torch.stack(one_by_one))


def assert_close(actual: Any, expected: Any) -> None:
    """Compare the tensors of two nested tuples, to ten digits."""
    torch.testing.assert_close(tensors(actual), tensors(expected), rtol=1e-10, atol=1e-10)


def rebuilt(nest: Any, replacements: Iterable[Tensor]) -> Any:
    """Replace the tensors of a nested tuple."""
    remaining = iter(replacements)

    def build(part: Any) -> Any:
        return next(remaining) if isinstance(part, Tensor) else type(part)(*map(build, part))

    return build(nest)
