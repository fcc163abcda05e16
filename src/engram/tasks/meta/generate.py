"""Random meta-tasks, and the criteria by which they are accepted."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from engram import checks
from engram.tasks.meta.canonical import digest
from engram.tasks.meta.diagnose import diagnose
from engram.tasks.meta.grid import Grid
from engram.tasks.meta.parts import FlagRule, OneMinus, ProbRef, ProbVar, RewardRule, StateRef, StateVar, Stim, StimVar
from engram.tasks.meta.task import MetaTask

_SPLITS = ("train", "val", "test")
FIXED, STIM_VARS, PROB_VARS = 3, 2, 2
_SLIP = 0.6914624612740131  # Phi(0.5): the published code compares a normal number with 0.5


class Criteria(NamedTuple):
    """The criteria of the published generator."""

    variation: bool  # a variable stimulus, a variable state in a rule, or a variable probability in one of several
    control: bool  # in at least two states, not all actions have the same transitions
    leaves: bool  # state 0 can be left
    entered: bool  # every state can be entered from another one


def reference_criteria(task: MetaTask) -> Criteria:
    """Whether a task meets each criterion of the published generator; raise ValueError if it is on a grid.

    Source: Miconi, "Procedural generation of meta-reinforcement learning tasks" (2023), the published code.

    Examples:
        >>> from engram.tasks.meta import named
        >>> reference_criteria(named.two_step())
        Criteria(variation=True, control=False, leaves=True, entered=True)
    """
    checks.arguments()
    if task.topology is not None:
        raise ValueError("task.topology: expected None; the published criteria are not about grids")
    stimulus_parts = [part for state in range(len(task.stimuli)) for part in task.parts_of(state)]
    return _criteria(np.array(task.transition), task.reward_rules, stimulus_parts)


def _criteria(
    T: Float[np.ndarray, "states actions states"], rules: Sequence[RewardRule], stimulus_parts: Sequence[Any]
) -> Criteria:
    has_state = any(isinstance(state, StateRef) for rule in rules for state in (rule.old, rule.new))
    has_prob = any(isinstance(rule.p, ProbRef | OneMinus) for rule in rules)
    varies = any(isinstance(part, StimVar) for part in stimulus_parts) or has_state or (has_prob and len(rules) > 1)
    entered = (T.sum(1) - np.diag(np.diag(T.sum(1))) > 0).any(0).all()
    return Criteria(varies, int((T[:, :1] != T).any((1, 2)).sum()) >= 2, bool((T[0, :, 0] < 1).any()), bool(entered))


def sample(
    rng: np.random.Generator,
    style: str = "structured",
    *,
    n_states: int = 4,
    n_actions: int = 2,
    horizon: int = 100,
    accept: str | None = "strict",
    reference_quirks: bool = False,
    max_tries: int = 1000,
) -> MetaTask:
    """A random meta-task.

    Args:
        rng: Source of all randomness.
        style: "simple": every part is drawn independently; "structured": as in the published generator, where the
            actions of a state may all do the same, or one the opposite; "grid": something to be found on a grid.
        n_states: Number of states; not used on a grid, whose size is drawn.
        n_actions: Number of actions; not used on a grid, which has four.
        horizon: Number of steps of a lifetime.
        accept: Condition that a task must meet. "reference": it meets the criteria of the published generator;
            "strict": it meets them (except on a grid), and has no degeneracy in ``diagnose``; None: no condition.
        reference_quirks: Whether to make the errors of the published code, in the structured style: an opposite action
            has probability 0.69, not 0.5; rules that never pay are looked for in state 1, not 0; and OneMinus is three
            times as likely as ProbRef.
        max_tries: Maximum number of draws.

    Raises:
        RuntimeError: No draw was accepted; the message counts the reasons.

    Source: Miconi (2023), as above, both generators of the published code. Grids and strict acceptance are ours.

    Examples:
        >>> task = sample(np.random.default_rng(0))
        >>> task.n_states, task.n_actions, reference_criteria(task).control
        (4, 2, True)
    """
    checks.arguments()
    checks.size("n_states", n_states, 2, 10**4)
    checks.size("n_actions", n_actions)
    checks.size("max_tries", max_tries)
    checks.choice("style", style, ("simple", "structured", "grid"))
    checks.choice("accept", accept, ("strict", "reference", None))
    if reference_quirks and style != "structured":
        raise ValueError(f"reference_quirks = True with style = {style!r}: expected the style 'structured'")
    if accept == "reference" and style == "grid":
        raise ValueError("accept = 'reference' with style = 'grid': expected 'strict' or None")
    dice = _Dice(rng, n_states, n_actions)
    make: Any = {"simple": _simple, "structured": partial(_structured, quirks=reference_quirks), "grid": _grid}[style]
    rejections: Counter[str] = Counter()
    for _ in range(max_tries):
        fields: dict[str, Any] = make(dice)
        reasons = _unmet(fields) if accept and style != "grid" else []  # most draws end here, before they are a task
        if not reasons:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about ranges of one state, if there are only two states
                task = MetaTask(**fields, horizon=horizon)
            reasons = list(diagnose(task).degeneracies) if accept == "strict" else []
            if not reasons:
                return task
        rejections.update(reasons)
    reason = "no task was accepted; a draw can fail in several ways"
    raise RuntimeError(f"max_tries = {max_tries}: {reason}: {_counted(rejections)}")


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
    """Different random meta-tasks.

    A task belongs to one split by the hash of its canonical form modulo 10: 0 to 7 is "train", 8 is "val", 9 is
    "test". So tasks that differ only in the names of their parts are in the same split.

    Args:
        n: Number of tasks.
        seed: Seed of the draws.
        style: "simple", "structured" or "grid" (see ``sample``).
        dedupe: Whether to leave out tasks that were already drawn under other names.
        split: The split of the tasks; None: any.
        max_draws: Maximum number of accepted draws; None: 100 for each task.
        **arguments: Other arguments of ``sample``.

    Raises:
        RuntimeError: There were fewer than ``n`` tasks in ``max_draws`` draws; the message counts the reasons.

    Examples:
        >>> train, test = (sample_many(3, 0, split=split, accept=None) for split in ("train", "test"))
        >>> {digest(task) for task in train} & {digest(task) for task in test}
        set()
    """
    checks.arguments()
    checks.size("n", n)
    checks.choice("split", split, (*_SPLITS, None))
    rng = np.random.default_rng(checks.size("seed", seed, 0, None))
    draws = checks.size("max_draws", 100 * n if max_draws is None else max_draws)
    tasks: list[MetaTask] = []
    names_so_far: set[str] = set()
    rejections: Counter[str] = Counter()
    for _ in range(draws):
        task = sample(rng, style, **arguments)
        name = digest(task) if dedupe or split else ""
        if split and split_of(name) != split:
            rejections["of another split"] += 1
        elif dedupe and name in names_so_far:
            rejections["drawn before"] += 1
        else:
            names_so_far.add(name)
            tasks.append(task)
            if len(tasks) == n:
                return tasks
    raise RuntimeError(f"max_draws = {draws}: found {len(tasks)} of n = {n} tasks; {_counted(rejections)}")


def _counted(rejections: Counter[str]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in rejections.most_common())


def split_of(digest: str) -> str:
    """The split of the meta-task with this hexadecimal hash.

    Examples:
        >>> split_of("f8")  # 248
        'val'
    """
    checks.arguments()
    return _SPLITS[max(0, int(digest, 16) % 10 - 7)]


def _unmet(fields: dict[str, Any]) -> list[str]:
    """The published criteria that the parts of a task do not meet."""
    criteria = _criteria(fields["transition"], fields["reward_rules"], fields["stimuli"])
    return [f"no {name}" for name, is_met in criteria._asdict().items() if not is_met]


class _Dice(NamedTuple):
    """Random parts of tasks."""

    rng: np.random.Generator
    n_states: int
    n_actions: int

    def below(self, count: int) -> int:
        return int(self.rng.integers(count))

    def one_of(self, among: Any) -> Any:
        return among[self.below(len(among))]

    def falls(self, p: float) -> bool:
        return self.rng.random() < p

    def action(self, p: float) -> int:
        """A random action with probability ``p``, else -1, any action."""
        return self.below(self.n_actions) if self.falls(p) else -1

    def state_var(self, pair: float) -> StateVar:
        """A random range of states without 0: two with probability ``pair``, otherwise any number of at least two."""
        maximum = self.n_states - 1
        two = min(2, maximum)
        size = two if self.falls(pair) else int(self.rng.integers(two, maximum + 1))
        return StateVar(tuple(sorted((1 + self.rng.choice(maximum, size, replace=False)).tolist())))


def _simple(dice: _Dice) -> dict[str, Any]:
    n, k = dice.n_states, dice.n_actions
    rewards, flags = dice.one_of((1, 1, 1, 2, 3)), dice.one_of((1, 1, 1, 2))
    variable = dice.state_var(0.0)
    kinds: tuple[int | StimVar, ...] = (*range(FIXED), *map(StimVar, range(STIM_VARS)), -1)
    stimuli = tuple(dice.one_of(kinds) for _ in range(n))
    weights = dice.rng.choice([0.0, 0.0, 0.0, 1.0, 1.0, 5.0], size=(n, k, n))
    for row in weights.reshape(-1, n):
        if not row.any():
            row[dice.below(n)] = 1.0
    transition = weights / weights.sum(2, keepdims=True)
    # With many states none may be as likely as that; then the likeliest remain.
    transition[transition < np.minimum(0.1, transition.max(2, keepdims=True))] = 0.0
    transition /= transition.sum(2, keepdims=True)

    def event() -> tuple[int | StateRef, int, int]:
        return dice.below(n) if dice.falls(0.5) else StateRef(0), -1, dice.action(0.5)

    def reward_rule() -> RewardRule:
        condition, v = event(), dice.below(PROB_VARS)
        p = dice.one_of((0.2, 0.5, 0.8, 1.0, 1.0, ProbRef(v), OneMinus(v)))
        return RewardRule(*condition, p=p, flag=dice.one_of((-1, -1, 0, 1, 1)))

    rules = tuple(reward_rule() for _ in range(rewards))
    flag_rules = tuple(FlagRule(*event(), set_to=dice.one_of((0, 1, 1, 1))) for _ in range(flags))
    fields = {"transition": transition, "reward_rules": rules, "flag_rules": flag_rules, "stimuli": stimuli}
    return fields | _variables(dice, variable)


def _structured(dice: _Dice, quirks: bool) -> dict[str, Any]:
    rewards, flags = dice.one_of((1, 1, 1, 2, 3)), dice.one_of((1, 1, 1, 2))
    # Probabilities that a rule has a state variable, a probability, a probability variable, and a flag.
    by_variable, probabilistic = dice.one_of((0.0, 0.0, 0.5)), dice.one_of((0.0, 0.0, 0.0, 1.0))
    by_prob_var, flagged = dice.one_of((0.2, 0.5, 0.8)), dice.one_of((0.0, 0.0, 0.5))
    variable = dice.state_var(0.5)
    stimuli = _random_stimuli(dice)
    transition = _structured_transitions(dice, _SLIP if quirks else 0.5)

    def reward_rule() -> RewardRule:
        while True:
            old: int | StateRef = dice.below(dice.n_states)
            action = dice.action(0.33)
            if dice.falls(by_variable):
                old = StateRef(0)
            flag = dice.one_of((1, 1, 1, 0)) if dice.falls(flagged) else -1
            p: float | ProbRef | OneMinus = 1.0
            if dice.falls(probabilistic):
                p = dice.one_of((0.2, 0.5, 0.8, 1.0))
                if dice.falls(by_prob_var):
                    kind = ProbRef if dice.falls(0.25 if quirks else 0.5) else OneMinus
                    p = kind(dice.below(PROB_VARS))
            if flag != 1 or old != (1 if quirks else 0):  # in state 0 the flag is never set
                return RewardRule(old, action=action, p=p, flag=flag)

    def flag_rule() -> FlagRule:
        old: int | StateRef = 0
        action = -1
        while old == 0 and action == -1:  # this would set the flag nearly always
            old, action = dice.below(dice.n_states), dice.action(0.33)
        if dice.falls(by_variable):
            old = StateRef(0)
        return FlagRule(old, action=action, set_to=dice.one_of((1, 1, 1, 0)))

    rules = tuple(reward_rule() for _ in range(rewards))
    first_rule, *other_rules = [flag_rule() for _ in range(flags)]
    flag_rules = (replace(first_rule, set_to=1), *other_rules)
    fields = {"transition": transition, "reward_rules": rules, "flag_rules": flag_rules, "stimuli": stimuli}
    return fields | _variables(dice, variable)


def _variables(dice: _Dice, variable: StateVar) -> dict[str, Any]:
    """The variables of a task without a grid, and its stimulus vectors."""
    return {"state_vars": (variable,), "prob_vars": (ProbVar(),) * PROB_VARS, "stim": Stim(seed=dice.below(2**31))}


def _random_stimuli(dice: _Dice) -> tuple[int | StimVar, ...]:
    """Random stimuli of states; none or several are variable, since a single one would be no variation."""
    while True:
        stimulus_of: list[int | StimVar] = []
        for _ in range(dice.n_states):
            stimulus = dice.below(FIXED) if dice.falls(0.666) else StimVar(dice.below(STIM_VARS))
            stimulus_of.append(-1 if dice.falls(0.2) else stimulus)
        if len({stimulus for stimulus in stimulus_of if isinstance(stimulus, StimVar)}) != 1:
            return tuple(stimulus_of)


def _structured_transitions(dice: _Dice, opposite: float) -> Float[np.ndarray, "states actions states"]:
    """Random transitions to few states, some with equal actions, or with one action opposite to the others."""
    n, k = dice.n_states, dice.n_actions
    weights = np.zeros((n, k, n))
    for rows in weights:
        for row in rows:
            likely = dice.below(n)
            row[likely] = 5.0 if dice.falls(0.33) else 1.0
            if dice.falls(0.5):
                row[dice.below(n)] = 1.0
                if dice.falls(0.33):
                    row[dice.below(n)] = 1.0
                    if dice.falls(0.33):
                        row[dice.below(n)] = 1.0
        if dice.falls(0.5):
            rows[:] = rows[0]
            possible = np.flatnonzero(rows[0])
            if len(possible) > 1 and dice.falls(opposite):
                keeps = dice.below(k)
                state_a, state_b = dice.rng.choice(possible, 2, replace=False)
                other_actions = np.arange(k) != keeps
                rows[np.ix_(other_actions, [state_a, state_b])] = rows[np.ix_(other_actions, [state_b, state_a])]
    transition: Float[np.ndarray, "states actions states"] = weights / weights.sum(2, keepdims=True)
    return transition


def _grid(dice: _Dice) -> dict[str, Any]:
    height, width = (dice.one_of((3, 5, 7, 9)) for _ in range(2))
    walls = dice.one_of(("open", "pillars", "random_maze"))
    goal = dice.one_of(("find-the-spot", "key-door", "two-goals", "lure"))
    obs = dice.one_of(("none", "position", "window", "stimuli"))
    on_reward = dice.one_of(("teleport", "reset"))
    start: Any = 0 if walls == "random_maze" else "center"  # the centre of a maze may be a wall
    grid = Grid(height, width, walls=walls, obs=obs, on_reward=on_reward, start=start)
    free = [cell for cell in range(grid.n_cells) if grid.always_free(cell) and cell != grid.start_cell]
    first, second = dice.rng.choice(free, 2, replace=False).tolist()
    stimuli: tuple[int | StimVar, ...] = ()
    if obs == "stimuli":
        marked = dice.rng.choice(grid.n_cells, 2, replace=False).tolist()
        stimuli = tuple(StimVar(marked.index(cell)) if cell in marked else -1 for cell in range(grid.n_cells))
    fields: dict[str, Any] = {
        "reward_rules": (RewardRule(new=StateRef(0)),),
        "state_vars": (StateVar("all_but_start"),),
    }
    if goal == "key-door":
        fields["reward_rules"], fields["flag_rules"] = (
            (RewardRule(new=StateRef(1), flag=1),),
            (FlagRule(new=StateRef(0)),),
        )
        fields["state_vars"] += (StateVar("all_but_start", distinct_from=0),)
    elif goal == "two-goals":
        goals = RewardRule(new=first, p=ProbRef(0)), RewardRule(new=second, p=OneMinus(0))
        fields = {"reward_rules": goals, "prob_vars": (ProbVar(values=(0.0, 1.0)),)}
    elif goal == "lure":
        fields["reward_rules"] = RewardRule(new=first, value=0.2), *fields["reward_rules"]
    return fields | {"topology": grid, "stimuli": stimuli, "stim": Stim(seed=dice.below(2**31))}
