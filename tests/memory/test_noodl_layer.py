import numpy as np
import pytest
import torch

from engram.memory import NOODLLayer, iht_encode, noodl_step
from engram.tasks import make_sparse_dictionary_data, perturb_dictionary


def problem(seed=0):
    X, dictionary, code = make_sparse_dictionary_data(
        200, n_features=64, n_components=80, n_nonzero=3, random_state=seed
    )
    return X, dictionary, code, perturb_dictionary(dictionary, random_state=seed)


def layer_at(dictionary, **arguments):
    layer = NOODLLayer(64, 80, dtype=torch.float64, **arguments)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(dictionary))
    return layer


def test_forward_is_the_published_iteration():
    X, _, _, start = problem()
    for iterations in (1, 7, 100):
        code = layer_at(start, iterations=iterations)(torch.tensor(X)).numpy()
        expected = iht_encode(X, start, step=0.2, max_iter=iterations, tol=0.0, solver="iht").code
        np.testing.assert_allclose(code, expected, atol=1e-12)


def test_a_local_update_is_a_step_of_noodl():
    X, _, _, start = problem()
    layer = layer_at(start, dict_step=10.0)
    y = torch.tensor(X)
    code = layer(y)
    layer.local_update(y, code)
    expected = noodl_step(start, X, dict_step=10.0, step=0.2, tol=0.0, solver="iht").dictionary
    np.testing.assert_allclose(layer.weight.numpy(), expected, atol=1e-12)


def test_workers_exchange_the_sum_of_their_gradients_alone():
    X, _, _, start = problem()
    layer, y = layer_at(start), torch.tensor(X)
    code = layer(y)
    parts = [layer.local_gradient(y[i : i + 50], code[i : i + 50]) for i in range(0, 200, 50)]
    torch.testing.assert_close(torch.stack(parts).mean(0), layer.local_gradient(y, code))
    torch.testing.assert_close(
        layer.local_gradient(y.view(4, 50, 64), code.view(4, 50, 80)), layer.local_gradient(y, code)
    )


def test_it_learns_without_autograd():
    _, dictionary, _, start = problem()
    layer, rng = layer_at(start, dict_step=15.0, iterations=60), np.random.default_rng(0)
    for _ in range(30):
        X = make_sparse_dictionary_data(200, n_nonzero=3, dictionary=dictionary, random_state=rng)[0]
        y = torch.tensor(X)
        layer.local_update(y, layer(y))
    assert np.linalg.norm(layer.weight.numpy() - dictionary) / np.linalg.norm(dictionary) < 1e-3
    assert not layer.weight.requires_grad


def test_gradients_flow_where_they_are_wanted():
    X, _, _, start = problem()
    layer = layer_at(start, iterations=5)
    layer.weight.requires_grad_()
    y = torch.tensor(X[:2]).requires_grad_()
    assert torch.autograd.gradcheck(layer, (y,))
    layer(y).sum().backward()
    assert layer.weight.grad.abs().sum() > 0


def test_shapes_seeds_and_storage():
    layer, again = (NOODLLayer(5, 7, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(layer.weight, again.weight)
    torch.testing.assert_close(layer.weight.norm(dim=1), torch.ones(7))
    assert layer(torch.zeros(2, 3, 5)).shape == (2, 3, 7)
    again.load_state_dict(layer.state_dict())
    assert "5, 7, coef_min=1.0" in repr(layer)


LAYER = NOODLLayer(3, 4)
BAD = {
    "nan": (lambda: LAYER(torch.full((2, 3), float("nan"))), "the codes are not finite"),
    "empty": (lambda: LAYER.local_update(torch.zeros(0, 3), torch.zeros(0, 4)), "at least 1"),
    "meta": (lambda: LAYER(torch.zeros(2, 3, device="meta")), "input is torch.strided on meta: expected .* on cpu"),
    "sparse": (
        lambda: LAYER.local_update(torch.zeros(2, 3), torch.ones(2, 4).to_sparse()),
        "code is torch.sparse_coo on cpu: expected torch.strided on cpu, as the weights are",
    ),
    "samples": (lambda: LAYER.local_update(torch.zeros(2, 3), torch.zeros(3, 4)), "expected equally many samples"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    call, message = BAD[name]
    with pytest.raises((ValueError, TypeError), match=message):
        call()
