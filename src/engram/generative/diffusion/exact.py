"""The optimal denoiser for data with one image per label: a reference for samplers and networks."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from engram import checks
from engram.generative.diffusion.gaussian import GaussianDiffusion, Images, Labels, Steps


class ExactDenoiser:
    """The exact denoiser, which knows the image of each label; its loss is 0.

        eps(x_t, t, label) = (x_t - sqrt(a_t) x_0(label)) / sqrt(1 - a_t)

    Args:
        diffusion: The diffusion, whose ``prediction`` it returns.
        image: Function from labels to their images.

    Examples:
        >>> import torch
        >>> from engram.generative.diffusion import GaussianDiffusion
        >>> diffusion = GaussianDiffusion(10, prediction="v")
        >>> exact = ExactDenoiser(diffusion, lambda labels: labels.view(-1, 1, 1, 1).expand(-1, 1, 4, 4))
        >>> labels = torch.tensor([[0.5], [-0.5]])
        >>> generator = torch.Generator().manual_seed(0)
        >>> bool(diffusion.loss(exact, exact.image(labels), labels, generator) < 1e-10)
        True
        >>> diffusion.sample(exact, labels, (1, 4, 4), steps=5, generator=generator).images[:, 0, 0, 0]
        tensor([ 0.5000, -0.5000])
    """

    __repr__ = checks.described

    def __init__(self, diffusion: GaussianDiffusion, image: Callable[[Tensor], Tensor]) -> None:
        self.diffusion = checks.instance("diffusion", diffusion, GaussianDiffusion)
        if not callable(image):
            raise TypeError(f"image = {image!r}: expected a function from labels to images")
        self.image = image

    def __call__(self, x: Images, t: Steps, labels: Labels) -> Images:
        """The quantity named by the diffusion's ``prediction``."""
        checks.arguments()
        x0 = self.image(labels).to(x)
        checks.has_shape("image", tuple(x0.shape), tuple(x.shape))
        signal, noisy = self.diffusion.scales(t, x)
        return self.diffusion.target(x0, t, (x - signal * x0) / noisy)
