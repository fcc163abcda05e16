from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import MiniBatchKMeans

from engram.memory import DynamicOnlineKMeans, OnlineKMeans
from engram.memory.episodic.policies.kmeans import clustered, clustered_as_published
from engram.memory.episodic.policies.table import Batch, Merging, Table
from engram.tasks import DriftingGaussians

BOTH = [OnlineKMeans, DynamicOnlineKMeans]


def test_it_equals_scikit_learns_centres_that_start_with_a_count_of_one():
    X = np.random.default_rng(0).normal(size=(60, 3))
    ours = OnlineKMeans(4).partial_fit(X[:4])
    theirs = MiniBatchKMeans(4, init=X[:4], n_init=1, reassignment_ratio=0, batch_size=1).partial_fit(X[:4])
    np.testing.assert_array_equal(theirs.cluster_centers_, X[:4])
    for x in X[4:]:
        ours.partial_fit(x[None])
        theirs.partial_fit(x[None])
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_)
    np.testing.assert_allclose(ours.counts_, theirs._counts)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_samples_are_transformed_to_their_distances_from_the_centres(dtype):
    X = np.random.default_rng(0).normal(size=(9, 3)).astype(dtype)
    model = OnlineKMeans(4).fit(X)
    distances = model.transform(X)
    assert distances.dtype == dtype
    np.testing.assert_allclose(distances, np.linalg.norm(X[:, None] - model.cluster_centers_, axis=2), rtol=1e-4)
    np.testing.assert_array_equal(distances.argmin(1), model.predict(X))
    frame = model.set_output(transform="polars").transform(X)
    assert frame.columns == [f"onlinekmeans{k}" for k in range(4)]


@given(
    seed=st.integers(0, 10**6),
    forgets=st.booleans(),
    weighting=st.sampled_from(["count", "author"]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_the_kernel_does_what_the_policies_define(seed, forgets, weighting, dtype):
    # A quarter is exact: the definition divides by the number of centres, and the kernel multiplies by its inverse, so
    # that rounding may choose between starved centres of equal counts.
    X = np.random.default_rng(seed).integers(0, 4, (40, 2)).astype(dtype)
    model = (DynamicOnlineKMeans if forgets else OnlineKMeans)(4, weighting=weighting).partial_fit(X)
    centres, counts, filled = np.zeros((4, 2), dtype), np.zeros(4), 0
    none = np.empty((4, 0), dtype)
    for x in X[:, None]:
        table = Table(centres, none, centres, counts, counts, filled, 0, 0)
        given = table, Batch(x, none[:1], x, np.ones(1)), Merging()
        if weighting == "count":
            change = clustered(*given, horizon=1.0 if forgets else np.inf)
        else:
            change = clustered_as_published(*given, forgets)
        centres[change.rows], counts[change.rows] = change.keys, change.counts
        counts -= change.loss
        filled = max(filled, int(change.rows.max()) + 1)
    np.testing.assert_allclose(model.cluster_centers_, centres[:filled], rtol=1e-6)
    np.testing.assert_allclose(model.counts_, counts[:filled], atol=1e-9)


@pytest.mark.parametrize("kind", BOTH)
def test_it_does_not_matter_how_a_stream_is_cut(kind):
    X = DriftingGaussians(jumps=[150]).sample(300)
    whole, parts, listed = kind(10).partial_fit(X), kind(10), kind(10)
    for part in np.split(X, [1, 5, 200]):
        parts.partial_fit(part)
        listed.partial_fit(part.tolist())
    for other in (parts, listed):
        np.testing.assert_array_equal(whole.cluster_centers_, other.cluster_centers_)
        np.testing.assert_array_equal(whole.counts_, other.counts_)


def error(model, stream):
    X = stream.sample(1000)
    return ((X - model.cluster_centers_[model.predict(X)]) ** 2).sum(1).mean()


def test_the_dynamic_form_follows_a_stream_that_jumps():
    at_rest, follows = [], []
    for seed in range(4):
        stream = DriftingGaussians(random_state=seed, jumps=[3000])
        models = [OnlineKMeans(32), DynamicOnlineKMeans(32, weighting="author"), DynamicOnlineKMeans(32)]
        errors = []
        for n in (2000, 2000):
            X = stream.sample(n)
            for model in models:
                model.partial_fit(X)
            errors.append([error(model, stream) for model in models])
        at_rest.append(errors[0])
        follows.append(errors[1])
    plain, published, dynamic = np.mean(at_rest, 0)
    assert plain <= min(published, dynamic)
    plain, published, dynamic = np.mean(follows, 0)
    assert published <= 0.5 * plain
    assert dynamic < plain


def test_counts_of_the_published_code_grow_and_the_corrected_ones_do_not():
    X = DriftingGaussians(jumps=range(1000, 20_000, 1000)).sample(20_000)
    published = DynamicOnlineKMeans(32, weighting="author").partial_fit(X).counts_.mean()
    corrected = DynamicOnlineKMeans(32).partial_fit(X).counts_.mean()
    assert published > 20
    assert corrected == pytest.approx(1)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("settings", [{}, {"weighting": "author"}])
def test_a_model_goes_on_from_its_file(kind, settings, tmp_path):
    X = DriftingGaussians().sample(200).astype(np.float32)
    model = kind(6, **settings).partial_fit(X[:100])
    model.save(tmp_path / "model")
    again = kind.load(tmp_path / "model")
    np.testing.assert_array_equal(
        model.partial_fit(X[100:]).cluster_centers_, again.partial_fit(X[100:]).cluster_centers_
    )
    assert again.n_samples_seen_ == 200
    kind(6).save(tmp_path / "empty")
    assert not hasattr(kind.load(tmp_path / "empty"), "counts_")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.partial_fit([[np.nan, 0.0]]), "NaN"),
        (lambda model: model.partial_fit(np.array([[np.inf, 0.0]])), "infinity"),
        (lambda model: model.partial_fit(np.zeros((1, 3))), "3 features, but .* is expecting 2"),
        (lambda model: model.partial_fit(np.zeros((0, 2))), "0 sample"),
        (lambda model: model.set_params(weighting="best").partial_fit(np.zeros((1, 2))), "'weighting' parameter"),
        (lambda model: OnlineKMeans(0).fit(np.zeros((1, 2))), "'n_clusters' parameter"),
    ],
)
def test_bad_input_is_named_and_changes_nothing(call, message):
    model = OnlineKMeans(2).partial_fit(np.array([[0.0, 0.0], [1.0, 1.0]]))
    with pytest.raises(ValueError, match=message):
        call(model)
    assert model.n_samples_seen_ == 2
    assert model.counts_.tolist() == [1, 1]


def test_centres_are_copies():
    model = OnlineKMeans(2).partial_fit(np.array([[0.0], [5.0]]))
    centres, counts = model.cluster_centers_, model.counts_
    before = centres.copy(), counts.copy()
    model.partial_fit(np.array([[1.0], [6.0]]))
    assert np.array_equal(centres, before[0])
    assert np.array_equal(counts, before[1])


@pytest.mark.parametrize("offset", [0.0, 1.7e9])
def test_distances_are_exact_far_from_0(offset):
    model = OnlineKMeans(2).fit([[offset], [offset + 5]])
    assert model.transform([[offset + 1]]).tolist() == [[1, 4]]
    X = offset + np.random.default_rng(0).integers(0, 10, size=(50, 3)).astype(float)
    model = OnlineKMeans(7).fit(X)
    assert model.transform(X).argmin(1).tolist() == model.predict(X).tolist()


def test_what_was_saved_after_the_number_of_clusters_was_set_anew_is_loaded(tmp_path):
    X = np.random.default_rng(0).normal(size=(40, 4))
    fitted = OnlineKMeans(3).fit(X).set_params(n_clusters=5).partial_fit(X)
    fitted.save(tmp_path / "centres")
    np.testing.assert_array_equal(OnlineKMeans.load(tmp_path / "centres").predict(X), fitted.predict(X))
