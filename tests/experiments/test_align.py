import pytest
import torch

from engram.experiments.align.digits import PER_RATE, RULES, digits, rule_of, targets, trained
from engram.nn import wide_mlp
from engram.rules import train_step


def test_targets_sum_to_nothing():
    wanted = targets(torch.arange(10))
    assert wanted.diagonal().tolist() == pytest.approx([0.9] * 10)
    torch.testing.assert_close(wanted.sum(1), torch.zeros(10))


def test_a_step_is_one_on_the_published_loss_at_the_published_rate():
    """The loss is the mean over batch and classes of squared errors, the rate 4."""
    x, classes = digits()
    x, target = x[:20].double(), targets(classes[:20]).double()
    ours, theirs = (
        wide_mlp((64, 8, 10), dtype=torch.float64, generator=torch.Generator().manual_seed(0)) for _ in range(2)
    )
    optimizer = torch.optim.SGD(ours.parameters(), lr=4 * PER_RATE)
    train_step(rule_of("backprop"), ours, optimizer, (x, target), None)
    (theirs(x) - target).square().mean().backward()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.data, other.data - 4 * other.grad, rtol=0, atol=1e-12)


def test_all_rules_start_alike_and_take_the_same_batches():
    seeds, chosen = torch.tensor([1, 2, 3]), torch.arange(40)
    still = [
        trained(rule_of(rule), 6, chosen, rate=1e-9, epochs=1, batch=20, seeds=seeds).get_parameter("0.weight")
        for rule in RULES
    ]
    assert all(torch.allclose(weight, still[0], atol=1e-6) for weight in still)
    one, other = (trained(rule_of("fa"), 6, chosen, rate=4.0, epochs=1, batch=20, seeds=seeds) for _ in range(2))
    assert torch.equal(one[0].weight, other[0].weight)
