"""Trained networks: learning digits by four rules, and three kinds of networks that hold three bits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import nn

from engram.analysis import HiddenStates
from engram.lab import Run, setting, settings
from engram.studies.experiments.dsa.comparison import COMPONENTS, Fit, Systems, check_rank
from engram.tasks import FlipFlop as Task
from engram.tasks import learning_rule_traces
from engram.tasks.dynamics.learning_rule_traces import RULES, digits


@settings
class Rules:
    """Networks that learn digits by four rules, described by statistics of their weights and activity over training."""

    networks: int = setting(8, "networks for each learning rule and learning rate", ge=1)
    observations: int = setting(200, "observations of a network, one every five training steps", ge=20)
    fit: Fit = setting(Fit(rank=10), "settings for fitting operators")

    def systems(self, run: Run) -> Systems:
        """Train the networks; the rules are the classes."""
        shapes: list[np.ndarray] = []
        labels, raw = [], []
        # With a split of the images for each rule, classes would also differ by the images that are observed.
        order = torch.randperm(len(digits()[0]), generator=run.generator)
        for rule in RULES:
            observed = learning_rule_traces(
                rule, 3 * self.networks, run.generator, observations=self.observations, order=order
            )
            traces = observed.double()
            spread = traces.std(1, keepdim=True)
            centred = traces - traces.mean(1, keepdim=True)
            shapes += list((centred / spread.where(spread > 0, torch.ones(()).double())).numpy())
            labels += [rule] * len(traces)
            raw += list(traces.flatten(1).numpy())
        return Systems([[x] for x in shapes], shapes, labels, neighbours=3, raw=np.stack(raw))


@settings
class FlipFlop:
    """Recurrent networks of three kinds, trained to hold three bits."""

    models: int = setting(3, "networks of each kind", ge=2)
    units: int = setting(128, "units of the first network of a kind; every other one has half as many", ge=2)
    trials: int = setting(64, "sequences on which the networks are compared", ge=2)
    steps: int = setting(200, "steps of a sequence", ge=50)
    updates: int = setting(1500, "steps of the optimiser", ge=1)
    batch: int = setting(64, "sequences in a batch", ge=1)
    learning_rate: float = setting(1e-3, "learning rate of Adam", gt=0, le=1)
    fit: Fit = setting(Fit(n_delays=5, rank=20), "settings for fitting operators")

    def __post_init__(self) -> None:
        check_rank(self.fit, min(COMPONENTS, self.units // 2))

    def systems(self, run: Run) -> Systems:
        """Train the networks; the kinds are the classes."""
        kinds: dict[str, Callable[[int], nn.Module]] = {
            "tanh": lambda units: nn.RNN(3, units),
            "relu": lambda units: nn.RNN(3, units, nonlinearity="relu"),
            "gru": lambda units: nn.GRU(3, units),
        }
        task, activity = Task(steps=self.steps), list[list[np.ndarray]]()
        probe = task.sample(self.trials, run.generator).inputs
        for kind, make in kinds.items():
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
                run.keep(**{f"{kind}-{model}": net})
                with HiddenStates(net) as states, torch.no_grad():
                    net(probe)
                components = PCA(min(COMPONENTS, self.units // 2), svd_solver="covariance_eigh")
                flat = components.fit_transform(np.concatenate(states.trials))
                activity.append(np.split(flat, self.trials))
        shapes = [np.concatenate(x) for x in activity]
        return Systems(activity, shapes, [kind for kind in kinds for _ in range(self.models)])
