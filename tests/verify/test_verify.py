"""Bounds, proofs, counterexamples and regions; the networks that come first are the oracles of the specification."""

import gzip
import itertools
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from engram.tasks.data import load
from engram.verify import (
    AffineReLU,
    AllOf,
    AnyOf,
    Argmax,
    Box,
    Budget,
    Certificate,
    LayerRule,
    LinearProperty,
    Polytope,
    UnsupportedLayerError,
    acasxu_property,
    activation_pattern,
    certified_radius,
    check_certificate,
    class_regions,
    crown_bounds,
    interval_bounds,
    layer_rules,
    local_affine,
    maximize,
    pattern_halfspaces,
    prove_rule,
    read_nnet,
    read_question,
    relaxed_region,
    verify,
)
from engram.verify.bounds import relax
from engram.verify.certificate import Case
from engram.verify.dual import dual_bound
from engram.verify.specification import Clause, Domain

FEWER = settings(max_examples=settings.default.max_examples // 5)  # of what asks a solver many times

SUM = AffineReLU((np.array([[1.0, 1], [1, -1]]), np.ones((1, 2))), (np.zeros(2), np.zeros(1)))
TWO = np.array([[1.0, 1], [1, -1]])
THREE_LAYERS = AffineReLU((TWO, TWO, np.array([[1.0, 1], [0, 1]])), (np.zeros(2), np.zeros(2), np.array([1.0, 0])))
T4 = AffineReLU(
    (np.array([[1.0, -1], [1, -1], [1, 2], [1, -4]]), np.array([[1.0, 0, 0, 0], [0, 0, 1, 0]])),
    (np.array([1.0, 0, -2, -2]), np.zeros(2)),
)
DIAMOND = AffineReLU(
    (np.array([[1.0, -1], [-1, -1], [-1, 1], [1, 1]]), np.array([[1.0, 1, 0, 0], [0, 0, 1, 1]])),
    (np.ones(4), np.zeros(2)),
)
PROPHECY = AffineReLU(
    (np.array([[1.0, -1], [1, 1]]), np.array([[0.5, -0.2], [-0.5, 0.1]]), np.array([[1.0, -1], [-1, 1]])),
    (np.zeros(2), np.zeros(2), np.zeros(2)),
)


def random_network(seed, *sizes):
    rng = np.random.default_rng(seed)
    return AffineReLU(
        tuple(rng.normal(size=(b, a)) for a, b in itertools.pairwise(sizes)),
        tuple(rng.normal(size=b) for b in sizes[1:]),
    )


class Problem(NamedTuple):
    """A network with weights of all sizes, zeros and equal ones among them, and a box whose sides may be closed."""

    seed: int
    inputs: int
    hidden: list[int]
    outputs: int
    factor: float
    rounded: bool
    radius: float

    def made(self):
        net = random_network(self.seed, self.inputs, *self.hidden, self.outputs)
        weights = tuple((W.round() if self.rounded else W) * self.factor for W in net.weights)
        net = AffineReLU(weights, tuple(b.round() if self.rounded else b for b in net.biases))
        rng = np.random.default_rng(self.seed + 1)
        centre, half = rng.normal(size=self.inputs), self.radius * rng.choice([0.0, 1.0, 1.0], size=self.inputs)
        return net, centre - half, centre + half


def problems(inputs=(1, 4), factors=(1.0, 1e-3, 1e6)):
    return st.builds(
        Problem,
        st.integers(0, 10_000),
        st.integers(*inputs),
        st.lists(st.integers(1, 5), min_size=1, max_size=3),
        st.integers(2, 3),
        st.sampled_from(factors),
        st.booleans(),
        st.sampled_from([0.01, 0.3, 2.0]),
    )


# Bounds.


def test_oracle_sum_of_two_units():
    ends = -np.ones(2), np.ones(2)
    assert np.allclose(interval_bounds(SUM, *ends), [[0], [4]])
    for steps in (0, 20):  # the upper line is the same with any alpha
        crown = crown_bounds(SUM, *ends, alpha_steps=steps)
        assert np.allclose((crown.lower, crown.upper), [[0], [3]])
    square = Box(*ends)
    for engine, upper in (("lp", 3), ("milp", 2)):
        assert maximize(SUM, square, np.ones(1), engine=engine).upper == pytest.approx(upper)
        assert maximize(SUM, square, -np.ones(1), engine=engine).upper == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match=r"time_limit = -1.0: expected a number"):
        maximize(SUM, square, np.ones(1), time_limit=-1.0)


def test_oracle_three_layers():
    ends = -np.ones(2), np.ones(2)
    assert np.allclose(interval_bounds(THREE_LAYERS, *ends), [[1, 0], [7, 2]])
    crown = crown_bounds(THREE_LAYERS, *ends)
    assert np.allclose((crown.lower, crown.upper), [[1, 0], [5.5, 2]], atol=1e-9)
    assert np.allclose(crown.layers[1], [[0, -2], [3, 2]], atol=1e-9)
    alpha = crown_bounds(THREE_LAYERS, *ends, alpha_steps=20)
    assert np.allclose((alpha.lower, alpha.upper), [[1, 0], [5.5, 2]], atol=1e-9)
    for engine, upper in (("lp", 5.5), ("milp", 5)):
        assert maximize(THREE_LAYERS, Box(*ends), np.eye(2)[0], engine=engine).upper == pytest.approx(upper)


@given(problems(), st.integers(0, 1000), st.sampled_from(["adaptive", "zero"]), st.sampled_from([0, 0, 3]))
def test_bounds_hold_for_real_arithmetic(problem, seed, line, steps):
    net, low, high = problem.made()
    bounds = crown_bounds(net, low, high, lower=line, alpha_steps=steps)
    below, above = interval_bounds(net, low, high)
    rng = np.random.default_rng(seed)
    points = [np.where(rng.random(len(low)) < 0.5, low, high), *rng.uniform(low, high, (3, len(low)))]
    for x in points:
        exact, at = net.exact(x), [Fraction(v) for v in x.tolist()]
        for i, y in enumerate(exact):
            assert max(bounds.lower[i], below[i]) <= y <= min(bounds.upper[i], above[i])
            for A, c, sign in (
                (bounds.lower_slope, bounds.lower_offset, 1),
                (bounds.upper_slope, bounds.upper_offset, -1),
            ):
                line_at = sum((Fraction(a) * v for a, v in zip(A[i].tolist(), at, strict=True)), Fraction(c[i]))
                assert sign * (y - line_at) >= 0


@given(problems(inputs=(1, 3), factors=(1.0,)), st.integers(0, 1000))
def test_looser_engines_bound_tighter_ones(problem, seed):
    net, low, high = problem.made()
    q = np.random.default_rng(seed).normal(size=net.sizes[-1])
    below, above = interval_bounds(net, low, high)
    interval = q.clip(0) @ above + q.clip(None, 0) @ below
    upper = {engine: maximize(net, Box(low, high), q, engine=engine) for engine in ("crown", "lp", "milp")}
    scale = 1e-6 * max(1.0, abs(interval))
    assert upper["lp"].upper <= upper["crown"].upper + scale
    assert upper["milp"].upper <= upper["lp"].upper + scale
    sampled = net(np.random.default_rng(seed).uniform(low, high, (200, len(low)))) @ q
    assert sampled.max() <= upper["milp"].upper + scale
    assert upper["milp"].value == pytest.approx(upper["milp"].upper, abs=10 * scale)


@FEWER
@given(problems(inputs=(1, 3), factors=(1.0,)))
def test_steps_of_alpha_tighten_bounds_and_never_cross_the_exact_ones(problem):
    net, low, high = problem.made()
    plain, alpha = crown_bounds(net, low, high), crown_bounds(net, low, high, alpha_steps=10)
    assert (alpha.upper <= plain.upper).all()
    assert (alpha.lower >= plain.lower).all()
    for (low_unit, high_unit), (low_plain, high_plain) in zip(alpha.layers, plain.layers, strict=True):
        assert (low_unit >= low_plain).all()
        assert (high_unit <= high_plain).all()
    for i, q in enumerate(np.eye(net.sizes[-1])):
        exact = maximize(net, Box(low, high), q)
        assert alpha.upper[i] >= exact.upper - 2 * exact.tol


def test_a_network_without_units_has_no_alpha():
    line = random_network(0, 3, 2)
    for a, b in zip(*(crown_bounds(line, -np.ones(3), np.ones(3), alpha_steps=n)[:6] for n in (0, 5)), strict=True):
        assert np.array_equal(a, b)


def test_a_largest_box_in_many_dimensions():
    """With x_1 + ... + x_d <= d / 2 in [0, 1]^d all upper ends are 1/2."""
    size = 300
    net = AffineReLU((np.vstack([-np.ones(size), np.zeros(size)]),), (np.array([size / 2, 0.0]),))
    region = relaxed_region(net, np.zeros(size), Box(np.zeros(size), np.ones(size)))
    box = region.volume_box()
    assert box.log_volume == pytest.approx(size * np.log(0.5), abs=1e-3)
    assert np.allclose(box.high, 0.5, atol=1e-3)
    # The first side is whole, and the others share what it leaves.
    containing = region.volume_box(contain=np.eye(size)[0])
    assert containing.log_volume == pytest.approx((size - 1) * np.log((size / 2 - 1) / (size - 1)), abs=1e-3)


def test_steps_of_alpha_close_gaps():
    nets = [random_network(seed, 5, 8, 8, 3) for seed in range(3)]
    ends = -0.5 * np.ones((2, 5)), np.array([[0.5], [1.0]]) * np.ones(5)
    for net in nets:
        plain, alpha = crown_bounds(net, *ends), crown_bounds(net, *ends, alpha_steps=20)
        assert ((alpha.upper - alpha.lower) < (plain.upper - plain.lower) - 1e-3).any()
        solo = crown_bounds(net, ends[0][1], ends[1][1], alpha_steps=20)
        assert np.allclose(solo.upper, alpha.upper[1], rtol=0, atol=1e-9), "boxes do not touch each other"
        most = solo.upper_slope.clip(0) @ ends[1][1] + solo.upper_slope.clip(None, 0) @ ends[0][1] + solo.upper_offset
        assert np.allclose(most, solo.upper, rtol=0, atol=1e-9), "the lines are those of the bounds"


@FEWER
@given(st.integers(0, 10_000), st.sampled_from([(2, 6, 2), (3, 3, 3, 2), (2, 2, 2, 2, 2)]))
def test_the_maximum_is_that_over_all_patterns(seed, sizes):
    net, box = random_network(seed, *sizes), Box(-np.ones(sizes[0]), np.ones(sizes[0]))
    q = np.array([1.0, -1.0])
    units = net.sizes[1:-1]
    best = -np.inf
    for bits in itertools.product((0, 1), repeat=sum(units)):
        pattern = np.split(np.array(bits, dtype=np.int8), np.cumsum(units)[:-1])
        best = max(best, maximize(net, box, q, pattern=pattern, engine="lp").upper)
    result = maximize(net, box, q)
    assert result.upper == pytest.approx(best, abs=2 * result.tol)


def test_a_pattern_that_cannot_be_is_infeasible():
    net = AffineReLU((np.ones((1, 1)), np.ones((1, 1))), (np.zeros(1), np.zeros(1)))
    off = [np.zeros(1, dtype=np.int8)]
    result = maximize(net, Box([1.0], [2.0]), np.ones(1), pattern=off)
    assert result.status == "infeasible"
    assert interval_bounds(net, np.ones(1), 2 * np.ones(1), off)[0] == np.inf


def test_phases_and_scales_follow_units():
    net = random_network(3, 3, 5, 4, 2)
    x = np.random.default_rng(0).normal(size=(50, 3))
    order, factor = np.random.default_rng(1).permutation(5), np.array([2.0, 0.5, 3, 1, 7])[:, None]
    moved = AffineReLU(
        ((net.weights[0] * factor)[order], (net.weights[1] / factor.T)[:, order], net.weights[2]),
        ((net.biases[0] * factor[:, 0])[order], *net.biases[1:]),
    )
    assert np.array_equal(activation_pattern(moved, x)[0], activation_pattern(net, x)[0][:, order])
    low, high = x - 0.1, x + 0.1
    for a, b in zip(crown_bounds(net, low, high)[:6], crown_bounds(moved, low, high)[:6], strict=True):
        assert np.allclose(a, b, atol=1e-9)


def test_many_boxes_at_once_are_as_one_after_another():
    net = random_network(5, 4, 6, 6, 3)
    low = np.random.default_rng(0).normal(size=(5, 4))
    together = crown_bounds(net, low, low + 0.5)
    alone = [crown_bounds(net, corner, corner + 0.5) for corner in low]
    assert np.allclose(together.lower, [bounds.lower for bounds in alone], rtol=0, atol=1e-12)
    assert together.layers[1][0].shape == (5, 6)


def test_as_tight_as_auto_lirpa():
    # Computed once, by a library whose releases cannot share an environment with this one.
    fixtures = json.loads((Path(__file__).parent / "auto_lirpa.json").read_text())
    equal = 0
    for case in fixtures["cases"]:
        net = AffineReLU(tuple(map(np.array, case["weights"])), tuple(map(np.array, case["biases"])))
        low, high = np.array(case["low"]), np.array(case["high"])
        crown = crown_bounds(net, low, high)
        for name, ours in (("IBP", interval_bounds(net, low, high)), ("CROWN", (crown.lower, crown.upper))):
            theirs = np.array(case[name])
            assert ((ours[1] - ours[0]) <= 1.01 * (theirs[1] - theirs[0])).all(), name
        equal += np.allclose((crown.lower, crown.upper), case["CROWN"], rtol=1e-6)
    assert equal >= 2  # elsewhere ours are tighter, since they are cut with intervals


# Proofs and counterexamples.

ENGINES = ("auto", "inputs", "relus", "milp")


@given(problems(inputs=(1, 3), factors=(1.0,)), st.integers(0, 1))
def test_engines_agree_and_proofs_check(problem, label):
    net, low, high = problem.made()
    box, answers = Box(low, high), {}
    sampled = net(np.random.default_rng(0).uniform(low, high, (500, len(low)))).argmax(1)
    for engine in ENGINES:
        result = verify(net, box, Argmax(label), engine=engine, budget=Budget(nodes=300))
        answers[engine] = result.status.removesuffix(" by solver")
        if answers[engine] == "proved":
            assert (sampled == label).all()
        if result.status == "proved":
            check = check_certificate(net, box, Argmax(label), result.certificate)
            assert check.valid, check
        if result.status == "refuted":
            y = net.exact(result.counterexample)
            assert max(value for i, value in enumerate(y) if i != label) >= y[label]
            assert ((low <= result.counterexample) & (result.counterexample <= high)).all()
        assert (result.status == "unknown") == bool(result.exhausted)
    assert len(set(answers.values()) - {"unknown"}) <= 1, answers


@pytest.mark.parametrize("engine", ENGINES)
def test_linear_properties_and_their_combinations(engine):
    square = Box([-1, -1], [1, 1])

    def at_most(d):
        return LinearProperty([[1.0]], [d])

    def status(prop):
        return verify(SUM, square, prop, engine=engine).status.removesuffix(" by solver")

    assert status(at_most(2.01)) == "proved"
    assert status(at_most(1.99)) == "refuted"
    assert status(AnyOf((at_most(1.0), LinearProperty([[-1.0]], [-0.5])))) == "proved"
    assert status(AnyOf((at_most(1.0), LinearProperty([[-1.0]], [-1.5])))) == "refuted"
    assert status(AllOf((at_most(2.01), at_most(1.0)))) == "refuted"
    assert status(LinearProperty([[1.0], [-1.0]], [2.01, 0.01])) == "proved"


def test_a_disjunction_that_only_a_combination_of_rows_proves():
    # y = (x, -x): one of them is at least 0 everywhere, and none of them is.
    net = AffineReLU((np.array([[1.0], [-1.0]]),), (np.zeros(2),))
    either = AnyOf((LinearProperty([[-1.0, 0]], [0.01]), LinearProperty([[0, -1.0]], [0.01])))
    for engine in ENGINES:
        assert verify(net, Box([-1], [1]), either, engine=engine).status.startswith("proved")


@pytest.mark.parametrize("engine", ENGINES)
def test_polytopes(engine):
    # The vertex (1, 0) gives 2; without it, (0.25, 0.75) gives 1.
    diamond = Polytope([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.ones(4))
    low_half = Polytope([[1, 1], [1, -1], [-1, 1], [-1, -1], [1, 0]], [1, 1, 1, 1, 0.25])
    assert verify(SUM, diamond, LinearProperty([[1.0]], [1.9]), engine=engine).status == "refuted"
    result = verify(SUM, low_half, LinearProperty([[1.0]], [1.26]), engine=engine)
    assert result.status.startswith("proved")
    if engine != "milp":
        assert check_certificate(SUM, low_half, LinearProperty([[1.0]], [1.26]), result.certificate).valid


def test_a_counterexample_lies_in_the_polytope_without_rounding():
    # 3 x <= 0.1 ends between two numbers of 64 bits; the nearest of them is outside.
    end = 0.1 / 3
    assert 3 * Fraction(end) != Fraction(0.1)
    line = AffineReLU((np.ones((1, 1)),), (np.zeros(1),))
    place = Polytope([[3.0], [-1.0]], [0.1, 1.0])
    inside = end if 3 * Fraction(end) <= Fraction(0.1) else np.nextafter(end, -1)
    below = verify(line, place, LinearProperty([[1.0]], [np.nextafter(inside, -1)]))
    assert below.status in ("refuted", "unknown")
    if below.status == "refuted":
        assert 3 * Fraction(float(below.counterexample[0])) <= Fraction(0.1)
    assert verify(line, place, LinearProperty([[1.0]], [inside])).status != "refuted"
    assert verify(line, place, LinearProperty([[1.0]], [end + 1e-12])).status == "proved"
    assert verify(line, place, LinearProperty([[1.0]], [end - 0.1])).status == "refuted"


def test_ties_are_no_answers():
    # Both outputs are relu(x): equal everywhere, so that no class is the largest.
    net = AffineReLU((np.ones((1, 1)), np.ones((2, 1))), (np.zeros(1), np.zeros(2)))
    for engine in ENGINES:
        assert verify(net, Box([-1], [1]), Argmax(0), engine=engine).status == "refuted"
    not_above = LinearProperty([[1.0, -1.0]], [0.0])
    assert verify(net, Box([-1], [1]), not_above, budget=Budget(nodes=200)).status in ("proved", "unknown")


def test_margins_of_a_rounding_are_not_guessed():
    # 0.1 + 0.2 - 0.3 is 5.6e-17 in floating point and -2.8e-17 for the numbers that 64 bits hold.
    net = AffineReLU((np.array([[0.1, 0.2, -0.3]]),), (np.zeros(1),))
    box = Box(np.ones(3), np.ones(3))
    exact = net.exact(np.ones(3))[0]
    assert verify(net, box, LinearProperty([[1.0]], [0.0])).status in ("unknown", "proved" if exact <= 0 else "refuted")
    above = verify(net, box, LinearProperty([[-1.0]], [0.0]))
    assert above.status in ("unknown", "proved" if exact >= 0 else "refuted")


def hard():
    return random_network(3, 5, 30, 30, 30, 2), Box(-np.ones(5), np.ones(5))


@pytest.mark.parametrize(
    ("budget", "what"),
    [
        (Budget(seconds=1e-9), "time"),
        (Budget(nodes=3), "nodes"),
        (Budget(megabytes=0.001), "memory"),
    ],
)
@pytest.mark.parametrize("engine", ["inputs", "relus"])
def test_budgets_stop_with_what_is_known(budget, what, engine):
    net, box = hard()
    most = maximize(net, box, np.array([1.0, -1.0]), engine="crown").upper
    result = verify(net, box, LinearProperty([[1.0, -1.0]], [0.7 * most]), engine=engine, budget=budget)
    assert (result.status, result.exhausted) == ("unknown", what)
    assert result.certificate is None
    assert result.counterexample is None
    if what != "time":
        assert -np.inf < result.bound < 0


def test_one_backward_pass_is_what_it_says():
    result = verify(SUM, Box([-1, -1], [1, 1]), LinearProperty([[1.0]], [2.5]), engine="crown")
    assert (result.status, result.exhausted, result.nodes) == ("unknown", "one backward pass", 1)
    assert result.bound == pytest.approx(-0.5)


class TestCertificates:
    box, prop = Box([-1, -1], [1, 1]), LinearProperty([[1.0]], [2.1])

    @pytest.fixture(params=["inputs", "relus"])
    def certificate(self, request):
        return verify(SUM, self.box, self.prop, engine=request.param).certificate

    def check(self, certificate, **changes):
        return check_certificate(SUM, self.box, self.prop, replace(certificate, **changes))

    def test_survives_json(self, certificate):
        again = Certificate.from_json(json.loads(json.dumps(certificate.to_json())))
        assert again == certificate
        assert self.check(again).leaves == certificate.leaves > 1
        with pytest.raises(ValueError, match="errors for Certificate"):
            Certificate.from_json({})

    def test_is_of_its_subject_alone(self, certificate):
        assert self.check(certificate).valid
        for other in (
            (THREE_LAYERS, self.box, Argmax(0)),
            (SUM, Box([-1, -1], [1, 1.1]), self.prop),
            (SUM, self.box, LinearProperty([[1.0]], [2.0])),
        ):
            assert not check_certificate(*other, certificate).valid

    def test_what_was_tampered_with_proves_nothing(self, certificate):
        (tree,) = certificate.trees
        assert "leaf 0 is not proved" in self.check(certificate, trees=(replace(tree, cases=(Case(),)),)).reason
        assert "all clauses" in self.check(certificate, trees=()).reason
        for first in (0, 99):
            loop = (tree.cases[0]._replace(first=first), *tree.cases[1:])
            assert not self.check(certificate, trees=(replace(tree, cases=loop),)).valid
        halves = (tree.cases[0]._replace(axis=99), *tree.cases[1:])
        assert "splits axis 99" in self.check(certificate, trees=(replace(tree, cases=halves),)).reason
        forged = tuple(
            case._replace(multipliers=((1e9,) * len(m),)) if (m := sum(case.multipliers, ())) else case
            for case in tree.cases
        )
        if forged != tree.cases:
            assert not self.check(certificate, trees=(replace(tree, cases=forged),)).valid

    def test_there_is_none_of_a_solver(self):
        result = verify(SUM, self.box, self.prop, engine="milp")
        assert (result.status, result.certificate) == ("proved by solver", None)
        assert verify(SUM, self.box, LinearProperty([[1.0]], [3.1]), engine="milp").certificate  # one backward pass


@pytest.mark.parametrize(("inner", "outer"), [(1e-170, 1e-190), (1e-190, 1e-170), (1e-300, 1e-9), (1e-9, 1e-300)])
def test_bounds_hold_where_products_underflow(inner, outer):
    # y = 1e200 relu(outer relu(inner x)) - 1e-150: squares of the weights underflow, and so may their products.
    net = AffineReLU(
        (np.array([[inner]]), np.array([[outer]]), np.array([[1e200]])), (np.zeros(1), np.zeros(1), np.zeros(1))
    )
    most = Fraction(inner) * Fraction(outer) * Fraction(1e200)
    for engine in ENGINES:
        thin = LinearProperty([[1.0]], [float(most) * 0.999])
        below = verify(net, Box([0], [1]), thin, engine=engine, budget=Budget(nodes=2000))
        assert below.status != "proved"
    rng = np.random.default_rng(0)
    for scale in (1e-170, 1e-190, 1e-250):
        net = AffineReLU(
            (scale * rng.normal(size=(4, 3)), rng.normal(size=(3, 4)) / scale, scale * rng.normal(size=(2, 3))),
            (scale * rng.normal(size=4), rng.normal(size=3), np.zeros(2)),
        )
        low, high = -np.ones(3), np.ones(3)
        bounds = crown_bounds(net, low, high)
        for x in rng.uniform(low, high, (20, 3)):
            y = net.exact(x)
            assert all(Fraction(a) <= v <= Fraction(b) for a, v, b in zip(bounds.lower, y, bounds.upper, strict=True))


def test_bounds_that_overflow_prove_nothing():
    net = AffineReLU((np.full((2, 2), 1e200), np.array([[1e200, -1e200]])), (np.zeros(2), np.ones(1)))
    for engine in ENGINES:
        result = verify(net, Box([-1e299] * 2, [1e299] * 2), LinearProperty([[1.0]], [0.5]), engine=engine)
        assert result.status in ("refuted", "unknown"), (engine, result)
    for size in (1e25, 1e150):  # the solver takes 1e20 for infinite
        result = verify(SUM, Box([-size] * 2, [size] * 2), LinearProperty([[1.0]], [2.5 * size]), engine="milp")
        assert result.status != "proved"


def test_a_violation_at_a_face_of_a_polytope_is_found():
    missed = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        size = int(rng.integers(2, 5))
        net = AffineReLU((rng.normal(size=(6, size)), rng.normal(size=(1, 6))), (rng.normal(size=6), np.zeros(1)))
        A, eye = rng.normal(size=(5, size)), np.eye(size)
        b = A @ rng.uniform(-0.5, 0.5, size) + rng.uniform(0, 0.2, 5)
        half = (A, b)
        if maximize(net, Box(-np.ones(size), np.ones(size)), np.ones(1), halfspaces=half).status == "infeasible":
            continue
        most = maximize(net, Box(-np.ones(size), np.ones(size)), np.ones(1), halfspaces=half).value
        place = Polytope(np.vstack([A, eye, -eye]), np.concatenate([b, np.ones(2 * size)]))
        for engine in ("milp", "relus"):
            result = verify(net, place, LinearProperty([[1.0]], [most - 1e-3]), engine=engine)
            missed += result.status != "refuted"
    assert missed == 0


def test_auto_splits_units_where_halving_runs_out():
    # max(x) - x_1 - ... of ten inputs has a bound that halving improves too slowly, and twelve units.
    rng = np.random.default_rng(0)
    net = AffineReLU((rng.normal(size=(12, 10)), rng.normal(size=(1, 12))), (rng.normal(size=12), np.zeros(1)))
    box = Box(-np.ones(10), np.ones(10))
    most = LinearProperty([[1.0]], [maximize(net, box, np.ones(1)).upper + 0.01])
    assert verify(net, box, most, engine="inputs", budget=Budget(nodes=2000)).status == "unknown"
    result = verify(net, box, most, budget=Budget(nodes=2000))
    assert (result.status, result.engine) == ("proved", "relus")
    assert check_certificate(net, box, most, result.certificate).valid


@given(problems(), st.integers(0, 10_000))
def test_any_multipliers_give_a_bound(problem, seed):
    net, low, high = problem.made()
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(1, 3))
    clause = Clause(rng.normal(size=(rows, net.sizes[-1])), rng.normal(size=rows), np.ones(rows, dtype=bool))
    H, x = rng.normal(size=(1, len(low))), rng.uniform(low, high)
    place = Domain(low, high, H, H @ x + 1e-9, x)
    numbers = rng.normal(size=rows + sum(net.sizes[1:-1]) + 1) * rng.choice([0, 1, 100])
    bound = dual_bound(net, relax(net, low[None], high[None]), clause, place, numbers)
    w = [Fraction(v) for v in np.maximum(numbers[:rows], 0).tolist()]
    y = net.exact(x)
    values = [
        sum((Fraction(q) * v for q, v in zip(row, y, strict=True)), Fraction(c))
        for row, c in zip(clause.Q.tolist(), clause.c.tolist(), strict=True)
    ]
    assert bound <= sum(a * b for a, b in zip(w, values, strict=True))


@given(st.integers(0, 10_000), st.sampled_from([1.0, 1e8, 1e16]))
def test_multipliers_of_cuts_bound_without_rounding(seed, size):
    # Rows that nearly cancel: what is left of them is mostly the rounding of their sum.
    rng = np.random.default_rng(seed)
    A, c = size * rng.normal(size=(2, 3)), size * rng.normal(size=2)
    H, v = rng.normal(size=(1, 3)) - A[:1], rng.normal(size=1) + c[:1]
    low, high, numbers = -np.ones(3), rng.uniform(-1, 1, 3), np.array([1.0, 1e-16 * rng.random(), 1.0])
    w, nu = [list(map(Fraction, part.tolist())) for part in np.split(numbers, [2])]
    exact = [list(map(Fraction, row)) for row in (*A.T.tolist(), *H.T.tolist())]
    least = sum(a * Fraction(b) for a, b in zip(w, c.tolist(), strict=True)) - nu[0] * Fraction(v[0])
    for j in range(3):
        slope = sum(a * b for a, b in zip(w, exact[j], strict=True)) + nu[0] * exact[3 + j][0]
        least += min(slope * Fraction(low[j]), slope * Fraction(high[j]))
    place = Domain(low, high, H, v, low)
    clause = Clause(np.eye(2), np.zeros(2), np.ones(2, dtype=bool))
    net = AffineReLU((A,), (c,))
    assert dual_bound(net, relax(net, low[None], high[None]), clause, place, numbers) <= least


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Box([0, 0], [1, 1e308]), r"high\[1\] = 1e\+308: expected ends of at most 1e\+300"),
        (lambda: Polytope([[1.0], [-1.0]], [0, -1]), "has no solution"),
        (lambda: verify(SUM, Polytope([[1.0, 1]], [1]), LinearProperty([[1]], [0])), "does not bound input 0"),
        (lambda: verify(SUM, Box([0], [1]), LinearProperty([[1]], [0])), "has 1 dimensions: expected 2"),
        (lambda: relaxed_region(T4, np.array([4.0, 0]), Box([0, 0], [1, 1])), r"x0\[0\] = 4.0"),
        (lambda: relaxed_region(SUM, np.zeros(2), Box([0, 0], [1, 1])), "one output"),
        (
            lambda: certified_radius(T4, np.full((1, 2), 2.0), np.zeros(1, dtype=int), high=1.0),
            r"X\[0\] is not finite, or outside the box: expected -inf to 1.0",
        ),
        (
            lambda: certified_radius(T4, np.zeros((3, 2)), np.zeros(2, dtype=int)),
            "labels: expected 3, one for each input, found 2",
        ),
        (
            lambda: relaxed_region(T4, np.array([1.0, 0.0]), SIDE, label=1),
            "label = 1: expected the network's prediction at x0, 0",
        ),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Regions.

SIDE = Box([-3, -3], [3, 3])
POINTS = np.random.default_rng(0).uniform(-3, 3, (200_000, 2))


def area(region):
    return 36 * region.contains(POINTS).mean()


def codes(region):
    return tuple(tuple(int(code) for code in layer) for layer in region.pattern)


def test_oracle_t4():
    direct = relaxed_region(T4, np.array([1.0, 0]), SIDE, "direct")
    assert codes(direct) == ((2, 1, 0, 2),)
    assert area(direct) == pytest.approx(167 / 12, abs=0.1)
    box = direct.volume_box()
    assert np.allclose((box.low, box.high), [[-0.5, -3], [3, -0.5]], atol=1e-6)
    assert box.log_volume == pytest.approx(np.log(8.75))
    for eps, size in ((0.01, 17.219967), (0.1, None), (1.0, 167 / 12)):
        region = relaxed_region(T4, np.array([1.0, 0]), SIDE, eps_absolute=eps, tighten=False)
        assert codes(region) == ((2, 2, 0, 2),)
        if size is not None:
            assert area(region) == pytest.approx(size, abs=0.1)
        rows = {tuple(row) for row in np.column_stack([region.G, region.h]).round(9)}
        half = 2**0.5
        assert {
            tuple(r)
            for r in np.array([[-1 / half, 1 / half, (1 - eps) / half], [1 / 5**0.5, 2 / 5**0.5, 2 / 5**0.5]]).round(9)
        } == rows
        if eps == 1.0:
            assert region.compare(direct) == "equal"
        if eps == 0.01:
            assert region.compare(direct) == "contains"
            box = region.volume_box()
            assert np.allclose((box.low, box.high), [[-1.49, -3], [3, -0.5]], atol=1e-6)
            long = region.perimeter_box()
            assert (long.high - long.low).sum() == pytest.approx(6.99)
    with pytest.warns(UserWarning, match="above the margin"):
        everything = relaxed_region(T4, np.array([1.0, 0]), SIDE, eps_absolute=10.0, tighten=False)
    assert codes(everything) == ((2, 2, 2, 2),)
    assert everything.degenerate
    assert everything.volume_box().log_volume == -np.inf


def test_oracle_diamond():
    x0 = np.array([1, -0.3])
    fallback = relaxed_region(DIAMOND, x0, SIDE, "direct")
    assert (fallback.mode, codes(fallback)) == ("fallback", ((1, 1, 0, 1),))
    assert area(fallback) == pytest.approx(4.5, abs=0.1)
    assert fallback.volume_box().log_volume == pytest.approx(
        0, abs=1e-4
    )  # where the largest box lies is not determined
    flat = fallback.perimeter_box()
    assert (flat.high - flat.low).sum() == pytest.approx(2.0, abs=1e-4)
    for eps, size, volume in ((0.01, 5.826662, 2.772225), (0.5, 5.489583, 2.506944)):
        region = relaxed_region(DIAMOND, x0, SIDE, eps_absolute=eps, tighten=False)
        assert codes(region) == ((2, 2, 0, 1),)
        assert area(region) == pytest.approx(size, abs=0.1)
        assert region.volume_box().log_volume == pytest.approx(np.log(volume), abs=1e-5)


def test_oracle_three_layers_of_prophecy():
    side = Box([-10, -10], [10, 10])

    def made(x, mode, **arguments):
        region = relaxed_region(PROPHECY, np.array(x), side, mode, **arguments)
        return region.mode, codes(region)

    assert made([2.5, -1], "direct")[0] == "fallback"
    assert made([2.5, -1], "direct", tau=1e-4) == ("direct", ((1, 1), (1, 2)))
    assert made([2.5, -1], "structural", eps_absolute=0.1, tighten=False) == ("structural", ((2, 1), (2, 2)))
    assert made([2.5, 2.5], "direct", tau=1e-4) == ("direct", ((0, 1), (2, 2)))
    assert made([2.5, 2.5], "structural", eps_absolute=0.1, tighten=False) == ("structural", ((0, 2), (2, 2)))


def test_oracle_linear_network():
    rng = np.random.default_rng(0)
    W, b = rng.normal(size=(3, 4)), rng.normal(size=3)
    net, x0 = AffineReLU((W,), (b,)), rng.normal(size=4)
    y = net(x0)
    c = int(y.argmax())
    others = [i for i in range(3) if i != c]
    expected = min((y[c] - y[i]) / np.abs(W[c] - W[i]).sum() for i in others)
    for method in ("exact", "crown"):
        radius = certified_radius(net, x0[None], np.array([c]), method=method, maximum=5.0)
        assert radius[0] == pytest.approx(expected, abs=1e-5)
    region = relaxed_region(net, x0, Box(x0 - 2, x0 + 2))
    X = rng.uniform(x0 - 2, x0 + 2, (5000, 4))
    far = np.sort(net(X), axis=1)
    clear = far[:, -1] - far[:, -2] > 1e-3
    assert np.array_equal(region.contains(X)[clear], net(X).argmax(1)[clear] == c)


@FEWER
@given(st.integers(0, 10_000), st.sampled_from([(2, 4, 2), (3, 5, 4, 3)]))
def test_regions_are_what_the_theorems_say(seed, sizes):
    net, rng = random_network(seed, *sizes), np.random.default_rng(seed)
    box, x0 = Box([-2] * sizes[0], [2] * sizes[0]), rng.uniform(-2, 2, sizes[0])
    y = np.sort(net(x0))
    margin = float(y[-1] - y[-2])
    if margin < 1e-2:
        return
    X = np.vstack([x0, rng.uniform(-2, 2, (3000, sizes[0]))])
    answers = net(X).argmax(1)
    made = {
        "direct": relaxed_region(net, x0, box, "direct"),
        "small": relaxed_region(net, x0, box, eps_absolute=1e-3, tighten=False),
        "loose": relaxed_region(net, x0, box, tighten=False),
        "tight": relaxed_region(net, x0, box),
        "best": relaxed_region(net, x0, box, "best"),
        "slack": relaxed_region(net, x0, box, order="slack"),
        "crown": relaxed_region(net, x0, box, "crown"),
    }
    inside = {name: region.contains(X) for name, region in made.items()}
    for name, mask in inside.items():
        assert (answers[mask] == made[name].label).all(), name
    # The input is in its own region, tightening only adds, and the smaller slack fixes more units.
    assert all(inside[name][0] for name in ("small", "loose", "tight"))
    assert not (inside["loose"] & ~inside["tight"]).any()
    # A fallback is contained in the structural region beyond the shell of its slack.
    if made["direct"].mode == "fallback":
        A, a = local_affine(net, activation_pattern(net, x0))[-1]
        c = made["direct"].label
        g = np.delete((A[c] - A) @ X.T + (a[c] - a)[:, None], c, axis=0).min(0)
        assert not (inside["direct"] & (g > 1e-3 + 1e-5) & ~inside["small"]).any()


def freed_one_by_one(net, x0, box, label):
    """The published search: whole layers from the last one, then single units by index, each with a proof."""
    full = activation_pattern(net, x0)
    pattern = tuple(codes.copy() for codes in full)

    def holds():
        G, h = pattern_halfspaces(net, full, pattern)
        eye = np.eye(len(x0))
        domain = Polytope(np.vstack([G, eye, -eye]), np.concatenate([h, box.high, -box.low]))
        return verify(net, domain, Argmax(label), engine="milp").status != "refuted"

    for k in range(len(pattern) - 1, -1, -1):
        codes = pattern[k].copy()
        pattern[k][:] = 2
        if holds():
            continue
        pattern[k][:] = codes
        for j in range(len(codes)):
            pattern[k][j] = 2
            if not holds():
                pattern[k][j] = codes[j]
        break
    return pattern


@pytest.mark.parametrize("sizes", [(2, 6, 3), (2, 5, 5, 3)])
def test_blocks_of_units_are_freed_as_single_units_would_be(sizes):
    partly = 0
    for seed in range(10, 15):
        net, x0 = random_network(seed, *sizes), np.random.default_rng(seed).uniform(-2, 2, sizes[0])
        box = Box([-3] * sizes[0], [3] * sizes[0])
        region = relaxed_region(net, x0, box, "direct")
        if region.mode == "direct":
            for got, wanted in zip(region.pattern, freed_one_by_one(net, x0, box, region.label), strict=True):
                np.testing.assert_array_equal(got, wanted)
                partly += 0 < (got == 2).sum() < len(got)
    assert partly, "in one network at least, some units of a layer are free and others are not"


def test_a_pattern_is_minimal():
    # Freeing any unit that is still fixed in the critical layer lets the network answer otherwise.
    seen = 0
    for seed in range(20):
        net = random_network(seed, 2, 4, 2)
        x0 = np.random.default_rng(seed).normal(size=2).clip(-3, 3)
        region = relaxed_region(net, x0, SIDE, "direct")
        if region.mode == "fallback":
            continue
        for j in np.flatnonzero(region.pattern[0] != 2):
            freed = region.pattern[0].copy()
            freed[j] = 2
            G, h = pattern_halfspaces(net, activation_pattern(net, x0), (freed,))
            result = verify(
                net, Polytope(np.vstack([G, np.eye(2), -np.eye(2)]), np.append(h, [3.0] * 4)), Argmax(region.label)
            )
            assert result.status == "refuted"
            seen += 1
    assert seen > 5


def test_a_region_can_be_proved_once_more_by_verify():
    region = relaxed_region(T4, np.array([1.0, 0]), SIDE)
    result = verify(T4, region.polytope, Argmax(region.label))
    assert result.status == "proved"
    assert check_certificate(T4, region.polytope, Argmax(region.label), result.certificate).valid


def test_a_class_is_covered_region_by_region():
    net, X = random_network(11, 2, 6, 2), np.random.default_rng(0).uniform(-3, 3, (60, 2))
    mine = net(X).argmax(1) == 0
    regions = class_regions(net, X, SIDE, 0, maximum=4)
    inside = np.array([region.contains(X) for region in regions])
    assert 1 <= len(regions) <= 4
    assert not inside[:, ~mine].any()
    assert inside.any(0).sum() > inside[0].sum() or len(regions) == 1
    assert len(class_regions(net, X[mine], SIDE, 0, maximum=100)) >= len(regions)


def test_ties_flat_sides_and_full_patterns():
    tie = relaxed_region(T4, np.array([-3.0, -3.0]), SIDE)
    y = T4(np.array([-3.0, -3.0]))
    assert (tie.status == "tie") == (y[0] == y[1])
    same = AffineReLU((np.ones((1, 2)), np.ones((2, 1))), (np.zeros(1), np.zeros(2)))
    tie = relaxed_region(same, np.ones(2), SIDE)
    assert tie.status == "tie"
    assert tie.degenerate
    assert not tie.contains(np.ones(2))
    flat = relaxed_region(T4, np.array([1.0, 0]), Box([-3, 0], [3, 0]))
    assert flat.volume_box().dimensions == 1
    assert np.isfinite(flat.volume_box().log_volume)


def test_samples_and_inner_boxes_stay_inside():
    region = relaxed_region(random_network(4, 4, 6, 6, 3), np.zeros(4), Box([-2] * 4, [2] * 4))
    rng = np.random.default_rng(0)
    assert region.contains(region.sample(50, rng, thin=5)).all()
    box = region.volume_box(contain=np.zeros(4))
    corners = np.array(list(itertools.product(*zip(box.low + 1e-9, box.high - 1e-9, strict=True))))
    assert region.contains(corners).all()
    assert (box.low <= 1e-9).all()
    assert (box.high >= -1e-9).all()
    share, low, high = region.volume_fraction(2000, rng)
    assert low <= share <= high
    assert region.support(corners) == 16


@FEWER
@given(st.integers(0, 1000))
def test_radii_are_ordered(seed):
    net, X = random_network(seed, 3, 5, 4, 3), np.random.default_rng(seed).uniform(0, 1, (2, 3))
    labels = net(X).argmax(1)
    crown, exact, attacked = (
        certified_radius(net, X, labels, m, low=0.0, high=1.0) for m in ("crown", "exact", "attack")
    )
    assert (crown <= exact + 1e-5).all()
    assert (exact <= attacked + 1e-5).all()
    for method in ("exact", "attack"):
        assert (certified_radius(net, X, (labels + 1) % 3, method, low=0.0, high=1.0) == 0).all()
        assert certified_radius(net, X[:0], labels[:0], method).shape == (0,)


def test_rules_of_a_layer_are_proved():
    rng = np.random.default_rng(0)
    net, X = random_network(7, 2, 6, 5, 2), rng.uniform(-1, 1, (500, 2))
    label = int(np.bincount(net(X).argmax(1)).argmax())
    for on in ("bits", "values"):
        rules = layer_rules(net, 2, X, label, on=on)
        assert rules == sorted(rules, key=lambda rule: -rule.support)
        z = net.preactivations(X)[1]
        for rule in rules[:3]:
            G, h = rule.halfspaces
            inside = (z @ G.T <= h).all(1)
            assert inside.sum() >= rule.support
            proof = prove_rule(net, rule, label, data=X, budget=Budget(nodes=5000))
            if proof.status == "proved":
                assert (net(X)[inside].argmax(1) == label).all()
    with pytest.raises(ValueError, match="layer = 3: expected 1 to 2"):
        layer_rules(net, 3, X, label)
    with pytest.raises(ValueError, match="expected exactly one of them"):
        prove_rule(net, rules[0], label)


def test_bounds_and_rules_refuse_what_has_no_meaning():
    net = AffineReLU((np.ones((2, 2)), np.eye(2)), (np.zeros(2), np.zeros(2)))
    zero, one = np.zeros(2), np.ones(2)
    with pytest.raises(ValueError, match=r"high\[1\] is NaN"):
        crown_bounds(net, zero, np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match=r"pattern\[0\] has the phase -1: expected 1 on, 0 off or 2 free"):
        interval_bounds(net, zero, one, [np.array([1, -1], dtype=np.int8)])
    with pytest.raises(ValueError, match="label = 2"):
        layer_rules(net, 1, np.eye(2), 2)
    rule = LayerRule(1, np.full(2, 2, dtype=np.int8), (np.eye(2), np.ones(2)), 1, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"box.low.shape = \(1,\): expected \(..., 2\)"):
        prove_rule(net, rule, 0, box=Box([0], [1]))
    with pytest.raises(ValueError, match=r"rule\.layer = 2: expected 1 to 1"):
        prove_rule(net, rule._replace(layer=2), 0, box=Box([0, 0], [1, 1]))
    phases = np.ones(2, dtype=np.int8)
    for pattern in ((), (phases[:1],), (phases, phases)):
        with pytest.raises(ValueError, match=r"pattern = .*: expected phases of \(2,\) hidden units"):
            pattern_halfspaces(net, (phases,), pattern)


# ACAS Xu.

NNET = """// a comment
2,2,1,3,
2,3,1,
0,
-1.0,-2.0,
1.0,2.0,
0.0,1.0,5.0,
2.0,4.0,10.0,
1.0,2.0,
3.0,4.0,
5.0,6.0,
0.1,
0.2,
0.3,
1.0,-1.0,2.0,
0.5,
"""


def test_reads_nnet(tmp_path):
    path = tmp_path / "net.nnet"
    path.write_text(NNET)
    net, scale = read_nnet(path)
    assert net.sizes == (2, 3, 1)
    assert np.array_equal(net.weights[1], [[1, -1, 2]])
    box = scale.box(Box([-9, 1], [1, 2]))
    assert np.allclose((box.low, box.high), [[-0.5, 0], [0.5, 0.25]])
    assert np.allclose(scale.physical(box.high), [1, 2])
    path.write_text(NNET[:-8])
    with pytest.raises(ValueError, match="is not a network in the NNet format"):
        read_nnet(path)


def test_reads_nnet_with_the_ends_of_inputs_that_the_network_fixes(tmp_path):
    """As the first release of the ACAS Xu networks has them: minima and maxima of seven, for five inputs."""
    path = tmp_path / "net.nnet"
    path.write_text(NNET)
    expected_net, expected = read_nnet(str(path))  # a path may be a string
    longer = {"-1.0,-2.0,\n": "-1.0,-2.0,0.0,-3.0,\n", "1.0,2.0,\n0.0": "1.0,2.0,100.0,3.0,\n0.0"}
    means = {"0.0,1.0,5.0,": "0.0,1.0,35.1,0.0,5.0,", "2.0,4.0,10.0,": "2.0,4.0,100.0,6.0,10.0,"}
    for replaced in (longer, longer | means):
        text = NNET
        for old, new in replaced.items():
            assert text.count(old) == 1
            text = text.replace(old, new)
        path.write_text(text)
        net, scale = read_nnet(path)
        assert all(np.array_equal(a, b) for a, b in zip(scale, expected, strict=True))
        assert all(np.array_equal(a, b) for a, b in zip(net.weights, expected_net.weights, strict=True))
    for wrong in (NNET.replace("-1.0,-2.0,", "-1.0,-2.0,0.0,"), NNET.replace("0.0,1.0,5.0,", "0.0,1.0,35.1,5.0,")):
        path.write_text(wrong)
        with pytest.raises(ValueError, match="its parts do not fit each other"):
            read_nnet(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2,3,1,", "2,3.5,1,", "sizes of layers are 2,3.5,1,: expected integers"),
        ("2,3,1,", "2,inf,1,", "expected integers"),
        ("0.0,1.0,5.0,", "0.0,nan,5.0,", "expected finite means and ranges"),
        ("-1.0,-2.0,", "-1.0,2.5,", "minima of inputs that are not above their maxima"),
    ],
)
def test_nnet_files_with_wrong_numbers_are_refused(tmp_path, old, new, message):
    path = tmp_path / "net.nnet"
    assert NNET.count(old) == 1
    path.write_text(NNET.replace(old, new))
    with pytest.raises(ValueError, match=f"is not a network in the NNet format: .*{message}"):
        read_nnet(path)


def test_nnet_files_may_be_packed(tmp_path):
    path, prop = tmp_path / "net.nnet.gz", tmp_path / "prop.vnnlib"
    path.write_bytes(gzip.compress(NNET.encode()))
    prop.write_text("".join(f"(declare-const {name} Real)" for name in ("X_0", "X_1", "Y_0"))
                    + "(assert (and (>= X_0 0) (<= X_0 1) (>= X_1 0) (<= X_1 1)))(assert (>= Y_0 0))")  # fmt: skip
    assert read_question(path, prop).network.sizes == (2, 3, 1)


@pytest.mark.needs_data("acasxu/ACASXU_run2a_1_1_batch_2000.nnet")
@pytest.mark.parametrize(
    ("number", "network", "status"),
    [(1, "1_1", "proved"), (3, "5_9", "proved"), (4, "2_1", "proved"), (2, "2_1", "refuted"), (3, "1_7", "refuted")],
)
def test_acas_xu_as_published(number, network, status):
    net, scale = read_nnet(load("acasxu", network=network))
    specification = acasxu_property(number)
    for box in specification.boxes:
        result = verify(net, scale.box(box), specification.claim)
        assert result.status == status
        if status == "proved":
            assert check_certificate(net, scale.box(box), specification.claim, result.certificate).valid


def test_acas_xu_claims_say_what_they_mean():
    # Scores of clear of conflict, weak left, weak right, strong left, strong right; the lowest is the advice.
    largest, middle, lowest = np.array([[3.0, 1, 2, 0, 2.5], [1.5, 1, 2, 0, 2.5], [-1, 1, 2, 0, 2.5]])

    def holds(number, scores):
        same = AffineReLU((np.zeros((5, 1)),), (scores,))
        return verify(same, Box([0], [1]), acasxu_property(number).claim).status == "proved"

    assert [holds(1, scores) for scores in (largest, 5 * largest)] == [True, False]
    assert [holds(2, scores) for scores in (largest, middle, lowest)] == [False, True, True]
    assert [holds(3, scores) for scores in (largest, middle, lowest)] == [True, True, False]
    assert [holds(7, scores) for scores in (middle, lowest, lowest[[4, 1, 2, 3, 0]])] == [False, True, False]
    assert [holds(8, scores) for scores in (middle, lowest)] == [False, True]
    assert [holds(9, scores) for scores in (middle, lowest)] == [True, False]
    assert [holds(5, scores[[0, 1, 2, 4, 3]]) for scores in (middle, lowest)] == [True, False]
    assert [holds(10, scores) for scores in (middle, lowest)] == [False, True]


def test_acas_xu_properties():
    asked = [acasxu_property(number) for number in range(1, 11)]
    assert [len(specification.networks) for specification in asked] == [45, 36, 42, 42, 1, 1, 1, 1, 1, 1]
    assert asked[0].claim.d[0] == pytest.approx(3.991126, abs=1e-6)
    with pytest.raises(ValueError, match="number = 11"):
        acasxu_property(11)


def test_labels_of_any_integers_have_radii():
    net = AffineReLU((np.eye(2),), (np.zeros(2),))
    X = np.array([[0.5, 0.1], [0.1, 0.4]])
    by_type = [certified_radius(net, X, np.array([0, 1], dtype)) for dtype in (np.uint8, np.int32, np.int64)]
    np.testing.assert_allclose(by_type, [[0.2, 0.15]] * 3, atol=1e-5)


def test_a_layer_that_works_in_place_as_a_statement_is_refused():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.relu, self.second = nn.Linear(1, 2), nn.ReLU(inplace=True), nn.Linear(2, 2)

        def forward(self, x):
            hidden = self.first(x)
            self.relu(hidden)  # which the graph of the forward does not show
            return self.second(hidden)

    torch.manual_seed(0)
    with pytest.raises(UnsupportedLayerError, match="layer 'relu' works in place and changes what 'second' reads"):
        verify(InPlace(), Box([-1.0], [1.0]), Argmax(1))
    in_line = nn.Sequential(nn.Linear(1, 2), nn.ReLU(inplace=True), nn.Linear(2, 2))
    assert verify(in_line, Box([-1.0], [1.0]), Argmax(1)).status in ("proved", "refuted")


def test_a_rule_that_no_input_of_a_box_satisfies_is_proved():
    net = AffineReLU((np.eye(2), np.array([[1.0, 0.0], [0.0, 1.0]])), (np.zeros(2), np.zeros(2)))
    for row, limit in (([1.0, 0.0], -1.0), ([1.0, 1.0], -0.5)):  # no z_0 and no sum of both is so small
        rule = LayerRule(1, np.full(2, 2, dtype=np.int8), (np.array([row]), np.array([limit])), 1, 1.0, 1.0)
        result = prove_rule(net, rule, 0, box=Box([0.5, 0.5], [1.0, 1.0]))
        assert (result.status, result.counterexample) == ("proved", None)
        refuted = prove_rule(net, rule, 0, box=Box([-2.0, -2.0], [1.0, 1.0]))
        assert refuted.status == "refuted"
        assert refuted.counterexample @ row <= limit


def test_bounds_of_boxes_along_any_axes():
    net, rng = random_network(3, 2, 4, 3, 2), np.random.default_rng(0)
    low = rng.uniform(-1, 0, (2, 3, 2))
    phases = [np.full((2, 3, size), 2, dtype=np.int8) for size in (4, 3)]
    phases[0][..., 1] = 1
    for bounds in (interval_bounds, lambda *box, pattern: crown_bounds(*box, pattern=pattern)[4:6]):
        together = bounds(net, low, low + 0.3, pattern=phases)
        for place in np.ndindex(2, 3):
            alone = bounds(net, low[place], low[place] + 0.3, pattern=[p[place] for p in phases])
            np.testing.assert_allclose([ends[place] for ends in together], alone, rtol=1e-12)
        assert [ends.shape for ends in bounds(net, low[:, :0], low[:, :0], pattern=None)] == [(2, 0, 2)] * 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net: interval_bounds(net, np.ones(2), np.zeros(2)), r"low\[0\] = 1.0 is above high: expected boxes"),
        (lambda net: crown_bounds(net, np.eye(2), np.ones((2, 2)) * [1, 0]), r"low\[1, 1\] = 1.0 is above high"),
        (lambda net: crown_bounds(net, np.zeros(2), np.ones(2), np.ones((1, 3))), r"spec.shape = \(1, 3\): expected"),
        (
            lambda net: maximize(net, Box([0, 0], [1, 1]), np.ones(2), halfspaces=(np.ones((1, 3)), np.ones(1))),
            "rows, 2",
        ),
        (
            lambda net: maximize(
                net, Box([0, 0], [1, 1]), np.ones(2), halfspaces=(np.full((1, 2), np.nan), np.ones(1))
            ),
            r"halfspaces\[0\]\[0, 0\] is NaN",
        ),
    ],
)
def test_boxes_and_rows_that_bound_nothing_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(random_network(3, 2, 4, 2))
