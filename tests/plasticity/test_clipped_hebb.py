import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engram.plasticity import ClippedHebb, Coefficients, TraceState

ONE = torch.ones(1, 1)


@given(
    eta=st.floats(-2, 2),
    clip=st.floats(0.1, 3),
    scale=st.floats(0, 5),
    steps=st.integers(0, 20),
    seed=st.integers(0, 99),
)
def test_the_trace_never_leaves_its_bounds(eta, clip, scale, steps, seed):
    generator = torch.Generator().manual_seed(seed)
    rule = ClippedHebb(clip=clip)
    rule.eta.data.fill_(eta)  # training may make it negative
    state = rule.init(2, 4, 3)
    for _ in range(steps):
        pre, post = (scale * torch.randn(2, size, generator=generator) for size in (3, 4))
        state = rule.update(state, pre, post)
        assert state.trace.abs().max() <= torch.tensor(clip)


def test_without_a_bound_it_is_the_sum_of_the_products():
    generator = torch.Generator().manual_seed(0)
    rule = ClippedHebb(0.3, clip=None, dtype=torch.float64)
    pre, post = (torch.randn(7, 2, size, generator=generator, dtype=torch.float64) for size in (3, 4))
    state = rule.init(2, 4, 3)
    for x, y in zip(pre, post, strict=True):
        state = rule.update(state, x, y)
    torch.testing.assert_close(state.trace, 0.3 * torch.einsum("tbj,tbi->bji", post, pre))


@pytest.mark.parametrize(
    ("start", "increment", "end", "passes"),
    [
        (1.0, 0.5, 1.0, 0.0),  # saturated and pushed further: it stays, and nothing passes
        (1.0, -0.5, 0.5, 1.0),
        (1.0, 0.0, 1.0, 1.0),  # exactly on the bound
        (-1.0, -0.5, -1.0, 0.0),
        (-1.0, 0.5, -0.5, 1.0),
        (0.5, 0.5, 1.0, 1.0),  # it just reaches the bound
        (0.5, 0.75, 1.0, 0.0),
    ],
)
def test_gradient_at_the_bound_is_that_of_torch_clamp(start, increment, end, passes):
    rule = ClippedHebb(eta=1.0)
    trace, pre, post = (t.requires_grad_() for t in (torch.full((1, 1, 1), start), ONE.clone(), increment * ONE))
    after = rule.update(TraceState(trace), pre, post).trace
    after.backward()
    assert after.item() == end
    gradients = [t.grad.item() for t in (trace, post, pre, rule.eta)]
    assert gradients == [passes, passes, passes * increment, passes * increment]


def test_saturation_is_the_share_of_traces_at_the_bound():
    state = TraceState(torch.tensor([[[1.0, -1.0, 0.5, 0.0]]]))
    assert ClippedHebb().saturation(state) == 0.5
    assert ClippedHebb(clip=None).saturation(state) == 0


@pytest.mark.parametrize("clip", [0.0, -1.0, float("inf"), float("nan")])
def test_a_bound_that_is_none_is_refused(clip):
    with pytest.raises(ValueError, match=f"clip = {clip}: expected a number above 0"):
        ClippedHebb(clip=clip)


@pytest.mark.parametrize("eta_param", ["raw", "sigmoid"])
def test_every_connection_may_have_a_rate_of_its_own(eta_param):
    generator = torch.Generator().manual_seed(0)
    options = {"eta_param": eta_param, "dtype": torch.float64}
    shared, each = ClippedHebb(0.3, 0.4, **options), ClippedHebb(0.3, 0.4, connections=(4, 3), **options)
    states = [shared.init(2, 4, 3), each.init(2, 4, 3)]
    for _ in range(5):
        pre, post = (torch.randn(2, size, generator=generator, dtype=torch.float64) for size in (3, 4))
        states = [rule.update(state, pre, post) for rule, state in zip((shared, each), states, strict=True)]
    torch.testing.assert_close(states[1].trace, states[0].trace, rtol=0, atol=1e-12)
    with torch.no_grad():
        next(each.parameters()).copy_(torch.randn(4, 3, generator=generator))
    unbounded = ClippedHebb(0.3, None, connections=(4, 3), **options)
    unbounded.load_state_dict(each.state_dict())
    added = unbounded.update(unbounded.init(2, 4, 3), pre, post).trace
    torch.testing.assert_close(added, torch.einsum("ji,bj,bi->bji", each.eta, post, pre))


def test_a_subclass_that_takes_a_rate_of_every_connection_for_one_of_units_is_refused():
    class Direct(ClippedHebb):
        def coefficients(self, post, modulator=None):
            return Coefficients(decay=self.eta, gain=self.eta, post=post)

    rule, x = Direct(connections=(3, 3)), torch.ones(3, 3)
    with pytest.raises(TypeError, match=r"coefficients of Direct: expected a gain that contains self.rate\(\)"):
        rule.update(rule.init(3, 3, 3), x, x)


def test_coefficients_are_asked_for_once_in_a_step():
    class Counted(ClippedHebb):
        calls = 0

        def coefficients(self, post, modulator=None):
            self.calls += 1
            return super().coefficients(post, modulator)

    rule, x = Counted(connections=(3, 3)), torch.ones(3, 3)
    rule.update(rule.init(3, 3, 3), x, x)
    assert rule.calls == 1


def test_rates_for_other_connections_are_refused():
    rule = ClippedHebb(connections=(3, 3))
    with pytest.raises(ValueError, match=r"state.trace.shape = \(2, 4, 3\): expected \(batch, 3, 3\), as eta has"):
        rule.update(rule.init(2, 4, 3), torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(ValueError, match="connections = 0: expected at least 1"):
        ClippedHebb(connections=(3, 0))
    with pytest.raises(ValueError, match=r"connections.shape = \(1,\): expected \(2\)"):
        ClippedHebb(connections=(3,))
    with pytest.warns(RuntimeWarning, match="eta of ClippedHebb is outside"):
        ClippedHebb(2.0, None, connections=(3, 3)).warn_if_unstable()


def test_repr_names_the_bound():
    assert repr(ClippedHebb(clip=2.0)) == "ClippedHebb(eta=0.01, clip=2.0)"
    assert repr(ClippedHebb(clip=2.0, connections=(4, 3))) == "ClippedHebb(eta of shape (4, 3), clip=2.0)"
