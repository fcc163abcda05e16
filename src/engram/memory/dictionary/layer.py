"""NOODL as a layer: ``forward`` codes its input, and a local update learns from the code without autograd."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram import checks
from engram.nn.sequence import full_precision, precise


class NOODLLayer(nn.Module):
    """A layer of neurons with lateral inhibition that settles to a sparse code and learns by a Hebbian update.

        x(0)   = H'(W y)                                        H' keeps what is at least coef_min / 2
        x(r+1) = H(x(r) + code_step W (y - W^T x(r)))           H keeps what is larger than threshold
        W'     = rows of W + dict_step mean of sign(x) (y - W^T x)^T, each divided by its norm

    ``forward`` unrolls ``iterations`` steps, through which gradients flow along the entries that are kept.
    ``local_update`` needs no gradient: a weight changes by the product of the two quantities that it connects, the sign
    of the code and the remaining error. Workers that each see part of a batch only have to exchange sums of these
    products.

    Args:
        in_features: Number of input features, n.
        out_features: Number of atoms, m, which are the neurons.
        coef_min: Minimum size of the true coefficients, C.
        threshold: Threshold of the iterations.
        code_step: Step size of the code, below 2 over the largest eigenvalue of W W^T.
        iterations: Number of iterations, R.
        dict_step: Step size of the weights, about 0.5 out_features / (mean support x mean size of a coefficient).
        device: Device of the weights.
        dtype: Data type of the weights.
        generator: Source of the initial weights; torch's global one if None.

    Attributes:
        weight: Atoms of unit norm, (out, in); initially random directions. It requires no gradient; after
            ``layer.weight.requires_grad_()`` it can be trained by back-propagation.

    Source: Rambhatla, Li and Haupt, "NOODL" (2019), algorithm 1 and its neural form. The class ``NOODL`` is faster.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> layer = NOODLLayer(3, 3)
        >>> _ = layer.weight.copy_(torch.eye(3))
        >>> layer(torch.tensor([[0.9, 0.1, -2.0]])).gt(0).tolist()
        [[True, False, False]]
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        coef_min: float = 1.0,
        threshold: float = 0.1,
        code_step: float = 0.2,
        iterations: int = 100,
        dict_step: float = 15.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.in_features = checks.size("in_features", in_features)
        self.out_features = checks.size("out_features", out_features)
        self.coef_min = checks.number("coef_min", coef_min, above=0)
        self.threshold = checks.number("threshold", threshold, minimum=0)
        self.code_step = checks.number("code_step", code_step, above=0)
        self.iterations = checks.size("iterations", iterations)
        self.dict_step = checks.number("dict_step", dict_step, above=0)
        self.weight = nn.Parameter(torch.empty(out_features, in_features, device=device, dtype=dtype), False)
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw random directions as atoms, from torch's global generator if None is given."""
        self.weight.normal_(generator=generator)
        self.weight.copy_(nn.functional.normalize(self.weight, dim=1, eps=0.0))

    def forward(self, input: Annotated[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """The codes of the input, (..., in); ValueError if they are not finite."""
        checks.arguments()
        input = self._checked("input", input, self.in_features)
        with full_precision(self.weight.device):
            correlation = input @ self.weight.t()
            code = torch.where(correlation.abs() < self.coef_min / 2, 0, correlation)
            for _ in range(self.iterations):
                code = code + self.code_step * ((input - code @ self.weight) @ self.weight.t())
                code = torch.where(code.abs() <= self.threshold, 0, code)  # NaN stays
        if not code.isfinite().all():
            small = f"code_step = {self.code_step} below 2 over the largest eigenvalue of weight weight^T"
            raise ValueError(f"the codes are not finite: expected a finite input, and {small}")
        return code

    @torch.no_grad()
    def local_gradient(
        self, input: Annotated[Tensor, "*batch in"], code: Annotated[Tensor, "*batch out"]
    ) -> Float[Tensor, "out in"]:
        """The mean over samples of sign(code) x (reconstruction - sample), for codes of ``forward``."""
        checks.arguments()
        input = self._checked("input", input, self.in_features)
        code = self._checked("code", code, self.out_features)
        if input.shape[:-1] != code.shape[:-1] or not input.numel():
            shapes = f"input.shape = {tuple(input.shape)}, code.shape = {tuple(code.shape)}"
            raise ValueError(f"{shapes}: expected equally many samples, at least 1")
        samples, codes = input.reshape(-1, self.in_features), code.reshape(-1, self.out_features)
        with full_precision(self.weight.device):
            return codes.sign().t() @ (codes @ self.weight - samples) / len(samples)

    @torch.no_grad()
    def local_update(self, input: Annotated[Tensor, "*batch in"], code: Annotated[Tensor, "*batch out"]) -> None:
        """Take one learning step, in place; see ``local_gradient``."""
        updated = self.weight - self.dict_step * self.local_gradient(input, code)
        norm = updated.norm(dim=1, keepdim=True)
        self.weight.copy_(updated / torch.where(norm > 0, norm, 1))

    def _checked(self, name: str, value: Tensor, features: int) -> Tensor:
        """A value that fits the weights; under ``torch.autocast`` it gets their dtype."""
        if self.weight.dtype not in (torch.float32, torch.float64):
            lost = "float32 or float64, as half precision loses the small steps of the weights"
            raise ValueError(f"weight.dtype = {self.weight.dtype}: expected {lost}; torch.autocast keeps them")
        value = precise(value, self.weight)
        if value.dim() < 1 or value.shape[-1] != features:
            raise ValueError(f"{name}.shape = {tuple(value.shape)}: expected (..., {features})")
        if value.dtype != self.weight.dtype:
            raise ValueError(f"{name}.dtype = {value.dtype}: expected {self.weight.dtype}, as the weights have")
        if value.device != self.weight.device or value.layout != self.weight.layout:
            expected = f"{self.weight.layout} on {self.weight.device}, as the weights are"
            raise ValueError(f"{name} is {value.layout} on {value.device}: expected {expected}")
        return value

    def extra_repr(self) -> str:
        """The arguments as ``repr`` shows them."""
        return (
            f"{self.in_features}, {self.out_features}, coef_min={self.coef_min}, threshold={self.threshold}, "
            f"code_step={self.code_step}, iterations={self.iterations}, dict_step={self.dict_step}"
        )
