"""A call that is refused changes nothing."""

import pytest
import torch

from engram.optim import FOP, RMSpropEpsInside


@pytest.mark.parametrize("kind", [RMSpropEpsInside, FOP])
def test_a_sparse_gradient_moves_no_parameter(kind):
    dense, sparse = (torch.ones(2, requires_grad=True) for _ in range(2))
    optimizer = kind([{"params": [dense]}, {"params": [sparse]}], lr=1.0)
    dense.grad, sparse.grad = torch.ones(2), torch.ones(2).to_sparse()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()
    assert dense.tolist() == [1, 1]
    assert not optimizer.state
