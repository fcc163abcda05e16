import gc
import itertools
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from engram.analysis import peak_memory
from engram.continual import DHPSoftmax
from engram.meta import FastWeights, adam, recomputed, sgd
from engram.plasticity import PlasticLSTM, PlasticRNN

STEPS = 1000


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        yield


def network(*sizes):
    layers = [part for n, m in itertools.pairwise(sizes) for part in (nn.Linear(n, m), nn.Tanh())]
    return nn.Sequential(*layers[:-1]).double()


def squares(fast, batch):
    return (fast(batch[0]) - batch[1]).square().mean()


def batches(steps, inputs=3, outputs=2, size=4):
    drawn = torch.randn(steps, size, inputs + outputs, dtype=torch.float64)
    return [(batch[:, :inputs], batch[:, inputs:]) for batch in drawn]


def outer_gradient(net, loss):
    return torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)


def assert_outer_gradient(net, outer, atol=1e-8):
    """Against central differences, one number of every parameter."""
    gradients = outer_gradient(net, outer())
    for parameter, gradient in zip(net.parameters(), gradients, strict=True):
        place, h = parameter.numel() // 2, 1e-5
        values = []
        for step in (h, -2 * h):
            parameter.data.view(-1)[place] += step
            values.append(outer().item())
        parameter.data.view(-1)[place] += h
        expected = (values[0] - values[1]) / (2 * h)
        assert gradient.view(-1)[place].item() == pytest.approx(expected, rel=1e-5, abs=atol)


def test_steps_are_those_of_the_optimiser():
    for update, optimizer in (
        (sgd(0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
        (sgd(0.1, momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
        (adam(0.01), lambda p: torch.optim.Adam(p, lr=0.01)),
    ):
        net, data = network(3, 5, 2), batches(20)
        fast, losses = FastWeights(net, update).adapt(squares, data)
        steps = optimizer(net.parameters())
        for batch, loss in zip(data, losses, strict=True):
            steps.zero_grad()
            own = squares(net, batch)
            assert loss.item() == pytest.approx(own.item(), abs=1e-12)
            own.backward()
            steps.step()
        for name, parameter in net.named_parameters():
            torch.testing.assert_close(fast.params[name], parameter, rtol=0, atol=1e-12)


def test_detached_weights_go_on_where_they_were():
    net, data = network(3, 5, 2), batches(6)
    whole, _ = FastWeights(net, adam(0.01)).adapt(squares, data)
    half = FastWeights(net, adam(0.01)).adapt(squares, data[:3])[0].detach()
    resumed, _ = half.adapt(squares, data[3:])
    for name, weight in whole.params.items():
        torch.testing.assert_close(resumed.params[name], weight, rtol=0, atol=0)
    assert not any(outer is not None for outer in outer_gradient(net, squares(resumed, data[0])))


@pytest.mark.parametrize("update", [sgd(0.3), sgd(0.3, momentum=0.5), adam(0.05)], ids=["sgd", "momentum", "adam"])
@pytest.mark.parametrize("checkpointed", [False, True], ids=["kept", "recomputed"])
def test_outer_gradients_of_order_2_are_those_of_finite_differences(update, checkpointed):
    net, data = network(3, 4, 2), batches(6)

    def outer():
        fast, _ = FastWeights(net, update).adapt(squares, data[:-1], checkpointed=checkpointed)
        return squares(fast, data[-1])

    assert_outer_gradient(net, outer)


def test_adam_refuses_complex_weights_and_sgd_takes_them():
    weights = {"w": torch.ones(2, dtype=torch.cfloat)}
    assert sgd(0.5)({"w": 2j * weights["w"]}, weights, None)[0]["w"].tolist() == [1 - 1j, 1 - 1j]
    with pytest.raises(TypeError, match=r"weights\['w'\] is complex"):
        adam()(weights, weights, None)


@given(steps=st.integers(1, 6), rate=st.floats(0.01, 0.3))
def test_one_weight_has_its_closed_form(steps, rate):
    # L = (a w - c)^2 / 2 has w(n) - c/a = (1 - lr a^2)^n (w(0) - c/a).
    net = nn.Linear(1, 1, bias=False).double()
    a, c = 1.5, 0.7
    fast, lr = net, torch.tensor(rate, dtype=torch.float64, requires_grad=True)
    fast = FastWeights(net, sgd(lr))
    for _ in range(steps):
        fast = fast.step((a * fast.params["weight"] - c).square().sum() / 2)
    left = 1 - rate * a**2
    end = fast.params["weight"].sum()
    assert end.item() == pytest.approx(c / a + left**steps * (net.weight.item() - c / a))
    of_start, of_rate = torch.autograd.grad(end, (net.weight, lr))
    assert of_start.item() == pytest.approx(left**steps, abs=1e-12)
    expected = -(a**2) * steps * left ** (steps - 1) * (net.weight.item() - c / a)
    assert of_rate.item() == pytest.approx(expected, abs=1e-10)


def test_order_1_is_the_gradient_at_the_end():
    net, data = network(3, 5, 2), batches(6)
    fast, _ = FastWeights(net, sgd(0.3), order=1).adapt(squares, data[:-1])
    outer = squares(fast, data[-1])
    at_the_end = torch.autograd.grad(outer, list(fast.params.values()), retain_graph=True)
    for gradient, wanted in zip(outer_gradient(net, outer), at_the_end, strict=True):
        assert torch.equal(gradient, wanted)


def test_what_is_not_selected_stays_and_has_its_gradient():
    net, data = network(3, 4, 4, 2), batches(4)
    fast, _ = FastWeights(net, sgd(0.3), select=("2", "4.bias")).adapt(squares, data[:-1])
    assert set(fast.params) == {"2.weight", "2.bias", "4.bias"}
    assert_outer_gradient(
        net, lambda: squares(FastWeights(net, sgd(0.3), select=("2", "4.bias")).adapt(squares, data[:-1])[0], data[-1])
    )
    eleven = nn.Sequential(*(nn.Linear(1, 1) for _ in range(11)))
    assert set(FastWeights(eleven, select=("1",)).params) == {"1.weight", "1.bias"}
    net.requires_grad_(False)
    frozen, _ = FastWeights(net, sgd(0.3), select=("4",)).adapt(squares, data)
    assert not torch.equal(frozen.params["4.bias"], net[4].bias)


def test_what_a_loss_does_not_depend_on_stays():
    fast = FastWeights(network(3, 2), sgd(0.5))
    stepped = fast.step(fast.params["0.bias"].square().sum())
    assert not stepped.params["0.bias"].any()
    assert torch.equal(stepped.params["0.weight"], fast.params["0.weight"])


def test_a_momentum_of_zero_can_be_learned():
    """Of L = w^2 / 2, two steps give w(2) = w(1) - lr (momentum w(0) + w(1))."""
    momentum, net = torch.zeros((), dtype=torch.float64, requires_grad=True), nn.Linear(1, 1, bias=False).double()
    fast = FastWeights(net, sgd(0.1, momentum))
    for _ in range(2):
        fast = fast.step(fast.params["weight"].square().sum() / 2)
    (gradient,) = torch.autograd.grad(fast.params["weight"].sum(), momentum)
    assert gradient.item() == pytest.approx(-0.1 * net.weight.item())


def test_a_learned_update_and_its_state_are_part_of_the_graph():
    net, data = network(3, 4, 2), batches(5)
    gain, decay = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.1, 0.5))

    def update(gradients, weights, state):
        state = {n: g + (decay * state[n] if state else 0) for n, g in gradients.items()}
        return {n: w - gain * state[n].tanh() for n, w in weights.items()}, state

    for checkpointed in (False, True):

        def outer(*_, checkpointed=checkpointed):
            fast, losses = FastWeights(net, update).adapt(squares, data[:-1], checkpointed=checkpointed)
            return squares(fast, data[-1]) + losses.sum()

        assert torch.autograd.gradcheck(outer, (gain, decay))
        assert_outer_gradient(net, outer)


def test_rates_by_weight():
    net, (batch,) = network(3, 2), batches(1)
    rates = {"0.weight": torch.full((2, 3), 0.1, dtype=torch.float64, requires_grad=True), "0.bias": 0.0}
    fast = FastWeights(net, sgd(rates))
    fast = fast.step(squares(fast, batch))
    assert torch.equal(fast.params["0.bias"], net[0].bias)
    assert torch.autograd.grad(squares(fast, batch), rates["0.weight"])[0].abs().min() > 0
    with pytest.raises(ValueError, match=r"lr has no rate for '0.bias'"):
        FastWeights(net, sgd({"0.weight": 0.1})).step(squares(FastWeights(net), batch))


def test_no_memory_grows_over_outer_steps(effort):
    net, data, last = network(3, 4, 2), batches(3), 60 * effort

    def alive():
        gc.collect()
        # By type, since a dead weak proxy of another test answers to nothing else.
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    gc.disable()  # what only the collector could free would pile up
    try:
        for order in (1, 2):
            counts, made = [], []
            for step in range(last + 1):
                fast, _ = FastWeights(net, adam(0.01), order=order).adapt(
                    squares, data[:-1], checkpointed=step % 2 == 0
                )
                made.append(weakref.ref(fast.params["0.weight"]))
                squares(fast, data[-1]).backward()
                del fast
                if step in (10, last):
                    counts += [sum(ref() is not None for ref in made), alive()]
            assert counts[0] == counts[2] == 0
            assert counts[3] <= counts[1]
    finally:
        gc.enable()


def test_no_memory_grows_over_inner_steps_that_are_cut_off(effort):
    net, (batch,) = network(3, 4, 2), batches(1)

    def learn(steps):
        fast = FastWeights(net, adam(0.01))
        for _ in range(steps):
            fast = fast.step(squares(fast, batch)).detach()

    assert peak_memory(lambda: learn(100 * effort)) <= 1.05 * peak_memory(lambda: learn(10))


@pytest.mark.parametrize(("steps", "share"), [(200, 0.4), pytest.param(STEPS, 0.2, marks=pytest.mark.soak)])
def test_checkpoints_keep_a_fifth_of_the_memory_of_a_thousand_steps(steps, share):
    net, data = network(3, 8, 2), batches(steps)

    def gradient(checkpointed):
        fast, _ = FastWeights(net, sgd(0.01)).adapt(squares, data, checkpointed=checkpointed)
        return outer_gradient(net, squares(fast, data[-1]))

    assert peak_memory(lambda: gradient(True)) <= share * peak_memory(lambda: gradient(False))


def test_a_step_with_checkpoints_runs_twice_and_no_more():
    net, data, calls = network(3, 4, 2), batches(100), []

    def counted(fast, batch):
        calls.append(1)
        return squares(fast, batch)

    fast, _ = FastWeights(net).adapt(counted, data, checkpointed=True)
    assert len(calls) == 100
    squares(fast, data[0]).backward()
    assert len(calls) == 200


def test_no_nan_at_the_root_of_zero():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).double()
    net[0].bias.data.fill_(-100)  # silent: all gradients of this layer are zero
    x = torch.randn(4, 2, dtype=torch.float64)
    fast = FastWeights(net, adam(0.1))
    for _ in range(3):
        fast = fast.step(fast(x).square().mean())
    for gradient in outer_gradient(net, fast(x).square().mean()):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN, PlasticRNN, PlasticLSTM])
def test_recurrent_modules_run_on_the_fast_weights(kind):
    net = kind(3, 2).double()
    x = torch.randn(6, 4, 3, dtype=torch.float64)

    def loss(fast, x):
        return fast(x)[0].square().mean()

    fast, _ = FastWeights(net, sgd(1.0)).adapt(loss, [x, x])
    twin = kind(3, 2).double()
    twin.load_state_dict(fast.params, strict=False)
    torch.testing.assert_close(fast(x)[0], twin(x)[0], rtol=0, atol=1e-12)
    assert not torch.equal(fast(x)[0], net(x)[0])
    assert_outer_gradient(net, lambda: loss(FastWeights(net, sgd(1.0)).adapt(loss, [x, x])[0], x))


def test_shared_weights_stay_shared():
    net = network(3, 3, 3)
    net[2].weight = net[0].weight
    data = batches(3, outputs=3)
    fast, _ = FastWeights(net, sgd(0.1)).adapt(squares, data)
    assert set(fast.params) == {"0.weight", "0.bias", "2.bias"}
    assert_outer_gradient(net, lambda: squares(FastWeights(net).adapt(squares, data)[0], data[0]))


def test_no_state_leaks_between_tasks():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)).double()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    data, results = batches(3), []
    for checkpointed in (False, True, False):
        torch.manual_seed(1)
        start = FastWeights(net, adam(0.1))
        fast, losses = start.adapt(squares, data, checkpointed=checkpointed)
        losses.sum().backward()
        results.append([losses, *fast.buffers.values(), *(p.grad.clone() for p in net.parameters())])
        net.zero_grad()
        assert start.state is None
        assert start.buffers["1.num_batches_tracked"].item() == 0
        assert fast.buffers["1.num_batches_tracked"].item() == 3
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=1e-13)


def test_recomputing_what_changes_is_noticed():
    w, calls = torch.ones((), requires_grad=True), []

    def function():
        calls.append(1)
        return w.exp().exp() if len(calls) > 1 else w.exp()

    with pytest.raises(RuntimeError, match="saved 1 tensors, and 2 when called again"):
        recomputed(function).backward()
    with torch.no_grad():
        assert not recomputed(w.exp).requires_grad


def test_bad_input_is_refused_by_name():
    net, (batch,) = network(3, 2), batches(1)
    fast = FastWeights(net)
    later = fast.step(squares(fast, batch))
    for make, error, said in (
        (lambda: FastWeights(torch.sin), TypeError, "module"),
        (lambda: FastWeights(net, 0.1), TypeError, "update"),
        (lambda: FastWeights(net, order=3), ValueError, "order = 3"),
        (lambda: FastWeights(net, select=("head",)), ValueError, "select has 'head': expected names among 0.weight"),
        (lambda: FastWeights(net, select="0"), TypeError, "select"),
        (lambda: FastWeights(net, select=()), ValueError, "select is empty"),
        (lambda: FastWeights(nn.Tanh()), ValueError, "no parameter"),
        (lambda: fast.step(fast(batch[0])), ValueError, r"loss.shape = \(4, 2\)"),
        (lambda: fast.step(1.0), TypeError, "loss"),
        (lambda: later.step(squares(net, batch)), ValueError, "depends on no fast weight"),
        (lambda: fast.step(squares(fast.detach(), batch)), ValueError, "depends on no fast weight"),
        (lambda: fast.adapt(squares, []), ValueError, "batches is empty"),
        (lambda: sgd(-1.0), ValueError, "lr = -1"),
        (lambda: adam(betas=(0.9, 1.0)), ValueError, "betas = 1.0"),
        (lambda: FastWeights(net, lambda g, w, s: ({}, s)).adapt(squares, [batch]), ValueError, "update returned"),
    ):
        with pytest.raises(error, match=said):
            make()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode(), pytest.raises(ValueError, match="no_grad nor in inference mode"):
            fast.step(squares(fast, batch))


def test_a_buffer_that_the_module_assigns_anew_is_kept():
    layer = DHPSoftmax(2, 3, eta=0.5, generator=torch.Generator().manual_seed(0))
    fast = FastWeights(layer)
    x, y = torch.ones(4, 2), torch.tensor([0, 1, 2, 0])
    fast(x, y)
    assert not layer.trace.any()
    layer(x, y)
    assert torch.equal(fast.buffers["trace"], layer.trace)
    assert layer.trace.any()


@pytest.mark.parametrize("checkpointed", [False, True])
def test_losses_of_first_order_have_no_graph(checkpointed):
    net, batches = nn.Linear(2, 1), torch.randn(4, 3, 2)
    loss = lambda fast, batch: fast(batch).square().mean()  # noqa: E731
    _, losses = FastWeights(net, order=1).adapt(loss, batches, checkpointed=checkpointed)
    assert not losses.requires_grad
    _, second = FastWeights(net, order=2).adapt(loss, batches, checkpointed=checkpointed)
    second.sum().backward()
    torch.testing.assert_close(losses, second.detach())


class Shared(nn.Module):
    """A batch norm between two layers with one weight, and a buffer that is not part of the state."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.register_buffer("passing", torch.zeros(()), persistent=False)

    def forward(self, x):
        return self.second(self.norm(self.first(x)))


@pytest.mark.parametrize("select", [None, ("norm",)], ids=["all", "norm"])
def test_the_learned_state_makes_the_module_the_same_in_evaluation_mode_too(select):
    net = Shared()
    x, y = 5 + 3 * torch.randn(64, 3), torch.randn(64, 3)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    fast = FastWeights(net, sgd(0.05), select=select)
    for _ in range(60):
        fast = fast.step((fast(x) - y).square().mean())
    state = fast.state_dict()
    assert list(state) == list(before)
    assert not any(value.requires_grad for value in state.values())
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name
    net.eval()
    expected = fast(x)
    net.load_state_dict(state)
    assert torch.equal(net(x), expected)
    assert (expected - y).square().mean() < 2
    assert net.first.weight is net.second.weight


def test_running_statistics_are_carried_through_meta_training():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    x = 40 + torch.randn(64, 3)
    for _ in range(60):
        fast = FastWeights(net, sgd(0.01))
        fast = fast.step(fast(x).square().mean())
        optimizer.zero_grad()
        fast(x).square().mean().backward()
        optimizer.step()
        net.load_state_dict(fast.buffers, strict=False)
    assert net[0].running_mean.numpy() == pytest.approx(x.mean(0).numpy(), rel=1e-3)
    assert net[0].num_batches_tracked == 120


def test_detached_weights_keep_no_graph_in_buffers():
    class Keeping(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 2)
            self.register_buffer("hidden", torch.zeros(3, 2))

        def forward(self, x):
            self.hidden = torch.tanh(self.linear(x) + self.hidden)
            return self.hidden

    module, x = Keeping(), torch.ones(3, 2)
    fast = FastWeights(module, sgd(0.1))
    fast = fast.step(fast(x).sum()).detach()
    fast(x).sum().backward()
    assert module.linear.weight.grad is None


def test_what_was_changed_in_place_within_a_recomputed_function_gives_no_gradient():
    def after(x):
        y = x.exp()
        y.add_(1)
        return y.sum()

    def between(x):
        y = x.exp()
        total = y.sum()
        y.add_(1)
        return torch.autograd.grad(total, x, create_graph=True)[0].sum()

    x = torch.ones(1, requires_grad=True)
    for function in (after, between):
        with pytest.raises(RuntimeError, match=r"changed a tensor of shape \(1,\) in place that its gradient needs"):
            recomputed(function, x).backward()
    assert x.grad is None


@pytest.mark.parametrize("name", ["second", "second.weight", "first.weight"])
def test_a_shared_weight_is_selected_by_any_of_its_names(name):
    fast = FastWeights(Shared(), select=(name,))
    assert list(fast.params) == ["first.weight", *(["second.bias"] if name == "second" else [])]


class Attended(nn.Module):
    """Attention, by torch's function and by its layers, over five places."""

    def __init__(self, kind):
        super().__init__()
        self.into, self.out = nn.Linear(3, 4), nn.Linear(4, 2)
        self.attention = {
            "function": nn.functional.scaled_dot_product_attention,
            "layer": nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True),
        }[kind]

    def forward(self, x):
        x = self.into(x)[:, None] * torch.linspace(0.5, 1.5, 5, dtype=x.dtype)[:, None]
        x = self.attention(x) if isinstance(self.attention, nn.Module) else self.attention(x, x.sin(), x.cos())
        return self.out(x.mean(1))


def old_weight_norm(layer, dim=0):
    with pytest.warns(FutureWarning, match="deprecated"):
        return nn.utils.weight_norm(layer, dim=dim)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(weight_norm(nn.Linear(3, 4), dim=1), nn.Tanh(), nn.Linear(4, 2)),
        lambda: nn.Sequential(old_weight_norm(nn.Linear(3, 4)), nn.Tanh(), old_weight_norm(nn.Linear(4, 2), None)),
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, 3)), weight_norm(nn.Conv1d(1, 2, 2)), nn.Tanh(), nn.Flatten(),
            nn.Linear(4, 2),
        ),
        lambda: Attended("function"),
        lambda: Attended("layer"),
    ],
    ids=["columns", "old", "convolution", "attention", "transformer"],
)  # fmt: skip
@pytest.mark.parametrize("checkpointed", [False, True])
def test_fused_functions_have_the_right_second_derivative(make, checkpointed):
    net, drawn = make().double(), batches(4)

    def outer():
        fast, _ = FastWeights(net, sgd(0.2)).adapt(squares, drawn[:3], checkpointed=checkpointed)
        return squares(fast, drawn[3])

    assert_outer_gradient(net, outer)


def test_what_runs_without_fused_functions_is_the_module():
    for net in (Attended("layer"), weight_norm(nn.Linear(3, 2))):
        x = torch.randn(4, 3)
        torch.testing.assert_close(FastWeights(net)(x), net(x))
