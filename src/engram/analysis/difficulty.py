"""Inductive bias complexity: how many bits a learner must bring along to generalise on a task, before any model."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import betaln, gammaln

from engram.analysis.dimension import DimensionEstimate
from engram.analysis.margin import Margin

Number = float | int | np.ndarray
LN2 = math.log(2)
DATA_LIMITED = 1e-6  # share of the hypotheses' dimensions that the data leave free, below which it is rounding


@dataclass(frozen=True)
class GeneralizationTask:
    """What the difficulty of a task is computed from; numbers, or arrays that broadcast.

    Attributes:
        n: Samples.
        m: Intrinsic dimension of the inputs, at least 1.
        radius: Largest norm of an input (torus: side / (2 pi)).
        resolution: Distance in the inputs at which the output may change.
        error: Target error over the loss's Lipschitz constant, between 0 and 1.
        n_discrete: Combinations of the discrete variables: the number of classes where each has its own manifold.
        out_dim: Dimension of the output; classes - 1.
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
        """Return the inductive bias complexity, with some of the inputs changed if given.

        Examples:
            >>> BENCHMARKS["mnist"].difficulty(error=np.array([1e-3, 1e-2])).log10_bits.round(2).tolist()
            [16.17, 16.09]
        """
        return inductive_bias_complexity(**{**vars(self), **changes})


@dataclass(frozen=True)
class Difficulty:
    """The inductive bias complexity of a task and all on the way to it; what depends on an array is one.

    Attributes:
        log2_bits: Logarithm of the bits to base 2; -inf where there are none.
        dim_theta_log2: The same of the dimension of the hypothesis space.
        dim_free_log2: The same of what the data leave of it; -inf where they leave nothing.
        bits_per_dim: Bits for each free dimension.
        max_frequency: Highest angular frequency of a hypothesis, M.
        degree: Highest degree of its spherical harmonics, K, not rounded; on the torus, M.
        wasserstein: Distance of a test point to the training points, W.
        lipschitz: Lipschitz constant of the hypotheses, L_f.
        data_limited: Whether the data leave so little that it is lost in rounding: bits are then 0 or unsure.
        task: The inputs.
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
        """Logarithm of the bits to base 10; -inf where there are none."""
        return self.log2_bits * math.log10(2)

    @property
    def bits(self) -> Any:
        """The bits.

        Raises:
            OverflowError: They are beyond the largest float.
        """
        if np.any(np.asarray(self.log2_bits) >= 1024):
            most = float(np.max(self.log10_bits))
            raise OverflowError(f"there are 10^{most:.6g} bits, beyond the largest float: read log10_bits")
        return 2.0**self.log2_bits


@dataclass(frozen=True)
class MeasuredDifficulty:
    """The difficulty of a task whose inputs were measured on data.

    Attributes:
        difficulty: The inductive bias complexity.
        low: log10 of the bits at the measured dimension less its standard error.
        high: The same, plus its standard error.
        dimension: The measured dimension; None where it was given.
        margin: The measured resolution; None where it was given.
    """

    difficulty: Difficulty
    low: float
    high: float
    dimension: DimensionEstimate | None
    margin: Margin | None = None


def inductive_bias_complexity(
    *,
    n: Number,
    m: Number,
    radius: Number,
    resolution: Number,
    error: Number,
    n_discrete: Number,
    out_dim: Number,
    bound: Number = 1.0,
    manifold: str = "sphere",
) -> Difficulty:
    """Return an upper bound of the information that a designer must supply for a learner to generalise on a task.

    It is minus the logarithm of the share of hypotheses that generalise among those that fit the training data. The
    hypotheses are all functions of frequency up to M on ``n_discrete`` = C copies of an m-sphere of radius R, or of a
    flat torus of side 2 pi R:

        M = 2 pi R / resolution,   K (K + m - 1) = M^2,   E = binom(m + K, m) + binom(m + K - 1, m)
        W = sqrt(m / 6) (C A_m / n)^(1/m) R,   A_m = 2 pi^((m+1)/2) / Gamma((m+1)/2),   L_f = K sqrt(D) / R
        I = (2 D C E - n D) log2(B sqrt(D C) L_f W / error)

    and on the torus K = M, E = pi^(m/2) M^m / Gamma(m/2 + 1) and A_m = (2 pi)^m. The bits are 0 where the data settle
    every dimension, or where the target is met without any information. All is computed in logarithms.

    Args:
        n: Samples, at least 1.
        m: Intrinsic dimension of the inputs, at least 1; need not be whole.
        radius: R, largest norm of an input.
        resolution: Distance in the inputs at which the output may change, in their unit.
        error: Target error over the loss's Lipschitz constant, between 0 and 1.
        n_discrete: C, combinations of the discrete variables, at least 1; for classification the classes.
        out_dim: D, dimension of the output, at least 1; for classification the classes - 1.
        bound: B, largest output.
        manifold: ``"sphere"`` or ``"torus"``.

    Returns:
        The bits and what they come of. Numbers give numbers; arrays broadcast.

    Raises:
        ValueError: An input is out of its range; the message has the value.

    Warns:
        UserWarning: The resolution is above 2 R, so that hypotheses have less than one wavelength.

    Source: Boopathy et al., "Model-agnostic Measure of Generalization Difficulty" (2023); the formula is that of the
    authors' script, the torus that of its reinforcement learning.

    Examples:
        >>> task = dict(n=60000, m=14, radius=17.18, resolution=2.399, error=1e-3, n_discrete=10, out_dim=9)
        >>> f"{inductive_bias_complexity(**task).bits:.2e}"
        '1.48e+16'
    """
    if manifold not in ("sphere", "torus"):
        raise ValueError(f"manifold = {manifold!r}: expected 'sphere' or 'torus'")
    inputs = {"n": n, "m": m, "radius": radius, "resolution": resolution, "error": error}
    inputs |= {"n_discrete": n_discrete, "out_dim": out_dim, "bound": bound}
    task = GeneralizationTask(**inputs, manifold=manifold)
    arrays = {name: np.asarray(value, dtype=float) for name, value in inputs.items()}
    for name, values in arrays.items():
        _check(name, values)
    n, m, R, delta, epsilon, C, D, B = arrays.values()
    if np.any(delta > 2 * R):
        worst = np.max(delta / R)
        message = f"resolution = {worst:g} radius: hypotheses have less than one wavelength where it is above 2 radius"
        warnings.warn(message, stacklevel=2)
    M = 2 * np.pi * R / delta
    K, log_modes = _modes(m, M, manifold)
    log_area = m * math.log(2 * math.pi)
    if manifold == "sphere":
        log_area = LN2 + (m + 1) / 2 * math.log(math.pi) - gammaln((m + 1) / 2)
    W = np.sqrt(m / 6) * np.exp((np.log(C) + log_area - np.log(n)) / m) * R
    L_f = K * np.sqrt(D) / R
    # Of the 2 D C E dimensions, each sample takes D.
    log_settled = np.log(n) - (LN2 + np.log(C) + log_modes)
    log_theta = LN2 + np.log(D) + np.log(C) + log_modes
    with np.errstate(divide="ignore"):
        log_free = log_theta + np.log(np.maximum(-np.expm1(log_settled), 0))
        bits_per_dim = np.log2(B) + (np.log2(D) + np.log2(C)) / 2 - np.log2(epsilon) + np.log2(L_f) + np.log2(W)
        log2_bits = log_free / LN2 + np.log2(np.maximum(bits_per_dim, 0))
    limited = log_settled > math.log1p(-DATA_LIMITED)
    found = (log2_bits, log_theta / LN2, log_free / LN2, bits_per_dim, M, K, W, L_f, limited)
    numbers: list[Any] = [np.asarray(each).item() if np.ndim(each) == 0 else each for each in found]
    return Difficulty(*numbers, task=task)  # type: ignore[misc]


def with_uncertainty(
    task: GeneralizationTask, dimension: DimensionEstimate | None, margin: Margin | None = None
) -> MeasuredDifficulty:
    """Return the difficulty of a task with a measured dimension, and how far its standard error moves it."""
    m, se = float(task.m), dimension.se if dimension else 0.0
    low, found, high = (task.difficulty(m=max(1.0, value)) for value in (m - se, m, m + se))
    return MeasuredDifficulty(found, low.log10_bits, high.log10_bits, dimension, margin)


def _modes(m: Number, M: Number, manifold: str) -> tuple[Number, Number]:
    """Return the degree that belongs to the highest frequency, and the logarithm of how many modes there are."""
    if manifold == "torus":
        return M, m / 2 * math.log(math.pi) - gammaln(m / 2 + 1) + m * np.log(M)
    K = M * (2 * M / (np.hypot(m - 1, 2 * M) + (m - 1)))  # the root without cancellation
    # binom(m + K, m) + binom(m + K - 1, m) = binom(m + K, m) (m + 2 K) / (m + K)
    return K, np.log((m + 2 * K) / (m + K)) - betaln(m + 1, K + 1) - np.log(m + K + 1)


def _check(name: str, values: np.ndarray) -> None:
    """Raise ValueError unless all values are in the range of the input of that name."""
    if name in ("n", "m", "m_within", "n_discrete", "out_dim"):
        fine, expected = values >= 1, "a finite number, at least 1"
    elif name == "error":
        fine, expected = (values > 0) & (values < 1), "a number between 0 and 1"
    else:
        fine, expected = values > 0, "a finite number above 0"
    wrong = values[~(fine & np.isfinite(values))]
    if wrong.size:
        raise ValueError(f"{name} = {wrong.flat[0]:g}: expected {expected}")


def control_task(
    n_obs: Number, n_act: Number, *, n: Number, resolution: Number = 1e-3, error: Number = 1e-3, window: Number = 1
) -> GeneralizationTask:
    """Return a reinforcement-learning task: a policy that maps ``window`` observations, all of them angles, to actions.

    Args:
        n_obs: Numbers in an observation.
        n_act: Numbers in an action.
        n: Steps of experience.
        resolution: Difference of an observation at which the action may change, in radians.
        error: Target error.
        window: Observations that the policy sees.

    Source: the authors' script; that "number of observations" is such a window is our reading.

    Examples:
        >>> f"{control_task(6, 2, n=1e6).difficulty().bits:.2e}"  # Reacher
        '2.91e+25'
    """
    return GeneralizationTask(
        n=n, m=n_obs * window, radius=1.0, resolution=resolution, error=error, out_dim=n_act, manifold="torus"
    )


def few_shot_task(
    m_within: float | int,
    m_across: float | int,
    radius: float | int,
    resolution: float | int,
    *,
    ways: int = 20,
    n_tasks: float | int,
    error: float,
) -> GeneralizationTask:
    """Return a one-shot classification task: sets of ``ways`` images, each set to be mapped to its classifier.

    Args:
        m_within: Intrinsic dimension of images that can be in one set, as of one alphabet.
        m_across: The same of all images.
        radius: Largest norm of an image.
        resolution: Distance of images at which the class may change.
        ways: Images in a set, each the only one of its class.
        n_tasks: Sets to learn from.
        error: Target error.

    Source: the authors' script.

    Examples:
        >>> round(BENCHMARKS["omniglot"].difficulty().log10_bits, 2)
        145.25
    """
    if not isinstance(ways, int) or ways < 2:
        raise ValueError(f"ways = {ways}: expected an int, at least 2")
    for name, value in {"m_within": m_within, "radius": radius, "resolution": resolution}.items():
        _check(name, np.asarray(value, dtype=float))
    _, log_modes = _modes(m_within, 2 * math.pi * radius / resolution, "sphere")
    return GeneralizationTask(
        n=n_tasks,
        m=m_across + (ways - 1) * m_within,
        radius=radius * math.sqrt(ways),
        resolution=resolution,
        error=error,
        out_dim=2 * ways * (ways - 1) * math.exp(log_modes),
        bound=math.sqrt(ways * (ways - 1)),
    )


def distractor_task(
    task: GeneralizationTask, distractor: GeneralizationTask, *, out_dim: Number | None = None
) -> GeneralizationTask:
    """Return a task whose inputs come with those of another task, which do not matter.

    Args:
        task: The task whose outputs count; its resolution and error are kept.
        distractor: The other one.
        out_dim: Dimension of the output; by default that of the task. The authors' script takes the number of classes.

    Source: the authors' script.

    Examples:
        >>> both = distractor_task(BENCHMARKS["mnist"], BENCHMARKS["cifar10"])
        >>> both.m, round(both.difficulty().log10_bits)
        (41, 45)
    """
    if not task.manifold == distractor.manifold == "sphere":
        raise ValueError(f"manifold = {task.manifold!r} and {distractor.manifold!r}: expected 'sphere' of both")
    return GeneralizationTask(
        n=task.n * distractor.n,
        m=task.m + distractor.m,
        radius=np.hypot(task.radius, distractor.radius),
        resolution=task.resolution,
        error=task.error,
        n_discrete=task.n_discrete * distractor.n_discrete,
        out_dim=task.out_dim if out_dim is None else out_dim,
        bound=task.bound,
    )


def architecture_information(
    task: GeneralizationTask, errors: Mapping[str, float], n_test: int | None = None
) -> dict[str, Difficulty]:
    """Return what model classes bring along on a task: its complexity at the error that each of them reaches.

    Two models differ by (free dimensions) log2(error_1 / error_2).

    Args:
        task: The task; its own error is not used.
        errors: The test error of each model.
        n_test: Test samples; errors are taken to be at least 1 / (n_test + 1), since none seen is not none.

    Raises:
        ValueError: An error is not between 0 and 1.

    Source: the blog post with the authors' script. Its figures say bits and have nats; these are bits.

    Examples:
        >>> found = architecture_information(BENCHMARKS["imagenet"], {"AlexNet": 0.375, "ViT-H/14": 0.1145})
        >>> {name: f"{found[name].bits:.2e}" for name in found}
        {'AlexNet': '3.31e+41', 'ViT-H/14': '3.56e+41'}
    """
    floor = 0.0 if n_test is None else 1 / (n_test + 1)
    return {name: task.difficulty(error=max(error, floor)) for name, error in errors.items()}


# Characters in the thirty alphabets of Omniglot's background set.
_ALPHABETS = [20, 29, 26, 41, 40, 24, 46, 14, 26, 34, 33, 22, 26, 43, 24, 48, 22, 16, 52, 47, 40, 26, 40, 41, 33, 14]
_ALPHABETS += [42, 23, 17, 55]

BENCHMARKS: dict[str, GeneralizationTask] = {
    "mnist": GeneralizationTask(60_000, 14, 17.179045827183984, 2.3987084824335305, 0.001, n_discrete=10, out_dim=9),
    "svhn": GeneralizationTask(73_257, 19, 53.86932485133339, 1.5766998174969105, 0.01, n_discrete=10, out_dim=9),
    "cifar10": GeneralizationTask(50_000, 27, 54.9156786783691, 2.7506414616587023, 0.01, n_discrete=10, out_dim=9),
    "imagenet": GeneralizationTask(1_280_901, 48, 943.5923, 65, 0.1, n_discrete=1000, out_dim=999),
    "omniglot": few_shot_task(
        22,
        29,
        49.4064773081425,
        5.477225575051661,
        n_tasks=float(sum(math.comb(max(characters, 20), 20) for characters in _ALPHABETS) * 20**20),
        error=0.01,
    ),
    **{f"cartpole-{T}": control_task(2, 1, n=10_000, window=T) for T in range(1, 6)},
    "reacher": control_task(6, 2, n=1_000_000),
    "hopper": control_task(15, 4, n=1_000_000),
    "half-cheetah": control_task(17, 6, n=1_000_000),
}
"""The tasks of the paper, with the quantities of the authors' script."""
