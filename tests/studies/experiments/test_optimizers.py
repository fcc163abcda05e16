"""The comparison of optimisers: every arm of the experiment trains what it says, and the bowls are as described."""

import math

import pytest
import torch

from engram import registry
from engram.studies.experiments import optimizers
from engram.studies.experiments.optimizers import CONDITION, Config, arms, step_of, training_of


@pytest.mark.parametrize("arm", arms)
def test_every_optimiser_takes_a_step_on_its_problem(arm):
    config = Config(**arms[arm])
    step_of(config)()
    training = training_of(config.problem, torch.Generator().manual_seed(0))
    before = [p.detach().clone() for p in training.parameters]
    optimizer = registry.get("optimizers", config.optimizer)(training.parameters, lr=1e-2)
    next(training.losses).backward()
    optimizer.step()
    assert any(not torch.equal(p, old) for p, old in zip(training.parameters, before, strict=True))
    assert math.isfinite(float(training.validated().detach()))


@pytest.mark.parametrize("problem", optimizers.MATRICES)
def test_where_the_experiment_says_so_a_matrix_is_learned(problem):
    training = training_of(problem, torch.Generator().manual_seed(0))
    optimizer = registry.get("optimizers", arms[f"{problem}-fop"]["optimizer"])(training.parameters, lr=1e-2)
    next(training.losses).backward()
    optimizer.step()
    largest = max(training.parameters, key=torch.numel)
    assert optimizer.preconditioner(largest).shape == (len(largest), len(largest))


def test_a_bowl_has_its_condition_number():
    training = optimizers.bowl(0.0, torch.Generator().manual_seed(0))
    (place,) = training.parameters
    (gradient,) = torch.autograd.grad(next(training.losses), place, create_graph=True)
    rows = [torch.autograd.grad(gradient[n, 0], place, retain_graph=True)[0][:, 0] for n in range(len(place))]
    curvatures = torch.linalg.eigvalsh(torch.stack(rows))
    assert float(curvatures[-1] / curvatures[0]) == pytest.approx(CONDITION)
