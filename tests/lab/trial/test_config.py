from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest

from engram.lab import setting, settings
from engram.lab.trial import config as configs
from engram.lab.trial.experiment import _with_changes


@settings
class Config:
    size: int = setting(4, "units", ge=1)
    rate: float = setting(0.1, "of learning", gt=0, le=1)
    rule: Literal["hebb", "oja"] = setting("hebb", "how synapses change")
    limit: int | None = setting(None, "the most that there may be", ge=0)
    flag: bool = setting(False, "whether it is on")

    def __post_init__(self) -> None:
        if self.size == 13:
            raise ValueError("size = 13: expected no unlucky number")


@settings
class Ring:
    neurons: int = setting(50, "neurons", ge=10)
    coupling: float = setting(1.0, "strength", gt=0)

    def __post_init__(self) -> None:
        if self.neurons % 2:
            raise ValueError(f"neurons = {self.neurons}: expected an even number")


@dataclass(frozen=True)
class Plain:
    """A dataclass of somebody else's.

    Attributes:
        eps: What divisors get.
    """

    eps: float = 1e-8


@settings
class Studies:
    models: int = setting(3, "how many", ge=1)
    ring: Ring = setting(Ring(), "a ring")
    wide: Ring = setting(Ring(neurons=100), "another ring")
    plain: Plain = setting(Plain(), "a dataclass")


def test_a_setting_says_its_kind_range_and_meaning():
    described = configs.fields(Studies)
    assert list(described) == [
        "models",
        *(f"{r}.{n}" for r in ("ring", "wide") for n in ("neurons", "coupling")),
        "plain.eps",
    ]
    assert described["ring.neurons"] == (int, (">= 10",), "neurons")
    assert described["plain.eps"].meaning == "What divisors get."
    assert configs.fields(Config)["rate"].allowed == "float > 0 and <= 1"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 0}, "size = 0: expected int >= 1"),
        ({"size": 2.5}, "size = 2.5: expected int >= 1"),
        ({"size": "3"}, "size = '3': expected int >= 1"),
        ({"size": True}, "size = True: expected int >= 1"),
        ({"rate": 0.0}, "rate = 0.0: expected float > 0 and <= 1"),
        ({"rate": 1.5}, "rate = 1.5: expected float > 0 and <= 1"),
        ({"rate": float("nan")}, "rate = nan: expected float > 0 and <= 1"),
        ({"rule": "hebbb"}, "rule = 'hebbb': expected 'hebb' or 'oja'"),
        ({"flag": 1}, "flag = 1: expected bool"),
        ({"size": 13}, "size = 13: expected no unlucky number"),
        ({"sizes": 3}, "unknown field 'sizes'; did you mean 'size'?"),
        ({"quux": 3}, "unknown field 'quux'; known: size, rate"),
    ],
)
def test_errors_name_field_value_and_what_is_allowed(changes, message):
    with pytest.raises(ValueError) as caught:
        configs.from_dict(Config, changes)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ring": {"neurons": 0}}, "ring.neurons = 0: expected int >= 10"),
        ({"ring.neurons": 0}, "ring.neurons = 0: expected int >= 10"),
        ({"wide": {"coupling": float("nan")}}, "wide.coupling = nan: expected float > 0"),
        ({"ring": {"neurons": 51}}, "ring.neurons = 51: expected an even number"),
        ({"ring": {"neuron": 50}}, "unknown field 'ring.neuron'; did you mean 'ring.neurons'?"),
        ({"neurons": 50}, "unknown field 'neurons'; did you mean 'ring.neurons'?"),
        ({"model": 50}, "unknown field 'model'; did you mean 'models'?"),
        ({"ring": 50}, "unknown field 'ring'; known: models, ring.neurons"),
        ({"rings": {"neurons": 50}}, "unknown field 'rings'; known: models, ring.neurons"),
        (
            {"quux": 50},
            "unknown field 'quux'; known: models, ring.neurons, ring.coupling, wide.neurons, wide.coupling, plain.eps",
        ),
    ],
)
def test_errors_name_the_field_of_a_study_with_a_dot(changes, message):
    with pytest.raises(ValueError) as caught:
        configs.from_dict(Studies, changes)
    assert str(caught.value).startswith(message)


def test_values_come_back_from_json_nested_or_dotted():
    changed = configs.from_dict(Studies, {"wide": {"coupling": 2.0}, "ring.neurons": 20, "models": 4})
    assert changed == Studies(4, Ring(neurons=20), Ring(neurons=50, coupling=2.0))
    assert configs.from_dict(Studies, configs.to_dict(changed)) == changed
    assert configs.from_dict(Studies, configs.leaves(changed)) == changed
    assert configs.leaves(changed)["wide.coupling"] == 2.0
    assert configs.from_dict(Config, {"size": 7, "rate": 1, "limit": 2}) == Config(size=7, rate=1.0, limit=2)


def test_a_record_whose_config_is_no_object_is_refused():
    with pytest.raises(ValueError, match="unknown field 'ring'"):
        configs.from_dict(Studies, {"ring": 3})


def test_an_object_out_of_range_is_not_made():
    with pytest.raises(ValueError, match="size"):
        Config(size=0)
    with pytest.raises(AttributeError):
        Config().size = 2


@settings
class Inner:
    width: int
    depth: int = setting(2, "layers")


@settings
class Outer:
    sizes: list[int] = setting([1], "sizes")
    inner: Inner | None = setting(None, "nested, or None")
    tags: list[frozenset[str]] = setting([], "sets in a list")
    named: dict[str, frozenset[str]] = setting({}, "sets by name")


def test_an_array_is_a_value():
    assert configs.from_dict(Outer, {"sizes": np.array([3, 4])}).sizes == [3, 4]


def test_settings_that_may_be_none_are_made_although_a_field_has_no_default():
    made = _with_changes(Outer, [{"inner": {"width": 1}}, {"inner.depth": lambda outer: outer.inner.width + 4}])
    assert made.inner == Inner(width=1, depth=5)
    assert configs.from_dict(Outer, {"inner.width": 3}).inner == Inner(width=3)
    for changes in ({"inner": {}}, {"inner": {"depth": 3}}):
        with pytest.raises(ValueError, match=r"inner\.width"):
            _with_changes(Outer, [changes])


def test_sets_have_one_order_at_any_depth():
    words = ["a", "b", "c", "d", "e", "f", "g", "h"]
    outer = Outer(tags=[frozenset(words)], named={"x": frozenset(words), "y": frozenset("b")})
    assert configs.to_dict(outer) | {"inner": None} == {
        "sizes": [1],
        "inner": None,
        "tags": [words],
        "named": {"x": words, "y": ["b"]},
    }
