"""The Triton kernels of the plastic recurrent scan against the plain one, which is the definition.

Where there is a GPU they run there. Everywhere, a process of its own runs them on the CPU in Triton's interpreter, for
which ``TRITON_INTERPRET=1`` must be set before they are made, and the compiler makes them for a GPU that is not there.
"""

import os
import re
import runpy
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import torch

from engram.numeric.threads import single_threaded
from engram.plasticity import PlasticRNN, PlasticState, TraceState, plastic_scan
from engram.plasticity.kernels.custom_operator import implement
from engram.plasticity.kernels.rnn import scan as rnn
from engram.plasticity.kernels.rnn.scan import fused_scan

pytest.importorskip("triton")
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import interpreter

from engram.plasticity.kernels.rnn import cuda

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
runs = pytest.mark.skipif(
    not (INTERPRETED or torch.cuda.is_available()), reason="no GPU here; test_in_the_interpreter runs this"
)
compiles = pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")

peer = runpy.run_path(str(Path(__file__).with_name("test_kernels.py")))
RULES, assert_same, further = peer["RULES"], peer["assert_same"], peer["further"]
HERE = {("hebb", "post"), ("oja", "connection"), ("modulated", "post"), ("soft", "connection")}
HERE |= {("retroactive, trace first", "connection")}


class Problem(peer["Problem"]):
    """A scan on the device where the kernels run."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.leaves = {name: t.to(DEVICE) for name, t in self.leaves.items()}
        self.clamp = None if self.clamp is None else self.clamp.to(DEVICE)
        self.weights = [w.to(DEVICE) for w in self.weights]
        for module in (self.rule, self.modulator):
            if module is not None:
                module.to(DEVICE)


@pytest.fixture
def cpu_tensors_take_the_kernels():
    """For as long as a test, what the operator does on the CPU is what it does on a GPU."""
    operators = rnn.SCAN, rnn.DERIVATIVE
    implement(operators, (cuda.forward, cuda.backward), rnn.Options, "cpu")
    yield
    implement(operators, (single_threaded()(rnn._forward), single_threaded()(rnn._backward)), rnn.Options, "cpu")


@pytest.fixture
def unwritten_memory_is_nan():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def _where_there_is_no_gpu(request):
    if INTERPRETED:
        request.getfixturevalue("cpu_tensors_take_the_kernels")
        request.getfixturevalue("unwritten_memory_is_nan")


@pytest.fixture
def small_tiles(monkeypatch):
    """Several tiles a matrix, though it is small."""
    for size in ("TILE", "SHARED", "SHARED_BACK"):
        monkeypatch.setattr(cuda, size, 4 * cuda.PART)


@pytest.fixture
def several_programs(monkeypatch):
    """Several programs a sample, though it is small; in the interpreter, where they run in turn, none can wait."""
    monkeypatch.setattr(cuda, "WORTH_A_PROGRAM", 1)
    if INTERPRETED:
        monkeypatch.setattr(cuda, "processors", lambda device: 10)
        monkeypatch.setattr(cuda, "ROUNDS", 1)


@runs
@pytest.mark.parametrize(
    ("rule", "alpha"),
    [
        pytest.param(rule, alpha, marks=() if (rule, alpha) in HERE else pytest.mark.soak)
        for rule in RULES
        for alpha in ("connection", "post")
    ],
)
def test_the_kernels_equal_the_plain_scan(rule, alpha):
    problem = Problem(rule, 4, 2, 5, alpha=alpha, clamped=alpha == "post")
    assert_same(problem.results(fused_scan, stretch=2), problem.results(plastic_scan), 1e-10)


@runs
@pytest.mark.parametrize(
    ("rule", "signal"),
    [
        pytest.param(rule, (True, signal), marks=() if (rule, signal) == ("decay", "sigmoid") else pytest.mark.soak)
        for rule in ("modulated", "soft", "decay", "retroactive")
        for signal in ("sigmoid", "identity")
    ],
)
def test_any_neuromodulator(rule, signal):
    problem = Problem(rule, 3, 2, 4, signal=signal, clamped=True)
    assert_same(problem.results(fused_scan), problem.results(plastic_scan), 1e-10)


@runs
@pytest.mark.parametrize(
    ("size", "alpha"),
    [
        ((0, 2, 3), "homogeneous"),
        ((1, 1, 1), "low rank"),
        ((1, 3, 2), "homogeneous"),
        ((6, 1, 9), "low rank"),
        ((3, 4, 8), "homogeneous"),
        pytest.param((1, 3, 2), "low rank", marks=pytest.mark.soak),
        pytest.param((5, 4, 8), "low rank", marks=pytest.mark.soak),
    ],
)
def test_any_size_any_unit(size, alpha):
    problem = Problem("oja", *size, alpha=alpha, clamped=alpha == "homogeneous", relu=alpha == "low rank")
    assert_same(problem.results(fused_scan), problem.results(plastic_scan), 1e-10)


@runs
@pytest.mark.parametrize("rule", ["retroactive", *further("hebb", "soft", "decay")])
@pytest.mark.usefixtures("small_tiles")
def test_many_tiles_a_sample(rule):
    problem = Problem(rule, 3, 2, 17, clamped=True)
    assert_same(problem.results(fused_scan, stretch=3), problem.results(plastic_scan), 1e-10)


@runs
@pytest.mark.parametrize(
    "kind",
    [("modulated", "post"), *further(("retroactive", "connection"), ("hebb", "connection"), ("decay", "post"))],
)
@pytest.mark.parametrize("batch", [2, *further(1, 4)])
@pytest.mark.usefixtures("several_programs", "small_tiles")
def test_several_programs_a_sample(kind, batch):
    rule, alpha = kind
    problem = Problem(rule, 4, batch, 21, alpha=alpha, clamped=True)
    assert_same(problem.results(fused_scan, stretch=3), problem.results(plastic_scan), 1e-10)


@runs
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.usefixtures("several_programs", "small_tiles")
def test_a_network_without_plasticity(relu):
    generator = torch.Generator().manual_seed(0)
    drive, weight, hidden, of_outputs, of_last = (
        torch.randn(shape, generator=generator, dtype=torch.float64).to(DEVICE).requires_grad_()
        for shape in ((5, 2, 37), (37, 37), (2, 37), (5, 2, 37), (2, 37))
    )
    clamp = (torch.rand(5, 2, 37, generator=generator) < 0.3).to(DEVICE)
    state = PlasticState(hidden, TraceState(hidden.new_empty(2, 0, 0)))
    results = []
    for scan in (fused_scan, plastic_scan):
        nonlinearity = torch.relu if relu else torch.tanh
        outputs, last = scan(drive, weight / 6, None, None, state, clamp=clamp, nonlinearity=nonlinearity)
        loss = (outputs * of_outputs).sum() + (last.hidden * of_last).sum()
        gradients = torch.autograd.grad(loss, (drive, weight, hidden))
        results.append((outputs, last.hidden, last.trace, *gradients))
    for fused, plain in zip(*results, strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-10, atol=1e-10)


@runs
@pytest.mark.parametrize(
    "rule",
    [
        "oja",
        *(
            pytest.param(r, marks=pytest.mark.soak)
            for r in ("hebb", "clipped", "modulated", "retroactive, trace first")
        ),
    ],
)
def test_single_precision_is_as_good_as_that_of_the_plain_scan(rule):
    exact = Problem(rule, 6, 2, 9).results(plastic_scan)
    problem = Problem(rule, 6, 2, 9, dtype=torch.float32)
    fused, plain = problem.results(fused_scan), problem.results(plastic_scan)
    for name, value in exact.items():
        error, usual = ((r[name].double() - value).abs().max().item() for r in (fused, plain))
        assert error <= 10 * usual + 1e-5 * (1 + value.abs().max().item()), name


@runs
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_activity_is_a_tangent_to_the_last_digits(dtype):
    problem = Problem("hebb", 1, 1, 41, dtype=dtype)
    sizes = torch.cat((torch.logspace(-12, 1.5, 20, dtype=torch.float64), torch.tensor([0.6249, 0.6251])))
    values = torch.cat((sizes[:20], -sizes[1:], torch.zeros(1))).to(dtype)[:41]
    problem.leaves |= {"drive": values.view(1, 1, -1).to(DEVICE)}
    problem.leaves |= {name: torch.zeros_like(problem.leaves[name]) for name in ("weight", "alpha")}
    activity = problem.outputs(fused_scan, problem.leaves)[0].flatten()
    torch.testing.assert_close(activity.cpu(), values.tanh(), rtol=8 * torch.finfo(dtype).eps, atol=0)


@runs
@pytest.mark.parametrize("rule", ["retroactive", pytest.param("modulated", marks=pytest.mark.soak)])
def test_a_carried_state_equals_one_long_call(rule):
    problem = Problem(rule, 5, 2, 3)

    def in_two_parts(drive, weight, alpha, own, state, **options):
        head, state = fused_scan(drive[:2], weight, alpha, own, state, **options)
        tail, state = fused_scan(drive[2:], weight, alpha, own, state, **options)
        return torch.cat((head, tail)), state

    assert_same(problem.results(in_two_parts), problem.results(plastic_scan), 1e-10)


@runs
def test_memory_layout_does_not_matter():
    problem = Problem("retroactive", 3, 2, 4)

    def strided(t):
        return torch.stack((t, -t), dim=-1)[..., 0] if t.dim() else t

    assert_same(problem.results(fused_scan, change=strided), problem.results(fused_scan), 0)


@runs
@pytest.mark.parametrize(("value", "relu"), [("nan", False), ("inf", False), ("nan", True)])
def test_nan_goes_where_it_goes_in_the_plain_scan(value, relu):
    problem = Problem("clipped", 3, 2, 4, relu=relu)
    problem.leaves["drive"][1, 0, 2] = float(value)
    fused, wanted = (problem.outputs(scan, problem.leaves) for scan in (fused_scan, plastic_scan))
    for output, expected in zip(fused, wanted, strict=True):
        torch.testing.assert_close(output, expected, equal_nan=True)


@pytest.mark.skipif(INTERPRETED or not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("size", [(50, 30, 100), (20, 3, 200), (7, 2, 400), (9, 1, 1025)])
def test_on_a_gpu_sizes_that_threads_share(rule, size):
    steps, *others = size
    # Without a bound the network is chaotic: in 50 steps it makes 1e-15 of the input a difference of 5e-6.
    problem = Problem(rule, min(steps, 15) if "unbounded" in rule else steps, *others, clamped=True)
    fused = problem.results(fused_scan)
    assert_same(fused, problem.results(plastic_scan), 1e-9)
    assert_same(problem.results(fused_scan), fused, 0)


@pytest.mark.skipif(INTERPRETED or not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu_a_module_takes_the_kernels(monkeypatch):
    calls = []
    forward = cuda.forward
    monkeypatch.setattr(cuda, "forward", lambda *args: calls.append(args) or forward(*args))
    net = PlasticRNN(3, 20, device="cuda")
    net(torch.randn(9, 2, 3, device="cuda"))[0].sum().backward()
    assert len(calls) == 1
    assert all(p.grad is not None for p in net.parameters())


@runs
@pytest.mark.parametrize(("rule", "alpha"), [("hebb", "post"), ("retroactive, trace first", "connection")])
def test_second_derivatives(rule, alpha):
    problem, results = Problem(rule, 4, 2, 5, alpha=alpha, clamped=True), []
    for scan in (fused_scan, plastic_scan):
        leaves = {name: t.clone().requires_grad_() for name, t in problem.leaves.items()}
        outputs = problem.outputs(scan, leaves)
        loss = sum((output * weight).sum() for output, weight in zip(outputs, problem.weights, strict=True))
        first = torch.autograd.grad(loss, leaves.values(), create_graph=True)
        second = torch.autograd.grad(sum(t.sin().sum() for t in first), leaves.values())
        results.append(dict(enumerate((*first, *second))))
    assert_same(*results, 1e-10)


@compiles
def test_in_the_interpreter(effort):
    soak = ["--soak"] if effort > 1 else []
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *soak, __file__],
        env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, timeout=600 * effort, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout).group(1)) > (60 if effort > 1 else 15)


class Threads:
    """Who touched which number between two barriers, and in one launch.

    The interpreter does one thing after another, so that no race shows in what it computes. A place in a tile stands
    for the thread that holds it.
    """

    def __init__(self, builder, monkeypatch):
        self.builder, self.checked = builder, 0
        self.phase = {"read": defaultdict(list), "written": defaultdict(list)}
        self.launch = {"read": defaultdict(set), "written": defaultdict(set)}
        for name, seen in [
            ("create_masked_load", lambda pointers, mask, *_: self.touch("read", pointers, mask)),
            ("create_masked_store", lambda pointers, _, mask, *__: self.touch("written", pointers, mask)),
            ("create_barrier", self.end_phase),
            ("set_grid_idx", self.end_phase),
            ("set_grid_dim", self.end_launch),
        ]:
            real = getattr(builder, name)

            def watched(*args, real=real, seen=seen):
                seen(*args)
                return real(*args)

            monkeypatch.setattr(builder, name, watched)

    def touch(self, how, pointers, mask):
        shape, present = pointers.data.shape, mask.data.reshape(-1).nonzero()[0]
        for place, address in zip(present.tolist(), pointers.data.reshape(-1)[present].tolist(), strict=True):
            self.phase[how][address].append((shape, place))

    def end_phase(self, *_):
        for address, writers in self.phase["written"].items():
            assert len(writers) == 1, "written twice between two barriers"
            assert {*self.phase["read"][address]} <= {*writers}, "written by one thread, read by another"
            self.checked += 1
        for how, entries in self.phase.items():
            for address, entry in entries.items():
                if entry:
                    self.launch[how][address].add(self.builder.grid_idx)
            entries.clear()

    def end_launch(self, *_):
        self.end_phase()
        for address, writers in self.launch["written"].items():
            assert len(writers) == 1, "written by two programs"
            assert self.launch["read"][address] <= writers, "written by one program, read by another"
        self.launch = {"read": defaultdict(set), "written": defaultdict(set)}


@pytest.mark.skipif(not INTERPRETED, reason="a GPU does not tell; test_in_the_interpreter runs this")
@pytest.mark.parametrize("rule", ["retroactive", pytest.param("modulated", marks=pytest.mark.soak)])
@pytest.mark.parametrize("programs", [False, pytest.param(True, marks=pytest.mark.soak)])
@pytest.mark.usefixtures("small_tiles")
def test_no_thread_reads_what_another_writes_at_the_same_time(rule, programs, monkeypatch, request):
    if programs:
        request.getfixturevalue("several_programs")
    threads = Threads(interpreter.interpreter_builder, monkeypatch)
    Problem(rule, 3, 2, 17, clamped=True).results(fused_scan, stretch=2)
    threads.end_launch()
    assert threads.checked > 1000


class Hopper:
    """What Triton asks of the driver of a GPU before it compiles; here it is told of one of the Hopper generation."""

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)


@compiles
@pytest.mark.usefixtures("cpu_tensors_take_the_kernels")
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (("retroactive", 32, "post", "tanh"), torch.float32),
        (("modulated", 300, "connection", "tanh"), torch.float32),
        *(
            pytest.param(kind, dtype, marks=pytest.mark.soak)
            for kind in (
                ("hebb", 100, "connection", "identity"),
                ("soft", 1, "post", "sigmoid"),
                ("decay", 400, "connection", "tanh"),
                ("retroactive", 400, "post", "tanh"),
            )
            for dtype in (torch.float32, torch.float64)
        ),
    ],
)
def test_the_compiler_takes_the_kernels_and_changes_no_precision(kind, dtype, monkeypatch, tmp_path):
    rule, units, alpha, squash = kind
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(triton.runtime.driver, "_active", Hopper())
    monkeypatch.setattr(cuda, "processors", lambda device: 132)
    made, run = {}, triton.runtime.JITFunction.run

    def compile_only(kernel, *args, warmup, **options):
        done = run(kernel, *args, warmup=True, **options)
        made[done.hash] = done.asm["ptx"]

    monkeypatch.setattr(triton.runtime.JITFunction, "run", compile_only)
    problem = peer["Problem"](rule, 3, 2, units, alpha=alpha, signal=(True, squash), clamped=True, dtype=dtype)
    problem.results(fused_scan, stretch=2)
    assert len(made) == 4
    for ptx in made.values():
        assert "cvt.f64.f32" not in ptx
        assert "cvt.rn.f32.f64" not in ptx
