"""Meta-tasks of the literature as settings of the task space.

Each function returns a ``MetaTask``, and each is an environment whose arguments are those of the function:
``gymnasium.make("engram/TwoStep-v0", kind="wang2018")``.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from engram import checks
from engram.tasks.meta.grid import Grid
from engram.tasks.meta.parts import (
    ActionRef,
    ActionVar,
    FlagRule,
    OneMinus,
    ProbRef,
    ProbVar,
    RewardRule,
    StateRef,
    StateVar,
    Stim,
    StimVar,
)
from engram.tasks.meta.task import MetaTask
from engram.tasks.two_stimulus import TABLES

_COMMON = {"paper": 0.9, "wang2018": 0.8, "wang2016": 0.75, "daw2011": 0.7}
_ARMS: dict[str, tuple[float, ...]] = {"uniform": (), "easy": (0.9, 0.1), "medium": (0.75, 0.25), "hard": (0.6, 0.4)}
_HOME = {0: 1.0}


def bandit(k: int = 2, horizon: int = 100) -> MetaTask:
    """``k`` independent arms, each with a probability of its own, drawn from (0, 1).

    Source: Duan et al., "RL^2" (2016), with k of 5, 10 and 50; Wang et al. (2016) with 2 arms and 100 pulls.

    Examples:
        >>> bandit(5).n_actions
        5
    """
    checks.size("k", k)
    rules = tuple(RewardRule(0, action=a, p=ProbRef(a)) for a in range(k))
    return MetaTask(_table([_HOME], k), rules, prob_vars=(ProbVar(),) * k, stim=Stim(1), horizon=horizon)


def dependent_bandit(kind: str = "uniform", horizon: int = 100) -> MetaTask:
    """Two arms whose probabilities sum to one.

    The first of them is, by ``kind``, "uniform" in (0, 1), "easy" (0.9 or 0.1), "medium" (0.75 or 0.25) or "hard" (0.6
    or 0.4).

    Source: Wang et al., "Learning to reinforcement learn" (2016).

    Examples:
        >>> dependent_bandit("easy").prob_vars[0].values
        (0.9, 0.1)
    """
    return _two_arms(kind, horizon)


def restless_bandit(drift: float = 0.1, horizon: int = 150) -> MetaTask:
    """Two arms whose probabilities sum to one and drift by steps of standard deviation ``drift``, reflected at 0 and 1.

    Source: our Gaussian form of the restless arms in published code after Wang et al. (2016), which rescales its walks.
    """
    return _two_arms("uniform", horizon, drift=drift)


def reversal(hazard: float = 0.05, kind: str = "easy", horizon: int = 100) -> MetaTask:
    """Two arms whose probabilities sum to one and are swapped from time to time.

    Args:
        hazard: Probability of a swap after each pull (of new probabilities if they are "uniform").
        kind: Probabilities of the arms, "uniform", "easy", "medium" or "hard" (see ``dependent_bandit``).
        horizon: Steps of a lifetime.

    Source: probabilistic reversal learning; the setting is ours.
    """
    return _two_arms(kind, horizon, hazard=hazard)


def special_arm(k: int = 10, high: float = 0.9, low: float = 0.1, horizon: int = 100) -> MetaTask:
    """One arm pays with a high probability, and all others with a low one.

    Args:
        k: Number of arms.
        high: Probability of the special arm.
        low: Probability of the others.
        horizon: Steps of a lifetime.

    Raises:
        ValueError: A number is out of range.

    Source: our setting of the one-good-arm bandits of Wang et al. (2016).

    Examples:
        >>> special_arm(3).n_actions
        3
    """
    checks.size("k", k)
    rules = (RewardRule(0, p=low), RewardRule(0, action=ActionRef(0), p=high))
    return MetaTask(_table([_HOME], k), rules, action_vars=(ActionVar(),), stim=Stim(1), horizon=horizon)


def contextual_bandit(contexts: int = 3, k: int = 4, horizon: int = 100) -> MetaTask:
    """Arms with separate probabilities in each of several contexts, which follow each other at random.

    Each context has a new stimulus in every instance.

    Args:
        contexts: Number of contexts.
        k: Number of arms.
        horizon: Steps of a lifetime.

    Raises:
        ValueError: A number is out of range.

    Source: our setting of the contextual bandits in published code after Wang et al. (2016).

    Examples:
        >>> len(contextual_bandit(2, 3).prob_vars)
        6
    """
    checks.size("contexts", contexts)
    checks.size("k", k)
    rules = tuple(RewardRule(s, action=a, p=ProbRef(s * k + a)) for s in range(contexts) for a in range(k))
    transition = _table([dict.fromkeys(range(contexts), 1 / contexts)] * contexts, k)
    stimuli, probs = tuple(map(StimVar, range(contexts))), (ProbVar(),) * (contexts * k)
    return MetaTask(transition, rules, (), stimuli, (), probs, (), Stim(max(5, contexts.bit_length())), horizon)


def harlow(kind: str = "sequential", horizon: int | None = None) -> MetaTask:
    """Two new objects, one of which pays and the other costs; the same one throughout the lifetime.

    Args:
        kind: "sequential": one object at a time, to be taken (action 1) or not; "simultaneous": a choice of side.
        horizon: Steps of a lifetime, two for each trial; None: 100, or 12 for the simultaneous kind.

    Raises:
        ValueError: ``kind`` is unknown, or ``horizon`` is out of range.

    Source: Harlow (1949); sequential as in the paper of the task space, simultaneous as in Wang et al. (2016).

    Examples:
        >>> harlow("simultaneous").observation_size
        10
    """
    transition = _table([{1: 0.5, 2: 0.5}, _HOME, _HOME])
    stim0, stim1 = StimVar(0), StimVar(1)
    if checks.choice("kind", kind, ("sequential", "simultaneous")) == "sequential":
        rules = RewardRule(1, action=1), RewardRule(2, action=1, value=-1.0)
        return MetaTask(transition, rules, stimuli=(0, stim0, stim1), horizon=100 if horizon is None else horizon)
    sides = tuple(RewardRule(s, action=a, value=1.0 if (s == 1) == (a == 0) else -1.0) for s in (1, 2) for a in (0, 1))
    stimuli = (0, -1), (stim0, stim1), (stim1, stim0)
    return MetaTask(transition, sides, stimuli=stimuli, horizon=12 if horizon is None else horizon)


def t_maze(depth: int = 1, low: float = 0.1, hazard: float = 0.0, horizon: int = 100) -> MetaTask:
    """Turn left or right, once or more, to the end that pays 1; the others pay less.

    A trip takes depth + 2 steps: from the start through the turning points to an end, and back. The double T-maze has
    depth 2.

    Args:
        depth: Number of turns.
        low: Reward at the other ends.
        hazard: Probability that the best end moves at the start of a trip.
        horizon: Steps of a lifetime.

    Raises:
        ValueError: A number is out of range.

    Source: Soltoggio et al. (2008), "Evolutionary advantages of neuromodulated plasticity"; reward sizes not checked.

    Examples:
        >>> t_maze().n_states, t_maze(2).n_states
        (4, 8)
    """
    checks.size("depth", depth)
    ends = range(2**depth, 2 ** (depth + 1))
    turns = [[{2 * s: 1.0}, {2 * s + 1: 1.0}] for s in range(1, 2**depth)]
    transition = _table([{1: 1.0}, *turns, *[_HOME] * len(ends)])
    rules = *(RewardRule(s, value=low) for s in ends), RewardRule(StateRef(0))
    stimuli, stim = tuple(s.bit_length() for s in range(ends.stop)), Stim(max(5, (depth + 2).bit_length()))
    best = StateVar(tuple(ends), hazard=hazard)
    return MetaTask(transition, rules, stimuli=stimuli, state_vars=(best,), stim=stim, horizon=horizon)


def cue_t_maze(length: int = 3, horizon: int = 100) -> MetaTask:
    """Remember a cue along a corridor of ``length`` states, and turn to the side that it indicates.

    A trip takes length + 4 steps.

    Source: after Bakker, "Reinforcement learning with long short-term memory" (2001); the setting is ours.

    Examples:
        >>> cue_t_maze(2).n_states
        8
    """
    checks.size("length", length, 0)
    junction = length + 3
    left, right = junction + 1, junction + 2
    corridor = [{s + 1: 1.0} for s in range(2, junction)]
    transition = _table([{1: 0.5, 2: 0.5}, {3: 1.0}, *corridor, [{left: 1.0}, {right: 1.0}], _HOME, _HOME])
    rules = RewardRule(left, flag=0), RewardRule(right, flag=1)
    stimuli: Any = (-1, StimVar(0), StimVar(1), *[0] * length, 1, 2, 2)
    return MetaTask(transition, rules, (FlagRule(old=2),), stimuli, horizon=horizon)


def two_step(kind: str = "paper", horizon: int | None = None) -> MetaTask:
    """Choose between two states that pay differently, where each choice sometimes leads to the other one.

    Args:
        kind: "paper" (transitions 0.9 and 0.1), "wang2018" (0.8 and 0.2, the better state changing in 2.5 % of the
            trials), "wang2016" (0.75 and 0.25), or "daw2011" (0.7 and 0.3, and then a choice between drifting arms).
        horizon: Steps of a lifetime, two for each trial; None: 100, 200, 100 and 402.

    Raises:
        ValueError: ``kind`` is unknown, or ``horizon`` is out of range.

    Source: the figure of the paper; Wang et al. (2018) and (2016); Daw et al. (2011), drift and trials not checked.

    Examples:
        >>> two_step().transition[0]
        ((0.0, 0.1, 0.9), (0.0, 0.9, 0.1))
    """
    common = _COMMON[checks.choice("kind", kind, _COMMON)]
    rare = round(1 - common, 2)
    steps = {"wang2018": 200, "daw2011": 402}.get(kind, 100) if horizon is None else horizon
    transition = _table([[{1: rare, 2: common}, {1: common, 2: rare}], _HOME, _HOME])
    if kind == "daw2011":
        arms = tuple(RewardRule(s, action=a, p=ProbRef(2 * s - 2 + a)) for s in (1, 2) for a in (0, 1))
        drifting = (ProbVar(0.25, 0.75, drift=0.025),) * 4
        return MetaTask(transition, arms, stimuli=(0, 1, 2), prob_vars=drifting, horizon=steps)
    rules = RewardRule(1, p=0.1), RewardRule(2, p=0.1), RewardRule(StateRef(0), p=0.9)
    better = StateVar((1, 2), hazard=0.025 if kind == "wang2018" else 0.0)
    return MetaTask(transition, rules, stimuli=(0, 1, 2), state_vars=(better,), horizon=steps)


def find_the_spot(n: int = 5, horizon: int = 100) -> MetaTask:
    """Find the cell of an open n x n field that pays, and find it again from random cells.

    Source: named in the paper of the task space; the grid is ours.

    Examples:
        >>> find_the_spot(3).observation_size
        9
    """
    return _hidden_cell("all_but_start", horizon, Grid(n, n, on_reward="teleport"))


def dark_room(n: int = 9, horizon: int = 20) -> MetaTask:
    """Find the cell of an n x n room that pays at every step on it.

    Source: the dark room of in-context reinforcement learning, Laskin et al. (2022).

    Examples:
        >>> dark_room().n_actions
        5
    """
    return _hidden_cell("all", horizon, Grid(n, n, moves=5))


def dark_room_hard(n: int = 17, horizon: int = 20) -> MetaTask:
    """Find the cell of an n x n room that pays once and ends the episode; the hard version of ``dark_room``."""
    return _hidden_cell("all", horizon, Grid(n, n, moves=5, on_reward="terminate"))


def dark_key_to_door(n: int = 9, horizon: int = 50) -> MetaTask:
    """Find a key in an n x n room, which pays once, and then a door, which pays and ends the episode.

    Source: Laskin et al. (2022).

    Examples:
        >>> dark_key_to_door().flag_rules
        (FlagRule(old=-1, new=StateRef(index=0), action=-1, set_to=1),)
    """
    rules = RewardRule(new=StateRef(0), flag=0), RewardRule(new=StateRef(1), flag=1, ends=True)
    places, room = (StateVar("all"), StateVar("all")), Grid(n, n, moves=5, start="random")
    return MetaTask(None, rules, (FlagRule(new=StateRef(0)),), state_vars=places, horizon=horizon, topology=room)


def pillar_maze(n: int = 9, reward: float = 10.0, horizon: int = 200) -> MetaTask:
    """Find a hidden reward among the pillars of a maze, and find it again from random cells.

    Args:
        n: Cells along a side.
        reward: The reward.
        horizon: Steps of a lifetime.

    Source: Miconi et al., "Backpropamine" (2019); ``GridMaze`` is the same maze with the inputs of that paper.
    """
    topology = Grid(n, n, walls="pillars", obs="window", on_reward="teleport")
    return _hidden_cell("all_but_start", horizon, topology, reward)


def full_maze(n: int = 9, horizon: int = 200) -> MetaTask:
    """Find a hidden reward in a new n x n maze (n is odd), and find it again from random cells.

    Source: named in the paper of the task space; the maze is ours.
    """
    topology = Grid(n, n, walls="random_maze", obs="window", on_reward="teleport", start=0)
    return _hidden_cell("all_but_start", horizon, topology)


def example(number: int = 1, horizon: int = 100) -> MetaTask:
    """One of the three tasks that the paper shows of its generator; the third is a key and a door by accident.

    Source: Miconi, "Procedural generation of meta-reinforcement learning tasks" (2023), the examples.

    Examples:
        >>> example(3).n_states
        4
    """
    third, special, to_one, to_one_or_two = 1 / 3, StateRef(0), {1: 1.0}, {1: 0.5, 2: 0.5}
    if checks.size("number", number, 1, 3) == 1:
        T = _table([[to_one, dict.fromkeys(range(3), third)], [{0: 1 / 6, 2: 5 / 6}, {0: 5 / 6, 1: 1 / 6}], to_one])
        three = RewardRule(1), RewardRule(special), RewardRule(special, action=0)
        return MetaTask(T, three, (), (0, 1, -1), (StateVar((2, 0)),), horizon=horizon)
    if number == 2:
        T = _table([[_HOME, {0: 0.5, 2: 0.5}], [_HOME, to_one], [{0: 0.5, 1: 0.5}, {0: 1 / 6, 2: 5 / 6}]])
        three = RewardRule(special, p=ProbRef(0)), RewardRule(special, p=ProbRef(1)), RewardRule(1, p=ProbRef(2))
        stimuli = -1, StimVar(1), StimVar(0)
        return MetaTask(T, three, (), stimuli, (StateVar((1, 0)),), (ProbVar(),) * 3, horizon=horizon)
    T = _table([[to_one_or_two, {2: 1.0}], [to_one_or_two, {3: 1.0}], {0: third, 1: third, 3: third}, to_one])
    key, stimuli_shown = FlagRule(old=special), (StimVar(0), -1, StimVar(1), 1)
    return MetaTask(T, (RewardRule(2, flag=1),), (key,), stimuli_shown, (StateVar((1, 3, 2)),), horizon=horizon)


def two_stimulus(tables: Sequence[str] | None = None, horizon: int = 300) -> MetaTask:
    """See two bits, one after the other, and answer with a Boolean function of them that only the rewards reveal.

    A trial has three steps: to the first bit, to the second, and the answer.

    Args:
        tables: The functions, by name or as the answers to 00, 01, 10 and 11; None: the 14 that are not constant.
        horizon: Steps of a lifetime.

    Raises:
        ValueError: A table is neither a name nor four bits, or ``horizon`` is out of range.

    Source: a discrete form of the tasks of Miconi (2023), ``engram.tasks.TwoStimulus``.

    Examples:
        >>> two_stimulus(["dms", "dnms"]).action_vars[0].joint
        ((1, 0, 0, 1), (0, 1, 1, 0))
    """
    answer_tables = []
    for table in TABLES if tables is None else tables:
        if table not in TABLES and (len(table) != 4 or set(table) - {"0", "1"}):
            raise ValueError(f"tables: {table!r}: expected four bits or one of {', '.join(TABLES)}")
        answer_tables.append(tuple(int(bit) for bit in TABLES.get(table, table)))
    transition = _table([{1: 0.5, 2: 0.5}, {3: 0.5, 4: 0.5}, {5: 0.5, 6: 0.5}, *[_HOME] * 4])
    rules, answers = (
        tuple(RewardRule(3 + case, action=ActionRef(case)) for case in range(4)),
        ActionVar(joint=tuple(answer_tables)),
    )
    return MetaTask(transition, rules, stimuli=(-1, 0, 1, 0, 1, 0, 1), action_vars=(answers,), horizon=horizon)


def catalogue() -> dict[str, MetaTask]:
    """All of these tasks by name, in their published settings unless planning in them takes minutes."""
    return {
        "bandit": bandit(2),
        "bandit of 10 arms": bandit(10),
        "dependent bandit": dependent_bandit(),
        "dependent bandit, hard": dependent_bandit("hard"),
        "restless bandit": restless_bandit(),
        "reversal": reversal(),
        "special arm": special_arm(),
        "contextual bandit": contextual_bandit(),
        "harlow, sequential": harlow(),
        "harlow, simultaneous": harlow("simultaneous"),
        "t-maze": t_maze(),
        "double t-maze": t_maze(2),
        "cue t-maze": cue_t_maze(),
        **{"two-step" + f", {kind}" * (kind != "paper"): two_step(kind) for kind in _COMMON},
        "find the spot": find_the_spot(),
        "dark room": dark_room(5),
        "dark room, hard": dark_room_hard(5),
        "dark key to door": dark_key_to_door(3),
        "pillar maze": pillar_maze(5),
        "full maze": full_maze(5),
        **{f"example {number}": example(number) for number in (1, 2, 3)},
        "two stimuli": two_stimulus(),
    }


def degenerate() -> dict[str, tuple[MetaTask, str]]:
    """Tasks with a known defect by name, each with the defect's code in ``diagnose``."""
    step, maze = two_step(), t_maze()
    fork, away = _table([{1: 0.5, 2: 0.5}, _HOME, _HOME]), _table([{0: 0.5, 1: 0.5}, _HOME, _HOME])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flagged = replace(step, reward_rules=(RewardRule(StateRef(0), flag=1),), flag_rules=(FlagRule(1, set_to=0),))
        covering = (*step.reward_rules, RewardRule(1, p=0.1), RewardRule(2, p=0.9))
        everywhere = (*maze.reward_rules, RewardRule(2), RewardRule(3))
        trap = [*maze.transition[:3], [[0.0, 0.0, 0.0, 1.0]] * 2]
        return {
            "constant rules": (replace(step, reward_rules=(RewardRule(1, p=0.1), RewardRule(2))), "NO_VARIATION"),
            "unreachable reward": (replace(step, transition=away, reward_rules=(RewardRule(2),)), "UNREACHABLE"),
            "absorbing trap": (replace(maze, transition=trap), "TRAP"),
            "symmetric range": (replace(step, transition=fork, stimuli=(0, 1, 1)), "SAME_INSTANCES"),
            "every end pays": (replace(maze, reward_rules=everywhere), "TRIVIAL"),
            "flag never set": (flagged, "FLAG_CONSTANT"),
            "single variable stimulus": (replace(harlow(), stimuli=(0, StimVar(0), 1)), "NO_VARIATION"),
            "shadowed variable rule": (replace(step, reward_rules=covering), "SHADOWED"),
        }


def _two_arms(kind: str, horizon: int, **changes: float) -> MetaTask:
    first = ProbVar(values=_ARMS[checks.choice("kind", kind, _ARMS)], **changes)
    rules = (RewardRule(0, action=0, p=ProbRef(0)), RewardRule(0, action=1, p=OneMinus(0)))
    return MetaTask(_table([_HOME]), rules, prob_vars=(first,), stim=Stim(1), horizon=horizon)


def _hidden_cell(values: Any, horizon: int, topology: Grid, reward: float = 1.0) -> MetaTask:
    rules = (RewardRule(new=StateRef(0), value=reward),)
    return MetaTask(reward_rules=rules, state_vars=(StateVar(values),), horizon=horizon, topology=topology)


def _table(states: Sequence[Any], actions: int = 2) -> list[list[list[float]]]:
    """Transitions from the probabilities of successors: for each state a list by action, or one for all actions."""
    rows = [[row] * actions if isinstance(row, dict) else row for row in states]
    return [[[chances.get(s, 0.0) for s in range(len(states))] for chances in row] for row in rows]
