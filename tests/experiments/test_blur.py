import itertools

import pytest
import torch

from engram.experiments.blur import baselines, experiment, images, planar, search
from engram.learned.blur import BlurNetwork, Genome
from engram.tasks.functions_2d import function_2d


def test_networks_are_normed_as_their_names_say():
    arms = experiment.arms("laptop")
    networks = {name: planar.network_of(arms[name].config) for name in planar.arms}
    normed = {name: (network.norm, network.norm_forward, network.norm_backward) for name, network in networks.items()}
    assert normed["normed-forward"] == ("batch", True, False)
    assert normed["normed-backward"] == ("batch", False, True)
    assert normed["not-normed"][0] is None
    assert normed["evolved"] == ("batch", True, True)


def test_images_are_split_in_three_parts_that_share_none():
    for data_set in images.data_sets("digits"):
        rows = [{tuple(row) for row in part.tolist()} for part in data_set.x]
        assert all(rows)
        for one, other in itertools.combinations(rows, 2):
            assert not one & other
        assert [len(part) for part in data_set.x] == [len(part) for part in data_set.classes]
        assert data_set.x[0].mean().abs() < 1e-4
        assert data_set.x[0].std(correction=0) == pytest.approx(1, abs=1e-3)
    assert [part.x[0].shape[1] for part in images.data_sets("digits")] == [100, 784, 64]


def test_only_the_last_batch_of_a_life_is_of_images_that_the_search_asks(new_run):
    small = images.data_sets("digits")[0]
    network, (x, y) = images.task_lives(small, ((0, 5), (5, 10)), (3,), 4, new_run())
    assert network.sizes == (100, 3, 5)
    assert x.shape == (5, 2, images.BATCH, 100)
    lives, asked = ({tuple(row) for row in part.tolist()} for part in small.x[:2])
    assert {tuple(row) for row in x[:-1].reshape(-1, 100).tolist()} <= lives
    assert {tuple(row) for row in x[-1].reshape(-1, 100).tolist()} <= asked
    assert ((y == 1).sum(-1) == 1).all()


def test_networks_of_descent_side_by_side_are_each_descended_alone(new_run):
    run = new_run()
    x, y = function_2d("xor").sample((50, 3, 16), run.generator)
    query = tuple(part[:1] for part in function_2d("xor").sample((1, 200), run.generator))
    run.generator.manual_seed(1)
    together = baselines.descended("momentum", 0.3, (2, 4, 2), search.Test((x, y), query, query), run.generator)
    run.generator.manual_seed(1)
    weights = [
        torch.empty(3, post, pre + 1).uniform_(-(pre**-0.5), pre**-0.5, generator=run.generator)
        for pre, post in ((2, 4), (4, 2))
    ]
    shares = torch.zeros(3, len(search.TIMES))
    for life in range(3):
        alone = [weight[life].clone().requires_grad_() for weight in weights]
        sgd = torch.optim.SGD(alone, lr=0.3, momentum=0.9)
        for step in range(50):
            sgd.zero_grad()
            target = y[step, life].argmax(-1)
            torch.nn.functional.cross_entropy(baselines.answer(alone, x[step, life]), target).backward()
            sgd.step()
            if step + 1 in search.TIMES:
                right = baselines.answer(alone, query[0][0]).argmax(-1) == query[1][0].argmax(-1)
                shares[life, search.TIMES.index(step + 1)] = right.float().mean()
    assert together["asked"] == together["validation"] == pytest.approx(shares.mean(0).tolist(), abs=0.01)


def test_rates_of_descent_are_chosen_in_validation_for_each_time_and_kind(new_run, monkeypatch):
    curves = {  # of each kind and rate what is reached in validation and in the test: in the test all is the other way
        ("sgd", 0.01): ([0.1, 0.9], [0.9, 0.1]),
        ("sgd", 0.03): ([0.2, 0.8], [0.8, 0.2]),
        ("momentum", 0.01): ([0.3, 0.1], [0.7, 0.9]),
        ("momentum", 0.03): ([0.1, 0.1], [0.9, 0.9]),
    }

    def descended(kind, rate, *_):
        validation, asked = curves[kind, rate]
        return {"validation": [0.0, validation[0], 0.0, validation[1]], "asked": [0.0, asked[0], 0.0, asked[1]]}

    monkeypatch.setattr(baselines, "descended", descended)
    monkeypatch.setattr(new := new_run(), "choose", lambda name, rates, score: max(rates, key=score))
    nothing = torch.zeros(1, 1, 1), torch.zeros(1, 1, 1)
    descent = baselines.Descent((2, 4, 2), search.Test(nothing, nothing, nothing), new, rates=2)
    assert [descent.after(time, "sgd", "momentum") for time in (2, 10)] == [0.7, 0.1]
    assert descent.after(10, "momentum") == 0.9
    assert descent.best("sgd", "momentum")[1::2] == [0.7, 0.1]


def test_labels_change_after_ten_steps(new_run):
    run, seen = new_run(), []
    digits = images.data_sets("digits")[2]
    test = images.test_of(digits, 1, run)

    class Answers(BlurNetwork):
        def step(self, genome, state, x, y):
            seen.append(y)
            return state

        def forward(self, genome, state, x):
            return test.asked[1].roll(1, -1)

    network = Answers((64, 5, 10))
    assert images.relabelled(network, Genome.near_backprop(0.0, run.generator), test, run) == 1
    assert len(seen) == 20
    assert torch.equal(seen[9], test.batches[1][9])
    assert torch.equal(seen[10], test.batches[1][10].roll(1, -1))


def test_four_states_start_near_two(new_run):
    config = experiment.arms("smoke")["four-states"].config
    start = Genome.from_vector(planar.start_of(config, new_run()))
    assert start.n_states == 4
    near = Genome.near_backprop(0.0, torch.Generator())
    assert (start.nu[:2, :2] - near.nu).abs().max() < 0.5
    assert start.nu[2:].abs().max() < 0.5


def test_only_descent_is_a_gradient_field(new_run):
    descent = BlurNetwork.backprop((2, 5, 2), synapse_std=0.5)
    assert planar.antisymmetry(descent, Genome.backprop(1.0, dtype=torch.float64), new_run()) < 1e-10
    other = Genome.random(2, torch.Generator().manual_seed(0))
    assert planar.antisymmetry(BlurNetwork((2, 5, 2)), other, new_run()) > 0.01


def test_balanced_accuracy_weighs_classes_alike():
    y = torch.tensor([[1.0, -1.0]] * 9 + [[-1.0, 1.0]])
    always_first = torch.tensor([[1.0, 0.0]]).expand(10, 2)
    assert search.right(always_first, y).mean().item() == pytest.approx(0.9)
    assert search.balanced(always_first, y) == pytest.approx(0.5)
