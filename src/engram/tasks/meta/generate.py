"""Meta-tasks drawn at random, and what is kept of them."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float

from engram import checks
from engram.tasks.meta.canonical import digest
from engram.tasks.meta.diagnose import diagnose
from engram.tasks.meta.grid import Grid
from engram.tasks.meta.parts import (
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

Style = Literal["simple", "structured", "grid"]
Accept = Literal["strict", "reference"]
Split = Literal["train", "val", "test"]
FIXED, STIM_VARS, PROB_VARS = 3, 2, 2
_SLIP = 0.6914624612740131  # Phi(0.5): the published code compares a normal number with 0.5


class Criteria(NamedTuple):
    """What the published generator asks of a task.

    Attributes:
        variation: A variable stimulus is shown, or a reward rule has a state variable, or one of several reward rules
            a probability variable.
        control: In at least two states not all actions lead to the same.
        leaves: State 0 can be left.
        entered: Every state is entered from another one.
    """

    variation: bool
    control: bool
    leaves: bool
    entered: bool


def reference_criteria(task: MetaTask) -> Criteria:
    """Return which of the criteria of the published generator a task meets.

    Args:
        task: A task that is not on a grid.

    Raises:
        ValueError: It is on a grid.

    Source: Miconi, "Procedural generation of meta-reinforcement learning tasks" (2023), the published code.

    Examples:
        >>> from engram.tasks.meta import named
        >>> reference_criteria(named.two_step())
        Criteria(variation=True, control=False, leaves=True, entered=True)
    """
    if task.topology is not None:
        raise ValueError("task.topology: expected None; the published criteria are not about grids")
    T = np.array(task.transition)
    shows = any(isinstance(part, StimVar) for s in range(len(task.stimuli)) for part in task.parts_of(s))
    places = any(isinstance(place, StateRef) for rule in task.reward_rules for place in (rule.old, rule.new))
    chances = any(isinstance(rule.p, ProbRef | OneMinus) for rule in task.reward_rules)
    return Criteria(
        variation=shows or places or (chances and len(task.reward_rules) > 1),
        control=int((T[:, :1] != T).any((1, 2)).sum()) >= 2,
        leaves=bool((T[0, :, 0] < 1).any()),
        entered=bool((T.sum(1) - np.diag(np.diag(T.sum(1))) > 0).any(0).all()),
    )


def sample(
    generator: np.random.Generator,
    style: str = "structured",
    *,
    n_states: int = 4,
    n_actions: int = 2,
    horizon: int = 100,
    accept: str | None = "strict",
    reference_quirks: bool = False,
    max_tries: int = 1000,
) -> MetaTask:
    """Draw a meta-task at random.

    Args:
        generator: The source of randomness.
        style: "simple": everything is drawn on its own; "structured": as the published generator does it, with
            states whose actions all do the same, or the opposite; "grid": something to be found on a grid.
        n_states: States; on a grid its size is drawn too.
        n_actions: Actions; on a grid there are four.
        horizon: Steps of a lifetime.
        accept: What a task has to be, or another one is drawn. "reference": to meet the criteria of the published
            generator; "strict": to meet them, and ``diagnose`` finds it not degenerate; None: anything. On a grid,
            where the criteria say nothing, "strict" is the diagnosis alone.
        reference_quirks: Whether the slips of the published code are made: an opposite action with probability 0.69
            in place of 0.5, the check for rules that can never pay on state 1 in place of 0, and one minus a
            variable three times as often as the variable itself. They are those of the structured style.
        max_tries: Draws after which to give up.

    Raises:
        TypeError: A number is no int.
        ValueError: An argument is out of range or unknown.
        RuntimeError: No draw was accepted; the message counts why not.

    Source: Miconi, "Procedural generation of meta-reinforcement learning tasks" (2023), the published code: its
    simple and its main generator. The grids and the strict acceptance are ours.

    Examples:
        >>> task = sample(np.random.default_rng(0))
        >>> task.n_states, task.n_actions, reference_criteria(task).control
        (4, 2, True)
    """
    checks.size("n_states", n_states, 2)
    checks.size("n_actions", n_actions)
    checks.size("max_tries", max_tries)
    checks.choice("style", style, get_args(Style))
    checks.choice("accept", accept, (*get_args(Accept), None))
    if reference_quirks and style != "structured":
        raise ValueError(f"reference_quirks = True with style = {style!r}: expected the style 'structured'")
    if accept == "reference" and style == "grid":
        raise ValueError("accept = 'reference' with style = 'grid': expected 'strict' or None")
    draw: Callable[[], MetaTask] = {
        "simple": lambda: _simple(generator, n_states, n_actions, horizon),
        "structured": lambda: _structured(generator, n_states, n_actions, horizon, quirks=reference_quirks),
        "grid": lambda: _grid(generator, horizon),
    }[style]
    rejections: Counter[str] = Counter()
    for _ in range(max_tries):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of ranges of one state, where there are but two states
            task = draw()
        reasons = _reasons(task, accept)
        if not reasons:
            return task
        rejections.update(reasons)
    counts = _counted(rejections)
    raise RuntimeError(f"max_tries = {max_tries}: no task was accepted; a draw can fail in several ways: {counts}")


def sample_many(
    n: int,
    seed: int,
    style: str = "structured",
    *,
    dedupe: bool = True,
    split: str | None = None,
    max_draws: int | None = None,
    **arguments: Any,
) -> list[MetaTask]:
    """Draw many meta-tasks, none of them twice.

    A task belongs to one split by the hash of its canonical form modulo 10: 0 to 7 is "train", 8 is "val", 9 is
    "test". So a task that differs from one of another split only in how things are called is in that split too.

    Args:
        n: How many.
        seed: Seed of the draws.
        style: As in ``sample``.
        dedupe: Whether tasks are left out that were already drawn under other names.
        split: The split that they are from; None: all of them.
        max_draws: Accepted draws after which to give up; None: 100 for each task.
        arguments: Other arguments of ``sample``.

    Raises:
        RuntimeError: There were not as many tasks in ``max_draws`` draws; the message counts why not.
        ValueError: An argument is out of range or unknown.

    Examples:
        >>> train, test = (sample_many(3, 0, split=split, accept=None) for split in ("train", "test"))
        >>> {digest(task) for task in train} & {digest(task) for task in test}
        set()
    """
    checks.size("n", n)
    checks.choice("split", split, (*get_args(Split), None))
    generator = np.random.default_rng(checks.size("seed", seed, 0))
    draws = checks.size("max_draws", 100 * n if max_draws is None else max_draws)
    tasks: list[MetaTask] = []
    known: set[str] = set()
    rejections: Counter[str] = Counter()
    for _ in range(draws):
        task = sample(generator, style, **arguments)
        name = digest(task) if dedupe or split else ""
        if split and split_of(name) != split:
            rejections["of another split"] += 1
        elif dedupe and name in known:
            rejections["drawn before"] += 1
        else:
            known.add(name)
            tasks.append(task)
            if len(tasks) == n:
                return tasks
    raise RuntimeError(f"max_draws = {draws}: found {len(tasks)} of n = {n} tasks; {_counted(rejections)}")


def _counted(rejections: Counter[str]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in rejections.most_common())


def split_of(digest: str) -> str:
    """Return the split that a meta-task belongs to, by its hash.

    Args:
        digest: The hash, hexadecimal.

    Examples:
        >>> split_of("f8")  # 248
        'val'
    """
    return ("train", "val", "test")[max(0, int(digest, 16) % 10 - 7)]


def _reasons(task: MetaTask, accept: str | None) -> list[str]:
    """Return why a task is not accepted; it is if there is no reason."""
    if accept is None:
        return []
    if task.topology is None:
        unmet = [name for name, met in reference_criteria(task)._asdict().items() if not met]
        if unmet or accept == "reference":
            return [f"no {name}" for name in unmet]
    return list(diagnose(task).degeneracies)


def _simple(generator: np.random.Generator, n_states: int, n_actions: int, horizon: int) -> MetaTask:
    rewards, flags = _choice(generator, (1, 1, 1, 2, 3)), _choice(generator, (1, 1, 1, 2))
    variable = _state_var(generator, n_states, pair=0.0)
    kinds: tuple[int | StimVar, ...] = (*range(FIXED), *map(StimVar, range(STIM_VARS)), -1)
    stimuli = tuple(_choice(generator, kinds) for _ in range(n_states))
    weights = generator.choice([0.0, 0.0, 0.0, 1.0, 1.0, 5.0], size=(n_states, n_actions, n_states))
    for row in weights.reshape(-1, n_states):
        if not row.any():
            row[_draw(generator, n_states)] = 1.0
    T = weights / weights.sum(2, keepdims=True)
    T[T < 0.1] = 0.0
    T /= T.sum(2, keepdims=True)
    reward_rules = tuple(_simple_reward_rule(generator, n_states, n_actions) for _ in range(rewards))
    flag_rules = tuple(
        FlagRule(*_simple_event(generator, n_states, n_actions), set_to=_choice(generator, (0, 1, 1, 1)))
        for _ in range(flags)
    )
    return _task(generator, T, (reward_rules, flag_rules), stimuli, variable, horizon=horizon)


def _simple_event(generator: np.random.Generator, n_states: int, n_actions: int) -> tuple[int | StateRef, int, int]:
    """Draw the places of a rule: a state acted from, no state reached, and an action or any."""
    old = _draw(generator, n_states) if generator.random() < 0.5 else StateRef(0)
    return old, -1, _draw(generator, n_actions) if generator.random() < 0.5 else -1


def _simple_reward_rule(generator: np.random.Generator, n_states: int, n_actions: int) -> RewardRule:
    event = _simple_event(generator, n_states, n_actions)
    k = _draw(generator, PROB_VARS)
    p = _choice(generator, (0.2, 0.5, 0.8, 1.0, 1.0, ProbRef(k), OneMinus(k)))
    return RewardRule(*event, p=p, flag=_choice(generator, (-1, -1, 0, 1, 1)))


class _Rates(NamedTuple):
    """How often the rules of a task are of which kind."""

    state_var: float
    probabilistic: float
    prob_var: float
    flag: float
    itself: float  # a variable, in place of one minus it
    never: int  # the state in which no rule may wait for the flag


def _structured(
    generator: np.random.Generator, n_states: int, n_actions: int, horizon: int, *, quirks: bool
) -> MetaTask:
    rewards, flags = _choice(generator, (1, 1, 1, 2, 3)), _choice(generator, (1, 1, 1, 2))
    rates = _Rates(
        state_var=_choice(generator, (0.0, 0.0, 0.5)),
        probabilistic=_choice(generator, (0.0, 0.0, 0.0, 1.0)),
        prob_var=_choice(generator, (0.2, 0.5, 0.8)),
        flag=_choice(generator, (0.0, 0.0, 0.5)),
        itself=0.25 if quirks else 0.5,
        never=1 if quirks else 0,  # in state 0 the flag is never set
    )
    variable = _state_var(generator, n_states, pair=0.5)
    stimuli = _shown(generator, n_states)
    T = _structured_transitions(generator, n_states, n_actions, opposite=_SLIP if quirks else 0.5)
    reward_rules = tuple(_reward_rule(generator, n_states, n_actions, rates) for _ in range(rewards))
    flag_rules = tuple(_flag_rule(generator, n_states, n_actions, rates) for _ in range(flags))
    flag_rules = (replace(flag_rules[0], set_to=1), *flag_rules[1:])
    return _task(generator, T, (reward_rules, flag_rules), stimuli, variable, horizon=horizon)


def _reward_rule(generator: np.random.Generator, n_states: int, n_actions: int, rates: _Rates) -> RewardRule:
    while True:
        old: int | StateRef = _draw(generator, n_states)
        action = _draw(generator, n_actions) if generator.random() < 0.33 else -1
        if generator.random() < rates.state_var:
            old = StateRef(0)
        flag = _choice(generator, (1, 1, 1, 0)) if generator.random() < rates.flag else -1
        p: float | ProbRef | OneMinus = 1.0
        if generator.random() < rates.probabilistic:
            p = _choice(generator, (0.2, 0.5, 0.8, 1.0))
            if generator.random() < rates.prob_var:
                kind = ProbRef if generator.random() < rates.itself else OneMinus
                p = kind(_draw(generator, PROB_VARS))
        if flag != 1 or old != rates.never:
            return RewardRule(old, action=action, p=p, flag=flag)


def _flag_rule(generator: np.random.Generator, n_states: int, n_actions: int, rates: _Rates) -> FlagRule:
    while True:
        old: int | StateRef = _draw(generator, n_states)
        action = _draw(generator, n_actions) if generator.random() < 0.33 else -1
        if old != 0 or action != -1:  # that would be nearly always
            break
    if generator.random() < rates.state_var:
        old = StateRef(0)
    return FlagRule(old, action=action, set_to=_choice(generator, (1, 1, 1, 0)))


def _shown(generator: np.random.Generator, n_states: int) -> tuple[int | StimVar, ...]:
    """Draw what states show, so that not exactly one variable stimulus is among it, which would be no variation."""
    while True:
        shown: list[int | StimVar] = []
        for _ in range(n_states):
            fixed = generator.random() < 0.666
            one = _draw(generator, FIXED) if fixed else StimVar(_draw(generator, STIM_VARS))
            shown.append(-1 if generator.random() < 0.2 else one)
        if len({one for one in shown if isinstance(one, StimVar)}) != 1:
            return tuple(shown)


def _structured_transitions(
    generator: np.random.Generator, n_states: int, n_actions: int, *, opposite: float
) -> Float[np.ndarray, "states actions states"]:
    """Draw transitions to few states, with states where actions do all the same, or one the opposite of the others."""
    weights = np.zeros((n_states, n_actions, n_states))
    for rows in weights:
        for row in rows:
            likely = _draw(generator, n_states)
            row[likely] = 5.0 if generator.random() < 0.33 else 1.0
            if generator.random() < 0.5:
                row[_draw(generator, n_states)] = 1.0
                for _ in range(2):
                    if generator.random() >= 0.33:
                        break
                    row[_draw(generator, n_states)] = 1.0
        if generator.random() < 0.5:
            rows[:] = rows[0]
            possible = np.flatnonzero(rows[0])
            if len(possible) > 1 and generator.random() < opposite:
                keeps = _draw(generator, n_actions)
                one, other = generator.choice(possible, 2, replace=False)
                others = np.arange(n_actions) != keeps
                rows[np.ix_(others, [one, other])] = rows[np.ix_(others, [other, one])]
    T: Float[np.ndarray, "states actions states"] = weights / weights.sum(2, keepdims=True)
    return T


def _state_var(generator: np.random.Generator, n_states: int, *, pair: float) -> StateVar:
    """Draw a range of states without 0; of two with probability ``pair``, otherwise of 2 to all but 0 and one."""
    most = n_states - 1
    two = min(2, most)
    size = two if generator.random() < pair else int(generator.integers(two, most + 1))
    return StateVar(tuple(sorted((1 + generator.choice(most, size, replace=False)).tolist())))


def _task(
    generator: np.random.Generator,
    T: Float[np.ndarray, "states actions states"],
    rules: tuple[tuple[RewardRule, ...], tuple[FlagRule, ...]],
    stimuli: tuple[int | StimVar, ...],
    variable: StateVar,
    *,
    horizon: int,
) -> MetaTask:
    return MetaTask(
        T,
        *rules,
        stimuli,
        state_vars=(variable,),
        prob_vars=(ProbVar(),) * PROB_VARS,
        stim=Stim(seed=_draw(generator, 2**31)),
        horizon=horizon,
    )


def _grid(generator: np.random.Generator, horizon: int) -> MetaTask:
    height, width = (_choice(generator, (3, 5, 7, 9)) for _ in range(2))
    walls = _choice(generator, ("open", "pillars", "random_maze"))
    goal = _choice(generator, ("find-the-spot", "key-door", "two-goals", "lure"))
    obs = _choice(generator, ("none", "position", "window", "stimuli"))
    on_reward = _choice(generator, ("teleport", "reset"))
    grid = Grid(
        height,
        width,
        walls=walls,
        obs=obs,
        on_reward=on_reward,
        start=0 if walls == "random_maze" else "center",  # the centre of a maze may be a wall
    )
    free = [cell for cell in range(grid.n_cells) if grid.always_free(cell) and cell != grid.start_cell]
    one, other = generator.choice(free, 2, replace=False).tolist()
    stimuli: tuple[int | StimVar, ...] = ()
    if obs == "stimuli":
        marked = generator.choice(grid.n_cells, 2, replace=False).tolist()
        stimuli = tuple(StimVar(marked.index(cell)) if cell in marked else -1 for cell in range(grid.n_cells))
    anywhere = StateVar("all_but_start")
    parts: dict[str, dict[str, Any]] = {
        "find-the-spot": {"reward_rules": (RewardRule(new=StateRef(0)),), "state_vars": (anywhere,)},
        "key-door": {
            "reward_rules": (RewardRule(new=StateRef(1), flag=1),),
            "flag_rules": (FlagRule(new=StateRef(0)),),
            "state_vars": (anywhere, StateVar("all_but_start", distinct_from=0)),
        },
        "two-goals": {
            "reward_rules": (RewardRule(new=one, p=ProbRef(0)), RewardRule(new=other, p=OneMinus(0))),
            "prob_vars": (ProbVar(values=(0.0, 1.0)),),
        },
        "lure": {
            "reward_rules": (RewardRule(new=one, value=0.2), RewardRule(new=StateRef(0))),
            "state_vars": (anywhere,),
        },
    }
    stim = Stim(seed=_draw(generator, 2**31))
    return MetaTask(topology=grid, stimuli=stimuli, stim=stim, horizon=horizon, **parts[goal])


def _draw(generator: np.random.Generator, below: int) -> int:
    return int(generator.integers(below))


def _choice(generator: np.random.Generator, among: Any) -> Any:
    return among[_draw(generator, len(among))]
