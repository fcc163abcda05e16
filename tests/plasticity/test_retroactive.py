import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engram.plasticity import ClippedHebb, Modulated, Retroactive

TIME, BATCH, POST, PRE = 8, 2, 4, 3


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def activity(seed=0):
    return (
        draw(TIME, BATCH, 1, seed=seed),
        draw(TIME, BATCH, PRE, seed=seed + 1),
        draw(TIME, BATCH, POST, seed=seed + 2),
    )


def run(rule, signals, pre, post):
    rule = rule.double()
    states = [rule.init(BATCH, POST, PRE)]
    for signal, x, y in zip(signals, pre, post, strict=True):
        states.append(rule.update(states[-1], x, y, signal))
    return states


def test_with_a_rate_of_one_and_the_trace_first_it_is_simple_modulation():
    retroactive = run(Retroactive(1.0, trace_first=True), *activity())
    simple = run(Modulated(), *activity())
    for state, expected in zip(retroactive, simple, strict=True):
        torch.testing.assert_close(state.trace, expected.trace)


def test_with_a_rate_of_one_it_is_simple_modulation_of_the_step_before():
    signals, pre, post = activity()
    state = run(Retroactive(1.0), signals, pre, post)[-1]
    expected = run(Modulated(), signals[1:], pre[:-1], post[:-1])[-1]
    torch.testing.assert_close(state.trace, expected.trace)


@pytest.mark.parametrize("when", range(TIME))
def test_a_single_signal_makes_the_eligibility_of_the_step_before_permanent(when):
    signals, pre, post = activity()
    signals = torch.zeros_like(signals).index_fill(0, torch.tensor(when), 5.0)
    states = run(Retroactive(0.3), signals, pre, post)
    torch.testing.assert_close(states[-1].trace, (5 * states[when].eligibility).clamp(-1, 1))


@given(eta=st.floats(0, 1), seed=st.integers(0, 99))
def test_without_a_bound_every_product_counts_by_the_signals_that_follow_it(eta, seed):
    signals, pre, post = activity(seed)
    states = run(Retroactive(eta, clip=None, dtype=torch.float64), signals, pre, post)
    expected = torch.zeros(BATCH, POST, PRE).double()
    for s in range(TIME):
        credit = sum((1 - eta) ** (t - 1 - s) * signals[t] for t in range(s + 1, TIME)) if s + 1 < TIME else 0
        expected += eta * torch.einsum("bj,bi->bji", credit * post[s], pre[s])
    torch.testing.assert_close(states[-1].trace, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("trace_first", [False, True])
def test_only_the_hebbian_trace_is_bounded(trace_first):
    signals, pre, post = activity()
    states = run(Retroactive(1.0, trace_first=trace_first), 5 * signals, 3 * pre, 3 * post)
    assert all(state.trace.abs().max() <= 1 for state in states)
    assert states[-1].trace.abs().max() == 1
    assert states[-1].eligibility.abs().max() > 1


@pytest.mark.parametrize("mode", ["clip", "soft"])
@pytest.mark.parametrize("trace_first", [False, True])
def test_only_the_second_half_of_the_units_is_modulated(mode, trace_first):
    signals, pre, post = activity()
    options = {"mode": mode, "trace_first": trace_first}
    half = run(Retroactive(0.3, 0.8, only_half=True, hebb_eta=0.2, **options), signals, pre, post)[-1]
    whole = run(Retroactive(0.3, 0.8, **options), signals, pre, post)[-1]
    clipped = ClippedHebb(0.2, 0.8).double()
    state = clipped.init(BATCH, POST, PRE)
    for x, y in zip(pre, post, strict=True):
        state = clipped.update(state, x, y)
    torch.testing.assert_close(half.trace, torch.cat((state.trace[:, :2], whole.trace[:, 2:]), dim=1))


@pytest.mark.parametrize("trace_first", [False, True])
def test_the_soft_bound_is_the_published_one_in_two_branches(trace_first):
    signals, pre, post = activity()
    states = run(Retroactive(0.6, 0.99999, mode="soft", trace_first=trace_first), 3 * signals, pre, post)
    for signal, before, after in zip(signals, states, states[1:], strict=False):
        increment = 3 * signal[:, :, None] * (after if trace_first else before).eligibility
        trace = before.trace
        two_branches = trace + increment.clamp(min=0) * (1 - trace) + increment.clamp(max=0) * (1 + trace)
        torch.testing.assert_close(after.trace, two_branches.clamp(-0.99999, 0.99999))
    assert states[-1].trace.abs().max() == 0.99999


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="mode = 'decay': expected one of 'clip', 'soft'"):
        Retroactive(mode="decay")


def test_both_traces_can_be_cut_from_the_graph():
    rule = Retroactive(0.3)
    state = rule.update(rule.init(1, 2, 2), torch.ones(1, 2), torch.ones(1, 2), torch.ones(1, 1))
    assert state.eligibility.requires_grad
    assert not any(t.requires_grad for t in state.detach())


def test_repr_names_the_arguments():
    shown = repr(Retroactive(trace_first=True))
    assert shown == "Retroactive(eta=0.01, clip=1.0, mode='clip', trace_first=True, only_half=False)"
