"""The runner of the checks of a contract, one for each promise, and helpers that the contracts share."""

from __future__ import annotations

import copy
import inspect
import re
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from engram.checks import shown
from engram.storage import checkpoint

T = TypeVar("T")
BadInput = tuple[Callable[[], object], type[Exception], str]

_UNLIKELY = 0x1E9C0DE5  # a seed that no part is likely to choose


def check_maker(name: str, maker: Any) -> None:
    """Raise TypeError if a part was given instead of its class or of a function that makes it.

    Args:
        name: The argument's name, for the error.
        maker: The argument.
    """
    if not callable(maker) or isinstance(maker, nn.Module):
        raise TypeError(f"{name} = {shown(maker)}: expected a class, or a function that makes the part")


def check_made(name: str, part: T, kind: type) -> T:
    """``part``, what a maker has made; raise TypeError unless it is a ``kind``.

    Args:
        name: The name of the maker, for the error.
        part: The part that it has made.
        kind: The class on which the contract builds.
    """
    if not isinstance(part, kind):
        raise TypeError(f"{name} makes a {type(part).__name__}: expected a subclass of {kind.__name__}")
    return part


def hold(part: Any, checks: Sequence[Callable[..., None]], *arguments: Any) -> None:
    """Run the checks of a contract; the first line of a check's docstring is the promise it tests.

    Args:
        part: The part, or its name, for the message.
        checks: Functions that raise if their promise is broken.
        *arguments: The arguments of each check.

    Raises:
        AssertionError: A check raised; the message names the part, the promise and the finding.

    Examples:
        >>> def positive(number):
        ...     '''It is positive.'''
        ...     assert number > 0, f"found {number}"
        >>> hold("minus one", [positive], -1)
        Traceback (most recent call last):
        AssertionError: minus one breaks a promise: It is positive. Found: found -1
    """
    name = part if isinstance(part, str) else getattr(part, "__name__", repr(part))
    for check in checks:
        try:
            check(*arguments)
        except Exception as error:
            promise = (inspect.getdoc(check) or check.__name__).splitlines()[0].replace("`", "")
            finding = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
            finding = ", ".join([finding, *getattr(error, "__notes__", ())])
            raise AssertionError(f"{name} breaks a promise: {promise} Found: {finding}") from error


def gpus() -> list[str]:
    """The devices on which parts must compute about the same as on the CPU."""
    return ["cuda"] if torch.cuda.is_available() else []  # not at import: after this call no process can be forked


@contextmanager
def no_global_draws() -> Iterator[None]:
    """Raise AssertionError if the block draws from or seeds a global generator of numpy or torch.

    The ``random`` module is not watched, since run-time type checkers draw from it.
    """
    saved = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 - the legacy state is what is watched
    np.random.seed(_UNLIKELY)  # noqa: NPY002 - else seeding with a constant, as before, would go unseen
    torch.manual_seed(_UNLIKELY)
    watched = _global_states()
    try:
        yield
        for name, state in _global_states().items():
            assert state == watched[name], f"it used the global generator of {name}"
    finally:
        np.random.set_state(saved[0])  # noqa: NPY002
        torch.set_rng_state(saved[1])


def _global_states() -> dict[str, bytes]:
    _, keys, position, *_ = np.random.get_state()  # noqa: NPY002
    numpy_state = np.asarray(keys).tobytes() + str(position).encode()
    return {"numpy": numpy_state, "torch": torch.get_rng_state().numpy().tobytes()}


def assert_seeded(make: Callable[[torch.Generator], Iterable[Tensor]]) -> None:
    """Check that the result of a function is determined by its generator alone."""
    with no_global_draws():
        first = list(make(torch.Generator().manual_seed(0)))
    torch.rand(1)
    assert same(first, make(torch.Generator().manual_seed(0))), "the same generator gave two different results"
    assert not same(first, make(torch.Generator().manual_seed(1))), "two generators gave the same result"


def assert_refused(bad: Iterable[BadInput]) -> None:
    """Check that each call raises an error of the expected type, with a message that matches a pattern."""
    for call, expected, pattern in bad:
        expectation = f"expected {expected.__name__} matching {pattern!r}"
        try:
            call()
        except Exception as error:
            if not isinstance(error, expected) or not re.search(pattern, str(error), re.DOTALL):
                raise AssertionError(f"{expectation}, got {type(error).__name__}: {error}") from error
        else:
            raise AssertionError(f"{expectation}, nothing was raised")


def stored(state: Any) -> Any:
    """A ``state_dict`` as restored from a checkpoint, without pickle."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(Path(folder, "state"), state)
        return checkpoint.load(Path(folder, "state"))


def in_threads(call: Callable[[], Any]) -> list[Any]:
    """The return values of a function in several threads that start at once."""
    count = 8
    start = threading.Barrier(count)

    def run_when_all_started(_: int) -> Any:
        start.wait()
        return call()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run_when_all_started, range(count)))


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Set torch's default floating-point type within the block."""
    previous_dtype = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(previous_dtype)


def assert_states_are_refused(part: Any, other: Any, *, empty: bool = False) -> None:
    """Check that ``load_state_dict`` takes only a state of its own form, changes nothing otherwise, and copies it.

    Args:
        part: An object with a ``state_dict``, after some training.
        other: The state of an object of the same class with other sizes, or something that is not a state.
        empty: Whether an empty state is valid, as for an estimator before fitting.
    """
    before = copy.deepcopy(dict(part.state_dict()))
    first = next(iter(before))
    for wrong, defect in (
        (before | {"partial_fit": 3}, "partial_fit"),
        ({name: value for name, value in before.items() if name != first}, first),
        (other, "state"),
        *([] if empty else [({}, first)]),
    ):
        try:
            part.load_state_dict(wrong)
        except (TypeError, ValueError) as error:
            refusal = str(error)
        else:
            raise AssertionError(f"a state that should be refused for {defect} was loaded")
        assert defect in refusal, f"the message {refusal!r} does not name {defect}"
        assert alike(before, part.state_dict()), f"a state that was refused for {defect} changed something"
    loaded = copy.deepcopy(before)
    part.load_state_dict(loaded)
    for leaf in tree_leaves(loaded):
        if isinstance(leaf, Tensor):
            leaf.fill_(1)
        elif isinstance(leaf, np.ndarray) and leaf.dtype != object:
            leaf[...] = 1
    assert alike(before, part.state_dict()), "what was loaded is shared with the state that was given"


def alike(left: Any, right: Any) -> bool:
    """Whether two states are equal, bit by bit, NaN included."""
    if isinstance(left, Mapping):
        return left.keys() == right.keys() and all(alike(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(alike, left, right))
    if isinstance(left, Tensor | np.ndarray):
        return np.array_equal(np.asarray(left), np.asarray(right), equal_nan=np.asarray(left).dtype.kind in "fc")
    return repr(left) == repr(right)


@torch.no_grad()
def copy_into(params: Iterable[Tensor], values: Iterable[Tensor]) -> None:
    """Copy values into parameters, as when resuming."""
    for param, value in zip(params, values, strict=True):
        param.copy_(value)


def same(left: Iterable[Tensor], right: Iterable[Tensor]) -> bool:
    """Whether the tensors are equal, bit by bit."""
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def tensors(nest: Any) -> list[Tensor]:
    """The tensors of a nested tuple, in order."""
    return [nest] if isinstance(nest, Tensor) else [tensor for part in nest for tensor in tensors(part)]
