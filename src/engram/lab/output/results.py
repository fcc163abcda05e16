"""The results of a run: its trials, their metrics as one frame, and the verdicts."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from html import escape
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from joblib.externals.loky.cloudpickle_wrapper import dumps, loads
from safetensors.torch import load_file
from torch import Tensor

from engram import checks, references
from engram.lab.claims.claim import Claim, JudgedClaim, counted_claims, judge_claim, table
from engram.lab.claims.correction import Family, correct, family_of_claims
from engram.lab.claims.quantity import MeasuredQuantity, Quantity, measure_quantity, quantities_table
from engram.lab.trial.choice import Choice, at_ends
from engram.lab.trial.config import to_dict
from engram.lab.trial.folder import TrialFolder
from engram.lab.trial.loop import set_state
from engram.storage.files import finite_or_none
from engram.verdicts import BAD, in_percent

T = TypeVar("T")
EXIT_HOLDS, EXIT_CLAIM, EXIT_FAILURE = 0, 1, 2
NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
"""How JSON holds numbers that are not finite."""
SHOWN = "shown"
"""The result that holds what the figures draw of a single trial; a record has it only for the first seed of an arm."""


@dataclass(frozen=True)
class TrialResult:
    """One trial of a run; its result is empty unless it is finished.

    Attributes:
        arm: Name of the arm.
        seed: The seed.
        state: ``waiting``, ``running``, ``interrupted``, ``failed`` or ``finished``.
        result: The results, by name.
        seconds: Processor time of a finished trial; otherwise the time since it began.
        folder: Its folder; empty for a trial read from a record.
        message: Why it failed, or a warning; empty if it has finished.
        choices: Its choices by ``run.choose``, by name.
    """

    arm: str
    seed: int
    state: str
    result: Mapping[str, Any]
    seconds: float = 0.0
    folder: str = ""
    message: str = ""
    choices: Mapping[str, Choice] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The trial as JSON values."""
        return dict(vars(self))

    def state_dict(self) -> dict[str, Tensor]:
        """All tensors that the trial kept by ``run.keep``, by name and path, as in ``net.weight``.

        Raises:
            ValueError: There is no state: the trial has not finished, was run without keeping its state, or is read
                from a record.
            CorruptFileError: The state or the result is truncated or altered.
        """
        return load_file(self._kept_in().state_path) if self._kept_in().kept() else {}

    def load(self, part: T, name: str | None = None) -> T:
        """Load a state that the trial kept into an object, as in ``trial.load(build(config, torch.Generator()))``.

        Args:
            part: A module, or another object like the one given to ``run.keep``; changed in place.
            name: Its name in ``run.keep`` (default: the only one).

        Returns:
            ``part``.

        Raises:
            ValueError: The trial has not finished, was run without keeping its state, or is read from a record; it kept
                nothing under this name; or the state does not fit ``part``.
            CorruptFileError: The state or the result is truncated or altered.
        """
        states = self._kept_in().kept()
        title = f"{self.arm}, seed {self.seed}"
        if not states:
            raise ValueError(f"{title}: the trial saved no state")
        if name is None and len(states) > 1:
            example = f"load(net, {next(iter(states))!r})"
            raise ValueError(f"{title} saved {', '.join(states)}: name one of them, as in {example}")
        state_name = next(iter(states)) if name is None else checks.choice("name", name, list(states))
        try:
            set_state(state_name, part, states[state_name])
        except (RuntimeError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{title}: the state that it saved as {state_name!r} does not fit: {error}") from error
        return part

    def _kept_in(self) -> TrialFolder:
        if not self.folder:
            raise ValueError(f"{self.arm}, seed {self.seed}, is read from a record, which has no state: run it here")
        return TrialFolder(Path(self.folder))


@dataclass(frozen=True, eq=False)
class Results:
    """The results of one run of an experiment.

    Attributes:
        experiment, claimed, headline: Name, claims and first metric of the experiment.
        measured: Quantities of the experiment.
        preset, seeds: Name of its preset, and number of seeds.
        changed: The settings that differ from the preset, by dotted name, with their values.
        configs: The config of each arm that was run.
        trials: All trials, arm by arm.
        metrics: All metrics: columns arm, seed, step, metric and value.
        environment: Versions and hardware of the trials; where they differ, all values that occur.
        looks: The numbers of seeds at which a run until decided judges the claims; otherwise empty.
        planned: The looks at up to this number of seeds were planned before any result was known; each further one is
            an extension of the plan.
        reused: How many trials were taken although something has changed since they were made, by what has.
        is_published: Whether the settings of the preset are the published ones.
        is_recorded: Whether it is the run whose record ships with the experiment.
        family: The tests over which the verdicts are corrected, as those of all records (default: those of this run).
    """

    experiment: str
    claimed: Sequence[Claim]
    headline: str
    preset: str
    changed: Mapping[str, Any]
    configs: Mapping[str, Any]
    seeds: int
    trials: Sequence[TrialResult]
    metrics: pl.DataFrame
    environment: Mapping[str, Any]
    looks: Sequence[int] = ()
    reused: Mapping[str, int] = field(default_factory=dict)
    is_published: bool = False
    is_recorded: bool = False
    family: Family | None = None
    planned: int = 40
    measured: Sequence[Quantity] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        """For copies and other processes, which first load the file of the settings if it was given by its place."""
        modules = {type(config).__module__ for config in self.configs.values()}
        state = {each.name: getattr(self, each.name) for each in fields(self)}
        return _results_of, (references.files_of(modules), dumps(state))

    def __repr__(self) -> str:
        num_finished = sum(trial.state == "finished" for trial in self.trials)
        trials = f"{num_finished} of {len(self.trials)} trials finished"
        return f"Results({self.experiment!r}, preset={self.preset!r}, {trials})"

    def _repr_html_(self) -> str:
        claims = table(self.claims()) if self.judges else ""
        return f"<p>{escape(repr(self))}</p>{claims}{quantities_table(self.quantities())}"

    @property
    def by_seed(self) -> dict[int, dict[str, Mapping[str, Any]]]:
        """The results of the finished trials, by seed, in ascending order, and arm."""
        by_seed: dict[int, dict[str, Mapping[str, Any]]] = {}
        for trial in sorted(self.trials, key=lambda trial: trial.seed):  # an arm may lack seeds that others have
            if trial.state == "finished":
                by_seed.setdefault(trial.seed, {})[trial.arm] = trial.result
        return by_seed

    @property
    def arms(self) -> list[str]:
        """The arms that were run, in order."""
        return list(dict.fromkeys(trial.arm for trial in self.trials))

    def replay(self, trial: TrialResult, log: Callable[[str, float, int], object]) -> None:
        """Pass the metrics of a trial to a tracker such as MLflow, Weights & Biases or TensorBoard, step by step.

        Args:
            trial: One of ``trials``.
            log: Called as ``log(name, value, step)``, as ``mlflow.log_metric`` and ``SummaryWriter.add_scalar`` are.

        Raises:
            ValueError: The trial is not one of them.
        """
        if trial not in self.trials:
            raise ValueError(
                f"trial = {trial.arm}, seed {trial.seed}: expected one of the {len(self.trials)} of this run"
            )
        trial_metrics = self.metrics.filter((pl.col("arm") == trial.arm) & (pl.col("seed") == trial.seed))
        for step, name, value in (
            trial_metrics.sort("step", maintain_order=True).select("step", "metric", "value").iter_rows()
        ):
            log(name, value, step)

    def values(self, arm: str, *keys: str | int) -> list[Any]:
        """The results of an arm's finished trials, by seed.

        Args:
            arm: The arm.
            *keys: A key of the result; or the path of keys and list indices that leads to a value (default: the whole
                result).
        """
        results: list[Any] = [of_seed[arm] for of_seed in self.by_seed.values() if arm in of_seed]
        return [functools.reduce(lambda outer, key: outer[key], keys, result) for result in results]

    def shown(self, arm: str) -> Mapping[str, Any]:
        """What the first finished trial of an arm shows, its result ``"shown"``; empty if there is none.

        A record keeps it for the first seed of each arm, so pictures and matrices that only figures draw belong there.
        """
        return next((of_seed[arm].get(SHOWN, {}) for of_seed in self.by_seed.values() if arm in of_seed), {})

    @functools.cached_property
    def choices(self) -> dict[str, list[Mapping[str, Choice]]]:
        """The choices of the finished trials of each arm by ``run.choose``, in the order of their seeds."""
        choices: dict[str, list[Mapping[str, Choice]]] = {arm: [] for arm in self.arms}
        for trial in self.trials:
            if trial.state == "finished":
                choices[trial.arm].append(trial.choices)
        return choices

    def caveats(self, claim: Claim) -> list[str]:
        """Sentences about arms of a claim whose choice was at an end of the grid, so a better one may lie beyond."""
        by_arm = at_ends({arm: self.choices[arm] for arm in claim.arms if arm in self.choices})
        return [sentence for sentences in by_arm.values() for sentence in sentences]

    @property
    def is_whole(self) -> bool:
        """Whether every trial has finished or failed."""
        return all(trial.state in ("finished", "failed") for trial in self.trials)

    @property
    def seconds(self) -> float:
        """Total processor time of all trials."""
        return sum(trial.seconds for trial in self.trials)

    @property
    def ended(self) -> str:
        """How the run has ended, in a few words: the verdicts, or the number of trials that are done."""
        states = [trial.state for trial in self.trials]
        preset = f"{self.preset}, changed" if self.changed else self.preset
        if set(states) != {"finished"}:
            return f"{preset}: {states.count('finished')} of {len(states)} trials done"
        if self.changed or not self.judges:
            return f"{preset}: runs"  # this preset says nothing about the claims
        return f"{preset}: {counted_claims(self.claims())}"

    @property
    def judges(self) -> bool:
        """Whether any claim is judged at this preset; smoke only shows that the code runs."""
        return any(claim.is_judged_at(self.preset) for claim in self.claimed)

    def claims(self) -> list[JudgedClaim]:
        """Judge every claim of the experiment."""
        changes = ", ".join(f"{name} = {value!r}" for name, value in self.changed.items())
        why_not = f"the config is not the preset's: {changes}" if changes else ""
        run: dict[str, Any] = {"preset": self.preset, "why_not": why_not, "asked": self.arms, "looks": self.looks}
        run["is_published"] = self.is_published
        by_seed = self.by_seed
        judged = [judge_claim(claim, by_seed, seeds=self._seeds_for(claim), **run) for claim in self.claimed]
        planned = [replace(each, plans=1 + self._extensions(len(each.values))) for each in judged]
        return correct(planned, self.looks, self.family)

    def quantities(self) -> list[MeasuredQuantity]:
        """Measure every quantity of the experiment whose arms have results."""
        found = [measure_quantity(each, self.by_seed) for each in self.measured]
        return [each for each in found if each.values]

    def _extensions(self, seeds: int) -> int:
        """How often the plan of looks was extended for a claim that was judged at some number of seeds."""
        return sum(self.planned < look <= seeds for look in self.looks)

    def _seeds_for(self, claim: Claim) -> int:
        """The number of seeds without which a claim is not judged; with looks, all that its arms were run with."""
        if not self.looks:
            return self.seeds
        if claim.sameness == "statistical":  # each look needs all of its seeds anyway
            return 0
        asked = Counter(trial.arm for trial in self.trials)
        return min(asked[arm] for arm in claim.arms)

    def correction(self) -> str:
        """A sentence on the verdicts that count, of claims that were corrected for many tests."""
        claims = self.claims()
        family = family_of_claims(claims) if self.family is None else self.family
        if family.tests < 2:
            return ""
        whose = "this run" if self.family is None else "all records"
        short = [f"{judged.claim.id} ({judged.lacks} additional seeds needed)" for judged in claims if judged.lacks]
        effect = f"counts as undecided: {', '.join(short)}" if short else "leaves all verdicts as they are"
        return (
            f"The correction over {family.tests} tests of {whose} (at most {in_percent(family.rate)} of what is "
            f"decided is expected to be false; Benjamini and Hochberg) {effect}."
        )

    def exit_code(self) -> int:
        """The exit code: 1 if a claim is *not reproduced*, *disagrees* or *fails*, 2 if a trial failed, else 0."""
        if any(trial.state == "failed" for trial in self.trials):
            return EXIT_FAILURE
        return EXIT_CLAIM if any(judged.verdict in BAD for judged in self.claims()) else EXIT_HOLDS

    def to_json(self) -> dict[str, Any]:
        """The run as JSON values, as printed by ``engram run --json``."""
        content = {
            "experiment": self.experiment,
            "preset": self.preset,
            "seeds": self.seeds,
            "looks": list(self.looks),
            "changed": in_words(dict(self.changed)),
            "arms": in_words({arm: to_dict(config) for arm, config in self.configs.items()}),
            "claims": self.claim_rows(),
            "quantities": self.quantity_rows(),
            "trials": [{**trial.to_json(), "choices": in_words(trial.choices)} for trial in self.trials],
            "environment": dict(self.environment),
        }
        return finite_or_none(content)  # type: ignore[no-any-return]

    def claim_rows(self) -> list[dict[str, Any]]:
        """Each claim with its verdict as the row of a table, whose numbers need not be finite."""
        of_claim = "id", "statement", "published", "threshold"
        numbers = "ours", "low", "high", "resolution", "p"
        words = "verdict", "corrected", "lacks", "why", "look", "confidence"
        return [
            {name: getattr(judged.claim, name) for name in of_claim}
            | {"criterion": str(judged.claim.criterion)}
            | {name: getattr(judged, name) for name in (*numbers, *words)}
            | {"seeds": len(judged.values), "caveats": "; ".join(self.caveats(judged.claim))}
            for judged in self.claims()
        ]

    def quantity_rows(self) -> list[dict[str, Any]]:
        """Each measured quantity as the row of a table, whose numbers need not be finite."""
        return [
            {"id": of.quantity.id, "statement": of.quantity.statement}
            | {name: getattr(of, name) for name in ("ours", "low", "high")}
            | {"seeds": len(of.values)}
            for of in self.quantities()
        ]


def _results_of(files: Sequence[str], state: bytes) -> Results:
    for file in files:
        references.load(f"{file}:__name__")
    return Results(**loads(state))


def in_words(value: Any) -> Any:
    """Settings with words for numbers that are not finite, which JSON does not have.

    Examples:
        >>> in_words({"shift": math.inf, "rates": [0.1, -math.inf]})
        {'shift': 'Infinity', 'rates': [0.1, '-Infinity']}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else NOT_FINITE[str(value)]
    if isinstance(value, Mapping):
        return {name: in_words(item) for name, item in value.items()}
    return [in_words(item) for item in value] if isinstance(value, list | tuple) else value
