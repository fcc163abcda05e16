"""Exact distances to nearest neighbours in many dimensions: screened in single precision, refined in double."""

from __future__ import annotations

import math
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from engram import checks
from engram.numeric.rounding import FEW, precision

BLOCK = 2**24  # number of products computed at a time
UNIT = 2.0**-24  # largest relative error of rounding to single precision
DIRECTIONS, SURE = 8, 10.0  # random directions, and deviations beyond which a normal number never is
TYPICAL = 1000  # rows of which a median is taken
TINY = 1e-30  # added to squared norms, so that products too small for single precision stay within the slack


def as_points(X: Shaped[np.ndarray, "samples *features"], name: str = "X") -> Float[np.ndarray, "samples features"]:
    """Samples of any shape, of finite numbers or booleans, flattened to rows of floating-point numbers."""
    checks.arguments()
    if X.dtype.kind not in "biuf":
        raise ValueError(f"{name}.dtype = {X.dtype}: expected real numbers")
    if X.ndim < 2 or X.size == 0:
        raise ValueError(f"{name}.shape = {X.shape}: expected (samples, features ...), at least one of each")
    exact = X.dtype.itemsize <= 2 or X.dtype == np.float32
    points = np.ascontiguousarray(X.reshape(len(X), -1), dtype=np.float32 if exact else np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        total = points.sum(dtype=np.float64)
    if not np.isfinite(total):  # a sum that overflows is not finite either
        checks.finite(name, points, ("sample", "feature"))
    return points


class Distinct(NamedTuple):
    """Rows that differ from each other."""

    first_rows: Int[np.ndarray, " n"]  # index of the first row of each group of equal rows, ascending
    groups: Int[np.ndarray, " samples"]  # the group of each row


def distinct(points: Float[np.ndarray, "samples features"]) -> Distinct:
    """The groups of rows that are bit by bit the same."""
    zero = points.dtype.type(0)  # adding it turns -0 into 0
    ids: dict[bytes, int] = {}
    groups = np.array([ids.setdefault(blake2b(row + zero, digest_size=16).digest(), len(ids)) for row in points])
    return Distinct(np.unique(groups, return_index=True)[1], groups)


def distinct_up_to_rounding(points: Float[np.ndarray, "samples features"], dtype: np.dtype[Any]) -> Distinct:
    """The groups of rows that are the same within a few units in the last place of ``dtype``.

    A row belongs to the first row a, itself the first of its group, from which no feature f differs by more than

        4 eps max(|a_f|, min(the largest of |a|, the median of |x_f| over rows))

    so a feature that is nearly 0 by chance may differ by the rounding of what it was computed from.

    Args:
        points: The rows.
        dtype: The type that the data had; whole numbers are compared bit by bit.
    """
    exact, unit = distinct(points), FEW * precision(dtype)
    rows = points[exact.first_rows].astype(np.float64)
    if unit == 0 or len(rows) < 2:
        return exact
    sizes = np.abs(rows)
    typical = np.median(sizes[:: math.ceil(len(rows) / TYPICAL)], axis=0)
    noise = unit * np.maximum(sizes, np.minimum(sizes.max(1, keepdims=True), typical))
    owner = np.arange(len(rows))
    for first, second in _near(rows, noise).tolist():  # in ascending order of the second row
        if owner[first] == first and owner[second] == second:
            owner[second] = first
    is_first = owner == np.arange(len(rows))
    return Distinct(exact.first_rows[is_first], (np.cumsum(is_first) - 1)[owner][exact.groups])


def _near(rows: Float[np.ndarray, "n features"], noise: Float[np.ndarray, "n features"]) -> Int[np.ndarray, "pairs 2"]:
    """The pairs of rows of which no feature differs by more than the noise of the earlier row."""
    # Rows as close as that are close along any direction, and in a few random ones almost no others are: along a
    # Gaussian direction their distance is a normal number of at most this deviation.
    largest = np.abs(rows).max(0)
    scale = np.where(largest > 0, largest, 1)
    positions = (rows / scale) @ np.random.default_rng(0).standard_normal((rows.shape[1], DIRECTIONS))
    reach = (SURE + math.sqrt(rows.shape[1])) * np.linalg.norm(noise / scale, axis=1)
    order = np.argsort(positions[:, 0], kind="stable")
    pairs = [np.empty((0, 2), np.int64)]
    for offset in range(1, len(rows)):
        gaps = positions[order[offset:], 0] - positions[order[:-offset], 0]
        close = np.flatnonzero(gaps <= reach[order[:-offset]])
        if not len(close):
            break
        pair = np.sort(np.stack((order[close], order[close + offset]), 1), axis=1)
        pair = pair[(np.abs(np.diff(positions[pair], axis=1)[:, 0]) <= 2 * reach[pair[:, :1]]).all(1)]
        for chunk in np.array_split(pair, 1 + pair.size * rows.shape[1] // BLOCK):
            first, second = chunk.T
            pairs.append(chunk[(np.abs(rows[second] - rows[first]) <= noise[first]).all(1)])
    found = np.concatenate(pairs)
    return found[np.lexsort((found[:, 0], found[:, 1]))]


class Screen(NamedTuple):
    """Points prepared for screening: centred, scaled, and in single precision."""

    points: Float[np.ndarray, "n features"]
    single: Float[np.ndarray, "n features"]
    squares: Float[np.ndarray, " n"]  # squared norms of ``single``
    scale: float  # divisor that makes all coordinates at most 1
    slack: float  # the error of a squared distance is at most this times the sum of both points' squared norms


def screen(points: Float[np.ndarray, "n features"]) -> Screen:
    """Prepare points for screening."""
    mean = np.full(len(points), 1 / len(points), points.dtype) @ points  # need not be exact
    scale = float(max(np.abs(points.max(0) - mean).max(), np.abs(points.min(0) - mean).max())) or 1.0
    single = points - mean
    single /= points.dtype.type(scale)
    single = single.astype(np.float32, copy=False)
    squares = np.einsum("ij,ij->i", single, single, dtype=np.float64) + TINY
    # The slack covers rounding of coordinates, of products summed in any order, and of the last few operations.
    return Screen(points, single, squares, scale, (points.shape[1] + 24) * UNIT)


class Screened(NamedTuple):
    """Bounds of the squared distances from some points to others, each up to a constant of its row."""

    rows: Int[np.ndarray, " rows"]
    above: Float[np.ndarray, "rows columns"]  # upper bounds of squared distance - ``shift``
    slack: Float[np.ndarray, " columns"]  # ``above - slack - slack_of_row`` is the lower bound
    shift: Float[np.ndarray, "rows 1"]  # squared norm of each row's point, plus its slack
    slack_of_row: Float[np.ndarray, "rows 1"]

    def possible(self, bound: Float[np.ndarray, "#rows 1"]) -> Bool[np.ndarray, "rows columns"]:
        """A mask of the squared distances that may be at most ``bound``."""
        limit = (bound - self.shift + self.slack_of_row).astype(np.float32)
        return np.asarray(self.above <= np.nextafter(limit, np.float32(np.inf)) + self.slack)


def _screened(data: Screen, rows: Int[np.ndarray, " rows"], columns: slice = slice(None)) -> Iterator[Screened]:
    """Yield bounds of the squared distances from some points to others, block by block."""
    column_data, squares = data.single[columns], data.squares[columns]
    above = ((1 + data.slack) * squares).astype(np.float32)
    slack = (2 * data.slack * squares).astype(np.float32)
    size = max(1, BLOCK // len(column_data))
    for start in range(0, len(rows), size):
        block = rows[start : start + size]
        product = (-2 * data.single[block]) @ column_data.T
        product += above
        row_squares = data.squares[block, None]
        yield Screened(block, product, slack, (1 + data.slack) * row_squares, 2 * data.slack * row_squares)


def _exact_distances(
    data: Screen, first_rows: Int[np.ndarray, " pairs"] | int, second_rows: Int[np.ndarray, " pairs"]
) -> Float[np.ndarray, " pairs"]:
    """The distances between points, computed from their differences in double precision."""
    difference = (data.points[second_rows].astype(np.float64) - data.points[first_rows]) / data.scale
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", difference, difference)) * data.scale)


def nearest_distances(
    points: Float[np.ndarray, "n features"], k: int, queries: Int[np.ndarray, " queries"] | None = None
) -> Float[np.ndarray, "queries k"]:
    """The distances of points to their k nearest neighbours, in ascending order, exact to double precision.

    Products in single precision, with a bound of their rounding error, leave a few candidates for each row, whose
    distances are computed again from differences.

    Args:
        points: The points.
        k: Number of neighbours.
        queries: Rows whose neighbours are searched; None: all.

    Raises:
        ValueError: A number is not finite, or ``k`` is not from 1 to the number of points - 1.
        IndexError: There is no such row as one of ``queries``.

    Examples:
        >>> nearest_distances(np.array([[0.0], [1.0], [3.0]]), 2)
        array([[1., 3.], [1., 2.], [2., 3.]])
    """
    checks.arguments()
    checks.finite("points", points)
    checks.size("k", k, maximum=len(points) - 1)
    data = screen(points)
    queries = np.arange(len(points)) if queries is None else queries
    nearest = []
    for block in _screened(data, queries):
        block.above[np.arange(len(block.rows)), block.rows] = np.inf
        kth = np.partition(block.above, k - 1, axis=1)[:, k - 1, None].astype(np.float64) + block.shift
        possible = block.possible(kth)
        for row, candidates in zip(block.rows.tolist(), possible, strict=True):
            distances = _exact_distances(data, row, np.flatnonzero(candidates))
            distances.partition(k - 1)
            nearest.append(np.sort(distances[:k]))
    return np.array(nearest).reshape(-1, k)


def closest_pair(
    data: Screen, rows: Int[np.ndarray, " rows"], columns: slice, closest: float = np.inf
) -> tuple[float, tuple[int, int] | None]:
    """The smallest distance from some points to others, and the pair of rows; None if it is not below ``closest``.

    Args:
        data: All points.
        rows: Rows of the points.
        columns: Rows of the other points.
        closest: A distance that is already known.
    """
    pair = None
    offset = columns.start or 0
    for block in _screened(data, rows, columns):
        bound = float((block.above.min(1, keepdims=True) + block.shift).min())
        bound = min(bound * (1 + 4 * UNIT), (closest / data.scale) ** 2 + 2 * TINY)
        block_rows, block_columns = np.nonzero(block.possible(np.full((1, 1), bound)))
        for start in range(0, len(block_rows), 4096):
            i, j = block.rows[block_rows[start : start + 4096]], block_columns[start : start + 4096] + offset
            distances = _exact_distances(data, i, j)
            nearest = int(distances.argmin())
            if distances[nearest] < closest:
                closest, pair = float(distances[nearest]), (int(i[nearest]), int(j[nearest]))
    return closest, pair
