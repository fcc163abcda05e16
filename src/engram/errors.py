"""Errors of code that is not ours, in words."""

from __future__ import annotations


def message_of(error: BaseException) -> str:
    """The type and the message of an error; of one that cannot be formatted, only the type."""
    try:
        message = str(error)
    except Exception:
        return f"{type(error).__name__} (its message cannot be formatted)"
    return f"{type(error).__name__}: {message}"
