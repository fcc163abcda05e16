from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from dataclasses import replace

import pytest
from rich.console import Console

from engram import cli, registry
from engram.cli import fields
from engram.cli.commands import Run
from engram.cli.refusal import arguments_of
from engram.lab import Experiment, Preset, Study, run, setting, settings
from engram.lab.engine.laboratory import say_own_values
from engram.lab.trial.experiment import OPTIONS, find_experiment
from engram.lab.trial.folder import name_of
from engram.lab.trial.job import use_of
from engram.lab.trial.trial import trials
from engram.run_options import RunOptions


def test_all_that_a_trial_is_given_is_in_its_name(toy):
    experiment = registry.get("experiments", toy)
    config = experiment.arms("smoke")
    first, *others = (
        trials(experiment, config, seeds=2, arms=["momentum"])
        + trials(experiment, config, seeds=1, arms=["plain"])
        + trials(experiment, config, seeds=1, arms=["momentum"], device="cuda")
    )
    names = {name_of(trial.identity()) for trial in (first, *others)}
    assert len(names) == 4
    assert name_of(first.identity()) == name_of(first.identity())


def test_no_arms_is_not_all_of_them(toy):
    experiment = registry.get("experiments", toy)
    with pytest.raises(ValueError, match=r"arms = \[\]: expected a list of names"):
        trials(experiment, experiment.arms("smoke"), seeds=1, arms=[])


def test_layers_of_changes_go_from_the_outside_to_the_inside():
    arms = {"plain": {}, "wide": {"size": 9, "limit": lambda arm: arm.size + 1}, "slow": {"rate": 0.01}}
    presets = {
        "smoke": Preset(1, {"size": 2, "slow": {"rate": 0.02}}),
        "laptop": Preset(1),
        "large": Preset(1, {"wide.size": 90}, arms=["plain", "wide"]),
    }
    made = Experiment("made", "It.", "None", Study(trial, arms), presets, (), lambda results: None)
    values = {preset: {arm: vars(of.config) for arm, of in made.arms(preset).items()} for preset in presets}
    assert values["laptop"]["wide"] == {"size": 9, "limit": 10, "rate": 0.1}
    assert [values["smoke"][arm]["size"] for arm in arms] == [2, 9, 2]
    assert values["smoke"]["slow"]["rate"] == 0.02
    assert list(values["large"]) == ["plain", "wide"]
    assert values["large"]["wide"]["limit"] == 91
    changed = made.arms("laptop", {"size": 3, "wide": {"limit": 5}})
    assert [arm.config.size for arm in changed.values()] == [3, 9, 3]
    assert changed["wide"].config.limit == 5
    assert made.changed("laptop", {"size": 3, "rate": 0.1}) == {"size": 3}
    with pytest.raises(ValueError, match=r"wide\.size = 0: expected int >= 1"):
        made.arms("laptop", {"wide": {"size": 0}})
    with pytest.raises(ValueError, match="unknown field 'narrow'"):
        made.arms("laptop", {"narrow": {"size": 3}})
    with pytest.raises(ValueError, match=r"rate = 0\.3: no arm .*: slow\.rate is"):
        made.changed("smoke", {"rate": 0.3}, ["slow"])
    assert made.changed("smoke", {"rate": 0.3}, ["slow", "plain"]) == {"rate": 0.3}
    with pytest.raises(ValueError, match=r"arm = 'slow': preset 'large' leaves it out, unlike smoke, laptop"):
        made.changed("large", {}, ["slow"])
    only = {name: Preset(1) for name in presets}
    with pytest.raises(ValueError, match=r"rate = 0\.5: no arm of made depends on it: slow\.rate is 0\.01"):
        replace(made, studies=Study(trial, {"slow": {"rate": 0.01}}), presets=only).changed("laptop", {"rate": 0.5})


def test_a_preset_called_published_says_where_its_settings_stand():
    known = Experiment("made", "It.", "None", Study(trial, {"a": {}}), {"smoke": Preset(1), "laptop": Preset(1)}, (),
                       lambda results: None)  # fmt: skip
    said = {**known.presets, "published": Preset(1, published="table 2")}
    assert replace(known, presets=said).presets["published"].published == "table 2"
    with pytest.raises(ValueError, match=r"published = '' in preset 'published' of experiment 'made': expected where"):
        replace(known, presets={**said, "published": Preset(1)})
    with pytest.raises(ValueError, match="experiment 'made' lacks the preset laptop"):
        replace(known, presets={"smoke": Preset(1)})
    with pytest.raises(ValueError, match="presets of experiment 'made' have 'compare': expected another name"):
        replace(known, presets={**known.presets, "compare": Preset(1)})
    with pytest.raises(TypeError, match="published = True: expected the place of the settings, in words"):
        Preset(1, published=True)


def test_studies_have_settings_and_loops_of_their_own():
    studies = {"first": Study(trial, {"a": {}, "b": {"size": 7}}), "second": Study(trial, {"c": {}})}
    presets = {name: Preset(1, {"first": {"size": 2}}) for name in ("smoke", "laptop")}
    made = Experiment("made", "It.", "None", studies, presets, (), lambda results: None)
    assert {arm: of.config.size for arm, of in made.arms("smoke", {"second.size": 3}).items()} == {
        "a": 2,
        "b": 7,
        "c": 3,
    }
    with pytest.raises(ValueError, match=r"unknown field 'size'; did you mean '(first|second)\.size'"):
        made.arms("smoke", {"size": 3})
    with pytest.raises(ValueError, match="has two arms with the same name"):
        replace(made, studies={**studies, "third": Study(trial, {"c": {}})})


@pytest.mark.parametrize(
    ("studies", "option"),
    [
        (lambda: Study(lambda config, run: {}, {"a": {}}, Shadowing), "seeds"),
        (lambda: Study(trial, {"device": {}}), "device"),
        (lambda: {"jobs": Study(trial, {"a": {}})}, "jobs"),
    ],
)
def test_no_name_of_an_experiment_is_an_option_of_every_run(studies, option):
    presets = {name: Preset(1) for name in ("smoke", "laptop")}
    with pytest.raises(ValueError, match=f"'{option}' in experiment 'made' is an option of every run"):
        Experiment("made", "It.", "None", studies(), presets, (), lambda results: None)
    within = {"first": Study(lambda config, run: {}, {"a": {}}, Shadowing)}  # there it is --first.seeds
    Experiment("made", "It.", "None", within, presets, (), lambda results: None)


def test_the_options_of_every_run_are_those_of_the_function_and_the_command():
    options = {field.name for field in dataclasses.fields(RunOptions)}
    command = {argument.name for argument in arguments_of(Run)}
    function = {*inspect.signature(run).parameters}
    assert command - {"names", "json"} == function - {"experiment", "progress", "changes"} == options
    assert command | function == OPTIONS


def test_an_experiment_that_is_registered_by_another_name_is_refused(toy, monkeypatch, capsys):
    experiment = registry.get("experiments", toy)
    monkeypatch.setattr(importlib.import_module(experiment.studies.trial.__module__), "experiment",
                        replace(experiment, name="other"))  # fmt: skip
    with pytest.raises(ValueError, match="experiment 'toy' calls itself 'other': expected one name for both"):
        find_experiment(toy)
    for command in (["show", "toy"], ["run", "toy"], ["sweep", "toy", "--size", "2"]):
        assert cli.run(command) == 2
        assert "calls itself 'other'" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "shown"), [(3, "3"), (".hidden", "'.hidden'"), ("a/b", "'a/b'")])
def test_a_name_that_cannot_be_that_of_a_folder_is_refused(name, shown):
    message = f"name = {shown} in experiment 'made': expected 1 to 100 letters, digits and"
    with pytest.raises(ValueError, match=re.escape(message)):
        made_of(trial, {name: {}})


def test_a_text_that_is_too_long_for_a_file_name_is_the_name_of_none(files_forgotten):
    made = made_of(lambda config, run: {}, {"a": {}}, Text)
    (first,) = trials(made, made.arms("smoke"), seeds=1)
    assert first.config.text not in use_of(first).provenance()["files"]


@settings
class Text:
    text: str = setting("ACDE" * 100, "a sequence")


def made_of(trial, arms, config=None):
    presets = {"smoke": Preset(1), "laptop": Preset(1)}
    return Experiment("made", "It.", "None", Study(trial, arms, config), presets, (), lambda results: None)


def test_a_change_of_one_arm_may_repeat_that_of_all():
    made = made_of(trial, {"plain": {}, "slow": {"rate": 0.01}})
    assert made.changed("smoke", {"size": 3, "plain.size": 3}) == {"size": 3}
    assert made.changed("smoke", {"size": 3, "plain.size": 3}, ["plain"]) == {"plain.size": 3}
    assert made.changed("smoke", {"size": 3, "plain.size": 4}) == {"size": 3, "plain.size": 4}
    with pytest.raises(ValueError, match=r"plain\.size = 3: no arm of this run depends on it"):
        made.changed("smoke", {"size": 3, "plain.size": 3}, ["slow"])


def test_an_option_of_one_arm_undoes_that_of_all():
    made = made_of(trial, {"plain": {}, "slow": {"rate": 0.01}})
    assert fields.changes(made, "smoke", ["--size", "3", "--slow.size", "4"]) == {"size": 3, "slow.size": 4}
    assert fields.changes(made, "smoke", ["--size", "4", "--slow.rate=0.01"]) == {}


def test_a_list_is_the_tuple_that_a_config_makes_of_it(capsys):
    made = made_of(listed, {"plain": {}, "other": {}})
    assert made.changed("smoke", {"sizes": [4, 4]}) == {}
    assert made.changed("smoke", {"sizes": [[5], 5]}) == {"sizes": [[5], 5]}
    say_own_values(made, made.arms("smoke", {"sizes": [[5], 5]}), {"sizes": [[5], 5]}, None, Console(stderr=True))
    assert capsys.readouterr().err == ""
    assert fields.changes(made, "smoke", ["--even", "--plain.no-even"]) == {"even": True, "plain.even": False}


@settings
class Listed:
    sizes: tuple[int | tuple[int, ...], ...] = setting((4, 4), "units")
    even: bool = setting(False, "whether they are even")


def listed(config: Listed, run):
    return {}


@settings
class Config:
    size: int = setting(4, "units", ge=1)
    limit: int = setting(5, "the most that there may be", ge=0)
    rate: float = setting(0.1, "of learning", gt=0, le=1)


@settings
class Shadowing:
    seeds: int = setting(4, "of plants", ge=1)


def trial(config: Config, run):
    return {}
