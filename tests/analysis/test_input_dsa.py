import warnings

import numpy as np
import pytest
from scipy import linalg, stats

from engram.analysis import DrivenOperators, HankelDMD, driven_distance, fit_driven, operator_distance
from engram.analysis.similarity import subspace

TURN = 0.9 * np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
FIRST = np.array([[1.0, 0.0]])  # the first coordinate is observed
FOUR = {"hidden": [0, 1], "both": [1, 1], "opposed": [1, -1], "seen": [1, 0]}  # inputs to the two coordinates


REGRESSION = {"method": "regression", "coordinates": "whitened"}


def column(values):
    return np.array(values, float)[:, None]


def system(*, rank=3, outputs=2, inputs=2, radius=0.9, seed=0):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(rank, rank))
    A *= radius / np.abs(np.linalg.eigvals(A)).max()
    return DrivenOperators(A, rng.normal(size=(rank, inputs)), rng.normal(size=(outputs, rank)))


def simulated(own, u, *, observation=0.0, process=0.0, start=None, seed=1):
    """Samples y of a system from its inputs u, (trials, time, inputs)."""
    rng = np.random.default_rng(seed)
    x = np.zeros((len(u), len(own.state))) if start is None else start
    y = np.empty((*u.shape[:2], len(own.observation)))
    for t in range(u.shape[1]):
        y[:, t] = x @ own.observation.T
        x = x @ own.state.T + u[:, t] @ own.inputs.T + process * rng.normal(size=x.shape)
    return y + observation * rng.normal(size=y.shape)


def white(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def smooth(*shape, seed=0):
    u = white(*shape, seed=seed)
    for t in range(1, shape[1]):
        u[:, t] += 0.8 * u[:, t - 1]
    return u


def markov(own, count=6):
    return np.stack([own.observation @ np.linalg.matrix_power(own.state, k) @ own.inputs for k in range(count)])


def leading(own):
    """Modulus and angle of the eigenvalue of largest angle."""
    values = np.linalg.eigvals(own.state)
    value = values[np.angle(values).argmax()]
    return [abs(value), np.angle(value)]


def moved(own, M):
    """The system in other coordinates."""
    return DrivenOperators(M @ own.state @ np.linalg.inv(M), M @ own.inputs, own.observation @ np.linalg.inv(M))


def n4sid(y, u, past, future, rank):
    """The definition, as published: block Hankel matrices of all trials, an LQ factorisation, singular vectors."""

    def hankel(start, stop, series):
        return np.hstack([np.vstack([trial[k : len(trial) - past - future + 1 + k].T for k in range(start, stop)])
                          for trial in series])  # fmt: skip

    U_p, U_f, Y_p, Y_f = (hankel(*part, series) for series in (u, y) for part in ((0, past), (past, past + future)))
    Z_p = np.vstack([U_p, Y_p])
    L = np.linalg.qr(np.vstack([U_f, Z_p, Y_f]).T, mode="r").T
    a, b = len(U_f), len(U_f) + len(Z_p)
    projection = L[b:, a:b] @ np.linalg.pinv(L[a:b, a:b], rcond=1e-10) @ Z_p
    left, S, right = np.linalg.svd(projection, full_matrices=False)
    X = np.sqrt(S[:rank])[:, None] * right[:rank]
    ends = np.cumsum([len(trial) - past - future + 1 for trial in y])
    now = np.setdiff1d(np.arange(ends[-1]), ends - 1)  # the last window of a trial has no next one
    operators = X[:, now + 1] @ np.linalg.pinv(np.vstack([X[:, now], U_f[: u[0].shape[1], now]]))
    C = (left[:, :rank] * np.sqrt(S[:rank]))[: y[0].shape[1]]
    return DrivenOperators(operators[:, :rank], operators[:, rank:], C, S)


@pytest.mark.parametrize("coordinates", ["input-normal", "balanced", "whitened"])
@pytest.mark.parametrize("to", FOUR.values(), ids=FOUR)
def test_a_system_seen_in_part_is_found_where_regression_is_biased(to, coordinates):
    own, u = DrivenOperators(TURN, column(to), FIRST), white(3, 400, 1)
    y = simulated(own, u)
    for delays in (2, 5):
        found = fit_driven(y, u, HankelDMD(delays), coordinates=coordinates)
        assert len(found.state) == 2
        assert leading(found) == pytest.approx([0.9, 0.4], abs=1e-6)
        np.testing.assert_allclose(markov(found), markov(own), atol=1e-6)


@pytest.mark.parametrize("to", FOUR.values(), ids=FOUR)
def test_regression_has_the_bias_of_its_normal_equations(to):
    own = DrivenOperators(TURN, column(to), FIRST)
    P = linalg.solve_discrete_lyapunov(TURN, own.inputs @ own.inputs.T)
    r = [float((FIRST @ np.linalg.matrix_power(TURN, k) @ P @ FIRST.T).item()) for k in range(3)]
    # y(t + 1) on y(t), y(t - 1) and u(t), of which y(t) and y(t - 1) have no part.
    a = np.linalg.solve([[r[0], r[1]], [r[1], r[0]]], r[1:])
    expected = leading(DrivenOperators(np.array([a, [1, 0]]), None))
    y, u = simulated(own, white(12, 1500, 1)), white(12, 1500, 1)
    fits = [leading(fit_driven(*pair, HankelDMD(2), **REGRESSION)) for pair in zip(y, u, strict=True)]
    assert np.abs((np.mean(fits, 0) - expected) / stats.sem(fits)).max() < 3
    assert np.mean(fits, 0) == pytest.approx(expected, abs=0.02)


def test_noise_is_averaged_by_delays():
    for to in ([0, 1], [1, 1]):
        for noise in ({"observation": 0.1}, {"observation": 0.5}, {"process": 0.3}):
            u = white(20, 1000, 1)
            y = simulated(DrivenOperators(TURN, column(to), FIRST), u, **noise)
            errors = [abs(leading(fit_driven(y, u, HankelDMD(p)))[0] - 0.9) for p in (5, 20)]
            assert errors[0] < 0.02
            assert errors[1] < 0.005
            naive = fit_driven(y, u, HankelDMD(20, rank=2), **REGRESSION)
            assert abs(leading(naive)[0] - 0.9) > 0.09


@pytest.mark.parametrize(("past", "future", "noise"), [(2, 2, 0.0), (6, 4, 0.3), (4, 7, 0.3)])
def test_moments_give_what_hankel_matrices_do(past, future, noise):
    own = system()
    u = [white(1, n, 2, seed=n)[0] for n in (300, 170, 220)]
    y = [simulated(own, trial[None], observation=noise)[0] for trial in u]
    expected = n4sid(y, u, past, future, 3)
    found = fit_driven(y, u, HankelDMD(past, rank=3, reg=0), future=future, coordinates="balanced")
    windows = sum(len(trial) - past - future + 1 for trial in y)
    np.testing.assert_allclose(found.singular_values[:3], expected.singular_values[:3] / np.sqrt(windows), rtol=1e-9)
    scale = windows**0.25  # of the published coordinates, which depend on the length
    signs = np.sign((found.observation * expected.observation).sum(0))
    tolerance = 1e-8 if noise == 0 else 0.02  # ours has one more pair of states for each trial
    np.testing.assert_allclose(found.observation, expected.observation * signs / scale, atol=1e-8)
    np.testing.assert_allclose(found.state, expected.state * signs * signs[:, None], atol=tolerance)
    np.testing.assert_allclose(found.inputs, expected.inputs * signs[:, None] * scale, atol=tolerance)


def test_trials_of_any_length_and_never_across_a_border():
    own = system()
    u = [white(1, n, 2, seed=n)[0] for n in (90, 200, 130)]
    starts = white(3, 1, 3)
    y = [simulated(own, trial[None], start=start)[0] for trial, start in zip(u, starts, strict=True)]
    for delays in (2, 4):
        found = fit_driven(y, u, HankelDMD(delays, reg=0))
        assert len(found.state) == 3
        np.testing.assert_allclose(markov(found), markov(own), atol=1e-8)
    joined = fit_driven(np.concatenate(y), np.concatenate(u), HankelDMD(4, rank=3))
    assert np.abs(markov(joined) - markov(own)).max() > 1e-3


def test_a_state_that_is_seen_is_fitted_as_by_least_squares():
    own = system(outputs=3)._replace(observation=np.eye(3))
    u = white(1, 300, 2)
    y = simulated(own, u)
    expected = np.linalg.lstsq(np.hstack([y[0, :-1], u[0, :-1]]), y[0, 1:])[0].T
    for method in ("n4sid", "regression"):
        found = fit_driven(y, u, HankelDMD(reg=0), method=method)
        here = moved(found, found.observation)  # in the coordinates of y
        np.testing.assert_allclose(np.hstack([here.state, here.inputs]), expected, atol=1e-9)


def test_inputs_without_effect_have_no_operator():
    own = system()._replace(observation=np.eye(3), inputs=np.zeros((3, 2)))
    u, start = white(30, 20, 2), white(30, 3)
    y = simulated(own, u, start=start)
    found = fit_driven(y, u, HankelDMD(reg=0), coordinates="whitened")
    assert np.abs(found.inputs).max() < 1e-10
    expected = np.sort_complex(np.linalg.eigvals(HankelDMD(reg=0).fit(y).operator_))
    np.testing.assert_allclose(np.sort_complex(np.linalg.eigvals(found.state)), expected, atol=1e-9)
    with pytest.raises(ValueError, match="expected inputs that reach all 3 coordinates"):
        fit_driven(y, u, HankelDMD(reg=0))


def test_a_direct_effect_leaves_no_bias_and_a_shift_of_inputs_is_noticed():
    own, u = DrivenOperators(TURN, column([1, 1]), FIRST), white(3, 400, 1)
    y = simulated(own, u)
    np.testing.assert_allclose(markov(fit_driven(y + 2 * u, u, HankelDMD(4))), markov(own), atol=1e-6)
    late = fit_driven(y[:, :-1], u[:, 1:], HankelDMD(4), coordinates="balanced")  # y responds a step later
    assert len(late.state) == 3
    assert markov(late)[0].item() == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(markov(late)[1:], markov(own)[:-1], atol=1e-6)


def test_input_normal_coordinates_depend_on_the_system_alone():
    own = system(outputs=3)
    reference = None
    for seed, (u, scale) in enumerate([(white(2, 400, 2), 1.0), (smooth(2, 500, 2), 1.0), (white(4, 200, 2), 3.0)]):
        y = simulated(own._replace(observation=white(2, 3, seed=seed)), u)
        found = fit_driven(y, scale * u, HankelDMD(3, reg=0))
        np.testing.assert_allclose(found.state @ found.state.T + found.inputs @ found.inputs.T, np.eye(3), atol=1e-10)
        reference = reference or found
        distance = driven_distance(reference, found)
        assert max(distance.joint, distance.state, distance.inputs) < 1e-5
        np.testing.assert_allclose(distance.transform @ found.inputs, reference.inputs, atol=1e-6)


@pytest.mark.parametrize("coordinates", ["input-normal", "balanced", "whitened"])
@pytest.mark.parametrize("method", ["n4sid", "regression"])
def test_units_change_what_they_should(method, coordinates):
    own, u = system(outputs=3), white(2, 400, 2)
    y, size = simulated(own, u), {"n4sid": 1e180, "regression": 1e3}[method]
    plain, other = (
        fit_driven(y * a, u / b, HankelDMD(rank=3), method=method, coordinates=coordinates)
        for a, b in ((1, 1), (size, 1000))
    )
    np.testing.assert_allclose(markov(other) / size / 1000, markov(plain), atol=1e-9)
    np.testing.assert_allclose(other.singular_values / size, plain.singular_values)
    assert driven_distance(plain, other).joint < 1e-6
    if coordinates != "balanced":
        norms = np.linalg.norm(other.inputs), np.linalg.norm(plain.inputs)
        assert norms[0] == pytest.approx(norms[1] * (1000 if coordinates == "whitened" else 1))


def test_other_coordinates_depend_on_features_or_inputs():
    own, u = system(outputs=3), white(2, 2000, 2)

    def apart(coordinates, other, u_of_other):
        fits = [fit_driven(simulated(s, v), v, HankelDMD(3), coordinates=coordinates)
                for s, v in ((own, u), (other, u_of_other))]  # fmt: skip
        return driven_distance(*fits).joint

    other = own._replace(observation=white(2, 3, seed=5))
    assert apart("whitened", other, u) < 1e-5
    assert apart("balanced", other, u) > 0.1
    assert apart("whitened", own, smooth(2, 2000, 2)) > 0.1
    assert apart("input-normal", other, smooth(2, 2000, 2)) < 1e-5
    for coordinates in ("balanced", "whitened"):  # up to the samples of the inputs
        assert apart(coordinates, own, white(2, 8000, 2)) < 0.05


def test_the_order_is_that_of_what_noise_does_not_explain():
    own = DrivenOperators(TURN, column([1, 1]), FIRST)
    u = white(5, 1000, 1)
    for noise in ({"observation": 0.5}, {"process": 1.0}):
        y = simulated(own, u, **noise)
        for rank in (None, "svht"):
            assert [len(fit_driven(y, u, HankelDMD(p, rank=rank)).state) for p in (2, 5, 20)] == [2, 2, 2]
        for rank, expected in ((0.999999, 10), ("full", 10), (0.5, 1), (4, 4)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                found = fit_driven(y, u, HankelDMD(10, rank=rank), coordinates="whitened")
            assert len(found.state) == expected
    seen = system(rank=6, outputs=6)._replace(observation=np.eye(6))
    u = white(5, 500, 2)
    assert len(fit_driven(simulated(seen, u, process=0.5), u).state) == 6  # none of these is noise


def test_inputs_must_excite_enough_frequencies():
    own, t = DrivenOperators(TURN, column([1, 1]), FIRST), np.arange(900)
    waves = np.stack([np.sin(speed * t) for speed in (0.3, 0.9, 1.7)])
    for u in (waves[0], waves[:2].sum(0), np.ones(900)):
        steady = simulated(own, u[None, :, None])[:, 400:]
        with pytest.raises(ValueError, match="inputs excite too few frequencies for n_delays = 2"):
            fit_driven(steady, u[None, 400:, None], HankelDMD(2))
    with pytest.raises(ValueError, match="inputs excite too few"):
        fit_driven(white(1, 50, 2), np.zeros((1, 50, 1)))
    y = white(1, 50, 2)
    with pytest.raises(ValueError, match="inputs excite too few"):  # these are a function of earlier samples
        fit_driven(y[:, 1:], y[:, :-1] @ np.ones((2, 1)), HankelDMD(2))
    u = waves.sum(0)[None, :, None]
    found = fit_driven(simulated(own, u)[:, 400:], u[:, 400:], HankelDMD(2))
    assert 1 < found.condition < 20
    assert leading(found) == pytest.approx([0.9, 0.4], abs=1e-6)


def test_outputs_that_hardly_vary_from_sample_to_sample_are_no_lack_of_inputs():
    own = DrivenOperators(np.diag([0.99999, 0.9999]), column([1e-3, 1e-3]), np.ones((1, 2)))
    u = white(2, 3000, 1)
    found = fit_driven(simulated(own, u), u, HankelDMD(12, rank=2), coordinates="whitened")
    np.testing.assert_allclose(np.sort(np.linalg.eigvals(found.state)), [0.9999, 0.99999], atol=1e-6)


def test_means_are_subtracted_from_both():
    own, u = DrivenOperators(TURN, column([1, 1]), FIRST), white(3, 2000, 1) + 5
    y = simulated(own, u) + 20
    found = fit_driven(y[:, 200:], u[:, 200:], HankelDMD(4, rank=2, center="global"))
    assert leading(found) == pytest.approx([0.9, 0.4], abs=2e-3)
    per_trial = fit_driven(y[:, 200:] + white(3, 1, 1), u[:, 200:], HankelDMD(4, rank=2, center="trial"))
    assert leading(per_trial) == pytest.approx([0.9, 0.4], abs=2e-3)


def test_what_cannot_be_fitted_is_refused_by_name():
    u, y = white(3, 40, 1), white(3, 40, 2, seed=1)
    with pytest.raises(ValueError, match=r"inputs have trials of \[40, 40, 39\] samples: expected \[40, 40, 40\]"):
        fit_driven(y, [u[0], u[1], u[2, 1:]])
    short = [y[0], y[1, :10], y[2]], [u[0], u[1, :10], u[2]]
    with pytest.raises(ValueError, match=r"X\[1\] has n_samples = 10: expected at least 11, 5 \+ 5 \+ 1"):
        fit_driven(*short, HankelDMD(5))
    assert fit_driven(*short, HankelDMD(5, rank=2), future=4, coordinates="balanced").state.shape == (2, 2)
    missing = u.copy()
    missing[1, 7, 0] = np.nan
    with pytest.raises(ValueError, match=r"inputs\[1\].*7.*pass inputs\[1\]\[:7\] and inputs\[1\]\[8:\]"):
        fit_driven(y, missing)
    for setting in ({"delay_interval": 2}, {"steps_ahead": 2}, {"method": "rrr"}, {"rank_threshold": 1.0}):
        with pytest.raises(ValueError, match=f"dmd.{next(iter(setting))} = .*: expected"):
            fit_driven(y, u, HankelDMD(2).set_params(**setting))
    with pytest.raises(ValueError, match="rank = 5: expected at most 4, for 2 samples of 2 features"):
        fit_driven(y, u, HankelDMD(2, rank=5))
    own = DrivenOperators(TURN, column([1, 1]), FIRST)
    with pytest.raises(ValueError, match="rank = 3: expected at most 2, the numerical rank"):
        fit_driven(simulated(own, u), u, HankelDMD(4, rank=3))
    with pytest.raises(ValueError, match="future = 3: expected None"):
        fit_driven(y, u, method="regression", future=3)
    with pytest.raises(ValueError, match="n_delays"):
        fit_driven(y, u, HankelDMD(0))
    with pytest.warns(RuntimeWarning, match="n_delays = 8 gives 30 regressors for 54 windows"):
        fit_driven(y[:2], u[:2], HankelDMD(8, rank=1), future=6)


def test_coordinates_that_a_system_does_not_have_are_refused():
    growing = DrivenOperators(np.diag([1.02, 0.5]), column([1, 1]), np.eye(2))
    u = white(10, 60, 1)
    with pytest.raises(ValueError, match=r"expected a stable system, but its spectral radius is 1\.0200"):
        fit_driven(simulated(growing, u), u)
    found = fit_driven(simulated(growing, u), u, coordinates="balanced")
    assert np.sort(np.linalg.eigvals(found.state)) == pytest.approx([0.5, 1.02], abs=1e-6)
    weak = DrivenOperators(np.diag([0.9, 0.5]), column([1, 1e-3]), np.eye(2))
    with pytest.warns(RuntimeWarning, match="give some coordinates only .* of their variance"):
        fit_driven(simulated(weak, u, start=white(10, 2)), u)


@pytest.mark.parametrize("rank", [1, 2, 5, 10])
@pytest.mark.parametrize("metric", ["angular", "euclidean"])
def test_conjugate_systems_are_at_no_distance(rank, metric):
    own = system(rank=rank, inputs=1)
    for det in (1, -1):
        Q = stats.special_ortho_group.rvs(rank, random_state=0) if rank > 1 else np.eye(1)
        Q[0] *= det
        for options in ({}, {"normalise": False}, {"blocks": "published"}):
            distance = driven_distance(own, moved(own, Q), metric=metric, **options)
            assert max(distance.joint, distance.state, distance.inputs) < 1e-7
            assert distance.reached == rank
            assert distance.normalised == options.get("normalise", True)
            np.testing.assert_allclose(distance.transform @ Q, np.eye(rank), atol=1e-7)


def test_distances_are_symmetric_and_those_of_their_definition():
    first, second = system(seed=1), system(seed=2)
    there, back = driven_distance(first, second), driven_distance(second, first)
    assert there[:3] == pytest.approx(back[:3], abs=1e-12)
    np.testing.assert_allclose(there.transform, back.transform.T, atol=1e-12)
    plain = driven_distance(first, second, metric="euclidean", normalise=False)

    def blocks(A, B):
        powers = [np.linalg.matrix_power(M, k) @ B for k in range(1, 4) for M in (A, A.T)]
        return np.hstack([B, *powers])

    K1, K2 = blocks(*first[:2]), blocks(*second[:2])
    C = linalg.orthogonal_procrustes(K2.T, K1.T)[0].T
    np.testing.assert_allclose(plain.transform, C, atol=1e-10)
    expected = [K1 - C @ K2, first.state - C @ second.state @ C.T, first.inputs - C @ second.inputs]
    assert plain[:3] == pytest.approx([np.linalg.norm(difference) for difference in expected])
    A1, A2 = (s.state / np.linalg.norm(s.state) for s in (first, second))
    angle = np.arccos((A1 * (there.transform @ A2 @ there.transform.T)).sum())
    assert there.state == pytest.approx(angle)
    assert there.state >= operator_distance(first.state, second.state)


def test_systems_that_differ_where_published_blocks_do_not_look():
    B = column([1, 0])
    A = np.array([[0.5, 0.2], [0.1, 0.3]])
    lower, upper = A * [[1, 1], [1, -1]], A * [[1, -1], [-1, 1]]
    one = [DrivenOperators(np.array([[a]]), np.ones((1, 1))) for a in (0.9, -0.9)]
    pairs = [(DrivenOperators(A, B), DrivenOperators(lower, B)), one]
    for pair in pairs:
        assert driven_distance(*pair, blocks="published").joint == pytest.approx(0, abs=1e-7)
        assert driven_distance(*pair).joint > 0.1
        assert driven_distance(*pair, metric="euclidean", normalise=False).joint > 0.1
    mirrored = driven_distance(DrivenOperators(A, B), DrivenOperators(upper, B))  # conjugate by a reflection
    assert max(mirrored[:3]) < 1e-7
    sheared = A * [[1, -1], [1, 1]]
    assert driven_distance(DrivenOperators(A, B), DrivenOperators(sheared, B)).joint > 0.1


def test_where_inputs_do_not_reach_the_state_is_aligned_for_itself():
    rng = np.random.default_rng(0)
    driven, hidden = system(rank=2, inputs=1).state, system(rank=3, seed=3).state
    A, B = linalg.block_diag(driven, hidden), column([1, 0.5, 0, 0, 0])
    own = DrivenOperators(A, B, np.eye(5))
    for _ in range(3):
        distance = driven_distance(own, moved(own, np.linalg.qr(rng.normal(size=(5, 5)))[0]))
        assert distance.reached == 2
        assert max(distance.joint, distance.state, distance.inputs) < 1e-6


def test_distances_are_refused_by_name():
    A, B = system()[:2]
    for metric, normalise in (("angular", False), ("euclidean", True)):
        with pytest.raises(ValueError, match=r"second\.inputs is zero"):
            driven_distance(DrivenOperators(A, B), DrivenOperators(A, 0 * B), metric=metric, normalise=normalise)
    zero = driven_distance(DrivenOperators(A, B), DrivenOperators(A, 0 * B), metric="euclidean", normalise=False)
    assert zero.inputs == pytest.approx(np.linalg.norm(B))
    with pytest.raises(ValueError, match=r"second\.inputs\.shape"):
        driven_distance(DrivenOperators(A, B), DrivenOperators(A, B[:, :1]))
    with pytest.raises(ValueError, match="metric = 'cosine'"):
        driven_distance(DrivenOperators(A, B), DrivenOperators(A, B), metric="cosine")


def test_few_windows_at_a_time_give_the_same_factor(monkeypatch):
    trials = list(white(2, 60, 3))
    whole = subspace._triangle(trials, 4)
    monkeypatch.setattr(subspace, "CHUNK", 13)
    parts = subspace._triangle(trials, 4)
    np.testing.assert_allclose(parts.T @ parts, whole.T @ whole, atol=1e-10)
