"""Settings of every kind, given on the command line and in Python, alone and in sweeps."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import Any

import pytest

import engram
from engram.cli import fields
from engram.lab import Experiment, Points, Preset, Study, setting, settings
from engram.lab.trial import config as configs


class Side(enum.Enum):
    LEFT = "l"
    RIGHT = "r"


@settings
class Noise:
    scale: float = setting(0.5, "its size", gt=0)
    kind: str = setting("white", "its kind")


@settings
class Config:
    place: Path = setting(Path("here"), "a path")
    other: Path | None = setting(None, "another one")
    widths: list[int] = setting([3, 2], "a list")
    ends: tuple[float, ...] = setting((0.0, 1.0), "a tuple")
    costs: dict[str, float] = setting({"a": 1.0}, "a dictionary")
    groups: dict[str, list[int]] = setting({"a": [1]}, "lists by name")
    tags: frozenset[str] = setting(frozenset({"x", "y", "z"}), "a set")
    side: Side = setting(Side.LEFT, "an enumeration")
    sides: list[Side] = setting([Side.LEFT], "several of them")
    noise: Noise | None = setting(None, "nested, or None")
    jitter: Noise | None = setting(Noise(kind="pink"), "nested, and not None")
    lambda_: float = setting(1.0, "a name with an underscore at its end")


def trial(config: Config, run: Any) -> dict[str, Any]:
    return {"config": json.dumps(configs.to_dict(config)), "size": len(config.widths)}


presets = {name: Preset(1) for name in ("smoke", "laptop")}
TOY = Experiment("kinds", "Kinds of settings.", "none", Study(trial, {"main": {}}), presets, [], Points("size"))
CASES = [
    ("--place=a b", {"place": Path("a b")}, {"place": "a b"}),
    ("--other x", {"other": Path("x")}, {"other": "x"}),
    ("--widths 4 5 6", {"widths": [4, 5, 6]}, {"widths": [4, 5, 6]}),
    ("--widths", {"widths": []}, {"widths": []}),
    ("--widths [7]", {"widths": (7,)}, {"widths": [7]}),
    ("--ends 2", {"ends": (2.0,)}, {"ends": [2.0]}),
    ("--costs b 2.5 c 3", {"costs": {"b": 2.5, "c": 3}}, {"costs": {"b": 2.5, "c": 3.0}}),
    ('--costs={"d":4}', {"costs": {"d": 4}}, {"costs": {"d": 4.0}}),
    ('--groups {"b":[2,3]}', {"groups": {"b": [2, 3]}}, {"groups": {"b": [2, 3]}}),
    ("--tags v u", {"tags": {"u", "v"}}, {"tags": ["u", "v"]}),
    ("--side RIGHT", {"side": Side.RIGHT}, {"side": "r"}),
    ("--side r", {"side": "RIGHT"}, {"side": "r"}),
    ("--sides RIGHT LEFT", {"sides": [Side.RIGHT, Side.LEFT]}, {"sides": ["r", "l"]}),
    ("--noise.scale 2", {"noise": {"scale": 2.0}}, {"noise": {"scale": 2.0, "kind": "white"}}),
    ('--noise {"kind":"red"}', {"noise": Noise(kind="red")}, {"noise": {"scale": 0.5, "kind": "red"}}),
    ("--jitter.scale 2", {"jitter.scale": 2.0}, {"jitter": {"scale": 2.0, "kind": "pink"}}),
    ("--jitter None", {"jitter": None}, {"jitter": None}),
    ("--lambda 2", {"lambda_": 2}, {"lambda_": 2.0}),
    ("--lambda_=-2", {"lambda_": -2.0}, {"lambda_": -2.0}),
]


@pytest.mark.parametrize(("words", "changes", "expected"), CASES)
def test_a_setting_can_be_set_from_both_ends(words, changes, expected):
    arguments = [words] if "=" in words else words.split()
    from_command = TOY.changed("smoke", fields.changes(TOY, "smoke", arguments))
    for changed in (from_command, TOY.changed("smoke", changes)):
        stored = json.loads(json.dumps(changed))
        config = TOY.arms("smoke", stored)["main"].config
        values = configs.to_dict(config)
        default = configs.to_dict(Config())
        assert {name: values[name] for name in values if values[name] != default[name]} == expected
        assert configs.from_dict(Config, json.loads(json.dumps(values))) == config


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--groups x", r"groups = 'x': expected dict\[str, list\[int\]\], as JSON"),
        ("--side UP", "side|LEFT"),
        ("--noise.scale -1", "noise.scale = -1.0: expected float > 0"),
        ("--lamda 1", "did you mean 'lambda_'"),
        ("--costs a x", "costs"),
    ],
)
def test_a_wrong_value_is_named(words, message):
    with pytest.raises(ValueError, match=message):
        fields.changes(TOY, "smoke", words.split())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--place a,b", ["a", "b"]),
        ("--widths=1 2,3", [[1, 2], [3]]),
        ("--widths [1,2],[3]", [[1, 2], [3]]),
        ('--costs {"a":1},{"b":2}', [{"a": 1}, {"b": 2}]),
        ("--side LEFT,r", ["l", "r"]),
        ("--noise.scale 1,2", [1.0, 2.0]),
        ('--noise None,{"scale":3}', [None, {"scale": 3}]),
        ("--lambda 0.1,1", [0.1, 1.0]),
    ],
)
def test_a_sweep_takes_several_values(words, expected):
    arguments = [words] if "=" in words else words.split(" ", 1)
    ((_, given),) = fields.values(TOY, "smoke", arguments).items()
    assert configs.plain(given) == expected


def test_runs_and_sweeps_of_such_settings_are_stored_and_read_back(tmp_path):
    options = {"preset": "smoke", "jobs": 1, "progress": False, "runs": tmp_path}
    changes = {"place": Path("p"), "side": Side.RIGHT, "noise": {"scale": 2.0}, "costs": {"z": 1}, "tags": {"b", "a"}}
    first = engram.run(TOY, **options, **changes)
    assert first.trials[0].state == "finished", first.trials[0].message
    assert engram.load(TOY, tmp_path).configs == first.configs
    assert engram.run(TOY, **options, **changes).trials[0].folder == first.trials[0].folder
    table = engram.sweep(TOY, **options, noise=[None, Noise()], side=[Side.LEFT, Side.RIGHT])
    assert table["side"].to_list() == ["l", "r", "l", "r"]
    assert set(table["state"]) == {"finished"}


def test_the_table_of_settings_shows_every_kind():
    _, rows = fields.rows(TOY)
    shown = {option: (allowed, value) for option, allowed, value, *_ in rows}
    assert shown["--lambda"] == ("float", "1.0")
    assert shown["--side"] == ("LEFT or RIGHT", "l")
    assert shown["--place"][1] == "here"
    assert shown["--noise"][1] == shown["--noise.scale"][1] == "None"
