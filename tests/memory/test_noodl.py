from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from engram.memory import NOODL, hard_threshold, match_dictionaries, noodl_step
from engram.memory.dictionary.noodl import mixtures
from engram.memory.dictionary.step import dictionary_gradient, unbiased_gradient
from engram.storage import CannotWriteError, CorruptFileError, checkpoint
from engram.tasks import make_sparse_dictionary_data, perturb_dictionary

SIZES = {"n_features": 64, "n_components": 80, "n_nonzero": 3}


def truth(seed=0, dtype=np.float64):
    dictionary = make_sparse_dictionary_data(1, random_state=seed, **SIZES)[1]
    return dictionary, perturb_dictionary(dictionary, random_state=seed).astype(dtype)


def stream(dictionary, batches, seed=0, n_samples=250, n_nonzero=3, **model):
    rng = np.random.default_rng(seed)
    for _ in range(batches):
        yield make_sparse_dictionary_data(
            n_samples, n_nonzero=n_nonzero, dictionary=dictionary, random_state=rng, **model
        )[0]


def error(model, dictionary):
    return np.linalg.norm(model.components_ - dictionary) / np.linalg.norm(dictionary)


def learned(model, batches):
    for X in batches:
        model.partial_fit(X)
    return model


def test_o3_one_step():
    step = noodl_step(np.eye(2), np.array([[1.0, 0.2]]), dict_step=0.5)
    np.testing.assert_allclose(step.code, [[1, 0]])
    np.testing.assert_allclose(step.residual, [[0, -0.2]])
    np.testing.assert_allclose(step.dictionary, [[0.99503719, 0.09950372], [0, 1]], atol=5e-9)


def test_o1_o4_the_truth_is_a_fixed_point():
    dictionary, _ = truth()
    for true in (dictionary, np.eye(64)):
        for X in stream(true, 3):
            step = noodl_step(true, X, dict_step=15.0)
            np.testing.assert_allclose(step.dictionary, true, atol=1e-12)
            np.testing.assert_allclose(step.code @ true, X, atol=1e-12)


@given(seed=st.integers(0, 99))
def test_o5_order_and_signs_of_the_atoms_do_not_matter(seed):
    dictionary, start = truth(seed)
    rng = np.random.default_rng(seed)
    order, sign = rng.permutation(80), rng.choice([-1.0, 1.0], 80)[:, None]
    (X,) = stream(dictionary, 1, seed)
    for update in ("noodl", "arora-biased", "arora-unbiased"):
        one = noodl_step(start, X, dict_step=10.0, update=update).dictionary
        other = noodl_step(sign * start[order], X, dict_step=10.0, update=update).dictionary
        np.testing.assert_allclose(other, sign * one[order], atol=1e-10)


def test_o7_the_unbiased_gradient_is_that_of_the_dense_tensor():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(8, 6))
    A /= np.linalg.norm(A, axis=1, keepdims=True)
    Y = rng.normal(size=(30, 6))
    X = hard_threshold(Y @ A.T, 0.5, keep_equal=True)
    dense = np.zeros_like(A)
    for i in range(8):
        B = A - (A @ A[i])[:, None] * A[i]
        B[i] = A[i]
        T = Y @ B.T
        T[np.abs(T) < 0.5] = 0
        dense[i] = (np.sign(X[:, i])[:, None] * (T @ B - Y)).mean(axis=0)
    np.testing.assert_allclose(unbiased_gradient(A, Y, X, 1.0), dense, atol=1e-12)


@given(seed=st.integers(0, 99), factor=st.floats(1e-3, 1e3))
def test_o8_the_step_scales_with_the_data(seed, factor):
    dictionary, start = truth(seed)
    (X,) = stream(dictionary, 1, seed)
    one = noodl_step(start, X, dict_step=10.0)
    other = noodl_step(start, factor * X, dict_step=10.0 / factor, coef_min=factor, threshold=0.1 * factor)
    np.testing.assert_allclose(other.dictionary, one.dictionary, atol=1e-10)
    automatic = [
        learned(NOODL(80, dict_init=start, coef_min=c), [c * X]).components_ for c in (1.0, factor)
    ]  # the automatic step and threshold scale by themselves
    np.testing.assert_allclose(automatic[1], automatic[0], atol=1e-10)


@given(seed=st.integers(0, 99), jobs=st.integers(1, 4))
def test_the_gradient_is_the_formula_for_any_number_of_threads(seed, jobs):
    rng = np.random.default_rng(seed)
    A, Y, X = rng.normal(size=(7, 5)), rng.normal(size=(9, 5)), rng.normal(size=(9, 7))
    X[np.abs(X) < 0.8] = 0
    gradient, residual = dictionary_gradient(A, Y, X, jobs)
    np.testing.assert_allclose(residual, X @ A - Y, atol=1e-13)
    np.testing.assert_allclose(gradient, np.sign(X).T @ (X @ A - Y) / 9, atol=1e-13)
    np.testing.assert_array_equal(gradient, dictionary_gradient(A, Y, X)[0])


def test_it_learns_to_the_precision_of_the_numbers_where_others_stall():
    dictionary, start = truth()
    batches = list(stream(dictionary, 60))
    models = {
        name: learned(NOODL(80, dict_init=start, **arguments), batches)
        for name, arguments in {
            "iht-ls": {},
            "iht": {"solver": "iht", "code_tol": 1e-13, "code_max_iter": 500},
            "biased": {"update": "arora-biased"},
            "unbiased": {"update": "arora-unbiased"},
        }.items()
    }
    for name in ("iht-ls", "iht"):
        assert error(models[name], dictionary) < 1e-9, name
    for name in ("biased", "unbiased"):
        assert error(models[name], dictionary) > 1e-2, name
    model = models["iht-ls"]
    (X,) = stream(dictionary, 1, seed=9)
    np.testing.assert_allclose(model.inverse_transform(model.transform(X)), X, atol=1e-8)
    assert model.score(X) > -1e-15
    assert 1.9 < model.mean_support_ < 2.1
    assert 0.5 < model.contraction_ < 0.9
    assert model.coherence_ == pytest.approx(np.abs(dictionary @ dictionary.T - np.eye(80)).max(), abs=1e-6)
    assert model.n_steps_ == 60
    assert model.n_samples_seen_ == 60 * 250


def test_the_contraction_is_that_of_the_error():
    dictionary, start = truth()
    model, errors = NOODL(80, dict_init=start), []
    for X in stream(dictionary, 40):
        model.partial_fit(X)
        errors += [error(model, dictionary)]
    measured = (errors[-1] / errors[9]) ** (1 / 30)
    assert model.contraction_ == pytest.approx(measured, rel=0.1)


def test_pruning_is_what_makes_the_supports_exact():
    dictionary, start = truth()
    rng = np.random.default_rng(0)
    exact = {}
    for solver in ("iht-ls", "iht", "iht-ls-unpruned"):
        model = learned(NOODL(80, dict_init=start, solver=solver, dict_step=10.0), stream(dictionary, 8))
        X, _, code = make_sparse_dictionary_data(500, n_nonzero=3, dictionary=dictionary, random_state=rng)
        exact[solver] = (np.sign(model.transform(X)) == np.sign(code)).all(axis=1).mean()
    assert exact["iht-ls"] > 0.99
    assert exact["iht"] > 0.99
    assert exact["iht-ls-unpruned"] < 0.9


def test_single_precision_stays_single_and_reaches_its_floor():
    dictionary, start = truth(dtype=np.float32)
    model = learned(NOODL(80, dict_init=start), (X.astype(np.float32) for X in stream(dictionary, 60)))
    assert model.components_.dtype == np.float32
    (X,) = stream(dictionary, 1, seed=9)
    assert model.transform(X.astype(np.float32)).dtype == np.float32
    assert model.transform(X).dtype == np.float64
    assert 1e-9 < error(model, dictionary) < 5e-6
    model.partial_fit(X)  # a stream keeps the precision that it began with
    assert model.components_.dtype == np.float32


def test_a_stream_in_the_same_chunks_gives_the_same_and_fit_is_such_a_stream():
    dictionary, start = truth()
    X = np.concatenate(list(stream(dictionary, 4)))
    chunks = [X[:250], X[250:500], X[500:750], X[750:]]
    whole = NOODL(80, dict_init=start, max_iter=1, batch_size=250, shuffle=False).fit(X)
    parts = learned(NOODL(80, dict_init=start), chunks)
    np.testing.assert_array_equal(parts.components_, whole.components_)
    assert (parts.n_steps_, parts.n_iter_, whole.n_steps_, whole.n_iter_) == (4, 0, 4, 1)
    other = learned(NOODL(80, dict_init=start), [X[:500], X[500:]])  # a step is a step on all that it is given
    assert other.n_steps_ == 2
    assert not np.array_equal(other.components_, whole.components_)
    codes = [whole.transform(chunk) for chunk in chunks]
    np.testing.assert_allclose(np.concatenate(codes), whole.transform(X), atol=1e-12)


def test_small_batches_get_small_steps():
    dictionary, start = truth()
    steps = {}
    for size in (250, 25, 1):
        model = learned(NOODL(80, dict_init=start), stream(dictionary, 60, n_samples=size))
        steps[size] = model.dict_step_
        expected = 0.5 * 80 / model.mean_support_ * min(1, size * model.mean_support_ / 80 / 4)
        assert model.dict_step_ == pytest.approx(expected, rel=0.15 if size > 1 else 0.6)
        if size > 1:
            assert error(model, dictionary) < 0.5 * np.linalg.norm(start - dictionary) / np.linalg.norm(dictionary)
    assert steps[250] > steps[25] > steps[1]


def test_blind_start_finds_nearly_all_atoms():
    true = make_sparse_dictionary_data(1, n_features=64, n_components=96, random_state=0)[1]
    model = NOODL(96, code_step=0.2, dict_step=16.0, random_state=0)
    learned(model, stream(true, 100, n_samples=500, n_nonzero=3, exact=True))
    assert (match_dictionaries(model.components_, true).cosine > 0.99).mean() >= 0.9


def test_duplicate_atoms_are_replaced():
    true = np.eye(6)
    start = true.copy()
    start[1] = start[0] + 0.1 * start[2]  # the first atom twice, and nothing for the second
    (X,) = stream(true, 1, n_samples=400, n_nonzero=1)
    with pytest.warns(RuntimeWarning, match=r"dict_init\[0\] and dict_init\[1\] have a cosine of 0.995"):
        stuck = NOODL(dict_init=start).partial_fit(X)
    assert match_dictionaries(learned(stuck, [X] * 20).components_, true).cosine.min() < 0.5
    with pytest.warns(RuntimeWarning, match="have a cosine"):
        model = NOODL(dict_init=start, reinit="duplicates", reinit_steps=1).partial_fit(X)
    assert model.n_reinit_ == 1
    assert match_dictionaries(learned(model, [X] * 20).components_, true).cosine.min() > 0.999


def test_mixtures_become_what_their_samples_have_in_common():
    true, step = np.eye(6), {"dict_step": 0.1, "coef_min": 0.9}
    start = true.copy()
    start[1] = [0.6, 0.8, 0, 0, 0, 0]  # with the first atom, it makes up the second
    batches = list(stream(true, 20, n_samples=400, n_nonzero=1))
    stuck = learned(NOODL(dict_init=start, **step), batches)
    assert match_dictionaries(stuck.components_, true).cosine.min() < 0.95
    model = learned(NOODL(dict_init=start, reinit="mixtures", reinit_steps=1, **step), batches)
    assert model.n_reinit_ == 1
    np.testing.assert_allclose(model.components_, true, atol=1e-12)


def test_what_counts_as_a_mixture():
    rng = np.random.default_rng(0)
    code = np.where(rng.random((200, 6)) < 0.2, rng.choice([-1.0, 1.0], (200, 6)), 0)
    code[:, 1] = np.where(code[:, 0] != 0, code[:, 1], 0)  # never without another
    code[:, 2] *= 0.5  # too small
    code[:, 3] = 0
    code[:3, 3] = 0.1  # too few to tell
    assert mixtures(code, 1.0).tolist() == [False, True, True, False, False, False]
    assert mixtures(code, 0.8).tolist() == [False, True, False, False, False, False]


def test_unused_atoms_stay_unless_they_are_replaced():
    (X,) = stream(np.eye(6), 1, n_samples=400, n_nonzero=1)
    X = X[X[:, 5] == 0]
    idle = learned(NOODL(dict_init=np.eye(6)), [X] * 3)
    np.testing.assert_array_equal(idle.components_[5], np.eye(6)[5])
    assert idle.unused_steps_.tolist() == [0, 0, 0, 0, 0, 3]
    model = learned(NOODL(dict_init=np.eye(6), reinit="unused", reinit_steps=3), [X] * 3)
    assert model.n_reinit_ == 1
    assert any(np.array_equal(model.components_[5], sample) for sample in X)


def test_the_scale_of_the_data_can_be_left_to_the_estimator():
    dictionary, start = truth()
    batches = list(stream(dictionary, 30))
    models = [
        learned(NOODL(80, dict_init=start, scale="batch", coef_min=0.6), [c * X for X in batches]) for c in (1.0, 1e4)
    ]
    np.testing.assert_allclose(models[1].components_, models[0].components_, atol=1e-9)
    assert models[1].scale_ == pytest.approx(1e4 * models[0].scale_)
    X = batches[0]
    np.testing.assert_allclose(models[1].transform(1e4 * X), 1e4 * models[0].transform(X), rtol=1e-6, atol=1e-3)
    assert error(models[0], dictionary) < 1e-4
    automatic = learned(NOODL(80, dict_init=start, coef_min="auto"), batches)
    assert automatic.coef_min_ == pytest.approx(np.median(np.abs(batches[0] @ start.T).max(axis=1)) / 2)
    assert automatic.threshold_ == pytest.approx(0.1 * automatic.coef_min_)


@pytest.mark.filterwarnings("ignore:Orthogonal matching pursuit")  # it ends early, with the exact code
def test_other_codes_for_data_without_a_least_coefficient():
    dictionary, start = truth()
    model = learned(NOODL(80, dict_init=start), stream(dictionary, 40))
    (X,) = stream(dictionary, 1, seed=9)
    exact = model.transform(X)
    model.set_params(transform_algorithm="omp", transform_n_nonzero_coefs=3)
    np.testing.assert_allclose(model.transform(X), exact, atol=1e-6)
    model.set_params(transform_algorithm="lasso_cd", transform_alpha=0.1)
    shrunk = model.transform(X)
    assert np.abs(shrunk).sum() < np.abs(exact).sum()


def test_one_sample_one_feature_and_samples_of_zeros():
    assert NOODL().fit(np.array([[3.0]])).components_.tolist() == [[1.0]]
    model = NOODL(3, random_state=0).partial_fit(np.array([[1.0, 2.0]]))
    assert np.isfinite(model.components_).all()
    with pytest.warns(RuntimeWarning, match="coef_min = 1"):
        model = NOODL(2, random_state=0, coef_min="auto").partial_fit(np.zeros((5, 4)))
    assert model.n_dead_samples_ == 0
    assert not model.transform(np.zeros((2, 4))).any()
    counts = NOODL(2, random_state=0).fit(np.array([[3, 0], [0, 2], [1, 0]]))
    assert counts.components_.dtype == np.float64


def test_a_coefficient_that_nothing_reaches_is_told_once():
    dictionary, start = truth()
    first, second = stream(dictionary, 2)
    model = NOODL(80, dict_init=start, coef_min=100.0)
    with pytest.warns(RuntimeWarning, match="coef_min = 100: no sample has a correlation of half of it"):
        model.partial_fit(first)
    model.partial_fit(second)  # warnings are errors here
    assert model.n_dead_samples_ == 500
    np.testing.assert_allclose(model.components_, start, atol=1e-15)


def test_a_step_that_turns_the_atoms_round_is_told():
    dictionary, start = truth()
    (X,) = stream(dictionary, 1)
    with pytest.warns(RuntimeWarning, match="dict_step = 5000.0: .* of the atoms in use turned by more than"):
        NOODL(80, dict_init=start, dict_step=5000.0, update="arora-biased").partial_fit(X)
    # The residual of a code by least squares is at right angles to its atoms, so that none of them turns round.
    NOODL(80, dict_init=start, dict_step=5000.0).partial_fit(X)  # warnings are errors here


@pytest.mark.filterwarnings("ignore:dict_step")
def test_a_step_that_overflows_is_halved_and_then_refused():
    dictionary, start = truth()
    (X,) = stream(dictionary, 1)
    code = noodl_step(start, X, dict_step=1.0).code
    steepest = np.abs(dictionary_gradient(start, X, code)[0]).max()
    some, much = 10 / steepest, 1e4 / steepest  # 1e308 times ten is too large; halved a few times it is not
    halved = NOODL(80, dict_init=start, dict_step=1e308, coef_min=some, code_step=0.2).partial_fit(some * X)
    assert 1 <= halved.n_backoffs_ <= 5
    assert halved.dict_step_ == 1e308 * 0.5**halved.n_backoffs_
    assert np.isfinite(halved.components_).all()
    model = NOODL(80, dict_init=start, dict_step=1e308, coef_min=much)
    with pytest.raises(RuntimeError, match=r"dict_step = 1e\+308: the dictionary does not stay finite"):
        model.partial_fit(much * X)
    assert model.n_steps_ == 0
    np.testing.assert_allclose(model.components_, start, atol=1e-15)


def test_codes_that_diverge_leave_what_was_learned():
    dictionary, start = truth()
    first, second = stream(dictionary, 2)
    model = NOODL(80, dict_init=start).partial_fit(first)
    before = model.components_.copy()
    model.set_params(code_step=1.5, solver="iht")
    with pytest.raises(RuntimeError, match=r"step = 1.5 \(code_step of NOODL\): expected less than 2 / "):
        model.partial_fit(second)
    np.testing.assert_array_equal(model.components_, before)
    assert model.n_steps_ == 1


def test_fit_ends_when_nothing_changes_and_calls_back(capsys):
    dictionary, start = truth()
    X = np.concatenate(list(stream(dictionary, 4)))
    seen = []
    model = NOODL(80, dict_init=start, random_state=0, verbose=True, callback=lambda m: seen.append(m.change_)).fit(X)
    assert model.n_iter_ < 100
    assert len(seen) == model.n_steps_
    assert max(seen[-10:]) <= 1e-8
    assert capsys.readouterr().out.count("pass ") == model.n_iter_
    again = NOODL(80, dict_init=start, random_state=0, max_no_improvement=None, max_iter=3).fit(X)
    assert again.n_iter_ == 3


def test_it_is_cloned_pickled_and_leaves_its_start_alone():
    dictionary, start = truth()
    given = start.copy()
    model = learned(NOODL(80, dict_init=start), stream(dictionary, 2))
    np.testing.assert_array_equal(start, given)
    restored = pickle.loads(pickle.dumps(model))
    (X,) = stream(dictionary, 1, seed=9)
    np.testing.assert_array_equal(restored.partial_fit(X).components_, model.partial_fit(X).components_)
    assert clone(model).dict_init is not None


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("arguments", [{}, {"reinit": "both", "scale": "batch"}])
def test_a_stored_model_goes_on_as_if_nothing_had_happened(tmp_path, dtype, arguments):
    dictionary, start = truth(dtype=dtype)
    first, second = (X.astype(dtype) for X in stream(dictionary, 2))
    model = NOODL(80, dict_init=start, **arguments).partial_fit(first)
    model.save(tmp_path / "model.safetensors")
    loaded = NOODL.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.transform(first), model.transform(first))
    assert loaded.get_feature_names_out().tolist() == model.get_feature_names_out().tolist()
    np.testing.assert_array_equal(loaded.partial_fit(second).components_, model.partial_fit(second).components_)
    assert {name: type(value) for name, value in vars(loaded).items()} == {
        name: type(value) for name, value in vars(model).items()
    }
    NOODL().save(tmp_path / "fresh.safetensors")
    with pytest.raises(NotFittedError):
        NOODL.load(tmp_path / "fresh.safetensors").transform(first)


def test_feature_names_are_stored(tmp_path):
    import polars as pl

    frame = pl.DataFrame(np.eye(3), schema=["a", "b", "c"])
    NOODL(2, random_state=0).fit(frame).save(tmp_path / "m")
    loaded = NOODL.load(tmp_path / "m")
    assert loaded.feature_names_in_.tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match="feature names"):
        loaded.transform(frame.rename({"a": "z"}))


def test_what_cannot_be_stored_or_read_is_named(tmp_path, no_file_larger_than):
    path = tmp_path / "m"
    with pytest.raises(TypeError, match=r"callback = .*: expected None, because a function cannot be stored"):
        NOODL(callback=print).save(path)
    with pytest.raises(TypeError, match="random_state is a RandomState: expected an int or None"):
        NOODL(random_state=np.random.RandomState(0)).save(path)
    with pytest.raises(CannotWriteError, match=r"cannot write .*missing/m"):
        NOODL().save(tmp_path / "missing" / "m")
    with pytest.raises(FileNotFoundError):
        NOODL.load(path)
    model = NOODL(random_state=0).fit(np.eye(4))
    model.save(path)
    with no_file_larger_than(100), pytest.raises(CannotWriteError):
        model.save(path)
    np.testing.assert_array_equal(NOODL.load(path).components_, model.components_)
    checkpoint.save(path, {"class": "Other"})
    with pytest.raises(CorruptFileError, match="it holds no NOODL"):
        NOODL.load(path)


def test_a_code_by_matching_pursuit_has_at_most_all_atoms():
    X = np.random.default_rng(0).normal(size=(20, 50))
    model = NOODL(3, transform_algorithm="omp", random_state=0, max_iter=1, coef_min="auto").fit(X)  # a tenth is 5
    least_squares = X @ np.linalg.pinv(model.components_)
    np.testing.assert_allclose(model.transform(X), least_squares)
    np.testing.assert_allclose(model.set_params(transform_n_nonzero_coefs=3).transform(X), least_squares)
    with pytest.raises(ValueError, match="transform_n_nonzero_coefs = 4: expected 1 to 3"):
        model.set_params(transform_n_nonzero_coefs=4).transform(X)
    for call in (model.fit, NOODL(3, transform_algorithm="omp", transform_n_nonzero_coefs=4).partial_fit):
        with pytest.raises(ValueError, match="transform_n_nonzero_coefs = 4: expected 1 to 3"):
            call(X)
    assert np.isfinite(NOODL(3, transform_n_nonzero_coefs=4, random_state=0).fit(X).transform(X)).all()


GOOD = np.eye(4)
BAD = {
    "width": (lambda: NOODL().partial_fit(GOOD).partial_fit(GOOD[:, :3]), "X has 3 features.*expecting 4"),
    "codes": (lambda: NOODL(2, random_state=0).fit(GOOD).inverse_transform(GOOD), r"X.shape = \(4, 4\): expected 2"),
    "start shape": (lambda: NOODL(4, dict_init=GOOD[:3]).fit(GOOD), r"dict_init.shape = \(3, 4\): expected \(4, 4\)"),
    "start zero": (lambda: NOODL(4, dict_init=np.diag([1, 1, 0, 1])).fit(GOOD), r"dict_init\[2\] is zero"),
    "step shape": (lambda: noodl_step(GOOD, GOOD[:, :2], dict_step=1.0), r"X.shape = \(4, 2\): expected 4 features"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    call, message = BAD[name]
    with pytest.raises((ValueError, TypeError), match=message):
        call()
