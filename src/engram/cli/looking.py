"""Commands that show the parts, an experiment, the data sets, or this machine."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired

from rich.filesize import decimal
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text
from typing_extensions import TypedDict

from engram import extras, registry
from engram.claim_rows import MEASURED, for_terminal, row_of_quantity
from engram.cli import fields, values
from engram.cli.commands import Data, Doctor, List, Show
from engram.cli.output import LEAST, WIDTH, Output, out, print_table
from engram.distribution import REPAIR
from engram.storage.files import CorruptFileError, read_sealed, runs_folder
from engram.verdicts import counted, recorded_counts

GAP = 2  # spaces between columns
LEAST_SUMMARY = 30  # columns for a summary on one line
Counts = Mapping[str, int]

if TYPE_CHECKING:
    from engram.lab.trial.experiment import Experiment
    from engram.tasks.data import SetStatus


def list_parts(command: List) -> None:
    """List the experiments, other parts, or all whose names contain a word."""
    kinds = [kind for kind in registry.KINDS if getattr(command, kind, False)]
    found: list[tuple[str, str]] = []
    for word in command.kinds:
        matching_kinds = [kind for kind in registry.KINDS if f"_{kind}".endswith("_" + word.replace("-", "_"))]
        parts = [] if matching_kinds else _named(word)
        if not matching_kinds and not parts:
            kind_names = [kind.replace("_", "-") for kind in registry.KINDS]
            raise ValueError(f"unknown kind or name of a part {word!r}; {registry.suggestion(word, kind_names)}")
        kinds += matching_kinds
        found += parts
    if command.json:
        _print_json(command, kinds, found)
        return
    for kind in kinds:
        if kind != "experiments":
            rows = [(escape(name), *_described(kind, name)) for name in registry.names(kind)]
            title = kind.replace("_", " ").capitalize() if len(kinds) > 1 else ""
            print_table(out(), title, ["name", "what it is", "where"], rows)
    if found:
        named = [(escape(name), kind.replace("_", " "), *_described(kind, name)) for kind, name in found]
        print_table(out(), "", ["name", "kind", "what it is", "where"], named)
    if "experiments" in kinds or not (kinds or found):
        _print_experiments(out(), _experiments(command))


def _print_json(command: List, kinds: Sequence[str], found: Sequence[tuple[str, str]]) -> None:
    """Print the parts of some kinds, and some by name, one JSON object per line; by default the experiments."""
    if "experiments" in kinds or not (kinds or found):
        for row in _experiments(command):
            print(json.dumps(values.of_listed(*row)))
    of_kinds = [(kind, name) for kind in kinds if kind != "experiments" for name in registry.names(kind)]
    for kind, name in [*of_kinds, *found]:
        summary, where = _described(kind, name)
        print(json.dumps({"kind": kind, "name": name, "summary": _plain(summary), "where": _plain(where)}))


def _plain(markup: str) -> str:
    """The text of rich's markup."""
    return Text.from_markup(markup).plain


def _named(word: str) -> list[tuple[str, str]]:
    """The kinds and names of the parts whose name, or the name of whose class, contains a word."""
    found = []
    for kind in registry.KINDS:
        places = {entry.name: entry.value.rpartition(":")[2] for entry in registry.entries(kind)}
        found += [(kind, name) for name in registry.names(kind) if word.lower() in f"{name} {places.get(name)}".lower()]
    return found


def _described(kind: str, name: str) -> tuple[str, str]:
    """The first line of a part's documentation, and the name by which it is imported or made."""
    try:
        part = registry.get(kind, name)
        if kind == "experiments":
            return escape(part.summary), f"engram show {name}"
        if isinstance(part, partial):  # a class with some of its arguments
            part = part.func
        address = escape(part) if isinstance(part, str) else f"{part.__module__}.{part.__qualname__}"
        if isinstance(part, str):  # the id of an environment
            part = _maker(part)
        return escape((inspect.getdoc(part) or "").partition("\n")[0].replace("``", "")), address
    except Exception as error:  # a broken part of another package must not hide the others
        return f"[red]cannot be loaded: {escape(str(error))}[/]", ""


def _maker(environment: str) -> Any:
    """The class of an environment or, for a named meta-task, the function that describes the task."""
    from gymnasium.envs import registration

    from engram.tasks.meta import named

    spec = registration.spec(environment)
    described = str(spec.vector_entry_point or spec.entry_point)  # if both exist, they have the same documentation
    return getattr(named, spec.kwargs.get("name", ""), None) or registration.load_env_creator(described)


def _experiments(command: List) -> list[tuple[str, Mapping[str, Counts], str, str]]:
    """Each experiment: name, recorded verdicts by preset, last run here, summary.

    Only those are loaded whose run here was killed, or that come from other packages.
    """
    recorded = recorded_counts()
    root = runs_folder(command.runs)
    run_here = {name for name in registry.experiments() if (root / name / "last-run.json").exists()}
    rows: list[tuple[str, Mapping[str, Counts], str, str]] = []
    for name in registry.experiments():
        try:
            about = registry.documentation(name)
            summary = registry.get("experiments", name).summary if about is None else registry.summary(about)
            last = _last(name, root) if name in run_here else ""
        except Exception as error:  # a broken experiment of another package must not hide the others
            summary, last = f"cannot be loaded: {error}", ""
        rows.append((name, recorded.get(name, {}), last, summary))
    return rows


def _print_experiments(console: Output, experiments: Sequence[tuple[str, Mapping[str, Counts], str, str]]) -> None:
    """Print experiments as a table: name, recorded verdicts by preset, last run here, summary.

    In a wide window, and where the output is read by a program, an experiment has one line. In a narrow one only the
    counts at laptop size are shown, without their words; the summary is wrapped, and the last run stands below it.
    """
    columns = {"name": [name for name, *_ in experiments]}
    columns["claims"] = [
        "; ".join(f"{preset}: {counted(counts)}" for preset, counts in verdicts.items()).removeprefix("laptop: ")
        for _, verdicts, _, _ in experiments
    ]
    lasts = [last for _, _, last, _ in experiments]
    columns |= {"last run here": lasts} if any(lasts) else {}
    summaries = [summary for *_, summary in experiments]
    taken = sum(max(map(len, [title, *cells])) + GAP for title, cells in columns.items())
    if console.width == WIDTH and not console.is_terminal:
        console = Output(width=taken + max(map(len, summaries), default=0), highlight=False)
    is_narrow = console.width - taken < LEAST_SUMMARY
    if is_narrow:
        columns = {"name": columns["name"], "claims": [_short(cell.partition(";")[0]) for cell in columns["claims"]]}
        summaries = [
            f"{summary}\nlast run: {_short(last)}" if last else summary
            for summary, last in zip(summaries, lasts, strict=True)
        ]
    table = Table(*(Column(title, no_wrap=True) for title in columns), box=None, pad_edge=False, expand=True)
    table.add_column("what it tests", ratio=1)
    for cells in zip(*columns.values(), summaries, strict=True):
        table.add_row(*map(escape, cells))
    console.print(table)


def _short(verdicts: str) -> str:
    """Counted verdicts without the words that every row repeats."""
    return re.sub(" claims hold", "", verdicts).replace("no claim can be tested here", "none")


class _Ended(TypedDict):
    """Of the note of a run, how it has ended; a run that was killed has not noted it."""

    ended: NotRequired[str]


def _last(name: str, root: Path) -> str:
    """A summary of the last run of an experiment; the experiment is loaded only if the note of the run has none."""
    try:
        note = read_sealed(root / name / "last-run.json", _Ended)
    except CorruptFileError:
        return "corrupt: run it again"
    if "ended" in note:
        return note["ended"]
    from engram.lab.output.read_runs import OldRunError, load

    try:
        return load(name, root, metrics=False).ended
    except OldRunError:
        return "changed since: run it again"
    except CorruptFileError:
        return "corrupt: run it again"


def show(command: Show) -> None:
    """Show an experiment: its presets, config fields and claims; or the times of the arms of one preset."""
    from engram.cli.absent_data import instead_of_absent_data
    from engram.lab.claims.claim import OWNERS
    from engram.lab.engine.plan import device_of, expected_time
    from engram.lab.engine.times import of_preset
    from engram.lab.output.record_files import answer_in_words, indexed_quantities
    from engram.lab.trial.experiment import find_experiment

    experiment = find_experiment(command.name)
    root = runs_folder(command.runs) / experiment.name
    if command.json and command.preset:
        raise ValueError("json = True: expected without a preset, whose times it does not tell")
    if command.preset is not None:
        _show_times(experiment, command.preset, root)
        return
    if command.json:
        print(json.dumps(values.of_shown(experiment)))
        return
    console = out()
    console.print(f"[bold]{experiment.name}[/]: {escape(experiment.summary)}\n[dim]{escape(experiment.paper)}[/]\n")
    if experiment.answer:
        console.print(f"Our recorded run: {escape(answer_in_words(experiment))}\n")
    if instead := instead_of_absent_data(experiment):
        console.print(f"Data: {escape(instead)}\n")
    presets = []
    for name, preset in experiment.presets.items():
        of_arms = of_preset(experiment, name, root, device_of("auto"))
        time = expected_time([*of_arms.values()] * preset.seeds)
        presets.append((name, str(preset.seeds), ", ".join(of_arms), time))
    print_table(console, "Presets", ["preset", "seeds", "arms", "computing time on one core"], presets)
    console.print(f"[dim]engram show {experiment.name} --preset PRESET shows the time of each arm.[/]")
    for name, preset in experiment.presets.items():
        if preset.published:
            console.print(f"[dim]Published settings of {name}: {escape(preset.published)}.[/]")
    console.print()
    print_table(console, "Settings", *fields.rows(experiment))
    console.print("[dim]--ARM.setting VALUE changes a setting of a single arm.[/]\n")
    print_table(console, "Arms", ["arm", "what it changes"], list(fields.arm_rows(experiment)))
    console.print()
    claims = [
        (
            claim.id,
            escape(claim.statement),
            f"{claim.criterion} ({OWNERS[claim.threshold]})",
            ", ".join(name for name in experiment.presets if claim.is_judged_at(name)),
            f">= {claim.seeds}",
        )
        for claim in experiment.claims
    ]
    print_table(console, "Claims", ["claim", "statement", "criterion", "presets", "seeds"], claims)
    if measured := indexed_quantities(experiment):
        rows = [row_of_quantity(each, note=f" ({each.quantity}, {each.preset})") for each in measured]
        console.print()
        print_table(console, "Measured", [*MEASURED], for_terminal(rows, MEASURED))


def _show_times(experiment: Experiment, preset: str, root: Path) -> None:
    """Show the time of each arm of a preset, as far as it is known, and the memory that it needs.

    Args:
        experiment: The experiment.
        preset: Its preset.
        root: The folder that the experiment is run in.
    """
    from engram.lab.engine.plan import device_of, expected_time, gigabytes
    from engram.lab.engine.times import of_preset
    from engram.lab.trial.machine import hardware, memory
    from engram.lab.trial.trial import duration

    of_arms = of_preset(experiment, preset, root, device_of("auto"))
    console = out()
    rows = []
    for arm, trial in of_arms.items():
        needed = gigabytes(trial.memory) if trial.memory else ""
        lacking = " [red]more than there is[/]" if trial.memory > memory() else ""
        rows.append((arm, duration(trial.time.seconds), escape(trial.time.how), needed + lacking))
    title = f"{experiment.name}, preset {preset}: a trial of each arm"
    print_table(console, title, ["arm", "computing time", "how it is known", "memory"], rows)
    seeds = experiment.presets[preset].seeds
    console.print(
        f"{seeds} seeds on one core: {expected_time([*of_arms.values()] * seeds)}. Computing time is that of the "
        f"processor, over all threads of a trial (here {experiment.threads}): its duration on an idle core. This is "
        f"{escape(str(hardware()['processor']))}, with {gigabytes(memory())} of memory.",
        soft_wrap=console.width >= LEAST,
        highlight=False,
    )


def doctor(_: Doctor) -> None:
    """Show versions, hardware, folders, and which extras are missing."""
    from engram.lab.trial.machine import hardware, missing_extras, versions
    from engram.numeric.jit import cache_folder
    from engram.tasks import data

    anew = "none can be written: compiled anew in each process; set NUMBA_CACHE_DIR to a folder that can"

    rows = [(name, str(value)) for name, value in {**versions(), **hardware()}.items()]
    rows += [("folder of runs", str(runs_folder())), ("data cache", str(data.cache_folder()))]
    rows.append(("compiled kernels", str(cache_folder() or anew)))
    if other := _other_engram():
        rows.append(
            ("conflict", f"{other} is another project, installed over the same files as engram-torch: {REPAIR}")
        )
    missing = missing_extras()
    for extra, modules in missing.items():
        rows.append((f"extra {extra}", escape(f"missing: {', '.join(modules)} ({extras.install(extra)})")))
    print_table(out(), "", ["", ""], rows if missing else [*rows, ("extras", "all installed")])


def _other_engram() -> str:
    """The other project named engram, if it is installed anywhere; empty if it is not."""
    try:
        return f"engram {metadata.version('engram')}"
    except metadata.PackageNotFoundError:
        return ""


def data(command: Data) -> None:
    """Show, fetch or verify data sets."""
    from engram.tasks import data

    names = command.names or tuple(data.SETS)
    if command.action == "fetch":
        if not command.names:
            raise ValueError(f"no data set named; known: {', '.join(data.SETS)}")
        for name in names:
            data.fetch(name)
    statuses = [data.verify(name) for name in names]
    rows = [_set_row(status) for status in statuses]
    print_table(out(), "", ["data set", "what it is", "files", "size", "found in", "checksum"], rows)
    for status in statuses if command.names else ():
        terms = f"{status.dataset.name}: terms: {status.dataset.licence}; to cite: {status.dataset.citation}"
        out().print(escape(terms), highlight=False, soft_wrap=True)
    wrong = [str(file.path) for status in statuses for file in status.files if file.path and not file.verified]
    if command.action == "verify" and wrong:
        raise ValueError(f"wrong checksum: {', '.join(wrong)}")


def _set_row(status: SetStatus) -> tuple[str, ...]:
    present = [file for file in status.files if file.path]
    size = decimal(sum(file.file.size for file in status.files))
    sources = ", ".join(dict.fromkeys(str(file.source) for file in present))
    if not present:
        sources = "absent" if all(file.file.url for file in status.files) else "absent; to be placed there by hand"
    elif len(present) < len(status.files):
        sources += f" ({len(present)} of {len(status.files)})"
    wrong = [file.file.path for file in present if not file.verified]
    checksum = f"[red]wrong: {', '.join(wrong)}[/]" if wrong else "right" if present else ""
    return status.dataset.name, escape(status.dataset.title), str(len(status.files)), size, sources, checksum
