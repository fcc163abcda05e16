"""Agents that know the task: returns in closed form and those measured before; the filter against Bayes by hand."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import beta

from engram.agents.reference import BanditAgent, BayesFilterAgent, OracleAgent, RandomAgent, play, regret
from engram.analysis import stay_probabilities
from engram.studies.experiments.meta_task_space.known_returns import (
    KnownReturn,
    direct_ways,
    exact_returns,
    keys_and_doors,
    returns_of_extensions,
    walks,
)
from engram.tasks.meta import (
    MetaTask,
    MetaTaskVectorEnv,
    ProbVar,
    RewardRule,
    StateRef,
    StateVar,
    Stim,
    named,
    pomdp,
    sample_instance,
)
from engram.tasks.meta.pomdp import _drift

KNOWN = exact_returns() | returns_of_extensions()


@pytest.mark.parametrize("name", KNOWN)
def test_chance_and_the_oracle_return_what_they_do_in_closed_form(name, effort):
    known = KNOWN[name]
    value, error = known.measure(200 * effort, seed=1)
    assert known.off(value) <= 3 * error + 1e-9


def test_another_task_returns_something_else():
    known = KNOWN["find the spot, oracle"]
    stays = replace(known.task, topology=replace(known.task.topology, on_reward="none"))
    value, error = replace(known, task=stays).measure(100, seed=1)
    assert known.off(value) >= 10 * error


def test_first_arrivals_on_two_cells_are_geometric():
    # In a room of 1 x 1 there is one cell; in one of 2 x 2, a step stays at an edge with probability 1/2.
    np.testing.assert_allclose(walks(1, 4)[0, 0], [1.0, *[0.0] * 99])
    arrivals = walks(2, 4)
    assert arrivals[0, 1, 0] == 0.25
    np.testing.assert_allclose(arrivals[0].sum(1), 1, rtol=1e-3)  # in the end each cell is found
    assert arrivals[0, 1, 1] == pytest.approx(0.5 * 0.25)  # a step that stays, and one that arrives
    # Two of four cells are drawn at random twice: the way takes 1, 1, 1 or 2 steps.
    ways = direct_ways(2)
    assert keys_and_doors(ways[:, :, :1]) == 0.75
    assert keys_and_doors(ways[:, :, :2]) == pytest.approx(1 + 0.75**2)
    assert keys_and_doors(ways[:, :, :4]) == pytest.approx(2)


def ideal_returns():
    """The returns and regrets of learners that know the task, as another implementation measured them."""

    def arms_by(rule, *, dependent=False):
        return lambda generator: BanditAgent(rule, generator, dependent=dependent)

    def inferring(task):
        return lambda generator: BayesFilterAgent(pomdp(task), rng=generator)

    def regretting(task, agent, value):
        return KnownReturn(task, agent, value, rounding=0.05, regret=True)

    bandit, uniform, ten = named.bandit(2), named.dependent_bandit(), named.bandit(10)
    thompson = arms_by("thompson", dependent=True)
    known = {
        "bandit, Thompson": regretting(bandit, arms_by("thompson"), 2.8),
        "bandit, UCB1": regretting(bandit, arms_by("ucb1"), 5.6),
        "dependent bandit uniform, greedy": regretting(uniform, arms_by("greedy", dependent=True), 1.2),
        "dependent bandit uniform, Thompson": regretting(uniform, thompson, 2.1),
        "dependent bandit uniform, UCB1": regretting(uniform, arms_by("ucb1"), 6.0),
        "bandit of 10 arms, Thompson": KnownReturn(ten, arms_by("thompson"), 76.9, rounding=0.05),
        "bandit of 10 arms, UCB1": KnownReturn(ten, arms_by("ucb1"), 63.3, rounding=0.05),
    }
    for kind, greedy, independent in (("easy", 0.6, 2.1), ("medium", 1.0, 3.0), ("hard", 2.3, 4.1)):
        task = named.dependent_bandit(kind)
        name = f"dependent bandit {kind}"
        known[f"{name}, greedy"] = regretting(task, arms_by("greedy", dependent=True), greedy)
        known[f"{name}, independent Thompson"] = regretting(task, arms_by("thompson"), independent)
    for kind, trials, value in (("paper", 50.0, 0.809), ("wang2018", 100.0, 0.706), ("wang2016", 50.0, 0.694)):
        task = named.two_step(kind)
        known[f"two-step {kind}, Bayes filter"] = KnownReturn(task, inferring(task), value, trials, rounding=0.0005)
    return known


@pytest.mark.parametrize("name", ideal_returns())
def test_ideal_learners_return_what_was_measured_before(name, effort):
    known = ideal_returns()[name]
    value, error = known.measure(200 * effort, seed=3)
    assert known.off(value) <= 3 * error + 1e-9


def pulls(agent, rewards, lives=4000):
    """The shares of the arms that an agent pulls next, after these rewards of each arm."""
    env = MetaTaskVectorEnv(named.bandit(), lives)
    seen, _ = env.reset(seed=0)
    agent.reset(env, seen)
    for arm, given in enumerate(rewards):
        for reward in given:
            agent.learn(np.full(lives, arm), np.full(lives, float(reward)), seen)
    return np.bincount(agent.act(), minlength=2) / lives


def test_the_textbook_rules_pull_as_their_formulas_say():
    def agent(rule, **options):
        return BanditAgent(rule, np.random.default_rng(0), **options)

    assert pulls(agent("ucb1"), [[1], []]).tolist() == [0, 1]  # each arm once first
    assert pulls(agent("ucb1"), [[1] * 6 + [0] * 4, [1, 0]]).tolist() == [0, 1]  # 0.6 + 0.72 against 0.5 + 1.60
    assert pulls(agent("greedy"), [[1, 1, 0], [1]]).tolist() == [0, 1]  # 3 / 5 against 2 / 3
    won, lost = 3, 1
    alone, known = ([[1] * won + [0] * lost, []], {"dependent": True})
    assert pulls(agent("thompson"), alone)[0] == pytest.approx((won + 1) / (won + lost + 2), abs=0.03)
    assert pulls(agent("thompson", **known), alone)[0] == pytest.approx(beta.sf(0.5, won + 1, lost + 1), abs=0.03)


def test_the_filter_chooses_as_one_who_knows_the_transitions():
    task = named.two_step("wang2018")
    lived = play(MetaTaskVectorEnv(task, 300), BayesFilterAgent(pomdp(task)), seed=0)
    choices, rewarded = lived.actions[:, ::2], lived.rewards[:, 1::2] > 0
    common = (lived.reached[:, ::2] == 1) == (choices == 1)
    stays = stay_probabilities(choices, rewarded, common)
    np.testing.assert_allclose(stays, [[1.0, 0.66], [0.67, 1.0]], atol=0.02)


def test_the_posterior_is_that_of_bayes():
    task = named.two_step("wang2018")
    env, agent = MetaTaskVectorEnv(task, 1), BayesFilterAgent(pomdp(task))
    seen, _ = env.reset(seed=0)
    agent.reset(env, seen)
    generator, belief = np.random.default_rng(0), 0.5  # that state 1 is the better one
    for t in range(60):
        state = env.lives.state[0]
        action = np.array([generator.integers(2)])
        seen, reward, *_ = env.step(action)
        agent.learn(action, reward, seen)
        if t % 2:
            p = (0.9, 0.1) if state == 1 else (0.1, 0.9)
            likelihood, other = p if reward[0] else (1 - p[0], 1 - p[1])
            belief = belief * likelihood / (belief * likelihood + (1 - belief) * other)
            belief = belief * (1 - 0.025) + (1 - belief) * 0.025
        posterior = agent.belief[0].sum((1, 2))
        assert agent.model.instances[0].states == (1,)
        assert posterior[0] == pytest.approx(belief, abs=1e-12)


def test_what_stimuli_mean_is_learnt_from_one_trial_of_each_kind():
    task = named.harlow()
    env, agent = MetaTaskVectorEnv(task, 200), BayesFilterAgent(pomdp(task))
    lived = play(env, agent, seed=0)
    assert (lived.rewards < 0).sum(1).max() <= 1  # one informed error
    assert abs(lived.rewards[:, 20:].mean() * 2 - 0.5) < 0.02


@pytest.mark.parametrize("mode", ["qmdp", "thompson"])
@pytest.mark.parametrize(
    "task",
    [named.example(3), named.cue_t_maze(), named.two_stimulus(["dms", "dnms", "or"]), named.reversal(),
     named.contextual_bandit(2, 2), named.special_arm(4)],
    ids=["example 3", "cue", "two stimuli", "reversal", "contextual", "special arm"],
)  # fmt: skip
def test_inference_gains_more_than_chance_and_less_than_knowing(task, mode):
    env = MetaTaskVectorEnv(task, 150)
    inferring = BayesFilterAgent(pomdp(task, points=3), mode)
    chance, inferred, knowing = (
        play(env, agent, seed=5).rewards.sum(1).mean()
        for agent in (RandomAgent(np.random.default_rng(0)), inferring, OracleAgent())
    )
    assert chance < inferred
    assert inferred <= knowing * 1.03
    assert (inferred - chance) / (knowing - chance) > 0.45


def test_finding_a_spot_by_drawing_where_it_may_be():
    task = named.find_the_spot(3)
    env = MetaTaskVectorEnv(task, 40)
    chance, thompson = (
        play(env, agent, seed=0).rewards.sum(1).mean()
        for agent in (RandomAgent(np.random.default_rng(0)), BayesFilterAgent(pomdp(task), "thompson"))
    )
    assert thompson > 2 * chance


def test_the_oracle_follows_what_changes_and_other_tasks_beside():
    tasks = [named.two_step("wang2018"), named.t_maze(horizon=200)]
    env = MetaTaskVectorEnv(tasks, 200)
    rewards = play(env, OracleAgent(), seed=0).rewards.sum(1)
    assert abs(rewards[::2].mean() / 100 - 0.74) < 3 * rewards[::2].std() / 100 / 10
    assert rewards[1::2] == pytest.approx(66.0, abs=1.0)


def test_drift_in_intervals_is_that_of_the_walk():
    values = np.array([0.3, 0.4, 0.5, 0.6, 0.7])
    kernel = _drift(values, 0.25, 0.75, 0.1)
    steps = values[:, None] + np.random.default_rng(0).normal(0, 0.1, (5, 40_000))
    at = (steps - 0.25) % 1.0
    reached = 0.25 + np.minimum(at, 1.0 - at)
    counted = np.stack([np.histogram(row, np.linspace(0.25, 0.75, 6))[0] for row in reached]) / 40_000
    np.testing.assert_allclose(kernel, counted, atol=0.01)


def test_lifetimes_that_end_early():
    task = named.dark_room_hard(3, horizon=15)
    lived = play(MetaTaskVectorEnv(task, 30), OracleAgent(), seed=0)
    assert (lived.lengths < 15).all()
    for row, length in enumerate(lived.lengths):
        assert (lived.states[row, :length] >= 0).all()
        assert (lived.states[row, length:] == -1).all()
        assert lived.rewards[row].sum() == lived.rewards[row, length - 1] == 1


def test_what_the_agents_cannot_do_is_said():
    with pytest.raises(ValueError, match=r"task.topology.walls = 'random_maze'"):
        pomdp(named.full_maze(3))
    with pytest.raises(ValueError, match="expected at most 6561 instances, with points = 9"):
        pomdp(named.bandit(10))
    with pytest.raises(ValueError, match=r"task\.stim\.distinct = False"):
        pomdp(replace(named.harlow(), stim=Stim(distinct=False)))
    with pytest.raises(
        ValueError, match=r"task.prob_vars\[0\].values = \(0.2, 0.8\): expected none, because it drifts"
    ):
        pomdp(replace(named.restless_bandit(), prob_vars=(ProbVar(values=(0.2, 0.8), drift=0.1),)))
    with pytest.raises(ValueError, match=r"env.tasks: expected the agent's task only"):
        play(MetaTaskVectorEnv(named.t_maze(), 2), BayesFilterAgent(pomdp(named.two_step())), seed=0)
    with pytest.raises(ValueError, match="dependent = True: expected False, because rule = 'ucb1'"):
        BanditAgent("ucb1", np.random.default_rng(0), dependent=True)
    with pytest.raises(ValueError, match="dependent = True: expected 2 arms, found 3"):
        play(MetaTaskVectorEnv(named.bandit(3), 2), BanditAgent("greedy", np.random.default_rng(0), dependent=True))
    with pytest.raises(ValueError, match=r"env.tasks: expected bandits"):
        play(MetaTaskVectorEnv(named.t_maze(), 2), BanditAgent("ucb1", np.random.default_rng(0)))


def test_the_regret_of_lifetimes_of_several_lengths_is_refused():
    env = MetaTaskVectorEnv([named.bandit(2, horizon=10), named.bandit(2, horizon=20)], num_envs=2)
    with pytest.raises(ValueError, match=r"lifetimes have lengths \[10, 20\]: expected one length"):
        regret(env, play(env, OracleAgent(), seed=0))


def test_a_variable_that_must_differ_from_another_makes_some_instances_rarer():
    states = StateVar((1, 2, 3)), StateVar((1, 2), distinct_from=0)
    rules = RewardRule(StateRef(0)), RewardRule(StateRef(1), value=2.0)
    task = MetaTask([[[0, 1 / 3, 1 / 3, 1 / 3]], *[[[1, 0, 0, 0]]] * 3], rules, state_vars=states)
    model, rng = pomdp(task), np.random.default_rng(0)
    chances = model.prior / model.prior.sum()
    drawn = [sample_instance(task, rng).states for _ in range(1200)]
    shares = [drawn.count(instance.states) / 1200 for instance in model.instances]
    np.testing.assert_allclose(chances, [1 / 3, 1 / 3, 1 / 6, 1 / 6])
    np.testing.assert_allclose(shares, chances, atol=0.05)
    agent = BayesFilterAgent(model)
    agent.reset(SimpleNamespace(tasks=(task,), num_envs=1), np.zeros((1, 5), dtype=np.float32))
    np.testing.assert_allclose(agent.belief[0].sum((1, 2)), chances)


def test_a_probability_that_is_drawn_again_may_be_about_the_same():
    changes = pomdp(named.reversal(0.3, "uniform"), points=3).changes
    np.testing.assert_allclose(changes, 0.7 * np.eye(3) + 0.1)
    swapped = pomdp(named.reversal(0.3, "easy")).changes
    np.testing.assert_allclose(swapped, [[0.7, 0.3], [0.3, 0.7]])
