import copy

import pytest
import torch
from torch import nn

from engram import registry
from engram.nn import NTKLinear
from engram.rules import (
    AlignZero,
    Backprop,
    DifferenceTargetPropagation,
    EquilibriumPropagation,
    FeedbackAlignment,
    LastLayerOnly,
    LocalError,
    NodePerturbation,
    PredictiveCoding,
    Reinforce,
    WeightPerturbation,
    chain,
    output_loss,
    train_step,
)

CONV = ("fa", "dfa", "usf", "frsf", "brsf", "kolen-pollack", "local-error", "last-layer", "pc-fixed", "pc-strict")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


@pytest.fixture(autouse=True)
def same_weights():
    torch.manual_seed(0)


def backward(model, x, target):
    """Gradients of the closed loop, with the forward weights as feedback."""
    rule = FeedbackAlignment()
    return rule.update(model, x, target, chain.Chain.from_module(model, rule, scaled=True).weights()).grads


MODELS = {
    "one layer": (lambda: nn.Linear(5, 3), (5,)),
    "nested": (lambda: nn.Sequential(nn.Sequential(nn.Linear(5, 4), nn.ReLU()), nn.Sequential(nn.Linear(4, 3))), (5,)),
    "smooth": (lambda: nn.Sequential(nn.Linear(5, 4), nn.GELU(), nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 3)), (5,)),
    "in place": (
        lambda: nn.Sequential(
            nn.Linear(5, 4), nn.ReLU(True), nn.Linear(4, 4), nn.LeakyReLU(inplace=True), nn.Linear(4, 3)
        ),
        (5,),
    ),
    "output unit": (lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3), nn.Tanh()), (5,)),
    "without bias": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 4, bias=False), nn.Tanh(), nn.Linear(4, 3)),
        (2, 3),
    ),
    "layer norm": (lambda: nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 3)), (5,)),
    "convolution": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding="same", dilation=2),
            nn.Tanh(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(24, 3),
        ),
        (2, 8, 8),
    ),
    "even kernel": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 2, padding="valid"), nn.Flatten(), nn.Linear(16, 3)),
        (2, 3, 3),
    ),
    "several places": (
        lambda: nn.Sequential(
            *(nn.Linear(5, 6), nn.Tanh(), nn.Unflatten(1, (2, 3)), nn.Linear(3, 2), nn.Tanh(), nn.Flatten()),
            nn.Linear(4, 3),
        ),
        (5,),
    ),
    "scaled": (lambda: nn.Sequential(NTKLinear(5, 4), nn.Tanh(), NTKLinear(4, 3, gain=4.0)), (5,)),
}


@pytest.mark.parametrize("name", MODELS)
def test_with_the_forward_weights_the_closed_loop_is_backpropagation(name):
    make, shape = MODELS[name]
    model = make().double()
    x = drawn(7, *shape)
    for target in (torch.randint(3, (7,), generator=seeded()), drawn(7, 3, seed=1)):
        ours, theirs = backward(model, x, target), Backprop().update(model, x, target, None).grads
        assert ours.keys() == theirs.keys()
        for parameter, gradient in theirs.items():
            torch.testing.assert_close(ours[parameter], gradient, rtol=1e-12, atol=1e-12)


def test_batch_norm_learns_and_dropout_drops_alike_both_ways():
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Tanh(), nn.Linear(6, 3)).double()
    x, target = drawn(7, 5), torch.randint(3, (7,), generator=seeded())
    twin = copy.deepcopy(model)
    torch.manual_seed(1)
    ours = backward(model, x, target)
    torch.manual_seed(1)
    for name, gradient in Backprop().update(twin, x, target, None).grads.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", CONV)
def test_convolutions_are_trained(name):
    make, shape = MODELS["convolution"]
    model, rule = make().double(), registry.get("learning_rules", name)()
    update = rule.update(
        model, drawn(7, *shape), torch.randint(3, (7,), generator=seeded()), rule.init(model, seeded())
    )
    again = rule.update(model, drawn(7, *shape), torch.randint(3, (7,), generator=seeded()), update.state)
    assert all(grad.any() for grad in again.grads.values())
    assert len(again.grads) == (2 if name == "last-layer" else 5)


@pytest.mark.parametrize(
    "name", [*(name for name in CONV if name != "pc-strict"), "weight-mirror", "node-perturbation"]
)
def test_a_linear_layer_at_several_places_is_trained(name):
    make, shape = MODELS["several places"]
    model, rule = make().double(), registry.get("learning_rules", name)()
    target = torch.randint(3, (7,), generator=seeded())
    grads = rule.update(model, drawn(7, *shape), target, rule.init(model, seeded())).grads
    assert all(grad.shape == model.get_parameter(key).shape and grad.any() for key, grad in grads.items())
    assert len(grads) == (2 if name == "last-layer" else 6)


class Halved(nn.Sequential):
    """A container that is called in another way."""

    def __call__(self, x):
        return super().__call__(x) / 2


def altered(part):
    model = nn.Sequential(
        nn.Linear(4, 5), nn.Tanh(), nn.Sequential(nn.Linear(5, 5), nn.ReLU()), nn.Linear(5, 2)
    ).double()
    if part == "call":
        model[2] = Halved(*model[2])
    else:
        module = model.get_submodule(part)
        plain = module.forward
        module.forward = lambda h: plain(h).square()
    return model


@pytest.mark.parametrize("part", ["", "1", "2", "2.0", "2.1", "3", "call"])
@pytest.mark.parametrize("name", ["pc-fixed", "local-error", "node-perturbation", "fa", "last-layer"])
def test_what_a_module_does_beside_its_class_is_computed_or_refused(part, name):
    rule, model = registry.get("learning_rules", name)(), altered(part)
    x, target = drawn(7, 4), drawn(7, 2, seed=1)
    if name in ("fa", "last-layer"):
        update = rule.update(model, x, target, rule.init(model, seeded()))
        loss = output_loss(model(x), target)
        torch.testing.assert_close(update.info["loss"], loss)
        if name == "last-layer":
            (grad,) = torch.autograd.grad(loss, model[3].weight)
            torch.testing.assert_close(update.grads["3.weight"], grad)
    else:
        with pytest.raises(TypeError, match=r"cannot train .* of its own"):
            rule.init(model, seeded())


def test_weights_that_are_computed_elsewhere_are_refused():
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    weight = model[2].weight
    del model[2].weight
    model[2].weight = 2 * weight
    with pytest.raises(TypeError, match="layer '2', a Linear: its weights are computed from other parameters"):
        PredictiveCoding().init(model, seeded())


def test_layers_with_hooks_are_trained_as_any_module_or_refused():
    mask = torch.tensor([0.0, 1, 1, 0, 1])
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    x, target = drawn(7, 4), drawn(7, 2, seed=1)
    model[0].register_forward_hook(lambda module, inputs, output: output * mask)
    rule = FeedbackAlignment()
    grads = rule.update(model, x, target, rule.init(model, seeded())).grads
    assert grads["0.weight"].abs().sum(1).ne(0).tolist() == mask.bool().tolist()
    with pytest.raises(TypeError, match="PredictiveCoding cannot train layer '0', a Linear: it has hooks"):
        PredictiveCoding().init(model, seeded())
    whole = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    whole.register_forward_hook(lambda module, inputs, output: 3 * output)
    ours, theirs = FeedbackAlignment(), Backprop().update(whole, x, target, None).grads
    state = {name: whole.get_parameter(name).detach() for name in ours.init(whole, seeded())}
    for name, grad in ours.update(whole, x, target, state).grads.items():
        torch.testing.assert_close(grad, theirs[name])


def test_of_a_module_that_occurs_again_the_last_place_counts():
    class Block(nn.Linear):
        def forward(self, input):
            return input + super().forward(input)

    unit = nn.ReLU()
    model = nn.Sequential(Block(4, 4), unit, Block(4, 4), unit, nn.Linear(4, 2)).double()
    assert set(LastLayerOnly().update(model, drawn(3, 4), drawn(3, 2), None).grads) == {"4.weight", "4.bias"}
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, Block(4, 4), shared).double()
    assert set(LastLayerOnly().update(model, drawn(3, 4), drawn(3, 4), None).grads) == {"0.weight", "0.bias"}


def test_frozen_parameters_get_no_gradient():
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    model[0].weight.requires_grad_(False)
    assert set(backward(model, drawn(2, 5), drawn(2, 3))) == {"0.bias", "2.weight", "2.bias"}
    assert backward(model.requires_grad_(False), drawn(2, 5), drawn(2, 3)) == {}


class OwnForward(nn.Sequential):
    def forward(self, input):
        return super().forward(input) + 1


shared = nn.Linear(3, 3)
REFUSED = {
    "own forward": (LocalError, OwnForward(nn.Linear(3, 3)), "OwnForward.*nn.Sequential"),
    "recurrent": (LocalError, nn.Sequential(nn.Linear(3, 3), nn.GRU(3, 3)), "'1', a GRU.*weights"),
    "unknown": (LocalError, nn.Sequential(nn.Linear(3, 3), nn.CosineSimilarity()), "'1'.*derivative"),
    "shared": (LocalError, nn.Sequential(shared, nn.Tanh(), shared), "'2', a Linear.*shares"),
    "normed": (
        LocalError,
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))),
        "'0', a ParametrizedLinear",
    ),
    "padding": (LocalError, nn.Sequential(nn.Conv2d(1, 1, 3, padding_mode="circular")), "'0'.*padding"),
    "uneven padding": (LocalError, nn.Sequential(nn.Conv2d(1, 1, 2, padding="same")), "'0'.*padding"),
    "nothing": (LocalError, nn.Sequential(nn.Tanh()), "without an nn.Linear"),
    "norm first": (LocalError, nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3)), "'0'.*before the first"),
    "batch norm": (PredictiveCoding, nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), "'1', a BatchNorm1d.*phases"),
    "dropout": (EquilibriumPropagation, nn.Sequential(nn.Linear(3, 3), nn.Dropout()), "'1', a Dropout"),
    "dropout of nodes": (NodePerturbation, nn.Sequential(nn.Linear(3, 3), nn.Dropout()), "'1'.*phases"),
    "norm of nodes": (
        NodePerturbation,
        nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 3)),
        "'1', a LayerNorm.*weights",
    ),
    "dropout of targets": (DifferenceTargetPropagation, nn.Sequential(nn.Linear(3, 3), nn.Dropout()), "'1'.*phases"),
    "dropout of draws": (Reinforce, nn.Sequential(nn.Linear(3, 3), nn.Dropout()), "'1'.*phases"),
    "volumes of weights": (WeightPerturbation, nn.BatchNorm3d(3), "'', a BatchNorm3d.*running statistics"),
    "alignment of volumes": (AlignZero, nn.BatchNorm3d(3), "'', a BatchNorm3d.*running statistics"),
    "ep": (EquilibriumPropagation, nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3)), "'1', a ReLU.*bounded"),
    "ep images": (EquilibriumPropagation, nn.Sequential(nn.Conv2d(1, 1, 3)), "'0', a Conv2d"),
    "images of targets": (DifferenceTargetPropagation, nn.Sequential(nn.Conv2d(1, 1, 3)), "'0', a Conv2d"),
    "images of draws": (Reinforce, nn.Sequential(nn.Conv2d(1, 1, 3)), "'0', a Conv2d"),
    "scaled": (PredictiveCoding, nn.Sequential(NTKLinear(3, 3)), "'0', a NTKLinear.*to_standard"),
    "dtp": (
        DifferenceTargetPropagation,
        nn.Sequential(nn.Linear(3, 3), nn.Softmax(1), nn.Linear(3, 3)),
        "'1', a Softmax",
    ),
    "reinforce": (Reinforce, nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)), "'0'.*Sigmoid"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_is_refused_by_the_layer_before_the_first_step(name):
    make, model, pattern = REFUSED[name]
    with pytest.raises(TypeError, match=rf"^(model: )?{make.__name__} cannot train .*{pattern}"):
        make().init(model, seeded())


@pytest.mark.parametrize("last", [nn.Softmax(1), nn.LayerNorm(3)])
def test_difference_targets_train_through_any_last_module(last):
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3), last).double()
    x, target, rule = drawn(6, 4), torch.arange(6) % 3, DifferenceTargetPropagation(gamma=1e-3)
    grads = rule.update(model, x, target, rule.init(model, seeded())).grads
    exact = Backprop().update(model, x, target, None).grads
    assert set(grads) == set(exact)
    for name, grad in grads.items():
        torch.testing.assert_close(grad, exact[name], rtol=1e-2, atol=1e-4)


def test_a_frozen_norm_under_node_perturbation_is_taken():
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3).requires_grad_(False), nn.Linear(3, 3))
    rule = NodePerturbation()
    grads = rule.update(model, drawn(4, 3), torch.arange(4) % 3, rule.init(model.double(), seeded())).grads
    assert set(grads) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_dropout_of_0_and_statistics_of_the_batch_are_taken():
    for model in nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0), nn.BatchNorm1d(4, track_running_stats=False):
        WeightPerturbation().init(model, seeded())


@pytest.mark.parametrize("rule", [AlignZero(), WeightPerturbation()])
def test_rules_of_any_module_take_several_inputs(rule):
    model, batch = nn.Bilinear(2, 3, 2), ((torch.ones(5, 2), torch.ones(5, 3)), torch.zeros(5, dtype=torch.long))
    losses, state = [], rule.init(model, seeded())
    optimizer = torch.optim.SGD(model.parameters(), 0.3)
    for _ in range(20):
        _, state, info = train_step(rule, model, optimizer, batch, state)
        losses.append(info["loss"].item())
    assert losses[-1] < losses[0]


def test_no_rule_trains_silently_nothing_in_inference_mode():
    model = nn.Linear(2, 2)
    with torch.inference_mode(), pytest.raises(RuntimeError, match="inference_mode is on: expected it off"):
        train_step(Backprop(), model, torch.optim.SGD(model.parameters(), 0.1), (torch.eye(2), torch.arange(2)), None)


@pytest.mark.parametrize(
    "name", [name for name in registry.names("learning_rules") if name[:4] not in ("epro", "rtrl")]
)
def test_the_loss_is_that_of_the_prediction(name):
    layers = nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)
    model, rule = nn.Sequential(*layers[2 * (name == "reinforce") :]).double(), registry.get("learning_rules", name)()
    x = drawn(7, layers[2 * (name == "reinforce")].in_features)
    for target in (torch.randint(3, (7,), generator=seeded()), drawn(7, 3, seed=1)):
        loss = rule.update(model, x, target, rule.init(model, seeded())).info["loss"].item()
        assert loss == pytest.approx(output_loss(rule.predict(model, x), target).item(), rel=1e-4)


@pytest.mark.parametrize("wrong", [3, -1, -100])
def test_a_class_without_an_output_is_refused(wrong):
    model, target = nn.Linear(5, 3).double(), torch.tensor([0, wrong])
    for rule in (Backprop(), FeedbackAlignment(), NodePerturbation(), EquilibriumPropagation()):
        with pytest.raises(ValueError, match=f"target = {wrong}: expected classes from 0 to 2"):
            rule.update(model, drawn(2, 5), target, rule.init(model, seeded()))


def test_input_of_another_shape_or_dtype_is_refused():
    model, rule = nn.Sequential(nn.Linear(3, 2)), LocalError()
    state = rule.init(model, seeded())
    for x, pattern in ((torch.zeros(2, 4), r"x.shape = \(2, 4\)"), (torch.zeros(2, 3).double(), "x.dtype.*float64")):
        with pytest.raises(ValueError, match=pattern):
            rule.update(model, x, torch.zeros(2, 2), state)


def test_autocast_is_named_where_errors_go_back_by_hand_and_taken_where_autograd_does_it():
    model, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), torch.ones(5, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for target in (torch.ones(5, 2), torch.zeros(5, dtype=torch.int64)):
        losses = []
        for _ in range(9):
            with torch.autocast("cpu", torch.bfloat16):
                losses.append(train_step(Backprop(), model, optimizer, (x, target), None).info["loss"])
        assert losses[-1] < losses[0]
        state = FeedbackAlignment().init(model, torch.Generator())
        with torch.autocast("cpu", torch.bfloat16), pytest.raises(ValueError, match=r"torch\.autocast is on: expected"):
            FeedbackAlignment().update(model, x, target, state)
