"""The rows of a map that is written as text."""

from __future__ import annotations

import re


def text_rows(text: str) -> list[str]:
    r"""The lines of a text, each a row of a map, without empty lines before the first and after the last.

    Only line feeds and carriage returns end a line; any other character, also a space, may be a cell.

    Args:
        text: The text.

    Examples:
        >>> text_rows("\nab\n  \ncd\n")
        ['ab', '  ', 'cd']
    """
    lines = re.split(r"\r\n|\n|\r", text)
    filled = [number for number, line in enumerate(lines) if line]
    return lines[filled[0] : filled[-1] + 1] if filled else []
