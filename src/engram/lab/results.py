"""What came of a run: its trials, their metrics as one frame, its claims judged; and the small record that is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from engram.lab import config as configs
from engram.lab.claim import Judgement, judge
from engram.lab.experiment import Experiment
from engram.lab.metrics import SCHEMA, windows
from engram.storage.files import finite_or_none

EXIT_HOLDS, EXIT_CLAIM, EXIT_FAILURE = 0, 1, 2
CURVE_POINTS = 50


@dataclass(frozen=True)
class TrialResult:
    """One trial of a run.

    Attributes:
        arm: Its arm.
        seed: Its seed.
        state: ``waiting``, ``running``, ``interrupted``, ``failed`` or ``finished``.
        result: What the trial returned; empty unless finished.
        seconds: Processor time of a finished trial; of another the time since it began.
        folder: Its folder; empty for a trial read from a record.
        message: Why it failed.
    """

    arm: str
    seed: int
    state: str
    result: Mapping[str, Any]
    seconds: float = 0.0
    folder: str = ""
    message: str = ""


@dataclass(frozen=True)
class Results:
    """The results of one run of an experiment.

    Attributes:
        experiment: The experiment.
        preset: Its preset.
        changed: The config fields that differ from the preset, with their values.
        config: The base config.
        seeds: How many seeds.
        trials: All trials, arm by arm.
        metrics: All metrics: columns arm, seed, step, metric and value.
        environment: Versions and hardware that the trials ran on; where they differ, all of them.
    """

    experiment: Experiment
    preset: str
    changed: Mapping[str, Any]
    config: Any
    seeds: int
    trials: Sequence[TrialResult]
    metrics: pl.DataFrame
    environment: Mapping[str, Any]

    @property
    def by_seed(self) -> dict[int, dict[str, Mapping[str, Any]]]:
        """The finished trials: seed -> arm -> result."""
        found: dict[int, dict[str, Mapping[str, Any]]] = {}
        for trial in self.trials:
            if trial.state == "finished":
                found.setdefault(trial.seed, {})[trial.arm] = trial.result
        return found

    @property
    def arms(self) -> list[str]:
        """The arms that were run, in order."""
        return list(dict.fromkeys(trial.arm for trial in self.trials))

    @property
    def seconds(self) -> float:
        """Processor time, over all trials."""
        return sum(trial.seconds for trial in self.trials)

    def claims(self) -> list[Judgement]:
        """Judge every claim of the experiment."""
        changed = ", ".join(f"{name} = {value!r}" for name, value in self.changed.items())
        why_not = f"the config is not the preset's: {changed}" if changed else ""
        return [judge(claim, self.by_seed, preset=self.preset, why_not=why_not) for claim in self.experiment.claims]

    def exit_code(self) -> int:
        """Return 0 if no claim failed, 1 if one is *not reproduced*, 2 if a trial failed."""
        if any(trial.state == "failed" for trial in self.trials):
            return EXIT_FAILURE
        return EXIT_CLAIM if any(j.verdict == "not reproduced" for j in self.claims()) else EXIT_HOLDS

    def to_json(self) -> dict[str, Any]:
        """Return the run as JSON values: what ``engram run --json`` prints."""
        content = {
            "experiment": self.experiment.name,
            "preset": self.preset,
            "seeds": self.seeds,
            "changed": dict(self.changed),
            "config": configs.to_dict(self.config),
            "claims": [
                {
                    "id": judgement.claim.id,
                    "statement": judgement.claim.statement,
                    "published": judgement.claim.published,
                    "criterion": str(judgement.claim.holds),
                    "threshold": judgement.claim.threshold,
                    "ours": judgement.ours,
                    "low": judgement.low,
                    "high": judgement.high,
                    "seeds": len(judgement.values),
                    "verdict": judgement.verdict,
                    "why": judgement.why,
                }
                for judgement in self.claims()
            ],
            "trials": [dict(vars(trial)) for trial in self.trials],
            "environment": dict(self.environment),
        }
        return finite_or_none(content)  # type: ignore[no-any-return]

    def record(self) -> dict[str, Any]:
        """Return the run as a small record to be committed: as ``to_json``, with shorter learning curves, no paths."""
        content = self.to_json()
        for trial in content["trials"]:
            trial["result"] = {name: _rounded(value) for name, value in trial["result"].items()}
            trial["seconds"] = round(trial["seconds"], 1)
            del trial["folder"], trial["message"]
        content["curves"] = [
            {
                "arm": arm,
                "metric": metric,
                "seed": seed,
                "step": curve["step"].to_list(),
                "value": [_rounded(value) for value in curve["value"]],
            }
            for (arm, metric), rows in self.metrics.group_by("arm", "metric", maintain_order=True)
            for (seed,), curve in windows(rows, CURVE_POINTS).group_by("seed", maintain_order=True)
        ]
        del content["claims"]
        return finite_or_none(content)  # type: ignore[no-any-return]

    @classmethod
    def from_record(cls, experiment: Experiment, record: Mapping[str, Any]) -> Results:
        """Read a record back; the claims are judged anew from its trials."""
        rows = [
            {"arm": c["arm"], "seed": c["seed"], "metric": c["metric"], "step": step, "value": _or_nan(value)}
            for c in record["curves"]
            for step, value in zip(c["step"], c["value"], strict=True)
        ]
        metrics = pl.DataFrame(rows, schema={"arm": pl.String, "seed": pl.Int64, **SCHEMA})
        return cls(
            experiment=experiment,
            preset=record["preset"],
            changed=record["changed"],
            config=configs.from_dict(type(experiment.presets[record["preset"]].config), record["config"]),
            seeds=record["seeds"],
            trials=[
                TrialResult(**{**trial, "result": {name: _or_nan(value) for name, value in trial["result"].items()}})
                for trial in record["trials"]
            ],
            metrics=metrics,
            environment=record["environment"],
        )


def _rounded(value: Any) -> Any:
    """Round floats to 6 significant digits, so that a record is small and yet exact enough to judge by."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _or_nan(value: Any) -> Any:
    """Return a number of a record, in which JSON has no other sign than null for one that is not finite."""
    return math.nan if value is None else value
