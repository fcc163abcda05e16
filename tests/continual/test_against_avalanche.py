"""Agreement with avalanche-lib 0.6.0; avalanche_importances.py, beside this file, made its answers in the json."""

import importlib.util
import json
from pathlib import Path

import torch

from engram.continual import SynapticIntelligence, TaskData, fisher_diagonal

HERE = Path(__file__).with_name("avalanche_importances.py")
RECORD = json.loads(HERE.with_suffix(".json").read_text())
spec = importlib.util.spec_from_file_location("avalanche_importances", HERE)
theirs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(theirs)


def trained():
    """Return the network after training, its data, and the importances of SI."""
    model, (x, y) = theirs.network(), theirs.data(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=theirs.RATE)
    si = SynapticIntelligence(model, xi=theirs.XI)
    si.attach(optimizer)
    for _ in range(theirs.STEPS):
        theirs.train(model, optimizer, x, y)
    si.end_task(TaskData((x, y)))
    return model, x, y, si.importance


def test_one_sample_at_a_time_ewc_is_the_same():
    model, x, y, _ = trained()
    for name, value in fisher_diagonal(model, [(x, y)], fisher="true").items():
        torch.testing.assert_close(value.flatten(), torch.tensor(RECORD["ewc"]["1"][name]), rtol=1e-4, atol=1e-7)


def test_in_batches_theirs_is_the_square_of_a_mean():
    model, x, y, _ = trained()
    squares = [torch.zeros_like(p) for p in model.parameters()]
    for part in zip(x.split(theirs.BATCH), y.split(theirs.BATCH), strict=True):
        loss = torch.nn.functional.cross_entropy(model(part[0]), part[1])
        for total, g in zip(squares, torch.autograd.grad(loss, list(model.parameters())), strict=True):
            total.add_(g.square() / (theirs.SAMPLES / theirs.BATCH))
    for (name, exact), mean in zip(fisher_diagonal(model, [(x, y)], fisher="true").items(), squares, strict=True):
        batched = torch.tensor(RECORD["ewc"][str(theirs.BATCH)][name])
        torch.testing.assert_close(mean.flatten(), batched, rtol=1e-4, atol=1e-7)
        assert batched.sum() < 0.9 * exact.sum()  # opposite gradients cancel


def test_si_is_the_same_where_it_is_positive():
    _, _, _, importance = trained()
    for name, value in importance.items():
        other = torch.tensor(RECORD["si"]["copied"][name])
        torch.testing.assert_close(value.flatten(), other.clamp(min=0), rtol=1e-4, atol=1e-5)
        # On the CPU its notes of the weights before a step are views of them, and so it measures no change.
        assert not any(RECORD["si"]["as it is"][name])
    assert any(value.any() for value in importance.values())
