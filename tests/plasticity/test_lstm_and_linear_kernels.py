"""The operators of the LSTM's and the linear layer's scans against the plain scans, which are their definition.

Both are made of the same passes over the trace. To compile them takes seconds for every kind of alpha and of rule, so
that the LSTM is held to all rules with an alpha for each unit, as it has by default, the linear layer with one for each
connection, and either to the other kind by one rule; and that the LSTM and the linear layer run here the linear rules,
the linear layer the soft bound too, and the others in ``make soak``.
"""

import itertools
import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.plasticity import (
    ClippedHebb,
    Hebb,
    Modulated,
    Neuromodulator,
    Oja,
    PlasticLinear,
    PlasticLSTM,
    PlasticLSTMState,
    Retroactive,
)
from engram.plasticity.alpha import LowRank
from engram.plasticity.kernels import dispatch
from engram.plasticity.kernels.linear.scan import fused_scan as fused_linear_scan
from engram.plasticity.kernels.lstm.scan import fused_scan as fused_lstm_scan
from engram.plasticity.scan import identity, plastic_linear_scan, plastic_lstm_scan, softmax
from engram.testing.module import without_type_checks

RULES = {
    "hebb": lambda: Hebb(0.1),
    "oja": lambda: Oja(0.1),
    "clipped": lambda: ClippedHebb(0.3, clip=0.4),
    "modulated": lambda: Modulated(clip=0.4),
    "soft": lambda: Modulated(clip=0.6, mode="soft"),
    "decay": lambda: Modulated(clip=0.6, mode="decay"),
    "retroactive": lambda: Retroactive(0.3, clip=0.4),
    "retroactive, unbounded": lambda: Retroactive(0.3, clip=None),
    "retroactive, trace first": lambda: Retroactive(0.3, clip=0.4, trace_first=True),
}
SIGNALS = [(False, "tanh"), (True, "sigmoid"), (True, "identity")]
UNITS = {"identity": identity, "tanh": torch.tanh, "softmax": softmax}
OPTIONS = list(itertools.product(("input", "recurrent", "cell", "hidden"), ("hidden", "cell")))


def further(*values):
    """Return what needs a further kernel, left to ``make soak``."""
    return [pytest.param(value, marks=pytest.mark.soak) for value in values]


LINEAR_RULES, OTHERS = (
    ["hebb", "oja", "clipped", "modulated", "decay"],
    ["retroactive", "retroactive, unbounded", "retroactive, trace first"],
)


class Problem:
    """A scan with all that can have a gradient, drawn at random, none of it zero."""

    def __init__(self, rule, alpha, post, pre, *, dtype, seed):
        self.generator, self.dtype = torch.Generator().manual_seed(seed), dtype
        self.rule, self.modules = RULES[rule]().to(dtype), []
        self.state_type, self.shape = self.rule.state_type, (post, pre)
        self.leaves = {}
        if alpha == "low rank":
            self.leaves |= {"post": self.draw(2, post, scale=0.5), "pre": self.draw(2, pre, scale=0.5)}
        else:
            shape = {"connection": (post, pre), "post": (post,), "homogeneous": ()}[alpha]
            self.leaves["alpha"] = self.draw(*shape, scale=0.3)

    def draw(self, *shape, scale=1.0):
        return (scale * torch.randn(shape, generator=self.generator, dtype=torch.float64)).to(self.dtype)

    def finish(self, batch, *outputs):
        """Draw the traces, the parameters of modules as leaves, and what outputs and last traces are weighted by."""
        for name in self.state_type._fields:
            self.leaves[name] = self.draw(batch, *self.shape, scale=0.3)
        self.modules = [m for m in (self.rule, self.neuromodulator) if m is not None]
        for module in self.modules:
            self.leaves |= {f"{type(module).__name__}.{n}": p.detach() for n, p in module.named_parameters()}
        self.weights = [*outputs, *[self.draw(batch, *self.shape, scale=0.3) for _ in self.state_type._fields]]

    def alpha(self, leaves):
        if "alpha" in leaves:
            return leaves["alpha"]
        alpha = LowRank(2, *self.shape)
        del alpha.post, alpha.pre
        alpha.post, alpha.pre = leaves["post"], leaves["pre"]
        return alpha

    def traces(self, leaves):
        return self.state_type(*[leaves[name] for name in self.state_type._fields])

    def outputs(self, scan, leaves, **options):
        """Return activities and last state, with the leaves in place of the parameters of the modules."""
        own = [(m, name, p) for m in self.modules for name, p in list(m.named_parameters())]
        for module, name, _ in own:
            del module._parameters[name]
            setattr(module, name, leaves[f"{type(module).__name__}.{name}"])
        try:
            return self.run(scan, leaves, **options)
        finally:
            for module, name, parameter in own:
                delattr(module, name)
                module.register_parameter(name, parameter)

    def results(self, scan, change=lambda t: t, **options):
        """Return all outputs, and the gradient of a weighted sum of them with respect to every leaf."""
        leaves = {name: t.clone().requires_grad_() for name, t in self.leaves.items()}
        outputs = self.outputs(scan, {name: change(t) for name, t in leaves.items()}, **options)
        sum((o * w).sum() for o, w in zip(outputs, self.weights, strict=True)).backward()
        gradients = {name: torch.zeros_like(t) if t.grad is None else t.grad for name, t in leaves.items()}
        return {f"output {n}": o.detach() for n, o in enumerate(outputs)} | gradients


class LSTM(Problem):
    scan = dispatch.LSTM
    plain, fused, operator = plastic_lstm_scan, fused_lstm_scan, "plastic_lstm_scan"

    def __init__(
        self, rule, time, batch, units, *, alpha="post", signal=(False, "tanh"), dtype=torch.float64, seed=0, **options
    ):
        super().__init__(rule, alpha, units, units, dtype=dtype, seed=seed)
        self.options, self.neuromodulator = options, None
        if self.rule.modulated:
            made = {"nonlinearity": signal[1], "dtype": dtype, "generator": self.generator}
            self.neuromodulator = Neuromodulator(units, signal[0], **made)
        self.leaves |= {
            "drive": self.draw(time, batch, 4 * units),
            "weight": self.draw(4 * units, units, scale=units**-0.5),
            "hidden": self.draw(batch, units, scale=0.5),
            "cell": self.draw(batch, units, scale=0.5),
        }
        self.finish(batch, self.draw(time, batch, units), self.draw(batch, units), self.draw(batch, units))

    def run(self, scan, leaves, **options):
        state = PlasticLSTMState(leaves["hidden"], leaves["cell"], self.traces(leaves))
        outputs, last = scan(
            leaves["drive"], leaves["weight"], self.alpha(leaves), self.rule, state,
            neuromodulator=self.neuromodulator, **self.options, **options,
        )  # fmt: skip
        return [outputs, last.hidden, last.cell, *last.rule]


class Linear(Problem):
    scan = dispatch.LINEAR
    plain, fused, operator = plastic_linear_scan, fused_linear_scan, "plastic_linear_scan"
    neuromodulator = None

    def __init__(
        self, rule, time, batch, pre, post=7, *, alpha="connection", fan_out=False, unit="tanh", dtype=torch.float64,
        seed=0,
    ):  # fmt: skip
        super().__init__(rule, alpha, post, pre, dtype=dtype, seed=seed)
        self.unit = UNITS[unit]
        self.leaves |= {"sent": self.draw(time, batch, pre), "current": self.draw(time, batch, post)}
        if self.rule.modulated:
            self.leaves["modulator"] = self.draw(time, batch, post if fan_out else 1)
        self.finish(batch, self.draw(time, batch, post))

    def run(self, scan, leaves, **options):
        outputs, last = scan(
            leaves["sent"], leaves["current"], self.alpha(leaves), self.rule, self.traces(leaves),
            modulator=leaves.get("modulator"), nonlinearity=self.unit, **options,
        )  # fmt: skip
        return [outputs, *last]


def assert_same(results, wanted, tolerance):
    for name, value in wanted.items():
        scale = value.abs().max().item() if value.numel() else 0
        torch.testing.assert_close(
            results[name], value, rtol=0, atol=tolerance * (1 + scale), msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("rule", [*LINEAR_RULES, *further("soft", *OTHERS)])
def test_the_lstm_equals_the_plain_scan(rule):
    # Batches that fill a block of samples, leave one alone, and come in blocks of two sizes.
    for n, (hebb_post, modulator_source) in enumerate(OPTIONS):
        options = {"hebb_post": hebb_post, "modulator_source": modulator_source}
        alpha, signal = ("post", "homogeneous")[n % 2], SIGNALS[n % 3]
        problem = LSTM(rule, 7, (1, 3, 9, 40)[n % 4], 19, alpha=alpha, signal=signal, **options)
        wanted = problem.results(plastic_lstm_scan)
        assert_same(problem.results(fused_lstm_scan, stretch=(0, 1, 3)[n % 3]), wanted, 1e-10)


@pytest.mark.parametrize("alpha", further("connection", "low rank"))
def test_the_lstm_equals_the_plain_scan_with_an_alpha_for_each_connection(alpha):
    problem = LSTM("modulated", 11, 5, 19, alpha=alpha, signal=(True, "tanh"))
    for stretch in (0, 1, 3, 11):
        assert_same(problem.results(fused_lstm_scan, stretch=stretch), problem.results(plastic_lstm_scan), 1e-10)


@pytest.mark.parametrize("rule", [*LINEAR_RULES, "soft", *further(*OTHERS)])
def test_the_linear_layer_equals_the_plain_scan(rule):
    for n, unit in enumerate([*UNITS, *UNITS]):
        post, pre = ((7, 19), (5, 64), (33, 3))[n % 3]
        alpha = ("connection", "low rank")[n % 2]
        problem = Linear(rule, 7, (1, 3, 40)[n % 3], pre, post, alpha=alpha, fan_out=n < 3, unit=unit)
        wanted = problem.results(plastic_linear_scan)
        assert_same(problem.results(fused_linear_scan, stretch=(0, 1, 3)[n % 3]), wanted, 1e-10)


@pytest.mark.parametrize("alpha", further("post", "homogeneous"))
def test_the_linear_layer_equals_the_plain_scan_with_an_alpha_for_each_unit(alpha):
    problem = Linear("modulated", 11, 3, 19, alpha=alpha, unit="softmax")
    for stretch in (0, 1, 3, 11):
        assert_same(problem.results(fused_linear_scan, stretch=stretch), problem.results(plastic_linear_scan), 1e-10)


@given(
    rule=st.sampled_from(["clipped", "modulated"]),
    sizes=st.tuples(st.integers(0, 9), st.integers(1, 12), st.integers(1, 35)),
    options=st.sampled_from(OPTIONS),
    seed=st.integers(0, 99),
)
def test_any_size_of_the_lstm(rule, sizes, options, seed):
    named = dict(zip(("hebb_post", "modulator_source"), options, strict=True))
    problem = LSTM(rule, *sizes, seed=seed, **named)
    assert_same(problem.results(fused_lstm_scan), problem.results(plastic_lstm_scan), 1e-10)


@given(
    rule=st.sampled_from(["hebb", "modulated"]),
    sizes=st.tuples(st.integers(0, 9), st.integers(1, 4), st.integers(1, 35), st.integers(1, 35)),
    unit=st.sampled_from(list(UNITS)),
    seed=st.integers(0, 99),
)
def test_any_size_of_the_linear_layer(rule, sizes, unit, seed):
    problem = Linear(rule, *sizes, unit=unit, seed=seed)
    assert_same(problem.results(fused_linear_scan), problem.results(plastic_linear_scan), 1e-10)


@pytest.mark.parametrize("kind", further(Linear, LSTM))
@settings(max_examples=12)
@given(
    sizes=st.tuples(st.integers(1, 30), st.integers(1, 6), st.integers(1, 40)),
    seed=st.integers(0, 99),
)
def test_single_precision_is_as_good_as_that_of_the_plain_scan(sizes, kind, seed):
    exact = kind("modulated", *sizes, seed=seed).results(kind.plain)
    problem = kind("modulated", *sizes, seed=seed, dtype=torch.float32)
    fused, plain = problem.results(kind.fused), problem.results(kind.plain)
    for name, value in exact.items():
        error, usual = ((r[name].double() - value).abs().max().item() for r in (fused, plain))
        assert error <= 10 * usual + 1e-5 * (1 + value.abs().max().item()), name


@pytest.mark.soak  # compiles the kernel in single precision
def test_a_gate_that_is_shut_is_shut_in_single_precision_too():
    # The logistic function as a tangent would be rounded to zero here, or to a unit of the one.
    drive = torch.tensor([-30.0, 30.0, 0.5, -20.0]).repeat_interleave(5).expand(1, 2, 20)
    rule, zeros = ClippedHebb(), torch.zeros(2, 5)
    state = PlasticLSTMState(zeros, zeros, rule.init(2, 5, 5))
    results = [
        scan(drive, torch.zeros(20, 5), torch.ones(5), rule, state) for scan in (plastic_lstm_scan, fused_lstm_scan)
    ]
    for plain, fused in zip(results[0][1][:2], results[1][1][:2], strict=True):
        assert plain.all()
        torch.testing.assert_close(fused, plain, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", [LSTM, Linear])
def test_memory_layout_does_not_matter(kind):
    problem = kind("modulated", 5, 3, 7)

    def strided(t):
        return torch.stack((t, -t), dim=-1)[..., 0] if t.dim() else t

    assert_same(problem.results(kind.fused, change=strided), problem.results(kind.fused), 0)
    name = "drive" if kind is LSTM else "current"
    shape = problem.leaves[name].shape
    problem.leaves[name] = problem.leaves[name][:, :1]

    def expanded(t):
        return t.expand(shape) if t.shape == (shape[0], 1, shape[2]) else t

    assert_same(problem.results(kind.fused, change=expanded), problem.results(kind.plain, change=expanded), 1e-10)


@pytest.mark.parametrize("rule", ["clipped", "modulated", *further("retroactive")])
@pytest.mark.parametrize("kind", [LSTM, Linear])
def test_a_carried_state_equals_one_long_call(kind, rule):
    problem = kind(rule, 9, 2, 5)

    def in_two_parts(first, second, *layer, modulator=None, **options):
        *layer, state = layer
        heads, tails = [{}, {}] if modulator is None else [{"modulator": m} for m in (modulator[:4], modulator[4:])]
        seconds = (second, second) if kind is LSTM else (second[:4], second[4:])
        head, state = kind.fused(first[:4], seconds[0], *layer, state, **heads, **options)
        tail, state = kind.fused(first[4:], seconds[1], *layer, state, **tails, **options)
        return torch.cat((head, tail)), state

    assert_same(problem.results(in_two_parts), problem.results(kind.plain), 1e-10)


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        *(("modulated", options) for options in OPTIONS),
        *(pytest.param("retroactive", options, marks=pytest.mark.soak) for options in OPTIONS),
    ],
)
def test_gradients_of_the_lstm_agree_with_finite_differences(rule, options):
    named = dict(zip(("hebb_post", "modulator_source"), options, strict=True))
    assert_gradient(LSTM(rule, 3, 2, 2, signal=(True, "tanh"), **named))


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("rule", ["hebb", "oja", "decay", "soft", *further("retroactive, trace first")])
def test_gradients_of_the_linear_layer_agree_with_finite_differences(rule, unit):
    assert_gradient(Linear(rule, 3, 2, 2, 3, fan_out=True, unit=unit))


def assert_gradient(problem):
    names = list(problem.leaves)

    def run(*points):
        return tuple(problem.outputs(type(problem).fused, dict(zip(names, points, strict=True))))

    assert torch.autograd.gradcheck(run, [problem.leaves[n].clone().requires_grad_() for n in names])


@pytest.mark.parametrize("kind", [LSTM, Linear])
def test_no_bit_depends_on_the_number_of_threads(kind):
    problem = kind("modulated", 20, 70, 33)
    alone = problem.results(kind.fused)
    torch.set_num_threads(3)
    try:
        assert_same(problem.results(kind.fused), alone, 0)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("kind", [LSTM, Linear])
def test_nan_goes_where_it_goes_in_the_plain_scan(kind):
    for value in (math.nan, math.inf):
        problem = kind("clipped", 4, 3, 5)
        problem.leaves["drive" if kind is LSTM else "current"][1, 0, 2] = value
        fused, wanted = (problem.outputs(scan, problem.leaves) for scan in (kind.fused, kind.plain))
        for output, expected in zip(fused, wanted, strict=True):
            torch.testing.assert_close(output, expected, equal_nan=True)


@pytest.mark.parametrize("kind", [LSTM, Linear])
def test_the_operator_keeps_the_contract_of_torch_library(kind, monkeypatch):
    problem, seen = kind("modulated", 3, 2, 5), []
    operator = getattr(torch.ops.engram, kind.operator)
    packet = type("Spy", (), {kind.operator: staticmethod(lambda *args: seen.append(args) or operator(*args))})
    with monkeypatch.context() as patch:
        patch.setattr(torch.ops, "engram", packet)
        problem.outputs(kind.fused, problem.leaves)
    arguments = [a.detach().clone().requires_grad_() if isinstance(a, torch.Tensor) else a for a in seen[0]]
    torch.library.opcheck(operator.default, arguments)


MODULES = {
    "lstm": lambda backend: PlasticLSTM(
        2, 5, backend=backend, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    ),
    "linear": lambda backend: PlasticLinear(
        2, 5, nonlinearity="softmax", backend=backend, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    ),
}


@pytest.mark.parametrize("name", MODULES)
def test_torch_compile_takes_the_whole_module(name):
    torch.compiler.reset()
    net, sequence = (
        MODULES[name]("fused"),
        torch.randn(6, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)),
    )
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    gradients = []
    for call in (compiled, net):
        net.zero_grad()
        with without_type_checks():
            output, state = call(sequence)
            trace = state.trace
            (output.square().sum() + trace.sum()).backward()
        gradients.append([output, *[p.grad for p in net.parameters()]])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", MODULES)
def test_transforms_of_functions_are_left_to_the_plain_scan(name):
    net, peer = (MODULES[name](backend) for backend in ("auto", "fused"))
    sequence = torch.randn(20, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def loss(module, parameters):
        return torch.func.functional_call(module, parameters, (sequence,))[0].square().sum()

    stacked = {key: torch.stack((p.detach(), 0.5 * p.detach())) for key, p in net.named_parameters()}
    together = torch.func.vmap(torch.func.grad(partial(loss, net)))(stacked)
    for n in range(2):
        leaves = {key: p[n].clone().requires_grad_() for key, p in stacked.items()}
        loss(peer, leaves).backward()
        for parameter, value in together.items():
            torch.testing.assert_close(value[n], leaves[parameter].grad, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"torch\.func.*backend = 'auto' can be transformed"):
        torch.func.vmap(partial(loss, peer))(stacked)


@pytest.mark.parametrize("kind", [LSTM, Linear])
@pytest.mark.parametrize(("time", "rule", "fused"), [(20, "modulated", True), (1, "modulated", False)])
def test_the_form_is_chosen_by_length(kind, time, rule, fused):
    seen = []

    def scan(*args, **kwargs):
        form = dispatch.fastest(kind.scan, *args, **kwargs)
        seen.append(form)
        return kind.plain(*args, **kwargs)

    problem = kind(rule, time, 2, 5)
    problem.outputs(scan, problem.leaves)
    assert seen == [kind.scan.fused if fused else kind.scan.plain]


class Slower(Hebb):
    """A subclass, which may do anything."""


ZEROS = torch.zeros(1, 1, 3)
PLAIN_LSTM = {
    "drive": torch.zeros(1, 1, 12), "weight": torch.zeros(12, 3), "alpha": torch.tensor(1.0), "rule": Hebb(),
    "state": PlasticLSTMState(ZEROS[0], ZEROS[0], Hebb().init(1, 3, 3)),
}  # fmt: skip
PLAIN_LINEAR = {
    "pre": ZEROS, "current": ZEROS, "alpha": torch.tensor(1.0), "rule": Hebb(), "state": Hebb().init(1, 3, 3),
    "nonlinearity": identity,
}  # fmt: skip
BAD = {
    "lstm rule": (dispatch.LSTM, PLAIN_LSTM | {"rule": Slower()}, "rule = Slower.*: expected Hebb, Oja, Clipped"),
    "lstm modulator": (dispatch.LSTM, PLAIN_LSTM | {"rule": Modulated()}, "neuromodulator = None: expected one"),
    "lstm dtype": (
        dispatch.LSTM,
        PLAIN_LSTM | {"drive": torch.zeros(1, 1, 12).half()},
        "input.dtype = torch.float16",
    ),
    "lstm device": (
        dispatch.LSTM,
        PLAIN_LSTM | {"drive": torch.zeros(1, 1, 12, device="meta")},
        "input.device = meta: expected cpu",
    ),
    "linear rule": (
        dispatch.LINEAR,
        PLAIN_LINEAR | {"rule": Modulated(mode="decay", strict=True), "modulator": ZEROS},
        "rule = Modulated.*: expected .*strict=False",
    ),
    "linear modulator": (
        dispatch.LINEAR,
        PLAIN_LINEAR | {"rule": Modulated()},
        "modulator = None: expected a tensor",
    ),
    "linear modulator unwanted": (
        dispatch.LINEAR,
        PLAIN_LINEAR | {"modulator": ZEROS},
        r"modulator = a tensor: expected None for Hebb\(eta=0.01\)",
    ),
    "linear nonlinearity": (
        dispatch.LINEAR,
        PLAIN_LINEAR | {"nonlinearity": torch.relu},
        "nonlinearity = relu: expected identity, torch.tanh or softmax",
    ),
    "linear device": (
        dispatch.LINEAR,
        PLAIN_LINEAR | {"pre": torch.zeros(1, 1, 3, device="meta")},
        "input.device = meta: expected cpu",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_the_kernels_cannot_run_is_refused(name):
    scan, given, message = BAD[name]
    arguments = dict(given)
    with pytest.raises(ValueError, match=f"backend = 'fused': {message}"):
        dispatch.run_scan(scan, "fused", *(arguments.pop(name) for name in list(arguments)[:5]), **arguments)


@pytest.mark.parametrize("kind", [LSTM, Linear])
def test_nan_stays_in_its_sample_where_a_thread_has_many(kind):
    problem = kind("clipped", 3, 256, 3, dtype=torch.float32)
    problem.leaves["drive" if kind is LSTM else "current"][1, 0] = math.nan
    for output, weight in zip(problem.outputs(kind.fused, problem.leaves), problem.weights, strict=True):
        batch = output.movedim(list(weight.shape).index(256), 0)
        assert batch[0].isnan().any()
        assert not batch[1:].isnan().any()
