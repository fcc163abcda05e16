import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg
from scipy.stats import ortho_group
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold

from engram.analysis import HankelDMD, delay_embedding, departure_from_normality, operator_distance
from engram.analysis.similarity.delay_embedding import lagged_moments


def autoregression(trials=5, time=300, size=3, seed=0):
    rng = np.random.default_rng(seed)
    A = 0.9 * ortho_group.rvs(size, random_state=seed)
    x = np.zeros((trials, time, size))
    for t in range(1, time):
        x[:, t] = x[:, t - 1] @ A.T + rng.normal(size=(trials, size))
    return x


def plainly(trials, p, tau, h, *, rank, reg):
    """The definition: SVD of the embedding itself, and the ridge regression of scikit-learn."""
    embedded = [delay_embedding(trial, p, tau) for trial in trials]
    V, S, _ = linalg.svd(np.concatenate(embedded), full_matrices=False)
    parts = np.split(V[:, :rank], np.cumsum([len(part) for part in embedded])[:-1])
    first, later = np.concatenate([v[:-h] for v in parts]), np.concatenate([v[h:] for v in parts])
    return Ridge(alpha=reg, fit_intercept=False, solver="cholesky").fit(first, later).coef_, S


@given(
    delays=st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)),
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=3),
    features=st.integers(1, 3),
    seed=st.integers(0, 100),
)
def test_moments_are_those_of_the_embedding_itself(delays, lengths, features, seed):
    p, tau, h = delays
    rng = np.random.default_rng(seed)
    trials = [rng.normal(size=((p - 1) * tau + h + 1 + extra, features)) for extra in lengths]
    moments = lagged_moments(trials, p, tau, h)
    embedded = [delay_embedding(trial, p, tau) for trial in trials]
    whole = np.concatenate(embedded)
    first, later = np.concatenate([e[:-h] for e in embedded]), np.concatenate([e[h:] for e in embedded])
    near = {"atol": 1e-10, "rtol": 1e-10}
    np.testing.assert_allclose(moments.whole, whole.T @ whole, **near)
    np.testing.assert_allclose(moments.before, first.T @ first, **near)
    np.testing.assert_allclose(moments.cross, first.T @ later, **near)
    assert moments.rows == len(whole)


@pytest.mark.parametrize(("p", "tau", "h"), [(1, 1, 1), (4, 1, 1), (3, 2, 2)])
def test_the_operator_is_that_of_the_definition(p, tau, h):
    x = autoregression()
    dmd = HankelDMD(p, tau, rank=3, steps_ahead=h, reg=1e-3).fit(x)
    operator, S = plainly(x, p, tau, h, rank=3, reg=1e-3)
    np.testing.assert_allclose(dmd.singular_values_, S, rtol=1e-9)
    assert operator_distance(dmd.operator_, operator) < 1e-7  # the signs of singular vectors are free
    np.testing.assert_allclose(
        np.sort_complex(np.linalg.eigvals(dmd.operator_)), np.sort_complex(np.linalg.eigvals(operator)), atol=1e-9
    )


def test_both_ways_of_computing_it_agree(monkeypatch):
    import sys

    x = autoregression()
    fast = [HankelDMD(4, rank=r, method=m).fit(x) for r in (6, 12) for m in ("pcr", "rrr")]
    monkeypatch.setattr(sys.modules[HankelDMD.__module__], "ILL_CONDITIONED", 2.0)
    for dmd in fast:
        other = HankelDMD(4, rank=dmd.rank, method=dmd.method).fit(x)
        np.testing.assert_allclose(dmd.singular_values_, other.singular_values_, rtol=1e-9)
        assert operator_distance(dmd.operator_, other.operator_) < 1e-6
        np.testing.assert_allclose(dmd.predict(x)[0], other.predict(x)[0], atol=1e-8)


def test_delays_are_the_most_recent_first():
    assert delay_embedding(np.arange(8.0)[:, None], 3, 2)[0].tolist() == [4, 2, 0]
    with pytest.raises(ValueError, match="trial has 4 samples: expected at least 5"):
        delay_embedding(np.zeros((4, 1)), 3, 2)
    with pytest.raises(ValueError, match="n_delays = 0: expected at least 1"):
        delay_embedding(np.zeros((4, 1)), 0)
    with pytest.raises(ValueError, match="delay_interval = -1: expected at least 1"):
        delay_embedding(np.zeros((4, 1)), 2, -1)


def test_a_linear_system_is_found_exactly():
    A = 0.98 * ortho_group.rvs(4, random_state=0) @ np.diag([1, 0.99, 0.97, 0.95])
    x = np.empty((60, 4))
    x[0] = 1.0
    for t in range(59):
        x[t + 1] = A @ x[t]
    dmd = HankelDMD(rank=4, reg=0.0).fit(x)
    eigenvalues, true = (np.sort_complex(np.linalg.eigvals(M)) for M in (dmd.operator_, A))
    np.testing.assert_allclose(eigenvalues, true, atol=1e-12)
    np.testing.assert_allclose(dmd.predict(x, 3)[:-3], x[3:], atol=1e-10)
    assert dmd.score(x) == pytest.approx(1)
    assert dmd.spectral_radius_ == pytest.approx(np.abs(true).max())


def test_whitening_is_blind_to_invertible_maps_of_full_rank_only():
    x, M = autoregression(), np.random.default_rng(3).normal(size=(3, 3))

    def theta(rank, map_):
        first, second = (HankelDMD(4, rank=rank, reg=0.0).fit(data).operator_ for data in (x, x @ map_))
        return operator_distance(first, second)

    assert theta(12, M) < 1e-7
    assert theta(6, M) > 0.01
    assert theta(6, 3 * ortho_group.rvs(3, random_state=1)) < 1e-7


def test_trials_end_where_they_end():
    x = autoregression(2, 100)
    apart = HankelDMD(3, rank=5).fit(x).operator_
    joined = HankelDMD(3, rank=5).fit(x.reshape(-1, 3)).operator_
    assert operator_distance(apart, joined) > 1e-4
    np.testing.assert_array_equal(apart, HankelDMD(3, rank=5).fit([x[0], x[1]]).operator_)
    ragged = [x[0], x[1][:40]]
    expected, _ = plainly(ragged, 3, 1, 1, rank=5, reg=1e-8)
    assert operator_distance(HankelDMD(3, rank=5).fit(ragged).operator_, expected) < 1e-7


def test_ranks():
    x = autoregression()
    full = HankelDMD(4, rank="full").fit(x)
    S = full.singular_values_
    assert full.rank_ == 12
    assert HankelDMD(4, rank=0.9).fit(x).rank_ == np.searchsorted(np.cumsum(S**2) / (S**2).sum(), 0.9) + 1
    ratio = 12 / (5 * 297)
    omega = 0.56 * ratio**3 - 0.95 * ratio**2 + 1.82 * ratio + 1.43
    assert HankelDMD(4, rank="svht").fit(x).rank_ == (omega * np.median(S) < S).sum()
    between = float(np.sqrt(S[4] * S[5]))
    assert [HankelDMD(4, rank_threshold=bound).fit(x).rank_ for bound in (0.0, between, 1e9)] == [12, 5, 1]
    with pytest.raises(ValueError, match="rank = 6: expected at most 5"):
        HankelDMD(4, rank=6, rank_threshold=between).fit(x)
    # Only what the data can tell: two sines have rank 4, and a short trial no more than a quarter of its rows.
    t = np.arange(300)[:, None]
    assert HankelDMD(10).fit(np.sin(0.1 * t) + np.sin(0.37 * t)).rank_ == 4
    assert HankelDMD(10).fit(np.random.default_rng(0).normal(size=(29, 3))).rank_ == 5
    assert HankelDMD(2).fit(np.hstack([x[0], np.ones((300, 1)) * 0])).rank_ == 6  # a channel that is constant


def test_reduced_rank_regression():
    x = autoregression()
    reduced = HankelDMD(4, rank=3, method="rrr").fit(x)
    assert reduced.operator_.shape == (12, 12)
    assert np.linalg.matrix_rank(reduced.operator_) == 3
    whole = HankelDMD(4, rank=12, method="rrr").fit(x).operator_
    assert operator_distance(whole, HankelDMD(4, rank=12).fit(x).operator_) < 1e-9
    # Of all operators of rank 3 it leaves the least of what is to be explained.
    v = HankelDMD(4, rank=12).fit(x).transform(x)
    first, later = np.concatenate([u[:-1] for u in v]), np.concatenate([u[1:] for u in v])
    left = np.linalg.norm(later - first @ reduced.operator_.T)
    U, S, W = np.linalg.svd(whole)
    assert left <= np.linalg.norm(later - first @ ((U[:, :3] * S[:3]) @ W[:3]).T)


@pytest.mark.parametrize("center", ["global", "trial"])
def test_a_mean_is_an_eigenvalue_of_one_unless_taken_off(center):
    x = autoregression(3, 2000) + 50
    assert np.abs(np.linalg.eigvals(HankelDMD().fit(x).operator_) - 1).min() < 0.02
    dmd = HankelDMD(center=center).fit(x)
    assert np.abs(np.linalg.eigvals(dmd.operator_) - 1).min() > 0.05
    assert dmd.predict(x)[0].mean() == pytest.approx(50, abs=0.5)


def test_delays_and_rank_are_chosen_by_held_out_trials():
    t = np.arange(80)
    rng = np.random.default_rng(0)
    trials = [np.sin(0.3 * t + phase)[:, None] + 0.01 * rng.normal(size=(80, 1)) for phase in range(6)]
    search = GridSearchCV(HankelDMD(), {"n_delays": [1, 5], "rank": [1, 2]}, cv=KFold(3), error_score=-1.0)
    with pytest.warns(FitFailedWarning, match="fits failed"):  # one delay has no rank of two
        search.fit(trials)
    assert search.best_params_ == {"n_delays": 5, "rank": 2}
    assert search.best_score_ > 0.8


def test_the_score_is_the_error_over_that_of_no_change():
    x = autoregression(3, 40)
    dmd = HankelDMD(2, rank=3, steps_ahead=2).fit(autoregression(seed=1))
    error = still = 0.0
    for trial in x:
        for t in range(1, 38):  # one delay before, two steps ahead
            predicted = dmd.predict(trial)[t - 1]
            error += np.abs(predicted - trial[t + 2]).sum()
            still += np.abs(trial[t] - trial[t + 2]).sum()
    assert dmd.score(x) == pytest.approx(1 - error / still, rel=1e-12)
    assert dmd.score(x) < 0.9
    constant = np.ones((20, 1))
    assert HankelDMD(reg=0.0).fit(constant).score(constant) == pytest.approx(1)


def test_an_unstable_fit_is_said():
    x = 1.2 ** np.arange(30)[:, None]
    with pytest.warns(RuntimeWarning, match="spectral_radius_ = 1.200"):
        HankelDMD().fit(x)


def test_departure_from_normality():
    assert departure_from_normality(ortho_group.rvs(4, random_state=0)) == pytest.approx(0, abs=1e-7)
    with pytest.raises(ValueError, match="operator is zero"):
        departure_from_normality(np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("arguments", "X", "message"),
    [
        ({"n_delays": 3}, [np.ones((9, 1)), np.ones((3, 1))], r"X\[1\] has n_samples = 3: expected at least 4"),
        ({"rank": 4}, np.random.default_rng(0).normal(size=(50, 3)), "rank = 4: expected at most 3"),
        ({"rank": 3}, np.ones((50, 3)), "rank = 3: expected at most 1, the numerical rank"),
        ({"rank": "full", "n_delays": 5}, np.random.default_rng(0).normal(size=(10, 2)), 'rank = "full"'),
        ({}, np.zeros((50, 3)), "X is zero everywhere"),
    ],
)
def test_bad_data_are_named(arguments, X, message):
    with pytest.raises(ValueError, match=message):
        HankelDMD(**arguments).fit(X)


def test_other_features_than_those_fitted_are_named():
    dmd = HankelDMD().fit(autoregression())
    with pytest.raises(ValueError, match="X has 2 features: expected 3"):
        dmd.transform(np.ones((1, 5, 2)))
    with pytest.raises(ValueError, match="steps = 0"):
        dmd.predict(np.ones((5, 3)), 0)


def test_nothing_is_scored_before_it_is_fitted():
    with pytest.raises(NotFittedError):
        HankelDMD().score([np.zeros((20, 2))] * 2)


@pytest.mark.parametrize("center", ["global", "trial"])
def test_constant_data_are_refused_once_centred(center):
    with pytest.raises(ValueError, match="zero everywhere"):
        HankelDMD(center=center).fit(np.full((23, 2), 0.7))


def test_tensors_of_bfloat16_are_data():
    data = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    tensor = torch.from_numpy(data).bfloat16()
    fitted = [HankelDMD(2, rank=3).fit(X).operator_ for X in (tensor, tensor.float().numpy())]
    np.testing.assert_array_equal(*fitted)
