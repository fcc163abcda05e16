import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.plasticity import Hebb, Instar, Oja


@settings(deadline=None)
@given(eta=st.floats(0, 1), steps=st.integers(0, 30), seed=st.integers(0, 100))
def test_constant_activity_gives_the_running_mean(eta, steps, seed):
    generator = torch.Generator().manual_seed(seed)
    rule = Hebb(eta, dtype=torch.float64)
    pre = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    post = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    state = rule.init(2, 4, 3)
    for _ in range(steps):
        state = rule.update(state, pre, post)
    product = post[:, :, None] * pre[:, None, :]
    torch.testing.assert_close(state.trace, (1 - (1 - eta) ** steps) * product, rtol=1e-10, atol=1e-12)


def test_the_trace_of_a_silent_unit_decays_by_one_minus_eta():
    rule = Hebb(eta=0.25)
    before = rule.init(1, 2, 3)._replace(trace=torch.ones(1, 2, 3))
    after = rule.update(before, torch.randn(1, 3), torch.tensor([[0.0, 1.0]]))
    assert torch.equal(after.trace[0, 0], torch.full((3,), 0.75))


@pytest.mark.parametrize("eta", [float("nan"), float("inf")])
def test_an_eta_that_is_not_finite_is_refused(eta):
    with pytest.raises(ValueError, match=f"eta = {eta}: expected a finite number"):
        Hebb(eta)


@pytest.mark.parametrize("rule", [Hebb, Oja, Instar])
def test_one_rate_for_all_connections(rule):
    with pytest.raises(ValueError, match=r"shape = \(3, 4\): expected \(\), as .* has one rate"):
        rule(0.5, shape=(3, 4))
