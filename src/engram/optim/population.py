"""Evaluation of a population in parts: in this process, on worker processes, or on a Ray cluster."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from joblib.externals.loky.process_executor import BrokenProcessPool
from torch import Tensor

from engram import checks
from engram.numeric import ray_tasks
from engram.numeric.parallel import Lost, check_backend, parallel_map

Evaluate = Callable[..., Any]
Population = Sequence[Tensor]


def evaluate(
    population: Population,
    function: Evaluate,
    *,
    n_jobs: int = 1,
    backend: Literal["loky", "ray"] = "loky",
    parts: int | None = None,
) -> Float[Tensor, "population"]:
    """The fitness or loss of each individual of a population, evaluated in parts on several workers.

    Args:
        population: The tensors that ``ask`` returns, one for each parameter, with the individuals along the first axis;
            further tensors with a row for each individual, such as seeds, may be added.
        function: Maps the tensors of some individuals to one number for each. It must be importable on the workers, and
            the number of an individual must depend only on its own tensors.
        n_jobs: Number of workers; with 1 and loky, everything happens in this process.
        backend: ``"loky"``: processes of this machine. ``"ray"``: a Ray cluster; one is started here unless Ray is
            already connected to one.
        parts: Number of parts that the population is divided into; None: ``n_jobs``.

    Returns:
        The numbers, in double precision; NaN, with a warning, for a part on which a worker died twice.

    Raises:
        TypeError: ``population`` is empty or contains something other than tensors.
        ValueError: An argument is out of range, the backend is not installed, the workers cannot import the function,
            or it returns the wrong number of results.

    Examples:
        >>> evaluate([torch.arange(3.0)], torch.square)
        tensor([0., 1., 4.], dtype=torch.float64)
    """
    checks.arguments()
    if not population or not all(isinstance(tensor, Tensor) and tensor.dim() for tensor in population):
        raise TypeError("population: expected tensors whose first axis is the individuals")
    sizes = {len(tensor) for tensor in population}
    if len(sizes) > 1:
        raise ValueError(f"population holds tensors of {sorted(sizes)} individuals: expected equal numbers")
    checks.size("n_jobs", n_jobs)
    if parts is not None:
        checks.size("parts", parts)
    check_backend(backend)
    if backend == "ray":
        ray_tasks.connect(cpus=n_jobs)
    size = sizes.pop()
    count = max(min(n_jobs if parts is None else parts, size), 1)
    edges = [size * part // count for part in range(count + 1)]
    pieces = [[tensor[a:b] for tensor in population] for a, b in itertools.pairwise(edges)]
    try:
        with checks.noted(function=function):
            results = parallel_map(partial(_evaluated, function), pieces, workers=n_jobs, backend=backend, attempts=2)
    except BrokenProcessPool as error:
        raise ValueError(f"function = {function}: expected a function that a worker process can import") from error
    numbers = []
    for result, (start, stop) in zip(results, itertools.pairwise(edges), strict=True):
        if isinstance(result, Lost):
            message = f"a worker died twice on individuals {start} to {stop - 1}: their fitness is NaN"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        numbers.append(torch.full((stop - start,), torch.nan).double() if isinstance(result, Lost) else result)
    return torch.cat(numbers)


def _evaluated(function: Evaluate, piece: list[Tensor]) -> Tensor:
    numbers = torch.as_tensor(checks.as_array(function(*piece)), dtype=torch.float64)
    if numbers.shape != (len(piece[0]),):
        raise ValueError(f"the function returned a shape of {tuple(numbers.shape)}: expected ({len(piece[0])},)")
    return numbers
