"""Gaussian diffusion: noise added step by step, a loss for learning to remove it, and samplers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from engram import checks
from engram.generative.diffusion.schedules import cosine_betas, linear_betas, signal_rates

MOST_SIGNAL = 0.05  # share of the signal that the last step may leave
Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From noisy images, their steps and their labels to the quantity named by ``prediction``, of the images' shape."""
Images = Float[Tensor, "batch *image"]
Steps = Int[Tensor, " batch"]
Labels = Float[Tensor, "batch labels"]


class Samples(NamedTuple):
    """Sampled images and, if requested, the output of a layer at each call of the denoiser."""

    images: Images
    hidden: Float[Tensor, "calls batch features"] | None


class GaussianDiffusion:
    """Gaussian diffusion in discrete steps, each of which adds noise of variance beta_t.

        x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) eps,   a_t = product over s <= t of (1 - beta_s)

    A network is trained with the mean squared error to predict ``"eps"``, ``"x0"`` or ``"v"``, which is
    sqrt(a_t) eps - sqrt(1 - a_t) x_0.

    Args:
        steps: T, at least 2; steps are numbered from 0.
        schedule: ``"cosine"``, or ``"linear"``, as ``linear_betas`` makes it; or the betas themselves, T of them, such
            as those of ``zero_terminal_snr``. A warning tells if they leave more than 5 % of the signal, since samplers
            start from noise alone.
        prediction: The quantity that the network predicts; not ``"eps"`` if the last step leaves no signal.
        clip: Samplers clip x_0 to [-clip, clip]; None: no clipping.

    Attributes:
        betas, signal: The schedule, beta_t and a_t, in float64.

    Raises:
        ValueError: An argument is out of range, the betas are not T numbers between 0 and 1, or ``prediction`` is
            ``"eps"`` and the last step leaves no signal, so that x_0 cannot be computed.

    Source: Ho et al., "Denoising diffusion probabilistic models" (2020); Salimans and Ho, "Progressive
    distillation for fast sampling of diffusion models" (2022), for v.

    Examples:
        >>> from engram.generative.diffusion import ExactDenoiser
        >>> diffusion = GaussianDiffusion(100)
        >>> blank = ExactDenoiser(diffusion, lambda labels: torch.zeros(len(labels), 1, 8, 8))
        >>> generator = torch.Generator().manual_seed(0)
        >>> diffusion.sample(blank, torch.ones(2, 2), (1, 8, 8), generator=generator).images.abs().max() < 1e-5
        tensor(True)
    """

    __repr__ = checks.described

    def __init__(
        self,
        steps: int = 100,
        schedule: Literal["cosine", "linear"] | Tensor = "cosine",
        prediction: Literal["eps", "x0", "v"] = "eps",
        clip: float | None = 1.0,
    ) -> None:
        self.steps, self.schedule = checks.size("steps", steps, 2), schedule if isinstance(schedule, str) else "betas"
        self.prediction = checks.choice("prediction", prediction, ("eps", "x0", "v"))
        self.clip = None if clip is None else checks.number("clip", clip, above=0)
        if isinstance(schedule, Tensor):
            checks.has_shape("schedule", schedule.shape, (steps,))
            self.betas = schedule.detach().cpu().double().clone()
        else:
            checks.choice("schedule", schedule, ("cosine", "linear"))
            self.betas = cosine_betas(steps) if schedule == "cosine" else linear_betas(steps)
        self.signal = signal_rates(self.betas)
        if (left := float(self.signal[-1])) > MOST_SIGNAL:
            message = f"schedule: its last step leaves {left:.0%} of the signal, but samplers start from noise alone"
            warnings.warn(f"{message}; zero_terminal_snr rescales it", UserWarning, stacklevel=2)
        if self.prediction == "eps" and self.signal[-1] == 0:
            raise ValueError("prediction = 'eps': expected 'v' or 'x0', since the last step leaves no signal")

    def __len__(self) -> int:
        return len(self.betas)

    def noised(self, x0: Images, t: Steps, noise: Images) -> Images:
        """The noisy images x_t.

        Args:
            x0: Images without noise.
            t: The step of each image, from 0.
            noise: Standard normal noise, eps, like ``x0``.

        Raises:
            ValueError: Shapes do not match, or a step is not from 0 to T - 1.
        """
        checks.arguments()
        signal, noisy = self.scales(t, x0)
        with checks.noted(x0=x0, noise=noise):
            return signal * x0 + noisy * noise

    def target(self, x0: Images, t: Steps, noise: Images) -> Images:
        """The target that a network is trained to predict: eps, x_0 or v.

        Args:
            x0: Images without noise.
            t: The step of each image, from 0.
            noise: Standard normal noise, eps, like ``x0``.
        """
        checks.arguments()
        return self._target(x0, noise, *self.scales(t, x0))

    def loss(self, model: Denoiser, x0: Images, labels: Labels, generator: torch.Generator) -> Float[Tensor, ""]:
        """The mean squared error of a network on noisy images.

        Args:
            model: The denoiser.
            x0: Images without noise.
            labels: A row of labels for each image.
            generator: Source of the step and the noise of each image.

        Raises:
            TypeError: The output of the denoiser is not a tensor.
            ValueError: It does not have the shape of the images.

        Warns:
            UserWarning: Samplers would clip the images, as they do with pixels up to 255 and a ``clip`` of 1.
        """
        checks.arguments()
        if self.clip is not None and checks.readable(x0) and len(x0) and x0.detach().abs().max() > 1.01 * self.clip:
            most = f"x0 has values up to {x0.detach().abs().max():.3g} in size"
            warnings.warn(f"{most}, but samples are clipped at clip = {self.clip:g}", UserWarning, stacklevel=2)
        t = torch.randint(len(self), (len(x0),), generator=generator, device=generator.device)
        noise = self.normal(x0, generator)
        signal, noisy = self._factors(t.cpu(), x0)  # from where it was drawn: a GPU need not be waited for
        predicted = model(signal * x0 + noisy * noise, t.to(x0.device), labels)
        checks.instance("output of model", predicted, Tensor)
        checks.has_shape("output of model", predicted.shape, tuple(x0.shape))  # else it may be broadcast
        return functional.mse_loss(predicted, self._target(x0, noise, signal, noisy))

    def split(self, output: Images, x: Images, t: Steps) -> tuple[Images, Images]:
        """x_0, clipped, and the eps that agrees with it.

        Args:
            output: Prediction of a network for ``x`` at the steps ``t``.
            x: Noisy images, x_t.
            t: The step of each image, from 0.
        """
        checks.arguments()
        return self._parts(output, x, *self.scales(t, x))

    @torch.no_grad()
    def sample(
        self,
        model: Denoiser,
        labels: Labels,
        shape: tuple[int, ...],
        *,
        generator: torch.Generator,
        steps: int | Literal["auto"] | None = "auto",
        eta: float = 0.0,
        sampler: Literal["ddim", "ddpm"] = "ddim",
        hidden: nn.Module | None = None,
    ) -> Samples:
        """Draw an image for each label, from pure noise.

        DDIM takes ``steps`` of the T steps, evenly spaced, and adds noise of ``eta`` times the posterior's standard
        deviation. DDPM takes all of them and adds noise of variance beta_t, but none in the last.

        Args:
            model: The denoiser; a module is used in its current mode, so put it into evaluation mode before.
            labels: A row of labels for each image.
            shape: Shape of an image, such as (1, 16, 16).
            generator: Source of all noise.
            steps: Number of calls of the denoiser; ``"auto"``: 20, or T if it is smaller; None: T. DDPM ignores it and
                takes T.
            eta: Relative noise of DDIM; with 0 only the initial noise is random.
            sampler: ``"ddim"`` or ``"ddpm"``.
            hidden: A layer of the network whose output at each call is also returned, flattened.

        Raises:
            ValueError: An argument is out of range, or the layer did not run exactly once per call.

        Source: Song et al., "Denoising diffusion implicit models" (2021), equation 12; Ho et al. (2020), algorithm 2.
        """
        checks.arguments()
        checks.number("eta", eta, minimum=0, maximum=1)
        count = len(self) if steps is None or sampler == "ddpm" else min(20, len(self)) if steps == "auto" else steps
        checks.size("steps", count, 1, len(self))
        start = torch.empty(len(labels), *shape, device=labels.device, dtype=labels.dtype)
        x, outputs = self.normal(start, generator), []
        times = torch.linspace(len(self) - 1, 0, count, dtype=torch.float64).round().long()
        signal, noisy = (factor.to(x) for factor in (self.signal[times].sqrt(), (1 - self.signal[times]).sqrt()))
        signal_t, signal_next = self.signal[times[:-1]], self.signal[times[1:]]
        spread = (1.0 if sampler == "ddpm" else eta) * (
            (1 - signal_next) / (1 - signal_t) * (1 - signal_t / signal_next)
        ).sqrt()
        # Rounding may make the difference negative.
        direction = (1 - signal_next - spread**2).clamp(min=0).sqrt().to(x)
        deviation = (self.betas[times].sqrt() if sampler == "ddpm" else spread).to(x)
        with recorded(hidden) as recordings:
            for call, t in enumerate(times.tolist()):
                predicted = model(x, torch.full((len(x),), t, device=x.device), labels)
                x0, eps = self._parts(predicted, x, signal[call], noisy[call])
                x = x0
                if call + 1 < count:
                    x = signal[call + 1] * x0 + direction[call] * eps
                    if eta > 0 or sampler == "ddpm":
                        x = x + deviation[call] * self.normal(x, generator)
                if hidden is not None:
                    outputs.append(only(recordings, "hidden").reshape(len(x), -1))
        return Samples(x, torch.stack(outputs) if hidden is not None else None)

    @torch.no_grad()
    def hidden(
        self, model: nn.Module, layer: nn.Module, labels: Labels, x: Images, t: int | None = None
    ) -> Float[Tensor, "batch features"]:
        """The output of a layer, flattened.

        Args:
            model: The network.
            layer: The layer, which must run exactly once.
            labels: A row of labels for each image.
            x: Noisy images.
            t: The step of all images; None: the last.

        Raises:
            ValueError: ``t`` is not from 0 to T - 1, or the layer did not run exactly once.
        """
        checks.arguments()
        t = len(self) - 1 if t is None else checks.size("t", t, 0, len(self) - 1)
        with recorded(layer) as recordings, checks.noted(model=model, labels=labels, x=x):
            model(x, torch.full((len(x),), t, device=x.device), labels)
        return only(recordings, "layer").reshape(len(x), -1)

    def scales(self, t: Steps, like: Images) -> tuple[Tensor, Tensor]:
        """sqrt(a_t) and sqrt(1 - a_t), computed in float64, as factors for images like ``like``."""
        checks.arguments()
        t = t.cpu()
        if checks.readable(t) and not ((t >= 0) & (t < len(self))).all():
            raise ValueError(f"t = {t.tolist()}: expected steps from 0 to {len(self) - 1}")
        return self._factors(t, like)

    def _factors(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        signal = self.signal[t].reshape(-1, *[1] * (like.dim() - 1))
        return signal.sqrt().to(like), (1 - signal).sqrt().to(like)

    def _target(self, x0: Tensor, noise: Tensor, signal: Tensor, noisy: Tensor) -> Tensor:
        match self.prediction:
            case "eps":
                return noise
            case "x0":
                return x0
            case _:
                return signal * noise - noisy * x0

    def _parts(self, output: Images, x: Images, signal: Tensor, noisy: Tensor) -> tuple[Tensor, Tensor]:
        """x_0, clipped, and eps; the output comes from the caller's network, so its shape is checked."""
        checks.arguments()
        match self.prediction:
            case "eps":
                x0 = (x - noisy * output) / signal
            case "x0":
                x0 = output
            case _:
                x0 = signal * x - noisy * output
        x0 = x0 if self.clip is None else x0.clamp(-self.clip, self.clip)
        return x0, (x - signal * x0) / noisy

    @staticmethod
    def normal(like: Tensor, generator: torch.Generator) -> Tensor:
        """Standard normal numbers from a generator, with the shape, dtype and device of a tensor."""
        return torch.randn(like.shape, generator=generator, device=generator.device, dtype=like.dtype).to(like.device)


@contextmanager
def recorded(layer: nn.Module | None) -> Iterator[list[Tensor]]:
    """Collect the outputs of a layer in a list, which the caller may empty between calls."""
    recordings: list[Tensor] = []
    if layer is None:
        yield recordings
        return
    hook = layer.register_forward_hook(  # a block of diffusers returns a tuple
        lambda module, inputs, output: recordings.append((output[0] if isinstance(output, tuple) else output).detach())
    )
    try:
        yield recordings
    finally:
        hook.remove()


def only(recordings: list[Tensor], name: str) -> Tensor:
    """The output of a layer in one call of its network; raises ValueError unless there is exactly one."""
    if len(recordings) != 1:
        raise ValueError(f"{name}: the layer ran {len(recordings)} times in a call of the network, expected once")
    return recordings.pop()
