"""Uses of weights that send errors back otherwise than through feedback weights."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from engram.rules import Backprop, DirectFeedbackAlignment, FeedbackAlignment, SignSymmetry, WeightMirror
from engram.rules.network import AnyNetwork

CLASSES = torch.tensor([0, 2, 1, 2])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(*shape):
    return torch.randn(*shape, generator=seeded())


class Within(nn.Module):
    """An operation of an activity with six units and of weights of many forms, between two linear layers."""

    def __init__(self, use):
        super().__init__()
        self.low, self.head, self.use = nn.Linear(4, 6), nn.Linear(6, 3), use
        shapes = {"W": (6, 6), "v": (6,), "gates": (24, 6), "stack": (2, 6, 6), "points": (4, 6), "scalar": (1,)}
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(torch.randn(shape) / 3))
        self.words, self.x = nn.Embedding(5, 6), torch.empty(0)

    def forward(self, x):
        self.x = x
        return self.head(self.use(self, self.low(x).tanh()))


def columns(values):
    return values[..., None].expand(-1, 6)


class OwnProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, holder):
        ctx.holder = holder
        return x @ holder.W

    @staticmethod
    def backward(ctx, error):
        return error @ ctx.holder.W.T, None


class OwnVector(torch.autograd.Function):
    @staticmethod
    def forward(x, v):
        return x * v

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, error):
        x, v = ctx.saved_tensors
        return error * v, (error * x).sum(0)


class OwnStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, threshold):
        ctx.save_for_backward(x)
        return (x > threshold).to(x)

    @staticmethod
    def backward(ctx, error):
        (x,) = ctx.saved_tensors
        return error / (1 + x.square()), -error.sum().reshape(1)


OTHER_USES = {
    "dot": lambda n, h: columns(torch.stack([torch.dot(row, n.v) for row in h])),
    "column": lambda n, h: columns((h @ n.v[:, None])[:, 0]),
    "three": lambda n, h: torch.einsum("bi,ij,j->bj", h, n.W, n.v),
    "in place": lambda n, h: torch.zeros(1, len(h), 6).baddbmm_(h[None], n.W[None])[0],
    "operator of torch": lambda n, h: torch.ops.aten.addmm.default(n.v, h, n.W),
    "convolution of torch": lambda n, h: torch.convolution(
        h[..., None], n.W[..., None], None, [1], [0], [1], False, [0], 1
    )[..., 0],
    "gated cell": lambda n, h: torch.lstm_cell(h, (h, h), n.gates, n.gates)[0],
    "recurrent sequence": lambda n, h: torch.rnn_relu(
        h[None], torch.zeros(1, len(h), 6), [n.W, n.W], False, 1, 0.0, False, False, False
    )[0][0],
    "values": lambda n, h: functional.scaled_dot_product_attention(
        h[:, None], h[:, None].expand(-1, 4, -1), n.points.expand(len(h), -1, -1)
    )[:, 0],
    "keys beside others": lambda n, h: (h @ torch.cat([n.points, h]).T).softmax(-1) @ torch.ones(4 + len(h), 6),
    "all embeddings": lambda n, h: (h @ n.words(torch.arange(5)).T).softmax(-1) @ torch.ones(5, 6),
    "experts": lambda n, h: torch.stack([h @ W for W in n.stack]).sum(0),
    "distance": lambda n, h: torch.cdist(h, n.points) @ torch.ones(4, 6),
    "inverse": lambda n, h: torch.linalg.solve(n.W + 3 * torch.eye(6), h.T).T,
    "sum of products": lambda n, h: columns((h * n.v).sum(-1)),
    "outer": lambda n, h: h[:, :1] * n.v,
    "generated": lambda n, h: torch.bmm(n.W + h[:, :, None] * h[:, None], h[..., None])[..., 0],
    "of a spectrum": lambda n, h: torch.fft.irfft(torch.fft.rfft(h) * torch.fft.rfft(n.v), 6),
    "cast as the input": lambda n, h: h @ n.W.type_as(n.x),
    "filled": lambda n, h: h @ n.x.new_zeros(6, 6).copy_(n.W),
    "function of the module": lambda n, h: OwnProduct.apply(h, n),
    "function of a vector": lambda n, h: OwnVector.apply(h, n.v),
    "detached": lambda n, h: h @ n.W.detach().T,
    "copied": lambda n, h: columns(h @ n.v.data.clone().abs()),
    "map of copied": lambda n, h: functional.linear(h, n.W.detach().abs()),
    "map of a vector": lambda n, h: columns(functional.linear(h, n.v[None])[:, 0]),
    "vmap": lambda n, h: torch.vmap(lambda row: functional.linear(row, n.W))(h),
}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", OTHER_USES)
def test_any_other_use_of_weights_is_refused_by_name(name, frozen):
    torch.manual_seed(0)
    model, rule = Within(OTHER_USES[name]), FeedbackAlignment()
    if frozen:
        for key, parameter in model.named_parameters():
            parameter.requires_grad_(key.startswith("low"))
    model(drawn(4, 4))  # torch can do it
    with pytest.raises(
        TypeError, match=r"FeedbackAlignment cannot train ('(W|v|gates|points|stack|words.*)'|the weights)"
    ):
        rule.update(model, drawn(4, 4), CLASSES, rule.init(model, seeded()))


TAKEN = {
    "gains": lambda n, h: torch.addcmul(n.v, h * n.v.exp(), n.v) / (1 + n.v.square()),
    "gain of many places": lambda n, h: (h[..., None].expand(-1, -1, 5) * n.v[:, None]).mean(2),
    "slopes": lambda n, h: functional.prelu(functional.rms_norm(h, (6,), n.v), n.v),
    "leak": lambda n, h: torch.lerp(h, torch.zeros(6), n.v.sigmoid()),
    "threshold": lambda n, h: OwnStep.apply(h, n.scalar) + h,
    "bias of attention": lambda n, h: (h @ h.T + n.W[: len(h), : len(h)]).softmax(-1) @ h,
    "temperature": lambda n, h: (h @ h.T / n.scalar.exp()).softmax(-1) @ h,
    "embeddings of the input": lambda n, h: columns((h * n.words((n.x[:, 0] > 0).long())).sum(-1)),
    "rows of the input": lambda n, h: columns((h[:, None] @ n.W[(n.x > 0).long()].mT).sum((1, 2))),
    "product of the input": lambda n, h: h + (n.x @ n.W[:4]),
    "input after a gain": lambda n, h: (n.x * n.v[:4]) @ n.x.T @ h,
    "constant": lambda n, h: functional.linear(h, torch.ones(6, 6), n.v),
    "nearest": lambda n, h: h + (n.points[torch.cdist(h.detach(), n.points.detach()).argmin(1)] - h).detach(),
    "in place": lambda n, h: h.clone().mul_(n.v).add_(n.v),
}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", TAKEN)
def test_elementwise_uses_and_lookups_are_taken(name, frozen):
    torch.manual_seed(0)
    model, rule = Within(TAKEN[name]), FeedbackAlignment()
    if frozen:
        for key, parameter in model.named_parameters():
            parameter.requires_grad_(key.startswith("low"))
    ours = rule.update(model, drawn(4, 4), CLASSES, AnyNetwork.from_module(model, rule).weights()).grads
    theirs = Backprop().update(model, drawn(4, 4), CLASSES, None).grads
    assert ours.keys() == theirs.keys()
    torch.testing.assert_close(ours, theirs)
    random = rule.update(model, drawn(4, 4), CLASSES, rule.init(model, seeded())).grads
    assert not torch.allclose(random["low.weight"], theirs["low.weight"])


MAPS = {
    "detached": lambda n, h: functional.linear(h, n.W.detach(), n.v),
    "data, transposed": lambda n, h: functional.linear(h, n.W.data.T),
    "part": lambda n, h: functional.linear(h, n.stack.detach()[1]),
    "convolution": lambda n, h: functional.conv1d(h[..., None], n.W.detach()[..., None])[..., 0],
    "as exported": lambda n, h: torch.ops.aten.linear.default(h, n.W, n.v),
}


@pytest.mark.parametrize("name", MAPS)
def test_maps_of_detached_weights_and_as_exported_send_errors_through_the_feedback(name):
    torch.manual_seed(0)
    model, rule = Within(MAPS[name]), FeedbackAlignment()
    used = "stack" if name == "part" else "W"
    feedback = rule.init(model, seeded())
    grads = rule.update(model, drawn(4, 4), CLASSES, feedback).grads
    assert (used in grads) == (name == "as exported")
    h = model.low(drawn(4, 4)).tanh()
    output = model.head(MAPS[name](model, h))
    (error,) = torch.autograd.grad(functional.cross_entropy(output, CLASSES), output, retain_graph=True)
    twin = copy.deepcopy(model)
    getattr(twin, used).data = feedback[used]
    (below,) = torch.autograd.grad(MAPS[name](twin, h), model.low.weight, error @ feedback["head.weight"])
    torch.testing.assert_close(grads["low.weight"], below)


def test_scripted_functions_are_read_by_their_graph():
    product = torch.jit.trace(lambda h, W: torch.tanh(h @ W), (torch.ones(4, 6), torch.ones(6, 6)))
    swish = torch.jit.trace(lambda h: h * h.sigmoid(), torch.ones(4, 6))
    torch.manual_seed(0)
    rule, fits, model = FeedbackAlignment(), Within(lambda n, h: swish(h)), Within(lambda n, h: product(h, n.W))
    for _ in range(3):  # torch fuses the operations after a few calls
        assert "low.weight" in rule.update(fits, drawn(4, 4), CLASSES, rule.init(fits, seeded())).grads
        with pytest.raises(TypeError, match="cannot train 'W'"):
            rule.update(model, drawn(4, 4), CLASSES, rule.init(model, seeded()))


def test_parameters_from_outside_are_refused_though_they_are_frozen():
    outer = nn.Linear(6, 6).requires_grad_(False)
    for use in (lambda n, h: outer(h), lambda n, h: h @ outer.weight):
        model, rule = Within(use), FeedbackAlignment()
        with pytest.raises(TypeError, match="given from outside"):
            rule.update(model, drawn(4, 4), CLASSES, rule.init(model, seeded()))


def test_errors_name_the_function_that_was_called():
    names = {
        "einsum": lambda n, h: torch.einsum("bi,ji->bj", h, n.W),
        "vdot": lambda n, h: torch.stack([torch.vdot(row, n.v) for row in h])[:, None],
    }
    for name, use in names.items():
        model, rule = Within(use), FeedbackAlignment()
        model.head = nn.LazyLinear(3)
        model(drawn(4, 4))
        with pytest.raises(TypeError, match=f": {name} .*expected torch.nn.functional.linear"):
            rule.update(model, drawn(4, 4), CLASSES, rule.init(model, seeded()))


def test_an_exported_block_sends_errors_through_the_feedback():
    torch.manual_seed(0)
    block, x = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Unflatten(1, (1, 5)), nn.Conv1d(1, 2, 3)), drawn(4, 4)
    exported = torch.export.export(block, (torch.ones(4, 6),)).module()
    grads = {}
    for name, inner in {"plain": block, "exported": exported}.items():
        torch.manual_seed(1)
        model, rule = nn.Sequential(nn.Linear(4, 6), inner, nn.Flatten(), nn.LazyLinear(3)), FeedbackAlignment()
        model(x)
        network = AnyNetwork.from_module(model, rule)
        grads[name], _ = network.learn(x, CLASSES, network.random_weights(seeded()))
    torch.testing.assert_close(grads["exported"], grads["plain"])


def test_complex_weights_are_refused_by_name():
    class Complex(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Linear(4, 5, dtype=torch.cfloat), nn.Linear(5, 3)

        def forward(self, x):
            return self.head(self.first(x.to(torch.cfloat)).abs())

    for rule in (FeedbackAlignment(), SignSymmetry(), WeightMirror(), DirectFeedbackAlignment(["first"])):
        with pytest.raises(TypeError, match=r"first.*complex"):
            rule.update(Complex(), drawn(4, 4), CLASSES, rule.init(Complex(), seeded()))
    with pytest.raises(TypeError, match=r"Linear: its weights are complex"):
        FeedbackAlignment().init(nn.Sequential(nn.Linear(2, 3, dtype=torch.cfloat)), seeded())


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_feedback_of_a_transposed_convolution_has_the_fan_in_of_a_unit(groups):
    up = nn.ConvTranspose1d(16, 64, 5, groups=groups)
    model = nn.Sequential(nn.Conv1d(2, 16, 1), up, nn.Flatten(), nn.LazyLinear(3))
    model(torch.ones(1, 2, 4))
    B = FeedbackAlignment().init(model, seeded())["1.weight"]
    assert B.var().item() * 16 / groups * 5 == pytest.approx(1, rel=0.2)
