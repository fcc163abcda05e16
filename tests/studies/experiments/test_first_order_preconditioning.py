import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from engram.optim import FOP, auto_groups
from engram.studies.experiments.first_order_preconditioning import (
    bowl,
    cartpole,
    cifar,
    cosine,
    digits,
    experiment,
    overhead,
    training,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_bowl_is_as_specified():
    C = bowl.curvature()
    values = torch.linalg.eigvalsh(C)
    assert values[[0, -1]].tolist() == pytest.approx([0.01036, 6.7058], rel=1e-3)
    error = torch.randn(9, 32, generator=seeded(), dtype=torch.float64)
    root = torch.linalg.cholesky(C)
    noisy = bowl.noisy_gradient(error, root, 400_000, seeded(1))
    torch.testing.assert_close(noisy, C @ error, rtol=0.05, atol=0.05)
    target = torch.zeros_like(error)
    assert bowl.loss_of(error, target, C) == pytest.approx(float((error.T @ C @ error).trace()) / 64)


def test_a_rate_at_which_the_loss_rises_is_not_chosen(new_run):
    run = new_run()
    result = bowl.trial(bowl.Bowl(rates=(0.1, 0.2, 0.4), rho=0.0, steps=400), run)
    choice = run.choices["learning_rate"]
    assert choice["candidates"] == [0.1, 0.2, 0.4]  # beyond 2 / 6.7 plain descent diverges
    assert choice["scores"][2] is None
    assert choice["chosen"] == 0.2
    assert result["highest"] == 1


def test_a_rate_decays_from_its_start_to_0(new_run):
    optimizer = FOP([torch.zeros(2, requires_grad=True)], lr=0.1, structure="scalar")
    rates = []
    for step in (0, 50, 99):
        cosine.decay(optimizer, 0.1, step, 100)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[:2] == pytest.approx([0.1, 0.05])
    assert 0 < rates[2] < 1e-4
    noisy = {"batch_size": 16, "rates": (0.1,), "momentum": 0.9, "rho": 0.0, "steps": 400}
    decaying, constant = (bowl.trial(bowl.Bowl(**noisy, decays=decays), new_run()) for decays in (True, False))
    assert decaying["loss"] < constant["loss"] / 2


def test_steps_are_read_as_parts_of_newton_s():
    C, lr = bowl.curvature(), 0.1
    measures = bowl.read((torch.linalg.inv(C) / lr).numpy(), C, lr)
    assert measures["newton"] == pytest.approx([1.0] * 9)
    assert measures["alignment"] == pytest.approx(1)
    assert bowl.read(np.eye(9), C, lr)["flattest"] == pytest.approx(lr * 0.01036, rel=1e-3)


def test_after_few_steps_the_matrix_of_the_last_one_is_read(new_run):
    few = bowl.trial(bowl.Bowl(rates=(0.1,), steps=20), new_run())
    assert not np.allclose(few["matrix"], np.eye(9).ravel(), atol=1e-2)


def test_processor_times_are_not_taken_on_a_gpu():
    arms = experiment.arms("laptop")
    assert {arm: arms[arm].gpu for arm in ("overhead-adam", "cifar-momentum")} == {
        "overhead-adam": False,
        "cifar-momentum": True,
    }


def test_images_are_split_and_scaled_by_what_is_trained_on():
    (images, classes), (unseen, answers) = digits.data(seeded())
    assert images.shape == (1200, 1, 8, 8)
    assert unseen.shape == (597, 1, 8, 8)
    assert (len(classes), len(answers)) == (1200, 597)
    assert float(images.mean()) == pytest.approx(0, abs=1e-5)
    assert float(images.std()) == pytest.approx(1, abs=1e-5)
    rows = [{tuple(row) for row in part.flatten(1).tolist()} for part in (images, unseen)]
    assert not rows[0] & rows[1]
    assert not torch.equal(digits.data(seeded(1))[0][1], classes)


def test_what_is_preconditioned_are_the_kernels_or_nothing():
    net = digits.build(seeded())
    weights = [p for name, p in net.named_parameters() if name in digits.KERNELS]
    assert [tuple(p.shape) for p in weights] == [(16, 1, 3, 3), (32, 16, 3, 3)]
    for p, fan_in in zip(weights, (9, 144), strict=True):
        assert 0.9 / math.sqrt(fan_in) < p.abs().max() <= 1 / math.sqrt(fan_in)
    optimizer = training.optimizer_of(net, digits.Digits(), 0.02)
    assert [optimizer.preconditioner(p).shape for p in weights] == [(9, 9)] * 2
    for p in net.parameters():
        if all(p is not weight for weight in weights):
            with pytest.raises(ValueError, match="no preconditioner"):
                optimizer.preconditioner(p)
    scalar = training.optimizer_of(net, digits.Digits(structure="scalar"), 0.02)
    assert [scalar.preconditioner(p).ndim for p in weights] == [0, 0]
    alone = training.optimizer_of(net, digits.Digits(rho=0.0), 0.02)
    assert all(group["structure"] == "none" for group in alone.param_groups)


def test_advantages_are_discounted_sums_of_errors_up_to_an_end():
    reward, values = torch.rand(6, 1, generator=seeded()), torch.rand(7, 1, generator=seeded(1))
    over = torch.tensor([0, 0, 1, 0, 0, 0], dtype=torch.bool)[:, None]
    cut = over | torch.tensor([0, 0, 0, 0, 1, 0], dtype=torch.bool)[:, None]
    advantages = cartpole.advantages(reward, values, over, cut)
    g, gl = cartpole.GAMMA, cartpole.GAMMA * cartpole.LAMBDA
    error = [float(reward[t] + g * values[t + 1] * ~over[t] - values[t]) for t in range(6)]
    assert error[2] == pytest.approx(float(reward[2] - values[2]))
    expected = [
        error[0] + gl * error[1] + gl**2 * error[2], error[1] + gl * error[2], error[2],
        error[3] + gl * error[4], error[4], error[5],
    ]  # fmt: skip
    assert advantages[:, 0].tolist() == pytest.approx(expected)


def test_poles_go_on_where_they_were():
    config = cartpole.CartPole(worlds=4, rollout=60)
    net, rng = cartpole.build(seeded()), np.random.default_rng(0)
    carts = cartpole.Carts(4, rng)
    _, ended = cartpole.rollout(net, carts, config, seeded(1))
    assert ended
    state, numbers = {key: part.copy() for key, part in carts.state_dict().items()}, rng.bit_generator.state
    batch, _ = cartpole.rollout(net, carts, config, seeded(2))
    other = cartpole.Carts(4, rng)
    rng.bit_generator.state = numbers
    other.load_state_dict(state)
    again, _ = cartpole.rollout(net, other, config, seeded(2))
    assert all(torch.equal(batch[key], again[key]) for key in batch)
    # A step after an end only begins anew: nothing is learned from it.
    assert len(batch["reward"]) < 4 * 60
    assert (batch["reward"] == 1).all()


def test_learning_raises_what_was_better_than_expected():
    net = cartpole.build(seeded())
    optimizer = FOP(auto_groups(net, linear="left"), lr=1e-3, base="adam")
    batch, _ = cartpole.rollout(net, cartpole.Carts(8, np.random.default_rng(0)), cartpole.CartPole(), seeded())
    cartpole.learn(net, optimizer, batch)
    log = net["policy"](batch["seen"]).log_softmax(1).gather(1, batch["action"])
    better = batch["advantage"] > batch["advantage"].mean()
    change = (log - batch["log"])[:, 0].detach()
    assert change[better].mean() > change[~better].mean() + 0.01
    fitted = (net["value"](batch["seen"])[:, 0] - batch["target"]).square().mean()
    assert fitted < 0.9 * batch["target"].square().mean()


def test_photographs_are_scaled_by_what_is_trained_on():
    config = cifar.Cifar(images="digits", train_images=300, validation_images=100, test_images=50)
    (images, classes), (held_out, _), (unseen, answers) = cifar.data(config)
    assert (images.shape, held_out.shape, unseen.shape) == ((300, 1, 32, 32), (100, 1, 32, 32), (50, 1, 32, 32))
    assert float(images.mean()) == pytest.approx(0, abs=1e-4)
    assert float(images.std()) == pytest.approx(1, abs=1e-4)
    target = load_digits().target
    assert classes.tolist() == target[:300].tolist()
    assert answers.tolist() == target[-50:].tolist()


def test_convolutions_halve_the_side_but_for_the_first_if_asked():
    net = cifar.build(3, (2, 4, 6), seeded(), first_stride=1)
    x = torch.zeros(1, 3, 32, 32)
    assert [tuple(net[:depth](x).shape[1:]) for depth in (2, 4, 6)] == [
        (2, 32, 32),
        (4, 16, 16),
        (6, 8, 8),
    ]
    assert net(x).shape == (1, 10)
    assert cifar.build(1, (2, 4), seeded())[:4](x[:, :1]).shape == (1, 4, 8, 8)
    optimizer = training.optimizer_of(net, cifar.Cifar(), 0.01)
    assert [optimizer.preconditioner(layer.weight).shape for layer in (net[0], net[2], net[4])] == [(9, 9)] * 3


def test_all_rates_begin_with_the_same_network_and_see_the_same_batches(new_run):
    small = {"images": "digits", "train_images": 50, "validation_images": 20, "test_images": 20, "channels": (2, 3)}
    config = cifar.Cifar(**small, rho=0.0, steps=2, rates=(1e-12, 2e-12, 4e-12))
    run = new_run()
    cifar.trial(config, run)
    scores = run.choices["learning_rate"]["scores"]
    assert scores == pytest.approx([scores[0]] * len(scores), abs=1e-6)


def test_the_rate_of_preconditioners_is_chosen_between_two_choices_of_the_learning_rate(new_run):
    small = {"images": "digits", "train_images": 30, "validation_images": 10, "test_images": 10, "channels": (2,)}
    config = cifar.Cifar(**small, steps=2, rates=(0.01, 0.02, 0.04), rho=0.0, rhos=(1e-12, 2e-12, 4e-12))
    run = new_run()
    result = cifar.trial(config, run)
    assert list(run.choices) == ["first_learning_rate", "rho", "learning_rate"]
    assert result["rho"] == run.choices["rho"]["chosen"]
    assert result["rate"] == run.choices["learning_rate"]["chosen"]
    alone = cifar.trial(replace(config, rhos=(), rates=(result["rate"],)), new_run())
    # Preconditioners that hardly learn leave the optimiser as it is.
    assert result["unseen_loss"] == pytest.approx(alone["unseen_loss"])


def test_validation_compares_accuracies(new_run):
    small = {"images": "digits", "train_images": 200, "validation_images": 100, "test_images": 100, "channels": (2,)}
    run = new_run()
    cifar.trial(cifar.Cifar(**small, rho=0.0, steps=40, rates=(0.01, 0.03, 0.1)), run)
    scores = run.choices["learning_rate"]["scores"]
    assert len(set(scores)) > 1
    assert [100 * score for score in scores] == pytest.approx([round(100 * score) for score in scores])  # of 100 images
    assert all(0 <= score <= 1 for score in scores)


def test_what_a_slower_optimiser_costs_is_measured(new_run, monkeypatch):
    config = overhead.Overhead(momentum=0.9, channels=(2, 3), steps=9, batch_size=4)
    step, pace = FOP.step, overhead.time.process_time

    def slow(self, *args):
        end = pace() + 0.02
        while pace() < end:
            pass
        return step(self, *args)

    monkeypatch.setattr(FOP, "step", slow)
    result = overhead.trial(config, new_run())
    assert result["seconds_with_fop"] - result["seconds_alone"] == pytest.approx(0.02, rel=0.3)
    assert result["ratio_of_seconds"] > 2


def test_the_training_of_a_candidate_can_be_stopped_at_each_step(new_run, monkeypatch):
    small = {"images": "digits", "train_images": 20, "validation_images": 10, "test_images": 10, "channels": (2,)}
    run, beats = new_run(), []
    monkeypatch.setattr(run, "beat", beats.append)
    cifar.trial(cifar.Cifar(**small, rates=(0.01, 0.02), steps=2, batch_size=4), run)
    assert beats[:2] == ["candidate: 0%", "candidate: 50%"]
    assert len(beats) == 2 * len(run.choices["learning_rate"]["candidates"])
