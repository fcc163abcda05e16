"""A call that is refused changes nothing."""

import pytest
import torch

from engram.learned.updates import LearnedOptimizer
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


@pytest.mark.parametrize("kind", [RMSpropEpsInside, FOP, LearnedOptimizer])
def test_a_wrong_rate_is_refused_as_the_default_and_in_a_group(kind):
    p, q = (torch.ones(2, requires_grad=True) for _ in range(2))
    with pytest.raises(ValueError, match=r"lr = -1\.0: expected"):
        kind([{"params": [p], "lr": 0.1}], lr=-1.0)
    with pytest.raises(ValueError, match=r"lr = -2\.0: expected"):
        kind([{"params": [p], "lr": -2.0}])
    optimizer = kind([p], lr=0.1)
    with pytest.raises(ValueError, match=r"lr = -2\.0: expected"):
        optimizer.add_param_group({"params": [q], "lr": -2.0})
    assert len(optimizer.param_groups) == 1
