import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.analysis import (
    BENCHMARKS,
    GeneralizationTask,
    architecture_information,
    classification_difficulty,
    control_task,
    distractor_task,
    few_shot_task,
    inductive_bias_complexity,
)

MNIST = BENCHMARKS["mnist"]


def modes(m, frequency, manifold="sphere"):
    """Degree and number of modes up to a frequency."""
    task = GeneralizationTask(1, m, 1.0, 2 * math.pi / frequency, 0.5, manifold=manifold)
    with warnings.catch_warnings():  # of less than one wavelength
        warnings.simplefilter("ignore")
        difficulty = task.difficulty()
    return difficulty.degree, 2 ** (difficulty.dim_theta_log2 - 1)


@pytest.mark.parametrize("K", [1, 3, 10])
def test_harmonics_are_counted_as_they_are_known(K):
    known = {1: 2 * K + 1, 2: (K + 1) ** 2, 3: (K + 1) * (K + 2) * (2 * K + 3) / 6}
    for m, number in known.items():
        degree, count = modes(m, math.sqrt(K * (K + m - 1)))
        assert degree == pytest.approx(K, rel=1e-12)
        assert count == pytest.approx(number, rel=1e-12)


def test_degree_solves_its_equation_also_where_it_cancels():
    assert modes(2, math.sqrt(6))[0] == pytest.approx(2, rel=1e-12)
    for m, M in ((1, 5.0), (48, 91.0), (10_000, 4.0), (3, 1e9)):
        K = modes(m, M)[0]
        assert K * (K + m - 1) == pytest.approx(M**2, rel=1e-12)


def test_modes_of_the_torus_are_about_the_whole_vectors_in_a_ball():
    for (m, M), (whole, ball) in {
        (1, 8): (17, 16),
        (2, 4): (49, 50.3),
        (2, 8): (197, 201.1),
        (3, 6): (925, 904.8),
    }.items():
        grid = np.stack(np.meshgrid(*[np.arange(-M, M + 1)] * m), -1).reshape(-1, m)
        assert ((grid**2).sum(1) <= M**2).sum() == whole
        assert modes(m, M, "torus")[1] == pytest.approx(ball, abs=0.05)


def test_mnist_step_by_step():
    difficulty = MNIST.difficulty()
    assert difficulty.max_frequency == pytest.approx(44.9988521419748, rel=1e-13)
    assert difficulty.degree == pytest.approx(38.96588494789594, rel=1e-13)
    assert 2**difficulty.dim_theta_log2 / (2 * 9 * 10) == pytest.approx(4.1295605680982e12, rel=1e-12)
    assert difficulty.wasserstein == pytest.approx(15.967177146785, rel=1e-12)
    assert difficulty.lipschitz == pytest.approx(6.80466517288812, rel=1e-12)
    assert difficulty.bits_per_dim == pytest.approx(19.9752723824186, rel=1e-12)
    assert difficulty.bits == pytest.approx(1.484803747935555e16, rel=1e-11)
    assert isinstance(difficulty.bits, float)
    assert difficulty.data_limited is False


@pytest.mark.parametrize(
    ("name", "bits"),
    [("svhn", 1.2129030245e31), ("cifar10", 3.4377180536e32), ("imagenet", 3.5832527938e41)]
    + [(f"cartpole-{T}", bits) for T, bits in enumerate((4.415e9, 3.326e17, 1.464e25, 4.689e32, 1.187e40), 1)]
    + [("reacher", 2.914e25), ("hopper", 7.613e58), ("half-cheetah", 1.718e66)],
)
def test_published_tasks(name, bits):
    assert BENCHMARKS[name].difficulty().bits == pytest.approx(
        bits, rel=1e-9 if name in ("svhn", "cifar10", "imagenet") else 5e-4
    )


def test_omniglot():
    task = BENCHMARKS["omniglot"]
    assert task.m == 447
    assert task.out_dim == pytest.approx(7.938327617552885e20, rel=1e-11)
    difficulty = task.difficulty()
    assert difficulty.degree == pytest.approx(114.59968, rel=1e-7)
    assert difficulty.dim_theta_log2 - math.log2(2 * task.out_dim) == pytest.approx(math.log2(1.28591592e122), abs=1e-8)
    assert difficulty.log10_bits == pytest.approx(145.2527, abs=1e-4)


@pytest.mark.parametrize(
    ("one", "other", "bits"),
    [("mnist", "mnist", 1.756813541e26), ("mnist", "cifar10", 8.383366407e44), ("cifar10", "mnist", 2.864131042e42)],
)
def test_a_distractor_costs_more_than_the_task(one, other, bits):
    task = BENCHMARKS[one]
    both = distractor_task(task, BENCHMARKS[other], out_dim=10)
    assert both.difficulty().bits == pytest.approx(bits, rel=1e-9)
    assert distractor_task(task, BENCHMARKS[other]).difficulty().bits > 1e9 * task.difficulty().bits


def test_sweeps_broadcast_and_equal_single_calls():
    errors = np.array([0.375, 0.0906])
    assert BENCHMARKS["imagenet"].difficulty(error=errors).bits == pytest.approx(
        [3.3095287455e41, 3.6036960065e41], rel=1e-9
    )
    table = MNIST.difficulty(m=np.arange(2, 30)[:, None], n=10.0 ** np.arange(1, 9)).log10_bits
    assert table.shape == (28, 8)
    assert table[3, 4] == MNIST.difficulty(m=5, n=1e5).log10_bits


tasks = st.builds(
    GeneralizationTask,
    n=st.integers(1, 10**7),
    m=st.floats(1, 300),
    radius=st.floats(1, 1e3),
    resolution=st.floats(0.01, 1),
    error=st.floats(1e-9, 0.4),
    n_discrete=st.integers(1, 1000),
    out_dim=st.integers(1, 1000),
    manifold=st.sampled_from(["sphere", "torus"]),
)


@given(tasks, st.floats(1e-3, 1e3))
def test_scale_does_not_matter_and_errors_count_by_dimension(task, scale):
    difficulty = task.difficulty()
    scaled = task.difficulty(radius=task.radius * scale, resolution=task.resolution * scale)
    assert scaled.bits_per_dim == pytest.approx(difficulty.bits_per_dim, rel=1e-9, abs=1e-9)
    if difficulty.dim_theta_log2 - difficulty.dim_free_log2 < 10:  # else what is left is lost in rounding
        assert scaled.dim_free_log2 == pytest.approx(difficulty.dim_free_log2, rel=1e-9, abs=1e-9)
    if difficulty.bits_per_dim > 0:
        assert difficulty.log2_bits == pytest.approx(difficulty.dim_free_log2 + math.log2(difficulty.bits_per_dim))
    else:
        assert difficulty.bits == 0
    assert difficulty.bits_per_dim - task.difficulty(error=2 * task.error).bits_per_dim == pytest.approx(1, rel=1e-9)


@given(tasks)
def test_more_samples_and_coarser_tasks_are_never_harder(task):
    bits = task.difficulty().log2_bits
    assert task.difficulty(n=2 * task.n).log2_bits <= bits
    assert task.difficulty(error=task.error * 2).log2_bits <= bits
    assert task.difficulty(resolution=task.resolution * 2).log2_bits <= bits


def test_data_that_settle_everything_leave_no_bits():
    enough = 2 ** MNIST.difficulty().dim_theta_log2 / MNIST.out_dim
    assert enough == pytest.approx(8.259e13, rel=1e-3)
    settled = MNIST.difficulty(n=enough * (1 + 1e-12))
    assert settled.bits == 0
    assert settled.log10_bits == -math.inf
    assert settled.data_limited
    nearly = MNIST.difficulty(n=enough * (1 - 1e-12))
    assert nearly.bits > 0
    assert nearly.data_limited
    assert not MNIST.difficulty(n=enough / 2).data_limited


def test_a_target_that_is_met_without_information_takes_none():
    easy = GeneralizationTask(n=10**6, m=1, radius=1.0, resolution=1.9, error=0.9, n_discrete=1)
    assert easy.difficulty().bits_per_dim < 0
    assert easy.difficulty().bits == 0


def test_bits_beyond_floats_are_refused_and_their_logarithm_is_there():
    difficulty = control_task(1000, 1, n=100).difficulty()
    assert 1000 < difficulty.log10_bits < math.inf
    with pytest.raises(OverflowError, match=r"there are 10\^\d+.* bits"):
        _ = difficulty.bits


def test_architectures_differ_by_a_bit_for_each_dimension_and_halving():
    task = BENCHMARKS["imagenet"]
    information = architecture_information(task, {"one": 0.4, "two": 0.2, "none": 0.0}, n_test=49_999)
    assert information["two"].bits - information["one"].bits == pytest.approx(
        2 ** information["one"].dim_free_log2, rel=1e-9
    )
    assert information["none"].task.error == 1 / 50_000
    with pytest.raises(ValueError, match=r"errors\['none'\] = 0.0: expected a number between 0 and 1; with n_test"):
        architecture_information(task, {"one": 0.4, "none": 0.0})
    with pytest.raises(ValueError, match=r"errors\['all'\] = 1.0: expected a number between 0 and 1$"):
        architecture_information(task, {"all": 1.0})
    with pytest.raises(ValueError, match=r"errors\['negative'\] = -0.1: expected a number between 0 and 1$"):
        architecture_information(task, {"negative": -0.1}, n_test=100)


def test_less_than_a_wavelength_is_warned_of():
    with pytest.warns(UserWarning, match=r"resolution = 2.5 radius"):
        MNIST.difficulty(radius=1.0, resolution=2.5)


def test_tasks_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="ways = 1"):
        few_shot_task(22.0, 29.0, 49.0, 5.0, ways=1, n_tasks=1e9, error=0.01)
    with pytest.raises(ValueError, match="m_within = 0"):
        few_shot_task(0.0, 29.0, 49.0, 5.0, n_tasks=1e9, error=0.01)
    with pytest.raises(ValueError, match="manifold = 'sphere' and 'torus'"):
        distractor_task(MNIST, BENCHMARKS["reacher"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: inductive_bias_complexity(n=10, m=2),
            "^missing radius, resolution, error: expected at least n, m, radius, resolution, error$",
        ),
        (lambda: MNIST.difficulty(foo=1), "^foo = 1: expected one of the arguments n, m, radius, .*, manifold$"),
        (
            lambda: MNIST.difficulty(m=np.array(["a"])),
            "^m = array of shape .*: expected a number, or an array of numbers$",
        ),
    ],
)
def test_inputs_that_are_none_are_named(make, message):
    with pytest.raises(TypeError, match=message):
        make()


@pytest.mark.parametrize(("name", "methods"), [("m", "'mle', 'twonn'"), ("resolution", "'evt', 'exact', 'sample'")])
def test_an_unknown_method_is_named_by_its_argument(name, methods):
    with pytest.raises(ValueError, match=f"^{name} = 'foo': expected a number, or one of {methods}$"):
        classification_difficulty(np.eye(4), np.arange(4), error=0.1, **{name: "foo"})


def test_a_data_set_from_measured_and_given_quantities():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 3))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    y = (X[:, 0] > 0).astype(int)
    X[:, 0] += np.where(y, 0.2, -0.2)
    measured = classification_difficulty(X, y, error=0.05)
    assert measured.dimension.value == pytest.approx(2, rel=0.1)
    assert measured.low < measured.difficulty.log10_bits < measured.high
    given_ = classification_difficulty(X, y, error=0.05, m=2, resolution=measured.margin.value)
    assert (given_.dimension, given_.margin, given_.low) == (None, None, given_.high)
    task = given_.difficulty.task
    assert (task.n, task.n_discrete, task.out_dim) == (600, 2, 1)
    assert task.radius == np.linalg.norm(X, axis=1).max()
    with pytest.raises(ValueError, match="y: expected at least two labels"):
        classification_difficulty(X, np.zeros(600), error=0.05, resolution=0.1)


def test_nan_is_no_class_where_the_margin_is_given_either():
    labels = np.array([0.0, 1.0, np.nan, 1.0])
    with pytest.raises(ValueError, match="y has nan as label 2: expected none"):
        classification_difficulty(np.eye(4), labels, error=0.1, m=2, resolution=0.1)


def test_a_masked_number_is_no_input():
    sizes = np.ma.masked_array([60000, 999999], [False, True])
    task = {"m": 14, "radius": 17.18, "resolution": 2.399, "error": 1e-3, "n_discrete": 10, "out_dim": 9}
    with pytest.raises(ValueError, match="n = nan: expected a finite number"):
        inductive_bias_complexity(n=sizes, **task)
