"""The command that writes the records of experiments."""

from __future__ import annotations

import contextlib
import sys

from engram.cli.commands import Record


def record(command: Record) -> None:
    """Run what the records of experiments lack, and write the records and what is generated from them."""
    from engram import registry
    from engram.lab.trial.experiment import find_experiment
    from engram.studies import recording
    from engram.studies.recording import pictures, tables
    from engram.studies.recording.index import runs_in, write_index

    if command.comparisons:
        _record_comparisons(command)
        return
    folders = set()
    experiments = {each.name: each for each in map(find_experiment, command.names)}
    for experiment in experiments.values():
        with contextlib.redirect_stdout(sys.stderr):
            path, results = recording.record(
                experiment, command.preset, jobs=command.jobs, seconds=command.at_most, runs=command.runs
            )
        still_open = sum(judged.is_open for judged in results.claims())
        print(f"{path}: {results.seeds} seeds, {still_open} claims are open")
        folders.add(path.parent)
    for folder in folders - {tables.RECORDS}:  # of other packages
        registered = [registry.get("experiments", name) for name in registry.experiments() if name not in experiments]
        write_index(folder, runs_in(folder, [*registered, *experiments.values()]))
    if tables.is_checkout():
        if command.release:
            tables.write_release()
        tables.write()
        pictures.write()
    elif not command.names or command.release:
        raise ValueError("no experiment named, and this is no checkout of engram's repository, which has the tables")


def _record_comparisons(command: Record) -> None:
    """Write the records of comparisons of the experiments that are named, which no table shows."""
    from engram.lab.trial.experiment import find_experiment
    from engram.studies.standings import record_comparisons

    if command.preset != "laptop" or command.release or not command.names:
        raise ValueError("comparisons = True: expected names of experiments, and neither another preset nor release")
    for experiment in map(find_experiment, command.names):
        with contextlib.redirect_stdout(sys.stderr):
            path, added = record_comparisons(experiment, jobs=command.jobs, seconds=command.at_most, runs=command.runs)
        print(
            f"{experiment.name}: its own record has all methods"
            if path is None
            else f"{path}: {len(added)} arms were run"
        )
