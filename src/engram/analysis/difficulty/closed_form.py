"""Inductive bias complexity: the bits of inductive bias needed to generalise on a task, whatever the model."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

import numpy as np
from scipy.special import betaln, gammaln

from engram import checks
from engram.analysis.difficulty.dimension import DimensionEstimate
from engram.analysis.difficulty.margin import Margin

Number = float | int | np.ndarray
LN2 = math.log(2)
DATA_LIMITED = 1e-6  # a smaller share of dimensions that the data leave free is lost in rounding


@dataclass(frozen=True)
class GeneralizationTask:
    """The quantities that the difficulty of a task is computed from; numbers, or arrays that broadcast.

    Attributes:
        n: Number of samples, at least 1.
        m: Intrinsic dimension of the inputs, at least 1; need not be an integer.
        radius: Largest norm of an input (torus: side / (2 pi)).
        resolution: Distance between inputs at which the output may change, in the unit of ``radius``.
        error: Target error divided by the Lipschitz constant of the loss, between 0 and 1.
        n_discrete: Number of combinations of the discrete variables, at least 1; for classification, of classes.
        out_dim: Dimension of the output, at least 1; for classification, the number of classes - 1.
        bound: Largest output.
        manifold: ``"sphere"``, or ``"torus"`` for states that are angles.
    """

    n: Number
    m: Number
    radius: Number
    resolution: Number
    error: Number
    n_discrete: Number = 1
    out_dim: Number = 1
    bound: Number = 1.0
    manifold: str = "sphere"

    def difficulty(self, **changes: Any) -> Difficulty:
        """The inductive bias complexity; ``changes`` replace fields of the task."""
        return inductive_bias_complexity(**{**vars(self), **changes})


@dataclass(frozen=True, eq=False)
class Difficulty:
    """The inductive bias complexity of a task and its intermediate values, which are arrays if an input is one.

    ``log2_bits`` is -inf for 0 bits. ``dim_theta_log2`` is log2 of the dimension of the hypothesis space,
    ``dim_free_log2`` that of the part that the data leave free, -inf for none; ``bits_per_dim`` are the bits for each
    free dimension. ``max_frequency`` is M, ``degree`` K, not rounded (on the torus M), ``wasserstein`` W and
    ``lipschitz`` L_f of ``inductive_bias_complexity``. If ``data_limited``, the data leave so few dimensions free that
    they are lost in rounding: the bits are then 0 or unreliable. ``task`` holds the inputs. Two results are equal only
    if they are the same object.
    """

    log2_bits: Number
    dim_theta_log2: Number
    dim_free_log2: Number
    bits_per_dim: Number
    max_frequency: Number
    degree: Number
    wasserstein: Number
    lipschitz: Number
    data_limited: bool | np.ndarray
    task: GeneralizationTask

    @property
    def log10_bits(self) -> Any:
        """The logarithm of the bits to base 10; -inf for 0 bits."""
        return self.log2_bits * math.log10(2)

    @property
    def bits(self) -> Any:
        """The bits; raises an OverflowError if they exceed the largest float."""
        if np.any(np.asarray(self.log2_bits) >= 1024):
            maximum = float(np.max(self.log10_bits))
            raise OverflowError(f"there are 10^{maximum:.6g} bits, beyond the largest float: read log10_bits")
        return 2.0**self.log2_bits


@dataclass(frozen=True)
class MeasuredDifficulty:
    """The difficulty of a task whose inputs were measured on data.

    ``low`` and ``high`` are log10 of the bits at the measured dimension minus and plus its standard error.
    ``dimension`` and ``margin`` are the measured quantities; None where one was given.
    """

    difficulty: Difficulty
    low: float
    high: float
    dimension: DimensionEstimate | None
    margin: Margin | None = None


def inductive_bias_complexity(**inputs: Any) -> Difficulty:
    """An upper bound of the information that a designer must supply for a learner to generalise on a task.

    It is minus the logarithm of the share of hypotheses that generalise among those that fit the training data.
    Hypotheses are the functions of frequency up to M on ``n_discrete`` = C copies of an m-sphere of radius R, or of a
    torus of side 2 pi R:

        M = 2 pi R / resolution,   K (K + m - 1) = M^2,   E = binom(m + K, m) + binom(m + K - 1, m)
        W = sqrt(m / 6) (C A_m / n)^(1/m) R,   A_m = 2 pi^((m+1)/2) / Gamma((m+1)/2),   L_f = K sqrt(D) / R
        I = (2 D C E - n D) log2(B sqrt(D C) L_f W / error)

    and on the torus K = M, E = pi^(m/2) M^m / Gamma(m/2 + 1) and A_m = (2 pi)^m. The bits are 0 if the data determine
    every dimension, or if the target is met without any information. All values are computed as logarithms.

    The inputs are the fields of ``GeneralizationTask``, where D is ``out_dim`` and B is ``bound``; arrays broadcast. A
    resolution above 2 R, at which hypotheses have less than one wavelength over the diameter, gives a warning.

    Source: Boopathy et al., "Model-agnostic Measure of Generalization Difficulty" (2023); the formula is that of the
    authors' script, which uses the torus for reinforcement learning.

    Examples:
        >>> task = dict(n=60000, m=14, radius=17.18, resolution=2.399, error=1e-3, n_discrete=10, out_dim=9)
        >>> f"{inductive_bias_complexity(**task).bits:.2e}"
        '1.48e+16'
    """
    check_names(inputs)
    task = GeneralizationTask(**inputs)
    manifold = checks.choice("manifold", task.manifold, ("sphere", "torus"))
    arrays = {name: as_numbers(name, value) for name, value in vars(task).items() if name != "manifold"}
    for name, values in arrays.items():
        check_range(name, values)
    n, m, R, delta, epsilon, C, D, B = arrays.values()
    if np.any(delta > 2 * R):
        ratio = f"resolution = {np.max(delta / R):g} radius"
        warnings.warn(f"{ratio}: hypotheses have less than one wavelength over the diameter, 2 radius", stacklevel=2)
    M = 2 * np.pi * R / delta
    K, log_modes = log_modes_up_to(M, m, manifold)
    log_area = m * math.log(2 * math.pi)
    if manifold == "sphere":
        log_area = LN2 + (m + 1) / 2 * math.log(math.pi) - gammaln((m + 1) / 2)
    W = np.sqrt(m / 6) * np.exp((np.log(C) + log_area - np.log(n)) / m) * R
    L_f = K * np.sqrt(D) / R
    # Each sample determines D of the 2 D C E dimensions.
    log_settled = np.log(n) - (LN2 + np.log(C) + log_modes)
    log_theta = LN2 + np.log(D) + np.log(C) + log_modes
    with np.errstate(divide="ignore"):
        log_free = log_theta + np.log(np.maximum(-np.expm1(log_settled), 0))
        bits_per_dim = np.log2(B) + (np.log2(D) + np.log2(C)) / 2 - np.log2(epsilon) + np.log2(L_f) + np.log2(W)
        log2_bits = log_free / LN2 + np.log2(np.maximum(bits_per_dim, 0))
    data_limited = log_settled > math.log1p(-DATA_LIMITED)
    results = (log2_bits, log_theta / LN2, log_free / LN2, bits_per_dim, M, K, W, L_f, data_limited)
    measures: list[Any] = [np.asarray(value).item() if np.ndim(value) == 0 else value for value in results]
    return Difficulty(*measures, task=task)  # type: ignore[misc]


def with_uncertainty(
    task: GeneralizationTask, dimension: DimensionEstimate | None, margin: Margin | None = None
) -> MeasuredDifficulty:
    """The difficulty of a task with a measured dimension, and how far the dimension's standard error changes it.

    Args:
        task: The task, with the measured quantities.
        dimension: The measured dimension; None: it was given, without an error.
        margin: The measured margin; None: it was given.
    """
    m, standard_error = float(task.m), dimension.se if dimension else 0.0
    low, central, high = (task.difficulty(m=max(1.0, value)) for value in (m - standard_error, m, m + standard_error))
    return MeasuredDifficulty(central, low.log10_bits, high.log10_bits, dimension, margin)


def log_modes_up_to(M: Number, m: Number, manifold: str = "sphere") -> tuple[Number, Number]:
    """The degree K that belongs to the highest frequency M, and the logarithm of the number of modes.

    Args:
        M: The highest frequency.
        m: Dimension of the manifold.
        manifold: ``"sphere"`` or ``"torus"``.
    """
    if manifold == "torus":
        return M, m / 2 * math.log(math.pi) - gammaln(m / 2 + 1) + m * np.log(M)
    K = M * (2 * M / (np.hypot(m - 1, 2 * M) + (m - 1)))  # the root of K (K + m - 1) = M^2 without cancellation
    # binom(m + K, m) + binom(m + K - 1, m) = binom(m + K, m) (m + 2 K) / (m + K)
    return K, np.log((m + 2 * K) / (m + K)) - betaln(m + 1, K + 1) - np.log(m + K + 1)


def check_names(inputs: Mapping[str, Any]) -> None:
    """Raise TypeError if an input is not a field of ``GeneralizationTask``, or a field without a default is missing."""
    field_names = [field.name for field in fields(GeneralizationTask)]
    for name, value in inputs.items():
        if name not in field_names:
            raise TypeError(f"{name} = {checks.shown(value)}: expected one of the arguments {', '.join(field_names)}")
    required = [field.name for field in fields(GeneralizationTask) if field.default is MISSING]
    if missing := [name for name in required if name not in inputs]:
        raise TypeError(f"missing {', '.join(missing)}: expected at least {', '.join(required)}")


def as_numbers(name: str, value: Any) -> np.ndarray:
    """The input ``name`` as an array of floats; raise TypeError unless it consists of numbers."""
    try:
        return np.asarray(checks.as_array(value), dtype=float)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} = {checks.shown(value)}: expected a number, or an array of numbers") from error


def check_range(name: str, values: np.ndarray) -> None:
    """Raise a ValueError unless all values are in the range of the input of this name."""
    if name in ("n", "m", "m_within", "n_discrete", "out_dim"):
        is_valid, expected = values >= 1, "a finite number, at least 1"
    elif name == "error":
        is_valid, expected = (values > 0) & (values < 1), "a number between 0 and 1"
    else:
        is_valid, expected = values > 0, "a finite number above 0"
    invalid = values[~(is_valid & np.isfinite(values))]
    if invalid.size:
        raise ValueError(f"{name} = {invalid.flat[0]:g}: expected {expected}")
