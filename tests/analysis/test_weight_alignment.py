import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from engram.analysis import alignment_by_layer, alignment_score, predicted_change, shuffled_control
from engram.nn import wide_cnn, wide_mlp
from engram.rules import AlignZero, train_step


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def matrices(seed, post=5, pre=7):
    drawn = np.random.default_rng(seed)
    return drawn.normal(size=(post, pre)), drawn.normal(size=(post, pre))


@given(st.integers(0, 50), st.floats(0.1, 1e6), st.sampled_from([(5, 7), (9, 4)]))
def test_the_score_knows_neither_scale_sign_nor_rotation(seed, scale, shape):
    change, other = matrices(seed, *shape)
    turn = np.linalg.qr(np.random.default_rng(seed + 1).normal(size=(shape[0], shape[0])))[0]
    assert alignment_score(change, change) == pytest.approx(1)
    assert alignment_score(change, -scale * turn @ change) == pytest.approx(1)
    assert alignment_score(scale * change, other) == pytest.approx(alignment_score(change, scale * other))
    assert 0 < alignment_score(change, other) < 1


def test_disjoint_inputs_score_nothing():
    change, other = np.eye(3, 6), np.eye(3, 6, 3)
    assert alignment_score(change, other) == 0


def test_the_score_is_the_expectation_of_the_authors_estimate():
    change, predicted = matrices(3)
    noise = np.random.default_rng(0).normal(size=(200_000, 7))
    by_change, by_prediction = noise @ change.T @ change, noise @ predicted.T @ predicted
    estimate = (by_change * by_prediction).sum() / np.sqrt((by_change**2).sum() * (by_prediction**2).sum())
    assert alignment_score(change, predicted) == pytest.approx(estimate, abs=1e-3)


def test_what_zero_learns_is_what_is_predicted_of_its_errors():
    model = wide_mlp((6, 5, 4, 3), dtype=torch.float64, generator=generator())
    x = torch.randn(8, 6, generator=generator(1), dtype=torch.float64)
    target = torch.randn(8, 3, generator=generator(2), dtype=torch.float64)
    rule, initial, errors = AlignZero(), {k: v.clone() for k, v in model.state_dict().items()}, torch.zeros_like(target)
    state, sgd = rule.init(model, generator()), torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(10):
        errors += (model(x).detach() - target) / 8
        train_step(rule, model, sgd, (x, target), state)
    predicted = predicted_change(model, initial, x, errors)
    for name, change in predicted.items():
        torch.testing.assert_close(model.state_dict()[name] - initial[name], 0.5 * change, rtol=0, atol=1e-13)
    scores = alignment_by_layer(model.state_dict(), initial, predicted)
    assert scores == {name: pytest.approx(1) for name in ("0.weight", "3.weight", "6.weight")}
    control = shuffled_control(model.state_dict(), initial, predicted, generator())
    assert all(0 < control[name] < 0.95 for name in scores)


def test_kernels_are_unfolded():
    model = wide_cnn(4, (1,), generator=generator())
    before = model.state_dict()
    after = {name: value + torch.ones_like(value) for name, value in before.items()}
    scores = alignment_by_layer(after, before, {name: torch.ones_like(value) for name, value in before.items()})
    assert scores == {"0.weight": pytest.approx(1), "5.weight": pytest.approx(1)}


def test_bad_input():
    weights, other = {"a.weight": torch.ones(2, 2)}, {"a.weight": torch.ones(2, 3)}
    with pytest.raises(ValueError, match=r"initial lacks a\.weight"):
        alignment_by_layer(weights, {}, weights)
    with pytest.raises(ValueError, match=r"trained\['a.weight'\].shape = \(2, 3\): expected \(2, 2\)"):
        alignment_by_layer(other, weights, weights)
    with pytest.raises(ValueError, match=r"trained\['a.weight'\] is initial\['a.weight'\], up to rounding"):
        alignment_by_layer(weights, weights, weights)
    model = wide_mlp((3, 2), generator=generator())
    with pytest.raises(ValueError, match="initial lacks"):
        predicted_change(model, {}, torch.ones(4, 3), torch.ones(4, 2))
    with pytest.raises(ValueError, match=r"error_sum.shape = \(4, 1\): expected \(4, 2\)"):
        predicted_change(model, model.state_dict(), torch.ones(4, 3), torch.ones(4, 1))


def test_predicting_a_change_leaves_the_model_alone():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    before = copy.deepcopy(model.state_dict())
    initial = {name: p.detach().clone() for name, p in model.named_parameters()}
    predicted_change(model, initial, torch.randn(4, 2), torch.ones(4, 3))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_state_of_a_network_with_batch_norm_is_where_it_began():
    net, x = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)).eval(), torch.randn(5, 2)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    net[1].running_mean += 5
    changed = predicted_change(net, state, x, torch.ones(5, 1))
    assert changed.keys() == dict(net.named_parameters()).keys()
    parameters = {name: state[name] for name in changed}
    net[1].running_mean -= 5
    torch.testing.assert_close(changed, predicted_change(net, parameters, x, torch.ones(5, 1)))
