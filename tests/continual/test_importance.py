"""Importances: closed forms, and the fast path against a gradient a sample."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from engram.continual import fisher_diagonal, gradient_magnitude, slow_parameters
from engram.meta import per_sample


def by_sample(model, inputs, cotangents, power):
    """Return the sums as they are defined, from single-sample passes."""
    model.eval()
    parameters = slow_parameters(model)
    sums = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for x in inputs:
        for v in cotangents(model(x[None])):
            output = model(x[None])
            gradients = torch.autograd.grad((output * v).sum(), list(parameters.values()), materialize_grads=True)
            for name, g in zip(parameters, gradients, strict=True):
                sums[name] += g.abs() ** power / len(inputs)
    return sums


def every_class(output):
    p = output.detach().softmax(1)
    return [p[0, c].sqrt() * (torch.eye(p.shape[1], dtype=p.dtype)[c] - p) for c in range(p.shape[1])]


class Tied(nn.Module):
    """A layer that is used twice, a weight that is used beside its layer, and a head of no use."""

    def __init__(self):
        super().__init__()
        self.inner, self.embedding, self.unused = nn.Linear(5, 5), nn.Linear(5, 5, bias=False), nn.Linear(5, 2)

    def forward(self, x):
        return self.embedding(torch.tanh(self.inner(self.inner(x)))) @ self.embedding.weight


class Positions(nn.Module):
    """Layers at several positions of a sample."""

    def __init__(self):
        super().__init__()
        self.layer, self.rnn, self.head = nn.Linear(2, 4), nn.RNN(4, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x):
        return self.head(self.rnn(self.layer(x.view(len(x), -1, 2)))[0][:, -1])


class Looks(nn.Module):
    """A network that vmap refuses, as it looks at a number."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.5, -0.5, 0.3, 2.0, 0.1]))

    def forward(self, x):
        return x * self.scale if x.isfinite().all().item() else x


class Routed(nn.Module):
    """Two layers, of which each gets some samples, and the second none of the first batch."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 3), nn.Linear(5, 3)

    def forward(self, x):
        late = x[:, 2] < -1.5
        return torch.zeros_like(x[:, :3]).index_put((late,), self.second(x[late])) + (
            torch.zeros_like(x[:, :3]).index_put((~late,), self.first(x[~late]))
        )


NETWORKS = {
    "layers": (lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(5, 4)), (6,)),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 3, padding="same"),
            nn.ReLU(),
            nn.BatchNorm2d(3),
            nn.Conv2d(3, 4, (2, 3), stride=2, padding=1, dilation=(1, 2)),
            nn.Conv2d(4, 4, 2, groups=2),
            nn.Flatten(),
            nn.LazyLinear(3),
        ),
        (2, 6, 7),
    ),
    "tied": (Tied, (5,)),
    "positions": (Positions, (6,)),
    "looks": (Looks, (5,)),
    "routed": (Routed, (5,)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_fisher_and_magnitude_are_those_of_single_samples(name, monkeypatch):
    monkeypatch.setattr(per_sample, "CHUNK", 4)
    make, shape = NETWORKS[name]
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model, inputs = make().double(), torch.randn(9, *shape, generator=generator, dtype=torch.float64)
    model(inputs)  # makes what is lazy, and moves the running means
    *_, still = model.train().modules()
    still.eval()
    importances = fisher_diagonal(model, [inputs[:4], inputs[4:]], fisher="all")
    assert all(module.training == (module is not still) for module in model.modules())
    torch.testing.assert_close(importances, by_sample(model, inputs, every_class, 2), rtol=1e-9, atol=1e-12)
    importances = gradient_magnitude(model, [inputs])
    torch.testing.assert_close(
        importances, by_sample(model, inputs, lambda z: [2 * z.detach()], 1), rtol=1e-9, atol=1e-12
    )


def test_fisher_of_logistic_regression():  # O7
    class Logistic(nn.Module):
        def __init__(self):
            super().__init__()
            self.theta = nn.Parameter(torch.zeros(1, 1, dtype=torch.float64))

        def forward(self, x):
            return torch.cat((x @ self.theta, torch.zeros_like(x)), 1)

    x = torch.full((4, 1), 2.0, dtype=torch.float64)
    labels = torch.tensor([0, 1, 1, 0])
    for kind in ("all", "true", "sample", "predicted", "auto"):
        fisher = fisher_diagonal(Logistic(), [(x, labels)], fisher=kind)
        assert fisher["theta"].item() == pytest.approx(1.0)


def test_fisher_of_a_linear_softmax():  # O8
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(50, 4, generator=generator, dtype=torch.float64)
    model = nn.Linear(4, 3, bias=False).double()
    p = model(x).softmax(1).detach()
    expected = (p * (1 - p)).T @ x**2 / len(x)
    torch.testing.assert_close(fisher_diagonal(model, [x], fisher="all")["weight"], expected)
    drawn = fisher_diagonal(model, [x.repeat(400, 1)], fisher="sample", generator=generator)["weight"]
    torch.testing.assert_close(drawn, expected, rtol=0.1, atol=0.01)


def test_the_labels_of_a_fisher_information_are_as_its_kind_says():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(20, 4, generator=generator)
    few, many = nn.Linear(4, 10, bias=False), nn.Linear(4, 11, bias=False)

    def fisher(model, kind):
        data = [(x, model(x).argmax(1))]
        return fisher_diagonal(model, data, fisher=kind, generator=torch.Generator().manual_seed(2))["weight"]

    torch.testing.assert_close(fisher(few, "predicted"), fisher(few, "true"))
    torch.testing.assert_close(fisher(few, "auto"), fisher(few, "all"))
    torch.testing.assert_close(fisher(many, "auto"), fisher(many, "sample"))


def test_opposite_gradients_do_not_cancel():
    x = torch.ones(2, 1)
    model = nn.Linear(1, 2, bias=False)
    nn.init.zeros_(model.weight)
    fisher = fisher_diagonal(model, [(x, torch.tensor([0, 1]))], fisher="true")
    assert fisher["weight"].tolist() == [[0.25], [0.25]]


@pytest.mark.parametrize("select", [["0.weight", "1.weight"], "weight", lambda name, p: p.ndim == 2])
def test_parameters_are_chosen_by_name_pattern_or_function(select):
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    assert list(slow_parameters(net, select)) == ["0.weight", "1.weight"]


def test_magnitude_of_a_linear_map():  # O13
    model = nn.Linear(2, 1, bias=False)
    model.weight.data = torch.tensor([[1.0, -1.0]])
    both = torch.tensor([[2.0, 1.0], [-2.0, -1.0]])
    for batched in (False, True):
        assert gradient_magnitude(model, [both], batched=batched)["weight"].tolist() == [[4.0, 2.0]]
    model.weight.data = torch.tensor([[1.0, 0.0]])
    x = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    assert gradient_magnitude(model, [x])["weight"].tolist() == [[2.0, 2.0]]
    assert gradient_magnitude(model, [x], batched=True)["weight"].tolist() == [[2.0, 0.0]]
    assert gradient_magnitude(model, [x], norm="l1")["weight"].tolist() == [[1.0, 1.0]]
    assert gradient_magnitude(model, [x], norm="vector")["weight"].tolist() == [[1.0, 1.0]]
    model = nn.Linear(1, 2, bias=False)
    model.weight.data = torch.tensor([[3.0], [1.0]]).log()  # of p = 3/4 and 1/4, d(p^2)/dz = 2 p (p - 5/8)
    magnitude = gradient_magnitude(model, [torch.ones(1, 1)], output="softmax")["weight"]
    torch.testing.assert_close(magnitude, torch.full((2, 1), 3 / 16))


def test_only_the_active_classes_count():
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    whole, part = nn.Linear(3, 4).double(), nn.Linear(3, 2).double()
    part.load_state_dict({name: p[[1, 3]] for name, p in whole.state_dict().items()})
    labels = torch.randint(2, (20,), generator=generator)
    for kind in ("all", "true", "predicted"):
        fisher = fisher_diagonal(whole, [(x, 1 + 2 * labels)], fisher=kind, classes=(1, 3))["weight"]
        torch.testing.assert_close(fisher[[1, 3]], fisher_diagonal(part, [(x, labels)], fisher=kind)["weight"])
        assert not fisher[[0, 2]].any()


def test_a_confident_network_has_a_fisher_information():
    model = nn.Linear(1, 2, bias=False)
    model.weight.data = torch.tensor([[20.0], [0.0]])
    assert fisher_diagonal(model, [torch.ones(1, 1)], fisher="all")["weight"].min() > 1e-9
    with pytest.warns(UserWarning, match="every importance is 0"):
        fisher_diagonal(model, [torch.zeros(1, 1)], fisher="all")


def test_so_many_samples_are_taken():
    model = nn.Linear(3, 2)
    x = torch.randn(10, 3, generator=torch.Generator().manual_seed(3))
    importance = gradient_magnitude(model, x.split(4), n_samples=5)
    torch.testing.assert_close(importance, gradient_magnitude(model, [x[:5]]))


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ([], {}, "data holds no sample"),
        ([torch.zeros(0, 2)], {}, "data holds no sample"),
        ([torch.ones(1, 2)], {"fisher": "true"}, "labels"),
        ([(torch.ones(1, 2), torch.tensor([3]))], {"fisher": "true"}, "labels hold 3"),
        ([(torch.ones(1, 2), torch.tensor([0, 1]))], {}, "1 inputs with 2 labels"),
        ([torch.ones(1, 2)], {"classes": (0, 5)}, "classes"),
        ([torch.ones(1, 2)], {"classes": (0, 1, 0)}, r"classes = \(0, 1, 0\): expected different indices"),
        ([torch.ones(1, 2)], {"classes": (True, False, True)}, r"classes = \(True, False, True\): expected different"),
        ([torch.ones(1, 2)], {"fisher": "empirical"}, "fisher"),
        ([torch.ones(1, 2)], {"n_samples": 0}, "n_samples"),
        ([torch.ones(1, 2)], {"select": "conv"}, "select"),
        ([torch.ones(1, 2)], {"select": ["weigth"]}, "weigth"),
    ],
)
def test_bad_input_is_named(data, options, message):
    with pytest.raises(ValueError, match=message):
        fisher_diagonal(nn.Linear(2, 3), data, **options)


def test_what_is_not_finite_is_named():
    model = nn.Linear(2, 3)
    model.bias.data[1] = float("nan")
    with pytest.raises(FloatingPointError, match="'weight'"):
        fisher_diagonal(model, [torch.ones(1, 2)])


@pytest.mark.parametrize(
    ("layers", "named"), [(3, r"'2\.weight', '2\.bias'$"), (4, r"'2\.bias', \.\.\.$"), (0, "none$")]
)
def test_six_parameters_are_named_where_a_choice_leaves_none(layers, named):
    with pytest.raises(ValueError, match=named):
        slow_parameters(nn.Sequential(*(nn.Linear(1, 1) for _ in range(layers))), "conv")


class Twice(nn.Module):
    """A layer that is called twice."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(self.layer(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("batched", [False, True])
def test_sums_over_many_samples_are_not_made_in_half_precision(dtype, batched):
    net = nn.Linear(1, 1, bias=False, dtype=dtype)
    net.weight.data.fill_(1)
    # Added up in half precision, the gradients would pass the largest number, or no longer be seen beside their sum.
    inputs = [torch.full((1, 1), 16.0, dtype=dtype)] * 400
    magnitude = gradient_magnitude(net, inputs, batched=batched)["weight"]
    assert (magnitude.dtype, magnitude.item()) == (dtype, 2 * 16.0**2)
    twice = Twice(net)  # so that each sample gets its own gradient: d(w^4 x^2) / dw = 4 x^2
    assert gradient_magnitude(twice, inputs, batched=batched)["layer.weight"].item() == 4 * 16.0**2


def test_the_fisher_information_in_half_precision_is_that_in_single_precision():
    torch.manual_seed(0)
    single, x = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)), torch.randn(400, 1, 4, 4)
    half = copy.deepcopy(single).bfloat16()
    single.load_state_dict(half.state_dict())
    expected = fisher_diagonal(single, list(x.bfloat16().float().split(1)))
    found = fisher_diagonal(half, list(x.bfloat16().split(1)))
    for name, value in expected.items():
        assert found[name].dtype == torch.bfloat16
        torch.testing.assert_close(found[name].float(), value, rtol=0.05, atol=0.02 * value.max().item())


def test_a_parameter_without_axes_has_an_importance():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(5.0))

        def forward(self, x):
            return self.scale * x

    magnitude = gradient_magnitude(Scaled(), [torch.ones(3, 1)])  # d (s x)^2 / ds = 2 s
    assert magnitude["scale"].item() == 10.0
    assert fisher_diagonal(Scaled(), [torch.eye(2)])["scale"].shape == ()


def test_importances_are_measured_full_precision():
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4)), torch.randn(20, 3)
    expected = fisher_diagonal(net, [x])
    with torch.autocast("cpu", torch.bfloat16):
        found = fisher_diagonal(net, [x])
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


class Sequence(nn.Module):
    """A recurrent layer and a readout of its last output; notes whether cuDNN may be used while it runs."""

    def __init__(self, kind):
        super().__init__()
        self.layer, self.readout, self.cudnn = kind(3, 4, batch_first=True), nn.Linear(4, 2), []

    def forward(self, x):
        self.cudnn.append(torch.backends.cudnn.enabled)
        return self.readout(self.layer(x)[0][:, -1])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_are_differentiated_without_cudnn_which_refuses_evaluation_mode(kind):
    torch.manual_seed(0)
    net, x = Sequence(kind), torch.randn(6, 5, 3)
    before = torch.backends.cudnn.enabled
    importance = fisher_diagonal(net, [x], fisher="all")
    assert not any(net.cudnn)
    assert torch.backends.cudnn.enabled == before
    assert net.training
    expected = by_sample(net, x, every_class, 2)
    for name, value in importance.items():
        torch.testing.assert_close(value, expected[name])
    plain = nn.Sequential(nn.Flatten(), nn.Linear(15, 2))
    plain.register_forward_pre_hook(lambda *_: net.cudnn.append(torch.backends.cudnn.enabled))
    net.cudnn.clear()
    gradient_magnitude(plain, [x])
    assert all(enabled == before for enabled in net.cudnn)
