"""The three pictures at the top of README and site, drawn from runs of the library: a layer, a rule and a measure.

``python docs/pictures.py`` runs all of it, within two minutes on one core, and draws the pictures again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import torch
from sklearn.datasets import load_digits
from torch import nn

from engram.analysis import DSA, HankelDMD
from engram.lab.output import export
from engram.plasticity import Oja, PlasticRNN
from engram.rules import Backprop, FeedbackAlignment, LastLayerOnly, LearningRule, train_step
from engram.storage.files import write_atomic
from engram.tasks import PatternCompletion

FOLDER = Path(__file__).parent / "images"
INK, COLORS = "#1d2433", ("#0072B2", "#D55E00", "#009E73")
SIZE = {"width": 400, "height": 300}


def layer(steps: int = 1000, window: int = 50) -> go.Figure:
    """The error of a plastic and of a common recurrent network that complete patterns seen once."""
    figure = go.Figure()
    for name, color in zip(("PlasticRNN", "nn.RNN"), COLORS, strict=False):
        generator, task = torch.Generator().manual_seed(0), PatternCompletion(bits=20, patterns=2)
        torch.manual_seed(0)
        is_plastic = name == "PlasticRNN"
        net: nn.Module = PlasticRNN(20, 60, rule=Oja(eta=0.05), generator=generator) if is_plastic else nn.RNN(20, 60)
        readout, errors = nn.Linear(60, 20), []
        optimizer = torch.optim.Adam([*net.parameters(), *readout.parameters()], lr=1e-3)
        for _ in range(steps):
            inputs, targets, mask = task.sample(batch_size=32, generator=generator)
            answer = readout(net(10 * inputs)[0])[mask]
            optimizer.zero_grad()
            (answer - targets[mask]).square().mean().backward()
            optimizer.step()
            errors.append((answer.sign() != targets[mask]).float().mean().item())
        means = np.reshape(errors, (-1, window)).mean(1)
        figure.add_scatter(
            x=np.arange(1, len(means) + 1) * window, y=means, name=name, line={"color": color, "width": 3}
        )
    return styled(figure, "training steps", "share of wrong bits").update_yaxes(rangemode="tozero")


def rule(steps: int = 300, every: int = 10) -> go.Figure:
    """The accuracy of a network on digits, trained by backpropagation and without it."""
    images, labels = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
    images, test = images.float() / 16, slice(1200, None)
    rules: dict[str, LearningRule] = {
        "backpropagation": Backprop(),
        "feedback alignment": FeedbackAlignment(),
        "last layer alone": LastLayerOnly(),
    }
    figure = go.Figure()
    for (name, learning_rule), color in zip(rules.items(), COLORS, strict=True):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
        generator = torch.Generator().manual_seed(0)
        state, accuracies = learning_rule.init(net, generator), []
        for step in range(steps):
            batch = torch.randint(1200, (64,), generator=generator)
            state = train_step(learning_rule, net, optimizer, (images[batch], labels[batch]), state).state
            if (step + 1) % every == 0:
                accuracies.append((net(images[test]).argmax(1) == labels[test]).float().mean().item())
        x = np.arange(1, len(accuracies) + 1) * every
        figure.add_scatter(x=x, y=accuracies, name=name, line={"color": color, "width": 3})
    return styled(figure, "training steps", "accuracy on new digits")


def measure() -> go.Figure:
    """The distances of twelve noisy rotations at three speeds, each seen through neurons of its own."""
    systems = [rotation(speed, seed) for seed, speed in enumerate(np.repeat([0.1, 0.3, 0.9], 4))]
    distances = DSA(HankelDMD(n_delays=10, rank=6)).fit_transform(systems)
    figure = go.Figure(go.Heatmap(z=distances, colorscale="Blues_r", colorbar={"title": "distance", "thickness": 12}))
    ticks = {"tickvals": [1.5, 5.5, 9.5], "ticktext": ["slow", "medium", "fast"]}
    return styled(figure, "", "").update_xaxes(**ticks).update_yaxes(autorange="reversed", **ticks)


def rotation(speed: float, seed: int, trials: int = 12, time: int = 200) -> np.ndarray:
    """A noisy rotation of the plane, seen by a population of its own through a nonlinearity."""
    rng = np.random.default_rng(seed)
    turn = 0.98 * np.array([[np.cos(speed), -np.sin(speed)], [np.sin(speed), np.cos(speed)]])
    x = np.zeros((trials, time, 2))
    for t in range(1, time):
        x[:, t] = x[:, t - 1] @ turn.T + 0.2 * rng.normal(size=(trials, 2))
    return np.tanh(x @ rng.normal(size=(2, 10)))


def styled(figure: go.Figure, x: str, y: str) -> go.Figure:
    """A figure in the size and with the letters of the front page; it stays readable at a third of the page's width."""
    return figure.update_layout(
        template="plotly_white",
        font={"family": "sans-serif", "size": 16, "color": INK},
        margin={"l": 60, "r": 10, "t": 10, "b": 50},
        legend={"x": 0.98, "xanchor": "right", "y": 0.72, "bgcolor": "rgba(255,255,255,0.8)"},
        xaxis_title=x,
        yaxis_title=y,
        **SIZE,
    )


def main() -> None:
    """Run everything and draw the pictures."""
    torch.set_num_threads(1)
    figures = {"front-layer": layer(), "front-rule": rule(), "front-measure": measure()}
    for name, picture in export.draw(figures, "svg").items():
        write_atomic(FOLDER / f"{name}.svg", picture)


if __name__ == "__main__":
    main()
