"""A call that is refused changes nothing."""

import copy

import pytest
import torch
from torch import nn

from engram.analysis import shuffled_control
from engram.continual import (
    EWC,
    DHPSoftmax,
    FrozenBody,
    L2Anchor,
    LwF,
    QuadraticPenalty,
    Replay,
    SynapticIntelligence,
    TaskData,
    freeze_body,
    task_cross_entropy,
)
from engram.continual.anml import GatedNet, SequentialMetaLearner, anml_net, learn_stream, zap_
from engram.continual.reservoir import Reservoir
from engram.learned.updates import LearnedUpdate


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ([0, 1], (2, 3), r"labels hold 0: expected classes among \[2, 3\]"),  # counted within the task
        ([3, 3], (-1,), "classes = -1: expected 0 to 3"),
        ([3, 3], (9,), "classes = 9: expected 0 to 3"),
        ([1, 3], (), r"labels hold 1: expected classes among \[\]"),
        ([0, 7], (0, 1), r"labels hold 7: expected classes among \[0, 1\]"),
        ([-100, -1], None, r"labels hold -1: expected classes among \[0, 1, 2, 3\]"),
    ],
)
def test_labels_outside_a_task_are_refused(labels, classes, message):
    with pytest.raises(ValueError, match=message):
        task_cross_entropy(torch.zeros(2, 4), torch.tensor(labels), classes)


def test_a_task_that_replay_refuses_midway_leaves_no_samples():
    replay = Replay(nn.Linear(2, 4), capacity=50)
    batches = [(torch.ones(8, width), torch.tensor([0, 1] * 4)) for width in (2, 3)]
    state = replay.generator.get_state()
    with pytest.raises(ValueError, match=r"inputs\.shape"):
        replay.end_task(TaskData(batches, classes=(0, 1)))
    assert replay.memory.seen == 0
    assert torch.equal(replay.generator.get_state(), state)
    replay.end_task(TaskData([(torch.ones(8, 2), torch.tensor([2, 3] * 4))], classes=(2, 3)))
    assert replay.loss(torch.ones(8, 2), torch.tensor([2, 3] * 4), torch.zeros(8, 4)).isfinite()


def test_a_reservoir_refuses_a_state_with_too_few_labels():
    memory = Reservoir(4, torch.Generator())
    memory.add(torch.ones(8, 2), torch.zeros(8))
    state = memory.state_dict()
    with pytest.raises(ValueError, match="holds 2 places: expected 4"):
        Reservoir(4, torch.Generator()).load_state_dict({**state, "labels": state["labels"][:2]})


def test_a_refused_zap_or_meta_step_redraws_nothing():
    generator = torch.Generator().manual_seed(0)
    layer, state = nn.Linear(2, 3), generator.get_state()
    before = layer.weight.detach().clone()
    with pytest.raises(ValueError, match=r"rows\[1\] = 3"):
        zap_(layer, [1, 3], generator)
    assert torch.equal(layer.weight, before)
    assert torch.equal(generator.get_state(), state)
    net = anml_net(body_channels=4, gate_channels=2, num_outputs=10, generator=generator)
    learner, images = SequentialMetaLearner(net, generator), torch.rand(8, 1, 20, 20)
    before, state = net.readout.weight.detach().clone(), generator.get_state()
    with pytest.raises(ValueError, match="20x20"):
        learner.step(images[:3], torch.full((3,), 3), images[3:], torch.arange(5))
    assert torch.equal(net.readout.weight, before)
    assert torch.equal(generator.get_state(), state)
    with pytest.raises(ValueError, match="train has 'heads'"):
        learn_stream(GatedNet(nn.Flatten(), nn.Linear(4, 2)), torch.rand(2, 1, 2, 2), torch.tensor([0, 1]),
                     generator=generator, train=("heads",))  # fmt: skip
    with pytest.raises(ValueError, match="initial lacks w"):
        shuffled_control({"w": torch.ones(2, 2)}, {}, {"w": torch.ones(2, 2)}, generator)
    assert torch.equal(generator.get_state(), state)


def test_a_refused_call_leaves_prototypes():
    layer = DHPSoftmax(2, 3)
    layer.trace += 1
    with pytest.raises(ValueError, match="classes = 3"):
        layer.reset_trace([0, 3])
    with pytest.raises(ValueError, match="expected a sum of 1"):
        layer(torch.ones(1, 2), torch.tensor([[torch.nan, 1.0, 0.0]]))
    layer.eta.data.fill_(2.0)
    with pytest.raises(ValueError, match="target = 7"):
        layer(torch.ones(1, 2), torch.tensor([7]))
    assert layer.eta.item() == 2
    assert (layer.trace == 1).all()
    layer.reset_trace([1])
    assert layer.trace[:, 0].tolist() == [1, 0, 1]
    layer.reset_trace([])
    layer.reset_trace()
    assert not layer.trace.any()


@pytest.mark.parametrize("make", [EWC, SynapticIntelligence, L2Anchor, LearnedUpdate, FrozenBody])
def test_an_optimizer_that_maximises_is_refused(make):
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    sgd = torch.optim.SGD(net.parameters(), lr=0.1, maximize=True)
    with pytest.raises(ValueError, match="optimizer has maximize = True: expected an optimiser that minimises"):
        make(net).attach(sgd)
    assert len(sgd.param_groups[0]["params"]) == 4


@pytest.mark.parametrize("make", [EWC, SynapticIntelligence, L2Anchor, LearnedUpdate])
def test_an_optimizer_that_maximises_later_is_refused_at_its_step(make):
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    make(net).attach(sgd)
    net(torch.ones(1, 2)).sum().backward()
    before = [p.detach().clone() for p in net.parameters()]
    sgd.param_groups[0]["maximize"] = True
    with pytest.raises(ValueError, match="optimizer has maximize = True: expected an optimiser that minimises"):
        sgd.step()
    assert all(map(torch.equal, net.parameters(), before))


@pytest.mark.parametrize(
    "make", [SynapticIntelligence, lambda net: L2Anchor(net, strength=1.0, applied="gradient")], ids=["si", "l2"]
)
def test_gradients_are_those_of_the_loss_with_a_scaler_or_it_is_refused(make):
    def trained(*, enabled, fused=False):
        net = nn.Linear(2, 3)
        with torch.no_grad():
            for p in net.parameters():
                p.fill_(0.5)
        sgd, method = torch.optim.SGD(net.parameters(), lr=0.1, fused=fused), make(net)
        scaler = torch.amp.GradScaler("cpu", enabled=enabled, init_scale=8.0)
        method.attach(sgd)
        for step in range(3):
            if step == 1:
                method.end_task(TaskData((torch.ones(4, 2), torch.zeros(4, dtype=torch.int64))))
            scaler.scale(net(torch.ones(4, 2)).square().mean()).backward()
            scaler.step(sgd)
            scaler.update()
            sgd.zero_grad()
        return net.weight

    torch.testing.assert_close(trained(enabled=True), trained(enabled=False))
    with pytest.raises(ValueError, match=r"scaled: expected scaler\.unscale_\(optimizer\) before"):
        trained(enabled=True, fused=True)


def test_a_body_that_was_not_frozen_yet_learns_again_after_a_state_of_then_was_loaded():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    net[0].bias.requires_grad_(False)
    method = FrozenBody(net)
    before = method.state_dict()
    method.end_task(TaskData((torch.eye(2), torch.arange(2))))
    after = method.state_dict()
    assert [p.requires_grad for p in net.parameters()] == [False, False, True, True]
    method.load_state_dict(before)
    assert [p.requires_grad for p in net.parameters()] == [True, False, True, True]
    method.load_state_dict(after)
    assert [p.requires_grad for p in net.parameters()] == [False, False, True, True]


def test_parameters_of_two_precisions_are_refused():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2).double())
    with pytest.raises(ValueError, match=r"'1\.weight' is torch\.float64 on cpu: expected torch\.float32"):
        QuadraticPenalty(net)


@pytest.mark.parametrize("unscaled", [False, True])
@pytest.mark.parametrize("make", [EWC, L2Anchor, SynapticIntelligence])
def test_a_step_that_a_scaler_skips_moves_nothing(make, unscaled):
    if make is SynapticIntelligence and not unscaled:
        pytest.skip("it refuses gradients that are still scaled")
    net, x = nn.Linear(2, 3), torch.ones(4, 2)
    sgd, method = torch.optim.SGD(net.parameters(), lr=0.1, fused=True), make(net, strength=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    method.attach(sgd)

    def step(factor):
        scaler.scale(factor * net(x).square().mean()).backward()
        if unscaled:
            scaler.unscale_(sgd)
        scaler.step(sgd)
        scaler.update()
        sgd.zero_grad()

    step(1.0)
    method.end_task(TaskData((x, torch.zeros(4, dtype=torch.int64))))
    step(1.0)
    weights = [parameter.detach().clone() for parameter in net.parameters()]
    before = method.state_dict()
    step(float("inf"))
    assert all(map(torch.equal, net.parameters(), weights))
    after = method.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items() if isinstance(value, torch.Tensor))
    step(1.0)
    assert not any(map(torch.equal, net.parameters(), weights))
    assert all(parameter.isfinite().all() for parameter in net.parameters())


def test_a_learned_update_refuses_a_scaler_that_it_can_see():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    adam, scaler = torch.optim.Adam(net.parameters(), fused=True), torch.amp.GradScaler("cpu")
    LearnedUpdate(net).attach(adam)
    scaler.scale(net(torch.ones(1, 2)).square().sum()).backward()
    with pytest.raises(ValueError, match="optimizer is stepped by a GradScaler: expected none"):
        scaler.step(adam)


def test_importance_of_small_steps_is_not_lost_in_half_precision():
    net, x = nn.Linear(1, 1, bias=False, dtype=torch.bfloat16), torch.ones(1, 1, dtype=torch.bfloat16)
    sgd, method = torch.optim.SGD(net.parameters(), lr=0.0), SynapticIntelligence(net)
    method.attach(sgd)
    for _ in range(2000):  # gradients of 1 along steps of 2^-7: the path is 2000 2^-7
        net.weight.data.fill_(1)
        net.weight.grad = torch.ones_like(net.weight)
        with torch.no_grad():
            method._before_step(sgd, (sgd,), {})
            net.weight -= 2**-7
            method._after_step(sgd, (sgd,), {})
    assert method.state_dict()["path.weight"].item() == 2000 * 2**-7
    assert net(x).dtype == torch.bfloat16


@pytest.mark.parametrize("make", [EWC, SynapticIntelligence, L2Anchor, LwF])
def test_states_of_compiled_and_plain_networks_are_the_same(make):
    def trained(net):
        method, x = make(net, strength=2.0), torch.eye(2)
        sgd = torch.optim.SGD(net.parameters(), lr=0.1)
        method.attach(sgd)
        net(x).square().sum().backward()
        sgd.step()
        method.end_task(TaskData((x, torch.arange(2)), (0, 1)))
        return method

    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    compiled = torch.compile(copy.deepcopy(plain), backend="eager")
    partly = copy.deepcopy(plain)
    partly[0] = torch.compile(partly[0], backend="eager")
    states = [trained(net).state_dict() for net in (compiled, partly, plain)]
    assert not [name for state in states for name in state if "_orig_mod" in name]
    for net in (plain, compiled, partly):
        for state in states:
            method = make(net, strength=2.0)
            method.load_state_dict(state)
            for name, value in method.state_dict().items():
                if isinstance(value, torch.Tensor):
                    assert torch.equal(value, states[0][name]), name
    if make is LwF:
        assert torch.equal(method.teacher.state_dict()["2.weight"], states[0]["teacher"]["2.weight"])


def test_importances_of_a_compiled_network_are_those_of_the_plain_one():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    compiled = torch.compile(plain, backend="eager")
    penalties = [QuadraticPenalty(net) for net in (plain, compiled)]
    for penalty in penalties:
        penalty.consolidate({f"_orig_mod.{name}": torch.ones_like(p) for name, p in plain.named_parameters()})
        assert all((value == 1).all() for value in penalty.importance.values())


@pytest.mark.parametrize("freeze", [freeze_body, lambda net: FrozenBody(net).end_task(TaskData(()))])
def test_the_head_of_a_compiled_network_is_its_last_layer(freeze):
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    freeze(torch.compile(net, backend="eager"))
    assert [p.requires_grad for p in net.parameters()] == [False, False, True, True]
