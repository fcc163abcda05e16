"""Meta-learning for continual learning: initial weights from which learning a new class does not disturb others."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from engram import checks
from engram.continual.anml import explicit_gradients
from engram.continual.anml.gated_net import GatedNet, zap_
from engram.meta.fast_weights import FastWeights
from engram.meta.inner_updates import Weights, sgd

CAPTURED_FOR = 500  # steps in a row with all remembered images classified as the new class, before a warning


class MetaStep(NamedTuple):
    """Results of one step of meta-learning, at the weights after the inner steps.

    Attributes:
        loss: Mean cross-entropy over trajectory and remembered images.
        accuracy: Accuracy on these images.
        trajectory: Accuracy on only the trajectory's images.
        remembered: Accuracy on only the remembered images.
        captured: Fraction of the remembered images that are classified as the trajectory's last class: 1 at first; the
            lower, the better.
    """

    loss: float
    accuracy: float
    trajectory: float
    remembered: float
    captured: float


class SequentialMetaLearner:
    """Meta-learning of a network so that it forgets less of other classes while it learns one, image by image.

        w(i+1) = w(i) - lr dCE(f(x_i; w(i)), y_i)/dw(i),  i = 0 .. steps - 1
        outer loss = mean cross-entropy at w(steps) of the trajectory and of images to remember

    The weights that change in the inner loop start from the network's; the optimiser of the outer loss changes all
    weights. This covers ANML (body and head change, the gate does not), the same without a gate, and OML (only the head
    changes).

    Args:
        net: The network.
        generator: Source of the redrawn rows.
        fast: Names of the submodules or parameters that move in the inner loop.
        inner_lr: Learning rate of the inner loop.
        order: Order of the outer gradient: 2 through the inner steps, 1 with their gradients as constants.
        zap: Whether the rows of the trajectory's classes in the network's last layer are redrawn, in place, before the
            inner loop, so that the network knows none of these classes.
        optimizer: Optimiser of all parameters; None: Adam with a learning rate of 0.001. Its state for redrawn rows is
            not reset.

    Raises:
        TypeError: An argument has another type.
        ValueError: ``inner_lr`` is negative or not finite, or ``fast`` or ``order`` is invalid, as in ``FastWeights``.

    Source: Beaulieu et al., "Learning to continually learn" (2020), algorithm 1; Javed and White, "Meta-learning
    representations for continual learning" (2019), algorithm 2.

    Examples:
        >>> from engram.continual.anml import anml_net
        >>> generator = torch.Generator().manual_seed(0)
        >>> learner = SequentialMetaLearner(anml_net(body_channels=4, gate_channels=2), generator)
        >>> images = torch.rand(30, 1, 28, 28, generator=generator)
        >>> step = learner.step(images[:5], torch.full((5,), 3), images[5:], torch.arange(25))
        >>> step.trajectory > 0.5
        True
    """

    __repr__ = checks.described

    def __init__(
        self,
        net: GatedNet,
        generator: torch.Generator,
        *,
        fast: Collection[str] = ("body", "head"),
        inner_lr: float = 0.1,
        order: int = 2,
        zap: bool = True,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        self.net = checks.instance("net", net, GatedNet)
        self.generator = checks.generator(generator)
        self.fast, self.zap, self.order = fast, zap, checks.choice("order", order, (1, 2))
        self.inner_lr = checks.number("inner_lr", inner_lr, minimum=0)
        self.optimizer = torch.optim.Adam(net.parameters(), lr=1e-3) if optimizer is None else optimizer
        self.steps = self._captured = 0
        with checks.noted(fast=fast):
            moves = set(FastWeights(net, select=fast).params)
        self._gate_rests = not any(name.startswith("gate.") for name in moves)
        self._head_alone = explicit_gradients.is_plain(net) and all(name.startswith("head.") for name in moves)
        self._written_out = explicit_gradients.written_out(net, moves)

    def inner(
        self,
        x: Float[Tensor, "steps ..."],
        y: Int[Tensor, " steps"],
        gate: Float[Tensor, "steps features"] | None = None,
    ) -> FastWeights:
        """The weights after one step on each image, in turn, by ``FastWeights``.

        ``step`` computes the same weights with explicit gradients if a linear head alone moves, or a ``ConvBody`` and a
        linear head. If the head alone moves, it computes the features of all images once.

        Args:
            x: Images, which are learned one by one.
            y: Their classes.
            gate: Their gate, if it is known; None: it is computed at each step.

        Raises:
            ValueError: There are no images, there is not one label for each, or a label is not a class of the network.
        """
        with checks.noted(x=x, y=y, gate=gate):
            return self._learn(self.net, x, labels("y", y, x, self.net), gate)

    def step(
        self,
        x: Float[Tensor, "steps ..."],
        y: Int[Tensor, " steps"],
        remember_x: Float[Tensor, "others ..."],
        remember_y: Int[Tensor, " others"],
    ) -> MetaStep:
        """Learn a trajectory, then improve the initial weights by the loss after it.

        Args:
            x: Images of the trajectory, which are learned one by one.
            y: Their classes.
            remember_x: Images of all classes.
            remember_y: Their classes.

        Raises:
            TypeError: Labels are not integers.
            ValueError: Labels are beyond the network's outputs, or there is not one for each image, or none at all.
            FloatingPointError: The outer loss is not finite.
        """
        with checks.noted(x=x, y=y, remember_x=remember_x, remember_y=remember_y):
            y = labels("y", y, x, self.net)
            remember_y = labels("remember_y", remember_y, remember_x, self.net)
            images, answers = torch.cat((remember_x, x)), torch.cat((remember_y, y))
            n_remembered = len(remember_x)
            # The gates of all images are computed once, since the inner loop does not change them.
            gate = self.net.gates(images) if self._gate_rests else None
            if self.zap:  # after the gates, which refuse images of another size
                zap_(self.net.readout, sorted(set(y.tolist())), self.generator)
            logits, buffers = self._logits_after_learning(x, y, gate, images)
        loss = functional.cross_entropy(logits, answers)
        if not loss.isfinite():
            raise FloatingPointError(f"the outer loss is {loss.item()} in step {self.steps}: inner_lr may be too high")
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.net.load_state_dict(buffers, strict=False)
        guesses = logits.argmax(1)
        correct = (guesses == answers).float()
        captured = (guesses[:n_remembered] == y[-1]).float().mean().item()
        self._watch(captured)
        accuracy, trajectory_accuracy, remembered_accuracy = (
            scores.mean().item() for scores in (correct, correct[n_remembered:], correct[:n_remembered])
        )
        return MetaStep(loss.item(), accuracy, trajectory_accuracy, remembered_accuracy, captured)

    def _learn(self, net: GatedNet, x: Tensor, y: Tensor, gate: Tensor | None) -> FastWeights:
        fast = FastWeights(net, sgd(self.inner_lr), select=self.fast, order=self.order)
        for i in range(len(x)):
            row = slice(i, i + 1)
            logits = fast(x[row], gate=None if gate is None else gate[row])
            fast = fast.step(functional.cross_entropy(logits, y[row]))
        return fast

    def _logits_after_learning(
        self, x: Tensor, y: Tensor, gate: Tensor | None, images: Tensor
    ) -> tuple[Tensor, Weights]:
        """The logits of images after the inner loop, and the buffers that moved in a copy, such as running means.

        The last images are those of the trajectory.
        """
        trajectory_gate = None if gate is None else gate[-len(x) :]
        if self._written_out == "body and head":
            weights = explicit_gradients.body_and_head(
                self.net, x, y, trajectory_gate, lr=self.inner_lr, order=self.order
            )
            return functional_call(self.net, weights, (images,), {"gate": gate}), {}
        if self._head_alone:  # features are computed once, since the inner loop does not change them
            features = self.net.features(images, gate).post
            of_trajectory = features[-len(x) :]
            if self._written_out == "head":
                weight, bias = explicit_gradients.head(
                    self.net.readout, of_trajectory, y, lr=self.inner_lr, order=self.order
                )
                return functional.linear(features, weight, bias), {}
            fast = self._learn(GatedNet(nn.Identity(), self.net.head), of_trajectory, y, None)
            return fast(features), fast.buffers
        fast = self.inner(x, y, trajectory_gate)
        return fast(images, gate=gate), fast.buffers

    def _watch(self, captured: float) -> None:
        self.steps += 1
        self._captured = self._captured + 1 if captured == 1 else 0
        if self._captured == CAPTURED_FOR:
            problem = f"for {CAPTURED_FOR} steps all remembered images are taken for the new class"
            warnings.warn(f"{problem}: inner_lr = {self.inner_lr} may be too high", stacklevel=3)


def labels(name: str, y: Tensor, x: Tensor, net: GatedNet) -> Tensor:
    """Labels as 64-bit integers; raise unless they are one of the network's classes for each image, at least one."""
    if checks.instance(name, y, Tensor).is_floating_point() or y.dtype == torch.bool:
        raise TypeError(f"{name}.dtype = {y.dtype}: expected integers")
    if y.shape != (len(x),) or not len(x):
        raise ValueError(f"{name}.shape = {tuple(y.shape)}: expected ({len(x)},), one for each image, at least one")
    lowest, highest = int(y.min()), int(y.max())
    if lowest < 0 or highest >= net.readout_size:
        invalid_label = lowest if lowest < 0 else highest
        raise ValueError(
            f"{name} has the label {invalid_label}: expected 0 to {net.readout_size - 1}, the network's outputs"
        )
    return y.long()
