"""Cross-temporal decoding: what activity at one time tells, read by what was learned of another time."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped

from engram import checks


def cross_temporal_decoding(
    activity: Float[np.ndarray, "samples steps units"],
    labels: Shaped[np.ndarray, "samples"],
    train_fraction: float = 1 / 3,
) -> Float[np.ndarray, "train_steps test_steps"]:
    """Return how well one of two classes is read from activity at one time, with templates made at another.

    Every unit is z-scored at every time by the samples of the first part, ``train_fraction`` of all. There the
    templates are the means of the two classes, which must both occur, one pair for each time t; a sample of the second
    part at time t' is of the class whose template of time t its activity correlates with more. Rows are the times of
    the templates, columns those of the tested activity; samples are in no order that matters.

    Source: Meyers et al., "Dynamic population coding of category information" (2008); as used by Miconi (2023).

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> activity, labels = rng.normal(size=(300, 2, 8)), rng.integers(2, size=300)
        >>> activity[:, 1] += 3 * (2 * labels[:, None] - 1) * np.resize([1, -1], 8)
        >>> cross_temporal_decoding(activity, labels)[1, 1]
        np.float64(1.0)
    """
    if len(activity) != len(labels):
        raise ValueError(f"labels: expected {len(activity)}, one for each sample, found {len(labels)}")
    classes = np.unique(labels)
    if len(classes) != 2:
        raise ValueError(f"labels: expected two classes, found {len(classes)}")
    checks.number("train_fraction", train_fraction, above=0, below=1)
    second, split = labels == classes[1], int(len(labels) * train_fraction)
    train, test = second[:split], second[split:]
    if train.all() or not train.any() or len(test) == 0:
        raise ValueError(f"labels: expected both classes among the first {split} samples, and samples after them")
    learned = activity[:split]
    spread = learned.std(0)
    scores = (activity - learned.mean(0)) / np.where(spread > 0, spread, 1)
    # The mean of all learned scores is zero, so that the templates are opposite, and one dot product tells.
    difference = scores[:split][train].mean(0) - scores[:split][~train].mean(0)
    difference -= difference.mean(-1, keepdims=True)
    predicted = np.einsum("tu,nsu->nts", difference, scores[split:], optimize=True) > 0
    return np.asarray((predicted == test[:, None, None]).mean(0))
