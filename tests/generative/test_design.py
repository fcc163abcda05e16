import itertools

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.base import clone
from torch import nn
from torch.nn.utils import prune

from engram.generative.design import (
    GGS,
    NK,
    AdaLead,
    CbAS,
    Consensus,
    GibbsWithGradients,
    HillClimb,
    Population,
    RandomMutants,
    SeqCNN,
    cluster_reduce,
    consensus,
    decode,
    differentiated,
    encode,
    optimizer_of,
    top,
    train_epoch,
)

ALL = np.array(list(itertools.product(range(3), repeat=2)), dtype=np.uint8)  # nine states
SITES = torch.tensor([[0.0, 0.7, -0.4], [0.3, -0.2, 1.1]], dtype=torch.float64)


def additive(onehot):
    return (onehot.double() * SITES).sum((1, 2))


def quadratic(onehot):  # whose first order is not exact
    return additive(onehot) + 0.8 * onehot[:, 0, 1].double() * onehot[:, 1, 2].double()


def tokens_of(seed, n, length=12, vocab=20):
    return np.random.default_rng(seed).integers(vocab, size=(n, length)).astype(np.uint8)


def net_of(length=12, vocab=20, channels=8, seed=0):
    return SeqCNN(length, vocab, channels, generator=torch.Generator().manual_seed(seed))


def test_the_table_is_the_network():
    net, tokens = net_of(), tokens_of(0, 30)
    onehot = nn.functional.one_hot(torch.from_numpy(tokens).long(), 20).float()
    torch.testing.assert_close(net(torch.from_numpy(tokens)), net(onehot))
    plain, fused = differentiated(net, tokens, 20), net.first_order(tokens)
    np.testing.assert_allclose(fused.values, plain.values, atol=1e-5)
    np.testing.assert_allclose(fused.changes, plain.changes, atol=1e-5)
    np.testing.assert_allclose(net.predict(tokens), plain.values, atol=1e-5)
    here = np.take_along_axis(fused.changes, tokens[..., None].astype(int), 2)
    assert not here.any()


def test_the_table_has_the_gradients_of_the_network():
    net, tokens = net_of(), torch.from_numpy(tokens_of(1, 20))
    grads = []
    for x in (tokens, nn.functional.one_hot(tokens.long(), 20).float()):
        net.zero_grad()
        net(x).square().sum().backward()
        grads.append([weights.grad.clone() for weights in net.parameters()])
    for fused, plain in zip(*grads, strict=True):
        torch.testing.assert_close(fused, plain, atol=1e-4, rtol=1e-4)


def test_a_motif_may_move_within_what_is_constant():
    rows = np.zeros((5, 20), np.uint8)
    for shift in range(5):
        rows[shift, 6 + shift : 9 + shift] = (3, 7, 1)
    values = net_of(20).predict(rows)
    np.testing.assert_allclose(values, values[0], atol=1e-6)


def test_training_lowers_the_error_and_is_the_same_again():
    tokens = tokens_of(2, 300, 8, 4)
    labels = NK(np.random.default_rng(0), 8, 4, k=0)(tokens)
    nets = []
    for _ in range(2):
        net, rng = net_of(8, 4, 16), np.random.default_rng(0)
        optimizer = optimizer_of(net, 3e-3)
        losses = [train_epoch(net, optimizer, tokens, labels, rng, batch_size=32) for _ in range(30)]
        nets.append(net.state_dict())
    assert losses[-1] < 0.5 * labels.var() < losses[0]
    assert all(torch.equal(nets[0][name], nets[1][name]) for name in nets[0])
    with pytest.raises(ValueError, match="labels"):
        train_epoch(net, optimizer, tokens, labels * np.nan, rng)


def test_weighted_draws_favour_low_labels():
    drawn, net = [], net_of(5, 2, 2)

    def noted(rows):
        drawn.append(rows[:, 0].numpy())
        return SeqCNN.forward(net, rows)

    net.forward = noted
    tokens = np.repeat(np.array([[0] * 5, [1] * 5], np.uint8), 5000, axis=0)
    labels = np.repeat([0.0, 3.0], 5000)
    train_epoch(net, optimizer_of(net), tokens, labels, np.random.default_rng(0))
    assert np.concatenate(drawn).mean() == pytest.approx(0.2, abs=0.02)  # weights 1 and 1 / 4


def test_of_an_additive_energy_the_first_order_is_exact():
    order = differentiated(additive, ALL, 3)
    for row, tokens in enumerate(ALL):
        for place, letter in itertools.product(range(2), range(3)):
            mutant = tokens.copy()
            mutant[place] = letter
            gain = SITES[range(2), mutant.tolist()].sum() - SITES[range(2), tokens.tolist()].sum()
            assert order.changes[row, place, letter] == pytest.approx(float(gain))


def transitions(sampler):
    """Return the probability of going from each state to each other, and the energies."""
    order = sampler.first_order(ALL)
    log_q = sampler.log_proposal(order.changes)
    matrix = np.zeros((9, 9))
    for state, (move, _) in itertools.product(range(9), enumerate(range(6))):
        place, letter = divmod(move, 3)
        mutant = ALL[state].copy()
        mutant[place] = letter
        target = int(np.flatnonzero((mutant == ALL).all(1))[0])
        if target == state:
            continue
        old, new = (type(order)(order.values[[n]], order.changes[[n]]) for n in (state, target))
        ratio = np.exp(sampler.log_ratio(old, new, ALL[[state]], np.array([move])))[0]
        accepted = 1 - min(1, ratio) if sampler.accept == "author" else min(1, ratio)
        matrix[state, target] = np.exp(log_q[state, move]) * accepted
    return matrix + np.diag(1 - matrix.sum(1)), order


@pytest.mark.parametrize("energy", [additive, quadratic])
def test_balanced_acceptance_is_in_detailed_balance(energy):
    sampler = GibbsWithGradients(energy, 0.9, vocab=3)
    matrix, order = transitions(sampler)
    target = np.exp(order.values / 0.45 - logsumexp(order.values / 0.45))
    flow = target[:, None] * matrix
    np.testing.assert_allclose(flow, flow.T, atol=1e-12)
    np.testing.assert_allclose(target @ matrix, target, atol=1e-12)
    author, _ = transitions(GibbsWithGradients(energy, 0.9, accept="author", vocab=3))
    assert np.abs(target @ author - target).max() > 0.01


def test_of_an_additive_energy_the_balanced_ratio_is_that_of_the_sums():
    sampler = GibbsWithGradients(additive, 0.7, vocab=3)
    order = sampler.first_order(ALL)
    sums = np.exp(order.changes.reshape(9, -1) / 0.7).sum(1)
    old, new = (type(order)(order.values[[n]], order.changes[[n]]) for n in (0, 1))
    ratio = np.exp(sampler.log_ratio(old, new, ALL[[0]], np.array([4])))  # place 1 becomes letter 1
    assert ratio[0] == pytest.approx(sums[0] / sums[1])


def test_of_a_constant_energy_moves_are_uniform_and_one_of_a_letter_is_to_stay():
    sampler = GibbsWithGradients(lambda x: 0.0 * x.sum((1, 2)), n_proposals=20_000, vocab=4)
    tokens = tokens_of(3, 2, 6, 4)
    _, parents, moves = sampler.propose(tokens, np.random.default_rng(0))
    stays = moves % 4 == tokens[parents, moves // 4]
    assert stays.mean() == pytest.approx(1 / 4, abs=0.01)
    np.testing.assert_allclose(np.bincount(moves, minlength=24) / len(moves), 1 / 24, atol=0.004)


@pytest.mark.parametrize("accept", ["balanced", "paper", "author", "always", "greedy"])
def test_a_round_makes_new_mutants_of_one_letter(accept):
    net, tokens = net_of(), tokens_of(4, 10)
    sampler = GibbsWithGradients(net, 0.1, 30, accept, clusters=4)
    population, info = sampler.step(Population(tokens, net.predict(tokens)), np.random.default_rng(0))
    distances = (population.tokens[:, None] != tokens).sum(2).min(1)
    assert (distances == 1).all()
    assert len(np.unique(population.tokens, axis=0)) == len(population.tokens) == info.unique > 0
    np.testing.assert_allclose(population.scores, net.predict(population.tokens), atol=1e-5)
    assert info.parents == 4
    assert 0 < info.accepted <= 1
    if accept == "always":
        assert info.accepted == 1


def test_a_run_never_comes_back_to_the_start_and_climbs():
    net, tokens = net_of(), tokens_of(5, 20)
    start = Population(tokens, net.predict(tokens))
    final, rounds = GibbsWithGradients(net, 0.02, 30, clusters=8).run(start, 5, np.random.default_rng(0))
    again, _ = GibbsWithGradients(net, 0.02, 30, clusters=8).run(start, 5, np.random.default_rng(0))
    np.testing.assert_array_equal(final.tokens, again.tokens)
    assert len(rounds) == 5
    assert np.median(final.scores) > start.scores.max()
    assert not {row.tobytes() for row in final.tokens} & {row.tobytes() for row in tokens}


def test_a_run_ends_where_nothing_is_accepted():
    flat = GibbsWithGradients(lambda x: 0.0 * x.sum((1, 2)), accept="greedy", vocab=3)
    start = Population(ALL, np.zeros(9))
    final, rounds = flat.run(start, 5, np.random.default_rng(0))
    assert final is start
    assert [info.unique for info in rounds] == [0]


def test_an_energy_that_is_not_finite_is_told_with_its_round():
    sampler = GibbsWithGradients(lambda x: x.sum((1, 2)) * float("nan"), vocab=3)
    with pytest.raises(ValueError, match="energy") as error:
        sampler.run(Population(ALL, np.zeros(9)), 2, np.random.default_rng(0))
    assert "round = 0" in error.value.__notes__[0]


def test_the_best_of_each_cluster_stays():
    centres = np.repeat(np.array([[0] * 6, [5] * 6, [9] * 6], np.uint8), 3, axis=0)
    centres[[1, 4, 7], 0] = 1
    scores = np.array([0.0, 3.0, 1.0, 5.0, 5.0, 1.0, 0.0, 1.0, 2.0])
    assert cluster_reduce(centres, scores, 3).tolist() == [1, 3, 8]
    assert cluster_reduce(centres, scores, 9).tolist() == list(range(9))
    assert top(Population(centres, scores), 2).scores.tolist() == [5, 5]


@pytest.mark.parametrize("kind", [RandomMutants, HillClimb, AdaLead, CbAS])
def test_searches_climb_and_go_on_from_their_state(kind):
    landscape = NK(np.random.default_rng(0), 8, 4, k=0)
    start = tokens_of(6, 50, 8, 4)

    def search():
        return kind(start, landscape(start), population_size=200, vocab=4, rng=np.random.default_rng(1))

    whole, first, second = search(), search(), search()
    for number in range(12):
        whole.tell(landscape(whole.ask()))
        if number < 6:
            first.tell(loss=-landscape(first.ask()))
    second.load_state_dict(first.state_dict())
    for _ in range(6):
        second.tell(landscape(second.ask()))
    np.testing.assert_array_equal(whole.tokens, second.tokens)
    assert whole.best(5).scores.min() > landscape(start).max()
    with pytest.raises(RuntimeError, match="call ask before"):
        whole.tell([1.0])
    with pytest.raises(ValueError, match="expected"):
        whole.load_state_dict({"tokens": start})


def test_the_consensus_is_the_parent():
    assert consensus(encode(["ARND", "ARNC", "ARDD", "CRND"])).tolist() == encode(["ARND"])[0].tolist()


def test_the_consensus_of_the_start_is_all_that_its_search_asks_for():
    start = encode(["ARND", "ARNC", "ARDD", "CRND"])
    search = Consensus(start[1:], np.array([1.0, 2.0, 3.0]), population_size=2)
    for fitness in (9.0, 8.0):
        asked = search.ask()
        np.testing.assert_array_equal(asked, start[:1])
        search.tell([fitness])
    assert search.best(3).scores.tolist() == [9, 3]
    other = Consensus(start[1:], np.array([1.0, 2.0, 3.0]), population_size=2)
    other.load_state_dict(search.state_dict())
    np.testing.assert_array_equal(other.ask(), start[:1])


def test_random_mutants_are_of_the_start_however_they_score():
    start = tokens_of(9, 6, 8, 4)
    search = RandomMutants(start, np.arange(6.0), letters=3, population_size=500, vocab=4)
    for _ in range(3):
        asked = search.ask()
        distances = (asked[:, None] != start).sum(2)
        assert (distances == 3).any(1).all()
        parents = np.bincount(distances.argmin(1), minlength=6)
        assert parents.min() > 50  # also of those with low scores
        search.tell(asked.sum(1) + 100)
    assert search.best(4).scores.min() > 100
    with pytest.raises(ValueError, match="letters = 9"):
        RandomMutants(start, np.zeros(6), letters=9, vocab=4)


SMALL = {"n_nodes": 300, "channels": 8, "epochs": 20, "batch_size": 16, "smooth_epochs": 10, "rounds": 4, "clusters": 8}


def written(seed, n=80):
    tokens = tokens_of(seed, n, 8, 4)
    return ["".join("ACGT"[token] for token in row) for row in tokens], (tokens == 2).sum(1).astype(float)


def test_the_estimator_designs_better_sequences_and_the_same_again():
    sequences, y = written(0)
    design = GGS("ACGT", random_state=0, lr=3e-3, **SMALL).fit(sequences, y)
    samples = design.sample(16)
    assert samples == design.sample(16) == clone(design).fit(sequences, y).sample(16)
    assert not set(samples) & set(sequences)
    assert np.median([row.count("G") for row in samples]) > np.median(y) + y.std()
    assert design.consensus_ == "".join("ACGT"[n] for n in consensus(encode(sequences, "ACGT")))
    assert not np.allclose(design.labels_, design.noisy_labels_)
    np.testing.assert_array_equal(design.set_params(gamma=0.0).fit(sequences, y).labels_, design.noisy_labels_)


def test_a_sequence_with_several_labels_is_told_and_may_take_their_mean():
    sequences, y = written(2)
    sequences, y = [*sequences, sequences[3]], np.append(y, y[3] + 2)
    with pytest.warns(UserWarning, match=rf"sequences\[3\] and \[80\] are equal, with scores {y[3]:g}, {y[80]:g}"):
        every = GGS("ACGT", random_state=0, **SMALL).fit(sequences, y)
    assert len(every.start_.scores) == 81
    mean = GGS("ACGT", random_state=0, duplicates="mean", **SMALL).fit(sequences, y)
    assert mean.start_.scores[3] == y[3] + 1
    assert len(mean.start_.scores) == 80
    with pytest.raises(ValueError, match=r"sequences\[3\] and \[80\] are equal"):
        GGS("ACGT", duplicates="error", **SMALL).fit(sequences, y)


def test_predictions_far_above_all_that_was_measured_are_told():
    tokens = np.random.default_rng(3).choice([0, 1, 3], size=(80, 8))
    tokens[np.arange(0, 80, 2), np.arange(40) % 8] = 2  # at most one G: more of them are beyond the data
    sequences, y = ["".join("ACGT"[token] for token in row) for row in tokens], (tokens == 2).sum(1)
    steep = GGS("ACGT", random_state=0, **(SMALL | {"rounds": 8, "lr": 1e-2, "gamma": 0.0}))
    with pytest.warns(UserWarning, match=r"extrapolation: .* a median of [3-5]\..*, where 1 is the most measured"):
        best = steep.fit(sequences, y).sample(4)
    assert min(row.count("G") for row in best) > 2
    flat = clone(steep).set_params(rounds=1, gamma=1.0)  # with no such warning
    assert flat.fit(sequences, y).predict(flat.sample(4)).max() < 2


def epistatic(seed, n):
    """Return random sequences of four letters of twenty, and the exponential of random site and pair terms."""
    rng = np.random.default_rng(seed)
    sites, pairs = rng.normal(size=(4, 20)), rng.normal(size=(3, 20, 20))
    tokens = np.unique(rng.integers(20, size=(n, 4)).astype(np.uint8), axis=0)

    def truth(rows):
        rows = rows.astype(int)
        return np.exp(sites[np.arange(4), rows].sum(1) + sum(pairs[n, rows[:, n], rows[:, n + 1]] for n in range(3)))

    return tokens, truth


def test_designs_are_the_same_in_any_unit_of_the_labels():
    tokens, truth = epistatic(0, 600)
    y, sequences = truth(tokens), decode(tokens)
    design = GGS(kernel=3, n_nodes=1000, rounds=6, channels=32, random_state=0)
    designed = design.fit(sequences, y).sample(32)
    predicted, labels = design.predict(designed), design.labels_
    assert np.median(truth(encode(designed))) > 3 * y.mean()
    assert np.corrcoef(design.predict(sequences), y)[0, 1] > 0.3
    for scale, offset in ((1, 60), (1000, 0), (0.01, -3)):
        assert design.fit(sequences, scale * y + offset).sample(32) == designed
        np.testing.assert_allclose(design.predict(designed), scale * predicted + offset, rtol=1e-6)
        np.testing.assert_allclose(design.labels_, scale * labels + offset, rtol=1e-6)


def test_a_network_that_is_worse_than_the_mean_of_its_own_labels_is_told():
    sequences, y = written(4)
    lazy = GGS("ACGT", random_state=0, **(SMALL | {"epochs": 1, "smooth_epochs": 1, "lr": 0.0}))
    worse = r"the network predicts what it learned worse than their mean would \(a squared error of"
    with pytest.warns(UserWarning, match=f"^y: {worse}"), pytest.warns(UserWarning, match=f"^labels_: {worse}"):
        lazy.fit(sequences, y)


@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (1, 60), (1000, 0)])
def test_the_parents_of_adalead_are_the_same_in_any_unit(scale, offset):
    tokens, scores = tokens_of(0, 6, 4, 4), np.arange(6) / 3  # 1 / 5 of the range is the step between two scores
    alone = {"recombination": 0.0, "mutation": 0.0, "population_size": 50, "vocab": 4}
    search = AdaLead(tokens, scale * scores + offset, kappa=0.2, **alone)
    assert {row.tobytes() for row in search.ask()} == {row.tobytes() for row in tokens[4:]}


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ({"temperature": 0.0}, "temperature = 0.0"),
        ({"gamma": -1.0}, "gamma = -1"),
        ({"clusters": 0}, "clusters = 0"),
        ({"n_proposals": 0}, "n_proposals = 0"),
        ({"kernel": 9}, "kernel = 9: expected at most 8"),
        ({"n_nodes": 3}, "n_nodes = 3"),
        ({"epochs": 0}, "^epochs = 0"),
        ({"smooth_epochs": 0}, "^smooth_epochs = 0"),
    ],
)
def test_bad_settings_of_the_estimator(arguments, pattern):
    sequences, y = written(1)
    with pytest.raises(ValueError, match=pattern):
        GGS("ACGT", **(SMALL | arguments)).fit(sequences, y)


def test_a_token_beyond_the_alphabet_is_refused():
    net = SeqCNN(8, 4, 4, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=r"x\[0, 0\] = 200: expected below 4"):
        net(torch.full((2, 8), 200, dtype=torch.uint8))


def test_a_search_keeps_its_own_sequences_and_only_measured_ones():
    tokens, scores = np.zeros((1, 12), np.uint8), np.zeros(1)
    search = RandomMutants(tokens, scores, population_size=3, vocab=2)
    tokens[:], scores[:] = 1, 7
    assert search.ask().sum(1).tolist() == [1, 1, 1]
    assert search.best(1).scores.tolist() == [0]
    climb = HillClimb(np.zeros((1, 4), np.uint8), np.zeros(1), population_size=4, vocab=2)
    asked = climb.ask()
    with pytest.warns(RuntimeWarning, match=r"3 of 4 individuals .*: left out"):
        climb.tell(np.array([7.0, np.nan, np.nan, np.nan]))
    assert climb.scores.tolist() == [7, 0]
    assert climb.tokens[0].tolist() == asked[0].tolist()


def test_tokens_call_layers_that_have_hooks_and_run_under_autocast():
    net, tokens = net_of(), tokens_of(0, 5)
    onehot = torch.nn.functional.one_hot(torch.from_numpy(tokens).long(), 20).float()
    prune.l1_unstructured(net.conv, "weight", 0.5)
    with torch.no_grad():
        net.conv.weight_orig.mul_(-2)
    torch.testing.assert_close(net(torch.from_numpy(tokens)), net(onehot))
    first = net.first_order(tokens)
    np.testing.assert_allclose(first.values, net(onehot).detach(), rtol=1e-5)
    np.testing.assert_allclose(first.changes, differentiated(net, tokens, 20).changes, rtol=1e-4, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_allclose(net_of().predict(tokens), net_of().predict(tokens[::-1])[::-1])


class Doubled(nn.Linear):
    def forward(self, input):
        return 2 * super().forward(input)


@pytest.mark.parametrize(
    ("name", "layer"), [("dense", Doubled(4, 8)), ("readout", Doubled(8, 1)), ("conv", nn.Conv1d(3, 4, 2, padding=1))]
)
def test_tokens_call_layers_that_were_replaced(name, layer):
    net = SeqCNN(5, 3, 4, 2, generator=torch.Generator().manual_seed(0))
    setattr(net, name, layer)
    tokens = np.array([[0, 1, 2, 1, 0], [2, 2, 1, 0, 0]], np.uint8)
    onehot = nn.functional.one_hot(torch.from_numpy(tokens).long(), 3).float()
    torch.testing.assert_close(net(torch.from_numpy(tokens)), net(onehot))
    np.testing.assert_allclose(net.first_order(tokens).values, net(onehot).detach(), rtol=1e-5)


def test_an_energy_without_a_finite_slope_is_named():
    start = Population(ALL[:2], np.zeros(2))
    for kink in (torch.sqrt, lambda x: -torch.sqrt(x)):  # the distance from a sequence, at that sequence
        sampler = GibbsWithGradients(lambda x, kink=kink: kink((x - x.detach()).square().sum((1, 2))), vocab=3)
        with pytest.raises(ValueError, match=r"energy\(x\) has a gradient that is NaN or infinite"):
            sampler.run(start, 1, np.random.default_rng(0))


def test_windows_of_very_long_sequences_are_the_right_ones():
    net = SeqCNN(33_000, 2, 1, 1)
    with torch.no_grad():
        for layer in (net.conv, net.dense, net.readout):
            layer.weight.fill_(1.0)
            layer.bias.zero_()
        net.conv.weight[0, 0] = 0.0
    tokens = np.zeros((1, 33_000), np.uint8)
    tokens[0, -1] = 1  # the largest window, beyond 16 bits
    assert np.flatnonzero(net.first_order(tokens).changes.any((0, 2))).tolist() == [32_999]


@pytest.mark.parametrize("name", ["conv.weight", "dense.bias"])
def test_a_network_that_is_not_finite_predicts_no_finite_number(name):
    net, tokens = net_of(), tokens_of(0, 5)
    with torch.no_grad():
        net.get_parameter(name).fill_(torch.nan)
    assert np.isnan(net.predict(tokens)).all()
    assert np.isnan(net.first_order(tokens).values).all()


def test_tokens_that_change_before_the_backward_pass_are_told():
    net, tokens = net_of(), torch.from_numpy(tokens_of(0, 5))
    values = net(tokens)
    tokens.fill_(0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        values.sum().backward()


def test_second_derivatives_by_tokens_are_those_by_one_hot_rows():
    net, tokens = net_of(), torch.from_numpy(tokens_of(0, 5))
    parameters, derivatives = list(net.parameters()), []
    for x in (tokens, nn.functional.one_hot(tokens.long(), 20).float()):
        first = torch.autograd.grad(net(x).sin().sum(), parameters, create_graph=True)
        second = torch.autograd.grad(sum(gradient.square().sum() for gradient in first), parameters)
        derivatives.append([*first, *second])
    assert all(gradient.any() for gradient in derivatives[0])
    torch.testing.assert_close(*derivatives)


def test_tokens_have_gradients_of_each_sample():
    net, tokens = net_of(), torch.from_numpy(tokens_of(0, 3))

    def value(weights, sample):
        return torch.func.functional_call(net, weights, (sample[None],))[0]

    grads = torch.func.vmap(torch.func.grad(value), (None, 0))(dict(net.named_parameters()), tokens)
    for sample, prediction in enumerate(net(tokens)):
        expected = torch.autograd.grad(prediction, net.conv.weight, retain_graph=True)[0]
        torch.testing.assert_close(grads["conv.weight"][sample], expected, atol=1e-5, rtol=1e-4)
