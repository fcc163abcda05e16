"""Published tasks of reinforcement learning, of few-shot learning and of classification, and model classes on them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from engram import checks
from engram.analysis.difficulty.closed_form import (
    Difficulty,
    GeneralizationTask,
    Number,
    as_numbers,
    check_range,
    log_modes_up_to,
)

Real = float | int


def control_task(
    n_obs: Number, n_act: Number, *, n: Number, resolution: Number = 1e-3, error: Number = 1e-3, window: Number = 1
) -> GeneralizationTask:
    """A reinforcement-learning task: a policy maps ``window`` observations, all of them angles, to actions.

    Args:
        n_obs: Number of coordinates of an observation.
        n_act: Number of coordinates of an action.
        n: Number of steps of experience.
        resolution: Change of an observation, in radians, at which the action may change.
        error: Target error, between 0 and 1.
        window: Number of observations on which an action depends.

    Source: the authors' script; that its "number of observations" is such a window is our reading.

    Examples:
        >>> f"{control_task(6, 2, n=1e6).difficulty().bits:.2e}"  # Reacher
        '2.91e+25'
    """
    checks.arguments()
    with checks.noted(n_obs=n_obs, window=window):
        return GeneralizationTask(
            n=n, m=n_obs * window, radius=1.0, resolution=resolution, error=error, out_dim=n_act, manifold="torus"
        )


def few_shot_task(
    m_within: Real, m_across: Real, radius: Real, resolution: Real, *, ways: int = 20, n_tasks: Real, error: float
) -> GeneralizationTask:
    """A one-shot classification task: each set of images has to be mapped to a classifier for this set.

    Args:
        m_within: Intrinsic dimension of images that can be in one set, such as those of one alphabet.
        m_across: Intrinsic dimension of all images.
        radius: Largest norm of an image.
        resolution: Distance at which the class may change.
        ways: Number of images in a set, each the only one of its class.
        n_tasks: Number of sets to learn from.
        error: Target error, between 0 and 1.

    Raises:
        ValueError: ``ways`` is below 2, ``m_within`` is below 1, or ``radius`` or ``resolution`` is not above 0.

    Source: the authors' script.

    Examples:
        >>> round(BENCHMARKS["omniglot"].difficulty().log10_bits, 2)
        145.25
    """
    checks.arguments()
    checks.size("ways", ways, 2)
    for name, value in {"m_within": m_within, "radius": radius, "resolution": resolution}.items():
        check_range(name, as_numbers(name, value))
    _, log_modes = log_modes_up_to(2 * math.pi * radius / resolution, m_within)
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
    """A task whose inputs are combined with those of another, irrelevant task.

    Args:
        task: The task; its resolution and error are kept.
        distractor: The irrelevant task.
        out_dim: Dimension of the output; None: that of ``task``. The authors' script uses the number of classes.

    Raises:
        ValueError: A task is on a torus.

    Source: the authors' script.

    Examples:
        >>> both = distractor_task(BENCHMARKS["mnist"], BENCHMARKS["cifar10"])
        >>> both.m, round(both.difficulty().log10_bits)
        (41, 45)
    """
    checks.arguments()
    if not task.manifold == distractor.manifold == "sphere":
        raise ValueError(f"manifold = {task.manifold!r} and {distractor.manifold!r}: expected 'sphere' of both")
    return replace(
        task,
        n=task.n * distractor.n,
        m=task.m + distractor.m,
        radius=np.hypot(task.radius, distractor.radius),
        n_discrete=task.n_discrete * distractor.n_discrete,
        out_dim=task.out_dim if out_dim is None else out_dim,
    )


def architecture_information(
    task: GeneralizationTask, errors: Mapping[str, float], n_test: int | None = None
) -> dict[str, Difficulty]:
    """The information that model classes provide for a task: the task's complexity at the test error of each class.

    Two models differ by (free dimensions) log2(error_1 / error_2).

    Args:
        task: The task.
        errors: Test error of each model class, by name.
        n_test: Number of test samples; errors count as at least 1 / (n_test + 1), since no observed error does not
            mean an error of 0. None: no limit.

    Raises:
        ValueError: An error is not from 0 to below 1, or is 0 without ``n_test``; ``n_test`` is below 1; or a field of
            the task is out of range.

    Source: the blog post with the authors' script. Its figures are labelled as bits but are in nats; here they are
        bits.

    Examples:
        >>> difficulties = architecture_information(BENCHMARKS["imagenet"], {"AlexNet": 0.375, "ViT-H/14": 0.1145})
        >>> {name: f"{difficulty.bits:.2e}" for name, difficulty in difficulties.items()}
        {'AlexNet': '3.31e+41', 'ViT-H/14': '3.56e+41'}
    """
    checks.arguments()
    floor = 0.0 if n_test is None else 1 / (checks.size("n_test", n_test, maximum=None) + 1)
    floored = {name: max(error, floor) for name, error in errors.items()}
    for name, error in floored.items():
        if errors[name] < 0 or not 0 < error < 1:
            hint = "; with n_test, an error of 0 counts as 1 / (n_test + 1)" if error == 0 else ""
            raise ValueError(f"errors[{name!r}] = {errors[name]}: expected a number between 0 and 1{hint}")
    return {name: task.difficulty(error=error) for name, error in floored.items()}


# Numbers of characters in the 30 alphabets of Omniglot's background set; _SETS counts sets of 20 within an alphabet.
_ALPHABETS = [20, 29, 26, 41, 40, 24, 46, 14, 26, 34, 33, 22, 26, 43, 24, 48, 22, 16, 52, 47, 40, 26, 40, 41, 33, 14]
_ALPHABETS += [42, 23, 17, 55]
_SETS = float(sum(math.comb(max(characters, 20), 20) for characters in _ALPHABETS) * 20**20)

BENCHMARKS: dict[str, GeneralizationTask] = {
    "mnist": GeneralizationTask(60_000, 14, 17.179045827183984, 2.3987084824335305, 0.001, n_discrete=10, out_dim=9),
    "svhn": GeneralizationTask(73_257, 19, 53.86932485133339, 1.5766998174969105, 0.01, n_discrete=10, out_dim=9),
    "cifar10": GeneralizationTask(50_000, 27, 54.9156786783691, 2.7506414616587023, 0.01, n_discrete=10, out_dim=9),
    "imagenet": GeneralizationTask(1_280_901, 48, 943.5923, 65, 0.1, n_discrete=1000, out_dim=999),
    "omniglot": few_shot_task(22, 29, 49.4064773081425, 5.477225575051661, n_tasks=_SETS, error=0.01),
    **{f"cartpole-{T}": control_task(2, 1, n=10_000, window=T) for T in range(1, 6)},
    "reacher": control_task(6, 2, n=1_000_000),
    "hopper": control_task(15, 4, n=1_000_000),
    "half-cheetah": control_task(17, 6, n=1_000_000),
}
"""The tasks of the paper, with the quantities of the authors' script."""
