import pytest
import torch

from engram.rules import Backprop, train_step
from engram.studies.experiments.rule_fingerprints import (
    RULES,
    TWINS,
    WEIGHT_DECAY,
    Config,
    Path,
    build,
    places_of,
    rule_and_optimizer,
    trial,
)


def test_networks_start_alike_within_the_range_of_torch():
    network, other = (build(40, torch.Generator().manual_seed(3)) for _ in range(2))
    for (name, value), same in zip(network.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(value, same)
        bound = (64 if name.startswith("0") else 40) ** -0.5
        assert 0.8 * bound < value.abs().max() <= bound


def test_rules_truly_differ_and_twins_are_of_one_rule():
    network = build(40, torch.Generator().manual_seed(0))
    kinds = [type(rule_and_optimizer(name, 0, network)[0]) for name in RULES]
    assert len(set(kinds)) == len(RULES)
    assert {type(rule_and_optimizer(name, 0, network)[0]) for name in TWINS} == {Backprop}


@pytest.mark.parametrize("networks", [3, 4])
def test_rates_do_not_tell_the_rules_with_equal_ones(networks):
    network, rates = build(4, torch.Generator().manual_seed(0)), {}
    for name, number in places_of(Config(networks=networks)):
        rates.setdefault(name, []).append(rule_and_optimizer(name, number, network)[1].param_groups[0]["lr"])
    assert list(rates) == list(RULES)
    assert rates.pop("node perturbation") == [0.0075, 0.01, 0.015, 0.0075][:networks]
    assert all(of_rule == [0.04, 0.08, 0.16, 0.04][:networks] for of_rule in rates.values())


def test_a_goal_that_an_untrained_network_reaches_is_refused(performed):
    with pytest.raises(ValueError, match=r"goal = 0.01: expected more than 0\.\d+, of an untrained network"):
        performed(trial, Config(networks=3, hidden=8, probes=20, goal=0.01))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_twins_move_equally_far_in_the_long_run(number):
    rates = []
    for name in TWINS:
        layer = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
        start = float(layer.weight.detach())
        _, optimizer = rule_and_optimizer(name, number, layer)
        optimizer.param_groups[0]["weight_decay"] = 0.0
        for _ in range(2000):
            layer.weight.grad = torch.ones(1, 1, dtype=torch.float64)
            optimizer.step()
        rates.append((start - float(layer.weight.detach())) / 2000)
    assert rates == pytest.approx([rates[0]] * len(TWINS), rel=1e-3)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_learns_what_it_is_shown(name):
    generator = torch.Generator().manual_seed(1)
    network = build(512, generator)
    rule, optimizer = rule_and_optimizer(name, 2, network)
    state = rule.init(network, generator)
    x, y = torch.rand(20, 64, generator=generator), torch.arange(20) % 10
    losses = []
    for _ in range(60):
        update = train_step(rule, network, optimizer, (x, y), state)
        state = update.state
        losses.append(float(update.info["loss"]))
    assert sum(losses[-10:]) < 0.95 * sum(losses[:10])


@pytest.mark.parametrize("steps", [1, 7, 59, 60, 61, 500, 3001])
def test_a_path_is_looked_at_evenly(steps):
    path = Path(30)
    for step in range(steps):
        path.add(step, lambda step=step: torch.tensor([[float(step)]]))
    looks = path.evenly()[:, 0, 0]
    assert len(looks) == 30
    assert looks[0] == 0
    assert looks[-1] >= steps - 1 - path.every
    assert (looks.diff() >= 0).all()
    if steps >= 60:
        assert looks.diff().max() <= 2 * steps / 29


def test_kolen_and_pollacks_feedback_decays_as_the_weights_do():
    for number in range(3):
        rule, optimizer = rule_and_optimizer("Kolen-Pollack", number, torch.nn.Linear(2, 2))
        group = optimizer.param_groups[0]
        assert group["weight_decay"] == pytest.approx(rule.weight_decay(group["lr"])) == WEIGHT_DECAY
    assert {
        rule_and_optimizer(name, 0, torch.nn.Linear(2, 2))[1].param_groups[0]["weight_decay"] for name in RULES
    } == {WEIGHT_DECAY}
