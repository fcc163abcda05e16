import pytest
import torch

from engram.plasticity.alpha import KINDS, draw, kind, make_alpha


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("wanted", [*KINDS, 1, 5])
def test_kind_is_what_was_asked_for(wanted):
    assert kind(make_alpha(wanted, 3, 4)) == wanted


@pytest.mark.parametrize("rank", [1, 2, 8])
def test_a_product_of_factors_has_the_scale_of_what_it_replaces(rank):
    alpha = make_alpha(rank, 200, 300)
    draw(alpha, 0.01, seeded(), normal=True)
    assert torch.linalg.matrix_rank(alpha.dense(), rtol=1e-4) == rank
    assert alpha.dense().std().item() == pytest.approx(0.01, rel=0.2)
    draw(alpha, 0.01, seeded())
    assert alpha.dense().min() >= 0
    assert 0.004 < alpha.dense().max() <= 0.01


@pytest.mark.parametrize(
    ("alpha", "error", "message"),
    [
        ("conection", ValueError, "alpha = 'conection': expected one of 'connection', 'post', 'homogeneous'"),
        (0, ValueError, "alpha = 0: expected at least 1"),
        (True, TypeError, "alpha = True: expected an int"),
    ],
)
def test_bad_input_is_refused(alpha, error, message):
    with pytest.raises(error, match=message):
        make_alpha(alpha, 3, 4)
