import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, linear

from engram.rules import FeedbackAlignmentLinear, feedback_alignment_linear


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("batch", [(), (5,), (2, 3)])
def test_with_the_weight_as_feedback_it_is_backpropagation(batch):
    x, W, b = drawn(*batch, 4), drawn(3, 4, seed=1), drawn(3, seed=2)
    ours = torch.autograd.grad(feedback_alignment_linear(x, W, b, W.detach()).square().sum(), (x, W, b))
    theirs = torch.autograd.grad(linear(x, W, b).square().sum(), (x, W, b))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_only_the_way_back_differs():
    x, W, B = drawn(5, 4), drawn(3, 4, seed=1), drawn(3, 4, seed=3).detach()
    y = feedback_alignment_linear(x, W, None, B)
    torch.testing.assert_close(y, linear(x, W))
    error = torch.randn(5, 3, generator=seeded(4), dtype=torch.float64)
    back, change = torch.autograd.grad(y, (x, W), error)
    torch.testing.assert_close(back, error @ B)
    torch.testing.assert_close(change, error.T @ x.detach())


def test_vmap_over_networks():
    x, W, B = drawn(7, 5, 4), drawn(7, 3, 4, seed=1), drawn(7, 3, 4, seed=2).detach()

    def gradient(x, W, B):
        return torch.func.grad(lambda x: feedback_alignment_linear(x, W, None, B).square().sum())(x)

    together = torch.func.vmap(gradient)(x.detach(), W.detach(), B)
    torch.testing.assert_close(together[2], gradient(x[2].detach(), W[2].detach(), B[2]))


def test_the_feedback_is_drawn_of_its_own_stored_and_not_learned():
    layer = FeedbackAlignmentLinear(40, 30, generator=seeded())
    same = FeedbackAlignmentLinear(40, 30, generator=seeded())
    assert torch.equal(layer.feedback, same.feedback)
    assert torch.corrcoef(torch.stack([layer.weight.flatten(), layer.feedback.flatten()]))[0, 1].abs() < 0.1
    assert layer.feedback.abs().max() <= 40**-0.5
    other = FeedbackAlignmentLinear(40, 30, generator=seeded(1))
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.feedback, layer.feedback)
    before = copy.deepcopy(layer.state_dict())
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(torch.randn(8, 40, generator=seeded())).square().sum().backward()
    optimizer.step()
    assert torch.equal(layer.feedback, before["feedback"])
    assert not torch.equal(layer.weight, before["weight"])
    assert FeedbackAlignmentLinear(4, 3, bias=False, generator=seeded()).bias is None


def test_weights_come_to_align_with_the_feedback():
    """The angle of the two hidden errors falls from a right angle to below 45 degrees on a linear task."""
    generator = seeded()
    target = 2 * torch.rand(10, 30, generator=generator) - 1
    hidden = FeedbackAlignmentLinear(30, 20, bias=False, generator=generator)
    output = FeedbackAlignmentLinear(20, 10, bias=False, generator=generator)
    for layer in (hidden, output):
        layer.weight.data = 0.01 * torch.randn(layer.weight.shape, generator=generator)
    output.feedback.copy_(torch.rand(10, 20, generator=generator) - 0.5)
    optimizer = torch.optim.SGD([*hidden.parameters(), *output.parameters()], lr=0.003)
    angles = []
    for _ in range(2001):
        x = torch.randn(1, 30, generator=generator)
        error = output(hidden(x)) - x @ target.T
        similarity = torch.cosine_similarity(error @ output.weight, error @ output.feedback).detach()
        angles.append(similarity.arccos().rad2deg().item())
        optimizer.zero_grad()
        (error.square().sum() / 2).backward()
        optimizer.step()
    assert sum(angles[:20]) / 20 == pytest.approx(90, abs=15)
    assert sum(angles[-20:]) / 20 < 45


def test_a_network_learns_digits_that_a_trained_output_alone_does_not():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)

    def accuracy(train_hidden):
        generator = seeded()
        network = nn.Sequential(
            FeedbackAlignmentLinear(64, 16, generator=generator),
            nn.ReLU(),
            FeedbackAlignmentLinear(16, 10, generator=generator),
        )
        learned = network.parameters() if train_hidden else network[2].parameters()
        optimizer = torch.optim.SGD(learned, lr=0.2)
        for _ in range(600):
            batch = torch.randint(1400, (32,), generator=generator)
            optimizer.zero_grad()
            cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
        return float((network(x[1400:]).argmax(1) == y[1400:]).float().mean())

    assert accuracy(True) > max(0.85, accuracy(False) + 0.05)
