"""The command that shows a new user a first experiment: what is compared, how far it is, what came out, where to go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from engram.claim_rows import as_line
from engram.cli.commands import Demo
from engram.cli.output import LEAST, out
from engram.run_options import RunOptions
from engram.storage.files import runs_folder

if TYPE_CHECKING:
    from engram.lab import Results
    from engram.lab.trial.experiment import Experiment
    from engram.lab.trial.job import Job

NAME, PRESET = "pattern-completion", "demo"
PLASTIC, CONTROL = "plastic", "non-plastic"
NO_VERDICT = 2  # exit code, as that of a failed trial
INTERRUPTED = 130
MOST_WORKERS = 5  # a worker takes as long to start as two trials take
BARS = "▁▂▃▄▅▆▇█"


def demo(command: Demo) -> int:
    """Run a first experiment at a small size, and print its result in words, with a picture and a report.

    A claim that fails is a result, not an error; a run that has judged nothing is one.
    """
    from engram.lab.output.report import write_report
    from engram.lab.trial.experiment import find_experiment

    experiment = find_experiment(NAME)
    results = _run_missing(experiment, command.runs)
    console = out()
    for line in _tell(experiment, results):
        console.print(line, highlight=False, soft_wrap=console.width >= LEAST)
    console.print(f"report: {write_report([(experiment, results)], runs_folder(command.runs) / 'report.html')}")
    states = {trial.state for trial in results.trials}
    if not states <= {"finished", "failed"}:
        console.print("[yellow]stopped before its end; the same command goes on[/]")
        return INTERRUPTED
    is_judged = all(judged.is_tried for judged in results.claims())
    return 0 if is_judged and states == {"finished"} else NO_VERDICT


def _run_missing(experiment: Experiment, runs: Path | None) -> Results:
    """Run what is not done yet, both networks of a seed before the next seed; say what is done and how far it is."""
    from engram.lab.engine.laboratory import judge, perform_jobs, write_down
    from engram.lab.engine.plan import Request, plan
    from engram.lab.engine.stop import stop_file, stoppable
    from engram.lab.trial.machine import cores

    workers = min(cores(), MOST_WORKERS)
    console = Console(stderr=True)
    options = RunOptions(preset=PRESET, jobs=workers, runs=runs, device="cpu", keep_state=False)
    request = Request(experiment, options)
    config = request.compared[PLASTIC].config
    seeds = experiment.presets[PRESET].seeds
    console.print(
        f"Each episode shows two random patterns of {config.bits} bits once, and then half of one of them; the network "
        f"has to complete it. Two networks of {config.hidden_size} units learn this from {config.episodes} batches of "
        f"{config.batch_size} episodes: one whose connections change while it runs (plastic), and one without "
        f"(non-plastic). Each is trained {seeds} times, with other seeds, on {workers} core{'s' * (workers > 1)}.",
        highlight=False,
    )
    stop = stop_file(request.root)
    planned = plan(request, stop, seeds)
    with stoppable(stop, console):
        note = write_down(planned)
        errors: dict[int, dict[str, float]] = {}

        def compared(job: Job) -> list[str]:
            stored = job.folder.result()
            if stored is None:
                return []
            of_seed = errors.setdefault(job.trial.seed, {})
            of_seed[job.trial.arm] = stored["result"]["error"]
            if len(of_seed) < 2:
                return []
            wrong = ", ".join(f"{arm} {of_seed[arm]:.3f}" for arm in (PLASTIC, CONTROL))
            return [f"seed {job.trial.seed}, fraction of wrong bits: {wrong}"]

        for job in planned.finished:
            compared(job)
        statuses = perform_jobs(planned.remaining, console, planned.workers, compared)
        results = judge(planned, note, statuses)
        write_down(planned, results.ended)
    return results


def _tell(experiment: Experiment, results: Results) -> list[str]:
    """What came out, in words and as a picture, and what to do next, as lines with rich's markup."""
    from engram.lab.claims.claim import counted_claims

    config, chance = experiment.arms(PRESET)[PLASTIC].config, experiment.tasks[0].chance or 1.0
    errors = {arm: results.values(arm, "error") for arm in (PLASTIC, CONTROL)}
    lines = []
    if all(errors.values()):
        mean = {arm: sum(values) / len(values) for arm, values in errors.items()}
        seeds = " and ".join(str(count) for count in sorted({len(values) for values in errors.values()}))
        lines += [
            "",
            f"After {config.episodes} batches a plastic network gets {mean[PLASTIC]:.3f} of the bits wrong, "
            f"one without plasticity {mean[CONTROL]:.3f} (guessing: {chance}); means of {seeds} seeds.",
        ]
    else:
        lines += ["", "No network of each kind has finished, so there is nothing to compare yet."]
    lines.append(f"{counted_claims(results.claims()).capitalize()}, at the small size of a demonstration:")
    for judged in results.claims():
        if judged.verdict == "not testable here":
            continue
        said = as_line(judged.row(".3f")) if judged.is_tried else f"not tried yet ({escape(judged.why)})"
        lines.append(f"Claim: {escape(judged.claim.statement)}: {said}")
    lines += _curves(results, chance)
    return [
        *lines,
        "",
        "The criteria are those of the experiment itself. To go on:",
        f"  engram show {NAME}                 its networks, settings and claims",
        f"  engram run {NAME} --until-decided  at its own size: patterns of 50 bits, an LSTM, larger networks",
        "  engram papers                                  what the other papers say, and whether it holds",
    ]


def _curves(results: Results, chance: float) -> list[str]:
    """The learning curve of each network as a line of bars, whose full height is the error of a guess."""
    import polars as pl

    lines = []
    for arm in (PLASTIC, CONTROL):
        rows = results.metrics.filter((pl.col("arm") == arm) & (pl.col("metric") == "error"))
        if rows.is_empty():
            continue
        last = rows["step"].max()
        windows = rows.with_columns(((pl.col("step") - 1) * 30 // last).alias("window"))
        means = windows.group_by("window").agg(pl.col("value").mean()).sort("window")["value"]
        bars = "".join(BARS[min(int(value / chance * len(BARS)), len(BARS) - 1)] for value in means)
        lines.append(f"  {arm:<12} {bars}  {means[0]:.2f} -> {means[-1]:.2f}")
    return ["", "Wrong bits over training, from left to right (a full bar is guessing):", *lines] if lines else []
