"""The command line: list, show, run, report, export, data, doctor."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import gc
import json
import math
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engram import registry
from engram.version import __version__

if TYPE_CHECKING:
    from engram.lab import Experiment, Results

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

Names = tyro.conf.Positional[tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class List:
    """List all experiments, with the state of their last run."""

    runs: Path | None = None
    """Folder of all runs (default: ENGRAM_RUNS, else runs)."""


@dataclasses.dataclass(frozen=True)
class Show:
    """Show what an experiment is: its arms, config fields and claims."""

    name: tyro.conf.Positional[str]
    """Name of the experiment."""


@dataclasses.dataclass(frozen=True)
class Run:
    """Run experiments and judge their claims.

    Every config field is an option too (`engram show NAME` lists them), as in `--episodes 100`. Exit codes: 0 no claim
    failed, 1 a claim is not reproduced, 2 bad usage or a failed trial, 130 interrupted.
    """

    names: Names
    """Names of the experiments."""
    preset: str = "laptop"
    """Size: smoke (seconds), laptop (minutes on 2 cores), paper (as published), or one more of `engram show NAME`."""
    seeds: int | None = None
    """How many seeds (default: the preset's)."""
    arms: str | None = None
    """Only these arms, separated by commas."""
    jobs: int | None = None
    """How many trials at once (default: as many as fit on the cores)."""
    engine: Literal["loky", "ray"] = "loky"
    """Worker processes on this machine, or a Ray cluster."""
    address: str | None = None
    """Address of an existing Ray cluster; its workers must see the folder of runs."""
    runs: Path | None = None
    """Folder of all runs (default: ENGRAM_RUNS, else runs)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    checkpoint_seconds: float = 10.0
    """Time between checkpoints."""
    tensorboard: tyro.conf.FlagCreatePairsOff[bool] = False
    """Write event files into the trials' folders as well."""
    keep_state: tyro.conf.FlagCreatePairsOff[bool] = True
    """Keep nothing of what trials train (else state.safetensors beside each result)."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the results as one JSON object a line, one line an experiment."""


@dataclasses.dataclass(frozen=True)
class Report:
    """Write the last runs as one HTML file that opens without network."""

    names: Names = ()
    """Names of the experiments (default: all that were run)."""
    runs: Path | None = None
    """Folder of all runs (default: ENGRAM_RUNS, else runs)."""
    out: Path | None = None
    """The HTML file (default: report.html in the folder of runs)."""


@dataclasses.dataclass(frozen=True)
class Export:
    """Write the last run of an experiment as tables (metrics, results, claims) and figures."""

    name: tyro.conf.Positional[str]
    """Name of the experiment."""
    format: Literal["csv", "parquet"] = "csv"
    """Format of the tables."""
    figures: Literal["html", "svg", "png"] = "html"
    """Format of the figures; svg and png need Chrome or Chromium."""
    output: Path | None = None
    """The folder to write to (default: export in the experiment's folder of runs)."""
    runs: Path | None = None
    """Folder of all runs (default: ENGRAM_RUNS, else runs)."""


@dataclasses.dataclass(frozen=True)
class Data:
    """Show which data sets are here, fetch one, or verify their checksums."""

    action: tyro.conf.Positional[Literal["list", "fetch", "verify"]] = "list"
    """What to do."""
    names: Names = ()
    """Names of data sets (default for verify: all)."""


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Show versions, cores, GPU, folders, and which extras are missing."""


Command = (
    Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Data, tyro.conf.subcommand("data")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    # What is imported stays to the end: to look through it for garbage would take half of the time of a short command.
    gc.set_threshold(50_000, 20, 20)
    atexit.register(gc.freeze)
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code."""
    if list(arguments) == ["--version"]:
        print(f"engram {__version__}")
        return 0
    command, rest = tyro.cli(
        Command,
        prog="engram",
        description="Brain-inspired learning: published systems as commands that judge their claims.",
        args=list(arguments) or ["--help"],
        return_unknown_args=True,
    )
    try:
        if isinstance(command, Run):
            return _run(command, rest)
        if rest:
            raise ValueError(f"unknown argument {rest[0]!r}; try --help")
        actions: dict[type, Any] = {List: _list, Show: _show, Report: _report, Export: _export, Data: _data}
        actions[Doctor] = _doctor
        actions[type(command)](command)
        return 0
    except (ValueError, TypeError, OSError) as error:
        Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        return EXIT_USAGE
    except KeyboardInterrupt:
        Console(stderr=True).print("[yellow]stopped; the same command goes on from the last checkpoints[/]")
        return EXIT_INTERRUPTED
    except Exception:  # exit code 1 is for claims alone
        Console(stderr=True).print_exception()
        return EXIT_USAGE


def _list(command: List) -> None:
    from engram.lab import CorruptFileError, load

    table = Table("name", "what is learned, by what", "paper", "last run", box=None, pad_edge=False)
    for name in registry.experiments():
        try:
            experiment: Experiment = registry.get("experiments", name)
        except Exception as error:  # another package's experiment must not hide all others
            table.add_row(name, "", "", f"[red]cannot be loaded: {escape(str(error))}[/]")
            continue
        try:
            last = _state(load(experiment, command.runs))
        except CorruptFileError as error:
            last = str(error)
        except ValueError:
            last = "never run here"
        table.add_row(name, experiment.summary, experiment.paper, last)
    _out().print(table)


def _show(command: Show) -> None:
    from engram.lab.config import allowed, leaves
    from engram.lab.config import fields as fields_of
    from engram.lab.monitor import duration

    experiment: Experiment = registry.get("experiments", command.name)
    out = _out()
    out.print(f"[bold]{experiment.name}[/]: {experiment.summary}.\n[dim]{experiment.paper}[/]\n")
    presets = Table("preset", "seeds", "arms", "computing time", title="Presets", title_justify="left", box=None)
    for name, preset in experiment.presets.items():
        time = duration(experiment.expected_seconds(name))
        presets.add_row(name, str(preset.seeds), ", ".join(experiment.arms(preset.config)), f"{time} on one core")
    out.print(presets, "")
    shown = {name: leaves(preset.config) for name, preset in experiment.presets.items()}
    kind = type(experiment.presets["laptop"].config)
    texts = _field_texts(kind)
    fields = Table("option", "allowed", *shown, "what it is", title="Config", title_justify="left", box=None)
    for field in fields_of(kind):
        values = [str(values[field]) for values in shown.values()]
        fields.add_row(_option(field), allowed(kind, field), *values, texts.get(field, ""))
    out.print(fields, "")
    columns = "claim", "statement", "criterion", "presets", "seeds"
    claims = Table(*columns, title="Claims", title_justify="left", box=None)
    for claim in experiment.claims:
        criterion = f"{claim.holds} ({claim.threshold}'s)"
        claims.add_row(claim.id, claim.statement, criterion, ", ".join(claim.presets), f">= {claim.seeds}")
    out.print(claims)


def _run(command: Run, rest: list[str]) -> int:
    import engram.lab

    if not command.names:
        known = ", ".join(registry.experiments())
        raise ValueError(f"no experiment named (names stand before config fields); known: {known}")
    options = {name: value for name, value in vars(command).items() if name not in ("names", "arms", "json")}
    arms = None if command.arms is None else [arm.strip() for arm in command.arms.split(",")]
    # All is checked before anything runs.
    changes = {name: _changes(registry.get("experiments", name), command.preset, rest) for name in command.names}
    code = 0
    for name in command.names:
        with contextlib.redirect_stdout(sys.stderr):  # the standard output is for the results alone
            results = engram.lab.run(name, arms=arms, **options, **changes[name])
        if command.json:
            print(json.dumps(results.to_json()))
        else:
            _print_results(results)
        left = [trial for trial in results.trials if trial.state in ("interrupted", "waiting", "running")]
        if left:
            done = len(results.trials) - len(left)
            stopped = f"[yellow]{name}: stopped with {done} trials done and {len(left)} left; "
            Console(stderr=True).print(stopped + "the same command goes on where they are[/]", soft_wrap=True)
            return EXIT_INTERRUPTED
        code = max(code, results.exit_code())
    return code


def _changes(experiment: Experiment, preset: str, rest: list[str]) -> dict[str, Any]:
    """Read the remaining arguments as config fields; return those that differ from the preset."""
    from engram import checks
    from engram.lab.config import fields, override

    config = experiment.presets[checks.choice("preset", preset, experiment.presets)].config
    known = {_option(field) for field in fields(type(config))}
    for argument in rest:
        option = argument.partition("=")[0].replace("_", "-")
        negated = re.sub(r"^(--.*\.|--)no-", r"\1", option)
        if argument.startswith("--") and not {option, negated} & known:
            override(config, {option.removeprefix("--").replace("-", "_"): None})  # says which field is nearest
    parsed = tyro.cli(type(options := _options(config)), default=options, args=rest, prog="engram run NAME")
    given = dict(_differences(options, parsed))
    override(config, given)
    return given


def _option(field: str) -> str:
    return "--" + field.replace("_", "-")


def _options(config: Any) -> Any:
    """Return a config as an object that validates nothing, so that parsing does not validate half a config."""
    from engram.lab.config import annotation

    options = []
    for field in dataclasses.fields(config):
        kind, value = annotation(type(config), field.name)[0], getattr(config, field.name)
        if dataclasses.is_dataclass(kind):
            value = _options(value)
            kind = type(value)
        options.append((field.name, kind, value))
    return dataclasses.make_dataclass("Fields", options, frozen=True)()


def _differences(before: Any, after: Any) -> Iterator[tuple[str, Any]]:
    """Yield the fields that differ, dotted where they are a study's, with their new values."""
    for name, value in vars(after).items():
        if dataclasses.is_dataclass(value):
            yield from ((f"{name}.{inner}", item) for inner, item in _differences(getattr(before, name), value))
        elif value != getattr(before, name):
            yield name, value


def _print_results(results: Results) -> None:
    from engram.lab.claim import OWNERS
    from engram.lab.laboratory import COLORS

    out = _out()
    table = Table("claim", "published", "criterion", "ours", "95 % interval", "seeds", "verdict", title_justify="left")
    table.title = f"{results.experiment}, preset {results.preset}"
    for judged in results.claims():
        claim = judged.claim
        color = COLORS[judged.verdict]
        resolve = "" if math.isnan(judged.resolution) else f"\n[dim]resolve {judged.resolution:.2g}[/]"
        table.add_row(
            f"{claim.statement}\n[dim]{claim.id}[/]",
            claim.published,
            f"{claim.holds}\n[dim]{OWNERS[claim.threshold]}[/]",
            f"{judged.ours:.4g}" if judged.values else "",
            escape(f"[{judged.low:.3g}, {judged.high:.3g}]") if judged.values else "",
            f"{len(judged.values)}{resolve}",
            f"[{color}]{judged.verdict}[/]" + (f"\n[dim]{escape(judged.why)}[/]" if judged.why else ""),
        )
    out.print(table)
    out.print(results.family(), soft_wrap=True)
    for trial in results.trials:
        if trial.state == "failed":
            traceback = Path(trial.folder) / "error.txt"
            out.print(f"[red]{trial.arm}, seed {trial.seed} failed:[/] {escape(trial.message)}")
            out.print(f"  {traceback}" if traceback.exists() else f"  {trial.folder}")


def _report(command: Report) -> None:
    from engram.lab import load
    from engram.lab.last_run import runs_folder
    from engram.lab.report import write_report

    root = runs_folder(command.runs)
    names = list(command.names) or [name for name in registry.experiments() if (root / name / "last-run.json").exists()]
    if not names:
        raise ValueError(f"nothing was run in {root} yet; try: engram run {registry.experiments()[0]}")
    runs = [(registry.get("experiments", name), load(name, command.runs)) for name in names]
    print(f"report: {write_report(runs, command.out or root / 'report.html')}")


def _export(command: Export) -> None:
    from engram.lab import load
    from engram.lab.export import export
    from engram.lab.last_run import runs_folder

    experiment = registry.get("experiments", command.name)
    folder = command.output or runs_folder(command.runs) / command.name / "export"
    formats: dict[str, Any] = {"tables": command.format, "pictures": command.figures}
    for path in export(experiment, load(experiment, command.runs), folder, **formats):
        print(path)


def _doctor(_: Doctor) -> None:
    from engram.lab.last_run import runs_folder
    from engram.lab.machine import hardware, missing_extras, versions
    from engram.tasks import data

    table = Table("", "", box=None, show_header=False)
    for name, value in {**versions(), **hardware()}.items():
        table.add_row(name, str(value))
    table.add_row("folder of runs", str(runs_folder()))
    table.add_row("data cache", str(data.cache_folder()))
    missing = missing_extras()
    for extra, modules in missing.items():
        table.add_row(f"extra {extra}", f"missing: {', '.join(modules)} (install engram\\[{extra}])")
    if not missing:
        table.add_row("extras", "all installed")
    _out().print(table)


def _data(command: Data) -> None:
    from engram.tasks import data

    names = command.names or tuple(data.SETS)
    if command.action == "fetch":
        if not command.names:
            raise ValueError(f"no data set named; known: {', '.join(data.SETS)}")
        for name in names:
            data.fetch(name)
    statuses = [data.verify(name) for name in names]
    table = Table("data set", "file", "found in", "bytes", "checksum", box=None, pad_edge=False)
    for status in statuses:
        for file in status.files:
            here = file.found is not None
            checksum = "right" if file.verified else "[red]wrong[/]" if here else ""
            table.add_row(status.dataset.name, file.file.path, file.source or "absent", str(file.size or ""), checksum)
    _out().print(table)
    wrong = [str(file.found) for status in statuses for file in status.files if file.found and not file.verified]
    if command.action == "verify" and wrong:
        raise ValueError(f"wrong checksum: {', '.join(wrong)}")


def _state(results: Results) -> str:
    states = [trial.state for trial in results.trials]
    if set(states) != {"finished"}:
        return f"{results.preset}: {states.count('finished')} of {len(states)} trials done"
    verdicts = [judged.verdict for judged in results.claims()]
    good = sum(verdict.startswith("reproduced") for verdict in verdicts)
    return f"{results.preset}: {good} of {len(verdicts) - verdicts.count('identity')} claims reproduced"


def _field_texts(kind: Any) -> dict[str, str]:
    """Return the documentation that stands under each field of a config class, those inherited and of studies too."""
    import ast
    import inspect
    import textwrap

    from engram.lab.config import annotation

    trees = [ast.parse(textwrap.dedent(inspect.getsource(one))).body[0] for one in reversed(kind.__mro__[:-1])]
    texts = {
        field.target.id: str(text.value.value)
        for tree in trees
        if isinstance(tree, ast.ClassDef)
        for field, text in zip(tree.body, tree.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }
    for field in dataclasses.fields(kind):
        study = annotation(kind, field.name)[0]
        if dataclasses.is_dataclass(study):
            texts |= {f"{field.name}.{inner}": text for inner, text in _field_texts(study).items()}
    return texts


def _out() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=140)
