"""A meta-task in plain words."""

from __future__ import annotations

from typing import Any

import numpy as np

from engram import checks
from engram.tasks.meta.instance import Instance, sample_instance
from engram.tasks.meta.parts import FlagRule, OneMinus, ProbRef, RewardRule, StimVar
from engram.tasks.meta.planning import outcomes
from engram.tasks.meta.rules import effective_rules
from engram.tasks.meta.task import MetaTask

_LARGE = 16  # the most states for which rewards are listed state by state


def explain(task: MetaTask, instance: Instance | None = None) -> str:
    """A description of a task in plain words, with the rewards in one instance (None: the first of seed 0).

    It lists the probability and the value of the reward that counts for each state, action and flag, and for each state
    reached if they depend on it. For tasks of more than 16 states it lists the rules only.

    Examples:
        >>> from engram.tasks.meta import named
        >>> print(explain(named.dependent_bandit("easy"), Instance(probs=(0.9,))))
        1 state, 2 actions, lifetimes of 100 steps.
        Each lifetime draws:
          probability 0: 0.9 or 0.1
        Rewards, the last rule that matches counting:
          0. action 0 in state 0 pays 1 with probability 0
          1. action 1 in state 0 pays 1 with one minus probability 0
        In the instance with probability 0 = 0.9:
          state 0, action 0: 1 with probability 0.9
          state 0, action 1: 1 with probability 0.1
    """
    checks.arguments()
    if instance is None:
        instance = sample_instance(task, np.random.default_rng(0))
    sizes = _count(task.n_states, "state"), _count(task.n_actions, "action"), _count(task.horizon, "step")
    lines = ["{}, {}, lifetimes of {}.".format(*sizes)]
    lines += _section("On a grid:", _grid(task))
    lines += _section("Each lifetime draws:", _variables(task))
    lines += _section("What is seen:", [f"state {s}: {shown(task, s)}" for s in range(len(task.stimuli))])
    live, live_flags = effective_rules(task)
    rewards = [f"{i}. {_reward(rule)}" for i, rule in enumerate(task.reward_rules)]
    lines += _section("Rewards, the last rule that matches counting:", rewards)
    clears = "." if task.topology is not None else "; state 0 clears it."
    flags = [f"{i}. {_event(rule)} sets it to {rule.set_to}" for i, rule in enumerate(task.flag_rules)]
    lines += _section(f"The hidden flag, 0 at first{clears}", flags)
    dead = [f"reward rule {i}" for i in range(len(task.reward_rules)) if i not in live]
    dead += [f"flag rule {i}" for i in range(len(task.flag_rules)) if i not in live_flags]
    lines += _section("Rules that change nothing, being shadowed or never met:", dead)
    values = [f"state variable {k} = {state}" for k, state in enumerate(instance.states)]
    values += [f"action variable {k} = {action}" for k, action in enumerate(instance.actions)]
    values += [f"probability {k} = {prob:.3g}" for k, prob in enumerate(instance.probs)]
    lines += _section(f"In the instance{' with ' if values else ''}{', '.join(values)}:", _pays(task, instance))
    return "\n".join(lines)


def _section(title: str, lines: list[str]) -> list[str]:
    return [title, *(f"  {line}" for line in lines)] if lines else []


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _grid(task: MetaTask) -> list[str]:
    grid = task.topology
    if grid is None:
        return []
    walls = grid.walls if isinstance(grid.walls, str) else f"{sum(map(sum, grid.walls))} cells"
    labels = {
        "none": "nothing",
        "position": "the cell",
        "coordinates": "row and column",
        "stimuli": "its stimulus",
    }
    effects = {
        "none": "nothing happens",
        "teleport": "the agent is put on another free cell",
        "reset": "the agent is put back to the start and the flag cleared",
        "terminate": "the episode ends",
    }
    return [
        f"{grid.height} x {grid.width} cells, walls: {walls}, start: {grid.start}",
        f"seen of a cell: {labels.get(grid.obs, f'the walls in {grid.window} x {grid.window} cells around it')}",
        f"when a reward is paid, {effects[grid.on_reward]}",
    ]


def _changes(variable: Any) -> str:
    return f"; changes with probability {variable.hazard:g} at the start of a trial" if variable.hazard else ""


def _variables(task: MetaTask) -> list[str]:
    lines = []
    for k, state in enumerate(task.state_vars):
        values = f"{state.values} free cells".replace("_", " ") if isinstance(state.values, str) else _or(state.values)
        exclusion = "" if state.distinct_from is None else f", other than that of state variable {state.distinct_from}"
        lines.append(f"state variable {k}: {values}{exclusion}{_changes(state)}")
    index = 0
    for action in task.action_vars:
        if action.joint:
            names = " and ".join(str(index + i) for i in range(action.width))
            lines.append(f"action variables {names} together: {_or(action.joint)}{_changes(action)}")
        else:
            values = _or(action.values or range(task.n_actions))
            lines.append(f"action variable {index}: {values}{_changes(action)}")
        index += action.width
    for k, prob in enumerate(task.prob_vars):
        values = _or(prob.values) if prob.values else f"between {prob.low:g} and {prob.high:g}"
        drift = f"; drifts by {prob.drift:g} at the start of a trial" if prob.drift else ""
        lines.append(f"probability {k}: {values}{_changes(prob)}{drift}")
    if task.n_stim_vars:
        number = _count(task.n_stim_vars, "variable stimulus").replace("uss", "i")
        lines.append(f"the vectors of {number}{_changes(task.stim).replace('changes', 'all change')}")
    return lines


def _or(values: Any) -> str:
    texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    return " or ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else texts[0]


def shown(task: MetaTask, state: int) -> str:
    """The stimuli of a state in words."""
    shown_stimuli = [
        ("variable", stimulus.index) if isinstance(stimulus, StimVar) else ("fixed", stimulus)
        for stimulus in task.parts_of(state)
    ]
    return " beside ".join("nothing" if number == -1 else f"{kind} stimulus {number}" for kind, number in shown_stimuli)


def _place(kind: str, ref: Any) -> str:
    return f"{kind} {ref}" if isinstance(ref, int) else f"the {kind} of variable {ref.index}"


def _event(rule: RewardRule | FlagRule) -> str:
    action = "any action" if rule.action == -1 else _place("action", rule.action)
    old = "" if rule.old == -1 else f" in {_place('state', rule.old)}"
    new = "" if rule.new == -1 else f" that leads to {_place('state', rule.new)}"
    return action + old + new


def _reward(rule: RewardRule) -> str:
    minus = "one minus " if isinstance(rule.p, OneMinus) else ""
    probability = rule.p.index if isinstance(rule.p, ProbRef | OneMinus) else f"{rule.p:g}"
    chance = "" if rule.p == 1 else f" with {minus}probability {probability}"
    flag = "" if rule.flag == -1 else f" while the flag is {rule.flag}"
    return f"{_event(rule)}{flag} pays {rule.value:g}{chance}{', and ends the episode' if rule.ends else ''}"


def pays(task: MetaTask, instance: Instance) -> list[tuple[int, int, int, int, float, float]]:
    """The rewards in an instance: (state, action, flag, state reached, probability, value), where not 0."""
    step = outcomes(task, [instance], flags=2)
    payments = []
    for start_state, action, k, flag in np.ndindex(*step.reached.shape[1:], 2):
        reached, probability, value = (
            int(step.reached[0, start_state, action, k]),
            step.p[0, flag, start_state, action, k],
            step.value[0, flag, start_state, action, k],
        )
        if step.chance[0, start_state, action, k] and probability and value:
            payments.append((start_state, action, flag, reached, float(probability), float(value)))
    return payments


def _pays(task: MetaTask, instance: Instance) -> list[str]:
    if task.n_states > _LARGE:
        return []
    branches = (outcomes(task, [instance]).chance[0] > 0).sum(2)
    flagged = bool(task.flag_rules) or any(rule.flag != -1 for rule in task.reward_rules)
    merged: dict[tuple[Any, ...], list[int]] = {}
    for start_state, action, flag, reached, probability, value in pays(task, instance):
        # Without rules of the flag it is 0, and on a graph state 0 clears it.
        if flag == 0 or (flagged and (start_state != 0 or task.topology is not None)):
            merged.setdefault((start_state, action, flag, probability, value), []).append(reached)
    lines = []
    for (start_state, action, flag, probability, value), successors in merged.items():
        flag_condition = f", flag {flag}" if flagged else ""
        targets = "" if len(successors) == branches[start_state, action] else f" to state {_or(successors)}"
        lines.append(
            f"state {start_state}, action {action}{flag_condition}{targets}: "
            f"{value:g} with probability {probability:.3g}"
        )
    return lines or ["nothing pays"]
