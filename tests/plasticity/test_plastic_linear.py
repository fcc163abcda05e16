import pytest
import torch
from torch.nn.functional import binary_cross_entropy, one_hot

from engram.plasticity import Hebb, Oja, PlasticLinear

ALPHAS = ["connection", "post", "homogeneous"]
RULES = [Hebb, Oja]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=seeded(seed), dtype=dtype)


@pytest.mark.parametrize("nonlinearity", ["identity", "tanh", "softmax"])
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("rule_class", RULES)
def test_gradients_agree_with_finite_differences(rule_class, alpha, nonlinearity):
    layer = PlasticLinear(2, 3, rule=rule_class(0.2), alpha=alpha, nonlinearity=nonlinearity, dtype=torch.float64)
    names = [name for name, _ in layer.named_parameters()]
    values = [draw(*p.shape, seed=seed, dtype=torch.float64) for seed, p in enumerate(layer.parameters())]
    state = layer.rule.init(2, 3, 2)

    def run(sequence, drive, trace, *values):
        named = dict(zip(names, values, strict=True))
        start = state._replace(trace=trace)
        output, last = torch.func.functional_call(layer, named, (sequence, start), {"drive": drive})
        return output, last.trace

    points = [draw(3, 2, 2, dtype=torch.float64), draw(3, 2, 3, dtype=torch.float64), state.trace, *values]
    assert torch.autograd.gradcheck(run, [p.requires_grad_() for p in points])


@pytest.mark.parametrize("alpha", ALPHAS)
def test_without_alpha_it_is_nn_linear(alpha):
    layer = PlasticLinear(3, 4, alpha=alpha, generator=seeded())
    torch.nn.init.zeros_(layer.alpha)
    peer = torch.nn.Linear(3, 4)
    peer.load_state_dict({"weight": layer.weight, "bias": layer.bias})
    assert torch.equal(layer(draw(5, 2, 3))[0], peer(draw(5, 2, 3)))


@pytest.mark.parametrize(("classes", "loss"), [(5, 0.50040), (3, 0.63651)])
def test_a_head_that_knows_nothing_has_the_loss_of_chance(classes, loss):
    head = PlasticLinear(64, classes, bias=False, nonlinearity="softmax")
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.alpha)
    output, _ = head(draw(1, 8, 64))
    answers = one_hot(torch.arange(8) % classes, classes).float()
    assert binary_cross_entropy(output[0], answers).item() == pytest.approx(loss, abs=1e-5)


@pytest.mark.parametrize("shots", [1, 3])
@pytest.mark.parametrize("rule_class", RULES)
def test_one_shot_episodes_have_a_closed_form(rule_class, shots):
    classes, features, batch, eta = 5, 64, 3, 0.1
    head = PlasticLinear(features, classes, rule=rule_class(eta), bias=False, nonlinearity="softmax")
    with torch.no_grad():
        head.weight.copy_(draw(classes, features, seed=1))
        head.alpha.copy_(draw(classes, features, seed=2))
    length = shots * classes
    images = draw(length + 1, batch, features)
    labels = torch.stack([torch.randperm(length, generator=seeded(b)) % classes for b in range(batch)], dim=1)
    shown = one_hot(labels, classes).float()
    # So large a drive makes the softmax exactly one-hot.
    drive = torch.cat((1000 * shown, torch.zeros(1, batch, classes)))
    output, _ = head(images, drive=drive)

    # Hebb forgets with every image shown later, Oja only with every later image of the same class.
    later = shown.flip(0).cumsum(0).flip(0) - shown
    if rule_class is Hebb:
        later = torch.arange(length - 1, -1, -1)[:, None, None].expand_as(later)
    strength = eta * (1 - eta) ** later * shown
    trace = torch.einsum("tbk,tbi->bki", strength, images[:-1])
    logits = torch.einsum("bi,bki->bk", images[-1], head.weight + head.alpha * trace)
    torch.testing.assert_close(output[-1], logits.softmax(1), rtol=1e-6, atol=1e-6)


def test_initial_values_are_the_published_ones():
    layer = PlasticLinear(200, 50, generator=seeded())
    assert layer.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert 0 <= layer.alpha.min().item() < 1e-5
    assert layer.alpha.max().item() == pytest.approx(0.01, rel=1e-3)
    assert layer.alpha.mean().item() == pytest.approx(0.005, rel=0.02)
    assert PlasticLinear(200, 50, alpha="homogeneous").alpha.item() == pytest.approx(0.01)
    assert PlasticLinear(200, 50, bias=False).bias is None


LAYER = PlasticLinear(3, 4, generator=seeded())
BAD = {
    "alpha": (lambda: PlasticLinear(3, 4, alpha="none"), ValueError, "alpha = 'none': .*'connection'"),
    "nonlinearity": (lambda: PlasticLinear(3, 4, nonlinearity="relu"), ValueError, "'relu': .*'softmax'"),
    "size": (lambda: PlasticLinear(0, 4), ValueError, "in_features = 0: expected at least 1"),
    "rule": (lambda: PlasticLinear(3, 4, rule="hebb"), TypeError, "rule"),
    "drive time": (
        lambda: LAYER(draw(5, 2, 3), drive=draw(4, 2, 4)),
        ValueError,
        r"drive.shape = \(4, 2, 4\): expected \(5, 2, 4\)",
    ),
    "drive features": (lambda: LAYER(draw(5, 2, 3), drive=draw(5, 2, 3)), ValueError, r"drive.shape = \(5, 2, 3\)"),
    "drive NaN": (
        lambda: LAYER(draw(1, 1, 3), drive=torch.full((1, 1, 4), float("nan"))),
        ValueError,
        r"drive at \(time=0, batch=0, feature=0\) is nan",
    ),
    "state": (
        lambda: LAYER(draw(5, 2, 3), LAYER.rule.init(2, 4, 4)),
        ValueError,
        r"state.trace.shape = \(2, 4, 4\): expected \(2, 4, 3\)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name):
    call, expected, message = BAD[name]
    with pytest.raises(expected, match=message):
        call()


def test_repr_names_the_arguments():
    shown = repr(PlasticLinear(3, 4, alpha="post", bias=False))
    assert "3, 4, alpha='post', bias=False, nonlinearity='identity', batch_first=False" in shown
