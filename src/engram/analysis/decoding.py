"""Cross-temporal decoding: classes decoded from activity at one time with templates from another time."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped

from engram import checks
from engram.numeric.rounding import varies


def cross_temporal_decoding(
    activity: Float[np.ndarray, "samples steps units"],
    labels: Shaped[np.ndarray, "samples"],
    train_fraction: float = 1 / 3,
) -> Float[np.ndarray, "train_steps test_steps"]:
    """The accuracy of decoding two classes from activity at one time with templates from another time.

    Units are z-scored at each time with the mean and deviation of the training samples. The templates of time t are the
    means of these samples in each class; a test sample at time t' is assigned the class of the template with which it
    is more correlated, or to which it is nearer where the templates are the same in all units, as those of a single
    unit are. Where templates do not differ, all samples are of the first class.

    Args:
        activity: The activity, (samples, steps, units); samples that are sorted by class have to be shuffled first.
        labels: The class of each sample, (samples,); two classes, which both occur among the training samples.
        train_fraction: Share of the samples, taken from the front, from which the templates are made.

    Returns:
        The accuracy for each time of the templates (rows) and of the test samples (columns).

    Raises:
        ValueError: A number is not finite; there is not one label for each sample, or not two classes;
            ``train_fraction`` is not between 0 and 1; a class is missing among the training samples; or no sample is
            left after them.

    Source: Meyers et al., "Dynamic population coding of category information" (2008); as used by Miconi (2023).

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> activity, labels = rng.normal(size=(300, 2, 8)), rng.integers(2, size=300)
        >>> activity[:, 1] += 3 * (2 * labels[:, None] - 1) * np.resize([1, -1], 8)
        >>> cross_temporal_decoding(activity, labels)[1, 1]
        np.float64(1.0)
    """
    checks.arguments()
    checks.finite("activity", activity)
    if len(activity) != len(labels):
        raise ValueError(f"labels: expected {len(activity)}, one for each sample, found {len(labels)}")
    classes = np.unique(labels)
    if len(classes) != 2:
        raise ValueError(f"labels: expected two classes, found {len(classes)}")
    checks.number("train_fraction", train_fraction, above=0, below=1)
    is_second_class, n_train = labels == classes[1], int(len(labels) * train_fraction)
    train, test = is_second_class[:n_train], is_second_class[n_train:]
    if train.all() or not train.any() or len(test) == 0:
        raise ValueError(f"labels: expected both classes among the first {n_train} samples, and samples after them")
    scale = np.where(varies(activity[:n_train]), activity[:n_train].std(0), 1)
    scores = (activity - activity[:n_train].mean(0)) / scale
    # The mean of all training scores is zero, so the templates are opposite and one dot product decides.
    difference = scores[:n_train][train].mean(0) - scores[:n_train][~train].mean(0)
    middle = np.zeros(len(difference))
    if not (is_patterned := varies(difference, 1)).all():  # else these have no correlation
        both = scores[:n_train][train].mean(0) + scores[:n_train][~train].mean(0)
        middle = np.where(is_patterned, 0.0, (both / 2 * difference).sum(-1))
    difference -= np.where(is_patterned, difference.mean(-1), 0.0)[:, None]
    predicted = np.einsum("tu,nsu->nts", difference, scores[n_train:], optimize=True) > middle[:, None]
    return np.asarray((predicted == test[:, None, None]).mean(0))
