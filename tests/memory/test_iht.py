import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.memory import hard_threshold, iht_encode
from engram.memory.dictionary import iht
from engram.memory.dictionary.iht import SOLVERS, Settings, fused_encode, largest_eigenvalue, plain_encode
from engram.tasks import make_sparse_dictionary_data, perturb_dictionary

TWO = np.array([[1.0, 0.0], [0.6, 0.8]])


def problem(seed=0, n_samples=60, dtype=np.float64, **sizes):
    sizes = {"n_features": 40, "n_components": 50, "n_nonzero": 3, **sizes}
    X, dictionary, code = make_sparse_dictionary_data(n_samples, random_state=seed, **sizes)
    return X.astype(dtype), perturb_dictionary(dictionary, 0.3, seed).astype(dtype), code


def test_o1_an_orthonormal_dictionary_is_coded_by_one_threshold():
    Y = np.random.default_rng(0).normal(size=(20, 6))
    for solver in SOLVERS:
        code = iht_encode(Y, np.eye(6), coef_min=1.0, threshold=0.1, step=1.0, max_iter=1, solver=solver).code
        np.testing.assert_array_equal(code, hard_threshold(Y, 0.1))
    X = make_sparse_dictionary_data(20, n_nonzero=3, dictionary=np.eye(6), random_state=0)[2]
    np.testing.assert_array_equal(iht_encode(X, np.eye(6), step=1.0).code, X)


@pytest.mark.parametrize(
    ("iterations", "expected"),
    [
        (1, (0.928, 0.48)),
        (2, (0.8848, 0.39264)),
        (3, (0.8607232, 0.327936)),
        (4, (0.84922624, 0.27906202)),
        (13, (0.90051813, 0.10346998)),
        (14, (0.90799811, 0.0)),
        (60, (0.99999679, 0.0)),
    ],
)
def test_o2_a_wrong_entry_of_the_first_threshold_is_pruned(iterations, expected):
    encoded = iht_encode(np.array([[1.0, 0.0]]), TWO, step=0.2, max_iter=iterations, tol=0.0, solver="iht")
    np.testing.assert_allclose(encoded.code[0], expected, atol=5e-9)
    assert encoded.iterations.tolist() == [iterations]
    plain = plain_encode(
        np.array([[1.0, 0.0]]), TWO, np.array([[1.0, 0.6]]), Settings(0.5, 0.1, 0.2, 0, iterations, 0, True)
    )
    np.testing.assert_allclose(plain[0][0], expected, atol=5e-9)


def test_o2_least_squares_go_to_the_limit_at_once():
    encoded = iht_encode(np.array([[1.0, 0.0]]), TWO, step=0.2)
    np.testing.assert_allclose(encoded.code, [[1.0, 0.0]], atol=1e-15)
    assert encoded.converged.all()
    assert encoded.iterations[0] <= 3


@pytest.mark.parametrize("solver", ["iht", "iht-ls"])
def test_o6_the_limit_is_least_squares_on_its_own_support(solver):
    X, dictionary, _ = problem()
    encoded = iht_encode(X, dictionary, max_iter=5000, tol=1e-13, solver=solver)
    assert encoded.converged.all()
    for sample, code in zip(X, encoded.code, strict=True):
        support = np.flatnonzero(code)
        best = np.linalg.lstsq(dictionary[support].T, sample)[0]
        np.testing.assert_allclose(code[support], best, atol=1e-9)


def test_what_least_squares_find_is_a_fixed_point_of_the_iterations():
    X, dictionary, _ = problem(n_nonzero=8)
    encoded = iht_encode(X, dictionary, step="auto", max_iter=1000)
    code = encoded.code[encoded.converged]
    further = code - encoded.step * (code @ dictionary - X[encoded.converged]) @ dictionary.T
    assert len(code) > 50
    np.testing.assert_allclose(hard_threshold(further, 0.1), code, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("features", [40, 10])
def test_the_kernel_gives_what_plain_numpy_gives(solver, dtype, features):
    X, dictionary, _ = problem(dtype=dtype, n_features=features)
    correlations = X @ dictionary.T
    step = 0.9 / largest_eigenvalue(dictionary)
    settings = Settings(0.5, 0.1, step, 1e-5, 100, 0 if solver == "iht" else 1, solver != "iht-ls-unpruned")
    plain = plain_encode(X, dictionary, correlations, settings)
    fused = fused_encode(dictionary, correlations, settings, None)
    same = plain[1] == fused[1]  # where rounding does not decide when to stop
    assert same.mean() > 0.9
    np.testing.assert_allclose(fused[0][same], plain[0][same], atol=1e-10 if dtype == np.float64 else 1e-3)
    assert fused[0].dtype == plain[0].dtype == dtype
    np.testing.assert_array_equal(fused[2][same], plain[2][same])


def test_very_many_atoms_need_no_gram_matrix(monkeypatch):
    X, dictionary, _ = problem()
    small = iht_encode(X, dictionary)
    monkeypatch.setattr(iht, "GRAM_LIMIT", 49)
    monkeypatch.setattr(iht, "fused_encode", None)
    np.testing.assert_allclose(iht_encode(X, dictionary).code, small.code, atol=1e-12)


@given(seed=st.integers(0, 99), jobs=st.integers(1, 5), count=st.integers(1, 30))
def test_a_code_depends_on_its_sample_alone(seed, jobs, count):
    X, dictionary, _ = problem(seed, 30)
    whole, threads = iht_encode(X, dictionary), iht_encode(X, dictionary, n_jobs=jobs)
    np.testing.assert_array_equal(threads.code, whole.code)
    np.testing.assert_array_equal(threads.iterations, whole.iterations)
    order = np.random.default_rng(seed).permutation(30)[:count]
    np.testing.assert_allclose(iht_encode(X[order], dictionary).code, whole.code[order], atol=1e-12)


@given(seed=st.integers(0, 99), factor=st.floats(1e-3, 1e3))
def test_o8_codes_scale_with_the_data(seed, factor):
    X, dictionary, _ = problem(seed)
    code = iht_encode(X, dictionary).code
    scaled = iht_encode(factor * X, dictionary, coef_min=factor, threshold=0.1 * factor).code
    np.testing.assert_allclose(scaled / factor, code, atol=1e-10)


@given(seed=st.integers(0, 99))
def test_o5_atoms_in_another_order_and_turned_round_give_the_same_code(seed):
    X, dictionary, _ = problem(seed)
    rng = np.random.default_rng(seed)
    order, sign = rng.permutation(50), rng.choice([-1.0, 1.0], 50)
    code = iht_encode(X, sign[:, None] * dictionary[order]).code
    np.testing.assert_allclose(code, sign * iht_encode(X, dictionary).code[:, order], atol=1e-10)


def test_dependent_atoms_get_plain_iterations():
    dictionary = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    encoded = iht_encode(np.array([[2.0, 0.0]]), dictionary, step=0.4, tol=1e-12)
    np.testing.assert_allclose(encoded.code, [[1.0, 1.0, 0.0]], atol=1e-9)
    assert encoded.converged.all()
    crowded = iht_encode(np.array([[1.0]]), np.ones((3, 1)), step=0.3, tol=1e-12)  # more atoms than features
    np.testing.assert_allclose(crowded.code.sum(), 1.0, atol=1e-9)


def test_the_first_threshold_keeps_what_is_equal_and_the_later_do_not():
    values = np.array([-0.5, 0.5, 0.4])
    assert hard_threshold(values, 0.5).tolist() == [0, 0, 0]
    assert hard_threshold(values, 0.5, keep_equal=True).tolist() == [-0.5, 0.5, 0]
    # 0.5 = C / 2 is kept and goes on; a first correlation of 0.1 = threshold would not be.
    assert iht_encode(np.array([[0.5, 0.0]]), np.eye(2), step=1.0).code.tolist() == [[0.5, 0.0]]
    assert iht_encode(np.array([[0.1, 0.0]]), np.eye(2), coef_min=0.2, step=1.0).code.tolist() == [[0.0, 0.0]]


def test_codes_that_diverge_are_refused_with_the_eigenvalue():
    X, dictionary, _ = problem()
    largest = np.linalg.eigvalsh(dictionary @ dictionary.T)[-1]
    for solver in ("iht", "iht-ls"):
        message = rf"step = 1.5 \(code_step of NOODL\): expected less than 2 / {largest:.3g}"
        with pytest.raises(RuntimeError, match=message):
            iht_encode(10 * X, dictionary, step=1.5, solver=solver)
    iht_encode(10 * X, dictionary, step="auto", solver="iht")


@given(seed=st.integers(0, 50), atoms=st.integers(1, 150), features=st.integers(1, 150))
def test_the_largest_eigenvalue(seed, atoms, features):
    dictionary = np.random.default_rng(seed).normal(size=(atoms, features))
    exact = np.linalg.norm(dictionary, 2) ** 2
    assert 0.97 * exact <= largest_eigenvalue(dictionary) <= 1.000001 * exact
