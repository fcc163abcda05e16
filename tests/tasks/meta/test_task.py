import json
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.tasks.meta import (
    ActionRef,
    ActionVar,
    FlagRule,
    Grid,
    Instance,
    MetaTask,
    MetaTaskVectorEnv,
    OneMinus,
    ProbRef,
    ProbVar,
    RewardRule,
    StateRef,
    StateVar,
    Stim,
    StimVar,
    canonical,
    digest,
    draw,
    explain,
    from_json,
    named,
    sample_instance,
    to_json,
)
from engram.tasks.meta.planning import outcomes
from engram.tasks.meta.rules import effective_rules
from engram.testing.module import without_type_checks

NAMED = list(named.catalogue().values())


@st.composite
def tasks(draw):
    """Any task of a few states."""
    n, k = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    row = st.lists(st.integers(0, 3), min_size=n, max_size=n).filter(any).map(lambda w: [x / sum(w) for x in w])
    values = st.lists(st.integers(0, n - 1), min_size=min(n, 2), unique=True).map(tuple)
    hazard = st.sampled_from([0.0, 0.3])
    state_vars = draw(st.lists(st.builds(StateVar, values, hazard=hazard), max_size=2))
    if len(state_vars) == 2 and len(state_vars[1].values) > 1 and draw(st.booleans()):
        state_vars[1] = StateVar(state_vars[1].values, state_vars[1].hazard, distinct_from=0)
    prob = st.sampled_from(
        [ProbVar(), ProbVar(0.2, 0.4), ProbVar(values=(0.1, 0.9), hazard=0.2), ProbVar(0.1, 0.6, drift=0.3)]
    )
    prob_vars = draw(st.lists(prob, max_size=2))
    groups = draw(st.sampled_from([(), (ActionVar(),), (ActionVar(joint=((0, 0), (0, k - 1))),)])) if k > 1 else ()
    columns = sum(one.width for one in groups)
    place = st.one_of(
        st.integers(-1, n - 1), *([st.builds(StateRef, st.integers(0, len(state_vars) - 1))] * bool(state_vars))
    )
    action = st.one_of(st.integers(-1, k - 1), *([st.builds(ActionRef, st.integers(0, columns - 1))] * bool(columns)))
    chance = st.sampled_from([0.0, 0.2, 0.5, 1.0])
    if prob_vars:
        index = st.integers(0, len(prob_vars) - 1)
        chance = st.one_of(chance, st.builds(ProbRef, index), st.builds(OneMinus, index))
    value, asked = st.sampled_from([1.0, -0.5]), st.sampled_from([-1, 0, 1])
    reward = st.builds(RewardRule, place, place, action, chance, value, asked, st.booleans())
    flag = st.builds(FlagRule, place, place, action, st.integers(0, 1))
    one = st.one_of(st.integers(-1, 2), st.builds(StimVar, st.integers(0, 1)))
    seen = st.one_of(one, st.tuples(one, one))
    return MetaTask(
        draw(st.lists(st.lists(row, min_size=k, max_size=k), min_size=n, max_size=n)),
        tuple(draw(st.lists(reward, max_size=4))),
        tuple(draw(st.lists(flag, max_size=2))),
        tuple(draw(st.lists(seen, min_size=n, max_size=n))) if draw(st.booleans()) else (),
        tuple(state_vars),
        tuple(prob_vars),
        groups,
        Stim(4, draw(st.sampled_from(["binary", "sphere"])), hazard=draw(st.sampled_from([0.0, 0.5]))),
        draw(st.sampled_from([7, 100])),
    )


def quiet(test):
    # The type checker of the tests draws which element of a tuple it looks at.
    test = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")(test)
    return pytest.mark.filterwarnings("ignore:NO_VARIATION")(test)


def called_otherwise(task, rng):
    """Give states, actions, variables and stimuli other numbers, and put rules that do not meet in another order."""
    states = np.concatenate([[0], 1 + rng.permutation(task.n_states - 1)]) if task.n_states > 1 else np.zeros(1, int)
    actions, probs = rng.permutation(task.n_actions), rng.permutation(len(task.prob_vars))
    fixed, stims = rng.permutation(task.n_fixed), rng.permutation(task.n_stim_vars)

    def place(value):
        return value if isinstance(value, StateRef) or value == -1 else int(states[value])

    def action(value):
        return value if isinstance(value, ActionRef) or value == -1 else int(actions[value])

    def prob(value):
        return type(value)(int(probs[value.index])) if isinstance(value, ProbRef | OneMinus) else value

    def stimulus(value):
        if isinstance(value, StimVar):
            return StimVar(int(stims[value.index]))
        return value if value == -1 else int(fixed[value])

    T = np.empty((task.n_states, task.n_actions, task.n_states))
    for s, a, s2 in np.ndindex(T.shape):
        T[states[s], actions[a], states[s2]] = task.transition[s][a][s2]
    seen = {int(states[s]): tuple(map(stimulus, task.parts_of(s))) for s in range(task.n_states)}
    rules = [
        RewardRule(place(r.old), place(r.new), action(r.action), prob(r.p), r.value, r.flag, r.ends)
        for r in task.reward_rules
    ]
    for i in range(len(rules) - 1):  # neighbours that act from different states may change places
        one, other = rules[i].old, rules[i + 1].old
        if isinstance(one, int) and isinstance(other, int) and -1 not in (one, other) and one != other:
            rules[i], rules[i + 1] = rules[i + 1], rules[i]
    return MetaTask(
        T,
        tuple(rules),
        tuple(FlagRule(place(r.old), place(r.new), action(r.action), r.set_to) for r in task.flag_rules),
        tuple(seen[s] if task.parts > 1 else seen[s][0] for s in range(task.n_states)) if task.stimuli else (),
        tuple(StateVar(tuple(int(states[s]) for s in v.values), v.hazard, v.distinct_from) for v in task.state_vars),
        tuple(task.prob_vars[k] for k in np.argsort(probs)),
        tuple(
            ActionVar(v.values, tuple(tuple(int(actions[a]) for a in one) for one in v.joint), v.hazard)
            for v in task.action_vars
        ),
        task.stim,
        task.horizon,
    )


@quiet
@given(tasks())
def test_json_and_back(task):
    assert from_json(to_json(task)) == task


def test_the_named_tasks_as_json_and_in_canonical_form():
    forms = []
    for task in NAMED:
        assert from_json(to_json(task)) == task
        form = canonical(task)
        assert canonical(form) == form
        forms.append(to_json(form))
    assert len(set(forms)) == len(NAMED), "all differ"
    assert digest(named.two_step()) == "cb0b40a5b293b38360e1fd304adbe54cc4304b44352cdc732f5207fe49b50996", (
        "of the same task in every version"
    )


@quiet
@given(tasks(), st.integers(0, 2**32))
def test_the_canonical_form_is_the_same_whatever_things_are_called(task, seed):
    form = canonical(task)
    assert canonical(form) == form
    assert canonical(called_otherwise(task, np.random.default_rng(seed))) == form


@quiet
@given(tasks(), st.integers(0, 2**32))
def test_rules_that_are_left_out_change_nothing(task, seed):
    """Walk the task by all its rules and by those that are left, by hand, side by side."""
    rewards, flags = effective_rules(task)
    rng = np.random.default_rng(seed)
    for instance in (sample_instance(task, rng) for _ in range(3)):
        left, seen = [(0, 0, 0)], {(0, 0, 0)}
        while left:
            s, f, g = left.pop()
            for a, s2 in np.ndindex(task.n_actions, task.n_states):
                if not task.transition[s][a][s2]:
                    continue
                paid, f2 = happens(task, task.reward_rules, task.flag_rules, instance, (s, f, a, s2))
                fewer = [task.reward_rules[i] for i in rewards], [task.flag_rules[i] for i in flags]
                same, g2 = happens(task, *fewer, instance, (s, g, a, s2))
                assert paid == same
                if (s2, f2, g2) not in seen:
                    seen.add((s2, f2, g2))
                    left.append((s2, f2, g2))


def happens(task, reward_rules, flag_rules, instance, event):
    """What a step pays, and the flag after it."""
    s, f, a, s2 = event

    def is_at(place, actual):
        if isinstance(place, StateRef):
            return instance.states[place.index] == actual
        return instance.actions[place.index] == actual if isinstance(place, ActionRef) else place in (-1, actual)

    paid, after = None, f
    for rule in reward_rules:
        if is_at(rule.old, s) and is_at(rule.new, s2) and is_at(rule.action, a) and rule.flag in (-1, f):
            paid = None if rule.p == 0 else (rule.p, rule.value, rule.ends)
    for rule in flag_rules:
        if is_at(rule.old, s) and is_at(rule.new, s2) and is_at(rule.action, a):
            after = rule.set_to
    return paid, 0 if s2 == 0 else after


@quiet
@given(tasks(), st.integers(0, 1000))
def test_any_task_runs_and_its_rewards_are_those_of_its_rules(task, seed):
    envs = MetaTaskVectorEnv(task, 3)
    observations, _ = envs.reset(seed=seed)
    values = {0.0, *(rule.value for rule in task.reward_rules)}
    envs.action_space.seed(seed)
    for _ in range(20):
        assert observations in envs.observation_space
        observations, rewards, *_ = envs.step(envs.action_space.sample())
        assert set(rewards.tolist()) <= values
    for row in range(3):
        instance = envs.instance(row)
        for k, state in enumerate(instance.states):
            assert state in task.state_range(k)
            other = task.state_vars[k].distinct_from
            assert other is None or instance.states[other] != state
        assert all(v.low <= p <= v.high for v, p in zip(task.prob_vars, instance.probs, strict=True))
        envs.reset(options={"instance": instance})
        assert envs.instance(row) == instance
    assert isinstance(explain(task), str)


def test_mirrored_grids_are_one_task():
    rules, hashes = (RewardRule(new=StateRef(0)),), set()
    for row, values in (((False, True, True), (0, 5)), ((True, True, False), (2, 3))):
        grid = Grid(2, 3, walls=(row, (False,) * 3), start=4)
        hashes.add(digest(MetaTask(reward_rules=rules, state_vars=(StateVar(values),), topology=grid)))
    assert len(hashes) == 1


def test_integers_of_numpy_are_integers():
    def made(i):
        return MetaTask(
            reward_rules=(RewardRule(i(1), StateRef(i(0)), ActionRef(i(0)), i(1), i(2), flag=i(1)),),
            flag_rules=(FlagRule(i(2), set_to=i(0)),),
            state_vars=(StateVar((i(0), i(1)), i(0)),),
            action_vars=(ActionVar(joint=((i(0),), (i(3),))),),
            stim=Stim(i(3), seed=i(5)),
            horizon=i(100),
            topology=Grid(i(12), i(12), moves=i(5), start=i(4), window=i(3)),
        )

    with without_type_checks():
        task = made(np.int8)
    assert repr(task) == repr(made(int))
    assert to_json(task) == to_json(made(int))


def test_what_makes_another_task():
    task = named.two_step()
    others = [
        named.two_step(horizon=50),
        named.two_step("wang2016"),
        MetaTask(task.transition, task.reward_rules[::-1], (), task.stimuli, task.state_vars),
        MetaTask(task.transition, task.reward_rules, (), (0, 1, 1), task.state_vars),
    ]
    assert len({digest(variant) for variant in [task, *others]}) == 5
    more = MetaTask(
        task.transition,
        (RewardRule(1, p=0.7), *task.reward_rules),  # overridden by the rule after it
        (FlagRule(old=1),),  # which nothing reads
        task.stimuli,
        (*task.state_vars, StateVar((0, 1))),  # which nothing uses
        stim=Stim(seed=3),
    )
    assert digest(more) == digest(task)
    assert effective_rules(more) == ((1, 2, 3), ())


def test_stimuli():
    task = MetaTask([[[1.0]]], stimuli=((0, 1, StimVar(0), StimVar(1)),), stim=Stim(3))
    seen, envs = set(), MetaTaskVectorEnv(task, 200)
    shown = envs.reset(seed=0)[0].reshape(200, 4, 3)
    assert (shown[:, :2] == shown[0, :2]).all(), "fixed stimuli are those of the task"
    for vectors in shown:
        assert len({vector.tobytes() for vector in vectors}) == 4, "all differ"
        assert vectors.any(1).all(), "none is of zeros"
        seen |= {vector.tobytes() for vector in vectors}
    assert len(seen) == 7
    counts = np.unique(shown[:, 2], axis=0, return_counts=True)[1]
    assert counts.shape == (5,)
    assert counts.min() > 20, "all vectors that are left are drawn"

    free = MetaTask([[[1.0]]], stimuli=((StimVar(0), StimVar(1)),), stim=Stim(2, distinct=False))
    shown = MetaTaskVectorEnv(free, 2000).reset(seed=0)[0]
    np.testing.assert_allclose(shown.mean(0), 0.5, atol=0.05)
    assert (shown == 0).all(1).mean() == pytest.approx(1 / 16, abs=0.02)
    for kind, variance in (("sphere", 0.25), ("gaussian", 0.25)):
        task = MetaTask([[[1.0]]], stimuli=(StimVar(0),), stim=Stim(4, kind))
        shown = MetaTaskVectorEnv(task, 3000).reset(seed=0)[0]
        np.testing.assert_allclose(shown.var(0), variance, atol=0.03)
        np.testing.assert_allclose(shown.mean(0), 0, atol=0.04)
        if kind == "sphere":
            np.testing.assert_allclose((shown**2).sum(1), 1, rtol=1e-5)
    onehot = MetaTask([[[1.0]]], stimuli=((StimVar(0), StimVar(1), 0),), stim=Stim(3, "onehot"))
    shown = MetaTaskVectorEnv(onehot, 50).reset(seed=0)[0].reshape(50, 3, 3)
    assert (shown.sum(1) == 1).all()
    given_ones = MetaTask([[[1.0]]], stimuli=((0, StimVar(0)),), stim=Stim(1, "given", vectors=((5,), (6,), (7,))))
    shown = MetaTaskVectorEnv(given_ones, 50).reset(seed=0)[0]
    assert set(map(tuple, shown.tolist())) == {(5.0, 6.0), (5.0, 7.0)}


def test_stimuli_with_a_hazard_are_new_at_the_start_of_a_trial():
    task = MetaTask([[[0, 1]], [[1, 0]]], stimuli=(StimVar(0), StimVar(0)), stim=Stim(20, hazard=1.0))
    envs = MetaTaskVectorEnv(task, 30)
    first = envs.reset(seed=0)[0]
    second, third = envs.step([0] * 30)[0], envs.step([0] * 30)[0]
    assert (first == second).all()
    assert (third != second).any(1).all()


def test_variables_that_are_distinct_and_joint():
    task = MetaTask(
        [[[0.25] * 4] * 2] * 4,
        (RewardRule(StateRef(0), action=ActionRef(1)), RewardRule(StateRef(1), action=ActionRef(0))),
        state_vars=(StateVar((1, 2, 3), hazard=0.5), StateVar((1, 2, 3), hazard=0.5, distinct_from=0)),
        action_vars=(ActionVar(joint=((0, 1), (1, 0), (1, 1)), hazard=0.5),),
    )
    rng = np.random.default_rng(0)
    drawn = [sample_instance(task, rng) for _ in range(600)]
    pairs, counts = np.unique([instance.states for instance in drawn], axis=0, return_counts=True)
    assert len(pairs) == 6
    np.testing.assert_allclose(counts / 600, 1 / 6, atol=0.05)
    assert {instance.actions for instance in drawn} == {(0, 1), (1, 0), (1, 1)}
    envs = MetaTaskVectorEnv(task, 100)
    envs.reset(seed=0)
    for _ in range(30):
        before = envs.lives.value.copy()
        envs.step(rng.integers(0, 2, 100))
        assert (envs.lives.value[:, 0] != envs.lives.value[:, 1]).all()
        changed = (envs.lives.value != before).any(1)
        assert not changed[envs.lives.state != 0].any()
        assert {tuple(row) for row in envs.lives.value[:, 2:].astype(int).tolist()} <= {(0, 1), (1, 0), (1, 1)}


def test_instances_do_not_depend_on_the_steps_before():
    task = named.bandit(2)
    one, other = MetaTaskVectorEnv(task, 2), MetaTaskVectorEnv(task, 2)
    one.reset(seed=5)
    other.reset(seed=5)
    for _ in range(70):
        one.step([0, 1])
    one.reset()
    other.reset()
    assert [one.instance(i) for i in range(2)] == [other.instance(i) for i in range(2)]


def test_a_warning_for_a_variable_that_cannot_vary():
    with pytest.warns(UserWarning, match=r"NO_VARIATION: state_vars\[0\].values = \(1,\) has only one state"):
        MetaTask([[[0, 1]], [[1, 0]]], state_vars=(StateVar((1,)),))


ONE, TWO = [[[1.0], [1.0]]], [[[0.5, 0.5]], [[1.0, 0.0]]]
BAD = [
    (lambda: MetaTask([[[0.5, 0.4]], [[1, 0]]]), r"transition\[0, 0\] = \[0.5, 0.4\]: expected a sum of 1, found 0.9"),
    (lambda: MetaTask([[[1.5, -0.5]], [[1, 0]]]), r"transition\[0, 0\] = .*: expected numbers of at least 0"),
    (lambda: MetaTask([[[1.0, 0.0]]]), r"transition.shape = \(1, 1, 2\): expected \(states, actions, states\)"),
    (lambda: MetaTask([]), r"transition.shape = \(0,\)"),
    (lambda: MetaTask([["a"]]), "transition: expected numbers"),
    (lambda: MetaTask(ONE, horizon=0), "horizon = 0: expected at least 1"),
    (lambda: MetaTask(ONE, stim=Stim(0)), "stim.size = 0: expected at least 1"),
    (
        lambda: MetaTask(ONE, (RewardRule(old=3),)),
        r"reward_rules\[0\].old = 3: expected -1, a StateRef or a state below 1",
    ),
    (
        lambda: MetaTask(ONE, (RewardRule(), RewardRule(action=2))),
        r"reward_rules\[1\].action = 2: .* an action below 2",
    ),
    (
        lambda: MetaTask(ONE, (RewardRule(old=StateRef(0)),)),
        r"reward_rules\[0\].old.index = 0: expected a variable below 0",
    ),
    (lambda: MetaTask(ONE, (RewardRule(p=ProbRef(1)),)), r"reward_rules\[0\].p.index = 1: .* variable below 0"),
    (
        lambda: MetaTask(ONE, (RewardRule(p=1.5),)),
        r"reward_rules\[0\].p = 1.5: expected at most 1 or an instance of ProbRef",
    ),
    (
        lambda: MetaTask(ONE, (RewardRule(value=float("inf")),)),
        r"reward_rules\[0\].value = inf: expected a finite number",
    ),
    (lambda: MetaTask(ONE, (RewardRule(flag=2),)), r"reward_rules\[0\].flag = 2: expected at most 1"),
    (lambda: MetaTask(ONE, (), (FlagRule(set_to=2),)), r"flag_rules\[0\].set_to = 2: expected at most 1"),
    (lambda: MetaTask(ONE, state_vars=(StateVar(()),)), r"state_vars\[0\].values = \(\): expected at least one"),
    (
        lambda: MetaTask(TWO, state_vars=(StateVar((1, 1)),)),
        r"state_vars\[0\].values = \(1, 1\): expected states that differ",
    ),
    (lambda: MetaTask(TWO, state_vars=(StateVar((1, 2)),)), r"state_vars\[0\].values = 2: expected states below 2"),
    (lambda: MetaTask(TWO, state_vars=(StateVar("all"),)), r"state_vars\[0\].values = 'all': expected states"),
    (lambda: MetaTask(TWO, state_vars=(StateVar((0, 1), 1.5),)), r"state_vars\[0\].hazard = 1.5: expected at most 1"),
    (
        lambda: MetaTask(TWO, state_vars=(StateVar((0, 1), distinct_from=0),)),
        r"distinct_from = 0: expected an index below 0",
    ),
    (lambda: MetaTask(ONE, prob_vars=(ProbVar(0.6, 0.4),)), r"prob_vars\[0\].low = 0.6: expected at most high = 0.4"),
    (lambda: MetaTask(ONE, prob_vars=(ProbVar(values=(0.5, 2)),)), r"prob_vars\[0\].high = 2"),
    (lambda: MetaTask(ONE, prob_vars=(ProbVar(drift=0.1, hazard=0.1),)), r"prob_vars\[0\].drift = 0.1: expected 0"),
    (
        lambda: MetaTask(ONE, action_vars=(ActionVar(joint=((0, 1), (1,))),)),
        r"action_vars\[0\].joint: expected combinations",
    ),
    (lambda: MetaTask(ONE, action_vars=(ActionVar((0, 2)),)), r"action_vars\[0\].values = 2: expected actions below 2"),
    (lambda: MetaTask(ONE, stimuli=(0, 1)), "stimuli: expected one for each of 1 states, found 2"),
    (lambda: MetaTask(ONE, stimuli=(-2,)), r"stimuli\[0\] = -2: expected at least -1 or an instance of StimVar"),
    (
        lambda: MetaTask(ONE, stimuli=((0, 1, 2, StimVar(0)),), stim=Stim(2)),
        "stim.size = 2: expected at least 3, for 4",
    ),
    (lambda: MetaTask(ONE, stimuli=((0, 1),), stim=Stim(1, "onehot")), "stim.size = 1: expected at least 2, for 2"),
    (lambda: MetaTask(TWO, topology=Grid(2, 2)), "transition: expected None, because the task has a topology"),
    (lambda: Grid(4, 5, walls="random_maze"), "topology.walls = 'random_maze' on 4x5: expected odd sizes"),
    (lambda: Grid(7, 7, walls="random_maze"), "topology.start = 'center', cell 24: expected an even row and column"),
    (lambda: Grid(1, 1, on_reward="teleport"), "topology.on_reward = 'teleport': expected at least 2 free cells"),
    (lambda: Grid(2, 2, moves=3), "topology.moves = 3: expected at least 4"),
    (lambda: Grid(3, 3, walls=((True,) * 3,) * 3), "topology.walls: expected at least one free cell"),
    (lambda: Grid(3, 3, start=9), "topology.start = 9: expected a cell below 9"),
    (
        lambda: MetaTask(topology=Grid(5, 5, walls="pillars"), state_vars=(StateVar((0, 6)),)),
        r"state_vars\[0\].values = \(0, 6\): expected no wall, found cell 6",
    ),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_what_breaks_a_rule_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def wire(**changes):
    return json.dumps({"T": TWO, "rewardconditions": [[0, -1, -1, 1, 1, -1]], "stimuli": [0, 1]} | changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "text: expected JSON"),
        ("[]", r"text = \[\]: expected an object"),
        (wire(reward=1), "text: unknown key 'reward'; expected some of T, flagconditions"),
        (wire(ext={"horizn": 3}), "ext: unknown key 'horizn'"),
        (wire(ext={"horizon": "x"}), "ext.horizon = 'x': expected a valid integer"),
        (wire(ext={"stim": {"sise": 3}}), "stim: unknown key 'sise'"),
        (
            wire(rewardconditions=[[0, -1]]),
            r"rewardconditions\[0\].action = None: expected a value; rewardconditions\[0\].p = None",
        ),
        (wire(rewardconditions=[[0, -1, -1, "x", 1, -1]]), r"rewardconditions\[0\].p = 'x': expected a number"),
        (wire(rewardconditions=[[0, -1, -1, 3000, 1, -1]]), r"rewardconditions\[0\].p = 3000: expected a probability"),
        (
            wire(rewardconditions=[[100, -1, -1, 1, 1, -1]]),
            r"reward_rules\[0\].old.index = 0: expected a variable below 0",
        ),
        (wire(rewardconditions=[[0.5, -1, -1, 1, 1, -1]]), r"rewardconditions\[0\].old = 0.5: expected an integer"),
        (wire(stimuli=[0, 1001]), r"stimuli\[1\] = 1001: expected a stimulus below 100, or 10000 \+ k"),
        (wire(stimuli={"0": 1}), "stimuli = {'0': 1}: expected a valid array"),
        (wire(T=[[[1]], [[1]]]), r"transition.shape = \(2, 1, 1\)"),
    ],
)
def test_bad_json_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        from_json(text)


def test_json_of_the_published_generator():
    text = wire(rewardconditions=[[100, -1, -1, 1001, 1.0, 1], [0, 1, 0, 2000, 1.0, -1]], stimuli=[-1, 10001])
    text = json.dumps(json.loads(text) | {"statevarranges": [[0, 1]], "flagconditions": [[1, -1, -1, 1]]})
    task = from_json(text)
    assert task.reward_rules == (RewardRule(StateRef(0), p=ProbRef(1), flag=1), RewardRule(0, 1, 0, OneMinus(0)))
    assert task.prob_vars == (ProbVar(), ProbVar())
    assert task.stimuli == (-1, StimVar(1))
    assert set(json.loads(to_json(task))) - {"ext"} == set(json.loads(text))
    assert from_json(wire(stimuli=[0, 1001]), legacy=True).stimuli == (0, StimVar(1))
    with pytest.warns(UserWarning, match=r"rewardconditions: p = 4001: read as one minus probability variable 1"):
        slip = from_json(wire(rewardconditions=[[0, -1, -1, 4001, 1.0, -1]]))
    assert slip.reward_rules[0].p == OneMinus(1)


def test_numbers_that_look_like_codes_survive():
    task = MetaTask(
        reward_rules=(RewardRule(new=120), RewardRule(new=StateRef(0))),
        state_vars=(StateVar((130, 7)),),
        stimuli=(*range(143), -1),
        stim=Stim(9),
        topology=Grid(12, 12, obs="stimuli"),
    )
    assert from_json(to_json(task)) == task


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        (Instance(), r"instance.states = \(\): expected 1 values"),
        (Instance(states=(0,)), r"instance.states = \(0,\): expected \(0,\) to be in the range of StateVar"),
        (Instance(states=(1,), probs=(0.5,)), r"instance.probs = \(0.5,\): expected 0 values"),
        (Instance(states=(1,), walls=(2,)), r"instance.walls = \(2,\): expected cells, if there is a random maze"),
    ],
)
def test_an_instance_of_another_task_is_refused(instance, message):
    with pytest.raises(ValueError, match=message):
        outcomes(named.two_step(), [instance])


def test_explanations_tell_what_pays():
    text = explain(named.example(1), Instance(states=(2,)))
    assert "reward rule 2" in text.split("change nothing")[1].split("In the instance")[0]
    assert "state 2, action 0: 1 with probability 1" in text
    assert "state 0" not in text.split("In the instance")[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for task in NAMED:
            assert explain(task).startswith(f"{task.n_states} state")


@pytest.mark.parametrize("task", [named.two_step(), named.example(3), named.full_maze(), named.bandit(3)])
def test_drawings_show_every_state(task):
    figure = draw(task)
    texts = [text for trace in figure.data if trace.text is not None for text in trace.text]
    if task.topology is None:
        assert set(map(str, range(task.n_states))) <= set(texts)
        arrows = sum(annotation.showarrow is not False for annotation in figure.layout.annotations)
        lines = sum(trace.mode == "lines" for trace in figure.data)
        assert arrows == lines > 0
    else:
        assert any("start" in text for text in texts)


def test_a_probability_that_drifts_from_one_of_its_values_may_be_between_them():
    arms = RewardRule(0, action=0, p=ProbRef(0)), RewardRule(0, action=1, p=OneMinus(0))
    task = MetaTask([[[1.0], [1.0]]], arms, prob_vars=(ProbVar(values=(0.2, 0.8), drift=0.1),))
    assert outcomes(task, [Instance(probs=(0.5,))]).p.ravel().tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match=r"instance\.probs = \(0\.9,\)"):
        outcomes(task, [Instance(probs=(0.9,))])


def test_explanations_tell_that_stimuli_change():
    task = MetaTask([[[0, 1]], [[1, 0]]], stimuli=(StimVar(0), StimVar(1)), stim=Stim(hazard=0.5))
    expected = "the vectors of 2 variable stimuli; all change with probability 0.5 at the start of a trial"
    assert expected in explain(task, Instance(stimuli=((0.0,) * 5,) * 2))
