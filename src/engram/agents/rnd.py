"""Random network distillation: observations on which a network cannot yet imitate a random one are novel."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from engram import checks
from engram.agents.curiosity import check_rollout
from engram.nn.sequence import check_precision, full_precision
from engram.state import check_module_state, check_state, form_of

LEAST_SIDE = 36  # smallest height and width of an image for the three convolutions
SCALE_FLOOR = 1e-8


class RND(nn.Module):
    """A predictor imitates a frozen random network; its error on an observation is the novelty of that observation.

        x' = clip((x - mean) / (std + 1e-10), -c, c)
        e  = sum over k of (g_k(x') - f_k(x'))^2 / K
        r  = e / std of R,  0 where done;   R <- gamma R + e, for each environment
        L  = mean of e over a random quarter of the samples that count

    f, the target, is a layer of ``hidden`` units and a linear read-out; g, the predictor, has one more layer between.
    For images of at least 36 x 36 both begin with three convolutions, and g has two more layers. Weights are orthogonal
    with gain sqrt(2), biases 0. mean, std and the std of R are running statistics of all observations.

    Args:
        obs_shape: Shape of one observation; images with the channels first.
        num_envs: Number of environments side by side; each has its own R.
        hidden: Units of a layer; 512 as published.
        feature_dim: K.
        keep_prob: Probability that a learning step uses a sample.
        learning_rate: Learning rate of the module's own Adam.
        gamma: Discount of R.
        clip: c.
        mean: Initial running mean, of shape ``obs_shape``, such as that of some random steps; None, and no ``std``: 0,
            until the first observations replace it.
        std: Initial running standard deviation, of the same shape; None: 1.
        running: Whether mean and std are updated; if not, they keep their initial values.
        generator: Draws weights, and the samples of each step; torch's global one if None.

    Source: Burda, Edwards, Storkey and Klimov, "Exploration by random network distillation" (2018); the networks and
    the rewards are those of Hwang et al., "Neuro-inspired fragmentation and recall" (2023).

    Examples:
        >>> rnd = RND((4,), hidden=8, feature_dim=3, keep_prob=1.0, generator=torch.Generator().manual_seed(0))
        >>> known, strange = torch.zeros(1, 4), torch.ones(1, 4)
        >>> for _ in range(100):
        ...     _ = rnd.update(known)
        >>> bool(rnd.error(known) < rnd.error(strange))
        True
    """

    filtered: Tensor

    def __init__(
        self,
        obs_shape: Sequence[int],
        num_envs: int = 1,
        *,
        hidden: int = 512,
        feature_dim: int = 512,
        keep_prob: float = 0.25,
        learning_rate: float = 1e-4,
        gamma: float = 0.99,
        clip: float = 5.0,
        mean: Float[Tensor, "..."] | None = None,
        std: Float[Tensor, "..."] | None = None,
        running: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        checks.arguments()
        super().__init__()
        self.obs_shape = tuple(checks.size("obs_shape", side) for side in obs_shape)
        self.num_envs = checks.size("num_envs", num_envs)
        checks.size("hidden", hidden)
        checks.size("feature_dim", feature_dim)
        self.keep_prob = checks.number("keep_prob", keep_prob, above=0, maximum=1)
        self.learning_rate = checks.number("learning_rate", learning_rate, minimum=0, maximum=1)
        self.gamma = checks.number("gamma", gamma, minimum=0, below=1)
        self.clip, self.running = checks.number("clip", clip, above=0), running
        self.generator = generator
        self.moments = RunningMoments(self.obs_shape, mean, std)
        self.scale = RunningMoments((), torch.zeros(()), torch.ones(()))
        self.register_buffer("filtered", torch.zeros(num_envs, dtype=torch.float64))
        body, size, n_extra = _body(self.obs_shape, hidden)
        target = nn.Sequential(*body, nn.Linear(size, feature_dim, device="meta"))  # so torch draws nothing
        self.target = target.to_empty(device=torch.get_default_device()).requires_grad_(False)
        body, size, n_extra = _body(self.obs_shape, hidden)
        sizes = [size, *[hidden] * n_extra]
        head = [layer for pre, post in pairwise(sizes) for layer in (nn.Linear(pre, post, device="meta"), nn.ReLU())]
        predictor = nn.Sequential(*body, *head, nn.Linear(sizes[-1], feature_dim, device="meta"))
        self.predictor = predictor.to_empty(device=torch.get_default_device())
        self._start = {name: value.clone() for name, value in self.named_buffers()}
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialise both networks again, and reset the statistics and the optimiser's state."""
        for name, value in self.named_buffers():
            value.copy_(self._start[name])
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.orthogonal_(layer.weight, math.sqrt(2), generator=self.generator)
                nn.init.zeros_(layer.get_parameter("bias"))
        self.optimizer = torch.optim.Adam(self.predictor.parameters(), lr=self.learning_rate, fused=True)

    def observe(self, obs: Shaped[Tensor, "batch *features"]) -> None:
        """Include observations in mean and std, if ``running``."""
        if self.running:
            self.moments.add(self._checked(obs))

    def features(self, obs: Shaped[Tensor, "batch *features"]) -> Float[Tensor, "batch feature_dim"]:
        """The target's output for observations."""
        with torch.no_grad():
            return self.target(self._normalised(obs))  # type: ignore[no-any-return]

    def error(self, obs: Shaped[Tensor, "batch *features"]) -> Float[Tensor, "batch"]:
        """The predictor's error on each observation."""
        x = self._normalised(obs)
        with torch.no_grad():
            target = self.target(x)
        return (self.predictor(x) - target).square().mean(-1)  # type: ignore[no-any-return]

    @torch.no_grad()
    def reward(
        self,
        error: Float[Tensor, "time batch"],
        done: Bool[Tensor, "time batch"],
        envs: Int[np.ndarray, "batch"] | None = None,
    ) -> Float[Tensor, "time batch"]:
        """r, from e of successive steps; where done, R and its std do not change.

        Args:
            error: e of each step.
            done: Steps that do not count.
            envs: Indices of the environments of the columns, each once; None: all.

        Raises:
            ValueError: Shapes differ, an error is not finite, or an environment is unknown or occurs twice.
        """
        checks.arguments()
        rows = np.arange(self.num_envs) if envs is None else envs
        if tuple(error.shape) != tuple(done.shape) or error.shape[1] != len(rows):
            shapes = f"error.shape = {tuple(error.shape)}, done.shape = {tuple(done.shape)}"
            raise ValueError(f"{shapes}: expected (time, {len(rows)}), an environment for each of envs")
        if len(np.unique(rows)) < len(rows) or not ((rows >= 0) & (rows < self.num_envs)).all():
            raise ValueError(f"envs = {rows}: expected different numbers from 0 to {self.num_envs - 1}")
        error = error.masked_fill(done, 0)
        checks.finite("error", error, ("time", "env"))
        filtered_errors = self.filtered[rows].numpy(force=True)
        errors, ignored = error.double().numpy(force=True), done.numpy(force=True)
        discounted = np.empty_like(errors)
        for t, (step_errors, ignored_now) in enumerate(zip(errors, ignored, strict=True)):
            filtered_errors = np.where(ignored_now, filtered_errors, self.gamma * filtered_errors + step_errors)
            discounted[t] = filtered_errors
        self.filtered[rows] = torch.from_numpy(filtered_errors).to(self.filtered.device)
        self.scale.add(torch.from_numpy(discounted[~ignored]).to(self.filtered.device))
        return error / self.scale.var.sqrt().clamp(min=SCALE_FLOOR).to(error.dtype)

    def bonus(
        self, next_obs: Shaped[Tensor, "time batch *features"], done: Bool[Tensor, "time batch"]
    ) -> Float[Tensor, "time batch"]:
        """The intrinsic reward of a rollout: for each step, that of the observation after it.

        Args:
            next_obs: Observations after each step, of all environments.
            done: Steps that do not count.

        Raises:
            ValueError: Shapes differ, or an observation is not finite.
            FloatingPointError: An error is not finite.
        """
        check_precision(self.filtered)
        next_obs = check_rollout(next_obs, done, self.obs_shape, self.num_envs)
        with checks.noted(next_obs=next_obs), full_precision(next_obs.device):
            self.observe(next_obs[~done])
            with torch.no_grad():
                error = self.error(next_obs.flatten(0, 1)).view_as(done)
        check_errors(error)
        return self.reward(error, done)

    def loss(
        self, obs: Shaped[Tensor, "batch *features"], valid: Bool[Tensor, "batch"] | None = None
    ) -> Float[Tensor, ""]:
        """L, over the valid observations; None: all are valid."""
        checks.arguments()
        obs = self._checked(obs)
        counted = torch.rand(len(obs), generator=self.generator) < self.keep_prob
        counted = counted.to(obs.device) & (torch.ones_like(counted) if valid is None else valid)
        return self.error(obs[counted]).sum() / counted.sum().clamp(min=1)

    def update(
        self, obs: Tensor, valid: Bool[Tensor, "..."] | None = None, envs: Int[np.ndarray, "batch"] | None = None
    ) -> float:
        """Take a step of Adam on L; return L before it.

        Args:
            obs: Observations, (batch, ...) or (time, batch, ...).
            valid: Whether each observation counts; None: all do.
            envs: Not used: one module learns for all environments.

        Raises:
            ValueError: An argument does not fit; nothing was changed.
            FloatingPointError: The loss is not finite; only the generator has moved.
        """
        checks.arguments()
        batch_dims = obs.ndim - len(self.obs_shape)
        if batch_dims not in (1, 2) or tuple(obs.shape[batch_dims:]) != self.obs_shape:
            shape = ", ".join(map(str, self.obs_shape))
            raise ValueError(f"obs.shape = {tuple(obs.shape)}: expected (batch, {shape}) or (time, batch, {shape})")
        if valid is not None:
            checks.has_shape("valid", tuple(valid.shape), tuple(obs.shape[:batch_dims]))
        with checks.noted(obs=obs, valid=valid):
            loss = self.loss(obs.reshape(-1, *self.obs_shape), None if valid is None else valid.flatten())
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(f"loss = {value}: expected finite observations; nothing was learned")
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return value

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Continue from a ``state_dict``, as torch's modules do; one of another form changes nothing.

        Raises:
            TypeError, ValueError: An entry is missing, or of another shape, as for other numbers of environments.
        """
        check_module_state(self, state_dict, strict, _extra_state={"optimizer": form_of(self.optimizer)})
        outcome = super().load_state_dict(state_dict, strict, assign)
        if assign:  # the predictor has other parameters now, which the optimiser does not know
            of_parameters = copy.deepcopy(self.optimizer.state_dict())
            self.optimizer = torch.optim.Adam(self.predictor.parameters(), lr=self.learning_rate, fused=True)
            self.optimizer.load_state_dict(of_parameters)
        return outcome

    def get_extra_state(self) -> dict[str, Any]:
        """The state of the optimiser, which is part of the module's state."""
        return {"optimizer": self.optimizer.state_dict()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the state of the optimiser."""
        check_state(state, {"optimizer": form_of(self.optimizer)})
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))

    def _checked(self, obs: Tensor) -> Tensor:
        checks.instance("obs", obs, Tensor)
        checks.has_shape("obs", tuple(obs.shape), ("batch", *self.obs_shape))
        if not (obs.is_floating_point() or obs.dtype == torch.uint8):
            raise ValueError(f"obs.dtype = {obs.dtype}: expected floats, or uint8 for images")
        if obs.is_meta or obs.layout is not torch.strided:
            raise ValueError(f"obs is {obs.layout} on {obs.device}: expected a dense tensor with values")
        return obs

    def _normalised(self, obs: Tensor) -> Tensor:
        like, obs = next(self.predictor.parameters()), self._checked(obs)
        # Far from 0, observations in double precision differ by less than single precision can tell.
        wide = obs.to(like.device) if obs.dtype == torch.float64 else obs.to(like)
        mean, deviation = self.moments.mean.to(wide), self.moments.var.sqrt().to(wide) + 1e-10
        return ((wide - mean) / deviation).clamp(-self.clip, self.clip).to(like)


def check_errors(error: Float[Tensor, "time batch"]) -> None:
    """Raise FloatingPointError, naming the environment, if an error is not finite."""
    if not error.isfinite().all():
        step, env = (~error.isfinite()).nonzero()[0].tolist()
        raise FloatingPointError(f"error[{step}, {env}] = {error[step, env]}: of environment {env}, is not finite")


def _body(shape: tuple[int, ...], hidden: int) -> tuple[list[nn.Module], int, int]:
    """The first layers, without values, their number of output features, and the predictor's number of extra layers."""
    if len(shape) == 3 and min(shape[1:]) >= LEAST_SIDE:
        layers: list[nn.Module] = []
        sides = list(shape[1:])
        for (pre, post), kernel, stride in zip(pairwise((shape[0], 32, 64, 64)), (8, 4, 3), (4, 2, 1), strict=True):
            layers += [nn.Conv2d(pre, post, kernel, stride, device="meta"), nn.LeakyReLU()]
            sides = [(side - kernel) // stride + 1 for side in sides]
        return [*layers, nn.Flatten()], 64 * math.prod(sides), 2
    flat = nn.Flatten() if shape else nn.Unflatten(0, (-1, 1))
    return [flat, nn.Linear(math.prod(shape), hidden, device="meta"), nn.LeakyReLU()], hidden, 1


class RunningMoments(nn.Module):
    """Running mean and variance of each feature, to which a batch is added as a whole.

        n = a + b,   d = mean_b - mean_a
        mean = mean_a + d b / n,   var = (a var_a + b var_b + d^2 a b / n) / n

    Args:
        shape: Shape of one sample; () for numbers.
        mean: Initial mean, of shape ``shape``; 0 if None.
        std: Initial standard deviation, of the same shape; 1 if None.
        count: Weight of the initial values, as a number of samples; without any it is 0, so that the first batch
            decides.

    Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).

    Examples:
        >>> moments = RunningMoments(())
        >>> moments.add(torch.tensor([1.0, 2.0, 3.0]))
        >>> moments.mean.item(), moments.var.item()
        (2.0, 0.66...)
    """

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        mean: Float[Tensor, "..."] | None = None,
        std: Float[Tensor, "..."] | None = None,
        count: float = 1e-4,
    ) -> None:
        super().__init__()
        for name, initial_statistic, default in (("mean", mean, 0.0), ("var", std, 1.0)):
            initial = torch.full(shape, default) if initial_statistic is None else initial_statistic
            checks.has_shape("std" if name == "var" else name, tuple(initial.shape), shape)
            self.register_buffer(name, initial.double() ** (2 if name == "var" else 1))
        checks.number("count", count, above=0)
        weight = 0.0 if mean is None and std is None else count
        self.register_buffer("count", torch.tensor(weight, dtype=torch.float64))

    @torch.no_grad()
    def add(self, samples: Float[Tensor, "batch *shape"]) -> None:
        """Include a batch; an empty one changes nothing, and one that is not finite is refused."""
        check_precision(self.mean)
        size = len(samples)
        if not size:
            return
        samples = samples.double()
        var, mean = torch.var_mean(samples, 0, correction=0)
        total, change = self.count + size, mean - self.mean
        if not (var >= 0).all():  # also NaN
            raise ValueError(f"samples = {checks.shown(samples)}: expected finite numbers")
        squares = self.var * self.count + var * size + change.square() * self.count * size / total
        self.mean += change * size / total
        self.var.copy_(squares / total)
        self.count.copy_(total)
