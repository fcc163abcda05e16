"""Where the progress of a run is shown; the run goes on if nobody can read it any more."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import IO, Any, cast

from rich.console import Console


class _Heedless:
    """A stream that may be closed, or whose reader may be gone, as after the end of a connection."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def progress_console(*, shown: bool = True) -> Console:
    """The standard error stream, if there is one, without its errors.

    Args:
        shown: Whether anything is shown.
    """
    if sys.stderr is None:  # a service may have none
        return Console(stderr=True, quiet=True)
    return Console(file=cast(IO[str], _Heedless(sys.stderr)), quiet=not shown)
