"""Crossings: questions that combine several systems, answered from the records of experiments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from engram import registry
from engram.lab import CorruptFileError, Results, recorded
from engram.lab.claims.inference import estimate
from engram.lab.trial.experiment import Task
from engram.studies.standings.comparison import shipped_row
from engram.studies.standings.kinds import KINDS, tasks_of

META_TASKS = ("bandit", "two-step", "t-maze", "meta-tasks")
TASKS_OF_LEARNERS = ("split", "permuted")
MEASURES = {
    "dynamics": "dynamics of learning",
    "procrustes": "Procrustes distance of representations",
    "cka": "centred kernel alignment",
    "rsa": "representational similarity",
    "difficulty": "bits of what was learned",
    "accuracy": "test accuracy",
    "steps": "steps to learn",
}
RULES = {
    "backprop": "backpropagation",
    "matched": "backpropagation stopped at the accuracy of the Hebbian layer",
    "decay": "backpropagation with weight decay",
    "hebbian": "winner-take-all Hebbian layer",
    "soft": "soft Hebbian layer",
    "random": "random features",
    "feedback": "feedback alignment",
    "align": "AlignProp",
}
SETS = {"radius": "digits of 8 x 8", "mnist": "MNIST, averaged to 7 x 7"}


class Crossing(NamedTuple):
    """The answer to a question, in a sentence or two, and the table that shows it."""

    answer: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@cache
def record_of(name: str) -> Results:
    """The record of an experiment at laptop size.

    Raises:
        LookupError: It has none, or has changed since.
    """
    try:
        return recorded(name)
    except CorruptFileError:
        raise
    except ValueError as error:
        raise LookupError(str(error)) from None


def cell(values: Sequence[float]) -> str:
    """The mean over seeds with half of its 95 % interval."""
    if not values:
        return ""
    mean, low, high, _ = estimate(values)
    return f"{mean:.3g}" + (f" ± {(high - low) / 2:.2g}" if len(values) > 1 else "")


def agents_by_meta_tasks() -> Crossing:
    """The return of every agent in tasks whose worlds change from lifetime to lifetime."""
    record = record_of("agents")
    agents = [
        agent for agent in registry.names("agents") if all(f"{task}-{agent}" in record.arms for task in META_TASKS)
    ]
    returns = {task: {agent: record.values(f"{task}-{agent}", "return") for agent in agents} for task in META_TASKS}
    means = np.array([[np.mean(returns[task][agent]) for task in META_TASKS] for agent in agents])
    ranks = rankdata(-means, axis=0).mean(1)
    best, learners = int(ranks.argmin()), [agent for agent in agents if agent != "random"]
    of_random = {task: estimate(returns[task]["random"]).high for task in META_TASKS}
    above = [
        agent for agent in learners if all(estimate(returns[task][agent]).low > of_random[task] for task in META_TASKS)
    ]
    named = f": {', '.join(above)}" if above else ""
    return Crossing(
        f"Over the four tasks {agents[best]} has the best mean rank, {ranks[best]:.2g} of {len(agents)}; "
        f"{len(above) or 'none'} of {len(learners)} learners get higher returns than random actions in every task"
        f"{named}. The returns are means over a lifetime, which every agent begins without knowing the instance.",
        ["agent", *META_TASKS, "mean rank"],
        [
            [agents[row], *(cell(returns[task][agents[row]]) for task in META_TASKS), f"{ranks[row]:.2g}"]
            for row in np.argsort(ranks, kind="stable")
        ],
    )


def rules_from_networks() -> Crossing:
    """How often the rule that trained a network is identified from the network."""
    record = record_of("rule-fingerprints")
    arms = {"rules": "six rules", "near twins": "six values of momentum"}
    guessed = {arm: {key: record.values(arm, f"{key}_guessed") for key in MEASURES} for arm in arms}
    chance = {arm: 1 / len(record.values(arm, "rules")[0]) for arm in arms}
    order = sorted(MEASURES, key=lambda key: -np.mean(guessed["rules"][key]))
    return Crossing(
        f"{MEASURES[order[0]].capitalize()}: this measure assigns {np.mean(guessed['rules'][order[0]]):.0%} of the "
        f"networks to the right one of six rules (chance {chance['rules']:.0%}), more than any other measure. Test "
        f"accuracy alone reaches {np.mean(guessed['rules']['accuracy']):.0%}. Among six values of momentum, the first "
        f"measure identifies the right one in {np.mean(guessed['near twins'][order[0]]):.0%} of the cases "
        f"(chance {chance['near twins']:.0%}).",
        ["measure", *(f"{title}, share guessed" for title in arms.values())],
        [
            *([MEASURES[key], *(cell(guessed[arm][key]) for arm in arms)] for key in order),
            ["chance", *(f"{chance[arm]:.3g}" for arm in arms)],
        ],
    )


def what_learners_forget() -> Crossing:
    """How much continual learners forget of old tasks, in outputs and in features, and how well they learn new ones."""
    record = record_of("continual-learners")
    kinds = {"output_forgetting": "outputs", "representational_forgetting": "features", "output_new": "new tasks"}
    learners = [arm.removeprefix("permuted-") for arm in record.arms if arm.startswith("permuted-")]
    lost, lost_features, new = (
        {learner: float(np.mean(record.values(f"permuted-{learner}", kind))) for learner in learners} for kind in kinds
    )
    order = sorted(learners, key=lambda learner: lost[learner])
    least = next(learner for learner in order if new[learner] > new["finetune"] - 0.05)
    return Crossing(
        f"On permuted digits, fine-tuning loses {lost['finetune']:.2f} of its accuracy on old tasks at the outputs, "
        f"and {lost_features['finetune']:.2f} of the accuracy of a linear probe of its features. Among the learners "
        f"whose accuracy on new tasks is less than .05 below that of fine-tuning, {least} loses least: "
        f"{lost[least]:.2f} and {lost_features[least]:.2f}.",
        ["learner", *(f"{task}: {title}" for task in TASKS_OF_LEARNERS for title in kinds.values())],
        [
            [
                learner,
                *(cell(record.values(f"{task}-{learner}", kind)) for task in TASKS_OF_LEARNERS for kind in kinds),
            ]
            for learner in order
        ],
    )


def certified_radius_by_rule() -> Crossing:
    """The provable distance that an input may move before the answer changes, by the rule that trained the network."""
    record = record_of("property-verification")
    radii = {(of, rule): record.values(f"{of}-{rule}", "radius") for of in SETS for rule in RULES}
    best = {of: max(RULES, key=lambda rule: float(np.mean(radii[of, rule]))) for of in SETS}
    return Crossing(
        "The largest median certified radii: "
        + "; ".join(
            f"on {title}, {np.mean(radii[of, best[of]]):.2g} by {RULES[best[of]]} "
            f"(backpropagation: {np.mean(radii[of, 'backprop']):.2g})"
            for of, title in SETS.items()
        )
        + ". The table also shows the accuracy, because a network that learned less is often more robust.",
        ["trained by", *(f"{title}: {what}" for title in SETS.values() for what in ("radius", "accuracy"))],
        [
            [
                RULES[rule],
                *(
                    text
                    for of in SETS
                    for text in (cell(radii[of, rule]), cell(record.values(f"{of}-{rule}", "accuracy")))
                ),
            ]
            for rule in sorted(RULES, key=lambda rule: -float(np.mean(radii["radius", rule])))
        ],
    )


def difficulty_of_tasks() -> Crossing:
    """The difficulty of every task of the comparisons, with the results of guessing, a trivial and the best part."""
    rows = []
    solved = []
    for kind in KINDS:
        for experiment, task in tasks_of(kind):
            shipped = shipped_row(experiment, task)
            reached = {candidate: [*entry.values.values()] for candidate, entry in shipped.items()}
            with suppress(LookupError):
                reached |= reached_in(record_of(experiment.name), task)
            if len(reached) < 2:
                continue
            best = (max if task.maximize else min)(reached, key=lambda candidate: float(np.mean(reached[candidate])))
            bits = "" if task.bits is None else f"2^{task.bits():.0f}"
            chance = "" if task.chance is None else f"{task.chance:.3g}"
            measure = task.measure_in_words + ("" if task.maximize else " (less is better)")
            trivial = cell(reached.get(task.trivial, []))
            rows.append([task.name, measure, bits, chance, trivial, f"{cell(reached[best])} ({best})"])
            solved.append(best == task.trivial)
    return Crossing(
        f"{len(rows)} tasks have a record; in {sum(solved) or 'none'} of them the baseline is the best. The bits "
        "of inductive bias, where they can be measured, say how much prior knowledge a learner needs. Compare each "
        "result with those of guessing and of the baseline.",
        ["task", "measure", "bits of inductive bias", "guessing", "baseline", "best"],
        rows,
    )


def reached_in(record: Results, task: Task) -> dict[str, list[float]]:
    """The results of every registered candidate and the trivial one on a task, by seed, as far as a record has them."""
    candidates = [*(task.baselines or registry.names(task.kind)), *filter(None, [task.trivial])]
    arms = {candidate: task.arm(candidate) for candidate in candidates}
    return {candidate: record.values(arm, task.measure) for candidate, arm in arms.items() if arm in record.arms}


CROSSINGS: Mapping[str, tuple[str, Callable[[], Crossing]]] = {
    "agents": ("Which agent learns within a life?", agents_by_meta_tasks),
    "rule-fingerprints": ("Which rule trained this network?", rules_from_networks),
    "continual-learners": ("What does every learner forget?", what_learners_forget),
    "property-verification": ("Which rule trains provably robust networks?", certified_radius_by_rule),
    "generalization-difficulty": ("How hard is every task?", difficulty_of_tasks),
}


def page() -> str:
    """The page: every question with its answer and a table, or the reason why it has no answer yet."""
    sections = [
        "# Crossings",
        "These questions combine several published systems, so no paper asks them. Every answer is computed from the "
        "records of the experiments. The numbers are means over seeds, ± half of the 95 % interval.",
    ]
    for name, (question, crossing) in CROSSINGS.items():
        try:
            answer, columns, rows = crossing()
        except LookupError as error:
            sections += [f"## {question}", f"No answer yet: {error.args[0]} ([gallery](gallery/{name}.md))."]
            continue
        table = [columns, ["---"] * len(columns), *rows]
        sections += [
            f"## {question}",
            f"{answer} [The experiment](gallery/{name}.md) has the details.",
            "\n".join(f"| {' | '.join(row)} |" for row in table),
        ]
    return "\n\n".join(sections) + "\n"
