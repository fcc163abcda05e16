import pytest
import torch

from engram.tasks import DelayedAdd


def squared(targets, guess):
    return float((targets - guess).square().sum(0).mean())


def test_published_episodes():
    inputs, targets, mask = DelayedAdd().published()
    assert inputs.shape == targets.shape == (100, 400, 1)
    assert mask.all()
    assert inputs.sum() == 20113
    assert targets[:6, 0, 0].tolist() == [0.5, 0.5, 1, 0.5, 1, 0.25]
    assert (targets[:2] == 0.5).all()
    assert targets.unique().tolist() == [0.25, 0.5, 0.75, 1]
    assert squared(targets[:, 300:], 0.5) == pytest.approx(9.2169, abs=5e-5)
    assert squared(targets[:, :300], 0.5) == pytest.approx(9.2942, abs=5e-5)
    assert squared(targets[:, :300], targets[:, :300].mean(1, keepdim=True)) == pytest.approx(7.5767, abs=5e-5)


def test_as_the_authors_code_has_it():
    targets = DelayedAdd(wrap=True).published().targets
    assert (targets[:, :2] != 0.5).sum() < (targets[:, 5:7] != 0.5).sum()
    assert (targets[:6, 0] == 0.5).all()
    assert squared(targets[:, 300:], 0.5) == pytest.approx(9.3119, abs=5e-5)
    assert squared(targets[:, :300], 0.5) == pytest.approx(9.3585, abs=5e-5)


def test_terms_by_hand():
    task = DelayedAdd(delays=(0, 1), coefs=(1.0, -2.0), bias=0.25, length=3)
    inputs = torch.tensor([1.0, 0.0, 1.0])[:, None, None]
    assert task.episode(inputs).targets.flatten().tolist() == [1.25, -1.75, 1.25]


def test_bad_input():
    with pytest.raises(ValueError, match=r"coefs = \(0.5,\): expected 2, one for each delay"):
        DelayedAdd(coefs=(0.5,))
    with pytest.raises(ValueError, match="length = 50: expected 100, as published"):
        DelayedAdd(length=50).published()


def test_the_task_has_its_own_terms():
    delays = [2, 5]
    task = DelayedAdd(delays, [0.5, -0.25])
    delays.append(7)
    assert task == DelayedAdd((2, 5), (0.5, -0.25))
    assert hash(task) == hash(DelayedAdd((2, 5), (0.5, -0.25)))
