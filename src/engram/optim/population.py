"""A population evaluated in parts through joblib: in this process, on worker processes, or on a Ray cluster."""

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
from engram.numeric.workers import Lost, check_backend, parallel_map, start_ray

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
    """Return a function of each individual of a population, evaluated in parts on several workers.

    Args:
        population: From ``ask``: for each parameter those of all individuals, individuals first; further tensors with
            a row for each individual, such as their seeds, may be among them.
        function: Maps the tensors of some individuals to one number for each. It must be importable on the workers, and
            the number of an individual must depend on nothing but its tensors.
        n_jobs: Workers; with 1 and loky, everything happens in this process.
        backend: ``"loky"``: processes of this machine. ``"ray"``: a Ray cluster; one is started here unless Ray is
            connected to one already.
        parts: In how many parts the population is cut; None: as many as workers.

    Returns:
        The numbers, in double precision. Where a worker died on a part twice, NaN for its individuals, with a warning.

    Raises:
        TypeError: ``population`` is empty or holds something else than tensors.
        ValueError: An argument is out of range, the backend is not installed, the workers cannot import the function,
            or it returns another number of results.

    Examples:
        >>> evaluate([torch.arange(3.0)], torch.square)
        tensor([0., 1., 4.], dtype=torch.float64)
    """
    if not population or not all(isinstance(tensor, Tensor) and tensor.dim() for tensor in population):
        raise TypeError("population: expected tensors whose first axis is the individuals")
    sizes = {len(tensor) for tensor in population}
    if len(sizes) > 1:
        raise ValueError(f"population holds tensors of {sorted(sizes)} individuals: expected as many in each")
    checks.size("n_jobs", n_jobs)
    if parts is not None:
        checks.size("parts", parts)
    check_backend(backend)
    if backend == "ray":
        start_ray(n_jobs)
    size = sizes.pop()
    count = max(min(n_jobs if parts is None else parts, size), 1)
    edges = [size * part // count for part in range(count + 1)]
    pieces = [[tensor[a:b] for tensor in population] for a, b in itertools.pairwise(edges)]
    try:
        found = parallel_map(partial(_checked, function), pieces, workers=n_jobs, backend=backend, attempts=2)
    except BrokenProcessPool as error:
        raise ValueError(f"function = {function}: expected one that a worker process can import") from error
    results = []
    for part, (first, end) in zip(found, itertools.pairwise(edges), strict=True):
        if isinstance(part, Lost):
            message = f"a worker died twice on individuals {first} to {end - 1}: their fitness is NaN"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        results.append(torch.full((end - first,), torch.nan).double() if isinstance(part, Lost) else part)
    return torch.cat(results)


def _checked(function: Evaluate, piece: list[Tensor]) -> Tensor:
    found = torch.as_tensor(function(*piece)).detach().cpu().double()
    if found.shape != (len(piece[0]),):
        raise ValueError(f"the function returned a shape of {tuple(found.shape)}: expected ({len(piece[0])},)")
    return found
