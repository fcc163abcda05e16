"""The experiment on recall: its controls are right, and its memories are alike in all but what they write."""

import pytest
import torch

from engram.studies.experiments.associative_recall import Config, experiment, loss_of, right, tasks_of
from engram.studies.experiments.associative_recall.claims import arms
from engram.studies.experiments.associative_recall.networks import Network, look_up


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network(memory, **options):
    sizes = {"width": 32, "key_size": 16, "backend": "eager"} | options
    return Network(memory, 129, 64, **sizes, generator=seeded())


def test_a_table_knows_every_answer():
    config = Config(memory="table")
    for task in tasks_of(config).values():
        episode = task.sample(20, seeded())
        assert right(config, look_up(episode.inputs, config.keys, config.values), episode).all()


def test_all_memories_have_about_as_many_parameters():
    counts = {
        arm: sum(p.numel() for name, p in network(changes["memory"]).named_parameters() if name not in SHARED)
        for arm, changes in arms.items()
        if "completion" not in arm and arm not in ("table", "delta-twice")
    }
    assert max(counts.values()) < 1.25 * min(counts.values()), counts


SHARED = ("embedding", "readout")


def test_a_second_matrix_is_as_large_as_the_larger_one():
    _, state = network("least-squares").memory(torch.zeros(1, 1, 32))
    larger = network("delta", key_size=23).memory.value_size ** 2
    two = sum(t[0].numel() for t in state)
    assert two <= larger < 1.1 * two


@pytest.mark.parametrize("memory", ["attention", "no-memory"])
def test_controls_see_nothing_of_later_steps(memory):
    net, inputs = network(memory), torch.randn(9, 2, 129, generator=seeded())
    changed = inputs.clone()
    changed[6:] += 1
    assert torch.equal(net(inputs)[:6], net(changed)[:6])
    before = inputs.clone()
    before[:5] += 1
    assert torch.equal(net(inputs)[5:], net(before)[5:]) == (memory == "no-memory")


def test_the_loss_falls_with_training_and_counts_questions_only():
    config = Config(pairs=(2,), noise=2, asked=2, rebound=2, keys=6, values=4, length=12)
    task = tasks_of(config)["2"]
    net = Network("delta", task.features, 4, width=16, key_size=8, backend="eager", generator=seeded())
    optimizer, generator, losses = torch.optim.Adam(net.parameters(), lr=1e-2), seeded(1), []
    for _ in range(60):
        episode = task.sample(16, generator)
        losses.append(loss_of(config, net(episode.inputs), episode))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    answers = torch.zeros_like(episode.targets) + 7.0 * (~episode.mask).unsqueeze(2)
    assert loss_of(config, answers, episode).item() == pytest.approx(torch.tensor(4.0).log().item())


def test_no_chosen_rate_is_at_an_end_of_its_grid():
    rates = {arm: changes.get("learning_rate", 1e-2) for arm, changes in arms.items()}
    assert set(rates.values()) <= {3e-3, 1e-2, 3e-2}
    assert {arm for arm, rate in rates.items() if rate == 3e-3} <= {arm for arm in arms if "completion" in arm}
    assert experiment.presets["laptop"].seeds == 5
