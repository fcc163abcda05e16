"""A population evaluated in parts through joblib: in this process, on worker processes, or on a Ray cluster."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import joblib
import torch
from jaxtyping import Float
from joblib.externals.loky.process_executor import BrokenProcessPool, TerminatedWorkerError
from torch import Tensor

from engram import checks

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
        ValueError: The tensors are not of as many individuals, a number is below one, the backend is unknown or not
            installed, the workers cannot import the function, or it returns another number of results.

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
    checks.choice("backend", backend, ("loky", "ray"))
    died = _start_ray(n_jobs) if backend == "ray" else (TerminatedWorkerError,)
    size = sizes.pop()
    count = max(min(n_jobs if parts is None else parts, size), 1)
    edges = [size * part // count for part in range(count + 1)]
    cut = [[tensor[a:b] for tensor in population] for a, b in itertools.pairwise(edges)]

    def together(pieces: list[list[Tensor]], workers: int) -> list[Tensor]:
        if workers == 1 and backend == "loky":
            return [_checked(function, piece) for piece in pieces]
        # A pool of Ray takes seconds to start, and is kept; loky keeps its own.
        parallel = _ray_pool(workers) if backend == "ray" else joblib.Parallel(workers, "loky", batch_size=1)
        try:
            return list(parallel(joblib.delayed(_checked)(function, piece) for piece in pieces))
        except TerminatedWorkerError:
            raise
        except BrokenProcessPool as error:
            raise ValueError(f"function = {function}: expected one that a worker process can import") from error

    try:
        return torch.cat(together(cut, n_jobs))
    except died:
        _pools.clear()
        # Whose worker died nobody knows, since the others are stopped with it: each part goes again, alone.
        results = []
        for piece, (first, end) in zip(cut, itertools.pairwise(edges), strict=True):
            try:
                results += together([piece], 2)  # two workers, since joblib runs a pool of one in this process
            except died:
                _pools.clear()
                warnings.warn(
                    f"a worker died twice on individuals {first} to {end - 1}: their fitness is NaN",
                    RuntimeWarning,
                    stacklevel=2,
                )
                results.append(torch.full((end - first,), torch.nan, dtype=torch.float64))
        return torch.cat(results)


def _checked(function: Evaluate, piece: list[Tensor]) -> Tensor:
    found = torch.as_tensor(function(*piece)).detach().cpu().double()
    if found.shape != (len(piece[0]),):
        raise ValueError(f"the function returned a shape of {tuple(found.shape)}: expected ({len(piece[0])},)")
    return found


_pools: dict[tuple[int, str], Any] = {}


def _ray_pool(workers: int) -> Any:
    """Return a pool of the connected Ray cluster, the one that there is if it was not lost."""
    import ray

    key = workers, ray.get_runtime_context().get_job_id()
    if key not in _pools:
        _pools.clear()
        _pools[key] = joblib.Parallel(workers, "ray", batch_size=1).__enter__()
    return _pools[key]


def _start_ray(n_jobs: int) -> tuple[type[Exception], ...]:
    """Connect joblib with Ray, started where it is not; return the exceptions by which it says that a worker died."""
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError:
        raise ValueError("backend = 'ray': Ray is not installed; install engram with its extra: engram[ray]") from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not ray.is_initialized():
        ray.init(address="local", num_cpus=n_jobs, include_dashboard=False, log_to_driver=False)
    register_ray()  # type: ignore[no-untyped-call]
    return ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError
