import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engram.plasticity import ClippedHebb, Modulated, TraceState


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def run(rule, signals, pre, post, trace):
    state = TraceState(trace)
    for signal, x, y in zip(signals, pre, post, strict=True):
        state = rule.update(state, x, y, signal)
    return state.trace


@pytest.mark.parametrize("signals", [1, 4])
def test_a_constant_signal_is_a_plasticity_rate(signals):
    eta, pre, post, trace = 0.3, draw(6, 2, 3), draw(6, 2, 4, seed=1), 0.1 * draw(2, 4, 3, seed=2)
    modulated = run(Modulated(), torch.full((6, 2, signals), eta), pre.float(), post.float(), trace.float())
    rule, state = ClippedHebb(eta), TraceState(trace.float())
    for x, y in zip(pre.float(), post.float(), strict=True):
        state = rule.update(state, x, y)
    assert torch.equal(modulated, state.trace)


@pytest.mark.parametrize("mode", ["clip", "soft", "decay"])
def test_without_a_signal_nothing_changes(mode):
    rule, trace = Modulated(mode=mode), 0.1 * draw(2, 4, 3, seed=2).float()
    assert torch.equal(run(rule, torch.zeros(6, 2, 1), draw(6, 2, 3).float(), draw(6, 2, 4).float(), trace), trace)


def test_a_signal_of_one_without_a_bound_gives_the_sum_of_the_products():
    pre, post = draw(6, 2, 3), draw(6, 2, 4, seed=1)
    trace = run(Modulated(clip=None), torch.ones(6, 2, 1).double(), pre, post, torch.zeros(2, 4, 3).double())
    torch.testing.assert_close(trace, torch.einsum("tbj,tbi->bji", post, pre))


@pytest.mark.parametrize("mode", ["clip", "soft"])
@given(clip=st.floats(0.1, 3), scale=st.floats(0, 5), steps=st.integers(0, 20), seed=st.integers(0, 99))
def test_the_trace_never_leaves_its_bounds(mode, clip, scale, steps, seed):
    trace = torch.zeros(2, 4, 3).double()
    signals, pre, post = (scale * draw(steps, 2, size, seed=seed + size) for size in (1, 3, 4))
    assert run(Modulated(clip, mode), signals, pre, post, trace).abs().max() <= clip


@given(seed=st.integers(0, 99))
def test_the_soft_rule_is_the_published_one_in_two_branches(seed):
    trace, pre, post, signal = (
        s * draw(*n, seed=seed) for s, n in ((0.9, (2, 4, 3)), (1, (2, 3)), (1, (2, 4)), (1, (2, 4)))
    )
    increment = (signal * post)[:, :, None] * pre[:, None, :]
    two_branches = trace + increment.clamp(min=0) * (1 - trace) + increment.clamp(max=0) * (1 + trace)
    rule = Modulated(mode="soft", dtype=torch.float64)
    updated = rule.update(TraceState(trace), pre, post, signal).trace
    torch.testing.assert_close(updated, two_branches.clamp(-1, 1))


@given(start=st.floats(-0.999, 0.999), increments=st.lists(st.floats(-1, 1), max_size=20))
def test_the_soft_rule_stays_within_one_by_itself(start, increments):
    one = torch.ones(1, 1).double()
    signals = torch.tensor(increments).double().view(-1, 1, 1)
    ones = one.expand(len(increments), 1, 1)
    trace = run(Modulated(None, "soft"), signals, ones, ones, torch.full((1, 1, 1), start).double())
    assert trace.abs() <= 1
    if all(abs(increment) <= 0.999 for increment in increments):  # nearer to 1, the sum rounds to 1
        assert trace.abs() < 1


def test_the_decaying_rule_forgets_as_much_as_it_learns():
    pre, post, trace = draw(1, 2, 3), draw(1, 2, 4, seed=1), draw(2, 4, 3, seed=2)
    product = post[0][:, :, None] * pre[0][:, None, :]
    for signal, share in ((0.25, 0.25), (1.0, 1.0), (1.5, 1.0), (-0.5, 0.0)):
        updated = run(Modulated(None, "decay"), torch.full((1, 2, 1), signal).double(), pre, post, trace)
        torch.testing.assert_close(updated, (1 - share) * trace + share * product)


@pytest.mark.parametrize("signal", [-0.1, 1.1, float("nan")])
def test_a_strict_decaying_rule_refuses_a_signal_outside_the_unit_interval(signal):
    rule = Modulated(mode="decay", strict=True)
    arguments = [rule.init(1, 1, 1), torch.ones(1, 1), torch.ones(1, 1)]
    rule.update(*arguments, torch.ones(1, 1))
    with pytest.raises(ValueError, match=r"modulator is between .*: expected within \[0, 1\] in mode 'decay'"):
        rule.update(*arguments, torch.full((1, 1), signal))


def test_as_many_units_as_episodes_are_no_reason_to_mix_them_up():
    # A signal per episode that is taken for one per unit gives no error where there are as many of both.
    rule, signal = Modulated(clip=None), torch.tensor([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"modulator.shape = \(3,\): expected \(3, 1\), \(3, 3\) or \(3, 3, 2\)"):
        rule.update(rule.init(3, 3, 2), torch.ones(3, 2), torch.ones(3, 3), signal)
    state = rule.update(rule.init(3, 3, 2), torch.ones(3, 2), torch.ones(3, 3), signal.unsqueeze(1))
    assert torch.equal(state.trace[:, 0, 0], signal)
    state = rule.update(rule.init(1, 3, 2), torch.ones(1, 2), torch.ones(1, 3), signal.unsqueeze(0))
    assert torch.equal(state.trace[0, :, 0], signal)


@pytest.mark.parametrize(
    "rule", [*(Modulated(0.3, mode) for mode in ("clip", "soft", "decay")), Modulated(only_half=True)], ids=repr
)
def test_a_signal_for_every_connection_is_that_of_its_unit_where_all_of_a_unit_are_alike(rule):
    # As many sending as receiving units: the axes could be mixed up.
    pre, post, trace = draw(6, 2, 4), draw(6, 2, 4, seed=1), 0.1 * draw(2, 4, 4, seed=2)
    signals = draw(6, 2, 4, seed=3)
    each = signals.unsqueeze(3).expand(6, 2, 4, 4)
    torch.testing.assert_close(run(rule, each, pre, post, trace), run(rule, signals, pre, post, trace))
    single = 0 * each
    single[:, :, 0, 2] = 1.0
    changed = run(Modulated(None), single, pre, post, trace) - trace
    assert changed.nonzero()[:, 1:].unique(dim=0).tolist() == [[0, 2]]
    torch.testing.assert_close(changed[:, 0, 2], (post[..., 0] * pre[..., 2]).sum(0))


def test_only_the_first_half_of_the_units_is_modulated():
    rule, clipped = Modulated(0.8, only_half=True, hebb_eta=0.3).double(), ClippedHebb(0.3, 0.8).double()
    pre, post, trace = draw(6, 2, 3), draw(6, 2, 5, seed=1), 0.1 * draw(2, 5, 3, seed=2)
    for signals in (draw(6, 2, 1, seed=3), draw(6, 2, 5, seed=3)):
        half = run(rule, signals, pre, post, trace)
        whole = run(Modulated(0.8), signals, pre, post, trace)
        state = TraceState(trace)
        for x, y in zip(pre, post, strict=True):
            state = clipped.update(state, x, y)
        torch.testing.assert_close(half, torch.cat((whole[:, :2], state.trace[:, 2:]), dim=1))
    assert [name for name, _ in rule.named_parameters()] == ["hebb_eta"]
    single = run(rule, draw(6, 2, 1), pre, post[..., :1], trace[:, :1])  # floor(1 / 2) units are modulated
    torch.testing.assert_close(single, run(rule, 0 * draw(6, 2, 1), pre, post[..., :1], trace[:, :1]))


BAD = {
    "half": (lambda: Modulated(mode="soft", only_half=True), "only_half = True: expected False in mode 'soft'"),
    "hebb_eta": (lambda: Modulated(only_half=True, hebb_eta=float("nan")), "eta = nan: expected a finite number"),
    "mode": (lambda: Modulated(mode="hard"), "mode = 'hard': expected one of 'clip', 'soft', 'decay'"),
    "clip": (lambda: Modulated(clip=-1.0), "clip = -1.0: expected a number above 0"),
    "signal": (lambda: Modulated().coefficients(torch.ones(1, 1)), "modulator = None"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_rule_without_parameters_can_be_moved_and_cast():
    rule = Modulated().to(torch.float64)
    assert rule.init(2, 3, 4).trace.dtype == torch.float64
    assert rule.to("meta").init(2, 3, 4).trace.is_meta
    assert not list(rule.parameters())
    assert not rule.state_dict()


def test_repr_names_the_arguments():
    assert repr(Modulated(mode="soft")) == "Modulated(clip=1.0, mode='soft', strict=False, only_half=False)"
