import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.base import BaseEstimator, clone
from sklearn.cluster import AgglomerativeClustering
from torch import nn

from engram.analysis import (
    DSA,
    HankelDMD,
    HiddenStates,
    linear_cka,
    operator_bounds,
    operator_distances,
    permutation_test,
    procrustes_angle,
    rsa,
    silhouette,
    spectral_distance,
    split_half_floor,
)
from engram.nn import LeakyRNN


def rotating(speed, trials=4, time=120, seed=0):
    """A noisy rotation of the plane, seen by four units."""
    rng = np.random.default_rng(seed)
    turn = 0.98 * np.array([[np.cos(speed), -np.sin(speed)], [np.sin(speed), np.cos(speed)]])
    x = np.zeros((trials, time, 2))
    for t in range(1, time):
        x[:, t] = x[:, t - 1] @ turn.T + rng.normal(size=(trials, 2))
    return x @ np.linalg.qr(rng.normal(size=(4, 2)))[0].T


SYSTEMS = [rotating(speed, seed=seed) for seed, speed in enumerate([0.1, 0.1, 1.0, 1.0])]
KINDS = np.array([0, 0, 1, 1])


def test_systems_are_clustered_by_their_dynamics():
    dsa = DSA(HankelDMD(2, rank=2)).fit(SYSTEMS)
    assert silhouette(dsa.distances_, KINDS) > 0.8
    np.testing.assert_array_equal(dsa.distances_, operator_distances(dsa.operators_))
    assert (dsa.bounds_ <= dsa.distances_).all()
    assert dsa.refined_.all()
    np.testing.assert_array_equal(dsa.transform(SYSTEMS[2:]), dsa.distances_[2:])
    clusters = AgglomerativeClustering(2, metric="precomputed", linkage="average").fit_predict(dsa.distances_)
    assert clusters[0] == clusters[1] != clusters[2] == clusters[3]


@pytest.mark.parametrize("metric", ["euclidean", "squared", "bound", "spectral"])
def test_other_metrics(metric):
    dsa = DSA(HankelDMD(2, rank=2), metric).fit(SYSTEMS)
    assert silhouette(dsa.distances_, KINDS) > 0.8
    if metric == "bound":
        np.testing.assert_allclose(dsa.distances_, operator_bounds(dsa.operators_))
    if metric == "spectral":
        assert dsa.distances_[0, 2] == spectral_distance(dsa.operators_[0], dsa.operators_[2])
        assert dsa.distances_[0, 0] == 0


def test_systems_of_different_rank_need_a_common_one():
    sine = np.sin(0.2 * np.arange(100))[:, None]
    mixed = [sine, sine + np.cos(0.9 * np.arange(100))[:, None]]
    with pytest.raises(ValueError, match="system 1 has an operator of rank 4: expected 2"):
        DSA(HankelDMD(6)).fit(mixed)
    dsa = DSA(HankelDMD(6), rank="common").fit(mixed)
    assert dsa.rank_ == 2
    assert dsa.transform([mixed[1]]).shape == (1, 2)


def test_reduced_rank_operators_of_different_width_are_compared_within_their_ranges():
    fifth = 1e-3 * np.random.default_rng(0).normal(size=(4, 120, 1))
    systems = [SYSTEMS[0], np.concatenate((SYSTEMS[1], fifth), 2), SYSTEMS[2]]
    dmd = HankelDMD(2, rank=2, method="rrr", reg=0.0)
    dsa = DSA(dmd, rank="common").fit(systems)
    for system, operator in zip(systems, dsa.operators_, strict=True):
        whole = np.linalg.eigvals(clone(dmd).fit(system).operator_)
        assert operator.shape == (2, 2) != (len(whole),) * 2
        leading = whole[np.abs(whole).argsort()[-2:]]
        np.testing.assert_allclose(np.sort(np.linalg.eigvals(operator)), np.sort(leading), atol=1e-9)
    assert dsa.distances_[0, 1] < 0.2 < dsa.distances_[0, 2]
    np.testing.assert_allclose(dsa.transform(systems[1:2]), dsa.distances_[1:2], atol=1e-6)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([SYSTEMS[0], [SYSTEMS[1][0], SYSTEMS[1][1][:1]]], r"system 1: X\[1\] has n_samples = 1"),
        ([SYSTEMS[0], np.full((5, 9, 4), np.nan)], r"system 1: X\[0\]\[0, 0\] is NaN"),
    ],
)
def test_bad_systems_are_named(X, message):
    with pytest.raises(ValueError, match=message):
        DSA().fit(X)


def test_a_budget_of_nothing():
    with pytest.warns(RuntimeWarning, match="budget = 0"):
        dsa = DSA(HankelDMD(2, rank=2), budget=0.0).fit(SYSTEMS)
    assert not dsa.refined_[0, 1]
    assert np.isfinite(dsa.distances_).all()


def test_spectral_distances_are_optimal():
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(2, 6, 6))
    a, b = (np.linalg.eigvals(M) for M in (A, B))
    from itertools import permutations

    brute = min((np.abs(a - b[list(order)]) ** 2).mean() for order in permutations(range(6)))
    assert spectral_distance(A, B, squared=True) == pytest.approx(brute)
    assert spectral_distance(A, B) == pytest.approx(np.sqrt(brute))
    with pytest.raises(ValueError, match="6 and 4 eigenvalues"):
        spectral_distance(A, B[:4, :4])
    with pytest.raises(ValueError, match=r"len\(B\) = 0: expected at least 1"):
        spectral_distance(A, B[:0, :0], pad="mass")
    assert spectral_distance(np.eye(3), np.eye(2), pad="zero", squared=True) == pytest.approx(1 / 3)
    assert spectral_distance(np.eye(3), np.eye(2), pad="mass") == 0
    # Masses of 1/4 and 1/6 are the same as three and two times 1/12.
    c = np.linalg.eigvals(B[:4, :4])
    cost = np.abs(np.repeat(a, 2)[:, None] - np.repeat(c, 3)) ** 2
    expected = cost[linear_sum_assignment(cost)].mean()
    assert spectral_distance(A, B[:4, :4], pad="mass", squared=True) == pytest.approx(expected)


def test_the_floor_is_below_what_differs():
    floor = split_half_floor(SYSTEMS[1:3], np.random.default_rng(0), DSA(HankelDMD(2, rank=2)), n_splits=4)
    assert floor.shape == (2, 4)
    assert (floor > 0).all()
    assert floor.max() < DSA(HankelDMD(2, rank=2)).fit_transform(SYSTEMS[1:3])[0, 1]
    with pytest.raises(ValueError, match=r"systems\[0\] has 1 trial"):
        split_half_floor([SYSTEMS[0][:1]], np.random.default_rng(0))


def test_labels_at_random_explain_nothing():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(size=(8, 2)), rng.normal(size=(8, 2)) + 8])
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    labels = np.repeat([0, 1], 8)
    test = permutation_test(distances, labels, rng, 199)
    assert test.statistic == silhouette(distances, labels) > 0.7
    assert test.p_value == (1 + (test.null >= test.statistic - 1e-12).sum()) / 200 < 0.02
    assert permutation_test(distances, rng.permutation(labels), rng, 99).p_value > 0.05
    with pytest.raises(ValueError, match="labels: expected 16"):
        permutation_test(distances, labels[1:], rng)
    with pytest.raises(ValueError, match="square and symmetric"):
        permutation_test(np.triu(distances), labels, rng)


def test_shapes():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 3))
    turned = 2 * X @ np.linalg.qr(rng.normal(size=(5, 3)))[0].T + 1
    assert procrustes_angle(X, turned) < 1e-7
    assert procrustes_angle(turned, X) < 1e-7
    assert linear_cka(X, turned) == pytest.approx(1)
    assert rsa(X, turned, "euclidean") == pytest.approx(1)
    sparse = (np.random.default_rng(0).random((30, 3)) < 0.5).astype(float)  # many equal distances
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    assert rsa(sparse, sparse @ rotation, "euclidean") == pytest.approx(1)
    Y = rng.normal(size=(30, 4))
    x, y = (Z - Z.mean(0) for Z in (X, Y))
    nuclear = np.linalg.svd(x.T @ y, compute_uv=False).sum() / np.linalg.norm(x) / np.linalg.norm(y)
    assert procrustes_angle(X, Y) == pytest.approx(np.arccos(nuclear))
    grams = [z @ z.T for z in (x, y)]
    hsic = (grams[0] * grams[1]).sum() / np.linalg.norm(grams[0]) / np.linalg.norm(grams[1])
    assert linear_cka(X, Y) == pytest.approx(hsic)
    for measure in (procrustes_angle, linear_cka):
        with pytest.raises(ValueError, match="expected 30 samples"):
            measure(X, Y[1:])
        with pytest.raises(ValueError, match="Y is the same in all samples"):
            measure(X, np.ones((30, 2)))
    with pytest.raises(ValueError, match="equal numbers of samples"):
        rsa(X, Y[1:])
    with pytest.raises(ValueError, match="distances between samples of Y are all equal"):
        rsa(X, np.ones((30, 2)), "euclidean")


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_hidden_states_of_sequences(kind, batch_first):
    torch.manual_seed(0)
    net = kind(3, 5, batch_first=batch_first)
    x = torch.randn(7, 2, 3)
    with HiddenStates(net) as states:
        output, _ = net(x.transpose(0, 1) if batch_first else x)
        net(torch.randn(4, 3))  # a single sequence
    net(x.transpose(0, 1) if batch_first else x)  # not recorded
    assert [trial.shape for trial in states.trials] == [(7, 5), (7, 5), (4, 5)]
    seen = output.transpose(0, 1) if batch_first else output
    np.testing.assert_array_equal(states.trials[1], seen[:, 1].detach().numpy())


def test_hidden_states_of_packed_sequences_and_of_cells():
    torch.manual_seed(0)
    net = nn.GRU(3, 5)
    packed = nn.utils.rnn.pack_sequence([torch.randn(6, 3), torch.randn(9, 3)], enforce_sorted=False)
    with HiddenStates(net) as states:
        net(packed)
    assert [trial.shape for trial in states.trials] == [(6, 5), (9, 5)]
    cell = nn.LSTMCell(3, 5)
    with HiddenStates(cell) as states:
        hidden = None
        for _ in range(4):
            hidden = cell(torch.randn(2, 3), hidden)
        last = hidden[0].detach().numpy()
        states.next_trials()
        for _ in range(3):
            cell(torch.randn(1, 3))
    assert [trial.shape for trial in states.trials] == [(4, 5), (4, 5), (3, 5)]
    np.testing.assert_array_equal(np.stack(states.trials[:2])[:, -1], last)
    with HiddenStates(cell):
        cell(torch.randn(2, 3))
        with pytest.raises(ValueError, match="call next_trials"):
            cell(torch.randn(1, 3))


@pytest.mark.parametrize("kind", ["PlasticRNN", "PlasticLSTM"])
def test_hidden_states_of_a_plastic_network(kind):
    from engram import plasticity

    net = getattr(plasticity, kind)(3, 6, backend="eager", generator=torch.Generator().manual_seed(0))
    with HiddenStates(net) as states:
        net(torch.zeros(5, 2, 3))
        net(torch.zeros(7, 3))  # a single sequence
    assert [trial.shape for trial in states.trials] == [(5, 6), (5, 6), (7, 6)]


class Given(BaseEstimator):
    """The system is the operator itself, too hard to compare for one random start to find the best."""

    def fit(self, X, y=None):
        self.operator_ = np.asarray(X)
        return self


def test_random_state_settles_the_random_starts():
    systems = list(np.random.default_rng(0).normal(size=(2, 16, 16)))

    def distance(state):
        return DSA(Given(), restarts=8, random_state=state).fit(systems).distances_[0, 1]

    assert distance(0) == operator_distances(systems, restarts=8, seed=0)[0, 1]
    assert abs(distance(0) - distance(1)) > 1e-3
    assert distance(np.random.RandomState(1)) == distance(np.random.RandomState(1))


def test_a_wrong_padding_is_refused_though_nothing_is_padded():
    with pytest.raises(ValueError, match="pad = 'one'"):
        spectral_distance(np.eye(2), np.eye(2), pad="one")


@pytest.mark.parametrize("observed", [1.0, -1.0, 1e6])
def test_permutations_that_differ_by_rounding_only_are_as_large(observed):
    distances, labels = 1 - np.eye(4), np.array([0, 0, 1, 1])
    for gap, p_value in ((1e-14, 1.0), (1e-9, 0.1)):
        values = iter([observed, *9 * [observed - gap * abs(observed)]])
        test = permutation_test(distances, labels, np.random.default_rng(0), 9, lambda *_, values=values: next(values))
        assert test.p_value == p_value


def test_debiased_cka_is_the_unbiased_estimate():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(9, 4)) + 2, rng.normal(size=(9, 6))
    Y[:, :2] += X[:, :2]

    def hsic(K, L):  # the U-statistic of order 4: no sample occurs twice in a term
        quadruples = list(itertools.permutations(range(len(K)), 4))
        terms = [K[i, j] * (L[i, j] + L[q, r] - 2 * L[i, q]) for i, j, q, r in quadruples]
        return sum(terms) / len(quadruples)

    K, L = X @ X.T, Y @ Y.T
    expected = hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))
    assert linear_cka(X, Y, debiased=True) == pytest.approx(expected, rel=1e-12)
    # the form of Song et al. (2012), equation 4
    n, one = len(K), np.ones(len(K))
    K_0, L_0 = (gram - np.diag(np.diag(gram)) for gram in (K, L))
    song = np.trace(K_0 @ L_0) + one @ K_0 @ one * (one @ L_0 @ one) / (n - 1) / (n - 2)
    song -= 2 / (n - 2) * (one @ K_0 @ L_0 @ one)
    assert song / n / (n - 3) == pytest.approx(hsic(K, L), rel=1e-12)


def test_debiased_cka_of_independent_activity_is_0_in_the_mean():
    rng = np.random.default_rng(0)
    pairs = rng.normal(size=(400, 2, 16, 64))
    plain = [linear_cka(X, Y) for X, Y in pairs]
    debiased = np.array([linear_cka(X, Y, debiased=True) for X, Y in pairs])
    assert 0.75 < np.mean(plain) < 0.85
    assert abs(debiased.mean()) < 3 * debiased.std() / np.sqrt(len(debiased)) < 0.02
    X = pairs[0, 0]
    assert linear_cka(X, X, debiased=True) == pytest.approx(1)
    turned = 3 * X @ np.linalg.qr(rng.normal(size=(64, 64)))[0] + 1e3
    assert linear_cka(X, turned, debiased=True) == pytest.approx(1)
    with pytest.raises(ValueError, match="X has 3 samples: expected at least 4, for debiased = True"):
        linear_cka(X[:3], X[:3], debiased=True)
    simplex = np.eye(5)  # all pairs are alike
    with pytest.raises(ValueError, match="Y has no distances that differ"):
        linear_cka(X[:5], simplex, debiased=True)


class BatchFirst(nn.Module):
    """A recurrent module that does not say which axis is time."""

    def __init__(self):
        super().__init__()
        self.cell = nn.GRU(2, 5, batch_first=True)

    def forward(self, x):
        return self.cell(x)


def test_hidden_states_of_a_module_that_does_not_say_which_axis_is_time():
    torch.manual_seed(0)
    net, x = BatchFirst(), torch.randn(4, 9, 2)
    with (
        pytest.raises(
            ValueError, match=r"BatchFirst gives a shape of \(4, 9, 5\) and has no batch_first: expected batch"
        ),
        HiddenStates(net),
    ):
        net(x)
    with HiddenStates(net, batch_first=True) as states:
        output, _ = net(x)
        net(x[0])  # a single sequence
    assert [trial.shape for trial in states.trials] == [(9, 5)] * 5
    np.testing.assert_array_equal(states.trials[2], output[2].detach().numpy())
    with HiddenStates(net, batch_first=False) as states:
        net(x)
    assert [trial.shape for trial in states.trials] == [(4, 5)] * 9
    leaky = LeakyRNN(2, 5)
    with HiddenStates(leaky) as states:
        leaky(x)
    assert [trial.shape for trial in states.trials] == [(4, 5)] * 9
    with pytest.raises(TypeError, match="batch_first"):
        HiddenStates(net, batch_first="yes")
