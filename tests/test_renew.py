"""Which edits leave the standings that ship as they are."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("renew", Path(__file__).parents[1] / "docs" / "renew.py")
renew = importlib.util.module_from_spec(spec)
spec.loader.exec_module(renew)

SOURCE = '''
"""A module."""
from __future__ import annotations

RATE = 0.5


def trained(found: list[float], *, rest: int = 1) -> float:
    """What is found."""
    def inner(one):
        return one * RATE + rest  # why

    return sum(map(inner, found))
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A module."""', '"""Another module, of which more is said."""'),
        ("  # why", "  # because"),
        ('    """What is found."""\n', ""),
        ("found", "values"),
        ("inner", "scaled"),
        ("return one * RATE + rest", "return (\n            one * RATE + rest\n        )"),
        ("rest", "offset"),
    ],
)
def test_layout_words_and_names_do_not_count(old, new):
    assert renew.is_same_code(SOURCE, SOURCE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.5", "0.25"),
        ("one * RATE + rest", "one * rest + RATE"),
        ("one * RATE", "one + RATE"),
        ("= 1)", "= 2)"),
        ("sum(map(inner, found))", "sum(map(inner, found), 0)"),
        ("(one):", "(rest):"),
        ("return one", "return found"),
        ("import annotations", "import division"),
    ],
)
def test_what_is_computed_counts(old, new):
    assert not renew.is_same_code(SOURCE, SOURCE.replace(old, new, 1))
