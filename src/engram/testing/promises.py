"""How a contract is held: its checks, each one promise, run in turn; and the promise that every part makes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_UNLIKELY = 0x1E9C0DE5  # a seed that no part chooses for itself


def hold(part: str, checks: Sequence[Callable[..., None]], *arguments: Any) -> None:
    """Run the checks of a contract; the first line of a check's docstring is the promise that it holds.

    Args:
        part: The name of the part, for the message.
        checks: Functions that return if the promise is kept and raise if it is broken.
        *arguments: What each of them is called with.

    Raises:
        AssertionError: A check raised; the message names the part, the promise and what was found.

    Examples:
        >>> def positive(number):
        ...     '''It is positive.'''
        ...     assert number > 0, f"found {number}"
        >>> hold("three", [positive], 3)
        >>> hold("minus one", [positive], -1)
        Traceback (most recent call last):
        AssertionError: minus one breaks a promise: It is positive. Found: found -1
    """
    for check in checks:
        try:
            check(*arguments)
        except Exception as error:
            promise = (inspect.getdoc(check) or check.__name__).splitlines()[0]
            found = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
            raise AssertionError(f"{part} breaks a promise: {promise} Found: {found}") from error


@contextmanager
def no_global_draws() -> Iterator[None]:
    """Watch the global generators of numpy and torch while the block runs.

    That of the ``random`` module is not watched, since type checkers that work at run time draw from it.

    Raises:
        AssertionError: One of them was drawn from or seeded; the message says which.

    Examples:
        >>> with no_global_draws():
        ...     _ = np.random.default_rng(0).normal()
    """
    kept = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 - the legacy state is what is watched
    np.random.seed(_UNLIKELY)  # noqa: NPY002 - else seeding with a constant, as before, would go unseen
    torch.manual_seed(_UNLIKELY)
    before = _global_states()
    try:
        yield
        for name, state in _global_states().items():
            assert state == before[name], f"it used the global generator of {name}"
    finally:
        np.random.set_state(kept[0])  # noqa: NPY002
        torch.set_rng_state(kept[1])


def _global_states() -> dict[str, bytes]:
    _, keys, position, *_ = np.random.get_state()  # noqa: NPY002
    return {
        "numpy": np.asarray(keys).tobytes() + str(position).encode(),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }
