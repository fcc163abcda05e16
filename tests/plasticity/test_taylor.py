from functools import partial

import pytest
import torch

from engram.plasticity import ClippedHebb, Hebb, Instar, Modulated, Oja, PlasticLinear, PlasticRNN, TaylorRule
from engram.plasticity.taylor import Exponents
from engram.rules.synaptic import SlowWeights


def outputs(module, rule, length=12, **options):
    generator = torch.Generator().manual_seed(0)
    net = module(3, 5, rule=rule, dtype=torch.float64, generator=generator, **options)
    with torch.no_grad():
        net.alpha.fill_(0.7)
    return net(torch.randn(length, 2, 3, generator=generator, dtype=torch.float64))


@pytest.mark.parametrize("module", [PlasticRNN, PlasticLinear])
@pytest.mark.parametrize("rule", [Hebb, Oja, Instar, ClippedHebb])
def test_the_series_of_a_known_rule_runs_as_that_rule(module, rule):
    rule = partial(rule, 0.05, dtype=torch.float64)
    expected, state = outputs(module, rule(), backend="eager")
    actual, series_state = outputs(module, TaylorRule.from_rule(rule()))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(series_state.trace, state.trace, rtol=0, atol=1e-12)


def test_the_series_of_a_modulated_rule_runs_as_that_rule():
    expected, _ = outputs(PlasticRNN, Modulated(clip=2.0), backend="eager")
    actual, _ = outputs(PlasticRNN, TaylorRule({"x y m": 1.0}, eta=1.0, clip=2.0))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


def test_a_series_changes_slow_weights_as_its_rule_does():
    generator = torch.Generator().manual_seed(0)
    pre, post, weight = (torch.randn(*size, generator=generator) for size in ((6, 3), (6, 4), (4, 3)))
    expected = SlowWeights(Oja(1.0)).update(pre, post, weight, None).grad
    torch.testing.assert_close(SlowWeights(TaylorRule(eta=1.0)).update(pre, post, weight, None).grad, expected)


def test_constant_drive_and_decay_approach_their_fixed_point():
    rule = TaylorRule({"1": 0.3, "w": -0.2}, eta=1.0, dtype=torch.float64)
    state, zero, traces = rule.init(1, 1, 1), torch.zeros(1, 1, dtype=torch.float64), []
    for _ in range(4):
        state = rule.update(state, zero, zero)
        traces.append(state.trace.item())
    assert traces == pytest.approx([0.3, 0.54, 0.732, 0.8856], abs=1e-15)


def test_ojas_rule_with_a_linear_unit_takes_the_known_path():
    rule = TaylorRule(eta=0.5, dtype=torch.float64)
    one, weights = torch.ones(1, 1, dtype=torch.float64), [0.5]
    state = rule.init(1, 1, 1)._replace(trace=torch.full((1, 1, 1), 0.5, dtype=torch.float64))
    for _ in range(3):
        state = rule.update(state, one, state.trace[:, :, 0])
        weights.append(state.trace.item())
    assert weights == pytest.approx([0.5, 0.6875, 0.86877441, 0.97529963], abs=1e-8)


def test_every_term_has_one_name():
    for name in ("1", "x", "x y^2 w^3 m", "w m"):
        assert Exponents.of(name).name == name
    assert Exponents.of("w y^2") == Exponents.of("y^2 w")


@pytest.mark.parametrize("name", ["", "x x", "z", "x^4", "x^0", "xy", "x  y"])
def test_what_is_no_term_is_refused(name):
    with pytest.raises(ValueError, match=r"term = .*: expected"):
        TaylorRule({name: 1.0})


@pytest.mark.parametrize(
    ("coefficients", "message"),
    [({}, "at least one"), ({"x y": 1.0, "y x": 1.0}, "each term once"), ({"x": float("nan")}, r"coefficients\['x'\]")],
)
def test_a_series_needs_different_terms_and_finite_numbers(coefficients, message):
    with pytest.raises(ValueError, match=message):
        TaylorRule(coefficients)


def test_a_rule_that_is_no_series_is_refused():
    with pytest.raises(TypeError, match="expected one of Hebb, Oja"):
        TaylorRule.from_rule(Modulated())


def test_a_series_shows_itself():
    rule = TaylorRule({"1": -0.5, "x y": 1.0, "w": -2.0}, eta=0.1, clip=3.0)
    assert rule.extra_repr() == "0.1 (- 0.5 + x y - 2 w), clip=3.0"
