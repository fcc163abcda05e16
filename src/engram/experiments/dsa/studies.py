"""What is compared: systems that are simulated, and networks that are trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from sklearn.decomposition import PCA
from torch import nn

from engram.analysis import HiddenStates
from engram.experiments.dsa.comparison import COMPONENTS, Fit, Systems
from engram.lab import Run
from engram.tasks import FlipFlop as Task
from engram.tasks import latent_dynamics, learning_rule_traces, observed, ring_rates, ring_weights, same_geometry
from engram.tasks.dynamics.learning_rule_traces import RULES
from engram.tasks.dynamics.observed_dynamics import KINDS as DYNAMICS
from engram.tasks.dynamics.observed_dynamics import VIEWS
from engram.tasks.dynamics.same_geometry import KINDS


@dataclass(frozen=True)
class SameGeometry:
    """A saddle, a line attractor and a point attractor whose trajectories have the same mean."""

    data: Literal["trials", "averages"] = "trials"
    """Whether operators are fitted to single trials, or to the mean of each condition."""
    models: Annotated[int, Ge(2)] = 4
    """Systems of each kind."""
    trials: Annotated[int, Ge(2)] = 100
    """Trials of a condition."""
    steps: Annotated[int, Ge(50)] = 10_000
    """Steps simulated."""
    noise: Annotated[float, Ge(0)] = 0.05
    """Standard deviation of the noise of a step."""
    fit: Fit = Fit(n_delays=20)

    def systems(self, run: Run) -> Systems:
        """Simulate them; geometry sees the means of conditions."""
        states = same_geometry(self.models, run.rng, trials=self.trials, steps=self.steps, noise=self.noise)
        kinds, models, trials = states.shape[:3]
        means = states.reshape(kinds, models, 2, trials // 2, *states.shape[3:]).mean(3)
        seen = means if self.data == "averages" else states
        pairs = [(kind, model) for kind in range(kinds) for model in range(models)]
        shapes = [means[pair].reshape(-1, 2) for pair in pairs]
        return Systems([list(seen[pair]) for pair in pairs], shapes, [KINDS[kind] for kind, _ in pairs])

    def seconds(self) -> float:
        """Time of a trial on one core."""
        return self.steps * (2e-4 + 1e-6 * self.models * self.trials) + self.fit.seconds(3 * self.models)


@dataclass(frozen=True)
class Embeddings:
    """Three systems, each seen by several random populations, in the same trajectories or in its own."""

    views: Annotated[int, Ge(2)] = 5
    """Embeddings of each system."""
    shared: bool = False
    """Whether all embeddings of a system see the same trajectories, or each its own."""
    trials: Annotated[int, Ge(2)] = 20
    """Trajectories of a system."""
    steps: Annotated[int, Ge(50)] = 400
    """Samples of a trajectory."""
    fit: Fit = Fit()

    def systems(self, run: Run) -> Systems:
        """Simulate and embed them."""
        activity = []
        for kind in DYNAMICS:
            for view in range(self.views):
                if view == 0 or not self.shared:
                    latent = latent_dynamics(kind, run.rng, trials=self.trials, steps=self.steps)
                activity.append(observed(latent, VIEWS[view % len(VIEWS)], run.rng))
        shapes = [x.reshape(-1, x.shape[-1]) for x in activity]
        return Systems([list(x) for x in activity], shapes, [kind for kind in DYNAMICS for _ in range(self.views)])

    def seconds(self) -> float:
        """Time of a trial on one core."""
        systems = 3 * self.views
        return systems * self.steps * 4e-4 + self.fit.seconds(systems)


@dataclass(frozen=True)
class Ring:
    """A driven ring attractor through ever steeper sigmoids, and another ring of another drive."""

    neurons: Annotated[int, Ge(10)] = 100
    """Neurons of a population."""
    steps: Annotated[int, Ge(50)] = 2000
    """Steps simulated."""
    fit: Fit = Fit(rank=10 * COMPONENTS)

    def systems(self, run: Run) -> Systems:
        """Simulate them; what the other ring is away is the unit."""
        widths = run.rng.uniform(0.55, 0.65, 2) * self.neurons
        weights = np.stack([ring_weights(self.neurons, width) for width in widths])
        rates = ring_rates(weights, np.tile([2.0, 1.0], (self.steps, 1)), run.rng)[:, self.steps // 10 :]
        steepness = np.arange(0.1, 3.7, 0.5).round(1).tolist()
        shapes = [1 / (1 + np.exp(-beta * rates[0])) for beta in steepness]
        shapes.append(1 / (1 + np.exp(-steepness[0] * rates[1])))
        return Systems([components(x) for x in shapes], shapes, [*steepness, None], ordered=True)

    def seconds(self) -> float:
        """Time of a trial on one core."""
        return self.steps * 1e-7 * float(self.neurons**1.5) + self.fit.seconds(9, ordered=True)


@dataclass(frozen=True)
class Topology:
    """A line attractor that is closed to a ring, driven to and fro."""

    neurons: Annotated[int, Ge(10)] = 100
    """Neurons of a population."""
    steps: Annotated[int, Ge(50)] = 8000
    """Steps simulated."""
    fit: Fit = Fit(rank=16)

    def systems(self, run: Run) -> Systems:
        """Simulate the line, the ring, and what is between."""
        closure = np.linspace(0, 1, 11).round(1).tolist()
        width = run.rng.uniform(0.55, 0.65) * self.neurons
        weights = np.stack([ring_weights(self.neurons, width, alpha) for alpha in closure])
        drive, side, step = np.empty(self.steps), 1.0, 0
        while step < self.steps:
            length = int(run.rng.integers(100, 4001))
            drive[step : step + length] = side
            side, step = -side, step + length
        drive += run.rng.normal(0, 0.5, self.steps)
        shapes = list(ring_rates(weights, np.tile(drive[:, None], len(closure)), run.rng)[:, self.steps // 40 :])
        return Systems([components(x) for x in shapes], shapes, closure, ordered=True)

    def seconds(self) -> float:
        """Time of a trial on one core."""
        return self.steps * 3e-7 * float(self.neurons**1.5) + self.fit.seconds(11, ordered=True)


def components(activity: np.ndarray) -> list[np.ndarray]:
    """Return the principal components of one trial."""
    return [PCA(COMPONENTS).fit_transform(activity)]


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
        shapes, labels = [], []
        for rule in RULES:
            traces = learning_rule_traces(rule, 3 * self.networks, run.generator, observations=self.observations)
            centred = traces.double() - traces.double().mean(1, keepdim=True)
            spread = traces.double().std(1, keepdim=True)
            shapes += list((centred / spread.where(spread > 0, torch.ones(()).double())).numpy())
            labels += [rule] * len(traces)
        return Systems([[x] for x in shapes], shapes, labels, neighbours=3)

    def seconds(self) -> float:
        """Time of a trial on one core."""
        return self.observations * 2e-2 + self.fit.seconds(12 * self.networks)


@dataclass(frozen=True)
class FlipFlop:
    """Recurrent networks of three kinds, trained to hold three bits."""

    models: Annotated[int, Ge(2)] = 3
    """Networks of each kind, of 128 and of 64 units in turn."""
    trials: Annotated[int, Ge(2)] = 64
    """Sequences in which they are compared."""
    steps: Annotated[int, Ge(50)] = 200
    """Steps of a sequence."""
    updates: Annotated[int, Ge(1)] = 1500
    """Steps of the optimiser, each on 64 sequences."""
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
        task, activity = Task(steps=self.steps), []
        probe = task.sample(self.trials, run.generator).inputs
        for make in kinds.values():
            for model in range(self.models):
                units = 64 if model % 2 else 128
                with torch.random.fork_rng():
                    torch.manual_seed(int(run.rng.integers(2**62)))
                    net, readout = make(units), nn.Linear(units, 3)
                optimizer = torch.optim.Adam([*net.parameters(), *readout.parameters()], lr=self.learning_rate)
                for _ in run.steps(self.updates, net=net, readout=readout, optimizer=optimizer):
                    inputs, targets, _ = task.sample(64, run.generator)
                    loss = (readout(net(inputs)[0]) - targets).square().mean()
                    optimizer.zero_grad()
                    loss.backward()
                    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                    optimizer.step()
                with HiddenStates(net) as states, torch.no_grad():
                    net(probe)
                flat = PCA(COMPONENTS).fit_transform(np.concatenate(states.trials))
                activity.append(np.split(flat, self.trials))
        shapes = [np.concatenate(x) for x in activity]
        return Systems(activity, shapes, [kind for kind in kinds for _ in range(self.models)])

    def seconds(self) -> float:
        """Time of a trial on one core."""
        systems = 3 * self.models
        return systems * self.updates * self.steps * 3e-4 + self.fit.seconds(systems)
