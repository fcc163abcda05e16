from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

from engram.lab import Run
from engram.lab.trial.folder import TrialFolder
from engram.lab.trial.loop import TrialRun
from engram.lab.trial.unrecorded import CandidateRun, UnrecordedRun


@pytest.fixture(params=["trial", "unrecorded", "candidate"])
def run(request, tmp_path):
    unrecorded = UnrecordedRun(torch.Generator().manual_seed(3), np.random.default_rng(3))
    whole = TrialRun(TrialFolder(tmp_path), 3)
    return {"trial": whole, "unrecorded": unrecorded, "candidate": CandidateRun(whole)}[request.param]


def test_every_implementation_keeps_the_contract(run):
    assert isinstance(run, Run)
    methods = [name for name, part in vars(Run).items() if inspect.isfunction(part) and not name.startswith("_")]
    assert len(methods) >= 9
    for name in methods:
        ours, theirs = (inspect.signature(getattr(kind, name)).parameters for kind in (type(run), Run))
        options = [each for each in theirs if each not in ours]
        assert not options or any(each.kind is each.VAR_KEYWORD for each in ours.values()), name


def test_a_trial_is_the_same_to_every_run(run):
    assert list(run.steps(4, weights=torch.zeros(2))) == [0, 1, 2, 3]
    rate = run.choose("rate", (0.1, 0.2, 0.4), lambda rate: -abs(rate - 0.2))
    assert rate == run.choices["rate"]["chosen"] == 0.2
    assert [row["end"] for row in run.choices.values()] == [""]
    with pytest.raises(ValueError, match="expected a name that differs from earlier choices, rate"):
        run.choose("rate", (0.1, 0.2), lambda rate: rate)
    for step in range(10):
        run.log(step, loss=float(step))
    run.keep(weights=torch.zeros(2))
    run.note("learns")
    run.beat("half")
    assert run.ends("loss", 5) == (0.5, 8.5)
    assert run.metrics().columns == ["step", "metric", "value"]
    assert (len(run.metrics()), run.device.type) == (10, "cpu")
    assert isinstance(run.generator, torch.Generator)


def test_a_candidate_draws_from_the_generators_of_the_trial(tmp_path):
    whole = TrialRun(TrialFolder(tmp_path), 0)
    candidate = CandidateRun(whole)
    assert candidate.generator is whole.generator
    assert candidate.rng is whole.rng


def test_an_unrecorded_run_chooses_nothing_without_a_score():
    run = UnrecordedRun(torch.Generator(), np.random.default_rng(0))
    with pytest.raises(FloatingPointError, match=r"none of \[0.1, 0.2\] as rate has a score"):
        run.choose("rate", (0.1, 0.2), lambda rate: float("nan"))
