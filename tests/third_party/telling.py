"""Calls a function in a process of its own, and leaves what it was doing if it does not end."""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS = 60  # after which a process of a test is stuck


def call(errors: Path, function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """Call a function, with its errors in a file, and there, too, the lines that it is at after a minute."""
    with errors.open("w") as file:
        os.dup2(file.fileno(), 2)
        faulthandler.dump_traceback_later(SECONDS, file=file)
        function(*arguments, **options)
