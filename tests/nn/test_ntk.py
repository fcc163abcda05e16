import io

import pytest
import torch
from torch import nn
from torch.nn import functional

from engram.nn import (
    NTKRNN,
    BatchOnlyNorm,
    Memoryless,
    NTKConv2d,
    NTKLinear,
    WideRNN,
    freeze_norms,
    from_standard,
    standard_rates,
    to_standard,
    wide_cnn,
    wide_mlp,
    wide_rnn,
)
from engram.rules import Backprop, FeedbackAlignment, KolenPollack, train_step


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=1):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def test_initial_weights_are_standard_normal_and_the_scale_stands_outside():
    dense = NTKLinear(400, 300, gain=2**0.5, generator=generator())
    convolution = NTKConv2d(20, 50, 5, generator=generator())
    for layer in (dense, convolution):
        assert layer.weight.mean().abs() < 0.02
        assert 0.98 < layer.weight.std() < 1.02
        assert not layer.bias.any()
    assert dense.scale == pytest.approx((2 / 400) ** 0.5)
    assert convolution.scale == pytest.approx((20 * 25) ** -0.5)
    x = torch.ones(2, 400)
    torch.testing.assert_close(dense(x), functional.linear(x, dense.weight) * dense.scale)


@pytest.mark.parametrize(("size", "pads"), [(28, (0, 1)), (14, (0, 1)), (32, (0, 1)), (7, (1, 1))])
def test_same_padding_halves_a_size(size, pads):
    layer = NTKConv2d(1, 1, 3, 2)
    assert layer.margins((size, size)) == (*pads, *pads)
    assert layer(torch.zeros(1, 1, size, size)).shape[-1] == -(-size // 2)


def test_same_padding_as_by_hand():
    layer = NTKConv2d(1, 1, 3, 2, dtype=torch.float64, generator=generator())
    image, kernel = draw(4, 4), layer.weight[0, 0] / 3
    output = layer(image[None, None])[0, 0]
    assert output.shape == (2, 2)
    torch.testing.assert_close(output[0, 0], (kernel * image[:3, :3]).sum())  # rows 0 to 2: nothing before them
    torch.testing.assert_close(output[1, 1], (kernel[:2, :2] * image[2:, 2:]).sum())
    assert NTKConv2d(1, 1, 3, 4).margins((224, 224)) == (0, 0, 0, 0)
    assert NTKConv2d(1, 1, 3, padding=1)(torch.zeros(1, 1, 5, 5)).shape[-1] == 5


@pytest.mark.parametrize("padding", ["same_tf", 1])
def test_gradient_descent_is_the_same_in_both_parameterisations(padding):
    g = generator()
    model = nn.Sequential(
        NTKConv2d(1, 3, 3, 2, padding=padding, dtype=torch.float64, generator=g),
        *(BatchOnlyNorm(), nn.ReLU(), nn.Flatten()),
        NTKLinear(12, 8, gain=2**0.5, dtype=torch.float64, generator=g),
        *(nn.ReLU(), NTKLinear(8, 2, dtype=torch.float64, generator=g)),
    )
    x, target = draw(6, 1, 4, 4), draw(6, 2, seed=2)
    standard, rates = to_standard(model), standard_rates(model, 0.5)
    assert type(standard[4]) is nn.Linear
    assert type(standard[0]) is (NTKConv2d if padding == "same_tf" else nn.Conv2d)
    optimizers = (
        torch.optim.SGD(model.parameters(), lr=0.5),
        torch.optim.SGD([{"params": [p], "lr": rates[name]} for name, p in standard.named_parameters()]),
    )
    start = model(x).detach()
    for _ in range(50):
        for net, optimizer in zip((model, standard), optimizers, strict=True):
            train_step(Backprop(), net, optimizer, (x, target), None)
    torch.testing.assert_close(standard(x), model(x), rtol=0, atol=1e-10)
    assert (model(x) - start).abs().max() > 0.1


def test_there_and_back():
    model = nn.Sequential(nn.Conv2d(2, 3, 3, 2, 1), nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(12, 5))).double()
    x = draw(4, 2, 4, 4)
    ntk = from_standard(model)
    assert [type(m) for m in ntk.modules() if hasattr(m, "scale")] == [NTKConv2d, NTKLinear]
    torch.testing.assert_close(ntk(x), model(x))
    torch.testing.assert_close(to_standard(ntk)(x), model(x))
    assert ntk.state_dict().keys() == model.state_dict().keys()
    assert type(from_standard(nn.Linear(2, 2))) is NTKLinear


def test_norm_over_the_batch_alone():
    x = draw(6, 3, 4, 4)
    output = BatchOnlyNorm(eps=1e-3)(x)
    torch.testing.assert_close(output, (x - x.mean(0)) / (x.var(0, correction=0) + 1e-3).sqrt())
    with pytest.raises(ValueError, match=r"input.shape = \(1, 3, 4, 4\): expected at least 2 samples"):
        BatchOnlyNorm()(x[:1])


def test_frozen_norms_keep_their_statistics_also_in_a_checkpoint():
    model, x = wide_mlp((5, 4, 4, 2), dtype=torch.float64, generator=generator()), draw(20, 5)
    whole = model(x)
    freeze_norms(model, x)
    torch.testing.assert_close(model(x), whole)
    torch.testing.assert_close(model(x[:1]), whole[:1])
    other = wide_mlp((5, 4, 4, 2), dtype=torch.float64)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x[:3]), model(x[:3]))
    freeze_norms(model, x[:10])
    torch.testing.assert_close(model(x[:10])[:1], model(x[:1]))
    with pytest.raises(ValueError, match="without a BatchOnlyNorm"):
        freeze_norms(nn.Linear(5, 2), x)


def test_a_recurrent_network_step_by_step():
    net, x = NTKRNN(2, 4, dtype=torch.float64, generator=generator()), draw(3, 5, 2)
    hidden = torch.zeros(5, 4, dtype=torch.float64)
    for step in x:
        hidden = (step @ net.weight_ih.t() + hidden @ net.weight_hh.t() / 2 + net.bias).clamp(min=0)
    output, state = net(x)
    torch.testing.assert_close(state.hidden, hidden)
    torch.testing.assert_close(output[-1], hidden)


def test_rules_of_standard_weights_say_what_to_do():
    model = wide_mlp((5, 4, 2), generator=generator())
    with pytest.raises(TypeError, match=r"KolenPollack cannot train layer '0', a NTKLinear.*to_standard"):
        KolenPollack().init(model, generator())
    KolenPollack().init(to_standard(model), generator())
    spread = FeedbackAlignment().init(wide_mlp((5, 400, 300), generator=generator()), generator())["3.weight"].std()
    assert 0.045 < spread < 0.055


def test_networks():
    cnn = wide_cnn(6, (1, 1, 2), channels=3, outputs=4, generator=generator())
    assert cnn(torch.zeros(2, 3, 8, 8)).shape == (2, 4)
    assert isinstance(wide_rnn(1, 3, 2), WideRNN)
    assert wide_mlp((4, 3, 2), norm=False)[2].scale == pytest.approx((2 / 3) ** 0.5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: NTKLinear(3, 2)(torch.zeros(4, 2)), ValueError, r"input.shape = \(4, 2\)"),
        (lambda: NTKConv2d(3, 2, 3)(torch.zeros(4, 2, 5, 5)), ValueError, r"input.shape = \(4, 2, 5, 5\)"),
        (lambda: wide_mlp((4,)), ValueError, r"sizes = \(4,\)"),
        (lambda: wide_cnn(4, ()), ValueError, "strides is empty"),
        (lambda: to_standard(nn.Linear(2, 2)), TypeError, "Linear without NTKLinear"),
        (lambda: to_standard(wide_rnn(1, 3, 2)), TypeError, "'core' is an NTKRNN"),
        (lambda: from_standard(nn.ReLU()), TypeError, "ReLU without nn.Linear"),
        (lambda: from_standard(nn.Conv2d(2, 2, (3, 1))), TypeError, "square kernel"),
        (lambda: WideRNN(NTKRNN(1, 3), NTKLinear(4, 2)), ValueError, "readout.in_features = 4: expected 3"),
    ],
)  # fmt: skip
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_layer_that_occurs_twice_is_converted_once():
    shared = NTKLinear(4, 4, generator=torch.Generator().manual_seed(0))
    net, x = nn.Sequential(shared, nn.Tanh(), shared), torch.eye(4)
    expected = net(x).detach()
    standard = to_standard(net)
    torch.testing.assert_close(standard(x), expected)
    assert standard[0] is standard[2]
    torch.testing.assert_close(from_standard(standard)(x), expected)


def test_a_wide_network_takes_time_first():
    generator = torch.Generator().manual_seed(0)
    core = NTKRNN(1, 4, batch_first=True, generator=generator)
    with pytest.raises(ValueError, match="batch_first = True"):
        WideRNN(core, NTKLinear(4, 1, generator=generator))


def test_tied_weights_are_scaled_once():
    net = nn.Sequential(NTKLinear(6, 6), nn.ReLU(), NTKLinear(6, 6))
    net[2].weight = net[0].weight
    x = torch.randn(3, 6)
    standard = to_standard(net)
    assert standard[0].weight is standard[2].weight
    torch.testing.assert_close(standard(x), net(x))
    torch.testing.assert_close(from_standard(standard)(x), net(x))


def test_tied_weights_of_two_scales_are_refused():
    net = nn.Sequential(NTKLinear(6, 6), nn.ReLU(), NTKLinear(6, 6))
    net[2].weight, net[2].scale = net[0].weight, 1.0
    with pytest.raises(ValueError, match=r"layer '2' has the scale 1: expected 0\.\d+, the scale of its tied weights"):
        to_standard(net)


@pytest.mark.parametrize("convert", [to_standard, from_standard])
def test_weights_tied_to_another_kind_of_layer_are_refused(convert):
    net = nn.Sequential(nn.Embedding(6, 6), (NTKLinear if convert is to_standard else nn.Linear)(6, 6))
    net[0].weight = net[1].weight
    with pytest.raises(ValueError, match="a Embedding shares weights with a layer that is converted"):
        convert(net)


@pytest.mark.parametrize("net", [wide_mlp((4, 8, 2)), nn.Sequential(nn.Linear(4, 4), wide_rnn(4, 8, 2)),
                                 nn.Sequential(nn.Linear(4, 4), Memoryless(4, 8))])  # fmt: skip
def test_networks_run_under_autocast(net):
    x = draw(3, 5, 4).float()
    with torch.autocast("cpu", torch.bfloat16):
        output = net(x[0] if isinstance(net[0], NTKLinear) else x)
    assert (output[0] if isinstance(output, tuple) else output).isfinite().all()


def test_frozen_norms_take_the_precision_of_their_input():
    frozen, x = wide_mlp((4, 8, 2), generator=generator()), draw(20, 4).float()
    freeze_norms(frozen, x)
    other = wide_mlp((4, 8, 2)).double()
    other.load_state_dict(frozen.state_dict())
    torch.testing.assert_close(other(x.double()), frozen(x).double(), rtol=1e-5, atol=1e-5)


def test_frozen_norms_keep_their_statistics_when_a_part_of_a_state_is_loaded():
    model, x = wide_mlp((4, 8, 2), generator=generator()), draw(20, 4).float()
    free = wide_mlp((4, 8, 2)).state_dict()
    freeze_norms(model, x)
    mean, variance = model[1].mean.clone(), model[1].variance.clone()
    missing, _ = model.load_state_dict({"0.weight": torch.zeros(8, 4)}, strict=False)
    assert {"1.mean", "1.variance"} <= set(missing)
    assert torch.equal(model[1].mean, mean)
    model.load_state_dict({"1.mean": mean + 1}, strict=False)
    assert torch.equal(model[1].mean, mean + 1)
    assert torch.equal(model[1].variance, variance)
    with pytest.raises(RuntimeError, match=r"1\.mean"):
        model.load_state_dict(dict(free))
    parts = model.state_dict()
    for name in ("1.mean", "1.variance"):
        del parts[name]
    missing, _ = model.load_state_dict(parts, strict=False)
    assert missing == ["1.mean", "1.variance"]
    assert torch.equal(model[1].variance, variance)
    model.load_state_dict(free)
    assert model[1].mean is None
    assert model[1].variance is None
    buffer = io.BytesIO()
    torch.save(free, buffer)
    freeze_norms(model, x)
    model.load_state_dict(torch.load(io.BytesIO(buffer.getvalue()), weights_only=True))
    assert model[1].mean is None
