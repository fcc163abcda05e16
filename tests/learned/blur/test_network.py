import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from engram.learned.blur import BlurNetwork, BlurState, Genome
from engram.rules import FeedbackAlignment

double = torch.float64
SATURATIONS = ("oja", "norm", "exp", "tanh", None)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=double)


def random_genome(states=2, seed=0):
    return Genome.random(states, seeded(seed), dtype=double)


def labels(batch, outputs, seed=5):
    classes = torch.randint(outputs, (batch,), generator=seeded(seed))
    return classes, 2 * torch.nn.functional.one_hot(classes, outputs).to(double) - 1


def module_of(state, activation):
    layers = []
    for weight in state.W:
        linear = nn.Linear(weight.shape[-1] - 1, weight.shape[-2], dtype=double)
        linear.load_state_dict({"weight": weight[0, :, :-1], "bias": weight[0, :, -1]})
        layers += [linear, activation]
    return nn.Sequential(*layers[:-1])


def parameters_of(module):
    return [torch.cat([layer.weight, layer.bias[:, None]], 1) for layer in module if isinstance(layer, nn.Linear)]


@pytest.mark.parametrize(
    ("name", "activation"),
    [("sigmoid", nn.Sigmoid()), ("tanh", nn.Tanh()), ("relu", nn.ReLU()), ("identity", nn.Identity()),
     ("relu_tanh", nn.Sequential(nn.Tanh(), nn.ReLU()))],
)  # fmt: skip
def test_the_genome_of_backpropagation_is_gradient_descent(name, activation):
    network = BlurNetwork.backprop((5, 7, 6, 3), activation=name, synapse_std=0.5)
    state = network.init(seeded(), dtype=double)
    module = module_of(state, activation)
    sgd = torch.optim.SGD(module.parameters(), lr=0.3)
    genome = Genome.backprop(0.3, dtype=double)
    for step in range(20):
        x, (classes, y) = drawn(11, 5, seed=step), labels(11, 3, seed=step)
        state = network.step(genome, state, x, y)
        sgd.zero_grad()
        cross_entropy(module(x), classes).backward()
        sgd.step()
        for weight, expected in zip(state.W, parameters_of(module), strict=True):
            torch.testing.assert_close(weight[0], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(network.forward(genome, state, x), module(x), rtol=0, atol=1e-12)


def test_the_example_by_hand():
    network = BlurNetwork.backprop((1, 1, 1), feedback="squared_error")
    W = tuple(torch.tensor([[[weight, 0.0]]], dtype=double) for weight in (0.5, 2.0))
    x = y = torch.ones(1, 1, dtype=double)
    genome = Genome.backprop(1.0, dtype=double)
    assert network.forward(genome, BlurState(W, ()), x).item() == pytest.approx(0.92423431, abs=1e-8)
    new = network.step(genome, BlurState(W, ()), x, y)
    assert (W[0] - new.W[0])[0, 0, 0].item() == pytest.approx(-0.11917151, abs=1e-8)
    assert (W[1] - new.W[1])[0, 0, 0].item() == pytest.approx(-0.03501262, abs=1e-8)


def test_a_fixed_way_back_is_feedback_alignment():
    network = BlurNetwork.backprop((5, 7, 6, 3), backward="fixed", synapse_std=0.5)
    state, (x, (classes, y)) = network.init(seeded(), dtype=double), (drawn(11, 5), labels(11, 3))
    new = network.step(Genome.backprop(0.3, dtype=double), state, x, y)
    layers = [torch.nn.Linear(weight.shape[-1] - 1, weight.shape[-2]).double() for weight in state.W]
    for layer, weight in zip(layers, state.W, strict=True):
        layer.weight.data, layer.bias.data = weight[0, :, :-1].clone(), weight[0, :, -1].clone()
    net = torch.nn.Sequential(layers[0], torch.nn.Tanh(), layers[1], torch.nn.Tanh(), layers[2])
    feedback = {f"{place}.weight": way[0].T for place, way in zip((2, 4), state.V[1:], strict=True)}
    grads = FeedbackAlignment().update(net, x, classes, feedback).grads
    for place, before, after in zip((0, 2, 4), state.W, new.W, strict=True):
        gradient = torch.cat([grads[f"{place}.weight"], grads[f"{place}.bias"][:, None]], dim=1)
        torch.testing.assert_close(after[0], before[0] - 0.3 * gradient, rtol=0, atol=1e-12)
    assert all(torch.equal(before, after) for before, after in zip(state.V, new.V, strict=True))


def hebb(gain, oja=0.0, states=2):
    eye = torch.eye(states, dtype=double)
    return Genome(eye, eye, eye, eye, *eye.new_tensor([1.0, 1.0, 1.0, gain, 1.0, 0.0, oja]))


def test_one_layer_without_mixing_is_hebbian_on_prediction_and_label():
    network = BlurNetwork((4, 3), n_states=3, norm=None, saturation=None)
    state, x, (_, y) = network.init(seeded(), dtype=double), drawn(6, 4), labels(6, 3)
    (weight,), (new,) = state.W, network.step(hebb(0.2, states=3), state, x, y).W
    ones = torch.cat([x, torch.ones(6, 1, dtype=double)], 1)
    prediction = ones @ weight[0].T
    torch.testing.assert_close(new[0], weight[0] + 0.2 * prediction.T @ ones / 6)
    only_bias = torch.cat([torch.zeros_like(x), torch.ones(6, 1, dtype=double)], 1)  # of x, state 1 holds nothing
    torch.testing.assert_close(new[1], weight[1] + 0.2 * y.T @ only_bias / 6)
    assert torch.equal(new[2], weight[2])  # after the feedback, later states of the last layer are 0


def test_ojas_decay_is_that_of_the_equation():
    network = BlurNetwork((4, 3), norm=None)
    state, x, (_, y) = network.init(seeded(), dtype=double), drawn(6, 4), labels(6, 3)
    (weight,), (new,) = state.W, network.step(hebb(-0.2, 3.0), state, x, y).W
    (without,) = dataclasses.replace(network, saturation=None).step(hebb(-0.2, 3.0), state, x, y).W
    expected = torch.empty_like(weight)
    for c, j, i in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(5)).tolist():
        expected[c, j, i] = without[c, j, i] - 0.2 * 3.0 * weight[c, j, i] * (weight[c, j] ** 2).sum()
    torch.testing.assert_close(new, expected)


def test_other_saturations_are_those_of_their_equations():
    network = BlurNetwork((4, 3), norm=None, saturation=None, limit=0.5, synapse_std=1.0)
    state, x, (_, y) = network.init(seeded(), dtype=double), drawn(6, 4), labels(6, 3)
    genome = hebb(0.2)._replace(keep_s=torch.tensor(0.9, dtype=double))
    (weight,), (plain,) = state.W, network.step(genome, state, x, y).W
    (bounded,) = dataclasses.replace(network, saturation="tanh").step(genome, state, x, y).W
    torch.testing.assert_close(bounded, 0.5 * torch.tanh(2 * plain))
    (slowed,) = dataclasses.replace(network, saturation="exp").step(genome, state, x, y).W
    torch.testing.assert_close(slowed, weight + torch.exp(-0.5 * weight.abs()) * (plain - weight))
    ones = torch.cat([x, torch.ones(6, 1, dtype=double)], 1)
    normed = dataclasses.replace(network, saturation="norm").forward(genome, state, x)
    torch.testing.assert_close(normed, ones @ (weight[0] / weight[0].norm(dim=1, keepdim=True)).T)


def test_both_ways_of_an_independent_network_learn_by_the_same_rule():
    network = BlurNetwork((4, 3, 2), backward="independent", norm=None, saturation=None, backward_activation="identity")
    state, genome, x, (_, y) = network.init(seeded(), dtype=double), random_genome(), drawn(6, 4), labels(6, 2)
    new = network.step(genome, state, x, y)
    above = torch.stack([network.forward(genome, state, x), y])
    expected = torch.zeros_like(state.V[1])
    mixed = torch.einsum("dbj,dc->cbj", above, genome.mu)
    first = torch.einsum("dbi,dc->cbi", torch.nn.functional.pad(torch.stack([x, 0 * x]), (0, 1), value=1.0), genome.nu)
    hidden = (first @ state.W[0].mT).tanh() + mixed @ state.V[1].mT
    for c in range(2):
        pre, post = (above * genome.P[:, c, None, None]).sum(0), (hidden * genome.Q[c, :, None, None]).sum(0)
        expected[c] = state.V[1][c] + genome.gain_s * post.T @ pre / 6
    torch.testing.assert_close(new.V[1], expected)


@given(seed=st.integers(0, 20), saturation=st.sampled_from(SATURATIONS), norm=st.sampled_from(["batch", "layer", None]))
def test_members_of_a_population_do_not_know_of_each_other(seed, saturation, norm):
    network = BlurNetwork((3, 5, 4, 2), saturation=saturation, norm=norm, backward="independent")
    vectors = torch.stack([random_genome(seed=seed + place).to_vector() for place in range(3)])
    x, (_, y) = drawn(4, 7, 3, seed=seed), labels(7, 2)
    y = torch.stack([y.roll(place, 0) for place in range(4)])
    state = network.init(seeded(seed), (4,), double)
    crossed = Genome.from_vector(vectors[:, None])
    together = network.step(crossed, network.step(crossed, state, x, y), x, y)
    answers = network.forward(crossed, together, x)
    for member in range(3):
        genome = Genome.from_vector(vectors[member])
        for task in range(4):
            alone = BlurState(*(tuple(part[task] for part in parts) for parts in state))
            for _ in range(2):
                alone = network.step(genome, alone, x[task], y[task])
            for tensor, other in zip(sum(together, ()), sum(alone, ()), strict=True):
                torch.testing.assert_close(tensor[member, task], other)
            torch.testing.assert_close(answers[member, task], network.forward(genome, alone, x[task]))


def extended(genome):
    matrices = [torch.nn.functional.pad(matrix, (0, 1, 0, 1)) for matrix in genome[:4]]
    return Genome(*matrices, *genome[4:])


@given(seed=st.integers(0, 20), saturation=st.sampled_from(SATURATIONS))
def test_a_state_that_nothing_is_mixed_with_changes_nothing(seed, saturation):
    genome, x, (_, y) = random_genome(seed=seed), drawn(9, 3, seed=seed), labels(9, 2)
    small = BlurNetwork((3, 5, 2), saturation=saturation, activation="tanh", synapse_std=0.5)
    large = dataclasses.replace(small, n_states=3)
    state = small.init(seeded(), dtype=double)
    wider = BlurState(tuple(torch.cat([weight, drawn(1, *weight.shape[1:])]) for weight in state.W), ())
    for _ in range(3):
        state, wider = small.step(genome, state, x, y), large.step(extended(genome), wider, x, y)
    torch.testing.assert_close(small.forward(genome, state, x), large.forward(extended(genome), wider, x))
    for synapses, other in zip(state.W, wider.W, strict=True):
        torch.testing.assert_close(synapses, other[:2])


@given(seed=st.integers(0, 20))
def test_states_have_no_order_but_that_of_the_genome(seed):
    order = [0, 1, 3, 2]  # state 1 has the label
    genome, x, (_, y) = random_genome(4, seed), drawn(9, 3, seed=seed), labels(9, 2)
    permuted = Genome(*(matrix[order][:, order] for matrix in genome[:4]), *genome[4:])
    network = BlurNetwork((3, 5, 4, 2), n_states=4, synapse_std=0.5)
    state = network.init(seeded(), dtype=double)
    other = BlurState(tuple(weight[order] for weight in state.W), ())
    for _ in range(3):
        state, other = network.step(genome, state, x, y), network.step(permuted, other, x, y)
    torch.testing.assert_close(network.forward(genome, state, x), network.forward(permuted, other, x))
    for synapses, reordered in zip(state.W, other.W, strict=True):
        torch.testing.assert_close(synapses[order], reordered)


@given(
    seed=st.integers(0, 20),
    norm=st.sampled_from(["batch", "layer", None]),
    channels=st.sampled_from(["multi", "single"]),
)
def test_samples_that_are_shown_twice_change_nothing_and_their_order_neither(seed, norm, channels):
    network = BlurNetwork((3, 5, 2), norm=norm, channels=channels, backward="independent")
    genome, x, (_, y) = random_genome(seed=seed), drawn(9, 3, seed=seed), labels(9, 2)
    state = network.init(seeded(), dtype=double)
    once = network.step(genome, state, x, y)
    twice = network.step(genome, state, torch.cat([x, x.flip(0)]), torch.cat([y, y.flip(0)]))
    for tensor, other in zip(sum(once, ()), sum(twice, ()), strict=True):
        torch.testing.assert_close(tensor, other, rtol=1e-9, atol=1e-9)


def test_no_gain_leaves_the_synapses_as_they_are():
    genome = random_genome()._replace(gain_s=torch.tensor(0.0, dtype=double))
    network = BlurNetwork((3, 5, 2), backward="independent")
    state = network.init(seeded(), dtype=double)
    new = network.step(genome, state, drawn(9, 3), labels(9, 2)[1])
    assert all(torch.equal(tensor, other) for tensor, other in zip(sum(state, ()), sum(new, ()), strict=True))


def test_what_is_said_of_a_sample_does_not_depend_on_the_others_by_kept_moments():
    network, genome = BlurNetwork((3, 5, 2)), random_genome()
    state, x = network.init(seeded(), dtype=double), drawn(9, 3)
    moments = network.moments(genome, state, x)
    whole = network.forward(genome, state, x, moments)
    torch.testing.assert_close(whole, network.forward(genome, state, x))
    for place in range(9):
        torch.testing.assert_close(network.forward(genome, state, x[place : place + 1], moments)[0], whole[place])


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_what_is_normalised_has_mean_and_deviation_of_the_genome(norm):
    network = BlurNetwork((3, 2), norm=norm)
    numbers = {"norm_gain": torch.tensor(2.0, dtype=double), "norm_shift": torch.tensor(0.7, dtype=double)}
    z = network.forward(random_genome()._replace(**numbers), network.init(seeded(), dtype=double), 50 * drawn(99, 3))
    axes = 0 if norm == "batch" else (0, 1)
    torch.testing.assert_close(z.mean(axes), torch.full_like(z.mean(axes), 0.7))
    torch.testing.assert_close(z.std(axes, correction=0), torch.full_like(z.mean(axes), 2.0), rtol=1e-3, atol=0)


@pytest.mark.parametrize("update", ["additive", "multiplicative", "multiplicative_second_state"])
@pytest.mark.parametrize("before", [False, True])
def test_ways_back_are_those_of_their_equations(update, before):
    network = BlurNetwork((3, 5, 2), backward_update=update, norm=None, saturation=None, use_forward_pre=before)
    factors = {"keep_n": 0.7, "gain_n": 1.3, "keep_s": 0.9}
    genome = random_genome()._replace(**{name: torch.tensor(factor, dtype=double) for name, factor in factors.items()})
    x, (_, y) = drawn(6, 3), labels(6, 2)
    state = network.init(seeded(), dtype=double)
    sent = torch.nn.functional.pad(torch.stack([x, 0 * x]), (0, 1), value=1.0)
    a = (1.3 * torch.einsum("dbj,dc->cbj", sent, genome.nu) @ state.W[0].mT).tanh()
    u = torch.einsum(
        "dbj,dc,cji->cbi", torch.stack([network.forward(genome, state, x), y]), genome.mu, state.W[1][..., :-1]
    )
    new = {
        "additive": 0.7 * a + 1.3 * u,
        "multiplicative": 0.7 * a * u,
        "multiplicative_second_state": torch.stack([a[0], 0.7 * a[1] * u[1]]),
    }
    received = torch.einsum("dbj,cd->cbj", new[update].tanh(), genome.Q)
    change = torch.einsum("cbj,cbi->cji", received, torch.einsum("dbj,dc->cbj", sent, genome.P)) / 6
    updated = network.step(genome, state, x, y)
    torch.testing.assert_close(updated.W[0], 0.9 * state.W[0] + genome.gain_s * change)
    hidden = torch.nn.functional.pad(a if before else new[update].tanh(), (0, 1), value=1.0)
    top = torch.einsum("dbj,cd->cbj", torch.stack([network.forward(genome, state, x), y]), genome.Q)
    change = torch.einsum("cbj,cbi->cji", top, torch.einsum("dbj,dc->cbj", hidden, genome.P)) / 6
    torch.testing.assert_close(updated.W[1], 0.9 * state.W[1] + genome.gain_s * change)


def test_each_pass_and_the_last_layer_may_be_left_as_they_are():
    plain = BlurNetwork((3, 5, 2), norm=None)
    state, genome, x, (_, y) = plain.init(seeded(), dtype=double), random_genome(), drawn(9, 3), labels(9, 2)

    def normed(**options):
        return BlurNetwork((3, 5, 2), norm_forward=False, **options)

    torch.testing.assert_close(normed().forward(genome, state, x), plain.forward(genome, state, x))
    unchanged = normed(norm_backward=False).step(genome, state, x, y)
    for synapses, expected in zip(unchanged.W, plain.step(genome, state, x, y).W, strict=True):
        torch.testing.assert_close(synapses, expected)
    assert not torch.allclose(normed().step(genome, state, x, y).W[0], unchanged.W[0])
    one = BlurNetwork((3, 2), norm_output=False, output_activation="tanh")
    single = one.init(seeded(), dtype=double)
    bare = BlurNetwork((3, 2), norm=None).forward(genome, single, x)
    torch.testing.assert_close(one.forward(genome, single, x), bare.tanh())
    assert [moment is None for moment in BlurNetwork((3, 5, 2), norm_output=False).moments(genome, state, x)] == [
        False, True,
    ]  # fmt: skip


NETWORK, GENOME = BlurNetwork((3, 5, 2)), Genome.backprop(0.1)
STATE, X, Y = NETWORK.init(seeded()), torch.zeros(4, 3), torch.ones(4, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BlurNetwork((3,)), r"sizes = \(3,\): expected at least an input and an output layer"),
        (lambda: NETWORK.forward(Genome.random(3, seeded()), STATE, X), "genome is of 3 states: expected n_states = 2"),
        (lambda: NETWORK.forward(GENOME, STATE, X[:, :2]), r"x.shape = \(4, 2\): expected \(..., batch, 3\)"),
        (lambda: NETWORK.forward(GENOME, STATE, X[:0]), r"x.shape = \(0, 3\)"),
        (lambda: NETWORK.forward(GENOME, STATE, X[:1]), "x holds 1 sample: expected at least 2, as norm = 'batch'"),
        (lambda: NETWORK.step(GENOME, STATE, X, Y[:, :1]), r"y.shape = \(4, 1\): expected \(..., 4, 2\)"),
        (
            lambda: BlurNetwork((3, 6, 2)).forward(GENOME, STATE, X),
            r"state.W has layers of .* expected \[\(6, 4\), \(2, 7",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_targets_may_have_leading_axes_that_inputs_lack():
    network, genome = BlurNetwork((2, 4, 1), n_states=2), Genome.random(2, seeded(), dtype=double)
    state = network.init(seeded(), dtype=double)
    x, y = torch.randn(8, 2, generator=seeded(), dtype=double), torch.ones(3, 8, 1, dtype=double)
    y[1] = -1
    together = network.step(genome, state, x, y)
    for row, target in enumerate(y):
        for weight, alone in zip(together.W, network.step(genome, state, x, target).W, strict=True):
            torch.testing.assert_close(weight[row], alone)
