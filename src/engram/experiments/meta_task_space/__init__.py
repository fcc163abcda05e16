"""A space of meta-reinforcement-learning tasks: what it holds, what is wrong with parts of it, what is learnt in it.

Named tasks of the literature are settings of one description, random ones are drawn without end, and exact planning
tells which of them ask for learning at all. A recurrent agent that is trained on many lifetimes should learn within
each of them, in one task and in many that it was never trained on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from engram.experiments.meta_task_space.learning import ManyTasks, OneTask, on_many_tasks, on_one_task, seconds
from engram.experiments.meta_task_space.space import CRITERIA, Anchors, Generator, measure_anchors, measure_generator
from engram.lab import Arm, Experiment, Measure, Preset, Results, claimed, share, value
from engram.lab.curves import PALETTE


@dataclass(frozen=True)
class Config:
    """The studies."""

    anchors: Anchors = Anchors()
    generator: Generator = Generator()
    one_task: OneTask = OneTask()
    many_tasks: ManyTasks = ManyTasks(iterations=2000)


def arms(config: Config) -> dict[str, Arm]:
    """What is known of named tasks, of random ones, and an LSTM on one task and on many, beside exact inference."""
    known, drawn, many = config.anchors, config.generator, config.many_tasks
    bandit, two_step = (replace(config.one_task, task=task) for task in ("bandit", "two-step"))
    inferring = replace(two_step, agent="bayes")
    return {
        "anchors": Arm(measure_anchors, known, 1 + known.lifetimes * 5e-3),
        "generator": Arm(measure_generator, drawn, 2 + drawn.attempts * 0.3e-3 + drawn.accepted * 6e-3),
        "lstm-bandit": Arm(on_one_task, bandit, seconds(bandit)),
        "lstm-two-step": Arm(on_one_task, two_step, seconds(two_step)),
        "bayes-two-step": Arm(on_one_task, inferring, 1.0),
        "lstm-many": Arm(on_many_tasks, many, seconds(many)),
    }


def stays(arm: str) -> Measure:
    """Return by how much the choice depends on the kind of transition, after a reward and, inverted, without one."""

    def smaller(results: Any) -> float:
        (unrewarded_rare, unrewarded_common), (rewarded_rare, rewarded_common) = results[arm]["stays"]
        return float(min(rewarded_common - rewarded_rare, unrewarded_rare - unrewarded_common))

    return Measure(smaller, (arm,))


ours = partial(claimed, source="ours; the paper trains no agent", published="none")
space = partial(ours, source="abstract; closed forms and measurements ours")
generator = partial(ours, source="published generator, its script: 400 of 1849 tries accepted")
claims = [
    space(
        "expressivity",
        "The returns of chance and of the oracle in named tasks are those in closed form: in every seed, all "
        "deviations together are those of chance (p, by chi-squared)",
        value("anchors", "exact_p") >= 1e-3,
        published="the space holds bandits, Harlow, T-mazes, the two-step task (no figure)",
        sameness="numeric",
    ),
    space(
        "ideal-learners",
        "The regrets and returns of 16 ideal learners are those measured before: but for rounding, the "
        "largest deviation is 3 % at most",
        value("anchors", "ideal_off") <= 0.03,
    ),
    generator(
        "acceptance",
        "The generator with its published slips accepts as many of its draws as the published one",
        share("generator", "accepted", "attempts").within(0.2155, 0.0105),
        published="0.216",
    ),
    *(
        generator(
            f"criterion-{name}",
            f"The generator's criterion '{name}' is met as often as in another implementation, to 0.01",
            share("generator", name, "attempts").within(met, 0.01),
            published=f"none; measured in 60,000 tries: {met}",
        )
        for name, met in CRITERIA.items()
    ),
    ours(
        "worth-learning",
        "Of the tasks that the generator accepts, a share is worth learning in: a fixed policy is 2 % short "
        "of the best or stimuli are ambiguous, and chance does not do",
        share("generator", "worth", "diagnosed").within(0.39, 0.04),
        published="none; measured before: 0.39",
    ),
    ours(
        "no-false-alarm",
        "No named task is found to be degenerate",
        value("generator", "false_alarms") <= 0.0,
        published="none; the published criteria alone know no degeneracy",
        sameness="identity",
    ),
    ours(
        "planted-degenerates",
        "Each of eight defects that were planted is found",
        value("generator", "detected") >= 1.0,
        published="none; the published criteria alone find 0 of 8",
        sameness="identity",
    ),
    ours(
        "single-optimum",
        "In about half of the tasks that the published criteria accept one policy is best in all instances",
        share("generator", "single_optimum", "diagnosed").within(0.56, 0.06),
        source="the issue is named in the paper; the share is ours",
        published="none; measured before: 0.56",
    ),
    ours(
        "novelty",
        "Nearly all tasks that the generator accepts differ, also up to names of states, actions and stimuli",
        share("generator", "distinct", "diagnosed") >= 0.99,
        source="abstract: an unlimited number of novel tasks; the figure is ours",
        published="novel tasks (no figure)",
    ),
    ours(
        "bandit-learnt",
        "A trained LSTM has less regret than UCB1 (6.0) in lifetimes of 100 pulls of two dependent arms",
        value("lstm-bandit", "regret") <= 5.0,
        published="none; chance has 25",
    ),
    ours(
        "two-step-learnt",
        "A trained LSTM gets at least 0.72 a trial of the two-step task",
        value("lstm-two-step", "reward_per_trial") >= 0.72,
        published="none; chance has 0.5, the Bayes filter 0.809, the oracle 0.82",
    ),
    ours(
        "model-based",
        "In the two-step task a trained LSTM stays with its choice as one does who knows the transitions: by 0.15 "
        "more after common transitions that were rewarded, and after rare ones that were not",
        stays("lstm-two-step") >= 0.15,
        source="as Wang et al. (2018); the figure is ours",
        published="model-based pattern (curves only)",
    ),
    ours(
        "model-based-as-inferred",
        "In the two-step task a trained LSTM's choices depend on reward and transition at least half as much as those "
        "of the Bayes filter, which infers exactly and does not reach 0.15 either",
        stays("lstm-two-step") / stays("bayes-two-step") >= 0.5,
    ),
    ours(
        "learns-unseen-tasks",
        "An LSTM trained on many random tasks learns within lifetimes of tasks it has never seen: its "
        "normalised score, of all of these together, in the last quarter is above that in the first by 0.10",
        value("lstm-many", "last_quarter") - value("lstm-many", "first_quarter") >= 0.10,
    ),
]


def figure(results: Results) -> go.Figure:
    """What is wrong with random tasks, and how agents score at the beginning and the end of lifetimes."""
    titles = ("tasks the published generator accepts", "held-out tasks")
    plot = make_subplots(2, 1, subplot_titles=titles, vertical_spacing=0.18)
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
            plot.add_scatter(x=x, y=y, mode="lines+markers", marker_color=color, row=2, col=1)
    plot.update_xaxes(title_text="share", row=1, col=1)
    plot.update_yaxes(title_text="score (0: chance, 1: oracle)", row=2, col=1)
    title = "Random tasks, and an agent trained on many of them"
    return plot.update_layout(title=title, showlegend=False, height=700)


SMALL: dict[str, Any] = {"test_lifetimes": 2, "horizon": 8, "hidden_size": 4, "batch_size": 2, "iterations": 10}
SMOKE = Config(
    anchors=Anchors(8),
    generator=Generator(attempts=20, accepted=2),
    one_task=OneTask(**SMALL),
    many_tasks=ManyTasks(**SMALL, train_tasks=2, test_tasks=1),
)
PAPER = Config(
    anchors=Anchors(20_000),
    one_task=OneTask(iterations=3000),
    many_tasks=ManyTasks(iterations=100_000, train_tasks=1000, test_tasks=100),
)
experiment = Experiment(
    name="meta-task-space",
    summary="One description holds the tasks of the meta-learning literature and an unlimited number of others",
    paper="Miconi, Procedural generation of meta-reinforcement learning tasks, 2023 (arXiv 2302.05583)",
    presets={"smoke": Preset(SMOKE, seeds=1), "laptop": Preset(Config(), seeds=4), "paper": Preset(PAPER, seeds=5)},
    arms=arms,
    claims=claims,
    figure=figure,
    headline="reward",
)
