import numpy as np
import pytest

from engram.analysis import BENCHMARKS, intrinsic_dimension
from engram.studies.experiments.generalization_difficulty.claims import bits_of_few_shots
from engram.studies.experiments.generalization_difficulty.data_sets import DataSet, images_of
from engram.studies.experiments.generalization_difficulty.dimensions import points_on
from engram.studies.experiments.generalization_difficulty.published import PUBLISHED

MNIST = pytest.mark.needs_data("mnist/t10k-images-idx3-ubyte.gz")


def test_few_shots_cost_the_published_bits_with_the_published_quantities():
    published = {"m_within": 22, "m": 29, "radius": 49.4064773081425, "margin": 5.477225575051661}
    assert bits_of_few_shots({"omniglot": published}) == pytest.approx(BENCHMARKS["omniglot"].difficulty().log10_bits)


def test_the_table_names_every_published_task():
    assert set(PUBLISHED) == set(BENCHMARKS)


@pytest.mark.parametrize(("shape", "m", "features"), [("sphere", 3, 4), ("torus", 3, 6), ("cube", 3, 3)])
def test_shapes_are_what_they_are_called(shape, m, features):
    points = points_on(shape, m, 1000, np.random.default_rng(0))
    assert points.shape == (1000, features)
    assert intrinsic_dimension(points).value == pytest.approx(m, rel=0.1)


@pytest.mark.parametrize(
    ("data", "count", "features", "classes", "radius"),
    [
        ("digits", 1797, 64, 10, 4.806),
        pytest.param("mnist", 10_000, 784, 10, 15.54, marks=MNIST),
        pytest.param(
            "cifar10-as-mnist", 10_000, 784, 10, 27.643, marks=pytest.mark.needs_data("cifar10-jpeg/train.parquet")
        ),
        pytest.param("omniglot", 4840, 11_025, 242, 45.59, marks=pytest.mark.needs_data("omniglot-small.zip")),
    ],
)
def test_data_are_scaled_as_published(data, count, features, classes, radius):
    points, labels, alphabets = images_of(DataSet(name=data))
    assert points.shape == (count, features)
    assert (points.min(), points.max()) == (0, 1)
    assert len(np.unique(labels)) == classes
    assert np.linalg.norm(points, axis=1).max() == pytest.approx(radius, abs=0.005)
    assert len(set(alphabets)) == (8 if data == "omniglot" else 0)
