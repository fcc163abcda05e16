"""The plastic head: its trace and gradients by hand, and that it is a linear layer where alpha is 0."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from engram.continual import DHPSoftmax, fisher_diagonal, slow_parameters

H = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
Y = torch.tensor([0, 0, 2])


def by_class(layer, h, y):
    """Return the trace as it is defined, class by class."""
    trace = layer.trace.clone()
    for c in y.unique().tolist():
        trace[c] = (1 - layer.eta) * trace[c] + layer.eta * h[y == c].mean(0)
    return trace


def random_layer(seed=0, features=5, classes=4, **options):
    generator = torch.Generator().manual_seed(seed)
    layer = DHPSoftmax(features, classes, eta=0.3, alpha_scale=1.0, generator=generator, dtype=torch.float64, **options)
    layer.trace.copy_(torch.randn(classes, features, generator=generator))
    h = torch.randn(8, features, generator=generator, dtype=torch.float64, requires_grad=True)
    return layer, h, torch.randint(classes - 1, (8,), generator=generator)


@pytest.mark.parametrize("options", [{}, {"init": "author"}, {"bias": True}])
def test_the_generator_decides_the_weights(options):
    one, same, other = (DHPSoftmax(4, 3, generator=torch.Generator().manual_seed(s), **options) for s in (0, 0, 1))
    assert all(map(torch.equal, one.parameters(), same.parameters()))
    assert not torch.equal(one.weight, other.weight)


@pytest.mark.parametrize(("init", "bound"), [("fan_in", 0.1), ("author", 0.05)])
def test_initial_values_fill_their_ranges(init, bound):
    layer = DHPSoftmax(100, 400, alpha_scale=0.5, init=init, bias=True, generator=torch.Generator().manual_seed(0))
    for values, low, high in ((layer.weight, -bound, bound), (layer.bias, -0.1, 0.1), (layer.alpha, 0.0, 0.5)):
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < values.max() <= high


def test_trace_and_logits_by_hand():  # O1, O2
    layer = DHPSoftmax(2, 3, eta=0.5)
    layer(H, Y)
    assert layer.trace.tolist() == [[1.0, 1.5], [0.0, 0.0], [2.5, 3.0]]
    with torch.no_grad():
        layer.weight.zero_()
        layer.alpha.fill_(1.0)
    layer.eval()
    assert layer(torch.tensor([[1.0, 0.0]])).tolist() == [[1.0, 0.0, 2.5]]
    layer.train()
    layer(H, Y)
    assert layer.trace.tolist() == [[1.5, 2.25], [0.0, 0.0], [3.75, 4.5]]
    layer.eval()
    layer(H, Y)
    assert layer.trace.tolist() == [[1.5, 2.25], [0.0, 0.0], [3.75, 4.5]]


@pytest.mark.parametrize("bias", [False, True])
def test_logits_are_of_the_new_trace(bias):
    layer, h, y = random_layer(bias=bias)
    expected = h @ (layer.weight + layer.alpha * by_class(layer, h, y)).T + (layer.bias if bias else 0)
    torch.testing.assert_close(layer(h, y), expected)


@pytest.mark.parametrize("detach", [False, True])
def test_gradients_are_those_of_the_equations(detach):  # O3
    layer, h, y = random_layer(detach_input=detach)
    old = layer.trace.clone()
    z = layer(h, y)
    new = layer.trace
    g = torch.autograd.grad(functional.cross_entropy(z, y), z, retain_graph=True)[0]
    functional.cross_entropy(z, y).backward()
    a = g.T @ h.detach()
    present = torch.zeros(4, dtype=torch.bool).index_fill(0, y, True)
    count = y.bincount(minlength=4)
    mean = functional.one_hot(y, 4).double().T @ h.detach() / count.clamp(min=1)[:, None]
    through_mean = layer.eta / count[y][:, None] * (layer.alpha * a)[y]
    torch.testing.assert_close(layer.weight.grad, a)
    torch.testing.assert_close(layer.alpha.grad, a * new)
    torch.testing.assert_close(layer.eta.grad, ((a * layer.alpha * (mean - old))[present]).sum()[None])
    torch.testing.assert_close(h.grad, g @ (layer.weight + layer.alpha * new) + (0 if detach else through_mean))


@pytest.mark.parametrize("init", ["fan_in", "author"])
def test_without_alpha_it_is_a_linear_layer_bit_for_bit(init):  # O4
    generator = torch.Generator().manual_seed(1)
    layer = DHPSoftmax(6, 3, alpha_scale=0.0, init=init, generator=generator)
    layer.alpha.requires_grad_(False)
    plain = nn.Linear(6, 3, bias=False)
    plain.weight.data.copy_(layer.weight)
    assert layer.weight.abs().max() <= (6 if init == "fan_in" else 3) ** -0.5
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.3) for net in (layer, plain)]
    for _ in range(20):
        h, y = torch.randn(7, 6, generator=generator), torch.randint(3, (7,), generator=generator)
        for net, optimizer in zip((lambda h, y=y: layer(h, y), plain), optimizers, strict=True):
            optimizer.zero_grad()
            functional.cross_entropy(net(h), y).backward()
            optimizer.step()
    assert torch.equal(layer.weight, plain.weight)
    assert layer.trace.any()


@given(st.floats(0, 1), st.integers(1, 20))
def test_prototype_of_a_constant_class(eta, steps):  # O5
    layer = DHPSoftmax(2, 2, eta=eta, dtype=torch.float64)
    h = torch.tensor([[2.0, -1.0]], dtype=torch.float64)
    for _ in range(steps):
        layer(h, torch.tensor([1]))
    torch.testing.assert_close(layer.trace[1:], (1 - (1 - eta) ** steps) * h, rtol=1e-9, atol=1e-12)
    assert not layer.trace[0].any()


def test_order_within_a_batch_does_not_matter():  # O6
    layer, h, y = random_layer()
    other, _, _ = random_layer()
    order = torch.randperm(8, generator=torch.Generator().manual_seed(3))
    expected = by_class(layer, h, y)
    layer(h, y)
    other(h[order], y[order])
    torch.testing.assert_close(layer.trace, expected)
    torch.testing.assert_close(other.trace, expected)


def test_soft_labels_are_weights():
    layer, h, y = random_layer()
    other, _, _ = random_layer()
    layer(h, y)
    other(h, functional.one_hot(y, 4).double())
    torch.testing.assert_close(layer.trace, other.trace)
    half = torch.full((8, 4), 0.25, dtype=torch.float64)
    before = other.trace.clone()
    other(h, half)
    torch.testing.assert_close(other.trace, 0.7 * before + 0.3 * h.detach().mean(0).expand(4, -1))
    before = other.trace.clone()
    other(h[:1], torch.tensor([[0.5, 0.25, 0.25, 0.0]], dtype=torch.float64))  # also where the shares are below 1
    torch.testing.assert_close(other.trace[:3], 0.7 * before[:3] + 0.3 * h.detach()[0])
    assert torch.equal(other.trace[3], before[3])


def test_rate_that_left_its_range_is_put_back():
    for start, constrain, expected in ((-0.2, True, 0.0), (-0.2, False, -0.2), (1.2, True, 1.0)):
        layer = DHPSoftmax(2, 3, constrain_eta=constrain)
        layer.eta.data.fill_(start)
        layer(H, Y)
        assert layer.eta.item() == pytest.approx(expected)


def test_trace_can_be_frozen_and_forgotten():
    layer = DHPSoftmax(2, 3, eta=0.5)
    with layer.frozen_trace():
        with layer.frozen_trace():
            layer(H, Y)
        layer(H, Y)
    assert not layer.trace.any()
    layer(H, Y)
    layer.reset_trace([0])
    assert layer.trace.tolist() == [[0.0, 0.0], [0.0, 0.0], [2.5, 3.0]]
    layer.reset_trace()
    assert not layer.trace.any()


def test_training_steps_do_not_reach_back_into_earlier_ones():
    layer = DHPSoftmax(2, 3)
    losses = [functional.cross_entropy(layer(H, Y), Y) for _ in range(2)]  # two forward passes, then two backward
    for loss in losses:
        loss.backward()
    assert not layer.trace.requires_grad


def test_a_rate_that_is_not_learned_gets_no_gradient():
    layer = DHPSoftmax(2, 3, learn_eta=False)
    functional.cross_entropy(layer(H, Y), Y).backward()
    assert layer.eta.grad is None


def test_no_penalty_holds_the_fast_weights():
    net = nn.Sequential(nn.Linear(4, 2), nn.ReLU(), DHPSoftmax(2, 3))
    assert list(slow_parameters(net)) == ["0.weight", "0.bias", "2.weight"]


def test_importance_of_theta_is_that_of_the_frozen_trace():
    layer, h, y = random_layer()
    layer(h, y)
    plain = nn.Linear(5, 4, bias=False).double()
    plain.weight.data = (layer.weight + layer.alpha * layer.trace).detach()
    trace = layer.trace.clone()
    expected = fisher_diagonal(plain, [h.detach()])["weight"]
    torch.testing.assert_close(fisher_diagonal(layer, [h.detach()])["weight"], expected)
    assert torch.equal(layer.trace, trace)


def test_empty_batch_gives_an_empty_answer():
    layer = DHPSoftmax(2, 3)
    assert layer(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)).shape == (0, 3)
    assert not layer.trace.any()


def test_training_without_labels_warns_once():
    layer = DHPSoftmax(2, 3)
    with pytest.warns(UserWarning, match="trace is not updated"):
        layer(H)
    layer(H)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda layer: layer(H, torch.tensor([0, 1, 3])), "target = 3"),
        (lambda layer: layer(H, torch.tensor([0, -1, 1])), "target = -1"),
        (lambda layer: layer(H, Y[:2]), "target.shape"),
        (lambda layer: layer(H, torch.ones(3, 3)), "target has rows"),
        (lambda layer: layer(H, torch.tensor([[2.0, -1.0, 0.0]] * 3)), "target has rows"),
        (lambda layer: (layer.eta.requires_grad_(False).fill_(torch.nan), layer(H, Y)), "eta"),
        (lambda layer: layer(H * float("nan"), Y), "^input at"),
        (lambda layer: layer(H[:, :1], Y), "input"),
        (lambda layer: layer.reset_trace([3]), "classes"),
        (lambda layer: DHPSoftmax(0, 3), "in_features"),
        (lambda layer: DHPSoftmax(2, 3, eta=2.0), "eta"),
        (lambda layer: DHPSoftmax(2, 3, init="he"), "init"),
    ],
)
def test_bad_input_is_named_before_the_trace_is_touched(call, message):
    layer = DHPSoftmax(2, 3)
    with pytest.raises(ValueError, match=message):
        call(layer)
    assert not layer.trace.any()


def test_all_of_a_layer_has_its_dtype_and_device():
    layer = DHPSoftmax(2, 3, bias=True, dtype=torch.float64, device="meta")
    tensors = dict(layer.state_dict())
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        "weight": (3, 2), "bias": (3,), "alpha": (3, 2), "eta": (1,), "trace": (3, 2),
    }  # fmt: skip
    assert {(tensor.dtype, tensor.device.type) for tensor in tensors.values()} == {(torch.float64, "meta")}
    assert repr(layer) == "DHPSoftmax(2, 3, init='fan_in', bias=True)"
    assert "bias=False" in repr(DHPSoftmax(2, 3))


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("mixed", [False, True], ids=["classes", "probabilities"])
def test_under_autocast_the_layer_computes_in_its_own_precision(batch, mixed):
    generator = torch.Generator().manual_seed(0)
    below, layer = nn.Linear(4, 3), DHPSoftmax(3, 2, eta=0.5, alpha_scale=1.0, generator=generator)
    twin = copy.deepcopy(layer)
    x, y = torch.randn(batch, 4, generator=generator), torch.arange(batch) % 2
    with torch.autocast("cpu", torch.bfloat16):
        h = below(x)
        target = functional.one_hot(y, 2).to(torch.bfloat16) if mixed else y
        logits = layer(h, target)
        functional.cross_entropy(logits, y).backward()
        importance = fisher_diagonal(nn.Sequential(below, layer), [x])
    assert h.dtype == torch.bfloat16
    assert logits.dtype == layer.trace.dtype == torch.float32
    assert torch.equal(logits, twin(h.float(), y))
    assert torch.equal(layer.trace, twin.trace)
    assert below.weight.grad.any()
    for name, value in fisher_diagonal(nn.Sequential(below, layer), [x]).items():
        assert torch.equal(importance[name], value), name


@pytest.mark.parametrize("training", [False, True])
def test_half_precision_is_refused_by_name(training):
    layer, h, y = DHPSoftmax(3, 2).train(training), torch.ones(1, 3), torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"input\.dtype = torch\.bfloat16: expected torch\.float32"):
        layer(h.bfloat16(), y)
    with pytest.raises(ValueError, match=r"parameters have dtype = torch\.bfloat16: expected torch\.float32 or"):
        layer.bfloat16()(h.bfloat16(), y)
