"""Rules with feedback weights on networks that are no chains of layers."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from engram.rules import (
    AlignProp,
    Backprop,
    DirectFeedbackAlignment,
    FeedbackAlignment,
    KolenPollack,
    LastLayerOnly,
    SignSymmetry,
    WeightMirror,
    apply_rule,
    train_step,
)
from engram.rules.chain import Chain
from engram.rules.feedback_mode import FeedbackMode, Substitute
from engram.rules.network import AnyNetwork, network_of
from engram.rules.weight_mirror import mirror

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64).to(dtype)


class Block(nn.Module):
    def __init__(self, channels, out, stride=1):
        super().__init__()
        self.first = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(out), nn.BatchNorm2d(out)])
        self.skip = nn.Conv2d(channels, out, 1, stride, bias=False) if stride > 1 else nn.Identity()

    def forward(self, x):
        inner = functional.relu(self.norms[0](self.first(x)))
        return functional.relu(self.skip(x) + self.norms[1](self.second(inner)))


class Attention(nn.Module):
    """An encoder and a decoder layer, the latter with attention across."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)
        self.decoder = nn.TransformerDecoderLayer(8, 2, 12, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.decoder(x, self.encoder(x)).mean(1))


class Functional(nn.Module):
    """Maps that are called with parameters of its own, by name, of one sample, and with a transposed weight."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.place = nn.Parameter(torch.ones(1, 5, 4))
        self.W, self.b = nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.zeros(3))
        self.kernel = nn.Parameter(torch.randn(3, 3, 2))

    def forward(self, x):
        h = functional.linear(input=self.embedding(x) + self.place, weight=self.W, bias=self.b).transpose(1, 2)
        h = torch.stack([functional.conv1d(one, weight=self.kernel, padding="same") for one in h]).tanh()
        back = functional.linear(h.transpose(1, 2), self.W.t())
        return functional.linear(back, self.embedding.weight).mean(1)


def twice():
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(4, 3))


NETWORKS = {
    "residual": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            Block(4, 4),
            Block(4, 6, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 3),
        ),
        lambda: drawn(4, 3, 8, 8),
    ),
    "attention": (Attention, lambda: drawn(4, 5, 8)),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1, groups=2),
            nn.Conv2d(6, 2, 2, padding="same", padding_mode="circular"),
            nn.Conv2d(2, 2, 2, padding="same"),
            nn.Flatten(2),
            nn.Conv1d(2, 3, 5, stride=3, padding="valid"),
            nn.Flatten(),
            nn.LazyLinear(3),
        ),
        lambda: drawn(4, 2, 6, 7),
    ),
    "volume": (
        lambda: nn.Sequential(nn.Conv3d(1, 2, 2), nn.Flatten(), nn.Linear(16, 3)),
        lambda: drawn(4, 1, 3, 3, 3),
    ),
    "functional": (Functional, lambda: torch.arange(20).reshape(4, 5) % 7),
    "twice": (twice, lambda: drawn(4, 4)),
}
CLASSES = torch.tensor([0, 2, 1, 2])


def made(name, seed=0):
    make, inputs = NETWORKS[name]
    torch.manual_seed(seed)
    model, x = make(), inputs()
    model(x)  # makes what is lazy
    return model, x


def true_feedback(model, rule=None):
    rule = rule or FeedbackAlignment()
    return {name: W.detach() for name, W in AnyNetwork.from_module(model, rule).weights().items()}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("copied", [False, True])
def test_through_the_forward_weights_it_is_backpropagation_bit_for_bit(name, copied):
    model, x = made(name)
    twin = copy.deepcopy(model)
    network = AnyNetwork.from_module(model, FeedbackAlignment())
    feedback = {name: W.clone() if copied else W for name, W in true_feedback(model).items()}
    grads, loss = network.learn(x, CLASSES, feedback)
    exact = Backprop().update(twin, x, CLASSES, None)
    assert grads.keys() == exact.grads.keys()
    assert torch.equal(loss, exact.info["loss"])
    assert [key for key, value in exact.grads.items() if not torch.equal(grads[key], value)] == []
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(model.buffers(), twin.buffers(), strict=True))


def test_a_residual_block_by_hand():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
            self.one.weight.data = torch.tensor([[1.0, -1.0], [0.5, 0.5]])
            self.two.weight.data = torch.tensor([[1.0, 0.0], [2.0, -1.0]])

        def forward(self, x):
            return x + self.two(self.one(x).relu())

    model, x = Residual(), torch.tensor([[1.0, 2.0]], requires_grad=True)
    B1, B2 = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 1.0], [0.0, 2.0]])
    with FeedbackMode("fa", [Substitute("1", model.one.weight, B1), Substitute("2", model.two.weight, B2)]):
        y = model(x)
    assert y.tolist() == [[1.0, 0.5]]
    (y.square().sum() / 2).backward()
    assert model.two.weight.grad.tolist() == [[0, 1.5], [0, 0.75]]
    assert model.one.weight.grad.tolist() == [[0, 0], [2, 4]]
    assert x.grad.tolist() == [[1, 2.5]]


@pytest.mark.parametrize("name", ["residual", "attention", "convolutions"])
def test_random_feedback_of_one_map_changes_what_lies_before_it_alone(name):
    model, x = made(name)
    network = AnyNetwork.from_module(model.eval(), FeedbackAlignment())
    exact, _ = network.learn(x, CLASSES, true_feedback(model))
    order, changes = list(exact), {}
    for weight, B in network.random_weights(seeded()).items():
        grads, _ = network.learn(x, CLASSES, true_feedback(model) | {weight: B})
        changes[weight] = {key for key in order if not torch.equal(grads[key], exact[key])}
    head = list(network.maps)[-1]
    assert changes[head] == {key for key in order if not key.startswith(head.rpartition(".")[0])}
    assert changes[next(iter(network.maps))] == set()  # nothing lies before the first
    if name == "attention":
        assert changes["encoder.self_attn.out_proj.weight"] == {
            "encoder.self_attn.in_proj_weight",
            "encoder.self_attn.in_proj_bias",
        }
        assert "encoder.linear1.weight" in changes["decoder.multihead_attn.in_proj_weight"]
        assert "decoder.multihead_attn.in_proj_weight" not in changes["decoder.multihead_attn.in_proj_weight"]


def test_without_feedback_errors_pass_the_shortcuts_alone():
    model, x = made("residual")
    network = AnyNetwork.from_module(model.eval(), FeedbackAlignment())
    exact, _ = network.learn(x, CLASSES, true_feedback(model))
    head = {"5.weight": torch.zeros_like(model[5].weight)}
    below, _ = network.learn(x, CLASSES, true_feedback(model) | head)
    assert {key for key, value in below.items() if value.any()} == {"5.weight", "5.bias"}
    branch = {"1.second.weight": torch.zeros_like(model[1].second.weight)}
    grads, _ = network.learn(x, CLASSES, true_feedback(model) | branch)
    assert not grads["1.first.weight"].any()
    assert all(
        torch.equal(grads[key], exact[key]) for key in grads if not key.startswith(("0", "1.first", "1.norms.0"))
    )
    assert grads["0.weight"].any()


def test_it_agrees_with_the_chain():
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Tanh(), nn.Flatten()),
        *(nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, 3)),
    ).double()
    rule, x = FeedbackAlignment(), drawn(4, 2, 6, 6, dtype=torch.float64)
    state = rule.init(model, seeded())
    assert isinstance(network_of(model, rule), Chain)
    grads, loss = AnyNetwork.from_module(model, rule).learn(x, CLASSES, {"0.weight": model[0].weight, **state})
    update = rule.update(model, x, CLASSES, state)
    torch.testing.assert_close((grads, loss), (update.grads, update.info["loss"]), rtol=1e-10, atol=1e-12)


RULES = {
    "fa": FeedbackAlignment,
    "usf": SignSymmetry,
    "frsf": SignSymmetry.fixed,
    "brsf": SignSymmetry.redrawn,
    "kolen-pollack": KolenPollack,
    "align-prop": AlignProp,
    "weight-mirror": lambda: WeightMirror(rate=0.05, decay=0.05),
}


@pytest.mark.parametrize("name", ["residual", "attention", "functional"])
@pytest.mark.parametrize("make", RULES.values(), ids=RULES)
def test_each_rule_lowers_the_loss(name, make):
    model, x = made(name)
    rule = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    state, losses = rule.init(model, seeded(1)), []
    for _ in range(30):
        update = train_step(rule, model, optimizer, (x, CLASSES), state)
        state = update.state
        losses.append(update.info["loss"].item())
    assert losses[-1] < 0.7 * losses[0]


def test_of_sign_symmetry_the_feedback_has_the_signs_of_the_weights(monkeypatch):
    model, x = made("residual")
    rule, seen = SignSymmetry(), []
    learn = AnyNetwork.learn
    monkeypatch.setattr(AnyNetwork, "learn", lambda *args: seen.append(args[3]) or learn(*args))
    rule.update(model, x, CLASSES, rule.init(model, seeded()))
    for name, B in seen[0].items():
        W = dict(model.named_parameters())[name]
        torch.testing.assert_close(B, W.abs().mean() * torch.where(W < 0, -1.0, 1.0))


def test_of_kolen_pollack_the_difference_shrinks_by_the_decay():
    model, x = made("residual")
    rule = KolenPollack(decay=0.01)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.5, weight_decay=rule.weight_decay(0.02, 0.5))
    state = rule.init(model, seeded())

    def differences():
        return torch.cat([(dict(model.named_parameters())[name] - B).flatten() for name, B in state.items()]).detach()

    # With momentum the decay of a step arrives over the next ones, so that the shares hold in sum.
    before = differences()
    for _ in range(40):
        state = train_step(rule, model, optimizer, (x, CLASSES), state).state
    share = (differences() @ before) / before.square().sum()
    assert share.item() == pytest.approx(0.99**40, rel=0.02)


def test_align_prop_begins_with_backpropagation():
    model, x = made("attention")
    rule = AlignProp()
    grads = rule.update(model, x, CLASSES, rule.init(model, seeded())).grads
    exact = Backprop().update(model, x, CLASSES, None).grads
    assert all(torch.equal(grads[key], value) for key, value in exact.items())


def test_frozen_weights_get_no_gradient_and_pass_errors_through_their_feedback():
    model, x = made("residual")
    network = AnyNetwork.from_module(model.eval(), FeedbackAlignment())
    feedback = network.random_weights(seeded())
    free, _ = network.learn(x, CLASSES, feedback)
    model[1].requires_grad_(False)
    grads, _ = network.learn(x, CLASSES, feedback)
    assert grads.keys() == {key for key in free if not key.startswith("1.")}
    assert all(torch.equal(grads[key], free[key]) for key in grads)


def test_several_inputs_are_a_tuple():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right, self.head = nn.Linear(2, 4), nn.Linear(3, 4), nn.Linear(4, 3)

        def forward(self, left, right):
            return self.head(torch.tanh(self.left(left) * self.right(right)))

    model, rule = Two(), FeedbackAlignment()
    batch = (drawn(4, 2), drawn(4, 3)), CLASSES
    update = train_step(rule, model, torch.optim.SGD(model.parameters(), 0.1), batch, rule.init(model, seeded()))
    assert all(grad.any() for grad in update.grads.values())


class Product(nn.Module):
    def __init__(self, multiply):
        super().__init__()
        self.inner, self.W, self.multiply = nn.Linear(4, 4), nn.Parameter(torch.randn(3, 4)), multiply

    def forward(self, x):
        return self.multiply(self.inner(x), self.W)


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.head = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 5)), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(checkpoint(self.inner, x, use_reentrant=False))


class OwnKernel(nn.Linear):
    def forward(self, x):
        return torch.nn.functional.bilinear(x, torch.ones(len(x), 1), self.weight[:, :, None], self.bias)


def normed():
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.Tanh(), nn.Linear(4, 3))


SILENT = {
    "matmul": (lambda: Product(lambda x, W: x @ W.T), "W.*functional.linear"),
    "einsum": (lambda: Product(lambda x, W: torch.einsum("bi,oi->bo", x, W)), "W.*einsum"),
    "addmm": (lambda: Product(lambda x, W: torch.addmm(torch.zeros(3), x, W.t())), "W.*addmm"),
    "linalg": (lambda: Product(lambda x, W: torch.linalg.matmul(x, W.T)), "W.*matmul"),
    "several": (lambda: Product(lambda x, W: torch.linalg.multi_dot([x, W.T])), "W.*multi_dot"),
    "signed": (lambda: Product(lambda x, W: x @ W.abs().T), "W.*functional.linear"),
    "masked": (lambda: Product(lambda x, W: x @ (W * torch.ones(3, 4)).T.contiguous()), "W.*functional.linear"),
    "computed": (lambda: Product(lambda x, W: functional.linear(x, 2 * W)), "linear map: they are computed"),
    "bilinear": (lambda: nn.Sequential(OwnKernel(4, 3)), "'0.weight'"),
    "recurrent": (lambda: nn.Sequential(nn.Linear(4, 3), nn.LSTM(3, 3)), "layer '1', a LSTM"),
    "parametrised": (normed, "layer '0', a ParametrizedLinear: its weights are computed"),
    "compiled": (lambda: nn.Sequential(torch.compile(nn.Linear(4, 4)), nn.Linear(4, 3)), "compiled"),
    "checkpoint": (Checkpointed, "'inner.0.weight' within a checkpoint"),
}


@pytest.mark.parametrize("name", SILENT)
def test_what_would_silently_be_backpropagation_is_refused(name):
    make, message = SILENT[name]
    torch.manual_seed(0)
    model, rule = make(), FeedbackAlignment()
    with pytest.raises(TypeError, match=f"FeedbackAlignment cannot train.*{message}"):
        rule.update(model, drawn(4, 4), CLASSES, rule.init(model, seeded()))


def test_products_of_activities_are_taken_also_with_embeddings_and_after_a_gain():
    class Products(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain, self.words = nn.Parameter(torch.ones(4)), nn.Embedding(3, 4)
            self.keys, self.head = nn.ParameterList([torch.randn(4, 4)]), nn.Linear(4, 3)

        def forward(self, x):
            keys = functional.linear(x * self.gain, self.keys[0])
            return self.head((x * self.gain) @ keys.T @ keys + self.words(torch.zeros(4, dtype=int)) @ torch.eye(4))

    torch.manual_seed(0)
    model, rule = Products(), FeedbackAlignment()
    ours = rule.update(model, drawn(4, 4), CLASSES, true_feedback(model)).grads
    theirs = Backprop().update(model, drawn(4, 4), CLASSES, None).grads
    assert ours.keys() == theirs.keys() == dict(model.named_parameters()).keys()
    for name, grad in theirs.items():
        torch.testing.assert_close(ours[name], grad)


class Parts(nn.Module):
    """Heads that are parts of one parameter, and a linear layer that serves as a convolution."""

    def __init__(self):
        super().__init__()
        self.heads, self.layer = nn.Parameter(torch.randn(3, 5, 6)), nn.Linear(6, 4)
        self.first, self.head = nn.Conv2d(1, 6, 1), nn.Linear(31, 3)

    def forward(self, x):
        z = self.first(x).tanh()
        heads = torch.cat([functional.linear(z.mean((2, 3)), W) for W in self.heads], 1)
        return self.head(torch.cat([heads, functional.conv2d(z, self.layer.weight[:, :, None, None]).flatten(1)], 1))


def test_weights_that_are_used_in_parts_or_in_another_shape_have_a_mirror():
    torch.manual_seed(0)
    model, x = Parts(), drawn(4, 1, 2, 2)
    network, uses = uses_of(model, x)
    for name in ("heads", "layer.weight"):
        W = network.maps[name]
        torch.testing.assert_close(mirror(W, uses[name], 40_000, seeded()), W.detach(), rtol=0.1, atol=0.1)


def test_parameters_from_outside_are_refused():
    outer = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))

    class Outside(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x):
            return outer(self.inner(x))

    rule, model = FeedbackAlignment(), Outside()
    with pytest.raises(TypeError, match="given from outside"):
        rule.update(model, drawn(4, 4), CLASSES, rule.init(model, seeded()))


def test_autocast_is_refused():
    model, x = made("residual")
    rule = FeedbackAlignment()
    state = rule.init(model, seeded())
    with torch.autocast("cpu"), pytest.raises(ValueError, match="autocast is on"):
        rule.update(model, x, CLASSES, state)


def test_feedback_that_changes_before_the_backward_pass_is_refused():
    layer, x, B = nn.Linear(2, 3), torch.ones(1, 2, requires_grad=True), torch.ones(3, 2)
    with FeedbackMode("fa", [Substitute("weight", layer.weight, B)]):
        y = layer(x)
    B.mul_(2)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()


def test_a_second_derivative_is_refused():
    layer, x = nn.Linear(2, 3), torch.ones(1, 2, requires_grad=True)
    with FeedbackMode("fa", [Substitute("weight", layer.weight, torch.ones(3, 2))]):
        y = layer(x)
    (down,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="gradients by feedback weights have no derivative"):
        down.sum().backward()


def test_the_state_of_another_network_is_refused():
    rule = FeedbackAlignment()
    (model, x), (other, _) = made("residual"), made("attention")
    with pytest.raises(ValueError, match="state"):
        rule.update(model, x, CLASSES, rule.init(other, seeded()))


def uses_of(model, x, rule=None):
    network = AnyNetwork.from_module(model, rule or WeightMirror())
    return network, network.uses(x)


def test_a_mirror_of_a_convolution_is_corrected_for_padding():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 3, 3, padding=1), nn.Flatten(), nn.Linear(108, 3))
    network, uses = uses_of(model, drawn(4, 2, 6, 6))
    W = network.maps["1.weight"]
    estimate = mirror(W, uses["1.weight"], 4000, seeded())
    # A corner's tap meets an input at 25 of 36 positions, an edge's at 30: without the correction .69 and .83 of W.
    for rows, columns in ((0, 0), (0, 1), (1, 1), (2, 1)):
        taps = estimate[:, :, rows, columns].flatten(), W[:, :, rows, columns].flatten()
        assert (taps[0] @ taps[1] / taps[1].square().sum()).item() == pytest.approx(1, abs=0.04)


def test_the_error_of_a_mirror_falls_with_the_number_of_positions():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 2, 1), nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular"), nn.Flatten(), nn.Linear(256, 3)
    )
    network, uses = uses_of(model, drawn(4, 2, 8, 8))
    W = network.maps["1.weight"].detach()
    estimate = mirror(W, uses["1.weight"], 1600, seeded())  # about 1e5 positions
    assert ((estimate - W).norm() / W.norm()).item() == pytest.approx((18 / (64 * 1600)) ** 0.5, rel=0.3)


@pytest.mark.parametrize("name", ["convolutions", "volume", "attention", "functional"])
def test_what_a_mirror_of_any_map_learns_are_its_weights(name):
    model, x = made(name)
    network, uses = uses_of(model, x)
    assert uses.keys() <= network.maps.keys()
    assert next(iter(network.maps)) not in uses  # below the first map no error goes on
    generator = seeded()
    for key, use in uses.items():
        estimate, W = mirror(network.maps[key], use, 2000, generator), network.maps[key]
        assert torch.cosine_similarity(estimate.flatten(), W.flatten(), dim=0) > 0.95, key
        assert (estimate.norm() / W.norm()).item() == pytest.approx(1, abs=0.1), key


def test_a_warm_up_aligns_the_feedback_before_the_first_update():
    model, x = made("residual")
    cosines = {}
    for warm_up in (0, 200):
        rule = WeightMirror(warm_up=warm_up)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        network, state = AnyNetwork.from_module(model, rule), rule.init(model, seeded(1))
        twin = copy.deepcopy(model)
        update = rule.update(model, x, CLASSES, state)
        assert int(update.state.due) == 0
        Backprop().update(twin, x, CLASSES, None)  # the running statistics move once
        assert all(torch.equal(value, model.state_dict()[name]) for name, value in twin.state_dict().items())
        model.load_state_dict(before)
        pairs = [(B.flatten(), network.maps[key].flatten()) for key, B in update.state.feedback.items()][1:]
        cosines[warm_up] = min(torch.cosine_similarity(*pair, dim=0).item() for pair in pairs)
    assert cosines[0] < 0.5
    assert cosines[200] > 0.9


def test_a_warm_up_of_a_chain_is_the_same_phases():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), drawn(4, 4)
    rule = WeightMirror(rate=0.1, decay=0.1)
    state = rule.init(model, seeded())
    for _ in range(4):
        state = rule.update(model, x, CLASSES, state).state
    warm = WeightMirror(rate=0.1, decay=0.1, warm_up=3)
    assert torch.equal(
        warm.update(model, x, CLASSES, warm.init(model, seeded())).state.feedback["2.weight"],
        state.feedback["2.weight"],
    )


def test_direct_feedback_at_the_layers_of_a_chain_is_that_of_the_chain():
    torch.manual_seed(0)
    parts = [nn.Sequential(nn.Linear(pre, post), nn.Tanh()) for pre, post in ((4, 6), (6, 5))]
    model, x = nn.Sequential(*parts, nn.Linear(5, 3)).double(), drawn(4, 4, dtype=torch.float64)
    chain_rule, rule = DirectFeedbackAlignment(), DirectFeedbackAlignment(points=["0", "1"])
    expected, state, _ = chain_rule.update(model, x, CLASSES, chain_rule.init(model, seeded()))
    grads, drawn_alike, _ = rule.update(model, x, CLASSES, rule.init(model, seeded()))
    assert torch.equal(drawn_alike.weights, state.weights)
    torch.testing.assert_close(grads, expected, rtol=1e-12, atol=1e-14)


def test_direct_feedback_through_the_weights_of_the_head_is_backpropagation():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.LayerNorm(6), nn.Linear(6, 5))
    model, x, rule = nn.Sequential(body, nn.Linear(5, 3)), drawn(4, 4), DirectFeedbackAlignment(points=["0"])
    state = rule.init(model, seeded())._replace(weights=model[1].weight.detach().clone())
    grads, exact = rule.update(model, x, CLASSES, state).grads, Backprop().update(model, x, CLASSES, None).grads
    torch.testing.assert_close(grads, exact)


def test_direct_feedback_stops_at_the_input_of_a_point():
    """A block learns as if its input were data, and its output had the error e D."""
    model, x = made("residual")
    rule = DirectFeedbackAlignment()
    exact = copy.deepcopy(model)
    grads, state, info = rule.update(model, x, CLASSES, rule.init(model, seeded()))
    assert state.weights.shape == (3, 4 * 64 + 4 * 64 + 6 * 16)
    h = exact[1](exact[0](x)).detach()
    inner = exact[2](h)
    output = exact[3:](inner)
    loss = functional.cross_entropy(output, CLASSES)
    (e,) = torch.autograd.grad(loss, output, retain_graph=True)
    assert info["loss"] == loss
    inner.backward((e @ state.weights[:, 512:]).reshape(inner.shape))
    torch.testing.assert_close(grads["2.first.weight"], exact[2].first.weight.grad)
    torch.testing.assert_close(grads["5.weight"], torch.autograd.grad(loss, exact[5].weight)[0])


POINTS = {
    "no points": (None, TypeError, "Attention as it is: expected an nn.Sequential, or points"),
    "unknown": (["encoder.7"], ValueError, "points has 'encoder.7': expected names of modules of the model: encoder"),
    "nested": (["encoder", "encoder.linear1"], ValueError, "'encoder.linear1' within 'encoder'"),
    "without weights": (["encoder.dropout"], ValueError, "a Dropout: expected one with weights"),
    "no error": (["decoder"], TypeError, "input of 'decoder' depends: no error reaches them"),
    "output": (["encoder", "decoder", "head"], TypeError, "'head' as a point, since its output"),
    "tuple": (["encoder.self_attn"], TypeError, "'encoder.self_attn': its output is a tuple"),
    "a name": ("encoder", TypeError, "points = 'encoder'"),
}


@pytest.mark.parametrize("case", POINTS)
def test_points_that_do_not_fit_are_refused(case):
    points, error, message = POINTS[case]
    model, x = made("attention")
    with pytest.raises(error, match=message):
        (rule := DirectFeedbackAlignment(points)).update(model, x, CLASSES, rule.init(model, seeded()))


def test_direct_feedback_trains_a_transformer_at_its_blocks():
    model, x = made("attention")
    rule, before = DirectFeedbackAlignment(["encoder", "decoder"]), copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    state, losses = rule.init(model, seeded(1)), []
    for _ in range(40):
        update = train_step(rule, model, optimizer, (x, CLASSES), state)
        state = update.state
        losses.append(update.info["loss"].item())
    assert losses[-1] < 0.7 * losses[0]
    unused = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert unused == set()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(("kind", "share"), [("sgd", 0.9752565), ("adamw", 0.951206)])
def test_kolen_pollack_decays_as_the_optimiser_does_in_each_step(kind, share):
    model, x = made("residual")
    steps = 100 if kind == "sgd" else 50
    if kind == "sgd":
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, steps, pct_start=0.1, cycle_momentum=False)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    rule = KolenPollack(decay="optimizer")
    state, product = rule.init(model, seeded(1)), 1.0
    weights = dict(model.named_parameters())
    before = {name: (weights[name] - B).detach() for name, B in state.items()}
    for _ in range(steps):
        product *= 1 - rule.at(optimizer).decay
        state = train_step(rule, model, optimizer, (x, CLASSES), state).state
        schedule.step()
    assert product == pytest.approx(share, rel=2e-3)
    for name, B in state.items():
        left = (weights[name] - B).flatten() @ before[name].flatten() / before[name].square().sum()
        assert left.item() == pytest.approx(product, rel=2e-3 if kind == "sgd" else 1e-4)


def test_the_decay_of_kolen_pollack_needs_an_optimiser_that_tells_it():
    model, x = made("residual")
    rule = KolenPollack("optimizer")
    state = rule.init(model, seeded())
    parameters = list(model.parameters())
    with pytest.raises(ValueError, match="decay = 'optimizer': expected the step to be taken by train_step"):
        rule.after_step(model, {}, state)
    with pytest.raises(ValueError, match="optimizer is a RMSprop: expected"):
        train_step(rule, model, torch.optim.RMSprop(parameters), (x, CLASSES), state)
    uneven = [{"params": parameters[:1], "lr": 0.2}, {"params": parameters[1:]}]
    with pytest.raises(ValueError, match="expected the same share in all its groups"):
        train_step(rule, model, torch.optim.SGD(uneven, lr=0.1, weight_decay=0.1), (x, CLASSES), state)
    with pytest.raises((TypeError, ValueError), match="decay"):
        KolenPollack("none")


def test_of_a_sequence_the_last_layer_alone_learns():
    model, x = made("residual")
    exact = Backprop().update(copy.deepcopy(model), x, CLASSES, None)
    update = apply_rule(LastLayerOnly(), model, x, CLASSES, LastLayerOnly().init(model, seeded()))
    assert update.grads.keys() == {"5.weight", "5.bias"}
    assert update.info["loss"] == exact.info["loss"]
    torch.testing.assert_close(update.grads, {name: exact.grads[name] for name in update.grads})


class TwoInputs(nn.Module):
    """Owns a parameter itself, as a network with a class token does, and is no sequence."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.ones(4))
        self.head = nn.Linear(4, 3)  # declared before what it reads
        self.body = nn.Bilinear(4, 2, 4)

    def forward(self, x, context):
        return self.head((self.body(x, context) + self.token).tanh())


def test_the_last_layer_of_any_module_is_the_one_nearest_to_its_output():
    model, inputs = TwoInputs(), (torch.randn(5, 4, generator=seeded()), torch.ones(5, 2))
    target, rule = torch.tensor([0, 1, 2, 0, 1]), LastLayerOnly()
    exact = Backprop().update(model, inputs, target, None)
    update = rule.update(model, inputs, target, rule.init(model, seeded()))
    assert update.grads.keys() == {"head.weight", "head.bias"}
    torch.testing.assert_close(update.grads, {name: exact.grads[name] for name in update.grads})
    model.head.requires_grad_(False)
    assert rule.update(model, inputs, target, None).grads.keys() == {"token"}, "of those that can be trained"
    with pytest.raises(TypeError, match="LastLayerOnly cannot train"):
        rule.init(model.requires_grad_(False), seeded())


def test_feedback_of_frozen_weights_stays_and_biases_may_decay_otherwise():
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    rule = KolenPollack("optimizer")
    biases, weights = ([p for p in model.parameters() if p.ndim == axes] for axes in (1, 2))
    groups = [{"params": weights, "weight_decay": 0.1}, {"params": biases, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    assert rule.at(optimizer).decay == pytest.approx(0.01)
    state = rule.init(model, seeded())
    model[2].weight.requires_grad_(False)
    after = KolenPollack(decay=0.5).after_step(model, {}, state)
    assert torch.equal(after["2.weight"], state["2.weight"])
