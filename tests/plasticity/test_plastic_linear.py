from functools import partial

import pytest
import torch
from torch.nn.functional import binary_cross_entropy, one_hot

from engram.plasticity import ClippedHebb, Hebb, Modulated, Oja, PlasticLinear, Retroactive
from engram.testing.module import check_module, rebuilt, tensors

ALPHAS = ["connection", "post", "homogeneous", 2]
RULES = [Hebb, Oja]
EVERY_RULE = {
    "hebb": lambda: Hebb(0.2),
    "oja": lambda: Oja(0.2),
    "clipped": lambda: ClippedHebb(0.2, 0.8),
    "modulated": lambda: Modulated(0.8),
    "soft": lambda: Modulated(0.8, "soft"),
    "decay": lambda: Modulated(0.8, "decay"),
    "retroactive": lambda: Retroactive(0.4, 0.8),
    "modulated half": lambda: Modulated(0.8, only_half=True, hebb_eta=0.2),
    "retroactive half": lambda: Retroactive(0.4, 0.8, only_half=True, hebb_eta=0.2),
    "retroactive soft": lambda: Retroactive(0.4, 0.8, mode="soft"),
    "sigmoid": lambda: Oja(0.2, eta_param="sigmoid"),
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=seeded(seed), dtype=dtype)


@pytest.mark.parametrize(
    ("name", "alpha", "nonlinearity"),
    [
        pytest.param(name, alpha, unit, marks=() if (a, u) == (n % 4, n % 3) else pytest.mark.soak)
        for n, name in enumerate(EVERY_RULE)
        for a, alpha in enumerate(ALPHAS)
        for u, unit in enumerate(("identity", "tanh", "softmax"))
    ],
)
def test_gradients_agree_with_finite_differences(name, alpha, nonlinearity):
    rule = EVERY_RULE[name]()
    layer = PlasticLinear(2, 3, rule=rule, alpha=alpha, nonlinearity=nonlinearity, dtype=torch.float64)
    names, values = zip(*layer.named_parameters(), strict=True)
    values = [p.detach() if p.dim() == 0 else draw(*p.shape, seed=len(p)).double() for p in values]
    state = layer.rule.init(2, 3, 2)
    parts, signals = len(state), [draw(3, 2, 3, seed=9, dtype=torch.float64)] if rule.modulated else []

    def run(sequence, drive, *rest):
        traces, signal, values = rest[:parts], rest[parts : parts + len(signals)], rest[parts + len(signals) :]
        keywords = {"drive": drive, "modulator": signal[0] if signal else None}
        named = dict(zip(names, values, strict=True))
        start = rebuilt(state, traces)
        return tuple(tensors(torch.func.functional_call(layer, named, (sequence, start), keywords)))

    points = [draw(3, 2, 2, dtype=torch.float64), draw(3, 2, 3, dtype=torch.float64), *state, *signals, *values]
    assert torch.autograd.gradcheck(run, [p.requires_grad_() for p in points], fast_mode=True)


@pytest.mark.parametrize("signals", [1, 4])
def test_a_signal_from_outside_modulates_the_rule(signals):
    layer = PlasticLinear(3, 4, rule=Modulated(), batch_first=True, generator=seeded())
    peer = PlasticLinear(3, 4, rule=ClippedHebb(0.2), batch_first=True, generator=seeded())
    sequence = draw(2, 4, 3)
    modulated = layer(sequence, modulator=torch.full((2, 4, signals), 0.2))
    torch.testing.assert_close(tensors(modulated), tensors(peer(sequence)))
    _, silent = layer(sequence, modulator=torch.zeros(2, 4, signals))
    assert not silent.trace.any()


@pytest.mark.parametrize("name", EVERY_RULE)
def test_a_batch_of_one_gives_the_first_row_of_a_batch_of_two(name):
    layer = PlasticLinear(3, 4, rule=EVERY_RULE[name](), nonlinearity="tanh", generator=seeded())
    torch.nn.init.constant_(layer.alpha, 1.0)
    for signals in (1, 4) if layer.rule.modulated else (None,):
        modulator = None if signals is None else draw(4, 2, signals, seed=1)
        first = None if signals is None else modulator[:, :1]
        output, state = layer(draw(4, 2, 3), modulator=modulator)
        alone, own = layer(draw(4, 2, 3)[:, :1], modulator=first)
        torch.testing.assert_close((alone, *own), (output[:, :1], *(t[:1] for t in state)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused(dtype):
    with pytest.raises(ValueError, match=rf"dtype = {dtype}: expected torch.float32 or torch.float64.*torch.autocast"):
        PlasticLinear(3, 4).to(dtype)(draw(6, 2, 3).to(dtype))


@pytest.mark.parametrize("make", [Hebb, partial(Oja, 0.1), partial(Retroactive, 0.1)])
def test_rules_of_half_precision_make_no_traces(make):
    with pytest.raises(ValueError, match=r"dtype = torch\.bfloat16: expected torch\.float32"):
        make(dtype=torch.bfloat16).init(1, 2, 3)


def test_a_product_of_factors_keeps_the_contract():
    check_module(partial(PlasticLinear, alpha=2))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_without_alpha_it_is_nn_linear(alpha):
    layer = PlasticLinear(3, 4, alpha=alpha, generator=seeded())
    for parameter in layer.alpha.parameters() if alpha == 2 else [layer.alpha]:
        torch.nn.init.zeros_(parameter)
    peer = torch.nn.Linear(3, 4)
    peer.load_state_dict({"weight": layer.weight, "bias": layer.bias})
    assert torch.equal(layer(draw(4, 2, 3))[0], peer(draw(4, 2, 3)))


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
    head = PlasticLinear(features, classes, rule=rule_class(eta), bias=False, nonlinearity="softmax", backend="eager")
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
GATED = PlasticLinear(3, 4, rule=Modulated(), generator=seeded())
BAD = {
    "modulator unwanted": (
        lambda: LAYER(draw(5, 2, 3), modulator=draw(5, 2, 1)),
        ValueError,
        r"modulator is given: expected None, because rule = Hebb\(eta=0.01\) is not modulated",
    ),
    "modulator missing": (
        lambda: GATED(draw(5, 2, 3)),
        ValueError,
        r"modulator = None: expected a tensor, because rule = Modulated\(.*\) is modulated",
    ),
    "modulator time": (
        lambda: GATED(draw(5, 2, 3), modulator=draw(4, 2, 1)),
        ValueError,
        r"modulator.shape = \(4, 2, 1\): expected \(5, 2, 1\)",
    ),
    "modulator features": (
        lambda: GATED(draw(5, 2, 3), modulator=draw(5, 2, 3)),
        ValueError,
        r"modulator.shape = \(5, 2, 3\): expected \(time, batch, 4\)",
    ),
    "backend": (lambda: PlasticLinear(3, 4, backend="cuda"), ValueError, "backend = 'cuda'"),
    "rank": (lambda: PlasticLinear(3, 4, alpha=0), ValueError, "alpha = 0"),
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
    assert "3, 4, alpha='post', bias=False, nonlinearity='identity', batch_first=False, backend='auto'" in shown
