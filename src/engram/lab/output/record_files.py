"""The record of an experiment, by which its published verdicts are judged: a JSON file and its learning curves.

``NAME-PRESET.json`` holds settings and results; ``NAME-PRESET.parquet``, beside it, the learning curves. The
same results give the same bytes. ``NAME-compare.json`` holds, at laptop size, what ``engram.compare`` compares on the
tasks of the experiment and the record of laptop size lacks; no claim reads it.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NotRequired

import polars as pl
from typing_extensions import TypedDict

from engram import checks
from engram.lab.claims.correction import recorded_family
from engram.lab.output.read_runs import COLUMNS, configs_of, results_from
from engram.lab.output.results import NOT_FINITE, SHOWN, Results, TrialResult, in_words
from engram.lab.trial import config as configs
from engram.lab.trial.experiment import Experiment, find_experiment
from engram.lab.trial.metrics import windows
from engram.storage.files import CorruptFileError, read_bytes, read_json, write_atomic
from engram.verdicts import Index, Judgement, Measurement, index_in, with_verdicts

CURVE_POINTS = 50
DIGITS = 6  # of the numbers in curves, lists and choices


class ArmRecord(TypedDict):
    """What a record holds of an arm.

    A column of ``results`` or ``choices`` is a list in the order of the seeds; it is a mapping by seed if some of the
    trials lack it. ``shown`` is that of the first seed.
    """

    config: dict[str, Any]
    seeds: list[int]
    seconds: list[float]
    results: dict[str, Any]
    shown: NotRequired[dict[str, Any]]
    choices: NotRequired[dict[str, Any]]


class Record(TypedDict):
    """The JSON file of a record; ``curves`` is the checksum of the other file."""

    experiment: str
    revision: int
    preset: str
    seeds: int
    looks: list[int]
    environment: dict[str, dict[str, Any]]
    arms: dict[str, ArmRecord]
    curves: str


def recorded(experiment: str | Experiment, preset: str = "laptop") -> Results:
    """The results behind an experiment's published verdicts, read from the record that ships with it.

    The record is ``results/NAME-PRESET.json`` in the nearest folder above the experiment's module that has it: the
    folder of the experiments in an installed package, the root of the repository in a checkout.

    Args:
        experiment: The experiment, or its name in the registry.
        preset: Name of the preset.

    Raises:
        ValueError: There is no record, or the experiment has changed since: its revision or the preset's settings.
        CorruptFileError: A file of the record is missing, truncated or altered.

    Examples:
        >>> recorded("pattern-completion").claims()[0].verdict
        'agrees'
    """
    experiment = find_experiment(experiment)
    checks.choice("preset", preset, experiment.presets)
    path = record_path(experiment, preset)
    if path is None:
        raise ValueError(f"{experiment.name} has no record of preset {preset}")
    record = read_json(path, Record)
    if not is_current(experiment, record):
        raise ValueError(f"{experiment.name} has changed since its record of preset {preset}: run it")
    return from_record(experiment, record, read_curves(path, record))


def recorded_arms(experiment: Experiment, preset: str, name: str) -> Results | None:
    """What a record says of the arms that a preset has with the same settings, whatever other arms it holds.

    Args:
        experiment: The experiment, perhaps with arms of its own for the candidates of a comparison.
        preset: Name of the preset.
        name: Name of the record: that of the preset, or ``"compare"``.

    Returns:
        Their results; None if there is no such record, or it is of another revision or preset.

    Raises:
        CorruptFileError: A file of the record is missing, truncated or altered.
    """
    path = record_path(experiment, name)
    record = None if path is None else _read_record(path, path.stat().st_mtime_ns)
    if path is None or record is None or (record["revision"], record["preset"]) != (experiment.revision, preset):
        return None
    today = experiment.arms(preset)
    arms = {arm: stored for arm, stored in record["arms"].items() if arm in today and _has(stored, today[arm].config)}
    return from_record(experiment, {**record, "arms": arms}, read_curves(path, record))


@functools.lru_cache(maxsize=4)
def _read_record(path: Path, changed: int) -> Record:
    """A record, which each task of an experiment asks for; ``changed`` is when its file was."""
    return read_json(path, Record)


def _has(stored: ArmRecord, config: Any) -> bool:
    """Whether an arm was recorded with these settings; those that were added since then have their defaults."""
    with suppress(ValueError):  # a setting is unknown today, or out of range
        return bool(configs.from_dict(type(config), _read_value(stored["config"])) == config)
    return False


def record_path(experiment: Experiment, name: str) -> Path | None:
    """The JSON file of a record that ships with an experiment, named by its preset or "compare"; None without one."""
    paths = (folder / f"{experiment.name}-{name}.json" for folder in record_folders(experiment))
    return next((path for path in paths if path.is_file()), None)


def indexed_claims(experiment: Experiment) -> list[Judgement]:
    """The claims of an experiment at each preset, as the indexes beside its records have them.

    Args:
        experiment: The experiment.
    """
    return [
        row
        for preset, index in _indexes(experiment).items()
        for claim in experiment.claims
        if (row := index.judgements.get((experiment.name, preset, claim.id)))
    ]


def indexed_quantities(experiment: Experiment) -> list[Measurement]:
    """The quantities of an experiment at each preset, as the indexes beside its records have them.

    Args:
        experiment: The experiment.
    """
    return [
        row
        for preset, index in _indexes(experiment).items()
        for quantity in experiment.quantities
        if (row := index.quantities.get((experiment.name, preset, quantity.id)))
    ]


def _indexes(experiment: Experiment) -> dict[str, Index]:
    """The index beside the record of each preset that has one."""
    paths = {preset: record_path(experiment, preset) for preset in experiment.presets}
    found = {preset: index_in(path.parent) for preset, path in paths.items() if path is not None}
    return {preset: index for preset, index in found.items() if index is not None}


def recorded_rows(experiment: Experiment) -> dict[str, Judgement | Measurement]:
    """The claims and quantities of an experiment by id, each in the record of the first preset that has it.

    Args:
        experiment: The experiment.
    """
    claims = {row.claim: row for row in reversed(indexed_claims(experiment)) if row.verdict != "not testable here"}
    return {**{row.quantity: row for row in reversed(indexed_quantities(experiment))}, **claims}


def answer_in_words(experiment: Experiment) -> str:
    """The answer of an experiment with the verdicts of its records.

    Examples:
        >>> answer_in_words(find_experiment("pattern-completion"))[:88]
        'A network with plastic connections restores half of a pattern that it saw once with 1.5 '
    """
    text = " ".join(experiment.answer.split())
    return with_verdicts(text, recorded_rows(experiment), lambda claim, word: f"[{claim}: {word}]")


def record_folders(experiment: Experiment) -> list[Path]:
    """The folders in which a record of an experiment may lie: ``results`` in each folder above its modules."""
    modules = dict.fromkeys(study.trial.__module__ for study in experiment.by_name.values())
    files = [file for module in modules if (file := getattr(sys.modules.get(module), "__file__", None))]
    return [above / "results" for file in files for above in Path(file).absolute().parents]


def is_current(experiment: str | Experiment, record: Record) -> bool:
    """Whether a record has the revision of its experiment, and the arms and settings that its preset has now.

    Settings that were added since then have their defaults.
    """
    experiment = find_experiment(experiment)
    return record["arms"].keys() == experiment.arms(record["preset"]).keys() and is_extendable(experiment, record)


def is_extendable(experiment: str | Experiment, record: Record) -> bool:
    """Whether a record has the revision of its experiment, and today's settings in all arms that the preset still has.

    Such a record may lack arms of the preset, but not all, and may have others that the preset has no longer.
    """
    experiment = find_experiment(experiment)
    arms = experiment.arms(record["preset"])
    try:
        configs = configs_of(experiment, _stored(with_arms_of_today(experiment, record)))
    except ValueError:  # a setting is unknown today, or out of range
        return False
    is_as_it_was = bool(configs) and all(arms[arm].config == configs[arm] for arm in configs)
    return record["revision"] == experiment.revision and is_as_it_was


def with_arms_of_today(experiment: Experiment, record: Record) -> Record:
    """A record without the arms that its preset has no longer, and with the number of seeds of those that are left."""
    arms = {arm: stored for arm, stored in record["arms"].items() if arm in experiment.arms(record["preset"])}
    return {**record, "arms": arms, "seeds": max((len(stored["seeds"]) for stored in arms.values()), default=0)}


def write_record(experiment: Experiment, results: Results, folder: Path, name: str = "") -> Path:
    """Write the record of a run; each of its two files is written atomically, the JSON file last.

    Args:
        experiment: The experiment.
        results: The results of a run of whole trials.
        folder: The folder of records.
        name: Name of the record (default: that of the preset).

    Returns:
        The JSON file.
    """
    record, curves = as_record(experiment, results)
    path = folder / f"{results.experiment}-{name or results.preset}.json"
    write_atomic(path.with_suffix(".parquet"), curves)
    write_atomic(path, as_text(record).encode())
    return path


def as_record(experiment: Experiment, results: Results) -> tuple[Record, bytes]:
    """The contents of the two files of a record.

    Single numbers among the results are kept exactly, since claims are judged by them; those in lists have 6 digits.
    Curves are averaged over 50 windows. What a trial shows is kept for the first seed of each arm.

    Args:
        experiment: The experiment.
        results: The results of a run.

    Raises:
        ValueError: A trial is not finished, settings differ from the preset, or trials of edited code were taken.
    """
    unfinished = [f"{trial.arm}, {trial.seed}" for trial in results.trials if trial.state != "finished"]
    reasons = {"not finished": "; ".join(unfinished[:8]), "changed": results.changed, "reused": results.reused}
    if why := [f"{reason}: {what}" for reason, what in reasons.items() if what]:
        raise ValueError(f"{results.experiment} gives no record of preset {results.preset}; {', '.join(why)}")
    curves = _curves(results)
    record: Record = {
        "experiment": results.experiment,
        "revision": experiment.revision,
        "preset": results.preset,
        "seeds": results.seeds,
        "looks": list(results.looks),
        "environment": {group: dict(values) for group, values in results.environment.items()},
        "arms": {arm: _arm(config, results, arm) for arm, config in results.configs.items()},
        "curves": hashlib.sha256(curves).hexdigest(),
    }
    return record, curves


def from_record(experiment: Experiment, record: Record, curves: bytes) -> Results:
    """The results in a record, with the curves of its arms; the claims are judged again from its trials."""
    metrics = pl.read_parquet(io.BytesIO(curves)).filter(pl.col("arm").is_in(list(record["arms"])))
    # As text, a number of single precision has the fewest digits that identify it: those that it was rounded to.
    text = pl.col("value").cast(pl.String) if metrics.schema["value"] == pl.Float32 else pl.col("value")
    metrics = metrics.select(*(pl.col(name).cast(kind) for name, kind in COLUMNS.items() if name != "value"), text)
    trials = [trial for arm, stored in record["arms"].items() for trial in _trials(arm, stored)]
    metrics = metrics.with_columns(pl.col("value").cast(pl.Float64)).select(*COLUMNS)
    family = recorded_family(record_path(experiment, record["preset"]))
    return replace(results_from(experiment, _stored(record), trials, metrics), is_recorded=True, family=family)


def read_curves(path: Path, record: Record) -> bytes:
    """The learning curves of a record, given its JSON file and what this holds."""
    curves_path = path.with_suffix(".parquet")
    try:
        curves = read_bytes(curves_path)
    except FileNotFoundError:
        raise CorruptFileError(curves_path, f"it is missing beside {path.name}") from None
    if hashlib.sha256(curves).hexdigest() != record["curves"]:
        raise CorruptFileError(curves_path, f"its checksum is not the one in {path.name}")
    return curves


def as_text(value: Any, indent: int = 0) -> str:
    """A value as JSON, with one line for each list and for each mapping of single values, so that diffs are readable.

    Examples:
        >>> print(as_text({"seeds": [0, 1], "arms": {"a": {"size": 1}}}), end="")
        {
         "seeds": [0, 1],
         "arms": {
          "a": {"size": 1}
         }
        }
    """
    is_open = isinstance(value, Mapping) and (not indent or any(isinstance(v, Mapping | list) for v in value.values()))
    if not value or not is_open:
        return json.dumps(value, allow_nan=False)
    inner = " " * (indent + 1)
    lines = [f"{inner}{json.dumps(str(name))}: {as_text(item, indent + 1)}" for name, item in value.items()]
    return "{\n" + ",\n".join(lines) + f"\n{' ' * indent}}}" + "\n" * (not indent)


def rounded(value: Any) -> Any:
    """Round floats to 6 significant digits, which keeps a record small."""
    if isinstance(value, Mapping):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _arm(config: Any, results: Results, arm: str) -> ArmRecord:
    trials = [trial for trial in results.trials if trial.arm == arm]
    seeds = [trial.seed for trial in trials]
    content: ArmRecord = {
        "config": in_words(configs.to_dict(config)),
        "seeds": seeds,
        "seconds": [round(trial.seconds, 1) for trial in trials],
        "results": _columns(seeds, [_without_shown(trial.result) for trial in trials]),
    }
    if trials and SHOWN in trials[0].result:
        content["shown"] = _as_stored(rounded(trials[0].result[SHOWN]))
    if any(trial.choices for trial in trials):
        content["choices"] = _columns(seeds, [in_words(rounded(trial.choices)) for trial in trials])
    return content


def _without_shown(result: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name != SHOWN}


def _columns(seeds: Sequence[int], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Values by name: a list in the order of the seeds; where a row lacks the name, a mapping by seed."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {
        name: {str(seed): _as_stored(row[name]) for seed, row in zip(seeds, rows, strict=True) if name in row}
        for name in names
    }
    return {name: list(column.values()) if len(column) == len(seeds) else column for name, column in columns.items()}


def _rows(seeds: Sequence[int], columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of ``_columns``, by seed."""
    by_seed = {
        name: column if isinstance(column, dict) else dict(zip(map(str, seeds), column, strict=True))
        for name, column in columns.items()
    }
    return [{name: column[str(seed)] for name, column in by_seed.items() if str(seed) in column} for seed in seeds]


def _trials(arm: str, stored: ArmRecord) -> list[TrialResult]:
    rows = _read_value(_rows(stored["seeds"], stored["results"]))
    if "shown" in stored and rows:
        rows[0][SHOWN] = _read_value(stored["shown"])
    choices = _read_value(_rows(stored["seeds"], stored.get("choices", {})))
    return [
        TrialResult(arm, seed, "finished", result, seconds, choices=chosen)
        for seed, result, seconds, chosen in zip(stored["seeds"], rows, stored["seconds"], choices, strict=True)
    ]


def _stored(record: Record) -> dict[str, Any]:
    """The settings of a record, as the note of a run has them."""
    arms = {arm: _read_value(stored["config"]) for arm, stored in record["arms"].items()}
    return {**record, "changed": {}, "arms": arms}


def _curves(results: Results) -> bytes:
    """The learning curves as a Parquet file, in single precision if this gives back all of their 6 digits."""
    frames = [pl.DataFrame(schema=COLUMNS)]
    for (arm, metric), rows in results.metrics.group_by("arm", "metric", maintain_order=True):
        means = windows(rows, CURVE_POINTS).sort("seed", maintain_order=True)
        values = pl.Series("value", [rounded(value) for value in means["value"]], dtype=pl.Float64)
        frame = means.select("seed", "step", pl.lit(arm).alias("arm"), pl.lit(metric).alias("metric"), values)
        frames.append(frame.select(pl.col(name).cast(kind) for name, kind in COLUMNS.items()))
    curves = pl.concat(frames)
    single = curves["value"].cast(pl.Float32)
    if single.cast(pl.String).cast(pl.Float64).equals(curves["value"]):
        curves = curves.with_columns(single)
    file = io.BytesIO()
    curves.write_parquet(file, compression="brotli", compression_level=11, statistics=False)
    return file.getvalue()


def _as_stored(value: Any) -> Any:
    """A result as JSON values: single numbers exactly, those in lists rounded."""
    match value:
        case float():
            return value if math.isfinite(value) else NOT_FINITE[str(value)]
        case Mapping():
            return {name: _as_stored(item) for name, item in value.items()}
        case list() | tuple():
            return [_as_stored(rounded(item)) for item in value]
    return value


def _read_value(value: Any) -> Any:
    """A value of a record, in which words stand for numbers that are not finite."""
    if isinstance(value, dict):
        return {name: _read_value(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_read_value(item) for item in value]
    return float(value) if value in NOT_FINITE.values() else value
