"""The commands with their options, as tyro reads them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from engram.run_options import Count, Flag, Folder, RunOptions, Seconds, Separated, Text

Name = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
Names = Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="NAME ...", help_behavior_hint="")]
PaperNames = Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="PAPER ...", help_behavior_hint="")]
Kinds = Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="KIND ...", help_behavior_hint="")]
Action = Literal["list", "fetch", "verify"]
Out = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="", aliases=["--output"])]


@dataclass(frozen=True)
class List:
    """List all experiments with their recorded verdicts and those of the last run here, or list other parts."""

    kinds: Kinds = ()
    """Kinds of parts: experiments (default), modules, plasticity-rules, or rules for all kinds of rules; or a word,
    such as ewc, for all parts whose names contain it."""
    runs: Folder = None
    """Folder of all runs (default: ENGRAM_RUNS, else runs)."""
    plasticity_rules: Flag = False
    """List the plasticity rules: how connections change while a network runs."""
    learning_rules: Flag = False
    """List the learning rules: how the weights of a network are trained."""
    synaptic_rules: Flag = False
    """List the synaptic rules: how the weights of one layer change, given only its activities."""
    continual_methods: Flag = False
    """List the continual methods, by which a network forgets less."""
    modules: Flag = False
    """List the modules."""
    tasks: Flag = False
    """List the tasks that consist of episodes."""
    environments: Flag = False
    """List the environments, by their ids for gymnasium.make."""
    optimizers: Flag = False
    """List the optimisers."""
    replacement_policies: Flag = False
    """List the replacement policies, which decide what a full episodic memory keeps."""
    agents: Flag = False
    """List the agents that learn while they act."""
    associative_memories: Flag = False
    """List the associative memories, which complete stored patterns."""
    similarity_measures: Flag = False
    """List the measures of similarity: distances between two systems, computed from recordings."""
    curiosities: Flag = False
    """List the curiosities: bonuses that reward an agent for novelty."""
    estimators: Flag = False
    """List the estimators."""
    json: Flag = False
    """Print JSON, one object per line and part."""


@dataclass(frozen=True)
class Papers:
    """Tell what each paper says, whether that holds in our recorded runs, and at which size it was tried.

    Without names, all headline statements are listed, by paper; with one, also the claims that test them.
    """

    names: PaperNames = ()
    """Systems, experiments, or parts of titles or authors, such as ANML, farmap or Miconi."""
    json: Flag = False
    """Print JSON, one object per line and paper."""


@dataclass(frozen=True)
class Show:
    """Show what an experiment is: its arms, config fields and claims, and how long they take.

    Times are those of the processor, on one core, from trials that have finished here, else from a record.
    """

    name: Name
    """Name of the experiment."""
    preset: Text = None
    """Show the time and the memory of each arm at this preset."""
    runs: Folder = None
    """Folder of all runs (default: ENGRAM_RUNS, else runs)."""
    json: Flag = False
    """Print JSON, one object with the recorded verdicts, and without times."""


@dataclass(frozen=True)
class Run:
    """Run experiments and judge their claims.

    Every config field is an option too, as in `--episodes 100`; `engram run NAME --help` lists them. Exit codes: 0 no
    claim failed, 1 a claim is not reproduced, disagrees or fails, 2 bad usage or a failed trial, 130 interrupted.
    """

    names: Names
    """Names of the experiments."""
    run: tyro.conf.OmitArgPrefixes[RunOptions]
    """How they are run."""
    json: Flag = False
    """Print the results as JSON, one object per line and experiment."""


@dataclass(frozen=True)
class Demo:
    """Run a first experiment at a small size, in about a minute: what it compares, what came out, and where to go on.

    Exit codes: 0 all claims are judged, whatever the verdicts, 2 some are not, 130 interrupted.
    """

    runs: Folder = None
    """Folder of all runs (default: ENGRAM_RUNS, else runs)."""


@dataclass(frozen=True)
class Compare:
    """Compare a method with all registered ones of its kind, on all tasks of that kind.

    A method is a rule, a method, an optimiser, an agent, a memory or its policy, a curiosity or a measure: give its
    registered name, or the place where it is defined, as signed_error.py:SignedError or my_package:MyEWC. Give a kind,
    as in engram compare learning-rules, to rank its registered methods.
    """

    names: Names
    """The methods, of one kind; or a kind."""
    kind: Text = None
    """The kind, such as learning-rules, if the class does not determine it; needed for a function."""
    against: Separated = None
    """Compare only with these methods, separated by commas (default: all registered ones)."""
    tasks: Separated = None
    """Only tasks whose name contains one of these, or whose experiment is one, separated by commas (default: all)."""
    seeds: int = 5
    """How many seeds, unless --until-decided is given."""
    until_decided: Flag = False
    """Judge at the interim analyses of each preset, mostly after 5, 10, 20 and 40 seeds, until the comparison with
    every other method is decided."""
    fresh: Flag = False
    """Run the registered methods here too, instead of using their records."""
    preset: str = "laptop"
    """Size, as for `engram run`."""
    jobs: Count = None
    """How many trials at once (default: as many as fit on the cores)."""
    runs: Folder = None
    """Folder of all runs (default: ENGRAM_RUNS, else runs)."""
    out: Out = None
    """The HTML file (default: compare.html in the folder of runs)."""
    export: Literal["none", "csv", "markdown", "latex"] = "none"
    """Print the table in this form instead."""


@dataclass(frozen=True)
class Judge:
    """Judge whether a table of results shows what a claim says, beyond the noise between seeds.

    The table may be of any project, as in `engram judge runs.csv --claim "loss(new) - loss(old) <= -0.1" --pair seed`.
    Exit codes: 0 the claim holds, 1 it fails, 3 undecided, 2 bad usage.
    """

    table: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TABLE")]
    """A CSV, TSV, JSONL or Parquet file, a database of trackio or MLflow, - for the standard input, or a folder of such
    files, or of MLflow, TensorBoard or engram. A row a run or a step of it; a column a metric, or metric and value."""
    claim: Text = None
    """The claim: a metric of an arm, differences and ratios of them, share(), median(), min(), max(), and a threshold,
    as in "loss(new) / loss(old) <= 0.95"."""
    best_of: Text = None
    """Instead of a claim, the column of methods: which of them are better than the baseline, adjusted for the number of
    them."""
    metric: Text = None
    """With --best-of, the metric."""
    baseline: Text = None
    """With --best-of, the method that all others are compared with."""
    margin: float = 0.0
    """With --best-of, the least gain that counts."""
    lower_is_better: Flag = False
    """With --best-of, smaller values of the metric are better, as of a loss."""
    pair: Text = None
    """Compare runs that agree in this column, such as seed (default: runs of different arms are independent)."""
    cluster: Text = None
    """The column, such as task, whose runs have something in common: each of its values counts once."""
    looks: Text = None
    """The numbers of seeds at which the claim may be decided, fixed beforehand, as in 5,10,20."""
    ledger: Folder = None
    """Write every judgement down in this file, and hold the error over all of them to 5 %."""
    at: str = "last"
    """Which value of a curve counts: last, best, or mean:N of the last N."""
    arm: Text = None
    """The column of arms (default: guessed, and said)."""
    seed: Text = None
    """The column of seeds (default: guessed, and said)."""
    step: Text = None
    """The column of steps (default: guessed, and said)."""
    json: Flag = False
    """Print one JSON object."""
    markdown: Flag = False
    """Print Markdown, for a pull request."""


@dataclass(frozen=True)
class Sweep:
    """Run an experiment at many settings of its config fields, and compare its arms in one table and one figure.

    Every config field is an option that takes several values, as in `--learning-rate 1e-3,3e-3` (a grid of all
    combinations), or, with `--samples`, ranges to draw from, as in `--learning-rate 1e-4:1e-1`. No claim is judged.
    """

    name: Name
    """Name of the experiment."""
    samples: Count = None
    """Draw this number of settings at random instead of a grid: uniformly from a range, or log-uniformly if its ends
    are a factor of ten or more apart; from values with equal probability."""
    metric: Text = None
    """The result of a trial to compare (default: the headline, else the first)."""
    preset: str = "laptop"
    """Size, as for `engram run`."""
    seeds: int = 1
    """How many seeds."""
    first_seed: int = 1000
    """The first seed. Runs that judge claims use seeds from 0, so that settings are not tuned on those seeds."""
    arms: Separated = None
    """Only these arms, separated by commas."""
    jobs: Count = None
    """How many trials at once (default: as many as fit on the cores; 1 where all of them take seconds)."""
    runs: Folder = None
    """Folder of all runs (default: ENGRAM_RUNS, else runs)."""
    device: str = "auto"
    """Where to compute: cpu, cuda, one GPU such as cuda:1, or auto (a GPU if there is one and the study uses it)."""


@dataclass(frozen=True)
class Record:
    """Run what the records of experiments lack, and write the records, and the tables made from them.

    For who maintains an experiment. A record gets the arms that it lacks and, if claims are open, the seeds of their
    next analyses, after a trial of each arm concerned has given the record's numbers again. An experiment without a
    record, or with other settings or another revision since, is run whole. Without names, only the tables and pictures
    of engram's own repository are written.
    """

    names: Names = ()
    """Names of the experiments."""
    preset: str = "laptop"
    """Size, as for `engram run`."""
    comparisons: Flag = False
    """Record, instead, what `engram compare` compares on the tasks of each experiment and its record does not hold."""
    at_most: Seconds = None
    """Time for each experiment, such as 90s, 60m or 2h, after which no analysis starts, and a whole run is stopped."""
    jobs: Count = None
    """How many trials at once (default: as many as fit on the cores)."""
    runs: Folder = None
    """Folder of all runs (default: ENGRAM_RUNS, else runs)."""
    release: Flag = False
    """Also store the verdicts as those of this version, before it is tagged."""


@dataclass(frozen=True)
class Report:
    """Write the last runs, or the run records included in engram, as one HTML file that opens offline."""

    names: Names = ()
    """Names of the experiments (default: all registered ones that were run)."""
    recorded: Flag = False
    """Report our run records, which engram includes, instead of your last runs; name the experiments."""
    preset: Text = None
    """Preset of the records, as for `engram run` (default: laptop); or only last runs of this preset."""
    runs: Folder = None
    """Folder of all runs (default: ENGRAM_RUNS, else runs)."""
    out: Out = None
    """The HTML file (default: report.html in the folder of runs)."""


@dataclass(frozen=True)
class Export:
    """Write the last run of an experiment as tables (metrics, results, claims) and figures."""

    name: Name
    """Name of the experiment."""
    format: Literal["csv", "parquet"] = "csv"
    """Format of the tables."""
    figures: Literal["html", "svg", "png"] = "html"
    """Format of the figures; svg and png need Chrome or Chromium."""
    out: Out = None
    """The folder to write to (default: export in the experiment's folder of runs)."""
    runs: Folder = None
    """Folder of all runs (default: ENGRAM_RUNS, else runs)."""


@dataclass(frozen=True)
class Data:
    """List the data sets and show which are present, fetch some, or verify their checksums.

    Of data sets that are named, the terms of use and the work to cite are shown too.
    """

    action: tyro.conf.Positional[Action] = "list"
    """What to do."""
    names: Names = ()
    """Names of data sets (default: all; to fetch, name them)."""


@dataclass(frozen=True)
class Verify:
    """Prove a property of a network, or find a counterexample, both given as files.

    The first line of the output is `unsat` (no input violates the property; proved), `sat` (with the input that does,
    and its outputs), `unknown` or `timeout`. Exit codes: 0 one of these was printed, 2 a file is malformed or an
    operator is not supported, 130 interrupted.
    """

    network: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="NETWORK")]
    """The network: an ONNX file, which may be packed as .onnx.gz, or a file in the format .nnet."""
    property: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PROPERTY")]
    """The property: a VNN-LIB file, which may be packed as .vnnlib.gz; it describes what must not happen."""
    timeout: float = 116.0
    """Time limit in seconds, for reading the files too."""
    certificate: Folder = None
    """Write the proof to this JSON file, if there is one."""
    counterexample: Folder = None
    """Write the answer, and the counterexample if there is one, to this file, as VNN-COMP expects it."""
    megabytes: float = 1024.0
    """Memory for the search, beside the network itself."""
    json: Flag = False
    """Print the answer as one JSON object."""


@dataclass(frozen=True)
class Doctor:
    """Show versions, cores, GPU, folders, and which extras are missing."""
