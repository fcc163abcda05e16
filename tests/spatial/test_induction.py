import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.spatial.induction import (
    MapInductionPlanner,
    MapPosterior,
    SubmapGrammar,
    goal_nearness,
    greedy_action,
    next_room_weights,
    trajectory_log_likelihood,
    unknown_nearness,
)
from engram.spatial.induction.grammar import agree
from engram.spatial.induction.human import likelihood
from engram.spatial.induction.world import make_world
from engram.spatial.pomcp import SearchTree
from engram.spatial.pomcp.kernels import empty_tree
from engram.tasks import RepeatedUnitWorld, RoomGrid, load_grid_text

EMPTY, REWARD, WALL, UNKNOWN = 0, 2, 3, 6
UNIT = np.array([[3, 2, 3], [0, 0, 0]])
KINDS = np.array([UNIT, [[2, 3, 3], [0, 0, 0]], [[3, 2, 3], [3, 0, 0]]])
WHOLE = np.tile(UNIT, (5, 1))


def seen(*rows):
    known = np.full(WHOLE.shape, UNKNOWN)
    known[list(rows)] = WHOLE[list(rows)]
    return known


def literal(known, goals, max_unknown=0.75, fragments=5):
    """The hypotheses as published: all P^K programs, one after another, in the published order of steps."""
    cells = known.copy()
    for goal in goals:
        cells[goal] = REWARD
    height, slots = len(cells) // fragments, fragments
    submaps = []
    for k in range(slots):
        block = cells[k * height : (k + 1) * height]
        if (block == UNKNOWN).mean() >= max_unknown:
            continue
        for place, other in enumerate(submaps):
            if agree(block, other):
                submaps[place] = np.where(block == UNKNOWN, other, block)
                break
        else:
            submaps.append(block)
    consistent = []
    for program in itertools.product(submaps, repeat=slots if submaps else 0):
        if not program:
            break
        whole = np.concatenate(program)
        plain = [np.where(part == REWARD, EMPTY, part) for part in (whole, cells)]
        if all(a == b or UNKNOWN in (a, b) for a, b in zip(plain[0].ravel(), plain[1].ravel(), strict=True)):
            consistent.append(whole)
    guesses = []
    for whole in sorted(consistent, key=lambda part: (part == UNKNOWN).sum()):
        inside = any(((whole == UNKNOWN) | (whole == other)).all() for other in guesses)
        rewards = [(other == REWARD).tolist() for other in guesses]
        if not inside and (whole == REWARD).tolist() not in rewards:
            guesses.append(whole)
    guesses = [whole for whole in guesses if (whole == REWARD).any() and agree(whole, cells)]
    completed = [np.where(known == UNKNOWN, whole, known) for whole in guesses]
    return len(consistent), [whole for whole in completed if (whole == REWARD).any()]


def test_one_unit_seen_in_parts_completes_the_map():
    """O1: the union of what is known of five blocks is one submap, and one hypothesis, the true map."""
    known = seen(8, 9, 1, 3, 5, 7)
    grammar = SubmapGrammar()
    assert grammar.sizes((10, 3)) == [(2, 3)]
    assert [submap.support for submap in grammar.propose(known)] == [5]
    posterior = grammar.posterior(known)
    assert (len(posterior), posterior.weights.tolist(), posterior.programs) == (1, [1.0], 1)
    np.testing.assert_array_equal(posterior.map(), WHOLE)
    open_goals = (posterior.map() == REWARD) & np.isin(known, (UNKNOWN, REWARD))
    assert np.argwhere(open_goals).tolist() == [[row, 1] for row in (0, 2, 4, 6, 8)]
    near = goal_nearness(posterior.map(), (6, 1), through_rewards=False)
    assert (near[6, 1], near[7, 1]) == (1.0, 0.5)
    np.testing.assert_allclose(near[7, [0, 2]], 1 / 3)
    assert not near[9].any()
    near = goal_nearness(posterior.map(), (8, 1), through_rewards=False)
    assert near[9, 1] == 0.5
    assert near[9, 0] == pytest.approx(1 / 3)
    far = unknown_nearness(known.astype(np.int8))
    assert (far[7, 0], far[6, 0], far[9, 0]) == (0.5, 1.0, 0.0)


def two_kinds():
    """Two slots are known, with rewards in different places, and three are not."""
    known = np.full((10, 3), UNKNOWN)
    known[6:8], known[8:] = [[2, 0, 0], [0, 0, 0]], [[0, 0, 2], [0, 0, 0]]
    return known


def test_two_submaps_in_three_unknown_slots_are_eight_hypotheses():
    """O2: and the published attraction shrinks to 8^-3."""
    posterior = SubmapGrammar().posterior(two_kinds())
    assert (posterior.programs, len(posterior)) == (8, 8)
    np.testing.assert_allclose(posterior.weights, 1 / 8)
    assert (posterior.weights**4).sum() == pytest.approx(8.0**-3)
    marginal = posterior.marginal(REWARD)
    np.testing.assert_allclose(marginal[:6:2, [0, 2]], 0.5)


def test_three_submaps_in_five_free_slots_are_243_programs():
    """O3, of which none need be enumerated."""
    known = np.full((10, 4), UNKNOWN)
    known[0, :2], known[2, :2], known[4, :2] = (2, 3), (3, 2), (3, 3)
    grammar = SubmapGrammar(max_unknown=0.8)
    submaps = grammar.propose(known)
    assert len(submaps) == 3
    free = np.full((2, 4), UNKNOWN, np.int8)
    options = grammar._options(submaps)
    contents = np.stack([option.cells for option in options])
    assert len(grammar._candidates(free, options, contents)) ** 5 == 243


def test_the_factorised_posterior_is_that_of_all_programs():
    """On 200 random observations: as many consistent programs, and the same hypotheses in the same order."""
    rng, several, none = np.random.default_rng(0), 0, 0
    for _ in range(200):
        world = np.concatenate(
            [[UNIT, UNIT[:, ::-1], [[3, 2, 3], [3, 0, 0]]][kind] for kind in rng.integers(3, size=5)]
        )
        world[rng.random(world.shape) < 0.1] = EMPTY
        known = np.where(rng.random(world.shape) < rng.uniform(0.2, 0.8), world, UNKNOWN)
        goals = [(row, column) for row, column in np.argwhere(known == REWARD).tolist()]
        collected = goals[: rng.integers(len(goals) + 1)]
        for cell in collected:
            known[cell] = EMPTY
        count, expected = literal(known, goals)
        posterior = SubmapGrammar(gate="last", one_off=False, max_hypotheses=5000).posterior(known, goals)
        assert posterior.programs == count
        assert len(posterior) == len(expected)
        assert all((ours == theirs).all() for ours, theirs in zip(posterior.maps, expected, strict=True))
        several += len(expected) > 1
        none += not expected
    assert several > 20
    assert none < 180


def test_a_side_that_no_fragments_divide_has_strips():
    """O4: 129 rows are not five blocks, but three."""
    unit = np.zeros((43, 3), int)
    unit[0] = 3, 2, 3
    known = np.tile(unit, (3, 1))
    known[:60] = UNKNOWN
    with pytest.warns(RuntimeWarning, match=r"blocks of \(25, 3\) do not divide"):
        assert len(SubmapGrammar().posterior(known)) == 0
    posterior = SubmapGrammar(block="strips").posterior(known)
    assert posterior.slots[0][0] == slice(0, 43)
    assert posterior.marginal(REWARD)[0, 1] > 0.9


def test_strips_choose_the_unit_that_is_repeated():
    known = np.tile([[3, 2, 3, 3], [3, 0, 0, 3], [3, 3, 3, 3]], (5, 1))
    known[:7] = UNKNOWN
    posterior = SubmapGrammar(block="strips").posterior(known)
    assert posterior.slots[0][0] == slice(0, 3)
    assert posterior.marginal(REWARD)[[0, 3, 6], 1].min() > 0.9


def test_a_mirrored_submap_fits_where_the_plain_one_does_not():
    known = np.full((10, 3), UNKNOWN)
    known[8:] = [[2, 3, 3], [0, 0, 3]]
    known[6:8] = [[3, 3, 6], [6, 6, 6]]
    plain = SubmapGrammar().posterior(known)
    grammar = SubmapGrammar(transforms=("identity", "reflect_lr"), prior_cost=1.0, max_hypotheses=1000)
    mirrored = grammar.posterior(known)
    assert mirrored.programs < grammar.max_hypotheses
    assert plain.marginal(REWARD)[6, 2] == 0.0
    assert mirrored.marginal(REWARD)[6, 2] > 0.9
    mirrors = 1 / (1 + np.e)  # a mirror costs a bit, of e: exp(-1) beside 1
    either = mirrored.marginal(REWARD)[0, [0, 2]]  # else the slot has the other submap, most of which is open
    np.testing.assert_allclose(either / either.sum(), [1 - mirrors, mirrors])
    assert 0.98 < either.sum() < 1


def test_all_hypotheses_count_with_their_weights_whatever_the_draws():
    wall, first, second = [[UNKNOWN] * 3] * 2, [[0, 0, 0], [0, 0, 2]], [[3, 0, 2], [0, 0, 2]]
    known = np.array(wall * 2 + first + second + wall + first * 2 + wall * 2 + first + wall + first)
    exact = SubmapGrammar(block="strips", max_hypotheses=10**5).posterior(known).marginal(REWARD)
    np.testing.assert_allclose(exact[[1, 3], 2], [0.24444, 0.46667], atol=1e-4)  # from the weights of all programs
    for seed in range(3):
        drawn = SubmapGrammar(block="strips", random_state=seed).posterior(known).marginal(REWARD)
        np.testing.assert_allclose(drawn[[1, 3], 2], exact[[1, 3], 2], atol=0.02)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.sampled_from(["author", "strips"]), st.sampled_from([0.0, 0.2]))
def test_hypotheses_agree_with_what_is_known(seed, block, unstructured):
    rng = np.random.default_rng(seed)
    world = np.concatenate([KINDS[kind] for kind in rng.integers(3, size=5)])
    known = np.where(np.repeat(rng.random((5, 1)) < 0.5, 2, 0), world, UNKNOWN)
    grammar = SubmapGrammar(block=block, include_unstructured=unstructured, max_hypotheses=20, random_state=seed)
    posterior = grammar.posterior(known)
    assert len(posterior) <= 20 * len(grammar.sizes((10, 3)))
    for whole in posterior.maps:
        assert agree(whole, known)
        assert (whole == REWARD).any()
    if len(posterior):
        assert posterior.weights.sum() == pytest.approx(1.0)
        assert (posterior.weights >= 0).all()
        assert 0 <= posterior.unstructured <= 1
        drawn = posterior.sample(5, 0)
        assert all(agree(whole, known) for whole in drawn)
    marginal = posterior.marginal(REWARD)
    assert (marginal >= 0).all()
    assert (marginal <= 1 + 1e-12).all()


def test_too_many_programs_are_drawn_without_bias():
    """Of 2^8 programs 64 are drawn, and each slot holds either submap about as often."""
    known = np.full((20, 3), UNKNOWN)
    known[16:18], known[18:] = [[2, 0, 0], [0, 0, 0]], [[0, 0, 2], [0, 0, 0]]
    grammar = SubmapGrammar(fragments=10, max_hypotheses=64, random_state=0)
    posterior = grammar.posterior(known)
    assert posterior.programs == 256
    assert 40 < len(posterior) <= 64
    shares = np.mean([grammar.posterior(known).marginal(REWARD)[:16:2, 0] for _ in range(20)], 0)
    np.testing.assert_allclose(shares, 0.5, atol=0.06)


def test_rewards_that_repeat_speak_for_structure():
    grammar = SubmapGrammar(include_unstructured=0.2)
    alike, apart = np.full((2, 10, 3), UNKNOWN)
    alike[4:], apart[4:] = np.tile([[2, 0, 0], [0, 0, 0]], (3, 1)), np.zeros((6, 3))
    apart[4, 0] = apart[6, 1] = apart[9, 2] = REWARD
    assert grammar.posterior(alike).unstructured < 0.05
    assert grammar.posterior(apart).unstructured > 0.5
    nothing = grammar.posterior(np.full((10, 3), UNKNOWN))
    assert (len(nothing), nothing.unstructured) == (0, 1.0)
    assert nothing.marginal(REWARD).sum() == pytest.approx(1.0)


def test_a_known_map_needs_no_hypotheses():
    posterior = SubmapGrammar().posterior(WHOLE)
    assert len(posterior) == 1
    np.testing.assert_array_equal(posterior.map(), WHOLE)
    assert len(SubmapGrammar().posterior(np.zeros((10, 3)))) == 0


CORRIDOR = load_grid_text("0\n0\n33333\n30323\n30003\n35333\n33333")


def plan(env, **options):
    planner = MapInductionPlanner(random_state=0, **options)
    observation, _ = env.reset(seed=0)
    planner.reset(env.views)
    return planner, observation


@pytest.mark.parametrize("shaping", ["author", "visible", "potential", None])
def test_a_known_way_is_walked(shaping):
    """With a search deep enough, and in the compiled world as in the world itself."""
    env = RoomGrid(CORRIDOR, np.where(CORRIDOR == WALL, -1, 0), max_steps=30)
    planner, observation = plan(env, mode="uniform", shaping=shaping, n_queries=300, depth=8, ucb_scale="range")
    reward = 0.0
    for _ in range(10):
        observation, reward, terminated, *_ = env.step(planner.act(observation))
        if terminated:
            break
    assert reward == 1.0


def test_the_compiled_world_moves_and_sees_as_the_world_does():
    """From random places of a known map, each simulated step is that of the environment, rewards included."""
    from engram.spatial.induction.kernels import sample, step

    env, rng = RepeatedUnitWorld(), np.random.default_rng(0)
    observation, _ = env.reset(seed=3)
    known = env.grid.copy()
    none = np.zeros((0, *known.shape), np.int8)
    world = make_world(known, none, np.zeros(0), env.views, shaping=None, optimism=0.0)
    state = sample((world, 34 * 13 + 11), rng)
    for _ in range(400):
        action = int(rng.integers(8))
        before = state[1]
        state, observed, reward, ended = step(state, action, rng)
        observation, paid, terminated, *_ = env.step(action)
        assert divmod(state[1], 13) == tuple(observation["position"]) == divmod(observed & 0xFFFF, 13)
        assert (reward, ended) == (paid, state[1] == before)
        if terminated:
            break


@pytest.mark.parametrize(
    ("behind", "on_path"), [(WALL, False), pytest.param(EMPTY, False, marks=pytest.mark.soak), (EMPTY, True)]
)
def test_a_far_move_collects_three_cells_ahead_only_where_it_ends_there(behind, on_path):
    """O5: with a wall behind the reward the value is 1, else 0.9^2, by single steps or too far and back."""
    cells = np.zeros((9, 1), int)
    cells[8], cells[5], cells[4] = 5, REWARD, behind
    env, actions, values = RoomGrid(cells, collect_on_path=on_path), [], []
    options = {"mode": "uniform", "shaping": None, "optimism": 0.0, "collect_on_path": on_path}
    for seed in range(100):
        planner = MapInductionPlanner(**options, depth=20, n_queries=2000, discount=0.9, random_state=seed)
        observation, _ = env.reset(seed=0)
        planner.reset(env.views)
        actions.append(planner.act(observation))
        values.append(planner.tree_.root_values)
    single, far = np.array(values)[:, [0, 4]].T
    if behind == WALL or on_path:
        assert actions.count(4) >= 99
        np.testing.assert_allclose(far, 1.0)
        assert single.max() <= 0.9 + 1e-12
    else:
        assert {0, 4} >= set(actions)
        best = np.maximum(single, far)
        assert 0.6 <= best.min() <= best.max() <= 0.81 + 1e-12


def test_what_is_seen_in_a_simulation_drops_hypotheses():
    from engram.spatial.induction.kernels import sample, step

    known = np.array([[6, 6, 6], [0, 0, 0]], np.int8)
    maps = np.array([[[3, 2, 3], [0, 0, 0]], [[0, 2, 0], [0, 0, 0]]], np.int8)
    rooms = np.array([[1, 0, 1], [0, 0, 0]])
    env = RoomGrid(np.array([[0, 2, 0], [0, 5, 0]]), rooms)
    world = make_world(known, maps, np.array([0.5, 0.5]), env.views, shaping="potential")
    rng, alive = np.random.default_rng(0), []
    for _ in range(40):
        state = sample((world, 4), rng)
        state, _, reward, ended = step(state, 2, rng)
        state, *_, ended = step(state, 0, rng)
        alive.append(tuple(world.alive))
        assert ended == (world.grid[0] == UNKNOWN)
        assert np.isfinite(reward)
    assert {(0.5, 0.5), (0.0, 0.5)} >= set(alive)
    assert (0.0, 0.5) in alive


def test_induction_finds_rewards_sooner_than_no_induction():
    """The seeded task: a world that repeats its unit, against frontier exploration, the trivial baseline."""
    moved = {}
    for mode in ("distribution", "uniform"):
        env = RepeatedUnitWorld(unit_w=14, max_steps=500)
        planner, observation = plan(env, mode=mode, planner="greedy")
        terminated = False
        while not terminated:
            observation, _, terminated, _, info = env.step(planner.act(observation))
        moved[mode] = info["cells_moved"]
    assert moved["distribution"] < 0.9 * moved["uniform"]


def test_a_plan_is_followed_until_there_is_news():
    env = RepeatedUnitWorld()
    planner, observation = plan(env, replan="on_news", n_queries=200, ucb_scale="range")
    searches = []
    search = planner._search_from
    planner._search_from = lambda cell: searches.append(cell) or search(cell)
    for _ in range(12):
        observation, *_ = env.step(planner.act(observation))
    assert 0 < len(searches) < 12


def test_where_no_layout_agrees_the_planner_says_so_and_plans_as_without_hypotheses():
    known = seen(8, 9)
    known[0, 0] = EMPTY  # where the only submap has a wall
    options = {"n_queries": 50, "depth": 8, "random_state": 0}
    planner = MapInductionPlanner(SubmapGrammar(one_off=False), **options)
    uniform = MapInductionPlanner(mode="uniform", **options)
    for _ in range(2):
        planner.reset()
        assert not planner.exhausted_
        with pytest.warns(RuntimeWarning, match="no hypothesis is left"):
            action = planner.act({"known": known, "position": (9, 0)})
        assert planner.exhausted_
        assert len(planner.posterior_.submaps) == 1
        assert action == uniform.act({"known": known, "position": (9, 0)})
        np.testing.assert_array_equal(planner.tree_.root_values, uniform.tree_.root_values)
    planner.act({"known": seen(8, 9, 1), "position": (9, 0)})
    assert not planner.exhausted_


def test_where_all_expected_rewards_were_seen_not_to_be_there_the_planner_says_so_once():
    planner = MapInductionPlanner(planner="greedy")
    planner.act({"known": np.full((10, 3), UNKNOWN), "position": (9, 0)})
    assert not planner.exhausted_  # nothing was seen so far
    planner.act({"known": seen(8, 9, 1), "position": (9, 0)})
    assert not planner.exhausted_
    known = np.where(WHOLE == REWARD, EMPTY, WHOLE)
    known[0, 0] = UNKNOWN
    with pytest.warns(RuntimeWarning, match="no hypothesis is left"):
        planner.act({"known": known, "position": (9, 0)})
    known[2, 0] = UNKNOWN
    planner.act({"known": known, "position": (9, 0)})
    assert planner.exhausted_


def test_the_greedy_way_goes_round_walls():
    known = np.array([[2, 3, 0], [0, 3, 0], [0, 0, 0]], np.int8)
    assert greedy_action(known, (0, 2)) == 1
    assert greedy_action(np.zeros((2, 2), np.int8), (0, 0)) == 0


def test_the_weights_of_rooms_count_the_ends_of_ways():
    """O7: ways that end in room 1 (taken 3 times), in room 2 (never) and in room 1 (once) weigh 6 and 1."""
    tree = empty_tree(4, 1)
    tree.counts[:, 0], tree.child[0, 0], tree.parent[1:] = (4, 3, 0, 1), 1, 0
    grown = SearchTree(tree, 4, [None, 0, 0, 0])
    weights = next_room_weights(grown, np.array([0, 1, 2, 1]), 0, 3)
    assert weights.tolist() == [0.0, 6.0, 1.0]
    assert weights[1] / weights.sum() == pytest.approx(6 / 7)
    probability = likelihood(np.array([6 / 7, 0.0]), 3)
    assert probability.mean == pytest.approx(np.log(6 / 7))
    assert probability.floored_mean == pytest.approx(np.log([0.99 * 6 / 7 + 0.01 / 3, 0.01 / 3]).mean())


def test_without_a_floor_certain_rooms_count_and_a_failure_is_infinite():
    assert likelihood(np.ones(3), 4, floor=0.0).floored_mean == 0
    assert likelihood(np.array([1.0, 0.5]), 4, floor=0.0).floored_mean == pytest.approx(np.log(0.5) / 2)
    assert likelihood(np.array([0.5, 0.0]), 4, floor=0.0).floored_mean == -np.inf


def test_a_trajectory_gets_a_likelihood():
    env = RepeatedUnitWorld(n_units=2)
    planner, observation = plan(env, mode="uniform", n_queries=100)
    known, places = [], []
    for _ in range(8):
        known.append(observation["known"])
        places.append(observation["position"])
        observation, *_ = env.step(planner.act(observation))
    likelihoods = trajectory_log_likelihood(planner, known, places, env.rooms, views=env.views)
    assert 0 < len(likelihoods.probabilities) <= 8
    assert ((likelihoods.probabilities >= 0) & (likelihoods.probabilities <= 1)).all()
    assert likelihoods.mean < 0
    assert likelihoods.floored_mean < 0


@pytest.mark.parametrize(
    ("call", "pattern"),
    [
        (lambda: SubmapGrammar(fragments=1), "fragments = 1"),
        (lambda: SubmapGrammar(block="squares"), "block = 'squares'"),
        (lambda: SubmapGrammar(transforms=("turn",)), "transforms = 'turn'"),
        (lambda: SubmapGrammar(include_unstructured=2.0), "include_unstructured = 2"),
        (lambda: SubmapGrammar().posterior(np.full((10, 3), 5)), r"known at \(0, 0\) is 5"),
        (lambda: SubmapGrammar().posterior(WHOLE, [(10, 0)]), r"goals_seen has \(10, 0\)"),
        (lambda: SubmapGrammar().propose(WHOLE, (3, 3)), r"size = \(3, 3\): expected blocks that divide"),
        (lambda: SubmapGrammar().posterior(np.full((10, 3), UNKNOWN)).sample(1), "no hypothesis"),
        (lambda: MapInductionPlanner(mode="best"), "mode = 'best'"),
        (lambda: MapInductionPlanner(optimism=float("nan")), "optimism = nan"),
        (lambda: MapInductionPlanner(discount=0.0), "discount = 0"),
        (lambda: MapInductionPlanner(depth=0), "depth = 0"),
        (lambda: MapInductionPlanner(queries=3), "search = 'queries'"),
        (lambda: MapInductionPlanner().act({"known": WHOLE, "position": (10, 0)}), r"position = \(10, 0\)"),
        (lambda: MapInductionPlanner().act({"known": WHOLE}), "expected 'known' and 'position'"),
        (lambda: MapInductionPlanner().act({"known": WHOLE, "position": (8, 0)}), r"position = \(8, 0\): .*not a wall"),
    ],
)
def test_bad_arguments_are_named(call, pattern):
    with pytest.raises(ValueError, match=pattern):
        call()


def test_nobody_moves_from_within_a_wall():
    with pytest.raises(ValueError, match=r"position = \(0, 0\): expected a cell that is not a wall"):
        greedy_action(np.array([[3, 2], [0, 0]], np.int8), (0, 0))


def test_posteriors_are_compared_and_hashed_as_objects():
    cells, rewards = np.zeros((2, 2), np.int8), np.zeros((2, 2))
    first, second = (MapPosterior(cells[None], np.ones(1), cells, (), (), (), 1, 0.0, 0.0, rewards) for _ in range(2))
    assert first != second
    assert len({first, second}) == 2
