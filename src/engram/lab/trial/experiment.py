"""The experiment contract: what one file, of engram or of another package, gives to the laboratory."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

from engram import checks, references, registry
from engram.lab.claims.claim import Claim
from engram.lab.claims.inference import MAX_LOOKS
from engram.lab.claims.quantity import Quantity
from engram.lab.trial import config as configs
from engram.lab.trial.contract import Run
from engram.run_options import RunOptions
from engram.verdicts import cited

if TYPE_CHECKING:
    import plotly.graph_objects as go

Changes = Mapping[str, Any]
"""Settings to change, by name: ``steps=100``; those of one arm or study as a mapping or dotted: ``{"lstm.steps": 9}``.

In the table of an arm, a function computes a value from the other settings, as in ``lambda arm: arm.bits + 1``.
"""
OPTIONS = {option.name for option in dataclasses.fields(RunOptions)} | {
    *("experiment", "names", "progress", "changes", "json"),
}
"""The options of every run, in Python and on the command line, names that no setting, study or arm may have."""
COMPARE = "compare"
"""The record that holds the arms of comparisons, ``NAME-compare.json``: a name that no preset may have."""
_NAME = re.compile(r"[\w+=-][\w.+= -]{0,99}", re.ASCII)


@dataclass(frozen=True)
class Study:
    """A training loop and the arms that it compares.

    Attributes:
        trial: One seed of one arm: the whole training loop; returns its results as JSON values.
        arms: For each arm, in the order in which the trials of a seed run, the settings that it changes; or a function
            that returns this.
        config: The class of settings (default: the type that ``trial`` declares for its first parameter).
        figure: Draws the figure shown with its claims from ``Results`` (default: learning curves).
        memory: Tells the bytes that a trial needs, from its settings; given where some settings need more than 2 GB.
        gpu: Whether its trials compute on ``run.device``, so that they run on a GPU if there is one.
    """

    trial: Callable[[Any, Run], dict[str, Any]]
    arms: Mapping[str, Changes] | Callable[[], Mapping[str, Changes]]
    config: Any = None
    figure: Callable[[Any], go.Figure] | None = None
    memory: Callable[[Any], float] = lambda config: 0.0
    gpu: bool = False

    @functools.cached_property
    def table(self) -> Mapping[str, Changes]:
        """The arms, by name."""
        return self.arms() if callable(self.arms) else self.arms

    @functools.cached_property
    def settings(self) -> Any:
        """The class of settings."""
        if self.config is not None:
            return self.config
        first = next(iter(inspect.signature(self.trial).parameters))
        hints = typing.get_type_hints(self.trial)
        if first not in hints:
            raise TypeError(
                f"trial = {self.trial.__qualname__}: expected {first} to be declared as a class of settings"
            )
        return hints[first]


@dataclass(frozen=True)
class Preset:
    """A size at which an experiment runs.

    Attributes:
        seeds: Number of seeds.
        changes: The settings that it changes, of all arms or of single ones.
        arms: Its arms (default: all).
        looks: The numbers of seeds after which a run until decided judges the claims.
        planned: The looks at up to this number of seeds were planned before any result was known. Each further one
            counts as an extension of the plan, which raises the share of false verdicts.
        published: Where each of its settings stands, in the paper or in the authors' code, if all of them do; empty if
            one of them is ours, or the data are not the paper's.

    Raises:
        TypeError: ``arms`` is a single string, ``published`` is not a string, ``looks`` is not a sequence, or a number
            of seeds is not an integer.
        ValueError: A number of seeds is not positive, or the looks do not rise or are too many.
    """

    seeds: int
    changes: Changes = field(default_factory=dict)
    arms: Sequence[str] | None = None
    looks: Sequence[int] = (5, 10, 20, 40)
    planned: int = 40
    published: str = ""

    def __post_init__(self) -> None:
        checks.size("seeds", self.seeds)
        checks.size("planned", self.planned)
        if not isinstance(self.published, str):
            raise TypeError(f"published = {checks.shown(self.published)}: expected the place of the settings, in words")
        if isinstance(self.arms, str):
            raise TypeError(f"arms = {self.arms!r}: expected a list of names")
        if not isinstance(self.looks, Sequence):
            raise TypeError(f"looks = {checks.shown(self.looks)}: expected a list of numbers of seeds")
        rising = sorted({checks.size("looks", look) for look in self.looks})
        if list(self.looks) != rising or len(rising) > MAX_LOOKS:
            raise ValueError(f"looks = {checks.shown(self.looks)}: expected up to {MAX_LOOKS} rising numbers of seeds")


@dataclass(frozen=True)
class Arm:
    """One arm of an experiment, at one size.

    Attributes:
        trial: The training loop.
        config: The settings that it is given.
        memory: Bytes that a trial needs, if its study tells.
        gpu: Whether a trial uses a GPU if there is one.
    """

    trial: Callable[[Any, Run], dict[str, Any]]
    config: Any
    memory: float = field(default=0.0, compare=False)
    gpu: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Task:
    """A task of an experiment on which candidates of one kind are compared: registered parts, and the user's own.

    Attributes:
        kind: Kind of the candidates, of ``registry.KINDS``.
        name: What they have to do, in a few words.
        arm: Gives the name of a candidate's arm, from the candidate's name; ``"rule-{}".format`` is such a function.
        changes: Gives the settings that a candidate's arm changes, from the candidate's registered name or its place,
            as in ``"file.py:Name"``; None if the candidate does not fit the task.
        measure: Key of the result by which candidates are ranked.
        study: The study of these arms.
        maximize: Whether a larger measure is better.
        curve: Name of the logged metric whose learning curve is shown (default: the measure).
        goal: The candidate whose measure the curve should approach, for counting steps (default: the best); None if the
            curve shows something other than the measure.
        equal_seconds: Whether the curve is also compared at equal seconds, for which ``step`` must be a training step.
        operator: Key of the result that describes the dynamics of learning, the entries of a square matrix; empty if
            there is none.
        margin: The smallest difference in the measure that matters.
        baselines: Candidates to compare with (default: all registered ones that fit).
        chance: The score of guessing; None if unknown.
        trivial: A trivial candidate, which any good one beats; empty if there is none.
        costs: The costs to report: for each title, a key of the result.
        step: A function from the settings of an arm to a function that does one step, for timing.
        bits: Measures the task's difficulty: the base-2 logarithm of the bits of inductive bias needed to generalise.
        check_requirements: Raises ``DataError`` if the task's data are missing and cannot be fetched; the task is then
            left out.
    """

    kind: str
    name: str
    arm: Callable[[str], str]
    changes: Callable[[str], Changes | None]
    measure: str
    study: str = ""
    maximize: bool = True
    curve: str = ""
    goal: str | None = ""
    equal_seconds: bool = False
    operator: str = ""
    margin: float = 0.01
    baselines: Sequence[str] = ()
    chance: float | None = None
    trivial: str = ""
    costs: Mapping[str, str] = field(default_factory=dict)
    step: Callable[[Any], Callable[[], object]] | None = None
    bits: Callable[[], float] | None = None
    check_requirements: Callable[[], object] = lambda: None

    @property
    def measure_in_words(self) -> str:
        """The measure, as a reader sees it."""
        return self.measure.replace("_", " ")

    @property
    def curve_in_words(self) -> str:
        """The quantity that the learning curves show, as a reader sees it."""
        return (self.curve or self.measure).replace("_", " ")


@dataclass(frozen=True)
class Experiment:
    """A published system made runnable.

    Attributes:
        name: Its name in the registry and on the command line.
        about: The documentation of its module, whose first sentence says what the experiment tests.
        paper: Authors, title, venue, year.
        studies: The studies: one, or several by name.
        presets: ``"smoke"`` (seconds) and ``"laptop"`` (minutes on 2 cores). A larger one is called ``"published"`` if
            it says where all of its settings stand, and else ``"large"``.
        claims: The published statements, with criteria.
        figure: The experiment's own figure of its results.
        threads: Threads of one trial; fixed, because the order of summation affects rounding.
        headline: The metric whose learning curve is shown first; empty if nothing is learned.
        check_requirements: Called with the config of each arm before its trials begin; raises an error that says what
            to do if data or a package is missing.
        tasks: The tasks on which ``engram.compare`` compares candidates.
        answer: The findings, in a few sentences. Each claim that they rest on is cited as ``{claim-id}``, for which
            the verdict of the record is set in where the answer is shown; for ``{claim-id:0.00}``, or the id of a
            quantity, our value is.
        revision: Names its results, with the settings; raise it when a change of the code changes their numbers.
        quantities: What is measured without a criterion, and shown beside the claims.
        uses: Files and folders that its trials read, relative to the file of the trial's function; once one of them is
            edited, trials run again. Those that settings name need not be listed.

    Raises:
        TypeError: ``revision`` is not an integer, or ``uses`` is a single string.
        ValueError: ``revision`` is below 1, a used file does not exist, a preset is missing or is called compare, a
            name cannot name a folder or is an option of every run, a preset called published does not say where its
            settings stand, two arms, claims or quantities have the same name, a preset changes an unknown setting or
            lists an unknown arm, a claim names an unknown preset or reads an arm that is unknown or that its preset
            lacks, a quantity reads an unknown arm, or the answer cites an unknown claim or the verdict of a quantity.
    """

    name: str
    about: str
    paper: str
    studies: Study | Mapping[str, Study]
    presets: Mapping[str, Preset]
    claims: Sequence[Claim]
    figure: Callable[[Any], go.Figure]
    threads: int = 1
    headline: str = "loss"
    check_requirements: Callable[[Any], object] = lambda config: None
    tasks: Sequence[Task] = ()
    answer: str = ""
    revision: int = 1
    uses: Sequence[str | Path] = ()
    quantities: Sequence[Quantity] = ()

    def __post_init__(self) -> None:
        checks.size("revision", self.revision)
        if isinstance(self.uses, str):
            raise TypeError(f"uses = {self.uses!r}: expected a list of files and folders")
        for path in self.files():
            if not path.exists():
                raise ValueError(f"uses = {str(path)!r} in experiment {self.name!r}: expected a file or a folder")
        missing_presets = {"smoke", "laptop"} - set(self.presets)
        if missing_presets:
            raise ValueError(f"experiment {self.name!r} lacks the preset {', '.join(sorted(missing_presets))}")
        if COMPARE in self.presets:
            expected = "another name: the record of what engram.compare compares is called so"
            raise ValueError(f"presets of experiment {self.name!r} have {COMPARE!r}: expected {expected}")
        if "published" in self.presets and not self.presets["published"].published:
            expected = "where its settings stand in the paper or in the authors' code; if one does not, call it large"
            raise ValueError(f"published = '' in preset 'published' of experiment {self.name!r}: expected {expected}")
        names = [self.name, *self._all_arms()]
        unjudged = [quantity.id for quantity in self.quantities]
        ids = [claim.id for claim in self.claims] + unjudged
        for name in [*names, *ids]:
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                expected = "1 to 100 letters, digits and _ + = - . and spaces, the last two not first: it names folders"
                raise ValueError(f"name = {name!r} in experiment {self.name!r}: expected {expected}")
        for kind, labels in (("arms", names[1:]), ("claims or quantities", ids)):
            if len(set(labels)) < len(labels):
                raise ValueError(f"experiment {self.name!r} has two {kind} with the same name: {labels}")
        for claim_id in cited(self.answer):
            checks.choice("answer", claim_id, ids)
            if claim_id in unjudged and f"{{{claim_id}}}" in self.answer:
                expected = f"its value, as in {{{claim_id}:0.00}}, since a quantity has no verdict"
                raise ValueError(f"answer = {{{claim_id}}} in experiment {self.name!r}: expected {expected}")
        for claim in self.claims:
            for preset in claim.presets:
                checks.choice(f"presets of claim {claim.id!r}", preset, self.presets)
            for arm in claim.arms:
                self.study_of(arm)
        for arm in (arm for quantity in self.quantities for arm in quantity.arms):
            self.study_of(arm)
        for preset, selected in self.presets.items():
            for arm in selected.arms or ():
                self.study_of(arm)
            arms = self.arms(preset)
            for claim in self.claims:
                if preset != "smoke" and claim.is_judged_at(preset) and not set(claim.arms) <= set(arms):
                    raise ValueError(f"claim {claim.id!r} reads arms that preset {preset!r} lacks: {claim.arms}")
        for name, study in self.by_name.items():
            tops = [name] if name else [field.partition(".")[0] for field in configs.fields(study.settings)]
            for label in (*tops, *study.table):
                if label in OPTIONS:
                    problem = f"{label!r} in experiment {self.name!r} is an option of every run"
                    raise ValueError(f"{problem}: expected another name of a setting, study or arm")

    @property
    def summary(self) -> str:
        """The first paragraph of ``about``, up to its reference and without its full stop."""
        return registry.summary(self.about)

    @property
    def by_name(self) -> Mapping[str, Study]:
        """The studies by name; a single study has the empty string as its name."""
        return {"": self.studies} if isinstance(self.studies, Study) else self.studies

    def files(self) -> tuple[Path, ...]:
        """The paths of ``uses``."""
        trial = next(iter(self.by_name.values())).trial
        folder = Path(getattr(sys.modules.get(trial.__module__), "__file__", None) or "").parent
        return tuple((folder / path).absolute() for path in self.uses)

    def claims_of(self, study: str) -> list[Claim]:
        """The claims whose first arm belongs to a study."""
        return [claim for claim in self.claims if claim.arms[0] in self.by_name[study].table]

    def study_of(self, arm: str) -> Study:
        """The study that an arm belongs to; raises ValueError if there is no such arm."""
        for study in self.by_name.values():
            if arm in study.table:
                return study
        raise ValueError(f"unknown arm {arm!r} of {self.name}; {registry.suggestion(arm, self._all_arms())}")

    def arms(self, preset: str = "laptop", changes: Changes | None = None) -> dict[str, Arm]:
        """The arms of a preset, by name.

        Args:
            preset: Its name.
            changes: Settings to change from the preset.

        Raises:
            ValueError: The preset, an arm, a study or a field is unknown, or a value is not allowed.
        """
        checks.choice("preset", preset, self.presets)
        if changes:
            return self._arms(preset, changes)
        if preset not in self._unchanged:
            self._unchanged[preset] = self._arms(preset, {})
        return dict(self._unchanged[preset])

    @functools.cached_property
    def _unchanged(self) -> dict[str, dict[str, Arm]]:
        """The arms of presets without changes, as far as they were asked for: a report asks hundreds of times."""
        return {}

    def _arms(self, preset: str, changes: Changes) -> dict[str, Arm]:
        selected_preset = self.presets[preset]
        layers = [_split(self, layer) for layer in (selected_preset.changes, changes)]
        compared: dict[str, Arm] = {}
        for name, study in self.by_name.items():
            for arm, arm_settings in study.table.items():
                if selected_preset.arms is not None and arm not in selected_preset.arms:
                    continue
                values: list[Changes] = [layer.get(name, {}) for layer in layers]
                values += [arm_settings, *(layer.get(arm, {}) for layer in layers if arm != name)]
                try:
                    config = _with_changes(study.settings, values)
                except ValueError as error:
                    is_own = any(layer.get(arm) for layer in layers) and arm != name
                    raise ValueError(configs.dotted(arm if is_own else name, str(error))) from None
                compared[arm] = Arm(study.trial, config, float(study.memory(config)), study.gpu)
        for owner in layers[1]:
            if owner not in self.by_name and owner not in compared:
                raise ValueError(f"arm = {owner!r}: preset {preset!r} of {self.name} leaves it out")
        return compared

    def changed(self, preset: str, changes: Changes, arms: Sequence[str] | None = None) -> dict[str, Any]:
        """The changes that differ from the preset, by dotted field.

        Args:
            preset: Name of the preset.
            changes: Settings to change.
            arms: The arms that are to run (default: all).

        Raises:
            ValueError: The preset or a field is unknown, a value is not allowed, or none of the arms depends on a
                change, for example because it sets this field itself.
        """
        for arm in () if isinstance(arms, str) else arms or ():
            has_arm = [name for name, size in self.presets.items() if arm in (size.arms or self._all_arms())]
            if has_arm and preset in self.presets and preset not in has_arm:
                raise ValueError(f"arm = {arm!r}: preset {preset!r} leaves it out, unlike {', '.join(has_arm)}")
        dotted = {}
        for owner, field_name, value in _changes(self, changes):
            name = configs.dotted(owner, field_name)
            if callable(value):
                raise ValueError(f"{name} = {value!r}: expected a value, not a function")
            dotted[name] = configs.normal(self.settings(owner), field_name, value)
        all_arms = self.arms(preset, dotted)
        selected = [arm for arm in all_arms if arm in (arms or ())] or list(all_arms)
        different = dict(dotted)
        for name, value in dotted.items():
            others = {other: different[other] for other in different if other != name}
            try:
                without = self.arms(preset, others)
            except ValueError:  # the other changes need this one
                without = {}
            if any(without.get(arm) != all_arms[arm] for arm in selected):
                continue
            different = others
            if not configs.is_same(value, self._default(preset, name)):
                values = self.values_of({arm: all_arms[arm] for arm in selected}, name)
                if values and all(configs.is_same(arm_value, value) for arm_value in values.values()):
                    continue
                own_values = [f"{configs.dotted(arm, name)} is {arm_value!r}" for arm, arm_value in values.items()]
                hint = f": {', '.join(own_values[:3])}" if own_values else ""
                scope = self.name if len(selected) == len(all_arms) else "this run"
                raise ValueError(f"{name} = {value!r}: no arm of {scope} depends on it{hint}")
        return different

    def _all_arms(self) -> list[str]:
        """The names of the arms of all studies."""
        return [arm for study in self.by_name.values() for arm in study.table]

    def values_of(self, compared: Mapping[str, Arm], name: str) -> dict[str, Any]:
        """The value that each arm has for a field of its study; for a field of one arm, that of this arm.

        Args:
            compared: The arms.
            name: Dotted name of the field.
        """
        owner, field, _ = next(_changes(self, {name: None}))
        table = self.by_name[owner].table if owner in self.by_name else (owner,)
        study_arms = {arm: compared[arm].config for arm in compared if arm in table}
        return {arm: configs.value_of(config, field) for arm, config in study_arms.items()}

    def owner(self, name: str) -> str:
        """The study or arm that a dotted name begins with, written with dashes or underscores; empty if there is none.

        The longest one wins, since the name of an arm may contain a dot itself, as in lasso-0.1.

        Examples:
            >>> find_experiment("noodl").owner("lasso-0.1.dict_step")
            'lasso-0.1'
        """
        owners = [*self.by_name, *self._all_arms()]
        dashed = name.replace("_", "-")
        return max(
            (owner_name for owner_name in owners if dashed.startswith(f"{owner_name}.".replace("_", "-"))),
            key=len,
            default="",
        )

    def base(self, preset: str, owner: str) -> Any:
        """The settings of an arm, or those of a study before its arms change them, which need not be consistent.

        Raises:
            ValueError: The preset leaves this arm out.
        """
        if owner in self.by_name:
            layer = _split(self, self.presets[preset].changes).get(owner, {})
            return _draft(self.by_name[owner].settings, [layer])
        arms = self.arms(preset)
        if owner not in arms:
            raise ValueError(f"arm = {owner!r}: preset {preset!r} of {self.name} leaves it out")
        return arms[owner].config

    def fields(self, owner: str = "") -> dict[str, configs.Field]:
        """The fields of a study or an arm by dotted name; of all studies if there are several and none is named."""
        owners = [owner] if owner or "" in self.by_name else self.by_name
        return {
            configs.dotted(owner_name, name): field
            for owner_name in owners
            for name, field in configs.fields(self.settings(owner_name)).items()
        }

    def check_field(self, name: str, owner: str = "") -> None:
        """Raise ValueError, which suggests the nearest field, if a study or an arm has no field of this dotted name."""
        known_fields = self.fields(owner)
        if name not in known_fields and "." in name and not owner:  # the name of an arm may be what is wrong
            for arm in self._all_arms():
                known_fields |= self.fields(arm)
        configs.check_known(name, known_fields, () if owner else sorted(OPTIONS - {"experiment", "names", "changes"}))

    def settings(self, owner: str) -> Any:
        """The class of settings of a study or an arm."""
        return (self.by_name[owner] if owner in self.by_name else self.study_of(owner)).settings

    def _default(self, preset: str, dotted: str) -> Any:
        """The value that a preset has for a field of a study or an arm."""
        owner, name, _ = next(_changes(self, {dotted: None}))
        return configs.value_of(self.base(preset, owner), name)


def find_experiment(experiment: str | Experiment) -> Experiment:
    """Look up an experiment by its name in the registry; an experiment is returned as it is.

    Raises:
        ValueError, TypeError: Nothing has this name, or it is not an experiment, or its own name differs.
    """
    if isinstance(experiment, Experiment):
        return experiment
    if not isinstance(experiment, str):
        raise TypeError(f"experiment = {checks.shown(experiment)}: expected an Experiment, or the name of one")
    if references.is_reference(experiment):
        references.reload_edited(experiment)
    part = registry.get("experiments", experiment)
    if not isinstance(part, Experiment):
        raise TypeError(f"experiment {experiment!r} is registered as a {type(part).__name__}, not an Experiment")
    if part.name != experiment and not references.is_reference(experiment):
        raise ValueError(f"experiment {experiment!r} calls itself {part.name!r}: expected one name for both")
    return part


def _changes(experiment: Experiment, changes: Changes) -> Iterator[tuple[str, str, Any]]:
    """Yield (study or arm, field, value) of each change; raise ValueError if one of them is unknown."""
    for name, value in changes.items():
        owner = experiment.owner(f"{name}." if isinstance(value, Mapping) else name)
        field_path = name[len(owner) :].removeprefix(".")
        inner = {field_path: value} if field_path else value
        if not owner and "" not in experiment.by_name:  # there are several studies, and it names none
            experiment.check_field(name)
        for field_name, field_value in configs.flat(experiment.settings(owner), inner):
            experiment.check_field(configs.dotted(owner, field_name), owner)
            yield owner, field_name, field_value


def _split(experiment: Experiment, changes: Changes) -> dict[str, dict[str, Any]]:
    """Group changes by study or arm, and by dotted field within each."""
    split: dict[str, dict[str, Any]] = {}
    for owner, name, value in _changes(experiment, changes):
        split.setdefault(owner, {})[name] = value
    return split


def _with_changes(cls: Any, layers: Sequence[Changes]) -> Any:
    """Apply layers of changes to a class's defaults, in order; functions see the values of all other settings.

    Examples:
        >>> @configs.settings
        ... class Config:
        ...     units: int = configs.setting(4, "units")
        >>> _with_changes(Config, [{"units": 8}, {"units": lambda arm: arm.units + 1}])
        Config(units=9)
    """
    draft = _draft(cls, layers)
    merged = {name: value for layer in layers for name, value in configs.flat(cls, layer)}
    try:
        derived = {name: value(draft) for name, value in merged.items() if callable(value)}
    except pydantic.ValidationError as error:  # from a function that makes a config of its own
        raise configs.explained(cls, error) from None
    return configs.from_dict(cls, {**vars(draft), **derived})


def _draft(cls: Any, layers: Sequence[Changes]) -> Any:
    """An unvalidated object of a config class with all changes except those that are functions."""
    draft = object.__new__(cls)
    for name, default in _defaults(cls).items():
        object.__setattr__(draft, name, default)
    for layer in layers:
        for name, value in configs.flat(cls, layer):
            if not callable(value):
                _set(draft, name.split("."), value)
    return draft


@functools.cache
def _defaults(cls: Any) -> Mapping[str, Any]:
    """The values of a config class without changes, made once: each arm of each preset starts from them."""
    return dict(vars(cls()))


def _set(target: Any, path: Sequence[str], value: Any) -> None:
    """Set a field of an unvalidated config; if the path has several parts, in a copy of the nested config."""
    first, *inner_path = path
    if inner_path:
        before = getattr(target, first)
        if before is None or isinstance(before, Mapping):  # one that may be None, and so far was
            changes = before or {}
            before = configs.draft(configs.inner_class(type(target), first))
            for name, item in changes.items():
                object.__setattr__(before, name, item)
        inner = object.__new__(type(before))
        for name, item in vars(before).items():
            object.__setattr__(inner, name, item)
        _set(inner, inner_path, value)
        value = inner
    object.__setattr__(target, first, value)
