import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.plasticity import Oja, TraceState


@settings(deadline=None)
@given(eta=st.floats(0, 1), steps=st.integers(0, 30), seed=st.integers(0, 100))
def test_constant_activity_approaches_the_fixed_point_at_the_known_rate(eta, steps, seed):
    generator = torch.Generator().manual_seed(seed)
    rule = Oja(eta, dtype=torch.float64)
    pre = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    post = 0.5 + torch.rand(2, 4, generator=generator, dtype=torch.float64)
    start = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    state = TraceState(start)
    for _ in range(steps):
        state = rule.update(state, pre, post)
    fixed_point = pre[:, None, :] / post[:, :, None]
    rate = (1 - eta * post.square())[:, :, None] ** steps
    torch.testing.assert_close(state.trace, fixed_point + rate * (start - fixed_point), rtol=1e-9, atol=1e-9)


def test_the_trace_of_a_silent_unit_stays_as_it_is():
    rule = Oja(eta=0.3)
    before = TraceState(torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(0)))
    after = rule.update(before, torch.randn(1, 3), torch.tensor([[0.0, 1.0]]))
    assert torch.equal(after.trace[0, 0], before.trace[0, 0])
    assert not torch.equal(after.trace[0, 1], before.trace[0, 1])


def test_a_linear_unit_under_constant_unit_input_grows_traces_of_unit_length():
    generator = torch.Generator().manual_seed(0)
    pre = torch.nn.functional.normalize(torch.rand(1, 5, generator=generator), dim=1)
    rule = Oja(eta=0.2)
    state = TraceState(0.01 * torch.rand(1, 2, 5, generator=generator))
    for _ in range(200):
        post = torch.linalg.vecdot(state.trace, pre.unsqueeze(1))
        state = rule.update(state, pre, post)
    torch.testing.assert_close(state.trace.norm(dim=2), torch.ones(1, 2))


def test_an_eta_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="eta = nan: expected a finite number"):
        Oja(float("nan"))
