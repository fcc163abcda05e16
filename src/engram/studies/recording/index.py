"""The index of the verdicts on all claims of the records in a folder, which everything that tells verdicts reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from engram.lab.claims import correction
from engram.lab.output.record_files import Record, as_text, from_record, is_current, read_curves, record_path, rounded
from engram.lab.output.results import Results
from engram.lab.trial.experiment import Experiment
from engram.storage.files import finite_or_none, read_json, write_atomic
from engram.verdicts import FILE, Index, Judgement, Measurement, as_json, index_in


def index_of(runs: Sequence[Results]) -> Index:
    """The verdicts on all claims of some records, corrected over the tests of all of them, and their quantities.

    Args:
        runs: The results in the records.
    """
    claims = [run.claims() for run in runs]
    family = correction.family_of_claims([judged for of_run in claims for judged in of_run])
    rows = [
        Judgement(
            run.experiment,
            run.preset,
            judged.claim.id,
            judged.claim.statement,
            str(judged.claim.criterion),
            judged.claim.published,
            ours=finite_or_none(rounded(judged.ours)),
            low=finite_or_none(rounded(judged.low)),
            high=finite_or_none(rounded(judged.high)),
            seeds=len(judged.values),
            verdict=judged.verdict,
            corrected=judged.corrected,
            lacks=judged.lacks,
        )
        for run, of_run in zip(runs, claims, strict=True)
        for judged in correction.correct(of_run, run.looks, family)
    ]
    measurements = [
        Measurement(
            run.experiment,
            run.preset,
            measured.quantity.id,
            measured.quantity.statement,
            ours=finite_or_none(rounded(measured.ours)),
            low=finite_or_none(rounded(measured.low)),
            high=finite_or_none(rounded(measured.high)),
            seeds=len(measured.values),
        )
        for run in runs
        for measured in run.quantities()
    ]
    return Index(*family, {row[:3]: row for row in rows}, {row[:3]: row for row in measurements})


def runs_in(folder: Path, experiments: Iterable[Experiment]) -> list[Results]:
    """The results of the current records of some experiments that lie in a folder.

    Args:
        folder: The folder.
        experiments: The experiments.
    """
    found = [(each, path) for each in experiments for preset in each.presets if (path := record_path(each, preset))]
    records = [(each, path, read_json(path, Record)) for each, path in found if path.parent == folder]
    return [
        from_record(each, record, read_curves(path, record))
        for each, path, record in records
        if is_current(each, record)
    ]


def write_index(folder: Path, runs: Sequence[Results]) -> None:
    """Write the index of the records in a folder.

    Args:
        folder: The folder.
        runs: The results in all of its records.
    """
    write_atomic(folder / FILE, as_text(as_json(index_of(runs))).encode())
    index_in.cache_clear()
