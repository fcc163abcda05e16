from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune

from engram.verify import (
    AffineReLU,
    AllOf,
    AnyOf,
    Argmax,
    Box,
    LinearProperty,
    UnsupportedLayerError,
    as_affine_relu,
    check_certificate,
    crown_bounds,
    verify,
)


def everything():
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3, stride=2, padding=1, groups=1),
        nn.BatchNorm2d(3),
        nn.LeakyReLU(0.1),
        nn.MaxPool2d(2, stride=1),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(12, 7),
        nn.BatchNorm1d(7),
        nn.Hardtanh(-0.5, 2),
        nn.Dropout(),
        nn.Linear(7, 5, bias=False),
        nn.ReLU6(),
        nn.Identity(),
        nn.Linear(5, 3),
        nn.LogSoftmax(1),
    ).double()
    for tensor in net.state_dict().values():
        if tensor.dtype == torch.float64:
            tensor.uniform_(0.2, 1.0, generator=generator)
    for parameter in net.parameters():
        parameter.data.sub_(0.5)
    return net.eval()


def test_all_layers_that_are_piecewise_linear_are_read():
    module = everything()
    net = as_affine_relu(module, (2, 10, 9), drop_softmax=True)
    x = torch.randn(20, 2, 10, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = module[:-1](x).detach().numpy()
    assert np.abs(net(x.flatten(1).numpy()) - y).max() < 1e-12
    assert y.std(0).max() > 1e-6


def test_functions_in_a_forward_are_read():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.last(torch.relu(self.first(x.flatten(1))))

    module = Net()
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    net = as_affine_relu(module, (3,))
    assert net.sizes == (3, 4, 2)
    assert np.allclose(net(x.double().numpy()), module(x).detach().numpy(), atol=1e-6)
    # 32-bit weights are taken as they are.
    assert np.array_equal(net.weights[1], module.last.weight.detach().double().numpy())


class Forward(nn.Module):
    """A linear layer of four, and what a function makes of it."""

    def __init__(self, function, size=4):
        super().__init__()
        self.first, self.function = nn.Linear(size, size), function
        self.register_buffer("mean", torch.linspace(-1, 1, size))

    def forward(self, x):
        return self.function(self.first(x - self.mean))


class ResidualBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.one, self.two = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 1)
        self.norm, self.shortcut, self.last = nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1), nn.Linear(8, 3)
        self.slope, self.training_rate = nn.PReLU(2), 0.5
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)

    def forward(self, x):
        x = (x - 0.3) / 0.7
        h = self.pool(self.stem(x))
        h = self.shortcut(h) + self.norm(self.two(functional.relu(self.one(self.slope(h)))))
        h = torch.relu(h + h.mean((2, 3), keepdim=True))
        h = functional.dropout(functional.adaptive_avg_pool2d(h, (2, 2)), 0.5, self.training)
        return functional.log_softmax(self.last(h.view(x.size(0), -1)), dim=1)


class Series(nn.Module):
    """A network of a series, with layers in one dimension."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Unflatten(1, (2, 6)), nn.Conv1d(2, 3, 3, stride=2, padding=1), nn.PReLU(), nn.MaxPool1d(2, 1, padding=1)
        )
        self.last = nn.Linear(12, 2)

    def forward(self, x):
        h = self.layers(x)
        h = torch.cat([h, h.clamp(-0.2, 0.1)], 1).permute(0, 2, 1)[:, :, :3]
        return self.last(h.reshape(h.shape[0], h.shape[1] * 3)) * 2 - 1


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (ResidualBlock(), (1, 7, 6)),
        (Series(), (12,)),
        (Forward(lambda x: x + torch.relu(x)), (4,)),
        (Forward(lambda x: 1 - functional.relu(x.view(-1, 2, 2)).flatten(1)), (4,)),
        (nn.Sequential(nn.MaxPool2d(2, 1, padding=1, dilation=2), nn.AdaptiveAvgPool2d(1), nn.Flatten()), (2, 5, 4)),
    ],
    ids=["residual", "series", "skip", "view", "dilated"],
)
def test_networks_that_are_no_chain_are_read(module, shape):
    generator = torch.Generator().manual_seed(0)
    module = module.double().eval()
    for parameter in module.parameters():
        parameter.data.uniform_(-1, 1, generator=generator)
    net = as_affine_relu(module, shape, drop_softmax=True)
    x = torch.randn(20, *shape, generator=generator, dtype=torch.float64)
    y, read = module(x).detach(), torch.from_numpy(net(x.flatten(1).numpy()))
    read = torch.log_softmax(read, 1) if isinstance(module, ResidualBlock) else read
    assert (read - y).abs().max() < 1e-12
    assert y.std(0).max() > 1e-3


def test_what_is_carried_beside_a_layer_costs_no_unit_that_may_be_off():
    net = as_affine_relu(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), Forward(lambda x: torch.relu(x) - x, 3)))
    bounds = crown_bounds(net, -np.ones(2), np.ones(2))
    assert [len(low) for low, _ in bounds.layers] == [3, 6]
    assert (bounds.layers[1][0][3:] >= -1e-12).all()


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.Sigmoid())), "layer '1.1' is Sigmoid"),
        (nn.LSTM(2, 2), "layer '0' is LSTM"),
        (nn.Sequential(nn.Linear(4, 4), nn.Softmax(1), nn.Linear(4, 2)), "layer '1' is a softmax before the end"),
        (nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), "layer '1' is LayerNorm"),
        (nn.Sequential(nn.Linear(4, 4), nn.MultiheadAttention(4, 1)), "layer '1' is MultiheadAttention"),
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False)).eval(), "depends on the batch"),
        (Branching(), "cannot be read as layers"),
        (Forward(lambda x: x * x), "layer 'mul' calls mul"),
        (Forward(torch.sigmoid), "layer 'sigmoid' calls sigmoid"),
        (Forward(lambda x: x.transpose(0, 1)), "layer 'transpose' mixes the inputs of a batch"),
        (Forward(lambda x: x - x.mean(0, keepdim=True)), "layer 'mean_1' mixes the inputs of a batch"),
        (Forward(lambda x: x + torch.arange(5.0)[:, None]), "layer 'add' "),
        (Forward(lambda x: (x, x)), "returns tuple"),
        (Forward(lambda x: torch.cat([x, x], 0)), "layer 'cat' calls cat"),
        (Forward(lambda x: functional.max_pool2d(x[:, None, None], 1, ceil_mode=True)), "is MaxPool2d"),
        (nn.Sequential(nn.Linear(2, 2), nn.Softmax(1)), "layer '1' is a softmax, which is not piecewise linear"),
        (nn.Sequential(nn.Linear(2, 2), nn.LogSoftmax(0)), "layer '1' is a softmax.* not 0"),
    ],
)
def test_other_layers_are_named(module, message):
    with pytest.raises(UnsupportedLayerError, match=message):
        as_affine_relu(module, (4,) if isinstance(module, Forward) else None)


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.Dropout()), None, r"layer '1' \(Dropout\) is in training mode"),
        (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), None, r"layer '1' \(BatchNorm1d\) is in training mode"),
        (nn.Sequential(nn.Linear(2, 2)), (3,), r"layer '0' does not take an input of shape \(3,\)"),
        (Forward(functional.dropout), (4,), "layer 'dropout' calls dropout in training mode"),
        (Forward(torch.relu), None, "input_shape = None.* layer 'sub' does not give it"),
        (nn.Sequential(nn.Conv2d(1, 9, 1)), (1, 3000, 3000), "GB"),
    ],
)
def test_what_cannot_be_read_as_it_is_is_refused(module, shape, message):
    with pytest.raises(ValueError, match=message):
        as_affine_relu(module, shape)


@pytest.mark.parametrize("softmax", [nn.Softmax(1), nn.LogSoftmax(-1)])
def test_a_softmax_is_left_out_where_order_decides(softmax):
    linear = nn.Linear(2, 2, dtype=torch.float64)
    linear.weight.data, linear.bias.data = 0.1 * torch.eye(2).double(), torch.tensor([0.1, -0.1]).double()
    module, box = nn.Sequential(linear, softmax), Box([-0.5, -0.5], [0.5, 0.5])
    compares = LinearProperty([[-2.0, 2.0]], [0.0])
    for prop in (Argmax(0), compares, AllOf((Argmax(0), AnyOf((compares, Argmax(1)))))):
        result = verify(module, box, prop)
        assert result.status == "proved"
        assert check_certificate(module, box, prop, result.certificate).valid
    # The value of the first output is about 0.55; what the linear layer gives is 0.1.
    values = [([[1, 0]], [0.3]), ([[1, -1]], [0.5]), ([[1, 1]], [0.5]), ([[2, -1]], [0]), ([[1, 0]], [0])]
    for C, d in values:
        for prop in (LinearProperty(C, d), AllOf((Argmax(0), LinearProperty(C, d)))):
            with pytest.raises(UnsupportedLayerError, match=r"layer '1' is a softmax.*expected a property that just"):
                verify(module, box, prop)
            with pytest.raises(UnsupportedLayerError, match="layer '1' is a softmax"):
                check_certificate(module, box, prop, result.certificate)


def test_a_certificate_is_checked_of_images_too():
    module = nn.Sequential(nn.Conv2d(1, 1, 2), nn.Flatten(), nn.Linear(1, 2)).double()
    y = module(torch.zeros(1, 1, 2, 2).double())
    place = Box(np.full(4, -1e-6), np.full(4, 1e-6)), Argmax(int(y.argmax()))
    result = verify(module, *place, input_shape=(1, 2, 2))
    assert check_certificate(module, *place, result.certificate, input_shape=(1, 2, 2)).valid


def test_numbers_that_are_none_are_refused():
    module = nn.Sequential(nn.Linear(2, 3))
    module[0].weight.data[1, 0] = torch.nan
    with pytest.raises(ValueError, match=r"weights\[0\]\[1, 0\] is NaN"):
        as_affine_relu(module, (4,) if isinstance(module, Forward) else None)
    with pytest.raises(ValueError, match="layer 1 has weights"):
        AffineReLU((np.ones((2, 3)), np.ones((1, 3))), (np.zeros(2), np.zeros(1)))


def test_exact_outputs_are_those_of_the_rationals():
    rng = np.random.default_rng(0)
    net = AffineReLU((rng.normal(size=(6, 3)), rng.normal(size=(2, 6))), (rng.normal(size=6), rng.normal(size=2)))
    x = rng.normal(size=3)
    assert np.allclose([float(value) for value in net.exact(x)], net(x), rtol=0, atol=1e-14)
    third = AffineReLU((np.array([[3.0, -1.0]]),), (np.array([-1e-30]),))
    assert third.exact(np.array([0.1, 0.3])) == [3 * Fraction(0.1) - Fraction(0.3) + Fraction(-1e-30)]


@pytest.mark.parametrize(
    "reparameterised", [partial(prune.l1_unstructured, name="weight", amount=1), nn.utils.weight_norm]
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
def test_weights_that_a_hook_computes_are_refused(reparameterised):
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    reparameterised(net[0])
    with pytest.raises(UnsupportedLayerError, match=r"layer '0' \(Linear\) has hooks"):
        as_affine_relu(net)


def test_hooks_of_the_whole_network_are_refused():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    handle = net.register_forward_hook(lambda module, inputs, output: -output)
    with pytest.raises(UnsupportedLayerError, match="Sequential has hooks"):
        as_affine_relu(net)
    handle.remove()
    assert as_affine_relu(net).sizes == (2, 3, 2)


class OneNumber(nn.Module):
    """A network whose output for one input is a number without an axis, as in regression."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 3), nn.Linear(3, 1)

    def forward(self, x):
        y = self.second(torch.relu(self.first(x))).squeeze(-1)
        return y + functional.relu(y)


def test_an_output_may_be_a_number_without_an_axis():
    torch.manual_seed(0)
    module = OneNumber()
    net, X = as_affine_relu(module, (2,)), torch.randn(5, 2)
    assert net.sizes[-1] == 1
    assert np.allclose(net(X.numpy())[:, 0], module(X).detach().numpy(), atol=1e-6)


class RoundedLinear(nn.Linear):
    """A layer that rounds its weights, as those for quantisation do, which tracing takes for torch's own."""

    __module__ = "torch.ao.nn.qat"

    def forward(self, x):
        return functional.linear(x, (self.weight * 4).round() / 4, self.bias)


def test_layers_for_quantisation_are_refused():
    with pytest.raises(UnsupportedLayerError, match=r"layer '0' is RoundedLinear\(.* which rounds"):
        as_affine_relu(nn.Sequential(RoundedLinear(2, 3), nn.ReLU(), nn.Linear(3, 2)), (2,))


def shrunk(module):
    """A module whose forward was replaced by one that first clips its input, far from 0."""
    plain = module.forward
    module.forward = lambda x: plain(x.clamp(-300, 300))
    return module


class Called(nn.Linear):
    """A layer of torch's that is called in another way."""

    __module__ = "torch.nn.called"

    def __call__(self, x):
        return super().__call__(x).clamp(max=2e4)


def test_a_layer_with_a_forward_of_its_own_is_refused():
    for layer, reason in (
        (shrunk(nn.Linear(2, 2)), "a forward of its own"),
        (shrunk(nn.Hardtanh(-9, 9)), "a forward of its own"),
        (Called(2, 2), "a __call__ of its own"),
    ):
        net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(layer), nn.ReLU())
        with pytest.raises(UnsupportedLayerError, match=rf"layer '1.0' \({type(layer).__name__}\) has {reason}"):
            as_affine_relu(net)


@pytest.mark.parametrize("place", ["network", "container"])
def test_a_forward_that_replaces_that_of_a_container_is_read(place):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU(), nn.Linear(3, 2)))
    shrunk(net if place == "network" else net[1])
    X = torch.randn(6, 2) * 1000
    with torch.no_grad():
        assert np.allclose(as_affine_relu(net, (2,))(X.numpy()), net(X), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("register", ["register_module_forward_hook", "register_module_forward_pre_hook"])
def test_hooks_of_all_modules_are_refused(register):
    handle = getattr(nn.modules.module, register)(lambda *args: None)
    try:
        with pytest.raises(UnsupportedLayerError, match="Sequential is called with hooks of all modules"):
            as_affine_relu(nn.Sequential(nn.Linear(2, 2)))
    finally:
        handle.remove()


class InPlace(nn.Module):
    """A network with an activation that works in place on a value which has another use."""

    def __init__(self, use):
        super().__init__()
        self.layer, self.clip, self.use = nn.Linear(2, 2), nn.Hardtanh(-1e7, 1e7, inplace=True), use

    def forward(self, x):
        return self.use(self, self.layer(x))


IN_PLACE = {
    "unused": lambda net, h: (net.clip(h), h)[1],
    "of a view": lambda net, h: (net.clip(h.view(-1, 2)), 2 * h)[1],
    "method": lambda net, h: (h.reshape(-1, 2).clamp_(-1e7, 1e7), h)[1],
    "function": lambda net, h: (functional.relu6(h, True), h)[1],
    "summed": lambda net, h: h + net.clip(h),
    "view after": lambda net, h: (h.view(-1, 1, 2), net.clip(h))[0].flatten(1),
}


@pytest.mark.parametrize("use", IN_PLACE)
def test_what_is_changed_in_place_and_read_again_is_refused(use):
    with pytest.raises(UnsupportedLayerError, match=r"works in place and changes what .* reads"):
        as_affine_relu(InPlace(IN_PLACE[use]))


def test_a_layer_in_place_whose_result_alone_is_used_is_read():
    torch.manual_seed(0)
    net = nn.Sequential(InPlace(lambda net, h: net.clip(h).clamp_(-2, 3)), nn.ReLU(inplace=True), nn.Linear(2, 1))
    X = torch.randn(5, 2)
    assert np.allclose(as_affine_relu(net)(X.numpy()), net(X).detach().numpy(), atol=1e-6)


BESIDE = {
    "shape before": lambda net, h: (h.shape[0], net.clip(h)),
    "size before": lambda net, h: (h.size(0), functional.relu_(h)),
    "shape after": lambda net, h: (net.clip(h), h.shape[0])[::-1],
    "size after": lambda net, h: (functional.hardtanh(h, inplace=True), h.size(0))[::-1],
    "default ends": lambda net, h: (h.shape[0], functional.hardtanh_(h)),
    "one end": lambda net, h: (h.shape[0], functional.hardtanh_(h, -0.5)),
}


@pytest.mark.parametrize("use", BESIDE)
def test_a_shape_may_be_read_beside_a_layer_in_place(use):
    def forward(net, h):
        batch, changed = BESIDE[use](net, h)
        return changed.view(batch, -1)

    torch.manual_seed(0)
    net, X = InPlace(forward), 4 * torch.randn(9, 2)
    assert np.allclose(as_affine_relu(net)(X.numpy()), net(X).detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("attribute", ["T", "mT", "data"])
def test_an_attribute_that_shares_memory_is_a_view(attribute):
    net = InPlace(lambda net, h: (getattr(h, attribute), net.clip(h))[0])
    with pytest.raises(UnsupportedLayerError, match="works in place and changes what"):
        as_affine_relu(net)


class Untraced(nn.Module):
    """A network that clips far from 0 in a way that tracing does not see."""

    def __init__(self, where):
        super().__init__()
        self.layer, self.where = nn.Linear(1, 1), where
        nn.init.ones_(self.layer.weight)

    def forward(self, x):
        y = self.layer(x)
        if isinstance(y, torch.Tensor):
            y = y.clamp(max=self.where)
        return y


@pytest.mark.parametrize("where", [30.0, 3e7])
def test_a_network_is_compared_with_what_was_read_within_the_box(where):
    net, inputs = Untraced(where), Box([2 * where], [3 * where])
    with pytest.raises(UnsupportedLayerError, match="computes something else than its layers say"):
        verify(net, inputs, LinearProperty([[-1.0]], [-1.5 * where]))
    if where < 1000:
        with pytest.raises(UnsupportedLayerError, match="computes something else than its layers say"):
            as_affine_relu(net)


ENDS = {
    "tensors": lambda h: h.clamp(torch.tensor([-0.2, 0.0, -1.0]), torch.tensor([0.3, 0.1, 2.0])),
    "crossed": lambda h: torch.clamp(h, torch.tensor([0.5, -1.0, 0.0]), torch.tensor([-0.5, 1.0, 0.0])),
    "some infinite": lambda h: h.clip(*torch.tensor([[-torch.inf, 0.0, -torch.inf], [0.1, torch.inf, torch.inf]])),
    "number and tensor": lambda h: torch.clamp(h, max=torch.tensor([[0.3, -0.1, 0.2]])),
    "equal": lambda h: functional.hardtanh(h, 0.5, 0.5),
    "minimum alone": lambda h: h.clamp_min(-0.1),
}


class Clipped(nn.Module):
    def __init__(self, clip):
        super().__init__()
        self.layer, self.clip = nn.Linear(2, 3), clip

    def forward(self, x):
        return self.clip(self.layer(x))


@pytest.mark.parametrize("ends", ENDS)
def test_clipping_to_any_constant_ends_is_read(ends):
    torch.manual_seed(0)
    module, X = Clipped(ENDS[ends]), torch.randn(40, 2)
    assert np.allclose(as_affine_relu(module)(X.numpy()), module(X).detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("clip", [lambda h: h.clamp(-h.abs(), 1), lambda h: h.clamp(float("nan"), 1.0)])
def test_ends_that_are_no_constants_are_refused(clip):
    with pytest.raises(UnsupportedLayerError, match=r"layer '(clamp|abs)"):
        as_affine_relu(Clipped(clip))


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(4), nn.PReLU(4)])
def test_a_single_channel_is_not_taken_for_each_of_many(layer):
    with pytest.raises(ValueError, match=r"layer '0' does not take an input of shape \(1, 5\): expected 4 channels"):
        as_affine_relu(nn.Sequential(layer).eval(), (1, 5))


def test_a_network_on_another_device_is_copied(monkeypatch):
    net = nn.Sequential(nn.Linear(2, 3, device="meta"), nn.ReLU(), nn.Linear(3, 2, device="meta"))  # as on a GPU

    def as_from_a_gpu(module):
        module.to_empty(device="cpu")
        for parameter in module.parameters():
            nn.init.ones_(parameter)
        return module

    monkeypatch.setattr(nn.Module, "cpu", as_from_a_gpu)
    assert as_affine_relu(net)(np.ones(2)).tolist() == [10, 10]
    assert net[0].weight.is_meta
