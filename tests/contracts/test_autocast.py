"""Every layer under ``torch.autocast``, with input of half precision and in half precision, at several batch sizes.

A layer computes as ``PlasticRNN`` does: it casts its input, keeps its own precision inside and gives output and state
of it; only a linear map of the input may be in half precision. Or it refuses by an error that names what is wrong.
"""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves

from engram import registry
from engram.nn import (
    BatchOnlyNorm,
    ConvBody,
    LeakyRNN,
    NTKConv2d,
    NTKLinear,
    RandomProjection,
    ReadoutNetwork,
    wide_rnn,
)
from engram.nn.memoryless import Memoryless
from engram.plasticity import Hebb, Modulated, Neuromodulator, Retroactive
from engram.rules import AdaptiveThreshold, HebbianConv2d, HebbianLinear, SoftHebbConv2d
from engram.rules.hebbian_conv import hebbian_update

FEATURES, UNITS = 3, 6


def seeded():
    return torch.Generator().manual_seed(0)


def readout(every_step):
    core = LeakyRNN(FEATURES, UNITS, generator=seeded())
    return ReadoutNetwork(core, 2, kappa=0.5, every_step=every_step, generator=seeded())


def projection(kind):
    return RandomProjection(FEATURES, FEATURES, kind, rng=np.random.default_rng(0))


SEQUENCE, ROWS, IMAGES = (5, "batch", FEATURES), ("batch", FEATURES), ("batch", FEATURES, 8, 8)
LAYERS = {
    **{
        name: (partial(registry.get("modules", name), FEATURES, UNITS, generator=seeded()), SEQUENCE)
        for name in registry.names("modules")
    },
    "memoryless": (lambda: Memoryless(FEATURES, UNITS, generator=seeded()), SEQUENCE),
    "readout": (lambda: readout(False), SEQUENCE),
    "readout at every step": (lambda: readout(True), SEQUENCE),
    "conv body": (lambda: ConvBody(4, generator=seeded()), ("batch", 1, 24, 24)),
    "dense projection": (lambda: projection("gaussian"), ROWS),
    "sparse projection": (lambda: projection("sparse"), ROWS),
    "neuromodulator": (lambda: Neuromodulator(FEATURES, True, generator=seeded()), ROWS),
    "hebbian convolution": (lambda: HebbianConv2d(FEATURES, UNITS, 3, pool=2, generator=seeded()), IMAGES),
    "graded winners": (lambda: HebbianConv2d(FEATURES, UNITS, 3, binary=False, generator=seeded()), IMAGES),
    "soft hebbian": (lambda: SoftHebbConv2d(FEATURES, UNITS, 3, generator=seeded()), IMAGES),
    "hebbian linear": (lambda: HebbianLinear(FEATURES, UNITS, generator=seeded()), ROWS),
    "threshold": (lambda: AdaptiveThreshold(FEATURES, 0.1), ROWS),
}
# These are linear maps or norms without a state, and behave as the layers of torch whose place they take.
AS_IN_TORCH = {
    "ntk linear": (lambda: NTKLinear(FEATURES, UNITS, generator=seeded()), ROWS, torch.bfloat16),
    "ntk convolution": (lambda: NTKConv2d(FEATURES, UNITS, 3, generator=seeded()), IMAGES, torch.bfloat16),
    "wide rnn": (lambda: wide_rnn(FEATURES, UNITS, 1, generator=seeded()), SEQUENCE, torch.bfloat16),
    "norm over the batch": (BatchOnlyNorm, IMAGES, torch.float32),
}
KEEP_SMALL_CHANGES = {name for name in LAYERS if name.startswith(("plastic", "fast")) or "hebbian" in name} | {
    "graded winners",
    "threshold",
}

EXACT = [
    "hebbian convolution",
    "soft hebbian",
    "graded winners",
    "hebbian linear",
    "threshold",
    "conv body",
    "clamped-lstm",
]
EXACT += ["clamped-lstm", "dense projection", "sparse projection", "neuromodulator"]


def drawn(shape, batch):
    sizes = (batch if size == "batch" else size for size in shape)
    return torch.randn(*sizes, generator=seeded()).bfloat16().float()  # the same numbers in both precisions


def outcome(layer, *arguments):
    """What two calls give, the second from the state of the first, and the layer's own state after them."""
    layer = copy.deepcopy(layer)
    results = layer(*arguments)
    if isinstance(results, tuple) and results[1] is not None:
        results = results, layer(*arguments, results[1])
    else:
        results = results, layer(*arguments)
    return [t for t in tree_leaves((results, dict(layer.state_dict()))) if isinstance(t, torch.Tensor)]


@pytest.mark.parametrize("batch", [2, 9, 64])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_keeps_its_precision_under_autocast(name, batch):
    make, shape = LAYERS[name]
    layer, x = make(), drawn(shape, batch)
    expected = outcome(layer, x)
    for given in (x, x.bfloat16()):
        with torch.autocast("cpu", torch.bfloat16):
            tensors = outcome(layer, given)
        assert len(tensors) == len(expected)
        for tensor, reference in zip(tensors, expected, strict=True):
            assert tensor.dtype == reference.dtype
            if name != "lif":  # where rounding moves a spike
                torch.testing.assert_close(tensor, reference, rtol=0.03, atol=0.03)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("batch", [1, 2, 9])
def test_what_has_no_input_layer_is_exact_under_autocast(name, batch):
    make, shape = LAYERS[name]
    layer, x = make(), drawn(shape, batch)
    expected = outcome(layer, x)
    with torch.autocast("cpu", torch.bfloat16):
        tensors = outcome(layer, x.bfloat16())
    for tensor, reference in zip(tensors, expected, strict=True):
        torch.testing.assert_close(tensor, reference, rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch", [2, 9, 64])
@pytest.mark.parametrize("name", AS_IN_TORCH)
def test_plain_layers_behave_as_those_of_torch(name, batch):
    make, shape, dtype = AS_IN_TORCH[name]
    layer, x = make(), drawn(shape, batch)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(x)
    assert output.dtype == dtype
    torch.testing.assert_close(output.float(), layer(x), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("batch", [1, 9])
@pytest.mark.parametrize("name", LAYERS)
def test_half_precision_is_named_or_computed(name, batch):
    make, shape = LAYERS[name]
    x = drawn(shape, batch).bfloat16()
    if "projection" not in name:  # which takes numbers of any kind
        with pytest.raises(ValueError, match=r"dtype = torch.bfloat16: expected torch.float32"):
            make()(x)
    if name in KEEP_SMALL_CHANGES:
        with pytest.raises(ValueError, match=r"dtype = torch.bfloat16: expected torch.float32 or torch.float64"):
            make().bfloat16()(x)
    else:
        output, *state = [part for part in tree_leaves(make().bfloat16()(x)) if isinstance(part, torch.Tensor)]
        assert output.dtype == torch.bfloat16
        assert {tensor.dtype for tensor in state} <= {torch.bfloat16, torch.float32}  # what is summed or counted


@pytest.mark.parametrize("rule", [Hebb(0.1), Modulated(), Retroactive()], ids=lambda rule: type(rule).__name__)
def test_a_plasticity_rule_keeps_its_precision_under_autocast(rule):
    pre, post, signal = torch.rand(2, 5), torch.rand(2, 4), torch.rand(2, 1)
    state = rule.init(2, 4, 5)
    expected = rule.update(rule.update(state, pre, post, signal), pre, post, signal)
    with torch.autocast("cpu", torch.bfloat16):
        updated = rule.update(rule.update(state, pre, post, signal), pre, post, signal)
    for tensor, reference in zip(updated, expected, strict=True):
        assert torch.equal(tensor, reference)


@pytest.mark.parametrize("name", registry.names("synaptic_rules"))
def test_a_synaptic_rule_refuses_autocast_by_name(name):
    rule, x = registry.get("synaptic_rules", name)(), torch.ones(2, 3)
    state = rule.init(torch.eye(3))
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(ValueError, match=r"torch\.autocast is on: expected"):
        rule.update(x, x, torch.eye(3), state)


@pytest.mark.parametrize("name", registry.names("synaptic_rules"))
def test_a_synaptic_rule_with_a_state_refuses_half_precision_by_name(name):
    rule, weight = registry.get("synaptic_rules", name)(), torch.eye(3)
    if rule.init(weight) is None:
        x = torch.eye(3).repeat(1000, 1)
        grad = rule.update(x.bfloat16(), x.bfloat16(), weight.bfloat16(), None).grad
        assert grad.dtype == torch.bfloat16
        torch.testing.assert_close(grad.float(), rule.update(x, x, weight, None).grad, rtol=0.01, atol=0.01)
    else:
        with pytest.raises(ValueError, match=r"dtype = torch.bfloat16: expected torch.float32 or torch.float64"):
            rule.init(weight.bfloat16())


def test_a_hebbian_update_keeps_its_precision_under_autocast():
    x, y = torch.rand(4, 3, 6, 6).bfloat16().float(), torch.rand(4, 2, 4, 4).bfloat16().float()
    weight = torch.rand(2, 3, 3, 3)
    expected = hebbian_update(x, y, weight)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(hebbian_update(x.bfloat16(), y.bfloat16(), weight), expected)
