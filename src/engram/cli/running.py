"""Commands that run experiments, comparisons and sweeps, and write reports and exports."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from engram import registry
from engram.claim_rows import MEASURED, Columns, for_terminal
from engram.cli import fields
from engram.cli.commands import Compare, Export, Report, Run, Sweep
from engram.cli.output import LEAST, out, print_table
from engram.storage.files import runs_folder, writing

COLUMNS: Columns = {
    "claim": "claim",
    "criterion": "criterion",
    "ours": "value",
    "seeds": "seeds",
    "verdict": "verdict",
}

if TYPE_CHECKING:
    from engram.lab import Results
    from engram.lab.claims.claim import JudgedClaim

EXIT_FAILURE = 2
EXIT_INTERRUPTED = 130
UNDONE = {"interrupted", "waiting", "running"}


def run(command: Run, field_options: list[str]) -> int:
    """Run experiments, and print the verdicts on their claims."""
    from engram import checks
    from engram.lab.engine.laboratory import carry_out
    from engram.lab.engine.plan import Request
    from engram.lab.trial.experiment import find_experiment

    if not command.names:
        names = ", ".join(registry.experiments())
        raise ValueError(f"no experiment named (write the names before the config fields); known: {names}")
    # All names, options and settings are checked before anything runs.
    experiments = [find_experiment(name) for name in command.names]
    preset = command.run.preset
    requests = [
        Request(each, command.run, fields.changes(each, checks.choice("preset", preset, each.presets), field_options))
        for each in experiments
    ]
    code = 0
    for name, request in zip(command.names, requests, strict=True):
        try:
            with contextlib.redirect_stdout(sys.stderr):  # the standard output is reserved for the results
                results = carry_out(request)
            is_stopped = False
        except KeyboardInterrupt as stopped:
            results, is_stopped = _so_far(stopped), True
        if command.json:
            print(json.dumps(results.to_json()))
        else:
            _print_results(results)
        states = [trial.state for trial in results.trials]
        if is_stopped or set(states) & UNDONE:
            _say_stopped(name, states)
            return EXIT_INTERRUPTED
        code = max(code, results.exit_code())
    return code


def compare(command: Compare) -> None:
    """Compare methods with the registered ones, print how they rank, and write the report."""
    from engram.studies.standings import compare as compare_methods

    if not command.names:
        raise ValueError("no method named: expected a registered name, 'file.py:Name', 'module:Name', or a kind")
    sys.path.insert(0, "")  # so that modules here are found, as with `python -m`
    options: dict[str, Any] = {name: getattr(command, name) for name in ("seeds", "until_decided", "fresh", "preset")}
    options |= {"against": command.against, "tasks": command.tasks, "jobs": command.jobs}
    kind = (command.kind or "").replace("-", "_")
    with contextlib.redirect_stdout(sys.stderr):
        standing = compare_methods(*command.names, kind=kind, runs=command.runs, **options)
    if command.export != "none":
        print(standing.text(command.export), end="")
        return
    console = out()
    rows = []
    for candidate in standing.by_rank:
        cells = [standing.cell(task.name, candidate) for task in standing.tasks]
        mean = standing.ranks.mean.get(candidate)
        name = f"[bold]{escape(candidate)}[/]" if candidate in standing.own else escape(candidate)
        rows.append([name, *map(escape, cells), "" if mean is None else f"{mean:.1f}"])
    print_table(console, "", ["", *(task.name for task in standing.tasks), "mean rank"], rows, whole=True)
    console.print()
    for line in (*standing.lines, *standing.remarks):
        console.print(escape(line), highlight=False, soft_wrap=console.width >= LEAST)
    print(f"report: {standing.report(_expanded(command.out) or _in_runs(command.runs, 'compare.html'))}")


def sweep(command: Sweep, field_options: list[str]) -> int:
    """Run an experiment at many settings, and print a comparison of its arms."""
    import engram.lab
    from engram.lab.engine.sweeps import compare_arms, folder_of
    from engram.lab.trial.experiment import find_experiment

    experiment = find_experiment(command.name)
    values = fields.values(experiment, command.preset, field_options)
    options = {name: value for name, value in vars(command).items() if name != "name"}
    try:
        with contextlib.redirect_stdout(sys.stderr):
            swept = engram.lab.sweep(experiment, **options, **values)
        is_stopped = False
    except KeyboardInterrupt as stopped:
        swept, is_stopped = _so_far(stopped), True
    table = compare_arms(experiment, swept, list(values), command.metric)
    rows = [[f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row] for row in table.rows()]
    print_table(out(), f"{command.name}, preset {command.preset}: {table.columns[-1]}", table.columns, rows)
    print(folder_of(experiment, command.runs, list(values)))
    states = swept["state"].to_list()
    if is_stopped or set(states) & UNDONE:
        _say_stopped(command.name, states)
        return EXIT_INTERRUPTED
    return EXIT_FAILURE if "failed" in states else 0


def _so_far(stopped: KeyboardInterrupt) -> Any:
    """The results so far of a run that was stopped; raises the error again if it was stopped at once."""
    if not hasattr(stopped, "results"):
        raise stopped
    return stopped.results


def _say_stopped(name: str, states: list[str]) -> None:
    undone = sum(state in UNDONE for state in states)
    progress = f"[yellow]{name}: {len(states) - undone} of {len(states)} trials done; "
    Console(stderr=True).print(progress + "the same command resumes them[/]", soft_wrap=True)


def _row(judged: JudgedClaim) -> tuple[str, ...]:
    """The cells of a claim: statement, criterion, our measure with its interval, seeds, verdict."""
    from engram.lab.claims.claim import OWNERS

    claim = judged.claim
    details = [
        claim.id,
        OWNERS[claim.threshold] if claim.published else "",
        f"{judged.confidence:.1%} interval" if claim.sameness == "statistical" and not math.isnan(judged.low) else "",
        f"analysis {judged.look}" if judged.look else "",
        "" if math.isnan(judged.resolution) else f"smallest detectable difference {judged.resolution:.2g}",
        judged.why,
        f"adjusted: undecided; additional seeds needed: about {judged.lacks}" if judged.lacks else "",
    ]
    (cells,) = for_terminal([judged.row(note="\n" + "; ".join(filter(None, details)), why="")], COLUMNS)
    return cells


def _print_results(results: Results) -> None:
    console = out()
    if results.judges:
        rows: list[tuple[str, ...]] = []
        for (published, source), group in groupby(
            results.claims(), lambda judged: (judged.claim.published, judged.claim.source)
        ):
            heading = f"Published: {published} ({source})" if published else f"Nothing published ({source})"
            rows += [("",) * 5] * bool(rows) + [(f"[italic]{escape(heading)}[/]", "", "", "", ""), *map(_row, group)]
        print_table(console, f"{results.experiment}, preset {results.preset}", [*COLUMNS], rows, spaced=True)
        console.print(results.correction(), soft_wrap=console.width >= LEAST)
        if measured := results.quantities():
            console.print()
            print_table(console, "Measured", [*MEASURED], for_terminal([each.row() for each in measured], MEASURED))
    else:
        num_finished = sum(trial.state == "finished" for trial in results.trials)
        console.print(
            f"{results.experiment}, preset {results.preset}: {num_finished} of {len(results.trials)} trials finished. "
            f"This preset does not judge the claims; to judge them: engram run {results.experiment}"
        )
    for trial in results.trials:
        if trial.state == "failed":
            traceback = Path(trial.folder) / "error.txt"
            console.print(f"[red]{trial.arm}, seed {trial.seed} failed:[/] {escape(trial.message)}", soft_wrap=True)
            console.print(escape(f"  {traceback}" if traceback.exists() else f"  {trial.folder}"), soft_wrap=True)


def report(command: Report) -> None:
    """Write the report of the last runs, or of the records included in engram."""
    from engram.lab import CorruptFileError, load, recorded
    from engram.lab.output.report import write_report

    root, names = runs_folder(command.runs), list(command.names)
    if command.recorded and not names:
        raise ValueError("no experiment named: --recorded needs the names of experiments")
    names = names or [name for name in registry.experiments() if (root / name / "last-run.json").exists()]
    if not names:
        raise ValueError(
            f"{root} has no runs of registered experiments yet; name another one by its place, or try: "
            f"engram run {registry.experiments()[0]}"
        )
    read_results: Callable[[str], Results] = partial(load, runs=command.runs)
    if command.recorded:
        read_results = partial(recorded, preset=command.preset or "laptop")
    runs, corrupt = [], None
    for name in names:
        try:
            results = read_results(name)
        except CorruptFileError as error:  # of an experiment that has changed since, for example
            if command.names:
                raise
            corrupt = error
            print(f"report: {name} is left out: {error}", file=sys.stderr)
            continue
        if command.preset in (None, results.preset):
            runs.append((registry.get("experiments", name), results))
        elif command.names:
            raise ValueError(
                f"preset = {command.preset!r}: {name} was last run with preset {results.preset!r}; to report another: "
                f"engram run {name} --preset {command.preset}, or --recorded for the record that engram includes"
            )
    if not runs:
        raise corrupt or ValueError(f"preset = {command.preset!r}: no last run in {root} has this preset")
    print(f"report: {write_report(runs, _expanded(command.out) or _in_runs(command.runs, 'report.html'))}")


def _expanded(path: Path | None) -> Path | None:
    """A path with the home folder in place of ``~``, which a shell leaves in ``--out=~/report.html``."""
    return None if path is None else path.expanduser()


def _in_runs(runs: Path | None, name: str) -> Path:
    """The path of a file in the folder of runs, which may not exist yet if all results are recorded ones."""
    folder = runs_folder(runs)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def export(command: Export) -> None:
    """Write a last run as tables and figures."""
    from engram.lab import load
    from engram.lab.output.export import export as write

    experiment = registry.get("experiments", command.name)
    folder = _expanded(command.out) or runs_folder(command.runs) / experiment.name / "export"
    formats: dict[str, Any] = {"tables": command.format, "pictures": command.figures}
    for path in write(experiment, load(experiment, command.runs), folder, **formats):
        print(path)
