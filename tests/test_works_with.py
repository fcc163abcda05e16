"""What the page "Works with" says of torch's own tools, a row a test."""

from __future__ import annotations

import copy
import io
import os
import pickle
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from engram import continual, memory
from engram.memory import random_regular
from engram.plasticity import PlasticLinear, PlasticLSTM, PlasticRNN
from engram.testing.module import tensors, without_type_checks

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "works-with.md").read_text()
KINDS = [PlasticRNN, PlasticLSTM]


def draw(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def build(kind, **options):
    return kind(3, 4, generator=torch.Generator().manual_seed(0), **options)


def gradients(net, loss):
    return torch.autograd.grad(loss, list(net.parameters()), allow_unused=True, materialize_grads=True)


def test_every_row_of_the_page_names_a_test_that_is_here():
    named = re.findall(r"`(test_\w+)`", PAGE)
    assert len(named) > 10
    here = {name for name in globals() if name.startswith("test_")}
    elsewhere = "".join(
        path.read_text() for path in Path(__file__).parent.rglob("test_*.py") if path.name != "test_house.py"
    )
    assert [name for name in named if name not in here and f"def {name}(" not in elsewhere] == []
    assert here - set(named) == {"test_every_row_of_the_page_names_a_test_that_is_here"}


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_checkpointing(kind):
    net, x = build(kind), draw(9, 2, 3)
    expected = gradients(net, net(x)[0].sum())
    again = gradients(net, checkpoint(lambda x: net(x)[0], x, use_reentrant=False).sum())
    torch.testing.assert_close(again, expected, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_export_with_any_batch_and_back_from_a_file(kind):
    net, file = build(kind), io.BytesIO()
    batch = {"input": {1: torch.export.Dim("batch", min=2)}}
    torch.export.save(torch.export.export(net, (draw(6, 3, 3),), dynamic_shapes=batch), file)
    file.seek(0)
    output, state = torch.export.load(file).module()(draw(6, 5, 3))
    expected, after = net(draw(6, 5, 3))
    torch.testing.assert_close((output, *tensors(state)), (expected, *tensors(after)))
    assert type(state) is type(after)


@pytest.mark.parametrize("kind", KINDS)
def test_torch_compile_of_any_batch(kind):
    torch.compiler.reset()
    net, times = build(kind), []

    def counting(graph, inputs):
        times.append(len(inputs))
        return graph.forward

    compiled = torch.compile(net, dynamic=True, fullgraph=True, backend=counting)
    with without_type_checks():
        for batch in (2, 3, 5):
            torch.testing.assert_close(compiled(draw(6, batch, 3))[0], net(draw(6, batch, 3))[0])
    assert len(times) == 1


def test_unpacking_as_of_an_lstm():
    for net in (torch.nn.LSTM(3, 4), build(PlasticLSTM)):
        output, (h, c, *_) = net(draw(6, 2, 3))
        assert torch.equal(h[-1], output[-1])
        assert c.shape == (1, 2, 4)


# Where types are Any, the last line's comment is one that mypy finds unused.
TYPED = """
import numpy as np
import torch

from engram.analysis import linear_cka
from engram.plasticity import Oja, PlasticLSTM

net = PlasticLSTM(3, 4, rule=Oja(0.1), generator=torch.Generator().manual_seed(0))
output, state = net(torch.zeros(5, 2, 3))
before, after = np.zeros((5, 2)), np.ones((5, 3))
same: float = linear_cka(before, after)
net.init(2).hidden.relu()
rate: str = linear_cka(before, after)  # type: ignore[assignment]
"""


@pytest.mark.soak
def test_strict_types_of_a_program(tmp_path):
    (tmp_path / "program.py").write_text(TYPED)
    # Kept between runs: the first reads all of torch.
    options = ["--strict", "--follow-imports=silent", "--cache-dir", str(ROOT / ".mypy_cache" / "program")]
    command = [sys.executable, "-m", "mypy", *options, "program.py"]
    environment = {**os.environ, "MYPYPATH": str(ROOT / "src")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_single_samples_by_vmap(kind):
    net, x = build(kind), draw(5, 2, 3)
    parameters = {name: p.detach() for name, p in net.named_parameters()}

    def loss(parameters, sample):
        return torch.func.functional_call(net, parameters, (sample[:, None],))[0].square().sum()

    of_each = torch.func.vmap(torch.func.grad(loss), (None, 1))(parameters, x)
    summed = gradients(net, net(x)[0].square().sum())
    for (name, _), expected in zip(net.named_parameters(), summed, strict=True):
        torch.testing.assert_close(of_each[name].sum(0), expected, rtol=1e-4, atol=1e-6)


def test_weight_norm():
    net, plain = build(PlasticRNN), build(PlasticRNN)
    parametrizations.weight_norm(net, "weight_hh")
    torch.testing.assert_close(net(draw(6, 2, 3))[0], plain(draw(6, 2, 3))[0])
    net(draw(6, 2, 3))[0].sum().backward()
    assert net.parametrizations.weight_hh.original0.grad.any()


def test_pruning():
    net = build(PlasticRNN)
    prune.random_unstructured(net, "weight_hh", 0.5)
    net(draw(6, 2, 3))[0].sum().backward()
    assert (net.weight_hh == 0).sum() == 8
    assert not net.weight_hh_orig.grad[net.weight_hh_mask == 0].any()


@pytest.mark.parametrize("kind", KINDS)
def test_meta_devices(kind):
    output, _ = kind(3, 4, device="meta")(torch.empty(6, 2, 3, device="meta"))
    assert output.is_meta
    assert output.shape == (6, 2, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_loading_of_weights_and_states_alone(kind):
    net, file = build(kind), io.BytesIO()
    torch.save((net.state_dict(), net(draw(6, 2, 3))[1]), file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    other = build(kind)
    other.load_state_dict(weights)
    torch.testing.assert_close(other(draw(6, 2, 3), state)[0], net(draw(6, 2, 3), state)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_keeps_the_precision_of_the_parameters(kind):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, state = build(kind)(draw(6, 2, 3))
    assert {t.dtype for t in (output, *tensors(state))} == {torch.float32}


@pytest.mark.parametrize("kind", KINDS)
def test_pickle_and_deepcopy(kind):
    net = build(kind)
    for other in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        torch.testing.assert_close(other(draw(6, 2, 3))[0], net(draw(6, 2, 3))[0], rtol=0, atol=0)


def penalty(applied="loss"):
    net = torch.nn.Linear(3, 2)
    method = continual.EWC(net, strength=2.0, applied=applied)
    method.attach(torch.optim.SGD(net.parameters(), lr=0.1))
    return method


def expander():
    return memory.ExpanderMemory(random_regular(24, 5, 6, seed=0))


OBJECTS = {
    "expander": expander,
    "store": lambda: memory.AssociativeStore(expander()),
    "graph": lambda: random_regular(24, 5, 6, seed=0),
    "penalty": penalty,
    "proximal penalty": lambda: penalty("proximal"),
    "hopfield": lambda: memory.DenseHopfield("exponential"),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_pickle_of_memories_and_penalties(name):
    made = OBJECTS[name]()
    again = pickle.loads(pickle.dumps(made))
    assert type(again) is type(made)
    assert repr(again).partition(" object at")[0] == repr(made).partition(" object at")[0]


def test_batches_of_a_data_loader():
    net = build(PlasticRNN, batch_first=True)
    loader = DataLoader(TensorDataset(draw(5, 6, 3)), batch_size=2)
    together = torch.cat([net(batch)[0] for (batch,) in loader])
    torch.testing.assert_close(together, net(draw(5, 6, 3))[0])


def test_distributed_data_parallel_over_gloo():
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1, timeout=timedelta(seconds=30)
    )
    try:
        net, peer = build(PlasticRNN), build(PlasticRNN)
        torch.nn.parallel.DistributedDataParallel(net)(draw(6, 2, 3))[0].sum().backward()
        peer(draw(6, 2, 3))[0].sum().backward()
        for own, expected in zip(net.parameters(), peer.parameters(), strict=True):
            torch.testing.assert_close(own.grad, expected.grad)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", KINDS)
def test_onnx(kind, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    net, x = build(kind), draw(5, 2, 3)
    torch.onnx.export(net, (x,), tmp_path / "net.onnx", dynamo=True, verbose=False)
    session = runtime.InferenceSession(tmp_path / "net.onnx")
    (output, *_) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(output, net(x)[0].detach(), atol=1e-6)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_no_trace_by_jit():
    with pytest.raises(RuntimeError, match=r"use torch\.export"):
        torch.jit.trace(build(PlasticRNN), draw(6, 2, 3))


@pytest.mark.parametrize("kind", [*KINDS, PlasticLinear])
def test_second_derivatives(kind):
    second = []
    for backend in ("auto", "eager"):
        net = build(kind, backend=backend)
        first = torch.autograd.grad(net(draw(6, 2, 3))[0].square().sum(), net.alpha, create_graph=True)[0]
        second.append(torch.autograd.grad(first.sum(), net.alpha)[0])
    assert second[0].any()
    torch.testing.assert_close(*second)
