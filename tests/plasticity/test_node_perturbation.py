import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.plasticity import NodePerturbationRNN, Trials, lifetimes, three_factor
from engram.plasticity.node_perturbation import ANSWERS, CONSTANT, COPY, MODULATORS, OUTCOME

WINDOWS = {"response": (25, 35), "decision": 36, "feedback": (36, 46)}
AND = torch.tensor([0, 0, 0, 1])
DMS = torch.tensor([1, 0, 0, 1])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network(units=20, seed=0, **options):
    return NodePerturbationRNN(units, generator=seeded(seed), **options)


def dead(units=20, **options):
    net = network(units, **options)
    with torch.no_grad():
        net.weight.zero_()
        net.alpha.zero_()
    return net


def trials(batch, count, table=DMS, seed=0, **windows):
    inputs = torch.zeros(4, 50, 2)
    for kind in range(4):
        for bit, window in ((kind // 2, slice(0, 8)), (kind % 2, slice(10, 18))):
            inputs[kind, window] = torch.tensor([3.0, -3.0]) * (2 * bit - 1)
    kind = torch.randint(4, (batch, count), generator=seeded(seed))
    return Trials(inputs, kind, table[kind], **{**WINDOWS, **windows})


def altered(**fields):
    return trials(2, 40)._replace(**fields)


def silence(batch):
    return torch.zeros(batch, 2)


# A dead network: closed forms.


def test_without_weights_x_decays_from_its_start():
    net = dead()
    state = net.init(2)
    for step in range(1, 40):
        state = net.step(state, net.clamped(silence(2)))
        torch.testing.assert_close(state.hidden[:, 5:], torch.full((2, 15), 0.1 * 0.8**step), rtol=1e-5, atol=0)
        assert not state.hidden[:, :5].any()


@pytest.mark.parametrize("backend", ["eager", "fused"])
def test_without_weights_or_noise_every_answer_is_0_and_the_loss_is_known(backend):
    net = dead(perturbation_prob=0.0, eta=0.0)
    seen = trials(30, 40, AND)
    lives = lifetimes(net, seen, seeded(), backend=backend)
    assert torch.equal(lives.correct, seen.answer == 0), "a tie goes to 0"
    assert lives.correct.float().mean() == pytest.approx(0.75, abs=0.04)
    x = 0.1 * 0.8 ** np.arange(26, 36)
    first = np.mean(0.32 + 2 * (1 / (1 + np.exp(-x)) - 0.5) ** 2)
    torch.testing.assert_close(lives.loss[:, 0], torch.full((30,), first, dtype=torch.float32), rtol=0, atol=1e-6)
    torch.testing.assert_close(lives.loss, torch.full((30, 40), 0.32), rtol=0, atol=1e-6)
    assert not lives.trace.any()


# The eligibility trace.


def test_a_single_perturbation_leaves_a_trace_that_decays():
    net, unit, size, at = network(), 9, 0.37, 11
    state = net.init(1)
    for step in range(36 + 1):
        before = state.activity
        xi = torch.zeros(1, 20)
        if step == at:
            xi[0, unit] = size
            sender = before[0]
        state = net.step(state, net.clamped(torch.tensor([[3.0, -3.0]])), xi)
    torch.testing.assert_close(state.eligibility[0, unit], size * sender * 0.98 ** (37 - at))
    others = [row for row in range(20) if row != unit]
    assert not state.eligibility[0, others].any()


def test_the_trace_crosses_a_trial_by_the_known_factor():
    net = network()
    state = net.init(1)._replace(eligibility=torch.ones(1, 20, 20))
    for _ in range(50):
        state = net.step(state, net.clamped(silence(1)))
    torch.testing.assert_close(state.eligibility, torch.full((1, 20, 20), 0.98**50))
    assert pytest.approx(0.3642, abs=5e-5) == 0.98**50


def test_a_step_changes_nothing_in_place():
    net = network()
    state = net.init(2)
    before = [part.clone() for part in state]
    net.step(state, net.clamped(silence(2)), torch.ones(2, 20), answering=True)
    net.consolidate(state, torch.ones(2), torch.tensor([0, 3]))
    assert all(torch.equal(one, other) for one, other in zip(before, state, strict=True))


# The three-factor update.


@pytest.mark.parametrize(
    ("eligibility", "loss", "change"),
    [(1.0, 0.5, -0.0018), (1.0, 0.1, 0.0018), (100.0, 0.5, -0.01), (100.0, 0.1, 0.01), (1.0, 0.3, 0.0)],
)
def test_what_a_surprise_changes(eligibility, loss, change):
    net = network()
    state = net.init(1)._replace(
        eligibility=torch.full((1, 20, 20), eligibility), baseline=torch.tensor([[0.9, 0.3, 0.9, 0.9]])
    )
    after = net.consolidate(state, torch.tensor([loss]), torch.tensor([1]))
    torch.testing.assert_close(after.trace, torch.full((1, 20, 20), change), rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(after.baseline, torch.tensor([[0.9, 0.27 + 0.1 * loss, 0.9, 0.9]]))


def test_the_third_factor_alone():
    eligibility = torch.randn(3, 4, 5, generator=seeded())
    modulator = torch.tensor([1.0, -2.0, 0.0])
    torch.testing.assert_close(three_factor(eligibility, modulator), eligibility * modulator[:, None, None])
    assert three_factor(eligibility, modulator, clip=0.1).abs().max() == pytest.approx(0.1)
    for clip in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="clip"):
            three_factor(eligibility, modulator, clip)


def test_the_running_mean_is_unbiased_if_so_asked():
    state, losses = network().init(1), [0.5, 0.2, 0.4]
    plain, fair = network(debias=False), network(debias=True)
    for number, loss in enumerate(losses):
        for net in (plain, fair):
            eligible = state._replace(eligibility=torch.ones(1, 20, 20), trace=torch.zeros(1, 20, 20))
            change = net.consolidate(eligible, torch.tensor([loss]), torch.tensor([2])).trace[0, 0, 0]
            weights = 0.1 * 0.9 ** np.arange(number)[::-1]
            mean = float(weights @ losses[:number])
            expected = mean / (1 - 0.9**number) if net is fair and number else mean
            assert float(change) == pytest.approx(-0.03 * expected * (loss - expected), abs=1e-8)
        state = plain.consolidate(state, torch.tensor([loss]), torch.tensor([2]))


def test_there_are_369_updates_in_a_life_and_none_before_trial_31(monkeypatch):
    net = network(12)
    consolidate, calls = net.consolidate, []

    def counted(state, loss, kind, *, plastic=True):
        calls.append(plastic)
        return consolidate(state, loss, kind, plastic=plastic)

    monkeypatch.setattr(net, "consolidate", counted)
    short = trials(1, 400, response=(1, 2), decision=2, feedback=(2, 3))
    lifetimes(net, short._replace(inputs=short.inputs[:, :4]), seeded(), backend="eager")
    assert calls == [False] * 31 + [True] * 369


@pytest.mark.parametrize("backend", ["eager", "fused"])
def test_the_first_trials_are_the_same_with_and_without_plasticity(backend):
    seen = trials(4, 60)
    losses = [lifetimes(network(eta=eta), seen, seeded(1), backend=backend).loss for eta in (0.0, 0.3)]
    assert torch.equal(losses[0][:, :32], losses[1][:, :32]), "the first change follows the answer of trial 31"
    assert not torch.equal(losses[0][:, 32:], losses[1][:, 32:])


def test_node_perturbation_estimates_the_gradient():
    """A single linear unit y = w.x with loss y^2/2: the mean change is parallel to minus the gradient."""
    generator = seeded()
    weight, x = torch.tensor([0.5, -1.0, 0.3]), torch.tensor([1.0, 0.4, -2.0])
    xi = 0.1 * torch.randn(100_000, generator=generator)
    loss = (weight @ x + xi).square() / 2
    eligibility = xi[:, None, None] * x[None, None, :]
    change = three_factor(eligibility, -(loss - loss.mean())).mean(0)[0]
    gradient = (weight @ x) * x
    assert torch.cosine_similarity(change, -gradient, dim=0) > 0.99


# Perturbations.


def test_perturbations_are_as_many_and_as_large_as_published():
    net = NodePerturbationRNN(generator=seeded())
    noise = net.perturbations(3, 400, 50, seeded())
    dense = noise.dense(0, 400 * 50, 70).reshape(3, 400, 50, 70)
    assert not dense[:, 381:].any(), "the last 19 trials are quiet"
    assert not dense[:, :, :2].any(), "and so are the first two steps of each"
    loud = dense[:, :381, 2:]
    each = (loud != 0).sum((2, 3)).double()
    assert each.mean() == pytest.approx(336, abs=3)
    assert each.var() == pytest.approx(336 * 0.9, rel=0.15), "independent, each with probability 0.1"
    assert loud.var() == pytest.approx(0.00833, rel=0.02)
    assert loud.abs().max() <= 0.5
    assert abs(loud.mean()) < 1e-3
    shares = (loud != 0).double().mean((0, 1))
    np.testing.assert_allclose(shares, 0.1, atol=0.05)


@given(st.floats(0, 1), st.integers(12, 30), st.integers(1, 30))
def test_perturbations_are_in_their_places(probability, units, count):
    net = NodePerturbationRNN(units, perturbation_prob=probability, generator=seeded())
    noise = net.perturbations(2, count, 10, seeded())
    whole = noise.dense(0, count * 10, units)
    assert int((whole != 0).sum()) == len(noise.size)
    parts = [noise.dense(start, start + 10, units) for start in range(0, count * 10, 10)]
    assert torch.equal(torch.cat(parts, 1), whole)
    assert noise.first[0, 0] == 0
    assert noise.first[-1, -1] == len(noise.size)
    if probability in (0, 1):
        assert len(noise.size) == probability * 2 * max(count - 19, 0) * 8 * units


def test_pairs_without_mutations_live_bit_for_bit_alike():
    net = network(30)
    seen = trials(4, 60)
    pairs = seen._replace(kind=seen.kind.repeat(2, 1), answer=seen.answer.repeat(2, 1))
    weight, alpha = (p.detach().expand(8, 30, 30) for p in (net.weight, net.alpha))
    for backend in ("eager", "fused"):
        loss = lifetimes(net, pairs, seeded(), weight=weight, alpha=alpha, backend=backend).loss
        assert torch.equal(loss[:4], loss[4:])


@pytest.mark.parametrize("backend", ["eager", "fused"])
def test_a_genome_that_is_not_given_is_the_networks(backend):
    net, pair = network(), trials(2, 40)
    weight, alpha = (
        torch.stack([net.weight, net.weight / 2]).detach(),
        net.alpha.detach().expand(2, -1, -1).contiguous(),
    )
    lives = lifetimes(net, pair, seeded(), weight=weight, backend=backend)
    assert torch.equal(lives.loss, lifetimes(net, pair, seeded(), weight=weight, alpha=alpha, backend=backend).loss)


def test_noise_is_shared_or_each_individual_has_its_own():
    net = network(30)
    seen = trials(1, 40)
    same = seen._replace(kind=seen.kind.expand(70, -1), answer=seen.answer.expand(70, -1))
    shared, own = (lifetimes(net, same, seeded(), shared_noise=shared).loss for shared in (True, False))
    assert torch.equal(shared, shared[:1].expand(70, -1))
    assert len({float(loss) for loss in own[:, 20]}) == 70, "also across the groups in which they are drawn"


# The two ways to live.


@pytest.mark.parametrize("units", [12, 21, 70])
@pytest.mark.parametrize("options", [{}, {"feedback": "binary", "debias": True, "dt": 25.0, "tau_e": 400.0}])
def test_the_kernel_equals_the_definition(units, options):
    net = network(units, first_plastic_trial=1, eta=0.3, **options)
    weight = net.weight.detach() + 0.03 * torch.randn(5, units, units, generator=seeded(1))
    alpha = net.alpha.detach() + 0.03 * torch.randn(5, units, units, generator=seeded(2))
    seen = trials(5, 24)
    lives = {
        backend: lifetimes(net, seen, seeded(3), weight=weight, alpha=alpha, record=(2, 20), backend=backend)
        for backend in ("eager", "fused")
    }
    expected = lives["eager"]
    assert expected.trace.abs().max() > 1e-4, "something was learned"
    fused = lives["fused"]
    torch.testing.assert_close(fused.loss[:, :3], expected.loss[:, :3], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(fused.recorded[:, 0], expected.recorded[:, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fused.loss, expected.loss, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(fused.trace, expected.trace, rtol=1e-2, atol=1e-5)


def test_the_kernel_agrees_with_torch_over_a_hundred_trials():
    net = NodePerturbationRNN(generator=seeded())
    seen = trials(3, 120)
    losses = [lifetimes(net, seen, seeded(1), backend=backend).loss[:, :100] for backend in ("fused", "eager")]
    torch.testing.assert_close(*losses, rtol=0, atol=1e-5)


def test_a_shuffled_trace_is_another_in_the_same_way():
    net = network(15, first_plastic_trial=1, eta=0.3)
    source_of = torch.randperm(15, generator=seeded(4))
    seen = trials(2, 24)
    shuffled, expected = (
        lifetimes(net, seen, seeded(), source_of=source_of, backend=backend).trace for backend in ("fused", "eager")
    )
    torch.testing.assert_close(shuffled, expected, rtol=1e-2, atol=1e-5)
    own = lifetimes(net, seen, seeded(), backend="fused").trace
    same = lifetimes(net, seen, seeded(), source_of=torch.arange(15), backend="fused").trace
    assert torch.equal(own, same)
    assert not torch.allclose(own, shuffled, atol=1e-4)
    with pytest.raises(ValueError, match="expected each unit from 0 to 14 once"):
        lifetimes(net, seen, seeded(), source_of=torch.zeros(15, dtype=torch.long))


def test_no_bit_depends_on_the_number_of_threads():
    net = network(30)
    seen = trials(9, 50)
    lives = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        lives.append(lifetimes(net, seen, seeded(), backend="fused"))
    torch.set_num_threads(1)
    for life in lives[1:]:
        assert torch.equal(life.loss, lives[0].loss)
        assert torch.equal(life.trace, lives[0].trace)


@settings(max_examples=20)
@given(st.integers(12, 40), st.integers(0, 1000))
def test_any_network_lives_finite_lives_of_bounded_changes(units, seed):
    net = network(units, seed, first_plastic_trial=1)
    lives = lifetimes(net, trials(2, 30, seed=seed), seeded(seed))
    assert lives.loss.isfinite().all()
    assert (lives.loss >= 0).all()
    assert (lives.loss <= 2 * 0.9**2).all()
    assert lives.trace.abs().max() <= 29 * 0.01 + 1e-6


def test_what_is_clamped_when():
    net = network(20)
    seen = trials(6, 40)
    lives = lifetimes(net, seen, seeded(), record=(5,))
    recorded, kind = lives.recorded[:, 0], seen.kind[:, 5]
    assert torch.equal(recorded[:, :, :2], seen.inputs[kind])
    fed = recorded[:, 36:46]
    shown = 3 * lives.loss[:, 5]
    torch.testing.assert_close(fed[:, :, OUTCOME], shown[:, None, None].expand(6, 10, 2))
    said = torch.where(lives.correct[:, 5], seen.answer[:, 5], 1 - seen.answer[:, 5])
    assert torch.equal(fed[:, 0, COPY], 3 * torch.nn.functional.one_hot(said, 2).float())
    rest = torch.ones(50, dtype=torch.bool)
    rest[36:46] = False
    assert not recorded[:, rest][:, :, OUTCOME].any()
    assert not recorded[:, rest][:, :, COPY].any()
    assert (recorded[:, :, CONSTANT] == 1).all()
    heard = torch.zeros(50, dtype=torch.bool)
    heard[25:35] = True
    assert (recorded[:, heard][:, :, ANSWERS] > 0).all()
    assert not recorded[:, ~heard][:, :, ANSWERS].any()


def test_binary_feedback():
    lives = lifetimes(network(20, feedback="binary"), trials(6, 40), seeded(), record=(5,))
    sign = torch.where(lives.correct[:, 5], 3.0, -3.0)
    assert torch.equal(lives.recorded[:, 0, 40, 2], sign)


# The other rules.


def test_the_cubic_rule_is_reset_and_cubes_each_coincidence():
    net = network(12, hebbian="cubic")
    state = net.init(1)._replace(activity=torch.rand(1, 12, generator=seeded()))
    after = net.step(state, net.clamped(silence(1)))
    expected = ((after.hidden - state.mean)[:, :, None] * state.activity[:, None, :]) ** 3
    torch.testing.assert_close(after.eligibility, expected)
    torch.testing.assert_close(after.mean, 0.75 * state.mean + 0.25 * after.hidden)
    lives = lifetimes(net, trials(2, 40), seeded())
    assert lives.loss.isfinite().all()
    assert lives.trace.any()


def test_internal_modulation_changes_weights_at_every_step_and_has_a_price():
    net = network(12, modulation="internal")
    state = net.init(1)._replace(eligibility=torch.ones(1, 12, 12))
    activity = state.activity.clone()
    activity[:, MODULATORS] = torch.tensor([0.9, 0.4])
    after = net.modulated(state._replace(activity=activity))
    torch.testing.assert_close(after.trace, torch.full((1, 12, 12), 3e-4 * 0.5))
    with torch.no_grad():
        net.weight[MODULATORS] = torch.randn(2, 12, generator=seeded())
    lives = lifetimes(net, trials(2, 40), seeded())
    assert lives.trace.any()
    assert (lives.penalty > 0).all()
    assert not lifetimes(network(12), trials(2, 40), seeded()).penalty.any()


def test_the_initial_genome():
    net = NodePerturbationRNN(generator=seeded())
    silent = [0, 1, 2, 3, 4, 66, 67]
    assert not net.weight[silent].any()
    others = [row for row in range(70) if row not in silent]
    assert float(net.weight[others].detach().std()) == pytest.approx(1.5 / math.sqrt(70), rel=0.05)
    assert (net.alpha == 0.5).all()
    assert not NodePerturbationRNN(weight_scale=-1.0).weight.any(), "no gain: a dead network"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": 11}, "units = 11: expected at least 12"),
        ({"dt": 0.0}, "dt = 0.0"),
        ({"dt": 200.0}, "dt = 200.0: expected a positive number, at most tau = 100.0"),
        ({"perturbation_prob": 1.5}, "perturbation_prob = 1.5"),
        ({"eta": math.nan}, "eta = nan"),
        ({"clip": 0.0}, "clip = 0.0"),
        ({"decay": 1.0}, "decay = 1.0"),
        ({"first_plastic_trial": -1}, "first_plastic_trial = -1"),
    ],
)
def test_bad_arguments_of_the_network_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        NodePerturbationRNN(**options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net: lifetimes(net, trials(1, 32), seeded()), "32 trials: expected at least 33"),
        (lambda net: lifetimes(net, trials(2, 40), seeded(), weight=torch.zeros(3, 20, 20)), r"weight.shape = \(3, 20"),
        (lambda net: lifetimes(net, trials(2, 40), seeded(), record=(40,)), r"record = \(40,\)"),
        (lambda net: lifetimes(net, trials(2, 40), seeded(), record=(3, 3)), r"record = \(3, 3\): expected each"),
        (lambda net: lifetimes(net, trials(2, 40, response=(30, 37)), seeded()), "response = .*before the decision"),
        (lambda net: lifetimes(net, trials(2, 40, feedback=(30, 37)), seeded()), "feedback"),
        (lambda net: lifetimes(net, trials(2, 40, table=DMS + 1), seeded()), "trials.answer: .* from 0 to 1"),
        (lambda net: lifetimes(net, altered(inputs=torch.zeros(4, 50, 1)), seeded()), r"inputs.shape = \(4, 50, 1\)"),
        (lambda net: lifetimes(net, altered(inputs=torch.zeros(4, 50, 3)), seeded()), r"inputs.shape = \(4, 50, 3\)"),
        (lambda net: lifetimes(net, altered(kind=torch.zeros(40)), seeded()), r"trials.kind.shape = \(40,\)"),
        (lambda net: lifetimes(net, altered(kind=torch.full((2, 40), 0.5)), seeded()), "kind.dtype = .*integers"),
        (lambda net: lifetimes(net, altered(answer=torch.full((2, 40), 0.5)), seeded()), "answer.dtype = .*integers"),
        (lambda net: lifetimes(net, trials(0, 40), seeded()), r"kind.shape = \(0, 40\): expected at least one"),
        (lambda net: lifetimes(net, trials(2, 0), seeded()), "0 trials: expected at least 33"),
        (
            lambda net: lifetimes(net, trials(2, 40), seeded(), alpha=net.alpha[None].double()),
            "alpha.dtype = .*float64",
        ),
        (
            lambda net: lifetimes(net.double(), trials(2, 40), seeded(), backend="fused"),
            "float64: expected torch.float32",
        ),
        (lambda _: lifetimes(network(hebbian="cubic"), trials(2, 40), seeded(), backend="fused"), "'cubic'"),
        (
            lambda _: lifetimes(network(modulation="internal"), trials(2, 40), seeded(), backend="fused"),
            "'internal'",
        ),
    ],
)
def test_lives_that_cannot_be_lived_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(network())


@pytest.mark.parametrize("backend", ["eager", "fused"])
def test_an_individual_that_diverges_is_named(backend):
    net = network()
    weight = net.weight.detach().repeat(3, 1, 1)
    weight[1, 10, 10] = math.nan
    alpha = net.alpha.detach().repeat(3, 1, 1)
    with pytest.raises(FloatingPointError, match="individual 1 diverged"):
        lifetimes(net, trials(3, 40), seeded(), weight=weight, alpha=alpha, backend=backend)


@pytest.mark.parametrize("tau_e", [20.0, 21.0])
def test_the_kernel_equals_the_definition_for_a_trace_that_is_soon_forgotten(tau_e):
    net, lives = network(tau_e=tau_e, first_plastic_trial=1, eta=30.0), trials(2, 22)
    lives = lives._replace(kind=torch.zeros_like(lives.kind))
    eager, fused = (lifetimes(net, lives, seeded(1), backend=backend) for backend in ("eager", "fused"))
    assert eager.trace.any() == (tau_e > 20)  # the duration of a step
    torch.testing.assert_close(fused.trace, eager.trace, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(fused.loss, eager.loss, rtol=1e-3, atol=1e-5)
