"""Every faster form of the plastic recurrent scan against the plain one, which is the definition.

To compile a kernel takes ten seconds for every kind of alpha and of rule, so that some kinds are left to ``make soak``:
each rule runs there, and here in one of the kernels, which share what a rule is (see ``test_lstm_and_linear_kernels``).
"""

import itertools
import math
from functools import partial
from threading import Event, Thread

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from engram.numeric import threads
from engram.plasticity import (
    ClippedHebb,
    Coefficients,
    Hebb,
    Modulated,
    Neuromodulator,
    Oja,
    PlasticityRule,
    PlasticRNN,
    PlasticState,
    Retroactive,
    TraceState,
)
from engram.plasticity.alpha import LowRank
from engram.plasticity.kernels.dispatch import RNN, fastest, run_scan
from engram.plasticity.kernels.projection import projected
from engram.plasticity.kernels.rnn import scan as rnn
from engram.plasticity.kernels.rnn.scan import fused_scan
from engram.plasticity.kernels.rnn.step import step_scan
from engram.plasticity.rule import trained_rate
from engram.plasticity.scan import plastic_scan
from engram.testing.module import without_type_checks

RULES = {
    "hebb": lambda: Hebb(0.1),
    "oja": lambda: Oja(0.1),
    "clipped": lambda: ClippedHebb(0.3, clip=0.4),
    "modulated": lambda: Modulated(clip=0.4),
    "modulated, unbounded": lambda: Modulated(clip=None),
    "soft": lambda: Modulated(clip=0.6, mode="soft"),
    "soft, unbounded": lambda: Modulated(clip=None, mode="soft"),
    "decay": lambda: Modulated(clip=0.6, mode="decay"),
    "retroactive": lambda: Retroactive(0.3, clip=0.4),
    "retroactive, unbounded": lambda: Retroactive(0.3, clip=None),
    "retroactive, trace first": lambda: Retroactive(0.3, clip=0.4, trace_first=True),
    "sigmoid": lambda: Oja(0.1, eta_param="sigmoid"),
}
ALPHAS = ["connection", "post", "homogeneous", "low rank"]
SIGNALS = [(False, "tanh"), (True, "sigmoid"), (True, "identity")]
# What is compiled here: Hebb's rule and the retroactive one with an alpha for each connection, and the one that adds
# up, with an alpha for each unit.
HERE = {
    *itertools.product(("hebb", "retroactive", "retroactive, trace first"), ("connection", "low rank")),
    *itertools.product(("modulated", "clipped"), ("post", "homogeneous")),
}


EACH = [("hebb", "connection"), ("modulated", "post"), ("retroactive", "connection")]


def further(*values):
    """Return what needs a further kernel, left to ``make soak``."""
    return [pytest.param(value, marks=pytest.mark.soak) for value in values]


def grid(rules, alphas):
    """Return all pairs, of which those that need a further kernel are marked."""
    pairs = itertools.product(rules, alphas)
    return [pytest.param(*pair, marks=() if pair in HERE else pytest.mark.soak) for pair in pairs]


class Problem:
    """A scan with all that can have a gradient, drawn at random, none of it zero."""

    def __init__(
        self, rule, time, batch, units, *, alpha="connection", signal=(False, "tanh"), clamped=False, relu=False,
        dtype=torch.float64, seed=0,
    ):  # fmt: skip
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape, scale=1.0):
            return (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)

        self.rule = RULES[rule]().to(dtype)
        self.modulator = None
        if self.rule.modulated:
            self.modulator = Neuromodulator(units, signal[0], nonlinearity=signal[1], dtype=dtype, generator=generator)
        self.relu, self.state_kind = relu, type(self.rule.init(1, 1, 1))
        self.leaves = {
            "drive": draw(time, batch, units),
            "weight": draw(units, units, scale=units**-0.5),
            "hidden": draw(batch, units, scale=0.5),
        }
        self.traces = len(self.state_kind._fields)
        for n in range(self.traces):
            self.leaves[f"trace {n}"] = draw(batch, units, units, scale=0.3)
        if alpha == "low rank":
            self.leaves |= {"post": draw(2, units, scale=0.5), "pre": draw(2, units, scale=0.5)}
        else:
            shape = {"connection": (units, units), "post": (units,), "homogeneous": ()}[alpha]
            self.leaves["alpha"] = draw(*shape, scale=0.3)
        for module in (self.rule, self.modulator):
            if module is not None:
                own = {f"{type(module).__name__}.{name}": p.detach() for name, p in module.named_parameters()}
                self.leaves |= own
        self.clamp = torch.rand(time, batch, units, generator=generator) < 0.3 if clamped else None
        self.weights = [draw(time, batch, units), draw(batch, units)]
        self.weights += [draw(batch, units, units, scale=0.3) for _ in range(self.traces)]

    def outputs(self, scan, leaves, **options):
        """Return activities, last activity and last traces."""
        alpha = leaves.get("alpha")
        if alpha is None:
            alpha = LowRank(2, *leaves["weight"].shape)
            del alpha.post, alpha.pre
            alpha.post, alpha.pre = leaves["post"], leaves["pre"]
        state = PlasticState(leaves["hidden"], self.state_kind(*[leaves[f"trace {n}"] for n in range(self.traces)]))
        nonlinearity = torch.relu if self.relu else torch.tanh

        def run():
            return scan(
                leaves["drive"], leaves["weight"], alpha, self.rule, state,
                neuromodulator=self.modulator, clamp=self.clamp, nonlinearity=nonlinearity, **options,
            )  # fmt: skip

        undo = []
        for module in (self.rule, self.modulator):
            for name, parameter in [] if module is None else list(module.named_parameters()):
                undo.append((module, name, parameter))
                del module._parameters[name]
                setattr(module, name, leaves[f"{type(module).__name__}.{name}"])
        try:
            activities, last = run()
        finally:
            for module, name, parameter in undo:
                delattr(module, name)
                module.register_parameter(name, parameter)
        return [activities, last.hidden, *last.rule]

    def results(self, scan, change=lambda t: t, **options):
        """Return all outputs, and the gradient of a weighted sum of them with respect to every leaf."""
        leaves = {name: t.clone().requires_grad_() for name, t in self.leaves.items()}
        outputs = self.outputs(scan, {name: change(t) for name, t in leaves.items()}, **options)
        sum((o * w).sum() for o, w in zip(outputs, self.weights, strict=True)).backward()
        gradients = {name: torch.zeros_like(t) if t.grad is None else t.grad for name, t in leaves.items()}
        return {f"output {n}": o.detach() for n, o in enumerate(outputs)} | gradients


def assert_same(results, wanted, tolerance):
    for name, value in wanted.items():
        scale = value.abs().max().item() if value.numel() else 0
        torch.testing.assert_close(
            results[name], value, rtol=0, atol=tolerance * (1 + scale), msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize(("rule", "alpha"), grid(RULES, ALPHAS))
def test_the_kernel_equals_the_plain_scan(rule, alpha):
    for signal in SIGNALS if RULES[rule]().modulated else SIGNALS[:1]:
        problem = Problem(rule, 11, 3, 19, alpha=alpha, signal=signal)
        wanted = problem.results(plastic_scan)
        for stretch in (0, 1, 4, 11):
            assert_same(problem.results(fused_scan, stretch=stretch), wanted, 1e-10)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("rule", RULES)
def test_the_kernel_for_a_few_steps_equals_the_plain_scan(rule, alpha, effort):
    sizes = {torch.float32: (3, 2, 19)} | ({torch.float64: (1, 3, 16)} if effort > 1 else {})
    for signal, dtype in itertools.product(SIGNALS if RULES[rule]().modulated else SIGNALS[:1], sizes):
        options = {"relu": True, "clamped": True} if dtype == torch.float32 and alpha != "post" else {}
        problem = Problem(rule, *sizes[dtype], alpha=alpha, signal=signal, dtype=dtype, **options)
        before = [t.clone() for t in problem.leaves.values()]
        with torch.no_grad():
            wanted = problem.outputs(plastic_scan, problem.leaves)
            outputs = problem.outputs(step_scan, problem.leaves)
        tolerance = 1e-12 if dtype == torch.float64 else 1e-5
        for output, expected in zip(outputs, wanted, strict=True):
            torch.testing.assert_close(output, expected, rtol=0, atol=tolerance)
        assert all(map(torch.equal, before, problem.leaves.values()))


@pytest.mark.parametrize(("rule", "alpha"), grid(RULES, ["connection", "post"]))
def test_without_alpha_the_kernel_is_the_ordinary_network(rule, alpha):
    problem = Problem(rule, 11, 3, 19, alpha=alpha)
    problem.leaves["alpha"] = torch.zeros_like(problem.leaves["alpha"])
    state = PlasticState(problem.leaves["hidden"], TraceState(torch.zeros(3, 0, 0, dtype=torch.float64)))
    ordinary, _ = plastic_scan(problem.leaves["drive"], problem.leaves["weight"], None, None, state)
    activities = problem.outputs(fused_scan, problem.leaves)[0]
    torch.testing.assert_close(activities, ordinary, rtol=0, atol=1e-10)


@pytest.mark.parametrize("rule", ["hebb", *further("oja", "clipped")])
def test_without_eta_the_kernel_makes_no_trace_and_alpha_gets_no_gradient(rule):
    problem = Problem(rule, 11, 3, 19)
    problem.leaves["trace 0"].zero_()
    problem.leaves[f"{type(problem.rule).__name__}.eta"].zero_()
    leaves = {name: t.clone().requires_grad_() for name, t in problem.leaves.items()}
    activities, _, trace = problem.outputs(fused_scan, leaves)
    activities.square().sum().backward()
    assert not trace.any()
    assert not leaves["alpha"].grad.any()


@given(
    kind=st.sampled_from([*EACH, ("clipped", "homogeneous"), ("retroactive", "low rank")]),
    sizes=st.tuples(st.integers(0, 9), st.integers(1, 4), st.integers(1, 35)),
    clamped=st.booleans(),
    relu=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_size_any_unit(kind, sizes, clamped, relu, seed):
    problem = Problem(kind[0], *sizes, alpha=kind[1], clamped=clamped, relu=relu, seed=seed)
    assert_same(problem.results(fused_scan), problem.results(plastic_scan), 1e-10)


@pytest.mark.parametrize("rule", ["oja", *further("hebb", "clipped", "modulated")])
@settings(max_examples=15)
@given(
    sizes=st.tuples(st.integers(1, 30), st.integers(1, 3), st.integers(1, 40)),
    clamped=st.booleans(),
    seed=st.integers(0, 99),
)
def test_single_precision_is_as_good_as_that_of_the_plain_scan(rule, sizes, clamped, seed):
    exact = Problem(rule, *sizes, clamped=clamped, seed=seed).results(plastic_scan)
    problem = Problem(rule, *sizes, clamped=clamped, seed=seed, dtype=torch.float32)
    fused, plain = problem.results(fused_scan), problem.results(plastic_scan)
    for name, value in exact.items():
        error, usual = ((r[name].double() - value).abs().max().item() for r in (fused, plain))
        assert error <= 10 * usual + 1e-5 * (1 + value.abs().max().item()), name


@pytest.mark.parametrize(("rule", "alpha"), EACH)
def test_memory_layout_does_not_matter(rule, alpha):
    problem = Problem(rule, 5, 3, 7, alpha=alpha)

    def strided(t):
        return torch.stack((t, -t), dim=-1)[..., 0] if t.dim() else t

    assert_same(problem.results(fused_scan, change=strided), problem.results(fused_scan), 0)
    problem.leaves["drive"] = problem.leaves["drive"][:, :1]
    expanded = problem.results(fused_scan, change=lambda t: t.expand(5, 3, 7) if t.shape == (5, 1, 7) else t)
    plain = problem.results(plastic_scan, change=lambda t: t.expand(5, 3, 7) if t.shape == (5, 1, 7) else t)
    assert_same(expanded, plain, 1e-10)


@pytest.mark.parametrize(("rule", "alpha"), grid(["hebb", "oja", "modulated", "retroactive"], ["connection", "post"]))
def test_a_carried_state_equals_one_long_call(rule, alpha):
    problem = Problem(rule, 9, 2, 5, alpha=alpha)

    def in_two_parts(drive, weight, alpha, own, state, **options):
        head, state = fused_scan(drive[:4], weight, alpha, own, state, **options)
        tail, state = fused_scan(drive[4:], weight, alpha, own, state, **options)
        return torch.cat((head, tail)), state

    assert_same(problem.results(in_two_parts), problem.results(plastic_scan), 1e-10)


@pytest.mark.parametrize(("rule", "alpha"), grid(RULES, ["connection", "post"]))
def test_gradients_agree_with_finite_differences(rule, alpha):
    problem = Problem(rule, 4, 2, 3, alpha=alpha, signal=(True, "tanh"), clamped=True)
    names = list(problem.leaves)

    def run(*points):
        return tuple(problem.outputs(fused_scan, dict(zip(names, points, strict=True))))

    assert torch.autograd.gradcheck(run, [problem.leaves[n].clone().requires_grad_() for n in names])


@pytest.mark.parametrize(("rule", "alpha"), grid(["hebb", "modulated"], ["connection", "post"]))
def test_no_bit_depends_on_the_number_of_threads(rule, alpha):
    problem = Problem(rule, 20, 70, 33, alpha=alpha)
    alone = problem.results(fused_scan)
    torch.set_num_threads(3)
    try:
        assert_same(problem.results(fused_scan), alone, 0)
    finally:
        torch.set_num_threads(1)


def test_nan_goes_where_it_goes_in_the_plain_scan():
    for value in (math.nan, math.inf):
        problem = Problem("clipped", 4, 2, 5, alpha="post")
        problem.leaves["drive"][1, 0, 2] = value
        fused, wanted = (problem.outputs(scan, problem.leaves) for scan in (fused_scan, plastic_scan))
        for output, expected in zip(fused, wanted, strict=True):
            torch.testing.assert_close(output, expected, equal_nan=True)


def operator_arguments(dtype=torch.float64, modulated=True):
    alpha = "post" if modulated else "connection"
    problem = Problem("modulated" if modulated else "hebb", 3, 2, 5, alpha=alpha, dtype=dtype)
    seen = []
    operator = torch.ops.engram.plastic_scan
    packet = type("Spy", (), {"plastic_scan": staticmethod(lambda *args: seen.append(args) or operator(*args))})
    real = torch.ops.engram
    torch.ops.engram = packet
    try:
        problem.outputs(fused_scan, problem.leaves)
    finally:
        torch.ops.engram = real
    return [a.detach().clone().requires_grad_() if isinstance(a, torch.Tensor) else a for a in seen[0]]


@pytest.mark.parametrize("modulated", [False, True])
def test_the_operator_keeps_the_contract_of_torch_library(modulated):
    torch.library.opcheck(torch.ops.engram.plastic_scan.default, operator_arguments(modulated=modulated))


def test_torch_compile_takes_the_whole_module():
    options = {"rule": Modulated(), "alpha": "post", "backend": "fused", "dtype": torch.float64}
    net = PlasticRNN(2, 5, generator=torch.Generator().manual_seed(0), **options)
    sequence = torch.randn(6, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    gradients = []
    for call in (compiled, net):
        net.zero_grad()
        with without_type_checks():
            output, state = call(sequence)
            (output.square().sum() + state.trace.sum()).backward()
        gradients.append([output, *[p.grad for p in net.parameters()]])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_transforms_of_functions_are_left_to_the_plain_scan():
    net, peer = (
        PlasticRNN(2, 5, rule=Oja(), backend=backend, generator=torch.Generator().manual_seed(0))
        for backend in ("auto", "fused")
    )
    sequence = torch.randn(40, 2, 2, generator=torch.Generator().manual_seed(1))

    def loss(module, parameters):
        return torch.func.functional_call(module, parameters, (sequence,))[0].square().sum()

    stacked = {name: torch.stack((p.detach(), 0.5 * p.detach())) for name, p in net.named_parameters()}
    together = torch.func.vmap(torch.func.grad(partial(loss, net)))(stacked)
    for n in range(2):
        leaves = {name: p[n].clone().requires_grad_() for name, p in stacked.items()}
        loss(peer, leaves).backward()
        for name, value in together.items():
            torch.testing.assert_close(value[n], leaves[name].grad, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"torch\.func.*backend = 'auto' can be transformed"):
        torch.func.vmap(partial(loss, peer))(stacked)


def test_a_gpu_takes_the_kernel_where_there_is_triton(monkeypatch):
    with FakeTensorMode(), torch.device("cuda"):
        state = PlasticState(torch.zeros(2, 3), TraceState(torch.zeros(2, 3, 3)))
        call = torch.zeros(9, 2, 3), torch.zeros(3, 3), torch.zeros(3, 3), Hebb(device="cuda"), state
        for there, form in ((True, fused_scan), (False, RNN.plain)):
            monkeypatch.setattr(rnn, "TRITON", there)
            assert fastest(RNN, *call) is form
        with pytest.raises(ValueError, match=r"input\.device = cuda:0: expected cpu, or the package triton"):
            run_scan(RNN, "fused", *call)


def chosen(rule, time, batch, units, alpha, *, dtype=torch.float32, **options):
    drive, weight = torch.empty(time, batch, units, dtype=dtype), torch.empty(units, units)
    if alpha == "low rank":
        alpha = LowRank(4, units, units)
    else:
        alpha = torch.empty({"connection": (units, units), "post": (units,)}[alpha])
    rule = RULES[rule]()
    state = PlasticState(torch.empty(batch, units), TraceState(torch.empty(0, 0)))
    modulator = Neuromodulator(units) if rule.modulated else None
    return fastest(RNN, drive, weight, alpha, rule, state, neuromodulator=modulator, **options)


def test_the_form_is_chosen_by_shape_rule_and_kind():
    assert chosen("hebb", 20, 30, 100, "connection") is fused_scan
    assert chosen("retroactive", 20, 30, 100, "post") is fused_scan
    assert chosen("hebb", 20, 30, 1000, "low rank") is fused_scan
    assert chosen("hebb", 2, 1, 3, "connection") is RNN.plain
    assert chosen("hebb", 20, 30, 100, "connection", dtype=torch.bfloat16) is RNN.plain
    assert chosen("hebb", 20, 30, 100, "connection", nonlinearity=torch.sin) is RNN.plain
    with torch.no_grad():
        assert chosen("hebb", 1, 30, 100, "connection") is step_scan
        assert chosen("hebb", 20, 30, 100, "connection") is fused_scan
        assert chosen("hebb", 3, 30, 200, "connection") is RNN.plain
        assert chosen("hebb", 1, 30, 100, "connection", nonlinearity=torch.sin) is RNN.plain


@pytest.mark.parametrize(
    "rule", [Modulated(only_half=True), Retroactive(only_half=True), Retroactive(mode="soft")], ids=repr
)
def test_what_the_kernel_cannot_run_is_left_to_the_plain_scan(rule):
    problem = chosen("modulated", 20, 30, 100, "connection")
    assert problem is fused_scan
    state = PlasticState(torch.empty(30, 100), rule.init(30, 100, 100))
    arguments = torch.empty(20, 30, 100), torch.empty(100, 100), torch.empty(100, 100), rule, state
    assert fastest(RNN, *arguments, neuromodulator=Neuromodulator(100)) is RNN.plain


class Slower(Hebb):
    """A subclass, which may do anything."""


BAD = {
    "nonlinearity": ({"nonlinearity": torch.sin}, "nonlinearity = sin: expected torch.tanh or torch.relu"),
    "rule": (
        {"rule": Slower()},
        "rule = Slower.*: expected Hebb, .* or a rule whose own class",
    ),
    "strict": (
        {"rule": Modulated(mode="decay", strict=True), "neuromodulator": Neuromodulator(3)},
        "rule = Modulated.*: expected .*strict=False",
    ),
    "half": (
        {"rule": Modulated(only_half=True), "neuromodulator": Neuromodulator(3)},
        "rule = Modulated.*: expected only_half=False",
    ),
    "retroactive half": (
        {"rule": Retroactive(only_half=True), "neuromodulator": Neuromodulator(3)},
        "rule = Retroactive.*: expected only_half=False",
    ),
    "retroactive soft": (
        {"rule": Retroactive(mode="soft"), "neuromodulator": Neuromodulator(3)},
        "rule = Retroactive.*: expected .*mode='clip'",
    ),
    "modulator missing": ({"rule": Modulated()}, "neuromodulator = None: expected one"),
    "modulator": (
        {"rule": Modulated(), "neuromodulator": torch.nn.Linear(3, 1)},
        "neuromodulator is a Linear: expected a Neuromodulator",
    ),
    "dtype": ({"drive": torch.zeros(1, 1, 3).bfloat16()}, "input.dtype = torch.bfloat16: expected torch.float32 or"),
    "device": ({"drive": torch.zeros(1, 1, 3, device="meta")}, "input.device = meta: expected cpu"),
    "no rule": ({"rule": None}, "rule = None: expected Hebb"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_the_kernel_cannot_run_is_refused(name):
    change, message = dict(BAD[name][0]), BAD[name][1]
    plain = {
        "drive": torch.zeros(1, 1, 3), "weight": torch.zeros(3, 3), "alpha": torch.tensor(1.0), "rule": Hebb(),
        "state": PlasticState(torch.zeros(1, 3), TraceState(torch.zeros(1, 3, 3))),
    }  # fmt: skip
    with pytest.raises(ValueError, match=f"backend = 'fused': {message}"):
        run_scan(RNN, "fused", *(change.pop(name, value) for name, value in plain.items()), **change)


def test_threads_share_the_work_and_say_what_went_wrong():
    pool, done = threads.Threads(), []
    pool.run(lambda number, own: done.append((number, own)), 5, 3, lambda: "memory")
    assert sorted(done) == [(number, "memory") for number in range(5)]

    def fail(number, own):
        raise ArithmeticError(number)

    with pytest.raises(ArithmeticError):
        pool.run(fail, 5, 3, lambda: None)


def test_nobody_waits_for_a_thread_that_has_not_begun():
    pool, busy, done = threads.Threads(), Event(), []
    pool.run(lambda number, own: None, 2, 2, lambda: None)
    pool.pool.submit(busy.wait)  # what else the core of the other thread has to do
    try:
        pool.run(lambda number, own: done.append(number), 5, 2, lambda: None)
    finally:
        busy.set()
    assert done == [0, 1, 2, 3, 4]


def test_operators_are_alone_in_their_own_thread_only():
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(3)
    try:
        with threads.single_threaded(), threads.single_threaded():
            assert (torch.get_num_threads(), threads.available()) == (1, 3)
            other = Thread(target=lambda: seen.append(torch.get_num_threads()))
            other.start()
            other.join()
        assert (torch.get_num_threads(), seen) == (3, [3])
        with pytest.raises(ArithmeticError), threads.single_threaded():
            raise ArithmeticError
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_projection_is_a_linear_layer():
    sequence, weight, bias = (torch.randn(size, dtype=torch.float64) for size in ((4, 3, 5), (2, 5), (2,)))
    given = [tensor.requires_grad_() for tensor in (sequence, weight, bias)]
    assert torch.equal(projected(*given, "auto"), torch.nn.functional.linear(*given))
    assert type(projected(*given, "auto").grad_fn).__name__ == "_ProjectionBackward"
    assert torch.autograd.gradcheck(partial(projected, backend="auto"), given)
    assert torch.autograd.gradgradcheck(partial(projected, backend="auto"), given)


def test_a_process_that_forks_has_threads_of_its_own():
    pool, done = threads.Threads(), []
    pool.run(lambda number, own: None, 2, 2, lambda: None)
    pool.forget()
    assert pool.pool is None
    pool.run(lambda number, own: done.append(number), 5, 3, lambda: None)
    assert sorted(done) == [0, 1, 2, 3, 4]


class Anti(PlasticityRule):
    """A rule from elsewhere: what is learned fades, and the rate is negative."""

    forgets = "rate"

    def __init__(self):
        super().__init__()
        self.eta = trained_rate(-0.1)

    def coefficients(self, post, modulator=None):
        return Coefficients(self.eta, self.eta, post)


def test_a_rule_that_declares_its_numbers_has_a_kernel(monkeypatch):
    monkeypatch.setitem(RULES, "anti", Anti)
    problem = Problem("anti", 9, 2, 7)
    assert_same(problem.results(fused_scan), problem.results(plastic_scan), 1e-10)
