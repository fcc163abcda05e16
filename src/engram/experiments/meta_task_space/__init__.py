"""A space of meta-reinforcement-learning tasks: what it holds, what is wrong with parts of it, what is learnt in it.

Named tasks of the literature are settings of one description, random ones are drawn without end, and exact planning
tells which of them ask for learning at all. A recurrent agent that is trained on many lifetimes should learn within
each of them, in one task and in many that it was never trained on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from engram.experiments.meta_task_space.learning import ManyTasks, OneTask, on_many_tasks, on_one_task, seconds
from engram.experiments.meta_task_space.space import Anchors, Generator, measure_anchors, measure_generator
from engram.lab import Arm, Claim, Experiment, Measure, Preset, Results, at_least, at_most, value, within
from engram.lab.curves import PALETTE

PAPER = "Miconi, Procedural generation of meta-reinforcement learning tasks, 2023 (arXiv 2302.05583)"


@dataclass(frozen=True)
class Config:
    """The studies."""

    anchors: Anchors = Anchors()
    generator: Generator = Generator()
    one_task: OneTask = OneTask()
    memoryless: OneTask = OneTask(memory=False, iterations=400)
    many_tasks: ManyTasks = ManyTasks(iterations=2000)


def arms(config: Config) -> dict[str, Arm]:
    """What is known of named tasks, of random ones, and agents with memory and without on one task and on many."""
    known, drawn, many = config.anchors, config.generator, config.many_tasks
    found = {
        "anchors": Arm(measure_anchors, known, 1 + known.lifetimes * 5e-3),
        "generator": Arm(measure_generator, drawn, 2 + drawn.attempts * 0.3e-3 + drawn.accepted * 6e-3),
    }
    tasks: tuple[Literal["bandit", "two-step"], ...] = ("bandit", "two-step")
    for kind, config_of_kind in (("lstm", config.one_task), ("memoryless", config.memoryless)):
        for task in tasks:
            of_arm = replace(config_of_kind, task=task)
            found[f"{kind}-{task}"] = Arm(on_one_task, of_arm, seconds(of_arm, memory=of_arm.memory))
    return found | {"lstm-many": Arm(on_many_tasks, many, seconds(many))}


def stays(results: Any) -> float:
    """Return by how much the choice depends on the kind of transition, after a reward and, inverted, without one."""
    (unrewarded_rare, unrewarded_common), (rewarded_rare, rewarded_common) = results["lstm-two-step"]["stays"]
    return float(min(rewarded_common - rewarded_rare, unrewarded_rare - unrewarded_common))


def off_chance(results: Any) -> float:
    """Return by how much agents without memory are off chance, the larger one of both."""
    bandit = abs(results["memoryless-bandit"]["reward"] - 0.5)
    return float(max(bandit, abs(results["memoryless-two-step"]["reward_per_trial"] - 0.5)))


ours = partial(Claim, source="ours; the paper trains no agent", published="none")
space = partial(ours, source="abstract; closed forms and measurements ours")
generator = partial(ours, source="published generator, its script: 400 of 1849 tries accepted")
claims = [
    space(
        id="expressivity",
        statement="The returns of chance and of the oracle in named tasks are those in closed form: the largest "
        "deviation is 3 standard errors at most",
        published="the space holds bandits, Harlow, T-mazes, the two-step task (no figure)",
        metric=value("anchors", "exact_off"),
        holds=at_most(3.0),
    ),
    space(
        id="ideal-learners",
        statement="The regrets and returns of 16 ideal learners are those measured before: but for rounding, the "
        "largest deviation is 3 % at most",
        metric=value("anchors", "ideal_off"),
        holds=at_most(0.03),
    ),
    generator(
        id="acceptance",
        statement="The generator with its published slips accepts as many of its draws as the published one",
        published="0.216",
        metric=value("generator", "accepted"),
        holds=within(0.2155, 0.0105),
    ),
    generator(
        id="criteria",
        statement="Each of its four criteria is met as often as in another implementation: the largest difference is "
        "0.01 at most",
        published="none; measured before: 0.529, 0.676, 0.915, 0.549",
        metric=value("generator", "criteria_off"),
        holds=at_most(0.01),
    ),
    ours(
        id="worth-learning",
        statement="Of the tasks that it accepts, a share is worth learning in: a fixed policy is 2 % short of the best "
        "or stimuli are ambiguous, and chance does not do",
        published="none; measured before: 0.39",
        metric=value("generator", "worth"),
        holds=within(0.39, 0.04),
    ),
    ours(
        id="strict-filter",
        statement="The strict filter, which also rejects traps, unreachable states and single optima, keeps as many",
        published="none; expected: 0.39",
        metric=value("generator", "strict"),
        holds=within(0.39, 0.04),
    ),
    ours(
        id="no-false-alarm",
        statement="No named task is found to be degenerate",
        published="none; the published criteria alone know no degeneracy",
        metric=value("generator", "false_alarms"),
        holds=at_most(0.0),
        sameness="bitwise",
    ),
    ours(
        id="planted-degenerates",
        statement="Each of eight defects that were planted is found",
        published="none; the published criteria alone find 0 of 8",
        metric=value("generator", "detected"),
        holds=at_least(1.0),
        sameness="bitwise",
    ),
    ours(
        id="single-optimum",
        statement="In about half of the tasks that the published criteria accept one policy is best in all instances",
        source="the issue is named in the paper; the share is ours",
        published="none; measured before: 0.56",
        metric=Measure(lambda results: results["generator"]["codes"].get("SINGLE_OPTIMUM", 0.0), ("generator",)),
        holds=within(0.56, 0.06),
    ),
    ours(
        id="novelty",
        statement="Nearly all tasks that it accepts differ, also up to names of states, actions and stimuli",
        source="abstract: an unlimited number of novel tasks; the figure is ours",
        published="novel tasks (no figure)",
        metric=value("generator", "distinct"),
        holds=at_least(0.99),
    ),
    ours(
        id="bandit-learnt",
        statement="A trained LSTM has less regret than UCB1 (6.0) in lifetimes of 100 pulls of two dependent arms",
        published="none; chance has 25",
        metric=value("lstm-bandit", "regret"),
        holds=at_most(5.0),
    ),
    ours(
        id="two-step-learnt",
        statement="A trained LSTM gets at least 0.72 a trial of the two-step task",
        published="none; chance has 0.5, the Bayes filter 0.809, the oracle 0.82",
        metric=value("lstm-two-step", "reward_per_trial"),
        holds=at_least(0.72),
    ),
    ours(
        id="model-based",
        statement="It stays with its choice as one does who knows the transitions: by 0.15 more after common "
        "transitions that were rewarded, and after rare ones that were not",
        source="as Wang et al. (2018); the figure is ours",
        published="model-based pattern (curves only)",
        metric=Measure(stays, ("lstm-two-step",)),
        holds=at_least(0.15),
    ),
    ours(
        id="model-based-as-inferred",
        statement="It does so at least half as much as the Bayes filter, whose smaller one is 0.136 here",
        source="ours; the filter, which infers exactly, does not reach 0.15 either",
        metric=Measure(stays, ("lstm-two-step",)),
        holds=at_least(0.068),
    ),
    ours(
        id="memory-needed",
        statement="A network without memory that does not see its last action and reward stays within 0.03 of chance",
        metric=Measure(off_chance, ("memoryless-bandit", "memoryless-two-step")),
        holds=at_most(0.03),
    ),
    ours(
        id="learns-unseen-tasks",
        statement="An LSTM trained on many random tasks learns within lifetimes of tasks it has never seen: its "
        "normalised score, of all of these together, in the last quarter is above that in the first by 0.10",
        metric=value("lstm-many", "last_quarter") - value("lstm-many", "first_quarter"),
        holds=at_least(0.10),
    ),
]


def figure(results: Results) -> go.Figure:
    """What is wrong with random tasks, and how agents score at the beginning and the end of lifetimes."""
    plot = make_subplots(rows=1, cols=2, subplot_titles=("tasks the published generator accepts", "held-out tasks"))
    seeds = list(results.by_seed.values())
    shares = [of_seed["generator"]["codes"] for of_seed in seeds if "generator" in of_seed]
    codes = sorted({code for share in shares for code in share})
    means = [float(np.mean([share.get(code, 0.0) for share in shares])) for code in codes]
    plot.add_bar(x=means, y=codes, orientation="h", marker_color=PALETTE[0], row=1, col=1)
    for number, of_seed in enumerate(seeds):
        if "lstm-many" in of_seed:
            many = of_seed["lstm-many"]
            x, y = ["first quarter", "last quarter"], [many["first_quarter"], many["last_quarter"]]
            color = PALETTE[number % len(PALETTE)]
            plot.add_scatter(x=x, y=y, mode="lines+markers", marker_color=color, row=1, col=2)
    plot.update_xaxes(title_text="share", row=1, col=1)
    plot.update_yaxes(title_text="score (0: chance, 1: oracle)", row=1, col=2)
    title = "Random tasks, and an agent trained on many of them"
    return plot.update_layout(template="plotly_white", title=title, showlegend=False)


SMALL: dict[str, Any] = {"test_lifetimes": 2, "horizon": 8, "hidden_size": 4, "batch_size": 2, "iterations": 10}
experiment = Experiment(
    name="meta-task-space",
    summary="One description holds the tasks of the meta-learning literature and an unlimited number of others",
    paper=PAPER,
    presets={
        "smoke": Preset(
            Config(
                anchors=Anchors(8),
                generator=Generator(attempts=20, accepted=2),
                one_task=OneTask(**SMALL),
                memoryless=OneTask(**SMALL, memory=False),
                many_tasks=ManyTasks(**SMALL, train_tasks=2, test_tasks=1),
            ),
            seeds=2,
        ),
        "laptop": Preset(Config(), seeds=3),
        "paper": Preset(
            Config(
                anchors=Anchors(20_000),
                one_task=OneTask(iterations=3000),
                memoryless=OneTask(memory=False, iterations=3000),
                many_tasks=ManyTasks(iterations=100_000, train_tasks=1000, test_tasks=100),
            ),
            seeds=5,
        ),
    },
    arms=arms,
    claims=claims,
    figure=figure,
    headline="reward",
)
