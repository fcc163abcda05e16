"""A call that is refused changes nothing."""

import numpy as np
import pytest
import torch

from engram.generative.design import GGS, Ehrlich, Population, fitness, measurements, top
from engram.generative.design.seq_cnn import SeqCNN, optimizer_of, train_epoch


def test_a_failed_fit_leaves_an_earlier_design_whole():
    options = {"n_nodes": 12, "channels": 4, "epochs": 20, "lr": 0.01, "rounds": 2, "random_state": 0}
    design = GGS("AC", **options).fit(["AAAAAA", "AAAACA", "ACAAAA", "CAAAAA"], [0.0, 1.0, 1.0, 1.0])
    before = design.sample(3)
    other = ["CCCCCC", "CCCCAC", "CACCCC", "ACCCCC"]
    with pytest.raises(ValueError, match="k = 50"):
        design.set_params(k=50, epochs=60).fit(other, [0.0, 1.0, 1.0, 1.0])
    assert design.consensus_ == "AAAAAA"
    assert design.sample(3) == before


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (np.full((1, 8), 9, np.uint8), "expected below 4"),
        (np.zeros((1, 3), np.uint8), r"expected \(sequences, 8\)"),
    ],
)
def test_feasible_refuses_other_tokens(tokens, message):
    landscape = Ehrlich(np.random.default_rng(0), length=8, vocab=4, n_motifs=1)
    with pytest.raises(ValueError, match=message):
        landscape.feasible(tokens)


def test_a_refused_epoch_trains_nothing():
    net, rng = SeqCNN(6, 4, 4, 3, generator=torch.Generator().manual_seed(0)), np.random.default_rng(0)
    tokens, before, state = np.zeros((8, 6), np.uint8), net.readout.weight.detach().clone(), rng.bit_generator.state
    optimizer = optimizer_of(net, 1e-2)
    with pytest.raises(ValueError, match="batch_size = 0"):
        train_epoch(net, optimizer, tokens, np.zeros(8), rng, batch_size=0)
    tokens[7] = 9
    with pytest.raises(ValueError, match=r"tokens\[7, 0\] = 9"):
        train_epoch(net, optimizer, tokens, np.zeros(8), rng, batch_size=2, weighted=False)
    assert torch.equal(net.readout.weight, before)
    assert rng.bit_generator.state == state


def test_the_best_of_sequences_need_a_score_each():
    tokens = np.array([[0, 1], [1, 1]], np.uint8)
    for scores in (np.zeros(1), np.zeros(3)):
        with pytest.raises(ValueError, match=r"population.scores.shape = .* expected \(2\)"):
            top(Population(tokens, scores), 2)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1.0], r"^y\.shape = \(1,\): expected \(2\)"),
        ([1.0, np.inf], r"^y\[1\] is infinity"),
    ],
)
def test_labels_of_a_design_are_refused_by_their_name(y, message):
    with pytest.raises(ValueError, match=message):
        GGS("AC").fit(["AA", "AC"], y)
    with pytest.warns(UserWarning, match="^y: 2 of 2 are NaN"), pytest.raises(ValueError, match="y: expected at least"):
        GGS("AC").fit(["AA", "AC"], [np.nan, np.nan])


@pytest.mark.parametrize("y", [[1.0, 1.0, 1.0], [0.1 + 0.2, 0.3, 0.3]])
def test_labels_that_are_all_equal_teach_nothing(y):
    with pytest.raises(ValueError, match=r"^y: expected different numbers, not .* alone"):
        GGS("AC", kernel=2).fit(["AA", "AC", "CC"], y)


def test_a_window_longer_than_the_sequences_is_named_by_its_argument():
    with pytest.raises(ValueError, match=r"^kernel = 5: expected at most 4, the letters of a sequence"):
        GGS().fit(["ARND", "ARNE", "ARNQ"], [0.0, 1.0, 2.0])


@pytest.mark.parametrize("labels", [np.arange(8.0) + 60, np.arange(8.0) * 1000, np.arange(8.0) * 1e-6])
def test_labels_far_from_the_units_of_a_network_are_told(labels):
    net, tokens = SeqCNN(6, 4, 4, 3, generator=torch.Generator().manual_seed(0)), np.zeros((8, 6), np.uint8)
    with pytest.warns(UserWarning, match=r"labels have mean .*: expected about 0 and 1; standardise them before"):
        train_epoch(net, optimizer_of(net), tokens, labels, np.random.default_rng(0))
    standard = (labels - labels.mean()) / labels.std()
    train_epoch(net, optimizer_of(net), tokens, standard, np.random.default_rng(0))


def test_numbers_that_differ_by_rounding_are_the_same():
    with pytest.raises(ValueError, match="known: expected different numbers"):
        fitness(np.array([0.3]), np.array([0.1 + 0.2, 0.3]))
    assert len(measurements(["AR", "AR"], [0.1 + 0.2, 0.3], duplicates="error").scores) == 1
    with pytest.raises(ValueError, match="are equal, with scores"):
        measurements(["AR", "AR"], [0.3 + 1e-12, 0.3], duplicates="error")
