from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Gt, Le

from engram.lab import config as configs


@dataclass(frozen=True)
class Config:
    size: Annotated[int, Ge(1)] = 4
    rate: Annotated[float, Gt(0), Le(1)] = 0.1
    rule: Literal["hebb", "oja"] = "hebb"
    limit: Annotated[int, Ge(0)] | None = None
    flag: bool = False

    def __post_init__(self) -> None:
        if self.size == 13:
            raise ValueError("size = 13: expected no unlucky number")


@dataclass(frozen=True)
class Ring:
    neurons: Annotated[int, Ge(10)] = 50
    coupling: Annotated[float, Gt(0)] = 1.0

    def __post_init__(self) -> None:
        if self.neurons % 2:
            raise ValueError(f"neurons = {self.neurons}: expected an even number")


@dataclass(frozen=True)
class Studies:
    models: Annotated[int, Ge(1)] = 3
    ring: Ring = Ring()
    wide: Ring = Ring(neurons=100)


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
        configs.override(Config(), changes)
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
        ({"quux": 50}, "unknown field 'quux'; known: models, ring.neurons, ring.coupling, wide.neurons, wide.coupling"),
    ],
)
def test_errors_name_the_field_of_a_study_with_a_dot(changes, message):
    with pytest.raises(ValueError) as caught:
        configs.override(Studies(), changes)
    assert str(caught.value).startswith(message)


def test_a_study_keeps_what_is_not_overridden():
    changed = configs.override(Studies(), {"wide": {"coupling": 2.0}, "ring.neurons": 20, "models": 4})
    assert changed == Studies(4, Ring(neurons=20), Ring(neurons=100, coupling=2.0))
    assert configs.from_dict(Studies, configs.to_dict(changed)) == changed
    assert configs.leaves(changed) == {
        "models": 4,
        "ring.neurons": 20,
        "ring.coupling": 1.0,
        "wide.neurons": 100,
        "wide.coupling": 2.0,
    }
    assert configs.override(Studies(), configs.leaves(changed)) == changed


def test_a_record_whose_study_is_no_object_is_refused():
    with pytest.raises(ValueError, match="ring = 3: expected Ring"):
        configs.from_dict(Studies, {"ring": 3})


def test_override_and_round_trip():
    config = configs.override(Config(), {"size": 7, "rate": 1, "limit": 2})
    assert config == Config(size=7, rate=1.0, limit=2)
    assert configs.from_dict(Config, configs.to_dict(config)) == config
