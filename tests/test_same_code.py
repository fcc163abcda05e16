"""Which edits of a source cannot have changed what it computes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("same_code", Path(__file__).parents[1] / "docs" / "same_code.py")
same_code = importlib.util.module_from_spec(spec)
spec.loader.exec_module(same_code)

SOURCE = '''
"""A module."""
import math
from __future__ import annotations

RATE = 0.5
"""The rate."""
_SLOWER = 0.1


def _other(values):
    return math.sin(values[0]) + _SLOWER


def _another(values):
    return math.sin(values[0]) - _SLOWER


def trained(numbers: list[float], *, rest: int = 1) -> float:
    """The numbers."""
    if not numbers:
        raise ValueError(f"numbers = {numbers}: it lacks numbers")
    if math.isnan(rest):
        raise KeyError("a key")

    def inner(one):
        return one * RATE + rest  # why

    return sum(map(inner, numbers)) + _other(numbers)


fast = claims_from("ours")
claims = [fast("sooner", "It is sooner", rate <= 1.0), Claim("all", "It learns", rate >= 0.0)]
presets = {"laptop": Preset(seeds=5)}
experiment = Experiment(name="sines", answer="Nobody knows.")
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A module."""', '"""Another module, of which more is said."""'),
        ('"""The rate."""', '"""How fast it is."""'),
        ("  # why", "  # because"),
        ("list[float]", "list[float] | tuple[float, ...]"),
        ("seeds=5", "seeds=5, looks=(5, 10)"),
        ("    def inner", "    checks.size('rest', rest, maximum=len(numbers))\n\n    def inner"),
        ('    """The numbers."""\n', ""),
        ("numbers", "values"),
        ("inner", "scaled"),
        ("return one * RATE + rest", "return (\n            one * RATE + rest\n        )"),
        ("rest", "offset"),
        ("_SLOWER", "_SLOW"),
        ("    def inner", "    if len(numbers) > rest:\n        raise ValueError('numbers')\n\n    def inner"),
        ("    def inner", "    if not (numbers > rest).all():\n        raise ValueError('numbers')\n\n    def inner"),
        (
            "    def inner",
            "    if type(numbers) is set and len(numbers):\n        raise ValueError('numbers')\n\n    def inner",
        ),
        ("_other(", "_a_third("),
        ("Nobody knows.", "Somebody knows."),
        ('"It is sooner", rate <= 1.0', '"It is later", rate >= 2.0, published="sooner"'),
        ('claims_from("ours")', 'claims_from("abstract", published="sooner")'),
        ('Claim("all", "It learns"', 'Claim("all", "It always learns"'),
        ('f"numbers = {numbers}: it lacks numbers"', '"numbers: expected at least one number"'),
    ],
)
def test_layout_words_and_names_do_not_count(old, new):
    assert same_code.is_same_code(SOURCE, SOURCE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.5", "0.25"),
        ("one * RATE + rest", "one * rest + RATE"),
        ("one * RATE", "one + RATE"),
        ("= 1)", "= 2)"),
        ("sum(map(inner, numbers))", "sum(map(inner, numbers), 0)"),
        ("sum(map", "max(map"),
        ("math.sin(values[0]) + ", "math.cos(values[0]) + "),
        ("one * RATE", "one * _SLOWER"),
        ("+ _other(numbers)", "+ _another(numbers)"),
        ("import math", "import cmath as math"),
        ("rest: int", "rest: float"),
        ("*, rest: int", "*, other: int"),
        ("(one):", "(rest):"),
        ("return one", "return numbers"),
        ("import annotations", "import division"),
        ('"sines"', '"cosines"'),
        ("seeds=5", "seeds=6"),
        ("    def inner", "    checks.size('rest', numbers.pop())\n\n    def inner"),
        ("    def inner", "    checks.samples(numbers, rest)\n\n    def inner"),
        ("    def inner", "    rest = checks.size('rest', rest)\n\n    def inner"),
        ("fast(", "math.fast("),
        ("answer=", "about="),
        ("if not numbers:", "if numbers:"),
        ('raise ValueError(f"numbers = {numbers}: it lacks numbers")', "return 0"),
        ('ValueError(f"numbers', 'TypeError(f"numbers'),
        ('KeyError("a key")', 'KeyError("another")'),
        ("    def inner", "    if len(numbers) > rest:\n        numbers = numbers[1:]\n\n    def inner"),
        ("    def inner", "    if numbers.pop() > rest:\n        raise ValueError('numbers')\n\n    def inner"),
        ("    def inner", "    if len(numbers) > rest:\n        raise StopIteration\n\n    def inner"),
        ("    def inner", "    if any(n < 0 for n in numbers):\n        raise ValueError('numbers')\n\n    def inner"),
        ("    def inner", "    if max(numbers) < 0:\n        raise ValueError('numbers')\n\n    def inner"),
        ("    def inner", "    if numbers[rest] < 0:\n        raise ValueError('numbers')\n\n    def inner"),
        ("    def inner", "    if rest in numbers:\n        raise ValueError('numbers')\n\n    def inner"),
    ],
)
def test_what_is_computed_counts(old, new):
    assert not same_code.is_same_code(SOURCE, SOURCE.replace(old, new, 1))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("def f(a, b): return a - b", "def f(b, a): return b - a"),
        (
            "def f():\n class Rates:\n  fast, slow = 1, 2\n return Rates.fast",
            "def f():\n class Rates:\n  slow, fast = 1, 2\n return Rates.fast",
        ),
        (
            "def f(base):\n class Rates(base):\n  fast = 1\n return Rates.fast",
            "def f(base):\n class Rates(base):\n  quick = 1\n return Rates.fast",
        ),
    ],
)
def test_names_that_others_use_count(before, after):
    assert not same_code.is_same_code(before, after)


@pytest.mark.parametrize(
    ("handler", "is_same"),
    [
        ("except KeyError:\n        raise ValueError('x')", True),
        ("except KeyError as error:\n        error.add_note('x')\n        raise", True),
        ("except KeyError:\n        raise StopIteration", False),
        ("except KeyError:\n        return 0", False),
        ("except KeyError:\n        raise ValueError('x')\n    finally:\n        x.clear()", False),
    ],
)
def test_a_handler_that_refuses_does_not_count(handler, is_same):
    before = "def f(x):\n    return g(x)\n"
    after = f"def f(x):\n    try:\n        return g(x)\n    {handler}\n"
    assert same_code.is_same_code(before, after) is same_code.is_same_code(after, before) is is_same


@pytest.mark.parametrize(("context", "is_same"), [("checks.noted(x=x)", True), ("checks.noted(x=x) as y", False)])
def test_a_note_on_errors_does_not_count(context, is_same):
    before = "def f(x):\n    return g(x)\n"
    after = f"def f(x):\n    with {context}:\n        return g(x)\n"
    assert same_code.is_same_code(before, after) is same_code.is_same_code(after, before) is is_same
    assert not same_code.is_same_code(before, after.replace("noted", "single_threaded"))


@pytest.mark.parametrize(
    "caught", ["ValueError", "(KeyError, TypeError)", "Exception", "BaseException", "REFUSALS", "builtins.ValueError"]
)
def test_a_check_counts_where_its_error_is_caught(caught):
    before = f"def f(x):\n    try:\n        return g(x)\n    except {caught}:\n        return 0\n"
    added = "def g(x):\n    checks.size('x', x)\n    return x\n"
    assert not same_code.is_same_code(before + "def g(x):\n    return x\n", before + added)
    harmless = before.replace(f"except {caught}", "except (OSError, KeyError)")
    assert same_code.is_same_code(harmless + "def g(x):\n    return x\n", harmless + added)
