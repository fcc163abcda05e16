"""A U-Net and a scheduler of Hugging Face's ``diffusers`` with engram's interfaces."""

from __future__ import annotations

import inspect
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from engram import checks, extras
from engram.generative.diffusion.cond_unet import check_dtype
from engram.generative.diffusion.encoding import position_encoding
from engram.generative.diffusion.gaussian import Denoiser, GaussianDiffusion, Labels, Samples, only, recorded
from engram.nn import initial

NAMES: dict[str, Literal["eps", "x0", "v"]] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}

SAME_RATES = 1e-4
STEP = {"model_output", "timestep", "sample"}  # the arguments of a scheduler's step


class DiffusersUNet(nn.Module):
    """A ``diffusers.UNet2DModel`` conditioned on continuous labels, with the interface of ``CondUNet``.

    Its ``class_labels`` are a linear function of the encoded labels, which needs ``class_embed_type="identity"``.

    Args:
        unet: The network.
        label_dim: Number of labels per image.
        label_features: Number of features that encode each label.
        label_base: Base of the labels' encoding.
        generator: Source of the initial values of the added layer; None: torch's global one.

    Raises:
        ValueError: The network has no class embedding of type ``"identity"``, so it would ignore the labels.

    Source: the documentation of diffusers 0.42, ``UNet2DModel``.
    """

    def __init__(
        self,
        unet: Any,
        *,
        label_dim: int = 2,
        label_features: int = 32,
        label_base: float = 100.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        embed_type = getattr(getattr(unet, "config", None), "class_embed_type", None)
        if embed_type != "identity":
            raise ValueError(
                f"unet: class_embed_type = {embed_type!r}: expected 'identity', or labels would be ignored"
            )
        self.unet, self.label_features, self.label_base = unet, label_features, label_base
        width = unet.time_embedding.linear_2.out_features
        inputs = checks.size("label_dim", label_dim) * checks.size("label_features", label_features, 2)
        self.labels = initial.uniform(nn.Linear, inputs, width, generator=generator)

    @classmethod
    def small(cls, size: int, generator: torch.Generator | None = None) -> DiffusersUNet:
        """A network of ``diffusers`` about as large as ``CondUNet(size)``.

        Raises:
            ImportError: ``diffusers`` is not installed.
        """
        try:
            from diffusers import UNet2DModel
        except ModuleNotFoundError as error:
            raise extras.missing("diffusers", "DiffusersUNet", error) from error
        with torch.random.fork_rng(devices=()):  # diffusers draws only from torch's global generator
            source = generator or torch.default_generator
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=source, device=source.device)))
            unet = UNet2DModel(  # type: ignore[no-untyped-call, unused-ignore]
                sample_size=size,
                in_channels=1,
                out_channels=1,
                block_out_channels=(16, 32, 64),
                layers_per_block=1,
                norm_num_groups=4,
                down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
                up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
                class_embed_type="identity",
            )
        return cls(unet, generator=generator)

    def layer(self) -> nn.Module:
        """The last block on the way down, whose output is the representation."""
        return self.unet.down_blocks[-1]  # type: ignore[no-any-return]

    def forward(
        self,
        x: Float[Tensor, "batch channels size size"],
        t: Int[Tensor, " batch"],
        labels: Float[Tensor, "batch labels"],
    ) -> Float[Tensor, "batch channels size size"]:
        """The network's prediction for noisy images: noise, image or velocity, as it is trained.

        Args:
            x: Noisy images.
            t: The step of each, counted from 0.
            labels: A row of labels for each image.

        Raises:
            ValueError: The images have another dtype than the parameters.
        """
        with checks.noted(x=x, t=t, labels=labels):
            check_dtype(self, x)
            positions = labels.to(checks.widened(x))
            encoded = position_encoding(positions, self.label_features, self.label_base).flatten(1).to(x)
            return self.unet(x, t, class_labels=self.labels(encoded)).sample  # type: ignore[no-any-return]


def _betas_of(scheduler: Any) -> Float[Tensor, " steps"]:
    """The betas with which a scheduler adds and removes noise; some shift the rates that follow from its own ones."""
    betas: Tensor = torch.as_tensor(scheduler.betas, dtype=torch.float64)
    of_betas = torch.cumprod(1 - betas, 0)
    rates = torch.as_tensor(getattr(scheduler, "alphas_cumprod", of_betas), dtype=torch.float64)
    if (rates - of_betas).abs().max() < SAME_RATES:  # they differ in rounding
        return betas
    return 1 - rates / torch.cat([rates.new_ones(1), rates[:-1]])


class SchedulerDiffusion(GaussianDiffusion):
    """A scheduler of ``diffusers`` as a diffusion: the loss uses its betas and prediction, sampling its steps.

    Args:
        scheduler: Such as ``diffusers.DDIMScheduler``, ``DDPMScheduler``, ``PNDMScheduler`` or
            ``DPMSolverMultistepScheduler``; each ``sample`` sets its timesteps.

    Raises:
        ValueError: The type of its prediction is unknown, it has no betas, its step needs more than the prediction, the
            step and the images, or it scales noisy images, as ``EulerDiscreteScheduler`` does.

    Source: the documentation of diffusers 0.42, schedulers.
    """

    def __init__(self, scheduler: Any) -> None:
        prediction = getattr(getattr(scheduler, "config", None), "prediction_type", None)
        if prediction not in NAMES or not hasattr(scheduler, "betas"):
            raise ValueError(
                f"scheduler: prediction_type = {prediction!r}: expected betas and one of {', '.join(NAMES)}"
            )
        if (size := float(getattr(scheduler, "init_noise_sigma", 1.0))) != 1:
            raise ValueError(f"scheduler: init_noise_sigma = {size}: expected 1, for images that are not scaled")
        parameters = inspect.signature(scheduler.step).parameters
        required = {name for name, parameter in parameters.items() if parameter.default is inspect.Parameter.empty}
        if others := required - STEP - {"args", "kwargs", "generator"}:
            needed = ", ".join(sorted(others))
            raise ValueError(f"scheduler: its step needs {needed}: expected model_output, timestep and sample alone")
        clip = scheduler.config.clip_sample_range if getattr(scheduler.config, "clip_sample", False) else None
        super().__init__(len(scheduler.betas), _betas_of(scheduler), NAMES[prediction], clip)
        self.scheduler, self._draws = scheduler, "generator" in parameters

    @torch.no_grad()
    def sample(  # type: ignore[override]  # the scheduler decides the rest
        self,
        model: Denoiser,
        labels: Labels,
        shape: tuple[int, ...],
        *,
        generator: torch.Generator,
        steps: int | Literal["auto"] | None = "auto",
        hidden: nn.Module | None = None,
    ) -> Samples:
        """Draw an image for each row of labels as the scheduler does.

        Args:
            model: The denoiser.
            labels: A row of labels for each image.
            shape: Shape of an image.
            generator: Source of all randomness.
            steps: Number of steps, at most ``len(self)``; ``"auto"``: at most 20 of them; None: all.
            hidden: A module of the network whose outputs are returned too (default: none).

        Raises:
            ValueError: An argument is out of range, or the scheduler's steps go from images to noise, as those of
                ``DDIMInverseScheduler`` do.
        """
        checks.arguments()
        wanted = min(20, len(self)) if steps == "auto" else len(self) if steps is None else steps
        count = checks.size("steps", wanted, 1, len(self))
        self.scheduler.set_timesteps(count)
        if (times := self.scheduler.timesteps)[0] < times[-1]:
            raise ValueError(f"scheduler: its steps go from {times[0]} to {times[-1]}: expected from noise to images")
        source = {"generator": generator} if self._draws else {}
        with checks.noted(labels=labels, shape=shape):
            start = torch.empty(len(labels), *shape, device=labels.device, dtype=labels.dtype)
        x, outputs = self.normal(start, generator), []
        with recorded(hidden) as recordings:
            for t in times:
                predicted = model(x, torch.full((len(x),), int(t), device=x.device), labels)
                x = self.scheduler.step(predicted, int(t), x, **source).prev_sample
                if hidden is not None:
                    outputs.append(only(recordings, "hidden").reshape(len(x), -1))
        return Samples(x, torch.stack(outputs) if hidden is not None else None)
