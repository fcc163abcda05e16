"""Networks that are trained: by four rules, while they learn digits; and of three kinds, to hold three bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from sklearn.decomposition import PCA
from torch import nn

from engram.analysis import HiddenStates
from engram.experiments.dsa.comparison import COMPONENTS, Fit, Systems
from engram.lab import Run
from engram.tasks import FlipFlop as Task
from engram.tasks import learning_rule_traces
from engram.tasks.dynamics.learning_rule_traces import RULES


@dataclass(frozen=True)
class Rules:
    """Networks that learn digits by four rules, as statistics of their weights and activity over training."""

    networks: Annotated[int, Ge(1)] = 8
    """Networks of each learning rule and learning rate."""
    observations: Annotated[int, Ge(20)] = 200
    """Observations of a network, one in five steps of training."""
    fit: Fit = Fit(rank=10)

    def systems(self, run: Run) -> Systems:
        """Train them; the rules are the classes."""
        shapes: list[np.ndarray] = []
        labels, raw = [], []
        for rule in RULES:
            observed = learning_rule_traces(rule, 3 * self.networks, run.generator, observations=self.observations)
            traces = observed.double()
            spread = traces.std(1, keepdim=True)
            centred = traces - traces.mean(1, keepdim=True)
            shapes += list((centred / spread.where(spread > 0, torch.ones(()).double())).numpy())
            labels += [rule] * len(traces)
            raw += list(traces.flatten(1).numpy())
        return Systems([[x] for x in shapes], shapes, labels, neighbours=3, raw=np.stack(raw))

    def seconds(self) -> float:
        """Time of a trial on one core."""
        return self.observations * 2e-2 + self.fit.seconds(12 * self.networks)


@dataclass(frozen=True)
class FlipFlop:
    """Recurrent networks of three kinds, trained to hold three bits."""

    models: Annotated[int, Ge(2)] = 3
    """Networks of each kind."""
    units: Annotated[int, Ge(2)] = 128
    """Units of the first network of a kind; the next has half as many, and so on in turn."""
    trials: Annotated[int, Ge(2)] = 64
    """Sequences in which they are compared."""
    steps: Annotated[int, Ge(50)] = 200
    """Steps of a sequence."""
    updates: Annotated[int, Ge(1)] = 1500
    """Steps of the optimiser."""
    batch: Annotated[int, Ge(1)] = 64
    """Sequences in each."""
    learning_rate: Annotated[float, Gt(0), Le(1)] = 1e-3
    """Learning rate of Adam."""
    fit: Fit = Fit(n_delays=5, rank=20)

    def systems(self, run: Run) -> Systems:
        """Train them; the kinds are the classes."""
        kinds: dict[str, Callable[[int], nn.Module]] = {
            "tanh": lambda units: nn.RNN(3, units),
            "relu": lambda units: nn.RNN(3, units, nonlinearity="relu"),
            "gru": lambda units: nn.GRU(3, units),
        }
        task, activity = Task(steps=self.steps), list[list[np.ndarray]]()
        probe = task.sample(self.trials, run.generator).inputs
        for make in kinds.values():
            for model in range(self.models):
                units = self.units // (1 + model % 2)
                with torch.random.fork_rng():
                    torch.manual_seed(int(run.rng.integers(2**62)))
                    net, readout = make(units), nn.Linear(units, 3)
                optimizer = torch.optim.Adam([*net.parameters(), *readout.parameters()], lr=self.learning_rate)
                for step in run.steps(self.updates, net=net, readout=readout, optimizer=optimizer):
                    inputs, targets, _ = task.sample(self.batch, run.generator)
                    loss = (readout(net(inputs)[0]) - targets).square().mean()
                    optimizer.zero_grad()
                    loss.backward()
                    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                    optimizer.step()
                    if step + 1 == self.updates:
                        run.log(len(activity) + 1, error=loss)
                with HiddenStates(net) as states, torch.no_grad():
                    net(probe)
                flat = PCA(min(COMPONENTS, self.units // 2)).fit_transform(np.concatenate(states.trials))
                activity.append(np.split(flat, self.trials))
        shapes = [np.concatenate(x) for x in activity]
        return Systems(activity, shapes, [kind for kind in kinds for _ in range(self.models)])

    def seconds(self) -> float:
        """Time of a trial on one core."""
        systems = 3 * self.models
        return systems * self.updates * self.steps * (1e-4 + 1.3e-8 * self.batch * self.units) + self.fit.seconds(
            systems
        )
