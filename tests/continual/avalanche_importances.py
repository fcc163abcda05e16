"""Writes avalanche_importances.json, beside this file: what avalanche-lib makes of the parameters of one network.

avalanche-lib brings dependencies of its own, and so needs an environment of its own, with whose interpreter this is
run: ``PYTHON tests/continual/avalanche_importances.py``.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy

SIZES, SAMPLES, BATCH, STEPS, RATE, XI = (4, 5, 3), 12, 4, 30, 0.1, 0.1


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(SIZES[0], SIZES[1]), nn.Tanh(), nn.Linear(SIZES[1], SIZES[2]))


def data(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(SAMPLES, SIZES[0], generator=generator), torch.randint(SIZES[2], (SAMPLES,), generator=generator)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor) -> None:
    optimizer.zero_grad()
    cross_entropy(model(x), y).backward()
    optimizer.step()


def named(importances: dict[str, object]) -> dict[str, list[float]]:
    return {name: value.data.flatten().tolist() for name, value in importances.items()}


def copy(recorded: dict[str, object], copied: bool) -> None:
    """Copy what was noted of the parameters, which on the CPU are views that change with them."""
    for value in recorded.values() if copied else ():
        value.data = value.data.clone()


def main() -> None:
    from avalanche.training.plugins.ewc import EWCPlugin
    from avalanche.training.plugins.synaptic_intelligence import SynapticIntelligencePlugin

    x, y = data(0)
    si = {}
    for copied in (False, True):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
        attributes = ("old_theta", "new_theta", "grad", "trajectory", "cum_trajectory")
        weights, trajectory = ({}, {}), {key: {} for key in attributes}
        SynapticIntelligencePlugin.create_syn_data(model, weights, trajectory, set())
        SynapticIntelligencePlugin.init_batch(model, weights, trajectory, set())
        copy(weights[0], copied)
        for _ in range(STEPS):
            SynapticIntelligencePlugin.pre_update(model, trajectory, set())
            copy(trajectory["old_theta"], copied)
            train(model, optimizer, x, y)
            SynapticIntelligencePlugin.post_update(model, trajectory, set())
        no_bound = 1e9  # theirs is 0.001
        SynapticIntelligencePlugin.update_ewc_data(model, weights, trajectory, no_bound, set(), 1, eps=XI)
        si["copied" if copied else "as it is"] = named(weights[1])
    tasks = torch.zeros(SAMPLES, dtype=torch.int64)
    samples = torch.utils.data.TensorDataset(x, y, tasks)
    plugin, ewc = EWCPlugin(1.0), {}
    for size in (1, BATCH):
        importances = plugin.compute_importances(model, cross_entropy, optimizer, samples, "cpu", size)
        ewc[str(size)] = named(importances)
    record = {"version": version("avalanche-lib"), "ewc": ewc, "si": si}
    Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
