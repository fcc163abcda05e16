import itertools

import pytest
import torch

from engram.learned.blur import BlurNetwork, Genome
from engram.studies.experiments.blur import baselines, experiment, images, planar, search
from engram.tasks.functions_2d import function_2d


def test_networks_are_normed_as_their_names_say():
    arms = experiment.arms("laptop")
    networks = {name: planar.network_of(arms[name].config) for name in planar.arms}
    normed = {name: (network.norm, network.norm_forward, network.norm_backward) for name, network in networks.items()}
    assert normed["normed-forward"] == ("batch", True, False)
    assert normed["normed-backward"] == ("batch", False, True)
    assert normed["not-normed"][0] is None
    assert normed["evolved"] == ("batch", True, True)


@pytest.mark.parametrize(("name", "value"), [("n_states", 4), ("norm", "forward")])
def test_a_search_on_images_starts_from_a_genome_of_its_networks(name, value):
    with pytest.raises(ValueError, match=f"planar.{name} = {value!r}: expected"):
        images.ImageSearch(planar=planar.PlanarSearch(**{name: value}))


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
    setting = baselines.Setting(hidden_scale=3.0, output_scale=0.5, rate=0.3)
    together = baselines.descend("momentum", setting, (2, 4, 2), search.Test((x, y), query, query), run.generator)
    run.generator.manual_seed(1)
    weights = [
        scale * torch.empty(3, post, pre + 1).uniform_(-(pre**-0.5), pre**-0.5, generator=run.generator)
        for pre, post, scale in ((2, 4, 3.0), (4, 2, 0.5))
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


def test_a_gain_multiplies_normalised_inputs_whatever_the_scale_of_hidden_weights():
    generator = torch.Generator().manual_seed(0)
    hidden, output = torch.randn(4, 3, generator=generator), torch.randn(2, 5, generator=generator)
    x = torch.randn(50, 2, generator=generator)
    inputs = x @ hidden[:, :-1].T
    units = (3 * (inputs - inputs.mean(0)) / inputs.std(0, correction=0)).tanh()
    expected = units @ output[:, :-1].T + output[:, -1]
    for scale in (1.0, 10.0):
        assert (baselines.answer([scale * hidden, output], x, 3.0) - expected).abs().max() < 1e-3


def descent_with(monkeypatch, run, accuracies, **options):
    """Descent whose validation and test accuracies at two and ten steps are a function of the kind and the setting."""

    def descended(kind, setting, *_):
        validation, asked = accuracies(kind, setting)
        return {"validation": [0.0, validation[0], 0.0, validation[1]], "asked": [0.0, asked[0], 0.0, asked[1]]}

    monkeypatch.setattr(baselines, "descend", descended)
    nothing = torch.zeros(1, 1, 1), torch.zeros(1, 1, 1)
    return baselines.Descent((2, 4, 2), search.Test(nothing, nothing, nothing), run, **options)


def test_rates_of_descent_are_chosen_in_validation_for_each_time_and_kind(new_run, monkeypatch):
    curves = {  # of each kind and rate what is reached in validation and in the test: in the test all is the other way
        ("sgd", 0.01): ([0.1, 0.9], [0.9, 0.1]),
        ("sgd", 0.03): ([0.2, 0.8], [0.8, 0.2]),
        ("momentum", 0.01): ([0.3, 0.1], [0.7, 0.9]),
        ("momentum", 0.03): ([0.1, 0.1], [0.9, 0.9]),
    }
    monkeypatch.setattr(new := new_run(), "choose", lambda name, candidates, score, **_: max(candidates, key=score))
    descent = descent_with(
        monkeypatch, new, lambda kind, setting: curves[kind, setting.rate], hidden_scales=(1.0,), maximum=2
    )
    assert [descent.after(time, "sgd", "momentum") for time in (2, 10)] == [0.7, 0.1]
    assert descent.after(10, "momentum") == 0.9
    assert descent.best("sgd", "momentum")[1::2] == [0.7, 0.1]


def test_scales_of_descent_are_chosen_in_validation_each_at_the_best_of_the_rest(new_run, monkeypatch):
    def accuracies(kind, setting):
        best = baselines.Setting(hidden_scale=8.0, output_scale=0.0, rate=0.1)
        misses = sum(value != best_value for value, best_value in zip(setting, best, strict=True))
        return [1 / (1 + misses)] * 2, [setting.hidden_scale] * 2

    run = new_run()
    descent = descent_with(monkeypatch, run, accuracies, hidden_scales=(1.0, 2.0, 8.0), maximum=4)
    assert descent.best("sgd")[1] == 8.0
    assert descent.after(2, "sgd") == 8.0
    assert {name: choice["chosen"] for name, choice in run.choices.items()} == {
        "sgd_2_hidden_scale": 8.0,
        "sgd_2_output_scale": 0.0,
        "sgd_2": 0.1,
    }
    assert max(run.choices["sgd_2_hidden_scale"]["candidates"]) == 32.0  # tried beyond the end, and worse


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
    assert images.learn_and_relabel(network, Genome.near_backprop(0.0, run.generator), test, run) == 1
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
