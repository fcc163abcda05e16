"""Bounds by intervals (IBP) and by linear relaxation (CROWN), sound in floating point.

Every bound is rounded outwards by the error of its own computation, by the standard model of a sum of n products,
|fl(x . y) - x . y| <= gamma_n |x| . |y| + n eta <= gamma_n |x|_1 max |y| + n eta, so that it holds for the real
network. Sums of absolute values do not underflow, as those of squares do; eta is the loss of a product by underflow.

Sources: Gowal et al., "On the effectiveness of interval bound propagation" (2018); Zhang et al., "Efficient neural
network robustness certification with general activation functions" (2018), equations 6 to 12; Xu et al., "Fast and
complete" (2021), for the steps of alpha; Higham, "Accuracy and stability of numerical algorithms" (2002), section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from engram import checks
from engram.verify.kernels import through_relu
from engram.verify.network import AffineReLU, Array, Index, Mask

ON, OFF, FREE = 1, 0, 2
Phases = np.ndarray[Any, np.dtype[np.int8]]
Layers = Sequence[Phases] | None  # phases of the units of each hidden layer; None: all are free
Line = Literal["adaptive", "zero"]
TINY = 1e-290  # more than any of the sums can lose by underflow


class LinearBounds(NamedTuple):
    """Linear functions of the input between which a network's outputs lie, over a box.

        lower_slope x + lower_offset <= outputs(x) <= upper_slope x + upper_offset

    Slopes are (..., outputs, inputs), all else (..., outputs). ``lower`` and ``upper`` are their extremes over the box,
    infinite if the pattern cannot occur in it; ``layers`` has bounds of the pre-activations of each hidden layer.
    """

    lower_slope: Array
    lower_offset: Array
    upper_slope: Array
    upper_offset: Array
    lower: Array
    upper: Array
    layers: tuple[tuple[Array, Array], ...]


class Relaxation(NamedTuple):
    """Bounds and lines of all hidden layers over many boxes, for ``lower_lines``."""

    low: Array
    high: Array
    lower: tuple[Array, ...]
    upper: tuple[Array, ...]
    lower_slope: tuple[Array, ...]
    upper_slope: tuple[Array, ...]
    intercept: tuple[Array, ...]
    size: tuple[Array, ...]  # the largest |h_k|, k = 0 .. hidden layers
    empty: Mask  # boxes in which the phases cannot occur

    def only(self, boxes: int | Index) -> Relaxation:
        """The relaxation of one or some of the boxes."""
        indices = np.atleast_1d(boxes)
        fields: Any = (
            tuple(array[indices] for array in field) if isinstance(field, tuple) else field[indices] for field in self
        )
        return Relaxation(*fields)


def interval_bounds(
    net: AffineReLU,
    low: Float[np.ndarray, "*batch inputs"],
    high: Float[np.ndarray, "*batch inputs"],
    pattern: Layers = None,
) -> tuple[Float[np.ndarray, "*batch outputs"], Float[np.ndarray, "*batch outputs"]]:
    """Lower and upper bounds of the outputs by interval arithmetic, c' = W c + b, r' = |W| r.

    Args:
        net: The network.
        low: Lower ends of one box or many.
        high: Upper ends.
        pattern: Phases of the units of each hidden layer, (units,) or (*batch, units): 1 on, 0 off, 2 free; bounds are
            infinite where they cannot occur. None: all are free.

    Examples:
        >>> net = AffineReLU((np.array([[1.0, 1.0], [1.0, -1.0]]), np.ones((1, 2))), (np.zeros(2), np.zeros(1)))
        >>> [ends.round(9) for ends in interval_bounds(net, -np.ones(2), np.ones(2))]
        [array([-0.]), array([4.])]
    """
    checks.arguments()
    shape, (low, high) = low.shape[:-1], _boxes(net, low, high)
    relaxation = relax(net, low, high, batched(net, pattern, len(low)), backward=False)
    lower, upper = _affine_interval(net, -1, *_last(relaxation))
    lower[relaxation.empty], upper[relaxation.empty] = np.inf, -np.inf
    return lower.reshape(*shape, net.sizes[-1]), upper.reshape(*shape, net.sizes[-1])


def crown_bounds(
    net: AffineReLU,
    low: Float[np.ndarray, "*batch inputs"],
    high: Float[np.ndarray, "*batch inputs"],
    spec: Float[np.ndarray, "rows outputs"] | None = None,
    *,
    pattern: Layers = None,
    lower: Line = "adaptive",
    alpha_steps: int = 0,
) -> LinearBounds:
    """Linear bounds of the outputs, or of combinations of them, by backward linear relaxation.

    A ReLU whose pre-activation is known to lie in [l, u], l < 0 < u, is between the lines

        a z <= relu(z) <= u (z - l) / (u - l),   a = 1 where u > -l, else 0

    which are carried back to the inputs. Bounds of hidden layers are found likewise, and intersected with intervals.

    Args:
        net: The network.
        low: Lower ends of one box or many.
        high: Upper ends.
        spec: Combinations Q of the outputs, whose bounds are returned; None: the outputs.
        pattern: Phases of the units of each hidden layer, (units,) or (*batch, units): 1 on, 0 off, 2 free; None: free.
        lower: ``"adaptive"``, or ``"zero"``: a = 0.
        alpha_steps: Steps of Adam, for example 20, that tighten each bound, of outputs and of hidden units, by its own
            choice of a in [0, 1] for every unit; no bound gets looser.

    Raises:
        ValueError: A box is empty, has NaN or another number of inputs than the network; ``spec`` or ``pattern`` does
            not fit the network; ``lower`` is unknown; or ``alpha_steps`` is negative.

    Examples:
        >>> net = AffineReLU((np.array([[1.0, 1.0], [1.0, -1.0]]), np.ones((1, 2))), (np.zeros(2), np.zeros(1)))
        >>> crown_bounds(net, -np.ones(2), np.ones(2)).upper.round(9)
        array([3.])
    """
    checks.arguments()
    shape, (low, high) = low.shape[:-1], _boxes(net, low, high)
    spec = np.eye(net.sizes[-1]) if spec is None else checks.array("spec", spec, ("rows", net.sizes[-1]))
    boxes, count = len(low), len(spec)
    phases, steps = batched(net, pattern, boxes), checks.size("alpha_steps", alpha_steps, minimum=0)
    relaxation = plain = relax(net, low, high, phases, lower)
    rows = np.tile(np.vstack([spec, -spec]), (boxes, 1))
    box = np.repeat(np.arange(boxes), 2 * count)
    A, c = lower_lines(net, relaxation, rows, box)
    minima = minimum(A, c, low[box], high[box])
    if steps and plain.lower:
        # Lines chosen for tighter units may be looser here: each row takes the better bound.
        relaxation = relax(net, low, high, phases, lower, steps=steps)
        raised = _raised(net, relaxation, len(net.weights) - 1, rows @ net.weights[-1], box=box, steps=steps)
        raised_A, raised_c = lower_lines(net, raised, rows, np.arange(len(rows)))
        raised_minima = minimum(raised_A, raised_c, low[box], high[box])
        better = raised_minima > minima
        A[better], c[better], minima[better] = raised_A[better], raised_c[better], raised_minima[better]
    minima[(plain.empty | relaxation.empty)[box]] = np.inf
    A, (c, minima) = A.reshape(boxes, 2, count, low.shape[1]), (part.reshape(boxes, 2, count) for part in (c, minima))

    def unbatched(a: Array) -> Array:
        return a.reshape(*shape, *a.shape[1:])

    below = (np.maximum(*layer_bounds) for layer_bounds in zip(plain.lower, relaxation.lower, strict=True))
    above = (np.minimum(*layer_bounds) for layer_bounds in zip(plain.upper, relaxation.upper, strict=True))
    layers = tuple(
        (unbatched(low_ends), unbatched(high_ends)) for low_ends, high_ends in zip(below, above, strict=True)
    )
    ends = unbatched(minima[:, 0]), unbatched(-minima[:, 1])
    return LinearBounds(unbatched(A[:, 0]), unbatched(c[:, 0]), unbatched(-A[:, 1]), unbatched(-c[:, 1]), *ends, layers)


def _boxes(net: AffineReLU, low: Array, high: Array) -> tuple[Array, Array]:
    """The ends of boxes along one axis, in 64 bits."""
    net.check_inputs("low", low)
    for name, end in (("low", low), ("high", high)):
        if np.isnan(end).any():  # it compares with nothing
            raise ValueError(f"{name}{[int(i) for i in np.argwhere(np.isnan(end))[0]]} is NaN: expected a number")
    if (low > high).any():
        place = tuple(int(i) for i in np.argwhere(low > high)[0])
        raise ValueError(f"low{list(place)} = {low[place]} is above high: expected boxes that are not empty")
    boxes = math.prod(low.shape[:-1])
    low, high = (end.astype(float).reshape(boxes, net.sizes[0]) for end in (low, high))
    return low, high


def lower_lines(
    net: AffineReLU, relaxation: Relaxation, spec: Array, box: Index, constant: Array | float = 0.0
) -> tuple[Array, Array]:
    """A and c with A x + c <= spec . y + constant in a box, one for each row of spec.

    Args:
        net: The network.
        relaxation: Bounds of its hidden units over all boxes.
        spec: Combinations of the outputs, (rows, outputs).
        box: Index of the box of each row.
        constant: Constant of each row.
    """
    output_layer = len(net.weights) - 1
    W, b = net.weights[output_layer], net.biases[output_layer]
    reach = (np.abs(spec).sum(1) + TINY) * _step_size(net, relaxation, output_layer)[box] + TINY * relaxation.size[
        output_layer
    ][box]
    error = _epsilon(net) * (np.abs(constant) + reach)
    return _backward(net, relaxation, output_layer, spec @ W, box=box, constant=spec @ b + constant, error=error)


def minimum(A: Array, c: Array, low: Array, high: Array) -> Array:
    """A lower bound of A x + c over boxes.

    Args:
        A: Slopes, (rows, inputs).
        c: Offsets, (rows,).
        low: Lower ends of the box of each row, (rows, inputs).
        high: Upper ends.
    """
    middle, radius = _middle_and_radius(low, high)
    size = np.einsum("ij,ij->i", np.abs(A), np.abs(middle) + radius)
    value = np.einsum("ij,ij->i", A, middle) - np.einsum("ij,ij->i", np.abs(A), radius) + c
    bound = value - (A.shape[1] + 8) * 2.0**-51 * (size + np.abs(c)) - TINY
    return np.where(np.isnan(bound), -np.inf, bound)


def relax(
    net: AffineReLU,
    low: Array,
    high: Array,
    phases: Layers = None,
    line: Line = "adaptive",
    *,
    backward: bool = True,
    steps: int = 0,
) -> Relaxation:
    """Bounds of all hidden units over many boxes.

    Args:
        net: The network.
        low: Lower ends, (boxes, inputs).
        high: Upper ends.
        phases: Phases of the units of each hidden layer, (boxes, units); None: all are free.
        line: Line below a ReLU, ``"adaptive"`` or ``"zero"``.
        backward: Whether to carry lines back to the input; False: intervals only.
        steps: Steps of Adam for the slopes of these lines.
    """
    hidden = len(net.weights) - 1
    empty = np.zeros(len(low), dtype=bool)
    relaxation = Relaxation(low, high, (), (), (), (), (), (_largest(np.maximum(np.abs(low), np.abs(high))),), empty)
    for k in range(hidden):
        lower, upper = _affine_interval(net, k, *_last(relaxation))
        if phases is not None:
            np.maximum(lower, 0, out=lower, where=phases[k] == ON)
            np.minimum(upper, 0, out=upper, where=phases[k] == OFF)
        if backward and k:
            box, unit = np.nonzero((lower < 0) & (upper > 0))
            if len(box):
                rows, offset = net.weights[k][unit], net.biases[k][unit]
                line_boxes, constant = np.concatenate([box, box]), np.concatenate([offset, -offset])
                signed = np.vstack([rows, -rows])
                lines = [(relaxation, line_boxes)]
                if steps:
                    raised = _raised(net, relaxation, k, signed, box=line_boxes, steps=steps)
                    lines.append((raised, np.arange(len(line_boxes))))
                for slopes, row_box in lines:
                    A, c = _backward(net, slopes, k, signed, box=row_box, constant=constant)
                    minima = minimum(A, c, low[line_boxes], high[line_boxes])
                    lower[box, unit] = np.maximum(lower[box, unit], minima[: len(box)])
                    upper[box, unit] = np.minimum(upper[box, unit], -minima[len(box) :])
        crossed = (lower > upper).any(1)
        empty |= crossed
        lower[crossed], upper[crossed] = 0, 0  # further bounds are meaningless there, but must be finite
        relaxation = _with_layer(relaxation, lower, upper, line)
    return relaxation


def _with_layer(relaxation: Relaxation, lower: Array, upper: Array, line: Line) -> Relaxation:
    unstable, on = (lower < 0) & (upper > 0), lower >= 0
    with np.errstate(invalid="ignore"):
        slope = np.where(unstable, upper / np.where(unstable, upper - lower, 1), on)
        below = np.where(unstable, (upper > -lower) & (line == "adaptive"), on).astype(float)
        # Both are equal except for rounding; the larger is also right for a slope that underflowed.
        intercept = np.where(unstable, np.maximum(-slope * lower, upper - slope * upper), 0)
    return relaxation._replace(
        lower=(*relaxation.lower, lower),
        upper=(*relaxation.upper, upper),
        lower_slope=(*relaxation.lower_slope, below),
        upper_slope=(*relaxation.upper_slope, slope),
        intercept=(*relaxation.intercept, intercept),
        size=(*relaxation.size, _largest(np.maximum(upper, 0))),
    )


def _backward(
    net: AffineReLU,
    relaxation: Relaxation,
    layer: int,
    multipliers: Array,
    *,
    box: Index,
    constant: Array,
    error: Array | float = 0.0,
) -> tuple[Array, Array]:
    """The line A x + c below multipliers . h_layer + constant, carried back to the input x = h_0."""
    epsilon = _epsilon(net)
    error = error + epsilon * np.abs(constant)
    before, after = np.empty(len(multipliers)), np.empty(len(multipliers))
    multipliers, constant = np.array(multipliers, order="C"), constant.copy()  # both are changed in place
    for k in range(layer - 1, -1, -1):
        lines = relaxation.lower_slope[k], relaxation.upper_slope[k], relaxation.intercept[k]
        through_relu(multipliers, box, *lines, constant, before, after)
        # The error of the rounded lines, then of the affine layer, and the loss of both by underflow.
        reach = (after + TINY) * _step_size(net, relaxation, k)[box] + TINY * relaxation.size[k][box]
        error += epsilon * (before * relaxation.size[k + 1][box] + reach)
        constant += multipliers @ net.biases[k]
        multipliers = multipliers @ net.weights[k]
    return multipliers, constant - error - TINY


def _raised(
    net: AffineReLU, relaxation: Relaxation, layer: int, multipliers: Array, *, box: Index, steps: int
) -> Relaxation:
    """A relaxation with a box for each row of multipliers, and lower slopes that raise the row's minimum.

    Any slope in [0, 1] gives a line below a ReLU, so rounding errors in finding the slopes do no harm.
    """
    by_row = relaxation.only(box)
    slope, intercept = ([torch.from_numpy(a) for a in part] for part in (by_row.upper_slope, by_row.intercept))
    alpha = [torch.from_numpy(a.copy()).requires_grad_() for a in by_row.lower_slope[:layer]]
    optimizer = torch.optim.Adam(alpha, lr=0.1, maximize=True)
    middle, radius = (torch.from_numpy(a) for a in _middle_and_radius(by_row.low, by_row.high))
    best = torch.from_numpy(np.full(len(box), -np.inf))
    best_alpha = [a.detach().clone() for a in alpha]
    for _ in range(steps):
        A, c = torch.from_numpy(multipliers), torch.zeros_like(best)
        for k in range(layer - 1, -1, -1):
            c = c + (A.clamp(max=0) * intercept[k]).sum(1)
            A = A.clamp(min=0) * alpha[k] + A.clamp(max=0) * slope[k]
            c, A = c + A @ torch.from_numpy(net.biases[k].copy()), A @ torch.from_numpy(net.weights[k].copy())
        value = (A * middle).sum(1) - (A.abs() * radius).sum(1) + c
        optimizer.zero_grad()
        value.sum().backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            better = value > best
            best = torch.where(better, value, best)
            for layer_alpha, best_layer_alpha in zip(alpha, best_alpha, strict=True):
                best_layer_alpha[better] = layer_alpha[better]
        optimizer.step()
        with torch.no_grad():
            for layer_alpha in alpha:
                layer_alpha.clamp_(0, 1)
    return by_row._replace(lower_slope=tuple(layer_alpha.numpy() for layer_alpha in best_alpha))


def _step_size(net: AffineReLU, relaxation: Relaxation, k: int) -> Array:
    """A generous bound of the largest |b_k| + |W_k| |h|, for each box."""
    return np.asarray(np.abs(net.biases[k]).max() + 3 * np.abs(net.weights[k]).sum(1).max() * relaxation.size[k] + TINY)


def _epsilon(net: AffineReLU) -> float:
    """A bound of the relative error of all sums for a row, four times as large as necessary."""
    return (max(net.sizes) + 2 * len(net.sizes) + 8) * 2.0**-51


def _affine_interval(net: AffineReLU, k: int, low: Array, high: Array) -> tuple[Array, Array]:
    W, b = net.weights[k], net.biases[k]
    middle, radius = _middle_and_radius(low, high)
    size = np.abs(W)
    centre, spread = middle @ W.T + b, radius @ size.T
    error = (W.shape[1] + 8) * 2.0**-51 * ((np.abs(middle) + radius) @ size.T + np.abs(b)) + TINY
    lower, upper = centre - spread - error, centre + spread + error
    return np.where(np.isnan(lower), -np.inf, lower), np.where(np.isnan(upper), np.inf, upper)  # it overflowed


def _middle_and_radius(low: Array, high: Array) -> tuple[Array, Array]:
    middle = low / 2 + high / 2
    radius = np.maximum(high - middle, middle - low)
    return middle, radius * (1 + 2.0**-50) + TINY * (radius > 0)


def _last(relaxation: Relaxation) -> tuple[Array, Array]:
    if not relaxation.lower:
        return relaxation.low, relaxation.high
    return np.maximum(relaxation.lower[-1], 0), np.maximum(relaxation.upper[-1], 0)


def batched(net: AffineReLU, pattern: Layers, boxes: int) -> list[Phases] | None:
    """The phases of each hidden layer, repeated for every box."""
    if pattern is None:
        return None
    if [np.shape(phases)[-1:] for phases in pattern] != [(size,) for size in net.sizes[1:-1]]:
        raise ValueError(f"pattern = {checks.shown(pattern)}: expected phases of {net.sizes[1:-1]} hidden units")
    by_layer = [np.asarray(phases, dtype=np.int8) for phases in pattern]
    for k, phases in enumerate(by_layer):
        if (unknown := phases[(phases != ON) & (phases != OFF) & (phases != FREE)]).size:
            raise ValueError(f"pattern[{k}] has the phase {unknown[0]}: expected 1 on, 0 off or 2 free")
    sizes = net.sizes[1:-1]
    return [np.broadcast_to(p.reshape(-1, n), (boxes, n)) for p, n in zip(by_layer, sizes, strict=True)]


def _largest(a: Array) -> Array:
    return np.asarray(a.max(1) + TINY)
