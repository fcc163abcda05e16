"""The command line: papers, list, show, demo, run, judge, compare, sweep, record, report, export, data, ..."""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, get_args

import tyro
from rich.console import Console
from rich.markup import escape

from engram import registry
from engram.cli import demo, fields, judging, looking, papers, recording, running, verifying
from engram.cli.commands import (
    Action,
    Compare,
    Data,
    Demo,
    Doctor,
    Export,
    Judge,
    List,
    Papers,
    Record,
    Report,
    Run,
    Show,
    Sweep,
    Verify,
)
from engram.cli.output import open_streams, out, print_table
from engram.cli.refusal import refuse
from engram.version import __version__

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
GRACE_SECONDS = 5.0

ACTIONS: dict[type, Callable[[Any], int | None]] = {
    Papers: papers.show_papers,
    List: looking.list_parts,
    Show: looking.show,
    Demo: demo.demo,
    Judge: judging.judge,
    Compare: running.compare,
    Record: recording.record,
    Report: running.report,
    Export: running.export,
    Data: looking.data,
    Verify: verifying.verify,
    Doctor: looking.doctor,
}
COMMANDS = {
    kind.__name__.lower(): kind
    for kind in (Papers, List, Show, Demo, Run, Judge, Compare, Sweep, Record, Report, Export, Data, Verify, Doctor)
}
Command = (
    Annotated[Papers, tyro.conf.subcommand("papers")]
    | Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[Judge, tyro.conf.subcommand("judge")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Sweep, tyro.conf.subcommand("sweep")]
    | Annotated[Record, tyro.conf.subcommand("record")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Data, tyro.conf.subcommand("data")]
    | Annotated[Verify, tyro.conf.subcommand("verify")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    # Imported objects live to the end; searching them for garbage would take half the time of a short command.
    gc.set_threshold(50_000, 20, 20)
    atexit.register(_freeze)
    _end_after_interrupts()
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def _end_after_interrupts() -> None:
    """End the process some seconds after a second Ctrl-C, even inside a call that does not return to Python.

    Nothing but the step is lost: files are whole at any moment, and locks are released with the process.
    """
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    signal.set_wakeup_fd(sender, warn_on_full_buffer=False)  # signals are written there at once, whatever Python does

    def watch() -> None:
        interrupts = 0
        while interrupts < 2:
            interrupts += os.read(receiver, 1) == bytes([signal.SIGINT])
        time.sleep(GRACE_SECONDS)
        os.write(2, b"stopped inside a step; the same command resumes from the last checkpoints\n")
        os._exit(EXIT_INTERRUPTED)

    threading.Thread(target=watch, daemon=True).start()


def _freeze() -> None:
    """Exempt imported objects from the last collection, unless Triton would report them all as leaked."""
    if "triton" not in sys.modules:
        gc.freeze()


def run(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code."""
    open_streams()
    try:
        code = _run(list(arguments))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader has closed the pipe, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, OSError, ImportError) as error:
        text = "\n".join([str(error), *getattr(error, "__notes__", ())])
        Console(stderr=True).print(f"[bold red]error:[/] {escape(text)}", highlight=False, soft_wrap=True)
        return EXIT_USAGE
    except KeyboardInterrupt:
        Console(stderr=True).print("[yellow]stopped; the same command resumes from the last checkpoints[/]")
        return EXIT_INTERRUPTED
    except Exception:  # exit code 1 is reserved for claims
        Console(stderr=True).print_exception()
        return EXIT_USAGE


def _run(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        print(f"engram {__version__}")
        return 0
    first = arguments[0] if arguments else "--help"
    if first not in COMMANDS and not first.startswith("-"):
        raise ValueError(f"unknown command {first!r}; {registry.suggestion(first, COMMANDS)}")
    if first == "data" and arguments[1:2] and arguments[1] not in get_args(Action) and arguments[1][:1] != "-":
        arguments = [first, "list", *arguments[1:]]  # the name of a data set alone means `list`
    helps = {"-h", "--help"} & set(arguments)  # tyro's help would omit an argument that is given
    words = [first, "--help"] if helps or not arguments else arguments
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # what is wrong is told in our own words
            command, unparsed = tyro.cli(
                Command,
                prog="engram",
                description="Brain-inspired learning: run published systems, and see which of their claims hold.",
                args=words,
                return_unknown_args=True,
            )
    except SystemExit as ended:
        if ended.code and first in COMMANDS:
            refuse(COMMANDS[first], words[1:])
        if ended.code:
            raise ValueError(f"unknown argument {first!r}; try --help") from None
        if first in ("run", "sweep"):
            _explain_fields([name for name in arguments[1:] if name in registry.experiments()])
        return 0
    if isinstance(command, Run):
        return running.run(command, unparsed)
    if isinstance(command, Sweep):
        return running.sweep(command, unparsed)
    if unparsed:
        raise ValueError(f"unknown argument {unparsed[0]!r}; try --help")
    return ACTIONS[type(command)](command) or 0


def _explain_fields(names: Sequence[str]) -> None:
    for name in names:
        print_table(out(), f"\nConfig fields of {name}", *fields.rows(registry.get("experiments", name)))
