"""Conditional diffusion models, their networks, and drop-in replacements from Hugging Face's ``diffusers``.

A denoiser is called ``model(x, t, labels)`` with noisy images, and the step number and the labels of each.
"""

from engram.generative.diffusion.bump_unet import BumpUNet32
from engram.generative.diffusion.cond_unet import CondUNet
from engram.generative.diffusion.diffusers_adapter import DiffusersUNet, SchedulerDiffusion
from engram.generative.diffusion.encoding import position_encoding
from engram.generative.diffusion.exact import ExactDenoiser
from engram.generative.diffusion.gaussian import GaussianDiffusion, Samples
from engram.generative.diffusion.schedules import cosine_betas, linear_betas, signal_rates, zero_terminal_snr

__all__ = [
    "BumpUNet32",
    "CondUNet",
    "DiffusersUNet",
    "ExactDenoiser",
    "GaussianDiffusion",
    "Samples",
    "SchedulerDiffusion",
    "cosine_betas",
    "linear_betas",
    "position_encoding",
    "signal_rates",
    "zero_terminal_snr",
]
