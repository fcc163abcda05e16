import pytest
import torch

from engram.optim import RMSpropEpsInside


def test_a_step_is_the_formula_s():
    p = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    optimizer, expected, square = RMSpropEpsInside([p], lr=0.1, alpha=0.8, eps=0.5), p.detach().clone(), 0.0
    for _ in range(3):
        p.grad = p.detach() * 3
        square = 0.8 * square + 0.2 * p.grad**2
        expected -= 0.1 * p.grad / (square + 0.5).sqrt()
        optimizer.step()
        torch.testing.assert_close(p.detach(), expected, rtol=1e-12, atol=0)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_a_sparse_gradient_is_refused():
    p = torch.ones(4, 3, requires_grad=True)
    p.grad = torch.ones(4, 3).to_sparse()
    with pytest.raises(RuntimeError, match=r"shape \(4, 3\) is sparse: expected dense"):
        RMSpropEpsInside([p]).step()
