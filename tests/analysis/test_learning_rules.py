import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from engram.analysis import alignment_score, extra_memory, forward_equivalents, gradient_cosine, peak_memory
from engram.rules import FeedbackAlignment


def test_cosines_are_of_layers_and_zero_is_flagged():
    reference = {"0.weight": torch.tensor([[3.0]]), "0.bias": torch.tensor([4.0]), "1.weight": torch.ones(2)}
    cosine = gradient_cosine({"0.weight": torch.tensor([[5.0]]), "0.bias": torch.zeros(1)}, reference)
    assert cosine["0"] == (pytest.approx(0.6), False)
    assert cosine["1"] == (0.0, True)
    assert gradient_cosine(reference, {"1.weight": torch.zeros(2)} | {k: v for k, v in reference.items() if "0" in k})[
        "1"
    ] == (0.0, True)


def test_unknown_or_misshapen_gradients_are_refused():
    with pytest.raises(ValueError, match="grads has b"):
        gradient_cosine({"b": torch.ones(1)}, {"a": torch.ones(1)})
    with pytest.raises(ValueError, match=r"grads\['a'\].shape = \(2,\)"):
        gradient_cosine({"a": torch.ones(2)}, {"a": torch.ones(1)})


@given(st.integers(0, 1000), st.integers(1, 8), st.integers(1, 8), st.integers(1, 8))
@settings(max_examples=50, deadline=None)
def test_the_alignment_score_is_the_cosine_of_what_changes_do_to_inputs(seed, post, other, pre):
    rng = np.random.default_rng(seed)
    A, B = rng.normal(size=(post, pre)), rng.normal(size=(other, pre))
    left, right = A.T @ A, B.T @ B
    cosine = (left * right).sum() / np.linalg.norm(left) / np.linalg.norm(right)
    assert alignment_score(A, B) == pytest.approx(cosine)
    turned = np.linalg.qr(rng.normal(size=(post, post)))[0] @ A
    assert alignment_score(7 * turned, A) == pytest.approx(1)


def test_the_alignment_score_is_the_expectation_of_the_one_by_noise():
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(5, 7)), rng.normal(size=(5, 7))
    u, v = A.T @ A @ (noise := rng.normal(size=(7, 400_000))), B.T @ B @ noise
    by_noise = (u * v).sum() / np.sqrt((u * u).sum() * (v * v).sum())
    assert alignment_score(A, B) == pytest.approx(by_noise, abs=0.01)


def test_a_change_that_is_none_is_refused():
    with pytest.raises(ValueError, match="predicted is zero"):
        alignment_score(np.ones((2, 3)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"predicted.shape = \(2, 2\)"):
        alignment_score(np.ones((2, 3)), np.zeros((2, 2)))


def test_memory_counts_what_is_there_at_one_time():
    tensor = torch.ones(1000)

    def call():
        first = tensor * 2  # 4000 bytes, then gone
        second = (first + 1).view(10, 100).t()
        del first
        return second * second

    assert peak_memory(call) == 8000
    assert extra_memory(call, lambda: tensor + 1, state=[torch.ones(5)]) == 4020


def test_backpropagation_costs_three_forward_passes_without_the_way_back_to_the_input():
    model, x, target = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), torch.ones(4, 8), torch.ones(4, 8)
    rule = FeedbackAlignment()
    state = rule.init(model, torch.Generator())
    assert forward_equivalents(lambda: rule.update(model, x, target, state), lambda: model(x)) == 2.5
    with pytest.raises(ValueError, match="forward has no product"):
        forward_equivalents(lambda: model(x), lambda: None)


def test_products_are_counted_where_a_gradient_by_the_input_is_taken():
    net, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), torch.ones(5, 3, requires_grad=True)
    assert forward_equivalents(lambda: torch.autograd.grad(net(x).sum(), x), lambda: net(x)) == 2
    assert forward_equivalents(lambda: torch.func.vmap(net)(x), lambda: net(x)) == 1


def test_the_peak_of_sparse_tensors_is_that_of_their_parts():
    assert peak_memory(lambda: torch.eye(100).to_sparse().coalesce().values().sum()) >= 100 * 100 * 4
