import pickle

import pytest
import torch

from engram.tasks import function_2d
from engram.tasks.functions_2d import FUNCTIONS, REGIONS, TRAINING

SHARES = {  # of the square that is of the class, in closed form
    "xor": 1 / 2,
    "nxor": 1 / 2,
    "and": 1 / 4,
    "or": 3 / 4,
    "qand": 1 / 4,
    "central-circle": 3.14159265 * 0.64 / 4,
    "small-central-circle": 3.14159265 * 0.16 / 4,
    "square": 1 / 4,
    "cross": 1 - 0.7**2,
    "triangle": 2 / 4,
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_points_are_labelled_by_one_class_each(name):
    function = function_2d(name, seeded())
    x, y = function.sample((5, 40), seeded(1))
    assert x.shape == (5, 40, 2)
    assert y.shape == (5, 40, 5 if name == "blobs" else 2)
    assert ((y == 1).sum(-1) == 1).all()
    assert ((y == -1).sum(-1) == y.shape[-1] - 1).all()
    again = function_2d(name, seeded()).sample((5, 40), seeded(1))
    assert torch.equal(x, again[0])
    assert torch.equal(y, again[1])
    assert x.abs().max() <= (1 if name in REGIONS else 2)


@pytest.mark.parametrize("name", SHARES)
def test_regions_have_their_size(name):
    _, y = function_2d(name).sample((100_000,), seeded())
    assert (y[:, 1] > 0).float().mean().item() == pytest.approx(SHARES[name], abs=0.006)


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("xor", (-0.5, -0.5), (-0.5, 0.5)),
        ("qand", (-0.5, 0.5), (0.5, 0.5)),
        ("slice", (0.5, 0.4), (0.4, 0.5)),
        ("cross", (0.9, 0.2), (0.9, 0.4)),
        ("triangle", (0.0, 0.9), (0.0, -0.6)),
    ],
)
def test_regions_lie_where_they_should(name, inside, outside):
    assert REGIONS[name](*torch.tensor(inside)).item()
    assert not REGIONS[name](*torch.tensor(outside)).item()


def test_drawn_functions_differ():
    for name in ("circle", "random-xor", "blobs"):
        one, other = (function_2d(name, seeded(seed)).sample((500,), seeded(9)) for seed in (0, 1))
        assert not torch.equal(one[0], other[0]) or not torch.equal(one[1], other[1])
    labels = {name: function_2d(name).sample((4000,), seeded(3))[1] for name in ("two-moon", "rotated-two-moon")}
    assert torch.equal(*labels.values())
    assert "two-moon" in TRAINING


def test_two_moons_fill_the_square_and_turn_by_a_right_angle():
    x, _ = function_2d("two-moon").sample((4000,), seeded(3))
    turned, _ = function_2d("rotated-two-moon").sample((4000,), seeded(3))
    assert x.min(0).values.tolist() == pytest.approx([-1, -1], abs=0.4)
    assert x.max(0).values.tolist() == pytest.approx([1, 1], abs=0.4)
    torch.testing.assert_close(turned, torch.stack([-x[:, 1], x[:, 0]], 1))


def test_all_functions_can_be_pickled_and_follow_the_default_precision():
    torch.set_default_dtype(torch.float64)
    try:
        for name in FUNCTIONS:
            function = pickle.loads(pickle.dumps(function_2d(name)))
            points, targets = function.sample((4,), torch.Generator().manual_seed(0))
            assert points.dtype == targets.dtype == torch.float64, name
    finally:
        torch.set_default_dtype(torch.float32)
