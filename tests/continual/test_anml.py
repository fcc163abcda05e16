import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from engram.continual.anml import (
    GatedNet,
    SequentialMetaLearner,
    anml_net,
    evaluate_lengths,
    explicit_gradients,
    learn_stream,
    oml_net,
    sanml_net,
    zap_,
)
from engram.nn import NTKLinear


def generator():
    return torch.Generator().manual_seed(0)


def images(*shape, dtype=torch.float64):
    return torch.rand(*shape, 1, 28, 28, generator=generator(), dtype=dtype)


def small(gate=True):
    made = {"body_channels": 4, "num_outputs": 6, "generator": generator()}
    return (anml_net(gate_channels=3, **made) if gate else sanml_net(**made)).double()


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def still(net):
    return torch.optim.SGD(net.parameters(), lr=0.0)


def test_parameters_are_as_many_as_published():
    net = anml_net(in_channels=3)
    assert (count(net.gate), count(net.body) + count(net.head), count(net)) == (2_554_560, 3_493_864, 6_048_424)
    assert count(net.head) == 2_305_000
    net = anml_net()
    assert (count(net.gate), count(net.body) + count(net.head), count(net)) == (2_552_544, 3_489_256, 6_041_800)
    assert count(anml_net(in_channels=3, num_outputs=963)) == 5_963_139
    assert count(sanml_net(body_channels=64)) == 651_880
    assert count(anml_net(body_channels=64, gate_channels=32)) == 651_880 + 185_472
    oml = oml_net(in_channels=3)
    assert (count(oml), count(oml.head), count(oml.readout)) == (6_342_888, 3_385_320, 1_025_000)
    assert count(oml_net(hidden=None).head) == 2_305_000


def test_initial_weights_have_variance_2_over_fan_in_and_nothing_is_added():
    net = anml_net(generator=generator())
    assert net.readout.weight.std().item() == pytest.approx(0.02946, rel=0.01)
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        elif parameter.dim() == 1:
            assert (parameter == 1).all()
        else:
            assert parameter.std().item() == pytest.approx(math.sqrt(2 / parameter[0].numel()), rel=0.1)


def test_a_batch_is_normalised_as_image_by_image():
    body, x = anml_net(body_channels=32, generator=generator()).body, images(5)
    alone = []
    for image in x.float():  # as the author's program, which calls batch norm on one image at a time
        z = image[None]
        for layer in body:
            if isinstance(layer, nn.InstanceNorm2d):
                layer.weight.data.normal_(generator=generator())
                layer.bias.data.normal_(generator=generator())
                z = functional.batch_norm(z, None, None, layer.weight, layer.bias, training=True)
            else:
                z = layer(z)
        alone.append(z)
    assert (body(x.float()) - torch.cat(alone)).abs().max() < 1e-5
    assert torch.equal(body(x.float()), body.eval()(x.float()))


@pytest.mark.parametrize("gate", [True, False], ids=["gate", "no-gate"])
def test_meta_gradients_of_order_2_are_those_of_finite_differences(gate):
    net, x, others = small(gate), images(2), images(7)[2:]
    learner = SequentialMetaLearner(net, generator(), zap=False, inner_lr=0.3, optimizer=still(net))

    def outer():
        return learner.step(x, torch.tensor([3, 3]), others, torch.arange(5)).loss

    outer()
    grads = {name: parameter.grad for name, parameter in net.named_parameters()}
    gradients = {name: torch.zeros(1) if g is None else g.clone() for name, g in grads.items()}
    assert len(gradients) == (28 if gate else 14)
    for name, parameter in net.named_parameters():
        place, h = int(gradients[name].abs().argmax()), 1e-6
        numbers = parameter.data.view(-1)
        numbers[place] += h
        above = outer()
        numbers[place] -= 2 * h
        below = outer()
        numbers[place] += h
        assert gradients[name].view(-1)[place].item() == pytest.approx((above - below) / (2 * h), rel=1e-5, abs=1e-8)


def test_meta_gradients_of_order_1_are_those_at_the_fast_weights():
    net, x, others = small(), images(2), images(7)[2:]
    learner = SequentialMetaLearner(net, generator(), zap=False, order=1, optimizer=still(net))
    y, remember = torch.tensor([3, 3]), torch.arange(5)
    learner.step(x, y, others, remember)
    twin = copy.deepcopy(net)
    twin.load_state_dict(learner.inner(x, y).params, strict=False)
    twin.zero_grad()
    functional.cross_entropy(twin(torch.cat((others, x))), torch.cat((remember, y))).backward()
    for one, other in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-12)


def test_a_gate_of_ones_is_no_gate():
    net, plain, x = small(), small(False), images(3)
    plain.load_state_dict({name: value for name, value in net.state_dict().items() if not name.startswith("gate")})
    assert torch.equal(net(x, gate=torch.ones(3, 36, dtype=torch.float64)), plain(x))
    features = net.features(x)
    assert torch.equal(features.post, features.pre * features.gate)
    assert plain.features(x).gate is None


def test_a_gate_that_is_known_changes_no_step():
    net, x, y = small(), images(3), torch.tensor([3, 3, 3])
    learner = SequentialMetaLearner(net, generator())
    one, other = learner.inner(x, y).params, learner.inner(x, y, net.gates(x)).params
    assert not any(name.startswith("gate") for name in one)
    for name, weight in one.items():
        torch.testing.assert_close(weight, other[name], rtol=0, atol=1e-13)


@pytest.mark.parametrize("fast", [("body", "head"), ("head",), ("gate",)])
def test_labels_may_be_short_integers(fast):
    x, y, others = images(3), torch.tensor([3, 3, 3]), (images(2), torch.tensor([0, 1]))
    losses, streams = [], []
    for kind in (torch.int64, torch.int32):
        net = small()
        learner = SequentialMetaLearner(net, generator(), fast=fast)
        losses.append(learner.step(x, y.to(kind), others[0], others[1].to(kind)).loss)
        streams.append(learn_stream(net, x, y.to(kind), generator=generator(), lr=0.1).readout.weight)
    assert losses[0] == losses[1]
    assert torch.equal(*streams)


def test_a_moving_gate_is_made_in_each_step():
    net, x, y = small(), images(3), torch.tensor([3, 3, 3])
    learner = SequentialMetaLearner(net, generator(), fast=("gate",), zap=False, optimizer=still(net))
    step = learner.step(x, y, images(2), torch.tensor([0, 1]))
    fast = learner.inner(x, y)
    logits = fast(torch.cat((images(2), x)))
    answers, guesses = torch.tensor([0, 1, 3, 3, 3]), logits.argmax(1)
    wanted = functional.cross_entropy(logits, answers)
    assert step.loss == pytest.approx(wanted.item(), abs=1e-12)
    right = (guesses == answers).double()
    shares = right.mean(), right[2:].mean(), right[:2].mean(), (guesses[:2] == 3).double().mean()
    assert step[1:] == pytest.approx([share.item() for share in shares])


def test_steps_zap_the_row_in_place_and_train_everything():
    net = small()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    frozen = SequentialMetaLearner(net, generator(), optimizer=still(net))
    frozen.step(images(2), torch.tensor([3, 3]), images(7)[2:], torch.arange(5))
    changed = (net.readout.weight != before["head.weight"]).any(1)
    assert changed.tolist() == [False, False, False, True, False, False]
    learner = SequentialMetaLearner(net, generator(), zap=False)
    learner.step(images(2), torch.tensor([3, 3]), images(7)[2:], torch.arange(5))
    assert all((value != before[name]).any() for name, value in net.state_dict().items() if name.endswith("weight"))


def test_fresh_rows():
    layer = nn.Linear(200, 50)
    before = layer.weight.clone()
    zap_(layer, [1, 7], generator())
    assert (layer.weight != before).any(1).nonzero().flatten().tolist() == [1, 7]
    zap_(layer, generator=generator())
    assert layer.weight.std().item() == pytest.approx(0.1, rel=0.05)
    with pytest.raises(ValueError, match=r"rows\[1\] = 50: expected 0 to 49"):
        zap_(layer, [0, 50])


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
def test_a_stream_is_learned_step_by_step(kind):
    net, x, y = small(), images(8), torch.arange(4).repeat_interleave(2)
    optimizer = None if kind is torch.optim.Adam else kind
    learned = learn_stream(net, x, y, generator=generator(), lr=0.01, optimizer=optimizer)
    twin = copy.deepcopy(net)
    zap_(twin.readout, None, generator())
    nn.init.zeros_(twin.readout.bias)
    steps = kind(twin.head.parameters(), lr=0.01)
    for i in range(8):
        steps.zero_grad()
        functional.cross_entropy(twin(x[i : i + 1]), y[i : i + 1]).backward()
        steps.step()
    for name, value in learned.state_dict().items():
        torch.testing.assert_close(value, twin.state_dict()[name], rtol=0, atol=1e-10)
        assert name.startswith("head") or torch.equal(value, net.state_dict()[name])
    whole = learn_stream(net, x, y, generator=generator(), lr=0.01, train=("body", "gate", "head"))
    assert all((value != net.state_dict()[n]).any() for n, value in whole.state_dict().items() if "weight" in n)


def test_lengths_are_judged_on_images_that_were_held_out():
    # One pixel for each class in the images that are learned, none in the others but those of class 0 to 2.
    pool = torch.eye(6).reshape(6, 1, 1, 2, 3).repeat(1, 4, 1, 1, 1)
    pool[3:, 2:] = 0.0
    pool[3:, 2:, 0, 0, 0] = -1.0
    pool *= 30  # so that weights tell more than biases
    net = GatedNet(nn.Flatten(), nn.Linear(6, 8))
    for shuffled in (False, True):
        (remembered,) = evaluate_lengths(
            net, pool, (6,), generator=generator(), lrs=(1e-9, 1.0), shots=2, selections=3, runs=4, shuffled=shuffled
        )
        assert (remembered.classes, remembered.lr) == (6, 1.0)
        assert remembered.seen == (1.0,) * 4
        assert max(remembered.held_out) < 1
        assert remembered.by_class.shape == (4, 6)
        assert remembered.held_out == pytest.approx(remembered.by_class.mean(1).tolist())


def test_taken_for_the_new_class_for_too_long_is_worth_a_warning():
    learner = SequentialMetaLearner(small(), generator())
    for captured in (*[1.0] * 499, 0.9, *[1.0] * 499):  # only those in a row count
        learner._watch(captured)
    with pytest.warns(UserWarning, match="for 500 steps all remembered images are taken for the new class"):
        learner._watch(1.0)


def test_bad_input_is_refused_by_name():
    net, x, y = small(), images(2), torch.tensor([3, 3])
    learner = SequentialMetaLearner(net, generator())
    pool = torch.rand(4, 3, 1, 28, 28, generator=generator(), dtype=torch.float64)

    def lengths(*lengths, **options):
        return evaluate_lengths(net, pool, lengths, generator=generator(), **options)

    for call, error, said in (
        (
            lambda: net(x[..., :22, :21]),
            ValueError,
            "input 22x21 leaves a final map one pixel wide at most: expected at least 22x22",
        ),
        (
            lambda: learner.step(x, y, x, torch.tensor([0, 6])),
            ValueError,
            "remember_y has the label 6: expected 0 to 5",
        ),
        (lambda: learner.step(x, -y, x, y), ValueError, "y has the label -3"),
        (lambda: learner.step(x, y[:1], x, y), (TypeError, ValueError), "y"),
        (lambda: learner.step(x, y.double(), x, y), TypeError, "y"),
        (lambda: learn_stream(net, x, y, generator=generator(), train=("trunk",)), ValueError, "train has 'trunk'"),
        (lambda: lengths(5, shots=2), ValueError, r"lengths\[0\] = 5: expected at most 4"),
        (lambda: lengths(2, shots=3), ValueError, "shots = 3: expected fewer than the 3"),
        (lambda: lengths(2, shots=2, lrs=()), ValueError, "lrs is empty"),
        (lambda: SequentialMetaLearner(net, generator(), fast=("trunk",)), ValueError, "select has 'trunk'"),
        (lambda: GatedNet(nn.Flatten(), nn.ReLU()), TypeError, "head"),
    ):
        with pytest.raises(error, match=said):
            call()
    with torch.no_grad():
        net.readout.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="the outer loss is nan in step 0"):
        SequentialMetaLearner(net, generator()).step(x, y, x, y)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("kind", ["anml", "sanml", "oml", "oml with a hidden layer"])
def test_gradients_written_out_are_those_of_fast_weights(kind, order):
    if kind in {"anml", "sanml"}:
        net = small(kind == "anml")
    else:
        hidden = None if kind == "oml" else 5
        net = oml_net(channels=3, hidden=hidden, num_outputs=6, generator=generator()).double()
    for name, parameter in net.named_parameters():
        if name.endswith("bias") or parameter.dim() == 1:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator(), dtype=torch.float64)
    fast = ("head",) if kind.startswith("oml") else ("body", "head")
    options = {"fast": fast, "zap": False, "order": order, "inner_lr": 0.3, "optimizer": still(net)}
    learner = SequentialMetaLearner(net, generator(), **options)
    assert learner._written_out == {"oml": "head", "oml with a hidden layer": None}.get(kind, "body and head")
    x, y, others, remember = images(4), torch.tensor([3, 3, 2, 3]), images(9)[4:], torch.arange(5)
    learner.step(x, y, others, remember)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in net.parameters()]
    learner._written_out, learner._head_alone = None, False
    learner.step(x, y, others, remember)
    for (name, parameter), gradient in zip(net.named_parameters(), gradients, strict=True):
        wanted = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-12, msg=name)


def test_a_second_derivative_of_gradients_written_out_is_refused():
    layer, features = nn.Linear(3, 4), torch.ones(2, 3, requires_grad=True)
    weight, _ = explicit_gradients.head(layer, features, torch.tensor([0, 1]), lr=0.1, order=2)
    torch.autograd.grad(weight.square().sum(), layer.weight, retain_graph=True)
    with pytest.raises(NotImplementedError, match="explicit gradients of an inner loop have no second derivative"):
        torch.autograd.grad(weight.square().sum(), features, create_graph=True)


def replaced_norm(net):
    net.body[5] = nn.InstanceNorm2d(4, eps=0.5, affine=True).double()


def scaled_head(net):
    net.head = NTKLinear(net.head.in_features, 6, dtype=torch.float64, generator=generator())


def doubled_features(net):
    net.body.register_forward_hook(lambda module, inputs, output: 2 * output)


@pytest.mark.parametrize("change", [replaced_norm, scaled_head, doubled_features])
def test_only_layers_as_made_have_their_gradients_written_out(change):
    net = small(gate=False)
    change(net)
    learner = SequentialMetaLearner(net, generator(), zap=False, inner_lr=0.3, optimizer=still(net))
    x, y = images(2), torch.tensor([3, 3])
    wanted = torch.nn.functional.cross_entropy(learner.inner(x, y)(torch.cat((x, x))), torch.cat((y, y)))
    assert learner.step(x, y, x, y).loss == pytest.approx(wanted.item())


@pytest.mark.parametrize("side", [22, 23, 28])
def test_the_first_block_at_once_is_its_layers_one_by_one(side):
    body = anml_net(in_channels=2, body_channels=5, generator=generator()).double().body
    x = torch.rand(9, 2, side, side + 1, generator=generator(), dtype=torch.float64)
    for norm in (body[1], body[5]):
        norm.weight.data.normal_(generator=generator())
        norm.bias.data.normal_(generator=generator())
    torch.testing.assert_close(body(x), nn.Sequential(*body)(x), rtol=0, atol=1e-12)


def test_running_statistics_move_with_meta_learning():
    body = nn.Sequential(nn.Conv2d(1, 3, 5, stride=5), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten()).double()
    net = GatedNet(body, nn.Linear(75, 6).double())
    learner = SequentialMetaLearner(net, generator(), inner_lr=0.01, optimizer=still(net))
    for _ in range(30):
        learner.step(images(4), torch.tensor([3, 3, 3, 3]), images(16), torch.arange(16) % 6)
    assert body[1].num_batches_tracked == 30 * 5
    seen = body[0](torch.cat((images(16), images(4))))
    assert body[1].running_mean.detach().numpy() == pytest.approx(seen.mean((0, 2, 3)).detach().numpy(), abs=0.05)
    assert (body[1].running_mean != 0).all()


def test_a_parameter_that_is_named_twice_learns_once():
    net = GatedNet(nn.Flatten(), nn.Linear(4, 2))
    x, y = torch.randn(4, 1, 2, 2, generator=generator()), torch.tensor([0, 1, 0, 1])
    options = {"lr": 0.1, "optimizer": torch.optim.SGD}
    once, twice = (
        learn_stream(net, x, y, generator=generator(), train=train, **options).readout.weight
        for train in (("head",), ("head", "head.weight"))
    )
    assert torch.equal(once, twice)
