"""Gradients that cannot be differentiated again say so, whatever reaches the backward pass."""

import pytest
import torch

from engram.nn.first_derivatives import differentiable_once


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y, count):
        ctx.save_for_backward(x, y)
        return x * y * count

    @staticmethod
    @differentiable_once("Product has no second derivative")
    def backward(ctx, saved, grad):
        x, y = saved
        return grad * y * 2, grad * x * 2, None


def gradients(loss, **options):
    x, y = (torch.tensor(value, requires_grad=True) for value in (3.0, 5.0))
    return x, torch.autograd.grad(loss(Product.apply(x, y, 2)), (x, y), **options)


# Where a sum's gradient, a constant, reaches the backward pass, torch's own decorator returns a constant.
@pytest.mark.parametrize("loss", [torch.sum, torch.square])
def test_the_first_derivative_is_right_and_a_second_is_refused_by_name(loss):
    _, expected = gradients(loss)
    x, first = gradients(loss, create_graph=True)
    torch.testing.assert_close([gradient.detach() for gradient in first], list(expected))
    assert not any(gradient.requires_grad for gradient in expected)
    with pytest.raises(NotImplementedError, match="Product has no second derivative"):
        torch.autograd.grad(first[0] + x.square(), x)
