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


def test_override_and_round_trip():
    config = configs.override(Config(), {"size": 7, "rate": 1, "limit": 2})
    assert config == Config(size=7, rate=1.0, limit=2)
    assert configs.from_dict(Config, configs.to_dict(config)) == config
