"""Embeddings of observations as keys: random projections, and trainable encoders."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from engram import checks
from engram.nn.initial import uniform
from engram.nn.sequence import full_precision


class RandomProjection(nn.Module):
    """A frozen random projection, which nearly preserves distances; drawn by scikit-learn.

        y = P x,  P_ij from N(0, 1/d)                                           "gaussian"
        P_ij = +-sqrt(1 / (s d)) with probability s/2 each, else 0, s = 1/sqrt(D)    "sparse"

    Args:
        n_features: Length D of a flattened input.
        key_dim: Length d of a key.
        kind: ``"gaussian"`` or ``"sparse"`` (else ValueError).
        rng: Source of the random projection.

    Source: Blundell et al., "Model-free episodic control" (2016), section 3.1; ``sklearn.random_projection``.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> RandomProjection(28224, 64, "sparse", rng=np.random.default_rng(0))(torch.rand(2, 4, 84, 84)).shape
        torch.Size([2, 64])
    """

    components: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(self, n_features: int, key_dim: int, kind: str = "gaussian", *, rng: np.random.Generator) -> None:
        checks.arguments()
        from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

        checks.choice("kind", kind, ("gaussian", "sparse"))
        super().__init__()
        self.n_features = checks.size("n_features", n_features)
        self.key_dim = checks.size("key_dim", key_dim)
        projection_class: Any = GaussianRandomProjection if kind == "gaussian" else SparseRandomProjection
        components = (
            projection_class(key_dim, random_state=int(rng.integers(2**31))).fit(np.zeros((1, n_features))).components_
        )
        if kind == "sparse":
            components = components.tocoo()
            self.register_buffer("rows", torch.from_numpy(components.row.astype(np.int64)))
            self.register_buffer("columns", torch.from_numpy(components.col.astype(np.int64)))
            components = components.data
        self.register_buffer("components", torch.from_numpy(components.astype(np.float32)))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        for name, buffer in self.named_buffers():  # a sparse projection has a random number of entries
            loaded = state_dict.get(prefix + name)
            if isinstance(loaded, Tensor) and loaded.dim() == buffer.dim() == 1:
                setattr(self, name, torch.empty_like(loaded, dtype=buffer.dtype, device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def forward(self, x: Shaped[Tensor, "batch *features"]) -> Float[Tensor, "batch key_dim"]:
        """The key of each input in a batch, in the precision of the projection."""
        checks.instance("x", x, Tensor)
        if x.ndim < 1 or x.shape[1:].numel() != self.n_features:
            raise ValueError(f"x.shape = {tuple(x.shape)}: expected (batch, ...) of {self.n_features} features")
        x = x.reshape(len(x), -1).to(self.components.dtype)
        if self.components.dim() == 2:
            with full_precision(x.device):
                return x @ self.components.T
        keys = x.new_zeros(len(x), self.key_dim)
        return keys.index_add_(1, self.rows, x[:, self.columns] * self.components)


def vector_encoder(n_features: int, key_dim: int, *, generator: torch.Generator | None = None) -> nn.Sequential:
    """An encoder of vectors (Linear, ReLU, Linear, with ``key_dim`` hidden units) with torch's initial values.

    Args:
        n_features: Length of a vector.
        key_dim: Length of a key.
        generator: Source of the initial values; torch's global one if None.

    Raises:
        ValueError: A size is below 1.

    Examples:
        >>> vector_encoder(4, 32)(torch.zeros(1, 4)).shape
        torch.Size([1, 32])
    """
    sizes = checks.size("n_features", n_features), checks.size("key_dim", key_dim)
    hidden_layer, output_layer = (uniform(nn.Linear, size, key_dim, generator=generator) for size in sizes)
    return nn.Sequential(hidden_layer, nn.ReLU(), output_layer)


def pixel_encoder(key_dim: int, *, generator: torch.Generator | None = None) -> nn.Sequential:
    """An encoder of four frames of 84 x 84 pixels: three convolutions and a linear layer.

    Args:
        key_dim: Length of a key.
        generator: Source of the initial values, those of ``torch.nn``; torch's global one if None.

    Raises:
        ValueError: ``key_dim`` is below 1.

    Source: Agostinelli et al. (2019), the network of its published code.

    Examples:
        >>> pixel_encoder(128)(torch.zeros(1, 4, 84, 84)).shape
        torch.Size([1, 128])
    """
    checks.arguments()
    return nn.Sequential(
        uniform(nn.Conv2d, 4, 32, 8, stride=4, padding=1, generator=generator),
        nn.ReLU(),
        uniform(nn.Conv2d, 32, 64, 4, stride=2, generator=generator),
        nn.ReLU(),
        uniform(nn.Conv2d, 64, 64, 3, generator=generator),
        nn.ReLU(),
        nn.Flatten(),
        uniform(nn.Linear, 64 * 7 * 7, checks.size("key_dim", key_dim), generator=generator),
    )
