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


@pytest.mark.parametrize("option", [{"lr": -1.0}, {"alpha": 2.0}, {"eps": 0.0}, {"eps": "small"}])
def test_options_of_a_group_are_those_of_the_constructor(option):
    p, q = (torch.ones(2, requires_grad=True) for _ in range(2))
    group, ((name, value),) = {"params": [q]} | option, option.items()
    with pytest.raises((TypeError, ValueError), match=f"{name} = {value!r}: expected"):
        RMSpropEpsInside([{"params": [p]}, group])
    optimizer = RMSpropEpsInside([p])
    with pytest.raises((TypeError, ValueError), match=f"{name} = {value!r}: expected"):
        optimizer.add_param_group({"params": [q]} | option)
    assert len(optimizer.param_groups) == 1
    optimizer.add_param_group({"params": [q], "eps": 4.0, "alpha": 1.0, "lr": 1.0})
    q.grad = torch.ones(2)
    optimizer.step()
    assert q.tolist() == [0.5, 0.5]


def test_complex_parameters_are_refused():
    with pytest.raises(RuntimeError, match=r"a parameter of shape \(3,\) is complex: expected real ones"):
        RMSpropEpsInside([torch.zeros(3, dtype=torch.complex64, requires_grad=True)])
