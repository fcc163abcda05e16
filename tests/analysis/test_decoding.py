import numpy as np
import pytest

from engram.analysis import cross_temporal_decoding


def noisy(signal, samples=600, units=12, share=0.5, seed=0):
    """Activity in which the class, 1 for a share of the samples, shows along one direction at each step; 0: not."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(samples) < share).astype(int)
    activity = rng.normal(size=(samples, len(signal), units))
    for step, (strength, axis) in enumerate(signal):
        direction = np.zeros(units)
        direction[axis : axis + 2] = [1, -1]
        activity[:, step] += strength * (2 * labels[:, None] - 1) * direction
    return activity, labels


def test_a_code_is_read_where_it_is_and_where_it_is_the_same():
    matrix = cross_temporal_decoding(*noisy([(0, 0), (4, 0), (4, 0), (4, 6)]))
    assert matrix.shape == (4, 4)
    assert matrix[0, 0] == pytest.approx(0.5, abs=0.08), "nothing is there to be read"
    assert matrix[1:3, 1:3].min() > 0.95, "a stable code generalises across time"
    assert matrix[3, 3] > 0.95
    assert matrix[1, 3] < 0.8, "another code is not read by this one's templates"


@pytest.mark.parametrize("share", [0.5, 0.85])  # where one class is rare, its template is long and the other short
def test_rows_are_the_times_of_the_templates(share):
    # The definition, one time and one sample after another.
    activity, labels = noisy([(2, 0), (0.3, 0), (1, 4)], samples=90, share=share)
    decoding = cross_temporal_decoding(activity, labels)
    scores = (activity - activity[:30].mean(0)) / activity[:30].std(0)
    for learned, tested in np.ndindex(3, 3):
        templates = [scores[:30][labels[:30] == kind, learned].mean(0) for kind in (0, 1)]
        right = [
            np.argmax([np.corrcoef(template, sample)[0, 1] for template in templates]) == label
            for sample, label in zip(scores[30:, tested], labels[30:], strict=True)
        ]
        assert decoding[learned, tested] == pytest.approx(np.mean(right))
    assert not np.allclose(decoding, decoding.T)


def test_units_and_scales_of_activity_do_not_matter():
    activity, labels = noisy([(2, 0), (1, 3)])
    scaled = 5 + activity * np.linspace(0.1, 100, activity.shape[2])
    np.testing.assert_allclose(cross_temporal_decoding(scaled, labels), cross_temporal_decoding(activity, labels))


def test_silent_units_are_no_trouble():
    activity, labels = noisy([(4, 0)])
    activity[:, :, 5] = 0
    assert cross_temporal_decoding(activity, labels)[0, 0] > 0.95


def test_where_nothing_happens_all_samples_are_of_the_first_class():
    activity, labels = noisy([(4, 0), (0, 0)], samples=90)
    activity[:, 1] = 0
    decoding = cross_temporal_decoding(activity, labels)
    assert decoding[0, 0] > 0.95
    np.testing.assert_allclose([decoding[0, 1], decoding[1, 0], decoding[1, 1]], np.mean(labels[30:] == 0))


def test_two_samples_are_enough_to_learn_from_and_one_to_test():
    activity = np.array([[[1.0, -1.0]], [[-1.0, 1.0]], [[2.0, 0.0]]])
    assert cross_temporal_decoding(activity, np.array(["no", "yes", "no"]), train_fraction=0.7) == [[1.0]]


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (np.zeros(30, int), {}, "two classes, found 1"),
        (np.arange(30), {}, "two classes, found 30"),
        (np.arange(20) % 2, {}, "labels"),
        (np.repeat([0, 1], 15), {}, "both classes among the first 10 samples"),
    ],
)
def test_bad_labels_are_named(labels, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        cross_temporal_decoding(np.zeros((30, 2, 3)), labels, **options)


def test_a_constant_unit_does_not_count():
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    activity = rng.normal(0, 0.1, (40, 3, 5)) + labels[:, None, None]
    activity[:, :, 0] *= -1
    constant = np.full((40, 3, 1), 0.1)
    constant[20:] += 1e-7
    with_constant = np.concatenate([activity, constant], 2)
    assert (cross_temporal_decoding(with_constant, labels) == 1).all()


@pytest.mark.parametrize("units", [1, 3])
def test_units_that_are_all_alike_are_read_by_the_nearer_template(units):
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1], [70, 30]))
    one = 5.0 * labels[:, None, None] + 0.1 * rng.normal(size=(100, 3, 1))
    assert (cross_temporal_decoding(np.repeat(one, units, 2), labels) == 1).all()
    assert (cross_temporal_decoding(np.repeat(-one, units, 2), labels) == 1).all()
    one[:, 2] *= -1  # another code
    assert (cross_temporal_decoding(np.repeat(one, units, 2), labels)[:2, 2] == 0).all()
